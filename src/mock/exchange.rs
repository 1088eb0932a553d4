//! One response as a sequence of timed steps: which bytes are due when. No I/O and no clock; the event loop runs the
//! steps.

use super::config::{CloseStyle, Config, EosStyle, FinishStyle, HeadStyle, RoleStyle, UsageStyle};
use super::distribution::Rng;
use super::fault::{FaultKind, choose};
use super::http::{self, BodyFraming, Head, HeadOptions};
use super::render::{LastChunk, Shape, usage_json};
use super::request_body::{Endpoint, RequestParams};
use super::truth::{End, Truth};
use crate::time::Tick;

mod faults;
mod times;

/// A response in progress.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) truth: Truth,
    /// Due time of the next step, nanoseconds.
    pub(super) due_ns: u64,
    /// `length`, `stop` or `tool_calls`.
    pub(super) finish: &'static str,
    params: RequestParams,
    shape: Shape,
    rng: Rng,
    stage: Stage,
    fault: Option<FaultKind>,
    /// The index of the output event before which the fault is injected.
    fault_at: Option<u32>,
    framing: BodyFraming,
    /// The client allows the connection to be reused.
    keep: bool,
    http10: bool,
    /// Number of output events, and of those rendered so far.
    total: u32,
    sent: u32,
    /// All output events are sent, and the step of the end-of-sequence token is due.
    eos_due: bool,
    /// Head bytes that are sent one by one, and the number of those sent.
    slow_head: Vec<u8>,
    slow_sent: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A fault that needs no slot.
    Immediate,
    SlowHead,
    Head,
    /// The head is sent with the first event.
    HeldHead,
    Events,
    Body,
    /// Half of a JSON response is sent; the fault is due.
    BrokenBody,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Output events among the bytes.
    pub(super) outputs: u32,
    /// The bytes begin with the response head.
    pub(super) head: bool,
    pub(super) next: Next,
}

/// What follows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another step at `due_ns`.
    Step,
    /// Nothing is sent any more; the connection stays open.
    Silence,
    End(Ending),
}

/// What to do with the connection after the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Keep,
    Close,
    Reset,
}

/// Number and read times of a request.
pub(super) struct Arrival {
    pub(super) ordinal: u64,
    pub(super) connection: u64,
    pub(super) first: Tick,
    pub(super) last: Tick,
    pub(super) created_s: u64,
}

impl Exchange {
    /// Plans the response to a request: fault, number of tokens, finish reason, framing.
    pub(super) fn new(config: &Config, params: RequestParams, head: &Head, arrival: Arrival) -> Exchange {
        let mut rng = Rng::new(config.seed, arrival.ordinal);
        let fault = choose(&config.faults, arrival.ordinal, &mut rng);
        let wanted = config.tokens.draw(&mut rng).max(params.min_tokens);
        let tokens = params.max_tokens.map_or(wanted, |max| wanted.min(max));
        let finish = match params.max_tokens {
            _ if config.tool_calls && params.endpoint == Endpoint::Chat && tokens > config.reasoning_tokens => {
                "tool_calls"
            }
            Some(max) if wanted >= max => "length",
            _ => "stop",
        };
        let total = if fault == Some(FaultKind::Empty) || !params.endpoint.is_text() {
            0
        } else {
            tokens.saturating_mul(text_choices(&params))
        };
        let stage = match fault {
            Some(FaultKind::Status { .. } | FaultKind::Garbage | FaultKind::CloseBeforeResponse) => Stage::Immediate,
            Some(FaultKind::SlowHead { .. }) if params.stream => Stage::SlowHead,
            _ if !params.stream => Stage::Body,
            _ if config.head == HeadStyle::WithFirst && config.role != RoleStyle::Separate => Stage::HeldHead,
            _ => Stage::Head,
        };
        let mut exchange = Exchange {
            truth: Truth::new(&params, head, &arrival, fault),
            due_ns: arrival.last.0,
            finish,
            shape: Shape::new(config, &params, arrival.ordinal, arrival.created_s, tokens),
            rng,
            stage,
            fault,
            fault_at: fault.filter(|fault| fault.is_midway()).map(|_| total / 2),
            framing: BodyFraming::for_stream(config.framing, head.http10),
            keep: head.keep_alive,
            http10: head.http10,
            total,
            sent: 0,
            eos_due: false,
            slow_head: Vec::new(),
            slow_sent: 0,
            params,
        };
        let events = if exchange.params.stream { total.min(1 << 16) as usize } else { 1 };
        exchange.truth.sends.reserve_exact(events);
        exchange.truth.returns.reserve_exact(events);
        exchange
    }

    /// Whether the response has to wait for a free slot.
    pub(super) fn needs_slot(&self) -> bool {
        self.stage != Stage::Immediate
    }

    /// Begins the prefill and sets `due_ns` to the due time of the first step.
    pub(super) fn start(&mut self, config: &Config, at: Tick) {
        self.truth.started = Some(at);
        self.due_ns = match self.stage {
            Stage::HeldHead => self.first_token_ns(config, at.0),
            Stage::Body => self.whole_answer_ns(config, at.0),
            _ => at.0,
        };
    }

    /// Appends the bytes that are due at `due_ns` to `out` and advances to the next step.
    pub(super) fn step(&mut self, config: &Config, out: &mut Vec<u8>) -> Step {
        match self.stage {
            Stage::Immediate => self.immediate(config, out),
            Stage::SlowHead => self.slow_head(config, out),
            Stage::Head => {
                self.write_head(config, out);
                self.preface(config, out, HeadStyle::Now);
                self.due_ns = self.first_token_ns(config, self.due_ns);
                self.stage = Stage::Events;
                Step { outputs: 0, head: true, next: Next::Step }
            }
            Stage::HeldHead => {
                self.write_head(config, out);
                self.preface(config, out, HeadStyle::WithFirst);
                self.stage = Stage::Events;
                Step { head: true, ..self.events(config, out) }
            }
            Stage::Events => self.events(config, out),
            Stage::Body => self.body(config, out),
            Stage::BrokenBody => Step { outputs: 0, head: false, next: self.broken_end(config) },
        }
    }

    fn first_token_ns(&mut self, config: &Config, start_ns: u64) -> u64 {
        let ready = start_ns + config.ttft.draw_ns(&mut self.rng);
        align_to_burst(config, ready)
    }

    /// A JSON response is due when its last token is due.
    fn whole_answer_ns(&mut self, config: &Config, start_ns: u64) -> u64 {
        let mut ready = self.first_token_ns(config, start_ns);
        let steps = self.total.div_ceil(text_choices(&self.params)) + u32::from(self.ends_with_eos(config));
        for _ in 1..steps {
            ready = self.next_token_ns(config, ready);
        }
        ready
    }

    fn next_token_ns(&mut self, config: &Config, last_ns: u64) -> u64 {
        match config.burst_ns {
            0 => last_ns + config.itl.draw_ns(&mut self.rng),
            period => last_ns + period,
        }
    }

    /// Sends one byte of the head. The prefill begins with the last one.
    fn slow_head(&mut self, config: &Config, out: &mut Vec<u8>) -> Step {
        if self.slow_head.is_empty() {
            let mut head = Vec::new();
            self.write_head(config, &mut head);
            self.slow_head = head;
        }
        out.push(self.slow_head[self.slow_sent]);
        self.slow_sent += 1;
        let first = self.slow_sent == 1;
        if self.slow_sent == self.slow_head.len() {
            self.preface(config, out, HeadStyle::Now);
            self.due_ns = self.first_token_ns(config, self.due_ns);
            self.stage = Stage::Events;
        } else if let Some(FaultKind::SlowHead { ns }) = self.fault {
            self.due_ns += ns / self.slow_head.len() as u64;
        }
        Step { outputs: 0, head: first, next: Next::Step }
    }

    fn write_head(&mut self, config: &Config, out: &mut Vec<u8>) {
        let options = HeadOptions {
            framing: self.framing,
            announce_close: !self.keep || config.close == CloseStyle::Announce,
            promise_keep_alive: config.close == CloseStyle::SilentAfterStream,
            retry_after_s: None,
        };
        self.truth.status = 200;
        http::write_head(out, 200, "text/event-stream; charset=utf-8", options);
    }

    /// Events sent with the head: the role, if it comes before the prefill, and the opening events of
    /// `/v1/responses` and `/v1/messages`.
    fn preface(&self, config: &Config, out: &mut Vec<u8>, head: HeadStyle) {
        match self.params.endpoint {
            Endpoint::Responses => self.piece(out, |this, event| this.shape.response_preface(event)),
            Endpoint::Messages => self.piece(out, |this, event| this.shape.message_preface(event, config)),
            Endpoint::Chat if config.role == RoleStyle::Separate && head == HeadStyle::Now => self.roles(out),
            _ => {}
        }
    }

    fn roles(&self, out: &mut Vec<u8>) {
        for choice in 0..self.params.choices {
            self.piece(out, |this, event| this.shape.role(event, choice));
        }
    }

    /// Sends the output events that are due, and the tail with the last of them.
    fn events(&mut self, config: &Config, out: &mut Vec<u8>) -> Step {
        if self.eos_due {
            self.tail(config, out);
            return Step { outputs: 0, head: false, next: Next::End(self.ending(config)) };
        }
        if self.fault_at == Some(self.sent) {
            self.fault_at = None;
            return self.midway(config, out);
        }
        if self.sent == 0 && config.role == RoleStyle::WithFirst && self.params.endpoint == Endpoint::Chat {
            self.roles(out);
        }
        let mut until = self.total.min(self.sent + config.coalesce);
        if let Some(at) = self.fault_at.filter(|&at| at > self.sent) {
            until = until.min(at);
        }
        let choices = text_choices(&self.params);
        let outputs = until - self.sent;
        let (step_before, step_after) = (self.sent / choices, until / choices);
        while self.sent < until {
            let (token, choice) = (self.sent / choices, self.sent % choices);
            self.sent += 1;
            let last = self.last_chunk(config, self.sent + choices > self.total, self.sent == self.total);
            self.piece(out, |this, event| this.shape.token(event, config, this.params.endpoint, choice, token, &last));
        }
        self.truth.output_tokens = self.sent;
        if self.sent == self.total && self.ends_with_eos(config) {
            self.eos_due = true;
            self.due_ns = self.next_token_ns(config, self.due_ns);
            return Step { outputs, head: false, next: Next::Step };
        }
        if self.sent == self.total {
            self.tail(config, out);
            return Step { outputs, head: false, next: Next::End(self.ending(config)) };
        }
        for _ in step_before..step_after {
            self.due_ns = self.next_token_ns(config, self.due_ns);
        }
        Step { outputs, head: false, next: Next::Step }
    }

    /// Whether a step of the end-of-sequence token follows the last token.
    fn ends_with_eos(&self, config: &Config) -> bool {
        let can = matches!(self.params.endpoint, Endpoint::Chat | Endpoint::Completions) && self.total > 0;
        config.eos != EosStyle::None && self.finish == "stop" && can
    }

    /// The output tokens in the usage of a response of which `sent` tokens with text were sent.
    fn counted(&self, config: &Config, sent: u32) -> u32 {
        let counts_eos = config.eos == EosStyle::Counted && self.ends_with_eos(config);
        if counts_eos { sent + text_choices(&self.params) } else { sent }
    }

    /// The finish reason and usage of a token's chunk. `ends_choice`: it is the last chunk of its choice; `ends_all`: it
    /// is the last chunk of the response.
    fn last_chunk(&self, config: &Config, ends_choice: bool, ends_all: bool) -> LastChunk {
        if config.finish == FinishStyle::Own || !ends_choice || self.ends_with_eos(config) {
            return LastChunk::default();
        }
        let usage =
            (ends_all && config.usage == UsageStyle::WithLast).then(|| self.usage_and_times(config, self.total));
        LastChunk { finish: Some(self.finish), usage }
    }

    /// Finish chunks, usage, `[DONE]` and the end of the framing.
    fn tail(&mut self, config: &Config, out: &mut Vec<u8>) {
        let with_last = config.usage == UsageStyle::WithLast;
        let own =
            config.usage == UsageStyle::Always || (config.usage == UsageStyle::OnRequest && self.params.include_usage);
        let counted = self.counted(config, self.sent);
        self.truth.output_tokens = counted;
        let usage = self.usage_and_times(config, counted);
        let named = !matches!(self.params.endpoint, Endpoint::Chat | Endpoint::Completions);
        self.truth.usage_sent = if named { config.usage != UsageStyle::Never } else { with_last || own };
        let in_last = (config.usage != UsageStyle::Never).then_some(usage.as_str());
        match self.params.endpoint {
            // The usage is part of the last events; there is no usage chunk and no `[DONE]`.
            Endpoint::Responses => {
                self.piece(out, |this, event| this.shape.response_tail(event, config, this.sent, in_last));
            }
            Endpoint::Messages => {
                self.piece(out, |this, event| this.shape.message_tail(event, config, this.finish, in_last));
            }
            Endpoint::DashScope => {
                self.piece(out, |this, event| this.shape.dashscope(event, config, None, this.sent, this.finish));
            }
            _ => {
                if config.finish == FinishStyle::Own || self.total == 0 || self.eos_due {
                    self.finish_chunks(out, with_last.then(|| usage.clone()));
                }
                if own {
                    self.piece(out, |this, event| this.shape.usage(event, &usage));
                }
                self.done(config, out);
            }
        }
        http::write_end(out, self.framing);
    }

    /// The value of `usage`, and the members that follow it in the same object.
    fn usage_and_times(&self, config: &Config, tokens: u32) -> String {
        let times = match self.params.endpoint {
            Endpoint::Chat | Endpoint::Completions => self.stated_times(config),
            _ => String::new(),
        };
        usage_json(config, &self.params, tokens) + &times
    }

    fn finish_chunks(&self, out: &mut Vec<u8>, usage: Option<String>) {
        for choice in 0..self.params.choices {
            let last = LastChunk {
                finish: Some(self.finish),
                usage: usage.clone().filter(|_| choice + 1 == self.params.choices),
            };
            self.piece(out, |this, event| this.shape.finish(event, this.params.endpoint, choice, &last));
        }
    }

    fn done(&self, config: &Config, out: &mut Vec<u8>) {
        if config.done {
            self.piece(out, |_, event| event.extend_from_slice(b"data: [DONE]\n\n"));
        }
    }

    /// Appends the output of `write` as one piece of the body.
    fn piece(&self, out: &mut Vec<u8>, write: impl FnOnce(&Exchange, &mut Vec<u8>)) {
        if self.framing != BodyFraming::Chunked {
            return write(self, out);
        }
        // The size line precedes the event, whose length is not known yet. Two digits are reserved, which is enough for
        // most events.
        let start = out.len();
        out.extend_from_slice(b"\0\0\r\n");
        write(self, out);
        let length = out.len() - start - 4;
        let size = format_size(length);
        let digits = size.iter().position(|&digit| digit != b'0').unwrap_or(size.len() - 1);
        out.splice(start..start + 2, size[digits..].iter().copied());
        out.extend_from_slice(b"\r\n");
    }

    /// Sends a JSON response, or half of it if a fault cuts it off.
    fn body(&mut self, config: &Config, out: &mut Vec<u8>) -> Step {
        let choices = text_choices(&self.params);
        let tokens = if self.params.endpoint.is_text() { self.total / choices } else { 0 };
        let counted = self.counted(config, self.total);
        let usage = usage_json(config, &self.params, counted);
        let mut body = self.shape.body(config, &self.params, tokens, self.finish, &usage);
        match self.fault {
            Some(FaultKind::CleanTruncate | FaultKind::MalformedEvent) => body.truncate(body.len() / 2),
            Some(FaultKind::InStreamError) => {
                body = http::error_json(500, "the engine died: this is an injected fault")
            }
            Some(FaultKind::Empty) if !self.params.endpoint.is_text() => body = b"{}".to_vec(),
            Some(FaultKind::HugeEvent { bytes }) => body.resize(body.len() + bytes, b' '),
            _ => {}
        }
        let framing = BodyFraming::for_body(config.framing, self.http10, body.len());
        let announce_close = !self.keep || config.close == CloseStyle::Announce;
        let options = HeadOptions { framing, announce_close, promise_keep_alive: false, retry_after_s: None };
        http::write_head(out, 200, "application/json", options);
        let head_end = out.len();
        http::write_piece(out, framing, &body);
        http::write_end(out, framing);
        self.framing = framing;
        self.truth.status = 200;
        self.truth.usage_sent = self.fault.is_none();
        if let Some(FaultKind::Reset | FaultKind::Truncate | FaultKind::Hang) = self.fault {
            out.truncate(head_end + (out.len() - head_end) / 2);
            self.stage = Stage::BrokenBody;
            return Step { outputs: 0, head: true, next: Next::Step };
        }
        self.sent = self.total;
        self.truth.output_tokens = counted;
        Step { outputs: 1, head: true, next: Next::End(self.ending(config)) }
    }

    /// What to do with the connection after a response with correct framing.
    fn ending(&self, config: &Config) -> Ending {
        let silent = config.close == CloseStyle::SilentAfterStream && self.params.stream;
        let announced = !self.keep || config.close == CloseStyle::Announce;
        match silent || announced || self.framing == BodyFraming::UntilClose {
            true => Ending::Close,
            false => Ending::Keep,
        }
    }
}

impl Truth {
    fn new(params: &RequestParams, head: &Head, arrival: &Arrival, fault: Option<FaultKind>) -> Truth {
        Truth {
            ordinal: arrival.ordinal,
            request_id: head.request_id.clone(),
            endpoint: params.endpoint,
            streamed: params.stream,
            connection: arrival.connection,
            received_first: arrival.first,
            received_last: arrival.last,
            started: None,
            head_sent: None,
            sends: Vec::new(),
            returns: Vec::new(),
            last_byte: None,
            status: 0,
            prompt_tokens: params.prompt_tokens,
            output_tokens: 0,
            usage_sent: false,
            fault: fault.map(FaultKind::name),
            blocked_writes: 0,
            end: if fault.is_some_and(|fault| !fault.is_survivable()) { End::Fault } else { End::Complete },
        }
    }
}

/// The number of token streams in one response, at least 1.
fn text_choices(params: &RequestParams) -> u32 {
    params.choices.max(1)
}

/// The next multiple of the burst period at or after `ready_ns`; `ready_ns` itself without bursts.
fn align_to_burst(config: &Config, ready_ns: u64) -> u64 {
    match config.burst_ns {
        0 => ready_ns,
        period => ready_ns.next_multiple_of(period),
    }
}

/// A chunk size as eight hexadecimal digits.
fn format_size(mut length: usize) -> [u8; 8] {
    let mut digits = [b'0'; 8];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[length % 16];
        length /= 16;
    }
    digits
}
