//! Files in the formats of other tools, made from the databases of a call.

mod aiperf;
mod csv;
mod evalscope;
mod llmd;
mod unix_time;
mod vllm;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::merge::MergeError;
use super::source::Source;
use super::{Measured, measured};
use crate::files;
use crate::plan::export::{Export, Format};
use crate::record::Phase;
use crate::store::{StoreError, evalscope as evalscope_db};

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Merge(#[from] MergeError),
    #[error("cannot write {}: {cause}", path.display())]
    File { path: PathBuf, cause: std::io::Error },
}

/// Writes all exports and returns their paths. The CSV has a row for each run, sorted by load. The other formats
/// contain one run; with several runs each gets a file of its own, with the run's folder in its name before the
/// extension.
pub fn write_all(exports: &[Export], databases: &[PathBuf]) -> Result<Vec<PathBuf>, ExportError> {
    write_runs(exports, databases, &|number| Ok(measured(&databases[number])?))
}

/// Writes all exports of runs that `read` returns by their number. `names` has a database of each, after whose folder its
/// files are named.
pub(crate) fn write_runs(
    exports: &[Export],
    names: &[PathBuf],
    read: &dyn Fn(usize) -> Result<Measured, ExportError>,
) -> Result<Vec<PathBuf>, ExportError> {
    let mut written = Vec::new();
    for export in exports {
        if matches!(export.format, Format::LmdeployCsv | Format::LmdeployApiCsv) {
            let summaries: Result<Vec<_>, _> =
                (0..names.len()).map(|number| read(number).map(|run| run.summary)).collect();
            let summaries = summaries?;
            let by_load = super::advice::by_load(&summaries.iter().collect::<Vec<_>>());
            let text = match export.format {
                Format::LmdeployApiCsv => csv::lmdeploy_api(&by_load),
                _ => csv::lmdeploy(&by_load),
            };
            write(&export.path, text.as_bytes())?;
            written.push(export.path.clone());
            continue;
        }
        if export.format == Format::Evalscope {
            written.extend(evalscope::write_folder(names.len(), read, &export.path)?);
            continue;
        }
        for (number, name) in names.iter().enumerate() {
            let path = path_of_run(&export.path, name, number, names.len());
            write_one(export.format, &read(number)?, &path)?;
            written.push(path);
        }
    }
    Ok(written)
}

fn write_one(format: Format, run: &Measured, path: &Path) -> Result<(), ExportError> {
    let text = match format {
        Format::LmdeployCsv => csv::lmdeploy(&[&run.summary]),
        Format::LmdeployApiCsv => csv::lmdeploy_api(&[&run.summary]),
        Format::Vllm => vllm::json(run)?,
        Format::Aiperf => aiperf::lines(run)?,
        Format::Llmd => llmd::json(run),
        Format::Evalscope => return evalscope::write_run(run, path),
        Format::EvalscopeDb => {
            make_folder(path)?;
            return Ok(evalscope_db::export(&parts(run), path)?);
        }
    };
    write(path, text.as_bytes())
}

/// The databases of a run, for the databases of evalscope.
fn parts(run: &Measured) -> Vec<evalscope_db::Part> {
    let offset_ns = run.run.clock.offset_ns();
    let part = |source: &Source| evalscope_db::Part {
        path: source.path.clone(),
        unix_offset_ns: offset_ns.wrapping_add(source.shift_ns),
        range: source.range(Phase::Measured),
    };
    run.sources.iter().map(part).collect()
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    make_folder(path)?;
    files::write_named(path, bytes).map_err(|cause| ExportError::File { path: path.to_path_buf(), cause })
}

fn make_folder(path: &Path) -> Result<(), ExportError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let made = folder.map_or(Ok(()), std::fs::create_dir_all);
    made.map_err(|cause| ExportError::File { path: path.to_path_buf(), cause })
}

/// `out.json` of the run in `parallel_8_number_100` becomes `out.parallel_8_number_100.json`.
fn path_of_run(path: &Path, database: &Path, number: usize, count: usize) -> PathBuf {
    if count == 1 {
        return path.to_path_buf();
    }
    let run = database.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let mut name = path.file_stem().map_or_else(OsString::new, OsString::from);
    name.push(format!(".{}", run.unwrap_or_else(|| format!("run_{}", number + 1))));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_runs_get_several_files() {
        let database = Path::new("o/parallel_8_number_9/benchmark_data.db");
        assert_eq!(path_of_run(Path::new("a/x.json"), database, 0, 2), Path::new("a/x.parallel_8_number_9.json"));
        assert_eq!(path_of_run(Path::new("a/x.json"), database, 0, 1), Path::new("a/x.json"));
        assert_eq!(path_of_run(Path::new("x"), Path::new("a.db"), 1, 2), Path::new("x.run_2"));
    }
}
