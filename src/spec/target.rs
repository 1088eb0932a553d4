//! The server: where it is, which API it speaks, how it is reached, and which headers it gets.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::local::LocalSpec;
use super::names::{self, is_program};
use super::proxy::{ProxyChoice, ProxyVariables};
use super::url::{Endpoint, endpoint};
use super::values::{self, headers_as_object, seconds_ns};
use crate::api::Dialect;
use crate::api::custom::CustomApi;
use crate::api::endpoint::{Api, NAMES};
use crate::api::program::ProgramApi;
use crate::api::query_template::QueryTemplate;
use crate::plan::{LocalKind, LocalPlan, MetricsPage, PlanError, Target, Timeouts, TlsPlan};
use crate::secrets::{mask, masked_url};
use crate::workload::headers::Header;

const HEADING: &str = "Server";
/// Where servers show their metrics when nothing else is said.
const METRICS_PATH: &str = "/metrics";
/// Everything that `--api` may name.
const KNOWN: [&str; NAMES.len() + LocalKind::ALL.len()] = {
    let mut known = [""; NAMES.len() + LocalKind::ALL.len()];
    let mut at = 0;
    while at < known.len() {
        known[at] = if at < NAMES.len() { NAMES[at] } else { LocalKind::ALL[at - NAMES.len()].0 };
        at += 1;
    }
    known
};

/// Flags of the server.
#[derive(clap::Args, Clone, Debug, PartialEq, Serialize)]
pub struct TargetSpec {
    /// Model name sent with every request. Default: asked of the server's /v1/models
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    pub model: Option<String>,
    /// Server: http://, https://, unix:/path.sock:/v1/..., or mock:?ttft=50ms&itl=10ms&tokens=100 for the built-in one
    #[arg(long, value_name = "URL", help_heading = HEADING)]
    pub url: Option<String>,
    /// API of the server: openai (the path decides between chat and completions), openai_responses, openai_embedding,
    /// openai_rerank, dashscope, anthropic, or a .toml file or a program (./my_api.py)
    /// that speaks another one (tools/examples/api). Or a server that is started here
    /// and stopped afterwards: local (transformers serve), local_vllm, local_llamacpp, local_sglang, local_lmdeploy
    #[arg(long, value_name = "API", default_value = "openai", help_heading = HEADING)]
    pub api: String,
    /// What stands in the file of a custom API, once it has been read.
    #[arg(skip)]
    #[serde(skip)]
    pub api_description: Option<String>,
    /// Key, sent as "Authorization: Bearer KEY"; masked wherever it would be printed or stored
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, help_heading = HEADING)]
    pub api_key: Option<String>,
    /// Extra headers; they replace ours of the same name
    #[arg(long, value_name = "NAME=VALUE", num_args = 1.., help_heading = HEADING)]
    #[serde(serialize_with = "headers_as_object")]
    pub headers: Vec<String>,
    /// Longest wait for a connection, TLS included, seconds
    #[arg(long = "connect-timeout", value_name = "S", default_value = "120", value_parser = values::seconds, help_heading = HEADING)]
    #[serde(rename = "connect_timeout")]
    pub connect_timeout_s: f64,
    /// Longest silence on the socket while a response is awaited, seconds
    #[arg(long = "read-timeout", value_name = "S", default_value = "120", value_parser = values::seconds, help_heading = HEADING)]
    #[serde(rename = "read_timeout")]
    pub read_timeout_s: f64,
    /// Longest time for a whole request, seconds
    #[arg(long = "total-timeout", value_name = "S", default_value = "21600", value_parser = values::seconds, help_heading = HEADING)]
    #[serde(rename = "total_timeout")]
    pub total_timeout_s: f64,
    /// Skip the one request before the run that must succeed
    #[arg(long, help_heading = HEADING)]
    pub no_test_connection: bool,
    /// PEM file of certificates to trust instead of the system's
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub cacert: Option<PathBuf>,
    /// Accept any certificate
    #[arg(long, help_heading = HEADING)]
    pub insecure: bool,
    /// HTTP proxy between here and the server, also for what is fetched from a hub: http://[USER:PASSWORD@]HOST:PORT
    /// (https servers through a CONNECT tunnel), or env: what http_proxy, https_proxy, all_proxy and no_proxy say
    /// [default: none, whatever the environment says]
    #[arg(long, value_name = "URL", help_heading = HEADING)]
    pub proxy: Option<String>,
    /// Scrape the server's own metrics (Prometheus text) beside the run and compare: a URL, or a path of the server
    /// itself [default without a value: /metrics]
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "", help_heading = HEADING)]
    pub server_metrics: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub local: LocalSpec,
}

impl Default for TargetSpec {
    fn default() -> TargetSpec {
        TargetSpec {
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
            local: LocalSpec::default(),
        }
    }
}

impl TargetSpec {
    /// What `--api` names: one that is built in, or a description in a file.
    pub(super) fn named_api(&self) -> Result<Api, PlanError> {
        if let Some(text) = &self.api_description {
            let api =
                CustomApi::scan(text).map_err(|what| PlanError::value("--api", format!("{}: {what}", self.api)))?;
            return Ok(Api::Custom(api));
        }
        if is_program(&self.api) {
            return Ok(Api::Program(ProgramApi::new(Path::new(&self.api))));
        }
        Api::named(&self.api).ok_or_else(|| PlanError::Unknown {
            flag: "--api",
            kind: "API",
            given: self.api.clone(),
            suggested: names::nearest(&self.api, &KNOWN),
            known: &KNOWN,
        })
    }

    /// The server, and how its certificate is checked. `secrets` are masked in errors.
    pub(super) fn endpoint(&self, api: Api, secrets: &[String]) -> Result<Endpoint, PlanError> {
        let url = self.url.as_deref().ok_or(PlanError::NoUrl)?;
        if self.insecure && self.cacert.is_some() {
            return Err(PlanError::conflict(
                "--insecure checks no certificate, so --cacert has no use beside it; keep one",
            ));
        }
        let found = endpoint(url, api, self.tls()).map_err(|error| match error {
            PlanError::Url { url, what } => {
                // What is wrong may quote the URL, or a part of it.
                let shown = masked_url(&url);
                PlanError::Url { what: mask(&what.replace(&url, &shown), secrets), url: mask(&shown, secrets) }
            }
            other => other,
        })?;
        if found.target.tls.is_none() {
            for (given, flag) in [(self.insecure, "--insecure"), (self.cacert.is_some(), "--cacert")] {
                if given {
                    return Err(PlanError::conflict(format!("{flag} is about TLS, but --url is not https://")));
                }
            }
        }
        Ok(found)
    }

    fn tls(&self) -> TlsPlan {
        TlsPlan { ca_file: self.cacert.clone(), insecure: self.insecure }
    }

    /// The model's name; empty where the server has to be asked.
    pub(super) fn model_name(&self, template: Option<&QueryTemplate>, target: &Target) -> Result<String, PlanError> {
        match &self.model {
            Some(model) if model.trim().is_empty() => {
                Err(PlanError::value("--model", "is empty; leave it out to ask the server"))
            }
            Some(model) => Ok(model.clone()),
            None if template.is_some_and(|template| template.model().is_some()) => {
                Ok(template.and_then(QueryTemplate::model).unwrap_or_default().to_string())
            }
            None if target.mock.is_some() => Ok("mock".to_string()),
            None => Ok(String::new()),
        }
    }

    /// The user's headers, with the key as one of them, and those that the API needs.
    pub(super) fn request_headers(&self, dialect: Dialect, stream: bool) -> Result<Vec<Header>, PlanError> {
        let wrong = |what: String| PlanError::value("--headers", format!("cannot be used: {what}"));
        let mut headers = Vec::with_capacity(self.headers.len() + 2);
        for text in &self.headers {
            headers.push(Header::scan(text).map_err(wrong)?);
        }
        for (place, header) in headers.iter().enumerate() {
            if headers[..place].iter().any(|earlier| earlier.name.eq_ignore_ascii_case(&header.name)) {
                return Err(PlanError::value("--headers", format!("names {} twice; keep one", header.name)));
            }
        }
        let key = self.key()?;
        let mut own = Vec::new();
        let mut key_is_placed = false;
        for (name, value) in dialect.headers(stream) {
            let value = match (value.contains("%k"), key) {
                (true, None) => {
                    return Err(PlanError::conflict(format!("{}: the header {name} needs --api-key", self.api)));
                }
                (true, Some(key)) => {
                    key_is_placed = true;
                    value.replace("%k", key)
                }
                (false, _) => value,
            };
            let header = Header::scan(&format!("{name}={value}"));
            own.push(header.map_err(|what| PlanError::value("--api", format!("{}: {what}", self.api)))?);
        }
        if let Some(key) = key.filter(|_| !key_is_placed) {
            let (name, value) = dialect.key_header(key);
            if headers.iter().any(|header| header.name.eq_ignore_ascii_case(name)) {
                let article = if name.starts_with('A') { "an" } else { "a header" };
                let what = if name.starts_with('A') { "Authorization header" } else { name };
                return Err(PlanError::conflict(format!(
                    "--api-key and {article} {what} in --headers are both given; keep one"
                )));
            }
            own.push(Header { name: name.to_string(), value });
        }
        own.retain(|header| !headers.iter().any(|given| given.name.eq_ignore_ascii_case(&header.name)));
        headers.extend(own);
        Ok(headers)
    }

    fn key(&self) -> Result<Option<&str>, PlanError> {
        match self.api_key.as_deref() {
            Some(key) if key.trim().is_empty() || key.chars().any(char::is_control) => {
                Err(PlanError::value("--api-key", "is empty or holds a control character such as a line end"))
            }
            key => Ok(key),
        }
    }

    /// Limits on waiting.
    pub(super) fn timeouts(&self) -> Result<Timeouts, PlanError> {
        Ok(Timeouts {
            connect_ns: seconds_ns("--connect-timeout", self.connect_timeout_s, false)?,
            read_ns: seconds_ns("--read-timeout", self.read_timeout_s, false)?,
            total_ns: seconds_ns("--total-timeout", self.total_timeout_s, false)?,
        })
    }

    /// What `--server-metrics` asks for, or a server of our own that has some: nothing, the target's own page, a path on the target, or a URL.
    pub(super) fn metrics_page(
        &self,
        local: Option<&LocalPlan>,
        variables: &ProxyVariables,
    ) -> Result<Option<MetricsPage>, PlanError> {
        let of_local = local.filter(|local| local.kind.has_metrics()).map(|_| "");
        let Some(given) = self.server_metrics.as_deref().or(of_local) else { return Ok(None) };
        if given.is_empty() || given.starts_with('/') {
            let path = if given.is_empty() { METRICS_PATH } else { given };
            if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(PlanError::value("--server-metrics", "has a space or a control character in its path"));
            }
            return Ok(Some(MetricsPage { elsewhere: None, path: path.to_string() }));
        }
        let mut target = self.metrics_target(given)?;
        // What is to be said of the proxy is said of the server itself.
        ProxyChoice::from_flag(self.proxy.as_deref(), variables)?.apply(&mut target, false, &mut Vec::new())?;
        Ok(Some(MetricsPage { path: target.path.clone(), elsewhere: Some(target) }))
    }

    /// The target of a URL. The rules of `--url` hold but for the endpoint, which this is none of.
    fn metrics_target(&self, url: &str) -> Result<Target, PlanError> {
        let wrong = |what: String| PlanError::value("--server-metrics", format!("'{}' {what}", masked_url(url)));
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(wrong(
                "is no URL: write http://host:port/metrics, or /path for a page of the server itself".into(),
            ));
        }
        let start = url.find("://").map_or(0, |at| at + 3);
        let (server, path) = url.split_at(url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at));
        let tls = self.tls();
        let mut target = endpoint(server, Api::OpenAi, tls)
            .map_err(|error| match error {
                PlanError::Url { what, .. } => wrong(what),
                other => other,
            })?
            .target;
        let path = path.split('#').next().unwrap_or_default();
        target.path = match path {
            "" | "/" => METRICS_PATH.to_string(),
            query if query.starts_with('?') => format!("{METRICS_PATH}{query}"),
            path => path.to_string(),
        };
        target.url = masked_url(&format!("{server}{}", target.path));
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(given: &str) -> Result<Option<MetricsPage>, String> {
        let spec = TargetSpec { server_metrics: Some(given.to_string()), ..TargetSpec::default() };
        spec.metrics_page(None, &ProxyVariables::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_value_it_is_the_usual_page_of_the_target() {
        assert!(TargetSpec::default().metrics_page(None, &ProxyVariables::default()).unwrap().is_none());
        let usual = asked("").unwrap().unwrap();
        assert!(usual.elsewhere.is_none() && usual.path == "/metrics");
        assert_eq!(asked("/prometheus/metrics").unwrap().unwrap().path, "/prometheus/metrics");
    }

    #[test]
    fn a_url_is_another_server() {
        let there = asked("http://h:9000").unwrap().unwrap().elsewhere.unwrap();
        assert_eq!((there.url.as_str(), there.path.as_str(), there.port), ("http://h:9000/metrics", "/metrics", 9000));
        let there = asked("https://h/a/b?x=1#y").unwrap().unwrap().elsewhere.unwrap();
        assert!(there.tls.is_some());
        assert_eq!(there.path, "/a/b?x=1");
    }

    #[test]
    fn anything_else_is_one_clear_line() {
        for wrong in ["h:9000", "unix:/a:/metrics", "mock:", "http://", "/a b", "http://h:x/"] {
            let error = asked(wrong).unwrap_err();
            assert!(error.contains("--server-metrics") && !error.contains('\n'), "{wrong}: {error}");
        }
    }
}
