//! Every number, as a pure function of the stored records.
//!
//! [`metric`] defines the figures of one request, [`gather`] collects them over a run, [`summary`] makes of them what
//! the tables show, and [`findings`] says how far to trust it.

pub mod attention;
pub mod concurrency;
pub mod difference;
pub mod failure_texts;
pub mod findings;
pub mod gather;
pub mod interval;
pub mod join;
pub mod metric;
pub mod own_error;
pub mod quantile;
pub mod reconcile;
pub mod slo;
pub mod speed;
pub mod steady;
pub mod summary;
pub mod turns;
pub mod witness;

pub use crate::finding::{Finding, Severity};
pub use summary::Summary;
