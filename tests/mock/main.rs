//! The mock, tested with a plain blocking socket: response formats, counts, request records, and faults.

mod accounting;
mod client;
mod faults;
mod shapes;
