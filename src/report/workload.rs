//! Whether two runs measured the same thing.

use serde_json::{Map, Value as Json};

use super::Measured;

/// Arguments that do not change what is asked of a server: where it is, who asks, what is kept, how it is shown.
const BESIDE_THE_WORKLOAD: [&str; 53] = [
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
    "language",
    "csv",
    "export",
    "workers",
    "cores",
    "spin",
    "source_address",
    "cacert",
    "insecure",
    "proxy",
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
    "attn_implementation",
    "tokenizer_path",
    "data_source",
    "warmup_num",
    "cold",
    "server_metrics",
    "drain",
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
];

/// The arguments in which the workloads of two runs differ, each with both values.
pub fn differences(a: &Measured, b: &Measured) -> Vec<String> {
    let (a, b) = (arguments(a), arguments(b));
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differs = |key: &&&String| !BESIDE_THE_WORKLOAD.contains(&key.as_str()) && a.get(**key) != b.get(**key);
    let show = |map: &Map<String, Json>, key: &str| map.get(key).map_or_else(|| "-".to_string(), text);
    keys.iter().filter(differs).map(|key| format!("{key} {} / {}", show(&a, key), show(&b, key))).collect()
}

fn arguments(run: &Measured) -> Map<String, Json> {
    match serde_json::from_str(&run.run.arguments_json) {
        Ok(Json::Object(map)) => map,
        _ => Map::new(),
    }
}

fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
