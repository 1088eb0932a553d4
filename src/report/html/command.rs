//! The command line of a call, from the arguments that are stored with its runs. Secrets are stored masked.

use serde_json::{Map, Value as Json};

use super::run::Stored;
use crate::plan::sla::SearchPlan;
use crate::report::table::cut;
use crate::spec::Spec;

/// Arguments that choose where results go and how they look, and the seeds, which are shown beside the command.
const NOT_SHOWN: [&str; 15] = [
    "outputs_dir",
    "name",
    "no_timestamp",
    "save",
    "debug",
    "log_level",
    "quiet",
    "language",
    "csv",
    "export",
    "visualizer",
    "wandb_api_key",
    "swanlab_api_key",
    "data_seed",
    "salt",
];
/// The arguments of the load, of which each run stores its own.
const OF_EACH_RUN: [&str; 3] = ["number", "parallel", "rate"];
/// Longer values, such as prompts, are cut.
const LONGEST: usize = 240;

/// The command; `None` without stored arguments.
pub fn command(runs: &[Stored<'_>]) -> Option<String> {
    let mut runs: Vec<Stored<'_>> = runs.to_vec();
    runs.sort_by_key(|run| (run.run.clock.unix_ns, run.run.facts.run));
    let of_runs: Vec<Map<String, Json>> = runs.iter().filter_map(|run| arguments(&run.run.arguments_json)).collect();
    let first = of_runs.first()?;
    let defaults = serde_json::to_value(Spec::default()).ok()?;
    let mut words = vec!["ringmark perf".to_string()];
    for (key, value) in first.iter().filter(|(key, _)| !NOT_SHOWN.contains(&key.as_str())) {
        let value = match OF_EACH_RUN.contains(&key.as_str()) {
            true => load_values(key, &of_runs, runs[0].run.facts.search.as_ref()),
            false => value.clone(),
        };
        let is_default = defaults.get(key).is_some_and(|default| *default == value);
        if !is_default && !is_empty(&value) {
            words.push(flag(key, &value));
        }
    }
    Some(words.join(" "))
}

fn arguments(json: &str) -> Option<Map<String, Json>> {
    serde_json::from_str::<Map<String, Json>>(json).ok().filter(|arguments| !arguments.is_empty())
}

/// The values of a flag of the load over all runs. A search chooses its loads itself.
fn load_values(key: &str, runs: &[Map<String, Json>], search: Option<&SearchPlan>) -> Json {
    if search.is_some_and(|plan| key != "number" && plan.variable.name() == key) {
        return Json::Null;
    }
    let of_run = |run: &Map<String, Json>| run.get(key).and_then(Json::as_array).cloned().unwrap_or_default();
    // Repetitions run the same loads again.
    let mut loads: Vec<[Vec<Json>; 3]> = Vec::new();
    for run in runs {
        let load = OF_EACH_RUN.map(|key| run.get(key).and_then(Json::as_array).cloned().unwrap_or_default());
        if !loads.contains(&load) {
            loads.push(load);
        }
    }
    let place = OF_EACH_RUN.iter().position(|other| *other == key).unwrap_or(0);
    let values: Vec<Json> = loads.iter().flat_map(|load| load[place].clone()).collect();
    match runs.iter().map(of_run).all(|value| value == of_run(&runs[0])) {
        true => Json::Array(of_run(&runs[0])),
        false if search.is_some() => Json::Null,
        false => Json::Array(values),
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(items) => items.is_empty() || *items == [Json::from(-1.0)],
        Json::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn flag(key: &str, value: &Json) -> String {
    let name = key.replace('_', "-");
    match value {
        Json::Bool(true) => format!("--{name}"),
        Json::Bool(false) => format!("--no-{name}"),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            format!("--{name} {}", items.join(" "))
        }
        Json::Object(fields) if key == "headers" => {
            let fields = fields.iter().map(|(name, value)| quoted(&format!("{name}={}", plain(value))));
            format!("--{name} {}", fields.collect::<Vec<_>>().join(" "))
        }
        other => format!("--{name} {}", text(other)),
    }
}

fn text(value: &Json) -> String {
    quoted(&cut(&plain(value), LONGEST))
}

fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        // A whole number of seconds, as it is written.
        Json::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string()),
        other => other.to_string(),
    }
}

/// A word for a shell, in quotes if it needs them.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_written_as_a_shell_reads_them() {
        assert_eq!(flag("parallel", &json!([1, 2, 4])), "--parallel 1 2 4");
        assert_eq!(flag("slo", &json!(["p99_ttft<=2"])), "--slo 'p99_ttft<=2'");
        assert_eq!(flag("open_loop", &json!(true)), "--open-loop");
        assert_eq!(flag("stream", &json!(false)), "--no-stream");
        assert_eq!(flag("duration", &json!(30.0)), "--duration 30");
        assert_eq!(flag("prompt", &json!("it's")), "--prompt 'it'\\''s'");
        assert_eq!(flag("headers", &json!({"X-A": "b c"})), "--headers 'X-A=b c'");
        assert_eq!(flag("extra_args", &json!({"a": 1})), "--extra-args '{\"a\":1}'");
    }

    #[test]
    fn loads_of_all_runs_are_in_one_command() {
        let run = |parallel: u32, number: u32| {
            let value = json!({"parallel": [parallel], "number": [number], "rate": [-1.0]});
            value.as_object().unwrap().clone()
        };
        let runs = [run(1, 10), run(4, 10), run(1, 10)];
        assert_eq!(load_values("parallel", &runs, None), json!([1, 4]));
        assert_eq!(load_values("number", &runs, None), json!([10]));
        assert!(is_empty(&load_values("rate", &runs, None)));
        assert_eq!(load_values("number", &[run(1, 10), run(4, 40)], None), json!([10, 40]));
    }
}
