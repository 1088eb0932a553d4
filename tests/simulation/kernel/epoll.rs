//! The simulated sockets behind a level-triggered set with a timer, for the receive path without a ring.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::task::Waker;

use rand::RngExt;
use ringmark::engine::receive::epoll::{EVENTS, TIMER};
use ringmark::engine::receive::simulated_set::SimulatedSet;
use ringmark::engine::socket::Opening;
use ringmark::time::{Tick, US};

use super::{SharedWorld, Socket, What, Work, World, open};

/// The set of a worker.
pub struct SimSet(pub SharedWorld);

/// What the set of a worker needs beside its sockets.
#[derive(Default)]
pub(super) struct SetState {
    timer_ns: Option<u64>,
    /// A slot that waited for room can go on.
    pub(super) is_slot_woken: bool,
}

impl Socket {
    fn is_readable(&self) -> bool {
        self.receive.is_some() && (!self.unread.is_empty() || self.fin || self.reset)
    }

    /// Wakes the slot that waits for room. Returns whether one did.
    pub(super) fn wake_slot(&mut self) -> bool {
        self.slot.take().map(Waker::wake).is_some()
    }
}

impl World {
    fn timer_has_fired(&self) -> bool {
        self.set.timer_ns.is_some_and(|at_ns| at_ns <= self.time.now_ns())
    }

    /// Whether a socket is readable. Forgets those that were and are not any more.
    fn has_readable(&mut self) -> bool {
        while let Some(Work::Read(socket)) = self.work.front().copied() {
            if self.sockets[socket].is_readable() {
                return true;
            }
            self.sockets[socket].is_queued = false;
            self.work.pop_front();
        }
        false
    }

    /// Whether a socket has room; if not, lets `waker` be woken when it has.
    pub(super) fn is_writable(&mut self, number: usize, waker: &Waker) -> bool {
        let at_ns = self.sockets[number].has_room_ns;
        if at_ns <= self.time.now_ns() {
            return true;
        }
        let is_first = self.sockets[number].slot.replace(waker.clone()).is_none();
        if is_first && at_ns < u64::MAX {
            self.schedule(at_ns, number, What::Writable);
        }
        false
    }

    fn read_from_set(&mut self, number: usize, buffer: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
        self.pass(self.faults.read_ns);
        let socket = &mut self.sockets[number];
        if socket.unread.is_empty() {
            return match (socket.reset, socket.fin) {
                (true, _) => Err(io::Error::from_raw_os_error(libc::ECONNRESET)),
                (false, true) => Ok((0, None)),
                (false, false) => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let read = self.take(number, buffer.len());
        buffer[..read.bytes.len()].copy_from_slice(&read.bytes);
        Ok((read.bytes.len(), read.stamp_ns))
    }
}

impl SimulatedSet for SimSet {
    fn connect(&mut self, _to: SocketAddr) -> io::Result<Opening> {
        open(&self.0)
    }

    fn add(&mut self, socket: RawFd, data: u64) {
        let world = &mut *self.0.borrow_mut();
        world.pass(US);
        world.sockets[socket as usize].receive = Some(data);
        if world.sockets[socket as usize].is_readable() {
            world.sockets[socket as usize].is_queued = true;
            world.work.push_back(Work::Read(socket as usize));
        }
    }

    fn remove(&mut self, socket: RawFd) {
        self.0.borrow_mut().sockets[socket as usize].receive = None;
    }

    fn ready(&mut self, data: &mut [u64; EVENTS]) -> io::Result<usize> {
        let world = &mut *self.0.borrow_mut();
        world.pass(US);
        if world.happens(world.faults.interrupt) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut count = 0;
        if world.timer_has_fired() {
            (data[0], count) = (TIMER, 1);
        }
        for _ in 0..world.work.len() {
            if count == EVENTS {
                return Ok(count);
            }
            let Some(Work::Read(socket)) = world.work.pop_front() else { continue };
            if world.sockets[socket].is_readable() {
                data[count] = world.sockets[socket].receive.unwrap_or(TIMER);
                count += 1;
                world.work.push_back(Work::Read(socket));
            } else {
                world.sockets[socket].is_queued = false;
            }
        }
        if count < EVENTS {
            world.quiet_ns = world.time.now_ns();
        }
        Ok(count)
    }

    fn receive(&mut self, socket: RawFd, buffer: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
        self.0.borrow_mut().read_from_set(socket as usize, buffer)
    }

    fn set_timer(&mut self, at: Tick) {
        self.0.borrow_mut().set.timer_ns = Some(at.0);
    }

    fn clear_timer(&mut self) {
        self.0.borrow_mut().set.timer_ns = None;
    }

    fn wait(&mut self) {
        let world = &mut *self.0.borrow_mut();
        world.pass(US);
        while !world.has_readable() && !world.timer_has_fired() && !world.set.is_slot_woken {
            let next_ns = [world.next_arrival_ns(), world.set.timer_ns].into_iter().flatten().min();
            world.time.pass_until(next_ns.expect("the event loop limits its waits"));
            world.receive_arrivals();
        }
        world.set.is_slot_woken = false;
        let wake_up_ns = world.rng.random_range(US..world.faults.wake_up_ns);
        world.pass(wake_up_ns);
    }
}
