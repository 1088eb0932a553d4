//! The receive path without io_uring: one epoll set, one timer, and `recvmsg` with the same kernel timestamps.
//!
//! The worker awaits the descriptor of the epoll set on monoio's legacy driver, so a burst of ready connections causes
//! one wake-up, as in the ring.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::delivery::{ConnectionKey, Delivery, ReceiveEvent};
use crate::engine::socket::Socket;
use crate::net::socket::receive;
use crate::time::{S, Tick};

/// Events per call of `epoll_wait`.
pub const EVENTS: usize = 256;
const BUFFER_LEN: usize = 64 * 1024;
/// Marks the timer's events; no [`ConnectionKey`] has these bits.
pub const TIMER: u64 = u64::MAX;
/// Lets `epoll_wait` return immediately.
const IMMEDIATELY: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// A set of sockets and one timer.
pub trait SocketSet {
    /// Adds a socket. `data` identifies it.
    ///
    /// # Errors
    /// That of the system call, as in all methods.
    fn add(&mut self, socket: &Socket, data: u64) -> io::Result<()>;

    /// # Errors
    /// See [`SocketSet::add`].
    fn remove(&mut self, socket: &Socket) -> io::Result<()>;

    /// Fills in the data of sockets that have something to read, and [`TIMER`] if its time has come. Fewer than [`EVENTS`]
    /// are all. Does not wait.
    ///
    /// # Errors
    /// See [`SocketSet::add`]; `Interrupted` if a signal came.
    fn ready(&mut self, data: &mut [u64; EVENTS]) -> io::Result<usize>;

    /// Reads a socket once: the length, and the timestamp of the last segment.
    ///
    /// # Errors
    /// See [`SocketSet::add`].
    fn receive(&mut self, socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Option<u64>)>;

    /// Makes the set readable at `at` and not before.
    ///
    /// # Errors
    /// See [`SocketSet::add`].
    fn set_timer(&mut self, at: Tick) -> io::Result<()>;

    /// Ends the event of the timer.
    fn clear_timer(&mut self);
}

/// An epoll set and a timer of the kernel.
pub struct KernelSet {
    set: OwnedFd,
    timer: OwnedFd,
}

impl KernelSet {
    fn open() -> io::Result<KernelSet> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        epoll::add(&set, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        Ok(KernelSet { set, timer })
    }
}

impl SocketSet for KernelSet {
    fn add(&mut self, socket: &Socket, data: u64) -> io::Result<()> {
        Ok(epoll::add(&self.set, socket.fd()?, EventData::new_u64(data), EventFlags::IN)?)
    }

    fn remove(&mut self, socket: &Socket) -> io::Result<()> {
        Ok(epoll::delete(&self.set, socket.fd()?)?)
    }

    fn ready(&mut self, data: &mut [u64; EVENTS]) -> io::Result<usize> {
        let mut events = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS];
        let ready = epoll::wait(&self.set, &mut events, Some(&IMMEDIATELY))?;
        events[..ready].iter().zip(data).for_each(|(event, data)| *data = event.data.u64());
        Ok(ready)
    }

    fn receive(&mut self, socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
        receive(socket.fd()?, buffer)
    }

    fn set_timer(&mut self, at: Tick) -> io::Result<()> {
        // A value of zero would disarm the timer.
        let it_value = Timespec { tv_sec: (at.0 / S) as i64, tv_nsec: (at.0 % S).max(1) as i64 };
        let value = Itimerspec { it_interval: IMMEDIATELY, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &value)?;
        Ok(())
    }

    fn clear_timer(&mut self) {
        // The read fails with EAGAIN if the timer has not fired, which is harmless.
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
    }
}

/// An epoll set of connections and one timer.
pub struct Epoll<K = KernelSet> {
    kernel: K,
    armed: Option<Tick>,
    buffer: Vec<u8>,
    /// The watched sockets by connection number.
    sockets: Vec<Option<Watched>>,
    /// When all sockets were last known to be empty, except those whose last read left bytes.
    quiet_at: Tick,
    /// The last poll has left ready sockets to the next one.
    pub(crate) has_more: bool,
}

/// A watched socket.
struct Watched {
    socket: Rc<Socket>,
    /// When it was last known to be empty, if its last read left bytes.
    full_since: Option<Tick>,
}

impl Epoll {
    pub fn open() -> io::Result<Epoll> {
        Ok(Epoll::on(KernelSet::open()?))
    }

    /// The set's descriptor: readable when a connection or the timer is.
    pub(crate) fn wait_fd(&self) -> BorrowedFd<'_> {
        self.kernel.set.as_fd()
    }
}

impl<K: SocketSet> Epoll<K> {
    /// The receive path on the sockets of this kernel.
    pub fn on(kernel: K) -> Epoll<K> {
        Epoll {
            kernel,
            armed: None,
            buffer: vec![0; BUFFER_LEN],
            sockets: Vec::new(),
            quiet_at: Tick(0),
            has_more: false,
        }
    }

    /// The kernel, to open connections and to wait in a simulated one.
    #[cfg(feature = "internals")]
    pub(crate) fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }

    pub(crate) fn watch(&mut self, source: ConnectionKey, socket: &Rc<Socket>) -> io::Result<()> {
        self.kernel.add(socket, source.to_bits())?;
        let index = source.connection as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        self.sockets[index] = Some(Watched { socket: socket.clone(), full_since: None });
        Ok(())
    }

    pub(crate) fn forget(&mut self, source: ConnectionKey) -> io::Result<()> {
        // `None` means that its end has been delivered already.
        match self.sockets[source.connection as usize].take() {
            Some(watched) => self.kernel.remove(&watched.socket),
            None => Ok(()),
        }
    }

    /// Makes the set readable at `tick`, unless the timer fires earlier.
    pub(crate) fn wake_at(&mut self, tick: Tick) -> io::Result<()> {
        if self.armed.is_some_and(|armed| armed <= tick) {
            return Ok(());
        }
        self.armed = Some(tick);
        self.kernel.set_timer(tick)
    }

    /// Reads the sockets that are ready, [`EVENTS`] at most, and returns the number of reads. `now` is the current time.
    pub(crate) fn poll(&mut self, now: Tick, deliver: &mut impl FnMut(ReceiveEvent<'_>)) -> io::Result<usize> {
        let deliver =
            &mut |source: ConnectionKey, delivery: Delivery<'_>| deliver(ReceiveEvent::Delivery(source, delivery));
        let mut events = [0; EVENTS];
        let ready = match self.kernel.ready(&mut events) {
            Ok(ready) => ready,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut reads = 0;
        for data in &events[..ready] {
            match *data {
                TIMER => self.disarm(),
                bits => reads += self.read_once(ConnectionKey::from_bits(bits), deliver)?,
            }
        }
        self.has_more = ready == EVENTS;
        if !self.has_more {
            // Sockets that were not ready are empty, and so are those that a read emptied since `now`.
            self.quiet_at = now;
        }
        Ok(reads)
    }

    /// Reads a connection once. The set stays readable if bytes are left.
    fn read_once(
        &mut self,
        source: ConnectionKey,
        deliver: &mut impl FnMut(ConnectionKey, Delivery<'_>),
    ) -> io::Result<usize> {
        let Some(watched) = &mut self.sockets[source.connection as usize] else { return Ok(0) };
        match self.kernel.receive(&watched.socket, &mut self.buffer) {
            Ok((0, _)) => {
                self.forget(source)?;
                deliver(source, Delivery::Eof);
            }
            Ok((length, timestamp_ns)) => {
                // A read ends before its buffer does only when nothing is left.
                let emptied = length < BUFFER_LEN;
                let empty_since = watched.full_since.unwrap_or(self.quiet_at);
                watched.full_since = (!emptied).then_some(empty_since);
                deliver(source, Delivery::Bytes { bytes: &self.buffer[..length], timestamp_ns, empty_since, emptied })
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(0);
            }
            Err(error) => {
                self.forget(source)?;
                deliver(source, Delivery::Error(error.raw_os_error().unwrap_or(libc::EIO)));
            }
        }
        Ok(1)
    }

    fn disarm(&mut self) {
        self.armed = None;
        self.kernel.clear_timer();
    }
}
