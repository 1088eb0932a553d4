//! Why a workload cannot be built.

use std::path::PathBuf;

/// Why a workload cannot be built. Each message names the place and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    #[error("{flag}: cannot read {}: {cause}", path.display())]
    Unreadable { flag: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("{flag}: {} is empty; it needs at least one prompt", path.display())]
    Empty { flag: &'static str, path: PathBuf },
    #[error("{}, line {line}: {what}", path.display())]
    Line { path: PathBuf, line: u64, what: String },
    #[error("{flag}: {} {what}", path.display())]
    File { flag: &'static str, path: PathBuf, what: String },
    #[error(
        "--dataset-offset {offset} skips the whole dataset, which has {count} usable prompt{}: give a smaller offset",
        if *count == 1 { "" } else { "s" }
    )]
    AllSkipped { offset: u64, count: u64 },
    #[error("{0}")]
    Data(String),
    #[error(
        "none of the {read} prompts has a length between --min-prompt-length {min} and --max-prompt-length {max} \
         {unit}; the shortest has {shortest}, the longest {longest}"
    )]
    NothingLeft { read: u64, min: u64, max: String, shortest: u64, longest: u64, unit: &'static str },
}
