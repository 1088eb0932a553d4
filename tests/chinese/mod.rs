//! Checks that no English label remains on a Chinese page.

#[path = "../halves/mod.rs"]
pub mod halves;

use ringmark::spec::Language;

/// Latin words of a Chinese page: abbreviations, units, names, and the variables of formulas.
const ALLOWED: &[&str] = &[
    "API",
    "CDF",
    "CPU",
    "CV",
    "E2E",
    "English",
    "GPU",
    "GiB",
    "HTTP",
    "ITL",
    "KV",
    "Linux",
    "RPS",
    "SLO",
    "TCP",
    "TCP",
    "RTT",
    "TLS",
    "TPOT",
    "TTFT",
    "UTC",
    "Unix",
    "MSER-5",
    "SGLang",
    "TGI",
    "LMDeploy",
    "vLLM",
    "llama",
    "cpp",
    "Little",
    "law",
    "s",
    "Welch",
    "t",
    "io_uring",
    "epoll",
    "ringmark",
    "token",
    "tok",
    "req",
    "min",
    "ms",
    "µs",
    "ns",
    "k",
    "M",
    "n",
    "i",
    "p",
    "deff",
    "A",
    "B",
    "max",
    "due",
    "end",
    "arrival",
    "processed",
    "arrived",
    "sent",
    "write_start",
    "first_answer_token",
    "first_token",
    "last_token",
    "output_tokens",
    "latency",
    "role",
    "coordinated",
    "omission",
    "prefill",
    "parallel",
    "rig",
    "openai",
    "random",
    "builtin",
];

/// Fails if the Chinese half of the page has a Latin word that is not allowed. `foreign` are texts that come from outside: names of models,
/// addresses, errors of the server.
pub fn assert_chinese(page: &str, foreign: &[&str]) {
    let mut text = visible_text(&halves::half(page, Language::Zh));
    for word in foreign {
        assert!(text.contains(word), "{word} is not on the page");
        text = text.replace(word, " ");
    }
    let words =
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').map(|word| word.trim_end_matches('-'));
    let is_english = |word: &&str| {
        let is_flag = word.starts_with("--");
        let is_percentile = word.starts_with(['p', 'P']) && word[1..].bytes().all(|byte| byte.is_ascii_digit());
        let begins_with_letter = word.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        begins_with_letter && !is_flag && !is_percentile && !ALLOWED.contains(word)
    };
    let mut left: Vec<&str> = words.filter(is_english).collect();
    left.sort_unstable();
    left.dedup();
    assert!(left.is_empty(), "{left:?}");
}

/// The page without the elements around flags.
pub fn without_flag_spans(page: &str) -> String {
    let mut parts = page.split("<span class=\"flag\">");
    let first = parts.next().unwrap_or("").to_string();
    parts.fold(first, |page, part| page + &part.replacen("</span>", "", 1))
}

/// The text between the tags, without style and script.
fn visible_text(page: &str) -> String {
    let mut page = without_flag_spans(page);
    for tag in ["style", "script"] {
        let (begin, end) = (format!("<{tag}>"), format!("</{tag}>"));
        while let Some(at) = page.find(&begin) {
            let to = page[at..].find(&end).expect("every element is closed") + at + end.len();
            page.replace_range(at..to, "");
        }
    }
    let texts = page.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text);
    let text = texts.collect::<Vec<_>>().join("\n");
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
        .into_iter()
        .fold(text, |text, (escaped, character)| text.replace(escaped, character))
}
