//! A directory that all shards can write to, local or of a network file system.
//!
//! ```text
//!  DIR/call-ID/hello-INDEX-COUNT-NONCE   a shard is there
//!  DIR/call-ID/members                   shard 0: the numbers (NONCE) of the shards of this call
//!  DIR/call-ID/refused                   shard 0: why there is no call
//!  DIR/call-ID/ROUND-INDEX               a message
//!  DIR/call-ID/left-INDEX                a shard reads no more
//! ```
//!
//! Shard 0 creates `call-ID` with a fresh number, so that everything in it was written by living shards. The others greet
//! every call that they find, and take the one whose `members` has their own number: what an earlier job has left never
//! does. Each file is written under another name and then linked, so that it is seen whole, and by one shard only.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts, not for measurements")]

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::messages::MAX_MESSAGE;
use super::random::random_hex;
use super::{RendezvousError, Wait, list};
use crate::record::share::Share;

const CALL: &str = "call-";
const MEMBERS: &str = "members";
const REFUSED: &str = "refused";
/// How often the directory is read.
const PERIOD: Duration = Duration::from_millis(10);
/// How long after its last message shard 0 lets the others read it.
const LAST_READ: Duration = Duration::from_secs(3);

pub(super) struct Directory {
    call: PathBuf,
    share: Share,
    round: u32,
    /// When this shard wrote its last message.
    wrote_at: Instant,
    /// Shard 0 did not answer.
    abandoned: bool,
}

impl Directory {
    pub(super) fn open(base: &Path, share: Share, wait: &Wait<'_>) -> Result<Directory, RendezvousError> {
        let failed = |what: &str, error: io::Error| {
            RendezvousError::new(format!("--rendezvous dir:{}: cannot {what}: {error}", base.display()))
        };
        prepare(base)?;
        let call = if share.is_first() {
            let call = base.join(format!("{CALL}{}", random_hex().map_err(|error| failed("draw a number", error))?));
            DirBuilder::new().mode(0o700).create(&call).map_err(|error| failed("create a directory in it", error))?;
            call
        } else {
            join(base, share, wait)?
        };
        let mut directory = Directory { call, share, round: 0, wrote_at: Instant::now(), abandoned: false };
        if share.is_first() {
            directory.admit(wait)?;
        }
        Ok(directory)
    }

    /// Shard 0: waits for the others.
    fn admit(&mut self, wait: &Wait<'_>) -> Result<(), RendezvousError> {
        loop {
            let mut members: BTreeMap<u32, String> = BTreeMap::new();
            for name in names(&self.call).map_err(|error| self.failed(&error))? {
                let Some((index, count, nonce)) = hello(&name) else { continue };
                let refusal = if count != self.share.count() {
                    Some(format!(
                        "shard {index} was started with {count} shards, and shard 0 with {}",
                        self.share.count()
                    ))
                } else if index == 0 || members.insert(index, nonce.to_string()).is_some() {
                    Some(format!(
                        "two processes are shard {index}: start each number once, and each call with a directory of its own"
                    ))
                } else {
                    None
                };
                if let Some(refusal) = refusal {
                    return Err(self.refuse(refusal));
                }
            }
            if members.len() as u32 + 1 == self.share.count() {
                let lines: String = members.values().map(|nonce| format!("{nonce}\n")).collect();
                return write_once(&self.call.join(MEMBERS), lines.as_bytes()).map_err(|error| self.failed(&error));
            }
            if wait.step()?.is_none() {
                let missing: Vec<u32> = (1..self.share.count()).filter(|index| !members.contains_key(index)).collect();
                return Err(self.refuse(missing_text(&missing, wait)));
            }
            std::thread::sleep(PERIOD);
        }
    }

    /// Ends the call for all who have come.
    fn refuse(&mut self, text: String) -> RendezvousError {
        // If it cannot be written, they wait until their own time is over.
        let _ = write_once(&self.call.join(REFUSED), text.as_bytes());
        self.wrote_at = Instant::now();
        RendezvousError::new(text)
    }

    pub(super) fn all_gather(&mut self, own: &[u8], wait: &Wait<'_>) -> Result<Vec<Vec<u8>>, RendezvousError> {
        let round = self.round;
        self.round += 1;
        self.wrote_at = Instant::now();
        let path = |index: u32| self.call.join(format!("{round}-{index}"));
        write_once(&path(self.share.index()), own).map_err(|error| self.failed(&error))?;
        let mut all: Vec<Option<Vec<u8>>> = vec![None; self.share.count() as usize];
        loop {
            for (index, message) in (0u32..).zip(&mut all).filter(|(_, message)| message.is_none()) {
                *message = read(&path(index)).map_err(|error| self.failed(&error))?;
            }
            let missing: Vec<u32> =
                (0u32..).zip(&all).filter(|(_, message)| message.is_none()).map(|(index, _)| index).collect();
            if missing.is_empty() {
                return Ok(all.into_iter().flatten().collect());
            }
            if wait.step()?.is_none() {
                self.abandoned = missing.contains(&0);
                return Err(RendezvousError::new(missing_text(&missing, wait)));
            }
            std::thread::sleep(PERIOD);
        }
    }

    pub(super) fn send(&mut self, own: &[u8]) {
        // The others wait for nothing else.
        let _ = write_once(&self.call.join(format!("{}-{}", self.round, self.share.index())), own);
        self.wrote_at = Instant::now();
    }

    fn failed(&self, error: &io::Error) -> RendezvousError {
        match error.kind() {
            io::ErrorKind::NotFound => RendezvousError::new("shard 0 has ended the rendezvous"),
            _ => RendezvousError::new(format!("--rendezvous dir: {}: {error}", self.call.display())),
        }
    }

    /// Whether all other shards, except for shard 0, have left.
    fn others_have_left(&self) -> bool {
        let others = (1..self.share.count()).filter(|index| *index != self.share.index());
        others.into_iter().all(|index| self.call.join(format!("left-{index}")).exists())
    }
}

/// Shard 0 removes the directory; if it is gone, the last of the others does.
impl Drop for Directory {
    fn drop(&mut self) {
        if !self.share.is_first() {
            let _ = write_once(&self.call.join(format!("left-{}", self.share.index())), b"");
            if self.abandoned && self.others_have_left() {
                remove(&self.call);
            }
            return;
        }
        while self.wrote_at.elapsed() < LAST_READ && !self.others_have_left() {
            std::thread::sleep(PERIOD);
        }
        remove(&self.call);
    }
}

/// Removes the directory of a call. It is tried again, because another shard may remove its last temporary file meanwhile.
fn remove(call: &Path) {
    for _ in 0..100 {
        if fs::remove_dir_all(call).is_ok() || !call.exists() {
            return;
        }
        std::thread::sleep(PERIOD);
    }
}

/// Creates the directory of all calls, or checks that nobody else can write to it.
fn prepare(base: &Path) -> Result<(), RendezvousError> {
    let wrong = |what: String| RendezvousError::new(format!("--rendezvous dir:{}: {what}", base.display()));
    match DirBuilder::new().mode(0o700).create(base) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(wrong(format!("cannot create it: {error}")));
        }
        _ => {}
    }
    let metadata = fs::metadata(base).map_err(|error| wrong(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(wrong("it is no directory".to_string()));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        return Err(wrong(
            "others can use it: give a directory of your own with 'chmod 700', or one that does not exist".to_string(),
        ));
    }
    Ok(())
}

/// Shards other than 0: greets every call until one has this shard among its members. Returns its directory.
fn join(base: &Path, share: Share, wait: &Wait<'_>) -> Result<PathBuf, RendezvousError> {
    let failed = |error: io::Error| RendezvousError::new(format!("--rendezvous dir:{}: {error}", base.display()));
    let nonce = random_hex().map_err(failed)?;
    let hello = format!("hello-{}-{}-{nonce}", share.index(), share.count());
    let mut greeted: Vec<PathBuf> = Vec::new();
    let outcome = loop {
        for call in names(base).map_err(failed)?.into_iter().filter(|name| name.starts_with(CALL)) {
            let call = base.join(call);
            // A call that has its members takes no others. One that has been refused is over: times of files are too coarse
            // to show which of two that follow each other at once is the later one.
            let is_open = ![MEMBERS, REFUSED].iter().any(|name| call.join(name).exists());
            if !greeted.contains(&call) && is_open && write_once(&call.join(&hello), b"").is_ok() {
                greeted.push(call);
            }
        }
        let answered = greeted.iter().find_map(|call| answer(call, &hello, &nonce));
        if let Some(answered) = answered {
            break answered;
        }
        match wait.step() {
            Ok(Some(_)) => std::thread::sleep(PERIOD),
            Ok(None) => {
                let text = format!(
                    "shard 0 did not come to --rendezvous dir:{} within {:.0} s, or it has all its shards already: two processes \
                     may be shard {}",
                    base.display(),
                    wait.timeout.as_secs_f64(),
                    share.index()
                );
                break Err(RendezvousError::new(text));
            }
            Err(error) => break Err(error),
        }
    };
    let joined = outcome.as_ref().ok();
    for call in greeted.iter().filter(|call| joined != Some(call)) {
        // They belong to jobs that have ended, or have refused this shard.
        let _ = fs::remove_file(call.join(&hello));
        if outcome.is_err() {
            let _ = write_once(&call.join(format!("left-{}", share.index())), b"");
        }
    }
    outcome
}

/// What shard 0 of a call has answered to a greeting; `None` while it has not.
fn answer(call: &Path, hello: &str, nonce: &str) -> Option<Result<PathBuf, RendezvousError>> {
    let members = read(&call.join(MEMBERS)).ok().flatten();
    if members.is_some_and(|lines| lines.split(|byte| *byte == b'\n').any(|line| line == nonce.as_bytes())) {
        return Some(Ok(call.to_path_buf()));
    }
    // Of an earlier job, it was there before the greeting.
    let refusal = call.join(REFUSED);
    let refused =
        fs::metadata(&refusal).ok()?.modified().ok()? >= fs::metadata(call.join(hello)).ok()?.modified().ok()?;
    let text = read(&refusal).ok().flatten().filter(|_| refused)?;
    Some(Err(RendezvousError::new(String::from_utf8_lossy(&text).into_owned())))
}

fn missing_text(missing: &[u32], wait: &Wait<'_>) -> String {
    format!(
        "shard {} did not come to the rendezvous within {:.0} s (--rendezvous-timeout): it was not started, is too slow, or has ended",
        list(missing),
        wait.timeout.as_secs_f64()
    )
}

/// The index, the count and the number of a greeting.
fn hello(name: &str) -> Option<(u32, u32, &str)> {
    let mut parts = name.strip_prefix("hello-")?.splitn(3, '-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?))
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The content of a file; `None` if there is none. More than a message is an error.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > 1024 * MAX_MESSAGE as u64 => Err(io::Error::other("a file of it is too long")),
        Ok(_) => fs::read(path).map(Some),
        // The directory may be gone as well, which is another error.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.parent().is_some_and(Path::exists) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates a file with this content; an error if there is one.
fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", random_hex()?));
    let written = fs::write(&temporary, bytes).and_then(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    written
}
