//! What a comparison consists of: sides, and the loads that several of them measured.

use crate::record::facts::RunFacts;
use crate::report::language::Language;
use crate::report::load_name::load_name;
use crate::report::{Measured, workload};
use crate::time::format_ns;

/// The sides of a comparison: A, B and so on.
#[derive(Clone, Debug)]
pub struct Comparison<'a> {
    pub sides: Vec<Side<'a>>,
    pub loads: Vec<Load<'a>>,
    /// Loads that only one side measured.
    pub missing: Vec<Missing<'a>>,
}

/// One side of a comparison: the runs of a load, or those of a sweep.
#[derive(Clone, Debug)]
pub struct Side<'a> {
    /// Path of the databases.
    pub name: String,
    /// At least one.
    pub runs: Vec<&'a Measured>,
}

/// A load that several sides measured.
#[derive(Clone, Debug)]
pub struct Load<'a> {
    /// `None` if each side has one load.
    pub name: Option<LoadName<'a>>,
    /// Each of the others is compared with the first.
    pub entries: Vec<Entry<'a>>,
}

/// The runs of a load that belong to a side.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Its place among the sides.
    pub side: usize,
    /// At least one.
    pub runs: Vec<&'a Measured>,
}

/// A load as a heading.
#[derive(Clone, Copy, Debug)]
pub struct LoadName<'a> {
    pub facts: &'a RunFacts,
    /// Another load of the call differs only in its length.
    pub with_length: bool,
}

/// Loads of the side `there` that the side `of` did not measure; both are places among the sides.
#[derive(Clone, Debug)]
pub struct Missing<'a> {
    pub of: usize,
    pub loads: Vec<LoadName<'a>>,
    pub there: usize,
}

impl<'a> Comparison<'a> {
    /// Every side against the first, whatever their loads are.
    pub fn of_sides(sides: Vec<Side<'a>>) -> Comparison<'a> {
        let entry = |(side, of): (usize, &Side<'a>)| Entry { side, runs: of.runs.clone() };
        let entries = sides.iter().enumerate().map(entry).collect();
        Comparison { loads: vec![Load { name: None, entries }], missing: Vec::new(), sides }
    }

    /// The first two sides whose runs of a load are of different workloads, and in what they differ. It is one side twice
    /// if its own runs differ.
    pub fn first_difference(&self) -> Option<(&Side<'a>, &Side<'a>, Vec<String>)> {
        let pairs = self.loads.iter().filter_map(|load| load.entries.first().map(|first| (first, &load.entries)));
        let runs = pairs.flat_map(|(first, all)| all.iter().map(move |other| (first, other)));
        let mut runs = runs.flat_map(|(first, other)| other.runs.iter().map(move |run| (first, other, run)));
        runs.find_map(|(first, other, run)| {
            let differences = workload::differences(first.runs[0], run);
            let sides = || (&self.sides[first.side], &self.sides[other.side]);
            (!differences.is_empty()).then(|| (sides().0, sides().1, differences))
        })
    }
}

impl LoadName<'_> {
    /// The load as a heading.
    pub fn text(&self, language: Language) -> String {
        let length = match (self.facts.requests, self.facts.duration_ns) {
            (Some(requests), _) => format!("{requests} {}", language.pick("requests", "个请求")),
            (None, Some(ns)) => format_ns(ns),
            (None, None) => "-".to_string(),
        };
        let name = load_name(self.facts, language);
        if self.with_length { format!("{name}, {length}") } else { name }
    }
}

impl Missing<'_> {
    /// The line that lists them.
    pub(super) fn text(&self, language: Language) -> String {
        let (of, there) = (letter(self.of), letter(self.there));
        let loads: Vec<String> = self.loads.iter().map(|load| load.text(language)).collect();
        match language {
            Language::En => format!("Not compared, since {there} measured it and {of} did not: {}", loads.join("; ")),
            Language::Zh => format!("未对比（{there} 测了而 {of} 未测）：{}", loads.join("；")),
        }
    }
}

/// The load and its length.
pub(super) fn is_same_load(a: &RunFacts, b: &RunFacts) -> bool {
    is_offered_alike(a, b) && (a.requests, a.duration_ns) == (b.requests, b.duration_ns)
}

/// The load, whatever its length.
pub(super) fn is_offered_alike(a: &RunFacts, b: &RunFacts) -> bool {
    (a.mode, a.parallel, a.rate_per_s, &a.arrival) == (b.mode, b.parallel, b.rate_per_s, &b.arrival)
}

/// A for the first side, B for the second, and so on.
pub(super) fn letter(number: usize) -> String {
    match u8::try_from(number) {
        Ok(number) if number < 26 => char::from(b'A' + number).to_string(),
        _ => format!("#{}", number + 1),
    }
}

/// The line that introduces a side.
pub(super) fn about(side: &Side<'_>, language: Language) -> String {
    let facts = &side.runs[0].summary.facts;
    let mut loads: Vec<&RunFacts> = Vec::new();
    for run in &side.runs {
        if !loads.iter().any(|load| is_same_load(load, &run.summary.facts)) {
            loads.push(&run.summary.facts);
        }
    }
    let runs = match (side.runs.len(), language) {
        (1, _) => String::new(),
        (count, Language::En) => format!(", {count} runs"),
        (count, Language::Zh) => format!("，{count} 次测试"),
    };
    let load = match (loads.len(), language) {
        (1, _) => load_name(facts, language),
        (loads, Language::En) => format!("{loads} loads"),
        (loads, Language::Zh) => format!("{loads} 档负载"),
    };
    format!("{load}{runs}{}{}", language.pick(", ", "，"), facts.model)
}

/// What the intervals cover.
pub(super) fn note(comparison: &Comparison<'_>, language: Language) -> &'static str {
    if comparison.loads.iter().flat_map(|load| &load.entries).any(|entry| entry.runs.len() > 1) {
        language.pick(
            "Values are means over the runs of a load, and so are percentiles. Intervals are from run to run (Welch's t); \
             a single run is assumed to vary like the repeated ones.",
            "数值为同一负载各次测试的平均值，百分位数同样取平均；置信区间反映各次测试之间的波动（Welch t）。只测一次的一方按另一方的\
             波动估计。",
        )
    } else {
        language.pick(
            "Intervals are for these runs only and do not include the variation from run to run: use --repeat before trusting \
             a small difference.",
            "置信区间只针对这几次测试，不含测试之间的波动：差异较小时请用 --repeat 重复测试。",
        )
    }
}
