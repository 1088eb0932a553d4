//! The requests of a run: request `i` is a pure function of the seed and `i`, and its bytes are ready before the clock
//! starts.
//!
//! A data set is a file here with a function `read` that returns the prompts as [`item::Item`]s. What it may need besides its
//! own options is in [`context::Context`]: seed, offset, number of prompts, tokenizer, progress bar. A data set that is generated
//! calls `Context::generate`, which also builds requests while the run lasts; one that is read from a file may hand its prompts
//! to a callback, as [`files::read`] does, so that they are selected by length. All that belongs to a new one: see "A dataset"
//! in `CONTRIBUTING.md`.

pub mod api_program;
pub mod arrivals;
mod aside;
mod builtin;
mod chat_template;
mod class_file;
pub mod context;
pub mod conversation;
mod dataset;
pub mod error;
pub mod files;
pub mod fit;
pub mod headers;
pub mod item;
mod line_by_line;
pub mod multi_turn;
mod options;
pub mod parallel;
pub mod plugin_process;
mod program;
pub mod progress;
mod prompt;
mod random;
pub mod random_text;
pub mod random_texts;
pub mod random_vl;
pub mod recipe;
pub mod requests;
mod residuals;
pub mod rng;
pub mod script;
mod share_gpt;
mod sieve;
pub mod speed_benchmark;
pub mod stream;
pub(crate) mod template_watch;
pub mod tokenizer;
pub mod tokens;
pub mod trace;
mod word_boundaries;

pub use context::Lengths;
pub use error::WorkloadError;
pub use recipe::{Recipe, Source};
pub use requests::Workload;
