//! What was asked: one plain field for each flag, nothing checked yet. [`crate::plan::resolve`] decides what it means.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::api::custom;
use crate::plan::proxy::Proxy;
use crate::plan::sla::Sla;
use crate::plan::{LOCAL, Save, Service};
use crate::workload::headers;

pub mod secrets;

/// One call of `ringmark perf`. Serialised, it has the key names of `benchmark_args.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spec {
    pub model: Option<String>,
    pub url: Option<String>,
    /// A name, or the file of a custom API.
    pub api: String,
    /// What stands in that file.
    #[serde(skip)]
    pub api_description: Option<String>,
    pub api_key: Option<String>,
    /// Extra headers, each `name=value`.
    #[serde(serialize_with = "headers_as_object")]
    pub headers: Vec<String>,
    #[serde(rename = "connect_timeout")]
    pub connect_timeout_s: f64,
    #[serde(rename = "read_timeout")]
    pub read_timeout_s: f64,
    #[serde(rename = "total_timeout")]
    pub total_timeout_s: f64,
    pub no_test_connection: bool,
    pub cacert: Option<PathBuf>,
    pub insecure: bool,
    /// A proxy's URL, or `env`.
    pub proxy: Option<String>,
    /// A URL or a path; empty: the target's own page.
    pub server_metrics: Option<String>,
    /// Of servers that are started here.
    pub port: Option<u16>,
    pub tp: Option<u32>,
    pub attn_implementation: Option<String>,
    pub python: Option<PathBuf>,
    pub server_args: Vec<String>,

    /// Requests of each run; empty: 1000, or as many as the duration lets through.
    pub number: Vec<u64>,
    /// Requests in flight of each run; empty: 1.
    pub parallel: Vec<u32>,
    /// Requests per second of each run; empty or -1: no schedule.
    pub rate: Vec<f64>,
    pub arrival: Option<String>,
    /// Recorded arrivals come so many times as fast.
    pub trace_speed: Option<f64>,
    pub open_loop: bool,
    #[serde(rename = "ramp")]
    pub ramp_s: f64,
    #[serde(rename = "duration")]
    pub duration_s: Option<f64>,
    #[serde(rename = "drain")]
    pub drain_s: Option<f64>,
    /// A count from 1 on, or a share of the requests below 1.
    pub warmup_num: f64,
    #[serde(rename = "sleep_interval")]
    pub sleep_interval_s: f64,
    pub log_every_n_query: u64,
    /// Runs of each load.
    pub repeat: u32,
    #[serde(flatten)]
    pub sla: Sla,

    pub tokenizer_path: Option<String>,
    /// `None`: where the endpoint is chat.
    pub apply_chat_template: Option<bool>,
    pub tokenize_prompt: bool,
    pub prefix_length: u64,
    pub dataset: Option<String>,
    pub dataset_path: Option<PathBuf>,
    pub data_source: DataSource,
    pub sharegpt_output_len: bool,
    pub image_width: Option<u16>,
    pub image_height: Option<u16>,
    pub image_format: Option<String>,
    pub image_num: Option<u32>,
    pub dataset_offset: u64,
    /// The requests are turns of conversations; the datasets that have them need no flag to say so.
    pub multi_turn: bool,
    pub min_turns: Option<u32>,
    pub max_turns: Option<u32>,
    /// One length, or the two ends of a range; empty: none.
    #[serde(rename = "think_time")]
    pub think_time_s: Vec<f64>,
    /// A text, or `@` and a file.
    pub prompt: Option<String>,
    /// JSON as text, `%m` and `%p` in it.
    #[serde(serialize_with = "json_text_or_nothing")]
    pub query_template: Option<String>,
    pub min_prompt_length: u64,
    pub max_prompt_length: Option<u64>,

    pub stream: bool,
    /// `stream` was said on the command line.
    #[serde(skip)]
    pub stream_given: bool,
    /// One limit, or the two ends of a range; empty: 2048.
    pub max_tokens: Vec<u32>,
    pub min_tokens: Option<u32>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<i64>,
    pub frequency_penalty: Option<f64>,
    pub repetition_penalty: Option<f64>,
    pub logprobs: bool,
    pub n_choices: Option<u32>,
    pub seed: Option<u64>,
    pub stop: Vec<String>,
    pub stop_token_ids: Vec<u32>,
    /// A JSON object as text.
    #[serde(serialize_with = "json_text_as_value")]
    pub extra_args: Option<String>,

    pub name: Option<String>,
    pub outputs_dir: PathBuf,
    pub no_timestamp: bool,
    pub save: Save,
    pub debug: bool,
    pub log_level: LogLevel,
    pub quiet: bool,
    pub visualizer: Option<Service>,
    pub wandb_api_key: Option<String>,
    pub swanlab_api_key: Option<String>,
    /// Criteria such as `p99_ttft<=2`.
    pub slo: Vec<String>,
    pub language: Language,
    pub csv: Option<PathBuf>,
    /// Each `format=file`.
    pub export: Vec<String>,

    pub workers: Option<usize>,
    /// Core numbers, or empty.
    pub cores: Vec<usize>,
    pub spin: bool,
    /// The file of calibrations, or `none`; not given: the one in the user's cache.
    pub calibration: Option<PathBuf>,
    /// Connections of the witness; 0: none.
    pub witness: u32,
    pub cold: bool,
    pub source_address: Vec<IpAddr>,
    #[serde(skip)]
    pub force_fallback: bool,
}

/// The language of the HTML report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    #[default]
    En,
    Zh,
}

/// Where data sets and tokenizers come from that are not on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DataSource {
    #[default]
    Modelscope,
    Huggingface,
    /// Nowhere: only what is here.
    Local,
}

/// How much the log says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warning,
    #[default]
    Info,
    Debug,
}

impl Default for Spec {
    /// What holds when a flag is not given.
    fn default() -> Spec {
        Spec {
            model: None,
            url: None,
            api: "openai".to_string(),
            api_description: None,
            api_key: None,
            headers: Vec::new(),
            connect_timeout_s: 120.0,
            read_timeout_s: 120.0,
            total_timeout_s: 21_600.0,
            no_test_connection: false,
            cacert: None,
            insecure: false,
            proxy: None,
            server_metrics: None,
            port: None,
            tp: None,
            attn_implementation: None,
            python: None,
            server_args: Vec::new(),
            number: Vec::new(),
            parallel: Vec::new(),
            rate: Vec::new(),
            arrival: None,
            trace_speed: None,
            open_loop: false,
            ramp_s: 0.0,
            duration_s: None,
            drain_s: None,
            warmup_num: 0.0,
            sleep_interval_s: 5.0,
            log_every_n_query: 100,
            repeat: 1,
            sla: Sla::default(),
            tokenizer_path: None,
            apply_chat_template: None,
            tokenize_prompt: false,
            prefix_length: 0,
            dataset: None,
            dataset_path: None,
            data_source: DataSource::Modelscope,
            sharegpt_output_len: false,
            image_width: None,
            image_height: None,
            image_format: None,
            image_num: None,
            dataset_offset: 0,
            multi_turn: false,
            min_turns: None,
            max_turns: None,
            think_time_s: Vec::new(),
            prompt: None,
            query_template: None,
            min_prompt_length: 0,
            max_prompt_length: None,
            stream: true,
            stream_given: false,
            max_tokens: Vec::new(),
            min_tokens: None,
            temperature: None,
            top_p: None,
            top_k: None,
            frequency_penalty: None,
            repetition_penalty: None,
            logprobs: false,
            n_choices: None,
            seed: None,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            extra_args: None,
            name: None,
            outputs_dir: PathBuf::from("outputs"),
            no_timestamp: false,
            save: Save::Text,
            debug: false,
            log_level: LogLevel::Info,
            quiet: false,
            visualizer: None,
            wandb_api_key: None,
            swanlab_api_key: None,
            slo: Vec::new(),
            language: Language::En,
            csv: None,
            export: Vec::new(),
            workers: None,
            cores: Vec::new(),
            spin: false,
            calibration: None,
            witness: 0,
            cold: false,
            source_address: Vec::new(),
            force_fallback: false,
        }
    }
}

/// What stands where a secret was.
pub const MASK: &str = "****";

impl Spec {
    /// The least important level that the log takes.
    pub fn level(&self) -> LogLevel {
        if self.debug { LogLevel::Debug } else { self.log_level }
    }

    /// Every text of this call that must not be shown or stored, wherever it stands. Shorter ones than four characters
    /// are not among them: they would blacken innocent text, and the places where they belong are masked by name.
    pub fn secrets(&self) -> Vec<String> {
        let swanlab_key = self.swanlab_api_key.iter().filter(|key| key.trim() != LOCAL);
        let mut secrets: Vec<String> = self
            .api_key
            .iter()
            .chain(&self.wandb_api_key)
            .chain(swanlab_key)
            .map(|key| key.trim().to_string())
            .collect();
        for (name, value) in self.headers.iter().filter_map(|header| header.split_once('=')) {
            if headers::is_secret(name) {
                secrets.push(value.trim().to_string());
                // The key of `Bearer KEY` may stand alone elsewhere.
                secrets.extend(value.split_whitespace().skip(1).map(str::to_string));
            }
        }
        let described = self.api_description.iter().flat_map(|text| custom::headers_in(text));
        // What stands for the key is no secret itself.
        let described = described.filter(|(name, value)| headers::is_secret(name) && !value.contains("%k"));
        secrets.extend(described.map(|(_, value)| value));
        for url in self.url.iter().chain(&self.server_metrics) {
            secrets.extend(url_secrets(url));
            secrets.extend(secrets::of_user(url));
        }
        secrets.extend(self.body_secrets());
        let proxy = self.proxy.as_deref().and_then(|text| Proxy::scan(text).ok());
        secrets.extend(proxy.iter().flat_map(Proxy::secrets));
        secrets.retain(|secret| secret.len() >= 4);
        // Longest first, so that no part of a longer one stays behind.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        secrets
    }

    /// The secrets that every request's body carries.
    pub fn body_secrets(&self) -> Vec<String> {
        let mut found: Vec<String> =
            self.extra_args.iter().chain(&self.query_template).flat_map(|text| secrets::in_json(text)).collect();
        // Shorter ones would blacken innocent text.
        found.retain(|secret| secret.len() >= 4);
        found
    }

    /// The same call without its secrets.
    pub fn masked(&self) -> Spec {
        let secrets = self.secrets();
        let mut masked = self.clone();
        masked.api_key = self.api_key.as_ref().map(|_| MASK.to_string());
        masked.wandb_api_key = self.wandb_api_key.as_ref().map(|_| MASK.to_string());
        masked.swanlab_api_key = self.swanlab_api_key.as_ref().map(|_| MASK.to_string());
        masked.server_metrics = self.server_metrics.as_ref().map(|url| mask(&masked_url(url), &secrets));
        masked.url = self.url.as_ref().map(|url| mask(&masked_url(url), &secrets));
        masked.proxy = self.proxy.as_deref().map(masked_proxy);
        for header in &mut masked.headers {
            if let Some((name, _)) = header.split_once('=').filter(|(name, _)| headers::is_secret(name)) {
                *header = format!("{name}={MASK}");
            }
        }
        masked.query_template = self.query_template.as_ref().map(|text| mask(&secrets::masked_json(text), &secrets));
        masked.server_args = self.server_args.iter().map(|text| mask(text, &secrets)).collect();
        masked.extra_args = self.extra_args.as_ref().map(|text| mask(&secrets::masked_json(text), &secrets));
        masked
    }
}

/// `text` with every secret in it replaced.
pub fn mask(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_string(), |text, secret| text.replace(secret.as_str(), MASK))
}

/// A URL without user and password, and without the values of query parameters with telling names.
pub fn masked_url(url: &str) -> String {
    let url = &secrets::without_user(url);
    let Some((path, query)) = url.split_once('?').filter(|_| !is_mock(url)) else { return url.to_string() };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if headers::is_secret(name) => format!("{name}={MASK}"),
        _ => pair.to_string(),
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// A proxy's URL without its user and password.
fn masked_proxy(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    match text.rfind('@').filter(|at| *at >= start) {
        Some(at) => format!("{}{MASK}{}", &text[..start], &text[at..]),
        None => text.to_string(),
    }
}

fn url_secrets(url: &str) -> Vec<String> {
    let query = url.split_once('?').filter(|_| !is_mock(url)).map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| headers::is_secret(name)).map(|(_, value)| value.to_string()).collect()
}

/// The built-in server has no secrets: its `tokens=100` is a count.
fn is_mock(url: &str) -> bool {
    url.starts_with("mock:")
}

fn headers_as_object<S: Serializer>(headers: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    let pairs = headers.iter().filter_map(|header| header.split_once('='));
    serializer.collect_map(pairs.collect::<BTreeMap<_, _>>())
}

fn json_text_as_value<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let value = text.as_deref().and_then(|text| serde_json::from_str(text).ok());
    value.unwrap_or_else(|| serde_json::json!({})).serialize(serializer)
}

fn json_text_or_nothing<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    let value: Option<serde_json::Value> = text.as_deref().and_then(|text| serde_json::from_str(text).ok());
    value.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_left_in_what_is_stored() {
        let spec = Spec {
            api_key: Some("sk-key".to_string()),
            url: Some("http://h/v1?api_key=urlsecret&x=1&key=pin".to_string()),
            headers: vec!["Authorization=Bearer abc123".to_string(), "X-Tenant=a".to_string()],
            extra_args: Some(r#"{"user":"sk-key"}"#.to_string()),
            proxy: Some("http://me:hidden@h:3128".to_string()),
            ..Spec::default()
        };
        let json = serde_json::to_string(&spec.masked()).unwrap();
        for secret in ["sk-key", "urlsecret", "abc123", "=pin", "hidden"] {
            assert!(!json.contains(secret), "{json}");
        }
        assert!(json.contains(r#""X-Tenant":"a""#) && json.contains("x=1"), "{json}");
    }

    #[test]
    fn secrets_of_a_description_are_known() {
        let text = "[headers]\nX-Api-Key = 'abc123'\nAuthorization = 'Bearer %k'\nX-Tenant = 'tenant'\n";
        let spec = |text: &str| Spec { api_description: Some(text.to_string()), ..Spec::default() };
        assert_eq!(spec(text).secrets(), ["abc123"]);
        assert!(spec("headers = 3").secrets().is_empty());
    }

    #[test]
    fn the_mock_has_no_secrets() {
        let spec = Spec { url: Some("mock:?tokens=100&ttft=1ms".to_string()), ..Spec::default() };
        assert!(spec.secrets().is_empty());
        assert_eq!(spec.masked(), spec);
    }
}
