//! Makes the records of requests that were sent, at the end of their responses or when a draining connection has come to
//! its end.

use super::connections::{ConnectionState, OPEN_AFTER_END_NS};
use super::job::Job;
use super::unrecorded::{RequestTimes, UnrecordedRequest};
use super::worker_state::{Setup, WorkerState};
use crate::api::Dialect;
use crate::api::answer::Answer;
use crate::api::meaning::Usage;
use crate::finding::Oddity;
use crate::plan::Plan;
use crate::record::{Block, RequestRecord, Span, TokenSource};
use crate::time::Tick;

/// So many connections may drain on a worker, or as many as it has slots.
const MIN_DRAINING: usize = 64;

/// Makes the record of a request from the response on its connection. `body`: that of a turn, if it is stored.
pub(super) fn write_record(
    state: &mut WorkerState,
    setup: &Setup,
    worker: u16,
    connection_id: u32,
    request: &UnrecordedRequest,
    body: Option<&[u8]>,
) {
    let WorkerState { connections, record_sender, telemetry, clock, .. } = state;
    let times = request.times;
    let network = connections.entries[connection_id as usize].end_network(times.write_start, clock);
    let connection = &connections.entries[connection_id as usize];
    let answer = &connection.answer;
    let block = &mut record_sender.block;
    let ends_with_event = answer.seen.end_event.is_some();
    let end_early_ns = if ends_with_event { answer.seen.end_early_ns } else { connection.end_early_ns() };
    let before = RequestRecord {
        connected: times.connected,
        tls_handshake_ns: times.tls_handshake_ns,
        write_start: times.write_start,
        write_end: times.write_end,
        reused: times.reused,
        retried: times.retried,
        reads: connection.read_stats.reads,
        stamped_reads: connection.read_stats.stamped,
        receive_lag_sum_ns: connection.read_stats.lag_sum_ns,
        receive_lag_max_ns: connection.read_stats.lag_max_ns,
        early: block.keep_early(&answer.seen.early),
        end_early_ns: Some(end_early_ns),
        body: body.map_or(Span::default(), |body| block.keep_bytes(body)),
        network,
        ..new_record(worker, request.slot, request.job, times)
    };
    let mut record = answered_record(answer, connection.ended, &setup.plan, block, before);
    record.last_token_early_ns = Some(answer.last_token_early_ns(record.last_token));
    record_sender.add(record, telemetry);
}

/// The record of a request whose response is `answer`; its parts are kept in `block`. `closed`: when the body had ended, or
/// was given up. `before` has the fields that do not come from the response.
pub(super) fn answered_record(
    answer: &Answer,
    closed: Tick,
    plan: &Plan,
    block: &mut Block,
    before: RequestRecord,
) -> RequestRecord {
    let seen = &answer.seen;
    let usage = seen.usage;
    let open_after_end_ns = seen.end_event.map(|at| closed.ns_since(at).max(0) as u64);
    let mut oddities = seen.oddities;
    if open_after_end_ns.is_some_and(|ns| ns >= OPEN_AFTER_END_NS) {
        oddities.add(Oddity::OpenAfterEnd);
    }
    RequestRecord {
        first_byte: seen.first_byte,
        first_token: seen.first_token,
        first_answer_token: seen.first_answer_token,
        last_token: answer.last_token(before.write_start),
        // The slot went on then, whatever the response was.
        end: seen.end_event.unwrap_or(closed),
        open_after_end_ns,
        oddities,
        outcome: answer.outcome(),
        streamed: seen.streamed,
        status: seen.status,
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cached_tokens: usage.cached_tokens,
        reasoning_tokens: usage.reasoning_tokens,
        token_source: token_source(usage, plan.dialect),
        server_times: seen.times,
        finish: seen.finish,
        events: seen.events,
        coalesced: seen.coalesced,
        coalesced_reads: seen.coalesced_reads,
        last_shared: seen.last_shared,
        received_bytes: seen.received_bytes,
        arrivals: block.keep_arrivals(&seen.arrivals),
        choices: block.keep_bytes(&seen.choices),
        silent: block.keep_arrivals(&seen.silent),
        silent_kinds: block.keep_bytes(&seen.silent_kinds),
        text: block.keep_bytes(&seen.text),
        reasoning: block.keep_bytes(&seen.reasoning),
        tool_calls: block.keep_bytes(&seen.tool_calls),
        other_choices: block.keep_bytes(&seen.other_choices),
        error: block.keep_bytes(seen.error.as_bytes()),
        raw: if plan.stores_raw_responses() { block.keep_bytes(&seen.raw) } else { Span::default() },
        ..before
    }
}

/// Where the token counts come from. Responses without text are known to have no output tokens.
fn token_source(usage: Usage, dialect: Dialect) -> TokenSource {
    let counted = usage.output_tokens.is_some() && (dialect.generates_text() || usage.input_tokens.is_some());
    if counted { TokenSource::Server } else { TokenSource::Unknown }
}

/// A record of what is known before the response.
pub(super) fn new_record(worker: u16, slot: u32, job: Job, times: RequestTimes) -> RequestRecord {
    RequestRecord {
        index: job.index,
        phase: job.phase,
        conversation: job.conversation,
        turn: job.turn,
        worker: u32::from(worker),
        slot,
        due: job.due,
        picked: Some(times.picked),
        previous_end: job.previous_end,
        body_wait_ns: job.body_wait_ns,
        ..RequestRecord::default()
    }
}

impl WorkerState {
    /// Makes the records of the requests whose draining connections have come to their end, or stay open for too long.
    pub(super) fn record_drained(&mut self, setup: &Setup, number: u16) {
        while let Some(connection_id) = self.drained.pop() {
            self.end_drain(setup, number, connection_id);
        }
        if self.connections.is_draining() {
            let now = self.clock.now();
            self.end_overdue_drains(setup, number, now);
        }
    }

    /// Makes the record of a request whose draining connection has the end of its body, or is given up.
    fn end_drain(&mut self, setup: &Setup, number: u16, connection_id: u32) {
        if let Some(request) = self.connections.take_drained(connection_id) {
            write_record(self, setup, number, connection_id, &request, request.body.as_deref());
            self.leave(connection_id);
        }
    }

    /// Gives up the connections whose bodies stay open for too long, and the oldest if there are too many.
    pub(super) fn end_overdue_drains(&mut self, setup: &Setup, number: u16, now: Tick) {
        let most = MIN_DRAINING.max(self.phase.live_slots as usize);
        while let Some(connection_id) = self.connections.overdue(most, now) {
            self.connections.entries[connection_id as usize].finish(false, now);
            self.end_drain(setup, number, connection_id);
        }
    }

    /// Gives up every draining connection at the end of a phase.
    pub(super) fn end_all_drains(&mut self, setup: &Setup, number: u16) {
        let now = self.clock.now();
        while let Some(connection_id) = self.connections.overdue(0, now) {
            self.connections.entries[connection_id as usize].finish(false, now);
            self.end_drain(setup, number, connection_id);
        }
    }

    /// Puts a connection back whose response has ended, or closes it.
    pub(super) fn leave(&mut self, connection_id: u32) {
        if self.connections.entries[connection_id as usize].state == (ConnectionState::Finished { reuse: true }) {
            self.connections.put_back(connection_id);
        } else if let Err(error) = self.connections.close(connection_id, &mut self.receive) {
            self.error = Some(error);
        }
    }
}
