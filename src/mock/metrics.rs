//! Counters and histograms of the event loops, and the page `/metrics` with vLLM's metric names.
//!
//! Each counter has one writing thread and any number of readers, so an update is a relaxed load and store instead of an
//! atomic read-modify-write.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bucket bounds of vLLM's histograms, seconds.
const TTFT_S: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];
const ITL_S: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];
const REQUEST_S: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
];

/// A counter with one writer.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// Decreases the value; for gauges.
    pub(super) fn subtract(&self, less: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(less), Relaxed);
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A histogram with one writer.
#[derive(Debug)]
pub(super) struct Buckets {
    bounds_s: &'static [f64],
    bounds_ns: Vec<u64>,
    /// One per bound, and one for larger values.
    counts: Vec<Counter>,
    sum_ns: Counter,
}

impl Buckets {
    fn new(bounds_s: &'static [f64]) -> Buckets {
        let bounds_ns = bounds_s.iter().map(|bound| (bound * 1e9).round() as u64).collect();
        let counts = (0..=bounds_s.len()).map(|_| Counter::default()).collect();
        Buckets { bounds_s, bounds_ns, counts, sum_ns: Counter::default() }
    }

    /// Counts one value. A value equal to a bound belongs to the bucket of that bound.
    pub(super) fn observe(&self, ns: u64) {
        let bucket = self.bounds_ns.partition_point(|&bound| bound < ns);
        self.counts[bucket].add(1);
        self.sum_ns.add(ns);
    }
}

/// The counters and histograms of one event loop.
#[derive(Debug)]
pub(super) struct LoopMetrics {
    pub(super) ttft: Buckets,
    pub(super) itl: Buckets,
    pub(super) tpot: Buckets,
    pub(super) e2e: Buckets,
    pub(super) queue: Buckets,
    pub(super) prompt_tokens: Counter,
    pub(super) generation_tokens: Counter,
    pub(super) stop: Counter,
    pub(super) length: Counter,
    pub(super) abort: Counter,
    pub(super) error: Counter,
    pub(super) requests: Counter,
    pub(super) events: Counter,
    pub(super) refused: Counter,
    pub(super) open_connections: Counter,
    pub(super) blocked_writes: Counter,
    pub(super) cpu_ns: Counter,
}

impl Default for LoopMetrics {
    fn default() -> LoopMetrics {
        LoopMetrics {
            ttft: Buckets::new(TTFT_S),
            itl: Buckets::new(ITL_S),
            tpot: Buckets::new(ITL_S),
            e2e: Buckets::new(REQUEST_S),
            queue: Buckets::new(REQUEST_S),
            prompt_tokens: Counter::default(),
            generation_tokens: Counter::default(),
            stop: Counter::default(),
            length: Counter::default(),
            abort: Counter::default(),
            error: Counter::default(),
            requests: Counter::default(),
            events: Counter::default(),
            refused: Counter::default(),
            open_connections: Counter::default(),
            blocked_writes: Counter::default(),
            cpu_ns: Counter::default(),
        }
    }
}

/// Selects a counter or a histogram.
type Of<T> = fn(&LoopMetrics) -> &T;

/// The sum of a counter over all loops.
pub(super) fn sum(loops: &[&LoopMetrics], of: impl Fn(&LoopMetrics) -> &Counter) -> u64 {
    loops.iter().map(|metrics| of(metrics).value()).sum()
}

/// Renders the page `/metrics`.
pub(super) fn page(loops: &[&LoopMetrics], model: &str, running: u64, waiting: u64) -> Vec<u8> {
    let model = model.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut page =
        PageWriter { out: String::with_capacity(8 << 10), labels: format!("engine=\"0\",model_name=\"{model}\"") };
    page.single("vllm:num_requests_running", "gauge", "Number of requests in model execution batches.", running);
    page.single("vllm:num_requests_waiting", "gauge", "Number of requests waiting to be processed.", waiting);
    let total = |of: Of<Counter>| sum(loops, of);
    page.single(
        "vllm:prompt_tokens_total",
        "counter",
        "Number of prefill tokens processed.",
        total(|t| &t.prompt_tokens),
    );
    page.single(
        "vllm:generation_tokens_total",
        "counter",
        "Number of generation tokens processed.",
        total(|t| &t.generation_tokens),
    );
    page.describe("vllm:request_success_total", "counter", "Count of successfully processed requests.");
    let reasons: [(&str, Of<Counter>); 4] =
        [("stop", |t| &t.stop), ("length", |t| &t.length), ("abort", |t| &t.abort), ("error", |t| &t.error)];
    for (reason, of) in reasons {
        page.line("vllm:request_success_total", &format!(",finished_reason=\"{reason}\""), total(of));
    }
    let histograms: [(&str, &str, Of<Buckets>); 5] = [
        ("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", |t| &t.ttft),
        ("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", |t| &t.itl),
        (
            "vllm:request_time_per_output_token_seconds",
            "Histogram of time per output token of a request in seconds.",
            |t| &t.tpot,
        ),
        ("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", |t| &t.e2e),
        ("vllm:request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", |t| &t.queue),
    ];
    for (name, help, of) in histograms {
        page.histogram(name, help, &loops.iter().map(|metrics| of(metrics)).collect::<Vec<_>>());
    }
    page.out.into_bytes()
}

/// A page under construction.
struct PageWriter {
    out: String,
    labels: String,
}

impl PageWriter {
    fn describe(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("writing to a String cannot fail");
    }

    fn line(&mut self, name: &str, more_labels: &str, value: impl std::fmt::Display) {
        writeln!(self.out, "{name}{{{}{more_labels}}} {value}", self.labels).expect("writing to a String cannot fail");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.describe(name, kind, help);
        self.line(name, "", format_args!("{value}.0"));
    }

    fn histogram(&mut self, name: &str, help: &str, parts: &[&Buckets]) {
        self.describe(name, "histogram", help);
        let Some(first) = parts.first() else { return };
        let mut below = 0;
        for bucket in 0..first.counts.len() {
            below += parts.iter().map(|part| part.counts[bucket].value()).sum::<u64>();
            let bound = first.bounds_s.get(bucket).map_or("+Inf".to_string(), |bound| format!("{bound:?}"));
            self.line(&format!("{name}_bucket"), &format!(",le=\"{bound}\""), format_args!("{below}.0"));
        }
        let sum_ns: u64 = parts.iter().map(|part| part.sum_ns.value()).sum();
        self.line(&format!("{name}_count"), "", format_args!("{below}.0"));
        self.line(&format!("{name}_sum"), "", format_args!("{}.{:09}", sum_ns / 1_000_000_000, sum_ns % 1_000_000_000));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sums_over_loops() {
        let loops = [LoopMetrics::default(), LoopMetrics::default()];
        loops[0].ttft.observe(1_000_000);
        loops[1].ttft.observe(1_000_001);
        loops[1].ttft.observe(9_000_000_000_000);
        loops[0].prompt_tokens.add(3);
        loops[1].prompt_tokens.add(4);
        let page = String::from_utf8(page(&[&loops[0], &loops[1]], "a\"b", 2, 1)).unwrap();
        let has = |line: &str| assert!(page.lines().any(|l| l == line), "{line}\n{page}");
        has("vllm:prompt_tokens_total{engine=\"0\",model_name=\"a\\\"b\"} 7.0");
        has("vllm:num_requests_running{engine=\"0\",model_name=\"a\\\"b\"} 2.0");
        has("vllm:time_to_first_token_seconds_bucket{engine=\"0\",model_name=\"a\\\"b\",le=\"0.001\"} 1.0");
        has("vllm:time_to_first_token_seconds_bucket{engine=\"0\",model_name=\"a\\\"b\",le=\"0.005\"} 2.0");
        has("vllm:time_to_first_token_seconds_bucket{engine=\"0\",model_name=\"a\\\"b\",le=\"+Inf\"} 3.0");
        has("vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"a\\\"b\"} 3.0");
        has("vllm:time_to_first_token_seconds_sum{engine=\"0\",model_name=\"a\\\"b\"} 9000.002000001");
    }
}
