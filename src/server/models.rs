//! Queries the models of a server.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::Value;

use super::hints;
use super::http_get::{GetError, GetTimeouts, get};
use super::ready::Attempt;
use crate::plan::{Target, Timeouts};
use crate::spec::TargetSpec;

/// The timeout where the user has not given a shorter one.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A list that is not complete after this time is an error.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);

/// The timeouts for listing the models: those for requests if the user has shortened them, else 10 s, and 30 s in total.
pub(crate) fn list_timeouts(timeouts: Timeouts) -> GetTimeouts {
    let default = TargetSpec::default();
    let timeout = |ns: u64, default_s: f64| match Duration::from_nanos(ns) {
        given if given < Duration::from_secs_f64(default_s) => given,
        _ => DEFAULT_TIMEOUT,
    };
    GetTimeouts {
        connect: timeout(timeouts.connect_ns, default.connect_timeout_s),
        read: timeout(timeouts.read_ns, default.read_timeout_s),
        total: TOTAL_TIMEOUT,
    }
}

/// The name of the first model that the server lists at `path`. `headers` are complete lines, each ended by CRLF.
///
/// # Errors
/// One line with the cause and what to do. A server that refuses connections or answers 503 may still be starting.
pub(crate) fn first_model(
    target: &Target,
    path: &str,
    headers: &str,
    tls: Option<Arc<ClientConfig>>,
    timeouts: GetTimeouts,
) -> Result<String, Attempt<String>> {
    let named = |error: String| format!("{error}; give --model NAME");
    let failed = |error: String| Attempt { error: named(error), starting: None };
    let starting = |error: String| Attempt { error: named(error.clone()), starting: Some(error) };
    let reply = get(target, path, headers, tls, timeouts).map_err(|error| match error {
        GetError::NoConnection(_) => failed(format!("GET {path}: {error} (--connect-timeout)")),
        GetError::ReadTimeout(_) => failed(format!("GET {path}: {error} (--read-timeout)")),
        GetError::TotalTimeout(_) | GetError::Interrupted => failed(format!("GET {path}: {error}")),
        GetError::Refused(text) => {
            Attempt { error: format!("{text}; {}", hints::about_refusal(target)), starting: Some(text) }
        }
        GetError::Other(text) => failed(text),
    })?;
    match reply.status {
        200 => {}
        503 => return Err(starting(format!("GET {path} returned status 503"))),
        status => {
            let names = headers.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name);
            let error = format!("GET {path} returned status {status}");
            return Err(match hints::about_status(status, target, names) {
                Some(hint) => Attempt { error: format!("{error}; {hint}"), starting: None },
                None => failed(error),
            });
        }
    }
    parse_first_name(&reply.body).ok_or_else(|| failed(format!("the response to GET {path} lists no model")))
}

fn parse_first_name(body: &[u8]) -> Option<String> {
    let list: Value = serde_json::from_slice(body).ok()?;
    list.get("data")?.as_array()?.first()?.get("id")?.as_str().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_model_of_a_list_is_used() {
        assert_eq!(
            parse_first_name(br#"{"object":"list","data":[{"id":"qwen2.5"},{"id":"b"}]}"#).as_deref(),
            Some("qwen2.5")
        );
        assert_eq!(parse_first_name(br#"{"data":[]}"#), None);
        assert_eq!(parse_first_name(b"<html>"), None);
    }
}
