//! From the samples of a run to its summary and findings.

use super::findings;
use super::gap_sets::GapSets;
use super::samples::Samples;
use super::summary::{Inputs, Summary};
use crate::record::{Phase, WorkerReport};

/// The summary of a run with all its findings, and its measured requests sorted by due time. `read_gaps` is called
/// several times and adds all gaps of the run each time.
///
/// # Errors
/// Those of `read_gaps`.
pub fn analyze<E>(
    inputs: Inputs<'_>,
    read_gaps: impl FnMut(&mut GapSets) -> Result<(), E>,
) -> Result<(Summary, Samples), E> {
    let workers: Vec<&WorkerReport> = inputs.run.workers.iter().filter(|w| w.phase == Phase::Measured).collect();
    let (mut summary, samples) = Summary::assemble(inputs, &workers, read_gaps)?;
    let findings = findings::compute(&summary, &workers, &samples);
    summary.findings.extend(findings);
    summary.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
    Ok((summary, samples))
}
