//! The simulated kernel of one worker: sockets with segments and receive timestamps, multishot receives whose work is
//! deferred until the ring is entered, a bounded number of buffers, a completion queue that overflows.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use ringmark::engine::receive::kernel::{Completion, CompletionResult, PendingWork, Submission};
use ringmark::engine::receive::simulated::SimulatedKernel;
use ringmark::engine::socket::{Opening, SimulatedSocket, Socket as EngineSocket};
use ringmark::net::socket::Received;
use ringmark::time::{MS, US};

use super::server::{Sent, Server, parts};
use super::time::VirtualTime;

mod epoll;

pub use epoll::SimSet;

/// Bytes of a stream in one read of the ring.
const MAX_READ: usize = 4016;
/// Reads of one socket before the others have their turn.
const MAX_READS_IN_A_ROW: usize = 32;
/// The largest delay from an arrival to its timestamp.
pub const STAMP_NS: u64 = 15 * US;

/// What can go wrong in a kernel. Shares are probabilities.
#[derive(Clone, Debug)]
pub struct Faults {
    /// A segment is merged with the unread one before it, which gets its timestamp.
    pub merge: f64,
    pub unstamped: f64,
    pub buffers: usize,
    pub completions: usize,
    pub submissions: usize,
    /// A submission fails for a moment.
    pub submit: f64,
    /// A signal ends a wait.
    pub interrupt: f64,
    pub refuse: f64,
    /// A connection is never established.
    pub black_hole: f64,
    /// A send is accepted in part.
    pub partial_send: f64,
    /// The time of one read.
    pub read_ns: u64,
    /// The longest delay of a wake-up.
    pub wake_up_ns: u64,
    /// Sockets that are read in one call.
    pub batch: usize,
}

impl Faults {
    /// Whether receives end early, for want of buffers or completions, or are armed late.
    pub fn is_scarce(&self) -> bool {
        self.buffers < 4096 || self.completions < 65_536 || self.submissions < 1024 || self.submit > 0.0
    }
}

/// The kernel of one worker, shared with its sockets.
pub struct World {
    pub time: Arc<VirtualTime>,
    rng: ChaCha8Rng,
    faults: Faults,
    pub server: Server,
    sockets: Vec<Socket>,
    /// By time and order.
    arrivals: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    submissions: VecDeque<Submission>,
    work: VecDeque<Work>,
    has_work: bool,
    completions: VecDeque<Posted>,
    overflow: VecDeque<Posted>,
    free_buffers: usize,
    /// When the ring or the set could last see that nothing was unread.
    quiet_ns: u64,
    set: epoll::SetState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Read(usize),
    Write(usize),
}

#[derive(Debug)]
struct Posted {
    user_data: u64,
    more: bool,
    result: Result,
}

#[derive(Debug)]
enum Result {
    Bytes { bytes: Vec<u8>, stamp_ns: Option<u64>, emptied: bool },
    NoBytes,
    Error(i32),
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Scheduled {
    at_ns: u64,
    order: u64,
    socket: usize,
    what: What,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Bytes(Vec<u8>),
    Fin,
    Reset,
    Writable,
}

#[derive(Default)]
struct Socket {
    unread: VecDeque<Segment>,
    fin: bool,
    reset: bool,
    refused: bool,
    closed: bool,
    /// The user data of the armed receive (of a set, that of the socket), and of the wait for room.
    receive: Option<u64>,
    writable: Option<u64>,
    /// The slot that waits for room by itself.
    slot: Option<Waker>,
    has_room_ns: u64,
    is_queued: bool,
    /// The server has closed the connection; the client may not know yet.
    is_closing: bool,
    request: Vec<u8>,
    /// When the last scheduled segment arrives.
    last_ns: u64,
    /// [`World::quiet_ns`] when the first unread byte arrived, or an earlier one if it was not known to be empty then.
    quiet_ns: Option<u64>,
    /// What arrived so far.
    received: Received,
    /// The number of the request that is being answered.
    answering: Option<usize>,
}

struct Segment {
    bytes: Vec<u8>,
    taken: usize,
    stamp_ns: Option<u64>,
    at_ns: u64,
}

pub type SharedWorld = Rc<RefCell<World>>;

impl World {
    pub fn new(time: Arc<VirtualTime>, rng: ChaCha8Rng, faults: Faults, server: Server) -> World {
        World {
            time,
            rng,
            free_buffers: faults.buffers,
            faults,
            server,
            sockets: Vec::new(),
            arrivals: BinaryHeap::new(),
            scheduled: 0,
            submissions: VecDeque::new(),
            work: VecDeque::new(),
            has_work: false,
            completions: VecDeque::new(),
            overflow: VecDeque::new(),
            quiet_ns: 0,
            set: epoll::SetState::default(),
        }
    }

    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.rng.random_bool(share)
    }

    fn schedule(&mut self, at_ns: u64, socket: usize, what: What) {
        self.scheduled += 1;
        self.arrivals.push(Reverse(Scheduled { at_ns, order: self.scheduled, socket, what }));
    }

    /// Lets time pass in the kernel; whatever arrives meanwhile is queued on its socket.
    fn pass(&mut self, ns: u64) {
        self.time.pass(ns);
        self.receive_arrivals();
    }

    fn receive_arrivals(&mut self) {
        let now_ns = self.time.now_ns();
        while self.arrivals.peek().is_some_and(|next| next.0.at_ns <= now_ns) {
            let Some(Reverse(Scheduled { at_ns, socket, what, .. })) = self.arrivals.pop() else { return };
            if self.sockets[socket].closed {
                continue;
            }
            match what {
                What::Bytes(bytes) => self.queue_segment(socket, bytes, at_ns),
                What::Fin => self.sockets[socket].fin = true,
                What::Reset => self.sockets[socket].reset = true,
                What::Writable => {
                    if self.sockets[socket].writable.is_some() {
                        self.work.push_back(Work::Write(socket));
                        self.has_work = true;
                    }
                    self.set.is_slot_woken |= self.sockets[socket].wake_slot();
                    continue;
                }
            }
            if self.sockets[socket].receive.is_some() && !self.sockets[socket].is_queued {
                self.sockets[socket].is_queued = true;
                self.work.push_back(Work::Read(socket));
                self.has_work = true;
            }
        }
    }

    fn queue_segment(&mut self, socket: usize, bytes: Vec<u8>, at_ns: u64) {
        let stamp_ns = (!self.happens(self.faults.unstamped)).then(|| self.time.real_at_ns(at_ns));
        let merges = self.happens(self.faults.merge);
        let socket = &mut self.sockets[socket];
        socket.quiet_ns.get_or_insert(self.quiet_ns);
        socket.received.bytes += bytes.len() as u64;
        socket.received.segments += 1;
        match socket.unread.back_mut().filter(|_| merges) {
            Some(last) => {
                last.bytes.extend_from_slice(&bytes);
                (last.stamp_ns, last.at_ns) = (stamp_ns, at_ns);
            }
            None => socket.unread.push_back(Segment { bytes, taken: 0, stamp_ns, at_ns }),
        }
    }

    fn post(&mut self, posted: Posted) {
        if self.completions.len() < self.faults.completions && self.overflow.is_empty() {
            self.completions.push_back(posted);
        } else {
            self.overflow.push_back(posted);
        }
    }

    /// Does deferred work: that of at most `limit` sockets.
    fn work_off(&mut self, limit: usize) {
        self.has_work = false;
        while self.completions.len() < self.faults.completions {
            let Some(posted) = self.overflow.pop_front() else { break };
            self.completions.push_back(posted);
        }
        for _ in 0..limit.min(self.work.len()) {
            match self.work.pop_front() {
                Some(Work::Read(socket)) => self.read(socket),
                Some(Work::Write(socket)) => self.complete_writable(socket),
                None => {}
            }
        }
        self.has_work |= !self.work.is_empty();
    }

    fn complete_writable(&mut self, socket: usize) {
        if let Some(user_data) = self.sockets[socket].writable.take() {
            self.post(Posted { user_data, more: false, result: Result::NoBytes });
        }
    }

    /// Executes the armed receive of a socket.
    fn read(&mut self, number: usize) {
        self.sockets[number].is_queued = false;
        for _ in 0..MAX_READS_IN_A_ROW {
            self.pass(self.faults.read_ns);
            let socket = &mut self.sockets[number];
            let Some(user_data) = socket.receive else { return };
            if socket.unread.is_empty() {
                let result = match (socket.reset, socket.fin) {
                    (true, _) => Result::Error(libc::ECONNRESET),
                    (false, true) => Result::NoBytes,
                    (false, false) => return,
                };
                socket.receive = None;
                return self.post(Posted { user_data, more: false, result });
            }
            if self.free_buffers == 0 {
                socket.receive = None;
                return self.post(Posted { user_data, more: false, result: Result::Error(libc::ENOBUFS) });
            }
            self.free_buffers -= 1;
            let Read { bytes, stamp_ns } = self.take(number, MAX_READ);
            let socket = &self.sockets[number];
            let emptied = socket.unread.is_empty() && !socket.fin;
            let result = Result::Bytes { bytes, stamp_ns, emptied };
            if self.completions.len() >= self.faults.completions || !self.overflow.is_empty() {
                self.sockets[number].receive = None;
                return self.overflow.push_back(Posted { user_data, more: false, result });
            }
            self.completions.push_back(Posted { user_data, more: true, result });
            if emptied {
                return;
            }
        }
        self.sockets[number].is_queued = true;
        self.work.push_back(Work::Read(number));
        self.has_work = true;
    }

    /// Takes the bytes of one read of a socket that has some.
    fn take(&mut self, number: usize, most: usize) -> Read {
        let socket = &mut self.sockets[number];
        let (read, at_ns) = socket.take(most);
        let quiet_ns = socket.quiet_ns.unwrap_or(self.quiet_ns);
        if socket.unread.is_empty() {
            socket.quiet_ns = None;
        }
        if let Some(request) = socket.answering {
            self.server.note_read(request, at_ns, quiet_ns);
        }
        read
    }

    fn carry_out(&mut self, submission: Submission) {
        match submission {
            Submission::Receive { fd, user_data } => {
                self.sockets[fd as usize].receive = Some(user_data);
                self.read(fd as usize);
            }
            Submission::Writable { fd, user_data } => {
                let at_ns = self.sockets[fd as usize].has_room_ns;
                self.sockets[fd as usize].writable = Some(user_data);
                if at_ns <= self.time.now_ns() {
                    self.complete_writable(fd as usize);
                } else if at_ns < u64::MAX {
                    self.schedule(at_ns, fd as usize, What::Writable);
                }
            }
            Submission::Cancel { target, user_data } => {
                let mut found = false;
                for number in 0..self.sockets.len() {
                    let socket = &mut self.sockets[number];
                    for waiting in [&mut socket.receive, &mut socket.writable] {
                        if *waiting == Some(target) {
                            *waiting = None;
                            found = true;
                        }
                    }
                }
                if found {
                    let result = Result::Error(libc::ECANCELED);
                    self.post(Posted { user_data: target, more: false, result });
                }
                let result = if found { Result::NoBytes } else { Result::Error(libc::ENOENT) };
                self.post(Posted { user_data, more: false, result });
            }
        }
    }

    fn connect(&mut self) -> io::Result<usize> {
        self.pass(20 * US);
        let number = self.sockets.len();
        let pending = self.happens(0.5);
        let black_hole = self.happens(self.faults.black_hole);
        let refused = self.happens(self.faults.refuse);
        let delay_ns = if pending { self.rng.random_range(0..2 * MS) } else { 0 };
        let now_ns = self.time.now_ns();
        let has_room_ns = if black_hole { u64::MAX } else { now_ns + delay_ns };
        if refused && !pending && !black_hole {
            return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        }
        self.sockets.push(Socket { refused, has_room_ns, last_ns: now_ns, ..Socket::default() });
        Ok(number)
    }

    fn send(&mut self, number: usize, bytes: &[u8]) -> io::Result<usize> {
        self.pass(3 * US);
        let now_ns = self.time.now_ns();
        if self.sockets[number].reset {
            return Err(io::Error::from_raw_os_error(libc::EPIPE));
        }
        if self.sockets[number].has_room_ns > now_ns {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut taken = bytes.len();
        if self.happens(self.faults.partial_send) {
            taken = self.rng.random_range(0..bytes.len());
            self.sockets[number].has_room_ns = now_ns + self.rng.random_range(0..3 * MS);
        }
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let socket = &mut self.sockets[number];
        socket.request.extend_from_slice(&bytes[..taken]);
        if socket.fin {
            // The server closed the connection before this request.
            socket.reset = true;
        } else if !socket.is_closing && parts(&self.sockets[number].request).is_some() {
            self.answer(number, now_ns);
        }
        Ok(taken)
    }

    fn answer(&mut self, number: usize, now_ns: u64) {
        let request = std::mem::take(&mut self.sockets[number].request);
        let (answering, parts) = self.server.answer(&request, now_ns, &mut self.rng);
        self.sockets[number].answering = Some(answering);
        for (sent_ns, part) in parts {
            self.sockets[number].is_closing |= !matches!(part, Sent::Bytes(_));
            let what = match part {
                Sent::Bytes(bytes) => What::Bytes(bytes),
                Sent::Fin => What::Fin,
                Sent::Reset => What::Reset,
            };
            let at_ns = (sent_ns + self.rng.random_range(0..STAMP_NS)).max(self.sockets[number].last_ns);
            self.sockets[number].last_ns = at_ns;
            self.schedule(at_ns, number, what);
        }
    }

    fn close(&mut self, number: usize) {
        let now_ns = self.time.now_ns();
        let socket = &mut self.sockets[number];
        socket.closed = true;
        socket.unread.clear();
        if let Some(request) = socket.answering {
            self.server.note_close(request, now_ns);
        }
    }

    /// When something happens next; `None` if nothing will.
    fn next_arrival_ns(&self) -> Option<u64> {
        self.arrivals.peek().map(|next| next.0.at_ns)
    }

    /// Waits until there is work or a completion, at most until `until_ns`.
    fn sleep_until(&mut self, until_ns: u64, wanted: usize) {
        while self.work.len() + self.completions.len() < wanted {
            match self.next_arrival_ns().filter(|at_ns| *at_ns < until_ns) {
                Some(at_ns) => self.time.pass_until(at_ns),
                None => return self.time.pass_until(until_ns),
            }
            self.receive_arrivals();
        }
    }
}

impl Socket {
    /// Takes the bytes of one read, and the arrival of the last segment that they are from.
    fn take(&mut self, most: usize) -> (Read, u64) {
        let mut bytes = Vec::new();
        let (mut stamp_ns, mut at_ns) = (None, 0);
        while let Some(segment) = self.unread.front_mut().filter(|_| bytes.len() < most) {
            let taken = (segment.bytes.len() - segment.taken).min(most - bytes.len());
            bytes.extend_from_slice(&segment.bytes[segment.taken..][..taken]);
            segment.taken += taken;
            (stamp_ns, at_ns) = (segment.stamp_ns, segment.at_ns);
            if segment.taken == segment.bytes.len() {
                self.unread.pop_front();
            }
        }
        (Read { bytes, stamp_ns }, at_ns)
    }
}

/// The bytes of one read, and the timestamp of the last segment that they are from.
struct Read {
    bytes: Vec<u8>,
    stamp_ns: Option<u64>,
}

/// Starts to connect.
fn open(world: &SharedWorld) -> io::Result<Opening> {
    let number = world.borrow_mut().connect()?;
    let pending = {
        let world = world.borrow();
        world.sockets[number].has_room_ns > world.time.now_ns()
    };
    let socket = SimSocket { world: world.clone(), number };
    Ok(Opening { socket: EngineSocket::Simulated(Box::new(socket)), pending })
}

/// The ring of a worker.
pub struct SimKernel(pub SharedWorld);

impl SimulatedKernel for SimKernel {
    fn connect(&mut self, _to: SocketAddr) -> io::Result<Opening> {
        open(&self.0)
    }

    fn push(&mut self, submission: Submission) -> bool {
        let world = &mut *self.0.borrow_mut();
        let fits = world.submissions.len() < world.faults.submissions;
        if fits {
            world.submissions.push_back(submission);
        }
        fits
    }

    fn submit(&mut self) -> io::Result<()> {
        let world = &mut *self.0.borrow_mut();
        world.pass(US);
        while !world.submissions.is_empty() {
            if world.happens(world.faults.submit) {
                let errnos = [libc::EAGAIN, libc::EBUSY, libc::EINTR];
                return Err(io::Error::from_raw_os_error(errnos[world.rng.random_range(0..3)]));
            }
            if let Some(submission) = world.submissions.pop_front() {
                world.carry_out(submission);
            }
        }
        Ok(())
    }

    fn has_unsubmitted(&mut self) -> bool {
        !self.0.borrow().submissions.is_empty()
    }

    fn pending_work(&mut self) -> PendingWork {
        let world = &mut *self.0.borrow_mut();
        world.pass(20);
        let pending = PendingWork { sockets: world.has_work, overflow: !world.overflow.is_empty() };
        if pending == PendingWork::default() && world.submissions.is_empty() {
            world.quiet_ns = world.time.now_ns();
        }
        pending
    }

    fn run_work(&mut self) -> io::Result<()> {
        let world = &mut *self.0.borrow_mut();
        world.pass(US);
        world.work_off(world.faults.batch);
        Ok(())
    }

    fn wait(&mut self, wanted: u32, min_wait_us: u32, limit_ns: u64) -> io::Result<()> {
        let world = &mut *self.0.borrow_mut();
        let until_ns = world.time.now_ns() + limit_ns;
        world.pass(US);
        world.work_off(world.faults.batch.max(wanted as usize));
        if world.completions.len() >= wanted as usize {
            return Ok(());
        }
        if world.happens(world.faults.interrupt) {
            return Err(io::Error::from_raw_os_error(libc::EINTR));
        }
        let gathered_ns = world.time.now_ns() + u64::from(min_wait_us) * US;
        world.sleep_until(gathered_ns.min(until_ns), wanted as usize);
        world.sleep_until(until_ns, 1);
        if world.work.is_empty() && world.completions.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ETIME));
        }
        let wake_up_ns = world.rng.random_range(US..world.faults.wake_up_ns);
        world.pass(wake_up_ns);
        world.work_off(world.faults.batch.max(wanted as usize));
        Ok(())
    }

    fn completions(&mut self) -> usize {
        self.0.borrow().completions.len()
    }

    fn take_completions(&mut self, most: usize, take: &mut dyn FnMut(Completion<'_>)) {
        let count = self.0.borrow().completions.len();
        for _ in 0..count.min(most) {
            let Some(posted) = self.0.borrow_mut().completions.pop_front() else { return };
            let result = match &posted.result {
                Result::Bytes { bytes, stamp_ns, emptied } => {
                    CompletionResult::Bytes { bytes, timestamp_ns: *stamp_ns, emptied: *emptied }
                }
                Result::NoBytes => CompletionResult::NoBytes,
                Result::Error(errno) => CompletionResult::Error(*errno),
            };
            take(Completion { user_data: posted.user_data, more: posted.more, result });
            if matches!(posted.result, Result::Bytes { .. }) {
                self.0.borrow_mut().free_buffers += 1;
            }
        }
    }
}

/// A socket of the engine.
struct SimSocket {
    world: SharedWorld,
    number: usize,
}

impl SimulatedSocket for SimSocket {
    fn number(&self) -> RawFd {
        self.number as RawFd
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.world.borrow_mut().send(self.number, bytes)
    }

    fn received(&self) -> Received {
        self.world.borrow().sockets[self.number].received
    }

    fn take_error(&self) -> io::Result<()> {
        match self.world.borrow().sockets[self.number].refused {
            true => Err(io::Error::from_raw_os_error(libc::ECONNREFUSED)),
            false => Ok(()),
        }
    }

    fn is_writable(&self, waker: &Waker) -> bool {
        self.world.borrow_mut().is_writable(self.number, waker)
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.world.borrow_mut().close(self.number);
    }
}
