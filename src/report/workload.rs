//! Whether two runs measured the same workload.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::Measured;
use super::table::cut;
use crate::plan::DEFAULT_MAX_TOKENS;

/// Maximum width of a value in columns.
const WIDEST: usize = 60;

/// Arguments that do not change the workload: draws, target, client, storage and output.
const BESIDE_THE_WORKLOAD: [&str; 68] = [
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
    "insecure",
    "proxy",
    "address_rotation",
    "connect_timeout",
    "read_timeout",
    "total_timeout",
    "no_test_connection",
    "log_every_n_query",
    "sleep_interval",
    "visualizer",
    "wandb_api_key",
    "swanlab_api_key",
    "swanlab_host",
    "alias",
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
    "hf_endpoint",
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

/// Defaults of arguments that have one.
fn default_of(key: &str, arguments: &Map<String, Json>) -> Option<Json> {
    let is_set = |key: &str| arguments.get(key).is_some_and(|value| !value.is_null());
    match key {
        "max_tokens" => Some(json!([DEFAULT_MAX_TOKENS])),
        "temperature" => Some(json!(0.0)),
        "dataset" if !is_set("prompt") => Some(json!("builtin")),
        _ => None,
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
    let given = arguments.get(key).filter(|value| match value {
        Json::Null => false,
        Json::Array(items) => !items.is_empty(),
        Json::Object(map) => !map.is_empty(),
        _ => true,
    });
    // A rate of -1 means no rate.
    let given = given.filter(|value| key != "rate" || **value != json!([-1.0]));
    // A range with equal ends is one value.
    let given = given.map(|value| match value {
        Json::Array(items) if items.len() == 2 && items[0] == items[1] => json!([items[0]]),
        other => other.clone(),
    });
    given.or_else(|| default_of(key, arguments))
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
