//! Which model a server has.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::Value;

use super::get::{GetError, Waits, get};
use crate::plan::{Target, Timeouts};
use crate::spec::TargetSpec;

/// Longest wait of a user who gave no shorter one: a list of models is no work.
const MOST: Duration = Duration::from_secs(10);

/// How long a server may take to list its models: as long as the limits for requests allow, which by default is far
/// too long for this.
pub fn waits(timeouts: Timeouts) -> Waits {
    let default = TargetSpec::default();
    let wait = |ns: u64, default_s: f64| match Duration::from_nanos(ns) {
        given if given < Duration::from_secs_f64(default_s) => given,
        _ => MOST,
    };
    Waits {
        connect: wait(timeouts.connect_ns, default.connect_timeout_s),
        read: wait(timeouts.read_ns, default.read_timeout_s),
    }
}

/// The name of the first model that the server lists at `path`. `headers` are whole lines, each ended by CRLF.
pub fn first_model(
    target: &Target,
    path: &str,
    headers: &str,
    tls: Option<Arc<ClientConfig>>,
    waits: Waits,
) -> Result<String, String> {
    let reply = get(target, path, headers, tls, waits).map_err(|error| match error {
        GetError::NoConnection(_) => format!("GET {path}: {error} (--connect-timeout)"),
        GetError::Silence(_) => format!("GET {path}: {error} (--read-timeout)"),
        GetError::Other(text) => text,
    })?;
    if reply.status != 200 {
        return Err(format!("GET {path} was answered with status {}", reply.status));
    }
    name_in(&reply.body).ok_or_else(|| format!("GET {path} lists no model"))
}

fn name_in(body: &[u8]) -> Option<String> {
    let list: Value = serde_json::from_slice(body).ok()?;
    list.get("data")?.as_array()?.first()?.get("id")?.as_str().map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_model_of_a_list_is_taken() {
        assert_eq!(name_in(br#"{"object":"list","data":[{"id":"qwen2.5"},{"id":"b"}]}"#).as_deref(), Some("qwen2.5"));
        assert_eq!(name_in(br#"{"data":[]}"#), None);
        assert_eq!(name_in(b"<html>"), None);
    }
}
