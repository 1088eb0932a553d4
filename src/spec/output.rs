//! Flags of the results: folder names, database, log, SLOs, report language, exports, visualizer.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{names, values};
use crate::finding::Finding;
use crate::options::{LOCAL, Language, LogLevel, Save, Service};
use crate::plan::export::{Export, Format};
use crate::plan::{Load, PlanError, VisualizerPlan, slo};
use crate::workload::arrivals::Arrival;

const HEADING: &str = "Results";
/// Maximum length of a folder name in bytes: file systems allow 255, and suffixes need some.
const MAX_NAME_BYTES: usize = 200;
const FORMATS: [&str; 6] = ["vllm", "aiperf", "llmd", "evalscope", "evalscope-db", "lmdeploy-api"];

/// Flags of the results.
#[derive(clap::Args, Clone, Debug, PartialEq, Serialize)]
pub struct OutputSpec {
    /// Name of the results folder [default: the model name]
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    pub name: Option<String>,
    /// Parent folder of all results
    #[arg(long, value_name = "DIR", default_value = "outputs", help_heading = HEADING)]
    pub outputs_dir: PathBuf,
    /// Omit the start time from the path of the results
    #[arg(long, help_heading = HEADING)]
    pub no_timestamp: bool,
    /// Content of the database: text (prompts and responses), full (also the raw bytes of every event), metrics (no text)
    #[arg(long, value_name = "WHAT", default_value = "text", value_parser = values::save(), help_heading = HEADING)]
    pub save: Save,
    /// Log every request and response, with secrets masked
    #[arg(long, help_heading = HEADING)]
    pub debug: bool,
    /// Log level: error, warning, info, debug
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = values::log_level(), ignore_case = true, help_heading = HEADING)]
    pub log_level: LogLevel,
    /// Print only errors, the verdicts of --slo and the path of the results
    #[arg(long, help_heading = HEADING)]
    pub quiet: bool,
    /// Print all tables of each run, as performance_summary.txt has them
    #[arg(long, conflicts_with = "quiet", help_heading = HEADING)]
    pub verbose: bool,
    /// Show the run on the full screen while it lasts: throughput, requests in flight, percentiles, failures and our own
    /// lag over time. Needs a terminal
    #[arg(long, conflicts_with = "quiet", help_heading = HEADING)]
    pub live: bool,
    /// Send the figures to an experiment tracker through its Python SDK: wandb, swanlab, clearml. The SDK's environment
    /// variables apply; one point every --log-every-n-query requests
    #[arg(long, value_name = "SERVICE", value_parser = values::service(), ignore_case = true, help_heading = HEADING)]
    pub visualizer: Option<Service>,
    /// API key of wandb; implies --visualizer wandb. Prefer the environment variable WANDB_API_KEY
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, help_heading = HEADING)]
    pub wandb_api_key: Option<String>,
    /// API key of SwanLab, or "local" to keep all data on this machine; implies --visualizer swanlab
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, help_heading = HEADING)]
    pub swanlab_api_key: Option<String>,
    /// Service level objectives, for example 'p99_ttft <= 2 p99_tpot<=50ms failed<=1%', or JSON as for --sla-params.
    /// Figures: avg, p50 and so on, or max of ttft, tpot, itl and latency; rps, tps, goodput, failed, success. A failed
    /// request counts as slower than any bound. Reports SLO attainment and goodput; exit status 1 if a run misses one
    #[arg(long, value_name = "CRITERION", num_args = 1.., help_heading = HEADING)]
    pub slo: Vec<String>,
    /// Number of GPUs of the server: reports tokens per second and GPU
    #[arg(long, value_name = "N", help_heading = HEADING)]
    pub gpus: Option<u32>,
    /// Language in which the HTML report opens: en, zh. It contains both
    #[arg(long, value_name = "LANGUAGE", default_value = "en", value_parser = values::language(), help_heading = HEADING)]
    pub language: Language,
    /// Write a CSV file with one row for each run, in the columns of LMDeploy's profile_throughput.py
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub csv: Option<PathBuf>,
    /// Write a file in the format of another tool: vllm, aiperf, llmd, or evalscope-db (needs --save full). Several runs
    /// give several files, with the run's name before the extension. evalscope=DIR: a folder for evalscope's own reports
    /// and dashboards, with all runs. lmdeploy-api=FILE: the CSV of LMDeploy's profile_restful_api.py, with all runs
    #[arg(long, value_name = "FORMAT=FILE", num_args = 1.., help_heading = HEADING)]
    pub export: Vec<String>,
    /// Write one JSON document with all results of the call (tools/schema/call.schema.json) to FILE. With -, it is the only
    /// text on standard output, and tables go to standard error
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub json: Option<PathBuf>,
    /// Write the verdicts on the objectives of --slo and --sla-params as a JUnit XML file, for CI systems: a test case for
    /// each objective of each run
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub junit: Option<PathBuf>,
}

impl Default for OutputSpec {
    fn default() -> OutputSpec {
        OutputSpec {
            name: None,
            outputs_dir: PathBuf::from("outputs"),
            no_timestamp: false,
            save: Save::default(),
            debug: false,
            log_level: LogLevel::default(),
            quiet: false,
            verbose: false,
            live: false,
            visualizer: None,
            wandb_api_key: None,
            swanlab_api_key: None,
            slo: Vec::new(),
            gpus: None,
            language: Language::default(),
            csv: None,
            export: Vec::new(),
            json: None,
            junit: None,
        }
    }
}

impl OutputSpec {
    /// The log level; `--debug` implies debug.
    pub fn level(&self) -> LogLevel {
        if self.debug { LogLevel::Debug } else { self.log_level }
    }

    /// The name of the results folder.
    pub(super) fn folder_name(&self, model: &str) -> Result<String, PlanError> {
        match &self.name {
            Some(name) if name.trim().is_empty() => {
                Err(PlanError::value("--name", "is empty; give a name, or omit it to use the model name"))
            }
            Some(name) => Ok(safe_folder_name(name)),
            None => Ok(model_folder_name(model)),
        }
    }

    /// The objectives as one text, after validation. `stream`: the requests ask for streamed responses.
    pub(super) fn objectives(&self, stream: bool) -> Result<String, PlanError> {
        let text = self.slo.join(" ");
        if !self.slo.is_empty() {
            let criteria = slo::scan_all(&text).map_err(|what| PlanError::value("--slo", what))?;
            criteria.iter().try_for_each(|criterion| check_streamed("--slo", criterion.figure, stream))?;
        }
        Ok(text)
    }

    /// The number of GPUs of the server.
    pub(super) fn gpus(&self) -> Result<Option<u32>, PlanError> {
        match self.gpus {
            Some(0) => Err(PlanError::value("--gpus", "must be 1 or more: the number of GPUs of the server")),
            gpus => Ok(gpus),
        }
    }

    /// Findings about the objectives.
    pub(super) fn objective_notes(&self) -> Vec<Finding> {
        slo::notes(&slo::scan_all(&self.slo.join(" ")).unwrap_or_default())
    }

    /// The exports of `--csv` and `--export`.
    pub(super) fn exports(&self) -> Result<Vec<Export>, PlanError> {
        exports(self.csv.as_deref(), &self.export, Some(self.save))
    }

    /// The service of the visualizer; a key implies its service.
    pub(super) fn service(&self) -> Option<Service> {
        let by_key = || self.wandb_api_key.as_ref().map(|_| Service::Wandb);
        let by_other_key = || self.swanlab_api_key.as_ref().map(|_| Service::Swanlab);
        self.visualizer.or_else(by_key).or_else(by_other_key)
    }

    /// The plan of the visualizer; `None` without one. `python` is the interpreter that has the SDK.
    pub(super) fn visualizer_plan(
        &self,
        python: Option<&Path>,
        model: &str,
        started: &str,
    ) -> Result<Option<VisualizerPlan>, PlanError> {
        let Some(service) = self.service() else { return Ok(None) };
        let keys = [
            ("--wandb-api-key", Service::Wandb, &self.wandb_api_key),
            ("--swanlab-api-key", Service::Swanlab, &self.swanlab_api_key),
        ];
        let mut key = None;
        for (flag, owner, given) in keys {
            let Some(given) = given else { continue };
            if owner != service {
                let name = service.name();
                return Err(PlanError::conflict(format!(
                    "{flag} conflicts with --visualizer {name}: use one visualizer"
                )));
            }
            if given.trim().is_empty() {
                return Err(PlanError::value(flag, "is empty; omit it to use the key from the environment"));
            }
            key = Some(given.trim().to_string());
        }
        let local = service == Service::Swanlab && key.as_deref() == Some(LOCAL);
        let base = self.name.clone().unwrap_or_else(|| model_folder_name(model));
        Ok(Some(VisualizerPlan {
            service,
            key: key.filter(|_| !local),
            local,
            name: self.name.clone(),
            default_name: format!("{base}_{started}"),
            python: python.map(Path::to_path_buf),
        }))
    }
}

/// Parses `--csv` and `--export`. `save` is the content of the database, if known.
pub fn exports(csv: Option<&Path>, exports: &[String], save: Option<Save>) -> Result<Vec<Export>, PlanError> {
    let mut all: Vec<Export> =
        csv.map(|path| Export { format: Format::LmdeployCsv, path: path.to_path_buf() }).into_iter().collect();
    for text in exports {
        let (name, path) = text.split_once('=').filter(|(_, path)| !path.is_empty()).ok_or_else(|| {
            PlanError::value("--export", format!("must be FORMAT=FILE, for example vllm=result.json, not '{text}'"))
        })?;
        let format = match name {
            "vllm" => Format::Vllm,
            "aiperf" => Format::Aiperf,
            "llmd" => Format::Llmd,
            "evalscope" => Format::Evalscope,
            "evalscope-db" => Format::EvalscopeDb,
            "lmdeploy-api" => Format::LmdeployApiCsv,
            _ => {
                let suggested = names::nearest(name, &FORMATS);
                let given = name.to_string();
                return Err(PlanError::Unknown { flag: "--export", kind: "format", given, suggested, known: &FORMATS });
            }
        };
        if format == Format::EvalscopeDb && save.is_some_and(|save| save != Save::Full) {
            return Err(PlanError::conflict(
                "--export evalscope-db needs the raw bytes of every event: add --save full",
            ));
        }
        all.push(Export { format, path: PathBuf::from(path) });
    }
    Ok(all)
}

/// `<outputs>/<started>/<name>`, or `<outputs>/<name>` if `started` is `None`.
pub(crate) fn results_folder(outputs: &Path, started: Option<&str>, name: &str) -> PathBuf {
    match started {
        Some(started) => outputs.join(started).join(name),
        None => outputs.join(name),
    }
}

/// Replaces characters that are not allowed in folder names and limits the length.
pub(crate) fn safe_folder_name(name: &str) -> String {
    let safe: String =
        name.chars().map(|c| if "<>:\"|?*\\/".contains(c) || c.is_control() { '_' } else { c }).collect();
    let mut end = safe.len().min(MAX_NAME_BYTES);
    while !safe.is_char_boundary(end) {
        end -= 1;
    }
    match safe[..end].trim() {
        // Reserved or empty names.
        "" | "." | ".." => "_".to_string(),
        name => name.to_string(),
    }
}

/// The last path component of a model name as a folder name.
pub(crate) fn model_folder_name(model: &str) -> String {
    let last = model.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(model);
    safe_folder_name(last)
}

/// The folder name of one run: `parallel_8_number_100`, `rate_20.0_number_100`, `burst_number_100`; ends with
/// `duration_30s` if only the duration ends the run.
pub(crate) fn load_folder_name(load: &Load, number: Option<u64>, duration_s: Option<f64>) -> String {
    let what = match load {
        Load::Closed { parallel } | Load::Paced { parallel, .. } => format!("parallel_{parallel}"),
        Load::Open { schedule } if schedule.arrival == Arrival::Burst => "burst".to_string(),
        Load::Open { schedule } if matches!(schedule.arrival, Arrival::Trace(_)) => "trace".to_string(),
        // Always with a decimal point, as `rate_20.0`, for compatibility with scripts for evalscope.
        Load::Open { schedule } => format!("rate_{:?}", schedule.rate_per_s),
    };
    match (number, duration_s) {
        (Some(number), _) => format!("{what}_number_{number}"),
        (None, Some(seconds)) => format!("{what}_duration_{seconds}s"),
        (None, None) => what,
    }
}

/// The folder suffix of a repetition.
pub(crate) fn repeat_suffix(run: u32) -> String {
    format!("_run_{run}")
}

/// Rejects a figure of streamed responses if the requests do not ask for any.
pub(super) fn check_streamed(flag: &'static str, figure: slo::Figure, stream: bool) -> Result<(), PlanError> {
    match figure {
        slo::Figure::Of(_, slo::Quantity::Ttft | slo::Quantity::Itl | slo::Quantity::Tpot) if !stream => {
            Err(PlanError::value(flag, "names TTFT, ITL or TPOT, which only streamed responses have: use latency"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::arrivals::Schedule;

    #[test]
    fn names_are_safe_for_folders() {
        assert_eq!(model_folder_name("Qwen/Qwen2.5-0.5B-Instruct"), "Qwen2.5-0.5B-Instruct");
        assert_eq!(model_folder_name("/models/llama/"), "llama");
        assert_eq!(safe_folder_name("a/b:c\0d"), "a_b_c_d");
        assert_eq!(safe_folder_name(".."), "_");
        assert_eq!(safe_folder_name("通义千问"), "通义千问");
        assert!(safe_folder_name(&"通".repeat(300)).len() <= MAX_NAME_BYTES);
    }

    #[test]
    fn folder_names_contain_the_load() {
        let schedule = Schedule { rate_per_s: 20.0, arrival: Arrival::Poisson };
        assert_eq!(load_folder_name(&Load::Open { schedule }, Some(7), None), "rate_20.0_number_7");
        assert_eq!(load_folder_name(&Load::Closed { parallel: 4 }, None, Some(30.0)), "parallel_4_duration_30s");
        assert_eq!(load_folder_name(&Load::Closed { parallel: 4 }, None, Some(0.5)), "parallel_4_duration_0.5s");
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_string())
    }

    #[test]
    fn a_key_implies_its_service() {
        let plan = |spec: &OutputSpec| spec.visualizer_plan(None, "Qwen/Qwen2.5", "20260101_000000");
        assert_eq!(plan(&OutputSpec::default()), Ok(None));
        let wandb = plan(&OutputSpec { wandb_api_key: text("abcd"), name: text("a/b"), ..OutputSpec::default() })
            .unwrap()
            .unwrap();
        assert_eq!((wandb.service, wandb.key, wandb.name), (Service::Wandb, text("abcd"), text("a/b")));
        let swanlab = plan(&OutputSpec { swanlab_api_key: text("local"), ..OutputSpec::default() }).unwrap().unwrap();
        assert_eq!((swanlab.service, swanlab.key, swanlab.local), (Service::Swanlab, None, true));
        assert_eq!((swanlab.name, swanlab.default_name.as_str()), (None, "Qwen2.5_20260101_000000"));
    }

    #[test]
    fn conflicting_visualizer_flags_are_rejected() {
        for (visualizer, wandb, swanlab, what) in [
            (None, text("a"), text("b"), "--swanlab-api-key"),
            (Some(Service::Clearml), text("a"), None, "--wandb-api-key"),
            (Some(Service::Wandb), text(" "), None, "is empty"),
        ] {
            let spec =
                OutputSpec { visualizer, wandb_api_key: wandb, swanlab_api_key: swanlab, ..OutputSpec::default() };
            let error = spec.visualizer_plan(None, "m", "t").unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
