//! What a seed stands for: a load, a server, and what disturbs the client.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ringmark::plan::{Arrival, Load, Schedule};
use ringmark::time::{MS, S, US};

use super::kernel::Faults;
use super::server::Style;
use super::time::{BEGIN_NS, Step, Stop};

/// One simulated run.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    /// Neither the machine nor the server has faults.
    pub is_calm: bool,
    pub workers: u16,
    pub load: Load,
    /// Units of the warm-up, which flows into the measured phase.
    pub warmup: u64,
    /// A unit is a conversation.
    pub talks: Option<Talks>,
    /// Units of the measured phase.
    pub requests: Option<u64>,
    pub duration_ns: Option<u64>,
    pub ramp_ns: u64,
    pub drain_ns: u64,
    pub spin: bool,
    /// The receive path is that of machines without a ring.
    pub epoll: bool,
    /// The workers may spin before scheduled sends.
    pub may_spin: bool,
    pub cold: bool,
    /// When the user interrupts the run, and whether at once.
    pub interrupt: Option<(u64, bool)>,
    pub style: Style,
    pub faults: Faults,
    /// By worker.
    pub stops: Vec<Vec<Stop>>,
    pub steps: Vec<Step>,
    /// The time of one reading of the clock.
    pub reading_ns: u64,
}

/// The conversations of a run.
#[derive(Clone, Copy, Debug)]
pub struct Talks {
    /// Later turns are due after a pause.
    pub with_pauses: bool,
}

/// Draws one of these.
fn one_of<T: Clone>(rng: &mut ChaCha8Rng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())].clone()
}

/// A share that is 0 in most runs.
fn seldom(rng: &mut ChaCha8Rng, share: f64) -> f64 {
    if rng.random_bool(0.25) { share } else { 0.0 }
}

impl Scenario {
    pub fn from_seed(seed: u64) -> Scenario {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let is_calm = rng.random_bool(0.2);
        let parallel = one_of(rng, &[1, 2, 3, 8, 16, 40, 100, 250]);
        let workers = one_of(rng, &[1, 1, 2, 3, 4]).min(parallel) as u16;
        let epoll = rng.random_bool(0.2);
        let spin = !epoll && rng.random_bool(0.1);
        // A busy loop over seconds of virtual time takes too long.
        let rates: &[f64] = if spin { &[500.0, 4000.0] } else { &[50.0, 500.0, 4000.0] };
        let rate_per_s = one_of(rng, rates);
        let arrival = one_of(rng, &[Arrival::Poisson, Arrival::Constant, Arrival::Gamma { cv: 2.0 }, Arrival::Burst]);
        let schedule = Schedule { rate_per_s, arrival };
        let load = match rng.random_range(0..4) {
            0 | 1 => Load::Closed { parallel },
            2 => Load::Paced { parallel, schedule },
            _ => Load::Open { schedule },
        };
        let requests = rng.random_range(1..u64::from(parallel) * 2 + 40);
        let ends_by_duration = rng.random_bool(0.1)
            && !matches!(&load, Load::Open { schedule } | Load::Paced { schedule, .. } if schedule.arrival == Arrival::Burst);
        let warmup = if rng.random_bool(0.3) { rng.random_range(1..u64::from(parallel) + 20) } else { 0 };
        let talks = rng.random_bool(0.2).then(|| Talks { with_pauses: rng.random_bool(0.5) });
        Scenario {
            seed,
            is_calm,
            workers,
            warmup,
            talks,
            requests: (!ends_by_duration).then_some(requests),
            duration_ns: (ends_by_duration || rng.random_bool(0.1)).then(|| rng.random_range(MS..150 * MS)),
            ramp_ns: one_of(rng, &[0, 0, 0, 30 * MS]),
            drain_ns: one_of(rng, &[20 * MS, 5 * S]),
            spin,
            epoll,
            may_spin: seed.is_multiple_of(3),
            cold: rng.random_bool(0.2),
            interrupt: rng.random_bool(0.1).then(|| (BEGIN_NS + rng.random_range(0..300 * MS), rng.random_bool(0.3))),
            style: style(rng, is_calm),
            faults: if is_calm { calm() } else { faults(rng, parallel) },
            stops: (0..workers).map(|_| if is_calm { Vec::new() } else { stops(rng) }).collect(),
            steps: if is_calm || rng.random_bool(0.9) { Vec::new() } else { steps(rng) },
            // A busy loop takes thousands of rounds a millisecond; longer ones show the same.
            reading_ns: if spin { 4 * US } else { one_of(rng, &[20, 20, 200]) },
            load,
        }
    }
}

fn style(rng: &mut ChaCha8Rng, is_calm: bool) -> Style {
    let gap = one_of(rng, &[0..1, 0..200 * US, 500 * US..600 * US, 2 * MS..20 * MS, 10 * MS..10 * MS + 1]);
    let text = one_of(rng, &[1..10, 1..10, 200..400, 1000..6000]);
    Style {
        ttft_ns: one_of(rng, &[100 * US..300 * US, MS..10 * MS, 20 * MS..80 * MS]),
        gap_ns: if is_calm { 2 * MS..12 * MS } else { gap },
        tokens: one_of(rng, &[2..3, 2..10, 5..30]),
        burst: if is_calm { 1 } else { one_of(rng, &[1, 1, 2, 3, 7]) },
        text_bytes: if is_calm { 1..10 } else { text },
        split: if is_calm { 0.0 } else { seldom(rng, 0.2) },
        split_ns: one_of(rng, &[0..1, 0..100 * US, 0..3 * MS]),
        comment: if is_calm { 0.0 } else { seldom(rng, 0.2) },
        role: rng.random_bool(0.5),
        counts_finish: rng.random_bool(0.2),
        done: rng.random_bool(0.8),
        end_gap_ns: one_of(rng, &[0..0, 0..0, 5 * US..60 * US, 0..3 * MS]),
        streams: rng.random_bool(0.9),
        closes: seldom(rng, 0.2),
        resets: seldom(rng, 0.05),
        error_status: seldom(rng, 0.05),
        hangs: seldom(rng, 0.02),
        // Without effect on what is drawn later.
        empty: if is_calm { 0.0 } else { seldom(&mut rng.clone(), 0.1) },
    }
}

fn calm() -> Faults {
    Faults {
        merge: 0.0,
        unstamped: 0.0,
        buffers: 4096,
        completions: 65_536,
        submissions: 1024,
        submit: 0.0,
        interrupt: 0.0,
        refuse: 0.0,
        black_hole: 0.0,
        partial_send: 0.0,
        read_ns: 2 * US,
        wake_up_ns: 60 * US,
        batch: 20,
    }
}

fn faults(rng: &mut ChaCha8Rng, parallel: u32) -> Faults {
    let few = |rng: &mut ChaCha8Rng, low: usize, usual: usize| {
        if rng.random_bool(0.25) { low + rng.random_range(0..parallel as usize) } else { usual }
    };
    Faults {
        merge: one_of(rng, &[0.0, 0.5, 0.95]),
        unstamped: seldom(rng, 0.1),
        buffers: few(rng, 1, 4096),
        completions: few(rng, 2, 65_536),
        submissions: few(rng, 1, 1024),
        submit: seldom(rng, 0.1),
        interrupt: seldom(rng, 0.1),
        refuse: seldom(rng, 0.1),
        black_hole: seldom(rng, 0.02),
        partial_send: seldom(rng, 0.2),
        read_ns: one_of(rng, &[2 * US, 15 * US]),
        wake_up_ns: one_of(rng, &[60 * US, 500 * US]),
        batch: one_of(rng, &[20, 20, 100_000]),
    }
}

fn stops(rng: &mut ChaCha8Rng) -> Vec<Stop> {
    let count = one_of(rng, &[0, 1, 1, 3, 20]);
    let longest_ns = one_of(rng, &[500 * US, 10 * MS, 400 * MS]);
    let mut stops: Vec<Stop> = (0..count)
        .map(|_| Stop {
            begin_ns: BEGIN_NS + rng.random_range(0..200 * MS),
            length_ns: rng.random_range(50 * US..longest_ns),
        })
        .collect();
    stops.sort_by_key(|stop| stop.begin_ns);
    stops
}

fn steps(rng: &mut ChaCha8Rng) -> Vec<Step> {
    let by_ns = one_of(rng, &[-50 * S as i64, -300 * MS as i64, -20 * MS as i64, 20 * MS as i64, 3 * S as i64]);
    vec![Step { at_ns: BEGIN_NS + rng.random_range(0..200 * MS), by_ns }]
}
