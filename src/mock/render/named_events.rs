//! The events of the APIs with an `event:` field: Anthropic's messages and DashScope.

use std::borrow::Cow;
use std::ops::Range;

use super::{Shape, pad, put};
use crate::mock::config::{Config, UsageStyle};
use crate::mock::request_body::Endpoint;

impl Shape {
    /// Renders the event of the tokens of one step. Returns false if the endpoint has no named events.
    pub(super) fn named_token(
        &self,
        out: &mut Vec<u8>,
        config: &Config,
        endpoint: Endpoint,
        (tokens, with_text): (Range<u32>, bool),
    ) -> bool {
        match endpoint {
            Endpoint::Messages => self.message_delta(out, config, tokens, with_text),
            Endpoint::DashScope => {
                let end = tokens.end;
                self.dashscope(out, config, Some(tokens), (end, with_text), "null");
            }
            _ => return false,
        }
        true
    }

    /// The events of `/v1/messages` before any text.
    pub(in crate::mock) fn message_preface(&self, out: &mut Vec<u8>, config: &Config) {
        let usage = match config.usage {
            UsageStyle::Never => String::new(),
            _ => format!(",\"usage\":{{\"input_tokens\":{},\"output_tokens\":1}}", self.input_tokens),
        };
        put(
            out,
            format_args!(
                "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"{}\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":{},\"stop_reason\":null,\"stop_sequence\":null{usage}}}}}\n\n",
                self.id, self.model
            ),
        );
        let block = if config.reasoning_tokens > 0 { "thinking" } else { "text" };
        block_start(out, 0, block);
        out.extend_from_slice(b"event: ping\ndata: {\"type\": \"ping\"}\n\n");
    }

    fn message_delta(&self, out: &mut Vec<u8>, config: &Config, tokens: Range<u32>, with_text: bool) {
        let token = tokens.start;
        let thinks = token < config.reasoning_tokens;
        // Tokens that mark the end of the reasoning have no event.
        let first_text = (config.reasoning_tokens + config.swallow).next_multiple_of(config.step_tokens);
        if token == first_text && config.reasoning_tokens > 0 {
            block_stop(out, 0);
            block_start(out, 1, "text");
        }
        let start = out.len();
        let text = self.text_of(config, 0, tokens, with_text);
        let (index, kind) = if thinks { (0, "thinking") } else { (u32::from(config.reasoning_tokens > 0), "text") };
        put(
            out,
            format_args!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{{\"type\":\"{kind}_delta\",\"{kind}\":\"{text}\"}}"
            ),
        );
        pad(out, start, config.pad);
        out.extend_from_slice(b"}\n\n");
    }

    /// The events of `/v1/messages` after the text.
    pub(in crate::mock) fn message_tail(&self, out: &mut Vec<u8>, config: &Config, finish: &str, usage: Option<&str>) {
        block_stop(out, u32::from(config.reasoning_tokens > 0 && self.tokens > config.reasoning_tokens));
        let usage = usage.map_or(String::new(), |usage| format!(",\"usage\":{usage}"));
        let reason = stop_reason(finish);
        put(
            out,
            format_args!(
                "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{reason}\",\"stop_sequence\":null}}{usage}}}\n\n"
            ),
        );
        out.extend_from_slice(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    /// The JSON response of `/v1/messages`.
    pub(super) fn message_body(&self, config: &Config, tokens: u32, finish: &str, usage: &str) -> Vec<u8> {
        let thought = config.reasoning_tokens.min(tokens);
        let mut blocks = Vec::new();
        if thought > 0 {
            let text = self.answer_text(config, 0, 0, thought);
            blocks.push(format!("{{\"type\":\"thinking\",\"thinking\":\"{text}\",\"signature\":\"mock\"}}"));
        }
        if tokens > thought {
            let text = self.answer_text(config, 0, thought, tokens);
            blocks.push(format!("{{\"type\":\"text\",\"text\":\"{text}\"}}"));
        }
        format!(
            "{{\"id\":\"{}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":{},\"content\":[{}],\"stop_reason\":\"{}\",\"stop_sequence\":null,\"usage\":{usage}}}",
            self.id, self.model, blocks.join(","), stop_reason(finish)
        )
        .into_bytes()
    }

    /// An event of DashScope with the text of the tokens of one step (`None` in the last event), the number of output tokens
    /// so far, and whether these have text.
    pub(in crate::mock) fn dashscope(
        &self,
        out: &mut Vec<u8>,
        config: &Config,
        tokens: Option<Range<u32>>,
        (output_tokens, with_text): (u32, bool),
        finish: &str,
    ) {
        let start = out.len();
        let token = tokens.as_ref().map(|tokens| tokens.start);
        let number = token.map_or(output_tokens + 1, |token| token + 1);
        let text = tokens.map_or(Cow::Borrowed(""), |tokens| self.text_of(config, 0, tokens, with_text));
        let text = text.as_ref();
        let (content, reasoning) = match token {
            Some(token) if token < config.reasoning_tokens => ("", text),
            _ => (text, ""),
        };
        put(
            out,
            format_args!(
                "id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:{{\"output\":{{\"choices\":[{{\"message\":{{\"content\":\"{content}\",\"reasoning_content\":\"{reasoning}\",\"role\":\"assistant\"}},\"finish_reason\":\"{finish}\"}}]}}"
            ),
        );
        if config.usage != UsageStyle::Never {
            let total = self.input_tokens.saturating_add(output_tokens);
            put(
                out,
                format_args!(
                    ",\"usage\":{{\"total_tokens\":{total},\"input_tokens\":{},\"output_tokens\":{output_tokens}}}",
                    self.input_tokens
                ),
            );
        }
        put(out, format_args!(",\"request_id\":\"{}\"", self.id));
        pad(out, start, config.pad);
        out.extend_from_slice(b"}\n\n");
    }

    /// The JSON response of DashScope.
    pub(super) fn dashscope_body(&self, config: &Config, tokens: u32, finish: &str, usage: &str) -> Vec<u8> {
        let thought = config.reasoning_tokens.min(tokens);
        let reasoning = self.answer_text(config, 0, 0, thought);
        let text = self.answer_text(config, 0, thought, tokens);
        format!(
            "{{\"output\":{{\"choices\":[{{\"finish_reason\":\"{finish}\",\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\",\"reasoning_content\":\"{reasoning}\"}}}}]}},\"usage\":{usage},\"request_id\":\"{}\"}}",
            self.id
        )
        .into_bytes()
    }
}

fn block_start(out: &mut Vec<u8>, index: u32, kind: &str) {
    put(
        out,
        format_args!(
            "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"index\":{index},\"content_block\":{{\"type\":\"{kind}\",\"{kind}\":\"\"}}}}\n\n"
        ),
    );
}

fn block_stop(out: &mut Vec<u8>, index: u32) {
    put(
        out,
        format_args!("event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{index}}}\n\n"),
    );
}

fn stop_reason(finish: &str) -> &'static str {
    if finish == "length" { "max_tokens" } else { "end_turn" }
}
