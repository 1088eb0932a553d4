//! Timings of a request that servers report in their response.
//!
//! vLLM (`--enable-per-request-metrics`) sends `metrics` with the usage: queue time, prefill time until the first
//! token, and decode time from the first to the last token. llama.cpp sends `timings` in its last event: `prompt_ms`
//! ends when the first token is sampled, `predicted_ms` runs from there to the last token.

use crate::protocol::json::{self, Value};
use crate::record::ServerTimes;

/// Reads vLLM's `metrics`; `None` if it is `null` or contains no time.
pub(crate) fn read_metrics(value: Value<'_, '_>) -> Option<ServerTimes> {
    let mut times = ServerTimes::default();
    for (key, member) in json::entries(value) {
        match key {
            "queue_time_ms" => times.queue_ns = json::milliseconds(member),
            "time_to_first_token_ms" => times.prefill_ns = json::milliseconds(member),
            "generation_time_ms" => times.decode_ns = json::milliseconds(member),
            _ => {}
        }
    }
    (times != ServerTimes::default()).then_some(times)
}

/// Reads llama.cpp's `timings`.
pub(crate) fn read_timings(value: Value<'_, '_>) -> Option<ServerTimes> {
    let mut times = ServerTimes::default();
    for (key, member) in json::entries(value) {
        match key {
            "prompt_ms" => times.prefill_ns = json::milliseconds(member),
            "predicted_ms" => times.decode_ns = json::milliseconds(member),
            "predicted_n" => times.tokens = json::count(member),
            _ => {}
        }
    }
    (times != ServerTimes::default()).then_some(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, of: impl Fn(Value<'_, '_>) -> Option<ServerTimes>) -> Option<ServerTimes> {
        json::with_value(text.as_bytes(), of).unwrap()
    }

    #[test]
    fn both_forms_are_read_and_nothing_is_made_up() {
        let vllm =
            r#"{"time_to_first_token_ms":85.2,"generation_time_ms":1240.5,"queue_time_ms":12,"mean_itl_ms":9.1}"#;
        let times = ServerTimes {
            queue_ns: Some(12_000_000),
            prefill_ns: Some(85_200_000),
            decode_ns: Some(1_240_500_000),
            tokens: None,
        };
        assert_eq!(read(vllm, read_metrics), Some(times));
        let llama = r#"{"cache_n":30,"prompt_n":1,"prompt_ms":7.962,"predicted_n":8,"predicted_ms":194.437}"#;
        let times =
            ServerTimes { queue_ns: None, prefill_ns: Some(7_962_000), decode_ns: Some(194_437_000), tokens: Some(8) };
        assert_eq!(read(llama, read_timings), Some(times));
        assert_eq!(read("null", read_metrics), None);
        assert_eq!(read(r#"{"time_to_first_token_ms":null,"generation_time_ms":"x"}"#, read_metrics), None);
        assert_eq!(read(r#"{"prompt_ms":-3}"#, read_timings), None);
    }
}
