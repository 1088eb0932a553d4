//! One blocking GET to the server under test, over whatever transport the load uses. Never used while measuring.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::plan::{Target, Transport};
use crate::protocol::response::{Eof, Piece, Progress, Response};
use crate::protocol::tunnel::TunnelAnswer;

/// A reply: its status and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

/// How long each step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Until there is a connection.
    pub connect: Duration,
    /// Longest silence.
    pub read: Duration,
}

impl Waits {
    /// The same for both.
    pub fn of(each: Duration) -> Waits {
        Waits { connect: each, read: each }
    }
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    #[error("no connection after {} s", .0.as_secs_f64())]
    NoConnection(Duration),
    #[error("no byte for {} s", .0.as_secs_f64())]
    Silence(Duration),
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

/// Longest body read.
const MAX_BODY: usize = 64 << 20;

/// Asks `target`'s server for `path`. `headers` are whole lines, each ended by CRLF; `tls` is needed where the target
/// has TLS.
pub fn get(
    target: &Target,
    path: &str,
    headers: &str,
    tls: Option<Arc<ClientConfig>>,
    waits: Waits,
) -> Result<Reply, GetError> {
    let mut stream = connect(target, tls, waits)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: ringmark/{}\r\nAccept: */*\r\nConnection: close\r\n{headers}{}\r\n",
        target.in_request_line(path),
        target.authority,
        env!("CARGO_PKG_VERSION"),
        target.proxy_header()
    );
    let sent = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
    sent.map_err(|error| trouble(&error, waits))?;
    receive(&mut stream, waits)
}

/// A socket that stays silent past its limit says so in the words of a socket that would block.
fn trouble(error: &io::Error, waits: Waits) -> GetError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => GetError::Silence(waits.read),
        _ => GetError::Other(error.to_string()),
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn connect(target: &Target, tls: Option<Arc<ClientConfig>>, waits: Waits) -> Result<Box<dyn Stream>, GetError> {
    let addresses = match &target.transport {
        Transport::Tcp(addresses) => addresses,
        Transport::Unix(path) => {
            let stream = UnixStream::connect(path).map_err(|error| format!("{}: {error}", path.display()))?;
            stream.set_read_timeout(Some(waits.read)).map_err(|error| error.to_string())?;
            return Ok(Box::new(stream));
        }
    };
    let mut last = GetError::Other("the target has no address".to_string());
    for address in addresses {
        match TcpStream::connect_timeout(address, waits.connect) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(waits.read)).map_err(|error| error.to_string())?;
                let Some(config) = tls else { return Ok(Box::new(stream)) };
                if let Some(request) = target.tunnel_request() {
                    open_tunnel(&mut stream, &request, waits)?;
                }
                let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
                let session = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
                return Ok(Box::new(StreamOwned::new(session, stream)));
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => last = GetError::NoConnection(waits.connect),
            Err(error) => last = GetError::Other(format!("{address}: {error}")),
        }
    }
    Err(last)
}

/// Asks the proxy at the other end for a tunnel, and waits for it.
fn open_tunnel(stream: &mut TcpStream, request: &str, waits: Waits) -> Result<(), GetError> {
    let trouble = |error: io::Error| GetError::Other(format!("the proxy: {}", trouble(&error, waits)));
    stream.write_all(request.as_bytes()).map_err(trouble)?;
    let mut answer = TunnelAnswer::default();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Err("the proxy closed the connection without a response to CONNECT".to_string().into()),
            Ok(length) if answer.push(&buffer[..length])? => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(trouble(error)),
        }
    }
}

fn receive(stream: &mut dyn Stream, waits: Waits) -> Result<Reply, GetError> {
    let mut response = Response::new(false, MAX_BODY);
    let mut body = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(length) => length,
            // Many servers end a TLS connection without saying goodbye; the framing tells whether all is there.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(trouble(&error, waits)),
        };
        let mut keep = |piece: Piece<'_>| {
            if let Piece::Body(bytes) = piece {
                body.extend_from_slice(bytes);
            }
        };
        let complete = match length {
            0 if response.push_eof(&mut keep) != Eof::Complete => {
                return Err("the reply was cut short".to_string().into());
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
        if body.len() > MAX_BODY {
            return Err("the reply is too long".to_string().into());
        }
    }
}
