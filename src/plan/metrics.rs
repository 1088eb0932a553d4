//! `--server-metrics`: where the server shows its own figures.

use super::proxy::{ProxyChoice, ProxyVariables};
use super::{LocalPlan, PlanError, Target, TlsPlan, endpoint};
use crate::api::endpoint::Api;
use crate::spec::{Spec, masked_url};

/// Where servers show their metrics when nothing else is said.
const PATH: &str = "/metrics";

/// A page of metrics.
#[derive(Clone, Debug)]
pub struct MetricsPage {
    /// Another server than the target; it has no addresses yet.
    pub elsewhere: Option<Target>,
    /// Path and query on the target, where it is not elsewhere.
    pub path: String,
}

/// What the flag asks for, or a server of our own that has some: nothing, the target's own page, a path on the target, or a URL.
pub(super) fn page(
    spec: &Spec,
    local: Option<&LocalPlan>,
    variables: &ProxyVariables,
) -> Result<Option<MetricsPage>, PlanError> {
    let of_local = local.filter(|local| local.kind.has_metrics()).map(|_| "");
    let Some(given) = spec.server_metrics.as_deref().or(of_local) else { return Ok(None) };
    if given.is_empty() || given.starts_with('/') {
        let path = if given.is_empty() { PATH } else { given };
        if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(PlanError::value("--server-metrics", "has a space or a control character in its path"));
        }
        return Ok(Some(MetricsPage { elsewhere: None, path: path.to_string() }));
    }
    let mut target = target(given, spec)?;
    // What is to be said of the proxy is said of the server itself.
    ProxyChoice::of(spec, variables)?.apply(&mut target, false, &mut Vec::new())?;
    Ok(Some(MetricsPage { path: target.path.clone(), elsewhere: Some(target) }))
}

/// The target of a URL. The rules of `--url` hold but for the endpoint, which this is none of.
fn target(url: &str, spec: &Spec) -> Result<Target, PlanError> {
    let wrong = |what: String| PlanError::value("--server-metrics", format!("'{}' {what}", masked_url(url)));
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(wrong(
            "is no URL: write http://host:port/metrics, or /path for a page of the server itself".into(),
        ));
    }
    let start = url.find("://").map_or(0, |at| at + 3);
    let (server, path) = url.split_at(url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at));
    let tls = TlsPlan { ca_file: spec.cacert.clone(), insecure: spec.insecure };
    let mut target = endpoint(server, Api::OpenAi, tls)
        .map_err(|error| match error {
            PlanError::Url { what, .. } => wrong(what),
            other => other,
        })?
        .target;
    let path = path.split('#').next().unwrap_or_default();
    target.path = match path {
        "" | "/" => PATH.to_string(),
        query if query.starts_with('?') => format!("{PATH}{query}"),
        path => path.to_string(),
    };
    target.url = masked_url(&format!("{server}{}", target.path));
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(given: &str) -> Result<Option<MetricsPage>, String> {
        let spec = Spec { server_metrics: Some(given.to_string()), ..Spec::default() };
        page(&spec, None, &ProxyVariables::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_value_it_is_the_usual_page_of_the_target() {
        assert!(page(&Spec::default(), None, &ProxyVariables::default()).unwrap().is_none());
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
