//! What is known of a request whose response has ended, before its record is made.

use super::job::Job;
use crate::time::Tick;

/// The times of one request, up to the step that it has reached.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestTimes {
    pub picked: Tick,
    pub connected: Option<Tick>,
    pub tls_handshake_ns: Option<u64>,
    pub write_start: Option<Tick>,
    pub write_end: Option<Tick>,
    pub reused: bool,
    pub retried: bool,
}

/// A request whose response has ended with its end event, while its body stays open.
#[derive(Clone, Debug)]
pub(super) struct UnrecordedRequest {
    pub slot: u32,
    pub job: Job,
    pub times: RequestTimes,
    /// The body, if it is stored with the record.
    pub body: Option<Vec<u8>>,
}
