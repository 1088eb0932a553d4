//! The samples of a run in little memory: a seventh of that of a [`Sample`] each.
//!
//! A row has a sample without what follows from the rest of it, with shorter numbers. What most runs lack, or can compute,
//! is in columns, which exist only in runs that need them. A sample that is not the same when it is read back, such as one
//! with a wait of a minute where seconds are usual, is kept as it is. The rows and columns of a long run are in temporary
//! files ([`LongList`]).

use std::collections::BTreeMap;
use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::metric::{package_latency, per_second};
use super::sample_columns::{Columns, Extras, NONE, NONE_LONG, long, long_ns, short, some};
use super::samples::Sample;
use crate::files::long_list::LongList;
use crate::record::Finish;
use crate::time::Tick;

/// The samples of a run, in the order in which they were added or, after [`Samples::sort`], by due time.
#[derive(Debug, Default)]
pub struct Samples {
    rows: LongList<Row>,
    columns: Columns,
    /// The ranges of TPOT and their numbers of intervals, of those that have a range.
    ranges: Vec<[f64; 4]>,
    /// The samples that no row can hold.
    others: Vec<Sample>,
}

/// Bits of [`Row::flags`].
const OK: u16 = 1;
const FAILED: u16 = 1 << 1;
const STREAMED: u16 = 1 << 2;
const BOUNDED: u16 = 1 << 3;
/// [`Row::extra`] is a place in [`Samples::ranges`]; otherwise it is the number of intervals of an exact TPOT.
const RANGE: u16 = 1 << 4;
/// [`Row::extra`] is a place in [`Samples::others`], and only `due` is set beside it.
const OTHER: u16 = 1 << 5;
/// TPOT is [`Row::gaps_ns`] / [`Row::extra`].
const TPOT_OF_GAPS: u16 = 1 << 6;
/// The first answer token is the first token.
const ANSWERS_AT_ONCE: u16 = 1 << 7;
/// The number of gaps is [`Row::extra`].
const GAPS_OF_TPOT: u16 = 1 << 8;

/// A sample. Names are those of its fields; lengths of time are nanoseconds.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct Row {
    due: u64,
    latency: [u8; 6],
    /// From `due` to the first byte sent.
    send_lag: [u8; 6],
    ttft: [u8; 6],
    gaps_ns: [u8; 6],
    index: u32,
    place: u32,
    extra: u32,
    input_tokens: u32,
    output_tokens: u32,
    events: u32,
    turnaround: u32,
    /// From the end of `pick_lag` to the first byte sent; of a request that was not sent, `pick_lag` itself.
    after_pick: u32,
    write_ns: u32,
    early_first_ns: u32,
    early_span_ns: [u32; 2],
    early_end_ns: u32,
    flags: u16,
    /// Its place in [`Finish::ALL`].
    finish: u8,
    unused: u8,
}

const _: () = assert!(size_of::<Row>() <= 88, "a row of 88 bytes is what the note on the memory of a merge measures");

impl Samples {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn first(&self) -> Option<Sample> {
        self.iter().next()
    }

    pub fn last(&self) -> Option<Sample> {
        self.rows.len().checked_sub(1).map(|nth| self.get(nth))
    }

    /// Samples whose rows and columns are in files from the second one on.
    #[cfg(test)]
    fn in_files() -> Samples {
        Samples { rows: LongList::with_most_in_memory(0), columns: Columns::in_files(), ..Samples::default() }
    }

    /// How many are kept as they are.
    #[cfg(test)]
    pub(super) fn kept_whole(&self) -> usize {
        self.others.len()
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter { samples: self, places: 0..self.rows.len() }
    }

    /// The samples for which `is_in` is true, in the same order.
    pub fn select(&self, is_in: impl Fn(&Sample) -> bool) -> Selection<'_> {
        let places = self.iter().zip(0..).filter(|(sample, _)| is_in(sample)).map(|(_, place)| place).collect();
        Selection { samples: self, places }
    }

    /// The samples by their `key`, those without one left out.
    pub fn group_by<K: Ord>(&self, key: impl Fn(&Sample) -> Option<K>) -> BTreeMap<K, Selection<'_>> {
        let mut groups: BTreeMap<K, Selection<'_>> = BTreeMap::new();
        for (sample, place) in self.iter().zip(0..) {
            if let Some(key) = key(&sample) {
                let group = groups.entry(key).or_insert_with(|| Selection { samples: self, places: Vec::new() });
                group.places.push(place);
            }
        }
        groups
    }

    pub fn push(&mut self, sample: Sample) {
        let (mut row, mut extras) = Row::pack(&sample, self.ranges.len());
        if row.flags & RANGE != 0 {
            let ((low, high), (intervals, high_intervals)) =
                (sample.tpot_range.unwrap_or_default(), sample.tpot_intervals);
            self.ranges.push([low, high, intervals, high_intervals]);
        }
        if self.unpack(&row, &extras) != sample {
            if row.flags & RANGE != 0 {
                self.ranges.pop();
            }
            row = Row { due: sample.due, extra: count(self.others.len()), flags: OTHER, ..Row::default() };
            extras = Extras::NONE;
            self.others.push(sample);
        }
        self.columns.push(self.rows.len(), extras);
        self.rows.push(row);
    }

    /// Sorts by due time, equal ones by number.
    pub fn sort(&mut self) {
        let key = |place: &u32| {
            let row = &self.rows[*place as usize];
            let index = match row.flags & OTHER {
                0 => u64::from(row.index),
                _ => self.others[row.extra as usize].index,
            };
            (row.due, index)
        };
        let mut order: Vec<u32> = (0..count(self.rows.len())).collect();
        if order.is_sorted_by_key(key) {
            return;
        }
        // The samples of a merge are sorted parts, which this sort joins: it reads each from its beginning to its end.
        order.sort_by_key(key);
        self.rows.reorder(&order);
        self.columns.reorder(&order);
    }

    #[inline]
    fn get(&self, nth: usize) -> Sample {
        self.unpack(&self.rows[nth], &self.columns.get(nth))
    }

    #[inline]
    fn unpack(&self, row: &Row, extras: &Extras) -> Sample {
        if row.flags & OTHER != 0 {
            return self.others[row.extra as usize].clone();
        }
        let sample = row.unpack(extras);
        let (tpot_range, tpot_intervals) = match (row.flags & RANGE, sample.tpot) {
            (0, None) => (None, (0.0, 0.0)),
            (0, Some(tpot)) => (Some((tpot, tpot)), (f64::from(row.extra), f64::from(row.extra))),
            _ => match self.ranges.get(row.extra as usize) {
                Some(&[low, high, intervals, high_intervals]) => (Some((low, high)), (intervals, high_intervals)),
                None => (None, (0.0, 0.0)),
            },
        };
        Sample { tpot_range, tpot_intervals, ..sample }
    }
}

/// TPOT as the mean of so many gaps, nanoseconds.
fn mean_gap_ns(gaps_ns: u64, gaps: u32) -> f64 {
    gaps_ns as f64 / f64::from(gaps)
}

impl Row {
    /// The row of a sample and the rest of it, as far as they can hold it. `ranges`: the place of the next range of TPOT.
    fn pack(sample: &Sample, ranges: usize) -> (Row, Extras) {
        let intervals = sample.tpot_intervals.0;
        let is_exact = match (sample.tpot, sample.tpot_range) {
            (Some(tpot), Some(range)) => {
                range == (tpot, tpot)
                    && sample.tpot_intervals.1 == intervals
                    && f64::from(intervals as u32) == intervals
            }
            (None, range) => range.is_none(),
            (Some(_), None) => false,
        };
        let extra = if is_exact { intervals as u32 } else { count(ranges) };
        let tpot_of_gaps = is_exact && sample.tpot == Some(mean_gap_ns(sample.gaps_ns, extra));
        let answers_at_once = sample.first_answer == sample.ttft;
        let gaps_of_tpot = is_exact && sample.gaps == extra;
        let flag = |bit: u16, is_set: bool| if is_set { bit } else { 0 };
        let row = Row {
            due: sample.due,
            latency: long(Some(sample.end.wrapping_sub(sample.due))),
            send_lag: long(sample.write_start.map(|at| at.wrapping_sub(sample.due))),
            ttft: long(sample.ttft),
            gaps_ns: long(Some(sample.gaps_ns)),
            index: short(Some(sample.index)),
            place: short(Some(sample.place)),
            extra,
            input_tokens: sample.input_tokens.unwrap_or(NONE),
            output_tokens: sample.output_tokens.unwrap_or(NONE),
            events: sample.events,
            turnaround: short(sample.turnaround),
            after_pick: short(match (sample.pick_lag, sample.send_lag) {
                (Some(pick_lag), Some(send_lag)) => Some(send_lag.wrapping_sub(pick_lag)),
                (pick_lag, _) => pick_lag,
            }),
            write_ns: short(Some(sample.write_ns)),
            early_first_ns: sample.early_first_ns,
            early_span_ns: sample.early_span_ns.into(),
            early_end_ns: sample.early_end_ns,
            finish: sample.finish as u8,
            unused: 0,
            flags: flag(OK, sample.ok)
                | flag(FAILED, sample.failed)
                | flag(STREAMED, sample.streamed)
                | flag(BOUNDED, sample.bounded)
                | flag(RANGE, !is_exact)
                | flag(TPOT_OF_GAPS, tpot_of_gaps)
                | flag(ANSWERS_AT_ONCE, answers_at_once)
                | flag(GAPS_OF_TPOT, gaps_of_tpot),
        };
        let extras = Extras {
            first_answer: if answers_at_once { NONE_LONG } else { long(sample.first_answer) },
            tpot_bits: sample.tpot.filter(|_| !tpot_of_gaps).unwrap_or(f64::NAN).to_bits(),
            gaps: if gaps_of_tpot { 0 } else { sample.gaps },
            ..Extras::pack(sample)
        };
        (row, extras)
    }

    /// The sample without the range of its TPOT.
    #[inline]
    fn unpack(&self, extras: &Extras) -> Sample {
        let has = |flag: u16| self.flags & flag != 0;
        let latency = long_ns(self.latency).unwrap_or(0);
        let end = self.due.wrapping_add(latency);
        let send_lag = long_ns(self.send_lag);
        let write_start = send_lag.map(|lag| self.due.wrapping_add(lag));
        let ttft = long_ns(self.ttft);
        let gaps_ns = long_ns(self.gaps_ns).unwrap_or(0);
        let first_token = ttft.map(|ns| self.due.wrapping_add(ns));
        let (input_tokens, output_tokens) = (some(self.input_tokens), some(self.output_tokens));
        let streamed = has(STREAMED);
        let total = |input: u32| output_tokens.map(|output| f64::from(input) + f64::from(output));
        let tpot = if has(TPOT_OF_GAPS) { mean_gap_ns(gaps_ns, self.extra) } else { f64::from_bits(extras.tpot_bits) };
        Sample {
            index: u64::from(self.index),
            conversation: some(extras.conversation).map(u64::from),
            turn: u32::from(extras.turn),
            due: self.due,
            write_start,
            end,
            ok: has(OK),
            failed: has(FAILED),
            streamed,
            ttft,
            service_ttft: write_start.zip(first_token).map(|(from, to)| to.saturating_sub(from)),
            first_answer: if has(ANSWERS_AT_ONCE) { ttft } else { long_ns(extras.first_answer) },
            latency,
            service_latency: write_start.map(|from| end.saturating_sub(from)),
            tpot: Some(tpot).filter(|tpot| !tpot.is_nan()),
            tpot_range: None,
            tpot_intervals: (0.0, 0.0),
            package_latency: package_latency(streamed, self.events, latency),
            input_tokens,
            output_tokens,
            cached_tokens: some(extras.cached_tokens),
            output_rate: output_tokens.and_then(|output| per_second(f64::from(output), latency)),
            total_rate: input_tokens.and_then(total).and_then(|tokens| per_second(tokens, latency)),
            finish: Finish::ALL.get(usize::from(self.finish)).copied().unwrap_or_default(),
            events: self.events,
            send_lag,
            connect: some(extras.connect).map(u64::from),
            turnaround: some(self.turnaround).map(u64::from),
            pick_lag: some(self.after_pick).map(|ns| match send_lag {
                Some(send_lag) => send_lag.wrapping_sub(u64::from(ns)),
                None => u64::from(ns),
            }),
            body_wait: some(extras.body_wait).map(u64::from),
            gaps_ns,
            gaps: if has(GAPS_OF_TPOT) { self.extra } else { extras.gaps },
            write_ns: u64::from(self.write_ns),
            early_first_ns: self.early_first_ns,
            early_span_ns: self.early_span_ns.into(),
            early_end_ns: self.early_end_ns,
            bounded: has(BOUNDED),
            network: extras.network.times(Tick(write_start.unwrap_or(self.due))),
            place: u64::from(self.place),
        }
    }
}

/// A place in a list of samples.
fn count(place: usize) -> u32 {
    u32::try_from(place).expect("the memory of four billion samples is hundreds of gigabytes")
}

/// The samples of a run, one after the other.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    samples: &'a Samples,
    places: Range<usize>,
}

impl Iterator for Iter<'_> {
    type Item = Sample;

    #[inline]
    fn next(&mut self) -> Option<Sample> {
        self.places.next().map(|nth| self.samples.get(nth))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.places.size_hint()
    }
}

impl<'a> IntoIterator for &'a Samples {
    type Item = Sample;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<Sample> for Samples {
    fn from_iter<I: IntoIterator<Item = Sample>>(samples: I) -> Samples {
        let mut all = Samples::default();
        samples.into_iter().for_each(|sample| all.push(sample));
        all
    }
}

/// Some of the samples of a run, in an order of their own.
#[derive(Clone, Debug)]
pub struct Selection<'a> {
    samples: &'a Samples,
    places: Vec<u32>,
}

impl<'a> Selection<'a> {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Sample> + Clone + '_ {
        self.places.iter().map(|&place| self.samples.get(place as usize))
    }

    /// The place of the one at `nth` among all samples, and when it was due.
    fn place(&self, nth: usize) -> Option<(usize, u64)> {
        let place = *self.places.get(nth)? as usize;
        Some((place, self.samples.rows[place].due))
    }

    /// Sorts by the time at which the first byte was sent, equal ones by number.
    #[must_use]
    pub fn by_sending(mut self) -> Selection<'a> {
        let samples = self.samples;
        let key = |sample: Sample| (sample.write_start, sample.index);
        self.places.sort_by_key(|&place| key(samples.get(place as usize)));
        self
    }

    /// Those after the first `count`.
    #[must_use]
    pub fn after(mut self, count: usize) -> Selection<'a> {
        self.places.drain(..count.min(self.places.len()));
        self
    }

    /// Those for which `is_in` is true.
    #[must_use]
    pub fn select(mut self, is_in: impl Fn(&Sample) -> bool) -> Selection<'a> {
        let samples = self.samples;
        self.places.retain(|&place| is_in(&samples.get(place as usize)));
        self
    }
}

/// The samples of selections that are sorted by due time, all in this order; of equal ones, those of the first selection
/// come first.
pub fn in_due_order<'a>(parts: &'a [Selection<'a>]) -> impl Iterator<Item = Sample> + Clone + 'a {
    let mut taken = vec![0; parts.len()];
    std::iter::from_fn(move || {
        let heads = parts.iter().zip(&taken).enumerate();
        let heads = heads.filter_map(|(part, (selection, &nth))| Some((selection.place(nth)?, part)));
        let ((place, _), part) = heads.min_by_key(|((_, due), part)| (*due, *part))?;
        taken[part] += 1;
        Some(parts[part].samples.get(place))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::NetworkTimes;

    /// A value that is missing, usual, or too large for a row.
    fn ns() -> impl Strategy<Value = Option<u64>> {
        prop_oneof![Just(None), (0u64..5_000_000_000).prop_map(Some), any::<u64>().prop_map(Some)]
    }

    fn number() -> impl Strategy<Value = Option<u32>> {
        prop_oneof![Just(None), (0u32..300).prop_map(Some), any::<u32>().prop_map(Some)]
    }

    fn float() -> impl Strategy<Value = Option<f64>> {
        prop_oneof![Just(None), (0.0..1e12).prop_map(Some)]
    }

    prop_compose! {
        fn sample()(
            lengths in proptest::collection::vec(ns(), 13),
            numbers in proptest::collection::vec(number(), 12),
            floats in proptest::collection::vec(float(), 6),
            bits in any::<u8>(),
            index in prop_oneof![0u64..1000, any::<u64>()],
            intervals in prop_oneof![Just((7.0, 7.0)), (0.0..9.0, 0.0..9.0)],
        ) -> Sample {
            let tick = |place: usize| lengths[place].map(Tick);
            let number = |place: usize| numbers[place].unwrap_or(0);
            Sample {
                index,
                conversation: lengths[0],
                turn: number(0),
                due: lengths[1].unwrap_or(9),
                write_start: lengths[2],
                end: lengths[3].unwrap_or(1 << 40),
                ok: bits & 1 > 0,
                failed: bits & 2 > 0,
                streamed: bits & 4 > 0,
                ttft: lengths[4],
                first_answer: lengths[5],
                latency: lengths[6].unwrap_or(0),
                tpot: floats[0],
                tpot_range: if bits & 8 > 0 { floats[0].zip(floats[0]) } else { floats[1].zip(floats[2]) },
                tpot_intervals: intervals,
                output_rate: floats[3],
                input_tokens: numbers[1],
                output_tokens: numbers[2],
                cached_tokens: numbers[3],
                events: number(4),
                send_lag: lengths[7],
                pick_lag: lengths[8],
                connect: lengths[9],
                gaps_ns: lengths[10].unwrap_or(0),
                gaps: number(5),
                write_ns: lengths[11].unwrap_or(0),
                early_span_ns: (number(6), number(7)),
                network: NetworkTimes {
                    sent: tick(11),
                    acknowledged: tick(12),
                    rtt_ns: lengths[9],
                    min_rtt_ns: lengths[10],
                    retransmitted: numbers[8],
                    out_of_order: numbers[9],
                },
                place: index / 2,
                ..Sample::default()
            }
        }
    }

    proptest! {
        /// Also those whose figures contradict each other, in memory and in files.
        #[test]
        fn every_sample_is_read_back_as_it_was(samples in proptest::collection::vec(sample(), 0..20)) {
            let mut sorted = samples.clone();
            sorted.sort_by_key(|sample| (sample.due, sample.index));
            for mut packed in [Samples::default(), Samples::in_files()] {
                samples.iter().for_each(|sample| packed.push(sample.clone()));
                prop_assert_eq!(packed.iter().collect::<Vec<_>>(), samples.clone());
                packed.sort();
                prop_assert_eq!(packed.iter().collect::<Vec<_>>(), sorted.clone());
            }
        }
    }

    #[test]
    fn selections_keep_their_order() {
        let sample = |index: u64| Sample {
            index,
            write_start: Some(100 - index),
            ok: index.is_multiple_of(2),
            ..Sample::default()
        };
        let samples: Samples = (0..6).map(sample).collect();
        let indices = |selection: &Selection<'_>| selection.iter().map(|sample| sample.index).collect::<Vec<_>>();
        let ok = samples.select(|sample| sample.ok);
        assert_eq!((indices(&ok), ok.len()), (vec![0, 2, 4], 3));
        assert_eq!(indices(&ok.clone().by_sending()), [4, 2, 0]);
        assert_eq!(indices(&ok.clone().by_sending().after(1)), [2, 0]);
        assert_eq!(indices(&ok.select(|sample| sample.index > 1)), [2, 4]);
        let groups = samples.group_by(|sample| (sample.index > 0).then_some(sample.index % 3));
        assert_eq!(groups.values().map(indices).collect::<Vec<_>>(), [vec![3], vec![1, 4], vec![2, 5]]);
    }

    #[test]
    fn selections_are_read_as_one_by_due_time() {
        let of = |times: &[u64], index: u64| -> Samples {
            times.iter().map(|&due| Sample { due, index, ..Sample::default() }).collect()
        };
        let (first, second) = (of(&[3, 5, 5, 9], 1), of(&[1, 5, 12], 2));
        let parts = [first.select(|_| true), second.select(|_| true)];
        let read = |parts: &[Selection<'_>]| in_due_order(parts).map(|s| (s.due, s.index)).collect::<Vec<_>>();
        assert_eq!(read(&parts), [(1, 2), (3, 1), (5, 1), (5, 1), (5, 2), (9, 1), (12, 2)]);
        assert_eq!(read(&[]), []);
    }
}
