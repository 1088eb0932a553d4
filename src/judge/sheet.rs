//! Several clients side by side: their judgements, read from files, and their scores.

use std::path::Path;

use super::Judgement;
use super::verdict::{Check, Verdict};
use crate::files;

/// The largest file that is read.
const MAX_BYTES: u64 = 256 << 20;

/// A client, and what was found in each scenario.
#[derive(Clone, Debug)]
pub struct Client {
    pub name: String,
    pub judgements: Vec<Judgement>,
}

impl Client {
    /// What was found in a scenario; the last one if it was repeated.
    pub fn in_scenario(&self, scenario: &str) -> Option<&Judgement> {
        self.judgements.iter().rev().find(|judgement| judgement.scenario == scenario)
    }
}

/// The clients in files that `ringmark judge --json` wrote. Clients of one name in several files get the file's name
/// beside their own.
///
/// # Errors
/// One line: a file cannot be read, or has something else.
pub fn read(paths: &[impl AsRef<Path>]) -> Result<Vec<Client>, String> {
    let mut clients: Vec<Client> = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        for client in read_one(path)? {
            let is_taken = clients.iter().any(|other| other.name == client.name);
            clients.push(if is_taken { renamed(client, path) } else { client });
        }
    }
    Ok(clients)
}

/// The client with the file's name beside its own.
fn renamed(mut client: Client, path: &Path) -> Client {
    client.name = format!("{} ({})", client.name, path.display());
    client.judgements.iter_mut().for_each(|judgement| judgement.name.clone_from(&client.name));
    client
}

fn read_one(path: &Path) -> Result<Vec<Client>, String> {
    let wrong = |why: String| format!("{}: {why}", path.display());
    let text = files::read_at_most(path, MAX_BYTES).map_err(|error| wrong(error.to_string()))?;
    let judgements: Vec<Judgement> = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("not a file that 'ringmark judge --json' wrote: {error}")))?;
    if judgements.is_empty() {
        return Err(wrong("no scenario is in it".to_string()));
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(clients(judgements, &stem))
}

/// The judgements by client; `unnamed` is the name of one without a name.
pub fn clients(judgements: Vec<Judgement>, unnamed: &str) -> Vec<Client> {
    let mut clients: Vec<Client> = Vec::new();
    for judgement in judgements {
        let name = if judgement.name.is_empty() { unnamed } else { &judgement.name }.to_string();
        let judgement = Judgement { name: name.clone(), ..judgement };
        match clients.iter_mut().find(|client| client.name == name) {
            Some(client) => client.judgements.push(judgement),
            None => clients.push(Client { name, judgements: vec![judgement] }),
        }
    }
    clients
}

/// The scenarios of these clients, in the order in which they first occur.
pub fn scenarios(clients: &[Client]) -> Vec<&str> {
    distinct(clients.iter().flat_map(|client| &client.judgements).map(|judgement| judgement.scenario.as_str()))
}

/// The names of the checks of these judgements, in the order in which they first occur.
pub fn check_names<'a>(judgements: impl Iterator<Item = &'a Judgement>) -> Vec<&'a str> {
    distinct(judgements.flat_map(|judgement| &judgement.checks).map(|check| check.name.as_str()))
}

/// The names without repetitions.
pub fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all: Vec<&str> = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// How many checks had which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Checks that the client passed, of `judged`: all that could be answered.
    pub passed: usize,
    pub judged: usize,
    /// Figures that are right by another definition.
    pub other_definition: usize,
}

impl Score {
    /// The score of all scenarios in which the server was good enough.
    pub fn of_all(judgements: &[Judgement]) -> Score {
        Score::new(judgements.iter().filter(|judgement| !judgement.is_void()).flat_map(|judgement| &judgement.checks))
    }

    /// "7 of 9", or "void" if the server was not good enough to judge.
    pub fn text(judgement: &Judgement) -> String {
        let score = Score::new(judgement.checks.iter());
        if judgement.is_void() { VOID.to_string() } else { format!("{} of {}", score.passed, score.judged) }
    }

    /// The score of these checks.
    pub fn new<'a>(checks: impl Iterator<Item = &'a Check>) -> Score {
        let mut score = Score::default();
        for check in checks.filter(|check| check.verdict != Verdict::Unknown) {
            score.judged += 1;
            score.passed += usize::from(check.verdict == Verdict::Pass);
            score.other_definition += usize::from(check.verdict == Verdict::OtherDefinition);
        }
        score
    }
}

/// The score of a client that could not be judged, and what it means.
pub const VOID: &str = "void";
pub const VOID_MEANING: &str = "void: the server was not good enough to judge, repeat it on a machine with less load";

/// The sign of a verdict.
pub fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✓",
        Verdict::OtherDefinition => "≈",
        Verdict::Warned => "!",
        Verdict::Fail => "✗",
        Verdict::Unknown => "-",
    }
}

/// What the signs mean.
pub const SIGNS: &str =
    "✓ right, ✗ wrong, ≈ right by another definition, ! wrong and reported to be, - not reported or not checked";
