//! Child processes that lead process groups of their own, so that Ctrl-C reaches ringmark only, and that must not outlive
//! it.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

/// Pause between two checks whether a process has ended.
const POLL_PERIOD: Duration = Duration::from_millis(5);

/// The leaders of the groups. A leader is here until its exit status is collected, so that its number cannot belong to
/// another process.
static GROUPS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

fn groups() -> MutexGuard<'static, Vec<u32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process with `spawn`, which makes it the leader of a group, and lists it for [`kill_all`].
pub(crate) fn start<E>(spawn: impl FnOnce() -> Result<Child, E>) -> Result<Child, E> {
    // Locked while it starts: `kill_all` must not miss it.
    let mut groups = groups();
    let child = spawn()?;
    groups.push(child.id());
    Ok(child)
}

/// Kills all listed groups.
pub(crate) fn kill_all() {
    groups().iter().for_each(|leader| kill(*leader));
}

/// Kills the group of this leader.
pub(crate) fn kill(leader: u32) {
    if let Some(group) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        // An error means that all its processes have ended.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// The exit status of a listed process if it has ended; then it is no longer listed.
pub(crate) fn try_wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let mut groups = groups();
    let status = child.try_wait()?;
    if status.is_some() {
        groups.retain(|leader| *leader != child.id());
    }
    Ok(status)
}

/// Waits for the end of a listed process.
pub(crate) fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    loop {
        match try_wait(child)? {
            Some(status) => return Ok(status),
            None => thread::sleep(POLL_PERIOD),
        }
    }
}
