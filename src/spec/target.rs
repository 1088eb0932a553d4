//! Flags of the target: URL, API, model, headers, timeouts, TLS, proxy, server metrics.

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
use crate::net::client_certificate::ClientCertificate;
use crate::plan::{LocalKind, LocalPlan, MetricsPage, PlanError, Target, Timeouts, TlsPlan};
use crate::secrets::{mask, masked_url};
use crate::workload::headers::Header;

const HEADING: &str = "Server";
/// Default path of the server's metrics.
const METRICS_PATH: &str = "/metrics";
/// All built-in values of `--api`.
const KNOWN: [&str; NAMES.len() + LocalKind::ALL.len()] = {
    let mut known = [""; NAMES.len() + LocalKind::ALL.len()];
    let mut at = 0;
    while at < known.len() {
        known[at] = if at < NAMES.len() { NAMES[at] } else { LocalKind::ALL[at - NAMES.len()].0 };
        at += 1;
    }
    known
};

/// Flags of the target server.
#[derive(clap::Args, Clone, Debug, PartialEq, Serialize)]
pub struct TargetSpec {
    /// Model name, sent with every request [default: the first model of the server's /v1/models]
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    pub model: Option<String>,
    /// Server URL: http://, https://, unix:/path.sock:/v1/..., or mock:?ttft=50ms&itl=10ms&tokens=100 for the built-in server
    #[arg(long, value_name = "URL", help_heading = HEADING)]
    pub url: Option<String>,
    /// API of the server: openai (chat or completions, from the path of the URL), openai_responses, openai_embedding,
    /// openai_rerank, dashscope, anthropic; or a .toml file, a program (./my_api.py) or a Python file with a class that is
    /// registered for evalscope, which define another API (see tools/examples/api); or a local server that is started for the call: local (transformers serve), local_vllm,
    /// local_llamacpp, local_sglang, local_lmdeploy
    #[arg(long, value_name = "API", default_value = "openai", help_heading = HEADING)]
    pub api: String,
    /// The content of the file of `--api FILE.toml`, once it is read.
    #[arg(skip)]
    #[serde(skip)]
    pub api_description: Option<String>,
    /// API key, sent as "Authorization: Bearer KEY"; masked in all output. Here, in --headers (NAME=env:VARIABLE) and in
    /// other flags that can have secrets, env:VARIABLE and file:PATH name a secret instead
    #[arg(long, value_name = "KEY", allow_hyphen_values = true, help_heading = HEADING)]
    pub api_key: Option<String>,
    /// Additional request headers; they replace default headers of the same name
    #[arg(long, value_name = "NAME=VALUE", num_args = 1.., help_heading = HEADING)]
    #[serde(serialize_with = "headers_as_object")]
    pub headers: Vec<String>,
    /// Timeout for opening a connection, including TLS, seconds
    #[arg(long = "connect-timeout", value_name = "S", default_value = "120", value_parser = values::seconds, help_heading = HEADING)]
    #[serde(rename = "connect_timeout")]
    pub connect_timeout_s: f64,
    /// Timeout without any received byte while waiting for a response, seconds
    #[arg(long = "read-timeout", value_name = "S", default_value = "120", value_parser = values::seconds, help_heading = HEADING)]
    #[serde(rename = "read_timeout")]
    pub read_timeout_s: f64,
    /// Timeout for a whole request, seconds
    #[arg(long = "total-timeout", value_name = "S", default_value = "21600", value_parser = values::seconds, help_heading = HEADING)]
    #[serde(rename = "total_timeout")]
    pub total_timeout_s: f64,
    /// Longest response accepted, whole or streamed: bytes, or with a unit (64MiB). A longer one is a failure
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = values::size, help_heading = HEADING)]
    pub max_response_size: u64,
    /// Wait this long for a server that is still starting: one that refuses connections, or answers 503 while it loads its
    /// model, seconds; 0 does not wait
    #[arg(long = "ready-timeout", value_name = "S", default_value = "30", value_parser = values::seconds, help_heading = HEADING)]
    #[serde(rename = "ready_timeout")]
    pub ready_timeout_s: f64,
    /// Skip the connection test: one request before the run that must succeed. Implies --ready-timeout 0
    #[arg(long, help_heading = HEADING)]
    pub no_test_connection: bool,
    /// Trust the CA certificates in this PEM file instead of those of the system
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub cacert: Option<PathBuf>,
    /// Client certificate for a server that requires one: a PEM file, which may also have the private key
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub cert: Option<PathBuf>,
    /// Private key of --cert, a PEM file that is not encrypted [default: the key in the file of --cert]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub key: Option<PathBuf>,
    /// Do not verify the server's certificate
    #[arg(long, help_heading = HEADING)]
    pub insecure: bool,
    /// HTTP proxy for requests and hub downloads: http://HOST:PORT or http://USER:PASSWORD@HOST:PORT (https servers use a CONNECT tunnel), or
    /// env to use http_proxy, https_proxy, all_proxy and no_proxy [default: none; the variables are ignored]
    #[arg(long, value_name = "URL", help_heading = HEADING)]
    pub proxy: Option<String>,
    /// Spread connections over all addresses of the server's name, in rotation [default: all go to the first that answers]
    #[arg(long, help_heading = HEADING)]
    pub address_rotation: bool,
    /// Scrape the server's Prometheus metrics during the run and compare them with the client's figures: a URL, or a path
    /// on the server [default without a value: /metrics]
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "", help_heading = HEADING)]
    pub server_metrics: Option<String>,
    /// The server that ringmark starts itself.
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
            ready_timeout_s: 30.0,
            max_response_size: 256 << 20,
            no_test_connection: false,
            cacert: None,
            cert: None,
            key: None,
            insecure: false,
            proxy: None,
            address_rotation: false,
            server_metrics: None,
            local: LocalSpec::default(),
        }
    }
}

impl TargetSpec {
    /// The API that `--api` names: a built-in one, a description file or a program.
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

    /// Parses `--url` and checks the TLS flags. `secrets` are masked in errors.
    pub(super) fn endpoint(&self, api: Api, secrets: &[String]) -> Result<Endpoint, PlanError> {
        let url = self.url.as_deref().ok_or(PlanError::NoUrl)?;
        if self.insecure && self.cacert.is_some() {
            return Err(PlanError::conflict(
                "--insecure disables the certificate check that --cacert configures: keep one of them",
            ));
        }
        if self.key.is_some() && self.cert.is_none() {
            return Err(PlanError::conflict("--key is the private key of --cert, which is not given: add --cert FILE"));
        }
        let found = endpoint(url, api, self.tls()).map_err(|error| match error {
            PlanError::Url { url, what } => {
                // The message may quote the URL or a part of it.
                let shown = masked_url(&url);
                PlanError::Url { what: mask(&what.replace(&url, &shown), secrets), url: mask(&shown, secrets) }
            }
            other => other,
        })?;
        if found.target.tls.is_none() {
            let flags =
                [(self.insecure, "--insecure"), (self.cacert.is_some(), "--cacert"), (self.cert.is_some(), "--cert")];
            for (given, flag) in flags {
                if given {
                    return Err(PlanError::conflict(format!(
                        "{flag} applies to TLS, but --url is not https://: remove {flag}"
                    )));
                }
            }
        }
        Ok(found)
    }

    fn tls(&self) -> TlsPlan {
        let client = self
            .cert
            .clone()
            .map(|certificate_file| ClientCertificate { certificate_file, key_file: self.key.clone() });
        TlsPlan { ca_file: self.cacert.clone(), insecure: self.insecure, client }
    }

    /// The model name; empty if the server must be asked.
    pub(super) fn model_name(&self, template: Option<&QueryTemplate>, target: &Target) -> Result<String, PlanError> {
        match &self.model {
            Some(model) if model.trim().is_empty() => {
                Err(PlanError::value("--model", "is empty; omit it to ask the server"))
            }
            Some(model) => Ok(model.clone()),
            None if template.is_some_and(|template| template.model().is_some()) => {
                Ok(template.and_then(QueryTemplate::model).unwrap_or_default().to_string())
            }
            None if target.mock.is_some() => Ok("mock".to_string()),
            None => Ok(String::new()),
        }
    }

    /// The request headers: those of `--headers`, those of the API, and the API key.
    pub(super) fn request_headers(&self, dialect: Dialect, stream: bool) -> Result<Vec<Header>, PlanError> {
        let wrong = |what: String| PlanError::value("--headers", format!("cannot be used: {what}"));
        let mut headers = Vec::with_capacity(self.headers.len() + 2);
        for text in &self.headers {
            headers.push(Header::scan(text).map_err(wrong)?);
        }
        for (place, header) in headers.iter().enumerate() {
            if headers[..place].iter().any(|earlier| earlier.name.eq_ignore_ascii_case(&header.name)) {
                return Err(PlanError::value("--headers", format!("has {} twice; keep one", header.name)));
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
                Err(PlanError::value("--api-key", "is empty or contains a control character such as a line break"))
            }
            key => Ok(key),
        }
    }

    /// The timeouts of requests.
    pub(super) fn timeouts(&self) -> Result<Timeouts, PlanError> {
        Ok(Timeouts {
            connect_ns: seconds_ns("--connect-timeout", self.connect_timeout_s, false)?,
            read_ns: seconds_ns("--read-timeout", self.read_timeout_s, false)?,
            total_ns: seconds_ns("--total-timeout", self.total_timeout_s, false)?,
        })
    }

    /// How long a server that is still starting is waited for, nanoseconds.
    pub(super) fn ready_timeout_ns(&self) -> Result<u64, PlanError> {
        let given_ns = seconds_ns("--ready-timeout", self.ready_timeout_s, true)?;
        Ok(if self.no_test_connection { 0 } else { given_ns })
    }

    /// The metrics page of `--server-metrics`, or the default page of a local server that has metrics; `None` if no metrics
    /// are scraped.
    pub(super) fn metrics_page(
        &self,
        local: Option<&LocalPlan>,
        variables: &ProxyVariables,
    ) -> Result<Option<MetricsPage>, PlanError> {
        let local_default = local.filter(|local| local.kind.has_metrics()).map(|_| "");
        let Some(given) = self.server_metrics.as_deref().or(local_default) else { return Ok(None) };
        if given.is_empty() || given.starts_with('/') {
            let path = if given.is_empty() { METRICS_PATH } else { given };
            if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(PlanError::value(
                    "--server-metrics",
                    "has a space or a control character in its path; percent-encode it",
                ));
            }
            return Ok(Some(MetricsPage { elsewhere: None, path: path.to_string() }));
        }
        let mut target = self.metrics_target(given)?;
        // Findings about the proxy are reported for the target only.
        ProxyChoice::from_flag(self.proxy.as_deref(), variables)?.apply(&mut target, false, &mut Vec::new())?;
        Ok(Some(MetricsPage { path: target.path.clone(), elsewhere: Some(target) }))
    }

    /// Parses the URL of a metrics page. The rules of `--url` apply, except that the path is not completed.
    fn metrics_target(&self, url: &str) -> Result<Target, PlanError> {
        let wrong = |what: String| PlanError::value("--server-metrics", format!("'{}' {what}", masked_url(url)));
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(wrong(
                "is not a URL: write http://host:port/metrics, or /path for a page on the target server".into(),
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

    fn page(given: &str) -> Result<Option<MetricsPage>, String> {
        let spec = TargetSpec { server_metrics: Some(given.to_string()), ..TargetSpec::default() };
        spec.metrics_page(None, &ProxyVariables::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_value_the_page_is_metrics_on_the_target() {
        assert!(TargetSpec::default().metrics_page(None, &ProxyVariables::default()).unwrap().is_none());
        let usual = page("").unwrap().unwrap();
        assert!(usual.elsewhere.is_none() && usual.path == "/metrics");
        assert_eq!(page("/prometheus/metrics").unwrap().unwrap().path, "/prometheus/metrics");
    }

    #[test]
    fn a_url_gives_another_server() {
        let there = page("http://h:9000").unwrap().unwrap().elsewhere.unwrap();
        assert_eq!((there.url.as_str(), there.path.as_str(), there.port), ("http://h:9000/metrics", "/metrics", 9000));
        let there = page("https://h/a/b?x=1#y").unwrap().unwrap().elsewhere.unwrap();
        assert!(there.tls.is_some());
        assert_eq!(there.path, "/a/b?x=1");
    }

    #[test]
    fn invalid_metrics_pages_are_one_line() {
        for wrong in ["h:9000", "unix:/a:/metrics", "mock:", "http://", "/a b", "http://h:x/"] {
            let error = page(wrong).unwrap_err();
            assert!(error.contains("--server-metrics") && !error.contains('\n'), "{wrong}: {error}");
        }
    }
}
