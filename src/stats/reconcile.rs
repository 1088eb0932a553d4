//! The client's figures compared with the server's metrics: whether they agree, or differ by more than the width of the
//! server's histogram buckets and the client's measurement error explain.
//!
//! A histogram gives a quantile only as an interval, the bounds of a bucket, but its sum gives the exact mean of the
//! same observations. Both are compared: the client's quantile must overlap the interval, and its mean must match the
//! mean.

use super::client::Client;
use super::quantile::{Quantile, Series, nearest_rank};
use super::samples::{RunSamples, Sample};
use super::series::{AllSeries, TpotRange};
use super::tolerance::{JITTER_S, PER_TOKEN_SLACK, SLACK, Tolerance, Verdict, beyond};
use crate::finding::{ApartFigure, CountKind, CountNote, Figure, Finding, NotJudged, UnequalCount};
use crate::record::delivery::TokenGaps;
use crate::server::metric_catalog::{Delta, Gauge, Histogram, Meaning, Quantity, Window};

/// The levels compared.
pub const LEVELS: [u32; 3] = [500, 900, 990];

/// If numbers of observations differ by a larger share, they count different things.
const COUNT_TOLERANCE: f64 = 0.01;
/// More time than this, and than this share of TTFT, in the network and the frontend is noted.
const FRONTEND_NOTED_S: f64 = 5e-3;
const FRONTEND_NOTED_SHARE: f64 = 0.2;
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
    /// If the client's figure is a range, its ends; `client_mean_s` and `levels` have the value shown.
    pub client_ends: Option<(RangeEnd, RangeEnd)>,
    pub server_mean_s: Option<f64>,
    /// One for each of [`LEVELS`]; empty if the server has no histogram or the client no sample.
    pub levels: Vec<(Quantile, Bounds)>,
    /// Client − server of the means, where the server's interval lies within the client's: the time in the network and in the
    /// server's frontend. Never negative.
    pub frontend_s: Option<f64>,
    /// The client's error in this figure.
    pub measurement_error_s: f64,
    /// Gaps to tokens without text, such as the end of the sequence, that `client_count` and `client_mean_s` include; there
    /// are no quantiles then.
    pub silent_tokens: u64,
    pub verdict: Verdict,
}

/// An end of a figure that is a range, seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeEnd {
    pub mean_s: f64,
    /// One for each of [`LEVELS`].
    pub levels_s: Vec<f64>,
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
    /// The rest, not negative: the network in both directions, and the server's frontend outside its own measurement.
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
    token_gaps: TokenGaps,
    mean_send_lag_s: Option<f64>,
    mean_connect_s: f64,
}

impl Totals {
    /// The totals of the measured requests, and of the others that the server's metrics cover: those of the warm-up and of a
    /// witness.
    pub(crate) fn compute(parts: &[&RunSamples]) -> Totals {
        let requests = || parts.iter().flat_map(|samples| &samples.requests);
        let ok = || requests().filter(|sample| sample.ok);
        let succeeded = parts.iter().map(|samples| samples.ok).sum();
        let sum = |of: fn(&Sample) -> Option<u32>| ok().map(|sample| of(&sample).map(u64::from)).sum::<Option<u64>>();
        let first = || ok().filter(|sample| sample.ttft.is_some());
        let count = first().count() as f64;
        let lags: Option<u64> = first().map(|sample| sample.send_lag).sum();
        let connects: u64 = first().filter_map(|sample| sample.connect).sum();
        Totals {
            ok: succeeded,
            others: requests().count() as u64 - succeeded,
            input_tokens: sum(|sample| sample.input_tokens),
            output_tokens: sum(|sample| sample.output_tokens),
            cached_tokens: parts.iter().map(|samples| samples.cached_tokens).sum(),
            token_gaps: parts.iter().fold(TokenGaps::default(), |sum, samples| TokenGaps {
                count: sum.count + samples.token_gaps.count,
                ns: sum.ns + samples.token_gaps.ns,
            }),
            mean_send_lag_s: lags.filter(|_| count > 0.0).map(|ns| ns as f64 / count / 1e9),
            mean_connect_s: if count > 0.0 { connects as f64 / count / 1e9 } else { 0.0 },
        }
    }
}

/// The client's side of the comparison. The server's metrics cover every request from the first one of the warm-up to the
/// end of the run, and those of a witness, so these series and totals do, too.
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
    /// Every answer was streamed.
    pub streamed: bool,
    /// Choices of each answer.
    pub choices: u64,
}

/// Compares the figures of a run with the server's metrics over the same time.
pub fn compare(s: ClientSide<'_>, window: &Window) -> Reconciliation {
    let histogram = |quantity| window.histograms.get(&quantity);
    let gauge = |quantity| window.gauges.get(&quantity).copied();
    let times = [
        (Quantity::Ttft, Figure::Ttft, &s.series.service_ttft_s, None),
        (Quantity::Itl, Figure::Itl, &s.series.itl_s, None),
        (Quantity::Tpot, Figure::Tpot, &s.series.tpot_s, s.series.tpot_range.as_ref()),
        (Quantity::Latency, Figure::Latency, &s.series.service_latency_s, None),
    ];
    let mut compared: Vec<Compared> = times
        .into_iter()
        .filter_map(|(quantity, name, series, range)| {
            let skew = skew(s, window, quantity);
            Some(compare_time((s, skew), quantity, name, (series, range), histogram(quantity)?))
        })
        .collect();
    compared.extend(time_per_token(s, window));
    Reconciliation {
        server: window.server,
        window_s: window.to.seconds_since(window.from),
        scrapes: window.scrapes,
        resets: window.resets,
        times: compared,
        counts: counts(s.totals, s.choices, window),
        split: histogram(Quantity::Ttft)
            .filter(|ttft| is_comparable(s, &ttft.value))
            .and_then(|ttft| split(s, &ttft.value)),
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

/// Findings about the comparison: one for all times that differ, because they have one cause.
pub fn findings(of: &Reconciliation) -> Vec<Finding> {
    let mut found = Vec::new();
    let server = || of.server.to_string();
    if let Some((ApartFigure { figure, by_ns, longer_here }, also)) = apart(of) {
        let equal_counts = !of.counts.is_empty() && of.counts.iter().all(|count| count.equal == Some(true));
        found.push(Finding::ServerApart { figure, server: server(), by_ns, longer_here, also, equal_counts });
    }
    found.extend(frontend_time(of));
    let unequal = of.counts.iter().filter(|count| count.equal == Some(false));
    let one =
        |count: &Counted| Some(UnequalCount { quantity: count.name, client: count.client?, server: count.server });
    let counts: Vec<UnequalCount> = unequal.filter_map(one).collect();
    if !counts.is_empty() {
        found.push(Finding::ServerCounts { server: server(), counts });
    }
    if of.resets > 0 {
        found.push(Finding::ServerRestarted { server: server() });
    }
    found
}

/// The time that differs the most, and the others.
fn apart(of: &Reconciliation) -> Option<(ApartFigure, Vec<ApartFigure>)> {
    let times = of.times.iter().filter_map(|time| time.verdict.apart(time.name));
    most_apart(times.collect())
}

/// The largest difference, and the others in their order.
pub(super) fn most_apart(mut all: Vec<ApartFigure>) -> Option<(ApartFigure, Vec<ApartFigure>)> {
    let (place, _) = all.iter().enumerate().max_by_key(|(_, apart)| apart.by_ns)?;
    Some((all.remove(place), all))
}

/// A large part of TTFT outside of the server's own measurement.
fn frontend_time(of: &Reconciliation) -> Option<Finding> {
    let ttft = of.times.iter().find(|time| time.name == Figure::Ttft && time.verdict == Verdict::Consistent)?;
    let (frontend_s, share) = (ttft.frontend_s?, ttft.frontend_s? / ttft.client_mean_s?);
    let is_large = frontend_s > FRONTEND_NOTED_S && share > FRONTEND_NOTED_SHARE;
    is_large.then(|| Finding::FrontendTime { server: of.server.to_string(), by_ns: (frontend_s * 1e9) as u64, share })
}

/// By how much the frontend and the network may have made the client's figure shorter and longer, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Skew {
    shorter_s: f64,
    longer_s: f64,
}

/// The effect of the frontend and the network on the times between tokens. It is known if the server measures both TTFT and
/// latency: the client's means are longer by what the first and the last token were held up.
///
/// - All gaps together are shorter by the difference of the two, which gives the mean ITL exactly.
/// - TPOT is a mean over requests of different lengths. The hold-up of the first token shortens it, that of the last one
///   lengthens it, each by at most as much as if all of it were in the shortest answers.
fn skew(s: ClientSide<'_>, window: &Window, quantity: Quantity) -> Skew {
    let outside = |quantity, series: &Series| {
        let delta = window.histograms.get(&quantity).filter(|delta| delta.meaning == Meaning::WithinClient)?;
        let is_comparable = is_comparable(s, &delta.value) || (s.streamed && s.choices > 1);
        Some(series.mean? - delta.value.mean()?).filter(|_| is_comparable)
    };
    let first = outside(Quantity::Ttft, &s.series.service_ttft_s);
    let last = outside(Quantity::Latency, &s.series.service_latency_s);
    let Some((first, last)) = first.zip(last) else { return Skew::default() };
    let tokens = |all: Option<f64>| (all.unwrap_or(0.0) / s.choices.max(1) as f64 - 1.0).max(1.0);
    match quantity {
        Quantity::Itl => {
            let by_s = (first - last) / tokens(s.series.output_tokens.mean);
            Skew { shorter_s: by_s.max(0.0), longer_s: (-by_s).max(0.0) }
        }
        Quantity::Tpot => {
            // The server's mean TTFT is that of all choices, the client's that of the first.
            let first = if s.choices > 1 { first.max(last) } else { first };
            let least = tokens(s.series.output_tokens.min);
            Skew { shorter_s: first.max(0.0) / least, longer_s: last.max(0.0) / least }
        }
        _ => Skew::default(),
    }
}

/// `range`: the ends, if the client's figure is a range.
fn compare_time(
    (s, skew): (ClientSide<'_>, Skew),
    quantity: Quantity,
    name: Figure,
    (series, range): (&Series, Option<&TpotRange>),
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
        client_ends: range.and_then(ends),
        server_mean_s: histogram.mean(),
        levels: LEVELS.into_iter().filter_map(at).collect(),
        frontend_s: None,
        measurement_error_s: s.tolerance.measurement_error_s,
        silent_tokens: 0,
        verdict: Verdict::Consistent,
    };
    if quantity == Quantity::Itl {
        count_silent_tokens(s.totals, &mut compared);
    }
    compared.verdict = judge((s, skew), quantity, &compared, delta.meaning);
    if delta.meaning == Meaning::WithinClient && !matches!(compared.verdict, Verdict::NotJudged(_)) {
        let difference = compared.client_mean_s.zip(compared.server_mean_s).map(|(client, server)| client - server);
        compared.frontend_s = difference.filter(|difference| *difference >= 0.0);
    }
    compared
}

/// The server observes a gap for each token. If it has an observation for each token without text as well, the client's mean
/// is that over the same gaps.
fn count_silent_tokens(totals: &Totals, c: &mut Compared) {
    let gaps = totals.token_gaps;
    if gaps.count <= c.client_count || are_near(c.client_count, c.server_count) || !are_near(gaps.count, c.server_count)
    {
        return;
    }
    c.silent_tokens = gaps.count - c.client_count;
    c.client_count = gaps.count;
    c.client_mean_s = Some(gaps.ns / gaps.count as f64 / 1e9);
    c.levels.clear();
}

/// Whether two numbers of observations may be of the same things.
fn are_near(one: u64, other: u64) -> bool {
    let (one, other) = (one as f64, other as f64);
    (one - other).abs() <= COUNT_TOLERANCE * one.max(other)
}

fn ends(range: &TpotRange) -> Option<(RangeEnd, RangeEnd)> {
    let end = |series: &Series| {
        let levels_s = LEVELS.into_iter().map(|level| series.value(level)).collect::<Option<Vec<f64>>>()?;
        Some(RangeEnd { mean_s: series.mean?, levels_s })
    };
    end(&range.low_s).zip(end(&range.high_s))
}

fn judge((s, skew): (ClientSide<'_>, Skew), quantity: Quantity, c: &Compared, meaning: Meaning) -> Verdict {
    if let Some(why) = not_judged(s, quantity, c, meaning) {
        return Verdict::NotJudged(why);
    }
    // The server's interval is part of the client's, so there is no limit above: the rest is the frontend and the network.
    let within = meaning == Meaning::WithinClient;
    let jitter_s = if within { 0.0 } else { JITTER_S };
    let below = c.measurement_error_s + jitter_s + skew.shorter_s;
    let above = c.measurement_error_s + jitter_s + skew.longer_s;
    let mean = match (c.client_mean_s, c.server_mean_s) {
        (Some(client), Some(server)) => {
            let part = if within { 0.0 } else { PER_TOKEN_SLACK * server };
            let high = (!within).then_some(server + above + part);
            let (low, upper) = c.client_ends.as_ref().map_or((client, client), |(low, high)| (low.mean_s, high.mean_s));
            beyond(low, upper, server - below - part, high)
        }
        _ => 0.0,
    };
    // Jitter averages out in a mean, but not in a tail.
    let slack = if within { 0.0 } else { SLACK };
    let merged = quantity == Quantity::Itl && s.client.coalesced_events.unwrap_or(0.0) > COALESCED;
    // Per choice here and there, but a request has one value for all of its choices here.
    let only_mean = merged || (quantity == Quantity::Tpot && s.choices > 1);
    let levels =
        LEVELS.iter().zip(&c.levels).enumerate().filter(|_| !only_mean).map(|(row, (level, (client, server)))| {
            let (low, high) = client.interval.map_or((None, None), |interval| (interval.low, interval.high));
            let (low, high) = (low.unwrap_or(client.value), high.unwrap_or(client.value));
            let ends = c.client_ends.as_ref().map(|(low, high)| (low.levels_s[row], high.levels_s[row]));
            let (low, high) = ends.map_or((low, high), |ends| (low.min(ends.0), high.max(ends.1)));
            let reach = |edge: f64| edge * (1.0 + slack) + above;
            // A longer tail here is what frontends and networks add now and then.
            let limited = !within && *level <= 500;
            beyond(low, high, server.low * (1.0 - slack) - below, server.high.filter(|_| limited).map(reach))
        });
    let by_s = levels.fold(mean, |most: f64, by| if by.abs() > most.abs() { by } else { most });
    if by_s == 0.0 { Verdict::Consistent } else { Verdict::Apart { by_s } }
}

/// Whether the server's observations of TTFT are of the requests that the client measured.
fn is_comparable(s: ClientSide<'_>, ttft: &Histogram) -> bool {
    s.streamed && are_near(s.series.service_ttft_s.count as u64, ttft.count())
}

fn not_judged(s: ClientSide<'_>, quantity: Quantity, c: &Compared, meaning: Meaning) -> Option<NotJudged> {
    if meaning == Meaning::PrefillIncluded {
        return Some(NotJudged::PrefillIncluded);
    }
    if s.killed {
        return Some(NotJudged::Killed);
    }
    if quantity == Quantity::Ttft && !s.streamed {
        return Some(NotJudged::NotStreamed);
    }
    if c.server_count == 0 || c.client_count == 0 {
        return Some(NotJudged::NothingObserved);
    }
    if are_near(c.client_count, c.server_count) {
        return None;
    }
    if s.choices > 1 && quantity != Quantity::Itl && are_near(c.client_count * s.choices, c.server_count) {
        // The mean over all choices is the mean of the requests' means.
        let choices = s.choices;
        return (quantity != Quantity::Tpot).then_some(NotJudged::EachChoice { choices });
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
        client_ends: s.series.tpot_range.as_ref().and_then(ends),
        server_mean_s: (tokens.value > 0.0).then(|| seconds.value / tokens.value),
        levels: Vec::new(),
        frontend_s: None,
        measurement_error_s: s.tolerance.measurement_error_s,
        silent_tokens: 0,
        verdict: Verdict::NotJudged(NotJudged::MeanOverTokens),
    })
}

fn counts(totals: &Totals, choices: u64, window: &Window) -> Vec<Counted> {
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
            // vLLM runs each choice as a request of its own, with the prompt.
            Some(client) if choices > 1 && quantity != Quantity::OutputTokens && client * choices == server => {
                (Some(true), Some(CountNote::EachChoice { choices }))
            }
            Some(client) => (Some(client == server), without_cached.then_some(CountNote::WithoutCached)),
        };
        Some(Counted { name, metric: delta.name, client, server, equal, note })
    };
    rows.into_iter().filter_map(row).collect()
}

fn split(s: ClientSide<'_>, ttft: &Histogram) -> Option<Split> {
    // The server's time is of all responses, ours of streamed ones only.
    if s.series.ttft_s.count as u64 != s.totals.ok {
        return None;
    }
    let (whole_s, server_s) = (s.series.ttft_s.mean?, ttft.mean()?);
    let connect_s = s.totals.mean_connect_s;
    let send_lag_s = s.totals.mean_send_lag_s? - connect_s;
    // A read without a timestamp counts from its processing. Its delay is estimated by the lag of the other reads.
    let unstamped = 1.0 - s.client.stamped_reads.unwrap_or(1.0);
    let receive_lag_s = unstamped * s.client.receive_lag.p50 as f64 / 1e9;
    let between_s = whole_s - connect_s - send_lag_s - receive_lag_s - server_s;
    // A negative rest means that the server's figure is not part of the client's, which the verdict says.
    (between_s >= 0.0).then_some(Split { whole_s, connect_s, send_lag_s, receive_lag_s, server_s, between_s })
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
    fn held_up_first_tokens_shorten_the_time_per_token_of_short_answers_the_most() {
        let mut window = Window::default();
        let mut put = |quantity, mean_s: f64| {
            let value = Histogram { buckets: vec![(f64::INFINITY, 10)], sum: Some(10.0 * mean_s) };
            let delta = Delta { name: "any", meaning: Meaning::WithinClient, value };
            window.histograms.insert(quantity, delta);
        };
        // The first token was held up for 15 ms, the last one for 10 ms.
        put(Quantity::Ttft, 0.085);
        put(Quantity::Latency, 0.290);
        let of = |value: f64| Series::from_values(std::iter::repeat_n(value, 10));
        let tokens = Series::from_values([3.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0].into_iter());
        let series = AllSeries {
            service_ttft_s: of(0.1),
            service_latency_s: of(0.3),
            output_tokens: tokens,
            ..AllSeries::default()
        };
        let (client, totals) = (Client::default(), Totals::default());
        let side = ClientSide {
            series: &series,
            client: &client,
            tolerance: Tolerance { measurement_error_s: 0.0 },
            totals: &totals,
            killed: false,
            with_witness: false,
            streamed: true,
            choices: 1,
        };
        let near = |skew: Skew, shorter_s: f64, longer_s: f64| {
            let differences = [skew.shorter_s - shorter_s, skew.longer_s - longer_s];
            assert!(differences.iter().all(|by| by.abs() < 1e-12), "{skew:?}");
        };
        near(skew(side, &window, Quantity::Itl), 0.005 / 7.4, 0.0);
        near(skew(side, &window, Quantity::Tpot), 0.015 / 2.0, 0.010 / 2.0);
        assert_eq!(skew(side, &window, Quantity::Latency), Skew::default());
        assert_eq!(skew(ClientSide { streamed: false, ..side }, &window, Quantity::Tpot), Skew::default());
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
        let equal = |totals: &Totals| counts(totals, 1, &window).iter().map(|count| count.equal).collect::<Vec<_>>();
        assert_eq!(equal(&totals), [Some(true), Some(true), Some(false)]);
        assert_eq!(equal(&Totals { others: 1, ..totals }), [None, None, None]);
        assert_eq!(equal(&Totals { output_tokens: None, ..totals })[2], None);
        // The server counts requests and prompts of each choice.
        let half = Totals { ok: 5, input_tokens: Some(65), output_tokens: Some(41), ..totals };
        let counted = counts(&half, 2, &window);
        assert_eq!(counted.iter().map(|count| count.equal).collect::<Vec<_>>(), [Some(true); 3]);
        assert_eq!(counted[0].note, Some(CountNote::EachChoice { choices: 2 }));
        assert_eq!(counts(&half, 3, &window)[0].equal, Some(false));
    }
}
