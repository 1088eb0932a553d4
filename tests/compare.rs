//! `ringmark compare`: the comparison of two runs or sweeps, as text and as a page.

mod halves;
mod records;
mod schemas;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use halves::half;
use records::{closed, collect, collect_to_end, push_failed, push_ok, report, start};
use ringmark::plan::Save;
use ringmark::record::facts::{RunEnd, RunFacts};
use ringmark::record::{Block, CollectorMessage, Failure, Outcome, Phase};
use ringmark::report::Measured;
use ringmark::report::compare::{Comparison, Given, Side, comparison, html, render};
use ringmark::spec::Language;
use schemas::assert_fits;
use serde_json::Value as Json;
use unicode_width::UnicodeWidthStr;

const LANGUAGES: [Language; 2] = [Language::En, Language::Zh];

/// A run to be stored.
struct Made<'a> {
    facts: RunFacts,
    arguments: &'a str,
    /// Requests whose record exists.
    records: u64,
    /// By how much the tokens arrive later.
    slower_ms: u64,
    /// One of this many requests fails; 0: none.
    fails_every: u64,
    interrupted: bool,
}

impl Default for Made<'_> {
    fn default() -> Self {
        Made { facts: closed(600, 1), arguments: "{}", records: 600, slower_ms: 0, fails_every: 0, interrupted: false }
    }
}

fn make(path: &Path, made: Made) -> Measured {
    let mut block = Block::new(0);
    for index in 0..made.records {
        let wobble = index * 7 % 11 + made.slower_ms;
        if made.fails_every > 0 && index % made.fails_every == 0 {
            push_failed(&mut block, index, index * 100, Outcome::Failed(Failure::Status), "503 busy");
        } else {
            push_ok(&mut block, index, index * 100, &[20 + wobble, 40 + wobble]);
        }
    }
    let mut start = start(made.facts, Save::Text);
    start.arguments_json = made.arguments.to_string();
    let messages = vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(report(Phase::Measured)))];
    match made.interrupted {
        true => collect_to_end(path, start, messages, RunEnd { interrupted: true, ..RunEnd::default() }),
        false => collect(path, start, messages),
    };
    ringmark::report::measured(path).unwrap()
}

fn side<'a>(name: &str, runs: Vec<&'a Measured>) -> Side<'a> {
    Side { name: name.to_string(), runs }
}

fn sides<'a>(a: &'a Measured, b: &'a Measured) -> Comparison<'a> {
    Comparison::of_sides(vec![side("a.db", vec![a]), side("b.db", vec![b])])
}

/// The lines of a figure, joined over the blocks of the table.
fn row(text: &str, figure: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("| {figure} "))).collect();
    assert!(!lines.is_empty(), "{figure}: {text}");
    lines.concat()
}

/// The row of a figure on a page, from its tag on.
fn page_row(page: &str, figure: &str) -> String {
    let at = page.find(&format!("<td>{figure}</td>")).unwrap_or_else(|| panic!("{figure}: {page}"));
    let begin = page[..at].rfind("<tr").unwrap();
    page[begin..].split("</tr>").next().unwrap().to_string()
}

#[test]
fn comparison_reports_significant_differences() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let a = make(&path("a.db"), Made { arguments: r#"{"parallel":[1],"url":"http://a"}"#, ..Made::default() });
    let arguments = r#"{"parallel":[1],"url":"http://b"}"#;
    let b = make(&path("b.db"), Made { arguments, slower_ms: 15, ..Made::default() });
    let compared = sides(&a, &b);
    assert!(compared.first_difference().is_none(), "the server may differ");
    for width in [60, 80, 200] {
        let text = render(&compared, width);
        assert!(text.lines().all(|line| line.width() <= width), "{text}");
        let heads = row(&text, "Figure");
        for head in ["A", "B", "B − A", "%", "95 % interval", "B is"] {
            assert!(heads.split('|').any(|cell| cell.trim() == head), "{head} at {width}: {text}");
        }
        assert!(row(&text, "P50 TTFT (ms)").contains("worse") && row(&text, "P50 TTFT (ms)").contains("+60.0"));
        assert!(row(&text, "P99 TPOT (ms)").contains("no sure difference"), "{text}");
        assert!(row(&text, "Average ITL (ms)").contains("no sure difference"), "{text}");
        assert!(!text.contains("Caution") && !text.contains("VOID"), "{text}");
    }
    for language in LANGUAGES {
        assert!(half(&html(&compared, language), language).contains("class=\"bad\""));
    }
}

#[test]
fn a_comparison_with_an_interrupted_run_has_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let a = make(&path("a.db"), Made::default());
    let b = make(&path("b.db"), Made { records: 200, interrupted: true, ..Made::default() });
    let compared = sides(&a, &b);
    let text = render(&compared, 200);
    assert!(text.contains("Caution: B: the run was interrupted after 200 of 600 requests. Its figures are"), "{text}");
    assert!(half(&html(&compared, Language::En), Language::En).contains("B: the run was interrupted after 200 of 600"));
    assert!(
        half(&html(&compared, Language::Zh), Language::Zh).contains("B：测试被中断，600 个请求中只完成了 200 个。")
    );
}

#[test]
fn a_page_begins_with_a_sentence_and_what_was_compared() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let arguments = r#"{"parallel":[1],"url":"http://a"}"#;
    let a = make(&path("a.db"), Made { arguments, ..Made::default() });
    let facts = RunFacts { url: "http://b/v1".to_string(), ..closed(600, 1) };
    let b = make(&path("b.db"), Made { facts, arguments, slower_ms: 15, ..Made::default() });
    let compared = sides(&a, &b);
    let page = half(&html(&compared, Language::En), Language::En);
    let sentence = "B against A: worse in P99 TTFT (+50.0 %), P99 latency (+";
    assert!(page.contains(&format!("<p class=\"quote\">{sentence}")), "{page}");
    assert!(render(&compared, 200).contains(sentence), "{}", render(&compared, 200));
    let setup = page.split("id=\"setup\"").nth(1).unwrap().split("</table>").next().unwrap();
    // What differs has a cell for each side, what is equal has one for both.
    for part in [
        "<th>A</th><th>B</th>",
        "<td>http://b/v1",
        "<td colspan=\"2\">通义千问-2.5</td>",
        "<td>b.db</td>",
        "2025-10-09",
    ] {
        assert!(setup.contains(part), "{part}: {setup}");
    }
    let charts: Vec<&str> = page.split("<figcaption>").skip(1).collect();
    assert_eq!(charts.len(), 3, "{page}");
    for (chart, title) in charts.iter().zip(["TTFT", "TPOT", "Latency"]) {
        assert!(chart.contains(&format!("{title} percentiles")), "{chart}");
        assert!(chart.contains("data-name=\"A\"") && chart.contains("data-name=\"B\""), "{chart}");
    }
    // The largest TTFT of the slower side, in milliseconds.
    assert!(charts[0].contains("|45\""), "{}", charts[0]);
    let zh = half(&html(&compared, Language::Zh), Language::Zh);
    assert!(zh.contains("B 对比 A：更差：P99 TTFT（+50.0 %）") && zh.contains("无显著差异："), "{zh}");
}

#[test]
fn repeats_are_compared_from_run_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let a = make(&folder.path().join("a.db"), Made::default());
    let b = make(&folder.path().join("b.db"), Made { slower_ms: 15, ..Made::default() });
    let text = render(&Comparison::of_sides(vec![side("a.db", vec![&a, &a]), side("b.db", vec![&b, &b])]), 120);
    let row = row(&text, "P50 TTFT (ms)");
    assert!(row.contains("15.0 .. 15.0") && row.contains("worse"), "two equal runs vary by nothing: {text}");
    assert!(text.contains("Concurrency 1, 2 runs, ") && text.contains("Welch"), "{text}");
}

#[test]
fn failures_make_times_not_comparable() {
    let folder = tempfile::tempdir().unwrap();
    // The failing run is the quicker one.
    let a = make(&folder.path().join("a.db"), Made { slower_ms: 15, ..Made::default() });
    let b = make(&folder.path().join("b.db"), Made { fails_every: 2, ..Made::default() });
    let compared = sides(&a, &b);
    let text = render(&compared, 200);
    let caution = text.find("Caution: 100 % of A's requests succeeded and 50.0 % of B's.").unwrap();
    assert!(caution < text.find("+---").unwrap(), "{text}");
    for (figure, cells) in [("Succeed requests", "300"), ("Failed requests", "300"), ("Unfinished requests", "0")] {
        assert!(row(&text, figure).contains(&format!(" {cells} |")), "{text}");
    }
    let success = row(&text, "Success rate (%)");
    assert!(success.contains(" -50.0 |") && success.contains(" .. -4") && success.contains("worse"), "{text}");
    assert!(row(&text, "Requests/s").contains("worse"), "{text}");
    assert!(row(&text, "P50 TTFT (ms)").contains("not comparable") && !text.contains("better"), "{text}");
    for (language, caution, rate, time, verdict) in [
        (Language::En, "<b>Caution</b>100 % of A", "Success rate (%)", "P50 TTFT (ms)", "not comparable"),
        (Language::Zh, "<b>注意</b>A 的请求成功率为 100 %", "成功率 (%)", "P50 TTFT (ms)", "不可比"),
    ] {
        let page = half(&html(&compared, language), language);
        assert!(page.find(caution).unwrap() < page.find("<table").unwrap(), "{page}");
        assert!(page_row(&page, rate).starts_with("<tr class=\"bad\">"));
        let time = page_row(&page, time);
        assert!(time.starts_with("<tr><td>") && time.contains(verdict), "{time}");
    }
}

#[test]
fn low_success_rate_on_both_sides_is_reported_and_more_success_is_better() {
    let folder = tempfile::tempdir().unwrap();
    let low = make(&folder.path().join("a.db"), Made { fails_every: 10, ..Made::default() });
    let lower = make(&folder.path().join("b.db"), Made { fails_every: 2, ..Made::default() });
    let text = render(&sides(&low, &low), 120);
    assert!(text.contains("Caution: 90.0 % of A's") && row(&text, "P50 TTFT (ms)").contains("not comparable"));
    assert!(row(&text, "Requests/s").contains("no sure difference"), "{text}");
    let text = render(&sides(&lower, &low), 120);
    assert!(row(&text, "Success rate (%)").contains("better") && row(&text, "Requests/s").contains("better"), "{text}");
}

#[test]
fn void_runs_are_reported_first_and_nothing_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let a = make(&folder.path().join("a.db"), Made { slower_ms: 15, ..Made::default() });
    // Records were lost.
    let b = make(&folder.path().join("b.db"), Made { records: 500, ..Made::default() });
    assert!(b.summary.is_void());
    let compared = sides(&a, &b);
    let text = render(&compared, 100);
    let void = text.find("VOID: B is void: do not use its figures").unwrap();
    assert!(
        void < text.find("+---").unwrap() && text.contains("VOID: B: 600 requests were scheduled but 500"),
        "{text}"
    );
    assert!(row(&text, "P50 TTFT (ms)").contains("| void"), "{text}");
    assert!(["better", "worse", "no sure"].iter().all(|verdict| !text.contains(verdict)), "{text}");
    for (language, void) in [(Language::En, "<b>VOID</b>B is void"), (Language::Zh, "<b>无效</b>B 无效")] {
        let page = half(&html(&compared, language), language);
        assert!(page.find(void).unwrap() < page.find("<table").unwrap());
        assert!(!page.contains("<tr class=\"good\">") && !page.contains("<tr class=\"bad\">"), "{page}");
    }
    let repeats = Comparison::of_sides(vec![side("b.db", vec![&a, &b]), side("a.db", vec![&a, &a])]);
    assert!(render(&repeats, 100).contains("VOID: 1 of A's 2 runs are void"), "{}", render(&repeats, 100));
}

#[test]
fn too_few_samples_do_not_mean_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let few = |name: &str, slower_ms| {
        let made = Made { facts: closed(100, 1), records: 100, slower_ms, ..Made::default() };
        make(&folder.path().join(name), made)
    };
    let (a, b) = (few("a.db", 0), few("b.db", 15));
    let compared = sides(&a, &b);
    let text = render(&compared, 120);
    let p99 = row(&text, "P99 TTFT (ms)");
    assert!(p99.contains("too few samples") && p99.matches("*").count() == 2, "{text}");
    assert!(text.contains("\n* fewer than 10 samples lie beyond: another run may differ much\n"), "{text}");
    assert!(!row(&text, "P50 TTFT (ms)").contains('*'), "{text}");
    for (language, verdict, note) in [
        (Language::En, "too few samples", "* fewer than 10 samples lie beyond"),
        (Language::Zh, "样本不足", "* 大于该值的样本不足 10 个"),
    ] {
        let page = half(&html(&compared, language), language);
        assert!(page_row(&page, "P99 TTFT (ms)").contains(verdict) && page.contains(note));
    }
}

#[test]
fn long_names_fit_the_screen_and_may_break_on_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let model = "通义千问-超长模型名称".repeat(20);
    let facts = RunFacts { model: model.clone(), ..closed(600, 1) };
    let a = make(&folder.path().join("a.db"), Made { facts, ..Made::default() });
    let path = format!("{}/benchmark_data.db", "文件夹/folder".repeat(30));
    let compared = Comparison::of_sides(vec![side(&path, vec![&a]), side("b.db", vec![&a])]);
    for width in [80, 200] {
        let text = render(&compared, width);
        assert!(text.lines().all(|line| line.width() <= width) && text.contains("benchmark_data.db"), "{text}");
    }
    let page = html(&compared, Language::Zh);
    // The table of what was compared breaks long words.
    let setup = page.split("id=\"setup\"").nth(1).unwrap().split("</table>").next().unwrap();
    assert!(
        setup.contains("<table class=\"words facts\">") && setup.contains(&path) && setup.contains(&model),
        "{setup}"
    );
}

/// The facts of a load of the call `call`.
fn load(call: &str, parallel: u32, requests: u64) -> RunFacts {
    RunFacts { request_id_prefix: call.to_string(), ..closed(requests, parallel) }
}

/// The runs of a call with these loads, each in a folder of its own below `place`.
fn sweep(place: &Path, call: &str, loads: &[(u32, u64)]) -> Vec<(PathBuf, Measured)> {
    let run = |(number, &(parallel, requests)): (usize, &(u32, u64))| {
        let path = place.join(format!("{number}_parallel_{parallel}")).join("benchmark_data.db");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let arguments = format!(r#"{{"parallel":[{parallel}],"number":[{requests}]}}"#);
        let made =
            Made { facts: load(call, parallel, requests), records: requests, arguments: &arguments, ..Made::default() };
        let measured = make(&path, made);
        (path, measured)
    };
    loads.iter().enumerate().map(run).collect()
}

fn given<'a>(runs: &'a [(PathBuf, Measured)], is_folder: bool) -> Given<'a> {
    Given { runs: runs.iter().map(|(path, run)| (path.clone(), run)).collect(), is_folder }
}

#[test]
fn sweeps_are_compared_load_by_load() {
    let folder = tempfile::tempdir().unwrap();
    let (ra, rb, rc) = (folder.path().join("ra"), folder.path().join("rb"), folder.path().join("rc"));
    let a = sweep(&ra, "a", &[(10, 60), (2, 60), (10, 60), (8, 60)]);
    let b = sweep(&rb, "b", &[(2, 60), (10, 60), (16, 60)]);
    let c = sweep(&rc, "c", &[(2, 60)]);
    let compared = comparison(&[given(&a, true), given(&b, true), given(&c[..1], false)]);
    let names: Vec<&str> = compared.sides.iter().map(|side| side.name.as_str()).collect();
    assert_eq!(names, [ra.to_str().unwrap(), rb.to_str().unwrap(), c[0].0.to_str().unwrap()]);
    assert!(compared.first_difference().is_none());
    let text = render(&compared, 120);
    let headings: Vec<&str> = text.lines().filter(|line| line.ends_with(" against A:")).collect();
    let wanted = ["Concurrency 2: B against A:", "Concurrency 2: C against A:", "Concurrency 10: B against A:"];
    assert_eq!(headings, wanted, "{text}");
    assert!(text.contains("  A 3 loads, 4 runs, 通义"), "{text}");
    for line in [
        "since A measured it and B did not: Concurrency 8\n",
        "since B measured it and A did not: Concurrency 16\n",
        "since A measured it and C did not: Concurrency 8; Concurrency 10\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let page = html(&compared, Language::Zh);
    let page = half(&page, Language::Zh);
    assert!(page.contains("并发 2</span></h2><h3>") && page.contains("未对比（B 测了而 A 未测）：并发 16"), "{page}");
    let menu = page.split("<nav>").nth(1).unwrap().split("</nav>").next().unwrap();
    for link in ["#setup", "#load-curves", "#load-1", "#load-2"] {
        assert!(menu.contains(link) && page.contains(&format!("id=\"{}\"", &link[1..])), "{link}: {menu}");
    }
    // A line for each side that measured several loads.
    let curves = page.split("id=\"load-curves\"").nth(1).unwrap().split("<h2").next().unwrap();
    assert_eq!(curves.matches("<svg").count(), 5, "{curves}");
    assert!(curves.contains("data-name=\"A\"") && curves.contains("data-name=\"B\""), "{curves}");
}

#[test]
fn loads_of_different_lengths_are_different_workloads() {
    let folder = tempfile::tempdir().unwrap();
    let a = sweep(&folder.path().join("ra"), "a", &[(2, 60), (4, 60), (4, 90)]);
    let b = sweep(&folder.path().join("rb"), "b", &[(4, 90), (2, 80)]);
    let compared = comparison(&[given(&a, true), given(&b, true)]);
    assert_eq!(compared.first_difference().unwrap().2, ["number 60 / 80"]);
    let text = render(&compared, 120);
    assert!(text.contains("\nConcurrency 2: B") && text.contains("\nConcurrency 4, 90 requests: B"), "{text}");
    assert!(text.contains("since A measured it and B did not: Concurrency 4, 60 requests"), "{text}");
}

#[test]
fn omitted_arguments_count_as_their_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let differences = |a: &str, b: &str| {
        let run = |arguments| make(&folder.path().join("a.db"), Made { arguments, records: 1, ..Made::default() });
        let runs = [a, b].map(|arguments| {
            let run = run(arguments);
            std::fs::remove_file(folder.path().join("a.db")).unwrap();
            run
        });
        ringmark::report::workload::differences(&runs[0], &runs[1])
    };
    let differs = r#"{"parallel":[8],"max_tokens":[64],"save":"full"}"#;
    assert_eq!(differences(r#"{"parallel":[1],"max_tokens":[64],"save":"text"}"#, differs), ["parallel 1 / 8"]);
    assert_eq!(differences(r#"{"max_tokens":[]}"#, r#"{"max_tokens":[5]}"#), ["max_tokens 2048 / 5"]);
    assert_eq!(differences(r#"{"max_tokens":[],"top_p":null}"#, r#"{"max_tokens":[2048]}"#), [""; 0]);
    assert_eq!(differences(r#"{"stop":[],"rate":[-1.0]}"#, r#"{"stop":["\n"],"rate":[5.0]}"#).len(), 2);
    let draws = [r#"{"seed":1,"data_seed":1,"salt":7}"#, r#"{"seed":2,"data_seed":null,"salt":9}"#];
    assert_eq!(differences(draws[0], draws[1]), [""; 0], "other draws from the same distributions");
    assert_eq!(differences(r#"{"server_args":[],"tp":1}"#, r#"{"server_args":["--x"],"tp":2}"#), [""; 0]);
    let differs = differences(r#"{"rate":[-1.0],"extra_args":{}}"#, r#"{"rate":[5.0],"extra_args":{"a":"b"}}"#);
    assert_eq!(differs, [r#"extra_args not set / {"a":"b"}"#, "rate not set / 5.0"]);
}

fn ringmark(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
    command.current_dir(folder).arg("compare").args(arguments).output().unwrap()
}

fn table_of(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn compare_reads_folders_of_sweeps_and_reports_errors_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    sweep(&place("ra"), "a", &[(2, 60), (4, 60)]);
    sweep(&place("rb"), "b", &[(2, 60), (4, 60)]);
    sweep(&place("rc"), "c", &[(3, 60)]);
    let output = ringmark(folder.path(), &["ra", "rb", "--html", "page.html"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("Concurrency 2: B against A:") && text.contains("Concurrency 4: B against A:"), "{text}");
    assert!(std::fs::read_to_string(place("page.html")).unwrap().contains(">Concurrency 4</span>"));
    // A file of that name that another program made is skipped, and an old one of ours without its columns too.
    std::fs::create_dir_all(place("ra/foreign")).unwrap();
    let foreign = place("ra/foreign/benchmark_data.db");
    let mut runs =
        std::fs::read_dir(place("ra")).unwrap().flatten().map(|entry| entry.path().join("benchmark_data.db"));
    let ours = runs.find(|path| path.is_file() && *path != foreign).unwrap();
    let report = |what: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringmark")).arg("report").arg(what).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    table_of(&foreign, "CREATE TABLE result (id INTEGER)");
    let without_column = || {
        std::fs::copy(&ours, &foreign).unwrap();
        table_of(&foreign, "ALTER TABLE request RENAME COLUMN early TO other");
    };
    for (made, why) in
        [(None, "is not a ringmark database: "), (Some(&without_column), "database (no such column: early): ")]
    {
        made.into_iter().for_each(|make| make());
        let output = ringmark(folder.path(), &["ra", "rb"]);
        let skipped = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{skipped}");
        for line in [skipped, report(&place("ra")).1] {
            assert!(line.starts_with("skipped: ") && line.contains(why) && line.lines().count() == 1, "{line}");
        }
        let (status, error) = report(&foreign);
        assert!(status == Some(2) && error.contains(why) && error.len() < 300 && error.lines().count() == 1, "{error}");
    }
    std::fs::remove_file(&foreign).unwrap();
    std::fs::write(place("broken.db"), "no database").unwrap();
    std::fs::create_dir(place("empty")).unwrap();
    for (arguments, what) in [
        (["ra", "rc"], "ra and rc/0_parallel_3/benchmark_data.db have no load in common"),
        (["ra", "broken.db"], "broken.db"),
        (["ra", "missing.db"], "missing.db"),
        (["ra", "empty"], "empty contains no run"),
    ] {
        let output = ringmark(folder.path(), &arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && error.contains(what) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn reports_do_not_mix_servers_or_workloads() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let stored = |name: &str, parallel: u32, url: &str, arguments: &str| {
        let facts = RunFacts { url: url.to_string(), ..closed(600, parallel) };
        make(&path(name), Made { facts, arguments, ..Made::default() });
    };
    stored("a.db", 1, "http://a", r#"{"parallel":[1],"max_tokens":[9]}"#);
    stored("load.db", 2, "http://a", r#"{"parallel":[2],"max_tokens":[9],"number":[600]}"#);
    stored("server.db", 1, "http://b", r#"{"parallel":[1],"max_tokens":[9]}"#);
    stored("workload.db", 1, "http://a", r#"{"parallel":[1],"max_tokens":[7]}"#);
    let report = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmark"));
        command.arg("report").arg(path("a.db")).current_dir(folder.path()).args(more).output().unwrap()
    };
    assert_eq!(report(&["load.db"]).status.code(), Some(0), "the loads of a sweep differ");
    let at_once = report(&["server.db"]);
    assert_eq!(at_once.status.code(), Some(2), "runs of two servers at the same time are no shards");
    for (other, what) in [("server.db", "url http://a / http://b"), ("workload.db", "max_tokens 9 / 7")] {
        let refused = report(&["load.db", other]);
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{text}");
        assert!(text.contains(what) && text.contains("ringmark compare") && text.lines().count() == 1, "{text}");
        assert!(refused.stdout.is_empty());
        assert_eq!(report(&["load.db", other, "--force"]).status.code(), Some(0));
    }
}

/// Stores the repeats of one load as a call: each run's tokens arrive later by one of `slower_ms`.
fn repeats(folder: &Path, call: &str, slower_ms: &[u64], fails_every: u64) {
    for (number, &slower_ms) in slower_ms.iter().enumerate() {
        let run = folder.join(format!("run_{number}"));
        std::fs::create_dir_all(&run).unwrap();
        let facts = RunFacts { request_id_prefix: call.to_string(), ..closed(600, 1) };
        make(&run.join("benchmark_data.db"), Made { facts, slower_ms, fails_every, ..Made::default() });
    }
}

#[test]
fn a_gate_fails_only_for_significant_changes_beyond_its_limits() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    repeats(&place("a"), "a", &[0, 1, 2, 3, 4], 0);
    repeats(&place("same"), "same", &[2, 4, 0, 1, 3], 0);
    repeats(&place("slow"), "slow", &[10, 11, 12, 13, 14], 0);
    repeats(&place("few"), "few", &[0, 1, 2], 0);
    repeats(&place("failing"), "failing", &[0, 1, 2, 3, 4], 50);
    repeats(&place("broken"), "broken", &[0, 1, 2, 3, 4], 2);
    let gate = |other: &str, limits: &str| {
        let output = ringmark(folder.path(), &["a", other, "--fail-on", limits]);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), text)
    };
    let (status, text) = gate("slow", "p50_ttft:+5%");
    assert!(status == 1 && text.contains("Gate (--fail-on): FAILED") && text.contains("p50_ttft:+5%"), "{text}");
    assert!(text.contains("Holm") && text.contains("success (always tested)"), "{text}");
    for (other, limits, expected, what) in [
        ("slow", "p50_ttft:+90%", 0, "Gate (--fail-on): passed"),
        ("same", "p50_ttft:+0%", 0, "passed"),
        ("slow", "tps:-99%", 0, "passed"),
        // The times of the succeeded requests are equal, but 2 % of the requests fail.
        ("failing", "p50_ttft:+5%", 1, "success (always tested)"),
        ("failing", "failed:+5%", 0, "passed"),
        ("slow", "p50_ttft:+5%,tps:-3%", 2, "for 3 tests (figures, loads and the success rate) 6 on each side"),
        ("broken", "p50_ttft:+5%", 2, "cannot judge p50_ttft: only 50 % of the requests of B"),
        ("few", "p50_ttft:+5%", 2, "A has 5 and B has 3: measure both with --repeat 5"),
        ("slow", "goodput:-5%", 2, "has no goodput"),
        ("slow", "p50_ttft:-5%", 2, "a lower p50_ttft is better"),
    ] {
        let (status, text) = gate(other, limits);
        assert!(status == expected && text.contains(what), "{other} {limits}: {status} {text}");
    }
}

/// Builds that are measured in turn: each run is a call of its own.
#[test]
fn the_runs_in_a_folder_are_one_side_if_they_are_pooled() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    for (build, slower_ms) in [("old", 0), ("new", 10)] {
        for round in 0..5 {
            let run = place(build).join(format!("{round}"));
            repeats(&run, &format!("{build}{round}"), &[slower_ms + round], 0);
        }
    }
    let compare = |flags: &[&str]| {
        let output = ringmark(folder.path(), flags);
        (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (status, text) = compare(&["old", "new", "--fail-on", "p50_ttft:+5%"]);
    assert!(status == 2 && text.contains("A has 1 and B has 1"), "{text}");
    let (status, text) = compare(&["old", "new", "--pool", "--fail-on", "p50_ttft:+5%"]);
    assert!(status == 1 && text.contains("Gate (--fail-on): FAILED"), "{text}");
    assert!(text.contains("Concurrency 1, 5 runs, ") && !text.contains("C against A"), "{text}");
    let (status, text) = compare(&["old", "--pool"]);
    assert!(status == 2 && text.contains("--pool compares folders"), "{text}");
    // A run of another workload is not a repetition.
    let arguments = r#"{"max_tokens":9}"#;
    std::fs::create_dir_all(place("new/5")).unwrap();
    make(&place("new/5/benchmark_data.db"), Made { facts: load("x", 1, 600), arguments, ..Made::default() });
    let (status, text) = compare(&["old", "new", "--pool"]);
    assert!(status == 2 && text.contains("different workloads (max_tokens"), "{text}");
}

#[test]
fn a_comparison_is_written_as_json_and_markdown() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    repeats(&place("a"), "a", &[0, 1, 2, 3, 4], 0);
    repeats(&place("b"), "b", &[10, 11, 12, 13, 14], 0);
    let call = ["a", "b", "--fail-on", "p50_ttft:+5%", "--json", "-", "--markdown", "summary.md"];
    let output = ringmark(folder.path(), &call);
    assert_eq!(output.status.code(), Some(1));
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_fits(&json, "compare");
    assert_eq!((&json["exit_status"], &json["fail_on"]["failed"]), (&Json::from(1), &Json::from(true)));
    let figures = json["comparisons"][0]["figures"].as_array().unwrap();
    let p50 = figures.iter().find(|row| row["figure"] == "p50_ttft").unwrap();
    assert_eq!((&p50["verdict"], &p50["unit"]), (&Json::from("worse"), &Json::from("s")));
    assert!((p50["change"].as_f64().unwrap() - 0.01).abs() < 1e-9, "{p50}");
    let tables = String::from_utf8(output.stderr).unwrap();
    assert!(tables.contains("B against A:") && tables.contains("Gate (--fail-on): FAILED"), "{tables}");
    let markdown = std::fs::read_to_string(place("summary.md")).unwrap();
    for part in ["Gate: **failed**", "| p50\\_ttft:+5% |", "### B against A", "| P50 TTFT (ms) |", "| --- |"] {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
    // Every line of a table has as many cells as its head.
    for table in markdown.split("\n\n").filter(|part| part.starts_with('|')) {
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        assert!(table.lines().all(|line| cells(line) == cells(table.lines().next().unwrap())), "{table}");
    }
    let output = ringmark(folder.path(), &["a", "b", "--json", "-", "--markdown", "-"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && error.contains("both need standard output"), "{error}");
}
