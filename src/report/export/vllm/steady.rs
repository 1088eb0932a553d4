//! The steady window of a closed loop, with the keys of `vllm-rs bench serve`.

use serde_json::{Value as Json, json};

use crate::record::facts::{Mode, RunFacts};
use crate::report::json_value::finite;
use crate::stats::concurrency::InFlight;
use crate::stats::quantile::Series;
use crate::stats::samples::{Sample, Samples};
use crate::time::Tick;

/// In the steady window at least this share of `--parallel` is in flight: the default of that tool.
const THRESHOLD: f64 = 0.95;
/// A window is long enough with this many seconds and this share of the run: the defaults of that tool.
const LEAST_S: f64 = 10.0;
const LEAST_PART: f64 = 0.1;

/// From the first to the last time with enough requests in flight, tick nanoseconds.
pub struct Window {
    from: u64,
    to: u64,
    parallel: u32,
    level: u32,
    peak: u32,
}

impl Window {
    /// The tokens of a response that arrived in the window; each event counts as its share of them.
    pub fn tokens(&self, output_tokens: Option<u32>, arrivals: &[Tick]) -> f64 {
        let inside = arrivals.iter().filter(|arrival| (self.from..=self.to).contains(&arrival.0)).count();
        output_tokens.map_or(0.0, |tokens| f64::from(tokens) * inside as f64 / arrivals.len().max(1) as f64)
    }

    fn length_s(&self) -> f64 {
        (self.to - self.from) as f64 / 1e9
    }
}

/// `None` for an open loop, and if the concurrency was never reached.
pub fn window(facts: &RunFacts, samples: &Samples) -> Option<Window> {
    let parallel = facts.parallel.filter(|_| facts.mode == Mode::Closed)?;
    let level = (f64::from(parallel) * THRESHOLD).ceil() as u32;
    let in_flight = InFlight::from_spans(samples.iter().filter_map(|sample| Some((sample.write_start?, sample.end))));
    let (from, to) = in_flight.at_least(level).filter(|(from, to)| from < to)?;
    Some(Window { from, to, parallel, level, peak: in_flight.peak() })
}

/// Requests count by their start, and as completed by their end; `tokens` are those that arrived in the window.
pub fn json(window: &Window, samples: &Samples, run_s: Option<f64>, tokens: f64) -> Json {
    let inside = |at: u64| (window.from..=window.to).contains(&at);
    let started = samples.select(|sample| sample.write_start.is_some_and(inside));
    let completed = samples.iter().filter(|s| s.ok && s.end >= window.from && s.end < window.to).count();
    let input: f64 = started.iter().filter(|s| s.ok).map(|s| f64::from(s.input_tokens.unwrap_or(0))).sum();
    let length_s = window.length_s();
    let of = |value: fn(&Sample) -> Option<f64>| {
        Series::compute(&started.iter().filter(|s| s.ok).filter_map(|s| value(&s)).collect::<Vec<_>>())
    };
    let (ttft, tpot) = (of(|sample| sample.ttft.map(|ns| ns as f64 / 1e6)), of(|sample| Some(sample.tpot? / 1e6)));
    let begin = samples.first().map_or(window.from, |sample| sample.due);
    let seconds = |at: u64| at.saturating_sub(begin) as f64 / 1e9;
    json!({
        "window": {
            "start_s": seconds(window.from),
            "end_s": seconds(window.to),
            "duration_s": length_s,
            "target_concurrency": window.parallel,
            "threshold": THRESHOLD,
            "threshold_abs": window.level,
            "observed_peak": window.peak,
            "requests_started_in_window": started.len(),
            "requests_completed_in_window": completed,
            "requests_total": samples.len(),
            "warning": warning(length_s, run_s),
        },
        "request_throughput": completed as f64 / length_s,
        "input_throughput": input / length_s,
        "output_throughput": tokens / length_s,
        "total_token_throughput": (input + tokens) / length_s,
        "mean_ttft_ms": finite(ttft.mean),
        "median_ttft_ms": finite(ttft.value(500)),
        "percentiles_ttft_ms": [[99.0, finite(ttft.value(990))], [90.0, finite(ttft.value(900))]],
        "mean_tpot_ms": finite(tpot.mean),
        "median_tpot_ms": finite(tpot.value(500)),
        "p90_tpot_ms": finite(tpot.value(900)),
        "p99_tpot_ms": finite(tpot.value(990)),
    })
}

fn warning(length_s: f64, run_s: Option<f64>) -> Option<String> {
    let least_s = LEAST_S.max(run_s.unwrap_or(0.0) * LEAST_PART);
    (length_s < least_s).then(|| format!("the load was at its level for {length_s:.1} s, less than {least_s:.1} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample((start, end): (u64, u64)) -> Sample {
        let mut sample = Sample::default();
        (sample.due, sample.write_start, sample.end) = (start, Some(start), end);
        (sample.ok, sample.ttft, sample.input_tokens) = (true, Some(1_000_000), Some(10));
        sample
    }

    /// Two lanes; the second begins at 1 s, and the first is the last to end.
    #[test]
    fn the_window_is_the_time_shared_by_both_slots() {
        let spans = [(0, 4), (1, 3), (3, 6), (4, 8)].into_iter();
        let samples: Samples = spans.map(|(a, b)| sample((a * 1_000_000_000, b * 1_000_000_000))).collect();
        let facts = RunFacts { mode: Mode::Closed, parallel: Some(2), ..RunFacts::default() };
        let window = window(&facts, &samples).unwrap();
        assert_eq!((window.from, window.to, window.level), (1_000_000_000, 6_000_000_000, 2));
        // Two of four events are inside.
        let arrivals = [0, 2, 5, 7].map(|s| Tick(s * 1_000_000_000));
        assert_eq!(window.tokens(Some(8), &arrivals), 4.0);
        let json = json(&window, &samples, Some(8.0), 4.0);
        let counts =
            ["requests_started_in_window", "requests_completed_in_window"].map(|key| json["window"][key].clone());
        assert_eq!(counts, [3, 2]);
        assert_eq!(
            [&json["request_throughput"], &json["input_throughput"], &json["output_throughput"]],
            [0.4, 6.0, 0.8]
        );
        assert_eq!(json["mean_ttft_ms"], 1.0);
        assert!(json["window"]["warning"].as_str().unwrap().contains("5.0 s, less than 10.0 s"));
    }

    #[test]
    fn an_open_loop_has_no_concurrency_level() {
        let facts = RunFacts { mode: Mode::Open, parallel: Some(2), ..RunFacts::default() };
        assert!(window(&facts, &[(0, 4), (1, 3)].into_iter().map(sample).collect()).is_none());
    }
}
