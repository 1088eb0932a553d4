//! Requests beside what the server itself says of each of them, one by one.
//!
//! Where an answer tells the server's own times ([`ServerTimes`]), nothing has to be inferred from histograms: of
//! every request the difference is known, and what it is made of: the network both ways, the server's frontend before
//! and behind its own clock, and our own error. A server's time lies within ours, so a difference below 0 (beyond our
//! error) means that the server's figure is wrong.

use super::metric;
use super::quantile::Series;
use super::reconcile::{FRONTEND_S, JITTER_S, PER_TOKEN_SLACK, SLACK, Verdict, beyond, own_error_s, round_trip_s};
use super::summary::Summary;
use crate::finding::{Figure, Finding};
use crate::record::{RequestRecord, ServerTimes};

/// Two clocks that agree on an instant may round it to different sides, and servers print thousandths of a
/// millisecond.
const ROUNDING_S: f64 = 10e-6;

/// One request's times on both sides, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Joined {
    /// Orders them in time.
    pub due: u64,
    /// From the wire to the first token here; queue and prefill there.
    pub ttft: Option<(f64, f64)>,
    /// Time per output token here and there.
    pub per_token: Option<(f64, f64)>,
    /// The server's first figure includes the wait in its queue.
    pub with_queue: bool,
}

/// All requests with times of the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    pub requests: usize,
    /// Whether the server's time to first token includes the wait in its queue.
    pub with_queue: bool,
    pub times: Vec<JoinedTime>,
}

/// One time over all requests, seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinedTime {
    pub name: Figure,
    pub client: Series,
    pub server: Series,
    /// Client − server of each request.
    pub difference: Series,
    pub verdict: Verdict,
}

impl Joined {
    /// The times of a streamed success whose answer told some.
    pub fn of(record: &RequestRecord) -> Option<Joined> {
        let times: ServerTimes = record.server_times.filter(|_| record.streamed)?;
        let there = times.prefill_ns.map(|prefill| prefill.saturating_add(times.queue_ns.unwrap_or(0)) as f64);
        let here = metric::service_ttft_ns(record).map(|ns| ns as f64);
        let gaps = times.tokens.or(record.output_tokens).and_then(|tokens| tokens.checked_sub(1)).filter(|&n| n > 0);
        let per_token = times.decode_ns.zip(gaps).map(|(ns, gaps)| ns as f64 / f64::from(gaps));
        let joined = Joined {
            due: record.due.0,
            ttft: here.zip(there),
            per_token: metric::tpot_ns(record).zip(per_token),
            with_queue: times.queue_ns.is_some(),
        };
        (joined.ttft.is_some() || joined.per_token.is_some()).then_some(joined)
    }
}

/// The comparison; `None` when no answer told the server's times.
pub fn of(s: &Summary, joined: &[Joined]) -> Option<Join> {
    if joined.is_empty() {
        return None;
    }
    let with_queue = joined.iter().all(|joined| joined.with_queue);
    let own_s = own_error_s(s) + ROUNDING_S;
    let per_token = time(Figure::Tpot, joined.iter().filter_map(|joined| joined.per_token), |server| {
        let either = own_s + JITTER_S + PER_TOKEN_SLACK * server;
        (either, Some(either))
    });
    let step_s = per_token.as_ref().and_then(step_s).unwrap_or(0.0);
    let ttft = time(Figure::Ttft, joined.iter().filter_map(|joined| joined.ttft), |server| {
        // Without the queue there is no telling how long the wait may have been.
        let above = with_queue.then(|| own_s + FRONTEND_S.max(SLACK * server) + round_trip_s(s) + step_s);
        (own_s, above)
    });
    Some(Join { requests: joined.len(), with_queue, times: ttft.into_iter().chain(per_token).collect() })
}

/// How long an engine is at one step, by the server's own time per output token. vLLM's queue begins between steps, so a
/// request that comes during one waits for its end first, in no time of the server's. Under steady load that is
/// mostly a whole step: an answer ends with one, and the request that follows it finds the next begun.
fn step_s(per_token: &JoinedTime) -> Option<f64> {
    per_token.server.value(500)
}

/// `reach` gives, for the server's median, how far the median difference may lie below and above 0.
fn time(
    name: Figure,
    pairs: impl Iterator<Item = (f64, f64)>,
    reach: impl Fn(f64) -> (f64, Option<f64>),
) -> Option<JoinedTime> {
    let (client, server): (Vec<f64>, Vec<f64>) = pairs.map(|(client, server)| (client / 1e9, server / 1e9)).unzip();
    let difference: Vec<f64> = client.iter().zip(&server).map(|(client, server)| client - server).collect();
    let (client, server, difference) = (Series::of(&client), Series::of(&server), Series::of(&difference));
    let median = *difference.at(500)?;
    let (below, above) = reach(server.value(500)?);
    let (low, high) = median.interval.map_or((None, None), |interval| (interval.low, interval.high));
    let by_s = beyond(low.unwrap_or(median.value), high.unwrap_or(median.value), -below, above);
    let verdict = if by_s == 0.0 { Verdict::Consistent } else { Verdict::Apart { by_s } };
    Some(JoinedTime { name, client, server, difference, verdict })
}

/// What a reader should know beside the table.
pub fn findings(of: &Join) -> Vec<Finding> {
    let apart = |time: &JoinedTime| {
        let Verdict::Apart { by_s } = time.verdict else { return None };
        let by_ns = (by_s.abs() * 1e9) as u64;
        Some(Finding::ServerTimesApart { figure: time.name, by_ns, longer_here: by_s > 0.0 })
    };
    of.times.iter().filter_map(apart).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;
    use crate::time::Tick;

    fn record(times: Option<ServerTimes>) -> RequestRecord {
        RequestRecord {
            write_start: Some(Tick(1_000_000)),
            first_token: Some(Tick(11_000_000)),
            last_token: Some(Tick(31_000_000)),
            end: Tick(31_000_000),
            output_tokens: Some(5),
            streamed: true,
            outcome: Outcome::Ok,
            server_times: times,
            ..RequestRecord::default()
        }
    }

    #[test]
    fn both_sides_are_of_the_same_stretch() {
        let vllm = ServerTimes {
            queue_ns: Some(2_000_000),
            prefill_ns: Some(7_000_000),
            decode_ns: Some(19_000_000),
            tokens: None,
        };
        let joined = Joined::of(&record(Some(vllm))).unwrap();
        assert_eq!((joined.ttft, joined.per_token), (Some((10e6, 9e6)), Some((5e6, 4.75e6))));
        assert!(joined.with_queue);
        let llama = ServerTimes { queue_ns: None, tokens: Some(3), ..vllm };
        let joined = Joined::of(&record(Some(llama))).unwrap();
        assert_eq!((joined.ttft, joined.per_token), (Some((10e6, 7e6)), Some((5e6, 9.5e6))));
        assert!(!joined.with_queue);
        assert_eq!(Joined::of(&record(None)), None);
        let whole = RequestRecord { streamed: false, ..record(Some(vllm)) };
        assert_eq!(Joined::of(&whole), None);
    }

    #[test]
    fn a_difference_beyond_its_reach_is_apart() {
        let verdict = |here: f64, there: f64, above: Option<f64>| {
            time(Figure::Ttft, [(here, there); 40].into_iter(), |_| (1e-5, above)).unwrap().verdict
        };
        assert_eq!(verdict(10.5e6, 10e6, Some(1e-3)), Verdict::Consistent);
        assert!(matches!(verdict(15e6, 10e6, Some(1e-3)), Verdict::Apart { by_s } if (by_s - 4e-3).abs() < 1e-9));
        assert_eq!(verdict(15e6, 10e6, None), Verdict::Consistent);
        assert!(matches!(verdict(5e6, 10e6, None), Verdict::Apart { by_s } if by_s < -4e-3));
    }
}
