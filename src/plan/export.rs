//! Files for other tools: `--csv FILE` and `--export FORMAT=FILE`.

use std::path::PathBuf;

/// A file format that other tools read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The columns of LMDeploy v0.1.0's `profile_throughput.py`, a row for each run.
    LmdeployCsv,
    /// What `vllm bench serve --save-result --save-detailed` writes.
    Vllm,
    /// aiperf's `profile_export.jsonl`: a line for each request.
    Aiperf,
    /// llm-d's Benchmark Report v0.2, as JSON, which is YAML too.
    Llmd,
    /// evalscope's database with pickled requests and responses.
    EvalscopeDb,
}

/// A file to be written when the runs are over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    pub format: Format,
    pub path: PathBuf,
}
