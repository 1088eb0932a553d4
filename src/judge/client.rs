//! The client's processes: how they are started, watched and ended.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts and CPU shares, not for measurements")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::Judging;
use super::processes::Descendants;
use super::scenario::FREEZE;
use super::watch::{Usage, Watch};
use crate::host::{affinity, children, priority};
use crate::mock::Mock;
use crate::secrets::is_secret_variable;
use crate::server::process;

/// Pause between two samples of the client's processes.
const SAMPLE_PERIOD: Duration = Duration::from_millis(50);
/// When a client is stopped, after the first answer of its load has begun. Answers last longer.
const FREEZE_AFTER: Duration = Duration::from_millis(200);
/// Bytes of the end of each output that are kept.
const OUTPUT_KEPT: usize = 64 << 10;
/// Variables that name folders outside of the client's own, and files and sockets with the user's credentials.
const OUTSIDE_VARIABLES: [&str; 18] = [
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    "AWS_CONFIG_FILE",
    "AZURE_CONFIG_DIR",
    "BOTO_CONFIG",
    "CLOUDSDK_CONFIG",
    "DBUS_SESSION_BUS_ADDRESS",
    "DOCKER_CONFIG",
    "GH_CONFIG_DIR",
    "GNUPGHOME",
    "HF_STORED_TOKENS_PATH",
    "KUBECONFIG",
    "NETRC",
    "PGPASSFILE",
    "PIP_CONFIG_FILE",
];
/// Folders of Hugging Face's home, and the variables that name them. Its home also has the user's token.
const HF_FOLDERS: [(&str, &str); 2] = [("HF_HUB_CACHE", "hub"), ("HF_DATASETS_CACHE", "datasets")];

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
    #[serde(flatten)]
    pub usage: Usage,
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
    let output = |name: &str| {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).open(folder.join(name)).map_err(io_error)
    };
    // They are read through these: the client can replace the files by something without an end.
    let (stdout, stderr) = (output(STDOUT)?, output(STDERR)?);
    let mut command = command(words, folder)?;
    command.stdin(Stdio::null());
    command.stdout(stdout.try_clone().map_err(io_error)?).stderr(stderr.try_clone().map_err(io_error)?);
    let descendants = Descendants::adopt().map_err(io_error)?;
    let mark = format!("judge-{}-{}", std::process::id(), mock.addr().port());
    command.env(process::MARK, &mark);
    let (mut child, client_cores) = {
        let _guard = affinity::exclude_cores(cores.as_slice());
        let client_cores = rustix::thread::sched_getaffinity(None).map_err(|error| io_error(error.into()))?;
        (children::start(|| command.spawn()).map_err(io_error)?, client_cores)
    };
    process::register(child.id(), &mark);
    let began = Instant::now();
    let mut watch = Watch::new(child.id(), descendants, client_cores);
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
    watch.scan();
    process::stop(&mut child, &mark, &watch.members);
    let status = match ended {
        Some(status) => status,
        None => children::wait(&mut child).map_err(io_error)?,
    };
    watch.kill()?;
    if stop.load(Relaxed) != 0 {
        return Err("interrupted".to_string());
    }
    run.wall_s = began.elapsed().as_secs_f64();
    run.status = status.code();
    if let Some(signal) = status.signal() {
        run.stderr = format!("ended by signal {signal}\n");
    }
    run.usage = watch.finish();
    run.stdout = tail(stdout);
    run.stderr.insert_str(0, &tail(stderr));
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
    let is_secret =
        |(name, value): &(OsString, OsString)| is_secret_variable(&name.to_string_lossy(), &value.to_string_lossy());
    std::env::vars_os().filter(is_secret).for_each(|(name, _)| {
        command.env_remove(name);
    });
    OUTSIDE_VARIABLES.iter().for_each(|name| {
        command.env_remove(name);
    });
    caches(&mut command, folder);
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

/// Model files that are already here are found. The user's tokens, which are beside them, are not, and what the client
/// writes elsewhere goes with its folder.
fn caches(command: &mut Command, folder: &Path) {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let in_home = |below: &str| Some(variable("HOME")?.join(below));
    let hf_home = variable("HF_HOME").or_else(|| in_home(".cache/huggingface"));
    let hf_folders = HF_FOLDERS.map(|(name, below)| (name, hf_home.as_ref().map(|home| home.join(below))));
    let modelscope = ("MODELSCOPE_CACHE", in_home(".cache/modelscope/hub"));
    for (name, cache) in hf_folders.into_iter().chain([modelscope]) {
        if let Some(cache) = cache.filter(|cache| variable(name).is_none() && cache.exists()) {
            command.env(name, cache);
        }
    }
    let own = folder.join(".cache/huggingface");
    command.env("HF_TOKEN_PATH", own.join("token")).env("HF_HOME", own);
}

fn tail(mut file: File) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let mut read = || -> std::io::Result<Vec<u8>> {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_KEPT as u64)))?;
        let mut bytes = Vec::new();
        (&mut file).take(OUTPUT_KEPT as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
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
