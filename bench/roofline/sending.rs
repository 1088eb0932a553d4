//! How precisely requests are sent, beside a loop that only sleeps.

use ringmark::host::priority::raise_priority;
use ringmark::plan::{Arrival, Schedule};
use ringmark::time::clock::Clock;
use ringmark::workload::arrivals::offsets;
use rustix::thread::{ClockId, clock_nanosleep_absolute};
use rustix::time::Timespec;

use crate::kolmogorov::distance_from_exponential;
use crate::load::{quantile, rounds};
use crate::ours::{FinishedRun, measure, spec};
use crate::parts::records;
use crate::server::Server;

/// Open loops with one token per request: 10,000 and 5,000 requests per second, with waiting and with busy polling, and
/// the gaps that the server sees at 500 per second.
pub fn send_lag(full: bool) {
    let server = Server::start("ttft=5ms&tokens=1");
    let (fast, slow, requests) = if full { (10_000.0, 5_000.0, 60_000) } else { (200.0, 200.0, 100) };
    for _ in 0..rounds(full) {
        let timer = timer_lags_us(slow, requests as usize / 2);
        print_lags("timer loop, poisson, 5,000/s", timer, "");
        for (rate, arrival, spin) in [
            (slow, "poisson", false),
            (slow, "poisson", true),
            (fast, "poisson", false),
            (fast, "constant", false),
            (fast, "poisson", true),
        ] {
            let run = open_loop(&server, rate, arrival, spin, (rate / fast * requests as f64) as u64);
            let rates = &run.summary.rates;
            let cpu = (run.worker.cpu_user_ns + run.worker.cpu_system_ns) as f64 / run.worker.wall_ns as f64 * 100.0;
            let name = format!("{arrival}, {rate}/s{}", if spin { ", busy polling" } else { "" });
            let more = format!(
                "; offered {:?}, sent {:?} req/s; worker CPU {cpu:.0} %",
                rates.offered_per_s, rates.sent_per_s
            );
            print_lags(&name, lags_us(&run), &more);
        }
        gaps(full);
    }
}

/// Whether the gaps that the server sees are those of a Poisson process. It polls without sleeping: otherwise, it would
/// see requests together that arrive while it wakes up.
fn gaps(full: bool) {
    let (rate, requests) = if full { (500.0, 5_000) } else { (500.0, 200) };
    let server = Server::start("ttft=5ms&tokens=1&spin=on");
    let run = open_loop(&server, rate, "poisson", false, requests);
    let truth = server.truth();
    let requests = truth["requests"].as_array().expect("the records have a list of requests");
    let mut received: Vec<f64> = requests.iter().filter_map(|request| request["received_first"].as_f64()).collect();
    received.sort_unstable_by(f64::total_cmp);
    let mut gaps: Vec<f64> = received.windows(2).map(|pair| (pair[1] - pair[0]) / 1e9).collect();
    let (distance, limit) = distance_from_exponential(&mut gaps, 1.0 / rate);
    println!(
        "gaps at the server, {rate}/s: {} gaps, Kolmogorov-Smirnov {distance:.4}, at 1 % below {limit:.4}: {}",
        gaps.len(),
        if distance < limit { "passed" } else { "FAILED" }
    );
    print_lags(&format!("poisson, {rate}/s"), lags_us(&run), "");
}

fn open_loop(server: &Server, rate: f64, arrival: &str, spin: bool, requests: u64) -> FinishedRun {
    let mut spec = spec(&server.url());
    spec.load.open_loop = true;
    spec.load.rate = vec![rate];
    spec.load.arrival = Some(arrival.to_string());
    spec.load.number = vec![requests];
    spec.client.spin = spin;
    measure(spec)
}

fn lags_us(run: &FinishedRun) -> Vec<f64> {
    records(run).filter_map(|record| Some((record.write_start?.0 - record.due.0) as f64 / 1e3)).collect()
}

fn print_lags(name: &str, mut lags_us: Vec<f64>, more: &str) {
    let (p50, p99) = (quantile(&mut lags_us, 0.5), quantile(&mut lags_us, 0.99));
    println!("{name}: send lag p50 {p50:.1} us, p99 {p99:.1} us{more}");
}

/// How late a thread on core 0 that only sleeps until the times of a Poisson process wakes up.
fn timer_lags_us(rate_per_s: f64, count: usize) -> Vec<f64> {
    let run = move || {
        core_affinity::set_for_current(core_affinity::CoreId { id: 0 });
        raise_priority();
        let clock = Clock::new();
        let start = clock.now().plus_ns(10_000_000);
        let schedule = Schedule { rate_per_s, arrival: Arrival::Poisson };
        let wait = |offset_ns: u64| {
            let due = start.plus_ns(offset_ns);
            let until = Timespec { tv_sec: (due.0 / 1_000_000_000) as i64, tv_nsec: (due.0 % 1_000_000_000) as i64 };
            let _ = clock_nanosleep_absolute(ClockId::Monotonic, &until);
            let now = clock.now();
            clock.maintain(now);
            now.ns_since(due) as f64 / 1e3
        };
        offsets(&schedule, 5, 0).take(count).map(wait).collect()
    };
    std::thread::scope(|scope| scope.spawn(run).join().expect("the loop does not panic"))
}
