//! The requests of a run: request `i` is a pure function of the seed and `i`, and its bytes are ready before the clock
//! starts.

use crate::record::Phase;

pub mod arrivals;

/// Every request of a run, rendered. Memory grows with the distinct bytes only: `--number` past the data cycles.
pub struct Workload {
    /// Request line and constant headers, up to but without the last ones, which differ by request.
    pub head: Vec<u8>,
    /// Distinct bodies.
    pub bodies: Vec<Box<[u8]>>,
    /// Prefix of the `X-Request-Id` header, which is `<id_prefix>-<phase letter><index>`.
    pub id_prefix: String,
}

impl Workload {
    /// The JSON body of request `index`.
    pub fn body(&self, _phase: Phase, index: u64) -> &[u8] {
        &self.bodies[(index % self.bodies.len() as u64) as usize]
    }

    /// Appends the whole HTTP/1.1 request `index` of `phase` to `out`.
    pub fn write_request(&self, phase: Phase, index: u64, out: &mut Vec<u8>) {
        use std::io::Write;
        let body = self.body(phase, index);
        let letter = match phase {
            Phase::Preflight => 'p',
            Phase::Warmup => 'w',
            Phase::Measured => 'm',
        };
        out.extend_from_slice(&self.head);
        write!(out, "X-Request-Id: {}-{letter}{index}\r\nContent-Length: {}\r\n\r\n", self.id_prefix, body.len())
            .expect("writing to a Vec cannot fail");
        out.extend_from_slice(body);
    }
}
