//! Parses `--url` into a target and the dialect of its endpoint.

use std::path::PathBuf;

use crate::api::Dialect;
use crate::api::endpoint::{Api, CompletedPath};
use crate::finding::Finding;
use crate::plan::{PlanError, Target, TlsPlan, Transport};

/// The result of parsing a URL.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub target: Target,
    pub dialect: Dialect,
    /// A finding if the path was completed.
    pub notes: Vec<Finding>,
}

/// `sun_path` has 108 bytes, including the terminating zero.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Parses `http://`, `https://`, `unix:/socket:/path` and `mock:?parameters`. `tls` applies to `https`; `api` completes
/// the path.
pub fn endpoint(url: &str, api: Api, tls: TlsPlan) -> Result<Endpoint, PlanError> {
    let wrong = |what: &str| PlanError::Url { url: url.to_string(), what: what.to_string() };
    if url.trim() != url || url.is_empty() {
        return Err(wrong("is empty or has spaces around it"));
    }
    if url.chars().any(char::is_control) {
        return Err(PlanError::Url {
            url: url.escape_debug().to_string(),
            what: "has a control character".to_string(),
        });
    }
    let (target, dialect, added) = match url.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => tcp(rest, None, api).map_err(|e| wrong(&e))?,
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
            tcp(rest, Some(tls), api).map_err(|e| wrong(&e))?
        }
        Some(("unix", rest)) => unix(rest, api).map_err(|e| wrong(&e))?,
        Some(("mock", rest)) => mock(rest, api).map_err(|e| wrong(&e))?,
        Some((scheme, rest)) if rest.starts_with("//") => {
            return Err(wrong(&format!("unknown scheme '{scheme}' (known: http, https, unix, mock)")));
        }
        _ if url == "mock" => return Err(wrong("has no colon; the URL of the built-in server is mock:")),
        _ => return Err(wrong(&format!("has no scheme; write http://{url}"))),
    };
    let mut notes = Vec::new();
    if added && target.mock.is_none() {
        notes.push(Finding::UrlCompleted { path: path_alone(&target.path).to_string(), url: target.url.clone() });
    }
    Ok(Endpoint { target, dialect, notes })
}

/// Parses the part after `http:` or `https:`. The last value of the result says whether the endpoint was added.
fn tcp(rest: &str, tls: Option<TlsPlan>, api: Api) -> Result<(Target, Dialect, bool), String> {
    let rest = rest.strip_prefix("//").ok_or("has no // after its scheme")?;
    let rest = rest.split('#').next().unwrap_or(rest);
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority)?;
    let (scheme, default_port) = if tls.is_some() { ("https", 443) } else { ("http", 80) };
    let (path, dialect, added) = complete(&encode(path), api)?;
    let written_host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let authority = match port {
        Some(port) if port != default_port => format!("{written_host}:{port}"),
        _ => written_host,
    };
    let target = Target {
        url: format!("{scheme}://{authority}{path}"),
        transport: Transport::Tcp(Vec::new()),
        authority,
        host,
        port: port.unwrap_or(default_port),
        path,
        tls,
        proxy: None,
        mock: None,
    };
    Ok((target, dialect, added))
}

fn host_and_port(authority: &str) -> Result<(String, Option<u16>), String> {
    if authority.contains('@') {
        return Err("contains a user name; use --headers 'Authorization=Basic ...' instead".to_string());
    }
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("has an IPv6 address without a closing ]")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(format!("'{host}' is not an IPv6 address"));
        }
        match rest.strip_prefix(':') {
            None if !rest.is_empty() => return Err(format!("has '{rest}' after the IPv6 address")),
            port => (host, port),
        }
    } else {
        match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("has several colons in its host; write an IPv6 address in brackets, as [::1]".to_string());
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() {
        return Err("has no host".to_string());
    }
    if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b)) {
        return Err(format!("'{host}' is not a host name (write internationalized names in their xn-- form)"));
    }
    let port = match port {
        None | Some("") => None,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(format!("'{text}' is not a port between 1 and 65535")),
        },
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// Parses the part after `unix:`: `/socket` or `/socket:/path`.
fn unix(rest: &str, api: Api) -> Result<(Target, Dialect, bool), String> {
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (socket, path) = rest.split_once(":/").unwrap_or((rest, ""));
    if !socket.starts_with('/') {
        return Err(
            "needs the full path of the socket, for example unix:/run/server.sock:/v1/chat/completions".to_string()
        );
    }
    if socket.len() > MAX_SOCKET_PATH_BYTES {
        return Err(format!("has a socket path longer than {MAX_SOCKET_PATH_BYTES} bytes"));
    }
    let path = if path.is_empty() { String::new() } else { format!("/{path}") };
    let (path, dialect, added) = complete(&encode(&path), api)?;
    let target = Target {
        url: format!("unix:{socket}:{path}"),
        transport: Transport::Unix(PathBuf::from(socket)),
        authority: "localhost".to_string(),
        host: "localhost".to_string(),
        port: 0,
        path,
        tls: None,
        proxy: None,
        mock: None,
    };
    Ok((target, dialect, added))
}

/// Parses the part after `mock:`: an optional path, and the parameters of the built-in server as a query.
fn mock(rest: &str, api: Api) -> Result<(Target, Dialect, bool), String> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.is_empty() && !path.starts_with('/') {
        return Err("has parameters without a '?'; write mock: or mock:?ttft=50ms&itl=10ms&tokens=100".to_string());
    }
    let (path, dialect, added) = complete(path, api)?;
    let target = Target {
        url: format!("mock:{rest}"),
        transport: Transport::Tcp(Vec::new()),
        authority: "127.0.0.1".to_string(),
        host: "127.0.0.1".to_string(),
        port: 0,
        path,
        tls: None,
        proxy: None,
        mock: Some(query.to_string()),
    };
    Ok((target, dialect, added))
}

/// Completes a path with its endpoint. Returns the path, the dialect, and whether the endpoint was added.
fn complete(path_and_query: &str, api: Api) -> Result<(String, Dialect, bool), String> {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (path_and_query, String::new()),
    };
    let CompletedPath { path, dialect, changed } = api.complete(path)?;
    Ok((format!("{path}{query}"), dialect, changed))
}

fn path_alone(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}

/// Percent-encodes characters that are not allowed in a request line.
fn encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'!'..=b'~' if !b"\"<>\\^`{|}".contains(&byte) => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Endpoint {
        endpoint(url, Api::OpenAi, TlsPlan::default()).unwrap()
    }

    fn error(url: &str) -> String {
        endpoint(url, Api::OpenAi, TlsPlan::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_complete_url_is_not_changed() {
        let found = read("http://127.0.0.1:8801/v1/chat/completions?x=1");
        assert_eq!(found.target.url, "http://127.0.0.1:8801/v1/chat/completions?x=1");
        assert_eq!(found.target.authority, "127.0.0.1:8801");
        assert_eq!((found.target.host.as_str(), found.target.port), ("127.0.0.1", 8801));
        assert_eq!(found.target.path, "/v1/chat/completions?x=1");
        assert_eq!((found.dialect, found.notes.len()), (Dialect::Chat, 0));
        assert_eq!(found.target.models_path(), "/v1/models?x=1");
        assert_eq!(read("http://h/v1/completions").target.models_path(), "/v1/models");
        assert_eq!(read("http://h/v1/completions").dialect, Dialect::Completions);
        assert_eq!(read("HTTP://Host.Example/completions/").target.url, "http://host.example/completions/");
    }

    #[test]
    fn a_path_without_an_endpoint_is_completed_with_a_finding() {
        for (url, path) in [
            ("http://h", "/v1/chat/completions"),
            ("http://h/", "/v1/chat/completions"),
            ("http://h/v1", "/v1/chat/completions"),
            ("http://h/v1/chat", "/v1/chat/completions"),
            ("http://h/compatible-mode/v1/", "/compatible-mode/v1/chat/completions"),
            ("http://h?key=1", "/v1/chat/completions?key=1"),
        ] {
            let found = read(url);
            assert_eq!(found.target.path, path, "{url}");
            assert!(
                matches!(&found.notes[0], Finding::UrlCompleted { path, .. } if path.contains("/chat/completions"))
            );
        }
    }

    #[test]
    fn https_ipv6_and_ports() {
        let found = read("https://[::1]/v1/completions");
        assert_eq!((found.target.host.as_str(), found.target.authority.as_str()), ("::1", "[::1]"));
        assert_eq!((found.target.port, found.target.tls.is_some()), (443, true));
        assert_eq!(read("https://h:443/v1").target.authority, "h");
        assert_eq!(read("http://[fe80::1]:80/v1").target.authority, "[fe80::1]");
    }

    #[test]
    fn unix_sockets() {
        let found = read("unix:/run/vllm.sock:/v1/completions");
        assert_eq!(found.target.transport, Transport::Unix(PathBuf::from("/run/vllm.sock")));
        assert_eq!((found.target.path.as_str(), found.target.authority.as_str()), ("/v1/completions", "localhost"));
        assert_eq!(read("unix:/run/vllm.sock").target.path, "/v1/chat/completions");
        assert!(error("unix:vllm.sock").contains("full path"));
        assert!(error(&format!("unix:/{}", "x".repeat(120))).contains("107"));
    }

    #[test]
    fn the_mock_keeps_its_parameters_and_gets_its_address() {
        let mut found = read("mock:?ttft=50ms&itl=10ms");
        assert_eq!(found.target.mock.as_deref(), Some("ttft=50ms&itl=10ms"));
        assert_eq!((found.target.path.as_str(), found.notes.len()), ("/v1/chat/completions", 0));
        assert_eq!(read("mock:").target.mock.as_deref(), Some(""));
        assert_eq!(read("mock:/v1/completions?x=1").dialect, Dialect::Completions);
        found.target.set_mock_address("127.0.0.1:4000".parse().unwrap());
        assert_eq!(found.target.authority, "127.0.0.1:4000");
        assert_eq!(found.target.url, "http://127.0.0.1:4000/v1/chat/completions");
    }

    #[test]
    fn special_characters_are_encoded() {
        assert_eq!(read("http://h/a b/ü/v1").target.path, "/a%20b/%C3%BC/v1/chat/completions");
        assert_eq!(read("http://h/v1#part").target.path, "/v1/chat/completions");
    }

    #[test]
    fn invalid_urls_are_rejected_with_a_reason() {
        for (url, what) in [
            ("", "empty"),
            (" http://h", "spaces"),
            ("127.0.0.1:8000/v1", "write http://127.0.0.1:8000/v1"),
            ("localhost:8000", "write http://localhost:8000"),
            ("ftp://h/v1", "unknown scheme 'ftp'"),
            ("http:/h", "no //"),
            ("http://", "no host"),
            ("http://:80", "no host"),
            ("http://h:0/v1", "port"),
            ("http://h:99999/v1", "port"),
            ("http://h:80a/v1", "port"),
            ("http://::1/v1", "brackets"),
            ("http://[::1/v1", "]"),
            ("http://[zz]/v1", "IPv6"),
            ("http://[::1]x/v1", "after"),
            ("http://a b/v1", "host name"),
            ("http://u:p@h/v1", "Authorization"),
            ("http://h/v1/embeddings", "/embeddings"),
            ("http://h/v1/\r\nX: y", "control"),
            ("mock", "mock:"),
            ("mock:ttft=5", "mock:?"),
        ] {
            let text = error(url);
            assert!(text.contains(what), "{url}: {text}");
            assert!(text.starts_with("--url") && !text.contains('\n'), "{text}");
        }
    }
}
