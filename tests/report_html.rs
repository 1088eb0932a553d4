//! The HTML report: well formed, self-contained and of bounded size, with one request and with many.

mod chinese;
mod records;

use std::path::{Path, PathBuf};

use records::{closed, collect, push_failed, push_ok, report, start};
use ringmark::plan::Save;
use ringmark::plan::sla::SearchPlan;
use ringmark::record::facts::{ConversationFacts, Refusal, RunFacts};
use ringmark::record::{Block, CollectorMessage, Failure, Outcome, Phase};
use ringmark::report::html::from_databases;
use ringmark::spec::{Language, SlaSpec, Spec};
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
    for external in ["src=", "href=", "@import", "url(", "fetch(", "NaN", "undefined"] {
        assert!(!page.contains(external), "{external}");
    }
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
    assert_eq!(page.matches("<svg").count(), 6 + 3 * 8);
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
        words.iter().for_each(|words| assert!(page.contains(words), "{words}"));
        // A figure of each aim, with its bound.
        assert_eq!((page.matches("<svg").count(), page.matches("line guide").count()), (2 + 6 + 3 * 8, 2));
    }
    add_refusals(&paths[2], &[Refusal { load: 8.0, why: "--parallel 8 is <too much>".to_string(), open_files: None }])
        .unwrap();
    let page = from_databases(&paths, Language::En).unwrap();
    assert_well_formed(&page);
    for words in ["parallel 8: --parallel 8 is &lt;too much&gt;", "the next load is parallel 6"] {
        assert!(page.contains(words), "{words}");
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
        let top = page.split("<details>").next().unwrap();
        words.iter().for_each(|words| assert!(top.contains(words), "{words}"));
        let places: Vec<usize> =
            [1, 4, 16].iter().map(|n| top.find(&format!("<td>{load} {n}</td>")).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
        let runs: Vec<usize> =
            [1, 4, 16].iter().map(|n| page.find(&format!("{load} {n}</summary>")).unwrap()).collect();
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
    assert_eq!(page.matches("Search for parallel").count(), 3);
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
        let page = from_databases(&paths, language).unwrap();
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
fn no_english_label_remains_on_a_chinese_page() {
    let folder = tempfile::tempdir().unwrap();
    let page = from_databases(&everything(folder.path()), Language::Zh).unwrap();
    for section in ["重复测试的波动", "各轮次指标", "SLO 未达标", "失败列表", "诊断", "已测负载", "无效："]
    {
        assert!(page.contains(section), "{section}");
    }
    assert_eq!(page.matches("<td>响应体无法解析</td>").count(), 3, "every class of failures is on the page");
    let page = Failure::ALL.iter().enumerate().fold(page, |page, (class, _)| {
        let text = format!("request req-{:08x} &lt;failed&gt;", class * 10 + 9);
        page.replace(&text, "")
    });
    chinese::assert_chinese(&page, &["http://127.0.0.1:1/v1/chat/completions", "p99_ttft"]);
}

#[test]
fn definitions_have_chinese_names() {
    let folder = tempfile::tempdir().unwrap();
    let page = from_databases(&[database(folder.path(), 9, 1)], Language::Zh).unwrap();
    let definitions = page.split("指标定义").nth(1).unwrap();
    for row in definitions.split("<tr>").skip(2) {
        let name = row.split("</td>").next().unwrap();
        assert!(name.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)), "{name}");
    }
    assert!(definitions.contains("置信区间"));
}
