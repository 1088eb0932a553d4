//! Servers whose name has several addresses: addresses of the loopback network, injected below the resolver.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use super::harness::{FinishedRun, perf_at, spec};
use ringmark::finding::Finding;
use ringmark::mock::{Config, Mock};
use ringmark::plan::{Target, Transport};
use ringmark::server::addresses::{Answer, choose, probe};
use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, listen, socket};

const QUICK: &str = "ttft=2ms&itl=1ms&tokens=3";

/// A mock on this address of the loopback network.
fn mock_on(ip: [u8; 4]) -> Mock {
    Mock::start(&Config::from_query(QUICK).unwrap(), &[], SocketAddr::from((ip, 0))).unwrap()
}

/// An address on which nothing listens.
fn refused() -> SocketAddr {
    TcpListener::bind("127.0.0.9:0").unwrap().local_addr().unwrap()
}

/// An address that does not answer: its queue of connections is full, so the kernel drops further ones.
struct Silent {
    address: SocketAddr,
    _sockets: Vec<OwnedFd>,
}

impl Silent {
    fn new() -> Silent {
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&listener, &SocketAddr::from(([127, 0, 0, 8], 0))).unwrap();
        listen(&listener, 0).unwrap();
        let address = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
        let mut sockets = vec![listener];
        loop {
            let client = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            rustix::io::ioctl_fionbio(&client, true).unwrap();
            let _ = connect(&client, &address);
            sockets.push(client);
            if probe(&[address], &[], Duration::from_millis(100)) == [Answer::None] {
                return Silent { address, _sockets: sockets };
            }
        }
    }
}

/// A target whose name has these addresses.
fn target(mock: &Mock, addresses: &[SocketAddr]) -> Target {
    let plan = super::harness::plan(&spec(mock));
    Target { transport: Transport::Tcp(addresses.to_vec()), host: "llm.example".to_string(), ..plan.target.clone() }
}

fn addresses(target: &Target) -> Vec<SocketAddr> {
    match &target.transport {
        Transport::Tcp(addresses) => addresses.clone(),
        Transport::Unix(_) => Vec::new(),
    }
}

/// A run with `parallel` connections to these addresses.
fn run(mock: &Mock, to: &[SocketAddr], rotate: bool, parallel: u32) -> FinishedRun {
    let load = spec(mock).with(|s| {
        s.load.parallel = vec![parallel];
        s.load.number = vec![u64::from(parallel) * 4];
        s.target.address_rotation = rotate;
        s.target.no_test_connection = true;
    });
    perf_at(&load, Transport::Tcp(to.to_vec()), Arc::new(AtomicU8::new(0))).unwrap()
}

#[test]
fn every_address_is_probed_at_the_same_time() {
    let (mock, silent) = (mock_on([127, 0, 0, 2]), Silent::new());
    let found = probe(&[silent.address, refused(), mock.addr()], &[], Duration::from_secs(60));
    assert_eq!(found, [Answer::None, Answer::Refused, Answer::Connected]);
}

#[test]
fn the_first_address_that_answers_is_used() {
    let (one, two, silent) = (mock_on([127, 0, 0, 2]), mock_on([127, 0, 0, 3]), Silent::new());
    let mut target = target(&one, &[silent.address, two.addr(), one.addr()]);
    // The timeout would be used up if the addresses were tried one after the other.
    let notes = choose(&mut target, false, &[], Duration::from_secs(3600));
    assert_eq!(addresses(&target), [two.addr()]);
    let [Finding::SeveralAddresses { host, used, spare, silent: quiet, rotated: false }] = &notes[..] else {
        panic!("{notes:?}")
    };
    let texts = [two.addr(), one.addr(), silent.address].map(|address| vec![address.to_string()]);
    assert_eq!((host.as_str(), [used, spare, quiet]), ("llm.example", texts.each_ref()));
    assert!(notes[0].en().contains("--address-rotation"));

    let finished = run(&one, &addresses(&target), false, 4);
    finished.assert_all_ok();
    assert_eq!((one.stats().requests, two.stats().requests), (0, 16));
    assert_eq!(finished.stored.facts.addresses, [two.addr().to_string()]);
}

#[test]
fn rotation_spreads_connections_over_all_addresses_that_answer() {
    let (one, two) = (mock_on([127, 0, 0, 2]), mock_on([127, 0, 0, 3]));
    let mut target = target(&one, &[one.addr(), refused(), two.addr()]);
    let notes = choose(&mut target, true, &[], Duration::from_secs(3600));
    assert_eq!(addresses(&target), [one.addr(), two.addr()]);
    assert!(matches!(&notes[..], [Finding::SeveralAddresses { rotated: true, .. }]), "{notes:?}");
    let finished = run(&one, &addresses(&target), true, 6);
    finished.assert_all_ok();
    // One of each is the probe's, which the mock may accept later than the probe ends.
    assert_eq!([&one, &two].map(|mock| mock.stats().connections), [4, 4]);
    assert_eq!(finished.stored.facts.addresses.len(), 2);
}

#[test]
fn names_without_a_choice_have_no_note() {
    let one = mock_on([127, 0, 0, 2]);
    for given in [vec![one.addr()], vec![refused(), one.addr()]] {
        let mut target = target(&one, &given);
        assert_eq!(choose(&mut target, false, &[], Duration::from_secs(3600)), []);
        assert_eq!(addresses(&target), [one.addr()]);
    }
    // A server that is not there yet: all addresses are kept.
    let given = [refused(), refused()];
    let mut target = target(&one, &given);
    assert_eq!(choose(&mut target, false, &[], Duration::from_secs(3600)), []);
    assert_eq!(addresses(&target), given);
}

/// No address had answered when the plan was made: the run is on the one that answered the connection test.
#[test]
fn a_server_that_starts_late_has_one_address() {
    let (mock, silent) = (mock_on([127, 0, 0, 2]), Silent::new());
    let mut load = spec(&mock);
    load.target.no_test_connection = false;
    let to = [silent.address, refused(), mock.addr()];
    let finished = perf_at(&load, Transport::Tcp(to.to_vec()), Arc::new(AtomicU8::new(0))).unwrap();
    finished.assert_all_ok();
    assert_eq!(finished.stored.facts.addresses, [mock.addr().to_string()]);
    let found = finished.stored.findings.iter().any(|note| matches!(note, Finding::SeveralAddresses { .. }));
    assert!(found, "{:?}", finished.stored.findings);
}

/// No address had answered before the run: they are tried one after the other, and the one that answers is remembered.
#[test]
fn a_silent_address_does_not_use_up_the_timeout() {
    let (mock, silent) = (mock_on([127, 0, 0, 2]), Silent::new());
    let finished = run(&mock, &[silent.address, refused(), mock.addr()], false, 2);
    finished.assert_all_ok();
    assert_eq!(mock.stats().requests, 8);
    assert_eq!(finished.stored.facts.addresses, Vec::<String>::new());
}
