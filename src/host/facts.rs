//! Facts about this machine that affect measurements.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use super::clock_state::{self, ClockState};

/// Facts about the machine and its kernel. A fact that cannot be read is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Facts {
    pub kernel: Option<String>,
    pub cpu_model: Option<String>,
    /// The detected environment: `virtual machine`, `container`, both, or none.
    pub virtualisation: Option<Vec<String>>,
    /// Number of cores that this process may use.
    pub cores: usize,
    pub allowed_cores: Option<String>,
    /// Cores that are isolated from the kernel's scheduler, and cores without a periodic timer tick; lists such as
    /// `2-5`, empty for none.
    pub isolated: Option<String>,
    pub nohz_full: Option<String>,
    /// Hardware threads that share a core: one list for each core with more than one.
    pub smt_siblings: Option<Vec<String>>,
    /// Cores of each NUMA node; empty if the kernel does not distinguish nodes.
    pub numa_nodes: Option<Vec<String>>,
    /// The distinct frequency governors of all cores; empty if the kernel does not set frequencies.
    pub governors: Option<Vec<String>>,
    pub constant_tsc: Option<bool>,
    pub nonstop_tsc: Option<bool>,
    pub clocksource: Option<String>,
    /// Whether the wall clock is synchronized; `None` if the system does not allow to read it.
    pub clock_state: Option<ClockState>,
    /// CPU vulnerabilities that the kernel works around, and how.
    pub mitigations: Option<BTreeMap<String, String>>,
    /// 0: all processes may use io_uring; 1: only a group; 2: none.
    pub io_uring_disabled: Option<u32>,
    /// Soft and hard limit of open files; `None` means unlimited.
    pub open_files_soft: Option<u64>,
    pub open_files_hard: Option<u64>,
    /// First and last port that the kernel uses for outgoing connections.
    pub local_ports: Option<(u32, u32)>,
    pub somaxconn: Option<u64>,
    /// Smallest, default and largest receive buffer of a TCP socket, bytes.
    pub tcp_rmem: Option<String>,
    pub transparent_hugepages: Option<String>,
    /// Load average of the last minute.
    pub load_1_min: Option<f64>,
    /// Fraction of CPU time since boot that the hypervisor gave to others (steal), 0 to 1.
    pub steal_share: Option<f64>,
}

impl Facts {
    /// Collects the facts. Reads only small files, so that a run can do this at its start.
    pub fn collect() -> Facts {
        Facts::collect_below(Path::new("/"))
    }

    /// The facts, with the kernel's files below this folder: `/`, except in tests.
    pub(super) fn collect_below(root: &Path) -> Facts {
        let text = |path: &str| read(root.join(path));
        let list = |path: &str| fs::read_to_string(root.join(path)).ok().map(|text| cpu_list(&text));
        let info = text("proc/cpuinfo");
        let open_files = getrlimit(Resource::Nofile);
        let cpus = root.join("sys/devices/system/cpu");
        // Without the folder of the cores, nothing about them can be read; with it, a missing file is a missing feature.
        let of_cores = |found: Vec<String>| cpus.is_dir().then_some(found);
        let siblings = read_numbered(&cpus, "cpu", "topology/thread_siblings_list");
        Facts {
            kernel: text("proc/sys/kernel/osrelease"),
            cpu_model: info.as_deref().and_then(|info| field_of(info, "model name")),
            virtualisation: virtualisation(info.as_deref(), root),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            allowed_cores: text("proc/self/status").and_then(|status| field_of(&status, "Cpus_allowed_list")),
            isolated: list("sys/devices/system/cpu/isolated"),
            nohz_full: list("sys/devices/system/cpu/nohz_full"),
            smt_siblings: of_cores(distinct(siblings.into_iter().filter(|list| list.contains([',', '-'])).collect())),
            numa_nodes: of_cores(read_numbered(&root.join("sys/devices/system/node"), "node", "cpulist")),
            governors: of_cores(distinct(read_numbered(&cpus, "cpu", "cpufreq/scaling_governor"))),
            constant_tsc: info.as_deref().map(|info| has_flag(info, "constant_tsc")),
            nonstop_tsc: info.as_deref().map(|info| has_flag(info, "nonstop_tsc")),
            clocksource: text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            clock_state: clock_state::read(),
            mitigations: mitigations(&cpus.join("vulnerabilities")),
            io_uring_disabled: text("proc/sys/kernel/io_uring_disabled").and_then(|text| text.parse().ok()),
            open_files_soft: open_files.current,
            open_files_hard: open_files.maximum,
            local_ports: text("proc/sys/net/ipv4/ip_local_port_range").and_then(|text| port_range(&text)),
            somaxconn: text("proc/sys/net/core/somaxconn").and_then(|text| text.parse().ok()),
            tcp_rmem: text("proc/sys/net/ipv4/tcp_rmem").map(|text| normalize_spaces(&text)),
            transparent_hugepages: text("sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| selected(&text)),
            load_1_min: text("proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            steal_share: text("proc/stat").and_then(|text| steal_share(&text)),
        }
    }

    /// The facts as JSON, as stored with a run.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Number of ports for outgoing connections to one address.
    pub(crate) fn port_count(&self) -> Option<u32> {
        self.local_ports.map(|(first, last)| last.saturating_sub(first) + 1)
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_string()).filter(|text| !text.is_empty())
}

/// A list of CPUs; the kernel writes `(null)` for none in some places.
fn cpu_list(text: &str) -> String {
    Some(text.trim()).filter(|list| *list != "(null)").unwrap_or_default().to_string()
}

/// The value of a line `name : value`.
fn field_of(text: &str, name: &str) -> Option<String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_string())
}

fn has_flag(info: &str, flag: &str) -> bool {
    field_of(info, "flags").is_some_and(|flags| flags.split_whitespace().any(|word| word == flag))
}

/// `None` if neither the processor's flags can be read nor a container has left its mark.
fn virtualisation(info: Option<&str>, root: &Path) -> Option<Vec<String>> {
    let mut found = Vec::new();
    if info.is_some_and(|info| has_flag(info, "hypervisor")) {
        let vendor = read(root.join("sys/class/dmi/id/sys_vendor"));
        found.push(format!("virtual machine{}", vendor.map_or(String::new(), |vendor| format!(" ({vendor})"))));
    }
    let marker_files = [".dockerenv", "run/.containerenv", "run/systemd/container"];
    if marker_files.iter().any(|file| root.join(file).exists()) {
        found.push("container".to_string());
    }
    (info.is_some() || !found.is_empty()).then_some(found)
}

/// The contents of `folder/<prefix><number>/file`, in the order of the numbers.
fn read_numbered(folder: &Path, prefix: &str, file: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let numbered = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let number: u32 = name.strip_prefix(prefix)?.parse().ok()?;
        Some((number, read(entry.path().join(file))?))
    };
    let mut found: Vec<(u32, String)> = entries.filter_map(numbered).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, text)| text).collect()
}

fn distinct(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts.dedup();
    texts
}

fn mitigations(folder: &Path) -> Option<BTreeMap<String, String>> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let named = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, read(entry.path())?));
    Some(entries.filter_map(named).filter(|(_, state)| state.contains("Mitigation")).collect())
}

fn port_range(text: &str) -> Option<(u32, u32)> {
    let mut ports = text.split_whitespace().map(str::parse);
    Some((ports.next()?.ok()?, ports.next()?.ok()?))
}

fn normalize_spaces(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The selected value in a text such as `always [madvise] never`.
fn selected(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_string())
}

/// Steal as a fraction of all CPU time, from the first line of /proc/stat: user nice system idle iowait irq softirq
/// steal.
fn steal_share(stat: &str) -> Option<f64> {
    let times: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).flat_map(str::parse).take(8).collect();
    let (steal, all) = (*times.get(7)?, times.iter().sum::<u64>());
    (all > 0).then(|| steal as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files_are_parsed() {
        let info = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu constant_tsc hypervisor\n";
        assert_eq!(field_of(info, "model name").as_deref(), Some("Some CPU @ 2 GHz"));
        assert!(has_flag(info, "constant_tsc") && !has_flag(info, "nonstop_tsc") && !has_flag(info, "tsc"));
        assert_eq!(port_range("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(selected("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(steal_share("cpu  10 0 20 60 0 0 0 10 0 0\ncpu0 1"), Some(0.1));
        assert_eq!((port_range(""), selected(""), steal_share("")), (None, None, None));
        assert_eq!(["2-5\n", "\n", "(null)\n"].map(cpu_list), ["2-5", "", ""]);
    }

    #[test]
    fn facts_of_this_machine_are_collected() {
        let facts = Facts::collect();
        assert!(facts.cores > 0 && facts.kernel.is_some());
        let json: serde_json::Value = serde_json::from_str(&facts.to_json()).unwrap();
        assert_eq!(json["cores"], facts.cores);
    }
}
