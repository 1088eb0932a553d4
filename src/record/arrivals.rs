//! The byte encoding of arrivals: the difference of each to the one before (of the first to the due time), zigzag-coded
//! as a little-endian base-128 varint. A gap of 10 ms takes four bytes, a million tokens four megabytes.

use crate::time::Tick;

/// Consecutive arrivals of one response that may each have been up to `ns` earlier than recorded: bytes of one read share
/// its timestamp. `from` and `to` (exclusive) are positions in the arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlyRange {
    pub from: u32,
    pub to: u32,
    pub ns: u32,
}

/// Appends the encoded ranges to `out`: for each, varints of the arrivals since the range before, of its arrivals, and
/// of its nanoseconds.
pub fn encode_early(ranges: &[EarlyRange], out: &mut Vec<u8>) {
    let mut previous = 0;
    for range in ranges {
        for value in [range.from - previous, range.to - range.from, range.ns] {
            put_varint(u64::from(value), out);
        }
        previous = range.to;
    }
}

/// Replaces `early_ns` by how much each of `count` arrivals may have been earlier, from encoded ranges. `None` for invalid
/// bytes.
pub fn decode_early(mut bytes: &[u8], count: usize, early_ns: &mut Vec<u32>) -> Option<()> {
    early_ns.clear();
    early_ns.resize(count, 0);
    let mut position = 0;
    while !bytes.is_empty() {
        let mut next = || take_varint(&mut bytes).and_then(|value| u32::try_from(value).ok());
        let (skipped, length, ns) = (next()? as usize, next()? as usize, next()?);
        let from = position + skipped;
        early_ns.get_mut(from..from + length)?.fill(ns);
        position = from + length;
    }
    Some(())
}

/// A gap between two output events of one choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The arrival that ends it, tick nanoseconds.
    pub at: u64,
    /// Never negative: two timestamps mapped by different clock samples can be out of order by nanoseconds.
    pub ns: u64,
    /// By how much the arrivals that begin and end it may have been earlier than recorded.
    pub early_begin_ns: u32,
    pub early_end_ns: u32,
}

/// The gaps of one response, in memory that the next response uses again.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    /// By how much each arrival may have been earlier than recorded, nanoseconds.
    pub early_ns: Vec<u32>,
    pub gaps: Vec<Gap>,
}

impl Gaps {
    /// Replaces the gaps by those of a response: its arrivals, their choices (empty for a single one), and the encoded
    /// bounds of the arrivals. In order of the arrival that ends each gap, as far as the arrivals are.
    pub fn read(&mut self, arrivals: &[Tick], choices: &[u8], early: &[u8]) {
        if decode_early(early, arrivals.len(), &mut self.early_ns).is_none() {
            // What cannot be read is bounded by nothing.
            self.early_ns.fill(u32::MAX);
        }
        self.gaps.clear();
        let early_ns = &self.early_ns;
        let gap = |(before, place): (usize, usize)| Gap {
            at: arrivals[place].0,
            ns: arrivals[place].ns_since(arrivals[before]).max(0) as u64,
            early_begin_ns: early_ns[before],
            early_end_ns: early_ns[place],
        };
        if choices.is_empty() {
            self.gaps.extend((1..arrivals.len()).map(|place| gap((place - 1, place))));
        } else {
            self.gaps.extend(consecutive(arrivals, choices).map(gap));
        }
    }
}

/// Appends the encoded `arrivals` to `out`.
pub fn encode(due: Tick, arrivals: &[Tick], out: &mut Vec<u8>) {
    let mut previous = due;
    for &arrival in arrivals {
        put_varint(zigzag(arrival.ns_since(previous)), out);
        previous = arrival;
    }
}

/// Appends the arrivals encoded in `bytes` to `out`. `None` when the bytes end inside a number or a number is too long.
pub fn decode(due: Tick, bytes: &[u8], out: &mut Vec<Tick>) -> Option<()> {
    let mut previous = due;
    let mut rest = bytes;
    while !rest.is_empty() {
        let delta = unzigzag(take_varint(&mut rest)?);
        previous = Tick(previous.0.wrapping_add(delta as u64));
        out.push(previous);
    }
    Some(())
}

/// Moves the sign into the lowest bit, so that small negative differences stay short: two kernel timestamps that were
/// converted with different clock samples may be a few nanoseconds out of order.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The pairs of consecutive arrivals of one choice, as positions in the arrivals of a response. `choices` has the choice of
/// each arrival, or is empty for a single choice. In order of the later arrival of each pair.
pub(crate) fn consecutive<'a>(arrivals: &'a [Tick], choices: &'a [u8]) -> impl Iterator<Item = (usize, usize)> + 'a {
    let mut last = [None; 256];
    (0..arrivals.len()).filter_map(move |place| {
        let choice = choices.get(place).copied().unwrap_or(0);
        let before: Option<usize> = last[usize::from(choice)].replace(place);
        before.map(|before| (before, place))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoding_inverts_encoding(due in any::<u64>(), ticks in proptest::collection::vec(any::<u64>(), 0..50)) {
            let arrivals: Vec<Tick> = ticks.into_iter().map(Tick).collect();
            let (mut bytes, mut back) = (Vec::new(), Vec::new());
            encode(Tick(due), &arrivals, &mut bytes);
            prop_assert_eq!(decode(Tick(due), &bytes, &mut back), Some(()));
            prop_assert_eq!(back, arrivals);
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            decode(Tick(1), &bytes, &mut Vec::new());
        }
    }

    #[test]
    fn early_arrivals_survive_encoding() {
        let ranges = [EarlyRange { from: 1, to: 3, ns: 900 }, EarlyRange { from: 3, to: 4, ns: u32::MAX }];
        let mut bytes = Vec::new();
        encode_early(&ranges, &mut bytes);
        let decoded = |bytes: &[u8], count| {
            let mut early_ns = vec![7];
            decode_early(bytes, count, &mut early_ns).map(|()| early_ns)
        };
        assert_eq!(decoded(&bytes, 5), Some(vec![0, 900, 900, u32::MAX, 0]));
        assert_eq!(decoded(&bytes, 3), None, "more arrivals than there are");
        assert_eq!((decoded(&bytes[..3], 5), decoded(&[], 2)), (None, Some(vec![0, 0])));
    }

    #[test]
    fn a_gap_of_ten_milliseconds_takes_four_bytes() {
        let mut bytes = Vec::new();
        encode(Tick(0), &[Tick(10_000_000), Tick(20_000_000)], &mut bytes);
        assert_eq!(bytes.len(), 8);
    }

    #[test]
    fn bytes_that_end_inside_a_number_are_refused() {
        assert_eq!(decode(Tick(0), &[0x80], &mut Vec::new()), None);
    }
}
