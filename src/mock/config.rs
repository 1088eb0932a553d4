//! The configuration of the mock and its representation as a URL query.

use super::distribution::{Count, Delay, Distribution};
use super::fault::Fault;
use crate::time::{MS, scan_duration_ns};

/// The configuration of a mock. Responses are deterministic: the same configuration and the same requests in the same
/// order give the same responses.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Time from the last byte of the request, or from admission if the request waits for `max_running`, to the first
    /// token.
    pub ttft: Delay,
    /// Time between tokens.
    pub itl: Delay,
    /// Tokens of each response, capped by the request's `max_tokens`.
    pub tokens: Count,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Name in `/v1/models` and in `/metrics`. Requests for any model name are served.
    pub model: String,
    /// How the role is announced.
    pub role: RoleStyle,
    /// Where token counts are reported.
    pub usage: UsageStyle,
    /// When the response head is sent.
    pub head: HeadStyle,
    /// Where the finish reason is.
    pub finish: FinishStyle,
    /// Whether an end-of-sequence token has a step of its own, and whether usage counts it.
    pub eos: EosStyle,
    /// Every so many tokens of a choice, one has no text, as parts of a character do; 0: none.
    pub split: u32,
    /// The number of tokens at the start of each choice whose text is held back, as it may be part of a stop string.
    pub hold: u32,
    /// The number of tokens at the start and at the end of a tool call that its parser sends no event for; the first also
    /// applies to the tokens after reasoning.
    pub swallow: u32,
    /// Tokens at the end of a response that a parser swallows.
    pub swallow_end: u32,
    /// Tokens of a choice per step, sent in one event (speculative decoding).
    pub step_tokens: u32,
    /// Whether tokens without text have events.
    pub empty: EmptyStyle,
    /// Events per write; writes are `coalesce` inter-token latencies apart.
    pub coalesce: u32,
    /// If not 0, all streams send at the multiples of this period, nanoseconds.
    pub burst_ns: u64,
    /// Pads output events to this many bytes on the wire; 0: no padding (about 190 bytes).
    pub pad: usize,
    /// Sends `[DONE]` at the end of a stream.
    pub done: bool,
    /// What happens to the connection after a response.
    pub close: CloseStyle,
    /// How the body is delimited.
    pub framing: Framing,
    /// What the text consists of.
    pub text: TextStyle,
    /// The number of tokens at the start of each response that are sent as `reasoning_content`.
    pub reasoning_tokens: u32,
    /// Responses are tool calls whose arguments are streamed.
    pub tool_calls: bool,
    /// Requests served at the same time, the others queue; 0: no limit.
    pub max_running: u32,
    /// Faults, each with the share of requests that it affects.
    pub faults: Vec<Fault>,
    /// The format of the server-side times that a stream reports with its usage.
    pub timings: TimingsStyle,
    /// Added to the latencies reported in `/metrics` and in those times, nanoseconds; may be negative.
    pub lie_ns: i64,
    /// Busy polling, for precise send times.
    pub spin: bool,
    /// Maximum number of request records kept per thread; later requests are only counted.
    pub keep: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            ttft: Delay::constant(50 * MS),
            itl: Delay::constant(10 * MS),
            tokens: Count::constant(100),
            seed: 0,
            model: "mock".to_string(),
            role: RoleStyle::WithFirst,
            usage: UsageStyle::OnRequest,
            head: HeadStyle::Now,
            finish: FinishStyle::WithLast,
            eos: EosStyle::None,
            split: 0,
            hold: 0,
            swallow: 0,
            swallow_end: 0,
            step_tokens: 1,
            empty: EmptyStyle::Send,
            coalesce: 1,
            burst_ns: 0,
            pad: 0,
            done: true,
            close: CloseStyle::KeepAlive,
            framing: Framing::ContentLength,
            text: TextStyle::Plain,
            reasoning_tokens: 0,
            tool_calls: false,
            max_running: 0,
            faults: Vec::new(),
            timings: TimingsStyle::Off,
            lie_ns: 0,
            spin: false,
            keep: 200_000,
        }
    }
}

/// When the chat role is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleStyle {
    /// Never.
    None,
    /// In a chunk of its own, immediately, before the prefill (transformers).
    Separate,
    /// In a chunk of its own in the same write as the first token (vLLM, llama.cpp).
    WithFirst,
}

/// When a stream reports its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageStyle {
    /// In a chunk of its own, if `stream_options.include_usage` is set.
    OnRequest,
    /// In a chunk of its own, always.
    Always,
    Never,
    /// In the chunk with the finish reason, always (transformers).
    WithLast,
}

/// The format of the server-side times of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimingsStyle {
    Off,
    /// `metrics`
    Vllm,
    /// `timings`
    LlamaCpp,
}

/// When the response head is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadStyle {
    /// Immediately.
    Now,
    /// In the same write as the first byte of the body.
    WithFirst,
}

/// Which chunk of a stream has the finish reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishStyle {
    /// The chunk of the last token (vLLM).
    WithLast,
    /// A separate chunk without content (llama.cpp, transformers).
    Own,
    /// A separate chunk in chat answers, the chunk of the last token in completions (SGLang).
    OwnInChat,
}

/// Events of tokens without text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyStyle {
    /// Sent, with empty text (vLLM).
    Send,
    /// Not sent (llama.cpp, transformers).
    Skip,
    /// Not sent in chat answers, but in completions (SGLang).
    SkipInChat,
}

/// The end-of-sequence token of streams that stop by themselves: a step after the last token whose event has no text and
/// carries the finish reason. A token that completes a stop string looks the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EosStyle {
    /// There is no such step.
    None,
    /// The usage counts the token (vLLM, llama.cpp, SGLang, transformers).
    Counted,
    /// The usage does not count it.
    Uncounted,
}

/// Whether the connection is closed after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseStyle {
    KeepAlive,
    /// Closed after every stream although keep-alive was announced (llama.cpp).
    SilentAfterStream,
    /// Closed after every response, with `Connection: close`.
    Announce,
}

/// How bodies are delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Streams and JSON responses are chunked.
    Chunked,
    /// Bodies end with the connection.
    UntilClose,
    /// JSON responses have a `Content-Length`, streams are chunked.
    ContentLength,
}

/// The text of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextStyle {
    /// Short English words.
    Plain,
    /// English, Chinese, emoji, and characters that JSON escapes.
    Mixed,
}

/// One key of the query: name, possible values, default, meaning.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub values: &'static str,
    pub default: &'static str,
    pub meaning: &'static str,
}

const fn key(name: &'static str, values: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { name, values, default, meaning }
}

/// Every key of `mock:?key=value&...`.
pub const KEYS: &[Key] = &[
    key(
        "ttft",
        "TIME or DIST",
        "50ms",
        "time from the last byte of the request to the first token; DIST is uniform(a,b), exp(mean), normal(mean,sd) or lognormal(median,sigma)",
    ),
    key("itl", "TIME or DIST", "10ms", "time between tokens"),
    key("tokens", "COUNT or DIST", "100", "tokens per response, capped by the request's max_tokens"),
    key("seed", "INT", "0", "seed of all random numbers"),
    key("model", "NAME", "mock", "name in /v1/models and /metrics; requests for any model are served"),
    key(
        "role",
        "none, separate, with_first",
        "with_first",
        "chat role chunk: none, immediately before the prefill, or in the same write as the first token",
    ),
    key("usage", "on_request, always, never, with_last", "on_request", "when a stream reports its token counts"),
    key(
        "head",
        "now, with_first",
        "now",
        "when to send the response head: now, or in the same write as the first event",
    ),
    key(
        "finish",
        "with_last, own, own_in_chat",
        "with_last",
        "finish reason in the last token's chunk, in a separate chunk, or separate in chat answers only",
    ),
    key(
        "eos",
        "none, counted, uncounted",
        "none",
        "end-of-sequence token in a step of its own, without text, counted in the usage or not",
    ),
    key("split", "INT", "0", "every N-th token has no text, as parts of a character do; 0: none"),
    key("hold", "INT", "0", "number of tokens sent first without text, which a stop string holds back"),
    key("swallow", "INT", "0", "number of tokens without an event at the start of a tool call, or after reasoning"),
    key("swallow_end", "INT", "0", "number of tokens without an event at the end of a tool call"),
    key("step_tokens", "INT", "1", "tokens per step, sent in one event (speculative decoding)"),
    key(
        "empty",
        "send, skip, skip_in_chat",
        "send",
        "events of tokens without text: sent, not sent, or not sent in chat answers only",
    ),
    key(
        "like",
        "vllm, llamacpp, sglang, transformers",
        "",
        "role, usage, finish, eos, empty, done, close and timings as this server has them; other keys take precedence",
    ),
    key("coalesce", "INT", "1", "events per write"),
    key("burst", "off, on, TIME", "off", "all streams send at the same times with this period (on: the constant itl)"),
    key("pad", "BYTES", "0", "pad output events to this size on the wire"),
    key("done", "on, off", "on", "send [DONE]"),
    key(
        "close",
        "keep, silent, announce",
        "keep",
        "connections: kept open, closed after every stream without notice, or closed with Connection: close",
    ),
    key(
        "framing",
        "length, chunked, close",
        "length",
        "JSON responses with Content-Length and streams chunked, both chunked, or both ended by closing",
    ),
    key("text", "plain, mixed", "plain", "English words only, or also Chinese, emoji and escaped characters"),
    key("reasoning", "COUNT", "0", "number of tokens sent first as reasoning_content"),
    key("tool_calls", "on, off", "off", "respond with a tool call"),
    key("max_running", "INT", "0", "requests served at the same time, the others queue; 0: no limit"),
    key(
        "fault",
        "KIND, KIND:PROBABILITY, KIND:1/K",
        "",
        "fault for all requests, a random share, or every K-th request; may be repeated",
    ),
    key("timings", "off, vllm, llamacpp", "off", "report server-side times of each request with the usage of a stream"),
    key("lie", "TIME", "0", "added to the latencies in /metrics and timings; may be negative"),
    key("spin", "on, off", "off", "busy polling, for precise send times"),
    key("keep", "INT", "200000", "maximum number of request records kept per thread"),
];

impl Config {
    /// Reads `ttft=50ms&itl=10ms&tokens=100&fault=reset:0.01`; a leading `?` and percent-encoding are accepted.
    /// The error is one line with the name of the key.
    pub fn from_query(query: &str) -> Result<Config, String> {
        let mut config = Config::default();
        let (mut itl_given, mut burst) = (false, None);
        let pairs = || {
            let pairs = query.trim_start_matches('?').split('&').filter(|pair| !pair.is_empty());
            pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "on")))
        };
        for (_, server) in pairs().filter(|(name, _)| *name == "like") {
            for (name, value) in one_of("like", server, SERVERS).map_err(|why| format!("mock: {why}"))? {
                config.set(name, value).map_err(|why| format!("mock: {why}"))?;
            }
        }
        for (name, value) in pairs() {
            let value = percent_decode(value).map_err(|why| format!("mock: {name}: {why}"))?;
            match name {
                "burst" => burst = Some(value),
                "like" => {}
                _ => {
                    itl_given |= name == "itl";
                    config.set(name, &value).map_err(|why| format!("mock: {why}"))?;
                }
            }
        }
        if let Some(value) = burst {
            config.burst_ns =
                burst_period_ns(&value, config.itl, itl_given).map_err(|why| format!("mock: burst: {why}"))?;
        }
        Ok(config)
    }

    /// Sets one key. `burst` is handled by the caller because it depends on other keys.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let named = |why: String| format!("{name}: {why}");
        match name {
            "ttft" => self.ttft = Delay::scan(value).map_err(named)?,
            "itl" => self.itl = Delay::scan(value).map_err(named)?,
            "tokens" => self.tokens = Count::scan(value).map_err(named)?,
            "seed" => self.seed = integer(name, value, 0, u64::MAX)?,
            "model" => self.model = value.to_string(),
            "role" => self.role = one_of(name, value, ROLE_STYLES)?,
            "usage" => self.usage = one_of(name, value, USAGE_STYLES)?,
            "head" => self.head = one_of(name, value, HEAD_STYLES)?,
            "finish" => self.finish = one_of(name, value, FINISH_STYLES)?,
            "eos" => self.eos = one_of(name, value, EOS_STYLES)?,
            "split" => self.split = integer(name, value, 0, u64::from(u32::MAX))? as u32,
            "hold" => self.hold = integer(name, value, 0, u64::from(u32::MAX))? as u32,
            "swallow" => self.swallow = integer(name, value, 0, u64::from(u32::MAX))? as u32,
            "swallow_end" => self.swallow_end = integer(name, value, 0, u64::from(u32::MAX))? as u32,
            "step_tokens" => self.step_tokens = integer(name, value, 1, 1_000_000)? as u32,
            "empty" => self.empty = one_of(name, value, EMPTY_STYLES)?,
            "coalesce" => self.coalesce = integer(name, value, 1, 1_000_000)? as u32,
            "pad" => self.pad = integer(name, value, 0, 16 << 20)? as usize,
            "done" => self.done = switch(name, value)?,
            "close" => self.close = one_of(name, value, CLOSE_STYLES)?,
            "framing" => self.framing = one_of(name, value, FRAMINGS)?,
            "text" => self.text = one_of(name, value, TEXT_STYLES)?,
            "reasoning" => self.reasoning_tokens = integer(name, value, 0, 10_000_000)? as u32,
            "tool_calls" => self.tool_calls = switch(name, value)?,
            "max_running" => self.max_running = integer(name, value, 0, u64::from(u32::MAX))? as u32,
            "fault" => self.faults.push(Fault::scan(value)?),
            "timings" => self.timings = one_of(name, value, TIMINGS_STYLES)?,
            "lie" => self.lie_ns = signed_ns(value).map_err(named)?,
            "spin" => self.spin = switch(name, value)?,
            "keep" => self.keep = integer(name, value, 0, u64::from(u32::MAX))? as usize,
            _ => return Err(format!("unknown key '{name}' (known: {})", known_keys())),
        }
        Ok(())
    }
}

/// What the servers do.
///
/// `tests/captures/` has recorded bytes of all of them, and `tests/mock/shapes.rs` compares the events.
///
/// - vLLM 0.32 and llama.cpp: by the bytes that they were recorded to send. The token counts of llama.cpp stand elsewhere in
///   some answers: beside the finish reason of completions, and for each of several choices.
/// - SGLang 0.5.23: by the bytes that its HTTP layer was recorded to send for a scheduler that had no model. The role comes with
///   the first token. In chat answers, events without text are not sent, and finish reasons follow in events of their own; in
///   completions, every token has an event, and the last one has the finish reason.
/// - transformers 5.24: by the bytes that `transformers serve` was recorded to send. The role comes at once, usage beside the
///   finish reason, and no `[DONE]`. `n` is ignored there, but not here; unknown fields such as `ignore_eos` are refused there.
const SERVERS: &[(&str, &[(&str, &str)])] = &[
    ("vllm", &[("role", "with_first"), ("usage", "on_request"), ("finish", "with_last"), ("eos", "counted")]),
    (
        "llamacpp",
        &[
            ("role", "with_first"),
            ("usage", "on_request"),
            ("finish", "own"),
            ("eos", "counted"),
            ("empty", "skip"),
            ("close", "silent"),
            ("timings", "llamacpp"),
        ],
    ),
    (
        "sglang",
        &[
            ("role", "with_first"),
            ("usage", "on_request"),
            ("finish", "own_in_chat"),
            ("eos", "counted"),
            ("empty", "skip_in_chat"),
        ],
    ),
    (
        "transformers",
        &[
            ("role", "separate"),
            ("usage", "with_last"),
            ("finish", "own"),
            ("eos", "counted"),
            ("empty", "skip"),
            ("done", "off"),
        ],
    ),
];

const ROLE_STYLES: &[(&str, RoleStyle)] =
    &[("none", RoleStyle::None), ("separate", RoleStyle::Separate), ("with_first", RoleStyle::WithFirst)];
const HEAD_STYLES: &[(&str, HeadStyle)] = &[("now", HeadStyle::Now), ("with_first", HeadStyle::WithFirst)];
const EOS_STYLES: &[(&str, EosStyle)] =
    &[("none", EosStyle::None), ("counted", EosStyle::Counted), ("uncounted", EosStyle::Uncounted)];
const EMPTY_STYLES: &[(&str, EmptyStyle)] =
    &[("send", EmptyStyle::Send), ("skip", EmptyStyle::Skip), ("skip_in_chat", EmptyStyle::SkipInChat)];
const FINISH_STYLES: &[(&str, FinishStyle)] =
    &[("with_last", FinishStyle::WithLast), ("own", FinishStyle::Own), ("own_in_chat", FinishStyle::OwnInChat)];
const CLOSE_STYLES: &[(&str, CloseStyle)] =
    &[("keep", CloseStyle::KeepAlive), ("silent", CloseStyle::SilentAfterStream), ("announce", CloseStyle::Announce)];
const FRAMINGS: &[(&str, Framing)] =
    &[("length", Framing::ContentLength), ("chunked", Framing::Chunked), ("close", Framing::UntilClose)];
const TEXT_STYLES: &[(&str, TextStyle)] = &[("plain", TextStyle::Plain), ("mixed", TextStyle::Mixed)];
const USAGE_STYLES: &[(&str, UsageStyle)] = &[
    ("on_request", UsageStyle::OnRequest),
    ("always", UsageStyle::Always),
    ("never", UsageStyle::Never),
    ("with_last", UsageStyle::WithLast),
];

const TIMINGS_STYLES: &[(&str, TimingsStyle)] =
    &[("off", TimingsStyle::Off), ("vllm", TimingsStyle::Vllm), ("llamacpp", TimingsStyle::LlamaCpp)];

fn known_keys() -> String {
    KEYS.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")
}

fn burst_period_ns(value: &str, itl: Delay, itl_given: bool) -> Result<u64, String> {
    match value {
        "off" | "0" => Ok(0),
        "on" | "1" => match itl.0 {
            Distribution::Constant(ns) if ns >= 1.0 => Ok(ns as u64),
            _ => Err("needs a constant itl above 0, or a period such as burst=40ms".to_string()),
        },
        _ if itl_given => Err("a period replaces itl; give one of the two, or burst=on".to_string()),
        period => scan_duration_ns(period, MS),
    }
}

fn one_of<T: Copy>(name: &str, value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices.iter().find(|(word, _)| *word == value).map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        format!("{name}: '{value}' is not one of {}", words.join(", "))
    })
}

fn switch(name: &str, value: &str) -> Result<bool, String> {
    one_of(name, value, &[("on", true), ("1", true), ("true", true), ("off", false), ("0", false), ("false", false)])
}

fn integer(name: &str, value: &str, low: u64, high: u64) -> Result<u64, String> {
    match value.parse() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(format!("{name}: '{value}' is not an integer from {low} to {high}")),
    }
}

fn signed_ns(value: &str) -> Result<i64, String> {
    let (sign, length) = match value.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, value),
    };
    Ok(sign * scan_duration_ns(length, MS)?.min(i64::MAX as u64) as i64)
}

/// Decodes percent-encoding such as `%28`.
fn percent_decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let decoded = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(decoded.ok_or_else(|| format!("'{text}' has a '%' without two hexadecimal digits"))?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| format!("'{text}' is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::super::fault::FaultKind;
    use super::*;

    #[test]
    fn query_is_parsed() {
        let config =
            Config::from_query("?ttft=20ms&itl=exp(5ms)&tokens=uniform%281,9%29&fault=reset:0.5&fault=hang").unwrap();
        assert_eq!(config.ttft, Delay::constant(20 * MS));
        assert_eq!(config.itl, Delay(Distribution::Exp { mean: 5e6 }));
        assert_eq!(config.tokens, Count(Distribution::Uniform { low: 1.0, high: 9.0 }));
        assert_eq!(config.faults.len(), 2);
        assert_eq!(config.faults[1].kind, FaultKind::Hang);
        assert_eq!(Config::from_query("").unwrap(), Config::default());
        assert!(Config::from_query("spin").unwrap().spin);
        assert_eq!(Config::from_query("lie=-5ms").unwrap().lie_ns, -5_000_000);
    }

    #[test]
    fn a_server_sets_defaults_that_other_keys_override() {
        let config = Config::from_query("eos=none&like=llamacpp&tokens=3").unwrap();
        assert_eq!((config.finish, config.eos), (FinishStyle::Own, EosStyle::None));
        assert_eq!((config.empty, config.timings), (EmptyStyle::Skip, TimingsStyle::LlamaCpp));
        assert!(Config::from_query("like=tgi").unwrap_err().contains("sglang"));
    }

    #[test]
    fn burst_period_comes_from_itl_or_from_its_value() {
        assert_eq!(Config::from_query("burst=on&itl=30ms").unwrap().burst_ns, 30 * MS);
        assert_eq!(Config::from_query("burst=40ms").unwrap().burst_ns, 40 * MS);
        assert!(Config::from_query("burst=on&itl=exp(3ms)").is_err());
        assert!(Config::from_query("burst=40ms&itl=3ms").is_err());
    }

    #[test]
    fn errors_contain_the_key_and_the_valid_values() {
        let error = |query| Config::from_query(query).unwrap_err();
        assert!(error("tff=1ms").contains("'tff'") && error("tff=1ms").contains("max_running"));
        assert!(error("role=maybe").contains("with_first"));
        assert!(error("tokens=0").contains("tokens"));
        assert!(error("ttft=soon").contains("ttft"));
        assert!(error("model=%zz").contains("model"));
    }

    #[test]
    fn documented_defaults_equal_the_default_config() {
        for key in KEYS {
            if key.default.is_empty() {
                continue;
            }
            let config = Config::from_query(&format!("{}={}", key.name, key.default));
            assert_eq!(config, Ok(Config::default()), "{}", key.name);
        }
    }
}
