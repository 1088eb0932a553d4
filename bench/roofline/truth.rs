//! Compares ringmark's records with the mock's.

use std::collections::HashMap;

use ringmark::record::{Outcome, RequestRecord};
use serde_json::Value;

use crate::load::{mean, quantile};
use crate::ours::FinishedRun;

/// Recorded and true values of one figure, seconds. The server sends an event between the start and the end of its system
/// call. These are far apart if it is stopped there, so the true value is an interval.
#[derive(Default)]
struct Figure {
    recorded_s: Vec<f64>,
    /// From the starts of the system calls.
    true_s: Vec<f64>,
    least_s: Vec<f64>,
    largest_s: Vec<f64>,
}

/// How far a recorded value is from the truth, milliseconds.
pub struct Error {
    /// From the truth by the starts of the system calls.
    pub ms: f64,
    /// The part of it that no possible truth explains.
    pub certain_ms: f64,
}

/// Recorded and true times of all requests, seconds.
#[derive(Default)]
pub struct Comparison {
    /// Arrival time minus send time of every output event.
    pub arrival_lag_s: Vec<f64>,
    /// From the client's write to the server's send of the first token.
    ttft: Figure,
    itl: Figure,
    /// From the last byte's arrival to the next request's first byte at the server.
    pub turnaround_s: Vec<f64>,
    pub lost: usize,
    pub peak_in_flight: u64,
    pub mock_late_p99_us: f64,
    pub blocked_writes: u64,
}

/// Joins both records by request id. The first `skip` requests are left out.
pub fn compare(ours: &FinishedRun, truth: &Value, skip: u64) -> Comparison {
    let mut comparison = Comparison::default();
    let stats = &truth["stats"];
    comparison.peak_in_flight = stats["peak_in_flight"].as_u64().unwrap_or(0);
    comparison.mock_late_p99_us = stats["lateness_ns"]["p99"].as_f64().unwrap_or(f64::NAN) / 1e3;
    comparison.blocked_writes = stats["blocked_writes"].as_u64().unwrap_or(0);
    let requests = truth["requests"].as_array().expect("the records have a list of requests");
    let by_index: HashMap<u64, &Value> =
        requests.iter().filter_map(|request| Some((index(request)?, request))).collect();
    for block in &ours.records {
        for record in &block.records {
            let truth = by_index.get(&record.index);
            match truth {
                Some(truth) if record.outcome == Outcome::Ok => {
                    if record.index >= skip {
                        comparison.add(record, record.arrivals.slice(&block.arrivals).iter().map(|tick| tick.0), truth);
                    }
                }
                _ => comparison.lost += 1,
            }
        }
    }
    comparison
}

fn index(request: &Value) -> Option<u64> {
    request["request_id"].as_str()?.rsplit_once("-m")?.1.parse().ok()
}

fn seconds(from: u64, to: u64) -> f64 {
    to.wrapping_sub(from) as i64 as f64 / 1e9
}

fn ticks(truth: &Value, key: &str) -> Vec<u64> {
    truth[key].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

impl Figure {
    /// The time between two events, each with the start and the end of its system call.
    fn add(&mut self, recorded_s: f64, from: (u64, u64), to: (u64, u64)) {
        self.recorded_s.push(recorded_s);
        self.true_s.push(seconds(from.0, to.0));
        self.least_s.push(seconds(from.1, to.0));
        self.largest_s.push(seconds(from.0, to.1));
    }

    fn error(&mut self, value: fn(&mut [f64]) -> f64) -> Error {
        let recorded = value(&mut self.recorded_s);
        let (least, largest) = (value(&mut self.least_s), value(&mut self.largest_s));
        let certain = recorded - recorded.max(least).min(largest);
        Error { ms: (recorded - value(&mut self.true_s)) * 1e3, certain_ms: certain * 1e3 }
    }
}

impl Comparison {
    fn add(&mut self, record: &RequestRecord, arrivals: impl Iterator<Item = u64>, truth: &Value) {
        let arrivals: Vec<u64> = arrivals.collect();
        let sends: Vec<(u64, u64)> = ticks(truth, "sends").into_iter().zip(ticks(truth, "returns")).collect();
        if arrivals.len() != sends.len() {
            self.lost += 1;
            return;
        }
        self.arrival_lag_s.extend(arrivals.iter().zip(&sends).map(|(arrived, sent)| seconds(sent.0, *arrived)));
        for (arrived, sent) in arrivals.windows(2).zip(sends.windows(2)) {
            self.itl.add(seconds(arrived[0], arrived[1]), sent[0], sent[1]);
        }
        if let (Some(write), Some(first), Some(sent)) = (record.write_start, arrivals.first(), sends.first()) {
            self.ttft.add(seconds(write.0, *first), (write.0, write.0), *sent);
        }
        if let (Some(previous), Some(received)) = (record.previous_end, truth["received_first"].as_u64()) {
            self.turnaround_s.push(seconds(previous.0, received));
        }
    }

    /// A quantile of [`Comparison::arrival_lag_s`], microseconds.
    pub fn arrival_lag_us(&mut self, share: f64) -> f64 {
        quantile(&mut self.arrival_lag_s, share) * 1e6
    }

    /// Errors of the mean TTFT, the p99 TTFT and the p99 ITL.
    pub fn errors(&mut self) -> [Error; 3] {
        let p99 = |values: &mut [f64]| quantile(values, 0.99);
        [self.ttft.error(|values| mean(values)), self.ttft.error(p99), self.itl.error(p99)]
    }
}
