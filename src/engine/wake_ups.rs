//! Wake-ups before scheduled sends: a worker learns how late this machine wakes it up, wakes up that much earlier, and
//! spins until the request is due.
//!
//! It spins for at most a quarter of the time, and not at all on a core that a server on this machine may use
//! ([`crate::host::local_server`]). The more of that time is used up, the less early it wakes up, down to the median of the
//! lateness: half of the requests are then on time, and the others are late by the difference.

use crate::time::{MS, Tick, US};

/// The share of the wake-ups that are not later than what is learnt, while no time to spin is left and while all is.
const QUANTILES: (f64, f64) = (0.5, 0.98);
/// By how much one wake-up changes what is learnt, nanoseconds.
const STEP_NS: f64 = 2_000.0;
/// A worker wakes up at most this much earlier.
const MAX_AHEAD_NS: u64 = 200 * US;
/// Of so many nanoseconds, it may spin for one.
const TIME_PER_SPIN: u64 = 4;
/// What it has not used is kept up to this.
const MAX_CREDIT_NS: u64 = 5 * MS;

/// What a worker has learnt about its wake-ups, and for how long it may spin.
#[derive(Debug)]
pub struct WakeUps {
    may_spin: bool,
    /// A running quantile of how late it woke up, nanoseconds.
    lateness_ns: f64,
    /// For how long it may spin now.
    credit_ns: u64,
    credited_at: Tick,
    is_spinning: bool,
}

impl WakeUps {
    pub fn new(may_spin: bool) -> WakeUps {
        WakeUps { may_spin, lateness_ns: 0.0, credit_ns: 0, credited_at: Tick(0), is_spinning: false }
    }

    /// A wait until `until` ended at `now`, and nothing had ended it before.
    pub fn learn(&mut self, until: Tick, now: Tick) {
        if now < until {
            return;
        }
        let is_later = now.ns_since(until) as f64 > self.lateness_ns;
        let (lowest, highest) = QUANTILES;
        let quantile = lowest + (highest - lowest) * (self.credit_ns as f64 / MAX_CREDIT_NS as f64);
        self.lateness_ns += STEP_NS * if is_later { quantile } else { quantile - 1.0 };
        self.lateness_ns = self.lateness_ns.clamp(0.0, MAX_AHEAD_NS as f64);
    }

    /// Until when to wait for a send that is due at `due`; `None` if the worker is to spin.
    pub fn wait_until(&mut self, now: Tick, due: Tick) -> Option<Tick> {
        let passed_ns = now.0.saturating_sub(self.credited_at.0);
        self.credited_at = now;
        let used_ns = if std::mem::take(&mut self.is_spinning) { passed_ns } else { 0 };
        let earned_ns = passed_ns / TIME_PER_SPIN;
        self.credit_ns = self.credit_ns.saturating_add(earned_ns).min(MAX_CREDIT_NS).saturating_sub(used_ns);
        let ahead_ns = self.lateness_ns as u64;
        if !self.may_spin || self.credit_ns < ahead_ns {
            return Some(due);
        }
        let wake_at = Tick(due.0.saturating_sub(ahead_ns));
        self.is_spinning = wake_at <= now && now < due;
        (!self.is_spinning).then_some(wake_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wakes up 40 us late, in one of 100 cases 300 us.
    fn learnt() -> WakeUps {
        let mut wake_ups = WakeUps { credit_ns: MAX_CREDIT_NS, ..WakeUps::new(true) };
        for nth in 0..2_000 {
            let late_ns = if nth % 100 == 0 { 300 * US } else { 40 * US };
            wake_ups.learn(Tick(S), Tick(S + late_ns));
        }
        WakeUps { credit_ns: 0, ..wake_ups }
    }

    const S: u64 = 1_000 * MS;

    #[test]
    fn usual_lateness_is_learnt() {
        let mut wake_ups = learnt();
        assert!((38_000.0..46_000.0).contains(&wake_ups.lateness_ns), "{}", wake_ups.lateness_ns);
        wake_ups.learn(Tick(S), Tick(S - 5));
        (0..100_000).for_each(|_| wake_ups.learn(Tick(S), Tick(2 * S)));
        assert_eq!(wake_ups.lateness_ns, MAX_AHEAD_NS as f64);
    }

    #[test]
    fn with_no_time_left_the_median_is_learnt() {
        let lateness_with = |credit_ns: u64| {
            let mut wake_ups = WakeUps { credit_ns, ..WakeUps::new(true) };
            // 0 to 99 us, evenly.
            (0..5_000).for_each(|nth| wake_ups.learn(Tick(S), Tick(S + nth * 37 % 100 * US)));
            wake_ups.lateness_ns / 1e3
        };
        assert!((45.0..55.0).contains(&lateness_with(0)), "{}", lateness_with(0));
        assert!((68.0..80.0).contains(&lateness_with(MAX_CREDIT_NS / 2)), "{}", lateness_with(MAX_CREDIT_NS / 2));
        assert!((92.0..100.0).contains(&lateness_with(MAX_CREDIT_NS)), "{}", lateness_with(MAX_CREDIT_NS));
    }

    #[test]
    fn it_wakes_up_earlier_and_spins() {
        let mut wake_ups = learnt();
        let due = Tick(10 * S);
        let wake_at = wake_ups.wait_until(Tick(9 * S), due).unwrap();
        assert!((35_000..50_000).contains(&(due.0 - wake_at.0)));
        assert_eq!(wake_ups.wait_until(Tick(due.0 - 10 * US), due), None);
        // Once it is due, nothing is left to spin for.
        assert!(wake_ups.wait_until(due, due).is_some_and(|until| until <= due));
        let mut never = WakeUps { may_spin: false, ..learnt() };
        assert_eq!(never.wait_until(Tick(due.0 - 10 * US), due), Some(due));
    }

    #[test]
    fn it_spins_for_a_quarter_of_the_time() {
        let mut wake_ups = learnt();
        let (mut now, mut spun_ns) = (Tick(0), 0);
        wake_ups.wait_until(now, Tick(S));
        // A request every 50 us.
        while now.0 < S {
            let due = Tick((now.0 / (50 * US) + 1) * 50 * US);
            match wake_ups.wait_until(now, due) {
                None => {
                    now = now.plus_ns(US);
                    spun_ns += US;
                }
                Some(until) => now = until,
            }
        }
        assert!((S / 5..S / 4 + MAX_CREDIT_NS).contains(&spun_ns), "{} ms of a second", spun_ns / MS);
    }
}
