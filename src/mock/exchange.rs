//! One response as a sequence of timed steps: which bytes are due when. No I/O and no clock; the event loop runs the
//! steps.

use super::config::{CloseStyle, Config, EmptyStyle, EosStyle, FinishStyle, HeadStyle, RoleStyle, UsageStyle};
use super::distribution::Rng;
use super::fault::{FaultKind, choose};
use super::http::{self, BodyFraming, Head, HeadOptions};
use super::render::{LastChunk, Shape, usage_json};
use super::request_body::{Endpoint, RequestParams};
use super::truth::{ChoiceTruth, End, Truth};
use crate::time::Tick;

mod faults;
mod times;

/// A response in progress.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) truth: Truth,
    /// Due time of the next step, nanoseconds.
    pub(super) due_ns: u64,
    /// The time of the event loop at the step, which is later if the loop is late.
    pub(super) now_ns: u64,
    /// `length`, `stop` or `tool_calls`.
    pub(super) finish: &'static str,
    /// What the last step generated.
    pub(super) stepped: Vec<Stepped>,
    /// Choices per prompt.
    pub(super) choices_per_prompt: u32,
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
    /// Number of steps, each of one choice, and of those rendered so far.
    total: u32,
    sent: u32,
    /// Tokens of each choice.
    tokens: u32,
    /// When the first token of a JSON response is ready.
    first_ready_ns: u64,
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

/// What a step generated of one choice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stepped {
    pub(super) choice: u32,
    /// Counted tokens.
    pub(super) tokens: u32,
    /// They have text, and an event.
    pub(super) output: bool,
    /// These are all tokens of a JSON response, the first of which was ready at this time, nanoseconds.
    pub(super) whole_since: Option<u64>,
}

/// How the tokens of a step are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Text,
    /// In an event without text, or in none.
    Empty,
    /// A parser has swallowed them.
    Swallowed,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
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
            tokens.div_ceil(config.step_tokens).saturating_mul(text_choices(&params))
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
            now_ns: 0,
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
            tokens: if total > 0 { tokens } else { 0 },
            first_ready_ns: 0,
            stepped: Vec::new(),
            choices_per_prompt: params.n,
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
                Step { head: true, next: Next::Step }
            }
            Stage::HeldHead => {
                self.write_head(config, out);
                self.preface(config, out, HeadStyle::WithFirst);
                self.stage = Stage::Events;
                Step { head: true, ..self.events(config, out) }
            }
            Stage::Events => self.events(config, out),
            Stage::Body => self.body(config, out),
            Stage::BrokenBody => Step { head: false, next: self.broken_end(config) },
        }
    }

    fn first_token_ns(&mut self, config: &Config, start_ns: u64) -> u64 {
        let ready = start_ns + config.ttft.draw_ns(&mut self.rng);
        align_to_burst(config, ready)
    }

    /// A JSON response is due when its last token is due.
    fn whole_answer_ns(&mut self, config: &Config, start_ns: u64) -> u64 {
        let mut ready = self.first_token_ns(config, start_ns);
        self.first_ready_ns = ready;
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
        Step { head: first, next: Next::Step }
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
            let tokens = u32::from(config.eos == EosStyle::Counted);
            let step = |choice| Stepped { choice, tokens, output: false, whole_since: None };
            self.stepped.extend((0..text_choices(&self.params)).filter(|_| tokens > 0).map(step));
            self.tail(config, out);
            return Step { head: false, next: Next::End(self.ending(config)) };
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
        let (step_before, step_after) = (self.sent / choices, until / choices);
        while self.sent < until {
            self.unit(config, out, self.sent / choices, self.sent % choices);
        }
        self.truth.output_tokens = self.sent_tokens(config);
        if self.sent == self.total && self.ends_with_eos(config) {
            self.eos_due = true;
            self.due_ns = self.next_token_ns(config, self.due_ns);
            return Step { head: false, next: Next::Step };
        }
        if self.sent == self.total {
            self.tail(config, out);
            return Step { head: false, next: Next::End(self.ending(config)) };
        }
        for _ in step_before..step_after {
            self.due_ns = self.next_token_ns(config, self.due_ns);
        }
        Step { head: false, next: Next::Step }
    }

    /// One step of one choice: its tokens, and their event.
    fn unit(&mut self, config: &Config, out: &mut Vec<u8>, step: u32, choice: u32) {
        let choices = text_choices(&self.params);
        let first = step.saturating_mul(config.step_tokens);
        let tokens = first..first.saturating_add(config.step_tokens).min(self.tokens);
        self.sent += 1;
        let last = self.last_chunk(config, self.sent + choices > self.total, self.sent == self.total);
        let delivery = self.delivery(config, first);
        let output = delivery == Delivery::Text;
        self.stepped.push(Stepped { choice, tokens: tokens.len() as u32, output, whole_since: None });
        if output || (delivery == Delivery::Empty && self.sends_empty(config)) {
            self.piece(out, |this, event| {
                this.shape.token(event, config, this.params.endpoint, choice, (tokens, output), &last);
            });
        } else if last.finish.is_some() && self.has_chunks() {
            self.piece(out, |this, event| this.shape.finish(event, this.params.endpoint, choice, &last));
        }
    }

    /// How a token is delivered, and the others of its step.
    fn delivery(&self, config: &Config, token: u32) -> Delivery {
        let after_reasoning = token.checked_sub(config.reasoning_tokens);
        let calls = config.tool_calls && self.params.endpoint == Endpoint::Chat;
        let parsed = after_reasoning.filter(|_| calls || config.reasoning_tokens > 0);
        let swallowed_end = calls && token >= self.tokens.saturating_sub(config.swallow_end);
        let split = config.split > 0 && token % config.split == config.split - 1;
        match parsed {
            Some(place) if place < config.swallow || swallowed_end => Delivery::Swallowed,
            _ if token < config.hold || (split && !calls) => Delivery::Empty,
            _ => Delivery::Text,
        }
    }

    /// The tokens of all choices that were sent so far.
    fn sent_tokens(&self, config: &Config) -> u32 {
        let choices = text_choices(&self.params);
        let of_choice = |choice: u32| {
            let steps = self.sent / choices + u32::from(choice < self.sent % choices);
            steps.saturating_mul(config.step_tokens).min(self.tokens)
        };
        if config.step_tokens == 1 { self.sent } else { (0..choices).map(of_choice).sum() }
    }

    /// Whether the events of the endpoint are OpenAI's chunks, in which the last one of each choice has its finish reason.
    fn has_chunks(&self) -> bool {
        matches!(self.params.endpoint, Endpoint::Chat | Endpoint::Completions)
    }

    /// Whether tokens without text have events.
    fn sends_empty(&self, config: &Config) -> bool {
        match config.empty {
            EmptyStyle::Send => true,
            EmptyStyle::Skip => false,
            EmptyStyle::SkipInChat => self.params.endpoint != Endpoint::Chat,
        }
    }

    /// Whether the finish reason is in a chunk of its own.
    fn has_finish_chunk(&self, config: &Config) -> bool {
        match config.finish {
            FinishStyle::WithLast => false,
            FinishStyle::Own => true,
            FinishStyle::OwnInChat => self.params.endpoint == Endpoint::Chat,
        }
    }

    /// Whether a step of the end-of-sequence token follows the last token.
    fn ends_with_eos(&self, config: &Config) -> bool {
        let stops = matches!(self.finish, "stop" | "tool_calls");
        config.eos != EosStyle::None && stops && self.total > 0
    }

    /// The output tokens in the usage of a response of which `sent` tokens with text were sent.
    fn counted(&self, config: &Config, sent: u32) -> u32 {
        let counts_eos = config.eos == EosStyle::Counted && self.ends_with_eos(config);
        if counts_eos { sent + text_choices(&self.params) } else { sent }
    }

    /// The finish reason and usage of a token's chunk. `ends_choice`: it is the last chunk of its choice; `ends_all`: it
    /// is the last chunk of the response.
    fn last_chunk(&self, config: &Config, ends_choice: bool, ends_all: bool) -> LastChunk {
        if self.has_finish_chunk(config) || !ends_choice || self.ends_with_eos(config) {
            return LastChunk::default();
        }
        let usage = (ends_all && config.usage == UsageStyle::WithLast)
            .then(|| self.usage_and_times(config, self.sent_tokens(config)));
        LastChunk { finish: Some(self.finish), usage }
    }

    /// Finish chunks, usage, `[DONE]` and the end of the framing.
    fn tail(&mut self, config: &Config, out: &mut Vec<u8>) {
        let with_last = config.usage == UsageStyle::WithLast;
        let own =
            config.usage == UsageStyle::Always || (config.usage == UsageStyle::OnRequest && self.params.include_usage);
        let counted = self.counted(config, self.sent_tokens(config));
        self.truth.output_tokens = counted;
        let usage = self.usage_and_times(config, counted);
        let named = !matches!(self.params.endpoint, Endpoint::Chat | Endpoint::Completions);
        self.truth.usage_sent = if named { config.usage != UsageStyle::Never } else { with_last || own };
        let in_last = (config.usage != UsageStyle::Never).then_some(usage.as_str());
        match self.params.endpoint {
            // The usage is part of the last events; there is no usage chunk and no `[DONE]`.
            Endpoint::Responses => {
                self.piece(out, |this, event| this.shape.response_tail(event, config, this.tokens, in_last));
            }
            Endpoint::Messages => {
                self.piece(out, |this, event| this.shape.message_tail(event, config, this.finish, in_last));
            }
            Endpoint::DashScope => {
                self.piece(out, |this, event| this.shape.dashscope(event, config, None, (counted, false), this.finish));
            }
            _ => {
                if self.has_finish_chunk(config) || self.total == 0 || self.eos_due {
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
        let counted = self.counted(config, self.tokens.saturating_mul(choices));
        let usage = usage_json(config, &self.params, counted);
        let mut body = self.shape.body(config, &self.params, self.tokens, self.finish, &usage);
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
            return Step { head: true, next: Next::Step };
        }
        self.sent = self.total;
        self.truth.output_tokens = counted;
        let streams = if self.params.endpoint.is_text() { choices } else { 1 };
        let step = |choice| Stepped {
            choice,
            tokens: counted / streams,
            output: choice == 0,
            whole_since: Some(self.first_ready_ns),
        };
        self.stepped.extend((0..streams).map(step));
        Step { head: true, next: Next::End(self.ending(config)) }
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
            choices: Vec::new(),
            last_byte: None,
            status: 0,
            prompt_tokens: params.prompt_tokens,
            prompt_hash: params.prompt_hash,
            max_tokens: params.max_tokens,
            usage_asked: params.include_usage,
            output_tokens: 0,
            usage_sent: false,
            fault: fault.map(FaultKind::name),
            blocked_writes: 0,
            end: if fault.is_some_and(|fault| !fault.is_survivable()) { End::Fault } else { End::Complete },
        }
    }
}

impl Truth {
    /// The record of a choice, which is created if it is new.
    pub(super) fn choice_mut(&mut self, choice: u32) -> &mut ChoiceTruth {
        if self.choices.len() <= choice as usize {
            self.choices.resize(choice as usize + 1, ChoiceTruth::default());
        }
        &mut self.choices[choice as usize]
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
