//! The results of a call as evalscope 1.14 writes them, so that its own loader, reports and dashboards show them: a folder
//! with a folder for each run, named after its load. Times in its files are in ms where the key says so. Its figures
//! have no null: -1 stands for one that is not known, as evalscope has it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};

use super::{ExportError, make_folder, write};
use crate::record::facts::{Mode, RunFacts};
use crate::report::Measured;
use crate::report::json::speed_rows;
use crate::stats::Summary;
use crate::stats::quantile::nearest_rank;
use crate::stats::samples::Sample;
use crate::store::evalscope;

/// What evalscope writes for a figure that is not known.
const UNKNOWN: f64 = -1.0;
/// Its rows of percentiles, in thousandths.
const ROWS: [(&str, u32); 11] = [
    ("min", 0),
    ("1%", 10),
    ("5%", 50),
    ("10%", 100),
    ("25%", 250),
    ("50%", 500),
    ("75%", 750),
    ("90%", 900),
    ("95%", 950),
    ("99%", 990),
    ("max", 1000),
];

/// Writes `count` runs, which `read` returns by their number, below `folder`; returns the folders of the runs. Repetitions of a
/// load are in `run_2`, `run_3` and so on below it, because evalscope reads one run for each load.
pub fn write_folder(
    count: usize,
    read: &dyn Fn(usize) -> Result<Measured, ExportError>,
    folder: &Path,
) -> Result<Vec<PathBuf>, ExportError> {
    let mut written: Vec<PathBuf> = Vec::new();
    for number in 0..count {
        let run = read(number)?;
        let name = run_name(&run.summary);
        let place = (1..).map(|number| match number {
            1 => folder.join(&name),
            _ => folder.join(format!("run_{number}")).join(&name),
        });
        let Some(place) = place.into_iter().find(|place| !written.contains(place)) else { continue };
        write_run(&run, &place)?;
        written.push(place);
    }
    Ok(written)
}

/// The folder of a run: `parallel_8_number_100` or `rate_20.0_number_100`. A rate of -1 stands for a schedule without one.
fn run_name(summary: &Summary) -> String {
    let facts = &summary.facts;
    let number = facts.requests.unwrap_or(summary.counts.scheduled);
    match (facts.mode, facts.parallel) {
        (Mode::Closed | Mode::Paced, Some(parallel)) => format!("parallel_{parallel}_number_{number}"),
        _ => format!("rate_{:?}_number_{number}", rate(facts)),
    }
}

/// The planned rate of requests; -1 without one.
fn rate(facts: &RunFacts) -> f64 {
    facts.rate_per_s.filter(|&rate| rate > 0.0).unwrap_or(UNKNOWN)
}

/// Writes one run.
pub fn write_run(run: &Measured, place: &Path) -> Result<(), ExportError> {
    let data = place.join("benchmark_data.db");
    make_folder(&data)?;
    let gaps_s = evalscope::export_plain(&super::parts(run), &data)?;
    let write_json = |name: &str, value: &Json| write(&place.join(name), format!("{value:#}\n").as_bytes());
    write_json("benchmark_args.json", &arguments(run))?;
    write_json("benchmark_summary.json", &summary(run))?;
    write_json("benchmark_percentile.json", &percentiles(run, gaps_s))?;
    if !run.summary.speed.is_empty() {
        write_json("speed_benchmark.json", &speed_rows(&run.summary))?;
    }
    Ok(())
}

/// The arguments of the run, with what the loader reads: the model, the API, the dataset and the URL.
fn arguments(run: &Measured) -> Json {
    let mut arguments = match serde_json::from_str(&run.run.arguments_json) {
        Ok(Json::Object(arguments)) => arguments,
        _ => Map::new(),
    };
    let facts = &run.summary.facts;
    let known = [("model", &facts.model), ("api", &facts.api), ("dataset", &facts.dataset), ("url", &facts.url)];
    arguments.extend(known.map(|(name, value)| (name.to_string(), json!(value))));
    arguments.insert("parallel".to_string(), json!(facts.parallel.map_or(-1, i64::from)));
    arguments.insert("number".to_string(), json!(facts.requests));
    arguments.insert("rate".to_string(), json!(rate(facts)));
    Json::Object(arguments)
}

/// `benchmark_summary.json`.
fn summary(run: &Measured) -> Json {
    let s = &run.summary;
    let known = |value: Option<f64>| value.filter(|value| value.is_finite()).unwrap_or(UNKNOWN);
    let ms = |value: Option<f64>| known(value.map(|seconds| seconds * 1e3));
    let ok = || run.samples.iter().filter(|sample| sample.ok);
    let streamed = ok().filter(|sample| sample.streamed).count();
    let mut out = json!({
        "Test Duration (s)": known(s.time_s),
        "Concurrency": s.facts.parallel.map_or(-1, i64::from),
        "Request Rate (req/s)": rate(&s.facts),
        "Total Requests": s.counts.ok + s.counts.failed + s.counts.unfinished,
        "Success Requests": s.counts.ok,
        "Failed Requests": s.counts.failed + s.counts.unfinished,
        "Stream Requests": streamed,
        "Non-Stream Requests": ok().count() - streamed,
        "Req Throughput (req/s)": known(s.throughput.requests_per_s),
        "Avg Latency (s)": known(s.series.latency_s.mean),
        "Avg Input Tokens": known(s.series.input_tokens.mean),
    });
    let more = match s.generates_text() {
        true => json!({
            "Output Throughput (tok/s)": known(s.throughput.output_tokens_per_s),
            "Total Throughput (tok/s)": known(s.throughput.total_tokens_per_s),
            "Avg TTFT (ms)": ms(s.series.ttft_s.mean),
            "Avg TPOT (ms)": ms(s.series.tpot_s.mean),
            "Avg ITL (ms)": ms(s.series.itl_s.mean),
            "Avg Output Tokens": known(s.series.output_tokens.mean),
        }),
        false => json!({"Input Throughput (tok/s)": known(s.throughput.input_tokens_per_s)}),
    };
    if let (Json::Object(out), Json::Object(more)) = (&mut out, more) {
        out.extend(more);
        out.extend(optional(s));
    }
    out
}

/// Keys that are there only if the run has the figure.
fn optional(s: &Summary) -> Map<String, Json> {
    let mut out = Map::new();
    let mut add = |name: &str, value: Option<f64>| {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            out.insert(name.to_string(), json!(value));
        }
    };
    if let Some(turns) = &s.turns {
        let requests: u64 = turns.rows.iter().map(|row| row.requests).sum();
        add("Avg Turns/Request", (turns.begun > 0).then(|| requests as f64 / turns.begun as f64));
        add("KV Cache Hit Rate (%)", s.cached_share.map(|share| share * 100.0));
        add("Avg First-Turn TTFT (ms)", turns.rows.first().and_then(|row| row.ttft_s.mean).map(|mean| mean * 1e3));
        let later = turns.rows.iter().skip(1).filter_map(|row| Some((row.ttft_s.mean?, row.ttft_s.count as f64)));
        let (sum, count) = later.fold((0.0, 0.0), |(sum, count), (mean, n)| (sum + mean * n, count + n));
        add("Avg Subsequent-Turn TTFT (ms)", (count > 0.0).then(|| sum / count * 1e3));
    }
    add("Avg Decoded Tok/Iter", s.tokens_per_event);
    out
}

/// `benchmark_percentile.json`: nearest ranks of the succeeded requests. Columns without values are left out.
fn percentiles(run: &Measured, gaps_s: Vec<f64>) -> Json {
    let ok = || run.samples.iter().filter(|sample| sample.ok);
    let of = |value: fn(&Sample) -> Option<f64>| ok().filter_map(|sample| value(&sample)).collect::<Vec<f64>>();
    let columns: [(&str, Vec<f64>); 9] = [
        ("Latency (s)", of(|sample| Some(sample.latency as f64 / 1e9))),
        ("TTFT (ms)", of(|sample| sample.ttft.map(|ns| ns as f64 / 1e6))),
        ("ITL (ms)", gaps_s.into_iter().map(|gap| gap * 1e3).collect()),
        ("TPOT (ms)", of(|sample| sample.tpot.map(|ns| ns / 1e6))),
        ("Input tokens", of(|sample| sample.input_tokens.map(f64::from))),
        ("Output tokens", of(|sample| sample.output_tokens.map(f64::from))),
        ("Output (tok/s)", of(|sample| sample.output_rate)),
        ("Total (tok/s)", of(|sample| sample.total_rate)),
        ("Decode (tok/s)", of(|sample| sample.tpot.filter(|&ns| ns > 0.0).map(|ns| 1e9 / ns))),
    ];
    let mut rows: Vec<Map<String, Json>> =
        ROWS.iter().map(|(name, _)| Map::from_iter([("Percentiles".to_string(), json!(name))])).collect();
    for (name, mut values) in columns {
        values.sort_unstable_by(f64::total_cmp);
        let Some(&min) = values.first() else { continue };
        for (row, (_, per_mille)) in rows.iter_mut().zip(ROWS) {
            let value = if per_mille == 0 { min } else { values[nearest_rank(values.len(), per_mille) - 1] };
            row.insert(name.to_string(), json!(value));
        }
    }
    json!(rows)
}
