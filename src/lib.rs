//! ringmark: a load generator for LLM inference servers, as a library.
//!
//! A program that embeds it builds a [`Spec`], calls [`measure`], and reads the [`Summary`] of each run;
//! [`read_summary`] gives the same summary from a stored database at any later time. [`Mock`] is the built-in server,
//! which knows when it sent what.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = std::env::temp_dir().join(format!("ringmark-{}", std::process::id()));
//! let spec = ringmark::Spec::default().with(|spec| {
//!     spec.target.url = Some("mock:?ttft=5ms&itl=1ms&tokens=10".to_string());
//!     spec.load.parallel = vec![2];
//!     spec.load.number = vec![20];
//!     spec.output.outputs_dir = folder.clone();
//! });
//! for run in ringmark::measure(&spec)? {
//!     let summary = run.summary;
//!     println!("{} of {} requests succeeded", summary.counts.ok, summary.counts.scheduled);
//!     println!("p99 TTFT: {:?} s", summary.series.ttft_s.value(990));
//!     for finding in &summary.findings {
//!         println!("{:?} {}: {}", finding.severity(), finding.code(), finding.en());
//!     }
//!     let again = ringmark::read_summary(&run.database)?;
//!     assert_eq!(again.counts.ok, 20);
//! }
//! # std::fs::remove_dir_all(folder)?;
//! # Ok(())
//! # }
//! ```
//!
//! All modules are private, so that the compiler reports what nothing uses. The feature `internals` opens them for the
//! tests, benches and fuzz targets of this repository; it comes with no promise of stability.

// Tests may use what the library may not; the other lints stand in Cargo.toml.
#![cfg_attr(
    not(test),
    warn(clippy::disallowed_methods, clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)
)]
#![cfg_attr(not(feature = "internals"), warn(missing_docs), allow(unused_imports, reason = "tests use these names"))]

#[cfg(not(feature = "internals"))]
mod api;
#[cfg(not(feature = "internals"))]
mod cli;
#[cfg(not(feature = "internals"))]
mod embed;
#[cfg(not(feature = "internals"))]
mod engine;
#[cfg(not(feature = "internals"))]
mod files;
#[cfg(not(feature = "internals"))]
mod finding;
#[cfg(not(feature = "internals"))]
mod guide;
#[cfg(not(feature = "internals"))]
mod host;
#[cfg(not(feature = "internals"))]
mod hub;
#[cfg(not(feature = "internals"))]
mod judge;
#[cfg(not(feature = "internals"))]
mod log;
#[cfg(not(feature = "internals"))]
mod mock;
#[cfg(not(feature = "internals"))]
mod net;
#[cfg(not(feature = "internals"))]
mod options;
#[cfg(not(feature = "internals"))]
mod plan;
#[cfg(not(feature = "internals"))]
mod prepare;
#[cfg(not(feature = "internals"))]
mod protocol;
#[cfg(not(feature = "internals"))]
mod record;
#[cfg(not(feature = "internals"))]
mod rendezvous;
#[cfg(not(feature = "internals"))]
mod report;
#[cfg(not(feature = "internals"))]
mod roofline;
#[cfg(not(feature = "internals"))]
mod run;
#[cfg(not(feature = "internals"))]
mod search;
#[cfg(not(feature = "internals"))]
mod secrets;
#[cfg(not(feature = "internals"))]
mod server;
#[cfg(not(feature = "internals"))]
mod spec;
#[cfg(not(feature = "internals"))]
mod stats;
#[cfg(not(feature = "internals"))]
mod store;
#[cfg(not(feature = "internals"))]
mod sweep;
#[cfg(not(feature = "internals"))]
mod time;
#[cfg(not(feature = "internals"))]
mod visible;
#[cfg(not(feature = "internals"))]
mod visualizer;
#[cfg(not(feature = "internals"))]
mod workload;

#[cfg(feature = "internals")]
pub mod api;
#[cfg(feature = "internals")]
pub mod cli;
#[cfg(feature = "internals")]
pub mod embed;
#[cfg(feature = "internals")]
pub mod engine;
#[cfg(feature = "internals")]
pub mod files;
#[cfg(feature = "internals")]
pub mod finding;
#[cfg(feature = "internals")]
pub mod guide;
#[cfg(feature = "internals")]
pub mod host;
#[cfg(feature = "internals")]
pub mod hub;
#[cfg(feature = "internals")]
pub mod judge;
#[cfg(feature = "internals")]
pub mod log;
#[cfg(feature = "internals")]
pub mod mock;
#[cfg(feature = "internals")]
pub mod net;
#[cfg(feature = "internals")]
pub mod options;
#[cfg(feature = "internals")]
pub mod plan;
#[cfg(feature = "internals")]
pub mod prepare;
#[cfg(feature = "internals")]
pub mod protocol;
#[cfg(feature = "internals")]
pub mod record;
#[cfg(feature = "internals")]
pub mod rendezvous;
#[cfg(feature = "internals")]
pub mod report;
#[cfg(feature = "internals")]
pub mod roofline;
#[cfg(feature = "internals")]
pub mod run;
#[cfg(feature = "internals")]
pub mod search;
#[cfg(feature = "internals")]
pub mod secrets;
#[cfg(feature = "internals")]
pub mod server;
#[cfg(feature = "internals")]
pub mod spec;
#[cfg(feature = "internals")]
pub mod stats;
#[cfg(feature = "internals")]
pub mod store;
#[cfg(feature = "internals")]
pub mod sweep;
#[cfg(feature = "internals")]
pub mod time;
#[cfg(feature = "internals")]
pub mod visible;
#[cfg(feature = "internals")]
pub mod visualizer;
#[cfg(feature = "internals")]
pub mod workload;

pub use embed::{Error, measure, read_summary};
pub use finding::{Cause, Finding, Severity};
pub use mock::{Config as MockConfig, Mock};
pub use options::{DataSource, Language, LogLevel, Save, Service};
pub use run::FinishedRun;
pub use spec::{ClientSpec, DataSpec, LoadSpec, OutputSpec, SamplingSpec, SlaSpec, Spec, TargetSpec};
pub use stats::Summary;

#[doc(hidden)]
pub use cli::entry::main as cli_main;
