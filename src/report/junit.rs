//! The verdicts on objectives as a JUnit XML file, which CI systems show as tests. There is no standard of the format;
//! this file keeps to the elements and attributes that Jenkins' `xunit` schema (junit-10.xsd) requires.

use super::language::Language;
use super::load_name::load_name;
use super::search::judged_text;
use crate::search::Selection;
use crate::stats::Summary;
use crate::stats::slo::Judged;

/// The test cases of one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Suite {
    pub name: String,
    pub cases: Vec<Case>,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The load of the run.
    pub class: String,
    /// The objective as it was given, so that CI systems find the same case again.
    pub name: String,
    /// The duration of the run, seconds; of all cases of a run only its first one has it.
    pub time_s: Option<f64>,
    pub result: CaseResult,
}

/// The result of a test case.
#[derive(Clone, Debug, PartialEq)]
pub enum CaseResult {
    Passed,
    /// The objective was missed; with the reason.
    Failed(String),
    /// The figures cannot be used, or there are none; with the reason.
    Error(String),
}

impl Suite {
    fn count(&self, is: fn(&CaseResult) -> bool) -> usize {
        self.cases.iter().filter(|case| is(&case.result)).count()
    }

    fn failures(&self) -> usize {
        self.count(|result| matches!(result, CaseResult::Failed(_)))
    }

    fn errors(&self) -> usize {
        self.count(|result| matches!(result, CaseResult::Error(_)))
    }

    /// `None` if no case has one.
    fn time_s(&self) -> Option<f64> {
        self.cases.iter().filter_map(|case| case.time_s).reduce(|sum, time_s| sum + time_s)
    }

    fn counts(&self) -> String {
        format!("tests=\"{}\" failures=\"{}\" errors=\"{}\"", self.cases.len(), self.failures(), self.errors())
    }
}

/// The cases of a run: whether its requests succeed, and one for each objective of `--slo`. The cases of a void run are
/// errors.
pub fn cases(summary: &Summary) -> Vec<Case> {
    let class = load_name(&summary.facts, Language::En);
    let void = summary.findings.iter().find(|finding| finding.severity() == crate::finding::Severity::Void);
    let judge = |failure: Option<String>| match (void, failure) {
        (Some(void), _) => CaseResult::Error(format!("the run is void: {}", void.en())),
        (None, Some(failure)) => CaseResult::Failed(failure),
        (None, None) => CaseResult::Passed,
    };
    let counts = &summary.counts;
    let missed = summary.all_failed() || summary.is_aborted();
    let succeeded = format!("{} of {} requests succeeded", counts.ok, counts.scheduled);
    let first = Case {
        class: class.clone(),
        name: "requests succeed".to_string(),
        time_s: summary.time_s,
        result: judge(missed.then_some(succeeded)),
    };
    let objective = |judged: &Judged| Case {
        class: class.clone(),
        name: judged.criterion.to_string(),
        time_s: None,
        result: judge((!judged.met).then(|| missed_objective(judged))),
    };
    let objectives = summary.slo.iter().flat_map(|verdict| &verdict.criteria).map(objective);
    std::iter::once(first).chain(objectives).collect()
}

fn missed_objective(judged: &Judged) -> String {
    let Some(value) = judged.judged.value else { return "the run has no such figure".to_string() };
    let (unit, factor) = judged.criterion.shown_unit();
    match value.is_finite() {
        true => format!("measured: {} {unit}", judged_text(value * factor)),
        false => "failed requests decide it: they count as slower than any bound".to_string(),
    }
}

/// The cases of a search: one for each aim, which fails if no load qualifies.
pub fn search_cases(selections: &[Selection]) -> Vec<Case> {
    let case = |selection: &Selection| Case {
        class: "search".to_string(),
        name: selection.criteria.clone(),
        time_s: None,
        result: match selection.value {
            Some(_) => CaseResult::Passed,
            None => CaseResult::Failed(selection.reason.en()),
        },
    };
    selections.iter().map(case).collect()
}

/// The file.
pub fn xml(suites: &[Suite]) -> String {
    let total = |of: fn(&Suite) -> usize| suites.iter().map(of).sum::<usize>();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"ringmark\" tests=\"{}\" failures=\"{}\" errors=\"{}\">\n",
        total(|suite| suite.cases.len()),
        total(Suite::failures),
        total(Suite::errors)
    );
    for suite in suites {
        let (name, time) = (escape(&suite.name), time_attribute(suite.time_s()));
        out.push_str(&format!("  <testsuite name=\"{name}\" {}{time}>\n", suite.counts()));
        suite.cases.iter().for_each(|case| push_case(&mut out, case));
        out.push_str("  </testsuite>\n");
    }
    out + "</testsuites>\n"
}

fn time_attribute(time_s: Option<f64>) -> String {
    time_s.map_or(String::new(), |time_s| format!(" time=\"{time_s:.3}\""))
}

fn push_case(out: &mut String, case: &Case) {
    let (class, name, time) = (escape(&case.class), escape(&case.name), time_attribute(case.time_s));
    out.push_str(&format!("    <testcase classname=\"{class}\" name=\"{name}\"{time}"));
    match &case.result {
        CaseResult::Passed => out.push_str("/>\n"),
        CaseResult::Failed(why) => {
            out.push_str(&format!(">\n      <failure message=\"{}\"/>\n    </testcase>\n", escape(why)));
        }
        CaseResult::Error(why) => {
            out.push_str(&format!(">\n      <error message=\"{}\"/>\n    </testcase>\n", escape(why)));
        }
    }
}

/// Text as the value of an attribute. XML has the escapes of HTML; line ends and tabs become references, so that parsers
/// keep them. Characters that XML 1.0 does not allow, even as references, are shown as escapes.
fn escape(text: &str) -> String {
    let html = super::html::escape(text).replace('\n', "&#10;").replace('\t', "&#9;");
    html.replace('\u{fffe}', r"\u{fffe}").replace('\u{ffff}', r"\u{ffff}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_test_cases() {
        let case = |name: &str, result| Case { class: "c".to_string(), name: name.to_string(), time_s: None, result };
        let failed = CaseResult::Failed("measured: 3 s & \"more\"\u{1b}\u{0}".to_string());
        let suite = Suite {
            name: "a<b".to_string(),
            cases: vec![
                Case { time_s: Some(1.5), ..case("requests succeed", CaseResult::Passed) },
                case("p99_ttft<=2 s", failed),
                case("x", CaseResult::Error("void".to_string())),
            ],
        };
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="ringmark" tests="3" failures="1" errors="1">
  <testsuite name="a&lt;b" tests="3" failures="1" errors="1" time="1.500">
    <testcase classname="c" name="requests succeed" time="1.500"/>
    <testcase classname="c" name="p99_ttft&lt;=2 s">
      <failure message="measured: 3 s &amp; &quot;more&quot;\u{1b}\u{0}"/>
    </testcase>
    <testcase classname="c" name="x">
      <error message="void"/>
    </testcase>
  </testsuite>
</testsuites>
"#;
        assert_eq!(xml(&[suite]), expected);
    }
}
