//! The client's times compared with the server's own times, request by request.
//!
//! If a response contains the server's own times ([`crate::record::ServerTimes`]), the difference of every request is
//! known without histograms. It consists of the network in both directions, the server's frontend outside the server's
//! own measurement, and the client's error. The server's time is part of the client's, so a difference below 0 by more
//! than the client's error means that the server's figure is wrong.

use super::quantile::Series;
use super::samples::RequestTimings;
use super::tolerance::{FRONTEND_S, JITTER_S, PER_TOKEN_SLACK, SLACK, Tolerance, Verdict, beyond};
use crate::finding::{Figure, Finding};

/// Both clocks round, and servers print thousandths of a millisecond.
const ROUNDING_S: f64 = 10e-6;

/// All requests whose responses contain the server's times.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerTimings {
    pub requests: usize,
    /// Whether the server's time to first token includes the wait in its queue.
    pub with_queue: bool,
    pub times: Vec<TimingComparison>,
}

/// One time over all requests, seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct TimingComparison {
    pub name: Figure,
    pub client: Series,
    pub server: Series,
    /// Client − server of each request.
    pub difference: Series,
    pub verdict: Verdict,
}

/// The comparison; `None` if no response contains the server's times.
pub fn compare(tolerance: Tolerance, timings: &[RequestTimings]) -> Option<ServerTimings> {
    if timings.is_empty() {
        return None;
    }
    let with_queue = timings.iter().all(|request| request.with_queue);
    let own_s = tolerance.measurement_error_s + ROUNDING_S;
    let per_token = time(Figure::Tpot, timings.iter().filter_map(|request| request.per_token), |server| {
        let either = own_s + JITTER_S + PER_TOKEN_SLACK * server;
        (either, Some(either))
    });
    let step_s = per_token.as_ref().and_then(step_s).unwrap_or(0.0);
    let ttft = time(Figure::Ttft, timings.iter().filter_map(|request| request.ttft), |server| {
        // Without the queue time the difference has no upper bound.
        let above = with_queue.then(|| own_s + FRONTEND_S.max(SLACK * server) + tolerance.round_trip_s + step_s);
        (own_s, above)
    });
    Some(ServerTimings { requests: timings.len(), with_queue, times: ttft.into_iter().chain(per_token).collect() })
}

/// The duration of one engine step, estimated by the server's own time per output token. vLLM starts to measure the
/// queue time between steps, so a request that arrives during a step first waits for its end, which no time of the
/// server includes. Under steady load that is mostly a whole step: a response ends with a step, and the next request
/// arrives after the next step has started.
fn step_s(per_token: &TimingComparison) -> Option<f64> {
    per_token.server.value(500)
}

/// `reach` gives, for the server's median, by how much the median difference may be below and above 0.
fn time(
    name: Figure,
    pairs: impl Iterator<Item = (f64, f64)>,
    reach: impl Fn(f64) -> (f64, Option<f64>),
) -> Option<TimingComparison> {
    let (client, server): (Vec<f64>, Vec<f64>) = pairs.map(|(client, server)| (client / 1e9, server / 1e9)).unzip();
    let difference: Vec<f64> = client.iter().zip(&server).map(|(client, server)| client - server).collect();
    let (client, server, difference) =
        (Series::compute(&client), Series::compute(&server), Series::compute(&difference));
    let median = *difference.at(500)?;
    let (below, above) = reach(server.value(500)?);
    let (low, high) = median.interval.map_or((None, None), |interval| (interval.low, interval.high));
    let by_s = beyond(low.unwrap_or(median.value), high.unwrap_or(median.value), -below, above);
    let verdict = if by_s == 0.0 { Verdict::Consistent } else { Verdict::Apart { by_s } };
    Some(TimingComparison { name, client, server, difference, verdict })
}

/// Findings about the comparison.
pub fn findings(of: &ServerTimings) -> Vec<Finding> {
    let apart = |time: &TimingComparison| {
        let Verdict::Apart { by_s } = time.verdict else { return None };
        let by_ns = (by_s.abs() * 1e9) as u64;
        Some(Finding::ServerTimesApart { figure: time.name, by_ns, longer_here: by_s > 0.0 })
    };
    of.times.iter().filter_map(apart).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_beyond_the_tolerance_is_apart() {
        let verdict = |here: f64, there: f64, above: Option<f64>| {
            time(Figure::Ttft, [(here, there); 40].into_iter(), |_| (1e-5, above)).unwrap().verdict
        };
        assert_eq!(verdict(10.5e6, 10e6, Some(1e-3)), Verdict::Consistent);
        assert!(matches!(verdict(15e6, 10e6, Some(1e-3)), Verdict::Apart { by_s } if (by_s - 4e-3).abs() < 1e-9));
        assert_eq!(verdict(15e6, 10e6, None), Verdict::Consistent);
        assert!(matches!(verdict(5e6, 10e6, None), Verdict::Apart { by_s } if by_s < -4e-3));
    }
}
