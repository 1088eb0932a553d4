//! `ringmark report`: the tables again, from stored runs.

use std::path::PathBuf;

use clap::Args;

/// Flags of `ringmark report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Databases of runs (benchmark_data.db)
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}
