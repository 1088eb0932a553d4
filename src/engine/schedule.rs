//! The due times on a worker: the deadlines of its slots, and the scheduled times of the requests of an open loop.
//!
//! monoio's own timers are not used: their resolution is 1 ms, and one pending timer makes every wait a timed one
//! (+1.4 us per event). The event loop waits until the earliest due time instead.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::record::share::Share;
use crate::time::Tick;

/// Deadlines of slots. Entries are never removed; one that is out of date is recognized when it fires.
#[derive(Debug, Default)]
pub struct Deadlines {
    heap: BinaryHeap<Reverse<(Tick, u32)>>,
}

impl Deadlines {
    /// Adds a deadline of `slot`.
    pub fn push(&mut self, at: Tick, slot: u32) {
        self.heap.push(Reverse((at, slot)));
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Tick> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Removes a slot whose deadline has passed.
    pub(crate) fn pop_due(&mut self, now: Tick) -> Option<u32> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, slot))| slot)
    }
}

/// A cursor over a schedule, the offsets from the start of the phase. A worker requests them by increasing number.
pub struct ScheduleCursor {
    offsets_ns: Box<dyn Iterator<Item = u64>>,
    next_index: u64,
}

impl ScheduleCursor {
    /// `offsets_ns` is the whole schedule, the same on every worker.
    pub fn new(offsets_ns: Box<dyn Iterator<Item = u64>>) -> ScheduleCursor {
        ScheduleCursor { offsets_ns, next_index: 0 }
    }

    /// The offset of request `index` in nanoseconds; `None` past the end of the schedule and for earlier numbers.
    pub(crate) fn offset_ns(&mut self, index: u64) -> Option<u64> {
        let skip = index.checked_sub(self.next_index)?;
        self.next_index = index + 1;
        self.offsets_ns.nth(usize::try_from(skip).ok()?)
    }
}

/// The requests of an open loop that one worker sends: every `workers`-th of those of its shard.
pub struct OpenSchedule {
    schedule: ScheduleCursor,
    start: Tick,
    share: Share,
    /// Requests of the warm-up, with which the schedule begins.
    warmup: u64,
    /// The place of the next request among those of the shard.
    nth: u64,
    stride: u64,
    /// Requests end before this number, which counts the warm-up.
    end: Option<u64>,
    stop_offering: Option<Tick>,
    next: Option<(u64, Tick)>,
}

impl OpenSchedule {
    pub fn new(
        schedule: ScheduleCursor,
        start: Tick,
        (share, warmup): (Share, u64),
        (worker, workers): (u64, u64),
        end: Option<u64>,
        stop_offering: Option<Tick>,
    ) -> OpenSchedule {
        let (nth, stride) = (worker, workers);
        let mut open = OpenSchedule { schedule, start, share, warmup, nth, stride, end, stop_offering, next: None };
        open.go_to_next();
        open
    }

    /// When the next request is due; `None` when there is none left.
    pub(crate) fn next_due(&self) -> Option<Tick> {
        self.next.map(|(_, due)| due)
    }

    /// Takes the next request if it is due by `now`. Returns its number and its scheduled time.
    pub(crate) fn pop_due(&mut self, now: Tick) -> Option<(u64, Tick)> {
        let due = self.next.filter(|(_, due)| *due <= now)?;
        self.nth += self.stride;
        self.go_to_next();
        Some(due)
    }

    fn go_to_next(&mut self) {
        let index = self.share.unit(self.nth, self.warmup);
        self.next = self.schedule.offset_ns(index).map(|offset| (index, self.start.plus_ns(offset)));
        self.drop_past_end();
    }

    /// Drops all remaining requests.
    pub fn stop(&mut self) {
        self.next = None;
    }

    fn drop_past_end(&mut self) {
        let past = |(index, due): (u64, Tick)| {
            self.end.is_some_and(|end| index >= end) || self.stop_offering.is_some_and(|stop| due >= stop)
        };
        if self.next.is_some_and(past) {
            self.next = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_10() -> ScheduleCursor {
        ScheduleCursor::new(Box::new((0..).map(|i| i * 10)))
    }

    #[test]
    fn deadlines_are_due_in_order_and_not_early() {
        let mut deadlines = Deadlines::default();
        deadlines.push(Tick(30), 3);
        deadlines.push(Tick(10), 1);
        assert_eq!(deadlines.next(), Some(Tick(10)));
        assert_eq!(deadlines.pop_due(Tick(9)), None);
        assert_eq!(deadlines.pop_due(Tick(30)), Some(1));
        assert_eq!(deadlines.pop_due(Tick(30)), Some(3));
        assert_eq!(deadlines.pop_due(Tick(99)), None);
    }

    #[test]
    fn offsets_are_returned_once_in_increasing_order() {
        let mut schedule = every_10();
        assert_eq!(schedule.offset_ns(2), Some(20));
        assert_eq!(schedule.offset_ns(5), Some(50));
        assert_eq!(schedule.offset_ns(5), None);
    }

    #[test]
    fn workers_share_one_schedule() {
        let mut all = Vec::new();
        for worker in 0..3 {
            let whole = (Share::default(), 0);
            let mut schedule = OpenSchedule::new(every_10(), Tick(1000), whole, (worker, 3), Some(8), None);
            while let Some((index, due)) = schedule.pop_due(Tick(u64::MAX)) {
                assert_eq!(due, Tick(1000 + index * 10));
                all.push(index);
            }
        }
        all.sort_unstable();
        assert_eq!(all, (0..8).collect::<Vec<_>>());
    }

    /// Shards with different numbers of workers, a number of requests that neither divides, and a warm-up.
    #[test]
    fn shards_share_one_schedule() {
        for count in [1, 2, 3, 7] {
            let mut all = Vec::new();
            for share in (0..count).filter_map(|index| Share::new(index, count)) {
                let workers = u64::from(share.index()) + 1;
                for worker in 0..workers {
                    let place = (worker, workers);
                    let mut schedule = OpenSchedule::new(every_10(), Tick(1000), (share, 5), place, Some(28), None);
                    all.extend(std::iter::from_fn(|| schedule.pop_due(Tick(u64::MAX))));
                }
            }
            all.sort_unstable();
            assert_eq!(all, (0..28).map(|index| (index, Tick(1000 + index * 10))).collect::<Vec<_>>());
        }
    }

    #[test]
    fn requests_due_after_the_duration_are_dropped() {
        let mut schedule = OpenSchedule::new(every_10(), Tick(0), (Share::default(), 0), (0, 1), None, Some(Tick(25)));
        let sent: Vec<_> = std::iter::from_fn(|| schedule.pop_due(Tick(1000))).collect();
        assert_eq!(sent, [(0, Tick(0)), (1, Tick(10)), (2, Tick(20))]);
    }
}
