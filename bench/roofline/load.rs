//! One closed-loop load, the same for every client.

/// `streams` requests in flight until `requests` have ended. `tokens` is the length of a response, set at the server.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub streams: usize,
    pub requests: usize,
    pub tokens: usize,
}

/// The cost of a client and its figures.
#[derive(Clone, Debug, Default)]
pub struct ClientFigures {
    /// CPU time of the client's threads, nanoseconds.
    pub cpu_ns: u64,
    /// Output events received.
    pub events: u64,
    /// TTFT of each request, from its write, and every ITL, seconds; empty if the client does not measure them.
    pub ttft_s: Vec<f64>,
    pub itl_s: Vec<f64>,
}

impl ClientFigures {
    /// CPU per event, microseconds.
    pub fn cpu_per_event_us(&self) -> f64 {
        self.cpu_ns as f64 / self.events.max(1) as f64 / 1e3
    }
}

/// The request that the clients of this bench send: streamed, with usage.
pub fn request(address: std::net::SocketAddr) -> Vec<u8> {
    let body = r#"{"model":"mock","messages":[{"role":"user","content":"Why is the sky blue?"}],"max_tokens":2048,"stream":true,"stream_options":{"include_usage":true}}"#;
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The `share`-quantile by nearest rank; sorts.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_unstable_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

/// The arithmetic mean.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The number of rounds: 3 in a full run, unless the environment variable `ROUNDS` is set.
pub fn rounds(full: bool) -> usize {
    let requested = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok());
    if full { requested.unwrap_or(3) } else { 1 }
}

/// The median over rounds.
pub fn median(mut values: Vec<f64>) -> f64 {
    quantile(&mut values, 0.5)
}
