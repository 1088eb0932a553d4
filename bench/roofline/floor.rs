//! The floor: the cost of receiving without processing. Uses io_uring with multishot receives into a buffer ring and
//! deferred task work, and discards the bytes.

#![expect(unsafe_code, reason = "a ring of provided buffers is memory shared with the kernel")]

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use ringmark::host::usage::thread_usage;

use crate::load::{ClientFigures, Load, request};

const BUFFERS: u16 = 1024;
const BUFFER_LEN: usize = 4096;

/// Sends one request on each of `load.streams` connections and discards the responses until no more bytes arrive.
pub fn run(address: SocketAddr, load: Load) -> ClientFigures {
    core_affinity::set_for_current(core_affinity::CoreId { id: 0 });
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize((load.streams * 2).next_power_of_two().clamp(4096, 65_536) as u32)
        .build(1024)
        .expect("this kernel has io_uring with deferred task work");
    let mut buffers = Buffers::new(&ring);
    let streams: Vec<TcpStream> = (0..load.streams).map(|_| connect(address)).collect();
    for (number, stream) in streams.iter().enumerate() {
        let receive = opcode::RecvMulti::new(Fd(stream.as_raw_fd()), 0).build().user_data(number as u64);
        // SAFETY: the descriptors and buffers outlive their use by the ring.
        while unsafe { ring.submission().push(&receive) }.is_err() {
            ring.submit().expect("entries are valid");
        }
    }
    ring.submit().expect("entries are valid");
    let request = request(address);
    for mut stream in &streams {
        stream.write_all(&request).expect("the server reads");
    }
    let before = thread_usage();
    let reads = discard(&mut ring, &mut buffers, &streams, load);
    let after = thread_usage();
    let cpu_ns = (after.user_ns + after.system_ns) - (before.user_ns + before.system_ns);
    ClientFigures { cpu_ns, events: reads, ..ClientFigures::default() }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).expect("the server listens")
}

fn discard(ring: &mut IoUring, buffers: &mut Buffers, streams: &[TcpStream], load: Load) -> u64 {
    // The last token is written together with the end of the response, so there is one read per token.
    let expected = (load.streams * load.tokens) as u64;
    let (mut reads, mut last) = (0, Instant::now());
    let timeout = Timespec::new().nsec(100_000_000);
    while reads < expected && last.elapsed() < Duration::from_secs(3) {
        let arguments = SubmitArgs::new().timespec(&timeout);
        let _ = ring.submitter().submit_with_args(1, &arguments);
        let mut again = Vec::new();
        for entry in ring.completion() {
            if let Some(buffer) = cqueue::buffer_select(entry.flags()) {
                buffers.give_back(buffer);
                reads += 1;
                last = Instant::now();
            }
            if !cqueue::more(entry.flags()) && entry.result() != 0 {
                again.push(entry.user_data());
            }
        }
        buffers.publish();
        for number in again {
            let fd = Fd(streams[number as usize].as_raw_fd());
            // SAFETY: as above.
            let _ = unsafe { ring.submission().push(&opcode::RecvMulti::new(fd, 0).build().user_data(number)) };
        }
    }
    reads
}

/// The buffers that the kernel fills. They are leaked, because the process ends soon.
struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
}

impl Buffers {
    fn new(ring: &IoUring) -> Buffers {
        let page = |bytes| std::alloc::Layout::from_size_align(bytes, 4096).expect("a valid layout");
        // SAFETY: the layouts are not empty, and the memory is never freed.
        let mut buffers = unsafe {
            let entries = std::alloc::alloc_zeroed(page(BUFFERS as usize * size_of::<BufRingEntry>())).cast();
            let memory = std::alloc::alloc_zeroed(page(BUFFERS as usize * BUFFER_LEN));
            ring.submitter().register_buf_ring(entries as u64, BUFFERS, 0).expect("the kernel has buffer rings");
            Buffers { entries, memory, tail: 0 }
        };
        (0..BUFFERS).for_each(|buffer| buffers.give_back(buffer));
        buffers.publish();
        buffers
    }

    fn give_back(&mut self, buffer: u16) {
        // SAFETY: the index is below `BUFFERS`, and the kernel does not read the entry before the tail passes it.
        unsafe {
            let entry = &mut *self.entries.add((self.tail & (BUFFERS - 1)) as usize);
            entry.set_addr(self.memory.add(buffer as usize * BUFFER_LEN) as u64);
            entry.set_len(BUFFER_LEN as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the tail is the reserved field of the first entry.
        unsafe { (*BufRingEntry::tail(self.entries).cast::<AtomicU16>()).store(self.tail, Ordering::Release) };
    }
}
