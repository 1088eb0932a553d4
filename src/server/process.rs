//! The processes of a server that we started: its children as well, wherever they have moved to.

#![expect(clippy::disallowed_methods, reason = "how long a process takes to end is waited for, not measured")]

use std::collections::BTreeMap;
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long a server may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(20);

/// Servers that are to go when this program goes: their leaders and marks.
static SERVERS: Mutex<Vec<(u32, String)>> = Mutex::new(Vec::new());

/// The variable in whose value a server and all its children carry their mark.
pub const MARK: &str = "RINGMARK_SERVER";

/// A line of the process table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    /// User and system time, clock ticks of the kernel.
    pub cpu_ticks: u64,
    /// Ticks since boot: with the number it names a process for ever.
    pub started: u64,
    pub rss_pages: u64,
    /// Ended, but its parent has not asked.
    pub zombie: bool,
}

/// All processes now.
fn table() -> BTreeMap<u32, Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let stats = pids.filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stats.filter_map(|stat| read(&stat)).map(|process| (process.pid, process)).collect()
}

/// Reads a line of `/proc/PID/stat`; the name in it may hold blanks and brackets.
fn read(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split(' ').collect();
    // Numbers as in the manual, where the state is the third.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Process {
        pid: pid.parse().ok()?,
        parent: field(4)? as u32,
        group: field(5)? as u32,
        cpu_ticks: field(14)? + field(15)?,
        started: field(22)?,
        rss_pages: field(24)?,
        zombie: fields.first() == Some(&"Z"),
    })
}

/// What belongs to a leader: its group, its descendants, and what is remembered of earlier looks, which has lost its
/// parent since.
pub fn family(leader: u32, remembered: &[Process]) -> Vec<Process> {
    let all = table();
    let descends = |process: &Process| {
        let mut at = *process;
        // A chain of parents is short; the bound is for tables that change while they are read.
        for _ in 0..64 {
            if at.pid == leader || at.parent == leader {
                return true;
            }
            match all.get(&at.parent) {
                Some(parent) => at = *parent,
                None => return false,
            }
        }
        false
    };
    let known =
        |process: &Process| remembered.iter().any(|other| other.pid == process.pid && other.started == process.started);
    let ours = |process: &&Process| process.group == leader || descends(process) || known(process);
    all.values().filter(ours).copied().collect()
}

/// What carries a mark: a child that has left its group and lost its parent still does.
fn marked(mark: &str) -> Vec<Process> {
    let wanted = format!("{MARK}={mark}");
    let carries = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    table().into_iter().filter(|(pid, _)| carries(pid)).map(|(_, process)| process).collect()
}

/// Notes a server that [`kill_all`] must not leave behind.
pub fn register(leader: u32, mark: &str) {
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner).push((leader, mark.to_string()));
}

/// Ends everything registered, at once: for a program that is about to exit without unwinding.
pub fn kill_all() {
    let servers = std::mem::take(&mut *SERVERS.lock().unwrap_or_else(PoisonError::into_inner));
    for (leader, mark) in servers {
        send(leader, &family(leader, &marked(&mark)), Signal::KILL);
    }
}

/// Stops a server and everything that belongs to it: kindly first, then not.
pub fn stop(child: &mut Child, mark: &str, remembered: &[Process]) {
    let leader = child.id();
    let mut members = family(leader, &[remembered, &marked(mark)].concat());
    send(leader, &members, Signal::TERM);
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        // Asked first: an ended child stays in the table until then.
        let ended = !matches!(child.try_wait(), Ok(None));
        members = family(leader, &members);
        if ended && members.iter().all(|member| member.zombie) {
            break;
        }
        std::thread::sleep(STEP);
    }
    send(leader, &family(leader, &[members, marked(mark)].concat()), Signal::KILL);
    // Killed, it ends; a failure here means that it has been waited for.
    let _ = child.wait();
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| *other != leader);
}

/// Signals the group and those members that have left it. Whoever is gone already needs none.
fn send(leader: u32, members: &[Process], signal: Signal) {
    let pid = |pid: u32| Pid::from_raw(pid as i32);
    if let Some(group) = pid(leader).filter(|_| members.iter().any(|member| member.group == leader)) {
        let _ = kill_process_group(group, signal);
    }
    for member in members.iter().filter(|member| member.group != leader && !member.zombie) {
        if let Some(pid) = pid(member.pid) {
            let _ = kill_process(pid, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 7 9 9 0 -1 4194560 100 0 0 0 11 4 0 0 20 0 1 0 5555 1000 321 18446744073709551615 1";
        let process = read(stat).unwrap();
        assert_eq!((process.pid, process.parent, process.group, process.zombie), (42, 7, 9, false));
        assert_eq!((process.cpu_ticks, process.started, process.rss_pages), (15, 5555, 321));
        assert_eq!(read("nonsense"), None);
    }

    #[test]
    fn we_belong_to_ourselves() {
        let me = std::process::id();
        assert!(family(me, &[]).iter().any(|process| process.pid == me && process.rss_pages > 0));
    }
}
