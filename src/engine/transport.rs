//! Opens connections and writes requests to them.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;

use super::connections::ConnectionState;
use super::preflight_progress::PreflightStep;
#[cfg(feature = "internals")]
use super::receive::ReceivePath;
use super::socket::{Opening, Socket};
use super::worker_state::{Wait, Worker, WorkerState};
use crate::net::local_address::start_tcp;
use crate::net::socket::{connect_unix, is_refusal};
use crate::net::tls::Tls;
use crate::plan::{Target, Transport};
use crate::record::Failure;
use crate::time::{S, Tick};

/// A connection that was just opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenedConnection {
    pub connection_id: u32,
    /// When it was ready, TLS included.
    pub at: Tick,
    pub tls_handshake_ns: Option<u64>,
}

/// Why no connection could be opened.
#[derive(Clone, Debug)]
pub struct ConnectError {
    pub failure: Failure,
    pub text: String,
    /// The server refused the connection, or its socket does not exist.
    pub refused: bool,
}

impl ConnectError {
    fn new(failure: Failure, text: impl Into<String>) -> ConnectError {
        ConnectError { failure, text: text.into(), refused: false }
    }
}

/// How long an address has to answer before the next one is tried, if the target has several.
const ADDRESS_NS: u64 = S;

/// Opens a connection for `slot`.
pub async fn open(worker: &Worker, slot: u32) -> Result<OpenedConnection, ConnectError> {
    worker.state.borrow_mut().urgent_waits += 1;
    let opened = open_in_time(worker, slot).await;
    worker.state.borrow_mut().urgent_waits -= 1;
    opened
}

async fn open_in_time(worker: &Worker, slot: u32) -> Result<OpenedConnection, ConnectError> {
    let plan = &worker.setup.plan;
    let began = worker.now();
    let deadline = began.plus_ns(plan.timeouts.connect_ns);
    worker.wait(slot, Wait::Connect(deadline));
    worker.set_preflight_step(PreflightStep::Connection);
    let socket = match &plan.target.transport {
        Transport::Tcp(addresses) => connect_any(worker, slot, addresses, deadline).await,
        Transport::Unix(path) => match connect_unix(path) {
            Ok(connecting) => finish_connecting(worker, slot, connecting.into()).await,
            Err(error) => Err(refused(&error, &path.display().to_string())),
        },
    };
    let connected = worker.now();
    match &socket {
        Ok(_) => worker.setup.server.accepted(),
        Err(error) if error.refused => worker.setup.server.refused(connected),
        Err(_) => {}
    }
    let socket = socket?;
    let opened = add(worker, slot, socket, connected).await;
    worker.wait(slot, Wait::Nothing);
    if let Ok(opened) = &opened {
        let connect_ns = connected.ns_since(began).max(0) as u64;
        worker.state.borrow_mut().connections.entries[opened.connection_id as usize].connect_ns = connect_ns;
    }
    opened
}

/// Connects to an address of the target: with rotation, to the next one; otherwise to the first that answers, beginning
/// with the one that answered last. Only a target of which no address had answered before the run has several without
/// rotation; then all but the last have [`ADDRESS_NS`] each, so that one that is silent does not use up the timeout.
async fn connect_any(
    worker: &Worker,
    slot: u32,
    addresses: &[SocketAddr],
    deadline: Tick,
) -> Result<Socket, ConnectError> {
    let setup = &worker.setup;
    let mut last_error = ConnectError::new(Failure::Connect, "the target has no address");
    let count = addresses.len();
    let (first, tries) = match setup.plan.address_rotation {
        true => (setup.next_address.fetch_add(1, Ordering::Relaxed), 1),
        false => (setup.next_address.load(Ordering::Relaxed), count),
    };
    for nth in 0..tries.min(count) {
        let place = (first + nth) % count;
        if nth + 1 < tries {
            worker.wait(slot, Wait::Connect(worker.now().plus_ns(ADDRESS_NS).min(deadline)));
        } else if nth > 0 {
            worker.wait(slot, Wait::Connect(deadline));
        }
        let address = addresses[place];
        let connected = match start_connecting(worker, address) {
            Ok(opening) => finish_connecting(worker, slot, opening).await,
            Err(error) => Err(refused(&error, &address.to_string())),
        };
        match connected {
            Ok(socket) => {
                if tries > 1 {
                    setup.next_address.store(place, Ordering::Relaxed);
                    worker.wait(slot, Wait::Connect(deadline));
                }
                return Ok(socket);
            }
            Err(error) => last_error = error,
        }
        if worker.now() >= deadline || worker.state.borrow().phase.killed {
            break;
        }
    }
    Err(last_error)
}

fn start_connecting(worker: &Worker, address: SocketAddr) -> io::Result<Opening> {
    #[cfg(feature = "internals")]
    match &mut worker.state.borrow_mut().receive {
        ReceivePath::Simulated(ring) => return ring.kernel().0.connect(address),
        ReceivePath::SimulatedEpoll(epoll) => return epoll.kernel().0.connect(address),
        ReceivePath::Ring(_) | ReceivePath::Epoll(_) => {}
    }
    Ok(start_tcp(&worker.setup.plan.source_addresses, &worker.setup.connections_opened, address)?.into())
}

async fn finish_connecting(worker: &Worker, slot: u32, opening: Opening) -> Result<Socket, ConnectError> {
    if opening.pending && !wait_for_connect(worker, slot, &opening.socket).await {
        let seconds = worker.setup.plan.timeouts.connect_ns as f64 / S as f64;
        let text = format!("no connection after {seconds} s (--connect-timeout)");
        return Err(ConnectError::new(Failure::ConnectTimeout, text));
    }
    match opening.socket.take_error() {
        Ok(()) => Ok(opening.socket),
        Err(error) => Err(refused(&error, &peer(&worker.setup.plan.target))),
    }
}

/// The name of the peer: the proxy if there is one, else the server.
fn peer(target: &Target) -> String {
    match &target.proxy {
        Some(proxy) => format!("the proxy {}", proxy.authority()),
        None => target.authority.clone(),
    }
}

fn refused(error: &io::Error, to: &str) -> ConnectError {
    let hint = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => " (raise the limit on open files: ulimit -n)",
        Some(libc::EADDRNOTAVAIL) => " (no free local port: give more addresses with --source-address)",
        _ => "",
    };
    ConnectError { refused: is_refusal(error), ..ConnectError::new(Failure::Connect, format!("{to}: {error}{hint}")) }
}

/// Adds the socket to the worker's connections, and performs the TLS handshake if the plan uses TLS.
async fn add(worker: &Worker, slot: u32, socket: Socket, connected: Tick) -> Result<OpenedConnection, ConnectError> {
    let failed = |failure: Failure, text: String| ConnectError::new(failure, text);
    let Some(config) = worker.setup.tls.clone() else {
        let state = &mut *worker.state.borrow_mut();
        let connection_id = state
            .connections
            .add(socket, ConnectionState::Idle, &mut state.receive)
            .map_err(|error| not_watched(&mut state.error, error))?;
        return Ok(OpenedConnection { connection_id, at: connected, tls_handshake_ns: None });
    };
    let mut tls = Tls::new(config, &worker.setup.plan.target.host).map_err(|text| failed(Failure::Tls, text))?;
    match worker.setup.plan.target.tunnel_request() {
        Some(request) => {
            worker.set_preflight_step(PreflightStep::Tunnel);
            tls = tls.behind_proxy(request);
        }
        None => {
            worker.set_preflight_step(PreflightStep::TlsHandshake);
            tls.encrypt(&[]).map_err(|text| failed(Failure::Tls, text))?;
        }
    }
    let connection_id = {
        let state = &mut *worker.state.borrow_mut();
        let added = state.connections.add(socket, ConnectionState::Handshake { slot }, &mut state.receive);
        let connection_id = added.map_err(|error| not_watched(&mut state.error, error))?;
        let connection = &mut state.connections.entries[connection_id as usize];
        connection.answer.start();
        connection.tls = Some(Box::new(tls));
        connection_id
    };
    if let Err(error) = handshake(worker, slot, connection_id).await {
        worker.close(connection_id);
        return Err(error);
    }
    let at = worker.now();
    let tls = &worker.state.borrow().connections.entries[connection_id as usize].tls;
    // Opening the tunnel through a proxy counts as connecting, not as the handshake.
    let began = tls.as_ref().and_then(|tls| tls.tunnel_open()).unwrap_or(connected);
    Ok(OpenedConnection { connection_id, at, tls_handshake_ns: Some((at.ns_since(began)).max(0) as u64) })
}

/// The error of a socket that the receive path cannot watch, which is not the server's: it ends the run.
fn not_watched(run_error: &mut Option<io::Error>, error: io::Error) -> ConnectError {
    let text = error.to_string();
    *run_error = Some(error);
    ConnectError::new(Failure::Connect, text)
}

/// Sends the queued bytes of the session and waits for the peer, until the handshake is complete.
async fn handshake(worker: &Worker, slot: u32, connection_id: u32) -> Result<(), ConnectError> {
    loop {
        let sent = flush_tls(worker, slot, connection_id).await;
        sent.map_err(|error| ConnectError::new(Failure::Tls, error.to_string()))?;
        if handshake_done(worker, slot, connection_id).await? {
            return Ok(());
        }
    }
}

/// Waits for the end of the handshake; false when the session has more to send first.
async fn handshake_done(worker: &Worker, slot: u32, connection_id: u32) -> Result<bool, ConnectError> {
    poll_fn(|context| {
        let state = &mut *worker.state.borrow_mut();
        let connection = &state.connections.entries[connection_id as usize];
        if matches!(connection.state, ConnectionState::Finished { .. }) {
            let text = connection.answer.seen.error.clone();
            let failure = if connection.awaits_tunnel() { Failure::Connect } else { Failure::Tls };
            return Poll::Ready(Err(ConnectError::new(failure, text)));
        }
        let (over, more) =
            connection.tls.as_ref().map_or((true, false), |tls| (!tls.is_handshaking(), tls.has_outgoing()));
        if over && !more {
            return Poll::Ready(Ok(true));
        }
        let slot_state = &mut state.slots[slot as usize];
        if slot_state.expired {
            let what = match state.connections.entries[connection_id as usize].awaits_tunnel() {
                true => "the proxy did not answer CONNECT in time",
                false => "the TLS handshake did not end in time",
            };
            let text = format!("{what} (--connect-timeout)");
            return Poll::Ready(Err(ConnectError::new(Failure::ConnectTimeout, text)));
        }
        if more {
            return Poll::Ready(Ok(false));
        }
        slot_state.waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await
}

/// Writes all of `bytes` to the socket. Stops early, without an error, when the response has ended in the meantime: a
/// server may reject a request before it has read all of it. Returns whether everything was written.
pub(crate) async fn send_all(worker: &Worker, slot: u32, connection_id: u32, mut bytes: &[u8]) -> io::Result<bool> {
    loop {
        let sent = worker.state.borrow().connections.entries[connection_id as usize].send(bytes);
        match sent {
            Ok(sent) if sent == bytes.len() => return Ok(true),
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !wait_for_room(worker, slot, connection_id).await? {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Like [`send_all`], for the queued bytes of a connection's TLS session.
pub(crate) async fn flush_tls(worker: &Worker, slot: u32, connection_id: u32) -> io::Result<bool> {
    loop {
        if worker.state.borrow_mut().connections.entries[connection_id as usize].flush_tls()? {
            return Ok(true);
        }
        if !wait_for_room(worker, slot, connection_id).await? {
            return Ok(false);
        }
    }
}

/// Waits until the socket accepts more bytes; false when its response has ended or its handshake has timed out first.
async fn wait_for_room(worker: &Worker, slot: u32, connection_id: u32) -> io::Result<bool> {
    let socket = {
        let connection = &mut worker.state.borrow_mut().connections.entries[connection_id as usize];
        let Some(socket) = connection.socket() else { return Ok(false) };
        connection.network.drop_stamps(&socket);
        socket
    };
    let over = |state: &WorkerState| match state.connections.entries[connection_id as usize].state {
        ConnectionState::Finished { .. } => true,
        ConnectionState::Handshake { .. } => state.slots[slot as usize].expired,
        _ => false,
    };
    worker.state.borrow_mut().urgent_waits += 1;
    let has_room = writable_unless(worker, slot, &socket, over).await;
    worker.state.borrow_mut().urgent_waits -= 1;
    has_room
}

/// Waits until the socket is connected or has failed; false when the slot's deadline passed first.
async fn wait_for_connect(worker: &Worker, slot: u32, socket: &Socket) -> bool {
    writable_unless(worker, slot, socket, |state| state.slots[slot as usize].expired).await.unwrap_or(false)
}

/// Waits until the socket is writable; false if `is_over`, which is checked whenever the slot is woken, was true first.
async fn writable_unless(
    worker: &Worker,
    slot: u32,
    socket: &Socket,
    is_over: impl Fn(&WorkerState) -> bool,
) -> io::Result<bool> {
    let delivers = {
        let state = &mut *worker.state.borrow_mut();
        state.slots[slot as usize].writable = false;
        match state.receive.await_writable(slot, socket) {
            Ok(delivers) => delivers,
            Err(error) => {
                // Not a failure of the server: the ring cannot be used, which ends the run.
                state.error = Some(error);
                return Ok(false);
            }
        }
    };
    let mut ready = pin!(async {
        match delivers {
            true => std::future::pending().await,
            false => socket.writable().await,
        }
    });
    poll_fn(|context| {
        if let Poll::Ready(result) = ready.as_mut().poll(context) {
            return Poll::Ready(result.map(|()| true));
        }
        let state = &mut *worker.state.borrow_mut();
        if state.slots[slot as usize].writable {
            return Poll::Ready(Ok(true));
        }
        if is_over(state) {
            state.receive.forget_writable(slot)?;
            return Poll::Ready(Ok(false));
        }
        state.slots[slot as usize].waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn foreign_source_addresses_are_reported() {
        let to = SocketAddr::from(([127, 0, 0, 1], 80));
        // Reserved for documentation, so no machine has it.
        let foreign = IpAddr::from([192, 0, 2, 1]);
        let error = start_tcp(&[foreign], &AtomicU64::new(0), to).unwrap_err();
        let text = refused(&error, "127.0.0.1:80").text;
        assert!(
            text.contains("192.0.2.1 is not an address of this machine") && text.contains("--source-address"),
            "{text}"
        );
        assert!(!text.contains("free local port"), "{text}");
    }
}
