//! GPU memory as `nvidia-smi` reports it, for programs that cannot load the driver's library: a statically linked one
//! loads no libraries.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// Time between two reports, milliseconds.
const PERIOD_MS: u32 = 1_000;
const MIB: u64 = 1 << 20;

/// Memory in use of each GPU by its index, bytes.
type Used = BTreeMap<u32, u64>;

/// A running `nvidia-smi`, which reports once a second until this value is dropped.
pub(super) struct NvidiaSmi {
    child: Child,
    latest: Arc<Mutex<Used>>,
}

impl NvidiaSmi {
    /// Starts the program; `None` if it is not installed.
    pub(super) fn start(program: &OsStr) -> Option<NvidiaSmi> {
        let mut child = Command::new(program)
            .args(["--query-gpu=index,memory.used", "--format=csv,noheader,nounits"])
            .arg(format!("--loop-ms={PERIOD_MS}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let output = child.stdout.take()?;
        let latest = Arc::new(Mutex::new(Used::new()));
        let shared = latest.clone();
        let reader = std::thread::Builder::new().name("nvidia-smi".to_string());
        let mut smi = NvidiaSmi { child, latest };
        if reader.spawn(move || follow(output, &shared)).is_err() {
            smi.end();
            return None;
        }
        Some(smi)
    }

    /// Index and memory in use, bytes, of every GPU in the last report; empty before the first one and after the end of
    /// the program.
    pub(super) fn used_bytes(&self) -> Vec<(u32, u64)> {
        let used = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        used.iter().map(|(index, bytes)| (*index, *bytes)).collect()
    }

    fn end(&mut self) {
        // It has ended already if this fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for NvidiaSmi {
    fn drop(&mut self) {
        self.end();
    }
}

/// Keeps `latest` up to date until the output ends. Then nothing is known any more.
fn follow(output: impl Read, latest: &Mutex<Used>) {
    let lock = || latest.lock().unwrap_or_else(PoisonError::into_inner);
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        match parse(&line) {
            Some((index, Some(bytes))) => drop(lock().insert(index, bytes)),
            Some((index, None)) => drop(lock().remove(&index)),
            None => {}
        }
    }
    lock().clear();
}

/// A line such as `0, 1024`: the index of the GPU, and its memory in use in bytes, if it reports it (`[N/A]` if not).
fn parse(line: &str) -> Option<(u32, Option<u64>)> {
    let (index, mib) = line.split_once(',')?;
    Some((index.trim().parse().ok()?, mib.trim().parse::<u64>().ok().map(|mib| mib * MIB)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_last_report_counts_until_the_program_ends() {
        let latest = Mutex::new(Used::new());
        follow(&b"0, 100\n1, 7\n0, 200\n1, [N/A]\n"[..], &latest);
        assert!(latest.lock().unwrap().is_empty(), "what a program that has ended reported is not the present state");
        assert_eq!(parse("0, 200"), Some((0, Some(200 << 20))));
        assert_eq!(parse("12, [N/A]"), Some((12, None)));
        assert_eq!(parse("NVIDIA-SMI has failed because it could not communicate with the driver"), None);
    }

    #[test]
    fn a_program_is_followed_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("nvidia-smi");
        fs::write(&program, "#!/bin/sh\nprintf '0, 3\\n1, 5\\n'\nexec sleep 600\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        // A process that another test starts meanwhile may have inherited the file that is open for writing.
        let smi = (0..1000).find_map(|_| NvidiaSmi::start(program.as_os_str())).unwrap();
        while smi.used_bytes().len() < 2 {
            std::thread::yield_now();
        }
        assert_eq!(smi.used_bytes(), [(0, 3 << 20), (1, 5 << 20)]);
        assert!(NvidiaSmi::start(folder.path().join("missing").as_os_str()).is_none());
    }
}
