//! The metrics pages of all supported servers map to the same quantities.

use std::collections::BTreeMap;

use ringmark::server::exposition::{self, MetricsPage};
use ringmark::server::metric_catalog::{Meaning, Quantity, Scrape, Window, window};
use ringmark::time::Tick;

const PAGES: [(&str, &str, &str); 5] = [
    ("vLLM", "Qwen/Qwen2.5-0.5B-Instruct", include_str!("metrics/vllm.txt")),
    ("SGLang", "meta-llama/Llama-3.1-8B-Instruct", include_str!("metrics/sglang.txt")),
    ("TGI", "any", include_str!("metrics/tgi.txt")),
    ("LMDeploy", "internlm/internlm2_5-7b-chat", include_str!("metrics/lmdeploy.txt")),
    ("llama.cpp", "any", include_str!("metrics/llamacpp.txt")),
];

fn page(text: &str) -> MetricsPage {
    let page = exposition::parse_page(text.as_bytes());
    assert_eq!(page.invalid_lines, []);
    page
}

/// The changes from a server that has just started to the page.
fn seen(model: &str, text: &str) -> Window {
    let scrape = |at, samples| Scrape { at: Tick(at), samples };
    window(&[scrape(0, Vec::new()), scrape(5, page(text).samples), scrape(9, page(text).samples)], model).unwrap()
}

#[test]
fn every_line_of_every_page_is_parsed() {
    for (server, _, text) in PAGES {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
        assert_eq!(page(text).samples.len(), lines, "{server}");
        assert!(!page(text).kinds.is_empty(), "{server}");
    }
}

#[test]
fn server_is_derived_from_metric_names() {
    for (server, model, text) in PAGES {
        assert_eq!(seen(model, text).server, server);
    }
}

#[test]
fn counts_and_gauges_are_equal_for_all_servers() {
    for (server, model, text) in PAGES {
        let seen = seen(model, text);
        assert_eq!(seen.counters[&Quantity::PromptTokens].value, 120.0, "{server}");
        assert_eq!(seen.counters[&Quantity::OutputTokens].value, 40.0, "{server}");
        assert_eq!(seen.gauges[&Quantity::Running].max, 3.0, "{server}");
        assert_eq!(seen.gauges[&Quantity::Waiting].mean, Some(2.0), "{server}");
        if let Some(requests) = seen.counters.get(&Quantity::Requests) {
            assert_eq!(requests.value, 4.0, "{server}");
        }
        if let Some(cache) = seen.gauges.get(&Quantity::CacheUse) {
            assert_eq!(cache.max, 0.25, "{server}");
        }
    }
}

#[test]
fn histograms_are_in_seconds_with_their_buckets() {
    let expected: BTreeMap<&str, &[Quantity]> = BTreeMap::from([
        ("vLLM", &[Quantity::Ttft, Quantity::Itl, Quantity::Tpot, Quantity::Latency, Quantity::Queue][..]),
        ("SGLang", &[Quantity::Ttft, Quantity::Itl, Quantity::Latency, Quantity::Queue][..]),
        ("TGI", &[Quantity::Tpot, Quantity::Latency, Quantity::Queue][..]),
        ("LMDeploy", &[Quantity::Ttft, Quantity::Itl, Quantity::Latency, Quantity::Queue][..]),
        ("llama.cpp", &[][..]),
    ]);
    for (server, model, text) in PAGES {
        let seen = seen(model, text);
        assert_eq!(seen.histograms.keys().copied().collect::<Vec<_>>(), expected[server], "{server}");
        for (quantity, delta) in &seen.histograms {
            let histogram = &delta.value;
            assert!(histogram.buckets.is_sorted_by(|a, b| a.0 < b.0), "{server} {quantity:?}");
            assert_eq!(histogram.buckets.last().unwrap().0, f64::INFINITY);
            assert_eq!(histogram.count(), if *quantity == Quantity::Itl { 36 } else { 4 }, "{server} {quantity:?}");
        }
        if let Some(latency) = seen.histograms.get(&Quantity::Latency) {
            assert!((latency.value.mean().unwrap() - 0.6875).abs() < 1e-12, "{server}");
        }
    }
}

#[test]
fn different_definitions_are_marked() {
    let [.., tgi, _, llamacpp] = PAGES;
    assert!(matches!(seen("any", tgi.2).histograms[&Quantity::Tpot].meaning, Meaning::PrefillIncluded));
    assert_eq!(seen("any", llamacpp.2).counters[&Quantity::PromptTokens].meaning, Meaning::WithoutCached);
}

#[test]
fn captured_llamacpp_page_has_all_its_quantities() {
    let seen = seen("any", include_str!("metrics/llamacpp-captured.txt"));
    assert_eq!(seen.server, "llama.cpp");
    let counters = [Quantity::PromptTokens, Quantity::OutputTokens, Quantity::OutputSeconds];
    assert_eq!(seen.counters.keys().copied().collect::<Vec<_>>(), counters);
    assert_eq!(seen.gauges.keys().copied().collect::<Vec<_>>(), [Quantity::Running, Quantity::Waiting]);
    assert_eq!(seen.gauges[&Quantity::Running].max, 2.0);
}
