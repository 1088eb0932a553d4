//! What the mock does, and how that is written in a URL.

use super::draw::{Count, Delay, Law};
use super::fault::Fault;
use crate::time::{MS, scan_duration_ns};

/// Everything that can be chosen. Same configuration, same requests in the same order: same answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// From the last byte of the request (or from the slot, where requests wait for one) to the first token.
    pub ttft: Delay,
    /// Between tokens.
    pub itl: Delay,
    /// Tokens of each answer; the request's `max_tokens` may cut them.
    pub tokens: Count,
    pub seed: u64,
    /// Name in `/v1/models` and in `/metrics`; any name is served.
    pub model: String,
    pub role: RoleStyle,
    pub usage: UsageStyle,
    pub head: HeadStyle,
    pub finish: FinishStyle,
    /// Events of one write; a write takes `coalesce` inter-token latencies.
    pub coalesce: u32,
    /// All streams send at the common multiples of this period, nanoseconds; 0: each by its own clock.
    pub burst_ns: u64,
    /// Pad output events to this many bytes on the wire; 0: as they are (about 190).
    pub pad: usize,
    /// Send `[DONE]`.
    pub done: bool,
    pub close: CloseStyle,
    pub framing: Framing,
    pub text: TextStyle,
    /// So many tokens of each answer come first, as `reasoning_content`.
    pub reasoning_tokens: u32,
    /// The answer is a tool call whose arguments are streamed.
    pub tool_calls: bool,
    /// Requests served at once, the others wait; 0: no limit.
    pub max_running: u32,
    pub faults: Vec<Fault>,
    /// The times of each request that a stream states beside its usage.
    pub timings: TimingsStyle,
    /// `/metrics` and those times state latencies longer by this, nanoseconds (shorter when negative).
    pub lie_ns: i64,
    /// Busy polling, for exact send instants.
    pub spin: bool,
    /// Requests whose truth is kept, per thread; later ones are only counted.
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

/// How the chat role is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleStyle {
    /// Not at all.
    None,
    /// In a chunk at once, before the prefill (transformers).
    Separate,
    /// In a chunk of the same write as the first token (vLLM, llama.cpp).
    WithFirst,
}

/// When a stream states its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageStyle {
    /// In a chunk of its own, when `stream_options.include_usage` asks for it.
    OnRequest,
    /// In a chunk of its own, always.
    Always,
    Never,
    /// In the chunk with the finish reason, always (transformers).
    WithLast,
}

/// Whose form the times of a request have.
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
    /// At once.
    Now,
    /// In the write of the first byte of the body.
    WithFirst,
}

/// Where the finish reason stands in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishStyle {
    /// In the chunk of the last token (vLLM).
    WithLast,
    /// In a chunk of its own without content (llama.cpp).
    Own,
}

/// What becomes of a connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseStyle {
    KeepAlive,
    /// Closed after every stream though keep-alive was announced (llama.cpp).
    SilentAfterStream,
    /// Closed after every response, with `Connection: close`.
    Announce,
}

/// How bodies are delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Streams and JSON answers chunked.
    Chunked,
    /// Bodies end with the connection.
    UntilClose,
    /// JSON answers by `Content-Length`, streams chunked.
    ContentLength,
}

/// What the words are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextStyle {
    /// Short English words.
    Plain,
    /// Also Chinese, emoji, and everything that JSON escapes.
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
        "TIME or LAW",
        "50ms",
        "from the request's last byte to the first token; a LAW is uniform(a,b), exp(mean), normal(mean,sd) or lognormal(median,sigma)",
    ),
    key("itl", "TIME or LAW", "10ms", "between tokens"),
    key("tokens", "COUNT or LAW", "100", "tokens of each answer; max_tokens may cut them"),
    key("seed", "INT", "0", "seeds everything drawn"),
    key("model", "NAME", "mock", "name in /v1/models and /metrics; any model asked for is served"),
    key(
        "role",
        "none, separate, with_first",
        "with_first",
        "the chat role chunk: none, at once before the prefill, or in the write of the first token",
    ),
    key("usage", "on_request, always, never, with_last", "on_request", "when a stream states its token counts"),
    key("head", "now, with_first", "now", "when the response head is sent"),
    key("finish", "with_last, own", "with_last", "finish reason in the last token's chunk or in a chunk of its own"),
    key("coalesce", "INT", "1", "events in one write"),
    key("burst", "off, on, TIME", "off", "all streams send at common instants with this period (on: the constant itl)"),
    key("pad", "BYTES", "0", "pad output events to this size on the wire"),
    key("done", "on, off", "on", "send [DONE]"),
    key(
        "close",
        "keep, silent, announce",
        "keep",
        "connections: kept, closed after every stream without a word, or closed with Connection: close",
    ),
    key(
        "framing",
        "length, chunked, close",
        "length",
        "JSON answers by Content-Length and streams chunked, both chunked, or both until close",
    ),
    key("text", "plain, mixed", "plain", "English words, or also Chinese, emoji and escaped characters"),
    key("reasoning", "COUNT", "0", "so many tokens come first as reasoning_content"),
    key("tool_calls", "on, off", "off", "the answer is a tool call"),
    key("max_running", "INT", "0", "requests served at once, the others wait; 0: no limit"),
    key(
        "fault",
        "KIND, KIND:PROBABILITY, KIND:1/K",
        "",
        "trouble for all, some, or every K-th request; may be repeated",
    ),
    key("timings", "off, vllm, llamacpp", "off", "the times of each request, stated in a stream beside its usage"),
    key("lie", "TIME", "0", "/metrics and timings state latencies longer by this; may be negative"),
    key("spin", "on, off", "off", "busy polling, for exact send instants"),
    key("keep", "INT", "200000", "requests whose truth is kept"),
];

impl Config {
    /// Reads `ttft=50ms&itl=10ms&tokens=100&fault=reset:0.01`; a leading `?` and percent-encoding are accepted.
    /// The error is one line that names the key.
    pub fn from_query(query: &str) -> Result<Config, String> {
        let mut config = Config::default();
        let (mut itl_given, mut burst) = (false, None);
        for pair in query.trim_start_matches('?').split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "on"));
            let value = percent_decode(value).map_err(|why| format!("mock: {name}: {why}"))?;
            match name {
                "burst" => burst = Some(value),
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

    /// Sets one key but `burst`, which depends on others.
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

const ROLE_STYLES: &[(&str, RoleStyle)] =
    &[("none", RoleStyle::None), ("separate", RoleStyle::Separate), ("with_first", RoleStyle::WithFirst)];
const HEAD_STYLES: &[(&str, HeadStyle)] = &[("now", HeadStyle::Now), ("with_first", HeadStyle::WithFirst)];
const FINISH_STYLES: &[(&str, FinishStyle)] = &[("with_last", FinishStyle::WithLast), ("own", FinishStyle::Own)];
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
            Law::Constant(ns) if ns >= 1.0 => Ok(ns as u64),
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

/// Undoes `%28` and its like.
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
    fn a_query_is_read() {
        let config =
            Config::from_query("?ttft=20ms&itl=exp(5ms)&tokens=uniform%281,9%29&fault=reset:0.5&fault=hang").unwrap();
        assert_eq!(config.ttft, Delay::constant(20 * MS));
        assert_eq!(config.itl, Delay(Law::Exp { mean: 5e6 }));
        assert_eq!(config.tokens, Count(Law::Uniform { low: 1.0, high: 9.0 }));
        assert_eq!(config.faults.len(), 2);
        assert_eq!(config.faults[1].kind, FaultKind::Hang);
        assert_eq!(Config::from_query("").unwrap(), Config::default());
        assert!(Config::from_query("spin").unwrap().spin);
        assert_eq!(Config::from_query("lie=-5ms").unwrap().lie_ns, -5_000_000);
    }

    #[test]
    fn burst_takes_its_period_from_itl_or_names_it() {
        assert_eq!(Config::from_query("burst=on&itl=30ms").unwrap().burst_ns, 30 * MS);
        assert_eq!(Config::from_query("burst=40ms").unwrap().burst_ns, 40 * MS);
        assert!(Config::from_query("burst=on&itl=exp(3ms)").is_err());
        assert!(Config::from_query("burst=40ms&itl=3ms").is_err());
    }

    #[test]
    fn errors_name_the_key_and_what_is_possible() {
        let error = |query| Config::from_query(query).unwrap_err();
        assert!(error("tff=1ms").contains("'tff'") && error("tff=1ms").contains("max_running"));
        assert!(error("role=maybe").contains("with_first"));
        assert!(error("tokens=0").contains("tokens"));
        assert!(error("ttft=soon").contains("ttft"));
        assert!(error("model=%zz").contains("model"));
    }

    #[test]
    fn every_documented_key_is_known_and_its_default_is_the_default() {
        for key in KEYS {
            if key.default.is_empty() {
                continue;
            }
            let config = Config::from_query(&format!("{}={}", key.name, key.default));
            assert_eq!(config, Ok(Config::default()), "{}", key.name);
        }
    }
}
