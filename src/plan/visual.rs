//! `--visualizer`: which service gets the figures, and as whom we speak to it.

use std::path::PathBuf;

use serde::Serialize;

use super::PlanError;
use crate::spec::Spec;

/// A service that shows figures of experiments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    Wandb,
    Swanlab,
    Clearml,
}

impl Service {
    /// As in `--visualizer`, and as its SDK's package is called.
    pub fn name(self) -> &'static str {
        match self {
            Service::Wandb => "wandb",
            Service::Swanlab => "swanlab",
            Service::Clearml => "clearml",
        }
    }
}

/// How figures get to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisualPlan {
    pub service: Service,
    /// A secret. `None`: what the service's SDK finds by itself.
    pub key: Option<String>,
    /// Nothing leaves this machine.
    pub local: bool,
    /// `--name` as it was typed.
    pub name: Option<String>,
    /// The name where neither the command line nor the service's environment has one.
    pub default_name: String,
    /// The Python that has the service's SDK; `None`: `python3` on PATH.
    pub python: Option<PathBuf>,
}

/// What is given as SwanLab's key to keep everything on this machine.
pub const LOCAL: &str = "local";

/// The service that the call names; a key stands for its service.
pub fn service(spec: &Spec) -> Option<Service> {
    let by_key = || spec.wandb_api_key.as_ref().map(|_| Service::Wandb);
    let by_other_key = || spec.swanlab_api_key.as_ref().map(|_| Service::Swanlab);
    spec.visualizer.or_else(by_key).or_else(by_other_key)
}

/// What becomes of the flags; `None` when no service is named.
pub(super) fn plan(spec: &Spec, model: &str, started: &str) -> Result<Option<VisualPlan>, PlanError> {
    let Some(service) = service(spec) else { return Ok(None) };
    let keys = [
        ("--wandb-api-key", Service::Wandb, &spec.wandb_api_key),
        ("--swanlab-api-key", Service::Swanlab, &spec.swanlab_api_key),
    ];
    let mut key = None;
    for (flag, owner, given) in keys {
        let Some(given) = given else { continue };
        if owner != service {
            let name = service.name();
            return Err(PlanError::conflict(format!(
                "{flag} does not go with --visualizer {name}: a call has one visualizer"
            )));
        }
        if given.trim().is_empty() {
            return Err(PlanError::value(flag, "is empty; leave it out to use the key of the environment"));
        }
        key = Some(given.trim().to_string());
    }
    let local = service == Service::Swanlab && key.as_deref() == Some(LOCAL);
    let base = spec.name.clone().unwrap_or_else(|| super::folder::name_of_model(model));
    Ok(Some(VisualPlan {
        service,
        key: key.filter(|_| !local),
        local,
        name: spec.name.clone(),
        default_name: format!("{base}_{started}"),
        python: spec.python.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Option<String> {
        Some(text.to_string())
    }

    #[test]
    fn a_key_stands_for_its_service() {
        let of = |spec: &Spec| plan(spec, "Qwen/Qwen2.5", "20260101_000000");
        assert_eq!(of(&Spec::default()), Ok(None));
        let wandb = of(&Spec { wandb_api_key: text("abcd"), name: text("a/b"), ..Spec::default() }).unwrap().unwrap();
        assert_eq!((wandb.service, wandb.key, wandb.name), (Service::Wandb, text("abcd"), text("a/b")));
        let swanlab = of(&Spec { swanlab_api_key: text("local"), ..Spec::default() }).unwrap().unwrap();
        assert_eq!((swanlab.service, swanlab.key, swanlab.local), (Service::Swanlab, None, true));
        assert_eq!((swanlab.name, swanlab.default_name.as_str()), (None, "Qwen2.5_20260101_000000"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (visualizer, wandb, swanlab, what) in [
            (None, text("a"), text("b"), "--swanlab-api-key"),
            (Some(Service::Clearml), text("a"), None, "--wandb-api-key"),
            (Some(Service::Wandb), text(" "), None, "is empty"),
        ] {
            let spec = Spec { visualizer, wandb_api_key: wandb, swanlab_api_key: swanlab, ..Spec::default() };
            let error = plan(&spec, "m", "t").unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
