//! A set of sockets that a test simulates, behind the same receive path as the kernel's epoll set.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use super::epoll::{EVENTS, SocketSet};
use crate::engine::socket::{Opening, Socket};
use crate::time::Tick;

/// A simulated set; see [`SocketSet`] for the methods that both have. Sockets are named by their numbers.
pub trait SimulatedSet {
    /// Starts to connect.
    ///
    /// # Errors
    /// That of the system call.
    fn connect(&mut self, to: SocketAddr) -> io::Result<Opening>;

    fn add(&mut self, socket: RawFd, data: u64);

    fn remove(&mut self, socket: RawFd);

    /// # Errors
    /// Those of [`SocketSet::ready`].
    fn ready(&mut self, data: &mut [u64; EVENTS]) -> io::Result<usize>;

    /// # Errors
    /// Those of [`SocketSet::receive`].
    fn receive(&mut self, socket: RawFd, buffer: &mut [u8]) -> io::Result<(usize, Option<u64>)>;

    fn set_timer(&mut self, at: Tick);

    fn clear_timer(&mut self);

    /// Waits until a socket is readable, the timer has fired, or a slot that waits for room can go on.
    fn wait(&mut self);
}

/// The sockets of a worker in a simulation.
pub struct Set(pub Box<dyn SimulatedSet>);

impl SocketSet for Set {
    fn add(&mut self, socket: &Socket, data: u64) -> io::Result<()> {
        self.0.add(socket.raw(), data);
        Ok(())
    }

    fn remove(&mut self, socket: &Socket) -> io::Result<()> {
        self.0.remove(socket.raw());
        Ok(())
    }

    fn ready(&mut self, data: &mut [u64; EVENTS]) -> io::Result<usize> {
        self.0.ready(data)
    }

    fn receive(&mut self, socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
        self.0.receive(socket.raw(), buffer)
    }

    fn set_timer(&mut self, at: Tick) -> io::Result<()> {
        self.0.set_timer(at);
        Ok(())
    }

    fn clear_timer(&mut self) {
        self.0.clear_timer();
    }
}
