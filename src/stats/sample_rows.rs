//! The samples of a run in little memory: a quarter of that of a [`Sample`] each.
//!
//! A row has a sample without what follows from the rest of it, with shorter numbers. A sample that is not the same when
//! it is read back from its row, such as one with a wait of a minute where seconds are usual, is kept as it is.

use std::collections::BTreeMap;

use super::metric::{package_latency, per_second};
use super::samples::Sample;
use crate::record::{Finish, NetworkTimes};
use crate::time::Tick;

/// The samples of a run, in the order in which they were added or, after [`Samples::sort`], by due time.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    rows: Vec<Row>,
    /// The ranges of TPOT and their numbers of intervals, of those that have a range.
    ranges: Vec<[f64; 4]>,
    /// The samples that no row can hold.
    others: Vec<Sample>,
}

/// Stand for no value.
const NONE: u32 = u32::MAX;
const NONE_NS: u64 = u64::MAX;
const NO_COUNT: u8 = u8::MAX;

/// Bits of [`Row::flags`].
const OK: u8 = 1;
const FAILED: u8 = 1 << 1;
const STREAMED: u8 = 1 << 2;
const BOUNDED: u8 = 1 << 3;
/// [`Row::extra`] is a place in [`Samples::ranges`]; otherwise it is the number of intervals of an exact TPOT.
const RANGE: u8 = 1 << 4;
/// [`Row::extra`] is a place in [`Samples::others`], and only `due` is set beside it.
const OTHER: u8 = 1 << 5;

/// A sample. Names are those of its fields; lengths of time are nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    due: u64,
    end: u64,
    write_start: u64,
    ttft: u64,
    first_answer: u64,
    /// Not a number if there is none.
    tpot: f64,
    gaps_ns: u64,
    index: u32,
    place: u32,
    extra: u32,
    conversation: u32,
    input_tokens: u32,
    output_tokens: u32,
    cached_tokens: u32,
    events: u32,
    gaps: u32,
    connect: u32,
    turnaround: u32,
    /// From the end of `pick_lag` to the first byte sent; of a request that was not sent, `pick_lag` itself.
    after_pick: u32,
    body_wait: u32,
    write_ns: u32,
    early_first_ns: u32,
    early_span_ns: (u32, u32),
    early_end_ns: u32,
    /// After the first byte sent.
    sent_after: u32,
    acknowledged_after: u32,
    rtt_ns: u32,
    min_rtt_ns: u32,
    turn: u16,
    retransmitted: u8,
    out_of_order: u8,
    finish: Finish,
    flags: u8,
}

const _: () = assert!(size_of::<Row>() <= 152, "a row of 152 bytes is what the note on the memory of a merge measures");

impl Samples {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn first(&self) -> Option<Sample> {
        self.rows.first().map(|row| self.unpack(row))
    }

    pub fn last(&self) -> Option<Sample> {
        self.rows.last().map(|row| self.unpack(row))
    }

    /// How many are kept as they are.
    #[cfg(test)]
    pub(super) fn kept_whole(&self) -> usize {
        self.others.len()
    }

    pub fn iter(&self) -> Iter<'_> {
        Iter { samples: self, rows: self.rows.iter() }
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
        let mut row = Row::pack(&sample, self.ranges.len());
        if row.flags & RANGE != 0 {
            let ((low, high), (intervals, high_intervals)) =
                (sample.tpot_range.unwrap_or_default(), sample.tpot_intervals);
            self.ranges.push([low, high, intervals, high_intervals]);
        }
        if self.unpack(&row) != sample {
            if row.flags & RANGE != 0 {
                self.ranges.pop();
            }
            row = Row { due: sample.due, extra: count(self.others.len()), flags: OTHER, ..Row::default() };
            self.others.push(sample);
        }
        self.rows.push(row);
    }

    /// Sorts by due time, equal ones by number.
    pub fn sort(&mut self) {
        let Samples { rows, others, .. } = self;
        let index = |row: &Row| match row.flags & OTHER {
            0 => u64::from(row.index),
            _ => others[row.extra as usize].index,
        };
        rows.sort_unstable_by_key(|row| (row.due, index(row)));
    }

    #[inline]
    fn unpack(&self, row: &Row) -> Sample {
        if row.flags & OTHER != 0 {
            return self.others[row.extra as usize].clone();
        }
        let (tpot_range, tpot_intervals) = match (row.flags & RANGE, row.tpot.is_nan()) {
            (0, true) => (None, (0.0, 0.0)),
            (0, false) => (Some((row.tpot, row.tpot)), (f64::from(row.extra), f64::from(row.extra))),
            _ => match self.ranges.get(row.extra as usize) {
                Some(&[low, high, intervals, high_intervals]) => (Some((low, high)), (intervals, high_intervals)),
                None => (None, (0.0, 0.0)),
            },
        };
        Sample { tpot_range, tpot_intervals, ..row.unpack() }
    }
}

impl Row {
    /// The row of a sample, as far as it can hold it. `ranges`: the place of the next range of TPOT.
    fn pack(sample: &Sample, ranges: usize) -> Row {
        let sent_at = sample.write_start.unwrap_or(sample.due);
        let after = |at: Option<Tick>| short(at.map(|at| at.0.wrapping_sub(sent_at)));
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
        let flag = |bit: u8, is_set: bool| if is_set { bit } else { 0 };
        Row {
            due: sample.due,
            end: sample.end,
            write_start: sample.write_start.unwrap_or(NONE_NS),
            ttft: sample.ttft.unwrap_or(NONE_NS),
            first_answer: sample.first_answer.unwrap_or(NONE_NS),
            tpot: sample.tpot.unwrap_or(f64::NAN),
            gaps_ns: sample.gaps_ns,
            index: short(Some(sample.index)),
            place: short(Some(sample.place)),
            extra: if is_exact { intervals as u32 } else { count(ranges) },
            conversation: short(sample.conversation),
            input_tokens: sample.input_tokens.unwrap_or(NONE),
            output_tokens: sample.output_tokens.unwrap_or(NONE),
            cached_tokens: sample.cached_tokens.unwrap_or(NONE),
            events: sample.events,
            gaps: sample.gaps,
            connect: short(sample.connect),
            turnaround: short(sample.turnaround),
            after_pick: short(match (sample.pick_lag, sample.send_lag) {
                (Some(pick_lag), Some(send_lag)) => Some(send_lag.wrapping_sub(pick_lag)),
                (pick_lag, _) => pick_lag,
            }),
            body_wait: short(sample.body_wait),
            write_ns: short(Some(sample.write_ns)),
            early_first_ns: sample.early_first_ns,
            early_span_ns: sample.early_span_ns,
            early_end_ns: sample.early_end_ns,
            sent_after: after(sample.network.sent),
            acknowledged_after: after(sample.network.acknowledged),
            rtt_ns: short(sample.network.rtt_ns),
            min_rtt_ns: short(sample.network.min_rtt_ns),
            turn: sample.turn as u16,
            retransmitted: sample.network.retransmitted.map_or(NO_COUNT, |count| count as u8),
            out_of_order: sample.network.out_of_order.map_or(NO_COUNT, |count| count as u8),
            finish: sample.finish,
            flags: flag(OK, sample.ok)
                | flag(FAILED, sample.failed)
                | flag(STREAMED, sample.streamed)
                | flag(BOUNDED, sample.bounded)
                | flag(RANGE, !is_exact),
        }
    }

    /// The sample without the range of its TPOT.
    #[inline]
    fn unpack(&self) -> Sample {
        let write_start = long(self.write_start);
        let sent_at = write_start.unwrap_or(self.due);
        let ttft = long(self.ttft);
        let first_token = ttft.map(|ns| self.due.wrapping_add(ns));
        let latency = self.end.saturating_sub(self.due);
        let send_lag = write_start.map(|at| at.saturating_sub(self.due));
        let (input_tokens, output_tokens) = (some(self.input_tokens), some(self.output_tokens));
        let streamed = self.flags & STREAMED != 0;
        let total = |input: u32| output_tokens.map(|output| f64::from(input) + f64::from(output));
        let after = |ns: u32| some(ns).map(|ns| Tick(sent_at.wrapping_add(u64::from(ns))));
        let count = |count: u8| Some(count).filter(|&count| count != NO_COUNT).map(u32::from);
        Sample {
            index: u64::from(self.index),
            conversation: some(self.conversation).map(u64::from),
            turn: u32::from(self.turn),
            due: self.due,
            write_start,
            end: self.end,
            ok: self.flags & OK != 0,
            failed: self.flags & FAILED != 0,
            streamed,
            ttft,
            service_ttft: write_start.zip(first_token).map(|(from, to)| to.saturating_sub(from)),
            first_answer: long(self.first_answer),
            latency,
            service_latency: write_start.map(|from| self.end.saturating_sub(from)),
            tpot: Some(self.tpot).filter(|tpot| !tpot.is_nan()),
            tpot_range: None,
            tpot_intervals: (0.0, 0.0),
            package_latency: package_latency(streamed, self.events, latency),
            input_tokens,
            output_tokens,
            cached_tokens: some(self.cached_tokens),
            output_rate: output_tokens.and_then(|output| per_second(f64::from(output), latency)),
            total_rate: input_tokens.and_then(total).and_then(|tokens| per_second(tokens, latency)),
            finish: self.finish,
            events: self.events,
            send_lag,
            connect: some(self.connect).map(u64::from),
            turnaround: some(self.turnaround).map(u64::from),
            pick_lag: some(self.after_pick).map(|ns| match send_lag {
                Some(send_lag) => send_lag.wrapping_sub(u64::from(ns)),
                None => u64::from(ns),
            }),
            body_wait: some(self.body_wait).map(u64::from),
            gaps_ns: self.gaps_ns,
            gaps: self.gaps,
            write_ns: u64::from(self.write_ns),
            early_first_ns: self.early_first_ns,
            early_span_ns: self.early_span_ns,
            early_end_ns: self.early_end_ns,
            bounded: self.flags & BOUNDED != 0,
            network: NetworkTimes {
                sent: after(self.sent_after),
                acknowledged: after(self.acknowledged_after),
                rtt_ns: some(self.rtt_ns).map(u64::from),
                min_rtt_ns: some(self.min_rtt_ns).map(u64::from),
                retransmitted: count(self.retransmitted),
                out_of_order: count(self.out_of_order),
            },
            place: u64::from(self.place),
        }
    }
}

/// The short form of a value. One that is too large becomes none, so that its sample is kept as it is.
fn short(value: Option<u64>) -> u32 {
    value.map_or(NONE, |value| u32::try_from(value).unwrap_or(NONE))
}

fn some(value: u32) -> Option<u32> {
    Some(value).filter(|&value| value != NONE)
}

fn long(value: u64) -> Option<u64> {
    Some(value).filter(|&value| value != NONE_NS)
}

/// A place in a list of samples.
fn count(place: usize) -> u32 {
    u32::try_from(place).expect("the memory of four billion samples is hundreds of gigabytes")
}

/// The samples of a run, one after the other.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    samples: &'a Samples,
    rows: std::slice::Iter<'a, Row>,
}

impl Iterator for Iter<'_> {
    type Item = Sample;

    #[inline]
    fn next(&mut self) -> Option<Sample> {
        self.rows.next().map(|row| self.samples.unpack(row))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
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
        self.places.iter().map(|&place| self.samples.unpack(&self.samples.rows[place as usize]))
    }

    fn row(&self, nth: usize) -> Option<&'a Row> {
        self.places.get(nth).map(|&place| &self.samples.rows[place as usize])
    }

    /// Sorts by the time at which the first byte was sent, equal ones by number.
    #[must_use]
    pub fn by_sending(mut self) -> Selection<'a> {
        let samples = self.samples;
        let key = |sample: Sample| (sample.write_start, sample.index);
        self.places.sort_by_key(|&place| key(samples.unpack(&samples.rows[place as usize])));
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
        self.places.retain(|&place| is_in(&samples.unpack(&samples.rows[place as usize])));
        self
    }
}

/// The samples of selections that are sorted by due time, all in this order; of equal ones, those of the first selection
/// come first.
pub fn in_due_order<'a>(parts: &'a [Selection<'a>]) -> impl Iterator<Item = Sample> + Clone + 'a {
    let mut taken = vec![0; parts.len()];
    std::iter::from_fn(move || {
        let heads = parts.iter().zip(&taken).enumerate();
        let heads = heads.filter_map(|(part, (selection, &nth))| Some((selection.row(nth)?, part)));
        let (row, part) = heads.min_by_key(|(row, part)| (row.due, *part))?;
        taken[part] += 1;
        Some(parts[part].samples.unpack(row))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        /// Also those whose figures contradict each other.
        #[test]
        fn every_sample_is_read_back_as_it_was(samples in proptest::collection::vec(sample(), 0..20)) {
            let mut packed: Samples = samples.iter().cloned().collect();
            prop_assert_eq!(packed.iter().collect::<Vec<_>>(), samples.clone());
            packed.sort();
            let mut sorted = samples;
            sorted.sort_by_key(|sample| (sample.due, sample.index));
            let keys = |sample: &Sample| (sample.due, sample.index);
            prop_assert_eq!(
                packed.iter().map(|sample| keys(&sample)).collect::<Vec<_>>(),
                sorted.iter().map(keys).collect::<Vec<_>>()
            );
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
