//! What was run: command, server, load, prompts, seeds, machine, client.

use serde_json::Value as Json;

use super::command::command;
use super::escape::{escape, prose};
use super::run::Stored;
use crate::record::facts::{Mode, RunFacts};
use crate::report::language::Language;
use crate::report::load_name::load_name;
use crate::report::table::digits;
use crate::stats::Summary;
use crate::stats::quantile::Series;
use crate::time::format_ns;

/// What was run: names, and values as HTML. Where runs differ, all values are given.
pub fn rows(runs: &[Stored<'_>], language: Language) -> Vec<(&'static str, String)> {
    let pick = |en: &'static str, zh: &'static str| language.pick(en, zh);
    let text = |of: &dyn Fn(&Stored<'_>) -> String| escape(&distinct(runs, of));
    let mut rows: Vec<(&'static str, String)> = Vec::new();
    rows.extend(command(runs).map(|command| (pick("Command", "命令"), format!("<code>{}</code>", prose(&command)))));
    rows.push((pick("Server", "服务端"), text(&|run| server(run))));
    rows.push((pick("Model", "模型"), text(&|run| run.run.facts.model.clone())));
    rows.push((pick("Load", "负载"), escape(&loads(runs, language))));
    rows.push((pick("Requests", "请求"), escape(&requests(runs, language))));
    rows.push((pick("Prompts", "提示词"), text(&|run| prompts(run, language))));
    rows.push((pick("Tokens", "token 数"), escape(&tokens(runs, language))));
    rows.push((pick("Seeds", "种子"), text(&|run| seeds(&run.run.facts, language))));
    rows.push((pick("Machine", "测试机"), text(&|run| machine(&run.run.rig_json, language))));
    rows.push((pick("Client", "客户端"), text(&|run| client(&run.run.facts, language))));
    rows.push((pick("Started", "开始于"), escape(&started(runs))));
    rows
}

/// The values of all runs, each once, in the order of the runs.
fn distinct(runs: &[Stored<'_>], of: &dyn Fn(&Stored<'_>) -> String) -> String {
    let mut all: Vec<String> = Vec::new();
    for value in runs.iter().map(of).filter(|value| !value.is_empty()) {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    if all.is_empty() { "-".to_string() } else { all.join("; ") }
}

/// The server's address and API, and its program where its metrics name it.
fn server(run: &Stored<'_>) -> String {
    let facts = &run.run.facts;
    let program = run.summary.server.as_ref().map_or_else(String::new, |server| format!(" · {}", server.server));
    let addresses = match facts.addresses.is_empty() {
        true => String::new(),
        false => format!(" ({})", facts.addresses.join(", ")),
    };
    format!("{}{addresses} · API {}{program}", facts.url, facts.api)
}

/// The loads in words, at most so many.
fn loads(runs: &[Stored<'_>], language: Language) -> String {
    const MOST: usize = 20;
    let mut names: Vec<String> = Vec::new();
    for name in runs.iter().map(|run| load_name(&run.run.facts, language)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let kind = match runs.first().map(|run| run.run.facts.mode) {
        Some(Mode::Closed) => language.pick("closed loop", "闭环"),
        Some(Mode::Paced) => language.pick("schedule with a cap", "带并发上限的调度"),
        Some(Mode::Open) => language.pick("open loop", "开环"),
        None => "-",
    };
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    let mut text = format!("{kind}{}{}", language.pick(": ", "："), names.join(language.pick(", ", "，")));
    if more > 0 {
        text += &match language {
            Language::En => format!(" and {more} more"),
            Language::Zh => format!(" 等，另有 {more} 档"),
        };
    }
    text
}

/// How many requests each run has, and how they are sent.
fn requests(runs: &[Stored<'_>], language: Language) -> String {
    let mut counts: Vec<String> = Vec::new();
    for count in runs.iter().filter_map(|run| run.run.facts.requests).map(|count| count.to_string()) {
        if !counts.contains(&count) {
            counts.push(count);
        }
    }
    let counts = counts.join(language.pick(", ", "、"));
    let sent = distinct(runs, &|run| way_of_sending(&run.run.facts, language));
    match (counts.is_empty(), language) {
        (true, _) => sent,
        (false, Language::En) => format!("{counts} per run · {sent}"),
        (false, Language::Zh) => format!("每次 {counts} 个 · {sent}"),
    }
}

fn way_of_sending(facts: &RunFacts, language: Language) -> String {
    let mut parts = Vec::new();
    let times = [
        (language.pick("for", "时长"), facts.duration_ns.unwrap_or(0)),
        (language.pick("ramp", "渐增"), facts.ramp_ns),
    ];
    parts.extend(times.iter().filter(|time| time.1 > 0).map(|(name, ns)| format!("{name} {}", format_ns(*ns))));
    if let Some(arrival) = &facts.arrival {
        parts.push(format!("{} {arrival}", language.pick("arrivals", "到达过程")));
    }
    if facts.warmup_requests > 0 {
        parts.push(match language {
            Language::En => format!("{} for warm-up", facts.warmup_requests),
            Language::Zh => format!("预热 {} 个", facts.warmup_requests),
        });
    }
    parts.push(match facts.stream {
        true => language.pick("streamed", "流式响应").to_string(),
        false => language.pick("not streamed", "非流式响应").to_string(),
    });
    parts.join(" · ")
}

fn prompts(run: &Stored<'_>, language: Language) -> String {
    let facts = &run.run.facts;
    let mut parts = vec![facts.dataset.clone()];
    if facts.conversations.is_some() {
        parts.push(language.pick("conversations", "多轮对话").to_string());
    }
    if facts.distinct_prompts {
        parts.push(language.pick("no shared prefix", "无共同前缀").to_string());
    }
    if facts.ignore_eos {
        parts.push("ignore_eos".to_string());
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" · ")
}

/// Input and output tokens of the succeeded requests of all runs.
fn tokens(runs: &[Stored<'_>], language: Language) -> String {
    let of = |series: fn(&Summary) -> &Series, name: &str| {
        let all: Vec<&Series> = runs.iter().map(|run| series(run.summary)).filter(|series| series.count > 0).collect();
        let count: usize = all.iter().map(|series| series.count).sum();
        let sum: f64 = all.iter().filter_map(|series| Some(series.mean? * series.count as f64)).sum();
        let low = all.iter().filter_map(|series| series.min).reduce(f64::min)?;
        let high = all.iter().filter_map(|series| series.max).reduce(f64::max)?;
        let mean = digits(sum / count as f64, 0);
        Some(match low < high {
            true => format!("{name} {mean} ({low} … {high})"),
            false => format!("{name} {low}"),
        })
    };
    let parts = [
        of(|s| &s.series.input_tokens, language.pick("input", "输入")),
        of(|s| &s.series.output_tokens, language.pick("output", "输出")),
    ];
    // Embeddings and rankings have no output.
    let sides = if runs.iter().any(|run| run.summary.generates_text()) { 2 } else { 1 };
    let known: Vec<String> = parts.into_iter().take(sides).flatten().collect();
    if known.is_empty() { "-".to_string() } else { known.join(" · ") }
}

fn seeds(facts: &RunFacts, language: Language) -> String {
    format!(
        "{} {} · {} {}",
        language.pick("data seed", "数据种子"),
        facts.seed,
        language.pick("salt", "盐值"),
        facts.salt
    )
}

/// Processor, cores and kernel of the client's machine, from the facts that are stored with a run.
fn machine(rig_json: &str, language: Language) -> String {
    let rig: Json = serde_json::from_str(rig_json).unwrap_or_default();
    let word = |key: &str| rig.get(key).and_then(Json::as_str).map(str::to_string);
    let cores = rig.get("cores").and_then(Json::as_u64).filter(|&cores| cores > 0);
    let virtual_machine: Vec<&str> =
        rig.get("virtualisation").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect();
    let kinds = virtual_machine.iter().map(|kind| match (language, *kind) {
        (Language::Zh, "container") => "容器".to_string(),
        (Language::Zh, kind) => kind.replace("virtual machine", "虚拟机"),
        (Language::En, kind) => kind.to_string(),
    });
    let cores = cores.map(|cores| match language {
        Language::En => format!("{cores} usable core{}", if cores == 1 { "" } else { "s" }),
        Language::Zh => format!("可用 {cores} 核"),
    });
    let kernel = word("kernel").map(|kernel| format!("{} {kernel}", language.pick("Linux", "Linux")));
    let parts = word("cpu_model").into_iter().chain(cores).chain(kinds).chain(kernel);
    parts.collect::<Vec<_>>().join(" · ")
}

fn client(facts: &RunFacts, language: Language) -> String {
    let workers = match (language, facts.workers) {
        (Language::En, 1) => "1 worker".to_string(),
        (Language::En, workers) => format!("{workers} workers"),
        (Language::Zh, workers) => format!("{workers} 个工作线程"),
    };
    let mut parts = vec![format!("ringmark {}", facts.version), workers];
    parts.extend(facts.spin.then(|| language.pick("spinning", "自旋").to_string()));
    parts.extend(facts.cold.then(|| language.pick("cold connections", "冷连接").to_string()));
    if let Some(gpus) = facts.gpus {
        parts.push(match language {
            Language::En => format!("server with {gpus} GPU{}", if gpus == 1 { "" } else { "s" }),
            Language::Zh => format!("服务端 {gpus} 个 GPU"),
        });
    }
    parts.join(" · ")
}

/// The start of the earliest run, in UTC.
fn started(runs: &[Stored<'_>]) -> String {
    let first = runs.iter().map(|run| run.run.clock.unix_ns).min().unwrap_or(0);
    let at = jiff::Timestamp::from_nanosecond(i128::from(first));
    at.map_or_else(|_| "-".to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}
