//! What whole clients cost, measured in the same way for each: every client is a process of its own, pinned to core 0
//! with all its threads, and is watched from outside while the server's streams are not in step.
//!
//! All of them run the same loads, and the floor a single response on each stream.
//!
//! Steady CPU per event is the CPU time of the process between a quarter and three quarters of all events, divided by
//! the events that the server sent meanwhile. What remains of the process's CPU time (start, connections, requests,
//! reports) is its fixed CPU.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::load::{Load, median, rounds};
use crate::server::Server;
use crate::usage::{children_cpu_ns, process_cpu_ns};
use crate::{bare, floor, peers};

/// One load of the comparison.
struct Case {
    name: &'static str,
    itl_ms: u32,
    load: Load,
}

const fn case(name: &'static str, streams: usize, itl_ms: u32, tokens: usize, each: usize) -> Case {
    Case { name, itl_ms, load: Load { streams, requests: streams * each, tokens } }
}

/// The loads of a full run: 10 to 20 s each.
const FULL: [Case; 6] = [
    case("one stream", 1, 10, 100, 8),
    case("500 streams, 47k events/s", 500, 10, 100, 10),
    case("2,000 streams, 46k events/s", 2000, 40, 100, 3),
    case("2,000 streams, 125k events/s", 2000, 13, 100, 8),
    case("10,000 streams, 98k events/s", 10_000, 100, 100, 2),
    case("500 streams, as fast as the server can send", 500, 0, 2_000, 2),
];

const SMALL: [Case; 1] = [case("5 streams", 5, 2, 20, 4)];

/// A client that is compared.
#[derive(Clone, Copy, PartialEq)]
enum Client {
    Floor,
    Bare,
    Ringmark,
    VllmRs,
}

impl Client {
    fn name(self) -> &'static str {
        match self {
            Client::Floor => "floor",
            Client::Bare => "bare epoll",
            Client::Ringmark => "ringmark",
            Client::VllmRs => "vllm-rs",
        }
    }

    fn command(self, server: &Server, load: Load, folder: &Path) -> Option<Command> {
        match self {
            Client::Floor | Client::Bare => {
                std::env::current_exe().ok().map(|program| self.own_command(&program, server, load))
            }
            Client::Ringmark => Some(ringmark_command(server, load, folder)),
            Client::VllmRs => peers::command(server, load, folder),
        }
    }
}

/// The cost of one client in one round.
struct Cost {
    steady_us: f64,
    fixed_s: f64,
    /// How late the server sent, p99.9, microseconds.
    server_late_us: f64,
}

/// Prints a table per load; the environment variable `LOADS` restricts them to those whose names contain its text.
pub fn cost(full: bool) {
    println!("{}", machine());
    let cases: &[Case] = if full { &FULL } else { &SMALL };
    let wanted = std::env::var("LOADS").unwrap_or_default();
    for case in cases.iter().filter(|case| case.name.contains(&wanted)) {
        println!("{}:", case.name);
        let shape = format!("ttft=uniform(50ms,500ms)&itl={}ms&tokens={}&seed=5", case.itl_ms, case.load.tokens);
        let server = Server::start(&shape);
        let clients = [Client::Floor, Client::Bare, Client::Ringmark, Client::VllmRs];
        let mut costs: Vec<(Client, Vec<Cost>)> = clients.map(|client| (client, Vec::new())).into();
        for _ in 0..rounds(full) {
            for (client, of_client) in &mut costs {
                of_client.extend(measure(*client, &server, case.load));
            }
        }
        let bare =
            costs.iter().find(|(client, _)| *client == Client::Bare).map_or(f64::NAN, |(_, costs)| steady(costs));
        for (client, costs) in costs.iter().filter(|(_, costs)| !costs.is_empty()) {
            let each: Vec<String> = costs.iter().map(|cost| format!("{:.2}", cost.steady_us)).collect();
            println!(
                "  {:<11} {:7.2} us per event, {:5.2} times bare ({}); fixed {:.2} s; server late p99.9 {:.0} us",
                client.name(),
                steady(costs),
                steady(costs) / bare,
                each.join(" "),
                median(costs.iter().map(|cost| cost.fixed_s).collect()),
                median(costs.iter().map(|cost| cost.server_late_us).collect())
            );
        }
    }
}

fn steady(costs: &[Cost]) -> f64 {
    median(costs.iter().map(|cost| cost.steady_us).collect())
}

/// Runs one client to its end; `None` if it is not installed.
fn measure(client: Client, server: &Server, load: Load) -> Option<Cost> {
    let folder = TempDir::new().expect("a temporary folder");
    let mut command = client.command(server, load, folder.path())?;
    server.reset();
    let before = children_cpu_ns();
    let sent_before = server.events_sent();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = spawn_on_core(command, 0).expect("the client can be started");
    let samples = watch(&mut child, server);
    let status = child.wait().expect("a child that was started can be waited for");
    assert!(status.success(), "{} failed: {status}", client.name());
    let total_ns = (children_cpu_ns() - before) as f64;
    let events = (server.events_sent() - sent_before) as f64;
    let at = |share: f64| {
        let wanted = sent_before as f64 + share * events;
        samples.iter().find(|sample| sample.events as f64 >= wanted)
    };
    let (from, to) = at(0.25).zip(at(0.75))?;
    let steady_ns = (to.cpu_ns - from.cpu_ns) as f64 / (to.events - from.events).max(1) as f64;
    Some(Cost {
        steady_us: steady_ns / 1e3,
        fixed_s: (total_ns - steady_ns * events) / 1e9,
        server_late_us: server.lateness_p999_ns() / 1e3,
    })
}

/// The CPU time of the client and the events that the server has sent, at one time.
struct Sample {
    cpu_ns: u64,
    events: u64,
}

/// Samples until the child has ended.
fn watch(child: &mut Child, server: &Server) -> Vec<Sample> {
    let mut samples = Vec::new();
    while child.try_wait().expect("a child that was started can be waited for").is_none() {
        if let Some(cpu_ns) = process_cpu_ns(child.id()) {
            samples.push(Sample { cpu_ns, events: server.events_sent() });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    samples
}

/// Starts a process whose threads all run on this core, unless they choose another one.
pub fn spawn_on_core(mut command: Command, core: usize) -> std::io::Result<Child> {
    let spawn = || {
        core_affinity::set_for_current(core_affinity::CoreId { id: core });
        command.spawn()
    };
    std::thread::scope(|scope| scope.spawn(spawn).join().expect("starting a process does not panic"))
}

impl Client {
    /// The bench's own executable, which runs the floor or the bare client for these arguments.
    fn own_command(self, program: &Path, server: &Server, load: Load) -> Command {
        let mut command = Command::new(program);
        command.arg(OWN[usize::from(self == Client::Floor)]).arg(server.address.to_string());
        command.args([load.streams, load.requests, load.tokens].map(|number| number.to_string()));
        command
    }
}

/// The arguments that make this program run the bare client or the floor, and nothing else.
pub const OWN: [&str; 2] = ["--bare-client", "--floor"];

/// Runs the bare client or the floor for the arguments after the one of [`OWN`].
pub fn run_own(client: &str, arguments: &[String]) {
    let number = |place: usize| arguments[place].parse().expect("a number");
    let load = Load { streams: number(1), requests: number(2), tokens: number(3) };
    let address = arguments[0].parse().expect("an address");
    if client == OWN[1] {
        floor::run(address, load)
    } else {
        bare::run(address, load)
    };
}

fn ringmark_command(server: &Server, load: Load, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command.args(["perf", "--url", &server.url(), "--model", "mock", "--prompt", "Why is the sky blue?"]);
    command.args(["--parallel", &load.streams.to_string(), "--number", &load.requests.to_string()]);
    command.args(["--cores", "0", "--no-test-connection", "--save", "metrics", "--quiet", "--outputs-dir"]).arg(folder);
    command
}

/// Processor and kernel.
pub fn machine() -> String {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo".into());
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = read("/proc/sys/kernel/osrelease".into());
    format!("{}, Linux {}", model.map_or("unknown processor", |(_, name)| name), kernel.trim())
}
