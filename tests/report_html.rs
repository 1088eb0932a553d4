//! The HTML report: well formed, self-contained and of bounded size, with one request and with many.

mod chinese;
mod records;

use std::path::{Path, PathBuf};

use chinese::halves::half;
use chinese::without_flag_spans;
use records::{closed, collect, push_failed, push_ok, report, start};
use ringmark::plan::Save;
use ringmark::plan::sla::{SearchPlan, Space};
use ringmark::record::facts::{ConversationFacts, Refusal, RunFacts};
use ringmark::record::{Block, CollectorMessage, Failure, Outcome, Phase};
use ringmark::report::compare::{self, Comparison, Side};
use ringmark::report::html::from_databases;
use ringmark::report::search::json as search_json;
use ringmark::report::{from_database, measured, search_glance};
use ringmark::search::{StoredSearchRun, find_searches};
use ringmark::spec::{Language, SlaSpec, Spec};
use ringmark::store::RunStart;
use ringmark::store::writer::add_refusals;
use ringmark::time::MS;

/// A database of `count` responses of three tokens with varying times. Every tenth request fails.
fn database(folder: &Path, count: u64, parallel: u32) -> PathBuf {
    database_of(folder, RunFacts { model: "<通义>&千问".to_string(), ..closed(count, parallel) })
}

/// The same with these facts.
fn database_of(folder: &Path, facts: RunFacts) -> PathBuf {
    let (count, parallel) = (facts.requests.unwrap(), facts.parallel.unwrap());
    let mut block = Block::new(0);
    for index in 0..count {
        let due = index / u64::from(parallel) * 100;
        match index % 10 {
            9 => push_failed(&mut block, index, due, Outcome::Failed(Failure::Status), "<503> & \"busy\""),
            _ => push_ok(&mut block, index, due, &[20 + index % 17, 40 + index % 19, 60 + index % 23]),
        }
    }
    let path = folder.join(format!("{count}_{parallel}.db"));
    let messages = vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(report(Phase::Measured)))];
    collect(&path, start(facts, Save::Text), messages);
    path
}

/// Every element is closed in the right order and every attribute is quoted, as in XML.
fn assert_well_formed(page: &str) {
    let script = page.find("<script>").unwrap()..page.find("</script>").unwrap() + "</script>".len();
    let page = page.replacen(&page[script], "", 1);
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>\n").expect("a page starts with its type");
    while let Some(begin) = rest.find('<') {
        assert!(!rest[..begin].contains('>'), "a stray > before {:.80}", &rest[begin..]);
        let end = begin + rest[begin..].find('>').expect("every tag ends");
        let tag = &rest[begin + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().expect("a tag has a name"));
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?}");
}

fn assert_self_contained(page: &str) {
    for external in ["src=", "@import", "url(", "fetch(", "NaN", "undefined"] {
        assert!(!page.contains(external), "{external}");
    }
    // Links lead to sections of the page.
    let ids: Vec<&str> = page.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    for link in page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(link.strip_prefix('#').is_some_and(|id| ids.contains(&id)), "{link}");
    }
    let distinct: std::collections::BTreeSet<&&str> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "{ids:?}");
}

#[test]
fn one_request_makes_a_page() {
    let folder = tempfile::tempdir().unwrap();
    for language in [Language::En, Language::Zh] {
        let page = from_databases(&[database(folder.path(), 1, 1)], language).unwrap();
        assert_well_formed(&page);
        assert_self_contained(&page);
        assert_eq!(page.matches("<svg").count(), 8);
        assert!(page.contains("&lt;通义&gt;&amp;千问"));
        let (tag, checked) = if language == Language::Zh { ("zh-CN", "in-zh") } else { ("en", "in-en") };
        assert!(page.contains(&format!("<html lang=\"{tag}\">")));
        assert!(page.contains(&format!("id=\"{checked}\" checked")));
        std::fs::remove_file(folder.path().join("1_1.db")).unwrap();
    }
}

#[test]
fn a_run_without_any_success_makes_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("failed.db");
    let mut block = Block::new(0);
    push_failed(&mut block, 0, 0, Outcome::Failed(Failure::Connect), "refused");
    collect(&path, start(closed(1, 1), Save::Text), vec![CollectorMessage::Block(block)]);
    let page = from_databases(&[path], Language::En).unwrap();
    assert_well_formed(&page);
    assert!(page.contains("No data.") && page.contains("refused"));
}

#[test]
fn pages_with_many_requests_say_what_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let page = from_databases(&[database(folder.path(), 20_000, 50)], Language::En).unwrap();
    assert_well_formed(&page);
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
    assert!(page.contains("the shortest and the longest are shown"));
    assert!(page.contains("2000 × 429: &lt;503&gt;"));
}

#[test]
fn a_sweep_has_load_curves_and_every_run() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = [1, 4, 16].map(|parallel| database(folder.path(), 200, parallel)).to_vec();
    let page = from_databases(&paths, Language::En).unwrap();
    assert_well_formed(&page);
    assert_eq!(page.matches("<details>").count(), 3);
    assert_eq!(page.matches("<svg").count(), 9 + 3 * 10);
    assert!(page.contains("Recommendations") && page.contains("class=\"passable\""));
}

fn search(params: &str) -> SearchPlan {
    let params = vec![params.to_string()];
    let sla = SlaSpec {
        sla_auto_tune: true,
        sla_params: params,
        sla_num_runs: Some(1),
        sla_upper_bound: Some(8.0),
        ..SlaSpec::default()
    };
    Spec { sla, ..Spec::default() }.search().unwrap().unwrap()
}

#[test]
fn a_search_shows_its_loads_and_what_it_selected() {
    let folder = tempfile::tempdir().unwrap();
    // Below ten requests none fails.
    let plan = search("p99_ttft<=1 | max_latency<=10ms");
    let run = |parallel| database_of(folder.path(), RunFacts { search: Some(plan.clone()), ..closed(9, parallel) });
    let paths = [run(1), run(2), run(4)];
    for (language, words) in [
        (
            Language::En,
            ["Search for parallel (1 to 8), 1 run at each load", "not decided", "the next load is parallel 8"],
        ),
        (Language::Zh, ["搜索 parallel（1 至 8），每档测试 1 次", "尚未确定", "下一档负载为 parallel 8"]),
    ] {
        let page = from_databases(&paths, language).unwrap();
        assert_well_formed(&page);
        assert_self_contained(&page);
        let seen = half(&page, language);
        words.iter().for_each(|words| assert!(seen.contains(words), "{words}"));
        let path = page.split("class=\"path\">").nth(1).unwrap();
        assert!(path.split("</p>").next().unwrap().ends_with("parallel 1 ✗ → 2 ✗ → 4 ✗"), "{path:.100}");
        // A figure of each aim, with its bound.
        assert_eq!(page.matches("<svg").count(), 2 + 8 + 3 * 8);
        let of_search = page.split("over load, with its bounds</span></figcaption>").skip(1);
        for chart in of_search.map(|chart| chart.split("</figure>").next().unwrap()) {
            assert_eq!(chart.matches("line guide").count(), 1);
        }
    }
    add_refusals(&paths[2], &[Refusal { load: 8.0, why: "--parallel 8 is <too much>".to_string(), open_files: None }])
        .unwrap();
    let page = from_databases(&paths, Language::En).unwrap();
    assert_well_formed(&page);
    for words in ["parallel 8: --parallel 8 is &lt;too much&gt;", "the next load is parallel 6"] {
        assert!(without_flag_spans(&page).contains(words), "{words}");
    }
}

#[test]
fn overview_of_a_sweep_precedes_its_runs() {
    let folder = tempfile::tempdir().unwrap();
    // Given from the highest load to the lowest, and a tenth of all requests fails.
    let paths: Vec<PathBuf> = [16, 4, 1].map(|parallel| database(folder.path(), 200, parallel)).to_vec();
    for (language, words, load) in [
        (
            Language::En,
            ["At no load did 95 %", "None: no load can be used", "10.0 % of the requests failed"],
            "Concurrency",
        ),
        (Language::Zh, ["没有任何负载的成功率达到 95 %", "无：没有可用的负载", "10.0 % 的请求失败"], "并发"),
    ] {
        let page = from_databases(&paths, language).unwrap();
        assert_well_formed(&page);
        assert_self_contained(&page);
        let page = half(&page, language);
        let top = page.split("<details>").next().unwrap();
        words.iter().for_each(|words| assert!(top.contains(words), "{words}"));
        let places: Vec<usize> =
            [1, 4, 16].iter().map(|n| top.find(&format!("<td>{load} {n}</td>")).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
        let runs: Vec<usize> =
            [1, 4, 16].iter().map(|n| page.find(&format!("{load} {n}</span></summary>")).unwrap()).collect();
        assert!(runs.is_sorted(), "{runs:?}");
        // A p99 of 180 samples has one beyond it: in the table of loads, on the cards, and in the percentiles.
        assert!(top.contains("*</td>") && page.contains("*</small>"));
        assert_eq!(page.matches("class=\"note\">* ").count(), 1 + 3 * 2);
    }
}

#[test]
fn runs_of_two_searches_are_separated() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, params: &str, parallel: u32| {
        let folder = folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let search = Some(search(params));
        database_of(&folder, RunFacts { search, request_id_prefix: name.to_string(), ..closed(9, parallel) })
    };
    let paths = [run("a", "tps=max", 1), run("b", "tps=max", 1), run("b", "rps=min", 2), database(folder.path(), 9, 3)];
    let page = from_databases(&paths, Language::En).unwrap();
    let titles = page.matches("<span lang=\"en\">Search for parallel").count();
    assert_eq!(titles, 2 * 3, "in the contents and above each section");
}

#[test]
fn void_runs_are_reported_above_all_figures() {
    let folder = tempfile::tempdir().unwrap();
    let lost = folder.path().join("lost.db");
    let mut block = Block::new(0);
    push_ok(&mut block, 0, 0, &[20, 40]);
    let messages = vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(report(Phase::Measured)))];
    collect(&lost, start(closed(9, 2), Save::Text), messages);
    let paths = [lost, database(folder.path(), 9, 1)];
    for (language, words) in [
        (
            Language::En,
            ["VOID: Concurrency 2 must not be used: 9 requests were scheduled", "<td>Concurrency 2 (void)</td>"],
        ),
        (Language::Zh, ["无效：并发 2 不可使用：计划了 9 个请求", "<td>并发 2（无效）</td>"]),
    ] {
        let page = half(&from_databases(&paths, language).unwrap(), language);
        assert!(page.find(words[0]).unwrap() < page.find(words[1]).unwrap());
    }
}

/// Two loads of a search, one of them with two runs, one of which is void; conversations, failures of every class, and a
/// worker that was late.
fn everything(folder: &Path) -> Vec<PathBuf> {
    let run = |name: &str, parallel: u32, records: u64| {
        let facts = RunFacts {
            search: Some(search("p99_ttft<=1")),
            conversations: Some(ConversationFacts { planned: Some(100), thinks: true }),
            slo: "p99_ttft<=1ms rps>=1".to_string(),
            dataset: "random".to_string(),
            api: "openai".to_string(),
            ..closed(200, parallel)
        };
        let mut block = Block::new(0);
        for index in 0..records {
            let due = index / u64::from(parallel) * 100;
            match Failure::ALL.get(index as usize / 10).filter(|_| index % 10 == 9) {
                Some(failure) => {
                    let text = format!("request req-{index:08x} <failed>");
                    push_failed(&mut block, index, due, Outcome::Failed(*failure), &text);
                }
                None => push_ok(&mut block, index, due, &[20 + index % 17, 40 + index % 19, 60 + index % 23]),
            }
            let record = block.records.last_mut().unwrap();
            (record.conversation, record.turn) = (Some(index / 2), (index % 2) as u32);
            record.cached_tokens = Some(5);
            record.write_start = record.write_start.map(|start| start.plus_ns(15 * MS));
        }
        let mut worker = report(Phase::Measured);
        worker.receive_lag_ns.record(5 * MS).unwrap();
        (worker.involuntary_switches, worker.buffer_shortages, worker.cpu_user_ns) = (100, 2, 90 * MS);
        let path = folder.join(name);
        let messages = vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(worker))];
        collect(&path, start(facts, Save::Text), messages);
        path
    };
    vec![run("a.db", 1, 200), run("b.db", 1, 200), run("c.db", 4, 150)]
}

#[test]
fn no_english_label_remains_in_the_chinese_half() {
    let folder = tempfile::tempdir().unwrap();
    // Whatever the language in which it opens.
    let page = from_databases(&everything(folder.path()), Language::En).unwrap();
    let page = page.replacen("<title>Performance report", "<title>", 1);
    let seen = half(&page, Language::Zh);
    for section in
        ["重复测试的波动", "各轮次指标", "SLO 未达标", "失败列表", "诊断", "已测负载", "无效：", "性能目标", "测试内容"]
    {
        assert!(seen.contains(section), "{section}");
    }
    assert_eq!(seen.matches("<td>响应体无法解析</td>").count(), 2 * 3, "every class of failures is on the page");
    let page = Failure::ALL.iter().enumerate().fold(page, |page, (class, _)| {
        let text = format!("request req-{:08x} &lt;failed&gt;", class * 10 + 9);
        page.replace(&text, "")
    });
    chinese::assert_chinese(&page, &["http://127.0.0.1:1/v1/chat/completions", "p99_ttft", "rps"]);
}

#[test]
fn no_chinese_label_remains_in_the_english_half() {
    let folder = tempfile::tempdir().unwrap();
    let page = from_databases(&everything(folder.path()), Language::Zh).unwrap();
    let seen = half(&page, Language::En);
    let seen = seen.split("<main>").nth(1).unwrap().split("<script>").next().unwrap();
    // The attributes of a chart have both languages for the script.
    let texts: String = seen.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text).collect();
    let texts = texts.replace("通义千问", "").replace("中文", "");
    let left: String = texts.chars().filter(|c| ('\u{4e00}'..='\u{9fff}').contains(c)).collect();
    assert_eq!(left, "");
}

#[test]
fn the_page_begins_with_what_was_run() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = r#"{"url": "http://h/v1", "api_key": "****", "parallel": [4], "number": [90], "rate": [-1.0],
                        "max_tokens": [64], "stream": true, "outputs_dir": "/secret/place", "data_seed": 5, "salt": 7}"#;
    let rig = r#"{"kernel": "6.12.0", "cpu_model": "Fast <CPU>", "cores": 16, "virtualisation": ["container"]}"#;
    let facts = RunFacts { seed: 5, salt: 7, dataset: "random".to_string(), ..closed(90, 4) };
    let path = folder.path().join("a.db");
    let mut block = Block::new(0);
    for index in 0..90 {
        push_ok(&mut block, index, index / 4 * 100, &[20 + index % 17, 40 + index % 19, 60 + index % 23]);
    }
    let start =
        RunStart { arguments_json: arguments.to_string(), rig_json: rig.to_string(), ..start(facts, Save::Text) };
    let messages = vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(report(Phase::Measured)))];
    collect(&path, start, messages);
    let page = from_databases(&[path], Language::En).unwrap();
    assert_well_formed(&page);
    let seen = half(&page, Language::En);
    assert!(seen.contains("<span class=\"flag\">--max-tokens</span> 64</code>"), "no line breaks within a flag");
    let top = without_flag_spans(seen.split("id=\"charts\"").next().unwrap());
    for words in [
        "<code>ringmark perf --url http://h/v1 --api-key &#39;****&#39; --parallel 4 --number 90 --max-tokens 64</code>",
        "Fast &lt;CPU&gt; · 16 usable cores · container · Linux 6.12.0",
        "data seed 5 · salt 7",
        "input 10 · output 3",
        "ringmark 0.0.0 · 1 worker",
        "closed loop: Concurrency 4",
        "90 per run · streamed",
        "2025-10-09 08:53:20 UTC",
        "<p class=\"quote\">4 users: ",
    ] {
        assert!(top.contains(words), "{words}: {top}");
    }
    assert!(!top.contains("secret") && half(&page, Language::Zh).contains("<p class=\"quote\">4 个并发用户："));
    // Of 90 requests, 9 are beyond p90.
    let sentence = top.split("class=\"quote\">").nth(1).and_then(|rest| rest.split("</p>").next()).unwrap();
    assert!(sentence.contains(", p50 TTFT ") && !sentence.contains("p99"), "{sentence}");
}

#[test]
fn the_best_load_that_met_the_objectives_is_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let run = |parallel: u32, slo: &str| {
        let facts = RunFacts { slo: slo.to_string(), ..closed(9, parallel) };
        database_of(folder.path(), facts)
    };
    let page = |slo: &str| {
        let paths = [run(1, slo), run(2, slo), run(4, slo)];
        let page = from_databases(&paths, Language::En).unwrap();
        paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        page
    };
    // All loads have the same times, so the highest load has the most requests per second.
    let met = page("p99_ttft<400ms");
    assert!(met.contains("<p class=\"quote\">4 users at p99 TTFT below 400 ms: "), "{met}");
    assert!(met.contains("<p class=\"quote\">4 个并发用户，p99 TTFT 低于 400 ms："));
    assert_eq!(met.matches("<td class=\"good\">met ✓</td>").count(), 3);
    let missed = page("p99_ttft<1ms failed<=1%");
    assert!(
        missed.contains("No load met the objectives: p99 TTFT below 1 ms, failed requests at most 1 %."),
        "{missed}"
    );
    assert_eq!(missed.matches("<td class=\"bad\">未达标 ✗</td>").count(), 3);
    // What the server did follows all the same.
    assert!(missed.contains("<p class=\"quote\">Highest throughput measured: 4 users: "), "{missed}");
    // Only the cell of the criterion that is missed is red.
    assert!(missed.contains("<td class=\"good\">0 ✓</td>") && !missed.contains("<tr class=\"bad\">"), "{missed}");
    assert!(missed.contains("<td class=\"bad\">28.0* ✗</td>"), "{missed}");
}

/// A run of which all tokens of a response arrive at once.
fn of_one_arrival(path: &Path, facts: RunFacts) {
    let mut block = Block::new(0);
    (0..90).for_each(|index| push_ok(&mut block, index, index * 100, &[20, 20, 20]));
    let messages = vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(report(Phase::Measured)))];
    collect(path, start(facts, Save::Text), messages);
}

/// The bound of a figure that the client's error exceeds stands wherever the figure does.
#[test]
fn objectives_have_the_bounds_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let facts = RunFacts { slo: "p99_itl<=5ms p99_latency<=30ms avg_itl<=5ms".to_string(), ..closed(90, 1) };
    of_one_arrival(&path, facts);
    let page = half(&from_databases(&[path], Language::En).unwrap(), Language::En);
    let section = |id: &str| page.split(&format!("id=\"{id}\"")).nth(1).unwrap().split("<h2").next().unwrap();
    let cells = |html: &str| {
        html.split("<td").map(|cell| cell.split(['>', '<']).nth(1).unwrap_or("").to_string()).collect::<Vec<_>>()
    };
    let objectives = cells(section("objectives"));
    assert!(
        objectives[2].starts_with("0.0") && objectives[2].contains("* (≤ 0.0") && objectives[2].ends_with(") ✓"),
        "{objectives:?}"
    );
    assert_eq!(objectives[3..5], ["21.0* ✓", "0 ✓"], "a mean has no bound");
    assert!(section("objectives").contains("measurement error exceeds the figure: the true value"));
    let percentiles = section("percentiles");
    let row = percentiles.split("<td>99%</td>").nth(1).unwrap().split("</tr>").next().unwrap();
    assert!(cells(row)[2].starts_with("≤ "), "{row}");
    // The bound meets the objectives as the value does.
    assert!(!page.contains("this client's error exceeds"), "{page}");
}

/// The part of a page from these words to the end of their figure.
fn figure_of<'a>(page: &'a str, title: &str) -> &'a str {
    page.split(title).nth(1).unwrap_or_else(|| panic!("{title}")).split("</figure>").next().unwrap()
}

/// The same of a search, whose objective the bound does not meet.
#[test]
fn searches_have_the_bounds_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let plan = SearchPlan { space: Space { upper: 1.0, ..search("p99_itl<=1us").space }, ..search("p99_itl<=1us") };
    let slo = "p99_itl<=1us".to_string();
    of_one_arrival(&path, RunFacts { search: Some(plan), ..closed(90, 1) });
    let page = from_databases(std::slice::from_ref(&path), Language::En).unwrap();
    let sentence = "1 user at p99 ITL at most 0.001 ms: ";
    let open = "; this client&#39;s error exceeds p99 ITL, whose true value is at most 0.0";
    let quote = |page: &str| page.split("class=\"quote\">").nth(1).unwrap().split("</p>").next().unwrap().to_string();
    let of_search = quote(&half(&page, Language::En));
    assert!(of_search.starts_with(sentence) && of_search.contains(open), "{of_search}");
    assert!(quote(&half(&page, Language::Zh)).contains("；客户端误差超过 p99 ITL，其真实值不高于 0.0"));
    let table = page.split("Loads that were tried").nth(1).unwrap().split("<figure").next().unwrap();
    assert!(table.contains("* (≤ 0.0") && table.contains("measurement error exceeds the figure"), "{table}");
    let chart = figure_of(&page, "p99_itl · over load, with its bounds</span>");
    assert!(chart.contains("class=\"atmost") && !chart.contains("data-v=\"1|0|"), "{chart}");
    let runs = from_database(&path).unwrap();
    let stored = find_searches(&[StoredSearchRun { summary: &runs, refusals: &[] }]).remove(0);
    let json = search_json(&stored.plan, &stored.probes, &stored.selections, true);
    let bound = json["probes"][0]["metric_upper_bounds"]["p99_itl"].as_f64().unwrap();
    assert!(bound > 1e-6 && json["selections"][0]["uncertain_metrics"][0] == "p99_itl", "{json:#}");
    let text = search_glance::render(&[&runs], &stored, "", 80, false);
    let flowing = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flowing.contains(&open.replace("&#39;", "'")) && flowing.contains("≤ this client's error exceeds"),
        "{text}"
    );
    // The objectives of a run are quoted in the same way.
    let path = folder.path().join("b.db");
    of_one_arrival(&path, RunFacts { slo, ..closed(90, 1) });
    let of_run = quote(&half(&from_databases(&[path], Language::En).unwrap(), Language::En));
    assert!(of_run.starts_with(sentence) && of_run.contains(open), "{of_run}");
}

/// The same of the two sides of a comparison.
#[test]
fn comparisons_have_the_bounds_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    ["a.db", "b.db"].iter().for_each(|name| of_one_arrival(&path(name), closed(90, 1)));
    let [a, b] = ["a.db", "b.db"].map(|name| measured(&path(name)).unwrap());
    let sides = [("a.db", &a), ("b.db", &b)];
    let sides = sides.map(|(name, run)| Side { name: name.to_string(), runs: vec![run] });
    let comparison = Comparison::of_sides(sides.to_vec());
    let page = compare::html(&comparison, Language::En);
    assert_well_formed(&page);
    for row in
        ["P50 ITL", "P99 ITL", "P99 TPOT"].map(|name| page.split(&format!("<td>{name} (ms)</td>")).nth(1).unwrap())
    {
        let row = row.split("</tr>").next().unwrap();
        assert_eq!((row.matches("<td>≤ 0.0").count(), row.matches("<td>-</td>").count()), (2, 3), "{row}");
    }
    assert!(page.contains("≤ The client&#39;s measurement error") || page.contains("≤ The client's measurement error"));
    let chart = figure_of(&page, "TPOT percentiles</span>");
    assert!(chart.contains("class=\"atmost") && chart.contains("|≤ "), "{chart}");
    assert!(figure_of(&page, "TTFT percentiles</span>").contains("data-v=\"0|20;"), "what is exact is a line");
    let text = compare::render(&comparison, 120);
    let row = text.lines().find(|line| line.starts_with("| P99 TPOT")).unwrap();
    assert!(row.matches("≤ 0.0").count() == 2 && text.contains("\n≤ The client's measurement error"), "{text}");
}

/// A sweep of which no load can be quoted has a sentence too.
#[test]
fn the_top_has_a_sentence_if_too_few_requests_succeed_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [1, 4].map(|parallel| database(folder.path(), 90, parallel));
    let page = from_databases(&paths, Language::En).unwrap();
    let sentence = "At no load did 95 % of the requests succeed, at most 90.0 % at Concurrency 4.";
    assert!(page.contains(&format!("<p class=\"quote\">{sentence}</p>")), "{page}");
    assert!(page.contains("<p class=\"quote\">没有负载的请求成功率达到 95 %，最高为 90.0 %（并发 4）。</p>"));
}

#[test]
fn objectives_are_lines_of_the_charts() {
    let folder = tempfile::tempdir().unwrap();
    let facts = RunFacts { slo: "p99_ttft<=30ms p99_itl<=22ms max_latency<=70ms".to_string(), ..closed(90, 4) };
    let page = from_databases(&[database_of(folder.path(), facts)], Language::En).unwrap();
    for (title, count) in [
        ("Latency distribution (CDF)", 2),
        ("Percentile curves", 3),
        ("TTFT over time", 1),
        ("ITL over time", 1),
        ("Each request, by due time", 2),
    ] {
        let chart = page.split(&format!("{title}</span>")).nth(1).unwrap().split("</figure>").next().unwrap();
        assert_eq!(chart.matches("line guide").count(), count, "{title}");
    }
    // Over the loads of a sweep, also at values of the x axis.
    let facts =
        |parallel| RunFacts { slo: "tps>=30 avg_tpot<=25ms p99_ttft<=30ms".to_string(), ..closed(90, parallel) };
    let paths = [2, 8].map(|parallel| database_of(folder.path(), facts(parallel)));
    let page = from_databases(&paths, Language::En).unwrap();
    for (title, names) in [
        ("Tokens per second</span>", vec!["tps&gt;=30"]),
        ("TTFT over load</span>", vec!["p99_ttft&lt;=30ms"]),
        ("TPOT and ITL over load</span>", vec!["avg_tpot&lt;=25ms"]),
        ("Tokens per second and user</span>", vec!["avg_tpot&lt;=25ms"]),
        ("Speed of a user against throughput</span>", vec!["tps&gt;=30", "avg_tpot&lt;=25ms"]),
        ("TTFT against throughput</span>", vec!["p99_ttft&lt;=30ms", "tps&gt;=30"]),
    ] {
        let chart = figure_of(&page, title);
        assert_eq!(chart.matches("line guide").count(), names.len(), "{title}: {chart}");
        names.iter().for_each(|name| assert!(chart.contains(&format!("class=\"level\">{name}")), "{name}: {chart}"));
    }
    // And those of both sides of a comparison.
    let runs = paths.map(|path| measured(&path).unwrap());
    let side = |name: &str| Side { name: name.to_string(), runs: vec![&runs[0]] };
    let page = compare::html(&Comparison::of_sides(vec![side("a"), side("b")]), Language::En);
    assert!(figure_of(&page, "TTFT percentiles</span>").contains("class=\"level\">p99_ttft&lt;=30ms"));
}

#[test]
fn values_under_the_pointer_are_those_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = [1, 4].map(|parallel| database(folder.path(), 90, parallel)).to_vec();
    let page = from_databases(&paths, Language::En).unwrap();
    let chart = page.split("TTFT over load</span>").nth(1).unwrap().split("</figure>").next().unwrap();
    // TTFT is 20 to 36 ms; ticks are at the loads that were measured.
    let p99 = chart.split("data-name=\"p99\" data-v=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(p99, "1|36;4|36");
    assert!(chart.contains(" data-yu=\"ms\""), "{chart}");
    let ticks = chart.matches("text-anchor=\"middle\">").count();
    assert!(ticks == 2 && chart.contains(">4</text>"), "{chart}");
    let pareto = page.split("Speed of a user against throughput</span>").nth(1).unwrap();
    assert!(pareto.split("</figure>").next().unwrap().contains(">4</text>"));
}

#[test]
fn repeats_have_bars() {
    let folder = tempfile::tempdir().unwrap();
    let page = from_databases(&everything(folder.path()), Language::En).unwrap();
    // The two runs at concurrency 1 are alike, so their bars have no length; those of goodput differ from none.
    assert!(page.contains("Bars: lowest to highest of the runs"));
}

#[test]
fn a_page_per_gpu_is_for_runs_that_have_them() {
    let folder = tempfile::tempdir().unwrap();
    let run = |parallel| database_of(folder.path(), RunFacts { gpus: Some(2), ..closed(9, parallel) });
    let page = from_databases(&[run(1), run(4)], Language::En).unwrap();
    for words in
        ["tok/s/GPU", "<th>tok/s per GPU</th>", "Speed of a user against throughput of a GPU", "server with 2 GPUs"]
    {
        assert!(page.contains(words), "{words}");
    }
    let without = from_databases(&[database(folder.path(), 70, 3)], Language::En).unwrap();
    assert!(!without.contains("tok/s/GPU") && !without.contains("server with"));
}

#[test]
fn embeddings_have_a_page_without_figures_of_text() {
    let folder = tempfile::tempdir().unwrap();
    let run = |parallel: u32| {
        let facts = RunFacts { api: "openai_embedding".to_string(), stream: false, ..closed(90, parallel) };
        let mut block = Block::new(0);
        for index in 0..90 {
            push_ok(&mut block, index, index / u64::from(parallel) * 100, &[20 + index % 17]);
            let none = block.keep_arrivals(&[]);
            let record = block.records.last_mut().unwrap();
            record.arrivals = none;
            // A whole answer, of which only the end is known.
            (record.streamed, record.output_tokens) = (false, None);
            (record.first_token, record.last_token) = (None, None);
        }
        let path = folder.path().join(format!("{parallel}.db"));
        let messages =
            vec![CollectorMessage::Block(block), CollectorMessage::Worker(Box::new(report(Phase::Measured)))];
        collect(&path, start(facts, Save::Text), messages);
        path
    };
    let page = from_databases(&[run(1), run(4)], Language::En).unwrap();
    assert_well_formed(&page);
    let figures = page.split("id=\"definitions\"").next().unwrap();
    for words in ["TTFT", "ITL", "TPOT", "Output throughput", "tok/s per user", "Output tokens per second"] {
        assert!(!figures.contains(words), "{words}: {}", &figures[figures.find(words).unwrap().saturating_sub(300)..]);
    }
    assert!(figures.contains("<td>input 10</td>"));
    assert!(figures.contains("Latency over time") && figures.contains("Input throughput"));
}

#[test]
fn definitions_have_chinese_names() {
    let folder = tempfile::tempdir().unwrap();
    let page = half(&from_databases(&[database(folder.path(), 9, 1)], Language::Zh).unwrap(), Language::Zh);
    let definitions = page.rsplit("指标定义").next().unwrap();
    for row in definitions.split("<tr>").skip(2) {
        let name = row.split("</td>").next().unwrap();
        assert!(name.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)), "{name}");
    }
    assert!(definitions.contains("置信区间"));
}
