//! `--print-config`: the flags of a call as a file for `--config`.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use toml::Value as Toml;
use toml::de::DeValue;

use super::flag::{has_optional_value, is_list, is_switch};
use super::{Call, is_own, perf_command};
use crate::prepare::secret_values::is_reference;
use crate::secrets::{is_secret_name, mask, masked_json, masked_proxy, masked_url};
use crate::spec::Spec;

/// Prefix of the variables that stand for secrets of the command line.
const SECRET: &str = "RINGMARK_SECRET_";

/// The file. Each flag that is given is a key; the others are comments with their defaults. Secrets are references to
/// variables or files.
///
/// # Errors
/// If a value is not UTF-8, which TOML cannot have, or contains the secret of another flag.
pub(crate) fn print(calls: &[Call]) -> Result<String, String> {
    let mut out = "# Flags in comments have their defaults.\n".to_string();
    let mut variables = Variables::default();
    for call in calls {
        if call.scenario.is_some() {
            out.push_str("\n[[scenario]]\n");
        }
        out.push_str(&table(call, &mut variables)?);
    }
    Ok(out)
}

/// The variables that stand for secrets, with the secrets. Each secret has a variable of its own.
#[derive(Default)]
struct Variables(BTreeMap<String, String>);

impl Variables {
    /// The reference to the variable of a secret, which is named after its flag: with a number if another secret has the name.
    fn reference(&mut self, flag: &str, secret: &str) -> String {
        let capital = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let name: String = SECRET.chars().chain(flag.chars().map(capital)).collect();
        let mut variable = name.clone();
        for number in 2.. {
            if self.0.get(&variable).is_none_or(|other| other == secret) {
                break;
            }
            variable = format!("{name}_{number}");
        }
        self.0.insert(variable.clone(), secret.to_string());
        format!("env:{variable}")
    }
}

fn table(call: &Call, variables: &mut Variables) -> Result<String, String> {
    let perf = perf_command();
    let (mut given, mut defaults) = (String::new(), String::new());
    for argument in perf.get_arguments().filter(|argument| !is_own(argument)) {
        let Some(flag) = argument.get_long() else { continue };
        match call.matches.value_source(argument.get_id().as_str()) {
            Some(ValueSource::CommandLine) => {
                given.push_str(&format!("{flag} = {}\n", value(call, argument, variables)?))
            }
            _ if argument.is_hide_set() || argument.get_default_values().is_empty() || is_switch(argument) => {}
            _ => {
                let values: Vec<String> =
                    argument.get_default_values().iter().map(|value| literal(&value.to_string_lossy())).collect();
                defaults.push_str(&format!("# {flag} = {}\n", values.join(" ")));
            }
        }
    }
    Ok(given + &defaults)
}

/// The value of a flag that is given.
fn value(call: &Call, argument: &Arg, variables: &mut Variables) -> Result<String, String> {
    if is_switch(argument) {
        return Ok("true".to_string());
    }
    let values = raw(&call.matches, argument)?;
    if has_optional_value(argument) && values.iter().all(String::is_empty) {
        return Ok("true".to_string());
    }
    let mut shown =
        |value: &String| without_secret(&call.spec, argument, value, variables).map(|value| literal(&value));
    let shown: Vec<String> = values.iter().map(&mut shown).collect::<Result<_, _>>()?;
    Ok(if is_list(argument) { format!("[{}]", shown.join(", ")) } else { shown.concat() })
}

fn raw(matches: &ArgMatches, argument: &Arg) -> Result<Vec<String>, String> {
    let text = |value: &OsStr| {
        let flag = argument.get_long().unwrap_or_default();
        value.to_str().map(str::to_string).ok_or_else(|| format!("--{flag}: the value is not UTF-8, which TOML needs"))
    };
    matches.get_raw(argument.get_id().as_str()).into_iter().flatten().map(text).collect()
}

/// A number as it is, everything else as a text.
fn literal(value: &str) -> String {
    let is_number = value.starts_with(|first: char| first.is_ascii_digit() || first == '-');
    let written = DeValue::parse(value).ok().filter(|_| is_number);
    let same = written.is_some_and(|written| match written.get_ref() {
        DeValue::Integer(number) => number.radix() == 10 && number.as_str() == value,
        DeValue::Float(number) => number.as_str() == value,
        _ => false,
    });
    if same { value.to_string() } else { Toml::String(value.to_string()).to_string() }
}

/// The value, or a reference to a variable if it is or contains a secret.
///
/// # Errors
/// If it contains a secret and the flag accepts no references.
fn without_secret(spec: &Spec, argument: &Arg, value: &str, variables: &mut Variables) -> Result<String, String> {
    let secrets = spec.secrets();
    let flag = argument.get_long().unwrap_or_default();
    Ok(match argument.get_id().as_str() {
        _ if is_reference(value) => value.to_string(),
        "api_key" | "wandb_api_key" => variables.reference(flag, value),
        "swanlab_api_key" if value.trim() != crate::options::LOCAL => variables.reference(flag, value),
        "headers" => match value.split_once('=') {
            Some((_, value_of)) if is_reference(value_of) => value.to_string(),
            Some((name, value_of)) if is_secret_name(name) || mask(value_of, &secrets) != value_of => {
                format!("{name}={}", variables.reference(&format!("header_{name}"), value_of))
            }
            _ => value.to_string(),
        },
        "url" | "server_metrics" if mask(&masked_url(value), &secrets) != value => variables.reference(flag, value),
        "proxy" if masked_proxy(value) != value => variables.reference(flag, value),
        "extra_args" | "query_template" | "dataset_args" if mask(&masked_json(value), &secrets) != value => {
            variables.reference(flag, value)
        }
        "server_args" if mask(value, &secrets) != value => variables.reference(flag, value),
        "url" | "server_metrics" | "proxy" | "extra_args" | "query_template" | "dataset_args" | "swanlab_api_key" => {
            value.to_string()
        }
        _ if mask(value, &secrets) != value => {
            return Err(format!(
                "--{flag} contains the secret of another flag, which is not printed: change one of them"
            ));
        }
        _ => value.to_string(),
    })
}
