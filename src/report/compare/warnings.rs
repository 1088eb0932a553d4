//! Warnings about a comparison: void runs, runs that ended early, and failures that make times incomparable.

use super::rows::{Compared, Kind};
use super::sides::{Entry, letter};
use crate::finding::Severity;
use crate::report::early_end;
use crate::report::findings::entries;
use crate::report::language::Language;
use crate::report::table::number;
use crate::stats::Summary;

/// A line above a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Void or Caution.
    pub severity: Severity,
    pub text: String,
}

/// The warnings about two entries, the most severe first.
pub fn warnings(a: &Entry<'_>, b: &Entry<'_>, compared: &Compared, language: Language) -> Vec<Warning> {
    let mut out: Vec<Warning> = [a, b].into_iter().flat_map(|entry| void(entry, language)).collect();
    out.extend([a, b].into_iter().filter_map(|entry| ended_early(entry, language)));
    if compared.unlike {
        out.push(Warning { severity: Severity::Caution, text: failures(a, b, compared, language) });
    }
    out
}

/// The warning that an entry is void, and every reason once.
fn void(entry: &Entry<'_>, language: Language) -> Vec<Warning> {
    let void = entry.runs.iter().filter(|run| run.summary.is_void()).count();
    if void == 0 {
        return Vec::new();
    }
    let (name, runs) = (letter(entry.side), entry.runs.len());
    let mut texts = vec![match (runs, language) {
        (1, Language::En) => format!("{name} is void: do not use its figures, nothing here is judged."),
        (1, Language::Zh) => format!("{name} 无效：请勿使用其数据，以下不作判定。"),
        (_, Language::En) => {
            format!("{void} of {name}'s {runs} runs are void: do not use its figures, nothing here is judged.")
        }
        (_, Language::Zh) => format!("{name} 的 {runs} 次测试中有 {void} 次无效：请勿使用其数据，以下不作判定。"),
    }];
    for run in &entry.runs {
        for finding in entries(&run.summary.findings).iter().filter(|entry| entry.severity == Severity::Void) {
            let text = format!("{name}: {}", finding.paragraph(language));
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
    }
    texts.into_iter().map(|text| Warning { severity: Severity::Void, text }).collect()
}

/// The warning that runs of an entry ended early.
fn ended_early(entry: &Entry<'_>, language: Language) -> Option<Warning> {
    let runs: Vec<&Summary> = entry.runs.iter().map(|run| &run.summary).collect();
    let (name, clause) = (letter(entry.side), early_end::clause(&runs, language)?);
    let text = match language {
        Language::En => format!("{name}: {clause}. Its figures are those of a part of the load."),
        Language::Zh => format!("{name}：{clause}。其数据只反映部分负载。"),
    };
    Some(Warning { severity: Severity::Caution, text })
}

fn failures(a: &Entry<'_>, b: &Entry<'_>, compared: &Compared, language: Language) -> String {
    let (a, b) = (letter(a.side), letter(b.side));
    let shares = compared.rows.iter().find(|row| row.kind == Kind::Share).map(|row| [row.a.value, row.b.value]);
    let [share_a, share_b] = shares.unwrap_or_default().map(percent);
    match language {
        Language::En => format!(
            "{share_a} % of {a}'s requests succeeded and {share_b} % of {b}'s. Latencies are those of the successful \
             requests only, so the work differs: they are not comparable, whichever is shorter."
        ),
        Language::Zh => format!(
            "{a} 的请求成功率为 {share_a} %，{b} 为 {share_b} %。时延只统计成功的请求，两者完成的工作不同：\
             无论哪个更短，均不可比。"
        ),
    }
}

/// A share in percent, with more decimals above 99 %.
fn percent(share: Option<f64>) -> String {
    match share.map(|share| share * 100.0) {
        None => "-".to_string(),
        Some(percent) if percent > 99.0 => number(percent),
        Some(percent) => format!("{percent:.1}"),
    }
}
