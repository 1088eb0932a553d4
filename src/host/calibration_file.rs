//! The file that stores calibrations, and the choice of one for a run.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::calibration::{Calibration, Machine};
use super::facts::Facts;
use crate::files::read_value_text;
use crate::finding::Misfit;

/// Maximum number of calibrations in a file; the oldest are removed.
const MAX_CALIBRATIONS: usize = 50;

/// The calibration chosen for a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Choice {
    /// There are no calibrations.
    Nothing,
    /// A calibration of this machine: the newest that fits the load, else the newest of all. The report states why it
    /// does not fit.
    Found(Box<Calibration>),
    /// There are calibrations, but none is usable, with the reason for the newest one.
    Refused(Misfit),
}

impl Machine {
    /// The machine that this process runs on.
    pub fn here() -> Machine {
        let facts = Facts::collect();
        Machine { cpu_model: facts.cpu_model, kernel: facts.kernel, cores: facts.cores }
    }
}

/// The default path of the file, in the user's cache folder. `variable` reads the environment. `None` without a home
/// folder.
pub(crate) fn default_path(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let named = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?;
    Some(cache.join("ringmark").join("calibrations.json"))
}

/// Reads all calibrations of a file, the newest last; none if the file does not exist.
pub fn read(path: &Path) -> Result<Vec<Calibration>, String> {
    let text = match read_value_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    serde_json::from_str(&text).map_err(|error| format!("{} holds no calibrations: {error}", path.display()))
}

/// Adds a calibration to a file, which is created if necessary. Replaces the calibration of the same machine and load.
pub fn add(path: &Path, calibration: &Calibration) -> Result<(), String> {
    let mut all = read(path)?;
    all.retain(|other| other.machine != calibration.machine || other.load != calibration.load);
    all.push(calibration.clone());
    all.drain(..all.len().saturating_sub(MAX_CALIBRATIONS));
    let text = serde_json::to_string_pretty(&all).map_err(|error| error.to_string())?;
    let fail = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    // Renaming is atomic, so that the file is never incomplete.
    let temporary = path.with_extension("json.new");
    std::fs::write(&temporary, text + "\n").and_then(|()| std::fs::rename(&temporary, path)).map_err(fail)
}

/// Chooses the calibration for a run with this limit of requests in flight and this rate.
pub(crate) fn choose(
    all: &[Calibration],
    machine: &Machine,
    now_unix_s: i64,
    parallel: Option<u32>,
    rate_per_s: Option<f64>,
) -> Choice {
    let usable = |calibration: &&Calibration| calibration.fits_machine(machine, now_unix_s).is_ok();
    let newest_first = || all.iter().rev().filter(usable);
    // The event rate is known only after the run.
    let fitting = newest_first().find(|calibration| calibration.fits_load(parallel, rate_per_s, 0.0).is_ok());
    let newest = || all.last().and_then(|newest| newest.fits_machine(machine, now_unix_s).err());
    match fitting.or_else(|| newest_first().next()) {
        Some(found) => Choice::Found(Box::new(found.clone())),
        None => newest().map_or(Choice::Nothing, Choice::Refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::calibration::LoadShape;

    fn calibration(parallel: u32, cores: usize, measured_unix_s: i64) -> Calibration {
        Calibration {
            measured_unix_s,
            machine: Machine { cores, ..Machine::default() },
            load: LoadShape { parallel: Some(parallel), ..LoadShape::default() },
            ..Calibration::default()
        }
    }

    #[test]
    fn file_has_one_calibration_per_load_with_the_newest_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/calibrations.json");
        assert_eq!(read(&path), Ok(Vec::new()));
        for added in [calibration(1, 2, 10), calibration(8, 2, 20), calibration(1, 2, 30)] {
            add(&path, &added).unwrap();
        }
        assert_eq!(read(&path), Ok(vec![calibration(8, 2, 20), calibration(1, 2, 30)]));
        std::fs::write(&path, "{").unwrap();
        assert!(read(&path).unwrap_err().contains("holds no calibrations"));
        assert!(add(&path, &calibration(1, 2, 3)).is_err(), "an invalid file is not overwritten");
    }

    #[test]
    fn newest_fitting_calibration_of_this_machine_is_chosen() {
        let here = Machine { cores: 2, ..Machine::default() };
        let all = [calibration(100, 2, 10), calibration(8, 2, 20), calibration(500, 4, 30)];
        let chosen = |parallel| choose(&all, &here, 40, Some(parallel), None);
        assert_eq!(chosen(50), Choice::Found(Box::new(calibration(100, 2, 10))));
        assert_eq!(chosen(8), Choice::Found(Box::new(calibration(8, 2, 20))));
        assert_eq!(
            chosen(400),
            Choice::Found(Box::new(calibration(8, 2, 20))),
            "the newest one, although it does not fit"
        );
        assert!(matches!(choose(&all[2..], &here, 40, Some(1), None), Choice::Refused(Misfit::OtherMachine)));
        assert_eq!(choose(&[], &here, 40, Some(1), None), Choice::Nothing);
    }

    #[test]
    fn default_path_follows_the_environment() {
        let path = |set: &[(&str, &str)]| {
            default_path(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(path(&[("HOME", "/h")]), Some("/h/.cache/ringmark/calibrations.json".into()));
        assert_eq!(path(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), Some("/c/ringmark/calibrations.json".into()));
        assert_eq!(path(&[("HOME", "")]), None);
    }
}
