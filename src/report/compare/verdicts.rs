//! A comparison in one sentence.

use super::cells::{percent_text, plain_name};
use super::rows::{Compared, Row, RowName, Verdict};
use crate::finding::Figure;
use crate::report::i18n::{Label, Statistic};
use crate::report::language::Language;

/// The figures in the sentence.
const SHOWN: [RowName; 6] = [
    RowName::Label(Label::SuccessRate),
    RowName::Label(Label::RequestsPerS),
    RowName::Label(Label::OutputTokPerS),
    RowName::Time(Statistic::P99, Figure::Ttft),
    RowName::Time(Statistic::Average, Figure::Tpot),
    RowName::Time(Statistic::P99, Figure::Latency),
];

/// `B against A: worse in Output tok/s (-9.9 %); no sure difference in P99 TTFT (+1.3 %).` Empty if nothing is judged.
pub fn sentence(name: &str, compared: &Compared, language: Language) -> String {
    let verdicts = [
        (Verdict::Better, "better in ", "更好："),
        (Verdict::Worse, "worse in ", "更差："),
        (Verdict::NotSure, "no sure difference in ", "无显著差异："),
        (Verdict::NotComparable, "not comparable: ", "不可比："),
        (Verdict::TooFew, "too few samples for ", "样本不足："),
    ];
    let of_verdict = |(verdict, en, zh): (Verdict, &'static str, &'static str)| {
        let shown = compared.rows.iter().filter(|row| SHOWN.contains(&row.name) && row.verdict == verdict);
        let names: Vec<String> = shown.map(|row| with_change(row, language)).collect();
        let list = names.join(language.pick(", ", "、"));
        (!names.is_empty()).then(|| format!("{}{list}", language.pick(en, zh)))
    };
    let parts: Vec<String> = verdicts.into_iter().filter_map(of_verdict).collect();
    match language {
        _ if parts.is_empty() => String::new(),
        Language::En => format!("{name} against A: {}.", parts.join("; ")),
        Language::Zh => format!("{name} 对比 A：{}。", parts.join("；")),
    }
}

/// The figure with its change in percent, where it has one.
fn with_change(row: &Row, language: Language) -> String {
    let name = plain_name(row, language);
    match (row.percent().filter(|_| row.verdict != Verdict::TooFew), language) {
        (None, _) => name,
        (Some(percent), Language::En) => format!("{name} ({} %)", percent_text(percent)),
        (Some(percent), Language::Zh) => format!("{name}（{} %）", percent_text(percent)),
    }
}
