//! Attaches stored calibrations of this machine to plans.

#![expect(clippy::disallowed_methods, reason = "a calibration expires")]

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::finding::Finding;
use crate::host::calibration::Machine;
use crate::host::calibration_file::{self, Choice};
use crate::plan::Plan;
use crate::spec::Spec;

/// Value of `--calibration` that disables calibrations.
const NONE: &str = "none";

/// Attaches the matching calibration to each plan. An unreadable file is an error if `--calibration` names it; the
/// default file in the user's cache only gives a note.
pub(crate) fn attach(spec: &Spec, plans: &mut [Plan]) -> Result<(), String> {
    let named = spec.client.calibration.as_deref();
    if named == Some(Path::new(NONE)) {
        return Ok(());
    }
    let Some(path) = named.map(Path::to_path_buf).or_else(default_path) else { return Ok(()) };
    let all = match calibration_file::read(&path) {
        Ok(all) if all.is_empty() && named.is_some() => {
            return Err(format!(
                "--calibration {}: the file has no calibration; create one with 'ringmark rig --calibrate --out {}'",
                path.display(),
                path.display()
            ));
        }
        Ok(all) => all,
        Err(error) if named.is_some() => return Err(format!("--calibration: {error}")),
        Err(error) => {
            plans[0].notes.push(Finding::CalibrationsUnreadable { reason: error });
            return Ok(());
        }
    };
    let (machine, now) = (Machine::here(), Timestamp::now().as_second());
    for plan in plans.iter_mut() {
        let shards = f64::from(plan.share().count());
        let rate = plan.load.schedule().map(|schedule| schedule.rate_per_s / shards);
        match calibration_file::choose(&all, &machine, now, plan.slots(), rate) {
            Choice::Nothing => {}
            Choice::Found(calibration) => plan.calibration = Some(*calibration),
            Choice::Refused(why) => {
                plan.notes.push(Finding::CalibrationNotUsed { path: path.display().to_string(), why });
            }
        }
    }
    Ok(())
}

pub(crate) fn default_path() -> Option<PathBuf> {
    calibration_file::default_path(|name| std::env::var_os(name))
}
