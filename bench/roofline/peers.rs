//! Other clients, if installed.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::load::{ClientFigures, Load};
use crate::server::Server;
use crate::usage::children_cpu_ns;

/// Runs `vllm-rs bench serve` with its default number of threads and with one.
pub fn all(server: &Server, load: Load) -> Vec<(String, ClientFigures)> {
    [("vllm-rs", None), ("vllm-rs, one thread", Some("1"))]
        .into_iter()
        .filter_map(|(name, threads)| {
            server.reset();
            vllm_rs(server, load, threads).map(|figures| (name.to_string(), figures))
        })
        .collect()
}

/// The command of `vllm-rs bench serve`, which writes `result.json` into `folder`; `None` if it is not installed. The
/// environment variable `VLLM_RS` is the path of its binary, and `VLLM_RS_TOKENIZER` the folder of a tokenizer, which
/// it requires.
pub fn command(server: &Server, load: Load, folder: &Path) -> Option<Command> {
    let mut command = Command::new(std::env::var_os("VLLM_RS")?);
    command.args(["bench", "serve", "--backend", "openai-chat", "--model", "mock"]);
    command.args(["--base-url", &format!("http://{}", server.address), "--endpoint", "/v1/chat/completions"]);
    command.args(["--dataset-name", "random", "--random-input-len", "16"]);
    command.arg("--tokenizer").arg(std::env::var_os("VLLM_RS_TOKENIZER")?);
    command.args(["--random-output-len", &load.tokens.to_string()]);
    command.args(["--num-prompts", &load.requests.to_string(), "--max-concurrency", &load.streams.to_string()]);
    command.args(["--save-result", "--save-detailed", "--result-dir"]).arg(folder);
    command.args(["--result-filename", "result.json"]);
    Some(command)
}

fn vllm_rs(server: &Server, load: Load, threads: Option<&str>) -> Option<ClientFigures> {
    let folder = tempfile::tempdir().ok()?;
    let file = folder.path().join("result.json");
    let program = command(server, load, folder.path())?;
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program.get_program()).args(program.get_args());
    if let Some(threads) = threads {
        command.env("TOKIO_WORKER_THREADS", threads);
    }
    let before = children_cpu_ns();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    let cpu_ns = children_cpu_ns() - before;
    if !status.success() {
        println!("  vllm-rs failed: {status}");
        return None;
    }
    let result: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let list = |key: &str| result[key].as_array().cloned().unwrap_or_default();
    let ttft_s: Vec<f64> = list("ttfts").iter().filter_map(serde_json::Value::as_f64).collect();
    let itl_s: Vec<f64> = list("itls")
        .iter()
        .flat_map(|request| request.as_array().cloned().unwrap_or_default())
        .filter_map(|gap| gap.as_f64())
        .collect();
    let events = (load.requests * load.tokens) as u64;
    Some(ClientFigures { cpu_ns, events, ttft_s, itl_s })
}
