//! HTTP proxies.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Default port of a proxy.
const DEFAULT_PORT: u16 = 80;

/// An HTTP proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub host: String,
    pub port: u16,
    /// User and password.
    pub credentials: Option<(String, String)>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.authority())
    }
}

impl Proxy {
    /// Parses `http://[user[:password]@]host[:port]`. The error does not quote the text, which may contain a password.
    pub(crate) fn scan(text: &str) -> Result<Proxy, String> {
        const FORM: &str = "write it as http://[USER:PASSWORD@]HOST:PORT";
        let rest = match text.trim().split_once("://") {
            None => text.trim(),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(format!("is not an http:// proxy, the only supported kind; {FORM}")),
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, host) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((user, host)) => {
                let (user, password) = user.split_once(':').unwrap_or((user, ""));
                (Some((decoded(user), decoded(password))), host)
            }
        };
        let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(format!("has no valid host name; {FORM}"));
        }
        let port = match port.filter(|port| !port.is_empty()) {
            None => DEFAULT_PORT,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(format!("has no valid port; {FORM}"))?,
        };
        Ok(Proxy { host: host.to_string(), port, credentials })
    }

    /// Host and port, for display.
    pub fn authority(&self) -> String {
        with_port(&self.host, self.port)
    }

    /// The value of `Proxy-Authorization`.
    pub fn authorization(&self) -> Option<String> {
        let (user, password) = self.credentials.as_ref()?;
        Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
    }

    /// The secrets: the password and the encoded credentials.
    pub fn secrets(&self) -> Vec<String> {
        let encoded = self.authorization().and_then(|value| value.split(' ').nth(1).map(str::to_string));
        let password = self.credentials.as_ref().map(|(_, password)| password.clone());
        encoded.into_iter().chain(password).collect()
    }
}

/// `host:port`, with an IPv6 address in brackets.
pub(crate) fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Decodes percent-encoded text.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| bytes[at] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_urls_are_parsed() {
        let proxy = Proxy::scan("http://us%40er:p%3Aw@Proxy.example:3128/").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("Proxy.example", 3128));
        assert_eq!(proxy.credentials, Some(("us@er".to_string(), "p:w".to_string())));
        assert_eq!(proxy.authorization().unwrap(), format!("Basic {}", BASE64_STANDARD.encode("us@er:p:w")));
        assert_eq!(format!("{proxy:?}"), "Proxy.example:3128");
        assert_eq!(Proxy::scan("localhost:8080").unwrap().authority(), "localhost:8080");
        assert_eq!(Proxy::scan("http://[::1]:3128").unwrap().authority(), "[::1]:3128");
        assert_eq!(Proxy::scan("http://h").unwrap().port, 80);
        for bad in ["socks5://u:hush@h:1", "https://u:hush@h", "http://", "http://u:hush@", "http://h:x", "h:0", "a b"]
        {
            let text = Proxy::scan(bad).unwrap_err();
            assert!(text.contains("http://[USER:PASSWORD@]HOST:PORT") && !text.contains("hush"), "{bad}: {text}");
        }
    }
}
