//! Runs side by side: every figure of each against the first, with the confidence interval of the difference.

mod cells;
mod page;
mod pairing;
mod rows;
mod sides;
mod text;
mod warnings;

pub use page::html;
pub use pairing::{Given, comparison};
pub use rows::{Compared, Kind, Row, Value, Verdict, compare};
pub use sides::{Comparison, Entry, Load, LoadName, Missing, Side};
pub use text::render;
