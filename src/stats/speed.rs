//! The speed benchmark: output rate of single requests, from the time of sending, by prompt length.

use std::collections::BTreeMap;

use super::samples::Samples;

/// A row of "Speed Benchmark Results:".
#[derive(Clone, Debug, PartialEq)]
pub struct SpeedRow {
    pub prompt_tokens: u32,
    pub requests: usize,
    /// Mean of output tokens over the latency from the time of sending: a wait for a free slot is not the server's speed.
    pub tokens_per_s: f64,
}

/// Datasets whose runs are shown as a speed benchmark.
pub(crate) fn is_speed_benchmark(dataset: &str) -> bool {
    dataset.starts_with("speed_benchmark")
}

/// The succeeded requests by the number of their input tokens, ascending. Requests without token counts have no row.
pub fn rows(samples: &Samples) -> Vec<SpeedRow> {
    let mut groups: BTreeMap<u32, (usize, f64)> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.ok) {
        let seconds = sample.service_latency.filter(|&ns| ns > 0).map(|ns| ns as f64 / 1e9);
        let rate = sample.output_tokens.zip(seconds).map(|(tokens, seconds)| f64::from(tokens) / seconds);
        if let (Some(input), Some(rate)) = (sample.input_tokens, rate) {
            let (requests, sum) = groups.entry(input).or_default();
            *requests += 1;
            *sum += rate;
        }
    }
    let row = |(prompt_tokens, (requests, sum)): (u32, (usize, f64))| SpeedRow {
        prompt_tokens,
        requests,
        tokens_per_s: sum / requests as f64,
    };
    groups.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::samples::Sample;

    #[test]
    fn waiting_for_a_slot_is_not_the_speed_of_the_server() {
        let sample = |waited_ns: u64| Sample {
            ok: true,
            input_tokens: Some(6144),
            output_tokens: Some(100),
            latency: waited_ns + 1_000_000_000,
            service_latency: Some(1_000_000_000),
            ..Sample::default()
        };
        let waiting: Samples = [0, 400_000_000, 800_000_000].into_iter().map(sample).collect();
        assert_eq!(rows(&waiting), [SpeedRow { prompt_tokens: 6144, requests: 3, tokens_per_s: 100.0 }]);
    }
}
