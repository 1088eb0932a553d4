//! Judgements as text.

use super::Judgement;
use super::checks::{Check, Verdict};
use super::scenario::{Scenario, named};
use crate::report::table::{Align, Table, wrap};

/// The sign of a verdict.
fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✓",
        Verdict::OtherDefinition => "≈",
        Verdict::Warned => "!",
        Verdict::Fail => "✗",
        Verdict::Unknown => "-",
    }
}

/// One scenario: what the client did, check by check.
pub fn scenario(judgement: &Judgement, width: usize) -> String {
    let about = named(judgement.scenario).map_or("", |scenario: &Scenario| scenario.about);
    let mut out = wrap("", &format!("{}: {about} ({})", judgement.scenario, judgement.mock), width);
    for Check { name, verdict, text } in &judgement.checks {
        out.push_str(&wrap(&format!("  {} {name}: ", sign(*verdict)), text, width));
    }
    if judgement.client.status != Some(0) {
        let last: Vec<&str> = judgement.client.stderr.lines().rev().take(5).collect();
        for line in last.iter().rev() {
            out.push_str(&wrap("    | ", line, width));
        }
    }
    out
}

/// A table of several scenarios, and what the signs mean.
pub fn sheet(judgements: &[Judgement], width: usize) -> String {
    let mut names: Vec<&str> = Vec::new();
    for check in judgements.iter().flat_map(|judgement| &judgement.checks) {
        if !names.contains(&check.name.as_str()) {
            names.push(&check.name);
        }
    }
    let cell = |judgement: &Judgement, name: &str| {
        let check = judgement.checks.iter().find(|check| check.name == name);
        check.map_or(String::new(), |check| sign(check.verdict).to_string())
    };
    let row = |judgement: &Judgement| {
        [judgement.scenario.to_string()].into_iter().chain(names.iter().map(|name| cell(judgement, name))).collect()
    };
    let table = Table {
        head: [""].iter().chain(&names).map(|name| (*name).to_string()).collect(),
        aligns: [Align::Left].into_iter().chain(names.iter().map(|_| Align::Left)).collect(),
        rows: judgements.iter().map(row).collect(),
        grid: false,
    };
    let signs = "✓ right, ✗ wrong, ≈ measured by another definition, ! wrong and reported to be, - not reported";
    format!("{}{}", table.fitted(width).render(), wrap("", signs, width))
}

/// "7 of 9 checks passed".
pub fn score(judgements: &[Judgement]) -> String {
    let all: Vec<&Check> = judgements.iter().flat_map(|judgement| &judgement.checks).collect();
    let judged = all.iter().filter(|check| check.verdict != Verdict::Unknown).count();
    let passed = all.iter().filter(|check| check.verdict == Verdict::Pass).count();
    let defined = all.iter().filter(|check| check.verdict == Verdict::OtherDefinition).count();
    let other = if defined > 0 { format!(", {defined} by another definition") } else { String::new() };
    format!("{passed} of {judged} checks passed{other}\n")
}
