//! TCP: shard 0 listens, the others connect, and all messages go through shard 0.
//!
//! Every message is signed with the job token, see [`super::frame`]. Shard 0 listens on one address only, and only until all
//! shards have come. A connection that does not have the token is closed and does not count.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts, not for measurements")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use serde::{Deserialize, Serialize};

use super::frame::{Direction, Frames, NONCE, connection_key};
use super::messages::{Fence, failure, gathered, message};
use super::random::random_bytes;
use super::{RendezvousError, Wait, list, resolve};
use crate::record::share::Share;

/// The first bytes of a connection.
const MAGIC: &[u8; 8] = b"rmrkrdv1";
/// How long one step of a greeting, or one write, may take.
const STEP_LIMIT: Duration = Duration::from_secs(5);
/// How much longer than shard 0 the others wait.
const VERDICT: Duration = Duration::from_secs(5);
/// The pause between two attempts to reach shard 0.
const RETRY: Duration = Duration::from_millis(100);
/// Connections that may be greeted at the same time, beside those of all shards.
const MOST_GREETED: usize = 32;
/// Messages of one connection that may wait to be read.
const MOST_WAITING: usize = 16;

/// The first message of a shard.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Hello {
    share: Share,
}

pub(super) enum Tcp {
    First(First),
    Other(Connection),
}

/// Shard 0, with the connections of all others in the order of their numbers.
pub(super) struct First {
    others: Vec<Connection>,
    /// Where it listened.
    address: SocketAddr,
}

/// A connection that has proved its token, read by a thread of its own.
pub(super) struct Connection {
    stream: TcpStream,
    out: Frames,
    messages: Receiver<Result<Vec<u8>, String>>,
}

impl Tcp {
    /// `listen`: where shard 0 listens, if not at the address of the rendezvous.
    pub(super) fn open(
        (host, port): (&str, u16),
        listen: Option<(&str, u16)>,
        token: &[u8],
        share: Share,
        wait: &Wait<'_>,
    ) -> Result<Tcp, RendezvousError> {
        let place = format!("--rendezvous tcp:{host}:{port}");
        if !share.is_first() {
            return connect((host, port), &place, token, share, wait).map(Tcp::Other);
        }
        let cannot = |what: &str, error: io::Error| RendezvousError::new(format!("{place}: cannot {what}: {error}"));
        let (host, port) = listen.unwrap_or((host, port));
        let address = resolve(host, port).map_err(|error| cannot(&format!("resolve {host}"), error))?;
        let listener = TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| {
                let hint = "--shard-address names the address of shard 0 on its machine";
                cannot(&format!("listen at {address}, as shard 0 does ({hint})"), error)
            })?;
        admit(&listener, &place, token, share, wait).map(|others| Tcp::First(First { others, address }))
    }

    /// The address of shard 0: where it listened, or what this shard is connected to.
    pub(super) fn first_address(&self) -> io::Result<SocketAddr> {
        match self {
            Tcp::First(first) => Ok(first.address),
            Tcp::Other(connection) => connection.stream.peer_addr(),
        }
    }

    pub(super) fn all_gather(&mut self, own: &[u8], wait: &Wait<'_>) -> Result<Vec<Vec<u8>>, RendezvousError> {
        match self {
            Tcp::First(first) => first.all_gather(own, wait),
            Tcp::Other(connection) => {
                let gone = |what: String| RendezvousError::new(format!("shard 0 {what}"));
                // Shard 0 names the shard that is missing, at the end of its own wait.
                let wait = &wait.longer_by(VERDICT);
                // If shard 0 has ended, it may have sent why.
                let _ = connection.write(own);
                let first = connection.next(wait)?.map_err(|_| gone("has ended, or was killed".to_string()))?;
                let Some(first) = first else { return Err(gone(missing(wait))) };
                // The number of messages comes first.
                let count = String::from_utf8_lossy(&first).parse::<u32>().unwrap_or(0);
                let mut all = Vec::new();
                for _ in 0..count {
                    let message = connection.next(wait)?.map_err(|_| gone("has ended, or was killed".to_string()))?;
                    all.push(message.ok_or_else(|| gone(missing(wait)))?);
                }
                Ok(all)
            }
        }
    }

    /// Sends a last message.
    pub(super) fn send(&mut self, own: &[u8]) {
        match self {
            Tcp::First(first) => {
                let mut all = vec![Vec::new(); first.others.len() + 1];
                all[0] = own.to_vec();
                first.broadcast(&all);
            }
            // It fails only if shard 0 has ended.
            Tcp::Other(connection) => drop(connection.write(own)),
        }
    }
}

impl First {
    fn all_gather(&mut self, own: &[u8], wait: &Wait<'_>) -> Result<Vec<Vec<u8>>, RendezvousError> {
        let mut all = vec![own.to_vec()];
        all.resize(self.others.len() + 1, Vec::new());
        let mut open: Vec<usize> = (0..self.others.len()).collect();
        while !open.is_empty() {
            let mut failed = false;
            for place in std::mem::take(&mut open) {
                match self.others[place].messages.try_recv() {
                    Ok(Ok(message)) => {
                        failed |= gathered::<serde_json::Value>(std::slice::from_ref(&message)).is_err();
                        all[place + 1] = message;
                    }
                    Ok(Err(_)) | Err(crossbeam_channel::TryRecvError::Disconnected) => {
                        all[place + 1] = failure("it has ended, or was killed");
                        failed = true;
                    }
                    Err(crossbeam_channel::TryRecvError::Empty) => open.push(place),
                }
            }
            if failed || open.is_empty() {
                break;
            }
            match wait.step() {
                Ok(Some(_)) => thread::sleep(Duration::from_millis(1)),
                Ok(None) => {
                    open.iter().for_each(|place| all[place + 1] = failure(&format!("it {}", missing(wait))));
                    break;
                }
                Err(error) => {
                    all[0] = failure("it was interrupted");
                    self.broadcast(&all);
                    return Err(error);
                }
            }
        }
        self.broadcast(&all);
        Ok(all)
    }

    /// Sends all messages to all shards. Those that cannot be reached have ended.
    fn broadcast(&mut self, all: &[Vec<u8>]) {
        for other in &mut self.others {
            let count = all.len().to_string();
            let mut frames = [count.as_bytes()].into_iter().chain(all.iter().map(Vec::as_slice));
            let _ = frames.try_for_each(|frame| other.write(frame));
        }
    }
}

impl Connection {
    fn new(stream: TcpStream, out: Frames, mut inward: Frames) -> io::Result<Connection> {
        stream.set_read_timeout(None)?;
        let (sender, messages) = bounded(MOST_WAITING);
        let mut reading = stream.try_clone()?;
        thread::Builder::new().name("rendezvous".to_string()).spawn(move || {
            loop {
                let message = inward.read(&mut reading).map_err(|error| error.to_string());
                let ended = message.is_err();
                if sender.send(message).is_err() || ended {
                    return;
                }
            }
        })?;
        Ok(Connection { stream, out, messages })
    }

    fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        self.out.write(&mut self.stream, payload)
    }

    /// The next message; `None` after the deadline, an inner error if the connection has ended.
    fn next(&self, wait: &Wait<'_>) -> Result<Result<Option<Vec<u8>>, String>, RendezvousError> {
        loop {
            let Some(step) = wait.step()? else { return Ok(Ok(None)) };
            match self.messages.recv_timeout(step) {
                Ok(message) => return Ok(message.map(Some)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Err("it has ended".to_string())),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The thread that reads ends with it. What was written is still sent.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn missing(wait: &Wait<'_>) -> String {
    format!("did not answer within {:.0} s (--rendezvous-timeout)", wait.timeout.as_secs_f64())
}

/// A connection whose other side has proved its token.
struct Greeted {
    hello: Hello,
    connection: Connection,
}

/// Shard 0: waits for all others.
fn admit(
    listener: &TcpListener,
    place: &str,
    token: &[u8],
    share: Share,
    wait: &Wait<'_>,
) -> Result<Vec<Connection>, RendezvousError> {
    let (greeted, joins) = unbounded();
    let being_greeted = Arc::new(AtomicUsize::new(0));
    let mut strangers = 0u64;
    let mut others: Vec<Option<Connection>> = (1..share.count()).map(|_| None).collect();
    while others.iter().any(Option::is_none) {
        accept(listener, token, &being_greeted, share, &greeted);
        let refusal = match joins.recv_timeout(Duration::from_millis(5)) {
            Ok(Ok(Greeted { hello, connection })) => match join(&mut others, share, hello, connection) {
                Ok(()) => None,
                Err((refused, text)) => {
                    others.push(Some(*refused));
                    Some(RendezvousError::new(text))
                }
            },
            Ok(Err(())) => {
                strangers += 1;
                None
            }
            Err(_) => None,
        };
        let refusal = refusal.or(match wait.step() {
            Ok(Some(_)) => None,
            Ok(None) => {
                let missing: Vec<u32> = (1..share.count())
                    .zip(&others)
                    .filter(|(_, other)| other.is_none())
                    .map(|(index, _)| index)
                    .collect();
                let strangers = match strangers {
                    0 => String::new(),
                    count => format!("; {count} connections to {place} did not have the token of RINGMARK_JOB_TOKEN"),
                };
                Some(RendezvousError::new(format!(
                    "shard {} did not come to the rendezvous within {:.0} s (--rendezvous-timeout){strangers}",
                    list(&missing),
                    wait.timeout.as_secs_f64()
                )))
            }
            Err(error) => Some(error),
        });
        if let Some(error) = refusal {
            let refused = failure(&error.to_string());
            others.iter_mut().flatten().for_each(|other| drop(other.write(&refused)));
            return Err(error);
        }
    }
    let mut others: Vec<Connection> = others.into_iter().flatten().collect();
    // Those that cannot be reached any more are noticed when their first message is missing.
    others.iter_mut().for_each(|other| drop(other.write(&message(&Fence {}, 0))));
    Ok(others)
}

/// Accepts the connections that are waiting, and greets each on a thread of its own.
fn accept(
    listener: &TcpListener,
    token: &[u8],
    being_greeted: &Arc<AtomicUsize>,
    share: Share,
    greeted: &Sender<Result<Greeted, ()>>,
) {
    while being_greeted.load(Ordering::Relaxed) < MOST_GREETED + share.count() as usize {
        let Ok((stream, _)) = listener.accept() else { return };
        being_greeted.fetch_add(1, Ordering::Relaxed);
        let (token, greeted, counter) = (token.to_vec(), greeted.clone(), being_greeted.clone());
        let greet = move || {
            // The receiver is gone when all shards have come.
            let _ = greeted.send(greet(stream, &token).map_err(|_| ()));
            counter.fetch_sub(1, Ordering::Relaxed);
        };
        if thread::Builder::new().name("rendezvous".to_string()).spawn(greet).is_err() {
            being_greeted.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A connection that is read until a point in time, however slowly the bytes come.
struct Limited {
    stream: TcpStream,
    until: Instant,
}

impl Read for Limited {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(bytes)
    }
}

/// Takes the greeting of a shard.
fn greet(mut stream: TcpStream, token: &[u8]) -> io::Result<Greeted> {
    stream.set_nonblocking(false)?;
    limit(&stream)?;
    let mut limited = Limited { stream: stream.try_clone()?, until: Instant::now() + STEP_LIMIT };
    let mut opening = [0; MAGIC.len() + NONCE];
    limited.read_exact(&mut opening)?;
    let (magic, nonce) = opening.split_at(MAGIC.len());
    let nonce: [u8; NONCE] = nonce.try_into().map_err(io::Error::other)?;
    if magic != MAGIC {
        return Err(io::Error::other("it is no shard"));
    }
    let own: [u8; NONCE] = random_bytes()?;
    stream.write_all(&own)?;
    let key = connection_key(token, &nonce, &own);
    let mut inward = Frames::new(key.clone(), Direction::ToFirst);
    let hello = serde_json::from_slice(&inward.read(&mut limited)?)?;
    let connection = Connection::new(stream, Frames::new(key, Direction::FromFirst), inward)?;
    Ok(Greeted { hello, connection })
}

/// Puts a connection in its place; an error with the reason if there is none for it.
fn join(
    others: &mut [Option<Connection>],
    share: Share,
    hello: Hello,
    connection: Connection,
) -> Result<(), (Box<Connection>, String)> {
    let (index, count) = (hello.share.index(), hello.share.count());
    if count != share.count() {
        let text = format!("shard {index} was started with {count} shards, and shard 0 with {}", share.count());
        return Err((Box::new(connection), text));
    }
    match index.checked_sub(1).and_then(|place| others.get_mut(place as usize)) {
        Some(place @ None) => {
            *place = Some(connection);
            Ok(())
        }
        _ => Err((Box::new(connection), format!("two processes are shard {index}: start each number once"))),
    }
}

/// Other shards: connects to shard 0, which may not have started yet.
fn connect(
    (host, port): (&str, u16),
    place: &str,
    token: &[u8],
    share: Share,
    wait: &Wait<'_>,
) -> Result<Connection, RendezvousError> {
    let stream = loop {
        let attempt = resolve(host, port).and_then(|address| TcpStream::connect_timeout(&address, STEP_LIMIT));
        let error = match attempt {
            Ok(stream) => break stream,
            Err(error) => error,
        };
        if wait.step()?.is_none() {
            return Err(RendezvousError::new(format!(
                "shard 0 did not come to {place} within {:.0} s, or it has all its shards already: two processes may be shard {} \
                 ({error})",
                wait.timeout.as_secs_f64(),
                share.index()
            )));
        }
        thread::sleep(RETRY);
    };
    let refused = |what: &str| {
        RendezvousError::new(format!(
            "{place}: {what}: check that RINGMARK_JOB_TOKEN is the same for all shards, and the port free"
        ))
    };
    let connection =
        introduce(stream, token, share).map_err(|error| refused(&format!("shard 0 does not answer ({error})")))?;
    match connection.next(wait)? {
        Ok(Some(welcome)) => match gathered::<Fence>(std::slice::from_ref(&welcome)) {
            Ok(_) => Ok(connection),
            Err(text) => Err(RendezvousError::new(text)),
        },
        Ok(None) => Err(RendezvousError::new(format!("shard 0 {}", missing(wait)))),
        Err(_) => Err(refused("shard 0 closed the connection")),
    }
}

fn introduce(mut stream: TcpStream, token: &[u8], share: Share) -> io::Result<Connection> {
    limit(&stream)?;
    let own: [u8; NONCE] = random_bytes()?;
    stream.write_all(&[&MAGIC[..], &own].concat())?;
    let mut nonce = [0; NONCE];
    stream.read_exact(&mut nonce)?;
    let key = connection_key(token, &own, &nonce);
    let mut out = Frames::new(key.clone(), Direction::ToFirst);
    out.write(&mut stream, &serde_json::to_vec(&Hello { share })?)?;
    Connection::new(stream, out, Frames::new(key, Direction::FromFirst))
}

/// No step of a greeting, and no write, takes longer than this.
fn limit(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STEP_LIMIT))?;
    stream.set_write_timeout(Some(STEP_LIMIT))
}
