//! The mock seen from a plain blocking socket: shapes, counts, truth, and every kind of trouble.

mod books;
mod client;
mod shapes;
mod trouble;
