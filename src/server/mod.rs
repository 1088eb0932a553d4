//! The server under test, apart from the load: queries for models and metrics, and starting and stopping a local
//! server.

pub mod addresses;
pub mod exposition;
pub(crate) mod hints;
pub mod http_get;
mod launch;
pub mod local;
pub mod metric_catalog;
pub mod metrics;
pub mod models;
mod nvidia_smi;
pub mod process;
pub(crate) mod ready;
pub mod resource_usage;
