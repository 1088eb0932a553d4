//! The file of `--config`: TOML, whose keys are the long names of the flags. `[[scenario]]` tables with a `name` have the
//! flags of one call each, in addition to the keys before them.

use std::path::Path;

use clap::{Arg, Command};
use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::flag::{find, is_list, is_switch, of_bool, takes_json, takes_no_value, takes_pairs};
use super::{Place, Setting, Values};
use crate::files::read_value_text;

/// The key of the scenarios.
const SCENARIO: &str = "scenario";

/// The content of a file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub shared: Vec<Setting>,
    pub scenarios: Vec<Scenario>,
}

/// A `[[scenario]]` table. Its name is also the value of `--name`.
#[derive(Debug)]
pub(super) struct Scenario {
    pub name: String,
    pub settings: Vec<Setting>,
}

/// Reads a file.
///
/// # Errors
/// One line that names the file and the line in it.
pub(super) fn read(perf: &Command, path: &Path) -> Result<File, String> {
    let name = path.display().to_string();
    let text = read_value_text(path).map_err(|error| format!("--config: cannot read {name}: {error}"))?;
    parse(perf, &name, &text)
}

/// Parses the text of the file `name`.
pub(super) fn parse(perf: &Command, name: &str, text: &str) -> Result<File, String> {
    let source = Source { perf, name, text };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        format!("{}: {}", source.place(at), error.message().lines().next().unwrap_or("is not TOML"))
    })?;
    let mut file = File { shared: source.settings(table.get_ref())?, scenarios: Vec::new() };
    let Some((key, scenarios)) = table.get_ref().iter().find(|(key, _)| key.get_ref() == SCENARIO) else {
        return Ok(file);
    };
    let form = || format!("{}: scenarios are [[scenario]] tables", source.place(key.span().start));
    for scenario in scenarios.get_ref().as_array().ok_or_else(form)?.iter() {
        let place = source.place(scenario.span().start);
        let table = scenario.get_ref().as_table().ok_or_else(form)?;
        let name = table.iter().find(|(key, _)| key.get_ref() == "name");
        let Some(name) = name.and_then(|(_, name)| name.get_ref().as_str()).filter(|name| !name.trim().is_empty())
        else {
            return Err(format!("{place}: the scenario has no name: add name = \"NAME\""));
        };
        if file.scenarios.iter().any(|other| other.name == name) {
            return Err(format!("{place}: there are two scenarios with the name '{name}'"));
        }
        if table.iter().any(|(key, _)| key.get_ref() == SCENARIO) {
            return Err(format!("{place}: a scenario cannot contain scenarios"));
        }
        file.scenarios.push(Scenario { name: name.to_string(), settings: source.settings(table)? });
    }
    Ok(file)
}

/// The text of a file, and where it is from.
struct Source<'a> {
    perf: &'a Command,
    name: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, at: usize) -> Place {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Place::File { path: self.name.to_string(), line }
    }

    /// The settings of a table, in the order of the file.
    fn settings(&self, table: &DeTable<'_>) -> Result<Vec<Setting>, String> {
        let mut entries: Vec<_> = table.iter().filter(|(key, _)| key.get_ref() != SCENARIO).collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut found: Vec<Setting> = Vec::new();
        for (key, value) in entries {
            let place = self.place(key.span().start);
            let wrong = |what: String| format!("{place}: {what}");
            let argument = find(self.perf, key.get_ref()).map_err(wrong)?;
            let id = argument.get_id().clone();
            if found.iter().any(|other| other.id == id) {
                return Err(wrong(format!("'{}' is given twice", key.get_ref())));
            }
            let values = values(argument, value.get_ref()).map_err(wrong)?;
            let flag = argument.get_long().unwrap_or_default().to_string();
            found.push(Setting { id, flag, values, place });
        }
        Ok(found)
    }
}

fn values(argument: &Arg, value: &DeValue<'_>) -> Result<Values, String> {
    let name = argument.get_long().unwrap_or_default();
    match value {
        DeValue::Boolean(given) => of_bool(argument, *given),
        _ if is_switch(argument) => Err(takes_no_value(argument)),
        DeValue::Array(items) if is_list(argument) && items.iter().all(|item| scalar(item.get_ref()).is_some()) => {
            match items.iter().filter_map(|item| scalar(item.get_ref())).collect::<Vec<String>>() {
                none if none.is_empty() => Ok(Values::Off),
                values => Ok(Values::Each(values)),
            }
        }
        DeValue::Table(table) if takes_pairs(argument) => {
            let pair = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                scalar(value.get_ref()).map(|value| format!("{key}={value}"))
            };
            let pairs: Option<Vec<String>> = table.iter().map(pair).collect();
            pairs.map(Values::Each).ok_or_else(|| format!("the values of '{name}' must be texts or numbers"))
        }
        DeValue::Array(_) | DeValue::Table(_) if takes_json(argument) => {
            Ok(Values::Each(vec![json(value).to_string()]))
        }
        DeValue::Array(_) if is_list(argument) => Err(format!("'{name}' is a list of texts or numbers")),
        DeValue::Array(_) => Err(format!("'{name}' has one value, not a list")),
        DeValue::Table(_) => Err(format!("'{name}' is not a table")),
        scalar_value => Ok(Values::Each(scalar(scalar_value).into_iter().collect())),
    }
}

/// A text, number or date as the value of a flag.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(decimal(number)),
        DeValue::Float(number) => Some(number.as_str().to_string()),
        DeValue::Datetime(date) => Some(date.to_string()),
        DeValue::Boolean(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// An integer in decimal notation. One that no integer type can have stays as it is written.
fn decimal(number: &DeInteger<'_>) -> String {
    let written = number.as_str();
    match (number.radix(), i128::from_str_radix(written, number.radix())) {
        (10, _) | (_, Err(_)) => written.to_string(),
        (_, Ok(number)) => number.to_string(),
    }
}

fn json(value: &DeValue<'_>) -> Json {
    match value {
        DeValue::Integer(number) => {
            let written = decimal(number);
            serde_json::from_str(written.trim_start_matches('+')).unwrap_or(Json::String(written))
        }
        DeValue::Float(number) => {
            number.as_str().parse().ok().and_then(serde_json::Number::from_f64).map_or(Json::Null, Json::Number)
        }
        DeValue::Boolean(value) => Json::Bool(*value),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => {
            table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref()))).collect()
        }
        other => Json::String(scalar(other).unwrap_or_default()),
    }
}
