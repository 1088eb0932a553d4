//! What is kept of every request, and the blocks in which it travels from a worker to the collector.

use crate::time::{MS, Tick};

pub mod arrivals;
pub mod collector;
pub mod facts;
pub mod live;
mod names;
pub mod store;
pub mod trace;

/// Everything measured about one request. Instants that were not reached are `None`.
///
/// Variable parts (arrivals, answer, error text) stand in the arenas of the [`Block`] that holds the record; the
/// spans here point into them.
#[derive(Clone, Debug, Default)]
pub struct RequestRecord {
    /// The request's number in its phase, from 0; request `i` is the same for every worker count.
    pub index: u64,
    pub phase: Phase,
    pub worker: u16,
    /// Worker-local number of the lane that carried it.
    pub lane: u32,
    /// The number of its conversation in its phase, from 0; `None` for single requests.
    pub conversation: Option<u64>,
    /// The turn of its conversation, from 0; 0 for single requests.
    pub turn: u32,
    /// The connection had carried an earlier request.
    pub reused: bool,
    /// The first, reused connection died before any response byte and the request was sent again on a fresh one.
    pub retried: bool,

    /// When the plan wanted the request on the wire.
    pub due: Tick,
    /// A worker took it up.
    pub picked: Option<Tick>,
    /// The connection was ready; equals `picked` on a reused one.
    pub connected: Option<Tick>,
    /// Length of the TLS handshake, where there was one.
    pub tls_handshake_ns: Option<u64>,
    /// First byte handed to the kernel.
    pub write_start: Option<Tick>,
    /// Last byte accepted by the kernel.
    pub write_end: Option<Tick>,
    /// First byte of the response head arrived.
    pub first_byte: Option<Tick>,
    /// First event that carries output arrived.
    pub first_token: Option<Tick>,
    /// Last event that carries output arrived.
    pub last_token: Option<Tick>,
    /// The response was complete, or the moment of failure.
    pub end: Tick,
    /// Closed loop: when the previous response on this lane ended.
    pub previous_end: Option<Tick>,

    pub outcome: Outcome,
    /// The response came as SSE.
    pub streamed: bool,
    /// HTTP status; 0 when no head arrived.
    pub status: u16,
    /// From the server's usage; `None` when it sent none.
    pub input_tokens: Option<u32>,
    pub output_tokens: Option<u32>,
    pub cached_tokens: Option<u32>,
    pub reasoning_tokens: Option<u32>,
    pub token_source: TokenSource,
    /// What the server itself states of this request's time.
    pub server_times: Option<ServerTimes>,
    pub finish: Finish,
    /// SSE events with data, `[DONE]` included ("packages").
    pub events: u32,
    /// Output events that shared one read with a later output event: their arrival is an upper bound.
    pub coalesced: u32,
    /// Reads that brought bytes of this response, and those of them that carried two or more output events.
    pub reads: u32,
    pub coalesced_reads: u32,
    /// Reads whose arrival is the kernel's stamp; the others carry the instant they were reaped.
    pub stamped_reads: u32,
    /// Sum and maximum of the receive lag (reaped − arrived) over the reads, in nanoseconds.
    pub receive_lag_sum_ns: u64,
    pub receive_lag_max_ns: u64,
    /// Bytes of the response, head and framing included.
    pub received_bytes: u64,

    /// Arrival of every event with output, in [`Block::arrivals`].
    pub arrivals: Span,
    /// Answer text, reasoning text and error text (UTF-8), in [`Block::bytes`].
    pub text: Span,
    pub reasoning: Span,
    pub error: Span,
    /// The request's JSON body, where the workload alone cannot give it: what a turn of a conversation sends depends on
    /// the answers before it. In [`Block::bytes`].
    pub body: Span,
    /// The raw response body, kept with `--save full`, in [`Block::bytes`].
    pub raw: Span,
}

/// Stands between the answers of one request with several choices, in the stored text and in the stored reasoning: the
/// record separator of ASCII, which no model writes.
pub const CHOICES_APART: u8 = 0x1e;

/// A range of one of a block's arenas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    /// The part of `arena` this span names.
    pub fn of<T>(self, arena: &[T]) -> &[T] {
        &arena[self.start as usize..][..self.len as usize]
    }
}

/// Which part of a run a request belongs to. Only `Measured` requests enter the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    Preflight,
    Warmup,
    #[default]
    Measured,
    /// Beside the measured requests; see [`crate::engine::witness`].
    Witness,
}

/// Where token counts come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TokenSource {
    #[default]
    Unknown,
    /// The server's usage.
    Server,
    /// Counted here with the tokenizer, after the run.
    Tokenizer,
    /// Found by the user's program, after the run.
    Program,
}

/// What a server states, inside its answer, of the time it took for one request. Lengths are nanoseconds of its own
/// clock; what it leaves out is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerTimes {
    /// Waiting before any work on it began. llama.cpp does not tell.
    pub queue_ns: Option<u64>,
    /// From the begin of the work to the first output token.
    pub prefill_ns: Option<u64>,
    /// From the first to the last output token.
    pub decode_ns: Option<u64>,
    /// Output tokens as the server counts them beside its times.
    pub tokens: Option<u32>,
}

/// The finish reason a server gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Finish {
    #[default]
    None,
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    Other,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outcome {
    Ok,
    Failed(Failure),
    /// The run ended while it was in flight.
    #[default]
    Unfinished,
}

/// The class of a failure. Network trouble is data: each failed request has exactly one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// The name did not resolve or no connection could be made (refused, unreachable).
    Connect,
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// Writing the request failed.
    Write,
    /// No byte came for longer than the read timeout.
    ReadTimeout,
    /// The whole request took longer than the total timeout.
    TotalTimeout,
    /// The connection was reset.
    Reset,
    /// The connection was closed before any response byte.
    ClosedEarly,
    /// The response ended before its framing or its stream said so.
    Truncated,
    /// Bytes that are not HTTP/1.1, not chunked coding, or an event past the size limit.
    Protocol,
    /// A status other than 200.
    Status,
    /// An error inside a 200 response (`data: {"error":...}`).
    InStream,
    /// A 200 response without any output.
    Empty,
    /// A body or an event that is not the JSON it should be.
    Body,
}

impl Failure {
    /// Every class, in the order of the failure table.
    pub const ALL: [Failure; 14] = [
        Failure::Connect,
        Failure::ConnectTimeout,
        Failure::Tls,
        Failure::Write,
        Failure::ReadTimeout,
        Failure::TotalTimeout,
        Failure::Reset,
        Failure::ClosedEarly,
        Failure::Truncated,
        Failure::Protocol,
        Failure::Status,
        Failure::InStream,
        Failure::Empty,
        Failure::Body,
    ];

    /// The name in tables, files and the database.
    pub fn name(self) -> &'static str {
        match self {
            Failure::Connect => "connect",
            Failure::ConnectTimeout => "connect_timeout",
            Failure::Tls => "tls",
            Failure::Write => "write",
            Failure::ReadTimeout => "read_timeout",
            Failure::TotalTimeout => "total_timeout",
            Failure::Reset => "reset",
            Failure::ClosedEarly => "closed_early",
            Failure::Truncated => "truncated",
            Failure::Protocol => "protocol",
            Failure::Status => "status",
            Failure::InStream => "in_stream_error",
            Failure::Empty => "empty",
            Failure::Body => "body",
        }
    }
}

/// A batch of records with the arenas their spans point into. Blocks are allocated once, travel whole from worker to
/// collector, and come back empty.
#[derive(Debug, Default)]
pub struct Block {
    pub worker: u16,
    pub records: Vec<RequestRecord>,
    pub arrivals: Vec<Tick>,
    pub bytes: Vec<u8>,
}

impl Block {
    /// Records in a full block.
    pub const CAPACITY: usize = 256;

    /// An empty block of a worker, with room for [`Block::CAPACITY`] records.
    pub fn new(worker: u16) -> Block {
        Block { worker, records: Vec::with_capacity(Block::CAPACITY), arrivals: Vec::new(), bytes: Vec::new() }
    }

    /// Whether the block should travel now.
    pub fn is_full(&self) -> bool {
        self.records.len() >= Block::CAPACITY || self.bytes.len() > 4 << 20
    }

    /// Empties the block, keeping its memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.arrivals.clear();
        self.bytes.clear();
    }

    /// Appends bytes to the arena and says where they stand.
    pub fn keep_bytes(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Span { start, len: bytes.len() as u32 }
    }

    /// Appends arrivals to the arena and says where they stand.
    pub fn keep_arrivals(&mut self, arrivals: &[Tick]) -> Span {
        let start = self.arrivals.len() as u32;
        self.arrivals.extend_from_slice(arrivals);
        Span { start, len: arrivals.len() as u32 }
    }
}

/// What travels from the workers to the collector.
#[derive(Debug)]
pub enum Parcel {
    /// Finished requests.
    Block(Block),
    /// A worker's account of itself at the end of a phase.
    Worker(Box<WorkerReport>),
    /// What a look at the server showed.
    Server(Vec<ServerSample>),
}

/// One value of the server's own metrics at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSample {
    pub at: Tick,
    pub name: String,
    /// As they stand between the braces of a page of metrics.
    pub labels: String,
    pub value: f64,
}

/// A worker that looks at its sockets again only after this long has stalled, nanoseconds.
pub const STALL_NS: u64 = 2 * MS;

/// A worker left its sockets alone from one look at them to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    pub begin: Tick,
    pub end: Tick,
}

/// One worker's account of itself over one phase: our own error, measured.
#[derive(Clone, Debug)]
pub struct WorkerReport {
    pub worker: u16,
    pub phase: Phase,
    /// The core it was pinned to; `None` when pinning failed.
    pub core: Option<u16>,
    /// Receive lag (reaped − arrived) of every read, nanoseconds.
    pub receive_lag_ns: hdrhistogram::Histogram<u64>,
    /// Time between two looks of the loop at its completions while it had work, nanoseconds: loop stalls.
    pub loop_gap_ns: hdrhistogram::Histogram<u64>,
    /// The same where it had nothing to do and slept in between.
    pub sleep_ns: hdrhistogram::Histogram<u64>,
    /// When it left its sockets alone for longer than [`STALL_NS`], at work or asleep, in order; `None` where that is not known in full.
    pub stalls: Option<Vec<Stall>>,
    /// CPU time of the worker thread in the phase, user and system, nanoseconds.
    pub cpu_user_ns: u64,
    pub cpu_system_ns: u64,
    /// Wall time of the phase, nanoseconds.
    pub wall_ns: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    /// Completions of the receive ring, and times the ring ran out of buffers.
    pub reads: u64,
    pub buffer_shortages: u64,
    pub connections_opened: u64,
    /// Highest number of requests in flight on this worker.
    pub peak_in_flight: u64,
    /// Blocks allocated because the collector had not returned one in time.
    pub extra_blocks: u64,
    /// Requests of the schedule that were never sent because the run ended first.
    pub unsent: u64,
}

impl WorkerReport {
    /// The longest that it left its sockets alone though it had work, should have woken up, or something lay there,
    /// nanoseconds.
    pub fn longest_stall_ns(&self) -> u64 {
        let asleep_ns = Some(self.sleep_ns.max()).filter(|&ns| ns > STALL_NS);
        self.loop_gap_ns.max().max(self.receive_lag_ns.max()).max(asleep_ns.unwrap_or(0))
    }
}
