//! Checks whether facts about the machine impair measurements, with advice.

use serde::Serialize;

use super::clock_state::ClockState;
use super::facts::Facts;
use crate::time::format_ns;

/// The check of one fact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Check {
    pub name: &'static str,
    /// The value as text; `None` if it cannot be read.
    pub value: Option<String>,
    pub verdict: Verdict,
    /// The problem and what to do about it; `None` if there is no problem.
    pub advice: Option<String>,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    /// There is advice.
    Note,
    /// The fact cannot be read.
    Unknown,
}

impl Check {
    pub(crate) fn new(name: &'static str, value: Option<String>, advice: Option<String>) -> Check {
        let verdict = match (&value, &advice) {
            (_, Some(_)) => Verdict::Note,
            (Some(_), None) => Verdict::Ok,
            (None, None) => Verdict::Unknown,
        };
        Check { name, value, verdict, advice }
    }
}

impl Verdict {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Unknown => "unknown",
        }
    }
}

/// Limit of open files for ten thousand streams.
const MIN_OPEN_FILES: u64 = 10_000;
/// Length of the accept queue for a burst of new connections.
const MIN_BACKLOG: u64 = 4096;
/// Number of ports for ten thousand connections from one address.
const MIN_PORTS: u32 = 20_000;
/// Steal above this fraction affects tail latencies.
const MAX_STEAL: f64 = 0.005;

/// Checks all facts.
pub(crate) fn evaluate(facts: &Facts) -> Vec<Check> {
    [machine(facts), cores(facts), clock(facts), limits(facts), current_load(facts)].concat()
}

fn check(name: &'static str, value: Option<String>, advice: Option<&str>) -> Check {
    Check::new(name, value, advice.map(str::to_string))
}

/// The elements with this between them, or `none`.
fn list(elements: &[String], between: &str) -> String {
    if elements.is_empty() { "none".to_string() } else { elements.join(between) }
}

fn machine(facts: &Facts) -> Vec<Check> {
    let virtualised = facts.virtualisation.as_ref().is_some_and(|kinds| !kinds.is_empty());
    let kind = |kinds: &Vec<String>| if kinds.is_empty() { "none detected".to_string() } else { kinds.join(", ") };
    let shared = "the host can take the CPU away at any time: check the steal time, and use a dedicated machine for \
                  published figures";
    let active = facts.mitigations.as_ref().map(|active| format!("{} active", active.len()));
    vec![
        check("Kernel", facts.kernel.clone(), kernel_advice(facts.kernel.as_deref())),
        check("CPU", facts.cpu_model.clone(), None),
        check("Virtualisation", facts.virtualisation.as_ref().map(kind), virtualised.then_some(shared)),
        check("Mitigations", active, None),
    ]
}

/// The receive ring requires Linux 6.1.
fn kernel_advice(release: Option<&str>) -> Option<&'static str> {
    let mut parts = release?.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (parts.next()?, parts.next().unwrap_or(0));
    (version < (6, 1)).then_some("the io_uring receive ring requires Linux 6.1: ringmark receives with epoll instead")
}

fn cores(facts: &Facts) -> Vec<Check> {
    let few = (facts.cores == 1)
        .then_some("all threads share one core: the collector, or a server on this machine, delays the worker");
    let none_isolated = facts.isolated.as_ref().is_some_and(String::is_empty);
    let isolated = none_isolated.then_some(
        "none: other tasks may run on a worker's core; for stable tail latencies, boot with isolcpus= and nohz_full= and \
         select those cores with --cores",
    );
    let shared = facts.smt_siblings.as_ref().is_some_and(|siblings| !siblings.is_empty()).then_some(
        "two hardware threads share one core: select only one of each pair with --cores, and do not run the server on the \
         other",
    );
    let governors = facts.governors.as_deref();
    let slow = governors.is_some_and(|found| found.iter().any(|governor| governor != "performance"));
    let nodes = facts.numa_nodes.as_ref().map(|nodes| nodes.len().max(1));
    let numa = nodes.is_some_and(|nodes| nodes > 1).then_some("select --cores on the NUMA node of the network card");
    let cores = |cores: &String| if cores.is_empty() { "none".to_string() } else { cores.clone() };
    let governor = |found: &[String]| if found.is_empty() { "not available".to_string() } else { found.join(" ") };
    vec![
        check("Cores", (facts.cores > 0).then(|| cores_text(facts)), few),
        check("Isolated cores", facts.isolated.as_ref().map(cores), isolated),
        check("Tickless cores (nohz_full)", facts.nohz_full.as_ref().map(cores), None),
        check("SMT siblings", facts.smt_siblings.as_ref().map(|siblings| list(siblings, " ")), shared),
        check("NUMA nodes", nodes.map(|nodes| nodes.to_string()), numa),
        check(
            "Frequency governor",
            governors.map(governor),
            slow.then_some("idle cores reduce their frequency: run cpupower frequency-set -g performance"),
        ),
    ]
}

fn cores_text(facts: &Facts) -> String {
    let allowed = facts.allowed_cores.as_ref().map_or(String::new(), |list| format!(" ({list})"));
    format!("{}{allowed}", facts.cores)
}

fn clock(facts: &Facts) -> Vec<Check> {
    let flags = [("constant_tsc", facts.constant_tsc), ("nonstop_tsc", facts.nonstop_tsc)];
    let known = flags.iter().all(|(_, present)| present.is_some());
    let present: Vec<String> =
        flags.iter().filter(|(_, present)| *present == Some(true)).map(|(name, _)| (*name).to_string()).collect();
    let invariant = present.len() == flags.len();
    let read_fast = |source: &String| matches!(source.as_str(), "tsc" | "kvm-clock");
    vec![
        check(
            "TSC flags",
            known.then(|| list(&present, " ")),
            (known && !invariant).then_some(
                "the TSC is not invariant: CLOCK_MONOTONIC is read instead, which costs 12 ns more per reading",
            ),
        ),
        check(
            "Clock source",
            facts.clocksource.clone(),
            facts
                .clocksource
                .as_ref()
                .is_some_and(|source| !read_fast(source))
                .then_some("the kernel does not use the TSC as its clock source: every reading of the time is slower"),
        ),
        wall_clock(facts),
    ]
}

/// Figures do not depend on the wall clock, but the times of results and logs do.
fn wall_clock(facts: &Facts) -> Check {
    let text = |state: &ClockState| match state.synchronized {
        true => format!("synchronized, error at most {}", format_ns(state.max_error_us.saturating_mul(1000))),
        false => "not synchronized".to_string(),
    };
    let free = facts.clock_state.is_some_and(|state| !state.synchronized);
    let advice = "times in results and logs may be wrong by any amount: run chronyd, ntpd or ptp4l, or check the clock of the \
                  host if this is a container or a virtual machine";
    check("Wall clock", facts.clock_state.as_ref().map(text), free.then_some(advice))
}

fn limits(facts: &Facts) -> Vec<Check> {
    let uring = match facts.io_uring_disabled {
        Some(0) => (Some("allowed"), None),
        Some(1) => (
            Some("allowed for one group"),
            Some("run sysctl kernel.io_uring_disabled=0, or join the group kernel.io_uring_group"),
        ),
        Some(_) => (
            Some("forbidden"),
            Some("ringmark receives with epoll instead: sysctl kernel.io_uring_disabled=0 allows io_uring"),
        ),
        None => (None, None),
    };
    let files = |limit: Option<u64>| limit.map_or("unlimited".to_string(), |limit| limit.to_string());
    let few_files = facts.open_files_hard.is_some_and(|hard| hard < MIN_OPEN_FILES);
    let ports = facts.local_ports.map(|(first, last)| format!("{first} to {last}"));
    let few_ports = facts.port_count().is_some_and(|count| count < MIN_PORTS);
    vec![
        check("io_uring", uring.0.map(str::to_string), uring.1),
        check(
            "Open files (soft, hard)",
            Some(format!("{}, {}", files(facts.open_files_soft), files(facts.open_files_hard))),
            few_files
                .then_some("each request in flight needs one file: raise the hard limit (ulimit -Hn, limits.conf)"),
        ),
        check(
            "Local ports",
            ports,
            few_ports
                .then_some("too few: run sysctl net.ipv4.ip_local_port_range='10000 65535', or add --source-address"),
        ),
        check(
            "Accept queue (somaxconn)",
            facts.somaxconn.map(|count| count.to_string()),
            facts.somaxconn.is_some_and(|count| count < MIN_BACKLOG).then_some(
                "a server on this machine drops connections of larger bursts: run sysctl net.core.somaxconn=16384",
            ),
        ),
        check("TCP receive buffer (bytes)", facts.tcp_rmem.clone(), None),
        check("Transparent huge pages", facts.transparent_hugepages.clone(), None),
    ]
}

fn current_load(facts: &Facts) -> Vec<Check> {
    let busy = facts.load_1_min.is_some_and(|load| load > facts.cores as f64 * 0.5);
    let stolen = facts.steal_share.is_some_and(|share| share > MAX_STEAL);
    vec![
        check(
            "Load, last minute",
            facts.load_1_min.map(|load| format!("{load:.2}")),
            busy.then_some("other programs are running: stop them, or expect receive lag"),
        ),
        check(
            "Steal since boot",
            facts.steal_share.map(|share| format!("{:.2} %", share * 100.0)),
            stolen.then_some(
                "the host gave CPU time to other machines: tail latencies measured here are partly caused by the host",
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(facts: &Facts) -> Vec<&'static str> {
        evaluate(facts).into_iter().filter(|check| check.advice.is_some()).map(|check| check.name).collect()
    }

    fn good() -> Facts {
        Facts {
            kernel: Some("6.12.1-generic".to_string()),
            cores: 8,
            isolated: Some("2-7".to_string()),
            constant_tsc: Some(true),
            nonstop_tsc: Some(true),
            clocksource: Some("tsc".to_string()),
            governors: Some(vec!["performance".to_string()]),
            io_uring_disabled: Some(0),
            open_files_soft: Some(1024),
            open_files_hard: Some(1 << 20),
            local_ports: Some((10_000, 65_535)),
            somaxconn: Some(16_384),
            load_1_min: Some(0.1),
            steal_share: Some(0.0),
            clock_state: Some(ClockState {
                synchronized: true,
                max_error_us: 900,
                estimated_error_us: 1,
                frequency_ppm: 3,
            }),
            ..Facts::default()
        }
    }

    #[test]
    fn a_good_machine_gets_no_advice() {
        assert_eq!(advice(&good()), Vec::<&str>::new());
    }

    #[test]
    fn every_problem_has_advice() {
        let bad = Facts {
            kernel: Some("5.10.0".to_string()),
            virtualisation: Some(vec!["container".to_string()]),
            cores: 1,
            isolated: Some(String::new()),
            smt_siblings: Some(vec!["0,1".to_string()]),
            numa_nodes: Some(vec!["0".to_string(), "1".to_string()]),
            governors: Some(vec!["powersave".to_string()]),
            nonstop_tsc: Some(false),
            clocksource: Some("hpet".to_string()),
            io_uring_disabled: Some(2),
            open_files_hard: Some(1024),
            local_ports: Some((32_768, 40_000)),
            somaxconn: Some(128),
            load_1_min: Some(3.0),
            steal_share: Some(0.1),
            clock_state: Some(ClockState {
                synchronized: false,
                max_error_us: 0,
                estimated_error_us: 0,
                frequency_ppm: 0,
            }),
            ..good()
        };
        let named = advice(&bad);
        assert_eq!(named.len(), 16, "{named:?}");
        assert_eq!(kernel_advice(Some("6.1.0-rc1")), None);
        assert_eq!(kernel_advice(Some("unreadable")), None);
    }

    /// What a system call answers is found everywhere, and nothing else is called good where there are no files.
    #[test]
    fn what_cannot_be_read_is_unknown() {
        let empty = tempfile::tempdir().unwrap();
        let checks = evaluate(&Facts::collect_below(empty.path()));
        for check in &checks {
            let from_calls = ["Cores", "Wall clock", "Open files (soft, hard)"].contains(&check.name);
            assert!(from_calls || check.verdict == Verdict::Unknown, "{check:?}");
            assert_eq!(check.verdict == Verdict::Unknown, check.value.is_none(), "{check:?}");
        }
        let names = |facts: &Facts| evaluate(facts).iter().map(|check| check.name).collect::<Vec<_>>();
        assert_eq!(names(&Facts::default()), names(&good()));
    }

    #[test]
    fn what_the_kernel_does_not_have_is_not_unknown() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/cpuinfo", "model name : Some CPU\nflags : constant_tsc nonstop_tsc\n");
        write("sys/devices/system/cpu/isolated", "\n");
        write("sys/devices/system/cpu/nohz_full", "  (null)\n");
        let checks = evaluate(&Facts::collect_below(root.path()));
        let found = |name: &str| {
            let check = checks.iter().find(|check| check.name == name).unwrap();
            (check.value.as_deref(), check.verdict)
        };
        assert_eq!(found("Virtualisation"), (Some("none detected"), Verdict::Ok));
        assert_eq!(found("Isolated cores"), (Some("none"), Verdict::Note));
        assert_eq!(found("Tickless cores (nohz_full)"), (Some("none"), Verdict::Ok));
        assert_eq!(found("SMT siblings"), (Some("none"), Verdict::Ok));
        assert_eq!(found("NUMA nodes"), (Some("1"), Verdict::Ok));
        assert_eq!(found("Frequency governor"), (Some("not available"), Verdict::Ok));
        assert_eq!(found("TSC flags"), (Some("constant_tsc nonstop_tsc"), Verdict::Ok));
        assert_eq!(found("Mitigations"), (None, Verdict::Unknown));
    }
}
