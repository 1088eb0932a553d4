//! The local address of each new connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use super::socket::{Connecting, connect_tcp};

/// Number of connections from one source address to one destination before the next address is used. This is half of
/// the default ephemeral range; beyond it, the kernel's search for a free port is about ten times slower.
const PER_SOURCE: u64 = 12_000;

/// Starts the next connection from its local address. The addresses of `--source-address` are used in turn, except
/// those without a free port. `opened` counts the connections started so far.
pub(crate) fn start_tcp(given: &[IpAddr], opened: &AtomicU64, to: SocketAddr) -> io::Result<Connecting> {
    let number = opened.fetch_add(1, Ordering::Relaxed);
    let mut started = connect_tcp(to, source_address(given, number, to));
    for next in 1..given.len() as u64 {
        if !started.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EADDRNOTAVAIL)) {
            break;
        }
        started = connect_tcp(to, source_address(given, number + next, to));
    }
    started
}

/// The local address of the connection with this number: one of those given. Without any, the kernel chooses it, except
/// on loopback, where 127.0.0.x is used after the first [`PER_SOURCE`] connections.
fn source_address(given: &[IpAddr], number: u64, to: SocketAddr) -> Option<IpAddr> {
    if !given.is_empty() {
        return Some(given[(number % given.len() as u64) as usize]);
    }
    let turn = number / PER_SOURCE % 200;
    let on_loopback = to.is_ipv4() && to.ip().is_loopback();
    (on_loopback && turn > 0).then(|| IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + turn as u8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_addresses_are_used_in_turn() {
        let to = SocketAddr::from(([127, 0, 0, 1], 80));
        let given: Vec<IpAddr> = ["127.0.0.5", "127.0.0.6"].map(|text| text.parse().unwrap()).to_vec();
        let used: Vec<IpAddr> = (0..4).filter_map(|number| source_address(&given, number, to)).collect();
        assert_eq!(used, [given[0], given[1], given[0], given[1]]);
        assert_eq!(source_address(&[], 5, to), None);
        assert_eq!(source_address(&[], PER_SOURCE, to), Some(IpAddr::from([127, 0, 0, 2])));
        assert_eq!(source_address(&[], PER_SOURCE, SocketAddr::from(([10, 0, 0, 1], 80))), None);
    }
}
