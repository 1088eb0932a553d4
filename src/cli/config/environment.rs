//! Flags in the environment: `RINGMARK_FLAG_MAX_TOKENS=100` is `--max-tokens 100`.

use std::ffi::OsString;

use clap::{Arg, Command};

use super::flag::{find, has_optional_value, is_list, is_switch, of_bool, takes_json, takes_no_value};
use super::{Place, Setting, Values};

const PREFIX: &str = "RINGMARK_FLAG_";

/// The settings of the variables whose names begin with `RINGMARK_FLAG_`, sorted by name. An empty variable counts as not
/// set.
///
/// # Errors
/// One line that names the variable.
pub(super) fn settings(
    perf: &Command,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<Setting>, String> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let Some(key) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let variable = format!("{PREFIX}{key}");
        let wrong = |what: String| format!("environment variable {variable}: {what}");
        let argument = find(perf, &key.to_lowercase()).map_err(wrong)?;
        let value = value.into_string().map_err(|_| wrong("its value is not UTF-8".to_string()))?;
        if value.is_empty() {
            continue;
        }
        let values = values(argument, value).map_err(wrong)?;
        let flag = argument.get_long().unwrap_or_default().to_string();
        let place = Place::Variable(format!("environment variable {variable}"));
        found.push(Setting { id: argument.get_id().clone(), flag, values, place });
    }
    found.sort_by(|a, b| a.flag.cmp(&b.flag));
    if let Some(pair) = found.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(format!("{} and {} set the same flag: unset one of them", pair[0].place, pair[1].place));
    }
    Ok(found)
}

/// The values of a text: true or false for a switch, a JSON array for several values, else one value.
fn values(argument: &Arg, text: String) -> Result<Values, String> {
    let truth = match text.as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    };
    if is_switch(argument) {
        return truth.map_or_else(|| Err(takes_no_value(argument)), |given| of_bool(argument, given));
    }
    if let Some(given) = truth.filter(|_| has_optional_value(argument)) {
        return of_bool(argument, given);
    }
    if is_list(argument) && text.starts_with('[') {
        let list: Option<Vec<serde_json::Value>> = serde_json::from_str(&text).ok();
        let scalar = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        match list.and_then(|list| list.iter().map(scalar).collect::<Option<Vec<String>>>()) {
            Some(list) if list.is_empty() => return Ok(Values::Off),
            Some(list) => return Ok(Values::Each(list)),
            None if takes_json(argument) => {}
            None => return Err("several values are a JSON array, such as [1, 2] or [\"a\", \"b\"]".to_string()),
        }
    }
    Ok(Values::Each(vec![text]))
}
