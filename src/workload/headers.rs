//! The request line and the headers that all requests share.

use std::fmt;
use std::io::Write;

use crate::secrets::{MASK, is_secret_name};

/// A header given by the user.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: String,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if is_secret_name(&self.name) { MASK } else { &self.value };
        write!(f, "{}: {value}", self.name)
    }
}

/// Headers that control the framing, which only the engine can write.
const OWN: [&str; 5] = ["content-length", "transfer-encoding", "expect", "upgrade", "te"];

impl Header {
    /// Parses `name=value`. Rejects text that is not a single valid header.
    pub(crate) fn scan(text: &str) -> Result<Header, String> {
        let Some((name, value)) = text.split_once('=') else {
            // The text may contain a secret, so it is not shown.
            return Err("each header is written name=value, for example --headers X-Tenant=a".to_string());
        };
        let name = name.trim_matches([' ', '\t']);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("'{}' is not a header name", name.escape_debug()));
        }
        if OWN.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(format!("{name} is set by ringmark; leave it out"));
        }
        let value = value.trim_matches([' ', '\t']);
        if value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
            return Err(format!("the value of {name} contains a control character such as a line end"));
        }
        Ok(Header { name: name.to_string(), value: value.to_string() })
    }
}

/// Whether the user sets the request id.
pub(crate) fn names_request_id(headers: &[Header]) -> bool {
    given(headers, "X-Request-Id")
}

/// Writes the request line and the headers, except those that differ between requests. Headers of the user replace
/// ours.
pub fn write(headers: &[Header], stream: bool, authority: &str, path: &str) -> Vec<u8> {
    let accept = if stream { "text/event-stream" } else { "application/json" };
    let agent = concat!("ringmark/", env!("CARGO_PKG_VERSION"));
    let ours = [("Host", authority), ("User-Agent", agent), ("Accept", accept), ("Content-Type", "application/json")];
    let mut out = Vec::with_capacity(256);
    let mut line = |name: &str, value: &str| {
        write!(out, "{name}: {value}\r\n").expect("writing to a Vec cannot fail");
    };
    for (name, value) in ours.iter().filter(|(name, _)| !given(headers, name)) {
        line(name, value);
    }
    for header in headers {
        line(&header.name, &header.value);
    }
    [format!("POST {path} HTTP/1.1\r\n").as_bytes(), &out].concat()
}

fn given(headers: &[Header], name: &str) -> bool {
    headers.iter().any(|header| header.name.eq_ignore_ascii_case(name))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_at_the_first_equals_sign() {
        let header = Header::scan("X-Sig=a=b==").unwrap();
        assert_eq!((header.name.as_str(), header.value.as_str()), ("X-Sig", "a=b=="));
    }

    #[test]
    fn injection_and_framing_are_refused() {
        for bad in ["X-A=b\r\nX-C: d", "X A=b", "=v", "novalue", "X\n=v", "Content-Length=3", "transfer-encoding=x"] {
            assert!(Header::scan(bad).is_err(), "{bad:?}");
        }
        assert!(!Header::scan("sk-secret").unwrap_err().contains("sk-secret"));
    }

    #[test]
    fn secrets_do_not_show() {
        let shown = format!("{:?}", Header::scan("Authorization=Bearer sk-1").unwrap());
        assert_eq!(shown, "Authorization: ****");
        assert_eq!(format!("{:?}", Header::scan("X-Tenant=a").unwrap()), "X-Tenant: a");
    }
}
