//! The distribution of a set of gaps between output events, in memory that does not depend on their number: the gaps are
//! read in several passes, and every rank is exact.
//!
//! 1. Count the gaps in coarse buckets: their number and mean, and where the wanted ranks are.
//! 2. Select the values of these ranks, and the times that divide the gaps in batches for the design effect.
//! 3. Count the gaps of each batch up to each quantile: the ranks of the ends of the confidence intervals.
//! 4. Select the values of those.
//!
//! Sums are integers, so that no result depends on the order in which the gaps are read.

use super::confidence::{self, BATCHES, Interval};
use super::quantile::{Bound, LEVELS, Level, Quantile, SAMPLES_BEYOND, Series, nearest_rank};
use super::selection::{Key, SelectedKey, Selection};
use crate::record::STALL_NS;
use crate::record::arrivals::Gap;

/// Gaps whose ends may be off by more than this share of the mean gap, and by more than a stall, are doubtful.
const DOUBTFUL_OF_MEAN: f64 = 0.10;
/// Bits of the coarse buckets of values.
const VALUE_BITS: u32 = 12;
/// All levels but the maximum, which has no interval.
const INNER: usize = LEVELS.len() - 1;

/// Gaps between tokens that a stall may have changed, because their events came in shared reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Doubtful {
    /// Share of all gaps.
    pub share: f64,
    /// Largest error, nanoseconds.
    pub by_ns: u64,
}

/// What is computed of a set of gaps.
#[derive(Clone, Copy, Debug, Default)]
pub struct GapsWanted {
    /// First and last time of the run, tick nanoseconds.
    pub span: (u64, u64),
    /// The error of a gap in either direction, for bounds and doubtful gaps; `None` without them.
    pub margin_ns: Option<u64>,
    /// Failed requests for each succeeded one: the quantiles among these gaps and as many infinite ones for each failed
    /// request as a succeeded one has on average are computed too.
    pub failed_share: Option<f64>,
}

/// The figures of a set of gaps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GapFigures {
    pub series_s: Series,
    /// One for each of [`LEVELS`]; empty if not wanted, or without gaps.
    pub bounds_s: Vec<Bound>,
    pub doubtful: Option<Doubtful>,
    /// Quantiles among the failed, seconds, one for each of [`LEVELS`]; infinite if they decide it. Empty if not wanted.
    pub among_failed_s: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Count,
    /// `first`: the mean is new.
    Select {
        first: bool,
    },
    CountBatches,
    SelectIntervals,
    Done,
}

/// A set of gaps while it is read.
#[derive(Clone, Debug)]
pub struct GapSet {
    wanted: GapsWanted,
    pass: Pass,
    count: u64,
    sum_ns: u128,
    values: Selection,
    /// The lower and upper bounds of all gaps.
    bounds: Option<Box<(Selection, Selection)>>,
    cuts: Selection,
    spread: Spread,
    batches: Option<Box<Batches>>,
    /// Design effects of the inner levels.
    effects: Option<[f64; INNER]>,
}

/// What is summed once the mean is known.
#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    /// The mean, rounded, nanoseconds.
    center_ns: u64,
    squares: u128,
    /// Gaps whose ends may be off by more than this are doubtful.
    doubtful_from_ns: f64,
    doubtful: u64,
    doubtful_by_ns: u32,
}

impl Spread {
    #[inline]
    fn add(&mut self, gap: &Gap) {
        let off = u128::from(gap.ns.abs_diff(self.center_ns));
        self.squares = self.squares.saturating_add(off * off);
        let early_ns = gap.early_begin_ns.max(gap.early_end_ns);
        if f64::from(early_ns) > self.doubtful_from_ns {
            self.doubtful += 1;
            self.doubtful_by_ns = self.doubtful_by_ns.max(early_ns);
        }
    }

    fn join(&mut self, part: &Spread) {
        self.squares = self.squares.saturating_add(part.squares);
        self.doubtful += part.doubtful;
        self.doubtful_by_ns = self.doubtful_by_ns.max(part.doubtful_by_ns);
    }
}

/// The gaps of batches of equal size in time order, counted by the levels whose quantiles they do not exceed.
#[derive(Clone, Debug)]
struct Batches {
    /// The first key of the next batch, of each batch; the last one may have none.
    cuts: Vec<SelectedKey>,
    levels_ns: [u64; INNER],
    /// By batch, and the lowest level that is at least the gap. Gaps after the last batch are in the last entry.
    counts: [[u64; INNER + 1]; BATCHES + 1],
    /// The batch of the gap before.
    last: usize,
}

impl Batches {
    #[inline]
    fn add(&mut self, gap: &Gap) {
        let key = time_key(gap);
        let fits = |cuts: &[SelectedKey], batch: usize| {
            cuts.get(batch).is_none_or(|cut| key < cut.key) && (batch == 0 || cuts[batch - 1].key <= key)
        };
        if !fits(&self.cuts, self.last) {
            self.last = self.cuts.partition_point(|cut| cut.key <= key);
        }
        let level: usize = self.levels_ns.iter().map(|&level_ns| usize::from(level_ns < gap.ns)).sum();
        self.counts[self.last][level] += 1;
    }

    fn fork(&self) -> Batches {
        Batches { counts: Default::default(), ..self.clone() }
    }

    fn join(&mut self, part: &Batches) {
        for (sums, counts) in self.counts.iter_mut().zip(&part.counts) {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }

    /// The gaps of each batch up to a level. Of equal keys at a cut, some belong to the batch before.
    fn up_to(&self, level: usize) -> Vec<usize> {
        let at_or_below = |counts: &[u64; INNER + 1]| counts[..=level].iter().sum::<u64>();
        let mut sum = 0;
        let mut before = 0;
        let mut counts = Vec::with_capacity(BATCHES);
        for batch in 0..BATCHES {
            sum += at_or_below(&self.counts[batch]);
            let of_equal = self.cuts.get(batch).filter(|cut| cut.key.second <= self.levels_ns[level]);
            let until = sum + of_equal.map_or(0, |cut| cut.inside);
            counts.push((until - before) as usize);
            before = until;
        }
        counts
    }
}

/// Time order; of gaps that end at the same time, the shorter one is first.
fn time_key(gap: &Gap) -> Key {
    Key { first: gap.at, second: gap.ns }
}

fn value_key(ns: u64) -> Key {
    Key { first: ns, second: 0 }
}

impl GapSet {
    pub fn new(wanted: GapsWanted) -> GapSet {
        let values = || Selection::values(VALUE_BITS);
        GapSet {
            wanted,
            pass: Pass::Count,
            count: 0,
            sum_ns: 0,
            values: values(),
            bounds: wanted.margin_ns.map(|_| Box::new((values(), values()))),
            cuts: Selection::cuts(wanted.span.0, wanted.span.1),
            spread: Spread::default(),
            batches: None,
            effects: None,
        }
    }

    /// Adds gaps to the current pass, in any order.
    pub fn add(&mut self, gaps: &[Gap]) {
        match self.pass {
            Pass::Count => {
                self.count += gaps.len() as u64;
                self.sum_ns += gaps.iter().map(|gap| u128::from(gap.ns)).sum::<u128>();
                self.select(gaps);
            }
            Pass::Select { first } => {
                if first {
                    gaps.iter().for_each(|gap| self.spread.add(gap));
                }
                self.select(gaps);
            }
            Pass::CountBatches => {
                if let Some(batches) = &mut self.batches {
                    gaps.iter().for_each(|gap| batches.add(gap));
                }
            }
            Pass::SelectIntervals => gaps.iter().for_each(|gap| self.values.add(value_key(gap.ns))),
            Pass::Done => {}
        }
    }

    fn select(&mut self, gaps: &[Gap]) {
        for gap in gaps {
            self.values.add(value_key(gap.ns));
            self.cuts.add(time_key(gap));
        }
        let (Some(margin_ns), Some(bounds)) = (self.wanted.margin_ns, &mut self.bounds) else { return };
        for gap in gaps {
            let low_ns = gap.ns.saturating_sub(margin_ns.saturating_add(u64::from(gap.early_end_ns)));
            let high_ns = gap.ns.saturating_add(margin_ns.saturating_add(u64::from(gap.early_begin_ns)));
            bounds.0.add(value_key(low_ns));
            bounds.1.add(value_key(high_ns));
        }
    }

    /// A copy that reads another part of the gaps in this pass.
    pub fn fork(&self) -> GapSet {
        GapSet {
            count: 0,
            sum_ns: 0,
            values: self.values.fork(),
            bounds: self.bounds.as_ref().map(|bounds| Box::new((bounds.0.fork(), bounds.1.fork()))),
            cuts: self.cuts.fork(),
            spread: Spread { squares: 0, doubtful: 0, doubtful_by_ns: 0, ..self.spread },
            batches: self.batches.as_ref().map(|batches| Box::new(batches.fork())),
            ..*self
        }
    }

    /// Adds what a fork has read.
    pub fn join(&mut self, part: &GapSet) {
        self.count += part.count;
        self.sum_ns += part.sum_ns;
        self.values.join(&part.values);
        if let (Some(bounds), Some(of_part)) = (&mut self.bounds, &part.bounds) {
            bounds.0.join(&of_part.0);
            bounds.1.join(&of_part.1);
        }
        self.cuts.join(&part.cuts);
        self.spread.join(&part.spread);
        if let (Some(batches), Some(of_part)) = (&mut self.batches, &part.batches) {
            batches.join(of_part);
        }
    }

    /// Evaluates the pass in which all gaps were added.
    pub fn end_pass(&mut self) {
        self.pass = match self.pass {
            Pass::Count if self.count == 0 => Pass::Done,
            Pass::Count => {
                self.want_levels();
                Pass::Select { first: true }
            }
            Pass::Select { .. } => {
                let bounds = self.bounds.iter_mut().flat_map(|bounds| [&mut bounds.0, &mut bounds.1]);
                let mut selections: Vec<&mut Selection> =
                    [&mut self.values, &mut self.cuts].into_iter().chain(bounds).collect();
                selections.iter_mut().for_each(|selection| selection.end_pass());
                if selections.iter().any(|selection| selection.is_pending()) {
                    Pass::Select { first: false }
                } else {
                    self.begin_batches()
                }
            }
            Pass::CountBatches => self.want_intervals(),
            Pass::SelectIntervals => {
                self.values.end_pass();
                self.next_interval_pass()
            }
            Pass::Done => Pass::Done,
        };
    }

    /// Whether no further pass is needed.
    pub fn is_done(&self) -> bool {
        self.pass == Pass::Done
    }

    fn want_levels(&mut self) {
        let count = self.count as usize;
        let levels = || LEVELS.iter().map(|level| position(count, *level));
        let among_failed: Vec<u64> = self.ranks_among_failed().into_iter().flatten().collect();
        self.values.want(levels().chain([0]).chain(among_failed));
        if let Some(bounds) = &mut self.bounds {
            bounds.0.want(levels());
            bounds.1.want(levels());
        }
        let size = confidence::batch_size(count).unwrap_or(0) as u64;
        self.cuts.want((1..=BATCHES as u64).map(|batch| batch * size).filter(|&at| at > 0 && at < self.count));
        let mean_ns = self.mean_ns();
        self.spread.center_ns = mean_ns.round() as u64;
        self.spread.doubtful_from_ns = (STALL_NS as f64).max(DOUBTFUL_OF_MEAN * mean_ns);
    }

    fn mean_ns(&self) -> f64 {
        self.sum_ns as f64 / self.count as f64
    }

    /// The positions of the quantiles among the failed; `None` for one that is infinite.
    fn ranks_among_failed(&self) -> Vec<Option<u64>> {
        let Some(share) = self.wanted.failed_share else { return Vec::new() };
        let all = count_with_failed(self.count as usize, share);
        let position = |level: &Level| Some(position(all, *level)).filter(|&position| position < self.count);
        LEVELS.iter().map(position).collect()
    }

    fn level_ns(&self, level: Level) -> u64 {
        self.values.found(position(self.count as usize, level)).map_or(0, |found| found.key.first)
    }

    fn begin_batches(&mut self) -> Pass {
        let Some(size) = confidence::batch_size(self.count as usize) else { return Pass::Done };
        let cuts = (1..=BATCHES).filter_map(|batch| self.cuts.found((batch * size) as u64)).collect();
        let levels_ns = std::array::from_fn(|level| self.level_ns(LEVELS[level]));
        self.batches = Some(Box::new(Batches { cuts, levels_ns, counts: Default::default(), last: 0 }));
        Pass::CountBatches
    }

    fn want_intervals(&mut self) -> Pass {
        let count = self.count as usize;
        if let (Some(size), Some(batches)) = (confidence::batch_size(count), self.batches.take()) {
            let effect = |level: usize| {
                let counts = batches.up_to(level).into_iter();
                confidence::design_effect_of_batches(counts, size, LEVELS[level].share())
            };
            self.effects = Some(std::array::from_fn(effect));
        }
        let ends =
            (0..INNER).flat_map(|level| self.interval_ranks(level).into_iter().flat_map(|(low, high)| [low, high]));
        let wanted: Vec<u64> = ends.flatten().map(|rank| rank as u64 - 1).collect();
        self.values.want(wanted);
        self.next_interval_pass()
    }

    fn next_interval_pass(&self) -> Pass {
        if self.values.is_pending() { Pass::SelectIntervals } else { Pass::Done }
    }

    fn interval_ranks(&self, level: usize) -> Option<(Option<usize>, Option<usize>)> {
        Some(confidence::ranks(self.count as usize, self.effects?[level], LEVELS[level].share()))
    }

    /// The figures, after the last pass.
    pub fn figures(&self) -> GapFigures {
        if self.count == 0 {
            return GapFigures {
                among_failed_s: self.ranks_among_failed().iter().map(|_| f64::INFINITY).collect(),
                ..GapFigures::default()
            };
        }
        let value_s = |position: u64| self.values.found(position).map(|found| found.key.first as f64 / 1e9);
        let bound = |(low, high): (Option<SelectedKey>, Option<SelectedKey>)| {
            let seconds = |found: Option<SelectedKey>| found.map_or(0.0, |found| found.key.first as f64 / 1e9);
            Bound { low: seconds(low), high: seconds(high) }
        };
        let positions = LEVELS.iter().map(|level| position(self.count as usize, *level));
        let bounds = self.bounds.iter().flat_map(|bounds| {
            positions.clone().map(|position| bound((bounds.0.found(position), bounds.1.found(position))))
        });
        let doubtful = (self.wanted.margin_ns.is_some() && self.spread.doubtful > 0).then(|| Doubtful {
            share: self.spread.doubtful as f64 / self.count as f64,
            by_ns: u64::from(self.spread.doubtful_by_ns),
        });
        GapFigures {
            series_s: self.series(value_s),
            bounds_s: bounds.collect(),
            doubtful,
            among_failed_s: self
                .ranks_among_failed()
                .into_iter()
                .map(|position| position.and_then(value_s).unwrap_or(f64::INFINITY))
                .collect(),
        }
    }

    fn series(&self, value_s: impl Fn(u64) -> Option<f64>) -> Series {
        let count = self.count as usize;
        let quantile = |(place, level): (usize, &Level)| {
            let is_max = place == INNER;
            let at = |rank: Option<usize>| rank.and_then(|rank| value_s(rank as u64 - 1));
            let interval = if is_max { None } else { self.interval_ranks(place) };
            Quantile {
                value: value_s(position(count, *level)).unwrap_or(f64::NAN),
                few: !is_max && count - nearest_rank(count, level.per_mille) < SAMPLES_BEYOND,
                interval: interval.map(|(low, high)| Interval { low: at(low), high: at(high) }),
            }
        };
        let mean_ns = self.mean_ns();
        // Deviations from the rounded mean are exact; the rounding adds its own square.
        let off_center = mean_ns - self.spread.center_ns as f64;
        let variance = (self.spread.squares as f64 / self.count as f64 - off_center * off_center).max(0.0);
        Series {
            count,
            mean: Some(mean_ns / 1e9),
            deviation: Some(variance.sqrt() / 1e9),
            min: value_s(0),
            max: value_s(self.count - 1),
            quantiles: LEVELS.iter().enumerate().map(quantile).collect(),
        }
    }
}

/// The number of `count` values and of those of failed requests, `share` for each of them.
pub(super) fn count_with_failed(count: usize, share: f64) -> usize {
    count + (count as f64 * share).round().max(1.0) as usize
}

fn position(count: usize, level: Level) -> u64 {
    nearest_rank(count, level.per_mille) as u64 - 1
}

/// The figures of gaps in memory, each pass read in two parts.
#[cfg(test)]
pub(crate) fn figures_of(wanted: GapsWanted, gaps: &[Gap]) -> GapFigures {
    let mut set = GapSet::new(wanted);
    let mut passes = 0;
    while !set.is_done() {
        let mut part = set.fork();
        let (first, second) = gaps.split_at(gaps.len() / 3);
        set.add(first);
        part.add(second);
        set.join(&part);
        set.end_pass();
        passes += 1;
        assert!(passes < 100, "the passes do not end");
    }
    set.figures()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARGIN_NS: u64 = 20_200;

    /// Gaps of any length, many of them equal, which end at times of which some are equal, with bounds.
    fn gap() -> impl Strategy<Value = Gap> {
        let ns = prop_oneof![Just(0u64), 0..50u64, 9_900_000..10_100_000u64, 0..1u64 << 40];
        let early = || prop_oneof![Just(0u32), 0..5_000_000u32];
        let at = prop_oneof![1_000..1_020u64, 0..1u64 << 44];
        (at, ns, early(), early()).prop_map(|(at, ns, early_begin_ns, early_end_ns)| Gap {
            at,
            ns,
            early_begin_ns,
            early_end_ns,
        })
    }

    /// Without equal times, as in most runs.
    fn steady_gaps() -> impl Strategy<Value = Vec<Gap>> {
        proptest::collection::vec(gap(), 30..2_000).prop_map(|mut gaps| {
            for (place, gap) in gaps.iter_mut().enumerate() {
                gap.at = 5_000_000 + place as u64 * 333_333;
            }
            gaps
        })
    }

    /// The figures by sorting everything.
    fn by_sorting(wanted: GapsWanted, gaps: &[Gap]) -> GapFigures {
        let mut in_time_order = gaps.to_vec();
        in_time_order.sort_unstable_by_key(|gap| (gap.at, gap.ns));
        let mut series_s = Series::from_ns(in_time_order.iter().map(|gap| gap.ns as f64));
        let sum: u128 = gaps.iter().map(|gap| u128::from(gap.ns)).sum();
        if !gaps.is_empty() {
            // Sums of integers are exact, those of seconds depend on the order.
            let (mean_s, deviation_s) = (series_s.mean.unwrap(), series_s.deviation.unwrap());
            series_s.mean = Some(sum as f64 / gaps.len() as f64 / 1e9);
            assert!((series_s.mean.unwrap() - mean_s).abs() <= 1e-9 * mean_s);
            let mean_ns = sum as f64 / gaps.len() as f64;
            let center = mean_ns.round();
            let squares: u128 = gaps.iter().map(|gap| u128::from(gap.ns.abs_diff(center as u64)).pow(2)).sum();
            let variance = squares as f64 / gaps.len() as f64 - (mean_ns - center).powi(2);
            series_s.deviation = Some(variance.max(0.0).sqrt() / 1e9);
            assert!((series_s.deviation.unwrap() - deviation_s).abs() <= 1e-6 * mean_s, "{deviation_s}");
        }
        let sorted = |value: fn(&Gap) -> u64| {
            let mut values: Vec<u64> = gaps.iter().map(value).collect();
            values.sort_unstable();
            values
        };
        let lows = sorted(|gap| gap.ns.saturating_sub(MARGIN_NS + u64::from(gap.early_end_ns)));
        let highs = sorted(|gap| gap.ns + MARGIN_NS + u64::from(gap.early_begin_ns));
        let bound = |level: &Level| {
            let at = nearest_rank(gaps.len(), level.per_mille) - 1;
            Bound { low: lows[at] as f64 / 1e9, high: highs[at] as f64 / 1e9 }
        };
        let values = sorted(|gap| gap.ns);
        let among_failed = |share: f64| {
            let all = gaps.len() + (gaps.len() as f64 * share).round().max(1.0) as usize;
            let at = |level: &Level| values.get(nearest_rank(all, level.per_mille) - 1).map(|&ns| ns as f64 / 1e9);
            LEVELS.iter().map(|level| at(level).unwrap_or(f64::INFINITY)).collect()
        };
        let from_ns = (STALL_NS as f64).max(DOUBTFUL_OF_MEAN * sum as f64 / gaps.len().max(1) as f64);
        let early =
            gaps.iter().map(|gap| gap.early_begin_ns.max(gap.early_end_ns)).filter(|&ns| f64::from(ns) > from_ns);
        let doubtful = early
            .clone()
            .max()
            .map(|by_ns| Doubtful { share: early.count() as f64 / gaps.len() as f64, by_ns: u64::from(by_ns) });
        GapFigures {
            series_s,
            bounds_s: if gaps.is_empty() { Vec::new() } else { LEVELS.iter().map(bound).collect() },
            doubtful,
            among_failed_s: wanted.failed_share.map_or_else(Vec::new, among_failed),
        }
    }

    fn wanted(failed_share: Option<f64>) -> GapsWanted {
        GapsWanted { span: (1_000, 1 << 43), margin_ns: Some(MARGIN_NS), failed_share }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn figures_are_those_of_a_full_sort(
            gaps in prop_oneof![proptest::collection::vec(gap(), 0..400), steady_gaps()],
            failed_share in prop_oneof![Just(None), (0.01f64..3.0).prop_map(Some)],
        ) {
            prop_assert_eq!(figures_of(wanted(failed_share), &gaps), by_sorting(wanted(failed_share), &gaps));
        }
    }

    #[test]
    fn equal_gaps_that_end_at_one_time_are_divided_by_number() {
        let gap = |ns: u64| Gap { at: 7, ns, early_begin_ns: 0, early_end_ns: 0 };
        let gaps: Vec<Gap> = (0..3_000).map(|place| gap(if place % 3 == 0 { 5 } else { 9 })).collect();
        assert_eq!(figures_of(wanted(None), &gaps), by_sorting(wanted(None), &gaps));
    }
}
