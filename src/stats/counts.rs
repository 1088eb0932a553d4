//! Where every request went: numbers of outcomes, and failures by class.

use super::failure_texts::FailureText;
use super::samples::{RunSamples, Sample, Selection};
use crate::finding::Oddity;
use crate::record::{Failure, WorkerReport};
use crate::store::StoredRun;

/// Requests by outcome: `scheduled = ok + failed + unfinished + unsent + unknown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub scheduled: u64,
    pub ok: u64,
    pub failed: u64,
    /// In flight when the run ended.
    pub unfinished: u64,
    /// Never sent, because the run ended first.
    pub unsent: u64,
    /// Not stored because the run was killed, so whether they were sent is unknown.
    pub unknown: u64,
    /// Succeeded, but an input or output token count is unknown.
    pub unknown_tokens: u64,
    /// Succeeded requests by oddity of their response, in the order of [`Oddity::ALL`].
    pub oddities: [u64; Oddity::ALL.len()],
}

impl Counts {
    /// Requests that a slot started, as far as is known.
    pub fn sent(&self) -> u64 {
        self.scheduled.saturating_sub(self.unsent + self.unknown)
    }
}

/// The failures of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureCount {
    pub failure: Failure,
    pub count: u64,
    /// The most frequent error texts.
    pub texts: Vec<FailureText>,
    /// Failures whose text is not among `texts`.
    pub others: u64,
}

/// Counts the outcomes of a run. `workers` are the reports of the measured phase.
pub(crate) fn compute(run: &StoredRun, samples: &RunSamples, workers: &[&WorkerReport]) -> Counts {
    let (ok, failed, unfinished) = (samples.ok, samples.failed(), samples.unfinished);
    let recorded = ok + failed + unfinished;
    let missing = run.facts.requests.map_or(0, |planned| planned.saturating_sub(recorded));
    let (unsent, unknown) = match run.end {
        // Killed: requests that are not stored may have been in flight, waiting to be written, or not sent.
        None => (0, missing),
        // Ended before a worker started.
        Some(_) if workers.is_empty() => (missing, 0),
        Some(_) => (workers.iter().map(|worker| worker.unsent).sum(), 0),
    };
    let scheduled = run.facts.requests.unwrap_or(recorded + unsent);
    let (unknown_tokens, oddities) = (samples.unknown_tokens, samples.oddities);
    Counts { scheduled, ok, failed, unfinished, unsent, unknown, unknown_tokens, oddities }
}

/// Cached input tokens divided by all input tokens; `None` if no response has the number of its cached tokens. A server
/// that reports it sometimes has none cached where it does not.
pub(crate) fn cached_share(ok: &Selection<'_>) -> Option<f64> {
    let counted = || ok.iter().filter(|sample| sample.input_tokens.is_some());
    let sum = |of: fn(&Sample) -> Option<u32>| counted().map(|sample| u64::from(of(&sample).unwrap_or(0))).sum::<u64>();
    let (cached, input) = (sum(|sample| sample.cached_tokens), sum(|sample| sample.input_tokens));
    (counted().any(|sample| sample.cached_tokens.is_some()) && input > 0).then(|| cached as f64 / input as f64)
}

/// The failures by class, the most frequent first, equal ones in the order of [`Failure::ALL`].
pub fn failures(samples: &RunSamples) -> Vec<FailureCount> {
    let of_class = |failure| {
        let texts = samples.failures.get(&failure)?;
        let shown = texts.most_frequent(3);
        let others = texts.count - shown.iter().map(|text| text.count).sum::<u64>();
        Some(FailureCount { failure, count: texts.count, texts: shown, others })
    };
    let mut all: Vec<FailureCount> = Failure::ALL.into_iter().filter_map(of_class).collect();
    all.sort_by_key(|class| std::cmp::Reverse(class.count));
    all
}
