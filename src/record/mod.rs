//! The data model: what is recorded of each request, worker and run, and the messages in which it travels to the
//! collector. Nothing here does I/O; [`crate::store`] reads and writes the database.

pub use oddities::Oddities;

use self::memory::MemoryClaim;
use crate::time::{MS, Tick};

pub mod arrivals;
pub mod clock_exchange;
pub mod delivery;
mod enum_names;
pub mod facts;
pub mod memory;
mod oddities;
pub mod search;
pub mod share;
pub mod trace;

/// Everything measured about one request. Points in time that the request did not reach are `None`.
///
/// The parts of variable length (arrivals, answer, error text) are in the arenas of the [`Block`] that holds the
/// record; the spans here point into them.
#[derive(Clone, Debug, Default)]
pub struct RequestRecord {
    /// The request's number in its phase, from 0; request `i` is the same for every number of workers.
    pub index: u64,
    pub phase: Phase,
    pub worker: u32,
    /// The concurrent request slot that carried it, numbered within the worker.
    pub slot: u32,
    /// The number of its conversation in its phase, from 0; `None` for single requests.
    pub conversation: Option<u64>,
    /// The turn of its conversation, from 0; 0 for single requests.
    pub turn: u32,
    /// The connection had carried an earlier request.
    pub reused: bool,
    /// The reused connection was closed before any byte of a response, and the request was sent again on a new one.
    pub retried: bool,

    /// The scheduled time of the request.
    pub due: Tick,
    /// A worker started to process it.
    pub picked: Option<Tick>,
    /// How long it waited, before `picked`, for its body to be built; `None` if that was built before the run.
    pub body_wait_ns: Option<u64>,
    /// The connection was ready; equals `picked` on a reused one.
    pub connected: Option<Tick>,
    /// Duration of the TLS handshake; `None` when there was none.
    pub tls_handshake_ns: Option<u64>,
    /// The first byte was handed to the kernel.
    pub write_start: Option<Tick>,
    /// The kernel accepted the last byte.
    pub write_end: Option<Tick>,
    /// The first byte of the response head arrived.
    pub first_byte: Option<Tick>,
    /// The first event with output arrived.
    pub first_token: Option<Tick>,
    /// The first event with text that is not reasoning arrived.
    pub first_answer_token: Option<Tick>,
    /// The last counted token arrived: the last event with output, or the finish event after it if the server counts a
    /// token without text (the end-of-sequence token).
    pub last_token: Option<Tick>,
    /// The response was complete, that is its end event or else its last byte arrived, or the request failed.
    pub end: Tick,
    /// From the end event of a stream to the end of its body; `None` without an end event.
    pub open_after_end_ns: Option<u64>,
    /// Closed loop: the end of the previous response in this slot.
    pub previous_end: Option<Tick>,

    pub outcome: Outcome,
    /// The response was a stream of server-sent events.
    pub streamed: bool,
    /// HTTP status; 0 when no response head arrived.
    pub status: u16,
    /// From the server's usage; `None` when it sent none and nothing was counted after the run.
    pub input_tokens: Option<u32>,
    pub output_tokens: Option<u32>,
    pub cached_tokens: Option<u32>,
    pub reasoning_tokens: Option<u32>,
    pub token_source: TokenSource,
    /// The times that the server reports for this request.
    pub server_times: Option<ServerTimes>,
    pub finish: Finish,
    /// What was unusual about the response.
    pub oddities: Oddities,
    /// Server-sent events with data, including `[DONE]`.
    pub events: u32,
    /// Output events that shared a read with a later output event of the same choice: their arrival is an upper bound.
    pub coalesced: u32,
    /// The read of the last output event brought later bytes (finish reason, usage, end): its arrival is an upper bound.
    pub last_shared: bool,
    /// Reads that brought bytes of this response, and those among them with two or more output events of one choice.
    pub reads: u32,
    pub coalesced_reads: u32,
    /// Reads with an arrival timestamp of the kernel; for the others, the time the completion was processed stands in.
    pub stamped_reads: u32,
    /// Sum and maximum of the receive lag (processed − arrived) over the reads, nanoseconds.
    pub receive_lag_sum_ns: u64,
    pub receive_lag_max_ns: u64,
    /// Bytes of the response, including head and framing.
    pub received_bytes: u64,
    pub network: NetworkTimes,

    /// The arrivals of all events with output, in [`Block::arrivals`].
    pub arrivals: Span,
    /// By how much some of these arrivals may have been earlier than recorded, in [`Block::bytes`], encoded as
    /// [`arrivals::encode_early`] describes; empty if all are exact.
    pub early: Span,
    /// By how much `last_token` may have been earlier than recorded, nanoseconds.
    pub last_token_early_ns: Option<u32>,
    /// By how much `end` may have been earlier than recorded; `None` if that is not known, of no arrival then. Files of
    /// older versions do not tell.
    pub end_early_ns: Option<u32>,
    /// The choice of each of these events, one byte each, in [`Block::bytes`]; empty if all are of the first choice.
    pub choices: Span,
    /// The arrivals of the events of a choice without output, in [`Block::arrivals`]; announcements of a role only before
    /// its first output.
    pub silent: Span,
    /// Choice and kind of each of these, in [`Block::bytes`]; see [`delivery::Events::silent_kinds`].
    pub silent_kinds: Span,
    /// Answer, reasoning and error text (UTF-8), in [`Block::bytes`].
    pub text: Span,
    pub reasoning: Span,
    pub error: Span,
    /// The JSON body, in [`Block::bytes`], of a turn of a conversation, which depends on the earlier answers, and of a
    /// request that was built while the run lasted. The workload provides the body of any other request.
    pub body: Span,
    /// The raw response body (`--save full`), in [`Block::bytes`].
    pub raw: Span,
    /// The tool calls of the answer as a JSON list in the form of the chat API, in [`Block::bytes`]; empty without calls.
    pub tool_calls: Span,
    /// The choices after the first as a JSON list of messages, in [`Block::bytes`]; empty for a single choice. `text`,
    /// `reasoning` and `tool_calls` are those of the first.
    pub other_choices: Span,
}

/// A range in one of the arenas of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    /// The part of `arena` that this span denotes.
    pub fn slice<T>(self, arena: &[T]) -> &[T] {
        &arena[self.start as usize..][..self.len as usize]
    }
}

/// The part of a run that a request belongs to. The statistics are computed from `Measured` requests only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    Preflight,
    Warmup,
    #[default]
    Measured,
    /// Sent by a separate, mostly idle thread at the same time as the load.
    Witness,
}

/// The origin of a request's output token count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TokenSource {
    #[default]
    Unknown,
    /// The server's usage.
    Server,
    /// Counted with the tokenizer after the run.
    Tokenizer,
    /// Returned by the user's program after the run.
    Program,
}

/// The times that a server reports inside its answer, nanoseconds of its own clock. Values that it does not report are
/// `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerTimes {
    /// Queueing time. llama.cpp does not report it.
    pub queue_ns: Option<u64>,
    /// From the start of processing to the first output token.
    pub prefill_ns: Option<u64>,
    /// From the first to the last output token.
    pub decode_ns: Option<u64>,
    /// Output tokens, as reported with these times.
    pub tokens: Option<u32>,
}

/// The network's part of a request, from the kernel. Through a proxy it is that of the way to the proxy. Values that the
/// kernel or the transport does not have are `None`, and so are all of a request that was not recorded because too many
/// were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkTimes {
    /// The kernel handed the last byte of the request to the network device.
    pub sent: Option<Tick>,
    /// The acknowledgement of that byte arrived. The peer may have delayed it, up to when it answered.
    pub acknowledged: Option<Tick>,
    /// The smoothed round-trip time of the connection at the end of the answer, nanoseconds. Contains delays of
    /// acknowledgements.
    pub rtt_ns: Option<u64>,
    /// The minimum of the last minutes.
    pub min_rtt_ns: Option<u64>,
    /// Segments that this machine sent again, of the handshake too if the request opened the connection.
    pub retransmitted: Option<u32>,
    /// Segments that arrived out of order: one before was lost or late.
    pub out_of_order: Option<u32>,
}

/// The finish reason of an answer.
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
    /// The run ended while the request was in flight.
    #[default]
    Unfinished,
}

/// The class of a failure; each failed request has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// The host name did not resolve, or the connection was refused or its target unreachable.
    Connect,
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// Writing the request failed.
    Write,
    /// No byte arrived for longer than the read timeout.
    ReadTimeout,
    /// The whole request took longer than the total timeout.
    TotalTimeout,
    /// Nothing arrived for seconds, and the server refused new connections: it has ended without closing this one.
    ServerGone,
    /// The connection was reset.
    Reset,
    /// The connection was closed before any response byte.
    ClosedEarly,
    /// The response ended before the end that its framing or its stream announces.
    Truncated,
    /// The response is not valid HTTP/1.1 or chunked coding, or an event exceeds the size limit.
    Protocol,
    /// A status other than 200.
    Status,
    /// An error inside a 200 response (`data: {"error":...}`), or a finish reason of an answer that the server gave up.
    InStream,
    /// A 200 response without any output.
    Empty,
    /// A body or an event is not valid JSON of the expected form.
    Body,
}

impl Failure {
    /// Every class, in the order of the failure table.
    pub const ALL: [Failure; 15] = [
        Failure::Connect,
        Failure::ConnectTimeout,
        Failure::Tls,
        Failure::Write,
        Failure::ReadTimeout,
        Failure::TotalTimeout,
        Failure::ServerGone,
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
            Failure::ServerGone => "server_gone",
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

/// A block is full at this size of its arena, bytes.
const FULL_BYTES: usize = 4 << 20;
/// An empty block keeps this much memory, bytes.
const KEPT_BYTES: usize = 2 * FULL_BYTES;

/// A batch of records with the arenas that their spans point into. Workers send full blocks to the collector, which
/// returns them empty for reuse.
#[derive(Debug, Default)]
pub struct Block {
    pub worker: u32,
    pub records: Vec<RequestRecord>,
    pub arrivals: Vec<Tick>,
    pub bytes: Vec<u8>,
    /// The memory that the block holds while it waits to be stored.
    pub memory: Option<MemoryClaim>,
}

impl Block {
    /// Records in a full block.
    pub const CAPACITY: usize = 256;

    /// An empty block of a worker, with room for [`Block::CAPACITY`] records.
    pub fn new(worker: u32) -> Block {
        Block { worker, records: Vec::with_capacity(Block::CAPACITY), ..Block::default() }
    }

    /// Whether the block should be sent now.
    pub fn is_full(&self) -> bool {
        self.records.len() >= Block::CAPACITY || self.bytes.len() > FULL_BYTES
    }

    /// Empties the block. It keeps memory for blocks of the usual size.
    pub fn clear(&mut self) {
        self.records.clear();
        self.arrivals.clear();
        self.arrivals.shrink_to(KEPT_BYTES / size_of::<Tick>());
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.memory = None;
    }

    /// The bytes of its arenas.
    pub(crate) fn held_bytes(&self) -> u64 {
        (self.bytes.len() + self.arrivals.len() * size_of::<Tick>()) as u64
    }

    /// Appends bytes to the arena; the span is their place in it.
    pub fn keep_bytes(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Span { start, len: bytes.len() as u32 }
    }

    /// Appends encoded bounds of arrivals to the arena; the span is their place in it.
    pub fn keep_early(&mut self, ranges: &[arrivals::EarlyRange]) -> Span {
        let start = self.bytes.len();
        arrivals::encode_early(ranges, &mut self.bytes);
        Span { start: start as u32, len: (self.bytes.len() - start) as u32 }
    }

    /// Appends arrivals to the arena; the span is their place in it.
    pub fn keep_arrivals(&mut self, arrivals: &[Tick]) -> Span {
        let start = self.arrivals.len() as u32;
        self.arrivals.extend_from_slice(arrivals);
        Span { start, len: arrivals.len() as u32 }
    }
}

/// A message to the collector.
#[derive(Debug)]
pub enum CollectorMessage {
    /// Finished requests.
    Block(Block),
    /// The measurements of a worker at the end of a phase.
    Worker(Box<WorkerReport>),
    /// The values of one scrape of the server's metrics.
    Server(Vec<ServerSample>),
    /// The start that the shards of the load have agreed on.
    ShardStart(facts::ClockPair),
    /// An exchange of packets with shard 0.
    Clock(clock_exchange::ClockExchange),
}

/// One value of the server's own metrics at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSample {
    pub at: Tick,
    pub name: String,
    /// The labels as in the Prometheus text format, without the braces.
    pub labels: String,
    pub value: f64,
}

/// A poll gap longer than this is a stall, nanoseconds.
pub(crate) const STALL_NS: u64 = 2 * MS;

/// A worker did not poll its sockets between these two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    pub begin: Tick,
    pub end: Tick,
}

/// The measurements of one worker in one phase, from which the client's own error is computed.
#[derive(Clone, Debug)]
pub struct WorkerReport {
    pub worker: u32,
    pub phase: Phase,
    /// The core that the thread was pinned to; `None` when pinning failed.
    pub core: Option<u16>,
    /// Receive lag (processed − arrived) of every read, nanoseconds.
    pub receive_lag_ns: hdrhistogram::Histogram<u64>,
    /// Poll gaps while the worker had work, nanoseconds.
    pub loop_gap_ns: hdrhistogram::Histogram<u64>,
    /// Poll gaps in which the worker had nothing to do and slept, nanoseconds. Without what a planned wait had beyond a
    /// millisecond.
    pub sleep_ns: hdrhistogram::Histogram<u64>,
    /// How long the events of a wait were allowed to gather before the first one ended it, nanoseconds. Empty in files of
    /// versions that did not store it.
    pub gather_ns: hdrhistogram::Histogram<u64>,
    /// The poll gaps longer than [`STALL_NS`], at work or asleep, in order; `None` when they are not known in full.
    pub stalls: Option<Vec<Stall>>,
    /// CPU time of the worker thread in the phase, user and system, nanoseconds.
    pub cpu_user_ns: u64,
    pub cpu_system_ns: u64,
    /// Wall time of the phase, nanoseconds.
    pub wall_ns: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    /// Completions of the receive ring, and how often it ran out of buffers.
    pub reads: u64,
    pub buffer_shortages: u64,
    pub connections_opened: u64,
    /// Highest number of requests in flight on this worker.
    pub peak_in_flight: u64,
    /// Blocks allocated because the collector had not yet returned one.
    pub extra_blocks: u64,
    /// Scheduled requests that were not sent because the run ended first.
    pub unsent: u64,
}

impl WorkerReport {
    /// Its histograms.
    pub(crate) fn histograms(&mut self) -> [&mut hdrhistogram::Histogram<u64>; 4] {
        [&mut self.receive_lag_ns, &mut self.loop_gap_ns, &mut self.sleep_ns, &mut self.gather_ns]
    }

    /// The longest poll gap in which the worker had work, overslept, or data waited on a socket, nanoseconds.
    pub fn longest_stall_ns(&self) -> u64 {
        let asleep_ns = Some(self.sleep_ns.max()).filter(|&ns| ns > STALL_NS);
        self.loop_gap_ns.max().max(self.receive_lag_ns.max()).max(asleep_ns.unwrap_or(0))
    }
}
