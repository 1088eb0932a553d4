//! Maps the metric names of inference servers to a common set of quantities, and computes their changes between two
//! scrapes.

use std::collections::{BTreeMap, BTreeSet};

use super::exposition::Sample;
use crate::time::Tick;

/// A quantity that servers report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// Histograms, seconds.
    Ttft,
    Itl,
    Tpot,
    Latency,
    Queue,
    /// Gauges.
    Running,
    Waiting,
    /// Fraction of the key-value cache in use, 0 to 1.
    CacheUse,
    /// Counters.
    Requests,
    PromptTokens,
    OutputTokens,
    Preemptions,
    /// Prompt tokens looked up in the prefix cache, and those found.
    CacheQueries,
    CacheHits,
    /// Time spent on output tokens, summed over requests, seconds.
    OutputSeconds,
}

/// The form of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Histogram,
    /// A histogram whose sum is the quantity, such as a histogram of tokens per request.
    SumOf,
    Counter,
    Gauge,
}

/// How a server's definition differs from ringmark's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Same,
    /// The interval lies within the client's: it begins when the server has read and parsed the request, and ends before the
    /// token is written to the connection. What is missing is the frontend and the network.
    WithinClient,
    /// Prompt tokens from the prefix cache are not counted.
    WithoutCached,
    /// Inference time divided by tokens, the prefill included. The value is shown but not compared.
    PrefillIncluded,
}

/// A metric of a server.
struct Entry {
    server: &'static str,
    name: &'static str,
    quantity: Quantity,
    form: Form,
    meaning: Meaning,
}

const fn entry(server: &'static str, name: &'static str, quantity: Quantity, form: Form) -> Entry {
    Entry { server, name, quantity, form, meaning: Meaning::Same }
}

const fn meaning(entry: Entry, meaning: Meaning) -> Entry {
    Entry { meaning, ..entry }
}

const VLLM: &str = "vLLM";
const SGLANG: &str = "SGLang";
const TGI: &str = "TGI";
const LMDEPLOY: &str = "LMDeploy";
const LLAMACPP: &str = "llama.cpp";

/// All known metrics. If a page has several metrics for one quantity, the first in this list is used.
const ENTRIES: &[Entry] = {
    use Form::{Counter, Gauge, Histogram, SumOf};
    use Quantity::{
        CacheHits, CacheQueries, CacheUse, Itl, Latency, OutputSeconds, OutputTokens, Preemptions, PromptTokens, Queue,
        Requests, Running, Tpot, Ttft, Waiting,
    };
    &[
        meaning(entry(VLLM, "vllm:time_to_first_token_seconds", Ttft, Histogram), Meaning::WithinClient),
        entry(VLLM, "vllm:inter_token_latency_seconds", Itl, Histogram),
        // The previous name of the same metric.
        entry(VLLM, "vllm:time_per_output_token_seconds", Itl, Histogram),
        entry(VLLM, "vllm:request_time_per_output_token_seconds", Tpot, Histogram),
        meaning(entry(VLLM, "vllm:e2e_request_latency_seconds", Latency, Histogram), Meaning::WithinClient),
        entry(VLLM, "vllm:request_queue_time_seconds", Queue, Histogram),
        entry(VLLM, "vllm:num_requests_running", Running, Gauge),
        entry(VLLM, "vllm:num_requests_waiting", Waiting, Gauge),
        entry(VLLM, "vllm:kv_cache_usage_perc", CacheUse, Gauge),
        entry(VLLM, "vllm:gpu_cache_usage_perc", CacheUse, Gauge),
        entry(VLLM, "vllm:request_success_total", Requests, Counter),
        entry(VLLM, "vllm:prompt_tokens_total", PromptTokens, Counter),
        entry(VLLM, "vllm:generation_tokens_total", OutputTokens, Counter),
        entry(VLLM, "vllm:num_preemptions_total", Preemptions, Counter),
        entry(VLLM, "vllm:prefix_cache_queries_total", CacheQueries, Counter),
        entry(VLLM, "vllm:prefix_cache_hits_total", CacheHits, Counter),
        // The previous names.
        entry(VLLM, "vllm:gpu_prefix_cache_queries_total", CacheQueries, Counter),
        entry(VLLM, "vllm:gpu_prefix_cache_hits_total", CacheHits, Counter),
        meaning(entry(SGLANG, "sglang:time_to_first_token_seconds", Ttft, Histogram), Meaning::WithinClient),
        entry(SGLANG, "sglang:inter_token_latency_seconds", Itl, Histogram),
        entry(SGLANG, "sglang:time_per_output_token_seconds", Tpot, Histogram),
        meaning(entry(SGLANG, "sglang:e2e_request_latency_seconds", Latency, Histogram), Meaning::WithinClient),
        entry(SGLANG, "sglang:queue_time_seconds", Queue, Histogram),
        entry(SGLANG, "sglang:num_running_reqs", Running, Gauge),
        entry(SGLANG, "sglang:num_queue_reqs", Waiting, Gauge),
        entry(SGLANG, "sglang:token_usage", CacheUse, Gauge),
        entry(SGLANG, "sglang:num_requests_total", Requests, Counter),
        entry(SGLANG, "sglang:prompt_tokens_total", PromptTokens, Counter),
        entry(SGLANG, "sglang:generation_tokens_total", OutputTokens, Counter),
        entry(SGLANG, "sglang:num_retracted_requests_total", Preemptions, Counter),
        entry(SGLANG, "sglang:cached_tokens_total", CacheHits, Counter),
        meaning(entry(TGI, "tgi_request_duration", Latency, Histogram), Meaning::WithinClient),
        entry(TGI, "tgi_request_queue_duration", Queue, Histogram),
        meaning(entry(TGI, "tgi_request_mean_time_per_token_duration", Tpot, Histogram), Meaning::PrefillIncluded),
        entry(TGI, "tgi_batch_current_size", Running, Gauge),
        entry(TGI, "tgi_queue_size", Waiting, Gauge),
        entry(TGI, "tgi_request_success", Requests, Counter),
        entry(TGI, "tgi_request_input_length", PromptTokens, SumOf),
        entry(TGI, "tgi_request_generated_tokens", OutputTokens, SumOf),
        meaning(entry(LMDEPLOY, "lmdeploy:time_to_first_token_seconds", Ttft, Histogram), Meaning::WithinClient),
        entry(LMDEPLOY, "lmdeploy:time_per_output_token_seconds", Itl, Histogram),
        meaning(entry(LMDEPLOY, "lmdeploy:e2e_request_latency_seconds", Latency, Histogram), Meaning::WithinClient),
        entry(LMDEPLOY, "lmdeploy:request_queue_time_seconds", Queue, Histogram),
        entry(LMDEPLOY, "lmdeploy:num_requests_running", Running, Gauge),
        entry(LMDEPLOY, "lmdeploy:num_requests_waiting", Waiting, Gauge),
        entry(LMDEPLOY, "lmdeploy:gpu_cache_usage_perc", CacheUse, Gauge),
        entry(LMDEPLOY, "lmdeploy:prompt_tokens_total", PromptTokens, Counter),
        entry(LMDEPLOY, "lmdeploy:generation_tokens_total", OutputTokens, Counter),
        meaning(entry(LLAMACPP, "llamacpp:prompt_tokens_total", PromptTokens, Counter), Meaning::WithoutCached),
        entry(LLAMACPP, "llamacpp:tokens_predicted_total", OutputTokens, Counter),
        entry(LLAMACPP, "llamacpp:tokens_predicted_seconds_total", OutputSeconds, Counter),
        entry(LLAMACPP, "llamacpp:requests_processing", Running, Gauge),
        entry(LLAMACPP, "llamacpp:requests_deferred", Waiting, Gauge),
        entry(LLAMACPP, "llamacpp:kv_cache_usage_ratio", CacheUse, Gauge),
    ]
};

/// The samples of known metrics in one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    /// When the response had arrived.
    pub at: Tick,
    pub samples: Vec<Sample>,
}

/// The changes at the server between the first and the last scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// The server's name, derived from its metric names.
    pub server: &'static str,
    pub from: Tick,
    pub to: Tick,
    pub scrapes: usize,
    /// Number of counter resets, which mean that the server was restarted.
    pub resets: usize,
    pub histograms: BTreeMap<Quantity, Delta<Histogram>>,
    pub counters: BTreeMap<Quantity, Delta<f64>>,
    pub gauges: BTreeMap<Quantity, Gauge>,
}

/// A change, with the name and meaning of its metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta<T> {
    pub name: &'static str,
    pub meaning: Meaning,
    pub value: T,
}

/// The observations of a window by bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Upper bound and count of each bucket; counts are not cumulative. The last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    pub sum: Option<f64>,
}

/// A gauge over the scrapes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauge {
    pub max: f64,
    /// Over the scrapes without the first and the last one, which are taken while the server is idle.
    pub mean: Option<f64>,
}

impl Histogram {
    /// The number of observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.1).sum()
    }

    /// The mean of the observations.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        self.sum.filter(|_| count > 0).map(|sum| sum / count as f64)
    }
}

/// Whether a sample with this name belongs to a known metric.
pub(crate) fn is_known(name: &str) -> bool {
    ENTRIES.iter().any(|entry| part_of(entry, name).is_some())
}

/// The suffix of a sample's name after the name of its metric (empty, `_bucket`, `_sum` or `_count`); `None` if the
/// sample does not belong to the metric.
fn part_of(entry: &Entry, name: &str) -> Option<&'static str> {
    if entry.form == Form::Counter {
        // OpenMetrics tools differ in whether a counter's name ends with `_total`.
        let bare = entry.name.strip_suffix("_total").unwrap_or(entry.name);
        return (name == entry.name || name == bare).then_some("");
    }
    let rest = name.strip_prefix(entry.name)?;
    let parts: &[&'static str] = if entry.form == Form::Gauge { &[""] } else { &["_bucket", "_sum", "_count"] };
    parts.iter().copied().find(|part| *part == rest)
}

/// Computes the changes between the first and the last of `scrapes`, which are in order of time. `None` for fewer than
/// two scrapes and for scrapes without known metrics. Series whose labels name a model other than `model` are excluded.
pub fn window(scrapes: &[Scrape], model: &str) -> Option<Window> {
    let (first, last) = (scrapes.first()?, scrapes.last()?);
    if scrapes.len() < 2 {
        return None;
    }
    let resets = resets(scrapes);
    let mut window = Window {
        from: first.at,
        to: last.at,
        scrapes: scrapes.len(),
        resets: resets.iter().filter(|reset| **reset).count(),
        ..Window::default()
    };
    for entry in ENTRIES {
        let series = Series::collect(entry, scrapes, model);
        if series.rows.is_empty() {
            continue;
        }
        window.server = entry.server;
        let known = window.histograms.contains_key(&entry.quantity)
            || window.counters.contains_key(&entry.quantity)
            || window.gauges.contains_key(&entry.quantity);
        if !known {
            series.add_to(entry, &resets, &mut window);
        }
    }
    (!window.server.is_empty()).then_some(window)
}

/// The value of a gauge in each scrape; empty if the server does not have it.
pub(crate) fn over_time(scrapes: &[Scrape], model: &str, quantity: Quantity) -> Vec<(Tick, Option<f64>)> {
    let of_quantity = ENTRIES.iter().filter(|entry| entry.quantity == quantity && entry.form == Form::Gauge);
    let known = of_quantity.map(|entry| Series::collect(entry, scrapes, model)).find(|series| !series.rows.is_empty());
    let Some(series) = known else { return Vec::new() };
    let columns = scrapes.iter().enumerate();
    columns.map(|(column, scrape)| (scrape.at, series.gauge_at(quantity, column))).collect()
}

/// Whether the counters were reset between a scrape and the one before it. A decrease of one counter counts as a reset
/// of all, because others may have grown beyond their old values since the restart.
fn resets(scrapes: &[Scrape]) -> Vec<bool> {
    let monotone = |sample: &&Sample| {
        let forms = ENTRIES.iter().filter(|entry| part_of(entry, &sample.name).is_some()).map(|entry| entry.form);
        forms.into_iter().any(|form| form != Form::Gauge) && !sample.name.ends_with("_sum")
    };
    let totals = |scrape: &Scrape| -> BTreeMap<(String, Labels), f64> {
        let kept = scrape.samples.iter().filter(monotone);
        kept.map(|sample| ((sample.name.clone(), sample.labels.clone()), sample.value)).collect()
    };
    let mut before: Option<BTreeMap<_, f64>> = None;
    let mut found = Vec::with_capacity(scrapes.len());
    for scrape in scrapes {
        let now = totals(scrape);
        let fell = |earlier: &BTreeMap<_, f64>| {
            now.iter().any(|(key, value)| earlier.get(key).is_some_and(|earlier| value < earlier))
        };
        found.push(before.as_ref().is_some_and(fell));
        before = Some(now);
    }
    found
}

/// Names and values.
type Labels = Vec<(String, String)>;
/// The values of one series, one for each scrape.
type Row = Vec<Option<f64>>;

/// The series of one metric: a row for each part and set of labels, a column for each scrape.
struct Series {
    rows: BTreeMap<(&'static str, Labels), Row>,
}

impl Series {
    fn collect(entry: &Entry, scrapes: &[Scrape], model: &str) -> Series {
        let mut rows: BTreeMap<_, Row> = BTreeMap::new();
        let has_model = scrapes
            .iter()
            .flat_map(|scrape| &scrape.samples)
            .any(|sample| part_of(entry, &sample.name).is_some() && sample.label("model_name") == Some(model));
        for (column, scrape) in scrapes.iter().enumerate() {
            for sample in &scrape.samples {
                let Some(part) = part_of(entry, &sample.name) else { continue };
                let foreign = has_model && sample.label("model_name").is_some_and(|name| name != model);
                let failed = matches!(sample.label("finished_reason"), Some("abort" | "error"));
                if foreign || failed || sample.value.is_nan() {
                    continue;
                }
                let row = rows.entry((part, sample.labels.clone())).or_insert_with(|| vec![None; scrapes.len()]);
                row[column] = Some(sample.value);
            }
        }
        Series { rows }
    }

    /// Adds the changes of the series to `window`.
    fn add_to(&self, entry: &Entry, resets: &[bool], window: &mut Window) {
        let (name, meaning, quantity) = (entry.name, entry.meaning, entry.quantity);
        let total = |part: &str| {
            let rows: Vec<_> = self.rows.iter().filter(|((of, _), _)| *of == part).collect();
            let sum = rows.iter().map(|(_, row)| increase(row, resets)).sum::<f64>();
            (!rows.is_empty()).then_some(sum)
        };
        match entry.form {
            Form::Gauge => drop(window.gauges.insert(quantity, self.gauge(quantity))),
            Form::Counter | Form::SumOf => {
                let part = if entry.form == Form::Counter { "" } else { "_sum" };
                if let Some(value) = total(part) {
                    window.counters.insert(quantity, Delta { name, meaning, value });
                }
            }
            Form::Histogram => {
                if let Some(buckets) = self.buckets(resets) {
                    let value = Histogram { buckets, sum: total("_sum") };
                    window.histograms.insert(quantity, Delta { name, meaning, value });
                }
            }
        }
    }

    /// The increase of each bucket, summed over all series, at the bounds that all series have.
    fn buckets(&self, resets: &[bool]) -> Option<Vec<(f64, u64)>> {
        let mut below: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for ((_, labels), row) in self.rows.iter().filter(|((part, _), _)| *part == "_bucket") {
            let bound = labels.iter().find(|(name, _)| name == "le").map(|(_, value)| super::exposition::number(value));
            let Some(Ok(bound)) = bound else { continue };
            let others = labels.iter().filter(|(name, _)| name != "le").cloned().collect();
            below.entry(others).or_default().push((bound, increase(row, resets)));
        }
        // As bit patterns, which have the order of the numbers because bounds are not negative.
        let sets = below.values().map(|series| series.iter().map(|(bound, _)| bound.to_bits()).collect());
        let common = sets.reduce(|a: BTreeSet<u64>, b| a.intersection(&b).copied().collect())?;
        let mut counts: BTreeMap<u64, f64> = common.into_iter().map(|bound| (bound, 0.0)).collect();
        for (bound, count) in below.values().flatten() {
            if let Some(sum) = counts.get_mut(&bound.to_bits()) {
                *sum += count;
            }
        }
        let mut buckets = Vec::with_capacity(counts.len());
        let mut before = 0.0;
        for (bound, at_or_below) in counts.into_iter().map(|(bits, count)| (f64::from_bits(bits), count)) {
            buckets.push((bound, (at_or_below - before).max(0.0).round() as u64));
            before = at_or_below.max(before);
        }
        buckets.last().is_some_and(|(bound, _)| bound.is_infinite()).then_some(buckets)
    }

    /// The value of a gauge in one scrape: the sum over series, or for cache use the maximum.
    fn gauge_at(&self, quantity: Quantity, column: usize) -> Option<f64> {
        let values = self.rows.values().filter_map(|row| row[column]);
        values.reduce(|a, b| if quantity == Quantity::CacheUse { f64::max(a, b) } else { a + b })
    }

    fn gauge(&self, quantity: Quantity) -> Gauge {
        let columns = self.rows.values().next().map_or(0, Vec::len);
        let at = |column: usize| self.gauge_at(quantity, column).unwrap_or(0.0);
        let inner: Vec<f64> = (1..columns.saturating_sub(1)).map(at).collect();
        Gauge {
            max: (0..columns).map(at).fold(0.0, f64::max),
            mean: (!inner.is_empty()).then(|| inner.iter().sum::<f64>() / inner.len() as f64),
        }
    }
}

/// The increase of a counter. A series that appears later and every series after a reset starts from 0.
fn increase(row: &[Option<f64>], resets: &[bool]) -> f64 {
    let mut before = row.first().copied().flatten().unwrap_or(0.0);
    let mut grown = 0.0;
    for (value, reset) in row.iter().zip(resets).skip(1) {
        let Some(value) = *value else { continue };
        grown += if *reset { value } else { value - before };
        before = value;
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::super::exposition::parse_page;
    use super::*;

    fn scrape(at: u64, text: &str) -> Scrape {
        Scrape { at: Tick(at), samples: parse_page(text.as_bytes()).samples }
    }

    fn counted(texts: &[&str]) -> Window {
        let scrapes: Vec<Scrape> = texts.iter().enumerate().map(|(at, text)| scrape(at as u64, text)).collect();
        window(&scrapes, "m").unwrap()
    }

    #[test]
    fn counts_before_and_after_a_restart_are_summed() {
        let seen =
            counted(&["vllm:prompt_tokens_total 100", "vllm:prompt_tokens_total 130", "vllm:prompt_tokens_total 7"]);
        assert_eq!((seen.counters[&Quantity::PromptTokens].value, seen.resets), (37.0, 1));
    }

    #[test]
    fn after_a_restart_a_larger_bucket_is_counted_from_zero() {
        let page = |low: u64, all: u64| {
            let name = "vllm:time_to_first_token_seconds";
            format!("{name}_bucket{{le=\"1.0\"}} {low}\n{name}_bucket{{le=\"+Inf\"}} {all}\n{name}_sum {all}")
        };
        let seen = counted(&[&page(0, 10), &page(4, 6)]);
        let delta = &seen.histograms[&Quantity::Ttft].value;
        assert_eq!((delta.buckets.as_slice(), delta.mean()), (&[(1.0, 4), (f64::INFINITY, 2)][..], Some(1.0)));
    }

    #[test]
    fn a_page_of_many_buckets_takes_linear_time() {
        const BUCKETS: usize = 100_000;
        let page = |count: usize| {
            let name = "vllm:time_to_first_token_seconds_bucket";
            let line = |le: usize| format!("{name}{{le=\"{le}.0\"}} {}\n", le * count);
            (1..=BUCKETS).map(line).collect::<String>() + &format!("{name}{{le=\"+Inf\"}} {}\n", BUCKETS * count)
        };
        // With time that grows with the square of the number, this test takes minutes.
        let seen = counted(&[&page(0), &page(1), &page(2)]);
        let delta = &seen.histograms[&Quantity::Ttft].value;
        assert_eq!((delta.buckets.len(), delta.count()), (BUCKETS + 1, 2 * BUCKETS as u64));
        assert_eq!((delta.buckets[0], delta.buckets[BUCKETS]), ((1.0, 2), (f64::INFINITY, 0)));
    }

    #[test]
    fn series_are_summed_without_other_models_and_failures() {
        let page = "\
vllm:request_success_total{model_name=\"m\",finished_reason=\"stop\"} 1
vllm:request_success_total{model_name=\"m\",finished_reason=\"length\"} 2
vllm:request_success_total{model_name=\"m\",finished_reason=\"abort\"} 4
vllm:request_success_total{model_name=\"other\",finished_reason=\"stop\"} 8
vllm:num_requests_running{model_name=\"m\",engine=\"0\"} 3
vllm:num_requests_running{model_name=\"m\",engine=\"1\"} 4
vllm:kv_cache_usage_perc{model_name=\"m\",engine=\"0\"} 0.5
vllm:kv_cache_usage_perc{model_name=\"m\",engine=\"1\"} 0.25
";
        let seen = counted(&["", page, ""]);
        assert_eq!(seen.counters[&Quantity::Requests].value, 3.0);
        assert_eq!(seen.gauges[&Quantity::Running], Gauge { max: 7.0, mean: Some(7.0) });
        assert_eq!(seen.gauges[&Quantity::CacheUse].max, 0.5);
        let looks = [scrape(5, ""), scrape(6, page)];
        assert_eq!(over_time(&looks, "m", Quantity::Running), [(Tick(5), None), (Tick(6), Some(7.0))]);
        assert!(over_time(&looks, "m", Quantity::Waiting).is_empty());
    }

    #[test]
    fn prefix_caches_are_counted() {
        let hits = |texts: &[&str]| counted(texts).counters.get(&Quantity::CacheHits).map(|delta| delta.value);
        let vllm = |queries: u64, hits: u64| {
            format!("vllm:prefix_cache_queries_total {queries}\nvllm:prefix_cache_hits_total {hits}\n")
        };
        let (before, after) = (vllm(100, 10), vllm(300, 90));
        assert_eq!(hits(&[&before, &after]), Some(80.0));
        assert_eq!(counted(&[&before, &after]).counters[&Quantity::CacheQueries].value, 200.0);
        assert_eq!(hits(&["vllm:gpu_prefix_cache_hits_total 1", "vllm:gpu_prefix_cache_hits_total 4"]), Some(3.0));
        let sglang = "sglang:cached_tokens_total{cache_source=\"device\"} 32\nsglang:cached_tokens_total{cache_source=\"host\"} 16";
        assert_eq!(hits(&["sglang:prompt_tokens_total 0", sglang]), Some(48.0));
        assert_eq!(hits(&["vllm:prompt_tokens_total 1", "vllm:prompt_tokens_total 2"]), None);
    }

    #[test]
    fn window_needs_known_metrics_and_two_scrapes() {
        assert_eq!(window(&[scrape(0, "up 1"), scrape(1, "up 1")], "m"), None);
        assert_eq!(window(&[scrape(0, "vllm:prompt_tokens_total 1")], "m"), None);
        assert!(is_known("tgi_request_duration_bucket") && is_known("llamacpp:requests_deferred"));
        assert!(is_known("vllm:num_preemptions") && !is_known("vllm:num_preemptions_created"));
    }
}
