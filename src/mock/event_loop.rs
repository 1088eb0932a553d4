//! The event loop of one thread: runs due steps, reads requests, and waits for the next of either.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};

use super::accounting::{record_end, record_step};
use super::clock::now;
use super::connection::{Connection, Read, Request, Sent};
use super::exchange::{Arrival, Ending, Exchange, Next};
use super::reply::{Reply, WholeResponse, reply_to, reply_to_refusal};
use super::request_body::RequestParams;
use super::shared::{LoopShare, Shared, lock};
use super::truth::End;
use crate::time::{MS, S, Tick};

/// Maximum number of steps between two polls, so that a request that has arrived is read soon.
const MAX_STEPS_PER_POLL: usize = 32;
/// Maximum number of connections accepted between two checks of the timers.
const MAX_ACCEPTS_PER_POLL: usize = 64;
/// Epoll tokens of the listener and of the wake-up eventfd. Tokens of connections are made from their [`ConnectionId`].
const LISTENER: u64 = u64::MAX;
const WAKE_UP: u64 = u64::MAX - 1;

/// One event loop.
pub(super) struct EventLoop {
    shared: Arc<Shared>,
    index: usize,
    epoll: OwnedFd,
    /// The first loop accepts connections for all loops.
    listener: Option<TcpListener>,
    /// When to accept again, if connections may be left in the listener's queue.
    next_accept: Option<Tick>,
    next_loop: usize,
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<u32>,
    generation: u32,
    timers: BinaryHeap<Reverse<(u64, ConnectionId)>>,
    waiting: VecDeque<ConnectionId>,
    now: Tick,
    next_cpu_time: Tick,
    read_buffer: Vec<u8>,
    out: Vec<u8>,
}

/// The index of a connection in the table, and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ConnectionId {
    index: u32,
    generation: u32,
}

impl ConnectionId {
    fn token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn from_token(token: u64) -> ConnectionId {
        ConnectionId { index: token as u32, generation: (token >> 32) as u32 }
    }
}

/// What to do with a connection after an event was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    Close,
    Reset,
}

impl EventLoop {
    pub(super) fn new(shared: Arc<Shared>, index: usize, listener: Option<TcpListener>) -> std::io::Result<EventLoop> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &shared.loops[index].wake_fd, epoll::EventData::new_u64(WAKE_UP), epoll::EventFlags::IN)?;
        if let Some(listener) = &listener {
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&epoll, listener, epoll::EventData::new_u64(LISTENER), flags)?;
        }
        Ok(EventLoop {
            shared,
            index,
            epoll,
            listener,
            next_accept: None,
            next_loop: 0,
            connections: Vec::new(),
            free: Vec::new(),
            generation: 0,
            timers: BinaryHeap::new(),
            waiting: VecDeque::new(),
            now: now(),
            next_cpu_time: Tick(0),
            read_buffer: vec![0; 64 << 10],
            out: Vec::with_capacity(4 << 10),
        })
    }

    /// Serves until the shared flag `stopping` is set.
    pub(super) fn run(mut self) -> std::io::Result<()> {
        let mut events = Vec::with_capacity(256);
        while !self.shared.stopping.load(Relaxed) {
            self.run_due_steps();
            let wait = self.wait_time();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                self.on_event(event.data.u64(), event.flags);
            }
            if self.next_accept.is_some_and(|at| at <= self.now) {
                self.accept();
            }
        }
        self.record_unfinished();
        Ok(())
    }

    fn share(&self) -> &LoopShare {
        &self.shared.loops[self.index]
    }

    /// Runs the steps that are due, up to a limit.
    fn run_due_steps(&mut self) {
        self.now = now();
        for _ in 0..MAX_STEPS_PER_POLL {
            match self.timers.peek() {
                Some(Reverse((due_ns, _))) if *due_ns <= self.now.0 => {}
                _ => return,
            }
            if let Some(Reverse((_, id))) = self.timers.pop() {
                self.with_connection(id, |this, connection| this.advance(connection, id));
            }
        }
    }

    /// How long to wait for events; `None`: without timeout.
    fn wait_time(&mut self) -> Option<Timespec> {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.publish_cpu_time();
        if self.shared.config.spin {
            return Some(AT_ONCE);
        }
        let next_due = self.timers.peek().map(|Reverse((due_ns, _))| Tick(*due_ns));
        let next = [next_due, self.next_accept].into_iter().flatten().min()?;
        if next <= self.now {
            return Some(AT_ONCE);
        }
        self.now = now();
        let wait_ns = next.ns_since(self.now).max(0) as u64;
        Some(Timespec { tv_sec: (wait_ns / S) as i64, tv_nsec: (wait_ns % S) as i64 })
    }

    /// Publishes the thread's CPU time, at most every 10 ms because reading it is a system call.
    fn publish_cpu_time(&mut self) {
        if self.now < self.next_cpu_time {
            return;
        }
        self.next_cpu_time = self.now.plus_ns(10 * MS);
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        self.share().metrics.cpu_ns.set(time.tv_sec as u64 * S + time.tv_nsec as u64);
    }

    fn on_event(&mut self, token: u64, flags: epoll::EventFlags) {
        match token {
            LISTENER => self.accept(),
            WAKE_UP => self.on_wake_up(),
            _ => {
                let id = ConnectionId::from_token(token);
                self.with_connection(id, |this, connection| this.on_socket(connection, flags));
            }
        }
    }

    /// Calls `handler` with connection `id`, if it still exists, and then does what the returned verdict says.
    fn with_connection(&mut self, id: ConnectionId, handler: impl FnOnce(&mut EventLoop, &mut Connection) -> Verdict) {
        let slot = &mut self.connections[id.index as usize];
        let Some(mut connection) = slot.take_if(|connection| connection.generation == id.generation) else { return };
        let mut verdict = handler(self, &mut connection);
        if verdict == Verdict::Keep && !connection.is_busy() {
            verdict = self.serve_next(&mut connection, id);
        }
        match verdict {
            Verdict::Keep => self.connections[id.index as usize] = Some(connection),
            Verdict::Close | Verdict::Reset => {
                self.abandon(&mut connection, End::ClientGone);
                self.share().metrics.open_connections.subtract(1);
                self.free.push(id.index);
                if verdict == Verdict::Reset {
                    connection.reset();
                }
            }
        }
    }

    fn accept(&mut self) {
        self.next_accept = None;
        for _ in 0..MAX_ACCEPTS_PER_POLL {
            let Some(listener) = &self.listener else { return };
            match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(fd) => {
                    let chosen = self.next_loop;
                    self.next_loop = (chosen + 1) % self.shared.loops.len();
                    if chosen == self.index {
                        self.add_connection(fd);
                    } else {
                        lock(&self.shared.loops[chosen].inbox).push(fd);
                        self.shared.loops[chosen].wake();
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => {
                    // Usually out of descriptors. The connection stays in the queue until one is free.
                    self.next_accept = Some(now().plus_ns(10 * MS));
                    return;
                }
            }
        }
        self.next_accept = Some(self.now);
    }

    /// Adds a connection to the table.
    fn add_connection(&mut self, fd: OwnedFd) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() as u32 - 1
        });
        self.generation = (self.generation + 1) % (u32::MAX - 1);
        let id = ConnectionId { index, generation: self.generation };
        // Fails only if the socket is broken, which the first read reports.
        let _ = sockopt::set_tcp_nodelay(&fd, true);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if epoll::add(&self.epoll, &fd, epoll::EventData::new_u64(id.token()), flags).is_err() {
            self.free.push(index);
            return;
        }
        self.share().metrics.open_connections.add(1);
        let number = self.shared.connection_number();
        self.connections[index as usize] = Some(Box::new(Connection::new(fd, number, id.generation)));
    }

    /// Handles a wake-up: new connections, a free slot, or a request to stop.
    fn on_wake_up(&mut self) {
        // Resets the counter; an error means that it is already reset.
        let _ = rustix::io::read(&self.share().wake_fd, &mut [0u8; 8]);
        let fds = std::mem::take(&mut *lock(&self.share().inbox));
        for fd in fds {
            self.add_connection(fd);
        }
        self.admit();
    }

    fn on_socket(&mut self, connection: &mut Connection, flags: epoll::EventFlags) -> Verdict {
        if flags.intersects(
            epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR,
        ) {
            let read = connection.read(&mut self.read_buffer);
            // If a request and the end of the input arrive together, the request is dropped with the connection.
            if read == Read::Gone {
                return Verdict::Close;
            }
        }
        match connection.flush() {
            Sent::Gone => Verdict::Close,
            Sent::Blocked => Verdict::Keep,
            Sent::All => self.end_if_sent(connection),
        }
    }

    /// Serves the complete requests that were read, until one has a response that is not complete at once.
    fn serve_next(&mut self, connection: &mut Connection, id: ConnectionId) -> Verdict {
        while !connection.is_busy() {
            let verdict = match connection.next_request() {
                None => return Verdict::Keep,
                Some(Ok(request)) => self.begin(connection, id, request),
                Some(Err(refusal)) => self.send_whole(connection, &reply_to_refusal(&refusal)),
            };
            if verdict != Verdict::Keep {
                return verdict;
            }
        }
        Verdict::Keep
    }

    /// Answers a request, or begins to.
    fn begin(&mut self, connection: &mut Connection, id: ConnectionId, request: Request) -> Verdict {
        match reply_to(&self.shared, &request) {
            Reply::Whole(response) => self.send_whole(connection, &response),
            Reply::Generate(params) => self.begin_exchange(connection, id, &request, params),
        }
    }

    /// Sends a whole response at once.
    fn send_whole(&mut self, connection: &mut Connection, response: &WholeResponse) -> Verdict {
        if response.refused {
            self.share().metrics.refused.add(1);
        }
        connection.ending = Some(if response.keep { Ending::Keep } else { Ending::Close });
        match connection.send(&response.bytes) {
            Sent::Gone => Verdict::Close,
            Sent::Blocked => Verdict::Keep,
            Sent::All => self.end_if_sent(connection),
        }
    }

    /// Begins a request to a generating endpoint: now, or when a slot is free.
    fn begin_exchange(
        &mut self,
        connection: &mut Connection,
        id: ConnectionId,
        request: &Request,
        params: RequestParams,
    ) -> Verdict {
        let ordinal = self.shared.request_begins();
        let arrival = Arrival {
            ordinal,
            connection: connection.number,
            first: request.first,
            last: request.last,
            created_s: self.shared.created_s,
        };
        self.share().metrics.requests.add(1);
        let mut exchange = Box::new(Exchange::new(&self.shared.config, params, &request.head, arrival));
        if !exchange.needs_slot() {
            connection.exchange = Some(exchange);
            return self.advance(connection, id);
        }
        if self.waiting.is_empty() && self.shared.slots.take() {
            // Delays are counted from the arrival of the request, not from the end of parsing and rendering.
            self.admit_exchange(&mut exchange, request.last);
            let due_ns = exchange.due_ns;
            connection.exchange = Some(exchange);
            if due_ns <= self.now.0.max(request.last.0) {
                return self.advance(connection, id);
            }
            self.timers.push(Reverse((due_ns, id)));
            return Verdict::Keep;
        }
        connection.exchange = Some(exchange);
        self.waiting.push_back(id);
        self.shared.slots.queue();
        // Another loop may have released a slot before this request was counted as waiting.
        self.share().wake();
        Verdict::Keep
    }

    fn admit_exchange(&self, exchange: &mut Exchange, at: Tick) {
        exchange.start(&self.shared.config, at);
        let metrics = &self.share().metrics;
        metrics.queue.observe(at.ns_since(exchange.truth.received_last).max(0) as u64);
    }

    /// Gives free slots to waiting requests.
    fn admit(&mut self) {
        while let Some(&id) = self.waiting.front() {
            let slot = &mut self.connections[id.index as usize];
            let Some(connection) = slot.as_mut().filter(|connection| connection.generation == id.generation) else {
                // The connection is closed; the request was removed from the count of waiting requests then.
                self.waiting.pop_front();
                continue;
            };
            let Some(mut exchange) = connection.exchange.take() else {
                self.waiting.pop_front();
                continue;
            };
            let admitted = self.shared.slots.take();
            if admitted {
                self.shared.slots.unqueue();
                self.admit_exchange(&mut exchange, now());
                self.timers.push(Reverse((exchange.due_ns, id)));
                self.waiting.pop_front();
            }
            if let Some(connection) = self.connections[id.index as usize].as_mut() {
                connection.exchange = Some(exchange);
            }
            if !admitted {
                return;
            }
        }
    }

    /// Runs the next step of a connection's response.
    fn advance(&mut self, connection: &mut Connection, id: ConnectionId) -> Verdict {
        let Some(exchange) = connection.exchange.as_mut() else { return Verdict::Keep };
        self.out.clear();
        let due_ns = exchange.due_ns;
        exchange.now_ns = self.now.0;
        let step = exchange.step(&self.shared.config, &mut self.out);
        let next_due_ns = exchange.due_ns;
        let share = &self.shared.loops[self.index];
        let stamp = now();
        self.now = stamp;
        let mut sent = Sent::All;
        if !self.out.is_empty() {
            sent = connection.send(&self.out);
        }
        let returned = now();
        // Accounting comes after the send, so that it does not delay it.
        if let Some(exchange) = connection.exchange.as_mut() {
            record_step(exchange, share, (stamp, returned), due_ns, self.shared.config.lie_ns);
            if step.head {
                exchange.truth.head_sent = Some(stamp);
            }
            if !self.out.is_empty() {
                exchange.truth.last_byte = Some(stamp);
            }
            if sent == Sent::Blocked {
                exchange.truth.blocked_writes += 1;
                share.metrics.blocked_writes.add(1);
            }
        }
        if sent == Sent::Gone {
            return Verdict::Close;
        }
        match step.next {
            Next::Step => self.timers.push(Reverse((next_due_ns, id))),
            Next::Silence => {}
            Next::End(ending) => {
                connection.ending = Some(ending);
                return self.end_if_sent(connection);
            }
        }
        Verdict::Keep
    }

    /// Ends the response if its last step has run and all its bytes are sent.
    fn end_if_sent(&mut self, connection: &mut Connection) -> Verdict {
        if connection.has_unsent() {
            return Verdict::Keep;
        }
        let Some(ending) = connection.ending.take() else { return Verdict::Keep };
        if let Some(mut exchange) = connection.exchange.take() {
            if exchange.truth.blocked_writes > 0 {
                exchange.truth.last_byte = Some(now());
            }
            let end = exchange.truth.end;
            record_end(&self.shared, self.share(), *exchange, end);
        }
        match ending {
            Ending::Keep => Verdict::Keep,
            Ending::Close => Verdict::Close,
            Ending::Reset => Verdict::Reset,
        }
    }

    /// Ends the response of a connection that is closed, if one was in progress.
    fn abandon(&mut self, connection: &mut Connection, end: End) {
        let Some(exchange) = connection.exchange.take() else { return };
        if exchange.needs_slot() && exchange.truth.started.is_none() {
            self.shared.slots.unqueue();
        }
        // A fault that stays silent until the client gives up has ended as intended.
        let end = if exchange.truth.end == End::Fault { End::Fault } else { end };
        record_end(&self.shared, self.share(), *exchange, end);
    }

    /// Records all responses that are in progress when the server stops.
    fn record_unfinished(&mut self) {
        for mut connection in std::mem::take(&mut self.connections).into_iter().flatten() {
            self.abandon(&mut connection, End::Stopped);
        }
        self.next_cpu_time = Tick(0);
        self.publish_cpu_time();
    }
}
