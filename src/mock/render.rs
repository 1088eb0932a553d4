//! Renders events and JSON responses.

use std::borrow::Cow;
use std::io::Write;
use std::ops::Range;

use super::config::{Config, TextStyle};
use super::request_body::{Endpoint, RequestParams};

mod named_events;

/// Token texts, JSON-escaped. The first token of a response has no leading space.
const PLAIN: &[&str] = &[
    " the", " quick", " stream", " of", " tokens", " arrives", " in", " order", " and", " every", " one", " is",
    " stamped", " before", " it", " leaves",
];
const MIXED: &[&str] = &[
    " the",
    "你好",
    " 世界",
    "🚀",
    "\\n",
    " \\\"quoted\\\"",
    "\\\\",
    " \\ud83d\\ude00",
    " caf\\u00e9",
    "\\t",
    " <b>",
    "，令牌",
    " naïve",
    "\\u2028",
    " data: [DONE]",
    " 👩‍👩‍👧",
    "\\/",
    " ende",
];

/// The text of token `token` of choice `choice`, JSON-escaped.
fn word(style: TextStyle, ordinal: u64, choice: u32, token: u32) -> &'static str {
    let words = match style {
        TextStyle::Plain => PLAIN,
        TextStyle::Mixed => MIXED,
    };
    let at = (ordinal.wrapping_add(u64::from(choice) * 5).wrapping_add(u64::from(token))) % words.len() as u64;
    let word = words[at as usize];
    if token == 0 { word.trim_start_matches(' ') } else { word }
}

/// The values that are the same in all events of one response.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) ordinal: u64,
    /// The start of every chunk of chat and completions: `data: {"id":...,"choices":[`.
    prefix: Vec<u8>,
    id: String,
    /// The model name as a JSON string, with quotes.
    model: String,
    created_s: u64,
    tokens: u32,
    input_tokens: u32,
}

impl Shape {
    /// The shape of the response to `params`, with `tokens` tokens per choice.
    pub(super) fn new(config: &Config, params: &RequestParams, ordinal: u64, created_s: u64, tokens: u32) -> Shape {
        let name = if params.model.is_empty() { &config.model } else { &params.model };
        let model = serde_json::Value::from(name.as_str()).to_string();
        let number = ordinal.wrapping_add(config.seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ config.seed;
        let (kind, object) = match params.endpoint {
            Endpoint::Chat => ("chatcmpl", "chat.completion.chunk"),
            Endpoint::Completions => ("cmpl", "text_completion"),
            Endpoint::Responses => ("resp", "response"),
            Endpoint::Embeddings => ("embd", "list"),
            Endpoint::Rerank => ("score", "list"),
            Endpoint::DashScope => ("ds", "result"),
            Endpoint::Messages => ("msg", "message"),
        };
        let id = format!("{kind}-{number:016x}");
        let prefix = format!(
            "data: {{\"id\":\"{id}\",\"object\":\"{object}\",\"created\":{created_s},\"model\":{model},\"choices\":["
        );
        Shape { ordinal, prefix: prefix.into_bytes(), id, model, created_s, tokens, input_tokens: params.prompt_tokens }
    }

    /// The role chunk of a chat choice.
    pub(super) fn role(&self, out: &mut Vec<u8>, choice: u32) {
        out.extend_from_slice(&self.prefix);
        put(
            out,
            format_args!(
                "{{\"index\":{choice},\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}},\"finish_reason\":null}}]}}\n\n"
            ),
        );
    }

    /// The event of the tokens of one step, with or without their text. `last` has its finish reason and usage, if it
    /// carries them.
    pub(super) fn token(
        &self,
        out: &mut Vec<u8>,
        config: &Config,
        endpoint: Endpoint,
        choice: u32,
        (tokens, with_text): (Range<u32>, bool),
        last: &LastChunk,
    ) {
        let start = out.len();
        if endpoint == Endpoint::Responses {
            return self.response_delta(out, config, tokens, with_text);
        }
        if self.named_token(out, config, endpoint, (tokens.clone(), with_text)) {
            return;
        }
        out.extend_from_slice(&self.prefix);
        let mut digits = itoa(choice);
        out.extend_from_slice(b"{\"index\":");
        out.extend_from_slice(digits.text());
        self.token_text(out, config, endpoint, choice, tokens, with_text);
        match last.finish {
            None => out.extend_from_slice(b",\"finish_reason\":null}]"),
            Some(reason) => put(out, format_args!(",\"finish_reason\":\"{reason}\"}}]")),
        }
        if let Some(usage) = &last.usage {
            put(out, format_args!(",\"usage\":{usage}"));
        }
        pad(out, start, config.pad);
        out.extend_from_slice(b"}\n\n");
    }

    /// The text of the tokens of one step, JSON-escaped.
    fn text_of(&self, config: &Config, choice: u32, tokens: Range<u32>, with_text: bool) -> Cow<'static, str> {
        match tokens.len() {
            _ if !with_text => Cow::Borrowed(""),
            1 => Cow::Borrowed(word(config.text, self.ordinal, choice, tokens.start)),
            _ => Cow::Owned(self.answer_text(config, choice, tokens.start, tokens.end)),
        }
    }

    /// The delta of the tokens of one step.
    fn token_text(
        &self,
        out: &mut Vec<u8>,
        config: &Config,
        endpoint: Endpoint,
        choice: u32,
        tokens: Range<u32>,
        with_text: bool,
    ) {
        let token = tokens.start;
        let last = tokens.end;
        let text = self.text_of(config, choice, tokens, with_text);
        if endpoint == Endpoint::Completions {
            out.extend_from_slice(b",\"text\":\"");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\"");
        } else if token < config.reasoning_tokens {
            out.extend_from_slice(b",\"delta\":{\"reasoning_content\":\"");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\"}");
        } else if config.tool_calls {
            self.tool_delta(out, config, token - config.reasoning_tokens, last - config.reasoning_tokens, &text);
        } else {
            out.extend_from_slice(b",\"delta\":{\"content\":\"");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\"}");
        }
    }

    /// The parts of a tool call from `part` to `end`. The arguments of all parts together are one JSON object; the first and
    /// the last parts may be swallowed.
    fn tool_delta(&self, out: &mut Vec<u8>, config: &Config, part: u32, end: u32, text: &str) {
        // The arguments are JSON inside a JSON string, so the escaped text is escaped again.
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        let parts = self.tokens.saturating_sub(config.reasoning_tokens + config.swallow_end);
        out.extend_from_slice(b",\"delta\":{\"tool_calls\":[{\"index\":0,");
        // Steps of several tokens begin at their multiples.
        if part == config.swallow.next_multiple_of(config.step_tokens) {
            put(
                out,
                format_args!(
                    "\"id\":\"call-{}\",\"type\":\"function\",\"function\":{{\"name\":\"lookup\",\"arguments\":\"{{\\\"q\\\":\\\"",
                    self.id
                ),
            );
        } else {
            out.extend_from_slice(b"\"function\":{\"arguments\":\"");
        }
        out.extend_from_slice(text.as_bytes());
        if end >= parts {
            out.extend_from_slice(b"\\\"}");
        }
        out.extend_from_slice(b"\"}}]}");
    }

    /// A separate chunk with the finish reason.
    pub(super) fn finish(&self, out: &mut Vec<u8>, endpoint: Endpoint, choice: u32, last: &LastChunk) {
        out.extend_from_slice(&self.prefix);
        let content = if endpoint == Endpoint::Completions { "\"text\":\"\"" } else { "\"delta\":{}" };
        put(
            out,
            format_args!("{{\"index\":{choice},{content},\"finish_reason\":\"{}\"}}]", last.finish.unwrap_or("stop")),
        );
        if let Some(usage) = &last.usage {
            put(out, format_args!(",\"usage\":{usage}"));
        }
        out.extend_from_slice(b"}\n\n");
    }

    /// A separate chunk with the usage.
    pub(super) fn usage(&self, out: &mut Vec<u8>, usage: &str) {
        out.extend_from_slice(&self.prefix);
        put(out, format_args!("],\"usage\":{usage}}}\n\n"));
    }

    /// An event that is cut off in the middle of its JSON.
    pub(super) fn malformed(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b"{\"index\":0,\"delta\":{\"content\":\n\n");
    }

    /// An event with `bytes` bytes of content.
    pub(super) fn huge(&self, out: &mut Vec<u8>, endpoint: Endpoint, bytes: usize) {
        out.reserve(bytes + 300);
        let (open, close): (&[u8], &[u8]) = match endpoint {
            Endpoint::Responses => (
                b"event: response.output_text.delta\ndata: {\"delta\":\"",
                b"\",\"type\":\"response.output_text.delta\"}\n\n",
            ),
            Endpoint::Messages => (
                b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"",
                b"\"}}\n\n",
            ),
            Endpoint::DashScope => (
                b"event:result\ndata:{\"output\":{\"choices\":[{\"message\":{\"content\":\"",
                b"\"},\"finish_reason\":\"null\"}]}}\n\n",
            ),
            Endpoint::Completions => (b"{\"index\":0,\"text\":\"", b"\",\"finish_reason\":null}]}\n\n"),
            _ => (b"{\"index\":0,\"delta\":{\"content\":\"", b"\"},\"finish_reason\":null}]}\n\n"),
        };
        if matches!(endpoint, Endpoint::Chat | Endpoint::Completions) {
            out.extend_from_slice(&self.prefix);
        }
        out.extend_from_slice(open);
        out.resize(out.len() + bytes, b'x');
        out.extend_from_slice(close);
    }

    /// The events of `/v1/responses` before any text.
    pub(super) fn response_preface(&self, out: &mut Vec<u8>) {
        let response = self.response_object("in_progress", "null", "[]");
        for name in ["response.created", "response.in_progress"] {
            put(
                out,
                format_args!(
                    "event: {name}\ndata: {{\"response\":{response},\"sequence_number\":0,\"type\":\"{name}\"}}\n\n"
                ),
            );
        }
    }

    fn response_delta(&self, out: &mut Vec<u8>, config: &Config, tokens: Range<u32>, with_text: bool) {
        let start = out.len();
        let token = tokens.start;
        let text = self.text_of(config, 0, tokens, with_text);
        let name = match token < config.reasoning_tokens {
            true => "response.reasoning_text.delta",
            false => "response.output_text.delta",
        };
        put(
            out,
            format_args!(
                "event: {name}\ndata: {{\"content_index\":0,\"delta\":\"{text}\",\"item_id\":\"msg-{}\",\"output_index\":0,\"sequence_number\":{},\"type\":\"{name}\"",
                self.ordinal,
                token + 2,
            ),
        );
        pad(out, start, config.pad);
        out.extend_from_slice(b"}\n\n");
    }

    /// The events of `/v1/responses` after the text. The last one has the usage.
    pub(super) fn response_tail(&self, out: &mut Vec<u8>, config: &Config, tokens: u32, usage: Option<&str>) {
        let text = self.answer_text(config, 0, config.reasoning_tokens.min(tokens), tokens);
        let number = tokens + 2;
        put(
            out,
            format_args!(
                "event: response.output_text.done\ndata: {{\"content_index\":0,\"item_id\":\"msg-{}\",\"output_index\":0,\"sequence_number\":{number},\"text\":\"{text}\",\"type\":\"response.output_text.done\"}}\n\n",
                self.ordinal,
            ),
        );
        let response = self.response_object("completed", usage.unwrap_or("null"), &self.response_output(&text));
        put(
            out,
            format_args!(
                "event: response.completed\ndata: {{\"response\":{response},\"sequence_number\":{},\"type\":\"response.completed\"}}\n\n",
                number + 1,
            ),
        );
    }

    fn response_output(&self, text: &str) -> String {
        format!(
            "[{{\"id\":\"msg-{}\",\"type\":\"message\",\"role\":\"assistant\",\"status\":\"completed\",\"content\":[{{\"annotations\":[],\"text\":\"{text}\",\"type\":\"output_text\"}}]}}]",
            self.ordinal
        )
    }

    fn response_object(&self, status: &str, usage: &str, output: &str) -> String {
        format!(
            "{{\"id\":\"{}\",\"created_at\":{},\"model\":{},\"object\":\"response\",\"status\":\"{status}\",\"output\":{output},\"usage\":{usage}}}",
            self.id, self.created_s, self.model
        )
    }

    /// Tokens `from..to` of a choice as one text, JSON-escaped.
    fn answer_text(&self, config: &Config, choice: u32, from: u32, to: u32) -> String {
        (from..to).map(|token| word(config.text, self.ordinal, choice, token)).collect()
    }

    /// The JSON response to a request without streaming. `tokens` is 0 for a response without output.
    pub(super) fn body(
        &self,
        config: &Config,
        params: &RequestParams,
        tokens: u32,
        finish: &str,
        usage: &str,
    ) -> Vec<u8> {
        match params.endpoint {
            Endpoint::Embeddings => self.embeddings(params, usage),
            Endpoint::Rerank => self.ranking(params, usage),
            Endpoint::Messages => self.message_body(config, tokens, finish, usage),
            Endpoint::DashScope => self.dashscope_body(config, tokens, finish, usage),
            Endpoint::Responses => {
                let text = self.answer_text(config, 0, config.reasoning_tokens.min(tokens), tokens);
                let output = if tokens == 0 { "[]".to_string() } else { self.response_output(&text) };
                self.response_object("completed", usage, &output).into_bytes()
            }
            Endpoint::Chat | Endpoint::Completions => {
                let choices: Vec<String> = (0..params.choices)
                    .map(|choice| self.choice(config, params.endpoint, choice, tokens, finish))
                    .collect();
                let object = if params.endpoint == Endpoint::Chat { "chat.completion" } else { "text_completion" };
                format!(
                    "{{\"id\":\"{}\",\"object\":\"{object}\",\"created\":{},\"model\":{},\"choices\":[{}],\"usage\":{usage}}}",
                    self.id, self.created_s, self.model, choices.join(",")
                )
                .into_bytes()
            }
        }
    }

    fn choice(&self, config: &Config, endpoint: Endpoint, choice: u32, tokens: u32, finish: &str) -> String {
        if endpoint == Endpoint::Completions {
            let text = self.answer_text(config, choice, 0, tokens);
            return format!(
                "{{\"index\":{choice},\"text\":\"{text}\",\"logprobs\":null,\"finish_reason\":\"{finish}\"}}"
            );
        }
        let thought = config.reasoning_tokens.min(tokens);
        let text = self.answer_text(config, choice, thought, tokens);
        let content = if config.tool_calls && tokens > thought {
            let arguments = text.replace('\\', "\\\\").replace('"', "\\\"");
            format!(
                "\"content\":null,\"tool_calls\":[{{\"id\":\"call-{}\",\"type\":\"function\",\"function\":{{\"name\":\"lookup\",\"arguments\":\"{{\\\"q\\\":\\\"{arguments}\\\"}}\"}}}}]",
                self.id
            )
        } else {
            format!("\"content\":\"{text}\"")
        };
        let reasoning = match thought {
            0 => String::new(),
            _ => format!(",\"reasoning_content\":\"{}\"", self.answer_text(config, choice, 0, thought)),
        };
        format!(
            "{{\"index\":{choice},\"message\":{{\"role\":\"assistant\",{content}{reasoning}}},\"logprobs\":null,\"finish_reason\":\"{finish}\"}}"
        )
    }

    fn embeddings(&self, params: &RequestParams, usage: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put(
            &mut out,
            format_args!(
                "{{\"id\":\"{}\",\"object\":\"list\",\"created\":{},\"model\":{},\"data\":[",
                self.id, self.created_s, self.model
            ),
        );
        for index in 0..params.choices {
            let comma = if index > 0 { "," } else { "" };
            put(&mut out, format_args!("{comma}{{\"index\":{index},\"object\":\"embedding\",\"embedding\":["));
            for place in 0..params.dimensions {
                let comma = if place > 0 { "," } else { "" };
                put(
                    &mut out,
                    format_args!(
                        "{comma}0.{:03}",
                        (u64::from(place) * 37 + u64::from(index) * 11 + self.ordinal) % 1000
                    ),
                );
            }
            out.extend_from_slice(b"]}");
        }
        put(&mut out, format_args!("],\"usage\":{usage}}}"));
        out
    }

    fn ranking(&self, params: &RequestParams, usage: &str) -> Vec<u8> {
        let results: Vec<String> = (0..params.choices)
            .map(|place| {
                let score = 1.0 / f64::from(place + 1);
                format!("{{\"index\":{place},\"relevance_score\":{score:.6}}}")
            })
            .collect();
        format!(
            "{{\"id\":\"{}\",\"model\":{},\"usage\":{usage},\"results\":[{}]}}",
            self.id,
            self.model,
            results.join(",")
        )
        .into_bytes()
    }
}

/// The finish reason and usage that the chunk of the last token carries.
#[derive(Clone, Debug, Default)]
pub(super) struct LastChunk {
    pub(super) finish: Option<&'static str>,
    pub(super) usage: Option<String>,
}

/// Token counts as JSON, in the format of the endpoint.
pub(super) fn usage_json(config: &Config, params: &RequestParams, output_tokens: u32) -> String {
    let (input, total) = (params.prompt_tokens, params.prompt_tokens.saturating_add(output_tokens));
    let thought = config.reasoning_tokens.saturating_mul(params.choices).min(output_tokens);
    match params.endpoint {
        Endpoint::Responses => format!(
            "{{\"input_tokens\":{input},\"input_tokens_details\":{{\"cached_tokens\":0}},\"output_tokens\":{output_tokens},\"output_tokens_details\":{{\"reasoning_tokens\":{thought}}},\"total_tokens\":{total}}}"
        ),
        Endpoint::Messages => format!("{{\"input_tokens\":{input},\"output_tokens\":{output_tokens}}}"),
        Endpoint::DashScope => {
            format!("{{\"total_tokens\":{total},\"input_tokens\":{input},\"output_tokens\":{output_tokens}}}")
        }
        Endpoint::Embeddings | Endpoint::Rerank => format!("{{\"prompt_tokens\":{input},\"total_tokens\":{input}}}"),
        Endpoint::Chat | Endpoint::Completions if thought == 0 => {
            format!("{{\"prompt_tokens\":{input},\"total_tokens\":{total},\"completion_tokens\":{output_tokens}}}")
        }
        Endpoint::Chat | Endpoint::Completions => format!(
            "{{\"prompt_tokens\":{input},\"total_tokens\":{total},\"completion_tokens\":{output_tokens},\"completion_tokens_details\":{{\"reasoning_tokens\":{thought}}}}}"
        ),
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a Vec cannot fail");
}

/// Pads the event that begins at `start`, before its closing brace, so that it and its chunk framing have `wire` bytes.
/// OpenAI uses a field of the same name for padding.
fn pad(out: &mut Vec<u8>, start: usize, wire: usize) {
    const FIELD: &[u8] = b",\"obfuscation\":\"";
    // The digits of the chunk size and two line ends. The number of digits depends on the size, which is `wire` less
    // the framing.
    let framing =
        (1..8).map(|digits| digits + 4).find(|&framing| wire < framing || wire - framing < 1 << (4 * (framing - 4)));
    let framing = framing.unwrap_or(12);
    let closed = out.len() - start + "}\n\n".len() + framing;
    if closed + FIELD.len() + 1 > wire {
        return;
    }
    out.extend_from_slice(FIELD);
    out.resize(out.len() + wire - closed - FIELD.len() - 1, b'.');
    out.push(b'"');
}

/// The digits of an integer. Faster than `format!`; used for every event.
struct Digits([u8; 10], usize);

impl Digits {
    fn text(&mut self) -> &[u8] {
        &self.0[self.1..]
    }
}

fn itoa(mut number: u32) -> Digits {
    let mut digits = Digits([b'0'; 10], 10);
    loop {
        digits.1 -= 1;
        digits.0[digits.1] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return digits;
        }
    }
}
