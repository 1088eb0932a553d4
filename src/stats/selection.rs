//! Exact order statistics in a bounded amount of memory, from several passes over the same values.
//!
//! The first pass counts the values in coarse buckets. Each further pass divides only the buckets that hold a wanted
//! position, until each of them holds one value (radix selection from the highest bits). Positions count from 0 in
//! ascending order. Counters of parts of the values add up, so that parts can be read in parallel.

use std::collections::BTreeMap;

/// A region has up to `2^COUNTER_BITS` counters for each of its values.
const COUNTER_BITS: u32 = 8;

/// What the selection sorts by: first by `first`, then by `second`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub first: u64,
    pub second: u64,
}

impl Key {
    fn joined(self) -> u128 {
        u128::from(self.first) << 64 | u128::from(self.second)
    }

    fn split(joined: u128) -> Key {
        Key { first: (joined >> 64) as u64, second: joined as u64 }
    }
}

/// The coarse buckets of the first pass, by [`Key::first`].
#[derive(Clone, Copy, Debug)]
enum Scale {
    /// Values below `2^(bits + 1)` each have their bucket; above, a bucket has the same `bits` bits after the leading one.
    LogLinear { bits: u32 },
    /// Equal buckets of `2^shift` from `from` on; values outside are in the first and in the last one.
    Linear { from: u64, shift: u32, buckets: usize },
}

impl Scale {
    fn buckets(self) -> usize {
        match self {
            Scale::LogLinear { bits } => ((65 - bits) as usize) << bits,
            Scale::Linear { buckets, .. } => buckets,
        }
    }

    #[inline]
    fn bucket(self, value: u64) -> usize {
        match self {
            Scale::LogLinear { bits } => {
                let shift = (u64::BITS - value.leading_zeros()).saturating_sub(bits + 1);
                ((shift as usize) << bits) + (value >> shift) as usize
            }
            Scale::Linear { from, shift, buckets } => ((value.saturating_sub(from) >> shift) as usize).min(buckets - 1),
        }
    }

    /// The first and the last value of a bucket.
    fn range(self, bucket: usize) -> (u64, u64) {
        match self {
            Scale::LogLinear { bits } => {
                let shift = ((bucket >> bits) as u32).saturating_sub(1);
                let first = ((bucket - ((shift as usize) << bits)) as u64) << shift;
                (first, first + ((1u64 << shift) - 1))
            }
            Scale::Linear { from, shift, buckets } => {
                let first = |bucket: usize| from.checked_add((bucket as u64) << shift);
                let low = if bucket == 0 { Some(0) } else { first(bucket) };
                let after = if bucket + 1 == buckets { None } else { first(bucket + 1) };
                (low.unwrap_or(u64::MAX), after.map_or(u64::MAX, |after| after - 1))
            }
        }
    }
}

/// A range of keys that is divided in the current pass.
#[derive(Clone, Debug)]
struct Region {
    low: u128,
    /// The last key.
    high: u128,
    /// Values below `low`.
    before: u64,
    /// Each counter is that of `2^shift` keys.
    shift: u32,
    counts: Vec<u64>,
    /// The wanted positions in it.
    positions: Vec<u64>,
}

/// A range of keys that holds wanted positions.
struct Range {
    low: u128,
    /// The last key.
    high: u128,
    /// Values below `low`.
    before: u64,
    /// Values in it.
    count: u64,
    /// The wanted positions in it.
    positions: Vec<u64>,
}

/// The counters with wanted positions, which are sorted: place, values below, values, and the positions. `before`: values
/// below all counters.
fn wanted_counters(counts: &[u64], mut before: u64, positions: &[u64]) -> Vec<(usize, u64, u64, Vec<u64>)> {
    let mut rest = positions;
    let mut wanted = Vec::new();
    for (place, &count) in counts.iter().enumerate() {
        let Some(&next) = rest.first() else { break };
        if next < before + count {
            let (inside, after) = rest.split_at(rest.partition_point(|&position| position < before + count));
            wanted.push((place, before, count, inside.to_vec()));
            rest = after;
        }
        before += count;
    }
    wanted
}

/// Where a wanted position is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectedKey {
    /// The value at the position. With [`Selection::cuts`], possibly a smaller key with nothing in between.
    pub key: Key,
    /// The position minus the number of values below the key.
    pub inside: u64,
}

/// A selection of positions.
#[derive(Clone, Debug)]
pub struct Selection {
    scale: Scale,
    /// Keys have a `second`, and any key between the value at a position and the one before may stand for it.
    cuts: bool,
    /// Counters of all regions of a pass.
    counters: usize,
    coarse: Vec<u64>,
    is_counted: bool,
    /// Sorted, and the first key of each.
    regions: Vec<Region>,
    lows: Vec<u128>,
    /// By coarse bucket: a region is in it.
    is_divided: Vec<bool>,
    found: BTreeMap<u64, SelectedKey>,
}

impl Selection {
    /// Selects values, in memory for about `2^bits * (64 - bits)` counters.
    pub fn values(bits: u32) -> Selection {
        Selection::new(Scale::LogLinear { bits }, false, 1 << (bits + 6))
    }

    /// Finds keys that divide the values at positions, for values of which most have a `first` in this range.
    pub fn cuts(from: u64, to: u64) -> Selection {
        const BITS: u32 = 18;
        let span = to.saturating_sub(from);
        let shift = (u64::BITS - span.leading_zeros()).saturating_sub(BITS);
        Selection::new(Scale::Linear { from, shift, buckets: 1 << BITS }, true, 1 << BITS)
    }

    fn new(scale: Scale, cuts: bool, counters: usize) -> Selection {
        Selection {
            scale,
            cuts,
            counters,
            coarse: vec![0; scale.buckets()],
            is_counted: false,
            regions: Vec::new(),
            lows: Vec::new(),
            is_divided: Vec::new(),
            found: BTreeMap::new(),
        }
    }

    /// Adds a value to the counters of the current pass.
    #[inline]
    pub fn add(&mut self, key: Key) {
        let bucket = self.scale.bucket(key.first);
        if !self.is_counted {
            self.coarse[bucket] += 1;
        } else if self.is_divided.get(bucket).is_some_and(|&divided| divided) {
            self.add_to_region(key.joined());
        }
    }

    fn add_to_region(&mut self, key: u128) {
        let place = self.lows.partition_point(|&low| low <= key);
        let Some(region) = place.checked_sub(1).and_then(|place| self.regions.get_mut(place)) else { return };
        if key <= region.high {
            region.counts[((key - region.low) >> region.shift) as usize] += 1;
        }
    }

    /// A copy that counts another part of the values of this pass.
    pub fn fork(&self) -> Selection {
        let regions =
            self.regions.iter().map(|region| Region { counts: vec![0; region.counts.len()], ..region.clone() });
        Selection {
            coarse: if self.is_counted { Vec::new() } else { vec![0; self.coarse.len()] },
            regions: regions.collect(),
            lows: self.lows.clone(),
            is_divided: self.is_divided.clone(),
            found: BTreeMap::new(),
            ..*self
        }
    }

    /// Adds the counters of a fork.
    pub fn join(&mut self, part: &Selection) {
        if !self.is_counted {
            self.coarse.iter_mut().zip(&part.coarse).for_each(|(sum, count)| *sum += count);
        }
        for (region, other) in self.regions.iter_mut().zip(&part.regions) {
            region.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        }
    }

    /// Selects these positions as well, each below the number of values. Call it between two passes, after the first one.
    pub fn want(&mut self, positions: impl IntoIterator<Item = u64>) {
        self.is_counted = true;
        let mut positions: Vec<u64> =
            positions.into_iter().filter(|position| !self.found.contains_key(position)).collect();
        positions.sort_unstable();
        positions.dedup();
        let range = |(bucket, before, count, positions)| {
            let (first, last) = self.scale.range(bucket);
            let low = Key { first, second: 0 }.joined();
            let high = Key { first: last, second: u64::MAX }.joined();
            Range { low, high, before, count, positions }
        };
        let ranges = wanted_counters(&self.coarse, 0, &positions).into_iter().map(range).collect();
        self.divide(ranges);
    }

    /// Evaluates the pass that has ended.
    pub fn end_pass(&mut self) {
        let mut rest = Vec::new();
        for region in std::mem::take(&mut self.regions) {
            let range = |(place, before, count, positions)| {
                let low = region.low + ((place as u128) << region.shift);
                let high = low.saturating_add((1u128 << region.shift) - 1).min(region.high);
                Range { low, high, before, count, positions }
            };
            rest.extend(wanted_counters(&region.counts, region.before, &region.positions).into_iter().map(range));
        }
        self.divide(rest);
    }

    /// Sets the regions of the next pass: those whose positions are not found yet.
    fn divide(&mut self, ranges: Vec<Range>) {
        let mut open = Vec::new();
        for mut range in ranges {
            let Range { low, high, before, .. } = range;
            let is_one_key = if self.cuts { low == high } else { low >> 64 == high >> 64 };
            range.positions.retain(|&position| {
                let is_found = is_one_key || (self.cuts && position == before);
                if is_found {
                    self.found.insert(position, SelectedKey { key: Key::split(low), inside: position - before });
                }
                !is_found
            });
            if !range.positions.is_empty() {
                open.push(range);
            }
        }
        let most_bits = (self.counters / open.len().max(1)).max(2).ilog2();
        self.is_divided = if open.is_empty() { Vec::new() } else { vec![false; self.scale.buckets()] };
        self.lows = open.iter().map(|range| range.low).collect();
        for low in &self.lows {
            self.is_divided[self.scale.bucket(Key::split(*low).first)] = true;
        }
        let region = |Range { low, high, before, count, positions }: Range| {
            let width_bits = u128::BITS - (high - low).leading_zeros();
            // Few values need few counters.
            let bits = most_bits.min(count.max(1).ilog2() + COUNTER_BITS);
            // Without a `second`, the lower half of a key is always 0.
            let shift = width_bits.saturating_sub(bits).max(if self.cuts { 0 } else { 64 });
            let counts = vec![0; ((high - low) >> shift) as usize + 1];
            Region { low, high, before, shift, counts, positions }
        };
        self.regions = open.into_iter().map(region).collect();
    }

    /// Whether another pass is needed.
    pub fn is_pending(&self) -> bool {
        !self.is_counted || !self.regions.is_empty()
    }

    /// A wanted position; `None` until it is found.
    pub fn found(&self, position: u64) -> Option<SelectedKey> {
        self.found.get(&position).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values in all magnitudes, with many equal ones.
    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![0..20u64, 9_990_000..10_010_000u64, any::<u64>(), Just(u64::MAX), Just(7_000_000_000)]
    }

    /// Selects all positions, half of them after the others, with each pass in two parts.
    fn select(mut selection: Selection, keys: &[Key]) -> Vec<SelectedKey> {
        let pass = |selection: &mut Selection| {
            let mut part = selection.fork();
            for (place, &key) in keys.iter().enumerate() {
                if place % 3 == 0 { part.add(key) } else { selection.add(key) }
            }
            selection.join(&part);
        };
        pass(&mut selection);
        let all = 0..keys.len() as u64;
        for wanted in [0, 1] {
            selection.want(all.clone().filter(|position| position % 2 == wanted));
            let mut passes = 0;
            while selection.is_pending() {
                pass(&mut selection);
                selection.end_pass();
                passes += 1;
                assert!(passes < 130, "the selection does not end");
            }
        }
        all.map(|position| selection.found(position).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn positions_are_those_of_the_sorted_values(values in proptest::collection::vec(value(), 1..300), bits in 1u32..13) {
            let keys: Vec<Key> = values.iter().map(|&first| Key { first, second: 0 }).collect();
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let found: Vec<u64> = select(Selection::values(bits), &keys).iter().map(|found| found.key.first).collect();
            prop_assert_eq!(found, sorted);
        }

        #[test]
        fn cuts_divide_the_sorted_keys(keys in proptest::collection::vec((value(), 0..4u64), 1..200), from in value(), to in value()) {
            let mut keys: Vec<Key> = keys.into_iter().map(|(first, second)| Key { first, second }).collect();
            let found = select(Selection::cuts(from, to), &keys);
            keys.sort_unstable();
            for (position, found) in found.into_iter().enumerate() {
                let below = keys.iter().filter(|key| **key < found.key).count() as u64;
                prop_assert_eq!(below + found.inside, position as u64);
                prop_assert!(found.inside == 0 || keys[position] == found.key);
            }
        }

        #[test]
        fn buckets_contain_their_values(value in value(), bits in 1u32..14, from in value(), shift in 0u32..50) {
            for scale in [Scale::LogLinear { bits }, Scale::Linear { from, shift, buckets: 9 }] {
                let bucket = scale.bucket(value);
                prop_assert!(bucket < scale.buckets());
                let (first, last) = scale.range(bucket);
                prop_assert!((first..=last).contains(&value), "{first} {value} {last} {scale:?}");
            }
        }
    }
}
