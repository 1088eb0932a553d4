//! `ringmark report`: the tables again, from stored runs.

use std::path::PathBuf;

use clap::Args;

use super::measure::screen_width;
use super::{Early, status};
use crate::report::{from_database, screen};

/// Flags of `ringmark report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Databases of runs (benchmark_data.db)
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// Prints the tables of each file.
pub fn show(args: &ReportArgs) -> Result<u8, Early> {
    let mut void = false;
    for file in &args.files {
        let summary = from_database(file).map_err(|error| Early::mistake(&error.to_string()))?;
        void |= summary.is_void();
        if args.files.len() > 1 {
            println!("{}", file.display());
        }
        print!("{}", screen::render(&summary, screen_width()));
    }
    Ok(if void { status::VOID } else { status::DONE })
}
