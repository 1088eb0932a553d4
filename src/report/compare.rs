//! Runs side by side: every figure of each against the first, with the confidence interval of the difference.

mod cells;
mod gate;
mod json;
mod markdown;
mod page;
mod pairing;
mod rows;
mod sides;
mod text;
mod verdicts;
mod warnings;

pub use gate::{Gate, LEVEL, Limit, judge, scan_limits};
pub use json::json;
pub use markdown::markdown;
pub use page::html;
pub use pairing::{Given, comparison, pooled};
pub use rows::{Compared, Kind, Row, Value, Verdict, compare};
pub use sides::{Comparison, Entry, Load, LoadName, Missing, Side};
pub use text::{render, render_gate};
