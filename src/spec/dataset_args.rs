//! `--dataset-args`: the arguments of a single dataset, as a JSON object. Each dataset accepts its own; an unknown one is an
//! error.

use serde_json::{Map, Value as Json};

use super::names::is_program;
use crate::plan::PlanError;
use crate::workload::fit::Fit;

const FLAG: &str = "--dataset-args";
/// Longest prompt and target, tokens. Larger values are typing errors.
const MAX_TOKENS: u64 = 10_000_000;
/// Most lengths of the speed benchmark.
const MAX_LENGTHS: usize = 1000;

/// The arguments of a dataset by name.
pub(super) type DatasetArgs = Map<String, Json>;

/// The arguments that a dataset has; `None`: it is a program, which gets all of them.
fn known(dataset: &str) -> Option<&'static [&'static str]> {
    match dataset {
        name if is_program(name) => None,
        "speed_benchmark" | "speed_benchmark_long" => Some(&["lengths"]),
        "line_by_line" | "openqa" | "longalpaca" => Some(&["target_input_len", "input_len_mode"]),
        "random_embedding" => Some(&["batch_size"]),
        "random_rerank" => Some(&["num_documents", "document_length_ratio"]),
        _ => Some(&[]),
    }
}

/// Parses the arguments and checks that the dataset has them.
pub(super) fn parse(text: Option<&str>, dataset: Option<&str>) -> Result<DatasetArgs, PlanError> {
    let Some(text) = text else { return Ok(Map::new()) };
    let Some(dataset) = dataset else {
        return Err(PlanError::conflict(format!("{FLAG} has the arguments of a dataset: add --dataset")));
    };
    let fields = match serde_json::from_str(text) {
        Ok(Json::Object(fields)) => fields,
        Ok(_) => {
            return Err(PlanError::value(FLAG, "must be a JSON object, for example '{\"target_input_len\": 512}'"));
        }
        Err(error) => return Err(PlanError::value(FLAG, format!("is not valid JSON ({error})"))),
    };
    let Some(known) = known(dataset) else { return Ok(fields) };
    let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) else { return Ok(fields) };
    Err(PlanError::value(
        FLAG,
        match (unknown.as_str(), known) {
            ("prefix_file" | "prefix_role", _) => {
                format!(
                    "has '{unknown}', which is not supported: --dataset random has prefixes of exact lengths (--prefix-length)"
                )
            }
            (_, []) => format!("has '{unknown}', but --dataset {dataset} has no arguments: remove {FLAG}"),
            _ => format!("has an unknown name '{unknown}' (known for --dataset {dataset}: {})", known.join(", ")),
        },
    ))
}

/// The prompt lengths of the speed benchmark, tokens; `None` without `lengths`.
pub(super) fn lengths(arguments: &DatasetArgs) -> Result<Option<Vec<usize>>, PlanError> {
    let Some(value) = arguments.get("lengths") else { return Ok(None) };
    let length = |value: &Json| value.as_u64().filter(|length| (1..=MAX_TOKENS).contains(length)).map(|n| n as usize);
    let lengths = value.as_array().and_then(|items| items.iter().map(length).collect::<Option<Vec<usize>>>());
    match lengths {
        Some(lengths) if (1..=MAX_LENGTHS).contains(&lengths.len()) => Ok(Some(lengths)),
        _ => Err(PlanError::value(
            FLAG,
            format!(
                "must have a list of 1 to {MAX_LENGTHS} prompt lengths, each from 1 to {MAX_TOKENS}, as 'lengths', not {value}"
            ),
        )),
    }
}

/// The length that texts are fitted to; `None` without `target_input_len`.
pub(super) fn fit(arguments: &DatasetArgs, has_tokenizer: bool, has_limits: bool) -> Result<Option<Fit>, PlanError> {
    let drops_shorter = match arguments.get("input_len_mode").map(Json::as_str) {
        None | Some(Some("cap")) => false,
        Some(Some("drop")) => true,
        Some(_) => return Err(PlanError::value(FLAG, "must have \"cap\" or \"drop\" as 'input_len_mode'")),
    };
    let Some(value) = arguments.get("target_input_len") else {
        return match arguments.contains_key("input_len_mode") {
            true => Err(PlanError::value(FLAG, "has 'input_len_mode' without 'target_input_len': add that")),
            false => Ok(None),
        };
    };
    let Some(tokens) = value.as_u64().filter(|tokens| (1..=MAX_TOKENS).contains(tokens)) else {
        return Err(PlanError::value(
            FLAG,
            format!("must have a whole number from 1 to {MAX_TOKENS} as 'target_input_len', not {value}"),
        ));
    };
    if !has_tokenizer {
        return Err(PlanError::conflict(format!("{FLAG}: 'target_input_len' counts tokens: add --tokenizer-path")));
    }
    if has_limits {
        return Err(PlanError::conflict(format!(
            "{FLAG}: 'target_input_len' sets the length of prompts: remove --min-prompt-length and --max-prompt-length"
        )));
    }
    Ok(Some(Fit { tokens, drops_shorter }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T: std::fmt::Debug>(result: Result<T, PlanError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn each_dataset_has_its_own_arguments() {
        let parsed = |text: &str, dataset| parse(Some(text), Some(dataset));
        assert!(parsed(r#"{"target_input_len": 5}"#, "openqa").is_ok());
        assert!(parsed(r#"{"anything": []}"#, "./program").is_ok());
        for (text, dataset, expected) in [
            (
                r#"{"target_len": 5}"#,
                "openqa",
                "unknown name 'target_len' (known for --dataset openqa: target_input_len",
            ),
            (r#"{"lengths": 5}"#, "random", "--dataset random has no arguments"),
            (r#"{"prefix_file": "x"}"#, "openqa", "not supported"),
            ("[1]", "openqa", "must be a JSON object"),
            ("{", "openqa", "is not valid JSON"),
        ] {
            assert!(error(parsed(text, dataset)).contains(expected), "{text}: {}", error(parsed(text, dataset)));
        }
        assert!(error(parse(Some("{}"), None)).contains("add --dataset"));
    }

    #[test]
    fn lengths_and_targets_are_checked() {
        let arguments = |text: &str| serde_json::from_str::<DatasetArgs>(text).unwrap();
        assert_eq!(lengths(&arguments(r#"{"lengths": [96, 2048]}"#)), Ok(Some(vec![96, 2048])));
        for wrong in ["{\"lengths\": []}", "{\"lengths\": 96}", "{\"lengths\": [0]}", "{\"lengths\": [1.5]}"] {
            assert!(error(lengths(&arguments(wrong))).contains("'lengths'"), "{wrong}");
        }
        let target = arguments(r#"{"target_input_len": 8, "input_len_mode": "drop"}"#);
        assert_eq!(fit(&target, true, false), Ok(Some(Fit { tokens: 8, drops_shorter: true })));
        assert!(error(fit(&target, false, false)).contains("--tokenizer-path"));
        assert!(error(fit(&target, true, true)).contains("--max-prompt-length"));
        assert!(error(fit(&arguments(r#"{"input_len_mode": "cap"}"#), true, false)).contains("add that"));
        assert!(error(fit(&arguments(r#"{"target_input_len": 0}"#), true, false)).contains("from 1 to"));
    }
}
