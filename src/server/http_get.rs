//! A blocking GET request to the server under test, over the transport of the load. Not used by workers.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts, not for measurements")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::net::blocking::wait_ready;
use crate::net::socket::{self, Connecting, is_refusal};
use crate::plan::{Target, Transport};
use crate::protocol::response::{Eof, Piece, Progress, Response};
use crate::protocol::tunnel::TunnelAnswer;

/// A response: status and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Timeouts of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetTimeouts {
    pub connect: Duration,
    /// Longest time without a byte.
    pub read: Duration,
    /// Longest time from the first connection attempt to the last byte, however the server sends it.
    pub total: Duration,
}

impl GetTimeouts {
    /// The same timeout for all.
    pub fn all(timeout: Duration) -> GetTimeouts {
        GetTimeouts { connect: timeout, read: timeout, total: timeout }
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    #[error("no connection after {} s", .0.as_secs_f64())]
    NoConnection(Duration),
    #[error("no byte for {} s", .0.as_secs_f64())]
    ReadTimeout(Duration),
    #[error("the response was not complete after {} s", .0.as_secs_f64())]
    TotalTimeout(Duration),
    #[error("the run was interrupted before the response was complete")]
    Interrupted,
    /// Nothing accepts connections at the address.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Other(String),
}

impl From<String> for GetError {
    fn from(text: String) -> GetError {
        GetError::Other(text)
    }
}

impl From<GetError> for String {
    fn from(error: GetError) -> String {
        error.to_string()
    }
}

/// Longest body accepted, bytes: lists of models and metrics pages are smaller by orders of magnitude.
const MAX_BODY_BYTES: usize = 16 << 20;

/// The kernel ends a wait up to one of its ticks early.
const TIMEOUT_GRAIN: Duration = Duration::from_millis(20);

/// Once the call is interrupted, a request may last this long from its start.
const INTERRUPTED_TOTAL: Duration = Duration::from_secs(1);
/// Period of the checks for an interrupt.
const CHECK_PERIOD: Duration = Duration::from_millis(50);

/// The stop flag of requests that an interrupt does not end.
static GO_ON: AtomicU8 = AtomicU8::new(0);

/// The timeouts, the start and the stop flag of one request.
#[derive(Clone, Copy)]
struct Limits<'a> {
    timeouts: GetTimeouts,
    start: Instant,
    stop: &'a AtomicU8,
}

impl<'a> Limits<'a> {
    fn begin(timeouts: GetTimeouts, stop: &'a AtomicU8) -> Limits<'a> {
        Limits { timeouts, start: Instant::now(), stop }
    }

    /// The time left, at most `timeout`.
    fn left(&self, timeout: Duration) -> Result<Duration, GetError> {
        let elapsed = self.start.elapsed();
        if self.stop.load(Ordering::Relaxed) != 0 && elapsed >= INTERRUPTED_TOTAL {
            return Err(GetError::Interrupted);
        }
        match self.timeouts.total.saturating_sub(elapsed) {
            Duration::ZERO => Err(GetError::TotalTimeout(self.timeouts.total)),
            left => Ok(left.min(timeout)),
        }
    }

    /// The time left for connecting, which began at `began`, at most [`CHECK_PERIOD`].
    fn left_to_connect(&self, began: Instant) -> Result<Duration, GetError> {
        let timeout = self.timeouts.connect.min(self.timeouts.total);
        match self.left(timeout.saturating_sub(began.elapsed())) {
            Ok(Duration::ZERO) | Err(GetError::TotalTimeout(_)) => Err(GetError::NoConnection(timeout)),
            left => left.map(|left| left.min(CHECK_PERIOD)),
        }
    }

    /// Converts an error of reading or writing. After a timeout, the error kind is `WouldBlock` on Linux.
    fn error(&self, error: &io::Error) -> GetError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => match self.left(Duration::MAX) {
                Ok(left) if left > TIMEOUT_GRAIN => GetError::ReadTimeout(self.timeouts.read),
                Err(GetError::Interrupted) => GetError::Interrupted,
                _ => GetError::TotalTimeout(self.timeouts.total),
            },
            _ => GetError::Other(error.to_string()),
        }
    }
}

/// Requests `path` from `target`'s server. `headers` are complete lines, each ended by CRLF; `tls` is required if the
/// target uses TLS.
pub fn get(
    target: &Target,
    path: &str,
    headers: &str,
    tls: Option<Arc<ClientConfig>>,
    timeouts: GetTimeouts,
) -> Result<Reply, GetError> {
    get_until(target, path, headers, tls, timeouts, &GO_ON)
}

/// Like [`get`]. Once `stop` is not 0, the request has to be complete a second after its start.
pub fn get_until(
    target: &Target,
    path: &str,
    headers: &str,
    tls: Option<Arc<ClientConfig>>,
    timeouts: GetTimeouts,
    stop: &AtomicU8,
) -> Result<Reply, GetError> {
    let limits = Limits::begin(timeouts, stop);
    let mut stream = connect(target, tls, limits)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: ringmark/{}\r\nAccept: */*\r\nConnection: close\r\n{headers}{}\r\n",
        target.request_target(path),
        target.authority,
        env!("CARGO_PKG_VERSION"),
        target.proxy_header()
    );
    let sent = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
    sent.map_err(|error| limits.error(&error))?;
    receive(&mut stream, limits)
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A socket whose calls end with the read timeout, with the time of the whole request, and after an interrupt, so that a
/// server that sends byte by byte, even within a TLS handshake, cannot hold the caller.
struct Timed<'a, S> {
    socket: S,
    limits: Limits<'a>,
    /// Sets the timeouts of the socket for reading and writing.
    set_timeout: fn(&S, Option<Duration>) -> io::Result<()>,
}

impl<S> Timed<'_, S> {
    /// Repeats a call with short timeouts until it succeeds or the read timeout is over.
    fn call(&mut self, mut call: impl FnMut(&mut S) -> io::Result<usize>) -> io::Result<usize> {
        let began = Instant::now();
        loop {
            let read_left = self.limits.timeouts.read.saturating_sub(began.elapsed());
            let left = self.limits.left(read_left).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            if left.is_zero() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            (self.set_timeout)(&self.socket, Some(left.min(CHECK_PERIOD)))?;
            match call(&mut self.socket) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                done => return done,
            }
        }
    }
}

impl<S: Read> Read for Timed<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.call(|socket| socket.read(buffer))
    }
}

impl<S: Write> Write for Timed<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.call(|socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

fn connect<'a>(
    target: &Target,
    tls: Option<Arc<ClientConfig>>,
    limits: Limits<'a>,
) -> Result<Box<dyn Stream + 'a>, GetError> {
    let addresses = match &target.transport {
        Transport::Tcp(addresses) => addresses,
        Transport::Unix(path) => return Ok(Box::new(connect_unix(path, limits)?)),
    };
    let mut last = GetError::Other("the target has no address".to_string());
    for address in addresses {
        match connect_tcp(address, limits) {
            Ok(mut stream) => {
                let Some(config) = tls else { return Ok(Box::new(stream)) };
                if let Some(request) = target.tunnel_request() {
                    open_tunnel(&mut stream, &request, limits)?;
                }
                let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
                let session = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
                return Ok(Box::new(StreamOwned::new(session, stream)));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_tcp<'a>(address: &SocketAddr, limits: Limits<'a>) -> Result<Timed<'a, TcpStream>, GetError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::TimedOut => GetError::NoConnection(limits.timeouts.connect),
        _ => connect_error(&error, format!("{address}: {error}")),
    };
    let Connecting { fd, pending } = socket::connect_tcp(*address, None).map_err(failed)?;
    let began = Instant::now();
    while pending && !wait_ready(&fd, PollFlags::OUT, limits.left_to_connect(began)?.as_nanos() as u64) {}
    let blocking = || -> io::Result<()> { Ok(rustix::io::ioctl_fionbio(&fd, false)?) };
    socket::take_error(&fd).and_then(|()| blocking()).map_err(failed)?;
    let set_timeout = |socket: &TcpStream, timeout| {
        socket.set_read_timeout(timeout)?;
        socket.set_write_timeout(timeout)
    };
    Ok(Timed { socket: TcpStream::from(fd), limits, set_timeout })
}

/// Connects to a Unix socket. A server that accepts no connections would block a plain `connect` without end.
fn connect_unix<'a>(path: &Path, limits: Limits<'a>) -> Result<Timed<'a, UnixStream>, GetError> {
    let connected = |timeout| -> rustix::io::Result<UnixStream> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(UnixStream::from(socket))
    };
    let began = Instant::now();
    let socket = loop {
        match connected(limits.left_to_connect(began)?) {
            Ok(socket) => break socket,
            Err(Errno::AGAIN) => {}
            Err(error) => {
                let error = io::Error::from(error);
                return Err(connect_error(&error, format!("{}: {error}", path.display())));
            }
        }
    };
    let set_timeout = |socket: &UnixStream, timeout| {
        socket.set_read_timeout(timeout)?;
        socket.set_write_timeout(timeout)
    };
    Ok(Timed { socket, limits, set_timeout })
}

/// The error of a connection attempt that is not a timeout.
fn connect_error(error: &io::Error, text: String) -> GetError {
    if is_refusal(error) { GetError::Refused(text) } else { GetError::Other(text) }
}

/// Whether nothing accepts connections at any address of the target.
pub(crate) fn refuses(target: &Target) -> bool {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let limits = Limits::begin(GetTimeouts::all(TIMEOUT), &GO_ON);
    match &target.transport {
        Transport::Unix(path) => matches!(connect_unix(path, limits), Err(GetError::Refused(_))),
        Transport::Tcp(addresses) => {
            addresses.iter().all(|address| matches!(connect_tcp(address, limits), Err(GetError::Refused(_))))
        }
    }
}

/// Requests a tunnel from the proxy and waits until it is open.
fn open_tunnel(stream: &mut impl Stream, request: &str, limits: Limits<'_>) -> Result<(), GetError> {
    let proxy_error = |error: io::Error| GetError::Other(format!("the proxy: {}", limits.error(&error)));
    stream.write_all(request.as_bytes()).map_err(proxy_error)?;
    let mut answer = TunnelAnswer::default();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Err("the proxy closed the connection without a response to CONNECT".to_string().into()),
            Ok(length) if answer.push(&buffer[..length])? => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(proxy_error(error)),
        }
    }
}

fn receive(stream: &mut dyn Stream, limits: Limits<'_>) -> Result<Reply, GetError> {
    let mut response = Response::new(false, MAX_BODY_BYTES);
    let mut body = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(length) => length,
            // Many servers close a TLS connection without close_notify. Whether the response is complete follows from
            // its framing.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(limits.error(&error)),
        };
        let mut keep = |piece: Piece<'_>| {
            if let Piece::Body(bytes) = piece {
                body.extend_from_slice(bytes);
            }
        };
        let complete = match length {
            0 if response.push_eof(&mut keep) != Eof::Complete => {
                return Err("the connection was closed before the end of the response".to_string().into());
            }
            0 => true,
            _ => {
                let progress = response.push(&buffer[..length], &mut keep).map_err(|error| error.to_string())?;
                matches!(progress, Progress::Complete { .. })
            }
        };
        if complete {
            return Ok(Reply { status: response.head().status, body });
        }
        if body.len() > MAX_BODY_BYTES {
            return Err(format!("the response is longer than {} MiB", MAX_BODY_BYTES >> 20).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::thread;

    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(60);

    fn target(transport: Transport) -> Target {
        Target {
            url: String::new(),
            transport,
            authority: "localhost".to_string(),
            host: "localhost".to_string(),
            port: 0,
            path: String::new(),
            tls: None,
            proxy: None,
            mock: None,
        }
    }

    /// The result of a request to a server that writes with `write` after it has read something.
    fn get_from(
        write: impl FnOnce(&mut TcpStream) + Send + 'static,
        tls: bool,
        timeouts: GetTimeouts,
    ) -> Result<Reply, GetError> {
        get_from_until(write, tls, timeouts, &GO_ON)
    }

    fn get_from_until(
        write: impl FnOnce(&mut TcpStream) + Send + 'static,
        tls: bool,
        timeouts: GetTimeouts,
        stop: &AtomicU8,
    ) -> Result<Reply, GetError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            write(&mut stream);
        });
        let target = target(Transport::Tcp(vec![address]));
        let config = ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
        let config = tls.then(|| Arc::new(config.with_no_client_auth()));
        let reply = get_until(&target, "/metrics", "", config, timeouts, stop);
        server.join().unwrap();
        reply
    }

    /// Writes bytes one by one until the client has gone.
    fn drip(head: &'static [u8]) -> impl FnOnce(&mut TcpStream) + Send {
        move |stream| {
            let _ = stream.write_all(head);
            while stream.write_all(b"a").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    #[test]
    fn a_response_that_drips_ends_with_the_total_timeout() {
        let timeouts = GetTimeouts { connect: LONG, read: LONG, total: SHORT };
        for head in [&b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\nx"] {
            assert_eq!(get_from(drip(head), false, timeouts), Err(GetError::TotalTimeout(SHORT)));
        }
        // A handshake record of 16 KiB.
        assert_eq!(get_from(drip(b"\x16\x03\x03\x40\x00"), true, timeouts), Err(GetError::TotalTimeout(SHORT)));
    }

    #[test]
    fn an_interrupt_ends_requests_but_not_those_that_are_quick() {
        let stop = AtomicU8::new(1);
        let long = GetTimeouts::all(LONG);
        let silent = |stream: &mut TcpStream| drop(stream.read(&mut [0; 16]));
        assert_eq!(get_from_until(drip(b"HTTP/1.1 200 OK\r\nx"), false, long, &stop), Err(GetError::Interrupted));
        assert_eq!(get_from_until(silent, true, long, &stop), Err(GetError::Interrupted));
        let quick = |stream: &mut TcpStream| drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(get_from_until(quick, false, long, &stop).map(|reply| reply.status), Ok(200));
    }

    #[test]
    fn silence_ends_with_the_read_timeout() {
        let timeouts = GetTimeouts { connect: LONG, read: SHORT, total: LONG };
        let silent = |stream: &mut TcpStream| drop(stream.read(&mut [0; 16]));
        assert_eq!(get_from(silent, false, timeouts), Err(GetError::ReadTimeout(SHORT)));
    }

    #[test]
    fn an_endless_body_is_an_error() {
        let endless = |stream: &mut TcpStream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[b'a'; 65536]).is_ok() {}
        };
        let error = get_from(endless, false, GetTimeouts::all(LONG)).unwrap_err();
        assert!(error.to_string().contains("longer than 16 MiB"), "{error}");
    }

    #[test]
    fn a_unix_socket_that_accepts_nothing_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let target = target(Transport::Unix(path.clone()));
        // Connections that fill the queue of the listener, until one does not fit.
        let timeouts = GetTimeouts::all(SHORT);
        let limits = || Limits::begin(timeouts, &GO_ON);
        let mut waiting = Vec::new();
        while let Ok(stream) = connect_unix(&path, limits()) {
            waiting.push(stream);
        }
        let error = get(&target, "/metrics", "", None, timeouts).unwrap_err();
        assert!(matches!(error, GetError::NoConnection(_)), "{error}");
    }
}
