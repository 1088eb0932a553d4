//! One request and its response: takes a connection, writes the request, waits for the response, and creates the
//! record.

use std::future::poll_fn;
use std::task::Poll;

use super::connections::ConnectionState;
use super::preflight_progress::PreflightStep;
use super::recording::{new_record, write_record};
use super::server_watch::ServerWatch;
use super::transport::{ConnectError, flush_tls, open, send_all};
use super::unrecorded::{RequestTimes, UnrecordedRequest};
use super::unsolicited::{is_early, is_unsolicited};
use super::worker_state::{Job, Setup, Wait, Worker};
use crate::api::history::append_answer;
use crate::api::tool_calls::ToolCall;
use crate::plan::Save;
use crate::record::trace::{Excerpt, TraceKind};
use crate::record::{Failure, Outcome, Phase, RequestRecord, Span};
use crate::time::{S, Tick};

/// The connection test reads its response to the end, as a run does, but at most this long after the first output.
const PREFLIGHT_READ_NS: u64 = 5 * S;

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
    /// The tool calls whose results are in the next turn.
    pub answered_calls: &'a [ToolCall],
}

/// Sends one request, reads its response and stores its record. `wire` holds the bytes of the request. `turn` is given
/// if the request belongs to a conversation; the answer is added to its history.
pub(crate) async fn perform(worker: &Worker, slot: u32, job: Job, wire: &[u8], turn: Option<Turn<'_>>) -> RequestEnd {
    let mut times = RequestTimes { picked: worker.now(), ..RequestTimes::default() };
    worker.state.borrow_mut().telemetry.request_started();
    // Bodies that the workload does not keep.
    let own_body = turn.as_ref().map(|turn| turn.body).or_else(|| job.body_wait_ns.map(|_| body(wire)));
    let end = loop {
        let connection_id = match acquire_connection(worker, slot, job, &mut times).await {
            Ok(connection_id) => connection_id,
            Err(error) => break record_unconnected(worker, slot, job, times, &error, own_body),
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
        reject_if_early(worker, connection_id, &times);
        break record_response(worker, slot, connection_id, job, times, own_body, turn);
    };
    let latency_ns = times.write_start.filter(|_| end.ok).map(|sent| end.at.ns_since(sent).max(0) as u64);
    worker.state.borrow_mut().telemetry.request_ended(latency_ns);
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
        let is_recorded = state.connections.network_budget.take(now);
        let connection = &mut state.connections.entries[connection_id as usize];
        connection.begin(slot, (job.phase, job.index), now);
        connection.network.begin(connection.socket().as_deref(), is_recorded);
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
            if !connection.state.is_over() {
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
        if state.connections.entries[connection_id as usize].state.is_over() {
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
    let closes = connection.state == ConnectionState::Finished { reuse: false };
    if times.write_start.is_some_and(|written| is_unsolicited(answer, written, closes, connection.connect_ns)) {
        return true;
    }
    let broken = matches!(
        answer.outcome(),
        Outcome::Failed(Failure::ClosedEarly | Failure::Reset | Failure::Write | Failure::Truncated)
    );
    broken && answer.seen.received_bytes == 0
}

/// Makes a failure of a response that arrived before its request.
fn reject_if_early(worker: &Worker, connection_id: u32, times: &RequestTimes) {
    let state = &mut *worker.state.borrow_mut();
    let connection = &mut state.connections.entries[connection_id as usize];
    if times.write_start.is_some_and(|written| is_early(&connection.answer, written)) {
        connection.reject("the response arrived before the request was sent");
    }
}

/// Ends a request that was sent. Its record is made at once, or when a draining connection has its body's end.
fn record_response(
    worker: &Worker,
    slot: u32,
    connection_id: u32,
    job: Job,
    times: RequestTimes,
    own_body: Option<&[u8]>,
    turn: Option<Turn<'_>>,
) -> RequestEnd {
    let setup = &worker.setup;
    let state = &mut *worker.state.borrow_mut();
    state.connections.trace_rest(connection_id);
    let connection = &state.connections.entries[connection_id as usize];
    let seen = &connection.answer.seen;
    let outcome = connection.answer.outcome();
    let is_draining = connection.state == ConnectionState::Draining;
    let ended = if is_draining { seen.end_event.unwrap_or(connection.ended) } else { connection.ended };
    watch_server(&setup.server, outcome, ended);
    let traced = || TraceKind::Ended { outcome, status: seen.status, error: seen.error.clone() };
    worker.trace(job, seen.end_event.unwrap_or(ended), traced);
    let body = own_body.filter(|_| stores_bodies(setup));
    let end = RequestEnd { at: ended, connected: true, ok: outcome == Outcome::Ok };
    if is_draining {
        let unrecorded = UnrecordedRequest { slot, job, times, body: body.map(<[u8]>::to_vec) };
        if let Some(turn) = turn.filter(|_| end.ok) {
            append_answer(setup.plan.dialect, &seen.text, &seen.calls, turn.answered_calls, turn.history);
        }
        state.connections.add_draining(connection_id, unrecorded);
        let now = state.clock.now();
        state.end_overdue_drains(setup, worker.number, now);
        return end;
    }
    write_record(state, setup, worker.number, connection_id, &UnrecordedRequest { slot, job, times, body: None }, body);
    let seen = &state.connections.entries[connection_id as usize].answer.seen;
    if let Some(turn) = turn.filter(|_| end.ok) {
        append_answer(setup.plan.dialect, &seen.text, &seen.calls, turn.answered_calls, turn.history);
    }
    state.leave(connection_id);
    end
}

/// Notes what the end of a request says about the server.
fn watch_server(server: &ServerWatch, outcome: Outcome, ended: Tick) {
    match outcome {
        Outcome::Ok => server.answered(),
        Outcome::Failed(failure) => match failure {
            Failure::Status | Failure::InStream | Failure::Empty | Failure::Body | Failure::Protocol => {
                server.answered();
            }
            Failure::ClosedEarly | Failure::Reset | Failure::Write | Failure::Truncated | Failure::ServerGone => {
                server.broke(ended);
            }
            Failure::Connect
            | Failure::ConnectTimeout
            | Failure::Tls
            | Failure::ReadTimeout
            | Failure::TotalTimeout => {}
        },
        Outcome::Unfinished => {}
    }
}

/// Creates the record of a request for which no connection could be opened.
fn record_unconnected(
    worker: &Worker,
    slot: u32,
    job: Job,
    times: RequestTimes,
    error: &ConnectError,
    own_body: Option<&[u8]>,
) -> RequestEnd {
    let state = &mut *worker.state.borrow_mut();
    let end = state.clock.now();
    let outcome = if state.phase.killed { Outcome::Unfinished } else { Outcome::Failed(error.failure) };
    worker.trace(job, end, || TraceKind::Ended { outcome, status: 0, error: error.text.clone() });
    let error = state.record_sender.block.keep_bytes(error.text.as_bytes());
    let body = own_body.filter(|_| stores_bodies(&worker.setup));
    let body = body.map_or(Span::default(), |body| state.record_sender.block.keep_bytes(body));
    let record = new_record(worker.number, slot, job, times);
    let record = RequestRecord { end, outcome, error, body, retried: times.retried, ..record };
    state.record_sender.add(record, &mut state.telemetry);
    RequestEnd { at: end, connected: false, ok: false }
}

/// Whether bodies that the workload does not keep are stored: those of turns, which contain answers, and those of a
/// stream.
fn stores_bodies(setup: &Setup) -> bool {
    setup.plan.save != Save::Metrics
}
