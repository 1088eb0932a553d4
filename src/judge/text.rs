//! Judgements as text.

use super::Judgement;
use super::deviations::Deviation;
use super::figures::Figure;
use super::scenario::{Scenario, named};
use super::sheet::{Client, SIGNS, Score, VOID_MEANING, scenarios, sign};
use super::verdict::{Check, Verdict};
use crate::report::table::{Align, Table, wrap};

/// One scenario: what the client did, check by check, and the errors of its figures.
pub fn scenario(judgement: &Judgement, width: usize) -> String {
    let about = named(&judgement.scenario).map_or("", |scenario: &Scenario| scenario.about);
    let mut out = wrap("", &format!("{}: {about} ({})", judgement.scenario, judgement.mock), width);
    for Check { name, verdict, text } in &judgement.checks {
        out.push_str(&wrap(&format!("  {} {name}: ", sign(*verdict)), text, width));
    }
    out.push_str(&errors(judgement, width));
    if judgement.client.status != Some(0) {
        let last: Vec<&str> = judgement.client.stderr.lines().rev().take(5).collect();
        for line in last.iter().rev() {
            out.push_str(&wrap("    | ", line, width));
        }
    }
    out
}

/// The columns of the table of errors. JSON has every percentile that the client reported.
pub const STATISTICS: [&str; 6] = ["mean", "p50", "p90", "p95", "p99", "max"];

/// The errors of all figures, by the client's own definitions.
fn errors(judgement: &Judgement, width: usize) -> String {
    let all = &judgement.deviations;
    let is_reported = |of: &&str| all.iter().any(|deviation| deviation.of == *of);
    let columns: Vec<&str> = STATISTICS.into_iter().filter(is_reported).collect();
    if columns.is_empty() {
        return String::new();
    }
    let find = |figure: Figure, of: &str| all.iter().find(|one| one.figure == figure && one.of == of);
    let figures = Figure::ALL.into_iter().filter(|figure| all.iter().any(|one| one.figure == *figure));
    let row = |figure: Figure| {
        let cells = columns.iter().map(|of| find(figure, of).map_or(String::new(), error));
        [figure.name().to_string()].into_iter().chain(cells).collect()
    };
    let table = Table {
        head: ["error (ms)"].iter().chain(&columns).map(|name| (*name).to_string()).collect(),
        aligns: [Align::Left].into_iter().chain(columns.iter().map(|_| Align::Right)).collect(),
        rows: figures.map(row).collect(),
        grid: false,
    };
    table.fitted(width).render()
}

/// "+0.123 (+1.2 %)".
pub fn error(deviation: &Deviation) -> String {
    let share = deviation.error_percent.map_or(String::new(), |percent| format!(" ({percent:+.1} %)"));
    format!("{:+.3}{share}", deviation.error_ms)
}

/// Several scenarios of one client: for each, how many checks passed, and which ones did not.
pub fn summary(judgements: &[Judgement], width: usize) -> String {
    let mut out = String::new();
    for judgement in judgements {
        let others: Vec<String> = [Verdict::Fail, Verdict::Warned, Verdict::OtherDefinition]
            .into_iter()
            .filter_map(|verdict| {
                let checks = judgement.checks.iter().filter(|check| check.verdict == verdict);
                let names: Vec<&str> = checks.map(|check| check.name.as_str()).collect();
                (!names.is_empty()).then(|| format!("{} {}", sign(verdict), names.join(", ")))
            })
            .collect();
        let first = format!("{:<18} {:>8}  ", judgement.scenario, Score::text(judgement));
        out.push_str(&wrap(&first, &others.join("  "), width));
    }
    format!("{out}{}", wrap("", SIGNS, width))
}

/// "7 of 9 checks passed".
pub fn score(judgements: &[Judgement]) -> String {
    let score = Score::of_all(judgements);
    let other = match score.other_definition {
        0 => String::new(),
        count => format!(", {count} by another definition"),
    };
    let void = match judgements.iter().filter(|judgement| judgement.is_void()).count() {
        0 => String::new(),
        count => format!("{count} of {} scenarios {VOID_MEANING}\n", judgements.len()),
    };
    format!("{} of {} checks passed{other}\n{void}", score.passed, score.judged)
}

/// Tables of the scores of several clients, each with as many clients as fit.
pub fn side_by_side(clients: &[Client], width: usize) -> String {
    let fits = |count: &usize| clients.chunks(*count).all(|some| scores(some).width() <= width);
    let most = (1..=clients.len()).rev().find(fits).unwrap_or(1);
    let tables: Vec<String> = clients.chunks(most).map(|some| scores(some).render()).collect();
    let is_void = clients.iter().flat_map(|client| &client.judgements).any(Judgement::is_void);
    let void = if is_void { wrap("", VOID_MEANING, width) } else { String::new() };
    tables.join("\n") + &wrap("", "Checks passed, of those that could be answered", width) + &void
}

fn scores(clients: &[Client]) -> Table {
    let cell = |client: &Client, scenario: &str| client.in_scenario(scenario).map_or("-".to_string(), Score::text);
    let row = |scenario: &str| {
        let cells = clients.iter().map(|client| cell(client, scenario));
        [scenario.to_string()].into_iter().chain(cells).collect()
    };
    Table {
        head: ["scenario"]
            .into_iter()
            .chain(clients.iter().map(|client| client.name.as_str()))
            .map(str::to_string)
            .collect(),
        aligns: [Align::Left].into_iter().chain(clients.iter().map(|_| Align::Right)).collect(),
        rows: scenarios(clients).into_iter().map(row).collect(),
        grid: false,
    }
}
