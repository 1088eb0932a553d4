//! The client's processes: how they are started, watched and ended.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts and CPU shares, not for measurements")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::Judging;
use super::observed::MAX_TESTS;
use super::scenario::FREEZE;
use crate::host::{affinity, children, priority};
use crate::mock::Mock;
use crate::secrets::is_secret_name;
use crate::server::process::{self, Process, family, refreshed};

/// Pause between two samples of the client's processes.
const SAMPLE_PERIOD: Duration = Duration::from_millis(50);
/// Time over which the busiest thread is determined.
const THREAD_PERIOD: Duration = Duration::from_secs(1);
/// Pause between two scans of all processes while answers arrive. A scan takes milliseconds, which a client on the same core
/// could lose, so the processes that are known already are sampled alone in between.
const SCAN_PERIOD: Duration = Duration::from_secs(1);
/// When a client is stopped, after the first answer of its load has begun. Answers last longer.
const FREEZE_AFTER: Duration = Duration::from_millis(200);
/// Bytes of the end of each output that are kept.
const OUTPUT_KEPT: usize = 64 << 10;
/// Variables that name folders outside of the client's own.
const FOLDER_VARIABLES: [&str; 5] =
    ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"];

/// The cores of the mock and of the client.
#[derive(Clone, Debug)]
pub struct Cores {
    /// The mock's core; `None` if there is only one, which both share.
    pub mock: Option<usize>,
}

/// The mock gets the last core of this process, the client the others.
pub fn split_cores() -> Cores {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    Cores { mock: cores.last().map(|core| core.id).filter(|_| cores.len() > 1) }
}

impl Cores {
    pub fn as_slice(&self) -> &[usize] {
        self.mock.as_slice()
    }
}

/// What the placeholders of a command stand for.
#[derive(Debug)]
pub struct Values(Vec<(&'static str, String)>);

/// The placeholders and their meaning, for `--help`.
pub const PLACEHOLDERS: &[(&str, &str)] = &[
    ("{url}", "the mock's address, such as http://127.0.0.1:40000"),
    ("{chat}", "the URL of its chat endpoint"),
    ("{host} {port}", "the parts of the address"),
    ("{model}", "the name of its model"),
    ("{parallel} {rate} {number}", "the values of --parallel, --rate and --number"),
    ("{cwd}", "the folder in which this command was started; the client starts in an empty one"),
];

impl Values {
    pub fn new(judging: &Judging, mock: &Mock, model: &str) -> Values {
        let address = mock.addr();
        let here = std::env::current_dir().unwrap_or_default();
        Values(vec![
            ("{url}", format!("http://{address}")),
            ("{chat}", format!("http://{address}/v1/chat/completions")),
            ("{host}", address.ip().to_string()),
            ("{port}", address.port().to_string()),
            ("{model}", model.to_string()),
            ("{parallel}", judging.parallel.to_string()),
            ("{rate}", judging.rate.to_string()),
            ("{number}", judging.number.to_string()),
            ("{cwd}", here.to_string_lossy().into_owned()),
        ])
    }
}

/// The command with its placeholders replaced.
pub fn fill_in(command: &[String], values: &Values) -> Vec<String> {
    let replace = |word: &String| {
        values.0.iter().fold(word.clone(), |word, (placeholder, value)| word.replace(placeholder, value))
    };
    command.iter().map(replace).collect()
}

/// What the client's processes did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClientRun {
    pub command: Vec<String>,
    /// `None` if a signal ended it.
    pub status: Option<i32>,
    pub timed_out: bool,
    pub wall_s: f64,
    /// User and system time of all its processes, seconds, to within a sample period of their ends.
    pub cpu_s: f64,
    /// CPU time between a quarter and three quarters of all output events, divided by the events of that time,
    /// microseconds.
    pub steady_cpu_per_event_us: Option<f64>,
    /// The rest of the CPU time: start, connections, requests, reports, seconds.
    pub fixed_cpu_s: Option<f64>,
    /// Resident memory of all its processes. Shared pages count once for each.
    pub peak_rss_bytes: u64,
    pub peak_threads: usize,
    /// The largest share of a core that one of its threads used for a second while requests were answered.
    /// `None`: they were not answered for so long.
    pub busiest_thread: Option<f64>,
    /// Whether it was stopped for [`FREEZE`] in a scenario where it is to be.
    #[serde(default)]
    pub frozen: Option<bool>,
    /// The last bytes of its output.
    #[serde(skip)]
    pub stdout: String,
    #[serde(skip)]
    pub stderr: String,
}

/// Runs the client to its end. `freeze`: its processes are stopped for [`FREEZE`] while answers arrive.
///
/// # Errors
/// One line: it cannot be started, or `stop` is set.
pub fn run(
    words: &[String],
    folder: &Path,
    cores: &Cores,
    mock: &Mock,
    freeze: bool,
    timeout: Duration,
    stop: &AtomicU8,
) -> Result<ClientRun, String> {
    let io_error = |error: std::io::Error| format!("{}: {error}", words[0]);
    let output = |name: &str| File::create(folder.join(name)).map_err(io_error);
    let mut command = command(words, folder)?;
    command.stdin(Stdio::null()).stdout(output(STDOUT)?).stderr(output(STDERR)?);
    let mark = format!("judge-{}-{}", std::process::id(), mock.addr().port());
    command.env(process::MARK, &mark);
    let mut child = {
        let _guard = affinity::exclude_cores(cores.as_slice());
        children::start(|| command.spawn()).map_err(io_error)?
    };
    process::register(child.id(), &mark);
    let began = Instant::now();
    let mut watch = Watch::new(child.id());
    let mut run = ClientRun { command: words.to_vec(), frozen: freeze.then_some(false), ..ClientRun::default() };
    // On a thread of its own: its low priority is not that of the next client.
    let ended = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            priority::lower_priority();
            watch_to_end(&mut child, &mut watch, &mut run, mock, began + timeout, stop)
        });
        watching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let ended = ended.map_err(io_error)?;
    // The client itself if it has not ended, and whatever it has left behind.
    process::stop(&mut child, &mark, &watch.members);
    let status = match ended {
        Some(status) => status,
        None => children::wait(&mut child).map_err(io_error)?,
    };
    if stop.load(Relaxed) != 0 {
        return Err("interrupted".to_string());
    }
    run.wall_s = began.elapsed().as_secs_f64();
    run.status = status.code();
    if let Some(signal) = status.signal() {
        run.stderr = format!("ended by signal {signal}\n");
    }
    watch.finish(&mut run);
    run.stdout = tail(&folder.join(STDOUT));
    run.stderr.insert_str(0, &tail(&folder.join(STDERR)));
    Ok(run)
}

/// Samples the client's processes until it ends, and stops them for a while if `run.frozen` is `Some(false)`. Returns the
/// client's status, or `None` if it has not ended when `deadline` comes or `stop` is set.
fn watch_to_end(
    child: &mut Child,
    watch: &mut Watch,
    run: &mut ClientRun,
    mock: &Mock,
    deadline: Instant,
    stop: &AtomicU8,
) -> std::io::Result<Option<ExitStatus>> {
    loop {
        watch.sample(mock);
        if let Some(status) = children::try_wait(child)? {
            return Ok(Some(status));
        }
        if run.frozen == Some(false) && watch.answering_since.is_some_and(|since| since.elapsed() >= FREEZE_AFTER) {
            watch.scan();
            process::signal(child.id(), &watch.members, Signal::STOP);
            std::thread::sleep(FREEZE);
            process::signal(child.id(), &watch.members, Signal::CONT);
            run.frozen = Some(true);
        }
        if stop.load(Relaxed) != 0 || Instant::now() >= deadline {
            run.timed_out = stop.load(Relaxed) == 0;
            return Ok(None);
        }
        std::thread::sleep(SAMPLE_PERIOD);
    }
}

/// The file in the client's folder with its standard output.
pub(super) const STDOUT: &str = "stdout.txt";
const STDERR: &str = "stderr.txt";

fn command(words: &[String], folder: &Path) -> Result<Command, String> {
    let (program, arguments) = words.split_first().ok_or("no command is given after --")?;
    let mut command = Command::new(program_path(program)?);
    command.args(arguments).current_dir(folder).process_group(0);
    let secrets = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_secret_name));
    secrets.for_each(|(name, _)| {
        command.env_remove(name);
    });
    FOLDER_VARIABLES.iter().for_each(|name| {
        command.env_remove(name);
    });
    // Model files that are already here are still found; what the client writes goes with its folder.
    if let Some(home) = std::env::var_os("HOME") {
        for (name, below) in [("HF_HOME", ".cache/huggingface"), ("MODELSCOPE_CACHE", ".cache/modelscope/hub")] {
            let cache = PathBuf::from(&home).join(below);
            if std::env::var_os(name).is_none() && cache.exists() {
                command.env(name, cache);
            }
        }
    }
    command.env("HOME", folder).env("TMPDIR", folder).env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
    command.env("OPENAI_API_KEY", "none");
    Ok(command)
}

/// A program given with a relative path is the one below this process's folder, not the client's.
fn program_path(program: &str) -> Result<PathBuf, String> {
    if !program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    fs::canonicalize(program).map_err(|error| format!("{program}: {error}"))
}

fn tail(path: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_KEPT as u64)))?;
        let mut bytes = Vec::new();
        file.take(OUTPUT_KEPT as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Samples of the client's processes.
struct Watch {
    leader: u32,
    /// CPU time of each process, clock ticks, by pid and start time.
    cpu_ticks: BTreeMap<(u32, u64), u64>,
    members: Vec<Process>,
    /// When all processes were scanned for members.
    scanned_at: Instant,
    /// CPU seconds of the client and output events of the mock, at the same time.
    points: Vec<(f64, u64)>,
    peak_rss_pages: u64,
    peak_threads: usize,
    /// The busiest thread's share of a core in each period, and the mock's output events at its beginning and end.
    periods: Vec<(f64, [u64; 2])>,
    threads: BTreeMap<(u32, u32), u64>,
    threads_at: Instant,
    events_then: u64,
    /// Since when the mock has been sending the answers of the load.
    answering_since: Option<Instant>,
}

impl Watch {
    fn new(leader: u32) -> Watch {
        Watch {
            leader,
            cpu_ticks: BTreeMap::new(),
            members: Vec::new(),
            scanned_at: Instant::now(),
            points: Vec::new(),
            peak_rss_pages: 0,
            peak_threads: 0,
            periods: Vec::new(),
            threads: BTreeMap::new(),
            threads_at: Instant::now(),
            events_then: 0,
            answering_since: None,
        }
    }

    /// Finds the client's processes among all processes.
    fn scan(&mut self) {
        self.members = family(self.leader, &self.members);
        self.members.retain(|member| !member.zombie);
        self.scanned_at = Instant::now();
    }

    fn sample(&mut self, mock: &Mock) {
        if self.answering_since.is_none() || self.scanned_at.elapsed() >= SCAN_PERIOD {
            self.scan();
        } else {
            self.members = refreshed(&self.members);
            self.members.retain(|member| !member.zombie);
        }
        for member in &self.members {
            self.cpu_ticks.insert((member.pid, member.started), member.cpu_ticks);
        }
        let stats = mock.stats();
        let events = stats.events;
        // Requests before the load may precede it by any time.
        if events > 0 && stats.requests > MAX_TESTS && stats.in_flight > 0 && self.answering_since.is_none() {
            self.answering_since = Some(Instant::now());
        }
        self.points.push((self.cpu_s(), events));
        self.peak_rss_pages = self.peak_rss_pages.max(self.members.iter().map(|member| member.rss_pages).sum());
        let begins = self.events_then == 0 && events > 0;
        if self.threads_at.elapsed() >= THREAD_PERIOD || self.threads.is_empty() || begins {
            self.sample_threads(events);
        }
    }

    fn sample_threads(&mut self, events: u64) {
        let elapsed_s = self.threads_at.elapsed().as_secs_f64();
        let now: BTreeMap<(u32, u32), u64> = self.members.iter().flat_map(|member| threads_of(member.pid)).collect();
        let used = now.iter().filter_map(|(thread, ticks)| Some(ticks.saturating_sub(*self.threads.get(thread)?)));
        let most_s = used.max().unwrap_or(0) as f64 / rustix::param::clock_ticks_per_second() as f64;
        if elapsed_s > 0.5 {
            self.periods.push(((most_s / elapsed_s).min(1.0), [self.events_then, events]));
        }
        self.events_then = events;
        self.peak_threads = self.peak_threads.max(now.len());
        self.threads = now;
        self.threads_at = Instant::now();
    }

    fn cpu_s(&self) -> f64 {
        self.cpu_ticks.values().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    fn finish(self, run: &mut ClientRun) {
        run.cpu_s = self.cpu_s();
        run.peak_rss_bytes = self.peak_rss_pages * rustix::param::page_size() as u64;
        run.peak_threads = self.peak_threads;
        let events = self.points.last().map_or(0, |point| point.1);
        // A client may be busy while it starts and when it reports.
        let loaded = |[from, to]: [u64; 2]| from > 0 && to < events;
        let shares = self.periods.iter().filter(|(_, period)| loaded(*period)).map(|(share, _)| *share);
        run.busiest_thread = shares.reduce(f64::max);
        let events = events as f64;
        let at = |share: f64| self.points.iter().find(|point| point.1 as f64 >= share * events);
        let steady = at(0.25).zip(at(0.75)).filter(|(from, to)| to.1 > from.1);
        let per_event_s = steady.map(|(from, to)| (to.0 - from.0) / (to.1 - from.1) as f64);
        run.steady_cpu_per_event_us = per_event_s.map(|seconds| seconds * 1e6);
        run.fixed_cpu_s = per_event_s.map(|seconds| (run.cpu_s - seconds * events).max(0.0));
    }
}

/// CPU time of each thread of a process, clock ticks.
fn threads_of(pid: u32) -> Vec<((u32, u32), u64)> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let ids = tasks.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| {
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{id}/stat")).ok()?;
        Some(((pid, id), crate::server::process::parse_stat(&stat)?.cpu_ticks))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_inside_words() {
        let values = Values(vec![("{url}", "http://h:1".to_string()), ("{rate}", "2.5".to_string())]);
        let command = ["--url={url}/v1".to_string(), "{rate}".to_string(), "{other}".to_string()];
        assert_eq!(fill_in(&command, &values), ["--url=http://h:1/v1", "2.5", "{other}"]);
    }

    #[test]
    fn a_program_with_a_relative_path_must_exist() {
        assert!(program_path("./no/such/program").unwrap_err().starts_with("./no/such/program: "));
        assert_eq!(program_path("python3").unwrap(), PathBuf::from("python3"));
    }
}
