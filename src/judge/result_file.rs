//! The file in which a client wrote its figures: its formats, and where it is.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::claims::Claims;
use super::client::{ClientRun, STDOUT};
use super::figures::Figure;
use super::programs;

/// The file format of a client's result; see [`FORMATS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Ringmark,
    /// It has the same files.
    Evalscope,
    Vllm,
    Sglang,
    Aiperf,
    Guidellm,
    GenaiBench,
    Oha,
    /// For clients of one's own.
    Plain,
}

/// The formats by name, with what they are.
pub const FORMATS: [(&str, Format, &str); 9] = [
    ("ringmark", Format::Ringmark, "benchmark_summary.json and benchmark_percentile.json"),
    ("evalscope", Format::Evalscope, "the same files of evalscope perf"),
    ("vllm", Format::Vllm, "the file of vllm bench serve --save-result, or of vllm-rs"),
    ("sglang", Format::Sglang, "the file of SGLang's bench_serving --output-file"),
    ("aiperf", Format::Aiperf, "profile_export_aiperf.json of AIPerf"),
    ("guidellm", Format::Guidellm, "benchmarks.json of guidellm benchmark"),
    ("genai-bench", Format::GenaiBench, "the file of one run in the experiment's folder of genai-bench"),
    ("oha", Format::Oha, "what oha --no-tui --output-format json prints, or its file (--output)"),
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

/// The largest result file that is read. Files with every request are larger than those with figures only.
const MAX_BYTES: u64 = 256 << 20;

/// Reads the result of a client: `result`, or else the newest file in the client's folder that has the format. The folder
/// was empty when the client started, so that no file in it is older.
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
        Format::Guidellm => "benchmarks.json",
        Format::GenaiBench => "JSON file with aggregated_metrics",
        Format::Oha => "JSON of oha, neither on standard output nor as a file,",
        Format::Plain => "result.json",
    }
}

/// The newest file below `folder` that has the format.
fn newest(format: Format, folder: &Path) -> Option<PathBuf> {
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        // A folder or a file that cannot be read is not the result.
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && fits(format, &path) {
                found.extend(entry.metadata().and_then(|metadata| metadata.modified()).ok().map(|at| (at, path)));
            }
        }
    }
    found.into_iter().max().map(|(_, path)| path)
}

fn fits(format: Format, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    match format {
        Format::Vllm | Format::GenaiBench => name.ends_with(".json") && parse(format, path).is_ok(),
        Format::Sglang => name.ends_with(".jsonl") && parse(format, path).is_ok(),
        Format::Oha => (name.ends_with(".json") || name == STDOUT) && parse(format, path).is_ok(),
        _ => name == expected(format),
    }
}

fn parse(format: Format, path: &Path) -> Result<Claims, String> {
    let text = text(path)?;
    let json = match format {
        // Each run appends a line.
        Format::Sglang => json(path, text.lines().last().unwrap_or(""))?,
        _ => json(path, &text)?,
    };
    let claims = match format {
        Format::Ringmark | Format::Evalscope => programs::evalscope(&json, &percentiles_beside(path)?),
        Format::Vllm | Format::Sglang => programs::vllm(&json),
        Format::Aiperf => programs::aiperf(&json),
        Format::Guidellm => programs::guidellm(&json).map_err(|what| format!("{}: {what}", path.display()))?,
        Format::GenaiBench => programs::genai_bench(&json),
        Format::Oha => programs::oha(&json),
        Format::Plain => programs::plain(&json),
    };
    if Figure::ALL.iter().all(|figure| claims.reported(*figure).mean.is_none()) {
        return Err(format!("{}: no mean TTFT, ITL, TPOT or latency is in it", path.display()));
    }
    Ok(claims)
}

/// evalscope's percentiles, which are in a file of their own.
fn percentiles_beside(path: &Path) -> Result<Json, String> {
    let beside = path.with_file_name("benchmark_percentile.json");
    if beside.exists() { json(&beside, &text(&beside)?) } else { Ok(Json::Null) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(format: Format, files: &[(&str, &str)]) -> Result<Claims, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        read(format, None, folder.path(), &ClientRun { status: Some(0), ..ClientRun::default() })
    }

    const OHA: &str = r#"{"summary": {"average": 0.5}, "latencyPercentiles": {"p50": 0.4}}"#;
    const GENAI_BENCH: &str = r#"{"aggregated_metrics": {"stats": {"ttft": {"mean": 0.5}}}, "_time_unit": "s"}"#;
    const GUIDELLM: &str =
        r#"{"benchmarks": [{"metrics": {"time_to_first_token_ms": {"successful": {"mean": 5.0}}}}]}"#;

    #[test]
    fn results_are_found_where_programs_write_them_by_default() {
        let cases: [(Format, &str, &str); 7] = [
            (Format::Oha, STDOUT, OHA),
            (Format::Oha, "figures/oha.json", OHA),
            (Format::GenaiBench, "openai_chat_2026/D100_100_text-to-text_num_concurrency_8_time_6s.json", GENAI_BENCH),
            (Format::Guidellm, "benchmarks.json", GUIDELLM),
            (Format::Vllm, "openai-infqps.json", r#"{"mean_ttft_ms": 5.0}"#),
            (Format::Sglang, "sglang_1127_100_random.jsonl", "{\"mean_ttft_ms\": 4.0}\n{\"mean_ttft_ms\": 5.0}\n"),
            (
                Format::Aiperf,
                "artifacts/mock/profile_export_aiperf.json",
                r#"{"time_to_first_token": {"avg": 5.0, "unit": "ms"}}"#,
            ),
        ];
        for (format, file, text) in cases {
            let claims = found(format, &[(file, text), ("log.txt", "x"), ("other.json", "{}")]).unwrap();
            assert_eq!(claims.file, Path::new(file));
            assert!(Figure::ALL.iter().any(|figure| claims.reported(*figure).mean.is_some()), "{claims:?}");
        }
    }

    #[test]
    fn a_missing_or_broken_result_is_one_line() {
        for (_, format, _) in FORMATS {
            let error = found(format, &[("other.txt", "x")]).unwrap_err();
            assert!(error.lines().count() == 1 && error.contains("--result"), "{error}");
        }
        let two_loads = found(Format::Guidellm, &[("benchmarks.json", r#"{"benchmarks": [{}, {}]}"#)]).unwrap_err();
        assert!(two_loads.contains("2 loads"), "{two_loads}");
    }
}
