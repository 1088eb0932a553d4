//! A calibration: the accuracy of receive timestamps and the cost of the client, measured on one machine at one load.
//!
//! `roofline::calibrate` measures a calibration, a file stores several, and a run uses the one that fits its load.

use serde::{Deserialize, Serialize};

use crate::finding::Misfit;

/// A calibration. Durations are nanoseconds; `None` if not measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Version of ringmark.
    pub version: String,
    /// Seconds since the Unix epoch.
    pub measured_unix_s: i64,
    pub machine: Machine,
    pub load: LoadShape,
    pub requests: u64,
    pub events: u64,
    /// Output events per second at the planned load, and with a server that sends as fast as it can.
    pub events_per_s: Option<f64>,
    pub sustained_events_per_s: Option<f64>,
    /// CPU time of the workers per output event at the planned load.
    pub cpu_per_event_ns: Option<f64>,
    /// From the server's send to the recorded arrival, of events that did not share their read with a later event.
    pub stamp_error: Spread,
    /// From the arrival to its processing by the worker.
    pub receive_lag: Spread,
    pub send_lag: Spread,
    /// Fraction of the output events that shared a read with a later one.
    pub coalesced: Option<f64>,
    /// Fraction of the reads with a kernel timestamp.
    pub stamped: Option<f64>,
    /// Findings about the calibration, as text.
    pub notes: Vec<String>,
}

/// Identifies a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu_model: Option<String>,
    pub kernel: Option<String>,
    pub cores: usize,
}

/// The load of a calibration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadShape {
    /// Limit of requests in flight; `None` in an open loop.
    pub parallel: Option<u32>,
    /// Requests per second; `None` without a schedule.
    pub rate_per_s: Option<f64>,
    /// Bytes of an output event on the wire; 0: the mock's default of about 190.
    pub event_bytes: u32,
    pub ttft_ns: u64,
    pub itl_ns: u64,
    pub tokens: u32,
    pub workers: u32,
}

/// A distribution, nanoseconds; all 0 if `count` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// Maximum age of a calibration. The software and network of a machine change over time.
const MAX_AGE_S: i64 = 30 * 24 * 3600;
/// A run may exceed the calibrated load by this factor.
const LOAD_TOLERANCE: f64 = 1.25;

impl Spread {
    /// Computes the distribution of `values`.
    pub(crate) fn from_values(mut values: Vec<u64>) -> Spread {
        values.sort_unstable();
        let Some(&max) = values.last() else { return Spread::default() };
        let at = |per_mille: usize| values[(values.len() * per_mille / 1000).min(values.len() - 1)];
        Spread { count: values.len() as u64, p50: at(500), p99: at(990), p999: at(999), max }
    }
}

impl Calibration {
    /// Checks that it is of this machine and recent enough.
    ///
    /// # Errors
    /// The reason why it cannot be used.
    pub(crate) fn fits_machine(&self, machine: &Machine, now_unix_s: i64) -> Result<(), Misfit> {
        let age_s = now_unix_s - self.measured_unix_s;
        if self.machine != *machine {
            return Err(Misfit::OtherMachine);
        }
        if age_s > MAX_AGE_S {
            return Err(Misfit::Old { days: age_s / (24 * 3600) });
        }
        Ok(())
    }

    /// Checks that a run's load does not exceed the calibrated load. A lower load has smaller errors, so the bound of
    /// the calibration holds. A limit or rate that only one of the two has is not compared; the event rate always is.
    ///
    /// # Errors
    /// The reason why it cannot be used.
    pub(crate) fn fits_load(
        &self,
        parallel: Option<u32>,
        rate_per_s: Option<f64>,
        events_per_s: f64,
    ) -> Result<(), Misfit> {
        let heavier = |run: f64, calibrated: f64| run > calibrated * LOAD_TOLERANCE;
        let load = &self.load;
        if let (Some(run), Some(calibrated)) = (parallel, load.parallel)
            && heavier(f64::from(run), f64::from(calibrated))
        {
            return Err(Misfit::Parallel { calibrated, run });
        }
        if let (Some(run), Some(calibrated)) = (rate_per_s, load.rate_per_s)
            && heavier(run, calibrated)
        {
            return Err(Misfit::Rate { calibrated_per_s: calibrated, run_per_s: run });
        }
        let calibrated = self.events_per_s.unwrap_or(0.0);
        if heavier(events_per_s, calibrated) {
            return Err(Misfit::Events { calibrated_per_s: calibrated, run_per_s: events_per_s });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration() -> Calibration {
        Calibration {
            measured_unix_s: 1_000_000,
            machine: Machine { cores: 2, ..Machine::default() },
            load: LoadShape { parallel: Some(100), ..LoadShape::default() },
            events_per_s: Some(5_000.0),
            ..Calibration::default()
        }
    }

    #[test]
    fn old_calibrations_and_other_machines_do_not_fit() {
        let here = Machine { cores: 2, ..Machine::default() };
        assert_eq!(calibration().fits_machine(&here, 1_000_000 + 86_400), Ok(()));
        assert!(calibration().fits_machine(&here, 1_000_000 + 31 * 86_400) == Err(Misfit::Old { days: 31 }));
        let there = Machine { cores: 4, ..Machine::default() };
        assert_eq!(calibration().fits_machine(&there, 1_000_000), Err(Misfit::OtherMachine));
    }

    #[test]
    fn only_higher_loads_do_not_fit() {
        assert_eq!(calibration().fits_load(Some(10), None, 500.0), Ok(()));
        assert_eq!(calibration().fits_load(Some(120), Some(7.0), 6_000.0), Ok(()));
        assert_eq!(calibration().fits_load(None, Some(7.0), 6_000.0), Ok(()));
        assert_eq!(
            calibration().fits_load(Some(200), None, 500.0),
            Err(Misfit::Parallel { calibrated: 100, run: 200 })
        );
        assert!(matches!(
            calibration().fits_load(Some(10), None, 7_000.0),
            Err(Misfit::Events { run_per_s: 7_000.0, .. })
        ));
    }

    #[test]
    fn spread_uses_ranks() {
        let spread = Spread::from_values((1..=1000).rev().collect());
        assert_eq!((spread.count, spread.p50, spread.p99, spread.p999, spread.max), (1000, 501, 991, 1000, 1000));
        assert_eq!(Spread::from_values(Vec::new()), Spread::default());
    }
}
