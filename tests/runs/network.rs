//! The network's part of requests, against truth: on loopback, and over a network with delay and loss.
//!
//! The latter is a TUN device in a network namespace of its own, and a relay that exchanges the two addresses of each
//! packet: what is sent to the peer's address comes back from it. Checksums stay valid, because they are sums. The test
//! starts itself again in the namespace, for which it must be root and needs `unshare` and `ip`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::harness::{FinishedRun, mock, perf, spec, truths};
use ringmark::finding::Finding;
use ringmark::mock::{Config, Mock};
use ringmark::time::MS;

/// Set in the process in the namespace.
const INSIDE: &str = "RINGMARK_TEST_IN_NAMESPACE";
const OWN_ADDRESS: [u8; 4] = [10, 213, 0, 1];
const PEER_ADDRESS: [u8; 4] = [10, 213, 0, 2];
/// Of each packet, in each direction.
const DELAY: Duration = Duration::from_millis(10);
const REQUESTS: u64 = 120;
/// Numbers of requests, in the order in which they are first sent, of which the relay drops the first transmission.
const LOST_REQUESTS: [u64; 2] = [40, 90];
/// Of this one it drops a segment of the answer, with others behind it.
const LOST_ANSWER: u64 = 65;

#[test]
fn loopback_has_no_network() {
    let mock = mock("ttft=3ms&itl=1ms&tokens=4");
    let run = perf(&spec(&mock));
    run.assert_all_ok();
    let clock_error_ns = run.summary.measurement_error.clock_ns as i64;
    let received: HashMap<String, _> =
        truths(&mock).into_iter().map(|truth| (truth.request_id, truth.received_last)).collect();
    for request in &run.measured {
        let network = &request.record.network;
        assert_eq!((network.retransmitted, network.out_of_order), (Some(0), Some(0)), "{network:?}");
        assert!(network.min_rtt_ns <= network.rtt_ns && network.min_rtt_ns > Some(0), "{network:?}");
        // The receive path of machines without io_uring has no transmit timestamps.
        let Some(sent) = network.sent else { continue };
        let received_last = received[&format!("{}-m{}", run.id_prefix, request.record.index)];
        assert!(sent >= request.record.write_start.unwrap(), "sent before it was written");
        assert!(received_last.ns_since(sent) > -clock_error_ns, "received before it was sent");
        let acknowledged = network.acknowledged.unwrap();
        assert!(acknowledged >= sent && acknowledged <= request.record.end.plus_ns(MS), "{network:?}");
    }
    let network = run.summary.network.as_ref().unwrap();
    assert_eq!((network.recorded, network.retransmitted, network.out_of_order), (40, 0, 0));
}

#[test]
fn delay_and_loss_are_attributed_to_the_network() {
    if std::env::var_os(INSIDE).is_some() {
        return inside_the_namespace();
    }
    let name = "network::delay_and_loss_are_attributed_to_the_network";
    let available =
        Command::new("unshare").args(["-n", "sh", "-c", "ip link show lo && test -c /dev/net/tun"]).output();
    if !available.as_ref().is_ok_and(|output| output.status.success()) {
        // Some machines do not allow a network namespace.
        eprintln!("skipped: it needs root, unshare, ip and /dev/net/tun: {available:?}");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let inside =
        Command::new("unshare").arg("-n").arg(program).args([name, "--exact", "--nocapture"]).env(INSIDE, "1").output();
    let output = inside.unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

fn inside_the_namespace() {
    let device = open_device();
    let mut sender = device.try_clone().unwrap();
    let (packets, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || relay(device, packets));
    std::thread::spawn(move || {
        for (at, packet) in due {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            sender.write_all(&packet).unwrap();
        }
    });
    let config = Config::from_query("ttft=5ms&itl=3ms&tokens=12").unwrap();
    let mock = Mock::start(&config, &[], SocketAddr::from((OWN_ADDRESS, 0))).unwrap();
    let peer = SocketAddr::from((PEER_ADDRESS, mock.addr().port()));
    // One request after the other, so that the relay's numbers are those of the client.
    let run = perf(&spec(&mock).with(|s| {
        s.target.url = Some(format!("http://{peer}/v1/chat/completions"));
        s.target.no_test_connection = true;
        s.load.number = vec![REQUESTS];
        s.load.parallel = vec![1];
    }));
    check(&run);
}

fn check(run: &FinishedRun) {
    run.assert_all_ok();
    let round_trip_ns = 2 * DELAY.as_nanos() as u64;
    for request in &run.measured {
        let (record, network) = (&request.record, &request.record.network);
        let context = format!("request {}: {network:?}", record.index);
        let lost = LOST_REQUESTS.contains(&record.index);
        assert_eq!(network.retransmitted.unwrap() > 0, lost, "{context}");
        assert_eq!(network.out_of_order.unwrap() > 0, record.index == LOST_ANSWER, "{context}");
        assert!(network.min_rtt_ns.unwrap() >= round_trip_ns - MS && network.rtt_ns >= network.min_rtt_ns, "{context}");
        let (Some(sent), Some(acknowledged)) = (network.sent, network.acknowledged) else { continue };
        assert!(acknowledged.ns_since(sent) as u64 >= round_trip_ns, "{context}");
        let ttft_ns = record.first_token.unwrap().ns_since(sent) as u64;
        assert!(ttft_ns >= round_trip_ns + 5 * MS, "{context}");
    }
    let network = run.summary.network.as_ref().unwrap();
    assert_eq!((network.recorded, network.retransmitted, network.out_of_order), (REQUESTS, 2, 1));
    assert!(network.server_ttft.count == 0 || network.server_ttft.p50 >= 3 * MS, "{network:?}");
    let is_tail = |finding: &&Finding| matches!(finding, Finding::LossTail { above: 2, with_loss: 2, .. });
    assert!(run.summary.findings.iter().any(|finding| is_tail(&finding)), "{:?}", run.summary.findings);
}

/// Creates the TUN device, with the own address and a route to the peer's.
#[expect(unsafe_code, reason = "no crate in use attaches a TUN device")]
fn open_device() -> File {
    let device = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    /// `struct ifreq` with a name and flags.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    const TUNSETIFF: u64 = 0x4004_54ca;
    const IFF_TUN: u16 = 1;
    const IFF_NO_PI: u16 = 0x1000;
    let mut request = Request { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
    request.name[..4].copy_from_slice(b"tun0");
    // SAFETY: `request` has the layout and size of `struct ifreq`, and is alive.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), TUNSETIFF as _, &raw mut request) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    for command in ["link set lo up", "addr add 10.213.0.1/24 dev tun0", "link set tun0 up"] {
        let status = Command::new("ip").args(command.split(' ')).status().unwrap();
        assert!(status.success(), "ip {command}");
    }
    device
}

/// Returns each packet after [`DELAY`] with its addresses exchanged, except those that are lost.
fn relay(mut device: File, packets: mpsc::Sender<(Instant, Vec<u8>)>) {
    let mut loss = Loss::default();
    let mut buffer = [0; 65_536];
    loop {
        let length = device.read(&mut buffer).unwrap();
        let mut packet = buffer[..length].to_vec();
        // IPv4 with TCP.
        if length < 40 || packet[0] >> 4 != 4 || packet[9] != 6 || loss.takes(&packet) {
            continue;
        }
        let (source, destination) = (packet[12..16].to_vec(), packet[16..20].to_vec());
        packet[12..16].copy_from_slice(&destination);
        packet[16..20].copy_from_slice(&source);
        if packets.send((Instant::now() + DELAY, packet)).is_err() {
            return;
        }
    }
}

/// Which packets are lost.
#[derive(Default)]
struct Loss {
    /// Ports and sequence numbers of segments with data.
    seen: HashSet<(u16, u16, u32)>,
    requests: u64,
    /// Segments of the answer that are still passed on before one is lost.
    answer: VecDeque<bool>,
}

impl Loss {
    fn takes(&mut self, packet: &[u8]) -> bool {
        let tcp = &packet[usize::from(packet[0] & 15) * 4..];
        let data = tcp.get(usize::from(tcp[12] >> 4) * 4..).unwrap_or_default();
        let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        if data.is_empty() || !self.seen.insert((port(0), port(2), sequence)) {
            return false;
        }
        if data.starts_with(b"POST ") {
            let number = self.requests;
            self.requests += 1;
            if number == LOST_ANSWER {
                self.answer = [false, false, false, true].into();
            }
            return LOST_REQUESTS.contains(&number);
        }
        self.answer.pop_front().unwrap_or(false)
    }
}
