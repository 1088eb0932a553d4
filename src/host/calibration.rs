//! What was measured of this machine at one load: how exact the receive stamps are there, and what the client costs.
//!
//! A calibration is a plain value: `roofline::planned` measures one, a file keeps several, and a run takes
//! the one that fits along. Whether it fits is decided here, from values alone.

use serde::{Deserialize, Serialize};

use crate::finding::Misfit;

/// One calibration. Lengths are nanoseconds; `None` where nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Version of the program that measured.
    pub version: String,
    /// Seconds since the Unix epoch.
    pub measured_unix_s: i64,
    pub machine: Machine,
    pub load: LoadShape,
    pub requests: u64,
    pub events: u64,
    /// Output events per second at the planned load, and with the server sending as fast as it can.
    pub events_per_s: Option<f64>,
    pub sustained_events_per_s: Option<f64>,
    /// CPU time of the workers for each output event at the planned load.
    pub cpu_per_event_ns: Option<f64>,
    /// From the server's send to the arrival as recorded, of events that came alone in their read.
    pub stamp_error: Spread,
    /// From the arrival to the worker's look.
    pub receive_lag: Spread,
    pub send_lag: Spread,
    /// Share of the output events that shared a read with a later one.
    pub coalesced: Option<f64>,
    /// Share of the reads with the kernel's stamp.
    pub stamped: Option<f64>,
    /// What should be known beside the figures.
    pub notes: Vec<String>,
}

/// What makes one machine another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu_model: Option<String>,
    pub kernel: Option<String>,
    pub cores: usize,
}

/// The load that a calibration stands for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadShape {
    /// The cap on requests in flight; `None` in an open loop.
    pub parallel: Option<u32>,
    /// Requests per second; `None` without a schedule.
    pub rate_per_s: Option<f64>,
    /// Bytes of an output event on the wire; 0: as the mock writes them, about 190.
    pub event_bytes: u32,
    pub ttft_ns: u64,
    pub itl_ns: u64,
    pub tokens: u32,
    pub workers: u32,
}

/// A distribution, nanoseconds; all 0 when `count` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// A calibration older than this says little of a machine that has been updated and re-cabled since.
const MAX_AGE_S: i64 = 30 * 24 * 3600;
/// A run may be heavier than what was calibrated by this factor.
const HEAVIER: f64 = 1.25;

impl Spread {
    /// The spread of these values.
    pub fn of(mut values: Vec<u64>) -> Spread {
        values.sort_unstable();
        let Some(&max) = values.last() else { return Spread::default() };
        let at = |per_mille: usize| values[(values.len() * per_mille / 1000).min(values.len() - 1)];
        Spread { count: values.len() as u64, p50: at(500), p99: at(990), p999: at(999), max }
    }
}

impl Calibration {
    /// Whether it is of this machine and young enough; else why not.
    pub fn fits_machine(&self, machine: &Machine, now_unix_s: i64) -> Result<(), Misfit> {
        let age_s = now_unix_s - self.measured_unix_s;
        if self.machine != *machine {
            return Err(Misfit::OtherMachine);
        }
        if age_s > MAX_AGE_S {
            return Err(Misfit::Old { days: age_s / (24 * 3600) });
        }
        Ok(())
    }

    /// Whether a run is no heavier than what was calibrated: a lighter load has smaller errors, so that the bound
    /// holds. What a run does not have (a cap, a rate) is judged by its events alone. Else why not.
    pub fn fits_load(&self, parallel: Option<u32>, rate_per_s: Option<f64>, events_per_s: f64) -> Result<(), Misfit> {
        let heavier = |run: f64, calibrated: f64| run > calibrated * HEAVIER;
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
    fn another_machine_and_an_old_one_do_not_fit() {
        let here = Machine { cores: 2, ..Machine::default() };
        assert_eq!(calibration().fits_machine(&here, 1_000_000 + 86_400), Ok(()));
        assert!(calibration().fits_machine(&here, 1_000_000 + 31 * 86_400) == Err(Misfit::Old { days: 31 }));
        let there = Machine { cores: 4, ..Machine::default() };
        assert_eq!(calibration().fits_machine(&there, 1_000_000), Err(Misfit::OtherMachine));
    }

    #[test]
    fn only_a_heavier_run_does_not_fit() {
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
    fn a_spread_is_by_rank() {
        let spread = Spread::of((1..=1000).rev().collect());
        assert_eq!((spread.count, spread.p50, spread.p99, spread.p999, spread.max), (1000, 501, 991, 1000, 1000));
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
