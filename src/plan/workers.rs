//! How many workers run, and on which cores.

use super::PlanError;
use crate::finding::Finding;
use crate::spec::Spec;

/// A worker's number must fit into a record, and nobody has more cores than this.
const MAX_WORKERS: usize = 1024;

/// One core number for each worker. By default all allowed cores but the first one, which is left to the kernel's
/// housekeeping and to our collector; with the built-in server as target, half of them, so that it keeps up.
pub fn cores(
    spec: &Spec,
    allowed: &[usize],
    parallel: Option<u32>,
    beside_mock: bool,
    notes: &mut Vec<Finding>,
) -> Result<Vec<usize>, PlanError> {
    if let Some(wrong) = spec.cores.iter().find(|core| !allowed.contains(core)) {
        let list: Vec<String> = allowed.iter().map(usize::to_string).collect();
        return Err(PlanError::value(
            "--cores",
            format!("has core {wrong}, which this process may not use (allowed: {})", list.join(",")),
        ));
    }
    if let Some(twice) = spec.cores.iter().enumerate().find(|(place, core)| spec.cores[..*place].contains(core)) {
        return Err(PlanError::value("--cores", format!("has core {} twice; list each core once", twice.1)));
    }
    if let Some(wrong) = spec.workers.filter(|workers| !(1..=MAX_WORKERS).contains(workers)) {
        return Err(PlanError::value("--workers", format!("must be between 1 and {MAX_WORKERS}, not {wrong}")));
    }
    let spare = if beside_mock { allowed.len().div_ceil(2) } else { 1 };
    let mut cores: Vec<usize> = match (spec.cores.as_slice(), allowed) {
        ([], []) => vec![0],
        ([], [only]) => vec![*only],
        ([], allowed) => allowed[spare.min(allowed.len() - 1)..].to_vec(),
        (given, _) => given.to_vec(),
    };
    if let Some(workers) = spec.workers {
        if spec.cores.is_empty() && workers > cores.len() && workers <= allowed.len() {
            cores = allowed[allowed.len() - workers..].to_vec();
        }
        if workers > cores.len() {
            notes.push(Finding::WorkersShareCores { workers, cores: cores.len() });
        }
        cores = cores.iter().copied().cycle().take(workers).collect();
    }
    cores.truncate(MAX_WORKERS);
    // A worker without a lane would only poll.
    if let Some(parallel) = parallel.map(|parallel| parallel as usize).filter(|parallel| *parallel < cores.len()) {
        if spec.workers.is_some() || !spec.cores.is_empty() {
            notes.push(Finding::WorkersLeftOut { parallel, workers: cores.len() });
        }
        cores.truncate(parallel);
    }
    Ok(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(spec: &Spec, allowed: &[usize], parallel: Option<u32>) -> (Vec<usize>, usize) {
        let mut notes = Vec::new();
        (cores(spec, allowed, parallel, false, &mut notes).unwrap(), notes.len())
    }

    #[test]
    fn one_core_is_left_alone_and_no_worker_is_idle() {
        let spec = Spec::default();
        assert_eq!(decide(&spec, &[0, 1, 2, 3], None), (vec![1, 2, 3], 0));
        assert_eq!(decide(&spec, &[5], Some(9)), (vec![5], 0));
        assert_eq!(decide(&spec, &[0, 1, 2, 3], Some(2)), (vec![1, 2], 0));
        assert_eq!(decide(&spec, &[], None), (vec![0], 0));
        assert_eq!(cores(&spec, &[0, 1, 2, 3], None, true, &mut Vec::new()), Ok(vec![2, 3]));
        assert_eq!(cores(&spec, &[0, 1], None, true, &mut Vec::new()), Ok(vec![1]));
    }

    #[test]
    fn workers_and_cores_are_followed() {
        let two = Spec { workers: Some(2), ..Spec::default() };
        assert_eq!(decide(&two, &[0, 1], None), (vec![0, 1], 0));
        assert_eq!(decide(&two, &[3], None), (vec![3, 3], 1));
        assert_eq!(decide(&two, &[0, 1], Some(1)), (vec![0], 1));
        let listed = Spec { cores: vec![3, 1], ..Spec::default() };
        assert_eq!(decide(&listed, &[0, 1, 2, 3], None), (vec![3, 1], 0));
    }

    #[test]
    fn impossible_workers_and_cores_are_refused() {
        let mut notes = Vec::new();
        let error =
            |spec: &Spec, notes: &mut Vec<Finding>| cores(spec, &[0, 1], None, false, notes).unwrap_err().to_string();
        assert!(error(&Spec { cores: vec![9], ..Spec::default() }, &mut notes).contains("allowed: 0,1"));
        assert!(error(&Spec { cores: vec![0, 1, 0], ..Spec::default() }, &mut notes).contains("core 0 twice"));
        assert!(error(&Spec { workers: Some(0), ..Spec::default() }, &mut notes).contains("--workers"));
    }
}
