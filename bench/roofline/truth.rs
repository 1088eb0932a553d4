//! Compares ringmark's records with the mock's.

use std::collections::HashMap;

use ringmark::record::{Outcome, RequestRecord};
use serde_json::Value;

use crate::load::{mean, quantile};
use crate::ours::FinishedRun;

/// Recorded and true times of all requests, seconds.
#[derive(Default)]
pub struct Comparison {
    /// Arrival time minus send time of every output event.
    pub arrival_lag_s: Vec<f64>,
    pub recorded_ttft_s: Vec<f64>,
    /// From the client's write to the server's send of the first token.
    pub true_ttft_s: Vec<f64>,
    pub recorded_itl_s: Vec<f64>,
    pub true_itl_s: Vec<f64>,
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

impl Comparison {
    fn add(&mut self, record: &RequestRecord, arrivals: impl Iterator<Item = u64>, truth: &Value) {
        let arrivals: Vec<u64> = arrivals.collect();
        let sends: Vec<u64> = truth["sends"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        if arrivals.len() != sends.len() {
            self.lost += 1;
            return;
        }
        self.arrival_lag_s.extend(arrivals.iter().zip(&sends).map(|(arrived, sent)| seconds(*sent, *arrived)));
        self.recorded_itl_s.extend(arrivals.windows(2).map(|pair| seconds(pair[0], pair[1])));
        self.true_itl_s.extend(sends.windows(2).map(|pair| seconds(pair[0], pair[1])));
        if let (Some(write), Some(first), Some(sent)) = (record.write_start, arrivals.first(), sends.first()) {
            self.recorded_ttft_s.push(seconds(write.0, *first));
            self.true_ttft_s.push(seconds(write.0, *sent));
        }
        if let (Some(previous), Some(received)) = (record.previous_end, truth["received_first"].as_u64()) {
            self.turnaround_s.push(seconds(previous.0, received));
        }
    }

    /// A quantile of [`Comparison::arrival_lag_s`], microseconds.
    pub fn arrival_lag_us(&mut self, share: f64) -> f64 {
        quantile(&mut self.arrival_lag_s, share) * 1e6
    }

    /// Errors of the mean TTFT, the p99 ITL and the p99 TTFT, milliseconds.
    pub fn errors_ms(&mut self) -> (f64, f64, f64) {
        let mean_ttft = mean(&self.recorded_ttft_s) - mean(&self.true_ttft_s);
        let p99_itl = quantile(&mut self.recorded_itl_s, 0.99) - quantile(&mut self.true_itl_s, 0.99);
        let p99_ttft = quantile(&mut self.recorded_ttft_s, 0.99) - quantile(&mut self.true_ttft_s, 0.99);
        (mean_ttft * 1e3, p99_itl * 1e3, p99_ttft * 1e3)
    }
}
