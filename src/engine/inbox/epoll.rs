//! The inbox without io_uring: one epoll set, one timer, and `recvmsg` with the same kernel stamps.
//!
//! The set's own descriptor is what the worker awaits on monoio's legacy driver, so a burst of ready connections costs
//! one wake-up here as well.

#![expect(unsafe_code, reason = "epoll and timerfd")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::socket::receive;
use super::{Delivery, Event, Source};
use crate::time::{S, Tick};

const EVENTS: usize = 256;
const BUFFER_LEN: usize = 64 * 1024;
const TIMER: u64 = u64::MAX;

/// An epoll set of connections and one timer.
pub struct Epoll {
    set: OwnedFd,
    timer: OwnedFd,
    armed: Option<Tick>,
    buffer: Vec<u8>,
    descriptors: Vec<RawFd>,
}

impl Epoll {
    pub fn open() -> io::Result<Epoll> {
        // SAFETY: no pointers are passed; the descriptors are new and owned by nobody else.
        let (set, timer) = unsafe {
            let set = owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
            let timer = owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC))?;
            (set, timer)
        };
        let epoll = Epoll { set, timer, armed: None, buffer: vec![0; BUFFER_LEN], descriptors: Vec::new() };
        epoll.add(epoll.timer.as_raw_fd(), TIMER)?;
        Ok(epoll)
    }

    pub fn wait_fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }

    pub fn watch(&mut self, source: Source, fd: RawFd) -> io::Result<()> {
        let slot = source.slot as usize;
        if self.descriptors.len() <= slot {
            self.descriptors.resize(slot + 1, -1);
        }
        self.descriptors[slot] = fd;
        self.add(fd, u64::from(source.generation) << 32 | u64::from(source.slot))
    }

    pub fn forget(&mut self, fd: RawFd) -> io::Result<()> {
        // SAFETY: the event pointer is not read for EPOLL_CTL_DEL.
        let result = unsafe { libc::epoll_ctl(self.set.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
        match check(result) {
            // Already gone from the set, because its end was delivered.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    pub fn wake_at(&mut self, tick: Tick) -> io::Result<()> {
        if self.armed.is_some_and(|armed| armed <= tick) {
            return Ok(());
        }
        self.armed = Some(tick);
        // SAFETY: all zeros is a valid itimerspec: no interval.
        let mut value: libc::itimerspec = unsafe { std::mem::zeroed() };
        // A value of zero would disarm the timer.
        value.it_value =
            libc::timespec { tv_sec: (tick.0 / S) as libc::time_t, tv_nsec: (tick.0 % S).max(1) as libc::c_long };
        // SAFETY: `value` is valid, the old value is not asked for.
        check(unsafe {
            libc::timerfd_settime(self.timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &value, std::ptr::null_mut())
        })
    }

    pub fn reap(&mut self, deliver: &mut impl FnMut(Event<'_>)) -> io::Result<usize> {
        let deliver = &mut |source: Source, delivery: Delivery<'_>| deliver(Event::Delivery(source, delivery));
        let mut reads = 0;
        loop {
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
            // SAFETY: `events` has room for `EVENTS` events.
            let ready = unsafe { libc::epoll_wait(self.set.as_raw_fd(), events.as_mut_ptr(), EVENTS as i32, 0) };
            if ready < 0 {
                let error = io::Error::last_os_error();
                return if error.kind() == io::ErrorKind::Interrupted { Ok(reads) } else { Err(error) };
            }
            for event in &events[..ready as usize] {
                if event.u64 == TIMER {
                    self.disarm();
                } else {
                    let source = Source { slot: event.u64 as u32, generation: (event.u64 >> 32) as u32 };
                    reads += self.drain(source, deliver)?;
                }
            }
            if (ready as usize) < EVENTS {
                return Ok(reads);
            }
        }
    }

    /// Reads a connection once; what is left keeps the set readable.
    fn drain(&mut self, source: Source, deliver: &mut impl FnMut(Source, Delivery<'_>)) -> io::Result<usize> {
        let fd = self.descriptors[source.slot as usize];
        match receive(fd, &mut self.buffer) {
            Ok((0, _)) => {
                self.forget(fd)?;
                deliver(source, Delivery::Eof);
            }
            Ok((length, stamp_ns)) => deliver(source, Delivery::Bytes { bytes: &self.buffer[..length], stamp_ns }),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(0);
            }
            Err(error) => {
                self.forget(fd)?;
                deliver(source, Delivery::Error(error.raw_os_error().unwrap_or(libc::EIO)));
            }
        }
        Ok(1)
    }

    fn disarm(&mut self) {
        self.armed = None;
        let mut expirations = [0u8; 8];
        // SAFETY: a timerfd read fills at most the eight bytes given; when it has not fired it fails harmlessly.
        let _ = unsafe { libc::read(self.timer.as_raw_fd(), expirations.as_mut_ptr().cast(), 8) };
    }

    fn add(&self, fd: RawFd, data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: data };
        // SAFETY: `event` is valid for the call.
        check(unsafe { libc::epoll_ctl(self.set.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) })
    }
}

/// # Safety
/// `fd`, when not negative, must be a descriptor that nobody else owns.
unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: by this function's contract.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
