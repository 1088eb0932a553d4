//! `--api local...`: a server that we start ourselves.

use std::path::PathBuf;

use super::PlanError;
use crate::spec::Spec;

/// The port when none is given.
const PORT: u16 = 8877;

/// The servers we can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalKind {
    /// `transformers serve`
    Transformers,
    /// `vllm serve`
    Vllm,
    /// `llama-server`, or `xllamacpp` in Python
    LlamaCpp,
    /// `python -m sglang.launch_server`
    Sglang,
    /// `lmdeploy serve api_server`
    Lmdeploy,
}

/// A server to be started before the first run and stopped after the last.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalPlan {
    pub kind: LocalKind,
    /// Folder, file or hub id.
    pub model: String,
    pub port: u16,
    /// GPUs that share the model; `None`: the server's default.
    pub tensor_parallel: Option<u32>,
    pub attn_implementation: Option<String>,
    /// The Python in whose environment the server is; `None`: what is on PATH.
    pub python: Option<PathBuf>,
    /// Passed on as they are.
    pub arguments: Vec<String>,
}

impl LocalKind {
    /// Every kind with its name in `--api`.
    pub const ALL: [(&'static str, LocalKind); 5] = [
        ("local", LocalKind::Transformers),
        ("local_vllm", LocalKind::Vllm),
        ("local_llamacpp", LocalKind::LlamaCpp),
        ("local_sglang", LocalKind::Sglang),
        ("local_lmdeploy", LocalKind::Lmdeploy),
    ];

    /// Whether it shows metrics, so that scraping them needs no asking.
    pub fn has_metrics(self) -> bool {
        self != LocalKind::Transformers
    }
}

impl LocalPlan {
    /// Where it will answer.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1/chat/completions", self.port)
    }
}

/// The server that `--api` asks for; `None` for an API that is only spoken.
pub(super) fn plan(spec: &Spec) -> Result<Option<LocalPlan>, PlanError> {
    let Some((name, kind)) = LocalKind::ALL.into_iter().find(|(name, _)| *name == spec.api) else {
        return no_local(spec).map(|()| None);
    };
    if let Some(url) = &spec.url {
        return Err(PlanError::conflict(format!(
            "--api {name} starts its own server: leave --url {url} out, or give --api openai to measure the one there"
        )));
    }
    let model = spec.model.as_deref().map(str::trim).unwrap_or_default();
    if model.is_empty() {
        return Err(PlanError::value("--model", format!("is needed with --api {name}: a folder, a file or a hub id")));
    }
    if spec.port == Some(0) {
        return Err(PlanError::value("--port", "must be between 1 and 65535"));
    }
    let alone = matches!(kind, LocalKind::Transformers | LocalKind::LlamaCpp);
    if spec.tp.is_some() && alone {
        return Err(PlanError::conflict(format!(
            "--tp is about local_vllm, local_sglang and local_lmdeploy; --api {name} has its own ways: --server-args"
        )));
    }
    if spec.tp == Some(0) {
        return Err(PlanError::value("--tp", "must be at least 1"));
    }
    if spec.attn_implementation.is_some() && kind != LocalKind::Transformers {
        return Err(PlanError::conflict("--attn-implementation is about --api local (transformers serve)"));
    }
    Ok(Some(LocalPlan {
        kind,
        model: model.to_string(),
        port: spec.port.unwrap_or(PORT),
        tensor_parallel: spec.tp,
        attn_implementation: spec.attn_implementation.clone(),
        python: spec.python.clone(),
        arguments: spec.server_args.clone(),
    }))
}

/// Flags of local servers have no meaning without one.
fn no_local(spec: &Spec) -> Result<(), PlanError> {
    let given = [
        ("--port", spec.port.is_some()),
        ("--tp", spec.tp.is_some()),
        ("--attn-implementation", spec.attn_implementation.is_some()),
        ("--python", spec.python.is_some() && super::service(spec).is_none()),
        ("--server-args", !spec.server_args.is_empty()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(PlanError::conflict(format!(
            "{flag} is about servers that are started here: give it with --api local, local_vllm, local_llamacpp, \
             local_sglang or local_lmdeploy"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(api: &str) -> Spec {
        Spec { api: api.to_string(), model: Some("m".to_string()), ..Spec::default() }
    }

    #[test]
    fn every_kind_has_a_plan() {
        for (name, kind) in LocalKind::ALL {
            let plan = plan(&spec(name)).unwrap().unwrap();
            assert_eq!((plan.kind, plan.url().as_str()), (kind, "http://127.0.0.1:8877/v1/chat/completions"));
        }
        assert_eq!(plan(&spec("openai")), Ok(None));
    }

    #[test]
    fn what_does_not_fit_is_refused_in_one_line() {
        let vllm = spec("local_vllm");
        for (spec, flag) in [
            (Spec { url: Some("http://h/".into()), ..vllm.clone() }, "--url"),
            (Spec { model: None, ..vllm.clone() }, "--model"),
            (Spec { port: Some(0), ..vllm.clone() }, "--port"),
            (Spec { tp: Some(0), ..vllm.clone() }, "--tp"),
            (Spec { attn_implementation: Some("sdpa".into()), ..vllm.clone() }, "--attn-implementation"),
            (Spec { tp: Some(2), ..spec("local") }, "--tp"),
            (Spec { tp: Some(2), ..spec("openai") }, "--tp"),
            (Spec { server_args: vec!["x".into()], ..spec("openai") }, "--server-args"),
        ] {
            let error = plan(&spec).unwrap_err().to_string();
            assert!(error.contains(flag) && !error.contains('\n'), "{flag}: {error}");
        }
    }
}
