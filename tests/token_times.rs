//! The times per token that are computed from the bytes of a response, against the truth of the mock that sent them: for
//! every server that the mock can behave like, every way in which an answer ends, and every length. No clock is involved.

use ringmark::api::Dialect;
use ringmark::api::answer::{Answer, AnswerOptions, Step};
use ringmark::mock::simulation::{ARRIVAL, Simulation, simulate};
use ringmark::mock::{ChoiceTruth, Config, Endpoint};
use ringmark::record::delivery::Tpot;
use ringmark::record::{Block, Outcome, RequestRecord, TokenSource};
use ringmark::stats::metric;

/// Largest relative difference from the truth.
const TOLERANCE: f64 = 0.005;
const SERVERS: [&str; 4] = ["vllm", "llamacpp", "sglang", "transformers"];
const LENGTHS: [u32; 10] = [2, 3, 4, 5, 10, 11, 43, 60, 120, 300];

/// The figures of the client, nanoseconds.
struct Figures {
    ttft: f64,
    e2e: f64,
    mean_itl: Option<f64>,
    tpot: Option<Tpot>,
    output_tokens: Option<u32>,
}

/// A request to the simulated server, and what the client makes of its response.
fn ask(query: &str, endpoint: Endpoint, fields: &str) -> (Figures, Simulation) {
    let prompt = match endpoint {
        Endpoint::Completions => "\"prompt\":\"a b\"",
        Endpoint::Responses => "\"input\":\"a b\"",
        _ => "\"messages\":[{\"role\":\"user\",\"content\":\"a b\"}]",
    };
    let body = format!("{{{prompt},\"stream\":true,\"stream_options\":{{\"include_usage\":true}}{fields}}}");
    let config = Config::from_query(&format!("ttft=70ms&itl=10ms&{query}")).unwrap();
    let simulated = simulate(&config, endpoint, &body).unwrap();
    let mut answer = Answer::new(AnswerOptions {
        dialect: match endpoint {
            Endpoint::Completions => Dialect::Completions,
            Endpoint::Responses => Dialect::Responses,
            Endpoint::Messages => Dialect::Anthropic,
            _ => Dialect::Chat,
        },
        stream: true,
        keep_text: true,
        keep_raw: false,
        max_event_bytes: 1 << 20,
        max_response_bytes: 256 << 20,
    });
    let mut end = None;
    for (at, bytes) in &simulated.writes {
        if let Step::Done { .. } = answer.push(bytes, *at) {
            end = Some(*at);
        }
    }
    assert_eq!(answer.outcome(), Outcome::Ok, "{query}: {}", answer.seen.error);
    let seen = &answer.seen;
    let mut block = Block::new(0);
    let record = RequestRecord {
        due: ARRIVAL,
        write_start: Some(ARRIVAL),
        first_token: seen.first_token,
        last_token: answer.last_token(Some(ARRIVAL)),
        end: end.unwrap(),
        streamed: true,
        output_tokens: seen.usage.output_tokens,
        token_source: TokenSource::Server,
        arrivals: block.keep_arrivals(&seen.arrivals),
        choices: block.keep_bytes(&seen.choices),
        silent: block.keep_arrivals(&seen.silent),
        silent_kinds: block.keep_bytes(&seen.silent_kinds),
        ..RequestRecord::default()
    };
    let gaps: Vec<f64> = metric::gaps_ns(&seen.arrivals, &seen.choices).map(|(_, ns)| ns as f64).collect();
    let figures = Figures {
        ttft: metric::ttft_ns(&record).unwrap() as f64,
        e2e: metric::latency_ns(&record) as f64,
        mean_itl: (!gaps.is_empty()).then(|| gaps.iter().sum::<f64>() / gaps.len() as f64),
        tpot: record.tpot(&block),
        output_tokens: seen.usage.output_tokens,
    };
    (figures, simulated)
}

/// The mean of a value over the choices that have it.
fn mean(choices: &[ChoiceTruth], of: impl Fn(&ChoiceTruth) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = choices.iter().filter_map(of).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() <= TOLERANCE * other
}

/// Compares TTFT, E2E, ITL and the number of tokens with the truth; returns TPOT and its truth.
fn compare(case: &str, figures: &Figures, simulated: &Simulation) -> (Option<Tpot>, Option<f64>) {
    let truth = &simulated.truth;
    let tokens: u32 = truth.choices.iter().map(|choice| choice.tokens).sum();
    assert_eq!((figures.output_tokens, truth.output_tokens), (Some(tokens), tokens), "{case}");
    let first = truth.choices.iter().filter_map(|choice| choice.first_output).min().unwrap();
    let since = |at: ringmark::time::Tick| at.ns_since(ARRIVAL) as f64;
    assert!(near(figures.ttft, since(first)), "{case}: TTFT {} for {}", figures.ttft, since(first));
    let last = since(truth.last_byte.unwrap());
    assert!(near(figures.e2e, last), "{case}: E2E {} for {last}", figures.e2e);
    let span = |choice: &ChoiceTruth| choice.last_output.unwrap().ns_since(choice.first_output.unwrap()) as f64;
    let with_output = || truth.choices.iter().filter(|choice| choice.events > 0);
    let gaps: u32 = with_output().map(|choice| choice.events - 1).sum();
    let itl = (gaps > 0).then(|| with_output().map(span).sum::<f64>() / f64::from(gaps));
    match (figures.mean_itl, itl) {
        (Some(here), Some(there)) => assert!(near(here, there), "{case}: ITL {here} for {there}"),
        (here, there) => assert_eq!(here, there, "{case}"),
    }
    (figures.tpot, mean(&truth.choices, ChoiceTruth::tpot_ns))
}

/// TPOT is exact.
fn assert_exact(case: &str, endpoint: Endpoint, fields: &str) {
    let (figures, simulated) = ask(case, endpoint, fields);
    let case = format!("{case} {endpoint:?} {fields}");
    let (tpot, truth) = compare(&case, &figures, &simulated);
    let (tpot, truth) = (tpot.unwrap_or_else(|| panic!("{case}: no TPOT")), truth.unwrap());
    assert!(near(tpot.ns, truth), "{case}: TPOT {} for {truth}", tpot.ns);
    assert_eq!((tpot.low_ns, tpot.high_ns), (tpot.ns, tpot.ns), "{case}");
}

/// TPOT is a range that contains the truth. Its value is within the tolerance of the truth if `is_near`, and never farther from
/// it than the lower end is.
fn assert_range(case: &str, endpoint: Endpoint, fields: &str, is_near: bool) {
    let (figures, simulated) = ask(case, endpoint, fields);
    let case = format!("{case} {endpoint:?} {fields}");
    let (tpot, truth) = compare(&case, &figures, &simulated);
    let (tpot, truth) = (tpot.unwrap_or_else(|| panic!("{case}: no TPOT")), truth.unwrap());
    let contained = tpot.low_ns <= truth * (1.0 + TOLERANCE) && truth <= tpot.high_ns * (1.0 + TOLERANCE);
    assert!(contained && tpot.low_ns < tpot.high_ns, "{case}: {truth} and {tpot:?}");
    assert!(tpot.low_ns <= tpot.ns && tpot.ns <= tpot.high_ns, "{case}: {tpot:?}");
    let is_no_worse = (tpot.ns - truth).abs() <= (tpot.low_ns - truth).abs() + 1.0;
    assert!(if is_near { near(tpot.ns, truth) } else { is_no_worse }, "{case}: TPOT {tpot:?} for {truth}");
}

#[test]
fn answers_that_end_by_themselves_or_at_their_length_are_exact() {
    for server in SERVERS {
        for tokens in LENGTHS {
            for n in [1, 2] {
                for endpoint in [Endpoint::Chat, Endpoint::Completions] {
                    let n = format!(",\"n\":{n}");
                    assert_exact(&format!("like={server}&tokens={tokens}"), endpoint, &n);
                    let length = format!("{n},\"max_tokens\":{tokens}");
                    assert_exact(&format!("like={server}&tokens=400"), endpoint, &length);
                    let least = format!("{n},\"min_tokens\":{tokens}");
                    assert_exact(&format!("like={server}&tokens=1"), endpoint, &least);
                }
            }
        }
    }
}

#[test]
fn answers_of_the_other_apis_are_exact() {
    for tokens in LENGTHS {
        for (endpoint, limit) in [(Endpoint::Responses, "max_output_tokens"), (Endpoint::Messages, "max_tokens")] {
            for thinking in ["", "&reasoning=1"] {
                let case = format!("like=vllm&tokens={tokens}{thinking}");
                assert_exact(&case, endpoint, &format!(",\"{limit}\":400"));
                assert_exact(&case, endpoint, &format!(",\"{limit}\":{tokens}"));
            }
        }
    }
}

#[test]
fn tokens_without_text_are_exact_if_they_have_events() {
    for tokens in LENGTHS {
        for n in [1, 2] {
            for endpoint in [Endpoint::Chat, Endpoint::Completions] {
                // Parts of characters, held back text of stop strings, reasoning, and both.
                for style in
                    ["&split=2", "&split=3", "&hold=1", "&hold=1&split=3", "&reasoning=1", "&reasoning=1&split=2"]
                {
                    if tokens > 2 || style == "&reasoning=1" {
                        let case = format!("like=vllm&tokens={tokens}{style}");
                        assert_exact(&case, endpoint, &format!(",\"n\":{n}"));
                        assert_exact(&case, endpoint, &format!(",\"n\":{n},\"max_tokens\":{tokens}"));
                    }
                }
            }
        }
    }
}

#[test]
fn tool_calls_without_swallowed_tokens_are_exact() {
    for server in SERVERS {
        for tokens in LENGTHS {
            assert_exact(&format!("like={server}&tokens={tokens}&tool_calls=on"), Endpoint::Chat, "");
            assert_exact(&format!("like={server}&tokens={tokens}&tool_calls=on&reasoning=1"), Endpoint::Chat, "");
        }
    }
}

#[test]
fn swallowed_tokens_and_several_tokens_an_event_give_a_range() {
    for server in SERVERS {
        // The role is the event of the first token there.
        let is_near = server != "transformers";
        for tokens in [10, 11, 43, 60, 120, 300] {
            for n in [1, 2] {
                let n = format!(",\"n\":{n}");
                for style in [
                    "&tool_calls=on&swallow=5",
                    "&tool_calls=on&swallow=4&swallow_end=3",
                    "&tool_calls=on&reasoning=2&swallow=3",
                    "&reasoning=3&swallow=2",
                ] {
                    assert_range(&format!("like={server}&tokens={tokens}{style}"), Endpoint::Chat, &n, is_near);
                }
                for style in ["&step_tokens=2", "&step_tokens=4"] {
                    assert_range(&format!("like={server}&tokens={tokens}{style}"), Endpoint::Chat, &n, false);
                }
                for style in ["&split=2", "&split=3", "&hold=3"] {
                    let case = format!("like={server}&empty=skip&tokens={tokens}{style}");
                    assert_range(&case, Endpoint::Completions, &format!("{n},\"max_tokens\":{tokens}"), false);
                }
            }
        }
    }
}

/// vLLM sends the role with the first token and the finish reason with the last one, whether these have text or not.
#[test]
fn first_and_last_tokens_without_events_do_not_change_the_value() {
    for tokens in [10, 11, 43, 60, 120, 300] {
        for n in [1, 2] {
            let n = format!(",\"n\":{n}");
            // The last token has no text as well if `split` divides the number of tokens.
            for style in ["&hold=1", "&hold=2", "&hold=1&split=5", "&split=7", "&hold=1&split=10", "&split=11&hold=2"] {
                // By end of sequence or a stop string, and by its length.
                for server in ["vllm", "sglang", "llamacpp"] {
                    let case = format!("like={server}&empty=skip&tokens={tokens}{style}");
                    assert_range(&case, Endpoint::Chat, &n, true);
                }
                let case = format!("like=vllm&empty=skip&tokens=400{style}");
                assert_range(&case, Endpoint::Chat, &format!("{n},\"max_tokens\":{tokens}"), true);
            }
            for style in ["&swallow=1", "&swallow=3&swallow_end=1", "&reasoning=2&swallow=1"] {
                let case = format!("like=vllm&tool_calls=on&tokens={tokens}{style}");
                assert_range(&case, Endpoint::Chat, &n, true);
            }
        }
    }
    for tokens in [60, 120, 300] {
        let case = format!("like=vllm&tool_calls=on&tokens={tokens}&swallow=13&swallow_end=2");
        assert_range(&case, Endpoint::Chat, "", true);
        assert_range(&case, Endpoint::Chat, ",\"n\":2", true);
    }
}

#[test]
fn one_event_for_all_tokens_has_an_upper_end() {
    // The end of the sequence is a step of its own, in the event with the finish reason.
    for (eos, tokens) in [("uncounted", 12.0), ("counted", 13.0)] {
        let case = format!("like=transformers&eos={eos}&tokens=12&step_tokens=12");
        let (figures, simulated) = ask(&case, Endpoint::Chat, "");
        let (tpot, truth) = compare(&case, &figures, &simulated);
        let (tpot, truth) = (tpot.unwrap(), truth.unwrap());
        assert_eq!((tpot.ns, truth > 0.0), (0.0, eos == "counted"), "{case}");
        // No token was generated before the request was sent.
        assert!(tpot.high_ns > truth && tpot.high_ns <= 80e6 / (tokens - 1.0), "{case}: {tpot:?}");
    }
}

/// Short answers whose first or last tokens a parser swallows, down to a single event with output.
#[test]
fn swallowed_tokens_of_short_answers_give_a_range() {
    let styles = ["&tool_calls=on", "&tool_calls=on&reasoning=1", "&reasoning=1"];
    let cases = (2..=9_u32).flat_map(|tokens| (1..tokens).map(move |swallow| (tokens, swallow)));
    let cases = cases.flat_map(|(tokens, swallow)| [0, 1, 2].map(|end| (tokens, swallow, end)));
    for (tokens, swallow, end) in cases.filter(|(tokens, swallow, end)| swallow + end < *tokens) {
        for style in styles {
            // Only the parser of a tool call swallows the end.
            let (is_call, reasons) = (style.contains("tool"), style.contains("reasoning"));
            if !is_call && end > 0 {
                continue;
            }
            // One event has no pace. Tokens that are missing both between two events and after the last one need a longer
            // answer, in which the median gap is one step.
            let outputs = tokens - swallow - end;
            let has_pace = outputs >= if is_call && reasons && end > 0 { 4 } else { 2 };
            for (server, n) in SERVERS.into_iter().flat_map(|server| [(server, 1), (server, 2)]) {
                let case = format!("like={server}&tokens={tokens}{style}&swallow={swallow}&swallow_end={end}");
                // The role is not the event of the first token there.
                let is_near = has_pace && server != "transformers";
                assert_range(&case, Endpoint::Chat, &format!(",\"n\":{n}"), is_near);
            }
        }
    }
}

/// A server that does not count the end of the sequence, of whose tokens a parser swallows one: there are as many tokens as
/// events. If the swallowed one was not the first, TPOT is too long by one step.
#[test]
fn one_swallowed_token_for_an_uncounted_finish_event_is_not_detected() {
    for tokens in [3, 10, 60, 300] {
        let (figures, simulated) =
            ask(&format!("like=transformers&eos=uncounted&tokens={tokens}&reasoning=1&swallow=1"), Endpoint::Chat, "");
        let (tpot, truth) = compare("one swallowed token", &figures, &simulated);
        let (tpot, truth) = (tpot.unwrap(), truth.unwrap());
        let excess = 1.0 + 1.0 / f64::from(tokens - 1);
        assert!(near(tpot.ns, truth * excess) && tpot.low_ns == tpot.high_ns, "{tpot:?} for {truth}");
    }
}
