//! The combined report of a sweep, the speed benchmark and objectives, from records that went through databases.

mod records;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use records::{closed, collect, collect_to_end, push_failed, push_ok, report, start};
use ringmark::options::Language;
use ringmark::plan::Save;
use ringmark::record::delivery::SilentKind;
use ringmark::record::facts::{Mode, RunEnd, RunFacts};
use ringmark::record::{Block, CollectorMessage, Failure, Outcome, Phase, WorkerReport};
use ringmark::report::{from_database, html, json, overview, screen};
use ringmark::stats::throughput::{SteadyThroughput, Throughput};
use ringmark::stats::{Finding, Summary};
use ringmark::time::Tick;
use unicode_width::UnicodeWidthStr;

/// A run of one slot after the other: `ok` responses of 50 ms and `failed` failures in `folder`.
fn run(folder: &Path, name: &str, facts: RunFacts, ok: u64, failed: u64) -> PathBuf {
    let mut block = Block::new(0);
    for index in 0..ok {
        push_ok(&mut block, index, index * 60, &[20, 30, 40, 49]);
    }
    for index in ok..ok + failed {
        push_failed(&mut block, index, index * 60, Outcome::Failed(Failure::Status), "503 busy");
    }
    let path = folder.join(name);
    collect(
        &path,
        start(facts, Save::Text),
        vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(report(Phase::Measured)))],
    );
    path
}

fn sweep() -> Vec<Summary> {
    let folder = tempfile::tempdir().unwrap();
    let loads = [(1, 20, 0), (10, 19, 1), (100, 17, 3), (200, 5, 15)];
    let summary = |(parallel, ok, failed): (u32, u64, u64)| {
        let facts = closed(ok + failed, parallel);
        from_database(&run(folder.path(), &format!("{parallel}.db"), facts, ok, failed)).unwrap()
    };
    loads.into_iter().map(summary).collect()
}

#[test]
fn a_sweep_has_a_row_for_each_load_at_every_width() {
    let runs = sweep();
    let runs: Vec<&Summary> = runs.iter().collect();
    for width in [80, 110, 200] {
        let text = overview::render(&runs, Some("outputs/x"), width, false);
        assert!(text.lines().all(|line| line.width() <= width), "{text}");
        for what in ["通义千问-2.5", "Conc.", "Avg TTFT(s)", "Success Rate", "95.0%", "Highest RPS", "outputs/x"] {
            assert!(text.contains(what) || heads(&text).iter().any(|head| head == what), "{what}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "no colours unless asked for");
    }
    for width in [110, 120, 200] {
        for text in [overview::render(&runs, None, width, false), overview::render_on_screen(&runs, None, width, false)]
        {
            let table = text.split("Detailed performance metrics:\n").nth(1).unwrap();
            assert!(
                table.lines().take_while(|line| line.starts_with(['|', '+'])).all(|line| line.width() <= 110),
                "{text}"
            );
            assert_eq!(heads(&text), DOCUMENTED, "{text}");
        }
    }
}

#[test]
fn the_path_of_the_database_does_not_widen_the_summary() {
    let folder = tempfile::tempdir().unwrap();
    let summary = from_database(&run(folder.path(), "a.db", closed(4, 1), 4, 0)).unwrap();
    let table = |text: &str| -> Vec<String> {
        let lines = text.split("Benchmarking summary:\n").nth(1).unwrap().lines();
        lines.take_while(|line| line.starts_with(['+', '|'])).map(str::to_string).collect()
    };
    let short = Path::new("outputs/a.db");
    let rows = table(&screen::render_stored(&summary, Some(short), 80));
    assert!(rows[rows.len() - 2].starts_with("| Result DB path ") && rows[0].width() <= 80, "{rows:#?}");
    let long = Path::new("outputs").join("name".repeat(20)).join("a.db");
    for width in [60, 80, 200] {
        let text = screen::render_stored(&summary, Some(&long), width);
        assert_eq!(table(&text), table(&screen::render(&summary, width)));
        // Whole and on one line, so that it can be copied.
        assert!(text.contains(&format!("\nResult DB path: {}\n", long.display())), "{text}");
    }
}

/// The columns of evalscope's report.
const DOCUMENTED: [&str; 10] = [
    "Conc.",
    "RPS",
    "Avg Lat.(s)",
    "P99 Lat.(s)",
    "Gen. toks/s",
    "Avg TTFT(s)",
    "P99 TTFT(s)",
    "Avg TPOT(s)",
    "P99 TPOT(s)",
    "Success Rate",
];

/// The columns of the first table of loads, whose names can have two lines.
fn heads(text: &str) -> Vec<String> {
    let table = text.split("Detailed performance metrics:\n").nth(1).unwrap();
    let lines = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect::<Vec<_>>();
    let join = |names: Vec<String>, line: &str| -> Vec<String> {
        names.iter().zip(cells(line)).map(|(name, more)| format!("{name} {more}").trim().to_string()).collect()
    };
    lines.fold(vec![String::new(); 20], join)
}

#[test]
fn the_values_of_a_column_have_equal_decimals() {
    let folder = tempfile::tempdir().unwrap();
    let at = |parallel, ms| every(folder.path(), closed(40, parallel), 40, ms);
    let text = rendered(&[at(1, 800), at(2, 80), at(4, 8)]);
    let table = text.split("Detailed performance metrics:\n").nth(1).unwrap();
    let rows = table.lines().filter(|line| line.starts_with('|')).filter(|line| line.contains('%'));
    let decimals =
        |cell: &str| cell.trim().trim_end_matches('*').split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let rows: Vec<Vec<usize>> = rows.map(|line| line.trim_matches('|').split('|').map(decimals).collect()).collect();
    assert!(rows.len() == 3 && rows.iter().all(|row| *row == rows[0]), "{text}");
    let of_run = screen::render(&at(8, 8), 200);
    let table = of_run.split("Percentile results:\n").nth(1).unwrap();
    let row = |line: &str| -> Vec<usize> { line.trim_matches('|').split('|').skip(1).map(decimals).collect() };
    let rows: Vec<Vec<usize>> = table.lines().skip(3).take_while(|line| line.starts_with('|')).map(row).collect();
    assert!(rows.len() > 8 && rows.iter().all(|row| *row == rows[0]), "{of_run}");
}

#[test]
fn a_screen_ends_with_the_table_of_loads_and_the_verdicts() {
    let folder = tempfile::tempdir().unwrap();
    let loads = [(1, 20, 0), (10, 19, 1), (100, 17, 3), (200, 5, 15)];
    let summary = |(parallel, ok, failed): (u32, u64, u64)| {
        let facts = RunFacts { slo: "p99_ttft<=21ms rps>=1".to_string(), ..closed(ok + failed, parallel) };
        from_database(&run(folder.path(), &format!("{parallel}.db"), facts, ok, failed)).unwrap()
    };
    let runs = loads.map(summary);
    let runs: Vec<&Summary> = runs.iter().collect();
    let text = overview::render_on_screen(&runs, Some("outputs/x"), 80, false);
    assert!(text.lines().all(|line| line.width() <= 80), "{text}");
    let coloured = overview::render_on_screen(&runs, Some("outputs/x"), 80, true);
    assert_eq!(coloured.lines().count(), text.lines().count(), "{coloured}");
    // Three more lines say what to open.
    let end: Vec<&str> = text.lines().rev().take(21).collect();
    let end = end.into_iter().rev().collect::<Vec<_>>().join("\n");
    for what in
        ["Detailed performance metrics:", "| TTFT(s) |", "|   200 |", "Concurrency 200: ✗ p99_ttft<=21ms: ∞ ms; ✓ rps"]
    {
        assert!(end.contains(what), "{what}: {text}");
    }
    assert!(end.contains("Concurrency 1: ✓ p99_ttft<=21ms: 20.00* ms; "), "{text}");
    let findings = text.split("Findings of single runs:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    assert!(findings.lines().count() <= 9 && !findings.contains("  - "), "{findings}");
    assert!(!text.contains("table of failures") && text.contains("the failures in performance_summary.txt"), "{text}");
    assert!(overview::render(&runs, None, 140, false).contains("the table of failures"));
}

#[test]
fn the_line_of_a_load_is_short() {
    let runs = sweep();
    let line = overview::one_line(&runs[1]);
    let end = " tok/s, TTFT p99 20.0 ms, TPOT 9.67 ms, 1 failed";
    assert!(line.starts_with("Concurrency 10: ") && line.ends_with(end) && line.len() <= 80, "{line}");
    let folder = tempfile::tempdir().unwrap();
    let none = from_database(&run(folder.path(), "a.db", closed(2, 1), 0, 2)).unwrap();
    let line = overview::one_line(&none);
    let one = from_database(&run(folder.path(), "b.db", closed(1, 1), 1, 0)).unwrap();
    assert!(screen::brief(&one, 80, false).contains("\n1 request in "));
    assert!(!line.contains(['-', '∞']) && line.ends_with(", 2 failed"), "{line}");
    // Nothing failed.
    assert!(overview::one_line(&runs[0]).ends_with(" ms"), "{}", overview::one_line(&runs[0]));
}

/// Loads with figures of the lengths that real ones have.
#[test]
fn the_line_of_an_ordinary_load_fits_on_80_columns() {
    let mut one = sweep().remove(1);
    for (parallel, requests_per_s, tokens_per_s, ms, failed) in [
        (1, 5.18, 104.0, 8.0, 0),
        (8, 41.32, 12_871.4, 12.34, 0),
        (200, 234.5, 10_432.1, 1_245.6, 12),
        (1024, 1_234.5, 104_321.0, 31_245.6, 1_234),
    ] {
        (one.facts.parallel, one.counts.failed) = (Some(parallel), failed);
        one.throughput.requests_per_s = Some(requests_per_s);
        one.throughput.output_tokens_per_s = Some(tokens_per_s);
        let times = [&mut one.series.ttft_s, &mut one.series.tpot_s];
        times.into_iter().for_each(|series| {
            series.mean = Some(ms / 1e3);
            series.quantiles.iter_mut().for_each(|quantile| quantile.value = ms / 1e3);
        });
        let line = overview::one_line(&one);
        assert!(line.width() <= 80 && line.contains(" tok/s, TTFT p99 "), "{line}");
        assert_eq!(line.contains("failed"), failed > 0, "{line}");
        assert!(failed > 99 || line.contains(", TPOT ") || line.width() > 60, "{line}");
    }
}

#[test]
fn the_notes_of_a_sweep_are_counted() {
    let mut runs = sweep();
    runs.iter_mut().for_each(|run| run.findings.clear());
    let text = |runs: &[Summary]| overview::render_on_screen(&runs.iter().collect::<Vec<_>>(), None, 80, false);
    assert!(!text(&runs).contains("Findings of single runs"));
    runs.iter_mut().for_each(|run| run.findings.push(Finding::SamePrompt));
    assert!(text(&runs).contains("\nFindings of single runs:\n1 note in performance_summary.txt\n"), "{}", text(&runs));
    runs[1].findings.push(Finding::Killed);
    let text = text(&runs);
    assert!(
        text.contains("Caution: Concurrency 10: ") && text.contains("\n1 note in performance_summary.txt\n"),
        "{text}"
    );
}

/// What no figure of the run shows is not printed as none.
#[test]
fn a_mean_that_is_rounded_to_none_is_shown_by_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut block = Block::new(0);
    (0..40).for_each(|index| push_ok(&mut block, index, index * 60, &[20, 20, 20]));
    let worker = CollectorMessage::Worker(Box::new(report(Phase::Measured)));
    collect(&path, start(closed(40, 1), Save::Text), vec![CollectorMessage::Block(block), worker]);
    let text = screen::brief(&from_database(&path).unwrap(), 80, false);
    for name in ["| ITL (ms)     | ≤ 0.0", "| TPOT (ms)    | ≤ 0.0", "| TTFT (ms)    |  20.00 |"] {
        assert!(text.contains(name), "{name}: {text}");
    }
}

/// Where the steady state has the throughput of the whole run, only the file has both.
#[test]
fn the_steady_throughput_is_on_the_screen_if_it_differs() {
    let mut run = sweep().remove(0);
    let whole = run.throughput.requests_per_s.unwrap();
    for (steady, is_shown) in [(whole, false), (whole * 1.009, false), (whole * 1.02, true), (whole * 0.9, true)] {
        let throughput = Throughput { requests_per_s: Some(steady), ..Throughput::default() };
        let part = SteadyThroughput { from_s: 0.1, span_s: 2.0, requests: 19, throughput, tail_s: 0.1, waiting: 1 };
        run.steady_throughput = Some(part);
        assert_eq!(screen::brief(&run, 80, false).contains("Steady request throughput"), is_shown, "{steady} {whole}");
        assert!(screen::render(&run, 80).contains("Steady request throughput"));
    }
}

/// A share of 100 % beside an objective that is missed is explained.
#[test]
fn requests_within_the_slo_have_the_criteria_of_requests() {
    let folder = tempfile::tempdir().unwrap();
    let run = |slo: &str| {
        let facts = RunFacts { slo: slo.to_string(), ..closed(20, 1) };
        let path = run(folder.path(), "a.db", facts, 20, 0);
        let (summary, page) =
            (from_database(&path).unwrap(), html::from_databases(&[&path].map(PathBuf::from), Language::En));
        std::fs::remove_file(path).unwrap();
        (summary, page.unwrap())
    };
    let (summary, page) = run("p99_itl<=5ms");
    let note = "Requests within SLO: those that succeeded; no single request is judged by p99_itl<=5ms";
    for text in [screen::brief(&summary, 100, false), screen::render(&summary, 100)] {
        assert!(text.contains("| Requests within SLO (%)") && text.contains(note), "{text}");
    }
    assert!(page.contains("no single request is judged by p99_itl&lt;=5ms"), "{page}");
    let (summary, _) = run("p99_itl<=5ms p99_ttft<=1 rps>=1");
    let text = screen::brief(&summary, 120, false);
    assert!(text.contains("judged by p99_ttft<=1 s; no single request is judged by p99_itl<=5ms, rps>=1"), "{text}");
    let (summary, _) = run("p99_ttft<=1");
    assert!(!screen::brief(&summary, 120, false).contains("no single request"));
}

/// A run of which `ok` of `planned` requests ended before it was interrupted.
fn interrupted(folder: &Path, parallel: u32, ok: u64, planned: u64) -> PathBuf {
    let mut block = Block::new(0);
    (0..ok).for_each(|index| push_ok(&mut block, index, index * 60, &[20, 30, 40, 49]));
    let worker = WorkerReport { unsent: planned - ok, ..report(Phase::Measured) };
    let path = folder.join(format!("interrupted-{parallel}.db"));
    let messages = vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(worker))];
    let end = RunEnd { interrupted: true, ..RunEnd::default() };
    collect_to_end(&path, start(closed(planned, parallel), Save::Text), messages, end);
    path
}

#[test]
fn figures_of_an_interrupted_run_are_called_so_wherever_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run(folder.path(), "whole.db", closed(20, 1), 20, 0);
    let early = interrupted(folder.path(), 4, 17, 1000);
    let (en, zh) = ("the run was interrupted after 17 of 1000 requests", "测试被中断，1000 个请求中只完成了 17 个");
    // Alone: the last lines, and the sentence of the page.
    let summary = from_database(&early).unwrap();
    assert!(screen::brief(&summary, 80, false).contains("983 unsent; the run was\ninterrupted\n"));
    let page = html::from_databases(std::slice::from_ref(&early), Language::En).unwrap();
    let quotes: Vec<&str> =
        page.split("<p class=\"quote\">").skip(1).map(|rest| rest.split("</p>").next().unwrap()).collect();
    assert!(quotes[0].starts_with("4 users: ") && quotes[0].ends_with(&format!("; {en}.")), "{quotes:?}");
    assert!(quotes[1].ends_with(&format!("；{zh}。")), "{quotes:?}");
    // In a sweep: the log line, the tables at every width, and the page.
    let runs = [from_database(&whole).unwrap(), summary];
    let runs: Vec<&Summary> = runs.iter().collect();
    assert!(overview::one_line(runs[1]).starts_with("Concurrency 4 (interrupted): "));
    assert!(overview::one_line(runs[0]).starts_with("Concurrency 1: "));
    for width in [80, 120, 200] {
        for text in [overview::render(&runs, None, width, false), overview::render_on_screen(&runs, None, width, false)]
        {
            assert!(text.contains(&format!("\nConcurrency 4: {en}\n")), "{text}");
        }
    }
    let page = html::from_databases(&[whole.clone(), early.clone()], Language::En).unwrap();
    for part in [
        format!("<b>Caution</b>Concurrency 4: {en}."),
        format!("<b>注意</b>并发 4：{zh}。"),
        "<td>Concurrency 4 (interrupted)</td>".to_string(),
        "<td>并发 4（被中断）</td>".to_string(),
        "Run: Concurrency 4 (interrupted)".to_string(),
    ] {
        assert!(page.contains(&part), "{part}");
    }
    // A load of several runs.
    let again = [runs[1], runs[1], runs[1]];
    let text = overview::render(&again, None, 120, false);
    assert!(text.contains("\nConcurrency 4: 3 of 3 runs ended early (interrupted)\n"), "{text}");
}

/// Rates of 100,000 requests per second, latencies of ten minutes, prompts of millions of tokens, names of 120 characters.
#[test]
fn wide_numbers_and_long_names_fit_a_small_screen() {
    let folder = tempfile::tempdir().unwrap();
    let wide = |name: &str, parallel: u32, tokens_ms: &[u64]| {
        let mut block = Block::new(0);
        (0..1000).for_each(|index| push_ok(&mut block, index, 0, tokens_ms));
        (1000..1100).for_each(|index| push_failed(&mut block, index, 0, Outcome::Failed(Failure::Status), "503 busy"));
        for record in &mut block.records {
            record.input_tokens = record.input_tokens.map(|_| 5_000_000);
            record.output_tokens = record.output_tokens.map(|_| 1_234_567);
        }
        let path = folder.path().join(name);
        let long = |text: &str| text.repeat(120 / text.chars().count());
        let facts = RunFacts {
            model: long("通义千问-long-model-"),
            dataset: long("数据集"),
            url: format!("http://{}.example/v1/chat/completions", long("host-name-")),
            slo: "p99_ttft<=400ms p99_latency<=600000ms rps>=100000 tps>=100000000".to_string(),
            ..closed(1100, parallel)
        };
        let messages =
            vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(report(Phase::Measured)))];
        collect(&path, start(facts, Save::Text), messages);
        from_database(&path).unwrap()
    };
    let runs = [wide("fast.db", 100_000, &[0, 1]), wide("slow.db", 1, &[450_000, 600_000, 754_321])];
    let runs: Vec<&Summary> = runs.iter().collect();
    assert!(runs[0].throughput.requests_per_s.unwrap() > 100_000.0);
    for width in [80, 120, 200] {
        let mut texts = vec![
            overview::render(&runs, Some(&"/long/path".repeat(12)), width, false),
            overview::render_on_screen(&runs, Some(&"/long/path".repeat(12)), width, false),
        ];
        texts.extend(runs.iter().flat_map(|run| [screen::brief(run, width, false), screen::render(run, width)]));
        texts.extend(runs.iter().map(|run| overview::one_line(run)).filter(|_| width > 100));
        for text in texts {
            for line in text.lines() {
                assert!(line.width() <= width, "{width}: {line}\n{text}");
            }
        }
    }
}

#[test]
fn a_tpot_that_is_a_range_has_both_ends_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut block = Block::new(0);
    for index in 0..40 {
        push_ok(&mut block, index, index * 60, &[20, 30, 40, 50]);
    }
    // Two tokens in each of the four events: 30 ms over 7 intervals, or 50 ms if the first ones came since it was sent.
    block.records.iter_mut().for_each(|record| record.output_tokens = Some(8));
    let worker = CollectorMessage::Worker(Box::new(report(Phase::Measured)));
    collect(&path, start(closed(40, 1), Save::Text), vec![CollectorMessage::Block(block), worker]);
    let summary = from_database(&path).unwrap();
    let range = json::summary(&summary)["Time per output token range (s)"].clone();
    let (low, high) = (range["low"]["50%"].as_f64().unwrap(), range["high"]["50%"].as_f64().unwrap());
    assert!((low - 30e-3 / 7.0).abs() < 1e-12 && (high - 50e-3 / 7.0).abs() < 1e-12, "{range}");
    let bound = summary.measurement_error.tpot_s[2];
    assert!(bound.low < low && bound.high > high, "{bound:?}");
    for width in [80, 200] {
        let text = screen::render(&summary, width);
        assert!(text.contains("| TPOT from (s) | "), "{text}");
        assert!(
            text.lines().filter(|line| line.contains("TPOT from (s) |")).all(|line| line.width() <= width),
            "{text}"
        );
    }
    assert!(screen::render(&summary, 80).contains("| 0.00429 (0.00429 .. 0.00714)"));
    let brief = screen::brief(&summary, 80, false);
    assert!(
        !brief.contains("| TPOT (ms)")
            && brief.contains("| TPOT from (ms) |  4.29 |")
            && brief.contains("| TPOT to (ms)   |  7.14 |"),
        "{brief}"
    );
    assert!(overview::one_line(&summary).contains("TPOT ~4.29"), "{}", overview::one_line(&summary));
    let page = html::from_databases(std::slice::from_ref(&path), Language::En).unwrap();
    for what in ["TPOT from (ms)", "TPOT to (ms)", "4.29 ms (4.29 ms … 7.14 ms)"] {
        assert!(page.contains(what), "{what}");
    }
    let runs = [summary.clone(), summary];
    let text = overview::render(&runs.iter().collect::<Vec<_>>(), None, 200, false);
    assert!(text.contains("~0.00429 "), "{text}");
}

/// The role came 10 ms after the request and 10 ms before the first output, as many as there are between the outputs.
#[test]
fn a_tpot_within_its_range_is_shown_beside_the_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut block = Block::new(0);
    for index in 0..40 {
        push_ok(&mut block, index, index * 60, &[20, 30, 40, 50]);
        let first = block.records.last().unwrap().first_token.unwrap();
        let role = block.keep_arrivals(&[Tick(first.0 - 10 * ringmark::time::MS)]);
        let kind = block.keep_bytes(&[0, SilentKind::Role as u8]);
        let record = block.records.last_mut().unwrap();
        (record.silent, record.silent_kinds, record.output_tokens) = (role, kind, Some(5));
    }
    let worker = CollectorMessage::Worker(Box::new(report(Phase::Measured)));
    collect(&path, start(closed(40, 1), Save::Text), vec![CollectorMessage::Block(block), worker]);
    let summary = from_database(&path).unwrap();
    let figures = json::summary(&summary);
    let is =
        |figure: &serde_json::Value, value: f64| figure.as_f64().is_some_and(|found| (found - value).abs() < 1e-12);
    assert!(is(&figures["Average time per output token (s)"], 0.01), "{figures}");
    assert!(is(&figures["Time per output token range (s)"]["low"]["mean"], 0.0075), "{figures}");
    for width in [80, 200] {
        let text = screen::render(&summary, width);
        for what in ["0.01 (0.0075 .. 0.01)", " TPOT (s) | TPOT from (s) | "] {
            assert!(text.contains(what), "{what}: {text}");
        }
        assert!(
            text.lines().filter(|line| line.contains("TPOT from (s) |")).all(|line| line.width() <= width),
            "{text}"
        );
    }
    let brief = screen::brief(&summary, 80, false);
    for row in ["| TPOT (ms)      | 10.00 |", "| TPOT from (ms) |  7.50 |", "| TPOT to (ms)   | 10.00 |"] {
        assert!(brief.contains(row), "{brief}");
    }
    assert!(overview::one_line(&summary).contains("TPOT ~10.0"), "{}", overview::one_line(&summary));
    let page = html::from_databases(std::slice::from_ref(&path), Language::En).unwrap();
    let card = page.find("TPOT, median").map(|at| page[at..].chars().take(120).collect::<String>());
    assert!(card.as_ref().is_some_and(|card| card.contains("<b>10 ms (7.5 ms … 10 ms)</b>")), "{card:?}");
}

#[test]
fn failures_are_sorted_and_their_texts_have_no_secrets_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut block = Block::new(0);
    let moved =
        "redirected to https://u:LOCPW9@evil/x?sig=LOCSEC1&code=LOCSEC2&max_tokens=5 (use that address in --url)";
    push_failed(&mut block, 0, 0, Outcome::Failed(Failure::Connect), "refused");
    push_failed(&mut block, 1, 60, Outcome::Failed(Failure::Status), moved);
    push_failed(&mut block, 2, 120, Outcome::Failed(Failure::Status), moved);
    let path = folder.path().join("a.db");
    let worker = CollectorMessage::Worker(Box::new(report(Phase::Measured)));
    collect(&path, start(closed(3, 1), Save::Text), vec![CollectorMessage::Block(block), worker]);
    let summary = from_database(&path).unwrap();
    let classes: Vec<Failure> = summary.failures.iter().map(|class| class.failure).collect();
    assert_eq!(classes, [Failure::Status, Failure::Connect]);
    let text = &summary.failures[0].texts[0].example;
    assert!(text.contains("https://****@evil/x?sig=****&code=****&max_tokens=5 (use"), "{text}");
}

#[test]
fn rows_have_the_colour_of_their_success() {
    let runs = sweep();
    let runs: Vec<&Summary> = runs.iter().collect();
    let text = overview::render(&runs, None, 200, true);
    let colours: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("\u{1b}[")).map(|l| &l[..2]).collect();
    assert_eq!(colours, ["32", "32", "33", "31"]);
}

#[test]
fn repeated_loads_show_their_spread() {
    let folder = tempfile::tempdir().unwrap();
    let summary = |name: &str, parallel: u32, ok: u64, failed: u64| {
        from_database(&run(folder.path(), name, closed(20, parallel), ok, failed)).unwrap()
    };
    let all = [summary("a", 1, 20, 0), summary("b", 4, 20, 0), summary("c", 1, 10, 10), summary("d", 4, 20, 0)];
    let runs: Vec<&Summary> = all.iter().collect();
    for width in [80, 200] {
        let text = overview::render(&runs, None, width, false);
        assert!(text.lines().all(|line| line.width() <= width), "{text}");
        let of_load = text.split("From run to run: Concurrency 1, 2 runs\n").nth(1).unwrap();
        let spread = of_load.lines().find(|line| line.contains("| RPS")).unwrap();
        let figures: Vec<f64> = spread.split('|').filter_map(|cell| cell.trim().parse().ok()).collect();
        let rps = |run: &Summary| run.throughput.requests_per_s.unwrap();
        // All have the decimals with which the mean has three digits.
        let shown = |value: f64, expected: f64| (value - expected).abs() < 0.051;
        assert!(shown(figures[0], (rps(&all[0]) + rps(&all[2])) / 2.0), "{spread}");
        // Two values: their distance times Student's t over 2.
        assert!(shown(figures[1], 12.706 * (rps(&all[0]) - rps(&all[2])) / 2.0), "{spread}");
        assert!(shown(figures[3], rps(&all[2])) && shown(figures[4], rps(&all[0])), "{spread}");
        assert!(text.contains("Highest RPS    | Concurrency 4 |"), "the mean of both runs counts: {text}");
        assert!(text.contains("Only Concurrency 4 can be used"), "half of a run at 1 failed: {text}");
    }
}

/// A run of `parallel` slots with a response of 5 ms every `ms` milliseconds; the facts may claim more requests.
fn every(folder: &Path, facts: RunFacts, count: u64, ms: u64) -> Summary {
    let path = folder.join(format!("{:?}_{:?}.db", facts.parallel, facts.rate_per_s));
    let mut block = Block::new(0);
    (0..count).for_each(|index| push_ok(&mut block, index, index * ms, &[1, 2, 3, 4]));
    let worker = CollectorMessage::Worker(Box::new(report(Phase::Measured)));
    collect(&path, start(facts, Save::Text), vec![CollectorMessage::Block(block), worker]);
    from_database(&path).unwrap()
}

fn rendered(runs: &[Summary]) -> String {
    overview::render(&runs.iter().collect::<Vec<_>>(), None, 300, false)
}

/// The first cells of the rows of the loads.
fn first_cells(text: &str) -> Vec<&str> {
    let table = text.split("Detailed performance metrics:\n").nth(1).unwrap();
    let cells = table.lines().skip(1).skip_while(|line| !line.starts_with('+')).skip(1);
    let cells = cells.take_while(|line| line.starts_with('|'));
    cells.map(|line| line.trim_start_matches('|').split('|').next().unwrap().trim()).collect()
}

#[test]
fn advice_follows_the_knee_whatever_the_order_of_the_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |parallel, ms| every(folder.path(), closed(40, parallel), 40, ms);
    let mut runs = vec![at(8, 21), at(4, 20), at(2, 20), at(1, 40)];
    let text = rendered(&runs);
    assert_eq!(first_cells(&text), ["1", "2", "4", "8"]);
    assert!(text.contains("The optimum is around Concurrency 2, the lowest load with at least 95 % of"), "{text}");
    runs.remove(0);
    runs.remove(0);
    assert!(rendered(&runs).contains("The highest load, Concurrency 2,"));
    let reversed: Vec<Summary> = runs.into_iter().rev().collect();
    assert!(rendered(&reversed).contains("The highest load, Concurrency 2,"));
    assert!(!rendered(&reversed[..1]).contains("recommendations"), "one load is none to compare");
}

#[test]
fn loads_with_failing_requests_are_not_recommended() {
    // Successes 100, 95, 85 and 25 %.
    let runs = sweep();
    let text = rendered(&runs);
    assert!(text.contains("Highest RPS    | Concurrency 1 |"), "{text}");
    assert!(
        text.contains("Too few requests succeeded: 85.0 % at Concurrency 100, 25.0 % at Concurrency 200."),
        "{text}"
    );
    let failing = rendered(&runs[2..]);
    assert!(
        failing.contains("At no load did 95 % of the requests succeed (the most did at Concurrency 100)"),
        "{failing}"
    );
    assert!(!failing.contains("Best performance configuration"), "{failing}");
}

#[test]
fn void_runs_are_listed_first_and_excluded_from_recommendations() {
    let folder = tempfile::tempdir().unwrap();
    let lost = every(folder.path(), closed(50, 4), 40, 6);
    assert!(lost.is_void(), "ten requests have no record");
    let runs = [lost, every(folder.path(), closed(40, 1), 40, 40), every(folder.path(), closed(40, 2), 40, 20)];
    let text = rendered(&runs);
    let void =
        text.find("VOID: Concurrency 4 must not be used: 50 requests were scheduled").expect("the void run is named");
    assert!(void < text.find("Basic information").unwrap(), "{text}");
    assert!(
        text.contains("Highest RPS    | Concurrency 2 |") && text.contains("The highest load, Concurrency 2,"),
        "{text}"
    );
}

#[test]
fn rates_are_judged_by_the_offered_rate() {
    let folder = tempfile::tempdir().unwrap();
    let facts = |rate| RunFacts { mode: Mode::Open, parallel: None, rate_per_s: Some(rate), ..closed(40, 1) };
    // One request every 60 ms is 16.7 requests/s; the nominal rate is 20.
    let runs = [every(folder.path(), facts(50.0), 40, 25), every(folder.path(), facts(20.0), 40, 60)];
    let text = rendered(&runs);
    assert!(text.contains("| Rate | Offered |   RPS |") && text.contains("|   20 |   16.67 | "), "{text}");
    assert!(text.contains("Every rate up to Rate 50 req/s was kept"), "{text}");
    let narrow = overview::render(&runs.iter().collect::<Vec<_>>(), None, 80, false);
    assert!(narrow.lines().all(|line| line.width() <= 80), "{narrow}");
    assert!(!rendered(&sweep()).contains("Offered"), "closed loops have no schedule");
}

#[test]
fn small_values_have_three_digits_and_few_samples_are_marked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fast.db");
    let mut block = Block::new(0);
    for index in 0..30 {
        push_ok(&mut block, index, index * 10, &[1, 2]);
        let record = block.records.last_mut().unwrap();
        record.last_token = record.first_token.map(|first| first.plus_ns(4_200));
        *block.arrivals.last_mut().unwrap() = record.last_token.unwrap();
    }
    let worker = CollectorMessage::Worker(Box::new(report(Phase::Measured)));
    collect(&path, start(closed(30, 1), Save::Text), vec![CollectorMessage::Block(block), worker]);
    let run = from_database(&path).unwrap();
    let text = overview::render(&[&run], None, 200, false);
    assert!(text.contains("0.00000420 |") && text.contains("<=0.0000244 |"), "{text}");
    // The error of a timestamp exceeds 4.2 µs.
    assert!(text.contains("\n<= this client's error exceeds the figure"), "{text}");
    assert!(overview::one_line(&run).contains("TTFT p99 1.00 ms, TPOT 0.00420 ms"), "{}", overview::one_line(&run));
    assert!(text.contains("0.00300 |") && text.contains("* fewer than 10 samples lie beyond"), "{text}");
    let steady = screen::render(&run, 200);
    let (_, steady) = steady.split_once("Steady part").unwrap();
    let p99 = steady.lines().find(|line| line.contains("P99 TTFT")).unwrap();
    assert_eq!(p99.matches('*').count(), 2, "{p99}");
    assert!(steady.split("Client's own").next().unwrap().contains("* fewer than 10"), "{steady}");
}

#[test]
fn without_success_no_token_is_generated() {
    let folder = tempfile::tempdir().unwrap();
    let failed = |name: &str, parallel| from_database(&run(folder.path(), name, closed(1, parallel), 0, 1)).unwrap();
    let text = rendered(&[failed("a", 1), failed("b", 2)]);
    let value = |name: &str| {
        let line = text.lines().find(|line| line.contains(name)).unwrap();
        line.split('|').nth(2).unwrap().trim().to_string()
    };
    assert_eq!(value("Total generated"), "0 tokens");
    // Two failures of 5 ms.
    assert_eq!(
        (value("Total test time"), value("Average output rate")),
        ("0.0100 s".to_string(), "0.00 tok/s".to_string())
    );
    assert!(text.contains("No request succeeded at any load."), "{text}");
}

#[test]
fn the_speed_benchmark_has_its_table() {
    let folder = tempfile::tempdir().unwrap();
    let facts = RunFacts { dataset: "speed_benchmark".to_string(), ..closed(2, 1) };
    let summary = from_database(&run(folder.path(), "a.db", facts, 2, 0)).unwrap();
    let text = screen::render(&summary, 80);
    let expected = "\
Speed Benchmark Results:
+---------------+-----------------+----------------+
| Prompt Tokens | Speed(tokens/s) | GPU Memory(GB) |
+---------------+-----------------+----------------+
|      10       |      80.00      |       -        |
+---------------+-----------------+----------------+
";
    assert!(text.contains(expected), "{text}");
    assert!(json::summary(&summary)["Speed benchmark"][0]["Speed(tokens/s)"].as_f64().unwrap() > 79.9);
}

#[test]
fn objectives_are_judged_with_goodput() {
    let folder = tempfile::tempdir().unwrap();
    let with = |slo: &str| RunFacts { slo: slo.to_string(), ..closed(5, 1) };
    // One of five fails: p80 is the slowest of the others.
    let met = from_database(&run(folder.path(), "a.db", with("p80_ttft<=20ms p75_itl<=10ms rps>=1"), 4, 1)).unwrap();
    assert!(!met.missed_slo());
    let verdict = met.slo.as_ref().unwrap();
    assert_eq!((verdict.good_requests, verdict.good_share), (4, Some(0.8)));
    assert!(screen::render(&met, 80).contains("| Goodput (req/s)"));
    let missed = from_database(&run(folder.path(), "b.db", with("p99_ttft<=19ms"), 5, 0)).unwrap();
    assert!(missed.missed_slo() && missed.slo.as_ref().unwrap().good_requests == 0);
    let text = screen::render(&missed, 80);
    assert!(text.contains("| p99_ttft<=19ms | 20.00* ms | ") && text.contains("MISSED"), "{text}");
    assert_eq!(json::summary(&missed)["SLO"]["met"], false);
}

#[test]
fn refused_requests_miss_latency_objectives() {
    let folder = tempfile::tempdir().unwrap();
    let facts = RunFacts { slo: "p99_ttft <= 2 failed <= 10 % success>=1%".to_string(), ..closed(40, 1) };
    let refused = from_database(&run(folder.path(), "a.db", facts, 4, 36)).unwrap();
    assert!(refused.missed_slo());
    let text = screen::render(&refused, 80);
    assert!(text.contains("| p99_ttft<=2 s |      ∞ s | MISSED  |"), "{text}");
    assert!(text.contains("90.00 % | MISSED") && text.contains("10.00 % | met"), "{text}");
    let slo = json::summary(&refused)["SLO"]["criteria"][0].clone();
    assert!(slo["value"].is_null() && slo["decided by failures"] == true && slo["met"] == false, "{slo}");
}

/// A hundred requests in ten seconds, by a machine whose monotonic clock shows `later_ns` more and whose wall clock is ahead
/// by `ahead_ns`.
fn process(path: &Path, seed: u64, (later_ns, ahead_ns): (u64, i64), clock_domain: &str) {
    use ringmark::record::facts::ClockPair;
    let mut block = Block::new(0);
    for index in 0..100 {
        push_ok(&mut block, index, index * 100, &[20 + seed, 99]);
    }
    for record in &mut block.records {
        for tick in [&mut record.due, &mut record.end] {
            tick.0 += later_ns;
        }
        for tick in [&mut record.picked, &mut record.write_start, &mut record.first_token, &mut record.last_token] {
            *tick = tick.map(|tick| tick.plus_ns(later_ns));
        }
    }
    block.arrivals.iter_mut().for_each(|tick| tick.0 += later_ns);
    let facts = RunFacts { clock_domain: clock_domain.to_string(), ..closed(100, 1) };
    let mut start = start(facts, Save::Text);
    start.arguments_json = format!(r#"{{"parallel":[1],"seed":{seed}}}"#);
    start.clock = ClockPair { tick_ns: records::ORIGIN + later_ns, unix_ns: records::UNIX + ahead_ns };
    collect(
        path,
        start,
        vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(report(Phase::Measured)))],
    );
}

/// Processes that were started one by one at the same time on one machine: its monotonic clock aligns them, whatever its
/// wall clock showed when each began.
#[test]
fn processes_of_one_machine_are_read_as_one_run() {
    use ringmark::report::{html, measured, shards};
    for ahead_ns in [0, 2_000_000_000, -2_000_000_000, 3_600_000_000_000] {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.db", "b.db"].map(|name| folder.path().join(name));
        process(&paths[0], 1, (0, 0), "boot time:[1]");
        process(&paths[1], 2, (0, ahead_ns), "boot time:[1]");
        let runs = paths.each_ref().map(|path| measured(path).unwrap());
        assert!(shards::are_shards(&runs));
        let merged = shards::measured(&paths, &[]).unwrap();
        let s = &merged.summary;
        assert_eq!((s.counts.scheduled, s.counts.ok, s.concurrency.peak, s.client.workers), (200, 200, Some(2), 2));
        assert_eq!(s.facts.parallel, Some(2));
        assert!((s.time_s.unwrap() - 10.0).abs() < 1e-9, "{:?}", s.time_s);
        assert!((s.throughput.requests_per_s.unwrap() - 20.0).abs() < 1e-6);
        assert_eq!(s.series.ttft_s.value(500).map(|s| (s * 1e3).round()), Some(21.0));
        assert!(!s.is_void() && s.findings.contains(&Finding::Shards { shards: 2 }), "{:?}", s.findings);
        let page = html::page(&[html::Run::from_measured(merged).unwrap()], ringmark::spec::Language::En);
        assert!(page.contains("200") && page.contains("Requests in flight"));
        assert!(!shards::are_shards(&runs[..1]), "one run is none");
    }
}

/// Processes of several machines, or of a version that did not store its clock: wall clocks are not trusted, so what depends
/// on them is unknown, and the result is void.
#[test]
fn processes_with_unrelated_clocks_have_no_joint_figures() {
    use ringmark::report::{html, shards};
    for ahead_ns in [0, 2_000_000_000, -2_000_000_000] {
        for (domains, later_ns) in [(["one", "two"], 5_000_000_000_000), (["", ""], 0), (["one", ""], 0)] {
            let folder = tempfile::tempdir().unwrap();
            let paths = ["a.db", "b.db"].map(|name| folder.path().join(name));
            process(&paths[0], 1, (0, 0), domains[0]);
            process(&paths[1], 2, (later_ns, ahead_ns), domains[1]);
            let merged = shards::measured(&paths, &[]).unwrap();
            let s = &merged.summary;
            assert!(
                s.is_void() && s.findings.contains(&Finding::ProcessClocksUnknown { processes: 2 }),
                "{:?}",
                s.findings
            );
            assert_eq!(s.findings.len(), 1, "{:?}", s.findings);
            assert_eq!(
                (s.time_s, s.concurrency.peak, s.concurrency.mean, s.rates.sent_per_s),
                (None, None, None, None)
            );
            assert_eq!((s.throughput, s.steady_throughput.is_none()), (Default::default(), true));
            // A request's own times need no other clock.
            assert_eq!((s.counts.ok, s.series.ttft_s.value(500).map(|s| (s * 1e3).round())), (200, Some(21.0)));
            let json = json::summary(s);
            for key in [
                "Time taken for tests (s)",
                "Request throughput (req/s)",
                "Output token throughput (tok/s)",
                "Peak concurrency",
            ] {
                assert!(json.get(key).is_some_and(serde_json::Value::is_null), "{key} {json:#}");
            }
            let text = screen::render(s, 120);
            assert!(text.contains("differ by an unknown amount"), "{text}");
            let page = html::page(&[html::Run::from_measured(merged).unwrap()], ringmark::spec::Language::En);
            assert!(page.contains("Percentile curves") && !page.contains("Requests in flight"));
            let files = paths.map(|path| path.into_os_string());
            let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_ringmark"));
            assert_eq!(program.arg("report").args(files).output().unwrap().status.code(), Some(3));
        }
    }
}

/// Damaged and foreign databases have any number anywhere.
#[test]
fn extreme_numbers_in_a_database_are_an_error_or_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let good = run(folder.path(), "good.db", closed(12, 2), 10, 2);
    let sql = rusqlite::Connection::open(&good).unwrap();
    sql.execute_batch(
        "INSERT INTO stall VALUES (0, 'measured', 1000000000005, 1000000000006);
         INSERT INTO lag VALUES (0, 'measured', 'receive_lag', 900, 2), (0, 'measured', 'receive_lag', 1900, 2);
         INSERT INTO lag VALUES (0, 'measured', 'loop_gap', 900, 2), (0, 'measured', 'sleep', 900, 2);
         INSERT INTO server_sample VALUES (1000000000005, 'n', '', 1.5)",
    )
    .unwrap();
    let mut statement = sql
        .prepare(
            "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c
             WHERE m.type = 'table' AND c.type LIKE 'INTEGER%'",
        )
        .unwrap();
    let columns: Vec<(String, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    assert!(columns.len() > 60, "{columns:?}");
    drop(statement);
    sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(sql);
    let refused = AtomicUsize::new(0);
    // Each thread has a database of its own.
    std::thread::scope(|scope| {
        for (part, columns) in columns.chunks(columns.len().div_ceil(THREADS)).enumerate() {
            let (good, refused) = (&good, &refused);
            let bad = folder.path().join(format!("bad{part}.db"));
            scope.spawn(move || {
                for (table, column) in columns {
                    refused.fetch_add(refused_numbers(good, &bad, table, column), Ordering::Relaxed);
                }
            });
        }
    });
    assert!(refused.into_inner() > 100);
}

const THREADS: usize = 4;

/// How many numbers in this column make the database unreadable; any other makes a report.
fn refused_numbers(good: &Path, bad: &Path, table: &str, column: &str) -> usize {
    let (one, all) = (" WHERE rowid = 1", "");
    let least = "-9223372036854775808";
    let most = "9223372036854775807";
    let mut refused = 0;
    for (value, rows) in [
        (least, all),
        (least, one),
        ("-1", one),
        ("0", all),
        ("4294967295", one),
        ("9007199254740992", all),
        (most, all),
        (most, one),
    ] {
        std::fs::copy(good, bad).unwrap();
        let sql = rusqlite::Connection::open(bad).unwrap();
        // A key or a constraint may forbid it.
        let changed = sql.execute(&format!("UPDATE {table} SET {column} = {value}{rows}"), []);
        drop(sql);
        if changed.is_err() {
            continue;
        }
        let made = std::panic::catch_unwind(|| {
            html::Run::read(bad).map(|run| {
                screen::render(&run.summary, 100);
                json::summary(&run.summary);
                html::page(&[run], Language::En)
            })
        });
        if let Err(error) = made.unwrap_or_else(|_| panic!("{table}.{column} = {value}{rows}")) {
            let text = error.to_string();
            assert!(text.contains(&format!(" of {table} has a value out of range")), "{column}: {text}");
            refused += 1;
        }
    }
    refused
}

#[test]
fn the_result_at_a_glance_fits_a_small_screen() {
    let of_slo = |slo: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut block = Block::new(0);
        for index in 0..60 {
            match index % 10 {
                9 => push_failed(&mut block, index, index * 60, Outcome::Failed(Failure::Status), "503 busy"),
                _ => push_ok(&mut block, index, index * 60, &[20, 30, 40, 50]),
            }
            let record = block.records.last_mut().unwrap();
            record.output_tokens = record.output_tokens.map(|_| 8);
            record.write_start = record.write_start.map(|start| start.plus_ns(15 * ringmark::time::MS));
        }
        let mut worker = report(Phase::Measured);
        worker.receive_lag_ns.record(5 * ringmark::time::MS).unwrap();
        (worker.involuntary_switches, worker.buffer_shortages, worker.cpu_user_ns) = (100, 2, 90 * ringmark::time::MS);
        let facts = RunFacts { slo: slo.to_string(), ..closed(60, 1) };
        let messages = vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(worker))];
        collect(&path, start(facts, Save::Text), messages);
        from_database(&path).unwrap()
    };
    let summary = of_slo("p99_ttft<=19ms p99_latency<=1 failed<=1%");
    let end = |summary: &Summary, width: usize| {
        let text = screen::brief(summary, width, false);
        assert!(text.lines().all(|line| line.width() <= width), "{text}");
        // Three lines about files follow, and the prompt.
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len() - 20..].join("\n")
    };
    let first_and_last = [
        "60 requests in ",
        "Failures: 6 status; most frequent: 429: 503 busy",
        "Throughput: ",
        "| TPOT from (ms) |",
        "✗ p99_ttft<=19ms",
        "Own error at p50: ",
    ];
    let trust = |summary: &Summary| {
        let text = screen::brief(summary, 200, false);
        text.lines().find(|line| line.starts_with("Own error at p50: ")).unwrap_or_default().to_string()
    };
    let line = trust(&summary);
    assert!(line.width() <= 80 && line.contains(" of TTFT, ") && line.contains(" of ITL; 1 void"), "{line}");
    let mut calm = summary.clone();
    calm.findings = vec![Finding::Killed, Finding::AtOnce, Finding::SamePrompt, Finding::SameSeed];
    let line = trust(&calm);
    assert!(line.width() <= 80 && line.ends_with("; 2 cautions, 2 notes"), "{line}");
    for width in [80, 200] {
        let text = end(&summary, width);
        first_and_last.iter().chain(&["Void: "]).for_each(|part| {
            assert!(text.contains(part), "{part}: {text}");
        });
    }
    // Even if much is to be shown.
    let interrupted = |slo: &str| {
        let mut all = of_slo(slo);
        all.findings.push(Finding::Interrupted { unsent: 936, unfinished: 3 });
        (all.counts.unsent, all.counts.unfinished) = (936, 3);
        all
    };
    const MANY: &str =
        "p99_ttft<=19ms p50_ttft<=9ms p99_tpot<=50ms p99_itl<=40us avg_latency<=1 p99_latency<=2 failed<=1% rps>=5";
    for slo in ["p99_ttft<=19ms p99_latency<=1 failed<=1% rps>=5", MANY] {
        let text = end(&interrupted(slo), 80);
        first_and_last.iter().chain(&["interrupted", "rps>=5: ", "Void: "]).for_each(|part| {
            assert!(text.contains(part), "{part}: {text}");
        });
    }
}
