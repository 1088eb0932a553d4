//! Files for other tools: `--csv FILE` and `--export FORMAT=FILE`.

use std::path::PathBuf;

/// A file format that other tools read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// CSV with the columns of LMDeploy v0.1.0's `profile_throughput.py`, one row for each run.
    LmdeployCsv,
    /// CSV with the columns of LMDeploy v0.1.0's `profile_restful_api.py`, one row for each run.
    LmdeployApiCsv,
    /// The JSON of `vllm bench serve --save-result --save-detailed`.
    Vllm,
    /// aiperf's `profile_export.jsonl`, one line for each request.
    Aiperf,
    /// llm-d's Benchmark Report v0.2, as JSON, which is also valid YAML.
    Llmd,
    /// evalscope's database with pickled requests and responses.
    EvalscopeDb,
    /// A folder as evalscope 1.14 writes it, with all runs of the call.
    Evalscope,
}

/// A file that is written after all runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    pub format: Format,
    pub path: PathBuf,
}
