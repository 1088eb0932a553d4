//! Captures of real servers.

use ringmark::record::{Failure, Outcome};

use super::{ANTHROPIC, CHAT, COMPLETIONS, ParseOptions, RESPONSES, new_answer, read_every_way, read_with};

/// A capture and its contents, counted with another program.
struct Capture {
    name: &'static str,
    way: ParseOptions,
    status: u16,
    events: u32,
    outputs: usize,
    tokens: Option<(u32, u32)>,
    text_bytes: usize,
    outcome: Outcome,
}

const fn ok(
    name: &'static str,
    way: ParseOptions,
    events: u32,
    outputs: usize,
    tokens: Option<(u32, u32)>,
    text_bytes: usize,
) -> Capture {
    Capture { name, way, status: 200, events, outputs, tokens, text_bytes, outcome: Outcome::Ok }
}

const fn refused(name: &'static str, status: u16) -> Capture {
    let outcome = Outcome::Failed(Failure::Status);
    Capture { name, way: CHAT, status, events: 0, outputs: 0, tokens: None, text_bytes: 0, outcome }
}

/// An error as a string, after the role.
const IN_STREAM: Capture =
    Capture { outcome: Outcome::Failed(Failure::InStream), ..ok("transformers-err-stream", CHAT, 2, 0, None, 0) };

const WHOLE_CHAT: ParseOptions = ParseOptions { stream: false, ..CHAT };
const WHOLE_COMPLETIONS: ParseOptions = ParseOptions { stream: false, ..COMPLETIONS };

const CAPTURES: [Capture; 68] = [
    ok("haproxy-chat-usage", CHAT, 20, 16, Some((1, 16)), 64),
    ok("haproxy-nodelay", CHAT, 20, 16, Some((1, 16)), 64),
    ok("nginx-buffered", CHAT, 20, 16, Some((1, 16)), 64),
    ok("nginx-chat-usage", CHAT, 20, 16, Some((1, 16)), 64),
    ok("llamacpp-chat-logprobs", CHAT, 7, 4, None, 29),
    ok("llamacpp-chat-long", CHAT, 303, 299, Some((31, 300)), 1904),
    ok("llamacpp-chat-max1", CHAT, 5, 1, Some((31, 1)), 1),
    // The texts of all choices, and one for each after the first.
    ok("llamacpp-chat-n2", CHAT, 15, 8, Some((31, 4)), 41),
    ok("llamacpp-chat-nonstream", WHOLE_CHAT, 0, 1, Some((31, 8)), 51),
    ok("llamacpp-chat-nousage", CHAT, 11, 8, None, 39),
    ok("llamacpp-chat-usage", CHAT, 12, 8, Some((31, 8)), 58),
    ok("llamacpp-cmpl-2prompts", COMPLETIONS, 10, 6, Some((2, 3)), 42),
    ok("llamacpp-cmpl-nonstream", WHOLE_COMPLETIONS, 0, 1, Some((2, 8)), 36),
    ok("llamacpp-cmpl-usage", COMPLETIONS, 10, 8, Some((2, 8)), 53),
    // llama.cpp serves its only model under any name.
    ok("llamacpp-err-badmodel", CHAT, 582, 579, None, 3753),
    ok("vllm-chat-logprobs", CHAT, 6, 4, None, 27),
    // Four events are empty because their tokens end within a character.
    ok("vllm-chat-long", CHAT, 303, 296, Some((31, 300)), 2081),
    ok("vllm-chat-max1", CHAT, 4, 1, Some((31, 1)), 5),
    ok("vllm-chat-n2", CHAT, 12, 8, Some((31, 8)), 56),
    ok("vllm-chat-nonstream", WHOLE_CHAT, 0, 1, Some((31, 8)), 56),
    ok("vllm-chat-nousage", CHAT, 10, 8, None, 43),
    ok("vllm-chat-usage", CHAT, 11, 8, Some((31, 8)), 55),
    ok("vllm-cmpl-2prompts", COMPLETIONS, 8, 6, Some((4, 6)), 26),
    ok("vllm-cmpl-nonstream", WHOLE_COMPLETIONS, 0, 1, Some((2, 8)), 44),
    ok("vllm-cmpl-usage", COMPLETIONS, 10, 8, Some((2, 8)), 65),
    // Four tokens in three deltas, and four in four: the responses API sends complete characters only.
    ok("vllm-responses", RESPONSES, 11, 3, Some((30, 4)), 32),
    ok("vllm-messages", ANTHROPIC, 9, 4, Some((30, 4)), 44),
    // SGLang's HTTP layer, fed by a scheduler without a model. The end of the sequence is counted and has no event in chat.
    ok("sglang-chat-eos", CHAT, 9, 5, Some((36, 6)), 16),
    ok("sglang-chat-max1", CHAT, 5, 1, Some((57, 1)), 3),
    ok("sglang-chat-n2", CHAT, 14, 8, Some((57, 8)), 29),
    ok("sglang-chat-nonstream", WHOLE_CHAT, 0, 1, Some((36, 6)), 16),
    ok("sglang-chat-nousage", CHAT, 11, 8, None, 32),
    ok("sglang-chat-usage", CHAT, 12, 8, Some((57, 8)), 32),
    // The parsers of reasoning and of tool calls hold back tokens, and send some of them together.
    ok("sglang-chat-reasoning", CHAT, 17, 13, Some((48, 18)), 18),
    ok("sglang-chat-tool", CHAT, 10, 6, Some((191, 26)), 0),
    ok("sglang-chat-tool-nonstream", WHOLE_CHAT, 0, 1, Some((191, 26)), 0),
    // The first half of a character has an event without text in completions, and none in chat.
    ok("sglang-chat-utf8", CHAT, 8, 4, Some((36, 6)), 13),
    ok("sglang-cmpl-eos", COMPLETIONS, 8, 5, Some((7, 6)), 16),
    ok("sglang-cmpl-nonstream", WHOLE_COMPLETIONS, 0, 1, Some((7, 6)), 16),
    ok("sglang-cmpl-usage", COMPLETIONS, 10, 8, Some((14, 8)), 32),
    ok("sglang-cmpl-utf8", COMPLETIONS, 8, 4, Some((7, 6)), 13),
    ok("sglang-messages", ANTHROPIC, 10, 5, Some((36, 6)), 16),
    ok("sglang-responses", RESPONSES, 12, 4, Some((36, 6)), 16),
    // The end of the sequence is counted.
    ok("transformers-chat-eos", CHAT, 6, 4, Some((35, 5)), 22),
    ok("transformers-chat-long", CHAT, 66, 64, Some((35, 64)), 378),
    ok("transformers-chat-max1", CHAT, 3, 1, Some((35, 1)), 5),
    ok("transformers-chat-nonstream", WHOLE_CHAT, 0, 1, Some((35, 8)), 52),
    ok("transformers-chat-nonstream-eos", WHOLE_CHAT, 0, 1, Some((35, 5)), 21),
    // The usage is sent without a request for it.
    ok("transformers-chat-nousage", CHAT, 10, 8, Some((35, 8)), 49),
    ok("transformers-chat-usage", CHAT, 10, 8, Some((35, 8)), 49),
    // Part of a character has no event.
    ok("transformers-chat-utf8", CHAT, 9, 7, Some((35, 8)), 39),
    ok("transformers-cmpl-nonstream", WHOLE_COMPLETIONS, 0, 1, Some((3, 8)), 48),
    ok("transformers-cmpl-usage", COMPLETIONS, 9, 8, Some((3, 8)), 48),
    ok("transformers-responses", RESPONSES, 11, 3, Some((35, 4)), 21),
    IN_STREAM,
    refused("haproxy-deny429", 429),
    refused("nginx-429", 429),
    refused("nginx-502", 502),
    refused("nginx-503-retry-after", 503),
    refused("llamacpp-err-badjson", 400),
    refused("llamacpp-err-toolong", 400),
    refused("sglang-err-toolong", 400),
    refused("transformers-err-badjson", 422),
    refused("transformers-err-badmodel", 400),
    refused("transformers-err-field", 422),
    refused("vllm-err-badjson", 400),
    refused("vllm-err-badmodel", 404),
    refused("vllm-err-toolong", 400),
];

fn capture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/captures/{name}.raw", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn captures_of_real_servers_are_parsed() {
    for expected in CAPTURES {
        let bytes = capture(expected.name);
        let seen = read_every_way(expected.name, &bytes, expected.way);
        assert_eq!(seen.outcome, expected.outcome, "{}: {}", expected.name, seen.error);
        assert_eq!(
            (seen.status, seen.events, seen.outputs),
            (expected.status, expected.events, expected.outputs),
            "{}",
            expected.name
        );
        assert_eq!(
            seen.tokens,
            (expected.tokens.map(|(input, _)| input), expected.tokens.map(|(_, output)| output)),
            "{}",
            expected.name
        );
        let others: serde_json::Value = serde_json::from_str(&seen.others).unwrap_or_default();
        let others = others.as_array().into_iter().flatten();
        // One more for each other choice.
        let others: usize = others.map(|choice| choice["content"].as_str().unwrap().len() + 1).sum();
        assert_eq!(
            (seen.text.len() + others, seen.received),
            (expected.text_bytes, bytes.len() as u64),
            "{}",
            expected.name
        );
        // llama.cpp announces the close of the connection after an error, but not after a stream.
        let announced = String::from_utf8_lossy(&bytes).contains("Connection: close");
        assert_eq!(seen.reuse, !announced, "{}", expected.name);
    }
}

#[test]
fn errors_have_the_servers_message() {
    let message = |name: &str| read_with(&mut new_answer(CHAT), &capture(name), &[]).error;
    assert_eq!(message("vllm-err-badmodel"), "The model `nope` does not exist. Valid aliases: tiny-qwen2.");
    assert!(message("llamacpp-err-toolong").starts_with("request (9001 tokens) exceeds the available context size"));
    assert!(
        message("sglang-err-toolong").starts_with("Requested token count exceeds the model's maximum context length")
    );
    assert_eq!(message("transformers-err-field"), "Unexpected fields in the request: {'ignore_eos'}");
    assert!(message("transformers-err-stream").starts_with("`sequence_bias` has to be a dict"));
    assert_eq!(message("nginx-429"), "slow down");
    assert_eq!(message("nginx-502"), "502 Bad Gateway nginx/1.22.1");
    assert_eq!(
        message("haproxy-deny429"),
        "429 Too Many Requests You have sent too many requests in a given amount of time."
    );
}

#[test]
fn responses_of_another_api_are_failures() {
    for name in ["vllm-messages", "vllm-responses"] {
        let seen = read_every_way(name, &capture(name), CHAT);
        assert!(matches!(seen.outcome, Outcome::Failed(Failure::Empty | Failure::Truncated)), "{name}: {seen:?}");
    }
}
