//! Which model a server has.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::Value;

use super::get::get;
use crate::plan::Target;

/// The name of the first model that the server lists at `path`. `headers` are whole lines, each ended by CRLF.
pub fn first_model(
    target: &Target,
    path: &str,
    headers: &str,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
) -> Result<String, String> {
    let reply = get(target, path, headers, tls, timeout)?;
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
