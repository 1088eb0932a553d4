//! The parts of the bench: their loads, measurements and output.

use ringmark::spec::Spec;

use crate::load::{ClientFigures, Load, mean, median, quantile, rounds};
use crate::ours::{FinishedRun, measure, spec};
use crate::server::Server;
use crate::truth::{Comparison, compare};
use crate::{bare, cost, floor, peers, sending, tls, whole};

/// A part, which runs in full or in a small size.
type Part = fn(bool);

/// All parts by name.
pub const ALL: &[(&str, Part)] = &[
    ("paced", paced),
    ("burst", burst),
    ("small", small),
    ("middle", middle),
    ("turnaround", turnaround),
    ("send_lag", sending::send_lag),
    ("memory", memory),
    ("connect", connect),
    ("tls", tls::tls),
    ("cost", cost::cost),
    ("in_step", in_step),
    ("whole", whole::whole),
];

/// 10,000 streams with a token every 100 ms each, not synchronized: 100,000 events per second on one worker.
fn paced(full: bool) {
    let load = if full {
        Load { streams: 10_000, requests: 10_000, tokens: 60 }
    } else {
        Load { streams: 50, requests: 50, tokens: 10 }
    };
    let server = Server::start(&format!("ttft=uniform(200ms,300ms)&itl=100ms&tokens={}&seed=1", load.tokens));
    let (mut floors, mut ours, mut p50, mut p99, mut p999) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..rounds(full) {
        server.reset();
        let floor = run_on_thread(|| floor::run(server.address, load));
        println!("    floor: {} reads, CPU {:.2} us each", floor.events, floor.cpu_per_event_us());
        floors.push(floor.cpu_per_event_us());
        server.reset();
        let run = closed(&server, load);
        ours.push(run.cpu_per_event_us());
        let mut comparison = compare(&run, &server.truth(), 0);
        p50.push(comparison.arrival_lag_us(0.5));
        p99.push(comparison.arrival_lag_us(0.99));
        p999.push(comparison.arrival_lag_us(0.999));
        print_errors("ringmark", &mut comparison);
        print_run(&run, &comparison);
    }
    let (floor, ours) = (median(floors), median(ours));
    println!(
        "CPU per event: floor {floor:.2} us, ringmark {ours:.2} us, ratio {:.2} (at most 1.25 expected)",
        ours / floor
    );
    println!(
        "arrival timestamp after the send: p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us (4 and 10 expected)",
        median(p50),
        median(p99),
        median(p999)
    );
}

/// The same streams, synchronized: all of them send their tokens at the same time.
fn burst(full: bool) {
    let load = if full {
        Load { streams: 10_000, requests: 10_000, tokens: 12 }
    } else {
        Load { streams: 50, requests: 50, tokens: 5 }
    };
    let server = Server::start(&format!("ttft=200ms&itl=500ms&burst=on&tokens={}", load.tokens));
    for _ in 0..rounds(full) {
        server.reset();
        let run = closed(&server, load);
        let mut comparison = compare(&run, &server.truth(), 0);
        let lag = run.worker.receive_lag_ns.value_at_quantile(0.5) as f64 / 1e6;
        println!(
            "arrival timestamp after the send: p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us (p99 15 expected); receive lag p50 {lag:.1} ms",
            comparison.arrival_lag_us(0.5),
            comparison.arrival_lag_us(0.99),
            comparison.arrival_lag_us(0.999)
        );
        print_errors("ringmark", &mut comparison);
        print_run(&run, &comparison);
    }
}

/// 500 streams of 100 tokens, TTFT 50 ms, ITL 10 ms.
fn small(full: bool) {
    let load = if full {
        Load { streams: 500, requests: 3000, tokens: 100 }
    } else {
        Load { streams: 10, requests: 20, tokens: 10 }
    };
    compare_clients("ttft=uniform(45ms,55ms)&itl=10ms", load, full);
}

/// 2,000 streams of 50 tokens, ITL 40 ms.
fn middle(full: bool) {
    let load = if full {
        Load { streams: 2000, requests: 8000, tokens: 50 }
    } else {
        Load { streams: 20, requests: 40, tokens: 5 }
    };
    compare_clients("ttft=uniform(45ms,55ms)&itl=40ms", load, full);
}

/// Runs ringmark, the bare client and the peers with the same load, interleaved.
fn compare_clients(shape: &str, load: Load, full: bool) {
    let server = Server::start(&format!("{shape}&tokens={}&seed=2", load.tokens));
    for round in 0..rounds(full) {
        println!("round {round}:");
        server.reset();
        let figures = run_on_thread(|| bare::run(server.address, load));
        print_other_client("bare epoll client", figures, &server, load);
        server.reset();
        let run = closed(&server, load);
        let truth = server.truth();
        let cpu = run.cpu_per_event_us();
        println!("  ringmark: CPU {cpu:.2} us per event");
        print_errors("  ringmark, whole run", &mut compare(&run, &truth, 0));
        let mut steady = compare(&run, &truth, load.streams as u64);
        print_errors("  ringmark, steady part", &mut steady);
        let turnaround = |share| quantile(&mut steady.turnaround_s.clone(), share) * 1e6;
        println!(
            "  ringmark: turnaround to the server p50 {:.0} us, p99 {:.0} us (the requests of a wave end together)",
            turnaround(0.5),
            turnaround(0.99)
        );
        print_run(&run, &steady);
        for (name, figures) in peers::all(&server, load) {
            println!(
                "  {name}: CPU {:.2} us per event, ringmark {:.2} times that",
                figures.cpu_per_event_us(),
                cpu / figures.cpu_per_event_us()
            );
            print_other_client(&name, figures, &server, load);
        }
    }
}

/// The time from the end of a response to the next request, for 500 streams whose ends are spread over time.
fn turnaround(full: bool) {
    let (streams, requests) = if full { (500, 4000) } else { (10, 30) };
    let tokens = if full { "uniform(50,150)" } else { "uniform(2,8)" };
    let server = Server::start(&format!("ttft=50ms&itl=10ms&tokens={tokens}&seed=3"));
    for _ in 0..rounds(full) {
        server.reset();
        let run = closed(&server, Load { streams, requests, tokens: 100 });
        let mut comparison = compare(&run, &server.truth(), streams as u64);
        let to_write = |share| {
            let turns =
                records(&run).filter_map(|record| Some(record.write_start?.0 as f64 - record.previous_end?.0 as f64));
            quantile(&mut turns.collect::<Vec<_>>(), share) / 1e3
        };
        println!("to the write of the request: p50 {:.0} us, p99 {:.0} us", to_write(0.5), to_write(0.99));
        println!(
            "to the server's first byte: p50 {:.0} us, p99 {:.0} us (100 and 1000 expected)",
            quantile(&mut comparison.turnaround_s, 0.5) * 1e6,
            quantile(&mut comparison.turnaround_s, 0.99) * 1e6
        );
        print_run(&run, &comparison);
    }
}

/// 9,000 streams whose responses all end at the same time, three times.
fn in_step(full: bool) {
    let (streams, tokens) = if full { (9_000, 20) } else { (50, 4) };
    let server = Server::start(&format!("ttft=200ms&itl=100ms&burst=on&tokens={tokens}"));
    for _ in 0..rounds(full) {
        server.reset();
        let load = Load { streams, requests: 3 * streams, tokens };
        let run = closed(&server, load);
        let mut comparison = compare(&run, &server.truth(), streams as u64);
        println!(
            "turnaround to the server's first byte: p50 {:.2} ms, p99 {:.2} ms (5 expected)",
            quantile(&mut comparison.turnaround_s, 0.5) * 1e3,
            quantile(&mut comparison.turnaround_s, 0.99) * 1e3
        );
        print_run(&run, &comparison);
    }
}

/// The memory per idle stream.
fn memory(full: bool) {
    let streams: usize = if full { 10_000 } else { 50 };
    let server = Server::start("ttft=3s&tokens=2&itl=10ms");
    let before = resident_bytes();
    let load = Load { streams, requests: streams, tokens: 2 };
    let watcher = std::thread::spawn(move || peak_resident(std::time::Duration::from_secs(if full { 8 } else { 4 })));
    let run = closed(&server, load);
    let peak = watcher.join().expect("the watcher does not panic");
    let comparison = compare(&run, &server.truth(), 0);
    let kib_per_stream = peak.saturating_sub(before) as f64 / streams as f64 / 1024.0;
    println!(
        "{kib_per_stream:.1} KiB per stream (16 expected), peak in flight {} of {streams}",
        comparison.peak_in_flight
    );
    print_run(&run, &comparison);
}

/// The time to open ten thousand connections at once.
fn connect(full: bool) {
    let streams = if full { 10_000 } else { 50 };
    let server = Server::start("ttft=3s&tokens=2&itl=10ms");
    for _ in 0..rounds(full) {
        let mut spec = closed_spec(&server, Load { streams, requests: streams, tokens: 2 });
        spec.client.cold = true;
        let run = measure(spec);
        let picked = records(&run).filter_map(|record| record.picked).min();
        let connected = records(&run).filter_map(|record| record.connected).max();
        let (picked, connected) = picked.zip(connected).expect("a run has connections");
        let opened = run.worker.connections_opened;
        println!("{opened} connections opened within {:.2} s (2 expected)", (connected.0 - picked.0) as f64 / 1e9);
    }
}

fn closed(server: &Server, load: Load) -> FinishedRun {
    measure(closed_spec(server, load))
}

fn closed_spec(server: &Server, load: Load) -> Spec {
    let mut spec = spec(&server.url());
    spec.load.parallel = vec![load.streams as u32];
    spec.load.number = vec![load.requests as u64];
    spec
}

pub fn records(run: &FinishedRun) -> impl Iterator<Item = &ringmark::record::RequestRecord> {
    run.records.iter().flat_map(|block| &block.records)
}

fn run_on_thread(client: impl FnOnce() -> ClientFigures + Send) -> ClientFigures {
    std::thread::scope(|scope| scope.spawn(client).join().expect("the client does not panic"))
}

fn print_errors(name: &str, comparison: &mut Comparison) {
    let errors = comparison.errors().map(|error| format!("{:+.4} ms (certain {:+.4})", error.ms, error.certain_ms));
    let [mean_ttft, p99_ttft, p99_itl] = errors;
    println!("{name}: error of mean TTFT {mean_ttft}, p99 TTFT {p99_ttft}, p99 ITL {p99_itl}");
}

/// Prints the figures of another client and their errors, compared with the server's records of the same requests.
fn print_other_client(name: &str, mut figures: ClientFigures, server: &Server, load: Load) {
    let truth = server.truth();
    let (mut ttft, mut itl) = (Vec::new(), Vec::new());
    for request in truth["requests"].as_array().into_iter().flatten() {
        let sends: Vec<f64> =
            request["sends"].as_array().into_iter().flatten().filter_map(|send| Some(send.as_f64()? / 1e9)).collect();
        if let (Some(received), Some(first)) = (request["received_first"].as_f64(), sends.first()) {
            ttft.push(first - received / 1e9);
        }
        itl.extend(sends.windows(2).map(|pair| pair[1] - pair[0]));
    }
    let error_ms = |measured: f64, truth: f64| (measured - truth) * 1e3;
    let whole = error_ms(mean(&figures.ttft_s), mean(&ttft));
    let steady =
        figures.ttft_s.get(load.streams..).map_or(f64::NAN, mean) - ttft.get(load.streams..).map_or(f64::NAN, mean);
    let p99_itl = error_ms(quantile(&mut figures.itl_s, 0.99), quantile(&mut itl, 0.99));
    let p99_ttft = error_ms(quantile(&mut figures.ttft_s, 0.99), quantile(&mut ttft, 0.99));
    println!(
        "  {name}: CPU {:.2} us per event; error against the server's records: mean TTFT {whole:+.4} ms (steady {:+.4}), p99 TTFT {p99_ttft:+.4} ms, p99 ITL {p99_itl:+.4} ms",
        figures.cpu_per_event_us(),
        steady * 1e3
    );
}

fn print_run(run: &FinishedRun, comparison: &Comparison) {
    let worker = &run.worker;
    println!(
        "    lost {}, peak in flight {}, mean in flight {:?}, mock lateness p99 {:.0} us, blocked writes {}, receive lag p50 {:.0} us p99 {:.0} us, out of buffers {}, worker CPU {:.0} %",
        comparison.lost,
        comparison.peak_in_flight,
        run.summary.concurrency.mean_while_sending,
        comparison.mock_late_p99_us,
        comparison.blocked_writes,
        worker.receive_lag_ns.value_at_quantile(0.5) as f64 / 1e3,
        worker.receive_lag_ns.value_at_quantile(0.99) as f64 / 1e3,
        worker.buffer_shortages,
        (worker.cpu_user_ns + worker.cpu_system_ns) as f64 / worker.wall_ns as f64 * 100.0
    );
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux has this file");
    let pages: u64 = text.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("the second field is a number");
    pages * 4096
}

fn peak_resident(time: std::time::Duration) -> u64 {
    let end = std::time::Instant::now() + time;
    let mut peak = 0;
    while std::time::Instant::now() < end {
        peak = peak.max(resident_bytes());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    peak
}
