//! The saturation point of a server among the loads of a sweep, decided only from the figures of each load.
//!
//! A load is **sound** if its runs are not void and at least [`SOUND`] of its requests succeeded. Only sound loads are
//! compared; a load at which requests fail is never the best one.
//!
//! *Closed loops* (and a schedule with a varied cap) are judged by requests per second. The **knee** is the lowest
//! sound load with at least [`NEAR_BEST`] of the best throughput: repeated measurements of one load differ by a few
//! percent, and loads beyond the knee gain no more than that at the latency of a longer queue. If the knee is the
//! highest load measured, the server has not saturated. If the highest load has less than [`NEAR_BEST`] of the best
//! throughput, it is beyond saturation. Otherwise the curve is flat from the knee on.
//!
//! A coarse sweep can miss the saturation point: at the knee requests already **queue** (TTFT is at least [`QUEUED`] times
//! that of the load below, and makes up most of the added latency), although throughput is still higher than there. The
//! server then saturates between the two. By Little's law, it needs as many requests in flight as its throughput at the
//! knee times the latency of the load below.
//!
//! *Rates* are judged by whether the server **kept** up: responses ended about as fast as the schedule offered
//! requests, and no finding says that the queue grew. Both rates are computed between a first and a last event.
//! Requests divided by the duration of the run would include the wait for the last response, which is long compared
//! with a short run, and a random schedule of few requests differs from its nominal rate. See [`kept`] for the
//! tolerance.

/// The smallest share of succeeded requests of a sound load.
pub(crate) const SOUND: f64 = 0.95;
/// Loads with at least this share of the best RPS count as equally good.
pub(crate) const NEAR_BEST: f64 = 0.95;
/// Requests queue at a load if its TTFT is at least this many times that of the load below.
const QUEUED: f64 = 2.0;
/// A concurrency to try is at most this share of that of the load at which requests queue.
const WORTH_TRYING: f64 = 0.9;
/// A rate was kept if responses ended at no less than this share of it.
pub(crate) const KEPT: f64 = 0.97;

/// The figures of one load over all its runs that are not void. Times are seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// The cap on requests in flight; `None` in an open loop.
    pub parallel: Option<u32>,
    /// The planned rate; `None` in a closed loop.
    pub rate_per_s: Option<f64>,
    /// From the first to the last request due by the schedule; `None` in a closed loop and for fewer than two requests.
    pub offered_span_s: Option<f64>,
    /// From the end of the first to that of the last succeeded request.
    pub answered_span_s: Option<f64>,
    /// The rates over these spans.
    pub offered_per_s: Option<f64>,
    pub achieved_per_s: Option<f64>,
    /// Succeeded requests divided by the duration.
    pub requests_per_s: Option<f64>,
    /// Average latency and TTFT.
    pub latency_s: Option<f64>,
    pub ttft_s: Option<f64>,
    /// Longest minus shortest latency.
    pub latency_spread_s: Option<f64>,
    /// Succeeded over ended requests, from 0 to 1.
    pub success: Option<f64>,
    /// All runs of this load are void.
    pub void: bool,
    /// An interrupt ended a run of this load.
    pub interrupted: bool,
    /// A finding says that requests in flight grew through the run.
    pub overloaded: bool,
}

impl Load {
    /// Whether its figures can be compared.
    pub(crate) fn is_sound(&self) -> bool {
        !self.void && self.success.is_some_and(|share| share >= SOUND) && self.rps() > 0.0
    }

    /// Too many requests failed in runs that are not void.
    pub(crate) fn is_failing(&self) -> bool {
        !self.void && self.success.is_some_and(|share| share < SOUND)
    }

    /// An interrupt came before its figures could be judged.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.interrupted && !self.void && !self.is_failing()
    }

    fn rps(&self) -> f64 {
        self.requests_per_s.filter(|rate| rate.is_finite()).unwrap_or(0.0)
    }
}

/// The conclusion from the loads. The numbers are indices into the list of loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Fewer than two different loads, rates that were not measured, or no request ended before an interrupt.
    Nothing,
    AllVoid,
    /// No load is sound; `most` has the largest share of succeeded requests.
    NoneSound {
        most: usize,
    },
    /// The other loads are void, failing or interrupted; no load above this one is failing.
    OneSound {
        only: usize,
    },
    /// The highest sound load is the best, or all rates were kept.
    NotReached {
        top: usize,
    },
    /// Requests queue at `above`, but not at `below`: the server saturates between them, at about `parallel` requests in
    /// flight.
    Between {
        below: usize,
        above: usize,
        parallel: u32,
    },
    /// The same, but requests fail at the higher load `failing`.
    FailsAbove {
        top: usize,
        failing: usize,
    },
    /// From `knee` on, RPS is near the best.
    Flat {
        knee: usize,
        top: usize,
    },
    /// The highest load has clearly less RPS than the best.
    Past {
        knee: usize,
        top: usize,
    },
    /// `knee` keeps the offered rate, so a higher cap cannot increase RPS.
    RateLimits {
        knee: usize,
    },
    /// `last` is the highest rate that was kept, `best` the load with the most RPS.
    Exceeded {
        last: usize,
        best: usize,
    },
    /// Not even the lowest rate was kept.
    NoneKept {
        lowest: usize,
        best: usize,
    },
}

/// Decides over loads of one kind (all with a rate, or all without) sorted from the lowest to the highest.
pub(crate) fn decide(loads: &[Load]) -> Verdict {
    let differ = |value: fn(&Load) -> Option<f64>| loads.iter().any(|load| value(load) != value(&loads[0]));
    let by_rate = differ(|load| load.rate_per_s);
    if !by_rate && !differ(|load| load.parallel.map(f64::from)) {
        return Verdict::Nothing;
    }
    let sound: Vec<usize> = (0..loads.len()).filter(|&place| loads[place].is_sound()).collect();
    let (Some(&lowest), Some(&top)) = (sound.first(), sound.last()) else { return without_sound(loads) };
    let failing = (top + 1..loads.len()).find(|&place| loads[place].is_failing());
    if by_rate {
        return decide_rates(loads, &sound, failing);
    }
    let best = best_of(loads, &sound);
    let near = |place: usize| loads[place].rps() >= NEAR_BEST * loads[best].rps();
    let knee = sound.iter().copied().find(|&place| near(place)).unwrap_or(best);
    let enough = sound.len() > 1;
    if enough && kept(&loads[knee], loads, None) == Some(true) {
        Verdict::RateLimits { knee }
    } else if let Some((below, parallel)) = saturated_below(loads, &sound, knee) {
        Verdict::Between { below, above: knee, parallel }
    } else if knee < top && near(top) {
        Verdict::Flat { knee, top }
    } else if knee < top {
        Verdict::Past { knee, top }
    } else if let Some(failing) = failing {
        Verdict::FailsAbove { top, failing }
    } else if enough {
        Verdict::NotReached { top }
    } else {
        Verdict::OneSound { only: lowest }
    }
}

/// The sound load below the knee and the concurrency between them at which the server saturates; `None` if requests do
/// not queue at the knee, or if there is nothing to try in between.
fn saturated_below(loads: &[Load], sound: &[usize], knee: usize) -> Option<(usize, u32)> {
    let below = sound.iter().copied().rfind(|&place| place < knee)?;
    let (low, high) = (&loads[below], &loads[knee]);
    let (from, to) = (low.parallel?, high.parallel?);
    let (ttft_low_s, ttft_high_s) = (low.ttft_s?, high.ttft_s?);
    let latency_low_s = low.latency_s?;
    // In a batch that grows, the time of each token grows instead.
    let by_waiting = ttft_high_s - ttft_low_s >= (high.latency_s? - latency_low_s) / 2.0;
    let queues = ttft_high_s >= QUEUED * ttft_low_s && by_waiting;
    let parallel = (high.rps() * latency_low_s).round();
    let is_between = parallel > f64::from(from) && parallel <= WORTH_TRYING * f64::from(to);
    (queues && is_between).then_some((below, parallel as u32))
}

fn without_sound(loads: &[Load]) -> Verdict {
    if loads.iter().all(|load| load.void) {
        return Verdict::AllVoid;
    }
    let unknown = |load: &Load| load.interrupted && load.success.is_none();
    let usable = (0..loads.len()).filter(|&place| !loads[place].void && !unknown(&loads[place]));
    let share = |place: &usize| loads[*place].success.unwrap_or(0.0);
    // The lowest of equal ones.
    match usable.rev().max_by(|a, b| share(a).total_cmp(&share(b))) {
        Some(most) => Verdict::NoneSound { most },
        None => Verdict::Nothing,
    }
}

/// The sound load with the highest RPS; the lowest of equal ones.
fn best_of(loads: &[Load], sound: &[usize]) -> usize {
    let rps = |place: &usize| loads[*place].rps();
    sound.iter().rev().copied().max_by(|a, b| rps(a).total_cmp(&rps(b))).unwrap_or(0)
}

fn decide_rates(loads: &[Load], sound: &[usize], failing: Option<usize>) -> Verdict {
    let usable: Vec<&Load> = sound.iter().map(|&place| &loads[place]).collect();
    let spread_s = usable.first().filter(|load| kept(load, loads, None) == Some(true));
    let spread_s = spread_s.and_then(|load| load.latency_spread_s);
    let judged: Vec<(usize, bool)> =
        sound.iter().filter_map(|&place| Some((place, kept(&loads[place], loads, spread_s)?))).collect();
    let Some(&(lowest, _)) = judged.first() else { return Verdict::Nothing };
    let best = best_of(loads, sound);
    let Some(&(last, _)) = judged.iter().rev().find(|judged| judged.1) else {
        return Verdict::NoneKept { lowest, best };
    };
    match failing {
        _ if judged.iter().any(|&(place, _)| place > last) => Verdict::Exceeded { last, best },
        Some(failing) => Verdict::FailsAbove { top: last, failing },
        None if sound.len() > 1 => Verdict::NotReached { top: last },
        None => Verdict::OneSound { only: last },
    }
}

/// Whether the server kept up with the offered rate; `None` if that is unknown or the load has no rate.
///
/// It did if the responses ended within the span of the schedule divided by [`KEPT`], plus `spread_s`: the spread of
/// latencies at a rate that is low enough to be kept, because one long last response is not a queue. It also did if the
/// server completed requests as fast at another of these loads. A growing queue overrules both.
fn kept(load: &Load, loads: &[Load], spread_s: Option<f64>) -> Option<bool> {
    let (offered_s, answered_s) = (load.offered_span_s?, load.answered_span_s?);
    let in_time = answered_s <= offered_s / KEPT + spread_s.unwrap_or(0.0);
    let faster = |other: &Load| other.is_sound() && other.achieved_per_s >= load.offered_per_s;
    let elsewhere = load.rate_per_s.is_some() && loads.iter().any(faster);
    Some(!load.overloaded && (in_time || elsewhere))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A closed load of `rps` requests per second, of which `percent` succeed.
    fn closed(parallel: u32, rps: f64, percent: f64) -> Load {
        Load { parallel: Some(parallel), requests_per_s: Some(rps), success: Some(percent / 100.0), ..Load::default() }
    }

    /// An open load of 101 requests with these rates of the schedule and of the ends of responses.
    fn open(rate: f64, offered: f64, achieved: f64) -> Load {
        Load {
            rate_per_s: Some(rate),
            offered_span_s: Some(100.0 / offered),
            answered_span_s: Some(100.0 / achieved),
            offered_per_s: Some(offered),
            achieved_per_s: Some(achieved),
            requests_per_s: Some(achieved * 0.97),
            latency_spread_s: Some(0.001),
            success: Some(1.0),
            ..Load::default()
        }
    }

    fn closed_loads(rps: &[f64]) -> Vec<Load> {
        rps.iter().enumerate().map(|(place, &rps)| closed(1 << place, rps, 100.0)).collect()
    }

    #[test]
    fn the_knee_of_a_closed_loop() {
        let of = |rps: &[f64]| decide(&closed_loads(rps));
        assert_eq!(of(&[33.0]), Verdict::Nothing);
        assert_eq!(of(&[33.0, 60.0, 100.0]), Verdict::NotReached { top: 2 });
        assert_eq!(of(&[31.0, 33.0, 33.4, 33.2]), Verdict::Flat { knee: 1, top: 3 });
        // The last load is the best, but the others are near it.
        assert_eq!(of(&[31.0, 33.0, 33.4, 33.5]), Verdict::Flat { knee: 1, top: 3 });
        assert_eq!(of(&[32.5, 33.0, 33.0, 33.2]), Verdict::Flat { knee: 0, top: 3 });
        assert_eq!(of(&[10.0, 40.0, 41.0, 30.0]), Verdict::Past { knee: 1, top: 3 });
        assert_eq!(of(&[41.0, 40.0, 30.0]), Verdict::Past { knee: 0, top: 2 });
        assert_eq!(decide(&[]), Verdict::Nothing);
        // One load twice cannot be compared.
        assert_eq!(decide(&[closed(4, 10.0, 100.0), closed(4, 20.0, 100.0)]), Verdict::Nothing);
    }

    #[test]
    fn saturation_between_two_loads_is_found() {
        let load = |parallel, rps, ttft_s, latency_s| Load {
            ttft_s: Some(ttft_s),
            latency_s: Some(latency_s),
            ..closed(parallel, rps, 100.0)
        };
        let eight_slots = [load(4, 8.0, 0.1, 0.5), load(16, 16.0, 0.67, 1.0)];
        let between = Verdict::Between { below: 0, above: 1, parallel: 8 };
        assert_eq!(decide(&eight_slots), between);
        // Higher loads do not change that.
        let more = [eight_slots.to_vec(), vec![load(64, 16.1, 3.5, 4.0)]].concat();
        assert_eq!(decide(&more), between);
        // A batching server gives each token more time instead.
        let batching = [load(4, 8.0, 0.1, 0.5), load(16, 16.0, 0.2, 1.0)];
        assert_eq!(decide(&batching), Verdict::NotReached { top: 1 });
        // Without queueing, more slots help in proportion.
        assert_eq!(decide(&[load(4, 8.0, 0.1, 0.5), load(16, 31.0, 0.11, 0.51)]), Verdict::NotReached { top: 1 });
        // Nothing lies between 7 and 8.
        let fine = [load(7, 14.0, 0.1, 0.5), load(8, 15.8, 0.2, 0.6)];
        assert_eq!(decide(&fine), Verdict::NotReached { top: 1 });
    }

    #[test]
    fn loads_that_fail_are_never_the_best() {
        let rising = [closed(1, 10.0, 100.0), closed(2, 20.0, 96.0), closed(4, 30.0, 60.0)];
        assert_eq!(decide(&rising), Verdict::FailsAbove { top: 1, failing: 2 });
        assert_eq!(decide(&[closed(1, 50.0, 40.0), closed(2, 60.0, 50.0)]), Verdict::NoneSound { most: 1 });
        assert_eq!(decide(&[closed(1, 0.0, 0.0), closed(2, 0.0, 0.0)]), Verdict::NoneSound { most: 0 });
        assert_eq!(decide(&[closed(1, 50.0, 40.0), closed(2, 20.0, 99.0)]), Verdict::OneSound { only: 1 });
        let flat = [closed(1, 30.0, 100.0), closed(2, 30.0, 100.0), closed(4, 30.0, 50.0)];
        assert_eq!(decide(&flat), Verdict::Flat { knee: 0, top: 1 });
    }

    #[test]
    fn interrupted_loads_without_requests_are_not_judged() {
        let cut = Load { parallel: Some(2), interrupted: true, ..Load::default() };
        assert_eq!(decide(&[cut.clone(), closed(4, 20.0, 100.0)]), Verdict::OneSound { only: 1 });
        assert_eq!(decide(&[cut.clone(), closed(4, 20.0, 10.0)]), Verdict::NoneSound { most: 1 });
        assert_eq!(decide(&[cut.clone(), Load { parallel: Some(4), ..cut }]), Verdict::Nothing);
    }

    #[test]
    fn void_loads_do_not_count() {
        let void = |load: Load| Load { void: true, ..load };
        let mut loads = closed_loads(&[10.0, 20.0, 90.0]);
        loads[2] = void(loads[2].clone());
        assert_eq!(decide(&loads), Verdict::NotReached { top: 1 });
        assert_eq!(decide(&loads.into_iter().map(void).collect::<Vec<_>>()), Verdict::AllVoid);
    }

    #[test]
    fn rates_are_judged_by_being_kept() {
        let below = [open(5.0, 4.0, 3.99), open(20.0, 16.5, 16.4)];
        assert_eq!(decide(&below), Verdict::NotReached { top: 1 }, "a draw that offers less is no overload");
        let over = [open(5.0, 4.0, 3.99), open(20.0, 16.5, 16.4), open(100.0, 90.0, 68.0), open(200.0, 190.0, 67.0)];
        assert_eq!(decide(&over), Verdict::Exceeded { last: 1, best: 2 });
        assert_eq!(decide(&over[2..]), Verdict::NoneKept { lowest: 0, best: 0 });
        let growing = Load { overloaded: true, ..open(20.0, 20.0, 19.9) };
        assert_eq!(decide(&[open(5.0, 5.0, 5.0), growing]), Verdict::Exceeded { last: 0, best: 1 });
        let failing = Load { success: Some(0.5), ..open(50.0, 50.0, 50.0) };
        assert_eq!(decide(&[below[0].clone(), failing]), Verdict::FailsAbove { top: 0, failing: 1 });
        // All requests were due at once, so there is no offered rate.
        let burst = Load { offered_span_s: None, ..open(1.0, 5.0, 5.0) };
        assert_eq!(decide(&[burst.clone(), Load { rate_per_s: Some(2.0), ..burst }]), Verdict::Nothing);
    }

    #[test]
    fn a_long_last_response_is_not_a_queue() {
        let spread = |load: Load, spread_s| Load { latency_spread_s: Some(spread_s), ..load };
        // 20 s of schedule, responses between 1 and 3 s long: the last one may end 2 s late.
        let loads = [spread(open(2.0, 2.0, 1.99), 2.0), spread(open(5.0, 5.0, 4.6), 2.5)];
        assert_eq!(decide(&loads), Verdict::NotReached { top: 1 });
        let queue = [spread(open(2.0, 2.0, 1.99), 0.2), loads[1].clone()];
        assert_eq!(decide(&queue), Verdict::Exceeded { last: 0, best: 1 });
        // The server completed more requests per second at a higher rate, so it kept the lower one.
        assert_eq!(decide(&[open(2.0, 2.0, 1.8), open(5.0, 5.0, 4.9)]), Verdict::NotReached { top: 1 });
    }

    #[test]
    fn concurrency_cap_cannot_exceed_the_scheduled_rate() {
        let capped = |parallel, achieved| Load { parallel: Some(parallel), ..open(10.0, 10.0, achieved) };
        let enough = [capped(1, 4.0), capped(2, 8.0), capped(4, 10.0), capped(8, 10.0)];
        assert_eq!(decide(&enough), Verdict::RateLimits { knee: 2 });
        assert_eq!(decide(&[capped(1, 3.0), capped(2, 6.0)]), Verdict::NotReached { top: 1 });
    }
}
