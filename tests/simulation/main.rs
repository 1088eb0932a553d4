//! Thousands of seeded runs of the engine in virtual time, on simulated kernels that are stopped, run out of buffers,
//! merge segments and fail, against a server that knows the truth. After each run, every total must be exact and every
//! bound must contain the truth.
//!
//! `RINGMARK_SIMULATION=10000` runs that many seeds (best with `--release`), `RINGMARK_SIMULATION=seed:123` replays one.

mod checks;
mod executor;
mod kernel;
mod run;
mod scenario;
mod server;
mod talks;
mod time;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use scenario::Scenario;

/// Seeds that every test run covers.
const SEEDS: u64 = 100;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("RINGMARK_SIMULATION") else { return 0..SEEDS };
    let number = |text: &str| text.parse::<u64>().expect("RINGMARK_SIMULATION is a number of seeds, or seed:NUMBER");
    match text.strip_prefix("seed:") {
        Some(seed) => number(seed)..number(seed) + 1,
        None => 0..number(&text),
    }
}

/// What went wrong with a seed; `None` if nothing did.
fn failure(seed: u64) -> Option<String> {
    let scenario = Scenario::from_seed(seed);
    let result = catch_unwind(AssertUnwindSafe(|| checks::check(&scenario, &run::run(&scenario))));
    let panic = result.err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
}

#[test]
fn every_total_is_exact_and_every_bound_contains_the_truth() {
    let seeds = seeds();
    if seeds.end - seeds.start == 1 {
        println!("{:#?}", Scenario::from_seed(seeds.start));
    } else {
        // The panics of single runs are listed at the end.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Some(text) = failure(seed) {
                        failures.lock().unwrap().push((seed, text));
                    }
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    let listed: Vec<String> = failures.iter().take(20).map(|(seed, text)| format!("seed:{seed}: {text}")).collect();
    assert!(
        failures.is_empty(),
        "{} of {} seeds failed:\n{}",
        failures.len(),
        seeds.end - seeds.start,
        listed.join("\n")
    );
}
