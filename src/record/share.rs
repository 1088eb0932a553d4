//! The share of one shard in a load that several processes send together.

use serde::{Deserialize, Serialize};

/// Most shards of a load.
pub const MAX_SHARDS: u32 = 10_000;

/// The share of a shard: of all requests, conversations and slots, those whose number is `index` modulo `count`. The
/// shares of all shards are disjoint and together the whole load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Numbers")]
pub struct Share {
    index: u32,
    count: u32,
}

/// What a file or another process gives as a share.
#[derive(Deserialize)]
struct Numbers {
    index: u32,
    count: u32,
}

impl TryFrom<Numbers> for Share {
    type Error = String;

    fn try_from(numbers: Numbers) -> Result<Share, String> {
        let Numbers { index, count } = numbers;
        let share = Share::new(index, count).filter(|_| count <= MAX_SHARDS);
        share.ok_or_else(|| format!("{index}/{count} is no shard"))
    }
}

impl Default for Share {
    /// The whole load.
    fn default() -> Share {
        Share { index: 0, count: 1 }
    }
}

impl Share {
    /// The share of shard `index`, from 0, of `count`; `None` unless `index < count`.
    pub fn new(index: u32, count: u32) -> Option<Share> {
        (index < count).then_some(Share { index, count })
    }

    /// The number of this shard, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// The number of shards, at least 1.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Whether this is the only or the first shard, which does what is done once for the whole load.
    pub fn is_first(self) -> bool {
        self.index == 0
    }

    /// How many of the numbers `0..total` belong to the share.
    pub fn part(self, total: u64) -> u64 {
        let (index, count) = (u64::from(self.index), u64::from(self.count));
        total / count + u64::from(index < total % count)
    }

    /// The same of a number of slots.
    pub fn slots(self, total: u32) -> u32 {
        total / self.count + u32::from(self.index < total % self.count)
    }

    /// The `nth` number of the share, from 0.
    pub fn number(self, nth: u64) -> u64 {
        nth.saturating_mul(u64::from(self.count)).saturating_add(u64::from(self.index))
    }

    /// Whether `number` belongs to the share.
    pub fn contains(self, number: u64) -> bool {
        number % u64::from(self.count) == u64::from(self.index)
    }

    /// How many numbers of the share are below `number`, which belongs to it.
    pub(crate) fn place(self, number: u64) -> u64 {
        number / u64::from(self.count)
    }

    /// The `nth` unit of the share in a schedule that begins with `warmup` units of the warm-up. The numbers of both
    /// phases begin at 0, and each phase is shared by itself.
    pub fn unit(self, nth: u64, warmup: u64) -> u64 {
        match nth.checked_sub(self.part(warmup)) {
            None => self.number(nth),
            Some(nth) => warmup.saturating_add(self.number(nth)),
        }
    }
}

/// `1/4`: the second of four shards.
impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(count: u32) -> impl Iterator<Item = Share> {
        (0..count).map(move |index| Share::new(index, count).unwrap())
    }

    proptest! {
        #[test]
        fn shares_are_a_partition(count in 1u32..8, warmup in 0u64..30, requests in 0u64..60) {
            let mut all: Vec<u64> = Vec::new();
            for share in shares(count) {
                let units = share.part(warmup) + share.part(requests);
                let mut own: Vec<u64> = (0..units).map(|nth| share.unit(nth, warmup)).collect();
                prop_assert!(own.is_sorted());
                prop_assert!(share.unit(units, warmup) >= warmup + requests);
                prop_assert!(own.iter().all(|&unit| share.contains(unit.checked_sub(warmup).unwrap_or(unit))));
                prop_assert_eq!(share.slots(requests as u32), share.part(requests) as u32);
                all.append(&mut own);
            }
            all.sort_unstable();
            prop_assert_eq!(all, (0..warmup + requests).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_default_is_everything() {
        assert!((0..9).all(|nth| Share::default().unit(nth, 4) == nth && Share::default().place(nth) == nth));
        assert_eq!((Share::new(2, 2), Share::new(0, 0)), (None, None));
        assert_eq!(Share::new(1, 4).unwrap().to_string(), "1/4");
    }
}
