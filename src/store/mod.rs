//! The database of a run: one SQLite file for SQL users, from which every table of a report can be computed again.
//!
//! The file is created before the run and written in transactions during the run, in SQLite's write-ahead mode: after
//! `kill -9`, the file and its `-wal` file hold every committed batch. A run that ends normally leaves a single file.
//!
//! [`schema`] has the tables, [`columns`] the columns of the table `request`.

pub mod answers;
pub mod collector;
pub mod columns;
mod error;
pub mod evalscope;
mod foreign;
mod insert;
pub mod live;
mod pickle;
pub mod reader;
pub mod schema;
mod values;
pub mod writer;

pub use error::StoreError;
pub use reader::{Reader, StoredRun};
pub use writer::{RunStart, Writer};
