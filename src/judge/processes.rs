//! The client's processes: all descendants of this process, which adopts those that lose their parent.

#![expect(clippy::disallowed_methods, reason = "the clock is used for a timeout, not for measurements")]

use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, waitpid};

use crate::server::process::{Process, descendants, find};

/// Time that killed processes get to end. One that waits for a disk or a driver takes longer.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_PERIOD: Duration = Duration::from_millis(5);

/// The descendants of this process that began after [`Descendants::adopt`].
#[derive(Debug)]
pub struct Descendants {
    own: u32,
    /// Processes from before.
    others: Vec<Process>,
    /// CPU time of the children that had been waited for, clock ticks.
    waited_before: u64,
}

impl Descendants {
    /// Makes this process the parent of all its descendants that lose theirs, so that a daemon with an empty environment and
    /// a session of its own is found as well.
    ///
    /// # Errors
    /// The kernel does not offer it.
    pub fn adopt() -> io::Result<Descendants> {
        let own = std::process::id();
        set_child_subreaper(Pid::from_raw(own as i32))?;
        Ok(Descendants { own, others: descendants(own), waited_before: waited(own) })
    }

    /// All of them that run, and those that have ended and were not waited for.
    pub fn scan(&self) -> Vec<Process> {
        let is_other = |process: &Process| {
            self.others.iter().any(|other| (other.pid, other.started) == (process.pid, process.started))
        };
        descendants(self.own).into_iter().filter(|process| !is_other(process)).collect()
    }

    /// CPU time of those that this process has waited for, and of the ended ones that these had waited for, clock ticks.
    pub fn waited_ticks(&self) -> u64 {
        waited(self.own).saturating_sub(self.waited_before)
    }

    /// Waits for those adopted ones among `members` that have ended. `leader` is waited for by its owner.
    pub fn reap(&self, members: &[Process], leader: u32) {
        let ended = members.iter().filter(|member| member.zombie && member.parent == self.own && member.pid != leader);
        for pid in ended.filter_map(|member| Pid::from_raw(member.pid as i32)) {
            // An error means that it is no child of this process any more.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }

    /// Kills all that are left, those that they start meanwhile as well. The leader has been waited for.
    ///
    /// # Errors
    /// One line with those that do not end.
    pub fn kill(&self, leader: u32) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let left = self.scan();
            self.reap(&left, leader);
            let running: Vec<&Process> = left.iter().filter(|process| !process.zombie).collect();
            // Ended ones that were adopted are waited for, so that their CPU time is in the total.
            if running.is_empty() && left.iter().all(|process| process.parent != self.own) {
                return Ok(());
            }
            if began.elapsed() > KILL_TIMEOUT {
                let pids: Vec<String> = running.iter().map(|process| process.pid.to_string()).collect();
                return Err(format!("processes of the client do not end: {}", pids.join(", ")));
            }
            running.iter().for_each(|process| kill(process));
            std::thread::sleep(POLL_PERIOD);
        }
    }
}

/// Kills all descendants of this process. For use before an exit without unwinding.
pub fn kill_all() {
    descendants(std::process::id()).iter().for_each(kill);
}

fn kill(process: &Process) {
    if let Some(pid) = Pid::from_raw(process.pid as i32) {
        // An error means that it has ended.
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn waited(pid: u32) -> u64 {
    find(pid).map_or(0, |process| process.waited_ticks)
}
