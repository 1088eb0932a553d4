//! Findings in the language of the page. They are made and stored in English; each is one of a few sentences with
//! figures in it, so the figures are taken out of it and put into the same sentence in Chinese. What is no such sentence,
//! such as a server's own words, stays as it is.

mod plan;
mod search;

use crate::record::finding::Finding;
use crate::report::i18n::word;
use crate::report::language::Language;

/// A finding's code, a part of its text with `{}` for each figure, and the same in Chinese with their numbers.
pub struct Template {
    pub code: &'static str,
    pub en: &'static str,
    zh: &'static str,
}

const fn said(code: &'static str, en: &'static str, zh: &'static str) -> Template {
    Template { code, en, zh }
}

/// The code of what stands inside sentences.
const PART: &str = "part";

/// The text of a finding.
pub fn text(finding: &Finding, language: Language) -> String {
    sentence(&finding.code, &finding.text, language)
}

/// A text that is said under this code.
pub fn sentence(code: &str, text: &str, language: Language) -> String {
    if language == Language::En {
        return text.to_string();
    }
    let mut rest = text;
    let mut out = String::new();
    while !rest.is_empty() {
        let of_code = all().filter(|template| template.code == code);
        match of_code.filter_map(|template| translated(template, rest)).next() {
            Some((zh, left)) => {
                out.push_str(&zh);
                rest = left.trim_start();
            }
            None => return text.to_string(),
        }
    }
    out
}

fn all() -> impl Iterator<Item = &'static Template> {
    TEMPLATES.iter().chain(plan::TEMPLATES).chain(search::TEMPLATES)
}

/// The beginning of `text` in Chinese, and what is left of it.
fn translated<'a>(template: &Template, text: &'a str) -> Option<(String, &'a str)> {
    let mut pieces = template.en.split("{}");
    let mut rest = text.strip_prefix(pieces.next()?)?;
    let mut zh = template.zh.to_string();
    for (number, piece) in pieces.enumerate() {
        let end = if piece.is_empty() { rest.len() } else { rest.find(piece)? };
        let figure = sentence(PART, word(&rest[..end], Language::Zh), Language::Zh);
        zh = zh.replace(&format!("{{{number}}}"), &figure);
        rest = &rest[end + piece.len()..];
    }
    Some((zh, rest))
}

/// Every sentence of a finding, the longer one first where one begins like another.
pub const TEMPLATES: &[Template] = &[
    said(
        "totals",
        "{} requests were scheduled but {} are accounted for: records were lost. Run again; if it happens again, report \
         it as a bug.",
        "计划 {0} 个请求，只有 {1} 个有记录：记录有丢失。请重新测试；若再次出现，请报告此缺陷。",
    ),
    said(
        "store",
        "{} requests could not be written to the database. Make room on its disk and run again.",
        "{0} 个请求未能写入数据库。请清理磁盘空间后重新测试。",
    ),
    said(
        "little",
        "Little's law does not hold: {} requests were in flight on average, rate times latency gives {}. Records were \
         lost or instants are wrong; run again and report it as a bug.",
        "不符合 Little 定律：平均在途 {0} 个请求，而速率乘以延迟为 {1}。记录有丢失或时刻有误；请重新测试并报告此缺陷。",
    ),
    said(
        "cap",
        "{} requests were in flight at once, --parallel allows {}. Report it as a bug.",
        "同时在途 {0} 个请求，而 --parallel 只允许 {1}。请报告此缺陷。",
    ),
    said(
        "killed",
        "The run was killed before it ended: these are the requests that were stored by then, and nothing is known of \
         the client's own error.",
        "测试在结束前被强制终止：这里是当时已存储的请求，客户端自身误差未知。",
    ),
    said(
        "interrupted",
        "The run was interrupted: {} request{} not sent, and {} request{} still in flight at its end.",
        "测试被中断：{0} 个请求未发送，{2} 个请求在结束时仍在途。",
    ),
    said("interrupted", "The run was interrupted: {} request{} not sent.", "测试被中断：{0} 个请求未发送。"),
    said(
        "interrupted",
        "The run was interrupted: {} request{} still in flight at its end.",
        "测试被中断：{0} 个请求在结束时仍在途。",
    ),
    said("interrupted", "The run was interrupted.", "测试被中断。"),
    said(
        "unfinished",
        "No request ended before the run did ({} were in flight).",
        "测试结束前没有一个请求完成（{0} 个在途）。",
    ),
    said(
        "unfinished",
        "{} of the requests sent ({} of {}) had not ended when the run did. Latencies are those of the others only: the \
         longest answers are missing.",
        "已发送的请求中有 {0}（{2} 个中的 {1} 个）在测试结束时尚未完成。延迟只统计其余请求：最长的回答缺失。",
    ),
    said("unfinished", "Raise --drain or --duration.", "请增大 --drain 或 --duration。"),
    said(
        "failures",
        "Every request that ended failed; the table of failures says why.",
        "已结束的请求均失败，原因见失败列表。",
    ),
    said("failures", "Every request failed; the table of failures says why.", "所有请求均失败，原因见失败列表。"),
    said(
        "failures",
        "{} of the requests failed. Latencies are those of the others only, which may have had an easier time for it; \
         see the table of failures.",
        "{0} 的请求失败。延迟只统计其余请求，它们可能因此更快；见失败列表。",
    ),
    said(
        "send_lag",
        "1 % of the requests left us more than {} late (median time to first token {}). It is part of TTFT and latency. \
         Give more --workers or cores, lower the rate, or use --spin.",
        "1 % 的请求迟发超过 {0}（首 token 时间中位数 {1}），已计入 TTFT 与延迟。请增加 --workers 或核心、降低速率，或使用 --spin。",
    ),
    said(
        "rate",
        "The schedule offered {} requests/s, {} went onto the wire: {} request{} left without a connection. The table of \
         failures says why.",
        "计划每秒 {0} 个请求，实际发出 {1} 个：{2} 个请求未能建立连接，原因见失败列表。",
    ),
    said(
        "rate",
        "The schedule offered {} requests/s, {} went onto the wire. Give more --workers or cores, or lower the rate.",
        "计划每秒 {0} 个请求，实际发出 {1} 个。请增加 --workers 或核心，或降低速率。",
    ),
    said(
        "growth",
        "Requests in flight grew through the run, from {} to {}: the arrival rate exceeds capacity, and the figures \
         depend on how long the run was. Lower --rate.",
        "在途请求在测试中持续增加，从 {0} 到 {1}：到达速率超过服务能力，结果取决于测试时长。请降低 --rate。",
    ),
    said(
        "concurrency",
        "On average {} requests were in flight while --parallel asked for {}: between two requests a lane stood idle \
         (turnaround below). Give more --workers or cores.",
        "平均在途 {0} 个请求，而 --parallel 为 {1}：两个请求之间通道有空闲（见周转）。请增加 --workers 或核心。",
    ),
    said(
        "receive_lag",
        "1 % of the reads were looked at more than {} after they had arrived (median ITL {}).",
        "1 % 的读取在数据到达 {0} 之后才处理（ITL 中位数 {1}）。",
    ),
    said(
        "receive_lag",
        "Arrivals are the kernel's stamps, so the figures stand; only our next sends are later for it.",
        "到达时刻取自内核时间戳，结果有效；只有后续发送因此推迟。",
    ),
    said(
        "receive_lag",
        "Arrivals are the kernel's stamps, but tokens that came in one read share the last one's: see the bounds of ITL.",
        "到达时刻取自内核时间戳，但同一次读取的多个 token 共用最后一个的时间戳：见 ITL 的误差界。",
    ),
    said(
        "receive_lag",
        "{} of the reads have no kernel stamp and carry this error. Give more --workers or cores.",
        "{0} 的读取没有内核时间戳，带有此误差。请增加 --workers 或核心。",
    ),
    said(
        "stamps",
        "{} of the reads came without the kernel's receive stamp (Unix sockets never have one): their arrival is the \
         instant we saw them, late by the receive lag.",
        "{0} 的读取没有内核接收时间戳（Unix 套接字从来没有）：以读取时刻作为到达时刻，偏晚一个接收滞后。",
    ),
    said(
        "coalesced",
        "{} of the reads carried two or more output events: the server, or a proxy before it, sends them together, or \
         they queued up on the way. Events of one read share one instant, so low ITL percentiles are 0; TPOT and latency \
         are not touched.",
        "{0} 的读取含两个以上输出事件：服务端或其代理合并发送，或在途中排队。同一次读取的事件时刻相同，故低位 ITL 百分位为 0；TPOT 与延迟不受影响。",
    ),
    said(
        "tokens",
        "The server sent no token counts; figures that need them are shown as '-'.",
        "服务端未返回 token 数；相关指标显示为“-”。",
    ),
    said(
        "tokens",
        "{} of {} answers came without token counts: token throughput is a lower bound, and figures per request are \
         those of the others.",
        "{1} 个回答中有 {0} 个没有 token 数：token 吞吐量为下界，每请求指标只统计其余回答。",
    ),
    said(
        "switches",
        "The workers were pushed off their cores {} times a second each: something else runs there. Stop it, or choose \
         quiet --cores.",
        "每个工作线程每秒被挤出核心 {0} 次：该核心上有其他程序。请停止它，或用 --cores 选择空闲核心。",
    ),
    said(
        "retried",
        "{} request{} sent again on a fresh connection, because the server had closed the reused one without a word.",
        "{0} 个请求在新连接上重发，因为服务端不加通知地关闭了复用的连接。",
    ),
    said(
        "worker_cpu",
        "{} of {} workers used more than {} of their core (the busiest {}): they may hold the server up. Give more \
         --workers or cores.",
        "{1} 个工作线程中有 {0} 个占用核心超过 {2}（最忙的为 {3}）：客户端可能成为瓶颈。请增加 --workers 或核心。",
    ),
    said(
        "pinning",
        "{} worker{} could not be pinned to a core; choose --cores that exist.",
        "{0} 个工作线程无法绑定核心；请选择存在的 --cores。",
    ),
    said(
        "buffers",
        "The receive ring ran out of buffers {} times: bytes waited in the kernel, stamps are not touched.",
        "接收环缓冲区用尽 {0} 次：数据在内核中等待，时间戳不受影响。",
    ),
    said(
        "warm_up",
        "The first {} requests look like a warm-up (MSER-5): the average latency is {} s with them and {} s without. Add \
         --warmup-num {} if only the steady state matters.",
        "前 {0} 个请求像是预热阶段（MSER-5）：含它们的平均延迟为 {1} s，不含为 {2} s。若只关心稳态，请加 --warmup-num {3}。",
    ),
    said(
        "drift",
        "The average latency {} through the run, from {} s to {} s: it was not in a steady state, and its figures depend \
         on how long it was.",
        "平均延迟在测试中{0}，从 {1} s 到 {2} s：未达到稳态，结果取决于测试时长。",
    ),
    said("drift", "Lower --rate, or measure for longer.", "请降低 --rate，或延长测试。"),
    said("drift", "Measure for longer, or with more --warmup-num.", "请延长测试，或增加 --warmup-num。"),
    said(
        "server_apart",
        "{} seen here is {} {} than {} says, beyond the width of its buckets and our own error.",
        "此处测得的 {0} 比 {3} 自报{2} {1}，超出其分桶宽度与客户端误差。",
    ),
    said(
        "server_apart",
        "The network, a proxy or the server's frontend takes it; see where the TTFT went.",
        "差值来自网络、代理或服务端前端；见 TTFT 的构成。",
    ),
    said(
        "server_apart",
        "No part of the way can explain that: the server's figure is not of these requests alone, or wrong.",
        "途中任何环节都无法解释：服务端指标包含其他请求，或有误。",
    ),
    said("server_counts", "{} counted otherwise than we did: {}", "{0} 的计数与客户端不同：{1}"),
    said(
        "server_restarted",
        "The counters of {} began again during the run: it was restarted.",
        "{0} 的计数器在测试中重新开始：服务曾重启。",
    ),
    said("server_died", "The server ended during the run: {}", "服务在测试中退出：{0}"),
    said("server_metrics", "The server's metrics cannot be scraped: {}", "无法抓取服务端指标：{0}"),
    said(
        "server_metrics",
        "{} of {} looks at the server's metrics ({}) failed: {}. The run went on without them; --server-metrics URL says \
         where they are.",
        "{1} 次查看服务端指标（{2}）中有 {0} 次失败：{3}。测试未受影响；可用 --server-metrics URL 指定地址。",
    ),
    said(
        "server_metrics",
        "The page {} has no metrics of vLLM, SGLang, TGI, LMDeploy or llama.cpp: it is stored, but nothing can be \
         compared.",
        "页面 {0} 没有 vLLM、SGLang、TGI、LMDeploy 或 llama.cpp 的指标：已存储，但无法对比。",
    ),
    said(
        "shards",
        "{} shards were merged. Their instants are joined by each machine's wall clock, so figures over several hosts, \
         such as concurrency, are as exact as these agree; figures of single requests are not touched.",
        "合并了 {0} 个分片。各机器时刻以其系统时钟对齐，跨主机指标（如并发）的精度取决于时钟一致性；单个请求的指标不受影响。",
    ),
    said(
        "conversations",
        "{} of {} conversations ended with a failed turn: what was to come after it counts as unsent.",
        "{1} 个对话中有 {0} 个因某一轮失败而结束：其后各轮计为未发送。",
    ),
    said(
        "at_once",
        "At least half of the answers came all at once, though they have several tokens: TPOT is 0 because nothing was \
         seen of the time between them, and TTFT is the whole latency. The server, or a proxy before it, holds text back.",
        "至少一半的回答虽有多个 token 却一次到达：看不到 token 之间的时间，故 TPOT 为 0，TTFT 即整个延迟。服务端或其代理积压了输出。",
    ),
    said(
        "own_error",
        "Our own error may have moved the {} of {} by {} (it is {}): see the bounds. Give more --workers or cores, a \
         quieter machine, or a lower load.",
        "客户端自身误差可能使 {1} 的 {0} 偏移 {2}（其值为 {3}）：见误差界。请增加 --workers 或核心、换更安静的机器，或降低负载。",
    ),
    said(
        "held_up",
        "{} of the gaps between tokens may be off by up to {}: a worker left its sockets alone for up to {}, and what came \
         in meanwhile on one connection shares a stamp, the last one's. ITL has gaps that are too long and zeros behind \
         them; see the bounds. Give more --workers or cores, or a quieter machine.",
        "{0} 的 token 间隔可能偏差至 {1}：某个工作线程最长 {2} 未读取套接字，其间同一连接到达的数据共用最后一个的时间戳。\
         ITL 因此含有过长的间隔及其后的零；见误差界。请增加 --workers 或核心，或换更安静的机器。",
    ),
    said(
        "calibration",
        "The calibration of this machine does not fit this run: {}. Stamps are taken to be good to {}; 'ringmark rig \
         --calibrate' with this load says better.",
        "本机校准与此次测试不符：{0}。时间戳误差按 {1} 计；以此负载运行 'ringmark rig --calibrate' 可得更准的值。",
    ),
    said(
        "witness",
        "The witness has too few samples of {} to compare ({} requests within the load): let the run last longer, or give \
         --witness more connections.",
        "旁证的 {0} 样本太少，无法比较（负载期间 {1} 个请求）：请延长测试，或增加 --witness 的连接数。",
    ),
    said("witness", "There is no witness: {}.", "没有旁证：{0}。"),
    said(
        "api_program",
        "--api {} parse: {}. Token counts and texts are those read while the answers arrived{}.",
        "--api {0} parse：{1}。token 数与文本为回答到达时读取的{2}。",
    ),
    said(PART, "; the answers are in the database", "；回答保存在数据库中"),
    said("witness", "{} of the {} requests of the witness failed.", "旁证的 {1} 个请求中有 {0} 个失败。"),
    said(
        "witness",
        "The witness saw another {} than the load: {}. Either the server treats the load's requests differently (their \
         order, their number on a connection, a cache), or this client is in their way: see its own figures.",
        "旁证测得的 {0} 与负载不同：{1}。要么服务端对负载请求的处理不同（顺序、连接上的请求数、缓存），要么受客户端影响：见客户端自身指标。",
    ),
    said(
        "server_times_apart",
        "Request by request, {} is longer here than the server says, by {} beyond what network, frontend, a step of the \
         engine and our own error should take: look at a proxy, the network, or the server's frontend.",
        "逐请求对比，此处的 {0} 比服务端自报的长，超出网络、前端、引擎一步与客户端误差应有部分 {1}：请检查代理、网络或服务端前端。",
    ),
    said(
        "server_times_apart",
        "Request by request, the server says a longer {} than passed here, by {} beyond our own error. Its time lies \
         within ours, so its figure is wrong, or of something else.",
        "逐请求对比，服务端自报的 {0} 比此处经过的时间更长，超出客户端误差 {1}。其时间应在客户端时间之内，故其指标有误或另有所指。",
    ),
    said(
        "visualizer",
        "{} points of the curves did not reach {}, which could not follow; the results are complete",
        "{0} 个曲线点未送达 {1}（跟不上）；最终结果完整",
    ),
];

#[cfg(test)]
pub mod tests {
    use super::*;

    const SOURCES: [&str; 12] = [
        include_str!("../../run/mod.rs"),
        include_str!("../../run/plugin_parse.rs"),
        include_str!("../../server/metrics.rs"),
        include_str!("../../stats/findings.rs"),
        include_str!("../../stats/findings/outcome.rs"),
        include_str!("../../stats/server_timings.rs"),
        include_str!("../../stats/measurement_error.rs"),
        include_str!("../../stats/witness.rs"),
        include_str!("../../visualizer/feed.rs"),
        include_str!("../../stats/steady.rs"),
        include_str!("../../stats/reconcile.rs"),
        include_str!("../shards.rs"),
    ];

    /// Source text with the lines of its literals joined.
    pub fn joined(source: &str) -> String {
        let lines = source.split("\\\n").enumerate();
        lines.map(|(index, part)| if index > 0 { part.trim_start() } else { part }).collect()
    }

    #[test]
    fn every_finding_has_its_sentence_and_every_sentence_its_finding() {
        let sources: Vec<String> = SOURCES.iter().map(|source| joined(source)).collect();
        for source in &sources {
            for call in source.split("Finding::").skip(1) {
                let kind = call.split('(').next().unwrap_or_default();
                let code = call.split('"').nth(1).unwrap_or_default();
                // What the plan and the engine note, sentence by sentence, is looked at in `plan`.
                if ["note", "caution", "void"].contains(&kind) {
                    assert!(all().any(|template| template.code == code), "{code} has no Chinese text");
                }
            }
        }
        for template in TEMPLATES {
            for piece in template.en.split("{}").map(str::trim).filter(|piece| piece.len() > 3) {
                assert!(
                    sources.iter().any(|source| source.contains(piece)),
                    "{}: '{piece}' is not said",
                    template.code
                );
            }
        }
    }

    #[test]
    fn figures_stand_in_the_chinese_text() {
        let zh = |finding: Finding| text(&finding, Language::Zh);
        assert_eq!(
            zh(Finding::note("interrupted", "The run was interrupted: 7 requests were not sent.")),
            "测试被中断：7 个请求未发送。"
        );
        let drift = "The average latency rose through the run, from 0.100 s to 0.250 s: it was not in a steady state, and \
                     its figures depend on how long it was. Measure for longer, or with more --warmup-num.";
        let expected = "平均延迟在测试中上升，从 0.100 s 到 0.250 s：未达到稳态，结果取决于测试时长。请延长测试，或增加 --warmup-num。";
        assert_eq!(zh(Finding::caution("drift", drift)), expected);
        let warm = "The first 30 requests look like a warm-up (MSER-5): the average latency is 0.3 s with them and 0.2 s \
                    without. Add --warmup-num 30 if only the steady state matters.";
        assert!(zh(Finding::note("warm_up", warm)).ends_with("请加 --warmup-num 30。"));
        assert_eq!(zh(Finding::note("plan", "something new")), "something new");
        assert_eq!(text(&Finding::note("plan", "as it is"), Language::En), "as it is");
    }
}
