//! Whether two runs measured the same workload.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Map, Value as Json, json};

use super::Measured;
use super::table::cut;
use crate::plan::DEFAULT_MAX_TOKENS;
use crate::spec::Spec;

/// Maximum width of a value in columns.
const WIDEST: usize = 60;

/// Arguments that do not change the workload: draws, target, client, storage and output. Every other argument does.
const BESIDE_THE_WORKLOAD: [&str; 71] = [
    // Runs with different draws from the same distributions are comparable.
    "seed",
    "data_seed",
    "salt",
    "model",
    "url",
    "api_key",
    "headers",
    "name",
    "outputs_dir",
    "no_timestamp",
    "save",
    "debug",
    "log_level",
    "quiet",
    "verbose",
    "live",
    "slo",
    "gpus",
    "language",
    "csv",
    "export",
    "json",
    "junit",
    "workers",
    "cores",
    "spin",
    "calibration",
    "source_address",
    "cacert",
    "cert",
    "key",
    "insecure",
    "proxy",
    "address_rotation",
    "connect_timeout",
    "read_timeout",
    "total_timeout",
    "ready_timeout",
    "max_response_size",
    "no_test_connection",
    "log_every_n_query",
    "sleep_interval",
    "visualizer",
    "wandb_api_key",
    "swanlab_api_key",
    "port",
    "tp",
    "python",
    "server_args",
    "attn_implementation",
    "tokenizer_path",
    "data_source",
    "warmup_num",
    "cold",
    "server_metrics",
    "drain",
    "abort_on",
    "repeat",
    "sla_auto_tune",
    "sla_variable",
    "sla_params",
    "sla_num_runs",
    "sla_upper_bound",
    "sla_lower_bound",
    "sla_fixed_parallel",
    "sla_number_multiplier",
    "sla_precision",
    "shard",
    "shard_address",
    "rendezvous",
    "rendezvous_timeout",
];

/// The arguments of a call without flags.
static DEFAULTS: LazyLock<Map<String, Json>> = LazyLock::new(|| match serde_json::to_value(Spec::default()) {
    Ok(Json::Object(map)) => map,
    _ => Map::new(),
});

/// The default of an argument that was not given, or that the version that made the file did not have.
fn default_of(key: &str, arguments: &Map<String, Json>) -> Option<Json> {
    let is_set = |key: &str| arguments.get(key).is_some_and(|value| !value.is_null());
    match key {
        "max_tokens" => Some(json!([DEFAULT_MAX_TOKENS])),
        "temperature" => Some(json!(0.0)),
        "dataset" if !is_set("prompt") => Some(json!("builtin")),
        _ => DEFAULTS.get(key).and_then(|value| given(key, value)),
    }
}

/// The arguments in which the workloads of two runs differ, each with both values. An argument that was not given
/// counts as its default.
pub fn differences(a: &Measured, b: &Measured) -> Vec<String> {
    differences_except(a, b, &[])
}

fn differences_except(a: &Measured, b: &Measured, except: &[&str]) -> Vec<String> {
    let (a, b) = (arguments(a), arguments(b));
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    // Shortens long prompts and those of several lines.
    let show = |value: Option<Json>| value.map_or_else(|| "not set".to_string(), |value| cut(&text(&value), WIDEST));
    let difference = |key: &&String| {
        let (a, b) = (value(&a, key), value(&b, key));
        let ignored = BESIDE_THE_WORKLOAD.contains(&key.as_str()) || except.contains(&key.as_str());
        let differs = !ignored && a != b;
        differs.then(|| format!("{key} {} / {}", show(a), show(b)))
    };
    keys.iter().filter_map(difference).collect()
}

/// Arguments that differ between the loads of one sweep.
const OF_THE_LOAD: [&str; 6] = ["parallel", "rate", "number", "duration", "open_loop", "arrival"];

/// What makes two runs unfit for one report: another server or another workload. Loads may differ.
pub fn report_differences(a: &Measured, b: &Measured) -> Vec<String> {
    [server_differences(a, b), differences_except(a, b, &OF_THE_LOAD)].concat()
}

/// The model, the URL and the API, if they differ.
pub fn server_differences(a: &Measured, b: &Measured) -> Vec<String> {
    let (url_a, url_b) = (server_url(a), server_url(b));
    let (a, b) = (&a.summary.facts, &b.summary.facts);
    let server = [("model", &a.model, &b.model), ("url", &url_a, &url_b), ("api", &a.api, &b.api)];
    server.into_iter().filter(|(_, a, b)| a != b).map(|(name, a, b)| format!("{name} {a} / {b}")).collect()
}

/// The URL of the server. That of the built-in one is as it was given: each call starts it on another port.
fn server_url(run: &Measured) -> String {
    let given = arguments(run).remove("url").and_then(|url| url.as_str().map(str::to_string));
    given.filter(|url| url.starts_with("mock:")).unwrap_or_else(|| run.summary.facts.url.clone())
}

/// An argument's value or its default; `None` when it is not set and has none.
fn value(arguments: &Map<String, Json>, key: &str) -> Option<Json> {
    arguments.get(key).and_then(|value| given(key, value)).or_else(|| default_of(key, arguments))
}

/// The value of an argument; `None` if it stands for one that was not given.
fn given(key: &str, value: &Json) -> Option<Json> {
    match value {
        Json::Null => None,
        // A rate of -1 means no rate.
        Json::Array(items) if items.is_empty() || (key == "rate" && *value == json!([-1.0])) => None,
        // A range with equal ends is one value.
        Json::Array(items) if items.len() == 2 && items[0] == items[1] => Some(json!([items[0]])),
        Json::Object(map) if map.is_empty() => None,
        other => Some(other.clone()),
    }
}

fn arguments(run: &Measured) -> Map<String, Json> {
    match serde_json::from_str(&run.run.arguments_json) {
        Ok(Json::Object(map)) => map,
        _ => Map::new(),
    }
}

fn text(value: &Json) -> String {
    match value {
        Json::String(text) if text.is_empty() => "\"\"".to_string(),
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arguments that change the workload.
    const OF_THE_WORKLOAD: [&str; 48] = [
        "api",
        "number",
        "parallel",
        "rate",
        "arrival",
        "trace_speed",
        "trace_unit",
        "trace_block",
        "trace_window",
        "open_loop",
        "ramp",
        "duration",
        "apply_chat_template",
        "tokenize_prompt",
        "prefix_length",
        "prefix_count",
        "dataset",
        "dataset_path",
        "dataset_args",
        "sharegpt_output_len",
        "image_width",
        "image_height",
        "image_format",
        "image_num",
        "dataset_offset",
        "multi_turn",
        "min_turns",
        "max_turns",
        "think_time",
        "prompt",
        "query_template",
        "min_prompt_length",
        "max_prompt_length",
        "stream",
        "max_tokens",
        "min_tokens",
        "temperature",
        "top_p",
        "top_k",
        "frequency_penalty",
        "repetition_penalty",
        "logprobs",
        "n_choices",
        "seed_per_request",
        "stop",
        "stop_token_ids",
        "extra_args",
        "witness",
    ];

    #[test]
    fn every_argument_is_of_the_workload_or_beside_it() {
        let lists = [BESIDE_THE_WORKLOAD.as_slice(), OF_THE_WORKLOAD.as_slice()].concat();
        let listed: BTreeSet<String> = lists.iter().map(|key| key.to_string()).collect();
        assert_eq!(listed.len(), lists.len(), "an argument is in both lists, or twice in one");
        // `benchmark_args.json` has these.
        let all: BTreeSet<String> = DEFAULTS.keys().cloned().collect();
        let missing: Vec<&String> = all.difference(&listed).collect();
        assert!(missing.is_empty(), "add {missing:?} to BESIDE_THE_WORKLOAD or, here, to OF_THE_WORKLOAD");
        let stale: Vec<&String> = listed.difference(&all).collect();
        assert!(stale.is_empty(), "{stale:?} are no arguments");
    }

    #[test]
    fn an_argument_that_an_older_file_lacks_counts_as_its_default() {
        let empty = Map::new();
        for (key, default) in DEFAULTS.iter() {
            let set: Map<String, Json> = [(key.clone(), default.clone())].into_iter().collect();
            assert_eq!(value(&empty, key), value(&set, key), "{key}");
        }
        let changed: Map<String, Json> = [("n_choices".to_string(), json!(2))].into_iter().collect();
        assert_ne!(value(&empty, "n_choices"), value(&changed, "n_choices"));
    }
}
