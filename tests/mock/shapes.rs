//! The format of responses.

use std::io::{Read, Write};
use std::time::Duration;

use ringmark::mock::simulation::simulate;
use ringmark::mock::{Config, End, Endpoint};
use serde_json::Value;

use super::client::{CHAT, STREAM, ask, chat, connect, is_output, receive, send, start, stream_of, truth_of};

#[test]
fn streams_have_vllms_format() {
    let reply = stream_of("");
    assert_eq!(reply.status, 200);
    assert!(reply.head.contains("content-type: text/event-stream"));
    assert!(reply.complete && reply.is_done());
    let events = reply.events();
    assert_eq!(events.len(), 6);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(events[1..5].iter().all(is_output) && !is_output(&events[0]));
    assert_eq!(events[4]["choices"][0]["finish_reason"], "stop");
    assert_eq!(events[5]["choices"], serde_json::json!([]));
    assert_eq!(events[5]["usage"], serde_json::json!({"prompt_tokens": 4, "total_tokens": 8, "completion_tokens": 4}));
    assert!(events.iter().all(|event| event["model"] == "tiny" && event["id"] == events[0]["id"]));
}

#[test]
fn role_styles_are_followed() {
    assert_eq!(stream_of("role=none").events().len(), 5);
    let separate = stream_of("role=separate").events();
    assert_eq!((separate.len(), is_output(&separate[0]), is_output(&separate[1])), (6, false, true));
    // The role is sent before the prefill: the client receives the role and no output.
    let mock = start("role=separate&ttft=60s");
    let mut stream = connect(&mock);
    send(&mut stream, "POST", CHAT, &chat(STREAM));
    stream.set_read_timeout(Some(Duration::from_millis(1000))).unwrap();
    let reply = receive(&mut stream);
    assert!(!reply.complete && reply.events().len() == 1, "{reply:?}");
}

#[test]
fn usage_and_finish_styles_are_followed() {
    assert_eq!(stream_of("usage=never").events().len(), 5);
    let with_last = stream_of("usage=with_last").events();
    assert_eq!(with_last.len(), 5);
    assert_eq!(with_last[4]["usage"]["completion_tokens"], 4);
    let own = stream_of("usage=with_last&finish=own").events();
    assert_eq!(own.len(), 6);
    assert_eq!(own[5]["choices"][0]["finish_reason"], "stop");
    assert_eq!(own[5]["usage"]["completion_tokens"], 4);
    assert!(own[4]["choices"][0]["finish_reason"].is_null());

    let mock = start("ttft=1ms&itl=0ms&tokens=4");
    assert_eq!(ask(&mock, CHAT, &chat(",\"stream\":true")).events().len(), 5);
    let mock = start("ttft=1ms&itl=0ms&tokens=4&usage=always&done=off");
    let reply = ask(&mock, CHAT, &chat(",\"stream\":true"));
    assert!(reply.complete && !reply.is_done());
    assert_eq!(reply.events()[5]["usage"]["completion_tokens"], 4);
}

#[test]
fn end_of_sequence_tokens_are_steps_without_text() {
    for (style, counted) in [("counted", 5), ("uncounted", 4)] {
        let events = stream_of(&format!("eos={style}")).events();
        assert_eq!(events.len(), 7);
        assert!(events[1..5].iter().all(|event| is_output(event) && event["choices"][0]["finish_reason"].is_null()));
        assert!(!is_output(&events[5]) && events[5]["choices"][0]["finish_reason"] == "stop");
        assert_eq!(events[6]["usage"]["completion_tokens"], counted);
    }
    // An answer that is cut at its length has none.
    let mock = start("ttft=1ms&itl=0ms&tokens=4&eos=counted&usage=always");
    let events = ask(&mock, CHAT, &chat(",\"stream\":true,\"max_tokens\":4")).events();
    assert_eq!((events.len(), &events[5]["usage"]["completion_tokens"]), (6, &serde_json::json!(4)));
}

#[test]
fn max_tokens_caps_the_response_with_finish_reason_length() {
    let mock = start("ttft=0ms&itl=0ms&tokens=9");
    let events = ask(&mock, CHAT, &chat(&format!("{STREAM},\"max_tokens\":3,\"ignore_eos\":true"))).events();
    assert_eq!(events.iter().filter(|event| is_output(event)).count(), 3);
    assert_eq!(events[3]["choices"][0]["finish_reason"], "length");
    let events = ask(&mock, CHAT, &chat(&format!("{STREAM},\"min_tokens\":12"))).events();
    assert_eq!(events.iter().filter(|event| is_output(event)).count(), 12);
}

#[test]
fn n_choices_are_interleaved_and_counted() {
    let mock = start("ttft=1ms&itl=1ms&tokens=3");
    let reply = ask(&mock, CHAT, &chat(&format!("{STREAM},\"n\":2")));
    let events = reply.events();
    let output: Vec<u64> = events
        .iter()
        .filter(|event| is_output(event))
        .map(|event| event["choices"][0]["index"].as_u64().unwrap())
        .collect();
    assert_eq!(output, [0, 1, 0, 1, 0, 1]);
    assert_eq!(events.iter().filter(|event| event["choices"][0]["finish_reason"] == "stop").count(), 2);
    assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], 6);
    let truth = &truth_of(&mock, 1)[0];
    assert_eq!((truth.sends.len(), truth.output_tokens), (6, 6));

    let prompts = "{\"prompt\":[\"a b\",[1,2]],\"n\":2,\"max_tokens\":2}";
    let json = ask(&mock, "/v1/completions", prompts).json();
    assert_eq!(json["choices"].as_array().unwrap().len(), 4);
    assert_eq!(json["usage"]["completion_tokens"], 8);
    assert_eq!(json["usage"]["prompt_tokens"], 5);
}

#[test]
fn reasoning_tools_and_mixed_text_are_valid_json() {
    let events = stream_of("reasoning=2&text=mixed&tokens=40").events();
    let delta = |i: usize| events[i]["choices"][0]["delta"].clone();
    assert!(delta(1)["reasoning_content"].is_string() && delta(2)["reasoning_content"].is_string());
    assert!(delta(3)["content"].is_string() && delta(3)["reasoning_content"].is_null());
    assert_eq!(events.last().unwrap()["usage"]["completion_tokens_details"]["reasoning_tokens"], 2);

    for tokens in [1, 2, 40] {
        let reply = stream_of(&format!("tool_calls=on&text=mixed&tokens={tokens}"));
        let arguments: String = reply
            .events()
            .iter()
            .filter_map(|event| {
                event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str().map(String::from)
            })
            .collect();
        assert!(serde_json::from_str::<Value>(&arguments).unwrap()["q"].is_string(), "{arguments}");
        assert!(reply.body.contains("\"finish_reason\":\"tool_calls\""));
    }
    let json = ask(&start("ttft=0&itl=0&tokens=30&tool_calls&text=mixed&reasoning=3"), CHAT, &chat("")).json();
    let message = &json["choices"][0]["message"];
    let arguments = message["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(arguments).is_ok());
    assert!(message["reasoning_content"].is_string());
}

#[test]
fn events_are_padded_to_their_size() {
    for pad in [255, 260, 261, 262, 263, 300, 4101, 4102, 4103, 4104, 70_000] {
        let mock = start(&format!("ttft=0&itl=1ms&tokens=3&role=none&pad={pad}"));
        let reply = ask(&mock, CHAT, &chat(",\"stream\":true"));
        let body = &reply.raw[reply.raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4..];
        // Some sizes are impossible because the chunk size would gain a digit; these are missed by one byte.
        let sizes = chunk_sizes(body);
        assert!(sizes[..2].iter().all(|&bytes| bytes == pad || bytes + 1 == pad), "{pad}: {sizes:?}");
    }
}

/// The bytes of each chunk, framing included.
fn chunk_sizes(mut rest: &[u8]) -> Vec<usize> {
    let mut sizes = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        sizes.push(line + size + 4);
        rest = &rest[line + size + 4..];
    }
    sizes
}

#[test]
fn responses_without_streaming_are_json() {
    let mock = start("ttft=1ms&itl=0ms&tokens=3");
    let reply = ask(&mock, CHAT, &chat(""));
    let json = reply.json();
    assert!(reply.head.contains("content-length: "));
    assert!(json["choices"][0]["message"]["content"].as_str().unwrap().split(' ').count() == 3);
    assert_eq!(json["usage"]["completion_tokens"], 3);
    let json = ask(&mock, "/v1/completions", "{\"prompt\":[1,2,3]}").json();
    assert_eq!(json["usage"], serde_json::json!({"prompt_tokens": 3, "total_tokens": 6, "completion_tokens": 3}));
    let json = ask(&mock, "/v1/embeddings", "{\"input\":[\"a\",\"b c\"],\"dimensions\":8}").json();
    assert_eq!(json["data"][1]["embedding"].as_array().unwrap().len(), 8);
    assert_eq!(json["usage"]["prompt_tokens"], 5);
    for path in ["/v1/rerank", "/v1/reranks", "/rerank"] {
        let json = ask(&mock, path, "{\"query\":\"q\",\"documents\":[\"a\",\"b\"]}").json();
        assert_eq!(json["results"].as_array().unwrap().len(), 2);
    }
    let truth = truth_of(&mock, 6);
    assert!(
        truth.iter().all(|truth| truth.sends.len() == 1 && truth.end == End::Complete && truth.request_id == "t-1")
    );
}

#[test]
fn completions_and_responses_stream() {
    let mock = start("ttft=1ms&itl=0ms&tokens=3");
    let reply =
        ask(&mock, "/v1/completions", "{\"prompt\":\"a\",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    let events = reply.events();
    assert!(reply.is_done() && events.len() == 4);
    assert!(events[..3].iter().all(|event| event["choices"][0]["text"].is_string()));

    let reply = ask(&mock, "/v1/responses", "{\"input\":\"a b\",\"stream\":true,\"max_output_tokens\":2}");
    let events = reply.events();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.completed"
        ]
    );
    assert_eq!(events[5]["response"]["usage"]["output_tokens"], 2);
    assert!(reply.complete && !reply.body.contains("[DONE]"));
    assert_eq!(ask(&mock, "/v1/responses", "{\"input\":\"a\"}").json()["usage"]["output_tokens"], 3);
}

#[test]
fn connections_end_as_configured() {
    let twice = |query: &str, more: &str| {
        let mock = start(&format!("ttft=0&itl=0&tokens=2&{query}"));
        let mut stream = connect(&mock);
        send(&mut stream, "POST", CHAT, &chat(more));
        let first = receive(&mut stream);
        assert!(first.complete, "{first:?}");
        // If the mock has closed the connection, this results in an end of file or a reset.
        let again = stream.write_all(b"GET /health HTTP/1.1\r\n\r\n").map(|()| receive(&mut stream).status);
        (first.head, again.unwrap_or(0))
    };
    assert_eq!(twice("", STREAM).1, 200);
    let (head, status) = twice("close=silent", STREAM);
    assert!(head.contains("keep-alive: timeout") && !head.contains("connection: close") && status == 0);
    assert_eq!(twice("close=silent", "").1, 200);
    let (head, status) = twice("close=announce", STREAM);
    assert!(head.contains("connection: close") && status == 0);
    let (head, status) = twice("framing=close", STREAM);
    assert!(!head.contains("chunked") && head.contains("connection: close") && status == 0);
    assert!(twice("framing=chunked", "").0.contains("chunked"));
    assert_eq!(twice("head=with_first", STREAM).1, 200);
}

#[test]
fn http10_clients_get_no_chunks_and_no_keep_alive() {
    let mock = start("ttft=0&itl=0&tokens=2");
    let mut stream = connect(&mock);
    let body = chat(STREAM);
    write!(stream, "POST {CHAT} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let reply = receive(&mut stream);
    assert!(reply.closed && reply.is_done() && !reply.head.contains("chunked"), "{reply:?}");
}

#[test]
fn large_bodies_and_expect_continue_are_served() {
    let mock = start("ttft=0&itl=0&tokens=2");
    let body = chat(&format!(",\"padding\":\"{}\"", "x".repeat(3 << 20)));
    let mut stream = connect(&mock);
    write!(stream, "POST {CHAT} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(receive(&mut stream).status, 200);
}

#[test]
fn several_requests_in_one_write_are_answered_in_order() {
    let mock = start("ttft=2ms&itl=0&tokens=2");
    let mut stream = connect(&mock);
    let body = chat("");
    let one = format!("POST {CHAT} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(format!("{one}GET /health HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let (chat_at, health_at) = (all.find("chat.completion").unwrap(), all.find("content-length: 0").unwrap());
    assert!(chat_at < health_at);
}

#[test]
fn messages_have_anthropics_format() {
    let mock = start("ttft=1ms&itl=0ms&tokens=4&reasoning=2");
    let body = "{\"model\":\"tiny\",\"max_tokens\":9,\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"one two three\"}]}";
    let reply = ask(&mock, "/v1/messages", body);
    assert!(reply.complete && !reply.is_done());
    let events = reply.events();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = "message_start content_block_start ping content_block_delta content_block_delta content_block_stop \
                    content_block_start content_block_delta content_block_delta content_block_stop message_delta message_stop";
    assert_eq!(kinds, expected.split_whitespace().collect::<Vec<_>>());
    // As in Anthropic's API, the event name equals the type in the data.
    let names = reply.body.lines().filter_map(|line| line.strip_prefix("event: "));
    assert_eq!(names.collect::<Vec<_>>(), kinds);
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], 4);
    assert_eq!(events[10]["usage"]["output_tokens"], 4);
    assert_eq!(events[10]["delta"]["stop_reason"], "end_turn");
    assert_eq!((events[3]["index"].as_u64(), events[7]["index"].as_u64()), (Some(0), Some(1)));
    let json = ask(&mock, "/v1/messages", &body.replace("true", "false")).json();
    assert_eq!((&json["content"][0]["type"], &json["content"][1]["type"]), (&"thinking".into(), &"text".into()));
    let truth = truth_of(&mock, 2);
    assert!(truth.iter().all(|truth| truth.output_tokens == 4 && truth.usage_sent));
    assert_eq!(truth[0].sends.len(), 4);
}

#[test]
fn dashscope_streams_with_its_header() {
    let mock = start("ttft=1ms&itl=0ms&tokens=3");
    let path = "/api/v1/services/aigc/text-generation/generation";
    let body = "{\"model\":\"q\",\"input\":{\"prompt\":\"one two\"},\"parameters\":{\"incremental_output\":true,\"max_tokens\":3}}";
    let json = ask(&mock, path, body).json();
    assert_eq!(json["output"]["choices"][0]["finish_reason"], "length");
    assert_eq!(json["usage"], serde_json::json!({"total_tokens": 6, "input_tokens": 3, "output_tokens": 3}));

    let mut stream = connect(&mock);
    let head = format!("POST {path} HTTP/1.1\r\nHost: m\r\nX-DashScope-SSE: enable\r\nContent-Length: {}", body.len());
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    let reply = receive(&mut stream);
    let data = reply.body.lines().filter_map(|line| line.strip_prefix("data:"));
    let events: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
    let choice = |n: usize| events[n]["output"]["choices"][0].clone();
    assert_eq!(events.len(), 4);
    assert!((0..3).all(|n| choice(n)["finish_reason"] == "null" && choice(n)["message"]["content"] != ""));
    assert!(choice(3)["finish_reason"] == "length" && choice(3)["message"]["content"] == "");
    let counts: Vec<u64> = events.iter().map(|event| event["usage"]["output_tokens"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 2, 3, 3]);
    assert!(reply.body.starts_with("id:1\nevent:result\n:HTTP_STATUS/200\ndata:"));
}

/// The events of a recorded or simulated response, head included: what each has in its choices and beside them.
fn event_shapes(response: &[u8], with_counts: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(response);
    let (head, mut rest) = text.split_once("\r\n\r\n").unwrap();
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n").filter(|_| head.contains("chunked")) {
        let size = usize::from_str_radix(size, 16).unwrap();
        // Chunks are bytes, and none of these texts is cut within a character.
        body.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    let events = body.split("\n\n").filter_map(|event| event.trim().strip_prefix("data: "));
    events
        .map(|data| serde_json::from_str(data).map_or_else(|_| data.to_string(), |event| shape(&event, with_counts)))
        .collect()
}

fn shape(event: &Value, with_counts: bool) -> String {
    let choice = |choice: &Value| {
        // An empty string and null are both no output.
        let has_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        let delta = &choice["delta"];
        let parts = [
            (delta["role"].is_string(), " role"),
            (has_text(&choice["text"]) || has_text(&delta["content"]), " text"),
            (has_text(&delta["reasoning_content"]), " reasoning"),
            (delta["tool_calls"].is_array(), " call"),
        ];
        let parts: String = parts.into_iter().filter(|(is_there, _)| *is_there).map(|(_, name)| name).collect();
        format!("[{}{parts} {}]", choice["index"], choice["finish_reason"])
    };
    let choices: String = event["choices"].as_array().unwrap().iter().map(choice).collect();
    let counts = ["usage", "timings"].into_iter().filter(|key| with_counts && event[*key].is_object());
    [choices].into_iter().chain(counts.map(str::to_string)).collect()
}

/// The last count of output tokens in a response.
fn completion_tokens(response: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(response);
    let (_, counted) = text.rsplit_once("\"completion_tokens\":")?;
    counted.split([',', '}']).next()?.parse().ok()
}

/// The mock's answers have the events of the servers that it is like, in their order, as far as bytes of them are here.
#[test]
fn simulated_servers_send_the_events_of_the_recorded_ones() {
    let usage = r#","stream_options":{"include_usage":true}"#;
    let (chat, completion) = (r#""messages":[{"role":"user","content":"a"}]"#, r#""prompt":"a""#);
    // Whether the token counts are in the same events, too: llama.cpp sends timings without being asked, beside the finish
    // reason of a completion, and for each choice. Some answers end by themselves, after the tokens of the first column.
    for (tokens, capture, prompt, fields, with_counts) in [
        ("400", "vllm-chat-usage", chat, format!(r#","max_tokens":8{usage}"#), true),
        ("400", "vllm-chat-nousage", chat, r#","max_tokens":8"#.to_string(), true),
        ("400", "vllm-chat-max1", chat, format!(r#","max_tokens":1{usage}"#), true),
        ("400", "vllm-chat-n2", chat, format!(r#","max_tokens":4,"n":2{usage}"#), true),
        ("400", "vllm-cmpl-usage", completion, format!(r#","max_tokens":8{usage}"#), true),
        ("400", "llamacpp-chat-usage", chat, format!(r#","max_tokens":8{usage}"#), true),
        ("400", "llamacpp-chat-nousage", chat, r#","max_tokens":8"#.to_string(), false),
        ("400", "llamacpp-chat-max1", chat, format!(r#","max_tokens":1{usage}"#), true),
        ("400", "llamacpp-chat-n2", chat, format!(r#","max_tokens":4,"n":2{usage}"#), false),
        ("400", "llamacpp-cmpl-usage", completion, format!(r#","max_tokens":8{usage}"#), false),
        ("400", "sglang-chat-usage", chat, format!(r#","max_tokens":8{usage}"#), true),
        ("400", "sglang-chat-nousage", chat, r#","max_tokens":8"#.to_string(), true),
        ("400", "sglang-chat-max1", chat, format!(r#","max_tokens":1{usage}"#), true),
        ("400", "sglang-chat-n2", chat, format!(r#","max_tokens":4,"n":2{usage}"#), true),
        ("5", "sglang-chat-eos", chat, format!(r#","max_tokens":60{usage}"#), true),
        // Without the tags around the reasoning, and without those and the names around the arguments of a call.
        ("17&reasoning=7&swallow=4", "sglang-chat-reasoning", chat, format!(r#","max_tokens":60{usage}"#), true),
        (
            "25&tool_calls=on&swallow=14&swallow_end=5",
            "sglang-chat-tool",
            chat,
            format!(r#","max_tokens":60{usage}"#),
            true,
        ),
        // The third token is the first half of a character.
        ("5&split=3", "sglang-chat-utf8", chat, format!(r#","max_tokens":60{usage}"#), true),
        ("400", "sglang-cmpl-usage", completion, format!(r#","max_tokens":8{usage}"#), true),
        ("5", "sglang-cmpl-eos", completion, format!(r#","max_tokens":60{usage}"#), true),
        ("5&split=3", "sglang-cmpl-utf8", completion, format!(r#","max_tokens":60{usage}"#), true),
        ("400", "transformers-chat-usage", chat, format!(r#","max_tokens":8{usage}"#), true),
        ("400", "transformers-chat-nousage", chat, r#","max_tokens":8"#.to_string(), true),
        ("400", "transformers-chat-max1", chat, format!(r#","max_tokens":1{usage}"#), true),
        ("400", "transformers-chat-long", chat, format!(r#","max_tokens":64{usage}"#), true),
        ("4", "transformers-chat-eos", chat, format!(r#","max_tokens":60{usage}"#), true),
        ("400", "transformers-cmpl-usage", completion, format!(r#","max_tokens":8{usage}"#), true),
    ] {
        let recorded = std::fs::read(format!("{}/tests/captures/{capture}.raw", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let server = capture.split('-').next().unwrap();
        let config = Config::from_query(&format!("like={server}&tokens={tokens}")).unwrap();
        let endpoint = if prompt == chat { Endpoint::Chat } else { Endpoint::Completions };
        let simulated = simulate(&config, endpoint, &format!("{{{prompt},\"stream\":true{fields}}}")).unwrap();
        let simulated: Vec<u8> = simulated.writes.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let comparable = |response: &[u8]| {
            let mut shapes: Vec<String> = event_shapes(response, with_counts);
            shapes.retain(|shape| !shape.is_empty());
            // Choices are interleaved as they happen to be computed.
            if capture.ends_with("n2") {
                shapes.sort_by_key(|shape| shape.chars().take(2).collect::<String>());
            }
            shapes
        };
        assert_eq!(comparable(&simulated), comparable(&recorded), "{capture}");
        // The same tokens are counted.
        if with_counts {
            assert_eq!(completion_tokens(&simulated), completion_tokens(&recorded), "{capture}");
        }
    }
}
