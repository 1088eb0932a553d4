//! Every number, as a pure function of the stored records.
//!
//! [`metric`] defines the figures of one request and [`samples`] collects them over a run in one pass; [`gap_sets`] reads
//! the gaps between its output events, of which there are as many as tokens, in further passes. Each analysis
//! takes only its inputs and returns its own result; [`summary`] assembles them. [`findings`] says how far the figures
//! can be trusted. [`analyze`] does all of it.

mod analysis;
pub mod client;
pub mod comparison;
pub mod concurrency;
pub mod confidence;
pub mod counts;
pub mod failure_texts;
pub mod findings;
pub mod gap_set;
pub mod gap_sets;
pub mod measurement_error;
pub mod metric;
pub mod network;
mod prompt_repeats;
pub mod quantile;
pub mod rank_sum;
pub mod reconcile;
pub mod sample;
mod sample_columns;
pub mod sample_rows;
pub mod samples;
pub mod selection;
pub mod series;
pub mod server_timings;
pub mod slo;
pub mod speed;
pub mod steady;
pub mod steady_part;
pub mod summary;
pub mod throughput;
pub mod time_bounds;
pub mod tolerance;
pub mod turns;
pub mod witness;

pub use crate::finding::{Finding, Severity};
pub use analysis::analyze;
pub use summary::{Inputs, Summary};
