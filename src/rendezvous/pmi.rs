//! The process manager of MPI and Slurm, over the descriptor in `PMI_FD`: PMI-2 as Slurm's `srun --mpi=pmi2` speaks it, and
//! PMI-1 as MPICH's `mpiexec` does. No MPI library is needed.
//!
//! A message becomes entries of the manager's key-value store, hexadecimal because the store takes text, and in pieces
//! because values are short. A fence, after which all see the entries of all, makes it an all-gather.

#![expect(unsafe_code, reason = "the descriptor in PMI_FD belongs to nobody until it is borrowed by its number")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::random::hex;
use super::{RendezvousError, Wait};
use crate::record::share::Share;

/// Bytes of a message in one entry: twice as many digits fit into a value and a line of every manager.
const PIECE: usize = 200;
/// The longest answer, bytes.
const MAX_ANSWER: usize = 16 << 10;
/// How long a process that ends waits for the manager.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// How commands are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// `cmd=put key=a value=b` and a line feed.
    One,
    /// Six digits of the length, then `cmd=kvs-put;key=a;value=b;`.
    Two,
}

pub(super) struct Pmi {
    manager: Manager,
    version: Version,
    /// The store of the job.
    store: String,
    share: Share,
    round: u32,
}

/// The connection to the process manager.
struct Manager {
    file: File,
    /// What was read beyond the last answer.
    rest: Vec<u8>,
}

/// The fields of an answer.
type Fields = BTreeMap<String, String>;

impl Pmi {
    pub(super) fn open(share: Share, wait: &Wait<'_>) -> Result<Pmi, RendezvousError> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let fd: RawFd = variable("PMI_FD")
            .trim()
            .parse()
            .ok()
            .filter(|fd| *fd >= 0)
            .ok_or_else(|| failed("PMI_FD is no descriptor"))?;
        // SAFETY: the borrow ends with this statement; a number that is no open descriptor gives an error.
        let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
        let copy = copy.map_err(|error| failed(format!("PMI_FD {fd} cannot be used: {error}")))?;
        Pmi::start(File::from(copy), &variable("PMI_JOBID"), share, wait)
    }

    /// Begins the conversation with the manager.
    fn start(file: File, job: &str, share: Share, wait: &Wait<'_>) -> Result<Pmi, RendezvousError> {
        let mut manager = Manager { file, rest: Vec::new() };
        let answer = manager.line("cmd=init pmi_version=2 pmi_subversion=0\n", wait)?;
        let is_two = answer.get("rc").is_none_or(|rc| rc == "0") && answer.get("pmi_version").is_some_and(|v| v == "2");
        let mut pmi = Pmi { manager, version: Version::Two, store: job.to_string(), share, round: 0 };
        if is_two {
            let rank = share.index();
            let answer = pmi.command(&format!("cmd=fullinit;pmijobid={job};pmirank={rank};threaded=FALSE;"), wait)?;
            let place = |name: &str| answer.get(name).and_then(|text| text.parse::<u32>().ok());
            if place("rank").zip(place("size")).is_some_and(|place| place != (share.index(), share.count())) {
                return Err(failed(format!(
                    "the process manager has another number for shard {share}: use --shard auto"
                )));
            }
            return Ok(pmi);
        }
        pmi.version = Version::One;
        pmi.command("cmd=init pmi_version=1 pmi_subversion=1\n", wait)?;
        let answer = pmi.command("cmd=get_my_kvsname\n", wait)?;
        pmi.store =
            answer.get("kvsname").cloned().ok_or_else(|| failed("the process manager has no key-value store"))?;
        Ok(pmi)
    }

    pub(super) fn all_gather(&mut self, own: &[u8], wait: &Wait<'_>) -> Result<Vec<Vec<u8>>, RendezvousError> {
        let round = self.round;
        self.round += 1;
        let key = |shard: u32, piece: usize| format!("ringmark-{round}-{shard}-{piece}");
        // The first piece begins with the number of pieces.
        let pieces: Vec<&[u8]> = own.chunks(PIECE).collect();
        for piece in 0..pieces.len().max(1) {
            let digits = pieces.get(piece).map_or(String::new(), |bytes| hex(bytes));
            let value = if piece == 0 { format!("{}.{digits}", pieces.len()) } else { digits };
            self.put(&key(self.share.index(), piece), &value, wait)?;
        }
        self.fence(wait)?;
        let unreadable = |shard: u32| failed(format!("the message of shard {shard} cannot be read"));
        let mut all = Vec::new();
        for shard in 0..self.share.count() {
            let first = self.get(&key(shard, 0), wait)?;
            let (count, digits) = first.split_once('.').ok_or_else(|| unreadable(shard))?;
            let count: usize = count.parse().map_err(|_| unreadable(shard))?;
            let mut message = unhex(digits).ok_or_else(|| unreadable(shard))?;
            for piece in 1..count.min(MAX_ANSWER / PIECE) {
                message.extend(unhex(&self.get(&key(shard, piece), wait)?).ok_or_else(|| unreadable(shard))?);
            }
            all.push(message);
        }
        Ok(all)
    }

    /// Sends a last message. The others get it when they send their next one.
    pub(super) fn send(&mut self, own: &[u8], wait: &Wait<'_>) {
        // The error of this shard is the one to report.
        let _ = self.all_gather(own, wait);
    }

    fn put(&mut self, key: &str, value: &str, wait: &Wait<'_>) -> Result<(), RendezvousError> {
        let command = match self.version {
            Version::One => format!("cmd=put kvsname={} key={key} value={value}\n", self.store),
            Version::Two => format!("cmd=kvs-put;key={key};value={value};"),
        };
        self.command(&command, wait).map(drop)
    }

    fn get(&mut self, key: &str, wait: &Wait<'_>) -> Result<String, RendezvousError> {
        let command = match self.version {
            Version::One => format!("cmd=get kvsname={} key={key}\n", self.store),
            Version::Two => format!("cmd=kvs-get;jobid={};srcid=-1;key={key};", self.store),
        };
        let mut answer = self.command(&command, wait)?;
        answer.remove("value").ok_or_else(|| failed(format!("the process manager does not have {key}")))
    }

    /// Waits for all shards.
    fn fence(&mut self, wait: &Wait<'_>) -> Result<(), RendezvousError> {
        let command = match self.version {
            Version::One => "cmd=barrier_in\n",
            Version::Two => "cmd=kvs-fence;",
        };
        self.command(command, wait).map(drop)
    }

    fn command(&mut self, command: &str, wait: &Wait<'_>) -> Result<Fields, RendezvousError> {
        let answer = match self.version {
            Version::One => self.manager.line(command, wait)?,
            Version::Two => self.manager.framed(command, wait)?,
        };
        match answer.get("rc").filter(|rc| *rc != "0") {
            Some(rc) => {
                let text = answer
                    .get("errmsg")
                    .or_else(|| answer.get("msg"))
                    .map_or(String::new(), |text| format!(" ({text})"));
                Err(failed(format!("the process manager refused '{}' with {rc}{text}", command.trim_end())))
            }
            None => Ok(answer),
        }
    }
}

impl Drop for Pmi {
    /// Some managers take a process that ends without this for one that has failed.
    fn drop(&mut self) {
        let command = match self.version {
            Version::One => "cmd=finalize\n",
            Version::Two => "cmd=finalize;",
        };
        let _ = self.command(command, &Wait::new(LAST_ANSWER, &|| false));
    }
}

impl Manager {
    /// Sends a line and reads the line of the answer: words `name=value`.
    fn line(&mut self, command: &str, wait: &Wait<'_>) -> Result<Fields, RendezvousError> {
        self.send(command.as_bytes())?;
        let end = loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            self.receive(wait)?;
        };
        let line: Vec<u8> = self.rest.drain(..=end).collect();
        Ok(fields(&line, ' '))
    }

    /// Sends a command with its length, and reads an answer of the same form.
    fn framed(&mut self, command: &str, wait: &Wait<'_>) -> Result<Fields, RendezvousError> {
        const DIGITS: usize = 6;
        self.send(format!("{:6}{command}", command.len()).as_bytes())?;
        loop {
            let length = self.rest.get(..DIGITS).map(|digits| String::from_utf8_lossy(digits).trim().parse::<usize>());
            match length.transpose().map_err(|_| failed("the process manager sent an answer without its length"))? {
                Some(length) if length > MAX_ANSWER => {
                    return Err(failed("the process manager sent an answer that is too long"));
                }
                Some(length) if self.rest.len() >= DIGITS + length => {
                    let answer: Vec<u8> = self.rest.drain(..DIGITS + length).skip(DIGITS).collect();
                    return Ok(fields(&answer, ';'));
                }
                _ => self.receive(wait)?,
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), RendezvousError> {
        self.file.write_all(bytes).map_err(|error| failed(format!("the process manager is gone: {error}")))
    }

    /// Reads more bytes.
    fn receive(&mut self, wait: &Wait<'_>) -> Result<(), RendezvousError> {
        if self.rest.len() > MAX_ANSWER {
            return Err(failed("the process manager sent an answer that is too long"));
        }
        while !self.is_readable(wait)? {}
        let mut bytes = [0; 4096];
        match self.file.read(&mut bytes) {
            Ok(0) => Err(failed("the process manager has ended the connection: a shard may have ended")),
            Ok(count) => {
                self.rest.extend_from_slice(&bytes[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(failed(format!("the process manager is gone: {error}"))),
        }
    }

    /// Waits a step for bytes.
    fn is_readable(&self, wait: &Wait<'_>) -> Result<bool, RendezvousError> {
        let Some(step) = wait.step()? else {
            return Err(failed(format!(
                "not all shards came within {:.0} s (--rendezvous-timeout): one was not started, is too slow, or has ended",
                wait.timeout.as_secs_f64()
            )));
        };
        let timeout = Timespec { tv_sec: 0, tv_nsec: step.as_nanos() as i64 };
        let mut descriptors = [PollFd::from_borrowed_fd(self.file.as_fd(), PollFlags::IN)];
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(failed(format!("the process manager cannot be waited for: {error}"))),
        }
    }
}

fn failed(text: impl std::fmt::Display) -> RendezvousError {
    RendezvousError::new(format!("--rendezvous pmi: {text}"))
}

/// The fields of an answer, with `between` between them.
fn fields(answer: &[u8], between: char) -> Fields {
    let text = String::from_utf8_lossy(answer);
    let pairs = text.trim_end_matches(['\n', ';']).split(between).filter_map(|part| part.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_string(), value.to_string())).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pair = |place: usize| u8::from_str_radix(digits.get(place..place + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, Barrier, Mutex};
    use std::thread;

    use super::*;

    type Store = Arc<Mutex<BTreeMap<String, String>>>;

    /// A process manager for one process, as far as this module needs one.
    fn serve(mut stream: UnixStream, speaks: Version, store: &Store, fence: &Barrier) {
        let mut version = Version::One;
        let mut rest = Vec::new();
        loop {
            let mut bytes = [0; 4096];
            let Ok(count @ 1..) = stream.read(&mut bytes) else { return };
            rest.extend_from_slice(&bytes[..count]);
            let command = match version {
                Version::One => rest.strip_suffix(b"\n").map(|line| fields(line, ' ')),
                Version::Two => rest.get(6..).filter(|rest| rest.ends_with(b";")).map(|rest| fields(rest, ';')),
            };
            let Some(command) = command else { continue };
            rest.clear();
            let name = command["cmd"].clone();
            let get = |field: &str| command.get(field).cloned().unwrap_or_default();
            let one = matches!(version, Version::One);
            let answer = match name.as_str() {
                "init" if get("pmi_version") == "2" && speaks == Version::Two => {
                    version = Version::Two;
                    "cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=0\n".to_string()
                }
                "init" if get("pmi_version") == "2" => {
                    "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=-1\n".to_string()
                }
                "init" => "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n".to_string(),
                "get_my_kvsname" => "cmd=my_kvsname kvsname=kvs_7\n".to_string(),
                "fullinit" => format!("cmd=fullinit-response;rank={};size=3;rc=0;", get("pmirank")),
                "put" | "kvs-put" => {
                    store.lock().unwrap().insert(get("key"), get("value"));
                    if one { "cmd=put_result rc=0 msg=success\n".into() } else { "cmd=kvs-put-response;rc=0;".into() }
                }
                "barrier_in" | "kvs-fence" => {
                    fence.wait();
                    if one { "cmd=barrier_out rc=0\n".into() } else { "cmd=kvs-fence-response;rc=0;".into() }
                }
                "get" | "kvs-get" => {
                    let value = store.lock().unwrap()[&get("key")].clone();
                    if one {
                        format!("cmd=get_result rc=0 msg=success value={value}\n")
                    } else {
                        format!("cmd=kvs-get-response;found=TRUE;value={value};rc=0;")
                    }
                }
                "finalize" => return,
                other => panic!("{other}"),
            };
            let answer = match (version, name.as_str()) {
                (Version::Two, "init") | (Version::One, _) => answer,
                (Version::Two, _) => format!("{:6}{answer}", answer.len()),
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
    }

    fn shard(index: u32, speaks: Version, store: &Store, fence: &Arc<Barrier>) -> Pmi {
        let (own, manager) = UnixStream::pair().unwrap();
        let (store, fence) = (store.clone(), fence.clone());
        thread::spawn(move || serve(manager, speaks, &store, &fence));
        let wait = Wait::new(Duration::from_secs(20), &|| false);
        Pmi::start(File::from(OwnedFd::from(own)), "job.1", Share::new(index, 3).unwrap(), &wait).unwrap()
    }

    #[test]
    fn messages_of_all_lengths_reach_all_shards_in_both_versions() {
        for speaks in [Version::One, Version::Two] {
            let (store, fence) = (Store::default(), Arc::new(Barrier::new(3)));
            thread::scope(|scope| {
                for index in 0..3 {
                    let (store, fence) = (&store, &fence);
                    scope.spawn(move || {
                        let mut pmi = shard(index, speaks, store, fence);
                        assert_eq!(pmi.version, speaks);
                        for length in [0, 1, 199, 200, 201, 1024] {
                            let messages = [0, 1, 2].map(|shard: u8| vec![shard + 65; length + usize::from(shard)]);
                            let wait = Wait::new(Duration::from_secs(20), &|| false);
                            let all = pmi.all_gather(&messages[index as usize], &wait).unwrap();
                            assert_eq!(all, messages, "{length}");
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn a_fence_that_not_all_reach_ends() {
        let mut pmi = shard(0, Version::Two, &Store::default(), &Arc::new(Barrier::new(2)));
        let error = pmi.all_gather(b"x", &Wait::new(Duration::from_millis(30), &|| false)).unwrap_err();
        assert!(error.to_string().contains("not all shards came"), "{error}");
        let stopped = pmi.all_gather(b"x", &Wait::new(Duration::from_secs(20), &|| true)).unwrap_err();
        assert_eq!(stopped, RendezvousError::Interrupted);
    }

    #[test]
    fn answers_are_taken_apart() {
        let of = |answer: &str, between| fields(answer.as_bytes(), between);
        assert_eq!(of("cmd=a rc=0\n", ' '), of("cmd=a;rc=0;", ';'));
        assert_eq!(unhex("00ff41"), Some(vec![0, 255, 65]));
        assert_eq!((unhex("0"), unhex("0g"), unhex("é")), (None, None, None));
    }
}
