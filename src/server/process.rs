//! The processes of a local server, including children that have left its process group.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts, not for measurements")]

use std::collections::BTreeMap;
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Time between SIGTERM and SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_PERIOD: Duration = Duration::from_millis(20);

/// The running servers, for [`kill_all`]: their leaders and marks.
static SERVERS: Mutex<Vec<(u32, String)>> = Mutex::new(Vec::new());

/// The environment variable with the mark of a server, which all its children inherit.
pub(crate) const MARK: &str = "RINGMARK_SERVER";

/// An entry of the process table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    /// User and system time, clock ticks of the kernel.
    pub cpu_ticks: u64,
    /// The same of its ended children that it has waited for, with theirs.
    pub waited_ticks: u64,
    /// Start time, clock ticks since boot. With the pid it identifies a process uniquely.
    pub started: u64,
    pub rss_pages: u64,
    /// Ended, but not waited for by its parent.
    pub zombie: bool,
}

/// The current process table.
fn table() -> BTreeMap<u32, Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let stats = pids.filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stats.filter_map(|stat| parse_stat(&stat)).map(|process| (process.pid, process)).collect()
}

/// Parses a line of `/proc/PID/stat`. The process name in it may contain spaces and parentheses.
pub(crate) fn parse_stat(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split(' ').collect();
    // Field numbers as in proc_pid_stat(5), where the state is field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Process {
        pid: pid.parse().ok()?,
        parent: field(4)? as u32,
        group: field(5)? as u32,
        cpu_ticks: field(14)? + field(15)?,
        waited_ticks: field(16)? + field(17)?,
        started: field(22)?,
        rss_pages: field(24)?,
        zombie: fields.first() == Some(&"Z"),
    })
}

/// The processes that belong to a leader: its group, its descendants, and those processes of earlier scans
/// (`remembered`) that still run, which may have lost their parent since.
pub(crate) fn family(leader: u32, remembered: &[Process]) -> Vec<Process> {
    let all = table();
    let descends = |process: &Process| process.pid == leader || descends_from(&all, process, leader);
    let known =
        |process: &Process| remembered.iter().any(|other| other.pid == process.pid && other.started == process.started);
    let ours = |process: &&Process| process.group == leader || descends(process) || known(process);
    all.values().filter(ours).copied().collect()
}

/// The descendants of a process.
pub(crate) fn descendants(ancestor: u32) -> Vec<Process> {
    let all = table();
    all.values().filter(|process| descends_from(&all, process, ancestor)).copied().collect()
}

fn descends_from(all: &BTreeMap<u32, Process>, process: &Process, ancestor: u32) -> bool {
    let mut parent = process.parent;
    // Chains of parents are short. The bound prevents an endless loop if the table changed while it was read.
    for _ in 0..64 {
        if parent == ancestor {
            return true;
        }
        match all.get(&parent) {
            Some(next) => parent = next.parent,
            None => return false,
        }
    }
    false
}

/// The current state of a process.
pub(crate) fn find(pid: u32) -> Option<Process> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The current state of those of these processes that still exist. This is cheaper than a scan of all processes.
pub(crate) fn refreshed(processes: &[Process]) -> Vec<Process> {
    let current = |process: &Process| find(process.pid).filter(|now| now.started == process.started);
    processes.iter().filter_map(current).collect()
}

/// The processes with a mark. This finds children that have left their group and lost their parent.
fn marked(mark: &str) -> Vec<Process> {
    let expected = format!("{MARK}={mark}");
    let is_marked = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == expected.as_bytes())
    };
    table().into_iter().filter(|(pid, _)| is_marked(pid)).map(|(_, process)| process).collect()
}

/// Registers a server for [`kill_all`].
pub(crate) fn register(leader: u32, mark: &str) {
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner).push((leader, mark.to_string()));
}

/// Kills all registered servers. For use before an exit without unwinding.
pub(crate) fn kill_all() {
    let servers = std::mem::take(&mut *SERVERS.lock().unwrap_or_else(PoisonError::into_inner));
    for (leader, mark) in servers {
        signal(leader, &family(leader, &marked(&mark)), Signal::KILL);
    }
}

/// Stops a server and all its processes: with SIGTERM, and after 10 s with SIGKILL.
pub fn stop(child: &mut Child, mark: &str, remembered: &[Process]) {
    let leader = child.id();
    let mut members = family(leader, &[remembered, &marked(mark)].concat());
    signal(leader, &members, Signal::TERM);
    let began = Instant::now();
    while began.elapsed() < STOP_TIMEOUT {
        // Before the scan, because an ended child stays in the table until it has been waited for.
        let ended = !matches!(child.try_wait(), Ok(None));
        members = family(leader, &members);
        if ended && members.iter().all(|member| member.zombie) {
            break;
        }
        std::thread::sleep(POLL_PERIOD);
    }
    signal(leader, &family(leader, &[members, marked(mark)].concat()), Signal::KILL);
    // An error means that the child has already been waited for.
    let _ = child.wait();
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| *other != leader);
}

/// Signals the process group and the members that have left it. Errors are ignored: the process has already ended.
pub(crate) fn signal(leader: u32, members: &[Process], sent: Signal) {
    let pid = |pid: u32| Pid::from_raw(pid as i32);
    if let Some(group) = pid(leader).filter(|_| members.iter().any(|member| member.group == leader)) {
        let _ = kill_process_group(group, sent);
    }
    for member in members.iter().filter(|member| member.group != leader && !member.zombie) {
        if let Some(pid) = pid(member.pid) {
            let _ = kill_process(pid, sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parentheses_in_process_names_do_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 7 9 9 0 -1 4194560 100 0 0 0 11 4 7 2 20 0 1 0 5555 1000 321 18446744073709551615 1";
        let process = parse_stat(stat).unwrap();
        assert_eq!((process.pid, process.parent, process.group, process.zombie), (42, 7, 9, false));
        assert_eq!((process.cpu_ticks, process.waited_ticks, process.started, process.rss_pages), (15, 9, 5555, 321));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn family_includes_the_leader() {
        let me = std::process::id();
        let found = family(me, &[]);
        assert!(found.iter().any(|process| process.pid == me && process.rss_pages > 0));
        let mine = found.into_iter().find(|process| process.pid == me).unwrap();
        assert!(refreshed(&[mine]).iter().any(|process| process.pid == me));
        assert!(refreshed(&[Process { started: 0, ..mine }]).is_empty(), "another process with this number");
    }
}
