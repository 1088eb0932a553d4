//! The figures that a client reported, from the files of several programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value as Json;

use super::client::ClientRun;
use super::figures::Figure;

/// The file format of a client's result; see [`FORMATS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Ringmark,
    /// It has the same files.
    Evalscope,
    Vllm,
    Sglang,
    Aiperf,
    /// For clients of one's own.
    Plain,
}

/// The formats by name, with what they are.
pub const FORMATS: [(&str, Format, &str); 6] = [
    ("ringmark", Format::Ringmark, "benchmark_summary.json and benchmark_percentile.json"),
    ("evalscope", Format::Evalscope, "the same files of evalscope perf"),
    ("vllm", Format::Vllm, "the file of vllm bench serve --save-result, or of vllm-rs"),
    ("sglang", Format::Sglang, "the file of SGLang's bench_serving --output-file"),
    ("aiperf", Format::Aiperf, "profile_export_aiperf.json of AIPerf"),
    (
        "plain",
        Format::Plain,
        "result.json with ok, failed, requests_per_s, output_tokens_per_s, warning, and ttft_ms, itl_ms, tpot_ms, latency_ms, each \
         an object with mean, p50, p99, max and so on",
    ),
];

/// The format of this name, or an error that lists all names.
pub fn format_named(name: &str) -> Result<Format, String> {
    let names = FORMATS.map(|(name, ..)| name).join(", ");
    let found = FORMATS.iter().find(|(other, ..)| *other == name);
    found.map(|(_, format, _)| *format).ok_or_else(|| format!("must be one of {names}"))
}

/// Mean and percentiles of a figure, milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reported {
    pub mean: Option<f64>,
    /// By percent as text, such as "99.9"; "100" is the maximum.
    pub percentiles: BTreeMap<String, f64>,
}

/// What a client reported; `None` for what it did not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Claims {
    pub file: PathBuf,
    pub ok: Option<f64>,
    pub failed: Option<f64>,
    pub requests_per_s: Option<f64>,
    pub output_tokens_per_s: Option<f64>,
    /// The client's own statement that its figures are affected by itself.
    pub warning: Option<String>,
    pub ttft_ms: Reported,
    pub itl_ms: Reported,
    pub tpot_ms: Reported,
    pub latency_ms: Reported,
}

impl Claims {
    pub fn of(&self, figure: Figure) -> &Reported {
        match figure {
            Figure::Ttft => &self.ttft_ms,
            Figure::Itl => &self.itl_ms,
            Figure::Tpot => &self.tpot_ms,
            Figure::Latency => &self.latency_ms,
        }
    }
}

/// The largest result file that is read. Files with every request are larger than those with figures only.
const MAX_BYTES: u64 = 256 << 20;

/// Reads the result of a client: `result`, or else the newest file in the client's folder that has the format.
///
/// # Errors
/// One line: there is no such file, or it cannot be read.
pub fn read(format: Format, result: Option<&Path>, folder: &Path, client: &ClientRun) -> Result<Claims, String> {
    let file = match result {
        Some(file) => folder.join(file),
        None => newest(format, folder).ok_or_else(|| {
            let ended = if client.status == Some(0) { "" } else { "; the client failed" };
            format!("the client wrote no {} in its folder{ended}; give its path with --result", expected(format))
        })?,
    };
    let mut claims = parse(format, &file)?;
    claims.file = file.strip_prefix(folder).unwrap_or(&file).to_path_buf();
    Ok(claims)
}

/// The file of a format, for messages.
fn expected(format: Format) -> &'static str {
    match format {
        Format::Ringmark | Format::Evalscope => "benchmark_summary.json",
        Format::Vllm => "JSON file with mean_ttft_ms",
        Format::Sglang => "JSON lines file with mean_ttft_ms",
        Format::Aiperf => "profile_export_aiperf.json",
        Format::Plain => "result.json",
    }
}

/// The newest file below `folder` that has the format.
fn newest(format: Format, folder: &Path) -> Option<PathBuf> {
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && fits(format, &path) {
                found.push((entry.metadata().and_then(|metadata| metadata.modified()).ok()?, path));
            }
        }
    }
    found.into_iter().max().map(|(_, path)| path)
}

fn fits(format: Format, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    match format {
        Format::Vllm => name.ends_with(".json") && parse(format, path).is_ok(),
        Format::Sglang => name.ends_with(".jsonl") && parse(format, path).is_ok(),
        _ => name == expected(format),
    }
}

fn parse(format: Format, path: &Path) -> Result<Claims, String> {
    let json = match format {
        // Each run appends a line.
        Format::Sglang => json(path, text(path)?.lines().last().unwrap_or(""))?,
        _ => json(path, &text(path)?)?,
    };
    let claims = match format {
        Format::Ringmark | Format::Evalscope => evalscope(&json, path)?,
        Format::Vllm | Format::Sglang => vllm(&json),
        Format::Aiperf => aiperf(&json),
        Format::Plain => plain(&json),
    };
    if Figure::ALL.iter().all(|figure| claims.of(*figure).mean.is_none()) {
        return Err(format!("{}: no mean TTFT, ITL, TPOT or latency is in it", path.display()));
    }
    Ok(claims)
}

fn text(path: &Path) -> Result<String, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    if std::fs::metadata(path).map_err(wrong)?.len() > MAX_BYTES {
        return Err(format!("{}: larger than {} MiB", path.display(), MAX_BYTES >> 20));
    }
    std::fs::read_to_string(path).map_err(wrong)
}

fn json(path: &Path, text: &str) -> Result<Json, String> {
    serde_json::from_str(text).map_err(|error| format!("{}: {error}", path.display()))
}

/// evalscope's summary, and its percentiles beside it. Times are seconds.
fn evalscope(summary: &Json, path: &Path) -> Result<Claims, String> {
    let beside = path.with_file_name("benchmark_percentile.json");
    let percentiles = if beside.exists() { json(&beside, &text(&beside)?)? } else { Json::Null };
    let mean = |name: &str| summary[name].as_f64().map(|seconds| seconds * 1e3);
    let figure = |mean: Option<f64>, column: &str| {
        let of_row = |row: &Json| {
            let name = row["Percentiles"].as_str()?.trim_end_matches('%');
            let percent = if name == "max" { "100" } else { name };
            Some((percent.to_string(), row[column].as_f64()? * 1e3))
        };
        Reported { mean, percentiles: percentiles.as_array().into_iter().flatten().filter_map(of_row).collect() }
    };
    Ok(Claims {
        ok: summary["Succeed requests"].as_f64(),
        failed: summary["Failed requests"].as_f64(),
        requests_per_s: summary["Request throughput (req/s)"].as_f64(),
        output_tokens_per_s: summary["Output token throughput (tok/s)"].as_f64(),
        warning: warning(&summary["Findings"]),
        ttft_ms: figure(mean("Average time to first token (s)"), "TTFT (s)"),
        itl_ms: figure(mean("Average inter-token latency (s)"), "ITL (s)"),
        tpot_ms: figure(mean("Average time per output token (s)"), "TPOT (s)"),
        latency_ms: figure(mean("Average latency (s)"), "Latency (s)"),
        ..Claims::default()
    })
}

/// The text of the first finding of this program that is more than a note and is about the client.
fn warning(findings: &Json) -> Option<String> {
    let severe = |finding: &&Json| matches!(finding["severity"].as_str(), Some("caution" | "void"));
    let of_client = |finding: &&Json| finding["cause"].as_str() == Some("client_busy");
    let found = findings.as_array()?.iter().filter(severe).find(of_client)?;
    found["text"].as_str().map(str::to_string)
}

/// vLLM's flat object; SGLang's has the same names except for the latency.
fn vllm(json: &Json) -> Claims {
    let figure = |names: &[&str]| {
        let name = names.iter().find(|name| json[format!("mean_{name}_ms")].is_number()).unwrap_or(&names[0]);
        let ms = |prefix: &str| json[format!("{prefix}_{name}_ms")].as_f64();
        let percent_of = |key: &str| {
            let percent = key.strip_suffix(&format!("_{name}_ms"))?.strip_prefix('p')?;
            percent.parse::<f64>().is_ok().then(|| percent.to_string())
        };
        let keys = json.as_object().into_iter().flatten();
        let mut percentiles: BTreeMap<String, f64> =
            keys.filter_map(|(key, value)| Some((percent_of(key)?, value.as_f64()?))).collect();
        percentiles.extend(ms("median").map(|median| ("50".to_string(), median)));
        percentiles.extend(ms("max").map(|max| ("100".to_string(), max)));
        Reported { mean: ms("mean"), percentiles }
    };
    Claims {
        ok: json["completed"].as_f64(),
        failed: json["failed"].as_f64(),
        requests_per_s: json["request_throughput"].as_f64(),
        output_tokens_per_s: json["output_throughput"].as_f64(),
        ttft_ms: figure(&["ttft"]),
        itl_ms: figure(&["itl"]),
        tpot_ms: figure(&["tpot"]),
        latency_ms: figure(&["e2el", "e2e_latency"]),
        ..Claims::default()
    }
}

/// AIPerf's metrics: `{"time_to_first_token": {"unit": "ms", "avg": 1.0, "p50": ...}}`.
fn aiperf(json: &Json) -> Claims {
    let figure = |name: &str| {
        let metric = &json[name];
        let factor = if metric["unit"].as_str() == Some("s") { 1e3 } else { 1.0 };
        scaled(&statistics(metric, "avg"), factor)
    };
    let average = |name: &str| json[name]["avg"].as_f64();
    Claims {
        ok: average("request_count"),
        failed: average("error_request_count"),
        requests_per_s: average("request_throughput"),
        output_tokens_per_s: average("output_token_throughput"),
        ttft_ms: figure("time_to_first_token"),
        // AIPerf's inter-token latency is one value for each request.
        tpot_ms: figure("inter_token_latency"),
        latency_ms: figure("request_latency"),
        ..Claims::default()
    }
}

fn plain(json: &Json) -> Claims {
    Claims {
        ok: json["ok"].as_f64(),
        failed: json["failed"].as_f64(),
        requests_per_s: json["requests_per_s"].as_f64(),
        output_tokens_per_s: json["output_tokens_per_s"].as_f64(),
        warning: json["warning"].as_str().map(str::to_string),
        ttft_ms: statistics(&json["ttft_ms"], "mean"),
        itl_ms: statistics(&json["itl_ms"], "mean"),
        tpot_ms: statistics(&json["tpot_ms"], "mean"),
        latency_ms: statistics(&json["latency_ms"], "mean"),
        ..Claims::default()
    }
}

/// An object with a mean, percentiles `p50`, `p99`, ... and `max`.
fn statistics(json: &Json, mean: &str) -> Reported {
    let percent_of = |key: &str| match key {
        "max" => Some("100".to_string()),
        _ => key.strip_prefix('p').filter(|percent| percent.parse::<f64>().is_ok()).map(str::to_string),
    };
    let fields = json.as_object().into_iter().flatten();
    Reported {
        mean: json[mean].as_f64(),
        percentiles: fields.filter_map(|(key, value)| Some((percent_of(key)?, value.as_f64()?))).collect(),
    }
}

fn scaled(reported: &Reported, factor: f64) -> Reported {
    Reported {
        mean: reported.mean.map(|value| value * factor),
        percentiles: reported.percentiles.iter().map(|(percent, value)| (percent.clone(), value * factor)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn vllms_and_sglangs_names_are_read() {
        let json = json!({"completed": 9, "mean_ttft_ms": 1.0, "median_ttft_ms": 0.9, "p99_ttft_ms": 2.0, "mean_e2e_latency_ms": 7.0, "p99_itl_ms": 3});
        let claims = vllm(&json);
        assert_eq!((claims.ok, claims.ttft_ms.mean, claims.latency_ms.mean), (Some(9.0), Some(1.0), Some(7.0)));
        assert_eq!(claims.ttft_ms.percentiles, BTreeMap::from([("50".into(), 0.9), ("99".into(), 2.0)]));
        assert_eq!(claims.itl_ms.percentiles, BTreeMap::from([("99".into(), 3.0)]));
    }

    #[test]
    fn aiperfs_units_are_converted() {
        let json = json!({"time_to_first_token": {"unit": "ms", "avg": 5.0, "p50": 4.0}, "request_latency": {"unit": "s", "avg": 0.5, "max": 1.0}});
        let claims = aiperf(&json);
        assert_eq!((claims.ttft_ms.mean, claims.latency_ms.mean), (Some(5.0), Some(500.0)));
        assert_eq!(claims.latency_ms.percentiles, BTreeMap::from([("100".into(), 1000.0)]));
    }
}
