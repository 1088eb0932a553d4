//! Flags by the keys of a file or the names of variables.

use clap::{Arg, ArgAction, Command};

use super::Values;
use crate::spec::names::nearest;

/// Flags that are meant for the command line only.
const OWN: [&str; 4] = ["config", "scenario", "print_config", "help"];

/// Whether a flag belongs to the command line only.
pub(super) fn is_own(argument: &Arg) -> bool {
    OWN.contains(&argument.get_id().as_str())
}

/// The flag with this name, with dashes or underscores; also one of its aliases.
///
/// # Errors
/// What is wrong with the name, and the most similar flag.
pub(super) fn find<'a>(perf: &'a Command, key: &str) -> Result<&'a Arg, String> {
    let normal = |name: &str| name.replace('_', "-");
    let key_with_dashes = normal(key);
    let named = perf.get_arguments().find(|argument| {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        argument.get_long().into_iter().chain(aliases).any(|name| normal(name) == key_with_dashes)
    });
    match named {
        Some(argument) if is_own(argument) => Err(format!("'{key}' can only be given on the command line")),
        Some(argument) => Ok(argument),
        None => {
            let names: Vec<String> = perf
                .get_arguments()
                .filter(|argument| !is_own(argument) && !argument.is_hide_set())
                .filter_map(|argument| Some(argument.get_long()?.replace('-', "_")))
                .collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            Err(match nearest(key, &names) {
                Some(name) => format!("unknown key '{key}': did you mean '{}'?", name.replace('_', "-")),
                None => format!("unknown key '{key}': see 'ringmark perf --help' for the flags"),
            })
        }
    }
}

/// Whether the flag takes no value.
pub(super) fn is_switch(argument: &Arg) -> bool {
    !argument.get_action().takes_values()
}

/// Whether the flag can be given with several values.
pub(super) fn is_list(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Append)
}

/// Whether the flag has a value that may be left out.
pub(super) fn has_optional_value(argument: &Arg) -> bool {
    argument.get_num_args().is_some_and(|range| range.min_values() == 0) && !is_switch(argument)
}

/// Whether the value of the flag can be JSON.
pub(super) fn takes_json(argument: &Arg) -> bool {
    has_value_name(argument, &["JSON", "CRITERIA", "CRITERION"])
}

/// Whether the values of the flag are names with values.
pub(super) fn takes_pairs(argument: &Arg) -> bool {
    has_value_name(argument, &["NAME=VALUE"])
}

fn has_value_name(argument: &Arg, names: &[&str]) -> bool {
    argument.get_value_names().is_some_and(|own| own.iter().any(|name| names.contains(&name.as_str())))
}

/// The values of a truth value.
///
/// # Errors
/// If the flag needs a value.
pub(super) fn of_bool(argument: &Arg, given: bool) -> Result<Values, String> {
    match (is_switch(argument) || has_optional_value(argument), given) {
        (true, true) => Ok(Values::On),
        (true, false) => Ok(Values::Off),
        (false, _) => Err(format!("'{}' needs a value, not true or false", argument.get_long().unwrap_or_default())),
    }
}

/// The error for a value of a flag that takes none.
pub(super) fn takes_no_value(argument: &Arg) -> String {
    format!("'{}' is true or false", argument.get_long().unwrap_or_default())
}
