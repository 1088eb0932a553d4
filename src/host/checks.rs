//! Checks whether facts about the machine impair measurements, with advice.

use serde::Serialize;

use super::clock_state::ClockState;
use super::facts::Facts;
use crate::time::format_ns;

/// The check of one fact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Check {
    pub name: &'static str,
    /// The value as text; "-" if it cannot be read.
    pub value: String,
    /// The problem and what to do about it; `None` if there is no problem.
    pub advice: Option<String>,
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
    Check { name, value: value.unwrap_or_else(|| "-".to_string()), advice: advice.map(str::to_string) }
}

fn machine(facts: &Facts) -> Vec<Check> {
    let virtualised = !facts.virtualisation.is_empty();
    let kind = if virtualised { facts.virtualisation.join(", ") } else { "none detected".to_string() };
    let shared = "the host can take the CPU away at any time: check the steal time, and use a dedicated machine for \
                  published figures";
    vec![
        check("Kernel", facts.kernel.clone(), kernel_advice(facts.kernel.as_deref())),
        check("CPU", facts.cpu_model.clone(), None),
        check("Virtualisation", Some(kind), virtualised.then_some(shared)),
        check("Mitigations", Some(format!("{} active", facts.mitigations.len())), None),
    ]
}

/// The receive ring requires Linux 6.1.
fn kernel_advice(release: Option<&str>) -> Option<&'static str> {
    let mut parts = release?.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (parts.next()?, parts.next().unwrap_or(0));
    (version < (6, 1)).then_some("the io_uring receive ring requires Linux 6.1: ringmark receives with epoll instead")
}

fn cores(facts: &Facts) -> Vec<Check> {
    let few = (facts.cores < 2)
        .then_some("all threads share one core: the collector, or a server on this machine, delays the worker");
    let isolated = facts.isolated.is_none().then_some(
        "none: other tasks may run on a worker's core; for stable tail latencies, boot with isolcpus= and nohz_full= and \
         select those cores with --cores",
    );
    let shared = (!facts.smt_siblings.is_empty()).then_some(
        "two hardware threads share one core: select only one of each pair with --cores, and do not run the server on the \
         other",
    );
    let slow = facts.governors.iter().any(|governor| governor != "performance");
    let numa = (facts.numa_nodes.len() > 1).then_some("select --cores on the NUMA node of the network card");
    let list = |lists: &[String]| (!lists.is_empty()).then(|| lists.join(" "));
    vec![
        check("Cores", Some(cores_text(facts)), few),
        check("Isolated cores", Some(facts.isolated.clone().unwrap_or_else(|| "none".to_string())), isolated),
        check("Tickless cores (nohz_full)", Some(facts.nohz_full.clone().unwrap_or_else(|| "none".to_string())), None),
        check("SMT siblings", Some(list(&facts.smt_siblings).unwrap_or_else(|| "none".to_string())), shared),
        check("NUMA nodes", Some(facts.numa_nodes.len().max(1).to_string()), numa),
        check(
            "Frequency governor",
            Some(list(&facts.governors).unwrap_or_else(|| "not available".to_string())),
            slow.then_some("idle cores reduce their frequency: run cpupower frequency-set -g performance"),
        ),
    ]
}

fn cores_text(facts: &Facts) -> String {
    let allowed = facts.allowed_cores.as_ref().map_or(String::new(), |list| format!(" ({list})"));
    format!("{}{allowed}", facts.cores)
}

fn clock(facts: &Facts) -> Vec<Check> {
    let invariant = facts.constant_tsc && facts.nonstop_tsc;
    let flags: Vec<&str> = [("constant_tsc", facts.constant_tsc), ("nonstop_tsc", facts.nonstop_tsc)]
        .iter()
        .filter(|(_, present)| *present)
        .map(|(name, _)| *name)
        .collect();
    let flags = if flags.is_empty() { "none".to_string() } else { flags.join(" ") };
    let source = facts.clocksource.as_deref();
    let read_fast = matches!(source, Some("tsc" | "kvm-clock"));
    vec![
        check(
            "TSC flags",
            Some(flags),
            (!invariant).then_some(
                "the TSC is not invariant: CLOCK_MONOTONIC is read instead, which costs 12 ns more per reading",
            ),
        ),
        check(
            "Clock source",
            facts.clocksource.clone(),
            (!read_fast)
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
        Some(0) => ("allowed", None),
        Some(1) => (
            "allowed for one group",
            Some("run sysctl kernel.io_uring_disabled=0, or join the group kernel.io_uring_group"),
        ),
        Some(_) => (
            "forbidden",
            Some("ringmark receives with epoll instead: sysctl kernel.io_uring_disabled=0 allows io_uring"),
        ),
        None => ("-", None),
    };
    let files = |limit: Option<u64>| limit.map_or("unlimited".to_string(), |limit| limit.to_string());
    let few_files = facts.open_files_hard.is_some_and(|hard| hard < MIN_OPEN_FILES);
    let ports = facts.local_ports.map(|(first, last)| format!("{first} to {last}"));
    let few_ports = facts.port_count().is_some_and(|count| count < MIN_PORTS);
    vec![
        check("io_uring", Some(uring.0.to_string()), uring.1),
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
            constant_tsc: true,
            nonstop_tsc: true,
            clocksource: Some("tsc".to_string()),
            governors: vec!["performance".to_string()],
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
            virtualisation: vec!["container".to_string()],
            cores: 1,
            isolated: None,
            smt_siblings: vec!["0,1".to_string()],
            numa_nodes: vec!["0".to_string(), "1".to_string()],
            governors: vec!["powersave".to_string()],
            nonstop_tsc: false,
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

    #[test]
    fn unknown_facts_are_accepted() {
        assert!(evaluate(&Facts::default()).iter().all(|check| !check.value.is_empty()));
    }
}
