//! The messages to the helper: one JSON object per line.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use crate::plan::{Plan, VisualizerPlan};
use crate::store::live::Snapshot;

/// The first column of a table over runs: the load of the run.
const LOAD: &str = "Load";

/// The first message: service, names and configuration. It contains the key and must not be logged.
pub fn start(plan: &VisualizerPlan, folder: &Path, config: &str) -> Json {
    let config: Json = serde_json::from_str(config).unwrap_or(Json::Null);
    json!({
        "do": "start",
        "service": plan.service.name(),
        "name": plan.name,
        "default_name": plan.default_name,
        "folder": folder.display().to_string(),
        "key": plan.key,
        "local": plan.local,
        "config": config,
    })
}

/// A data point of a run. Figures that are not known yet are omitted.
pub fn figures(series: &str, so_far: &Snapshot) -> Json {
    let mut values = Map::new();
    let counts = [
        ("ok", so_far.ok),
        ("failed", so_far.failed),
        ("unfinished", so_far.unfinished),
        ("input_tokens", so_far.input_tokens),
        ("output_tokens", so_far.output_tokens),
    ];
    values.extend(counts.map(|(name, count)| (name.to_string(), json!(count))));
    let seconds = |ns: Option<u64>| ns.map(|ns| ns as f64 / 1e9);
    let measures = [
        ("elapsed_s", Some(so_far.elapsed_s)),
        ("requests_per_s", so_far.requests_per_s()),
        ("output_tokens_per_s", so_far.output_tokens_per_s()),
        ("ttft_p50_s", seconds(so_far.ttft_p50_ns)),
        ("ttft_p99_s", seconds(so_far.ttft_p99_ns)),
        ("itl_p50_s", seconds(so_far.itl_p50_ns)),
        ("itl_p99_s", seconds(so_far.itl_p99_ns)),
        ("latency_p50_s", seconds(so_far.latency_p50_ns)),
        ("latency_p99_s", seconds(so_far.latency_p99_ns)),
    ];
    let known = measures.into_iter().filter_map(|(name, value)| Some((name.to_string(), json!(value?))));
    values.extend(known);
    json!({"do": "figures", "series": series, "step": so_far.done, "values": values})
}

/// The load of a run, which is the name of its folder: `parallel_8_number_100`.
pub fn load_name(plan: &Plan) -> String {
    plan.report.folder.file_name().unwrap_or_default().to_string_lossy().to_string()
}

/// The members of an object that are numbers.
pub fn numbers(object: &Json) -> Map<String, Json> {
    let members = object.as_object().into_iter().flatten();
    members.filter(|(_, value)| value.is_number()).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The rows of the percentile table, without members that are arrays or objects.
pub fn percentile_rows(percentiles: &Json) -> Vec<Map<String, Json>> {
    let rows = percentiles.as_array().into_iter().flatten().filter_map(Json::as_object);
    let cells = |row: &Map<String, Json>| {
        let plain = row.iter().filter(|(_, value)| !value.is_array() && !value.is_object());
        plain.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    rows.map(cells).collect()
}

/// A row for each run, with its load in the first column.
pub fn result_rows(results: &[(String, Map<String, Json>)]) -> Vec<Map<String, Json>> {
    let row = |(load, values): &(String, Map<String, Json>)| {
        let mut row = Map::new();
        row.insert(LOAD.to_string(), json!(load));
        row.extend(values.clone());
        row
    };
    results.iter().map(row).collect()
}

/// A table whose columns are the names in its rows, in order of first appearance. A missing cell is null.
pub fn table(title: &str, series: &str, rows: &[Map<String, Json>]) -> Json {
    let mut columns: Vec<&String> = Vec::new();
    for name in rows.iter().flat_map(Map::keys) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let cells = |row: &Map<String, Json>| -> Vec<Json> {
        columns.iter().map(|column| row.get(*column).cloned().unwrap_or(Json::Null)).collect()
    };
    let rows: Vec<Vec<Json>> = rows.iter().map(cells).collect();
    json!({"do": "table", "title": title, "series": series, "columns": columns, "rows": rows})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_figures_are_omitted() {
        let so_far = Snapshot { done: 20, ok: 19, failed: 1, ttft_p50_ns: Some(50_000_000), ..Snapshot::default() };
        let message = figures("parallel_8", &so_far);
        assert_eq!((&message["step"], &message["series"]), (&json!(20), &json!("parallel_8")));
        assert_eq!((&message["values"]["ok"], &message["values"]["ttft_p50_s"]), (&json!(19), &json!(0.05)));
        assert!(message["values"].get("itl_p50_s").is_none() && message["values"].get("requests_per_s").is_none());
    }

    #[test]
    fn tables_have_all_columns_of_their_rows() {
        let rows = [("a", json!({"x": 1, "gone": "text"})), ("b", json!({"x": 2.5, "y": 3}))];
        let rows: Vec<_> = rows.iter().map(|(load, object)| (load.to_string(), numbers(object))).collect();
        let table = table("summary", "", &result_rows(&rows));
        assert_eq!(table["columns"], json!(["Load", "x", "y"]));
        assert_eq!(table["rows"], json!([["a", 1, null], ["b", 2.5, 3]]));
        let percentiles = json!([{"Percentiles": "50%", "TTFT (s)": null, "Too few samples beyond": ["x"]}]);
        let columns = &super::table("percentiles", "", &percentile_rows(&percentiles))["columns"];
        assert_eq!(columns, &json!(["Percentiles", "TTFT (s)"]));
    }
}
