//! A response with the times at which its parts are due, without sockets and clocks: for tests that need exact times.

use super::accounting::record_step;
use super::config::Config;
use super::exchange::{Arrival, Exchange, Next};
use super::http;
use super::request_body::{self, Endpoint};
use super::shared::LoopShare;
use super::truth::Truth;
use crate::time::{S, Tick};

/// When the request of a simulation arrives.
pub const ARRIVAL: Tick = Tick(S);

/// A simulated response.
#[derive(Debug)]
pub struct Simulation {
    /// What is written, and when.
    pub writes: Vec<(Tick, Vec<u8>)>,
    /// The record of the server.
    pub truth: Truth,
}

/// Computes the response to a request with this JSON body that arrives at [`ARRIVAL`].
///
/// # Errors
/// The body is refused, or the system refuses a descriptor.
pub fn simulate(config: &Config, endpoint: Endpoint, body: &str) -> Result<Simulation, String> {
    let head = format!("POST {} HTTP/1.1\r\nContent-Length: {}\r\n\r\n", endpoint.path(), body.len());
    let head = http::read_head(head.as_bytes()).map_err(|refusal| format!("{refusal:?}"))?;
    let head = head.ok_or("the head is not complete")?;
    let params = request_body::parse(endpoint, body.as_bytes(), false)?;
    let share = LoopShare::new().map_err(|error| error.to_string())?;
    let arrival = Arrival { ordinal: 0, connection: 0, first: ARRIVAL, last: ARRIVAL, created_s: 0 };
    let mut exchange = Exchange::new(config, params, &head, arrival);
    exchange.start(config, ARRIVAL);
    let mut writes = Vec::new();
    loop {
        let due = Tick(exchange.due_ns);
        let mut out = Vec::new();
        let step = exchange.step(config, &mut out);
        record_step(&mut exchange, &share, (due, due), due.0, config.lie_ns);
        if !out.is_empty() {
            exchange.truth.last_byte = Some(due);
            writes.push((due, out));
        }
        if step.next != Next::Step {
            return Ok(Simulation { writes, truth: exchange.truth });
        }
    }
}
