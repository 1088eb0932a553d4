//! The file that keeps calibrations, and which of them a run takes along.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::calibration::{Calibration, Machine};
use super::facts::Facts;
use crate::finding::Misfit;

/// Calibrations kept in one file; the oldest go first.
const KEPT: usize = 50;

/// What a run finds.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// Nobody has calibrated.
    Nothing,
    /// Of this machine. It fits the load where any does; else it is the newest, and the figures say why it does not.
    Found(Box<Calibration>),
    /// There are some, but none that may be used, and why not the newest of them.
    Refused(Misfit),
}

impl Machine {
    /// This machine.
    pub fn here() -> Machine {
        let facts = Facts::look();
        Machine { cpu_model: facts.cpu_model, kernel: facts.kernel, cores: facts.cores }
    }
}

/// Where calibrations are kept when no file is named: in the user's cache. `None` without a home.
pub fn default_path(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let named = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?;
    Some(cache.join("ringmark").join("calibrations.json"))
}

/// All calibrations of a file, the newest last; none when there is no such file.
pub fn read(path: &Path) -> Result<Vec<Calibration>, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    serde_json::from_str(&text).map_err(|error| format!("{} holds no calibrations: {error}", path.display()))
}

/// Adds a calibration to a file, which is made when it is not there. It takes the place of one of the same machine
/// and load.
pub fn keep(path: &Path, calibration: &Calibration) -> Result<(), String> {
    let mut all = read(path)?;
    all.retain(|other| other.machine != calibration.machine || other.load != calibration.load);
    all.push(calibration.clone());
    all.drain(..all.len().saturating_sub(KEPT));
    let text = serde_json::to_string_pretty(&all).map_err(|error| error.to_string())?;
    let fail = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    // Whole or not at all, whatever happens meanwhile.
    let fresh = path.with_extension("json.new");
    std::fs::write(&fresh, text + "\n").and_then(|()| std::fs::rename(&fresh, path)).map_err(fail)
}

/// The calibration for a run with this cap and rate.
pub fn choose(
    all: &[Calibration],
    machine: &Machine,
    now_unix_s: i64,
    parallel: Option<u32>,
    rate_per_s: Option<f64>,
) -> Choice {
    let usable = |calibration: &&Calibration| calibration.fits_machine(machine, now_unix_s).is_ok();
    let newest_first = || all.iter().rev().filter(usable);
    // How many events will come is known only afterwards.
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

    fn of(parallel: u32, cores: usize, measured_unix_s: i64) -> Calibration {
        Calibration {
            measured_unix_s,
            machine: Machine { cores, ..Machine::default() },
            load: LoadShape { parallel: Some(parallel), ..LoadShape::default() },
            ..Calibration::default()
        }
    }

    #[test]
    fn a_file_keeps_one_of_each_load_and_the_newest_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/calibrations.json");
        assert_eq!(read(&path), Ok(Vec::new()));
        for calibration in [of(1, 2, 10), of(8, 2, 20), of(1, 2, 30)] {
            keep(&path, &calibration).unwrap();
        }
        assert_eq!(read(&path), Ok(vec![of(8, 2, 20), of(1, 2, 30)]));
        std::fs::write(&path, "{").unwrap();
        assert!(read(&path).unwrap_err().contains("holds no calibrations"));
        assert!(keep(&path, &of(1, 2, 3)).is_err(), "what cannot be read is not overwritten");
    }

    #[test]
    fn the_newest_that_fits_is_taken_and_strangers_are_refused() {
        let here = Machine { cores: 2, ..Machine::default() };
        let all = [of(100, 2, 10), of(8, 2, 20), of(500, 4, 30)];
        let chosen = |parallel| choose(&all, &here, 40, Some(parallel), None);
        assert_eq!(chosen(50), Choice::Found(Box::new(of(100, 2, 10))));
        assert_eq!(chosen(8), Choice::Found(Box::new(of(8, 2, 20))));
        assert_eq!(chosen(400), Choice::Found(Box::new(of(8, 2, 20))), "the figures will say that it does not fit");
        assert!(matches!(choose(&all[2..], &here, 40, Some(1), None), Choice::Refused(Misfit::OtherMachine)));
        assert_eq!(choose(&[], &here, 40, Some(1), None), Choice::Nothing);
    }

    #[test]
    fn the_cache_is_found_by_the_usual_names() {
        let path = |set: &[(&str, &str)]| {
            default_path(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(path(&[("HOME", "/h")]), Some("/h/.cache/ringmark/calibrations.json".into()));
        assert_eq!(path(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c")]), Some("/c/ringmark/calibrations.json".into()));
        assert_eq!(path(&[("HOME", "")]), None);
    }
}
