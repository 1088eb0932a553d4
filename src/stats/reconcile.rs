//! The client's figures compared with the server's metrics: whether they agree, or differ by more than the width of the
//! server's histogram buckets and the client's measurement error explain.
//!
//! A histogram gives a quantile only as an interval, the bounds of a bucket, but its sum gives the exact mean of the
//! same observations. Both are compared: the client's quantile must overlap the interval, and its mean must match the
//! mean.

use super::client::Client;
use super::quantile::{Quantile, Series, nearest_rank};
use super::samples::{RunSamples, Sample};
use super::series::AllSeries;
use super::tolerance::{FRONTEND_S, JITTER_S, PER_TOKEN_SLACK, SLACK, Tolerance, Verdict, beyond};
use crate::finding::{CountKind, CountNote, Figure, Finding, NotJudged, UnequalCount};
use crate::server::metric_catalog::{Delta, Gauge, Histogram, Meaning, Quantity, Window};

/// The levels compared.
pub const LEVELS: [u32; 3] = [500, 900, 990];

/// If numbers of observations differ by a larger share, they count different things.
const COUNT_TOLERANCE: f64 = 0.01;
/// If a larger share of the events was coalesced, quantiles of gaps cannot be compared with the server's.
const COALESCED: f64 = 0.01;

/// The comparison of a run with the server's metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconciliation {
    /// The server's name.
    pub server: &'static str,
    /// From the first to the last scrape, seconds.
    pub window_s: f64,
    /// Number of scrapes.
    pub scrapes: usize,
    /// How many times the server's counters were reset.
    pub resets: usize,
    pub times: Vec<Compared>,
    pub counts: Vec<Counted>,
    /// The parts of the mean TTFT; `None` unless the server reports its own TTFT.
    pub split: Option<Split>,
    /// Time in the server's queue: (mean, intervals at [`LEVELS`]).
    pub queue: Option<(Option<f64>, Vec<Bounds>)>,
    pub running: Option<Gauge>,
    pub waiting: Option<Gauge>,
    /// Share of the cache in use, from 0 to 1.
    pub cache_use: Option<Gauge>,
    pub preemptions: Option<u64>,
    /// Share of the prompt tokens that the server found in its prefix cache, from 0 to 1.
    pub cached_share: Option<f64>,
}

/// A time that both sides measure, seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    pub name: Figure,
    /// Name of the server's metric.
    pub metric: &'static str,
    pub client_count: u64,
    pub server_count: u64,
    pub client_mean_s: Option<f64>,
    pub server_mean_s: Option<f64>,
    /// One for each of [`LEVELS`]; empty if the server has no histogram or the client no sample.
    pub levels: Vec<(Quantile, Bounds)>,
    /// The client's error in this figure.
    pub measurement_error_s: f64,
    pub verdict: Verdict,
}

/// Bounds of a quantile of the server, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub low: f64,
    /// `None` in the last bucket.
    pub high: Option<f64>,
}

/// A number that both sides count.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    pub name: CountKind,
    pub metric: &'static str,
    pub client: Option<u64>,
    pub server: u64,
    /// `None` if equality cannot be expected.
    pub equal: Option<bool>,
    pub note: Option<CountNote>,
}

/// The parts of the mean TTFT, seconds. They add up to `whole_s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    pub whole_s: f64,
    /// Time for opening a connection for the request.
    pub connect_s: f64,
    /// From the due time to the first byte sent, without `connect_s`.
    pub send_lag_s: f64,
    /// From arrival to processing; part of the figure only for reads without a kernel timestamp.
    pub receive_lag_s: f64,
    /// The server's own mean TTFT.
    pub server_s: f64,
    /// The rest: the network in both directions, and the server's frontend outside its own measurement.
    pub between_s: f64,
}

/// Sums over the succeeded requests that no series holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    ok: u64,
    /// Failed or unfinished; the server may count them.
    others: u64,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cached_tokens: u64,
    mean_send_lag_s: Option<f64>,
    mean_connect_s: f64,
}

impl Totals {
    /// The totals of the measured requests.
    pub(crate) fn compute(samples: &RunSamples) -> Totals {
        let ok = || samples.requests.iter().filter(|sample| sample.ok);
        let sum = |of: fn(&Sample) -> Option<u32>| ok().map(|sample| of(sample).map(u64::from)).sum::<Option<u64>>();
        let first = || ok().filter(|sample| sample.ttft.is_some());
        let count = first().count() as f64;
        let lags: Option<u64> = first().map(|sample| sample.send_lag).sum();
        let connects: u64 = first().filter_map(|sample| sample.connect).sum();
        Totals {
            ok: samples.ok,
            others: samples.requests.len() as u64 - samples.ok,
            input_tokens: sum(|sample| sample.input_tokens),
            output_tokens: sum(|sample| sample.output_tokens),
            cached_tokens: samples.cached_tokens,
            mean_send_lag_s: lags.filter(|_| count > 0.0).map(|ns| ns as f64 / count / 1e9),
            mean_connect_s: if count > 0.0 { connects as f64 / count / 1e9 } else { 0.0 },
        }
    }
}

impl Totals {
    /// Adds the requests of a witness, which the server cannot distinguish from the others.
    pub(crate) fn with_witness(mut self, witness: &RunSamples) -> Totals {
        let more = Totals::compute(witness);
        let sum = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a + b);
        self.ok += more.ok;
        self.others += more.others;
        self.input_tokens = sum(self.input_tokens, more.input_tokens);
        self.output_tokens = sum(self.output_tokens, more.output_tokens);
        self.cached_tokens += more.cached_tokens;
        self
    }
}

/// The client's side of the comparison.
#[derive(Clone, Copy, Debug)]
pub struct ClientSide<'a> {
    pub series: &'a AllSeries,
    pub client: &'a Client,
    pub tolerance: Tolerance,
    pub totals: &'a Totals,
    /// The run was killed, so the server's metrics were not read at its end.
    pub killed: bool,
    /// The server's metrics include the requests of a witness.
    pub with_witness: bool,
}

/// Compares the figures of a run with the server's metrics over the same time.
pub fn compare(s: ClientSide<'_>, window: &Window) -> Reconciliation {
    let histogram = |quantity| window.histograms.get(&quantity);
    let gauge = |quantity| window.gauges.get(&quantity).copied();
    let times = [
        (Quantity::Ttft, Figure::Ttft, &s.series.service_ttft_s),
        (Quantity::Itl, Figure::Itl, &s.series.itl_s),
        (Quantity::Tpot, Figure::Tpot, &s.series.tpot_s),
        (Quantity::Latency, Figure::Latency, &s.series.service_latency_s),
    ];
    let mut compared: Vec<Compared> = times
        .into_iter()
        .filter_map(|(quantity, name, series)| Some(compare_time(s, quantity, name, series, histogram(quantity)?)))
        .collect();
    compared.extend(time_per_token(s, window));
    Reconciliation {
        server: window.server,
        window_s: window.to.seconds_since(window.from),
        scrapes: window.scrapes,
        resets: window.resets,
        times: compared,
        counts: counts(s.totals, window),
        split: histogram(Quantity::Ttft).and_then(|ttft| split(s, &ttft.value)),
        queue: histogram(Quantity::Queue).map(|queue| {
            (queue.value.mean(), LEVELS.iter().filter_map(|level| bounds(&queue.value, *level)).collect())
        }),
        running: gauge(Quantity::Running),
        waiting: gauge(Quantity::Waiting),
        cache_use: gauge(Quantity::CacheUse),
        preemptions: window.counters.get(&Quantity::Preemptions).map(|delta| delta.value.round() as u64),
        cached_share: cached_share(window),
    }
}

/// The prefix cache's hits divided by what was looked up in it, or by all prompt tokens of a server that does not count
/// that; `None` without hits in its metrics.
fn cached_share(window: &Window) -> Option<f64> {
    let counter = |quantity| window.counters.get(&quantity).map(|delta| delta.value).filter(|&value| value > 0.0);
    let hits = window.counters.get(&Quantity::CacheHits)?.value;
    Some(hits / counter(Quantity::CacheQueries).or(counter(Quantity::PromptTokens))?)
}

/// Findings about the comparison.
pub fn findings(of: &Reconciliation) -> Vec<Finding> {
    let mut found = Vec::new();
    for time in &of.times {
        let Verdict::Apart { by_s } = time.verdict else { continue };
        let by_ns = (by_s.abs() * 1e9) as u64;
        let server = of.server.to_string();
        found.push(Finding::ServerApart { figure: time.name, server, by_ns, longer_here: by_s > 0.0 });
    }
    let unequal = of.counts.iter().filter(|count| count.equal == Some(false));
    let one =
        |count: &Counted| Some(UnequalCount { quantity: count.name, client: count.client?, server: count.server });
    let counts: Vec<UnequalCount> = unequal.filter_map(one).collect();
    if !counts.is_empty() {
        found.push(Finding::ServerCounts { server: of.server.to_string(), counts });
    }
    if of.resets > 0 {
        found.push(Finding::ServerRestarted { server: of.server.to_string() });
    }
    found
}

fn compare_time(
    s: ClientSide<'_>,
    quantity: Quantity,
    name: Figure,
    series: &Series,
    delta: &Delta<Histogram>,
) -> Compared {
    let histogram = &delta.value;
    let at = |level: u32| Some((*series.at(level)?, bounds(histogram, level)?));
    let mut compared = Compared {
        name,
        metric: delta.name,
        client_count: series.count as u64,
        server_count: histogram.count(),
        client_mean_s: series.mean,
        server_mean_s: histogram.mean(),
        levels: LEVELS.into_iter().filter_map(at).collect(),
        measurement_error_s: s.tolerance.measurement_error_s,
        verdict: Verdict::Consistent,
    };
    compared.verdict = judge(s, quantity, &compared, delta.meaning);
    compared
}

fn judge(s: ClientSide<'_>, quantity: Quantity, c: &Compared, meaning: Meaning) -> Verdict {
    if let Some(why) = not_judged(s, quantity, c, meaning) {
        return Verdict::NotJudged(why);
    }
    let between_tokens = matches!(quantity, Quantity::Itl | Quantity::Tpot);
    let round_trip_s = s.tolerance.round_trip_s;
    let jitter_s = if between_tokens { JITTER_S } else { 0.0 };
    let below = c.measurement_error_s + jitter_s;
    let way = |of: f64| if between_tokens { jitter_s } else { FRONTEND_S.max(SLACK * of) + round_trip_s };
    let mean = match (c.client_mean_s, c.server_mean_s) {
        (Some(client), Some(server)) => {
            let part = if between_tokens { PER_TOKEN_SLACK * server } else { 0.0 };
            beyond(client, client, server - below - part, Some(server + c.measurement_error_s + way(server) + part))
        }
        _ => 0.0,
    };
    // Jitter averages out in a mean, but not in a tail.
    let slack = if between_tokens { SLACK } else { 0.0 };
    let merged = quantity == Quantity::Itl && s.client.coalesced_events.unwrap_or(0.0) > COALESCED;
    let levels = c.levels.iter().filter(|_| !merged).map(|(client, server)| {
        let (low, high) = client.interval.map_or((None, None), |interval| (interval.low, interval.high));
        let (low, high) = (low.unwrap_or(client.value), high.unwrap_or(client.value));
        let reach = |edge: f64| edge * (1.0 + slack) + c.measurement_error_s + way(edge);
        beyond(low, high, server.low * (1.0 - slack) - below, server.high.map(reach))
    });
    let by_s = levels.fold(mean, |most: f64, by| if by.abs() > most.abs() { by } else { most });
    if by_s == 0.0 { Verdict::Consistent } else { Verdict::Apart { by_s } }
}

fn not_judged(s: ClientSide<'_>, quantity: Quantity, c: &Compared, meaning: Meaning) -> Option<NotJudged> {
    if meaning == Meaning::PrefillIncluded {
        return Some(NotJudged::PrefillIncluded);
    }
    if s.killed {
        return Some(NotJudged::Killed);
    }
    if c.server_count == 0 || c.client_count == 0 {
        return Some(NotJudged::NothingObserved);
    }
    let (client, server) = (c.client_count as f64, c.server_count as f64);
    if (client - server).abs() <= COUNT_TOLERANCE * client.max(server) {
        return None;
    }
    Some(NotJudged::DifferentCounts {
        client: c.client_count,
        server: c.server_count,
        with_witness: s.with_witness,
        gaps: quantity == Quantity::Itl,
    })
}

/// The bounds of the server's quantile: those of the bucket that contains its rank.
fn bounds(histogram: &Histogram, per_mille: u32) -> Option<Bounds> {
    let count = histogram.count();
    let rank = nearest_rank(usize::try_from(count).ok().filter(|&count| count > 0)?, per_mille) as u64;
    let (mut low, mut seen) = (0.0, 0);
    for &(bound, observations) in &histogram.buckets {
        seen += observations;
        if seen >= rank {
            return Some(Bounds { low, high: Some(bound).filter(|bound| bound.is_finite()) });
        }
        low = bound;
    }
    None
}

/// The time per output token of a server that has counters for it but no histogram.
fn time_per_token(s: ClientSide<'_>, window: &Window) -> Option<Compared> {
    let seconds = window.counters.get(&Quantity::OutputSeconds)?;
    let tokens = window.counters.get(&Quantity::OutputTokens)?;
    let series = &s.series.tpot_s;
    Some(Compared {
        name: Figure::Tpot,
        metric: seconds.name,
        client_count: series.count as u64,
        server_count: tokens.value.round() as u64,
        client_mean_s: series.mean,
        server_mean_s: (tokens.value > 0.0).then(|| seconds.value / tokens.value),
        levels: Vec::new(),
        measurement_error_s: s.tolerance.measurement_error_s,
        verdict: Verdict::NotJudged(NotJudged::MeanOverTokens),
    })
}

fn counts(totals: &Totals, window: &Window) -> Vec<Counted> {
    let uncached = totals.input_tokens.map(|tokens| tokens.saturating_sub(totals.cached_tokens));
    let rows = [
        (Quantity::Requests, CountKind::Requests, Some(totals.ok), Some(totals.ok)),
        (Quantity::PromptTokens, CountKind::PromptTokens, totals.input_tokens, uncached),
        (Quantity::OutputTokens, CountKind::OutputTokens, totals.output_tokens, totals.output_tokens),
    ];
    let row = |(quantity, name, client, uncached): (Quantity, CountKind, Option<u64>, Option<u64>)| {
        let delta = window.counters.get(&quantity)?;
        let without_cached = delta.meaning == Meaning::WithoutCached;
        let client = if without_cached { uncached } else { client };
        let server = delta.value.round() as u64;
        let (equal, note) = match client {
            None => (None, Some(CountNote::NoTokenCounts)),
            Some(_) if totals.others > 0 => (None, Some(CountNote::NotSucceeded { requests: totals.others })),
            Some(client) => (Some(client == server), without_cached.then_some(CountNote::WithoutCached)),
        };
        Some(Counted { name, metric: delta.name, client, server, equal, note })
    };
    rows.into_iter().filter_map(row).collect()
}

fn split(s: ClientSide<'_>, ttft: &Histogram) -> Option<Split> {
    let (whole_s, server_s) = (s.series.ttft_s.mean?, ttft.mean()?);
    let connect_s = s.totals.mean_connect_s;
    let send_lag_s = s.totals.mean_send_lag_s? - connect_s;
    // A read without a timestamp counts from its processing. Its delay is estimated by the lag of the other reads.
    let unstamped = 1.0 - s.client.stamped_reads.unwrap_or(1.0);
    let receive_lag_s = unstamped * s.client.receive_lag.p50 as f64 / 1e9;
    let between_s = whole_s - connect_s - send_lag_s - receive_lag_s - server_s;
    Some(Split { whole_s, connect_s, send_lag_s, receive_lag_s, server_s, between_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: &[(f64, u64)]) -> Histogram {
        Histogram { buckets: buckets.to_vec(), sum: None }
    }

    #[test]
    fn a_quantile_lies_between_the_edges_of_the_bucket_of_its_rank() {
        let of = histogram(&[(0.01, 50), (0.02, 40), (0.04, 9), (f64::INFINITY, 1)]);
        assert_eq!(bounds(&of, 500), Some(Bounds { low: 0.0, high: Some(0.01) }));
        assert_eq!(bounds(&of, 900), Some(Bounds { low: 0.01, high: Some(0.02) }));
        assert_eq!(bounds(&of, 990), Some(Bounds { low: 0.02, high: Some(0.04) }));
        assert_eq!(bounds(&of, 1000), Some(Bounds { low: 0.04, high: None }));
        assert_eq!(bounds(&histogram(&[(f64::INFINITY, 0)]), 500), None);
    }

    #[test]
    fn the_share_of_cached_tokens_is_of_those_looked_up() {
        let mut window = Window::default();
        assert_eq!(cached_share(&window), None);
        let mut put = |quantity, value| {
            window.counters.insert(quantity, Delta { name: "any", meaning: Meaning::Same, value });
            cached_share(&window)
        };
        put(Quantity::PromptTokens, 100.0);
        assert_eq!(put(Quantity::CacheHits, 60.0), Some(0.6));
        assert_eq!(put(Quantity::CacheQueries, 80.0), Some(0.75));
        assert_eq!(put(Quantity::CacheHits, 0.0), Some(0.0));
    }

    #[test]
    fn counts_are_compared_exactly_and_only_where_they_must_be_equal() {
        let mut window = Window::default();
        let mut put = |quantity, meaning, value| {
            window.counters.insert(quantity, Delta { name: "any", meaning, value });
        };
        put(Quantity::Requests, Meaning::Same, 10.0);
        put(Quantity::PromptTokens, Meaning::WithoutCached, 70.0);
        put(Quantity::OutputTokens, Meaning::Same, 41.0);
        let totals =
            Totals { ok: 10, input_tokens: Some(100), output_tokens: Some(40), cached_tokens: 30, ..Totals::default() };
        let equal = |totals: &Totals| counts(totals, &window).iter().map(|count| count.equal).collect::<Vec<_>>();
        assert_eq!(equal(&totals), [Some(true), Some(true), Some(false)]);
        assert_eq!(equal(&Totals { others: 1, ..totals }), [None, None, None]);
        assert_eq!(equal(&Totals { output_tokens: None, ..totals })[2], None);
    }
}
