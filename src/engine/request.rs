//! One request and its response: takes a connection, writes the request, waits for the response, and creates the
//! record.

use std::future::poll_fn;
use std::task::Poll;

use super::connections::{ConnectionState, OPEN_AFTER_END_NS};
use super::preflight_progress::PreflightStep;
use super::transport::{ConnectError, flush_tls, open, send_all};
use super::unsolicited::is_unsolicited;
use super::worker_state::{Job, Wait, Worker, WorkerState};
use crate::api::choices;
use crate::finding::Oddity;
use crate::plan::Save;
use crate::protocol::json;
use crate::record::trace::{Excerpt, TraceKind};
use crate::record::{Block, Failure, Outcome, Phase, RequestRecord, Span, TokenSource};
use crate::time::{S, Tick};

/// The connection test reads its response to the end, as a run does, but at most this long after the first output.
const PREFLIGHT_READ_NS: u64 = 5 * S;

/// The times of one request, up to the step that it has reached.
#[derive(Clone, Copy, Debug, Default)]
struct RequestTimes {
    picked: Tick,
    connected: Option<Tick>,
    tls_handshake_ns: Option<u64>,
    write_start: Option<Tick>,
    write_end: Option<Tick>,
    reused: bool,
    retried: bool,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestEnd {
    pub at: Tick,
    /// A connection was available or could be opened.
    pub connected: bool,
    pub ok: bool,
}

/// A request that is a turn of a conversation.
pub struct Turn<'a> {
    /// The JSON body that is sent.
    pub body: &'a [u8],
    /// The messages of the conversation, to which the answer is added.
    pub history: &'a mut Vec<u8>,
}

impl Turn<'_> {
    /// Adds the model's answer to the history, without its reasoning.
    pub(crate) fn add_answer(&mut self, text: &[u8]) {
        self.history.extend_from_slice(br#",{"role":"assistant","content":""#);
        json::escape_into(&String::from_utf8_lossy(text), self.history);
        self.history.extend_from_slice(br#""}"#);
    }
}

/// Sends one request, reads its response and stores its record. `wire` holds the bytes of the request. `turn` is given
/// if the request belongs to a conversation; the answer is added to its history.
pub(crate) async fn perform(worker: &Worker, slot: u32, job: Job, wire: &[u8], turn: Option<Turn<'_>>) -> RequestEnd {
    let mut times = RequestTimes { picked: worker.now(), ..RequestTimes::default() };
    worker.state.borrow_mut().telemetry.request_started();
    let end = loop {
        let connection_id = match acquire_connection(worker, slot, job, &mut times).await {
            Ok(connection_id) => connection_id,
            Err(error) => break record_unconnected(worker, slot, job, times, &error, turn),
        };
        send_and_wait(worker, slot, connection_id, job, &mut times, wire).await;
        if times.reused && !times.retried && broke_before_response(worker, connection_id, &times) {
            // The server closed the connection while it was idle, so it has not received this request.
            let written = times.write_start.unwrap_or(times.picked);
            worker.state.borrow_mut().connections.count_dead_reuse(connection_id, written);
            worker.close(connection_id);
            worker.trace(job, worker.now(), || TraceKind::Retried);
            times.retried = true;
            continue;
        }
        break record_response(worker, slot, connection_id, job, times, turn);
    };
    worker.state.borrow_mut().telemetry.request_ended();
    end
}

/// Returns an idle connection, else a new one; always a new one on the second attempt.
async fn acquire_connection(
    worker: &Worker,
    slot: u32,
    job: Job,
    times: &mut RequestTimes,
) -> Result<u32, ConnectError> {
    if !times.retried {
        let connections = &mut worker.state.borrow_mut().connections;
        if let Some(connection_id) = connections.take_idle() {
            times.reused = connections.entries[connection_id as usize].requests > 0;
            times.connected = Some(times.picked);
            return Ok(connection_id);
        }
    }
    times.reused = false;
    worker.trace(job, worker.now(), || TraceKind::Connecting);
    let opened = open(worker, slot).await?;
    times.connected = Some(opened.at);
    times.tls_handshake_ns = opened.tls_handshake_ns;
    Ok(opened.connection_id)
}

/// Writes the request and waits until the response is complete or has failed.
async fn send_and_wait(
    worker: &Worker,
    slot: u32,
    connection_id: u32,
    job: Job,
    times: &mut RequestTimes,
    wire: &[u8],
) {
    let plan = &worker.setup.plan;
    worker.set_preflight_step(PreflightStep::Answer);
    let now = worker.now();
    times.write_start = Some(now);
    let encrypted = {
        let state = &mut *worker.state.borrow_mut();
        let connection = &mut state.connections.entries[connection_id as usize];
        connection.begin(slot, (job.phase, job.index), now);
        connection.enough_after_ns = (job.phase == Phase::Preflight).then_some(PREFLIGHT_READ_NS);
        let encrypted = connection.tls.as_mut().map(|tls| tls.encrypt(wire));
        let total = job.due.max(times.picked).plus_ns(plan.timeouts.total_ns);
        state.wait(slot, Wait::Response { connection: connection_id, total }, plan.timeouts.read_ns, now);
        encrypted
    };
    let sent = match encrypted {
        None => send_all(worker, slot, connection_id, wire).await,
        Some(Ok(())) => flush_tls(worker, slot, connection_id).await,
        Some(Err(text)) => Err(std::io::Error::other(text)),
    };
    let written = worker.now();
    match sent {
        Ok(true) => {
            times.write_end = Some(written);
            worker.trace(job, now, || TraceKind::Sent(Excerpt::new(body(wire))));
        }
        Ok(false) => {}
        Err(error) => {
            let connection = &mut worker.state.borrow_mut().connections.entries[connection_id as usize];
            if !matches!(connection.state, ConnectionState::Finished { .. }) {
                connection.abort(Failure::Write, &error.to_string(), written);
            }
        }
    }
    wait_for_response(worker, slot, connection_id).await;
    worker.wait(slot, Wait::Nothing);
}

/// The part of a request after its header.
pub(super) fn body(wire: &[u8]) -> &[u8] {
    memchr::memmem::find(wire, b"\r\n\r\n").map_or(wire, |end| &wire[end + 4..])
}

/// Waits until the response on this connection has ended.
async fn wait_for_response(worker: &Worker, slot: u32, connection_id: u32) {
    poll_fn(|context| {
        let state = &mut *worker.state.borrow_mut();
        if matches!(state.connections.entries[connection_id as usize].state, ConnectionState::Finished { .. }) {
            return Poll::Ready(());
        }
        state.slots[slot as usize].waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await;
}

/// Whether the connection broke before any byte of a response arrived, or delivered only an unsolicited response.
fn broke_before_response(worker: &Worker, connection_id: u32, times: &RequestTimes) -> bool {
    let state = worker.state.borrow();
    let connection = &state.connections.entries[connection_id as usize];
    let answer = &connection.answer;
    let closes = connection.state != ConnectionState::Finished { reuse: true };
    if times.write_start.is_some_and(|written| is_unsolicited(answer, written, closes, connection.connect_ns)) {
        return true;
    }
    let broken = matches!(
        answer.outcome(),
        Outcome::Failed(Failure::ClosedEarly | Failure::Reset | Failure::Write | Failure::Truncated)
    );
    broken && answer.seen.received_bytes == 0
}

/// Creates the record of a request that was sent, and puts its connection back or closes it.
fn record_response(
    worker: &Worker,
    slot: u32,
    connection_id: u32,
    job: Job,
    times: RequestTimes,
    turn: Option<Turn<'_>>,
) -> RequestEnd {
    let plan = &worker.setup.plan;
    let state = &mut *worker.state.borrow_mut();
    let WorkerState { connections, record_sender, telemetry, receive, .. } = state;
    connections.trace_rest(connection_id);
    let connection = &mut connections.entries[connection_id as usize];
    let ended = connection.ended;
    let seen = &connection.answer.seen;
    let usage = seen.usage;
    let outcome = connection.answer.outcome();
    let end_event = seen.end_event.filter(|_| outcome == Outcome::Ok);
    let (end, end_is_event) = (end_event.unwrap_or(ended), end_event.is_some());
    let open_after_end_ns = seen.end_event.map(|at| ended.ns_since(at).max(0) as u64);
    let mut oddities = seen.oddities;
    if open_after_end_ns.is_some_and(|ns| ns >= OPEN_AFTER_END_NS) {
        oddities.add(Oddity::OpenAfterEnd);
    }
    let block = &mut record_sender.block;
    let body = store_body(worker, block, turn.as_ref());
    worker.trace(job, end, || TraceKind::Ended { outcome, status: seen.status, error: seen.error.clone() });
    if let Some(mut turn) = turn.filter(|_| outcome == Outcome::Ok) {
        turn.add_answer(choices::first(&seen.text));
    }
    let record = RequestRecord {
        connected: times.connected,
        tls_handshake_ns: times.tls_handshake_ns,
        write_start: times.write_start,
        write_end: times.write_end,
        reused: times.reused,
        retried: times.retried,
        first_byte: seen.first_byte,
        first_token: seen.first_token,
        first_answer_token: seen.first_answer_token,
        last_token: seen.last_token,
        end,
        open_after_end_ns,
        oddities,
        outcome,
        streamed: seen.streamed,
        status: seen.status,
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cached_tokens: usage.cached_tokens,
        reasoning_tokens: usage.reasoning_tokens,
        token_source: if usage.output_tokens.is_some() { TokenSource::Server } else { TokenSource::Unknown },
        server_times: seen.times,
        finish: seen.finish,
        events: seen.events,
        coalesced: seen.coalesced,
        coalesced_reads: seen.coalesced_reads,
        reads: connection.read_stats.reads,
        stamped_reads: connection.read_stats.stamped,
        receive_lag_sum_ns: connection.read_stats.lag_sum_ns,
        receive_lag_max_ns: connection.read_stats.lag_max_ns,
        received_bytes: seen.received_bytes,
        arrivals: block.keep_arrivals(&seen.arrivals),
        early: block.keep_early(&seen.early),
        last_token_early_ns: Some(connection.answer.last_token_early_ns()),
        end_early_ns: Some(if end_is_event { seen.end_early_ns } else { connection.end_early_ns() }),
        choices: block.keep_bytes(&seen.choices),
        text: block.keep_bytes(&seen.text),
        reasoning: block.keep_bytes(&seen.reasoning),
        error: block.keep_bytes(seen.error.as_bytes()),
        body,
        raw: if plan.stores_raw_responses() { block.keep_bytes(&seen.raw) } else { Span::default() },
        ..new_record(worker, slot, job, times)
    };
    record_sender.add(record, telemetry);
    let reuse = connection.state == ConnectionState::Finished { reuse: true };
    if reuse {
        connections.put_back(connection_id);
    } else if let Err(error) = connections.close(connection_id, receive) {
        state.error = Some(error);
    }
    RequestEnd { at: ended, connected: true, ok: outcome == Outcome::Ok }
}

/// Creates the record of a request for which no connection could be opened.
fn record_unconnected(
    worker: &Worker,
    slot: u32,
    job: Job,
    times: RequestTimes,
    error: &ConnectError,
    turn: Option<Turn<'_>>,
) -> RequestEnd {
    let state = &mut *worker.state.borrow_mut();
    let end = state.clock.now();
    let outcome = if state.phase.killed { Outcome::Unfinished } else { Outcome::Failed(error.failure) };
    worker.trace(job, end, || TraceKind::Ended { outcome, status: 0, error: error.text.clone() });
    let error = state.record_sender.block.keep_bytes(error.text.as_bytes());
    let body = store_body(worker, &mut state.record_sender.block, turn.as_ref());
    let record =
        RequestRecord { end, outcome, error, body, retried: times.retried, ..new_record(worker, slot, job, times) };
    state.record_sender.add(record, &mut state.telemetry);
    RequestEnd { at: end, connected: false, ok: false }
}

/// Stores the body of a turn in the block, except with `--save metrics`: it contains answers, so it cannot be rendered
/// again from the plan.
fn store_body(worker: &Worker, block: &mut Block, turn: Option<&Turn<'_>>) -> Span {
    let stored = worker.setup.plan.save != Save::Metrics;
    turn.filter(|_| stored).map_or(Span::default(), |turn| block.keep_bytes(turn.body))
}

fn new_record(worker: &Worker, slot: u32, job: Job, times: RequestTimes) -> RequestRecord {
    RequestRecord {
        index: job.index,
        phase: job.phase,
        conversation: job.conversation,
        turn: job.turn,
        worker: u32::from(worker.number),
        slot,
        due: job.due,
        picked: Some(times.picked),
        previous_end: job.previous_end,
        ..RequestRecord::default()
    }
}
