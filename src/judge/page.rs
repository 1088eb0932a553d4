//! One or more clients as an HTML page: scores, checks and errors side by side.

use super::deviations::Deviation;
use super::scenario::named;
use super::sheet::{Client, SIGNS, Score, VOID_MEANING, check_names, distinct, scenarios, sign};
use super::text::error;
use super::verdict::{Check, Verdict};
use super::{Judgement, text::STATISTICS};
use crate::report::html::{english_page, escape, table_of_cells};

const TITLE: &str = "Clients judged by a server's records";

/// The page, self-contained.
pub fn html(clients: &[Client]) -> String {
    let mut body = format!("<h1>{TITLE}</h1>");
    body.push_str(&paragraph(
        "Each client measured the built-in server, which recorded what it received and sent, and when. A check compares what \
         the client did with what it was asked for, and what it reported with these records.",
    ));
    body.push_str(&note(SIGNS));
    body.push_str("<h2>Checks passed</h2>");
    body.push_str(&score_table(clients));
    body.push_str("<h2>The clients</h2>");
    body.push_str(&client_table(clients));
    for scenario in scenarios(clients) {
        body.push_str(&of_scenario(clients, scenario));
    }
    english_page(TITLE, &body)
}

fn paragraph(text: &str) -> String {
    format!("<p>{}</p>", escape(text))
}

fn note(text: &str) -> String {
    format!("<p class=\"note\">{}</p>", escape(text))
}

/// The head of a table with a column for each client.
fn head(first: &str, clients: &[Client]) -> Vec<String> {
    [first].into_iter().chain(clients.iter().map(|client| client.name.as_str())).map(str::to_string).collect()
}

/// A row of a table with a column for each client: its name, and each client's class and text.
fn row<'a>(name: &str, clients: &[Client], cell: impl Fn(&Client) -> (&'a str, String)) -> Vec<(&'a str, String)> {
    [("", name.to_string())].into_iter().chain(clients.iter().map(cell)).collect()
}

/// The class of a cell.
fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "good",
        Verdict::Fail => "bad",
        Verdict::OtherDefinition | Verdict::Warned => "passable",
        Verdict::Unknown => "",
    }
}

fn score_table(clients: &[Client]) -> String {
    let cell = |judgement: Option<&Judgement>| {
        let Some(judgement) = judgement else { return ("", "-".to_string()) };
        let is_wrong = judgement.checks.iter().any(|check| check.verdict == Verdict::Fail);
        let class = match is_wrong {
            _ if judgement.is_void() => "passable",
            true => "bad",
            false => "good",
        };
        (class, Score::text(judgement))
    };
    let row = |scenario: &str| row(scenario, clients, |client| cell(client.in_scenario(scenario)));
    let is_void = clients.iter().flat_map(|client| &client.judgements).any(Judgement::is_void);
    let void = if is_void { note(VOID_MEANING) } else { String::new() };
    table_of_cells(&head("scenario", clients), &scenarios(clients).into_iter().map(row).collect::<Vec<_>>()) + &void
}

/// What each client costs, in the scenario in which that was most.
fn client_table(clients: &[Client]) -> String {
    let most = |client: &Client, value: &dyn Fn(&Judgement) -> Option<f64>| {
        client.judgements.iter().filter_map(value).reduce(f64::max)
    };
    let shown =
        |value: Option<f64>, decimals: usize| value.map_or("-".to_string(), |value| format!("{value:.decimals$}"));
    type Value = fn(&Judgement) -> Option<f64>;
    let rows: [(&str, Value, usize); 8] = [
        ("CPU time per output event (us)", |one| one.client.usage.steady_cpu_per_event_us, 1),
        ("other CPU time (s)", |one| one.client.usage.fixed_cpu_s, 2),
        ("memory (MiB)", |one| Some(one.client.usage.peak_rss_bytes as f64 / f64::from(1 << 20)), 1),
        ("threads", |one| Some(one.client.usage.peak_threads as f64), 0),
        ("busiest thread (% of a core)", |one| one.client.usage.busiest_thread.map(|share| share * 100.0), 0),
        ("all threads (% of its cores)", |one| one.client.usage.busiest_share.map(|share| share * 100.0), 0),
        ("peak of requests in flight", |one| Some(one.observed.peak_in_flight as f64), 0),
        ("mean of requests in flight", |one| one.observed.mean_in_flight, 2),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, value, decimals)| row(name, clients, |client| ("", shown(most(client, value), *decimals))))
        .collect();
    let commands: String = clients
        .iter()
        .filter_map(|client| {
            let command = client.judgements.first()?.client.command.join(" ");
            Some(format!("<li><b>{}</b> <code>{}</code></li>", escape(&client.name), escape(&command)))
        })
        .collect();
    let table = table_of_cells(&head("most of all scenarios", clients), &rows);
    format!("{table}<ul>{commands}</ul>")
}

fn of_scenario(clients: &[Client], scenario: &str) -> String {
    let about = named(scenario).map_or(String::new(), |scenario| format!(": {}", scenario.about));
    let found = || clients.iter().filter_map(|client| client.in_scenario(scenario));
    let mock = distinct(found().map(|judgement| judgement.mock.as_str())).join(" · ");
    let mut out = format!("<h2>{}{}</h2>", escape(scenario), escape(&about));
    out.push_str(&note(&format!("server: {mock}")));
    let cell = |client: &Client, name: &str| {
        let check = client.in_scenario(scenario).and_then(|judgement| find(judgement, name));
        check.map_or(("", String::new()), |check| (class(check.verdict), sign(check.verdict).to_string()))
    };
    let rows: Vec<_> =
        check_names(found()).into_iter().map(|name| row(name, clients, |client| cell(client, name))).collect();
    out.push_str(&table_of_cells(&head("check", clients), &rows));
    out.push_str(&error_table(clients, scenario));
    for client in clients {
        out.push_str(&client.in_scenario(scenario).map_or(String::new(), |judgement| details(&client.name, judgement)));
    }
    out
}

fn find<'a>(judgement: &'a Judgement, name: &str) -> Option<&'a Check> {
    judgement.checks.iter().find(|check| check.name == name)
}

/// The errors of all figures, by each client's own definitions.
fn error_table(clients: &[Client], scenario: &str) -> String {
    let deviation = |client: &Client, name: &str| {
        let judgement = client.in_scenario(scenario)?;
        judgement.deviations.iter().find(|one| row_name(one) == name).cloned()
    };
    let all = || clients.iter().filter_map(|client| client.in_scenario(scenario)).flat_map(|one| &one.deviations);
    let names: Vec<String> = all().filter(|one| STATISTICS.contains(&one.of.as_str())).map(row_name).collect();
    if names.is_empty() {
        return String::new();
    }
    let cell = |client: &Client, name: &str| match deviation(client, name) {
        None => ("", String::new()),
        Some(one) => (if one.is_wrong { "bad" } else { "" }, mark(&one) + &error(&one)),
    };
    let rows: Vec<_> = distinct(names.iter().map(String::as_str))
        .into_iter()
        .map(|name| row(name, clients, |client| cell(client, name)))
        .collect();
    let table = table_of_cells(&head("error (ms)", clients), &rows);
    table + &note("≈ compared with the true value by the client's own definition, which is below")
}

fn row_name(deviation: &Deviation) -> String {
    format!("{} {}", deviation.figure.name(), deviation.of)
}

fn mark(deviation: &Deviation) -> String {
    if deviation.definition.is_some() { "≈ ".to_string() } else { String::new() }
}

/// All checks of one client, with their texts.
fn details(name: &str, judgement: &Judgement) -> String {
    let line = |check: &Check| {
        let (sign, name, text) = (sign(check.verdict), escape(&check.name), escape(&check.text));
        format!("<li>{sign} <b>{name}</b> {text}</li>")
    };
    let lines: String = judgement.checks.iter().map(line).collect();
    format!("<details><summary>{}</summary><ul>{lines}</ul></details>", escape(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::sheet::clients;
    use crate::judge::{Asked, ServerError};

    fn judgement(name: &str, verdict: Verdict, text: &str) -> Judgement {
        Judgement {
            name: name.to_string(),
            scenario: "steady".to_string(),
            mock: "ttft=1ms".to_string(),
            asked: Asked::default(),
            client: crate::judge::client::ClientRun::default(),
            observed: Default::default(),
            truth: Default::default(),
            claims: None,
            server: ServerError::default(),
            checks: vec![Check { name: "TTFT".to_string(), verdict, text: text.to_string() }],
            deviations: Vec::new(),
        }
    }

    #[test]
    fn clients_are_side_by_side_and_their_texts_are_escaped() {
        let evil = "<script>alert(1)</script>";
        let mut worse = judgement(evil, Verdict::Fail, evil);
        worse.client.command = vec![evil.to_string()];
        worse.mock = evil.to_string();
        worse.scenario = evil.to_string();
        let page = html(&clients(vec![judgement("good", Verdict::Pass, "right"), worse], ""));
        assert!(!page.contains("<script>alert"), "{page}");
        assert!(page.contains("<th>good</th>") && page.contains("&lt;script&gt;alert(1)"), "{page}");
        assert!(page.contains("class=\"good\">✓") && page.contains("class=\"bad\">✗"), "{page}");
    }

    #[test]
    fn a_client_that_could_not_be_judged_has_no_score() {
        let mut late = judgement("late", Verdict::Pass, "right");
        late.checks.push(Check::new(crate::judge::checks::MOCK, false, "99 ms late".to_string()));
        late.observed.peak_in_flight = 77;
        let clients = clients(vec![judgement("good", Verdict::Pass, "right"), late], "");
        let page = html(&clients);
        assert!(page.contains("class=\"passable\">void<") && page.contains(VOID_MEANING), "{page}");
        assert!(page.contains(">77<"), "{page}");
        let text = crate::judge::text::side_by_side(&clients, 100);
        assert!(text.contains("1 of 1") && text.contains("void") && text.contains(VOID_MEANING), "{text}");
        let judgements: Vec<Judgement> = clients.into_iter().flat_map(|client| client.judgements).collect();
        let score = crate::judge::text::score(&judgements);
        assert!(score.starts_with("1 of 1 checks passed\n1 of 2 scenarios void"), "{score}");
    }
}
