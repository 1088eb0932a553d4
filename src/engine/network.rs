//! The network's part of each request, as the kernel reports it: once per request, when its answer ends, never per event.

use super::socket::Socket;
use crate::net::tcp::{TcpFigures, TransmitStamps, send_stamped, take_stamps, tcp_figures};
use crate::record::NetworkTimes;
use crate::time::clock::Clock;
use crate::time::{S, Tick};

/// Requests of a worker of which the network's part is recorded, at most, per second: a request costs about 5 us.
const RECORDED_PER_S: u64 = 5_000;
/// The same if there are more, of which only a part is recorded: half a percent of a core.
const SAMPLED_PER_S: u64 = 1_000;
/// So many may follow each other at once.
const BURST: u64 = 1_000;
/// A transmit timestamp is of the request's first seconds, however long its answer takes.
const STAMPED_WITHIN_NS: u64 = 60 * S;

/// How often the network's part of a request may still be recorded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NetworkBudget {
    next_at: Tick,
    /// That of a request was not recorded since the last one that was.
    is_sampling: bool,
}

impl NetworkBudget {
    /// Whether that of a request that begins now is recorded.
    pub fn take(&mut self, now: Tick) -> bool {
        const BURST_NS: u64 = BURST * (S / RECORDED_PER_S);
        let next_at = self.next_at.max(Tick(now.0.saturating_sub(BURST_NS)));
        let is_recorded = next_at <= now;
        if is_recorded {
            self.next_at = next_at.plus_ns(S / if self.is_sampling { SAMPLED_PER_S } else { RECORDED_PER_S });
        }
        self.is_sampling = !is_recorded;
        is_recorded
    }
}

/// What is known of the network of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConnectionNetwork {
    is_tcp: bool,
    /// The receive path and the socket allow transmit timestamps.
    has_stamps: bool,
    /// The current request is recorded.
    is_recorded: bool,
    stamps: TransmitStamps,
    /// When the current request began; its counters are the differences to these.
    before: Option<TcpFigures>,
}

impl ConnectionNetwork {
    /// That of a new connection. Segments of its handshake that were sent again count for the request that opened it.
    pub fn new(socket: &Socket, has_stamps: bool) -> ConnectionNetwork {
        let is_tcp = figures(socket).is_some();
        ConnectionNetwork {
            is_tcp,
            has_stamps: is_tcp && has_stamps,
            before: is_tcp.then(TcpFigures::default),
            ..ConnectionNetwork::default()
        }
    }

    /// Its opening is no part of the next request.
    pub fn opened_early(&mut self) {
        self.before = None;
    }

    /// A request begins.
    pub fn begin(&mut self, socket: Option<&Socket>, is_recorded: bool) {
        self.is_recorded = self.is_tcp && is_recorded;
        self.stamps = TransmitStamps::default();
        if self.is_recorded && self.before.is_none() {
            self.before = socket.and_then(figures);
        }
    }

    /// Whether the bytes of the current request are sent with timestamps.
    pub fn stamps_request(&self) -> bool {
        self.is_recorded && self.has_stamps
    }

    /// Drops the timestamps of the part that was sent, as that of the last part counts, and a socket with any counts as
    /// writable.
    pub fn drop_stamps(&mut self, socket: &Socket) {
        self.take_stamps(socket);
        self.stamps = TransmitStamps::default();
    }

    fn take_stamps(&mut self, socket: &Socket) {
        if self.stamps_request()
            && let Ok(fd) = socket.fd()
        {
            take_stamps(fd, &mut self.stamps);
        }
    }

    /// Ends the request that was written from `write_start` on.
    pub fn end(&mut self, socket: Option<&Socket>, write_start: Option<Tick>, clock: &Clock) -> NetworkTimes {
        let Some(socket) = socket.filter(|_| self.is_recorded) else {
            self.before = None;
            return NetworkTimes::default();
        };
        self.take_stamps(socket);
        let (before, after) = (self.before.take(), figures(socket));
        self.before = after;
        self.is_recorded = false;
        let tick = |real_ns: Option<u64>| {
            let (from, now) = (write_start?, clock.now());
            clock.tick_from_kernel(real_ns?, now.min(from.plus_ns(STAMPED_WITHIN_NS)), from).filter(|at| *at >= from)
        };
        let count = |of: fn(&TcpFigures) -> u32| Some(of(&after?).wrapping_sub(of(&before?)));
        NetworkTimes {
            sent: tick(self.stamps.sent_ns),
            acknowledged: tick(self.stamps.acknowledged_ns),
            rtt_ns: after.and_then(|figures| figures.rtt_ns),
            min_rtt_ns: after.and_then(|figures| figures.min_rtt_ns),
            retransmitted: count(|figures| figures.retransmitted),
            out_of_order: count(|figures| figures.out_of_order),
        }
    }
}

/// Writes bytes of a request with transmit timestamps.
pub(crate) fn send_request(socket: &Socket, bytes: &[u8]) -> std::io::Result<usize> {
    send_stamped(socket.fd()?, bytes)
}

fn figures(socket: &Socket) -> Option<TcpFigures> {
    tcp_figures(socket.fd().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MS;

    #[test]
    fn frequent_requests_are_recorded_in_part() {
        let mut budget = NetworkBudget::default();
        let mut recorded_until = |from_ms: u64, to_ms: u64, step_ns: u64| {
            let times = (from_ms * MS..to_ms * MS).step_by(step_ns as usize);
            times.filter(|&ns| budget.take(Tick(1_000 * S + ns))).count() as u64
        };
        assert_eq!(recorded_until(0, 1_000, MS), 1_000, "all of 1,000 a second");
        assert_eq!(recorded_until(1_000, 2_000, 200_000), 5_000, "all of 5,000 a second");
        let of_100_000 = recorded_until(2_000, 3_000, 10_000);
        assert!((SAMPLED_PER_S..=SAMPLED_PER_S + BURST + 100).contains(&of_100_000), "{of_100_000}");
        assert!(recorded_until(3_000, 4_000, 10_000).abs_diff(SAMPLED_PER_S) <= 2);
        assert_eq!(recorded_until(5_000, 6_000, MS), 1_000, "all again");
    }
}
