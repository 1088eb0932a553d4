//! Request records, metrics, timing and slots of the mock.

use std::net::TcpStream;
use std::time::Duration;

use ringmark::mock::{Config, End, Mock};

use super::client::{CHAT, STREAM, ask, chat, connect, get, receive, send, start, truth_of};

#[test]
fn request_records_are_in_order_and_on_time() {
    let mock = start("ttft=20ms&itl=2ms&tokens=10");
    ask(&mock, CHAT, &chat(STREAM));
    let truth = truth_of(&mock, 1).remove(0);
    assert_eq!((truth.sends.len(), truth.end, truth.status, truth.prompt_tokens), (10, End::Complete, 200, 4));
    assert!(truth.usage_sent && truth.request_id == "t-1");
    let (started, head) = (truth.started.unwrap(), truth.head_sent.unwrap());
    assert!(truth.received_first <= truth.received_last && truth.received_last <= started && started <= head);
    assert!(head <= truth.sends[0] && truth.sends.is_sorted() && truth.last_byte >= truth.sends.last().copied());
    // Sends are never early. How late they are depends on the machine.
    assert!(truth.sends[0].ns_since(truth.received_last) >= 20_000_000);
    assert!(truth.sends[9].ns_since(truth.received_last) >= 38_000_000);
}

#[test]
fn the_page_of_the_records_is_documented() {
    let mock = start("ttft=1ms&itl=1ms&tokens=3");
    ask(&mock, CHAT, &chat(STREAM));
    truth_of(&mock, 1);
    let page = get(&mock, "/truth").json();
    let guide = ringmark::guide::topic("judge").unwrap().text;
    let request = &page["requests"][0];
    let objects = [request, &request["choices"][0], &page["stats"]];
    for name in objects.iter().flat_map(|object| object.as_object().unwrap().keys()) {
        assert!(guide.contains(&format!("`{name}`")), "the guide does not describe {name}");
    }
    let times =
        |name: &str| request[name].as_array().unwrap().iter().map(|at| at.as_u64().unwrap()).collect::<Vec<_>>();
    let (sends, returns) = (times("sends"), times("returns"));
    assert_eq!((sends.len(), returns.len()), (3, 3));
    assert!(sends.iter().zip(&returns).all(|(before, after)| before <= after), "{request}");
}

#[test]
fn responses_depend_on_the_seed_only() {
    let texts = |seed: u64| {
        let mock = start(&format!("ttft=0&itl=0&tokens=uniform(1,50)&fault=empty:0.3&seed={seed}"));
        (0..8).map(|_| ask(&mock, CHAT, &chat("")).json()["choices"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(texts(1), texts(1));
    assert_ne!(texts(1), texts(2));
}

#[test]
fn coalesce_sends_several_events_per_write() {
    let mock = start("ttft=1ms&itl=1ms&tokens=10&coalesce=4");
    ask(&mock, CHAT, &chat(STREAM));
    let mut sends = truth_of(&mock, 1).remove(0).sends;
    assert_eq!(sends.len(), 10);
    sends.dedup();
    assert_eq!(sends.len(), 3);
}

#[test]
fn bursts_are_sent_at_multiples_of_the_period() {
    let mock = start("ttft=1ms&burst=400ms&tokens=3");
    let mut streams: Vec<TcpStream> = (0..4).map(|_| connect(&mock)).collect();
    streams.iter_mut().for_each(|stream| send(stream, "POST", CHAT, &chat(STREAM)));
    streams.iter_mut().for_each(|stream| assert!(receive(stream).complete));
    for truth in truth_of(&mock, 4) {
        for send in truth.sends {
            // Half of the period is more than a busy machine delays a send by.
            assert!(send.0 % 400_000_000 < 200_000_000, "sent {} ns after the burst time", send.0 % 400_000_000);
        }
    }
}

#[test]
fn requests_wait_for_a_slot() {
    for cores in [&[][..], &[0, 0]] {
        let config = Config::from_query("ttft=20ms&itl=1ms&tokens=5&max_running=1").unwrap();
        let mock = Mock::start(&config, cores, "127.0.0.1:0".parse().unwrap()).unwrap();
        let mut streams: Vec<TcpStream> = (0..4).map(|_| connect(&mock)).collect();
        streams.iter_mut().for_each(|stream| send(stream, "POST", CHAT, &chat(STREAM)));
        while mock.stats().requests < 4 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Closing the connection of one request, waiting or running, must not affect the others.
        drop(streams.pop());
        streams.iter_mut().for_each(|stream| assert!(receive(stream).complete));
        let mut truth = truth_of(&mock, 4);
        assert_eq!(truth.iter().filter(|truth| truth.end == End::ClientGone).count(), 1);
        truth.retain(|truth| truth.end == End::Complete);
        truth.sort_by_key(|truth| truth.started);
        for pair in truth.windows(2) {
            assert!(pair[1].started >= pair[0].last_byte, "two requests ran at the same time");
        }
        assert_eq!(mock.stats().in_flight, 0);
        assert!(mock.stats().peak_in_flight >= 2);
    }
}

#[test]
fn metrics_page_matches_the_request_records() {
    for (lie, lie_s) in [("", 0.0), ("&lie=5ms", 0.005)] {
        let mock = start(&format!("ttft=3ms&itl=2ms&tokens=5&model=m{lie}"));
        for _ in 0..3 {
            ask(&mock, CHAT, &chat(&format!("{STREAM},\"max_tokens\":5")));
        }
        ask(&mock, CHAT, &chat(STREAM));
        let truth = truth_of(&mock, 4);
        let page = get(&mock, "/metrics").body;
        let value = |name: &str, more: &str| -> f64 {
            let start = format!("{name}{{engine=\"0\",model_name=\"m\"{more}}} ");
            page.lines().find_map(|line| line.strip_prefix(&start)).expect(name).parse().unwrap()
        };
        let ttft: f64 = truth.iter().map(|truth| truth.sends[0].seconds_since(truth.received_last) + lie_s).sum();
        let itl: f64 = truth.iter().map(|truth| truth.sends[4].seconds_since(truth.sends[0]) + 4.0 * lie_s).sum();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} {b}");
        assert_eq!(value("vllm:time_to_first_token_seconds_count", ""), 4.0);
        near(value("vllm:time_to_first_token_seconds_sum", ""), ttft);
        assert_eq!(value("vllm:inter_token_latency_seconds_count", ""), 16.0);
        near(value("vllm:inter_token_latency_seconds_sum", ""), itl);
        near(value("vllm:e2e_request_latency_seconds_sum", ""), ttft + itl - 16.0 * lie_s);
        assert_eq!(value("vllm:prompt_tokens_total", ""), 16.0);
        assert_eq!(value("vllm:generation_tokens_total", ""), 20.0);
        assert_eq!(value("vllm:request_success_total", ",finished_reason=\"length\""), 3.0);
        assert_eq!(value("vllm:request_success_total", ",finished_reason=\"stop\""), 1.0);
        assert_eq!(value("vllm:num_requests_running", ""), 0.0);
    }
}

#[test]
fn truth_page_is_served_and_reset() {
    let mock = start("ttft=1ms&itl=1ms&tokens=3&model=m");
    ask(&mock, CHAT, &chat(STREAM));
    let truth = truth_of(&mock, 1).remove(0);
    let page = get(&mock, "/truth").json();
    assert_eq!(page["requests"][0]["sends"][2].as_u64(), Some(truth.sends[2].0));
    assert_eq!(page["requests"][0]["end"], "complete");
    assert_eq!(page["stats"]["events"], 3);
    assert_eq!(ask(&mock, "/truth/reset", "").status, 200);
    assert!(mock.truth().is_empty());
    assert_eq!(get(&mock, "/v1/models").json()["data"][0]["id"], "m");
    assert_eq!(get(&mock, "/health").status, 200);
    assert_eq!(mock.stats().requests, 1);
}

#[test]
fn two_loops_share_connections_and_records() {
    let config = Config::from_query("ttft=5ms&itl=1ms&tokens=5").unwrap();
    let mock = Mock::start(&config, &[0, 0], "127.0.0.1:0".parse().unwrap()).unwrap();
    let mut streams: Vec<TcpStream> = (0..40).map(|_| connect(&mock)).collect();
    streams.iter_mut().for_each(|stream| send(stream, "POST", CHAT, &chat(STREAM)));
    streams.iter_mut().for_each(|stream| assert!(receive(stream).complete));
    let truth = truth_of(&mock, 40);
    let ordinals: Vec<u64> = truth.iter().map(|truth| truth.ordinal).collect();
    assert_eq!(ordinals, (0..40).collect::<Vec<_>>());
    assert_eq!((mock.stats().events, mock.stats().connections), (200, 40));
}
