//! How long a worker waits for events, and for how much of that time it lets them gather: the rule, and what it follows
//! from.
//!
//! The kernel timestamps every arrival, so a late poll costs no precision as long as no two events of one connection
//! meet in one read. What it costs is turnaround: the next request of a slot is sent later. What it saves is waking up,
//! here and on the server's core, whose kernel wakes this thread.
//!
//! - **Gathering** ([`Basis::gather_ns`]): after the beginning of a wait, the first event does not end it for
//!   [`MAX_GATHER_NS`], a thousandth of the 10th percentile of the latency, or a quarter of the smallest gap on a
//!   connection, whichever is shortest. A deadline ends it early, and so do enough events (`receive::ring`). There is
//!   none without receive timestamps, for responses that are not streamed, while a connection is being opened or a
//!   socket is full, or if fewer than two events are expected in that time.
//! - **Sleeping** ([`Basis::longest_wait_ns`]): the bytes of a read may have arrived at any time since the socket was last
//!   known to be empty, which is when the wait began. A wait is therefore short while events could share a read.
//!
//! A gap is the time between a read with output and the next read of the same connection. Two that shared a read have a
//! gap of 0, unless they came in one segment. The smallest gap is the one that all but one in a thousand recent gaps reach;
//! for the length of a wait, all but one in fifty: a server that is late at times sends some events close together.

use crate::time::{MS, S, Tick, US};

/// The longest time for which events gather.
const MAX_GATHER_NS: u64 = 500 * US;
/// The same until the latency and the gaps are known.
const FIRST_GATHER_NS: u64 = 30 * US;
/// A shorter time is not worth a timer.
const MIN_GATHER_NS: u64 = 5 * US;
/// Fewer events than this, expected while they gather, are not waited for.
const MIN_EVENTS: f64 = 2.0;
/// The share of the latency for which events gather.
const LATENCY_PART: u64 = 1_000;
/// The share of the smallest gap for which events gather.
const GAP_PART: u64 = 4;

/// The longest wait while events could share a read.
const SHORT_WAIT_NS: u64 = MS;
/// The longest wait while none could: a worker has other things to do at this interval.
const LONG_WAIT_NS: u64 = 20 * MS;
/// Events further apart than this share a read only if the worker is late by that much.
const SAFE_GAP_NS: u64 = 2 * MS;

/// What the rule depends on, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Basis {
    /// The responses are streams of events.
    pub is_streamed: bool,
    /// Every recent read had a timestamp of the kernel.
    pub is_stamped: bool,
    /// The 10th percentile of the latency of recent responses, nanoseconds.
    pub latency_p10_ns: Option<u64>,
    /// The smallest recent gap on any connection, nanoseconds.
    pub smallest_gap_ns: Option<u64>,
    /// The gap that all but one in fifty reach, nanoseconds.
    pub usual_gap_ns: Option<u64>,
    pub reads_per_s: f64,
}

impl Basis {
    /// For how long events gather, nanoseconds; 0 for not at all.
    pub fn gather_ns(&self) -> u64 {
        if !self.is_streamed || !self.is_stamped {
            return 0;
        }
        let Some((latency_ns, gap_ns)) = self.latency_p10_ns.zip(self.smallest_gap_ns) else { return FIRST_GATHER_NS };
        let gather_ns = MAX_GATHER_NS.min(latency_ns / LATENCY_PART).min(gap_ns / GAP_PART);
        let expected = self.reads_per_s * gather_ns as f64 / 1e9;
        if gather_ns < MIN_GATHER_NS || expected < MIN_EVENTS { 0 } else { gather_ns }
    }

    /// The longest wait, nanoseconds.
    pub fn longest_wait_ns(&self) -> u64 {
        // Before the first response is complete, it is not known how responses end.
        let known = self.latency_p10_ns.zip(self.usual_gap_ns);
        let is_safe = self.is_stamped && (!self.is_streamed || known.is_some_and(|(_, gap_ns)| gap_ns >= SAFE_GAP_NS));
        if is_safe { LONG_WAIT_NS } else { SHORT_WAIT_NS }
    }
}

/// The quarter octaves of a gap.
const BUCKETS: usize = 256;
/// With more gaps than this, or after this time with at least so many, the older ones lose half of their weight.
const MAX_GAPS: u32 = 4_096;
const RECENT_NS: u64 = 5 * S;
const MIN_GAPS: u32 = 256;
/// One in so many gaps may be smaller than the smallest gap, and than the usual one.
const PER_SMALLER: u32 = 1_000;
const PER_UNUSUAL: u32 = 50;
/// The latencies that count as recent.
const LATENCIES: usize = 64;
/// After a read without a timestamp, this many renewals of the rule still count it as recent.
const UNSTAMPED_RENEWALS: u32 = 50;

/// What a worker has seen recently, and the two times that follow.
#[derive(Debug)]
pub struct Recent {
    is_streamed: bool,
    gaps: [u32; BUCKETS],
    gap_count: u32,
    /// When the older gaps lost weight last.
    aged_at: Tick,
    latencies_ns: [u64; LATENCIES],
    latency_count: usize,
    unstamped: u32,
    /// The reads and the time of the last renewal.
    reads: u64,
    renewed_at: Tick,
    /// [`Basis::gather_ns`].
    pub gather_ns: u64,
    /// [`Basis::longest_wait_ns`].
    pub longest_wait_ns: u64,
}

impl Recent {
    pub fn new(is_streamed: bool, now: Tick) -> Recent {
        let nothing = Basis { is_streamed, is_stamped: true, ..Basis::default() };
        Recent {
            is_streamed,
            gaps: [0; BUCKETS],
            gap_count: 0,
            aged_at: now,
            latencies_ns: [0; LATENCIES],
            latency_count: 0,
            unstamped: 0,
            reads: 0,
            renewed_at: now,
            gather_ns: nothing.gather_ns(),
            longest_wait_ns: nothing.longest_wait_ns(),
        }
    }

    /// A read came `gap_ns` after one with output on the same connection; 0 if it shared a read with later bytes.
    #[inline]
    pub fn add_gap(&mut self, gap_ns: u64) {
        self.gaps[bucket(gap_ns)] += 1;
        self.gap_count += 1;
    }

    /// A response succeeded.
    pub fn add_latency(&mut self, latency_ns: u64) {
        self.latencies_ns[self.latency_count % LATENCIES] = latency_ns;
        self.latency_count += 1;
    }

    /// A read had no timestamp. Takes effect at once.
    pub fn add_unstamped(&mut self) {
        self.unstamped = UNSTAMPED_RENEWALS;
        self.gather_ns = 0;
        self.longest_wait_ns = SHORT_WAIT_NS;
    }

    /// Applies the rule to what is recent now. `reads`: all reads so far.
    pub fn renew(&mut self, now: Tick, reads: u64) {
        let seconds = now.ns_since(self.renewed_at).max(1) as f64 / 1e9;
        let basis = Basis {
            is_streamed: self.is_streamed,
            is_stamped: self.unstamped == 0,
            latency_p10_ns: self.latency_p10_ns(),
            smallest_gap_ns: self.gap_reached_by_all_but(PER_SMALLER),
            usual_gap_ns: self.gap_reached_by_all_but(PER_UNUSUAL),
            reads_per_s: (reads - self.reads) as f64 / seconds,
        };
        (self.gather_ns, self.longest_wait_ns) = (basis.gather_ns(), basis.longest_wait_ns());
        (self.reads, self.renewed_at) = (reads, now);
        self.unstamped = self.unstamped.saturating_sub(1);
        let is_old = now.ns_since(self.aged_at) > RECENT_NS as i64 && self.gap_count > MIN_GAPS;
        if self.gap_count > MAX_GAPS || is_old {
            self.aged_at = now;
            self.gaps.iter_mut().for_each(|count| *count /= 2);
            self.gap_count = self.gaps.iter().sum();
        }
    }

    fn latency_p10_ns(&self) -> Option<u64> {
        let mut recent = self.latencies_ns;
        let recent = recent.get_mut(..self.latency_count.min(LATENCIES)).filter(|recent| !recent.is_empty())?;
        recent.sort_unstable();
        Some(recent[recent.len() / 10])
    }

    /// The gap that all but one in so many reach.
    fn gap_reached_by_all_but(&self, one_in: u32) -> Option<u64> {
        let allowed = self.gap_count / one_in;
        let mut smaller = 0;
        let reached = self.gaps.iter().position(|count| {
            smaller += count;
            smaller > allowed
        });
        reached.map(lowest_of)
    }
}

/// The quarter octave of a gap.
#[inline]
fn bucket(gap_ns: u64) -> usize {
    if gap_ns < 4 {
        return gap_ns as usize;
    }
    let octave = gap_ns.ilog2();
    (octave as usize - 1) * 4 + (gap_ns >> (octave - 2)) as usize % 4
}

/// The smallest gap of a bucket.
fn lowest_of(bucket: usize) -> u64 {
    match bucket {
        0..4 => bucket as u64,
        _ => (4 + bucket as u64 % 4) << (bucket / 4 - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 500 streams with an event each 10 ms.
    const STREAMS: Basis = Basis {
        is_streamed: true,
        is_stamped: true,
        latency_p10_ns: Some(S),
        smallest_gap_ns: Some(9 * MS),
        usual_gap_ns: Some(9 * MS),
        reads_per_s: 50_000.0,
    };

    #[test]
    fn events_gather_for_the_shortest_of_three_times() {
        assert_eq!(STREAMS.gather_ns(), 500 * US);
        assert_eq!(Basis { latency_p10_ns: Some(100 * MS), ..STREAMS }.gather_ns(), 100 * US);
        assert_eq!(Basis { smallest_gap_ns: Some(400 * US), ..STREAMS }.gather_ns(), 100 * US);
        assert_eq!(Basis { latency_p10_ns: None, ..STREAMS }.gather_ns(), 30 * US);
        assert_eq!(Basis { smallest_gap_ns: None, ..STREAMS }.gather_ns(), 30 * US);
    }

    #[test]
    fn nothing_gathers_where_it_would_cost_precision_or_bring_nothing() {
        assert_eq!(Basis { is_stamped: false, ..STREAMS }.gather_ns(), 0);
        assert_eq!(Basis { is_streamed: false, ..STREAMS }.gather_ns(), 0);
        assert_eq!(Basis { smallest_gap_ns: Some(0), ..STREAMS }.gather_ns(), 0);
        assert_eq!(Basis { reads_per_s: 100.0, ..STREAMS }.gather_ns(), 0);
    }

    #[test]
    fn waits_are_short_while_events_could_share_a_read() {
        assert_eq!(STREAMS.longest_wait_ns(), 20 * MS);
        assert_eq!(Basis { usual_gap_ns: Some(MS), ..STREAMS }.longest_wait_ns(), MS);
        assert_eq!(Basis { usual_gap_ns: None, ..STREAMS }.longest_wait_ns(), MS);
        assert_eq!(Basis { latency_p10_ns: None, ..STREAMS }.longest_wait_ns(), MS);
        assert_eq!(Basis { is_stamped: false, ..STREAMS }.longest_wait_ns(), MS);
        let whole = Basis { is_streamed: false, usual_gap_ns: None, latency_p10_ns: None, ..STREAMS };
        assert_eq!(whole.longest_wait_ns(), 20 * MS);
        assert_eq!(Basis { is_stamped: false, ..whole }.longest_wait_ns(), MS);
    }

    #[test]
    fn buckets_are_quarter_octaves() {
        for gap_ns in (0..100).chain([1_000, 10 * MS, 100 * S, u64::MAX]) {
            let (low, next) = (lowest_of(bucket(gap_ns)), bucket(gap_ns) + 1);
            assert!(low <= gap_ns && (next >= 252 || gap_ns < lowest_of(next)), "{gap_ns}: from {low}");
            assert!(gap_ns - low <= gap_ns / 4);
        }
    }

    #[test]
    fn one_in_a_thousand_gaps_may_be_smaller() {
        let mut recent = Recent::new(true, Tick(0));
        assert_eq!(recent.gap_reached_by_all_but(PER_SMALLER), None);
        (0..999).for_each(|_| recent.add_gap(10 * MS));
        recent.add_gap(0);
        let smallest = |recent: &Recent| recent.gap_reached_by_all_but(PER_SMALLER).unwrap();
        assert!((8 * MS..=10 * MS).contains(&smallest(&recent)));
        recent.add_gap(100 * US);
        assert!((80 * US..=100 * US).contains(&smallest(&recent)));
        (0..20_000).for_each(|_| recent.add_gap(10 * MS));
        assert!(smallest(&recent) > 8 * MS);
        // Of few gaps, it is the smallest.
        let mut recent = Recent::new(true, Tick(0));
        recent.add_gap(10 * MS);
        recent.add_gap(0);
        assert_eq!(smallest(&recent), 0);
    }

    #[test]
    fn the_rule_follows_what_is_recent() {
        let mut recent = Recent::new(true, Tick(0));
        assert_eq!((recent.gather_ns, recent.longest_wait_ns), (30 * US, MS));
        (0..20_000).for_each(|_| recent.add_gap(10 * MS));
        (1..=100).for_each(|tenth| recent.add_latency(tenth * 10 * MS));
        recent.renew(Tick(20 * MS), 1_000);
        // The 10th percentile of 370 ms to 1 s.
        assert_eq!((recent.gather_ns, recent.longest_wait_ns), (430 * US, 20 * MS));
        assert!(recent.gap_count <= 10_000, "older gaps have lost weight");
        assert_eq!(recent.aged_at, Tick(20 * MS));
        recent.add_unstamped();
        assert_eq!((recent.gather_ns, recent.longest_wait_ns), (0, MS));
        recent.renew(Tick(40 * MS), 2_000);
        assert_eq!((recent.gather_ns, recent.longest_wait_ns), (0, MS));
        (0..60).for_each(|nth| recent.renew(Tick((60 + 20 * nth) * MS), 3_000 + 1_000 * nth));
        assert_eq!((recent.gather_ns, recent.longest_wait_ns), (430 * US, 20 * MS));
    }
}
