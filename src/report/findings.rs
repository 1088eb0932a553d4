//! Findings as a reader sees them: in a language, the symptoms of one cause as one entry, those of several runs once.
//!
//! Findings are stored one by one. The severity of an entry is the highest of its findings.

use serde_json::Value as Json;

use super::advice::by_load;
use super::language::Language;
use super::load_name::load_name;
use crate::finding::{Cause, Finding, Severity};
use crate::stats::Summary;

/// One finding, or several symptoms of one cause; at least one.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    pub severity: Severity,
    findings: Vec<&'a Finding>,
}

/// The text of one finding.
pub fn text(finding: &Finding, language: Language) -> String {
    match language {
        Language::En => finding.en(),
        Language::Zh => finding.zh(),
    }
}

/// The entries for these findings: the most severe first, of equal ones those with several symptoms, then in the order
/// of their first finding.
pub fn entries<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = Vec::new();
    for finding in findings {
        let alone = Entry { severity: finding.severity(), findings: vec![finding] };
        match entries.iter_mut().find(|entry| entry.is_same_problem(&alone)) {
            Some(entry) => entry.join(alone),
            None => entries.push(alone),
        }
    }
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.severity, entry.findings.len() > 1)));
    entries
}

impl<'a> Entry<'a> {
    fn cause(&self) -> Cause {
        self.findings[0].cause()
    }

    pub(crate) fn is_same_problem(&self, other: &Entry<'a>) -> bool {
        self.cause() == other.cause() && self.cause().has_symptoms()
    }

    fn join(&mut self, other: Entry<'a>) {
        self.severity = self.severity.max(other.severity);
        self.findings.extend(other.findings);
    }

    /// The first line: the whole finding, or the common cause of its symptoms.
    pub(crate) fn headline(&self, language: Language) -> String {
        let headline = match language {
            Language::En => self.cause().en(),
            Language::Zh => self.cause().zh(),
        };
        match (self.findings.as_slice(), headline) {
            ([_, _, ..], Some(headline)) => headline.to_string(),
            (findings, _) => text(findings[0], language),
        }
    }

    /// The symptoms below the headline; none for one finding alone.
    pub(crate) fn symptoms(&self, language: Language) -> Vec<String> {
        let symptom = |finding: &&Finding| match language {
            Language::En => finding.en_symptom(),
            Language::Zh => finding.zh_symptom(),
        };
        if self.findings.len() < 2 { Vec::new() } else { self.findings.iter().map(symptom).collect() }
    }

    /// Headline and symptoms as one paragraph.
    pub(crate) fn paragraph(&self, language: Language) -> String {
        let mut parts = self.symptoms(language);
        parts.insert(0, self.headline(language));
        parts.join(language.pick(" ", ""))
    }
}

/// An entry of one or several runs of a call.
#[derive(Clone, Debug)]
pub(crate) struct SharedEntry<'a> {
    /// The loads of the runs.
    pub loads: String,
    /// The first of them, and how many others there are.
    pub first_load: String,
    pub other_loads: usize,
    pub entry: Entry<'a>,
}

/// The entries of all runs from Caution on, the most severe first, each with its loads. What several runs have
/// in common is one entry, with the figures of the first.
pub(crate) fn of_runs<'a>(runs: &[&'a Summary], language: Language) -> Vec<SharedEntry<'a>> {
    shared_entries(runs, language, |severity| severity >= Severity::Caution)
}

/// How many notes there are on all runs; what several runs have in common is one.
pub(crate) fn count_notes(runs: &[&Summary]) -> usize {
    shared_entries(runs, Language::En, |severity| severity == Severity::Note).len()
}

/// The entries of these severities.
fn shared_entries<'a>(runs: &[&'a Summary], language: Language, wanted: fn(Severity) -> bool) -> Vec<SharedEntry<'a>> {
    struct Shared<'a> {
        loads: Vec<String>,
        entry: Entry<'a>,
        differs: bool,
    }
    let mut all: Vec<Shared<'a>> = Vec::new();
    for run in by_load(runs) {
        let load = load_name(&run.facts, language);
        for entry in entries(run.findings.iter().filter(|finding| wanted(finding.severity()))) {
            match all.iter_mut().find(|shared| is_shared(&shared.entry, &entry)) {
                Some(shared) => {
                    shared.differs |= shared.entry.findings != entry.findings;
                    add_missing(&mut shared.entry, entry);
                    if !shared.loads.contains(&load) {
                        shared.loads.push(load.clone());
                    }
                }
                None => all.push(Shared { loads: vec![load.clone()], entry, differs: false }),
            }
        }
    }
    all.sort_by_key(|shared| std::cmp::Reverse(shared.entry.severity));
    let of_first = language.pick(" (figures of the first)", "（数值取自第一档）");
    let named = |shared: Shared<'a>| SharedEntry {
        first_load: shared.loads[0].clone(),
        other_loads: shared.loads.len() - 1,
        loads: shared.loads.join(language.pick(", ", "，")) + if shared.differs { of_first } else { "" },
        entry: shared.entry,
    };
    all.into_iter().map(named).collect()
}

/// The lines above the figures about void runs: each names its loads and gives the text of the entry.
pub(crate) fn void_lines(runs: &[&Summary], language: Language) -> Vec<String> {
    let line = |SharedEntry { loads, entry, .. }: SharedEntry<'_>| match language {
        Language::En => format!("{loads} must not be used: {}", entry.paragraph(language)),
        Language::Zh => format!("{loads} 不可使用：{}", entry.paragraph(language)),
    };
    let all = of_runs(runs, language);
    all.into_iter().filter(|shared| shared.entry.severity == Severity::Void).map(line).collect()
}

/// Whether entries of two runs are one: a Void of one run says nothing of another with a Caution.
fn is_shared(a: &Entry<'_>, b: &Entry<'_>) -> bool {
    let same = || a.findings.len() == 1 && b.findings.len() == 1 && differ_in_numbers(a.findings[0], b.findings[0]);
    a.severity == b.severity && (a.is_same_problem(b) || same())
}

/// Adds the symptoms that the first run does not have.
fn add_missing<'a>(entry: &mut Entry<'a>, other: Entry<'a>) {
    for finding in other.findings {
        if !entry.findings.iter().any(|known| differ_in_numbers(known, finding)) {
            entry.findings.push(finding);
        }
    }
}

/// Whether two findings are the same but for their numbers.
fn differ_in_numbers(a: &Finding, b: &Finding) -> bool {
    let fields = |finding: &Finding| serde_json::to_value(finding).map(without_numbers).unwrap_or(Json::Null);
    fields(a) == fields(b)
}

fn without_numbers(value: Json) -> Json {
    match value {
        Json::Number(_) => Json::Null,
        Json::Array(items) => items.into_iter().map(without_numbers).collect(),
        Json::Object(fields) => fields.into_iter().map(|(key, value)| (key, without_numbers(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Figure;

    fn moved(figure: Figure, by_ns: u64) -> Finding {
        let percentile = "50%".to_string();
        Finding::OwnError { severity: Severity::Caution, figure, percentile, by_ns, value_ns: 20_000_000 }
    }

    #[test]
    fn symptoms_of_one_cause_are_one_entry_with_the_highest_severity() {
        let found = [
            Finding::Failures { share: 0.5 },
            moved(Figure::Itl, 5),
            Finding::SendLag {
                severity: Severity::Void,
                p99_ns: 30_000_000,
                median_ttft_ns: 20_000_000,
                of_latency: false,
            },
            Finding::Killed,
        ];
        let entries = entries(&found);
        assert_eq!(
            entries.iter().map(|entry| entry.severity).collect::<Vec<_>>(),
            [Severity::Void, Severity::Caution, Severity::Caution]
        );
        let busy = &entries[0];
        assert_eq!(busy.headline(Language::En), Cause::ClientBusy.en().unwrap());
        assert_eq!(busy.symptoms(Language::Zh), [found[1].zh_symptom(), found[2].zh_symptom()]);
        assert!(busy.paragraph(Language::En).ends_with("TTFT and latency include it."));
        assert_eq!(entries[1].paragraph(Language::En), found[0].en());
        assert!(entries[1].symptoms(Language::En).is_empty());
    }

    #[test]
    fn findings_that_differ_in_numbers_are_the_same() {
        assert!(differ_in_numbers(&moved(Figure::Itl, 5), &moved(Figure::Itl, 7)));
        assert!(!differ_in_numbers(&moved(Figure::Itl, 5), &moved(Figure::Ttft, 5)));
        assert!(!differ_in_numbers(&Finding::AtOnce, &Finding::Killed));
    }
}
