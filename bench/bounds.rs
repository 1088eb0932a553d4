//! Whether the printed bounds contain the truth: real runs of the binary against the mock, which knows when it sent what.
//!
//! `cargo bench --bench bounds` measures 40 random loads (about five minutes; needs two cores and an otherwise idle
//! machine): 1 to 500 streams, one and two workers, single events and bursts of three, of which a quarter each runs
//! undisturbed, with stops of the client (SIGSTOP), with a busy core, and with both. For p50, p90, p99 and max of TTFT,
//! ITL and TPOT it checks that the interval in `benchmark_summary.json` contains the value from the mock's send times,
//! and prints those that do not, and the undisturbed loads with a bound of more than 100 us. The exit status is 1 if a bound
//! does not contain the truth, or if more than a third of the undisturbed loads have such a wide one.
//!
//! An event was sent between the start and the end of the mock's system call, which are far apart where the mock lost its
//! core. A bound that misses the value from the starts, but not all values that are possible, is counted apart.
//!
//! `-- --seed N` draws other loads, `--loads N` measures fewer or more, `--only N` repeats load N alone, and
//! `--binary FILE` measures with another binary. In `cargo test`, two small loads check that all of this works.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ringmark::mock::{Config, Mock};
use ringmark::record::{Block, Outcome, Phase, RequestRecord};
use ringmark::store::Reader;
use ringmark::store::reader::Detail;
use ringmark::time::Tick;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The percentiles that are checked: their names in the JSON file, and per mille.
const LEVELS: [(&str, usize); 4] = [("50%", 500), ("90%", 900), ("99%", 990), ("max", 1000)];
/// The figures that are checked, by their names in the JSON file.
const FIGURES: [&str; 3] = ["TTFT (s)", "ITL (s)", "TPOT (s)"];
/// The widest bound that is expected without a disturbance, seconds.
const WIDE_S: f64 = 100e-6;
/// A run that takes longer has hung.
const LIMIT: Duration = Duration::from_secs(120);
const STREAMS: [u32; 9] = [1, 2, 8, 32, 64, 100, 200, 350, 500];

/// One load, drawn from its seed.
#[derive(Clone, Debug)]
struct Load {
    number: u64,
    seed: u64,
    streams: u32,
    requests: u32,
    workers: usize,
    server: String,
    /// Times from the start of the process to a stop, and how long it is.
    stops: Vec<(Duration, Duration)>,
    busy_core: bool,
}

impl Load {
    fn draw(seed: u64, number: u64, small: bool) -> Load {
        let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
        let streams = if small { 4 } else { STREAMS[rng.random_range(0..STREAMS.len())] };
        let tokens = if small { 10 } else { rng.random_range(20..80) };
        let itl_ms = rng.random_range(5..40);
        let itl = if rng.random_bool(0.5) { format!("exp({itl_ms}ms)") } else { format!("{itl_ms}ms") };
        let burst = if rng.random_bool(0.3) { "&coalesce=3" } else { "" };
        // About three seconds of load.
        let rounds = if small { 2 } else { (3000 / (tokens * itl_ms + 50)).clamp(1, 40) };
        let (stopped, busy_core) = (number % 4 == 1 || number % 4 == 3, number % 4 >= 2);
        let count = if stopped { rng.random_range(1..4) } else { 0 };
        let ms = Duration::from_millis;
        let stops = (0..count).map(|_| (ms(rng.random_range(300..2000)), ms(rng.random_range(20..400)))).collect();
        Load {
            number,
            seed,
            streams,
            requests: streams * rounds,
            workers: if streams > 1 { rng.random_range(1..3) } else { 1 },
            server: format!(
                "ttft=uniform(5ms,60ms)&itl={itl}&tokens=uniform({},{tokens})&seed={number}{burst}",
                tokens / 2
            ),
            stops,
            busy_core,
        }
    }

    fn is_undisturbed(&self) -> bool {
        self.stops.is_empty() && !self.busy_core
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let busy = if self.busy_core { ", busy core" } else { "" };
        write!(
            f,
            "load {} of seed {}: {} streams, {} workers, {} stops{busy}, {}",
            self.number,
            self.seed,
            self.streams,
            self.workers,
            self.stops.len(),
            self.server
        )
    }
}

/// A bound of a figure, and the true value, seconds.
struct Checked {
    name: String,
    low: f64,
    high: f64,
    truth: f64,
    /// The least and the largest true value that is possible.
    possible: (f64, f64),
}

/// The last digits of the decimal numbers in the JSON file.
const ROUNDING_S: f64 = 1e-12;

impl Checked {
    fn holds(&self) -> bool {
        self.low - ROUNDING_S <= self.truth && self.truth <= self.high + ROUNDING_S
    }

    /// Whether a possible value is within the bound.
    fn may_hold(&self) -> bool {
        self.low - ROUNDING_S <= self.possible.1 && self.possible.0 <= self.high + ROUNDING_S
    }
}

struct Arguments {
    seed: u64,
    loads: u64,
    only: Option<u64>,
    binary: PathBuf,
    full: bool,
}

fn arguments() -> Arguments {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_ringmark"));
    let mut arguments = Arguments { seed: 1, loads: 40, only: None, binary, full: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number =
            || words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{word} needs a number"));
        match word.as_str() {
            "--bench" => arguments.full = true,
            "--seed" => arguments.seed = number(),
            "--loads" => arguments.loads = number(),
            "--only" => arguments.only = Some(number()),
            "--binary" => arguments.binary = PathBuf::from(words.next().expect("--binary needs a file")),
            // Arguments of the test harness, and filters of `cargo test`.
            _ => {}
        }
    }
    arguments
}

fn main() -> ExitCode {
    let arguments = arguments();
    ringmark::host::limits::raise_open_files();
    let numbers = match (arguments.only, arguments.full) {
        (Some(number), _) => number..number + 1,
        (None, true) => 0..arguments.loads,
        (None, false) => 0..2,
    };
    let (mut held, mut unclear, mut total, mut undisturbed) = (0, 0, 0, 0);
    let (mut missed, mut wide) = (Vec::new(), Vec::new());
    for number in numbers {
        let load = Load::draw(arguments.seed, number, !arguments.full);
        let stolen_before = stolen();
        let checked = match measure(&load, &arguments.binary) {
            Ok(checked) => checked,
            Err(reason) => {
                println!("{load}: FAILED: {reason}");
                missed.push(format!("{load}: {reason}"));
                continue;
            }
        };
        undisturbed += usize::from(load.is_undisturbed());
        let holding = checked.iter().filter(|one| one.holds()).count();
        let widest = checked.iter().max_by(|a, b| (a.high - a.low).total_cmp(&(b.high - b.low)));
        let widest = widest.map_or_else(String::new, |one| {
            if load.is_undisturbed() && one.high - one.low > WIDE_S {
                wide.push(format!("{load}: {} is {:.1} us wide", one.name, (one.high - one.low) * 1e6));
            }
            format!("widest {} {:.1} us", one.name, (one.high - one.low) * 1e6)
        });
        let stolen = stolen() - stolen_before;
        println!("{load}: {holding} of {} hold, {widest}, {} ms stolen", checked.len(), stolen.as_millis());
        held += holding;
        total += checked.len();
        for one in checked.iter().filter(|one| !one.holds()) {
            let text = format!("{}: {:.9} is not in {:.9} to {:.9}", one.name, one.truth, one.low, one.high);
            if one.may_hold() {
                println!("    {text}, but {:.9} to {:.9} are possible", one.possible.0, one.possible.1);
                unclear += 1;
            } else {
                println!("    {text}");
                missed.push(format!("{load}: {text}"));
            }
        }
    }
    println!("\n{held} of {total} bounds contain the truth, {unclear} more contain a possible one");
    missed.iter().for_each(|line| println!("MISSED {line}"));
    wide.iter().for_each(|line| println!("WIDE {line}"));
    println!("{} of {undisturbed} undisturbed loads have a bound of more than 100 us", wide.len());
    // A small load on a busy machine shows only that this program works.
    let is_right = missed.is_empty() && wide.len() * 3 <= undisturbed;
    if is_right || !arguments.full { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a load and compares its bounds with the truth.
fn measure(load: &Load, binary: &Path) -> Result<Vec<Checked>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (client_cores, mock_core) = cores();
    let mock = Mock::start(&Config::from_query(&load.server)?, &[mock_core], SocketAddr::from(([127, 0, 0, 1], 0)))
        .map_err(|error| format!("cannot start the mock: {error}"))?;
    let mut child = start(load, binary, folder.path(), mock.addr(), &client_cores)?;
    let over = AtomicBool::new(false);
    let ended = thread::scope(|scope| {
        if load.busy_core {
            scope.spawn(|| keep_busy(client_cores[0], load.number, &over));
        }
        let ended = watch(&mut child, &load.stops);
        over.store(true, Ordering::Relaxed);
        ended
    });
    let mut said = String::new();
    if let Some(mut output) = child.stderr.take() {
        let _ = std::io::Read::read_to_string(&mut output, &mut said);
    }
    ended.map_err(|reason| format!("{reason}: {said}"))?;
    let database = find(folder.path(), "benchmark_data.db").ok_or("there is no database")?;
    let json = std::fs::read(database.with_file_name("benchmark_summary.json")).map_err(|error| error.to_string())?;
    let json: Value = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    let bounds = &json["Own error"]["Bounds"];
    compare(bounds, true_figures(&database, &mock)?)
}

/// The cores of the client, and that of the mock.
fn cores() -> (Vec<usize>, usize) {
    let mut cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    let mock = cores.pop().unwrap_or(0);
    if cores.is_empty() {
        cores.push(mock);
    }
    (cores, mock)
}

/// For how long the hypervisor has run something else on the cores of this machine; zero where it is not counted.
fn stolen() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = stat.lines().next().and_then(|all| all.split_whitespace().nth(8)?.parse().ok()).unwrap_or(0u64);
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

fn start(load: &Load, binary: &Path, folder: &Path, server: SocketAddr, cores: &[usize]) -> Result<Child, String> {
    let mut command = Command::new(binary);
    command.args(["perf", "--model", "mock", "--name", "b", "--no-timestamp", "--quiet", "--no-test-connection"]);
    command.args(["--prompt", "Why is the sky blue?", "--save", "metrics", "--outputs-dir"]).arg(folder);
    command.args(["--url", &format!("http://{server}/v1/chat/completions")]);
    command.args(["--parallel", &load.streams.to_string(), "--number", &load.requests.to_string()]);
    // On two cores, both workers are on the core that the mock does not use.
    let cores: Vec<String> = cores.iter().take(load.workers).map(usize::to_string).collect();
    command.args(["--workers", &load.workers.to_string(), "--cores", &cores.join(",")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().map_err(|error| format!("{}: {error}", binary.display()))
}

/// Stops and continues the client at its times, and waits for its end.
fn watch(child: &mut Child, stops: &[(Duration, Duration)]) -> Result<(), String> {
    let began = Instant::now();
    let pid = Pid::from_child(child);
    let mut stops = stops.to_vec();
    stops.sort_unstable();
    let mut stops = stops.into_iter().peekable();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            // 3: the figures must not be used, which a stop of the client can cause.
            return match status.code() {
                Some(0 | 3) => Ok(()),
                _ => Err(format!("the client ended with {status}")),
            };
        }
        if let Some((_, length)) = stops.next_if(|(at, _)| began.elapsed() >= *at) {
            let _ = kill_process(pid, Signal::STOP);
            thread::sleep(length);
            let _ = kill_process(pid, Signal::CONT);
        }
        if began.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("the client did not end within {} s", LIMIT.as_secs()));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Occupies a core for 5 to 150 ms at a time.
fn keep_busy(core: usize, seed: u64, over: &AtomicBool) {
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    while !over.load(Ordering::Relaxed) {
        let end = Instant::now() + Duration::from_millis(rng.random_range(5..150));
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        thread::sleep(Duration::from_millis(rng.random_range(5..100)));
    }
}

/// The file of this name below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, name) } else { Some(path).filter(|path| path.ends_with(name)) }
    })
}

/// The true values of one of [`FIGURES`], nanoseconds: from the starts of the sends, and the least and largest possible.
#[derive(Default)]
struct Truths {
    values: Vec<f64>,
    least: Vec<f64>,
    largest: Vec<f64>,
}

impl Truths {
    /// Adds the time between two events, each given by the start and the end of its send, over `parts` tokens.
    fn add(&mut self, from: (Tick, Tick), to: (Tick, Tick), parts: usize) {
        let between = |from: Tick, to: Tick| to.ns_since(from) as f64 / parts as f64;
        self.values.push(between(from.0, to.0));
        self.least.push(between(from.1, to.0));
        self.largest.push(between(from.0, to.1));
    }

    /// The value at this place in ascending order, seconds.
    fn at(values: &mut [f64], per_mille: usize) -> Option<f64> {
        values.sort_unstable_by(f64::total_cmp);
        // The nearest rank, as in the tables.
        let rank = (values.len() * per_mille).div_ceil(1000).max(1);
        values.get(rank - 1).map(|ns| ns / 1e9)
    }
}

/// The true values of [`FIGURES`] over all requests, which must have succeeded.
fn true_figures(database: &Path, mock: &Mock) -> Result<[Truths; 3], String> {
    let reader = Reader::open(database).map_err(|error| error.to_string())?;
    let prefix = reader.run().map_err(|error| error.to_string())?.facts.request_id_prefix;
    let truths: HashMap<String, _> = mock.truth().into_iter().map(|truth| (truth.request_id.clone(), truth)).collect();
    let (mut figures, mut wrong) = (<[Truths; 3]>::default(), None);
    let mut add = |record: &RequestRecord, arrivals: usize| {
        let Some(truth) = truths.get(&format!("{prefix}-m{}", record.index)) else {
            return Err(format!("the mock has no request {}", record.index));
        };
        let sends: Vec<(Tick, Tick)> = truth.sends.iter().copied().zip(truth.returns.iter().copied()).collect();
        if record.outcome != Outcome::Ok || arrivals != sends.len() || truth.blocked_writes > 0 {
            return Err(format!(
                "request {}: {:?}, {arrivals} of {} events",
                record.index,
                record.outcome,
                sends.len()
            ));
        }
        let [ttft, itl, tpot] = &mut figures;
        ttft.add((record.due, record.due), sends[0], 1);
        sends.windows(2).for_each(|pair| itl.add(pair[0], pair[1], 1));
        if sends.len() > 1 {
            tpot.add(sends[0], sends[sends.len() - 1], sends.len() - 1);
        }
        Ok(())
    };
    let mut take = |block: &Block| {
        for record in &block.records {
            if let Err(reason) = add(record, record.arrivals.slice(&block.arrivals).len()) {
                wrong.get_or_insert(reason);
            }
        }
    };
    reader.each_block(Phase::Measured, Detail::Figures, &mut take).map_err(|error| error.to_string())?;
    wrong.map_or(Ok(figures), Err)
}

fn compare(bounds: &Value, mut figures: [Truths; 3]) -> Result<Vec<Checked>, String> {
    let mut checked = Vec::new();
    for (figure, truths) in FIGURES.iter().zip(&mut figures) {
        for (level, per_mille) in LEVELS {
            let bound = &bounds[*figure][level];
            let (Some(low), Some(high)) = (bound[0].as_f64(), bound[1].as_f64()) else {
                return Err(format!("no bound of {level} of {figure} in the summary"));
            };
            let mut at = |values: fn(&mut Truths) -> &mut Vec<f64>| {
                Truths::at(values(truths), per_mille).ok_or("no request has this figure")
            };
            let truth = at(|truths| &mut truths.values)?;
            let possible = (at(|truths| &mut truths.least)?, at(|truths| &mut truths.largest)?);
            checked.push(Checked { name: format!("{level} of {figure}"), low, high, truth, possible });
        }
    }
    Ok(checked)
}
