//! The flags of `ringmark perf`, in groups. Each group is a struct with its flags, their help texts and their validation.
//! [`resolve()`] turns all groups into plans.
//!
//! ```
//! use ringmark::spec::{RigFacts, Spec, resolve};
//!
//! let spec = Spec::default().with(|spec| {
//!     spec.target.url = Some("mock:".to_string());
//!     spec.load.parallel = vec![1, 4];
//!     spec.sampling.max_tokens = vec![100];
//! });
//! let plans = resolve(&spec, &RigFacts::default())?;
//! assert_eq!(plans.len(), 2);
//! # Ok::<(), ringmark::plan::PlanError>(())
//! ```

use serde::Serialize;

use crate::api::custom;
use crate::options::LOCAL;
pub use crate::options::{DataSource, Language, LogLevel};
use crate::plan::PlanError;
use crate::plan::proxy::Proxy;
use crate::plan::sla::SearchPlan;
use crate::secrets::{self, MASK, is_secret_name, mask, masked_url};

mod client;
mod data;
mod dataset_args;
mod load;
mod local;
pub(crate) mod names;
pub(crate) mod output;
pub mod proxy;
mod resolve;
mod sampling;
pub(crate) mod shard;
mod sla;
mod target;
mod url;
pub(crate) mod values;

pub use client::ClientSpec;
pub use data::{ChatTemplate, DataSpec};
pub use load::LoadSpec;
pub use local::LocalSpec;
pub use output::OutputSpec;
pub use resolve::{HubFiles, RigFacts, resolve, trace_file};
pub use sampling::SamplingSpec;
pub use shard::{ShardSpec, ShardVariables};
pub use sla::SlaSpec;
pub use target::TargetSpec;
pub use values::Cores;

/// The flags of one call of `ringmark perf`. Serializes to the flat object of `benchmark_args.json`.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spec {
    /// The server and how it is reached.
    #[command(flatten)]
    #[serde(flatten)]
    pub target: TargetSpec,
    /// How much load, and for how long.
    #[command(flatten)]
    #[serde(flatten)]
    pub load: LoadSpec,
    /// The search for a load.
    #[command(flatten)]
    #[serde(flatten)]
    pub sla: SlaSpec,
    /// Prompts and datasets.
    #[command(flatten)]
    #[serde(flatten)]
    pub data: DataSpec,
    /// What is asked of the model.
    #[command(flatten)]
    #[serde(flatten)]
    pub sampling: SamplingSpec,
    /// Results: files, objectives, log.
    #[command(flatten)]
    #[serde(flatten)]
    pub output: OutputSpec,
    /// This machine: workers, cores, calibration.
    #[command(flatten)]
    #[serde(flatten)]
    pub client: ClientSpec,
    /// One of several processes that send the load together.
    #[command(flatten)]
    #[serde(flatten)]
    pub shard: ShardSpec,
}

impl Spec {
    /// Returns the spec with the changes of `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Spec)) -> Spec {
        change(&mut self);
        self
    }

    /// The plan of the search for a load; `None` without `--sla-auto-tune`.
    pub fn search(&self) -> Result<Option<SearchPlan>, PlanError> {
        self.sla.resolve(&self.load, self.data.dataset.as_deref())
    }

    /// The spec for one load of a search.
    pub fn at_load(&self, search: &SearchPlan, value: f64) -> Spec {
        Spec { load: sla::load_at(&self.load, search, value), ..self.clone() }
    }

    /// All secrets of this call, longest first. Secrets shorter than four characters are omitted, because masking them would
    /// also mask harmless text; the fields that contain them are masked by name.
    pub fn secrets(&self) -> Vec<String> {
        let swanlab_key = self.output.swanlab_api_key.iter().filter(|key| key.trim() != LOCAL);
        let mut secrets: Vec<String> = self
            .target
            .api_key
            .iter()
            .chain(&self.output.wandb_api_key)
            .chain(swanlab_key)
            .map(|key| key.trim().to_string())
            .collect();
        for (name, value) in self.target.headers.iter().filter_map(|header| header.split_once('=')) {
            if is_secret_name(name) {
                secrets.push(value.trim().to_string());
                // The key of `Bearer KEY` may also occur alone.
                secrets.extend(value.split_whitespace().skip(1).map(str::to_string));
            }
        }
        let described = self.target.api_description.iter().flat_map(|text| custom::headers_in(text));
        // `%k` is a placeholder for the key.
        let described = described.filter(|(name, value)| is_secret_name(name) && !value.contains("%k"));
        secrets.extend(described.map(|(_, value)| value));
        for url in self.target.url.iter().chain(&self.target.server_metrics) {
            secrets.extend(secrets::in_url(url));
        }
        secrets.extend(self.body_secrets());
        secrets.extend(secrets::in_arguments(&self.target.local.server_args));
        let proxy = self.target.proxy.as_deref().and_then(|text| Proxy::scan(text).ok());
        secrets.extend(proxy.iter().flat_map(Proxy::secrets));
        secrets.retain(|secret| secret.len() >= 4);
        // Longest first; otherwise a part of a longer secret could remain.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        secrets
    }

    /// The secrets in the request bodies.
    pub fn body_secrets(&self) -> Vec<String> {
        let texts = self.sampling.extra_args.iter().chain(&self.data.query_template).chain(&self.data.dataset_args);
        let mut found: Vec<String> = texts.flat_map(|text| secrets::in_json(text)).collect();
        // Masking shorter ones would also mask harmless text.
        found.retain(|secret| secret.len() >= 4);
        found
    }

    /// Returns the spec with all secrets masked.
    pub fn masked(&self) -> Spec {
        let secrets = self.secrets();
        let key = |key: &Option<String>| key.as_ref().map(|_| MASK.to_string());
        let url = |url: &Option<String>| url.as_ref().map(|url| mask(&masked_url(url), &secrets));
        let json = |text: &Option<String>| text.as_ref().map(|text| mask(&secrets::masked_json(text), &secrets));
        let mut masked = self.clone();
        let target = &mut masked.target;
        target.api_key = key(&self.target.api_key);
        target.server_metrics = url(&self.target.server_metrics);
        target.url = url(&self.target.url);
        target.proxy = self.target.proxy.as_deref().map(secrets::masked_proxy);
        target.key = self.target.key.as_ref().map(|_| MASK.into());
        for header in &mut target.headers {
            if let Some((name, _)) = header.split_once('=').filter(|(name, _)| is_secret_name(name)) {
                *header = format!("{name}={MASK}");
            }
        }
        target.local.server_args = self.target.local.server_args.iter().map(|text| mask(text, &secrets)).collect();
        masked.data.query_template = json(&self.data.query_template);
        masked.data.dataset_args = json(&self.data.dataset_args);
        masked.sampling.extra_args = json(&self.sampling.extra_args);
        masked.output.wandb_api_key = key(&self.output.wandb_api_key);
        masked.output.swanlab_api_key = key(&self.output.swanlab_api_key);
        masked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masked_spec_contains_no_secret() {
        let spec = Spec::default().with(|s| {
            s.target.api_key = Some("sk-key".to_string());
            s.target.url = Some("http://h/v1?api_key=urlsecret&x=1&key=pin".to_string());
            s.target.headers = vec!["Authorization=Bearer abc123".to_string(), "X-Tenant=a".to_string()];
            s.sampling.extra_args = Some(r#"{"user":"sk-key"}"#.to_string());
            s.target.proxy = Some("http://me:hidden@h:3128".to_string());
            s.target.local.server_args = ["--hf-token", "hf_12345", "--api-key=vllm-key"].map(str::to_string).to_vec();
        });
        let json = serde_json::to_string(&spec.masked()).unwrap();
        for secret in ["sk-key", "urlsecret", "abc123", "=pin", "hidden", "hf_12345", "vllm-key"] {
            assert!(!json.contains(secret), "{json}");
        }
        assert!(json.contains(r#""X-Tenant":"a""#) && json.contains("x=1"), "{json}");
    }

    #[test]
    fn header_values_of_an_api_description_are_secrets() {
        let text = "[headers]\nX-Api-Key = 'abc123'\nAuthorization = 'Bearer %k'\nX-Tenant = 'tenant'\n";
        let spec = |text: &str| Spec::default().with(|s| s.target.api_description = Some(text.to_string()));
        assert_eq!(spec(text).secrets(), ["abc123"]);
        assert!(spec("headers = 3").secrets().is_empty());
    }

    #[test]
    fn mock_urls_have_no_secrets() {
        let spec = Spec::default().with(|s| s.target.url = Some("mock:?tokens=100&ttft=1ms".to_string()));
        assert!(spec.secrets().is_empty());
        assert_eq!(spec.masked(), spec);
    }
}
