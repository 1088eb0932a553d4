//! The figures of two sides, and a verdict on each difference.

use crate::finding::Figure;
use crate::report::Measured;
use crate::report::advice::{Grade, success_rate};
use crate::report::i18n::{Label, Statistic};
use crate::stats::Summary;
use crate::stats::comparison::{self, Difference};
use crate::stats::quantile::Series;
use crate::stats::samples::{Sample, Samples};
use crate::stats::time_bounds::highest_at_most_s;

/// The kind of a figure, which decides its verdict and format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number of requests; without a verdict.
    Count,
    /// From 0 to 1.
    Share,
    /// Per second.
    Rate,
    /// Seconds.
    Time,
}

/// The verdict on a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Better,
    Worse,
    /// The interval contains 0.
    NotSure,
    /// Both sides have the figure, but there are too few samples for an interval.
    TooFew,
    /// A side does not have the figure.
    Unknown,
    /// The success rates differ, so the figure is not of the same work.
    NotComparable,
    /// A side is void.
    Void,
    /// Figures without a verdict.
    None,
}

/// A figure of one side: the mean if runs were repeated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    pub value: Option<f64>,
    /// A percentile with too few samples beyond it in at least one run.
    pub few: bool,
    /// The upper bound of a percentile that the client's error exceeds in at least one run, which is all that is known of
    /// it: the highest of these bounds.
    pub at_most: Option<f64>,
}

impl Value {
    /// Between which values the true one is.
    fn range(&self) -> Option<(f64, f64)> {
        match self.at_most {
            Some(bound) => Some((0.0, bound)),
            None => self.value.map(|value| (value, value)),
        }
    }
}

/// The name of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowName {
    Label(Label),
    Time(Statistic, Figure),
}

/// One figure of two sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: RowName,
    pub kind: Kind,
    pub a: Value,
    pub b: Value,
    /// `None` if a side has too few samples for an interval.
    pub difference: Option<Difference>,
    pub verdict: Verdict,
}

impl Row {
    /// `b − a`; `None` if only a bound of one of them is known.
    pub fn change(&self) -> Option<f64> {
        self.a.value.zip(self.b.value).filter(|_| !self.is_bounded()).map(|(a, b)| b - a)
    }

    /// Only an upper bound of the figure is known on a side.
    pub(crate) fn is_bounded(&self) -> bool {
        self.a.at_most.is_some() || self.b.at_most.is_some()
    }

    /// Both sides may have the same true value.
    fn may_be_equal(&self) -> bool {
        self.a.range().zip(self.b.range()).is_some_and(|(a, b)| a.0 <= b.1 && b.0 <= a.1)
    }

    /// The change in percent of the first side's value; `None` for shares and counts.
    pub(crate) fn percent(&self) -> Option<f64> {
        let a = self.a.value.filter(|a| *a != 0.0 && matches!(self.kind, Kind::Rate | Kind::Time))?;
        self.change().map(|change| change / a * 100.0)
    }
}

/// The comparison of all figures of two sides.
#[derive(Clone, Debug)]
pub struct Compared {
    pub rows: Vec<Row>,
    /// The success rates differ significantly, or one is too low for its times to represent all requests.
    pub unlike: bool,
}

/// Compares every figure of the runs `b` with the runs `a`; each side has at least one run.
pub fn compare(a: &[&Measured], b: &[&Measured]) -> Compared {
    let sides = Sides { a, b };
    let mut rows = sides.counts();
    let success = sides.success();
    let too_low = |value: &Value| Grade::from_share(value.value) != Grade::Good;
    let unlike =
        too_low(&success.a) || too_low(&success.b) || success.difference.is_some_and(|difference| difference.is_sure());
    let standing = Standing { void: [a, b].into_iter().flatten().any(|run| run.summary.is_void()), unlike };
    let change = success.change();
    rows.push(success);
    rows.extend(sides.rates());
    TIMES.iter().for_each(|time| rows.extend(sides.times(time)));
    for row in &mut rows {
        row.verdict = standing.verdict(row, change);
        if row.is_bounded() {
            row.difference = None;
        }
    }
    Compared { rows, unlike }
}

/// Facts that apply to all figures of two sides.
struct Standing {
    void: bool,
    unlike: bool,
}

impl Standing {
    /// The verdict on a row; `success` is the change of the success rate.
    fn verdict(&self, row: &Row, success: Option<f64>) -> Verdict {
        let known = row.a.value.is_some() && row.b.value.is_some();
        match (row.kind, by_interval(row)) {
            (Kind::Count, _) => Verdict::None,
            _ if !known => Verdict::Unknown,
            _ if self.void => Verdict::Void,
            (Kind::Time, _) if self.unlike => Verdict::NotComparable,
            // A higher rate with more failures: rejecting requests is not an improvement.
            (Kind::Rate, Verdict::Better) if self.unlike && success.is_some_and(|change| change < 0.0) => {
                Verdict::NotComparable
            }
            (Kind::Rate, Verdict::Worse) if self.unlike && success.is_some_and(|change| change > 0.0) => {
                Verdict::NotComparable
            }
            (_, Verdict::Better | Verdict::Worse) if row.is_bounded() && row.may_be_equal() => Verdict::NotSure,
            (_, verdict) => verdict,
        }
    }
}

fn by_interval(row: &Row) -> Verdict {
    let more_is_better = row.kind != Kind::Time;
    match row.difference {
        Some(difference) if difference.is_sure() => {
            if (difference.value > 0.0) == more_is_better {
                Verdict::Better
            } else {
                Verdict::Worse
            }
        }
        Some(difference) if difference.is_bounded() => Verdict::NotSure,
        _ => Verdict::TooFew,
    }
}

struct Sides<'a> {
    a: &'a [&'a Measured],
    b: &'a [&'a Measured],
}

impl Sides<'_> {
    /// A row over all runs. The interval of single runs (`within`) is used only if no run was repeated, because repeats
    /// measure the variation between runs.
    fn row(
        &self,
        name: RowName,
        kind: Kind,
        of: impl Fn(&Summary) -> Option<f64>,
        within: impl Fn(&Measured, &Measured) -> Option<Difference>,
    ) -> Row {
        let values = |side: &[&Measured]| -> Vec<f64> { side.iter().filter_map(|run| of(&run.summary)).collect() };
        let (a, b) = (values(self.a), values(self.b));
        let mean = |values: &[f64]| Value {
            value: (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64),
            few: false,
            at_most: None,
        };
        let difference = match (self.a, self.b) {
            ([a], [b]) => within(a, b),
            _ => comparison::compare_runs(&a, &b),
        };
        Row { name, kind, a: mean(&a), b: mean(&b), difference, verdict: Verdict::None }
    }

    fn counts(&self) -> Vec<Row> {
        let count = |label, of: fn(&Summary) -> u64| Row {
            difference: None,
            ..self.row(RowName::Label(label), Kind::Count, |s| Some(of(s) as f64), |_, _| None)
        };
        let mut rows = vec![
            count(Label::SucceedRequests, |s| s.counts.ok),
            count(Label::FailedRequests, |s| s.counts.failed),
            count(Label::UnfinishedRequests, |s| s.counts.unfinished),
        ];
        let unsent = count(Label::UnsentRequests, |s| s.counts.unsent);
        rows.extend(Some(unsent).filter(|row| row.a.value != Some(0.0) || row.b.value != Some(0.0)));
        rows
    }

    fn success(&self) -> Row {
        let ended = |run: &Measured| -> Vec<bool> {
            run.samples.iter().filter(|sample| sample.ok || sample.failed).map(|sample| sample.ok).collect()
        };
        let within = |a: &Measured, b: &Measured| comparison::compare_shares(&ended(a), &ended(b));
        let mut row = self.row(RowName::Label(Label::SuccessRate), Kind::Share, success_rate, within);
        // The interval of a share can exceed the range of shares.
        if let Some(difference) = &mut row.difference {
            difference.low = difference.low.map(|low| low.max(-1.0));
            difference.high = difference.high.map(|high| high.min(1.0));
        }
        row
    }

    fn rates(&self) -> [Row; 2] {
        let within = |amount: fn(&Sample) -> f64| {
            move |a: &Measured, b: &Measured| {
                comparison::compare_means(
                    &comparison::throughput_samples(&a.samples, amount),
                    &comparison::throughput_samples(&b.samples, amount),
                )
            }
        };
        let tokens: fn(&Sample) -> f64 = |sample| f64::from(sample.output_tokens.unwrap_or(0));
        [
            self.row(RowName::Label(Label::RequestsPerS), Kind::Rate, |s| s.throughput.requests_per_s, within(|_| 1.0)),
            self.row(
                RowName::Label(Label::OutputTokPerS),
                Kind::Rate,
                |s| s.throughput.output_tokens_per_s,
                within(tokens),
            ),
        ]
    }

    fn times(&self, time: &Time) -> Vec<Row> {
        let mean = |s: &Summary| (time.series)(s).mean;
        let compare_means = |a: &Measured, b: &Measured| (time.mean_difference)(&a.samples, &b.samples);
        let name = |statistic| RowName::Time(statistic, time.figure);
        let mut rows = vec![self.row(name(Statistic::Average), Kind::Time, mean, compare_means)];
        let quantiles = [Statistic::P50, Statistic::P90, Statistic::P99];
        for (statistic, per_mille) in quantiles.into_iter().filter_map(|of| Some((of, of.per_mille()?))) {
            let value = |s: &Summary| (time.series)(s).value(per_mille);
            let within = |a: &Measured, b: &Measured| {
                quantile_difference((time.series)(&a.summary), (time.series)(&b.summary), per_mille)
            };
            let few = |side: &[&Measured]| {
                side.iter().any(|run| (time.series)(&run.summary).at(per_mille).is_some_and(|quantile| quantile.few))
            };
            let mut row = self.row(name(statistic), Kind::Time, value, within);
            (row.a.few, row.b.few) = (few(self.a), few(self.b));
            let at_most =
                |side: &[&Measured]| highest_at_most_s(side.iter().map(|run| &run.summary), time.figure, per_mille);
            (row.a.at_most, row.b.at_most) = (at_most(self.a), at_most(self.b));
            rows.push(row);
        }
        rows
    }
}

/// A time with its figures.
struct Time {
    figure: Figure,
    series: fn(&Summary) -> &Series,
    mean_difference: fn(&Samples, &Samples) -> Option<Difference>,
}

const TIMES: [Time; 4] = [
    Time {
        figure: Figure::Ttft,
        series: |s| &s.series.ttft_s,
        mean_difference: |a, b| compare_means(a, b, |sample| sample.ttft.map(|ns| ns as f64)),
    },
    Time {
        figure: Figure::Itl,
        series: |s| &s.series.itl_s,
        mean_difference: |a, b| comparison::compare_ratios(&gaps(a), &gaps(b)),
    },
    Time {
        figure: Figure::Tpot,
        series: |s| &s.series.tpot_s,
        mean_difference: |a, b| compare_means(a, b, |sample| sample.tpot),
    },
    Time {
        figure: Figure::Latency,
        series: |s| &s.series.latency_s,
        mean_difference: |a, b| compare_means(a, b, |sample| Some(sample.latency as f64)),
    },
];

/// Difference of the means, in seconds, of a time in nanoseconds over the succeeded requests.
fn compare_means(a: &Samples, b: &Samples, ns: fn(&Sample) -> Option<f64>) -> Option<Difference> {
    let seconds = |samples: &Samples| -> Vec<f64> {
        samples.iter().filter(|sample| sample.ok).filter_map(|sample| ns(&sample)).map(|ns| ns / 1e9).collect()
    };
    comparison::compare_means(&seconds(a), &seconds(b))
}

/// The gaps of each request: their sum in seconds, and their number.
fn gaps(samples: &Samples) -> Vec<(f64, f64)> {
    let with_gaps = samples.iter().filter(|sample| sample.ok && sample.gaps > 0);
    with_gaps.map(|sample| (sample.gaps_ns as f64 / 1e9, f64::from(sample.gaps))).collect()
}

fn quantile_difference(a: &Series, b: &Series, per_mille: u32) -> Option<Difference> {
    let pair = a.at(per_mille).zip(b.at(per_mille));
    let (a, b) = pair.filter(|(a, b)| a.interval.is_some() && b.interval.is_some())?;
    Some(comparison::compare_quantiles(a, b))
}
