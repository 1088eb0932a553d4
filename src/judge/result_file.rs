//! The file in which a client wrote its figures: its formats, and where it is.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::claims::Claims;
use super::client::{ClientRun, STDOUT};
use super::figures::{Figure, ITL_OF_ANSWER, TPOT_FROM_REQUEST};
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

impl Format {
    /// The definition by which the program of this format measures a figure, if it is another one than this program's, from
    /// its source code: AIPerf 0.13 (`metrics/types/inter_token_latency_metric.py`) and GuideLLM 0.8
    /// (`schemas/base/request_stats.py`). Values of a client that is late by much do not show their definition.
    pub fn definition(self, figure: Figure) -> Option<&'static str> {
        match (self, figure) {
            (Format::Aiperf | Format::Guidellm, Figure::Itl) => Some(ITL_OF_ANSWER),
            (Format::Guidellm, Figure::Tpot) => Some(TPOT_FROM_REQUEST),
            _ => None,
        }
    }
}

/// The format of this name, or an error that lists all names.
pub fn format_named(name: &str) -> Result<Format, String> {
    let names = FORMATS.map(|(name, ..)| name).join(", ");
    let found = FORMATS.iter().find(|(other, ..)| *other == name);
    found.map(|(_, format, _)| *format).ok_or_else(|| format!("must be one of {names}"))
}

/// The largest result file that is read. Files with every request are larger than those with figures only.
const MAX_BYTES: u64 = 256 << 20;
/// The file with evalscope's percentiles.
const PERCENTILES: &str = "benchmark_percentile.json";

/// A result file that was there before the client started, and has not changed since, is not the client's.
#[derive(Debug, Default)]
pub struct Before(Vec<(PathBuf, Stamp)>);

/// What changes when a file is written or replaced: device, inode, length, and the times of the last changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp([u64; 3], [i64; 4]);

impl Stamp {
    fn new(found: &Metadata) -> Stamp {
        let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
        Stamp([found.dev(), found.ino(), found.len()], times)
    }
}

impl Before {
    /// The files that are there now where the client will write. Its folder has none.
    pub fn new(result: Option<&Path>, folder: &Path) -> Before {
        let files = result.map(|result| folder.join(result)).into_iter();
        let files = files.flat_map(|file| [file.with_file_name(PERCENTILES), file]);
        Before(files.filter_map(|file| fs::metadata(&file).ok().map(|found| (file, Stamp::new(&found)))).collect())
    }

    fn has(&self, path: &Path, found: &Metadata) -> bool {
        self.0.iter().any(|(file, stamp)| file == path && *stamp == Stamp::new(found))
    }
}

/// Reads the result of a client: `result`, or else the newest file in the client's folder that has the format. The folder
/// was empty when the client started, so that no file in it is older.
///
/// # Errors
/// One line: there is no such file, or it cannot be read.
pub fn read(
    format: Format,
    result: Option<&Path>,
    folder: &Path,
    before: &Before,
    client: &ClientRun,
) -> Result<Claims, String> {
    let file = match result {
        Some(file) => folder.join(file),
        None => newest(format, folder).ok_or_else(|| {
            let ended = if client.status == Some(0) { "" } else { "; the client failed" };
            format!("the client wrote no {} in its folder{ended}; give its path with --result", expected(format))
        })?,
    };
    let mut claims = parse(format, &file, before)?;
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
    let is_readable = || parse(format, path, &Before::default()).is_ok();
    match format {
        Format::Vllm | Format::GenaiBench => name.ends_with(".json") && is_readable(),
        Format::Sglang => name.ends_with(".jsonl") && is_readable(),
        Format::Oha => (name.ends_with(".json") || name == STDOUT) && is_readable(),
        _ => name == expected(format),
    }
}

fn parse(format: Format, path: &Path, before: &Before) -> Result<Claims, String> {
    let text = text(path, before)?;
    let json = match format {
        // Each run appends a line.
        Format::Sglang => json(path, text.lines().last().unwrap_or(""))?,
        _ => json(path, &text)?,
    };
    let claims = match format {
        Format::Ringmark | Format::Evalscope => programs::evalscope(&json, &percentiles_beside(path, before)?),
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
fn percentiles_beside(path: &Path, before: &Before) -> Result<Json, String> {
    let beside = path.with_file_name(PERCENTILES);
    if beside.exists() { json(&beside, &text(&beside, before)?) } else { Ok(Json::Null) }
}

/// The text of a regular file. Clients make others by mistake, and a pipe or a device can have no end.
fn text(path: &Path, before: &Before) -> Result<String, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    // Without waiting, in case it is a pipe that nobody writes to.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(wrong)?;
    let found = file.metadata().map_err(wrong)?;
    if !found.is_file() {
        return Err(format!("{}: not a regular file", path.display()));
    }
    if before.has(path, &found) {
        return Err(format!(
            "{}: it is from before the start of the client, which has not written it: remove it, or correct --result",
            path.display()
        ));
    }
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(wrong)?;
    if read as u64 > MAX_BYTES {
        return Err(format!("{}: larger than {} MiB", path.display(), MAX_BYTES >> 20));
    }
    Ok(text)
}

fn json(path: &Path, text: &str) -> Result<Json, String> {
    serde_json::from_str(text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn found(format: Format, files: &[(&str, &str)]) -> Result<Claims, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let client = ClientRun { status: Some(0), ..ClientRun::default() };
        read(format, None, folder.path(), &Before::default(), &client)
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

    #[test]
    fn a_result_from_before_the_start_is_not_the_clients() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (summary, percentiles) = (other.path().join("benchmark_summary.json"), other.path().join(PERCENTILES));
        let write = || std::fs::write(&summary, r#"{"Average latency (s)": 2.0}"#).unwrap();
        write();
        std::fs::write(&percentiles, "[]").unwrap();
        let before = Before::new(Some(&summary), folder.path());
        let read = || read(Format::Evalscope, Some(&summary), folder.path(), &before, &ClientRun::default());
        assert!(read().unwrap_err().contains("benchmark_summary.json: it is from before the start"), "{:?}", read());
        // The percentiles of an earlier run do not belong to the summary of this one.
        std::fs::remove_file(&summary).unwrap();
        write();
        assert!(read().unwrap_err().contains("benchmark_percentile.json: it is from before the start"), "{:?}", read());
        std::fs::remove_file(&percentiles).unwrap();
        assert_eq!(read().unwrap().latency_ms.mean, Some(2000.0));
    }

    #[test]
    fn what_has_no_end_is_not_a_result() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let read = |file: &str| {
            read(Format::Ringmark, Some(&path(file)), folder.path(), &Before::default(), &ClientRun::default())
        };
        let pipe = |name: &str| assert!(Command::new("mkfifo").arg(path(name)).status().unwrap().success());
        pipe("pipe.json");
        std::os::unix::fs::symlink("/dev/zero", path("zero.json")).unwrap();
        for file in ["pipe.json", "zero.json"] {
            assert!(read(file).unwrap_err().ends_with("not a regular file"), "{:?}", read(file));
        }
        std::fs::write(path("benchmark_summary.json"), r#"{"Average latency (s)": 2.0}"#).unwrap();
        pipe(PERCENTILES);
        assert!(read("benchmark_summary.json").unwrap_err().ends_with("not a regular file"));
    }
}
