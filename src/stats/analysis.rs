//! From the samples of a run to its summary and findings.

use super::findings;
use super::samples::Sample;
use super::summary::{Inputs, Summary};
use crate::record::{Phase, WorkerReport};

/// The summary of a run with all its findings, and its measured requests sorted by due time.
pub fn analyze(inputs: Inputs<'_>) -> (Summary, Vec<Sample>) {
    let workers: Vec<&WorkerReport> = inputs.run.workers.iter().filter(|w| w.phase == Phase::Measured).collect();
    let (mut summary, samples) = Summary::assemble(inputs, &workers);
    let findings = findings::compute(&summary, &workers, &samples);
    summary.findings.extend(findings);
    summary.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
    (summary, samples)
}
