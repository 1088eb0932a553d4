//! What the full-screen view shows of a run: the current progress, and figures of each second so far.

use std::collections::VecDeque;

use crate::record::Phase;
use crate::run::PhaseProgress;

/// Seconds that are kept: as many as the widest terminal has columns.
const MOST: usize = 1000;

/// The values of one quantity in each second, in thousandths of its unit; `None` where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Series(VecDeque<Option<u64>>);

impl Series {
    fn push(&mut self, value: Option<u64>) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// The last `count` values, the newest last.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = Option<u64>> + '_ {
        self.0.iter().skip(self.0.len().saturating_sub(count)).copied()
    }

    /// The value of the last second.
    pub(super) fn newest(&self) -> Option<u64> {
        self.0.back().copied().flatten()
    }
}

/// The second that is being counted.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    number: u64,
    elapsed_s: f64,
    tokens: u64,
    failed: u64,
}

/// One run as the view shows it.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub progress: PhaseProgress,
    /// Output tokens per second; input tokens per second for embeddings and rankings.
    pub tokens_per_s: Series,
    pub in_flight: Series,
    /// Nanoseconds, p50 and p99.
    pub ttft_ns: [Series; 2],
    pub itl_ns: [Series; 2],
    pub latency_ns: [Series; 2],
    pub failed_per_s: Series,
    pub send_lag_p99_ns: Series,
    mark: Mark,
}

impl History {
    /// Takes the progress of a run; another run begins anew.
    pub(super) fn update(&mut self, progress: PhaseProgress) {
        if self.progress.run != progress.run {
            *self = History::default();
        }
        let was_warm_up = self.progress.phase != progress.phase;
        self.progress = progress;
        let number = self.progress.figures.recent.number;
        if was_warm_up || self.mark.number > number {
            self.mark = self.mark_now();
        } else if number > self.mark.number && self.progress.phase == Phase::Measured {
            self.end_second();
        }
    }

    fn mark_now(&self) -> Mark {
        let PhaseProgress { figures, elapsed_s, .. } = &self.progress;
        Mark { number: figures.recent.number, elapsed_s: *elapsed_s, tokens: self.tokens(), failed: figures.failed }
    }

    /// Whether the figures so far have no output tokens: those of embeddings and rankings.
    pub(super) fn counts_input(&self) -> bool {
        let figures = &self.progress.figures;
        figures.output_tokens == 0 && figures.ttft_p50_ns.is_none() && figures.input_tokens > 0
    }

    fn tokens(&self) -> u64 {
        let figures = &self.progress.figures;
        if self.counts_input() { figures.input_tokens } else { figures.output_tokens }
    }

    fn end_second(&mut self) {
        let (before, now) = (self.mark, self.mark_now());
        let seconds = now.elapsed_s - before.elapsed_s;
        let per_s = |count: u64| (seconds > 0.0).then(|| (count as f64 / seconds * 1e3) as u64);
        let recent = self.progress.figures.recent;
        self.tokens_per_s.push(per_s(now.tokens.saturating_sub(before.tokens)));
        self.failed_per_s.push(per_s(now.failed.saturating_sub(before.failed)));
        self.in_flight.push(Some(self.progress.in_flight * 1000));
        for (place, series) in self.ttft_ns.iter_mut().enumerate() {
            series.push(recent.ttft_ns[place]);
        }
        for (place, series) in self.itl_ns.iter_mut().enumerate() {
            series.push(recent.itl_ns[place]);
        }
        for (place, series) in self.latency_ns.iter_mut().enumerate() {
            series.push(recent.latency_ns[place]);
        }
        self.send_lag_p99_ns.push(recent.send_lag_p99_ns);
        self.mark = now;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::run::RunTitle;
    use crate::store::live::{Recent, Snapshot};

    /// The progress of the run `load` after `second` seconds, with 100 tokens and a failure in each.
    pub(in crate::cli::live) fn at(load: &str, second: u64) -> PhaseProgress {
        let recent = Recent {
            number: second,
            ttft_ns: [Some(40_000_000 + second), Some(90_000_000)],
            itl_ns: [Some(9_000_000), None],
            latency_ns: [Some(500_000_000), Some(700_000_000)],
            send_lag_p99_ns: Some(30_000),
        };
        let figures = Snapshot {
            done: 3 * second,
            ok: 2 * second,
            failed: second,
            output_tokens: 100 * second,
            input_tokens: 7,
            elapsed_s: second as f64,
            ttft_p50_ns: Some(40_000_000),
            ttft_p99_ns: Some(90_000_000),
            recent,
            ..Snapshot::default()
        };
        PhaseProgress {
            run: Arc::new(RunTitle { load: load.to_string(), model: "m\u{1b}[2J".to_string(), ..RunTitle::default() }),
            done: 3 * second,
            ok: 2 * second,
            failed: second,
            total: Some(200),
            elapsed_s: second as f64,
            in_flight: 8,
            figures,
            ..PhaseProgress::default()
        }
    }

    #[test]
    fn each_second_has_one_value() {
        let mut history = History::default();
        for second in [0, 1, 1, 2, 4] {
            history.update(at("Concurrency 8", second));
        }
        let values = |series: &Series| series.last(9).collect::<Vec<_>>();
        assert_eq!(values(&history.tokens_per_s), [Some(100_000); 3]);
        assert_eq!(values(&history.failed_per_s), [Some(1000); 3]);
        assert_eq!(values(&history.in_flight), [Some(8000); 3]);
        assert_eq!(values(&history.ttft_ns[0]), [1, 2, 4].map(|second| Some(40_000_000 + second)));
        assert_eq!((values(&history.itl_ns[1]), history.itl_ns[1].newest()), (vec![None; 3], None));
        history.update(at("Concurrency 16", 1));
        assert_eq!(values(&history.tokens_per_s), [Some(100_000)], "another run begins anew");
    }
}
