//! The databases that an argument of `report` and `compare` names.

use std::path::{Path, PathBuf};

use super::terminal::print_error;
use crate::report::{Measured, measured};
use crate::run::DATABASE;

/// The runs at `path`. In a folder with runs, files of that name that are not ours are skipped, with a line each.
pub(super) fn runs(path: &Path) -> Result<Vec<(PathBuf, Measured)>, String> {
    let (mut found, mut foreign) = (Vec::new(), Vec::new());
    for file in databases(path)? {
        match measured(&file) {
            Ok(run) => found.push((file, run)),
            Err(error) if error.is_foreign() => foreign.push(error.to_string()),
            Err(error) => return Err(error.to_string()),
        }
    }
    match foreign.first() {
        Some(error) if found.is_empty() => Err(error.clone()),
        _ => {
            foreign.iter().for_each(|error| print_error(&format!("skipped: {error}\n")));
            Ok(found)
        }
    }
}

/// The databases at `path`: the file itself, or all `benchmark_data.db` below the folder, sorted by path.
pub(super) fn databases(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder);
        for entry in entries.map_err(|error| format!("cannot read {}: {error}", folder.display()))?.flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                _ if entry.file_name() == DATABASE => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    let none = || format!("{} contains no run: there is no benchmark_data.db in it or its subfolders", path.display());
    if found.is_empty() { Err(none()) } else { Ok(found) }
}
