//! The databases that an argument of `report` and `compare` names.

use std::path::{Path, PathBuf};

use crate::run::DATABASE;

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
