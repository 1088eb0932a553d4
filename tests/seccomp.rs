//! Runs under a seccomp filter that refuses system calls of the receive path, as containers do.

#![expect(unsafe_code, reason = "a filter is installed between fork and exec")]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use libc::{sock_filter, sock_fprog};

/// Refuses a system call with an error.
#[derive(Clone, Copy)]
struct Refused {
    number: libc::c_long,
    errno: i32,
    /// Only if its second argument is not 0.
    if_second_argument: bool,
}

fn refused(number: libc::c_long, errno: i32) -> Refused {
    Refused { number, errno, if_second_argument: false }
}

/// The program of a filter. Offsets are those of `struct seccomp_data`: the number at 0, the low half of the second
/// argument at 24 on little-endian machines.
fn filter(rules: &[Refused]) -> Vec<sock_filter> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let mut program = Vec::new();
    for rule in rules {
        let refuse = step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | rule.errno as u32);
        program.push(step(LOAD, 0, 0, 0));
        if rule.if_second_argument {
            program.extend([step(IF_EQUAL, 0, 3, rule.number as u32), step(LOAD, 0, 0, 24), step(IF_EQUAL, 1, 0, 0)]);
        } else {
            program.push(step(IF_EQUAL, 0, 1, rule.number as u32));
        }
        program.push(refuse);
    }
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    program
}

/// A call of the binary under a filter.
fn ringmark(rules: &[Refused], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = filter(rules);
    let install = move || {
        let filter = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: both calls are async-signal-safe; the program outlives them.
        let installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
        };
        if installed { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: the closure only makes system calls.
    unsafe { command.pre_exec(install) };
    command
}

/// A mock server without a filter, in a process of its own.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start() -> Server {
        let mut process = ringmark(&[], &["mock", "--port", "0", "ttft=5ms", "itl=1ms", "tokens=5"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Server { process, url: line.split_whitespace().last().unwrap().to_string() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn perf(rules: &[Refused]) -> Output {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    let call = ["perf", "--url", &server.url, "--model", "m", "-n", "6", "--parallel", "2", "--outputs-dir", &path];
    ringmark(rules, &call).output().unwrap()
}

#[test]
fn a_ring_that_may_be_made_but_not_used_is_replaced_by_epoll() {
    for errno in [libc::EPERM, libc::ENOSYS, libc::EAGAIN] {
        let output = perf(&[refused(libc::SYS_io_uring_enter, errno)]);
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // A busy machine can make the figures void.
        assert!(matches!(output.status.code(), Some(0 | 3)), "{errno}: {stderr}");
        assert!(stdout.contains("io_uring is not available"), "{errno}: {stdout}");
    }
}

#[test]
fn without_io_uring_and_epoll_the_error_names_both() {
    let output = perf(&[refused(libc::SYS_io_uring_setup, libc::EPERM), refused(libc::SYS_epoll_create1, libc::EPERM)]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("neither with io_uring (") && stderr.contains("nor with epoll ("), "{stderr}");
}

/// The ring works until the first connection: the error of a worker ends the run with its message.
#[cfg(target_endian = "little")]
#[test]
fn a_ring_that_refuses_submissions_ends_the_run() {
    let rule = Refused { if_second_argument: true, ..refused(libc::SYS_io_uring_enter, libc::EPERM) };
    let output = perf(&[rule]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("worker 0: io_uring_enter: Operation not permitted"), "{stderr}");
}
