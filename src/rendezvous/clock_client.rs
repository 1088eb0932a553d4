//! The other shards' side of the clock exchanges: often before the start, once a second during the run, and often at its
//! end.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use ring::hmac::Key;

use super::clock_packet::{self, LAST, Request};
use super::clock_socket::ClockSocket;
use super::random::random_bytes;
use crate::record::clock_exchange::ClockExchange;
use crate::time::Tick;

/// The pause between exchanges before the start.
const BEFORE: Duration = Duration::from_millis(20);
/// The pause during the run.
const DURING: Duration = Duration::from_secs(1);
/// Exchanges at the end, and the pause between them.
const AT_END: u32 = 20;
const END_PAUSE: Duration = Duration::from_millis(2);
/// An answer that comes later is not waited for.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Where shard 0 answers, and the number of this shard.
#[derive(Clone, Debug)]
pub(super) struct ClockTarget {
    pub address: SocketAddr,
    pub key: Key,
    pub shard: u32,
    /// The address of this machine that packets are sent from; any if `None`.
    pub source: Option<IpAddr>,
}

/// Exchanges on a thread of its own, which does not run on cores of workers if it is started off them.
#[derive(Debug)]
pub struct ClockClient {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl ClockClient {
    /// Begins. Each exchange is passed to `take`; the run starts at `start`.
    pub(super) fn start(
        target: ClockTarget,
        start: Tick,
        mut take: Box<dyn FnMut(ClockExchange) + Send>,
    ) -> io::Result<ClockClient> {
        let socket = connect(&target)?;
        let nonce = random_bytes()?;
        let (stop, stopped) = bounded(1);
        let run = move || {
            // The thread makes its own clock.
            let Ok(socket) = ClockSocket::new(socket) else { return };
            let mut exchanges = Exchanges { socket, target, nonce, number: 0 };
            loop {
                exchanges.exchange().into_iter().for_each(&mut take);
                let pause = if exchanges.socket.now() < start { BEFORE } else { DURING };
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            for _ in 0..AT_END {
                let Some(exchange) = exchanges.exchange() else { break };
                take(exchange);
                std::thread::sleep(END_PAUSE);
            }
            exchanges.send_last();
        };
        let thread = std::thread::Builder::new().name("clock".to_string()).spawn(run)?;
        Ok(ClockClient { stop, thread })
    }

    /// Exchanges a last time, then ends.
    pub fn finish(self) {
        // Both fail only if the thread has ended.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

fn connect(target: &ClockTarget) -> io::Result<UdpSocket> {
    let any = match target.address {
        SocketAddr::V4(_) => IpAddr::from([0; 4]),
        SocketAddr::V6(_) => IpAddr::from([0; 16]),
    };
    let source = target.source.filter(|source| source.is_ipv4() == target.address.is_ipv4());
    let socket = UdpSocket::bind((source.unwrap_or(any), 0))?;
    socket.connect(target.address)?;
    Ok(socket)
}

/// The exchanges of a run.
struct Exchanges {
    socket: ClockSocket,
    target: ClockTarget,
    nonce: [u8; 16],
    /// Exchanges so far.
    number: u32,
}

impl Exchanges {
    /// One exchange; `None` if no answer comes in time.
    fn exchange(&mut self) -> Option<ClockExchange> {
        let Exchanges { socket, target, nonce, number } = self;
        let request = Request { nonce: *nonce, shard: target.shard, number: *number };
        *number = (*number + 1) % LAST;
        let packet = clock_packet::write_request(&target.key, request);
        let sent = socket.now();
        socket.socket.send(&packet).ok()?;
        loop {
            let waited_ns = socket.now().ns_since(sent).max(0) as u64;
            let left = TIMEOUT.checked_sub(Duration::from_nanos(waited_ns)).filter(|left| !left.is_zero())?;
            let received = socket.receive(left).ok()??;
            // Answers to earlier requests, and packets of others, are ignored.
            if let Some((first_received, first_sent)) =
                clock_packet::read_answer(&target.key, received.bytes(), request)
            {
                return Some(ClockExchange { sent, first_received, first_sent, received: received.at });
            }
        }
    }

    /// Announces that there are no more exchanges.
    fn send_last(&self) {
        let request = Request { nonce: self.nonce, shard: self.target.shard, number: LAST };
        // Without it, shard 0 waits for some seconds.
        let _ = self.socket.socket.send(&clock_packet::write_request(&self.target.key, request));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::clock_server::ClockServer;
    use super::*;
    use crate::record::clock_exchange::{ShiftBounds, shift_bounds};
    use crate::record::facts::ClockOffset;
    use crate::time::clock::Clock;

    const TOKEN: &[u8] = b"0123456789abcdef";
    const LONG: Duration = Duration::from_secs(60);
    const LOCAL: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

    fn server() -> ClockServer {
        ClockServer::start(LOCAL.into(), TOKEN, 2).unwrap()
    }

    fn target(address: SocketAddr, token: &[u8], shard: u32) -> ClockTarget {
        ClockTarget { address, key: clock_packet::key(token), shard, source: Some(Ipv4Addr::LOCALHOST.into()) }
    }

    /// So many exchanges, as often as before a start.
    fn exchanges(target: ClockTarget, count: usize) -> Vec<ClockExchange> {
        let (sender, all) = crossbeam_channel::unbounded();
        let take = Box::new(move |exchange| {
            let _ = sender.send(exchange);
        });
        let client = ClockClient::start(target, Tick(u64::MAX >> 1), take).unwrap();
        let first: Vec<ClockExchange> = all.iter().take(count).collect();
        client.finish();
        first.into_iter().chain(all.try_iter()).collect()
    }

    /// Forwards packets to a server and back, and delays one direction.
    fn relay(server: SocketAddr, there: Duration, back: Duration) -> SocketAddr {
        let (front, behind) = (UdpSocket::bind(LOCAL).unwrap(), UdpSocket::bind(LOCAL).unwrap());
        behind.connect(server).unwrap();
        for socket in [&front, &behind] {
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        }
        let address = front.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 2 * clock_packet::LENGTH];
            // It ends when nothing comes any more.
            while let Ok((length, from)) = front.recv_from(&mut bytes) {
                std::thread::sleep(there);
                behind.send(&bytes[..length]).unwrap();
                let Ok(length) = behind.recv(&mut bytes) else { continue };
                std::thread::sleep(back);
                front.send_to(&bytes[..length], from).unwrap();
            }
        });
        address
    }

    /// Both sides have one clock: the true difference is 0.
    #[test]
    fn the_true_difference_is_within_behind_a_relay_that_delays_one_direction() {
        const MS: i64 = 1_000_000;
        let server = server();
        for (there_ms, back_ms) in [(3, 0), (0, 3)] {
            let address = relay(server.address(), Duration::from_millis(there_ms), Duration::from_millis(back_ms));
            let all = exchanges(target(address, TOKEN, 1), 100);
            assert!(all.len() >= 100);
            let span = (all[0].sent, all[all.len() - 1].received);
            let within = |exchanges: &[ClockExchange]| match shift_bounds(exchanges, span) {
                ShiftBounds::Within(offset) => offset,
                other => panic!("{other:?}"),
            };
            for exchange in &all {
                let ClockOffset { low_ns, high_ns } = within(std::slice::from_ref(exchange));
                assert!(low_ns <= 0 && 0 <= high_ns, "{exchange:?} {low_ns} {high_ns}");
                let (there_ns, back_ns) = (there_ms as i64 * MS, back_ms as i64 * MS);
                assert!(high_ns >= there_ns && low_ns <= -back_ns, "{exchange:?}");
            }
            let ClockOffset { low_ns, high_ns } = within(&all);
            assert!(low_ns <= 0 && 0 <= high_ns, "{low_ns} {high_ns}");
        }
    }

    #[test]
    fn strangers_get_no_answer() {
        let server = server();
        let socket = UdpSocket::bind(LOCAL).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let key = clock_packet::key(TOKEN);
        let request = |shard| clock_packet::write_request(&key, Request { nonce: [1; 16], shard, number: 0 });
        let wrong_key = clock_packet::write_request(
            &clock_packet::key(b"another token 12"),
            Request { nonce: [1; 16], shard: 1, number: 0 },
        );
        let longer = [&request(1)[..], &[0]].concat();
        // A foreign token, shards that do not exist, other lengths, and nonsense.
        let packets = [&wrong_key[..], &request(0), &request(2), &longer, &request(1)[..40], &[7; 80], b""];
        for packet in packets {
            socket.send_to(packet, server.address()).unwrap();
        }
        assert!(socket.recv(&mut [0; 200]).is_err());
        socket.send_to(&request(1), server.address()).unwrap();
        assert_eq!(socket.recv(&mut [0; 200]).unwrap(), clock_packet::LENGTH, "no longer than the request");
    }

    #[test]
    fn without_an_answer_there_is_no_exchange() {
        let closed = server().address();
        let taken: Box<dyn FnMut(ClockExchange) + Send> = Box::new(|exchange| panic!("{exchange:?}"));
        let client = ClockClient::start(target(closed, TOKEN, 1), Clock::new().now(), taken).unwrap();
        client.finish();
    }

    #[test]
    fn shard_0_waits_only_for_shards_that_exchange_packets() {
        let server = server();
        server.wait_for_others(LONG, &|| panic!("nobody exchanges packets"));
        let all = exchanges(target(server.address(), TOKEN, 1), 3);
        assert!(all.len() > 3, "the last ones are added");
        // Its last packet may still be on its way.
        server.wait_for_others(LONG, &|| false);
    }

    /// A stranger who recorded packets can neither get answers nor keep shard 0 waiting, whatever the shard sends between.
    #[test]
    fn packets_that_come_again_have_no_effect() {
        let server = server();
        let socket = UdpSocket::bind(LOCAL).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let key = clock_packet::key(TOKEN);
        let packet =
            |run: u8, number| clock_packet::write_request(&key, Request { nonce: [run; 16], shard: 1, number });
        let is_answered = |packet: &[u8]| {
            socket.send_to(packet, server.address()).unwrap();
            socket.recv(&mut [0; 200]).is_ok()
        };
        assert!(is_answered(&packet(1, 0)) && is_answered(&packet(1, 1)) && is_answered(&packet(1, 5)));
        for number in [0, 1, 4, 5] {
            assert!(!is_answered(&packet(1, number)), "request {number} came again");
        }
        // While it is active, the wait has a limit.
        server.wait_for_others(Duration::ZERO, &|| panic!("the limit is over"));
        assert!(!is_answered(&packet(1, LAST)), "the last one begins no exchange");
        assert!(is_answered(&packet(2, 0)) && !is_answered(&packet(2, LAST)), "another run of the same call");
        for packet in [packet(1, 0), packet(1, 5), packet(1, 6), packet(1, LAST), packet(2, 0)] {
            assert!(!is_answered(&packet));
        }
        server.wait_for_others(LONG, &|| panic!("both runs have ended"));
    }
}
