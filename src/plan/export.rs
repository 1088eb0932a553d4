//! Files for other tools: `--csv FILE` and `--export FORMAT=FILE`.

use std::path::{Path, PathBuf};

use super::{PlanError, Save, spell};

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

const FORMATS: [&str; 4] = ["vllm", "aiperf", "llmd", "evalscope-db"];

/// A file to be written when the runs are over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    pub format: Format,
    pub path: PathBuf,
}

/// Reads what was asked. `save` is what the database keeps, where that is decided already.
pub fn scan(csv: Option<&Path>, exports: &[String], save: Option<Save>) -> Result<Vec<Export>, PlanError> {
    let mut found: Vec<Export> =
        csv.map(|path| Export { format: Format::LmdeployCsv, path: path.to_path_buf() }).into_iter().collect();
    for text in exports {
        let (name, path) = text.split_once('=').filter(|(_, path)| !path.is_empty()).ok_or_else(|| {
            PlanError::value("--export", format!("needs FORMAT=FILE, for example vllm=result.json, not '{text}'"))
        })?;
        let format = match name {
            "vllm" => Format::Vllm,
            "aiperf" => Format::Aiperf,
            "llmd" => Format::Llmd,
            "evalscope-db" => Format::EvalscopeDb,
            _ => {
                let suggested = spell::nearest(name, &FORMATS);
                let given = name.to_string();
                return Err(PlanError::Unknown { flag: "--export", kind: "format", given, suggested, known: &FORMATS });
            }
        };
        if format == Format::EvalscopeDb && save.is_some_and(|save| save != Save::Full) {
            return Err(PlanError::conflict(
                "--export evalscope-db needs every event as the server sent it: add --save full",
            ));
        }
        found.push(Export { format, path: PathBuf::from(path) });
    }
    Ok(found)
}
