//! Flags of the load generator: workers, cores, source addresses, calibration, witness.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::values::{self, Cores};
use crate::finding::Finding;
use crate::host::topology::CoreOrder;
use crate::plan::{PlanError, WitnessPlan};
use crate::workload::Source;

const HEADING: &str = "Client";
/// Display order of rarely used flags, after all others.
const LAST: usize = 999;
/// Maximum number of workers; a worker number must fit into a record.
const MAX_WORKERS: usize = 1024;
/// Maximum number of witness connections; more would be a significant load.
const MAX_CONNECTIONS: u32 = 64;
/// A witness that adds more than this fraction to the load gives a finding.
const NEGLIGIBLE: f64 = 0.1;

/// Flags of the load generator.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClientSpec {
    /// Worker threads, each pinned to a core [default: one for each physical core except the first, within the CPU quota of
    /// a container, at most --parallel]
    #[arg(long, value_name = "N", value_parser = values::count::<usize>, help_heading = HEADING)]
    pub workers: Option<usize>,
    /// CPU cores to pin the workers to, for example 2,3 or 4-7
    #[arg(long, value_name = "LIST", num_args = 1.., value_parser = values::cores, help_heading = HEADING)]
    #[serde(serialize_with = "as_numbers")]
    pub cores: Vec<Cores>,
    /// Poll sockets in a busy loop: reduces send lag, uses 100 % of each worker's core
    #[arg(long, help_heading = HEADING)]
    pub spin: bool,
    /// Calibration file from 'ringmark rig --calibrate', or none to use no calibration [default: the file in the user's
    /// cache directory]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub calibration: Option<PathBuf>,
    /// Run a witness: a separate thread with N connections on a core without workers. Its latencies are compared with
    /// those of the load and are not part of the results; 0 disables it
    #[arg(long, value_name = "N", default_value = "0", value_parser = values::count_or_zero::<u32>, help_heading = HEADING)]
    pub witness: u32,
    /// Closed loop: do not open connections in advance, so that first requests include the connection setup
    #[arg(long, display_order = LAST, help_heading = HEADING)]
    pub cold: bool,
    /// Local IP addresses to connect from, used in rotation [default: chosen by the kernel; on loopback, as many as needed]
    #[arg(long, value_name = "IP", num_args = 1.., help_heading = HEADING)]
    pub source_address: Vec<IpAddr>,
    /// Receive with epoll even if io_uring is available
    #[arg(long, hide = true, action = clap::ArgAction::SetTrue)]
    #[serde(skip)]
    pub force_fallback: bool,
    /// Flags that concern evalscope's own implementation.
    #[command(flatten)]
    #[serde(skip)]
    pub tuning: EvalscopeTuning,
}

/// Flags that concern evalscope's own implementation. They are accepted, so that its commands run, and a Note says that
/// they have no effect.
#[derive(clap::Args, Clone, Debug, Default, PartialEq)]
pub struct EvalscopeTuning {
    #[arg(long, value_name = "NAME", hide = true)]
    pub alias: Option<String>,
    #[arg(long, value_name = "N", hide = true)]
    pub num_workers: Option<String>,
    #[arg(long, value_name = "N", hide = true)]
    pub db_commit_interval: Option<String>,
    #[arg(long, value_name = "N", hide = true)]
    pub queue_size_multiplier: Option<String>,
    #[arg(long, value_name = "N", hide = true)]
    pub in_flight_task_multiplier: Option<String>,
}

impl EvalscopeTuning {
    /// The finding about flags without effect.
    pub(super) fn note(&self) -> Option<Finding> {
        let flags = [
            (&self.alias, "--alias"),
            (&self.num_workers, "--num-workers"),
            (&self.db_commit_interval, "--db-commit-interval"),
            (&self.queue_size_multiplier, "--queue-size-multiplier"),
            (&self.in_flight_task_multiplier, "--in-flight-task-multiplier"),
        ];
        let flags: Vec<String> =
            flags.into_iter().filter(|(given, _)| given.is_some()).map(|(_, flag)| flag.to_string()).collect();
        (!flags.is_empty()).then_some(Finding::FlagsWithoutEffect { flags })
    }
}

impl ClientSpec {
    /// The cores of the workers if no flag chooses them.
    pub(crate) fn default_worker_cores(order: &CoreOrder, quota: Option<f64>) -> Vec<usize> {
        let default = ClientSpec::default();
        default.core_of_each_worker((order, quota), None, false, &mut Vec::new()).unwrap_or_default()
    }

    /// The core of each worker. The default is a hardware thread of each physical core except the first, which is reserved
    /// for the kernel and the collector. If the target is the built-in server, half of the cores are reserved for it. A CPU
    /// quota of `quota` cores counts as so many cores.
    pub(super) fn core_of_each_worker(
        &self,
        (order, quota): (&CoreOrder, Option<f64>),
        parallel: Option<u32>,
        beside_mock: bool,
        notes: &mut Vec<Finding>,
    ) -> Result<Vec<usize>, PlanError> {
        let CoreOrder { physical, siblings } = order;
        let mut allowed = [physical.as_slice(), siblings].concat();
        allowed.sort_unstable();
        let given: Vec<usize> = self.cores.iter().flat_map(|cores| cores.0.iter().copied()).collect();
        if let Some(wrong) = given.iter().find(|core| !allowed.contains(core)) {
            let list: Vec<String> = allowed.iter().map(usize::to_string).collect();
            return Err(PlanError::value(
                "--cores",
                format!("has core {wrong}, which is not available to this process (allowed: {})", list.join(",")),
            ));
        }
        if let Some(twice) = given.iter().enumerate().find(|(place, core)| given[..*place].contains(core)) {
            return Err(PlanError::value("--cores", format!("has core {} twice; list each core once", twice.1)));
        }
        if let Some(wrong) = self.workers.filter(|workers| !(1..=MAX_WORKERS).contains(workers)) {
            return Err(PlanError::value("--workers", format!("must be between 1 and {MAX_WORKERS}, not {wrong}")));
        }
        let spare_of = |cores: usize| if beside_mock { cores.div_ceil(2) } else { 1 };
        let spare = spare_of(physical.len()).min(physical.len().saturating_sub(1));
        let (reserved, free) = physical.split_at(spare);
        let mut cores: Vec<usize> = match (given.as_slice(), free) {
            ([], []) => vec![0],
            ([], free) => free.to_vec(),
            (listed, _) => listed.to_vec(),
        };
        if let Some(workers) = self.workers {
            if given.is_empty() && workers > cores.len() && workers <= allowed.len() {
                cores = [free, siblings, reserved].concat();
                cores.truncate(workers);
                cores.sort_unstable();
            }
            if workers > cores.len() {
                notes.push(Finding::WorkersShareCores { workers, cores: cores.len() });
            }
            cores = cores.iter().copied().cycle().take(workers).collect();
        }
        cores.truncate(MAX_WORKERS);
        let limit = quota.map(|quota| ((quota as usize).saturating_sub(spare_of(quota as usize)).max(1), quota));
        let over_quota = limit.filter(|(workers, _)| *workers < cores.len());
        let is_explicit = self.workers.is_some() || !given.is_empty();
        if let Some((workers, _)) = over_quota.filter(|_| !is_explicit) {
            cores.truncate(workers);
        }
        // A worker without a slot would have no requests.
        if let Some(parallel) = parallel.map(|parallel| parallel as usize).filter(|parallel| *parallel < cores.len()) {
            if is_explicit {
                notes.push(Finding::WorkersLeftOut { parallel, workers: cores.len() });
            }
            cores.truncate(parallel);
        }
        let workers = cores.len();
        match over_quota {
            // More would have been used without the quota.
            Some((most, quota)) if !is_explicit && parallel.is_none_or(|parallel| parallel as usize > most) => {
                notes.push(Finding::CpuQuota { cores: quota, workers, given: false });
            }
            Some((_, quota)) if is_explicit && workers as f64 > quota => {
                notes.push(Finding::CpuQuota { cores: quota, workers, given: true });
            }
            _ => {}
        }
        Ok(cores)
    }

    /// The plan of `--witness`. The workers run on `cores`, a subset of `allowed`.
    pub(super) fn witness_plan(
        &self,
        allowed: &[usize],
        cores: &[usize],
        parallel: Option<u32>,
        notes: &mut Vec<Finding>,
    ) -> Result<Option<WitnessPlan>, PlanError> {
        let connections = self.witness;
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
                    "--witness needs a core that no worker has: reduce --workers, or remove a core from --cores",
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
}

/// Rejects conversations and proxies, which the witness does not support.
pub(super) fn check_witness(source: &Source, proxied: bool) -> Result<(), PlanError> {
    if source.is_conversations() {
        return Err(PlanError::conflict(
            "--witness does not support conversations: remove --witness or use another --dataset",
        ));
    }
    if proxied {
        return Err(PlanError::conflict("--witness does not support a proxy: remove --witness or --proxy"));
    }
    Ok(())
}

/// Serializes all core numbers as one flat list.
fn as_numbers<S: Serializer>(cores: &[Cores], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(cores.iter().flat_map(|cores| &cores.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_siblings(cores: &[usize]) -> CoreOrder {
        CoreOrder { physical: cores.to_vec(), siblings: Vec::new() }
    }

    fn decide(spec: &ClientSpec, allowed: &[usize], parallel: Option<u32>) -> (Vec<usize>, usize) {
        let mut notes = Vec::new();
        (
            spec.core_of_each_worker((&without_siblings(allowed), None), parallel, false, &mut notes).unwrap(),
            notes.len(),
        )
    }

    #[test]
    fn a_cpu_quota_limits_the_workers() {
        let decide = |spec: &ClientSpec, quota, parallel, beside_mock| {
            let mut notes = Vec::new();
            let all = without_siblings(&(0..64).collect::<Vec<usize>>());
            let cores = spec.core_of_each_worker((&all, Some(quota)), parallel, beside_mock, &mut notes).unwrap();
            (cores.len(), notes)
        };
        let quota = |cores, workers, given| vec![Finding::CpuQuota { cores, workers, given }];
        let default = ClientSpec::default();
        assert_eq!(decide(&default, 4.0, None, false), (3, quota(4.0, 3, false)));
        assert_eq!(decide(&default, 2.5, Some(100), false), (1, quota(2.5, 1, false)));
        assert_eq!(decide(&default, 0.5, Some(100), false), (1, quota(0.5, 1, false)));
        assert_eq!(decide(&default, 4.0, Some(100), true), (2, quota(4.0, 2, false)));
        // The quota changes nothing.
        assert_eq!(decide(&default, 4.0, Some(2), false), (2, Vec::new()));
        assert_eq!(decide(&default, 100.0, None, false), (63, Vec::new()));
        let eight = ClientSpec { workers: Some(8), ..ClientSpec::default() };
        assert_eq!(decide(&eight, 4.0, None, false), (8, quota(4.0, 8, true)));
        assert_eq!(decide(&eight, 8.0, None, false), (8, Vec::new()));
    }

    #[test]
    fn the_first_core_is_reserved_and_no_worker_is_idle() {
        let spec = ClientSpec::default();
        assert_eq!(decide(&spec, &[0, 1, 2, 3], None), (vec![1, 2, 3], 0));
        assert_eq!(decide(&spec, &[5], Some(9)), (vec![5], 0));
        assert_eq!(decide(&spec, &[0, 1, 2, 3], Some(2)), (vec![1, 2], 0));
        assert_eq!(decide(&spec, &[], None), (vec![0], 0));
        let beside_mock = |allowed: &[usize]| {
            spec.core_of_each_worker((&without_siblings(allowed), None), None, true, &mut Vec::new())
        };
        assert_eq!(beside_mock(&[0, 1, 2, 3]), Ok(vec![2, 3]));
        assert_eq!(beside_mock(&[0, 1]), Ok(vec![1]));
    }

    #[test]
    fn workers_share_a_physical_core_only_if_more_are_wanted() {
        let pairs = CoreOrder { physical: vec![0, 1, 2, 3], siblings: vec![5, 6, 7, 4] };
        let decide = |workers| {
            let spec = ClientSpec { workers, ..ClientSpec::default() };
            spec.core_of_each_worker((&pairs, None), None, false, &mut Vec::new()).unwrap()
        };
        assert_eq!(decide(None), [1, 2, 3]);
        assert_eq!(decide(Some(2)), [1, 2]);
        assert_eq!(decide(Some(5)), [1, 2, 3, 5, 6]);
        assert_eq!(decide(Some(8)), [0, 1, 2, 3, 4, 5, 6, 7]);
        let listed = ClientSpec { cores: vec![Cores(vec![4, 0])], ..ClientSpec::default() };
        assert_eq!(listed.core_of_each_worker((&pairs, None), None, false, &mut Vec::new()).unwrap(), [4, 0]);
    }

    #[test]
    fn explicit_workers_and_cores_are_used() {
        let two = ClientSpec { workers: Some(2), ..ClientSpec::default() };
        assert_eq!(decide(&two, &[0, 1], None), (vec![0, 1], 0));
        assert_eq!(decide(&two, &[3], None), (vec![3, 3], 1));
        assert_eq!(decide(&two, &[0, 1], Some(1)), (vec![0], 1));
        let listed = ClientSpec { cores: vec![Cores(vec![3]), Cores(vec![1])], ..ClientSpec::default() };
        assert_eq!(decide(&listed, &[0, 1, 2, 3], None), (vec![3, 1], 0));
    }

    #[test]
    fn invalid_workers_and_cores_are_rejected() {
        let mut notes = Vec::new();
        let error = |spec: &ClientSpec, notes: &mut Vec<Finding>| {
            spec.core_of_each_worker((&without_siblings(&[0, 1]), None), None, false, notes).unwrap_err().to_string()
        };
        assert!(
            error(&ClientSpec { cores: vec![Cores(vec![9])], ..ClientSpec::default() }, &mut notes)
                .contains("allowed: 0,1")
        );
        assert!(
            error(&ClientSpec { cores: vec![Cores(vec![0, 1, 0])], ..ClientSpec::default() }, &mut notes)
                .contains("core 0 twice")
        );
        assert!(error(&ClientSpec { workers: Some(0), ..ClientSpec::default() }, &mut notes).contains("--workers"));
    }

    #[test]
    fn the_witness_gets_a_core_without_workers() {
        let spec = ClientSpec { witness: 2, ..ClientSpec::default() };
        let decide = |allowed: &[usize], cores: &[usize], parallel| {
            let mut notes = Vec::new();
            (spec.witness_plan(allowed, cores, parallel, &mut notes), notes.len())
        };
        let plan = |core| Ok(Some(WitnessPlan { connections: 2, core }));
        assert_eq!(decide(&[0, 1, 2, 3], &[2, 3], Some(20)), (plan(Some(1)), 0));
        assert_eq!(decide(&[0, 1], &[1], None), (plan(None), 0));
        assert_eq!(decide(&[0, 1], &[1], Some(8)), (plan(None), 1));
        assert!(decide(&[0], &[0], None).0.unwrap_err().to_string().contains("no worker has"));
        assert_eq!(ClientSpec::default().witness_plan(&[0], &[0], None, &mut Vec::new()), Ok(None));
        let crowd = ClientSpec { witness: 65, ..ClientSpec::default() };
        assert!(
            crowd.witness_plan(&[0, 1], &[1], None, &mut Vec::new()).unwrap_err().to_string().contains("at most 64")
        );
    }
}
