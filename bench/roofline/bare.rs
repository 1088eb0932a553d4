//! A bare epoll client, the simplest way to measure: it takes timestamps in user space when a read returns, keeps the
//! load in flight, finds events by their prefix, and does nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use ringmark::host::usage::thread_usage;
use ringmark::time::clock::Clock;
use rustix::event::epoll;

use crate::load::{ClientFigures, Load, request};

struct Stream {
    socket: TcpStream,
    sent: u64,
    last: Option<u64>,
}

/// Runs the load and records every TTFT (from the write) and ITL.
pub fn run(address: SocketAddr, load: Load) -> ClientFigures {
    core_affinity::set_for_current(core_affinity::CoreId { id: 0 });
    let request = request(address);
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).expect("the kernel has epoll");
    let mut streams: Vec<Stream> = (0..load.streams).map(|number| open(address, number, &set)).collect();
    let clock = Clock::new();
    let before = thread_usage();
    let (mut started, mut ended, mut figures) = (0, 0, ClientFigures::default());
    for stream in streams.iter_mut().take(load.requests) {
        send(stream, &request, &clock);
        started += 1;
    }
    let mut ready = Vec::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    while ended < load.requests {
        ready.clear();
        epoll::wait(&set, rustix::buffer::spare_capacity(&mut ready), None).expect("the set is valid");
        clock.maintain(clock.now());
        for event in &ready {
            let stream = &mut streams[event.data.u64() as usize];
            let length = match stream.socket.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => panic!("the server broke a connection: {error}"),
            };
            let now = clock.now().0;
            if record_read(stream, &buffer[..length], now, &mut figures) {
                ended += 1;
                if started < load.requests {
                    started += 1;
                    send(stream, &request, &clock);
                }
            }
        }
    }
    let after = thread_usage();
    figures.cpu_ns = (after.user_ns + after.system_ns) - (before.user_ns + before.system_ns);
    figures
}

fn open(address: SocketAddr, number: usize, set: &rustix::fd::OwnedFd) -> Stream {
    let socket = crate::floor::connect(address);
    socket.set_nodelay(true).and_then(|()| socket.set_nonblocking(true)).expect("options of a fresh socket");
    let data = epoll::EventData::new_u64(number as u64);
    epoll::add(set, &socket, data, epoll::EventFlags::IN).expect("a fresh socket can be added");
    Stream { socket, sent: 0, last: None }
}

fn send(stream: &mut Stream, request: &[u8], clock: &Clock) {
    stream.last = None;
    stream.sent = clock.now().0;
    stream.socket.write_all(request).expect("a small request fits the socket's buffer");
}

/// Records the events of one read. Returns whether the response has ended.
fn record_read(stream: &mut Stream, bytes: &[u8], now: u64, figures: &mut ClientFigures) -> bool {
    const TEXT: &[u8] = br#""content":""#;
    // The empty text of the role chunk is not output.
    for _ in memchr::memmem::find_iter(bytes, TEXT).filter(|at| bytes.get(at + TEXT.len()) != Some(&b'"')) {
        figures.events += 1;
        match stream.last.replace(now) {
            None => figures.ttft_s.push((now - stream.sent) as f64 / 1e9),
            Some(last) => figures.itl_s.push((now - last) as f64 / 1e9),
        }
    }
    bytes.ends_with(b"0\r\n\r\n")
}
