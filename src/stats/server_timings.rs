//! The client's times compared with the server's own times, request by request.
//!
//! If a response contains the server's own times ([`crate::record::ServerTimes`]), the difference of every request is
//! known without histograms. It consists of the network in both directions, the server's frontend outside the server's
//! own measurement, and the client's error. The server's time is part of the client's, so only a difference below 0 by more
//! than the client's error cannot be explained.

use super::quantile::Series;
use super::reconcile::most_apart;
use super::samples::RequestTimings;
use super::tolerance::{JITTER_S, PER_TOKEN_SLACK, Tolerance, Verdict, beyond};
use crate::finding::{ApartFigure, Figure, Finding};

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
    // The server's time is part of the client's. The rest has no limit: the wait for the step that runs when the request
    // arrives (vLLM's queue time starts between steps), the frontend, the network, and without a queue time the queue.
    let ttft = time(Figure::Ttft, timings.iter().filter_map(|request| request.ttft), |_| (own_s, None));
    Some(ServerTimings { requests: timings.len(), with_queue, times: ttft.into_iter().chain(per_token).collect() })
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

/// The finding about the comparison: one for all times that differ.
pub fn findings(of: &ServerTimings) -> Option<Finding> {
    let apart = of.times.iter().filter_map(|time| time.verdict.apart(time.name));
    let (ApartFigure { figure, by_ns, longer_here }, also) = most_apart(apart.collect())?;
    Some(Finding::ServerTimesApart { figure, by_ns, longer_here, also })
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
