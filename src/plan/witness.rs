//! `--witness`: a thread of its own that asks the server quietly beside the load.

use super::PlanError;
use crate::finding::Finding;
use crate::spec::Spec;
use crate::workload::Source;

/// More connections than this are no witness but a load.
const MAX_CONNECTIONS: u32 = 64;
/// A witness that adds more than this part to the load is told.
const NEGLIGIBLE: f64 = 0.1;

/// The witness of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessPlan {
    /// Requests in flight at most, each on a connection of its own.
    pub connections: u32,
    /// The core to pin to; `None`: wherever no worker is, which is where the collector runs.
    pub core: Option<usize>,
}

/// What `--witness` asks for beside workers on `cores`, of those `allowed`.
pub(super) fn plan(
    spec: &Spec,
    allowed: &[usize],
    cores: &[usize],
    parallel: Option<u32>,
    notes: &mut Vec<Finding>,
) -> Result<Option<WitnessPlan>, PlanError> {
    let connections = spec.witness;
    if connections == 0 {
        return Ok(None);
    }
    if connections > MAX_CONNECTIONS {
        return Err(PlanError::value("--witness", format!("must be at most {MAX_CONNECTIONS}, not {connections}")));
    }
    let spare: Vec<usize> = allowed.iter().copied().filter(|core| !cores.contains(core)).collect();
    let core = match spare.as_slice() {
        [] => {
            return Err(PlanError::conflict(
                "--witness needs a core that no worker has: lower --workers, or leave a core out of --cores",
            ));
        }
        [_] => None,
        [.., last] => Some(*last),
    };
    if let Some(parallel) = parallel.filter(|parallel| f64::from(connections) > NEGLIGIBLE * f64::from(*parallel)) {
        let most_in_flight = parallel.saturating_add(connections);
        notes.push(Finding::WitnessAddsLoad { connections, parallel, most_in_flight });
    }
    Ok(Some(WitnessPlan { connections, core }))
}

/// What a witness cannot do with its plain sockets.
pub(super) fn check(source: &Source, proxied: bool) -> Result<(), PlanError> {
    if source.is_conversations() {
        return Err(PlanError::conflict("--witness asks for single requests: leave it out with conversations"));
    }
    if proxied {
        return Err(PlanError::conflict("--witness goes straight to the server: leave it out with --proxy"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_witness_stays_off_the_workers_cores() {
        let spec = Spec { witness: 2, ..Spec::default() };
        let decide = |allowed: &[usize], cores: &[usize], parallel| {
            let mut notes = Vec::new();
            (plan(&spec, allowed, cores, parallel, &mut notes), notes.len())
        };
        let of = |core| Ok(Some(WitnessPlan { connections: 2, core }));
        assert_eq!(decide(&[0, 1, 2, 3], &[2, 3], Some(20)), (of(Some(1)), 0));
        assert_eq!(decide(&[0, 1], &[1], None), (of(None), 0));
        assert_eq!(decide(&[0, 1], &[1], Some(8)), (of(None), 1));
        assert!(decide(&[0], &[0], None).0.unwrap_err().to_string().contains("no worker has"));
        assert_eq!(plan(&Spec::default(), &[0], &[0], None, &mut Vec::new()), Ok(None));
        let crowd = Spec { witness: 65, ..Spec::default() };
        assert!(plan(&crowd, &[0, 1], &[1], None, &mut Vec::new()).unwrap_err().to_string().contains("at most 64"));
    }
}
