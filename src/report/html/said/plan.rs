//! What is said before a run and while it is set up, in Chinese: the notes of plans, of the making of requests and of the
//! engine.

use super::{PART, Template, said};

/// Every sentence, the longer one first where one begins like another.
pub const TEMPLATES: &[Template] = &[
    said("engine", "worker {} could not be pinned to core {}", "工作线程 {0} 无法绑定到核心 {1}"),
    said(
        "engine",
        "the server closes its connections after each answer without saying so: every request gets a new one",
        "服务端在每个回答后不加通知地关闭连接：每个请求使用新连接",
    ),
    said(
        "engine",
        "io_uring is not usable here ({}): receiving with epoll instead",
        "此处无法使用 io_uring（{0}）：改用 epoll 接收",
    ),
    said(
        "engine",
        "the receive path without io_uring was asked for: receiving with epoll instead",
        "要求不使用 io_uring：改用 epoll 接收",
    ),
    said("engine", "{}: receiving with epoll instead", "{0}：改用 epoll 接收"),
    said(
        "plan",
        "--open-loop has no cap on requests in flight: --parallel is not used",
        "--open-loop 不限制在途请求数：--parallel 未使用",
    ),
    said(
        "plan",
        "--insecure: the server's certificate is NOT verified, anybody on the way can read and answer",
        "--insecure：未验证服务端证书，途中任何人都可读取和应答",
    ),
    said(
        "plan",
        "{} is set, and not used: requests go straight to the server (--proxy env follows it)",
        "已设置 {0} 但未使用：请求直接发往服务端（--proxy env 可使用它）",
    ),
    said(
        "plan",
        "requests go through the proxy {}: it is part of what is measured",
        "请求经过代理 {0}：它是被测对象的一部分",
    ),
    said("plan", "--proxy is not used for {}: it is reached straight", "--proxy 不用于 {0}：直接连接"),
    said(
        "plan",
        "--url does not end in an endpoint of this API; using {}: requests go to {}",
        "--url 不以此接口的端点结尾；使用 {0}：请求发往 {1}",
    ),
    said("plan", "{}: requests go to {}", "{0}：请求发往 {1}"),
    said(
        PART,
        "--tokenize-prompt sends token ids, which /chat/completions does not take",
        "--tokenize-prompt 发送 token id，而 /chat/completions 不接受",
    ),
    said(PART, "--dataset {} is about bare prompts", "--dataset {0} 使用不带对话格式的提示词"),
    said(
        "plan",
        "--witness {} adds to the load of --parallel {}: the server has up to {} requests at once",
        "--witness {0} 叠加在 --parallel {1} 的负载之上：服务端同时最多有 {2} 个请求",
    ),
    said(
        "plan",
        "{} workers share {} cores: expect receive lag; prefer fewer --workers",
        "{0} 个工作线程共用 {1} 个核心：会有接收滞后；建议减少 --workers",
    ),
    said(
        "plan",
        "--parallel {} keeps only {} of {} workers busy; the others are left out",
        "--parallel {0} 只能让 {2} 个工作线程中的 {1} 个忙碌；其余不启用",
    ),
    said("plan", "--prompt is given: the dataset is not read", "已给出 --prompt：不读取数据集"),
    said(
        "plan",
        "--api {} has no field for {}: not sent (--extra-args sends any field)",
        "--api {0} 没有 {1} 对应的字段：未发送（--extra-args 可发送任意字段）",
    ),
    said(
        "plan",
        "--stream: --api {} answers in one piece, nothing is streamed",
        "--stream：--api {0} 一次返回整个回答，没有流式输出",
    ),
    said(
        "plan",
        "--query-template has a prompt of its own and no %p: every request is the same",
        "--query-template 自带提示词且没有 %p：所有请求相同",
    ),
    said(
        "plan",
        "{} of {} random texts could not be brought to their exact length; the farthest is {} tokens off \
         (--tokenize-prompt sends exact ids)",
        "{1} 个随机文本中有 {0} 个无法达到精确长度；最多相差 {2} 个 token（--tokenize-prompt 可发送精确的 id）",
    ),
    said("plan", "calibrations are not used: {}", "未使用校准：{0}"),
    said(
        "plan",
        "the calibration in {} is not used: {}; 'ringmark rig --calibrate' makes a new one",
        "未使用 {0} 中的校准：{1}；运行 'ringmark rig --calibrate' 可重新校准",
    ),
    said(PART, "it was measured on another machine or kernel", "它在另一台机器或内核上测得"),
    said(PART, "it is {} days old", "它已有 {0} 天"),
    said(PART, "it was measured with --parallel {}, this run had {}", "它在 --parallel {0} 下测得，此次测试为 {1}"),
    said(PART, "it was measured at {} requests/s, this run had {}", "它在每秒 {0} 个请求下测得，此次测试为 {1}"),
    said(PART, "it was measured at {} events/s, this run had {}", "它在每秒 {0} 个事件下测得，此次测试为 {1}"),
];

#[cfg(test)]
pub mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::report::html::said::sentence;
    use crate::report::html::said::tests::joined;
    use crate::report::language::Language;

    /// Where notes come from; `rig` has notes of its own, which no report shows as findings.
    const ROOMS: [&str; 4] = ["spec", "workload", "engine", "cli"];

    /// Every source file below, by its path within `src`, with the lines of its literals joined and without tests.
    fn sources(at: &Path, found: &mut Vec<(String, String)>) {
        if at.is_dir() {
            fs::read_dir(at).unwrap().for_each(|entry| sources(&entry.unwrap().path(), found));
        } else if at.extension().is_some_and(|extension| extension == "rs") {
            let text = joined(&fs::read_to_string(at).unwrap());
            let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_string();
            found.push((at.display().to_string(), text));
        }
    }

    fn all_sources() -> Vec<(String, String)> {
        let mut found = Vec::new();
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        ROOMS.iter().for_each(|room| sources(&src.join(room), &mut found));
        found
    }

    /// The literal with which an argument begins, `format!(` aside.
    fn literal(argument: &str) -> Option<&str> {
        let begin = argument.trim_start().trim_start_matches("format!(").trim_start().strip_prefix('"')?;
        let quote = begin.char_indices().find(|(at, c)| *c == '"' && !begin[..*at].ends_with('\\'));
        quote.map(|(end, _)| &begin[..end])
    }

    /// A literal of `format!` with something in each of its places.
    pub fn filled(literal: &str) -> String {
        let mut out = String::new();
        for (index, part) in literal.replace("{FLAG}", "--proxy").split('{').enumerate() {
            out.push_str(if index == 0 { part } else { "7" });
            out.push_str(if index == 0 { "" } else { part.split_once('}').unwrap().1 });
        }
        out.replace("\\\"", "\"")
    }

    #[test]
    fn every_note_has_its_sentence_and_every_sentence_its_note() {
        let sources = all_sources();
        let mut notes = 0;
        for (path, text) in &sources {
            for argument in text.split("notes.push(").skip(1) {
                let literal =
                    literal(argument).unwrap_or_else(|| panic!("{path}: a note is no literal: {argument:.80}"));
                let code = if path.contains("/src/engine/") { "engine" } else { "plan" };
                let en = filled(literal);
                assert_ne!(sentence(code, &en, Language::Zh), en, "{path}: no Chinese text for this note");
                notes += 1;
            }
            for argument in text.split("notes.extend(").skip(1) {
                let known = ["notes)", "of_target)", "sampling.notes("].iter().any(|known| argument.starts_with(known));
                assert!(known, "{path}: make notes with notes.push, where their texts are found: {argument:.80}");
            }
        }
        assert!(notes >= 15, "only {notes} notes were found");
        let rig = ["host/calibration.rs", "host/calibration_file.rs"].map(|name| Path::new("src").join(name));
        let said: Vec<String> = rig.iter().map(|path| joined(&fs::read_to_string(path).unwrap())).collect();
        let said: Vec<&String> = sources.iter().map(|(_, text)| text).chain(&said).collect();
        for template in TEMPLATES {
            for piece in template.en.split("{}").flat_map(|part| part.split(": receiving")).map(str::trim) {
                let there = said.iter().any(|text| text.replace("{FLAG}", "--proxy").contains(piece));
                assert!(piece.len() <= 3 || there, "'{piece}' is not said");
            }
        }
    }

    #[test]
    fn what_stands_inside_a_note_is_chinese_too() {
        let zh = |text: &str| sentence("plan", text, Language::Zh);
        let old =
            "the calibration in /c.json is not used: it is 31 days old; 'ringmark rig --calibrate' makes a new one";
        assert_eq!(zh(old), "未使用 /c.json 中的校准：它已有 31 天；运行 'ringmark rig --calibrate' 可重新校准");
        let path = "--dataset speed_benchmark is about bare prompts: requests go to http://h/v1/completions";
        assert_eq!(zh(path), "--dataset speed_benchmark 使用不带对话格式的提示词：请求发往 http://h/v1/completions");
        let path = "--url does not end in an endpoint of this API; using /v1: requests go to http://h/v1";
        assert_eq!(zh(path), "--url 不以此接口的端点结尾；使用 /v1：请求发往 http://h/v1");
    }
}
