//! `--api local...`: flags of a server that ringmark starts on this machine.

use std::path::PathBuf;

use serde::Serialize;

use super::values;
use crate::plan::{LocalKind, LocalPlan, PlanError};

const HEADING: &str = "Local server";
/// Default port.
const PORT: u16 = 8877;

/// Flags of local servers.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize)]
pub struct LocalSpec {
    /// TCP port of the local server [default: 8877]
    #[arg(long, value_name = "N", help_heading = HEADING)]
    pub port: Option<u16>,
    /// Number of GPUs for tensor parallelism [default: the default of the server]
    #[arg(long, value_name = "N", value_parser = values::count::<u32>, help_heading = HEADING)]
    pub tp: Option<u32>,
    /// Attention implementation of transformers serve, for example sdpa or flash_attention_2
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    pub attn_implementation: Option<String>,
    /// Python interpreter whose environment has the server or the SDK of --visualizer [default: from PATH]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub python: Option<PathBuf>,
    /// Pass all following arguments to the server unchanged; must be the last flag
    #[arg(long, value_name = "ARG", num_args = 1.., allow_hyphen_values = true, help_heading = HEADING)]
    pub server_args: Vec<String>,
}

impl LocalSpec {
    /// The plan of the local server; `None` if `--api` names no local server. `python_is_used`: the visualizer uses
    /// `--python`, so the flag is valid without a local server.
    pub(super) fn resolve(
        &self,
        api: &str,
        url: Option<&str>,
        model: Option<&str>,
        python_is_used: bool,
    ) -> Result<Option<LocalPlan>, PlanError> {
        let Some((name, kind)) = LocalKind::ALL.into_iter().find(|(name, _)| *name == api) else {
            return self.reject_flags(python_is_used).map(|()| None);
        };
        if let Some(url) = url {
            return Err(PlanError::conflict(format!(
                "--api {name} starts its own server: remove --url {url}, or use --api openai to measure the server at that URL"
            )));
        }
        let model = model.map(str::trim).unwrap_or_default();
        if model.is_empty() {
            return Err(PlanError::value(
                "--model",
                format!("is required with --api {name}: give a folder, a file or a hub id"),
            ));
        }
        if self.port == Some(0) {
            return Err(PlanError::value("--port", "must be between 1 and 65535"));
        }
        let has_no_tp_flag = matches!(kind, LocalKind::Transformers | LocalKind::LlamaCpp);
        if self.tp.is_some() && has_no_tp_flag {
            return Err(PlanError::conflict(format!(
                "--tp applies to local_vllm, local_sglang and local_lmdeploy; for --api {name} use --server-args"
            )));
        }
        if self.tp == Some(0) {
            return Err(PlanError::value("--tp", "must be at least 1"));
        }
        if self.attn_implementation.is_some() && kind != LocalKind::Transformers {
            return Err(PlanError::conflict("--attn-implementation applies only to --api local (transformers serve)"));
        }
        Ok(Some(LocalPlan {
            kind,
            model: model.to_string(),
            port: self.port.unwrap_or(PORT),
            tensor_parallel: self.tp,
            attn_implementation: self.attn_implementation.clone(),
            python: self.python.clone(),
            arguments: self.server_args.clone(),
        }))
    }

    /// Rejects flags of local servers if no local server is started.
    fn reject_flags(&self, python_is_used: bool) -> Result<(), PlanError> {
        let given = [
            ("--port", self.port.is_some()),
            ("--tp", self.tp.is_some()),
            ("--attn-implementation", self.attn_implementation.is_some()),
            ("--python", self.python.is_some() && !python_is_used),
            ("--server-args", !self.server_args.is_empty()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(PlanError::conflict(format!(
                "{flag} applies to local servers: use it with --api local, local_vllm, local_llamacpp, local_sglang or \
                 local_lmdeploy"
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(api: &str, spec: &LocalSpec) -> Result<Option<LocalPlan>, PlanError> {
        spec.resolve(api, None, Some("m"), false)
    }

    #[test]
    fn every_kind_has_a_plan() {
        for (name, kind) in LocalKind::ALL {
            let plan = resolve(name, &LocalSpec::default()).unwrap().unwrap();
            assert_eq!((plan.kind, plan.url().as_str()), (kind, "http://127.0.0.1:8877/v1/chat/completions"));
        }
        assert_eq!(resolve("openai", &LocalSpec::default()), Ok(None));
    }

    #[test]
    fn conflicting_flags_are_rejected_in_one_line() {
        let none = LocalSpec::default();
        let tp = |tp| LocalSpec { tp: Some(tp), ..LocalSpec::default() };
        for (result, flag) in [
            (none.resolve("local_vllm", Some("http://h/"), Some("m"), false), "--url"),
            (none.resolve("local_vllm", None, None, false), "--model"),
            (resolve("local_vllm", &LocalSpec { port: Some(0), ..none.clone() }), "--port"),
            (resolve("local_vllm", &tp(0)), "--tp"),
            (
                resolve("local_vllm", &LocalSpec { attn_implementation: Some("sdpa".into()), ..none.clone() }),
                "--attn-implementation",
            ),
            (resolve("local", &tp(2)), "--tp"),
            (resolve("openai", &tp(2)), "--tp"),
            (resolve("openai", &LocalSpec { server_args: vec!["x".into()], ..none.clone() }), "--server-args"),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(flag) && !error.contains('\n'), "{flag}: {error}");
        }
    }
}
