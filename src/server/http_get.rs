//! A blocking GET request to the server under test, over the transport of the load. Not used by workers.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::net::socket::is_refusal;
use crate::plan::{Target, Transport};
use crate::protocol::response::{Eof, Piece, Progress, Response};
use crate::protocol::tunnel::TunnelAnswer;

/// A response: status and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Connect and read timeouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetTimeouts {
    pub connect: Duration,
    /// Longest time without a byte.
    pub read: Duration,
}

impl GetTimeouts {
    /// The same timeout for both.
    pub fn both(timeout: Duration) -> GetTimeouts {
        GetTimeouts { connect: timeout, read: timeout }
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    #[error("no connection after {} s", .0.as_secs_f64())]
    NoConnection(Duration),
    #[error("no byte for {} s", .0.as_secs_f64())]
    ReadTimeout(Duration),
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

/// Longest body accepted, bytes.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Requests `path` from `target`'s server. `headers` are complete lines, each ended by CRLF; `tls` is required if the
/// target uses TLS.
pub fn get(
    target: &Target,
    path: &str,
    headers: &str,
    tls: Option<Arc<ClientConfig>>,
    timeouts: GetTimeouts,
) -> Result<Reply, GetError> {
    let mut stream = connect(target, tls, timeouts)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: ringmark/{}\r\nAccept: */*\r\nConnection: close\r\n{headers}{}\r\n",
        target.request_target(path),
        target.authority,
        env!("CARGO_PKG_VERSION"),
        target.proxy_header()
    );
    let sent = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
    sent.map_err(|error| io_error(&error, timeouts))?;
    receive(&mut stream, timeouts)
}

/// Converts an error of reading or writing. After a read timeout, the error kind is `WouldBlock` on Linux.
fn io_error(error: &io::Error, timeouts: GetTimeouts) -> GetError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => GetError::ReadTimeout(timeouts.read),
        _ => GetError::Other(error.to_string()),
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn connect(
    target: &Target,
    tls: Option<Arc<ClientConfig>>,
    timeouts: GetTimeouts,
) -> Result<Box<dyn Stream>, GetError> {
    let addresses = match &target.transport {
        Transport::Tcp(addresses) => addresses,
        Transport::Unix(path) => {
            let stream = UnixStream::connect(path)
                .map_err(|error| connect_error(&error, format!("{}: {error}", path.display())))?;
            stream.set_read_timeout(Some(timeouts.read)).map_err(|error| error.to_string())?;
            return Ok(Box::new(stream));
        }
    };
    let mut last = GetError::Other("the target has no address".to_string());
    for address in addresses {
        match TcpStream::connect_timeout(address, timeouts.connect) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(timeouts.read)).map_err(|error| error.to_string())?;
                let Some(config) = tls else { return Ok(Box::new(stream)) };
                if let Some(request) = target.tunnel_request() {
                    open_tunnel(&mut stream, &request, timeouts)?;
                }
                let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
                let session = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
                return Ok(Box::new(StreamOwned::new(session, stream)));
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => last = GetError::NoConnection(timeouts.connect),
            Err(error) => last = connect_error(&error, format!("{address}: {error}")),
        }
    }
    Err(last)
}

fn connect_error(error: &io::Error, text: String) -> GetError {
    if is_refusal(error) { GetError::Refused(text) } else { GetError::Other(text) }
}

/// Whether nothing accepts connections at any address of the target.
pub(crate) fn refuses(target: &Target) -> bool {
    const TIMEOUT: Duration = Duration::from_secs(2);
    match &target.transport {
        Transport::Unix(path) => UnixStream::connect(path).is_err_and(|error| is_refusal(&error)),
        Transport::Tcp(addresses) => addresses
            .iter()
            .all(|address| TcpStream::connect_timeout(address, TIMEOUT).is_err_and(|error| is_refusal(&error))),
    }
}

/// Requests a tunnel from the proxy and waits until it is open.
fn open_tunnel(stream: &mut TcpStream, request: &str, timeouts: GetTimeouts) -> Result<(), GetError> {
    let proxy_error = |error: io::Error| GetError::Other(format!("the proxy: {}", io_error(&error, timeouts)));
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

fn receive(stream: &mut dyn Stream, timeouts: GetTimeouts) -> Result<Reply, GetError> {
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
            Err(error) => return Err(io_error(&error, timeouts)),
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
            return Err("the response is longer than 64 MiB".to_string().into());
        }
    }
}
