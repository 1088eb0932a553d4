//! One request and its response: a connection, the write, the wait, the record.

use std::future::poll_fn;
use std::task::Poll;

use super::awaiting::Awaited;
use super::core::{Core, Job, Wait, Worker};
use super::pool::State;
use super::transport::{NotOpened, flush_tls, open, send_all};
use super::unasked::is_unasked;
use crate::api::choices;
use crate::plan::Save;
use crate::protocol::json;
use crate::record::trace::{Excerpt, What};
use crate::record::{Block, Failure, Outcome, Phase, RequestRecord, Span, TokenSource};
use crate::time::{S, Tick};

/// The connection test reads its answer to the end, as a run does, but no longer than this once output comes.
const TEST_SUFFICES_NS: u64 = 5 * S;

/// The instants of one exchange, as far as it got.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    picked: Tick,
    connected: Option<Tick>,
    tls_handshake_ns: Option<u64>,
    write_start: Option<Tick>,
    write_end: Option<Tick>,
    reused: bool,
    retried: bool,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub at: Tick,
    /// A connection could be had.
    pub connected: bool,
    pub ok: bool,
}

/// What an exchange has to know of the conversation it is a turn of.
pub struct Turn<'a> {
    /// The JSON body that is sent.
    pub body: &'a [u8],
    /// Takes the answer.
    pub history: &'a mut Vec<u8>,
}

impl Turn<'_> {
    /// Adds the model's answer to what was said. Its reasoning is not said again.
    pub fn add_answer(&mut self, text: &[u8]) {
        self.history.extend_from_slice(br#",{"role":"assistant","content":""#);
        json::escape_into(&String::from_utf8_lossy(text), self.history);
        self.history.extend_from_slice(br#""}"#);
    }
}

/// Carries one request out and keeps its record. `wire` are the request's bytes; `turn` is told where it is one of a
/// conversation, and takes the answer up.
pub async fn exchange(worker: &Worker, lane: u32, job: Job, wire: &[u8], turn: Option<Turn<'_>>) -> Ended {
    let mut times = Times { picked: worker.now(), ..Times::default() };
    worker.core.borrow_mut().telemetry.request_started();
    let end = loop {
        let slot = match connection(worker, lane, job, &mut times).await {
            Ok(slot) => slot,
            Err(error) => break keep_unconnected(worker, lane, job, times, &error, turn),
        };
        respond(worker, lane, slot, job, &mut times, wire).await;
        if times.reused && !times.retried && died_unanswered(worker, slot, &times) {
            // The server closed the connection while it was idle: it never saw this request.
            let written = times.write_start.unwrap_or(times.picked);
            worker.core.borrow_mut().pool.note_dead_reuse(slot, written);
            worker.close(slot);
            worker.tell(job, worker.now(), || What::Again);
            times.retried = true;
            continue;
        }
        break keep(worker, lane, slot, job, times, turn);
    };
    worker.core.borrow_mut().telemetry.request_ended();
    end
}

/// An idle connection, else a fresh one; always a fresh one on the second try.
async fn connection(worker: &Worker, lane: u32, job: Job, times: &mut Times) -> Result<u32, NotOpened> {
    if !times.retried {
        let pool = &mut worker.core.borrow_mut().pool;
        if let Some(slot) = pool.take_idle() {
            times.reused = pool.slots[slot as usize].requests > 0;
            times.connected = Some(times.picked);
            return Ok(slot);
        }
    }
    times.reused = false;
    worker.tell(job, worker.now(), || What::Connecting);
    let opened = open(worker, lane).await?;
    times.connected = Some(opened.at);
    times.tls_handshake_ns = opened.tls_handshake_ns;
    Ok(opened.slot)
}

/// Writes the request and waits until the response is over, one way or another.
async fn respond(worker: &Worker, lane: u32, slot: u32, job: Job, times: &mut Times, wire: &[u8]) {
    let plan = &worker.setup.plan;
    worker.awaits(Awaited::Answer);
    let now = worker.now();
    times.write_start = Some(now);
    let encrypted = {
        let core = &mut *worker.core.borrow_mut();
        let connection = &mut core.pool.slots[slot as usize];
        connection.begin(lane, (job.phase, job.index), now);
        connection.suffices_after_ns = (job.phase == Phase::Preflight).then_some(TEST_SUFFICES_NS);
        let encrypted = connection.tls.as_mut().map(|tls| tls.encrypt(wire));
        let total = job.due.max(times.picked).plus_ns(plan.timeouts.total_ns);
        core.wait(lane, Wait::Response { connection: slot, total }, plan.timeouts.read_ns, now);
        encrypted
    };
    let sent = match encrypted {
        None => send_all(worker, lane, slot, wire).await,
        Some(Ok(())) => flush_tls(worker, lane, slot).await,
        Some(Err(text)) => Err(std::io::Error::other(text)),
    };
    let written = worker.now();
    match sent {
        Ok(true) => {
            times.write_end = Some(written);
            worker.tell(job, now, || What::Sent(Excerpt::of(body(wire))));
        }
        Ok(false) => {}
        Err(error) => {
            let connection = &mut worker.core.borrow_mut().pool.slots[slot as usize];
            if !matches!(connection.state, State::Finished { .. }) {
                connection.abort(Failure::Write, &error.to_string(), written);
            }
        }
    }
    response_over(worker, lane, slot).await;
    worker.wait(lane, Wait::Nothing);
}

/// What stands behind the head of a request.
pub(super) fn body(wire: &[u8]) -> &[u8] {
    memchr::memmem::find(wire, b"\r\n\r\n").map_or(wire, |end| &wire[end + 4..])
}

async fn response_over(worker: &Worker, lane: u32, slot: u32) {
    poll_fn(|context| {
        let core = &mut *worker.core.borrow_mut();
        if matches!(core.pool.slots[slot as usize].state, State::Finished { .. }) {
            return Poll::Ready(());
        }
        core.lanes[lane as usize].waker = Some(context.waker().clone());
        Poll::Pending
    })
    .await;
}

/// Whether the connection broke before any byte of a response came, or brought only bytes that belong to no request.
fn died_unanswered(worker: &Worker, slot: u32, times: &Times) -> bool {
    let core = worker.core.borrow();
    let connection = &core.pool.slots[slot as usize];
    let answer = &connection.answer;
    let closes = connection.state != State::Finished { reuse: true };
    if times.write_start.is_some_and(|written| is_unasked(answer, written, closes, connection.connect_ns)) {
        return true;
    }
    let broken = matches!(
        answer.outcome(),
        Outcome::Failed(Failure::ClosedEarly | Failure::Reset | Failure::Write | Failure::Truncated)
    );
    broken && answer.seen.received_bytes == 0
}

/// Writes the record of a request that was sent, and puts its connection back or closes it.
fn keep(worker: &Worker, lane: u32, slot: u32, job: Job, times: Times, turn: Option<Turn<'_>>) -> Ended {
    let plan = &worker.setup.plan;
    let core = &mut *worker.core.borrow_mut();
    let Core { pool, outbox, telemetry, inbox, .. } = core;
    pool.tell_rest(slot);
    let connection = &mut pool.slots[slot as usize];
    let end = connection.ended;
    let seen = &connection.answer.seen;
    let usage = seen.usage;
    let outcome = connection.answer.outcome();
    let block = &mut outbox.block;
    let body = keep_body(worker, block, turn.as_ref());
    worker.tell(job, end, || What::Ended { outcome, status: seen.status, error: seen.error.clone() });
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
        last_token: seen.last_token,
        end,
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
        reads: connection.receipts.reads,
        stamped_reads: connection.receipts.stamped,
        receive_lag_sum_ns: connection.receipts.lag_sum_ns,
        receive_lag_max_ns: connection.receipts.lag_max_ns,
        received_bytes: seen.received_bytes,
        arrivals: block.keep_arrivals(&seen.arrivals),
        text: block.keep_bytes(&seen.text),
        reasoning: block.keep_bytes(&seen.reasoning),
        error: block.keep_bytes(seen.error.as_bytes()),
        body,
        raw: if plan.keeps_raw() { block.keep_bytes(&seen.raw) } else { Span::default() },
        ..begun(worker, lane, job, times)
    };
    outbox.keep(record, telemetry);
    let reuse = connection.state == State::Finished { reuse: true };
    if reuse {
        pool.put_back(slot);
    } else if let Err(error) = pool.close(slot, inbox) {
        core.trouble = Some(error);
    }
    Ended { at: end, connected: true, ok: outcome == Outcome::Ok }
}

/// Writes the record of a request for which no connection could be had.
fn keep_unconnected(
    worker: &Worker,
    lane: u32,
    job: Job,
    times: Times,
    error: &NotOpened,
    turn: Option<Turn<'_>>,
) -> Ended {
    let core = &mut *worker.core.borrow_mut();
    let end = core.clock.now();
    let outcome = if core.phase.killed { Outcome::Unfinished } else { Outcome::Failed(error.failure) };
    worker.tell(job, end, || What::Ended { outcome, status: 0, error: error.text.clone() });
    let error = core.outbox.block.keep_bytes(error.text.as_bytes());
    let body = keep_body(worker, &mut core.outbox.block, turn.as_ref());
    let record = RequestRecord { end, outcome, error, body, retried: times.retried, ..begun(worker, lane, job, times) };
    core.outbox.keep(record, &mut core.telemetry);
    Ended { at: end, connected: false, ok: false }
}

/// The body of a turn travels with its record where anybody will ask for it: nobody else knows the answers in it.
fn keep_body(worker: &Worker, block: &mut Block, turn: Option<&Turn<'_>>) -> Span {
    let wanted = worker.setup.plan.save != Save::Metrics;
    turn.filter(|_| wanted).map_or(Span::default(), |turn| block.keep_bytes(turn.body))
}

fn begun(worker: &Worker, lane: u32, job: Job, times: Times) -> RequestRecord {
    RequestRecord {
        index: job.index,
        phase: job.phase,
        conversation: job.conversation,
        turn: job.turn,
        worker: worker.number,
        lane,
        due: job.due,
        picked: Some(times.picked),
        previous_end: job.previous_end,
        ..RequestRecord::default()
    }
}
