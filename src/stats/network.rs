//! The network's part of the requests, as the kernel reported it: TTFT divided into send lag, way to the wire, network and
//! server, and the requests of which segments were lost.
//!
//! | part | from | to |
//! |---|---|---|
//! | send lag | due | first byte written |
//! | way to the wire | first byte written | last byte handed to the network device |
//! | network | | the minimum round-trip time of the connection |
//! | server | | the rest of TTFT |
//!
//! Only the minimum of the round-trip times counts for the network: acknowledgements may be delayed until the answer, and
//! the smoothed time contains that. So the server's part contains waits in queues of the network. Through a proxy,
//! the network is the way to the proxy, and the rest is behind it.

use super::client::{Lag, lag};
use super::quantile::Series;
use super::samples::{RunSamples, Sample, Samples};
use super::series::AllSeries;
use crate::finding::{Figure, Finding};
use crate::record::NetworkTimes;

/// If at least this share of the requests above a percentile had lost segments, and this many times as many as of all
/// requests, these losses make the tail.
const SHARE_OF_TAIL: f64 = 0.5;
const TIMES_ALL: f64 = 3.0;
/// Fewer requests above a percentile say nothing.
const FEWEST_ABOVE: usize = 2;
/// The percentile whose requests above it are examined, thousandths.
const TAIL: u32 = 990;

/// The network's part of the requests of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    /// Requests of which it was recorded.
    pub recorded: u64,
    /// From the first byte written to the last one handed to the network device.
    pub to_wire: Lag,
    /// From there to the acknowledgement, which may be delayed.
    pub acknowledged: Lag,
    /// Minimum and smoothed round-trip time of the request's connection.
    pub min_rtt: Lag,
    pub rtt: Lag,
    /// TTFT without send lag, way to the wire and minimum round-trip time; of requests without lost segments.
    pub server_ttft: Lag,
    /// Requests of which this machine sent segments again, and those whose answers had segments out of order.
    pub retransmitted: u64,
    pub out_of_order: u64,
    /// The same for the requests above p99.
    pub tails: Vec<LossTail>,
}

/// Requests above a percentile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossTail {
    pub figure: Figure,
    /// The percentile, seconds.
    pub value_s: f64,
    pub above: usize,
    /// Of these, requests with segments that were sent again or out of order.
    pub with_loss: usize,
}

/// The parts of one request, nanoseconds.
fn to_wire_ns(sample: &Sample) -> Option<u64> {
    Some(sample.network.sent?.0.saturating_sub(sample.write_start?))
}

fn server_ttft_ns(sample: &Sample) -> Option<u64> {
    let network = &sample.network;
    if had_loss(sample) {
        // The rest of its TTFT has the time until the segment was sent again.
        return None;
    }
    let first_token = sample.due.saturating_add(sample.ttft?);
    Some(first_token.saturating_sub(network.sent?.0).saturating_sub(network.min_rtt_ns?))
}

/// Whether a segment of the request or of its answer was lost, or late.
fn had_loss(sample: &Sample) -> bool {
    let some = |count: Option<u32>| count.is_some_and(|count| count > 0);
    some(sample.network.retransmitted) || some(sample.network.out_of_order)
}

/// `None` if it was recorded of no request.
pub(crate) fn compute(samples: &RunSamples, series: &AllSeries) -> Option<Network> {
    let requests = &samples.requests;
    let recorded = requests.iter().filter(|sample| sample.network != NetworkTimes::default()).count() as u64;
    let of = |value: fn(&Sample) -> Option<u64>| lag(requests.iter().filter_map(|sample| value(&sample)));
    let number = |which: fn(&Sample) -> bool| requests.iter().filter(which).count() as u64;
    (recorded > 0).then(|| Network {
        recorded,
        to_wire: of(to_wire_ns),
        acknowledged: of(|sample| Some(sample.network.acknowledged?.0.saturating_sub(sample.network.sent?.0))),
        min_rtt: of(|sample| sample.network.min_rtt_ns),
        rtt: of(|sample| sample.network.rtt_ns),
        server_ttft: of(server_ttft_ns),
        retransmitted: number(|sample| sample.network.retransmitted.is_some_and(|count| count > 0)),
        out_of_order: number(|sample| sample.network.out_of_order.is_some_and(|count| count > 0)),
        tails: [
            tail(Figure::Ttft, &series.ttft_s, requests, |sample| sample.ttft),
            tail(Figure::Latency, &series.latency_s, requests, |sample| Some(sample.latency)),
        ]
        .into_iter()
        .flatten()
        .collect(),
    })
}

fn tail(figure: Figure, series: &Series, requests: &Samples, value: fn(&Sample) -> Option<u64>) -> Option<LossTail> {
    let value_s = series.value(TAIL)?;
    let is_above = |sample: &Sample| sample.ok && value(sample).is_some_and(|ns| ns as f64 / 1e9 >= value_s);
    let above = || requests.iter().filter(is_above);
    Some(LossTail { figure, value_s, above: above().count(), with_loss: above().filter(had_loss).count() })
}

/// The tails that lost segments make. Of TTFT and latency only the first, as a lost request delays both.
pub(crate) fn findings(network: &Network) -> Option<Finding> {
    let with_loss = network.retransmitted.max(network.out_of_order);
    let share_of_all = with_loss as f64 / network.recorded as f64;
    let is_made_by_loss = |tail: &&LossTail| {
        let share = tail.with_loss as f64 / tail.above as f64;
        tail.above >= FEWEST_ABOVE && share >= SHARE_OF_TAIL && share >= TIMES_ALL * share_of_all
    };
    let tail = network.tails.iter().find(is_made_by_loss)?;
    Some(Finding::LossTail {
        figure: tail.figure,
        percentile: "99%".to_string(),
        value_ns: (tail.value_s * 1e9) as u64,
        above: tail.above as u64,
        with_loss: tail.with_loss as u64,
        all_with_loss: with_loss,
        recorded: network.recorded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::NetworkTimes;
    use crate::time::{MS, Tick, US};

    fn sample(due: u64, ttft: u64, retransmitted: u32) -> Sample {
        Sample {
            ok: true,
            streamed: true,
            due,
            write_start: Some(due + 10 * US),
            ttft: Some(ttft),
            latency: ttft + MS,
            network: NetworkTimes {
                sent: Some(Tick(due + 40 * US)),
                acknowledged: Some(Tick(due + 5 * MS)),
                rtt_ns: Some(3 * MS),
                min_rtt_ns: Some(MS),
                retransmitted: Some(retransmitted),
                out_of_order: Some(0),
            },
            ..Sample::default()
        }
    }

    fn network(requests: Vec<Sample>) -> Option<Network> {
        let requests: Samples = requests.into_iter().collect();
        let series = AllSeries::compute(requests.iter(), Series::default());
        compute(&RunSamples { requests, ..RunSamples::default() }, &series)
    }

    #[test]
    fn parts_add_up_to_ttft() {
        let network = network(vec![sample(1_000 * MS, 20 * MS, 0)]).unwrap();
        assert_eq!((network.to_wire.p50, network.min_rtt.p50, network.rtt.p50), (30 * US, MS, 3 * MS));
        assert_eq!(network.server_ttft.p50, 20 * MS - 10 * US - 30 * US - MS);
        assert_eq!(network.acknowledged.p50, 5 * MS - 40 * US);
        assert_eq!((network.recorded, network.retransmitted), (1, 0));
        assert_eq!(findings(&network), None);
    }

    #[test]
    fn a_tail_of_lost_segments_is_named() {
        let slow = |index: u64, retransmitted: u32| sample(index * 100 * MS, 220 * MS, retransmitted);
        let fast = |index: u64| sample(index * 100 * MS, (10 + index % 10) * MS, 0);
        let of = |lost: u64, other: u64| {
            let requests = (0..990).map(fast).chain((0..lost).map(|i| slow(990 + i, 1)));
            network(requests.chain((0..other).map(|i| slow(2_000 + i, 0))).collect()).unwrap()
        };
        let Some(Finding::LossTail { figure, above, with_loss, recorded, .. }) = findings(&of(14, 2)) else {
            panic!("no finding")
        };
        assert_eq!((figure, above, with_loss, recorded), (Figure::Ttft, 16, 14, 1006));
        assert_eq!(findings(&of(2, 14)), None, "the server makes this tail");
        assert_eq!(findings(&of(0, 16)), None);
    }

    #[test]
    fn requests_without_the_kernels_figures_have_no_network() {
        let unknown = Sample { network: NetworkTimes::default(), ..sample(0, MS, 0) };
        assert_eq!(network(vec![unknown]), None);
    }
}
