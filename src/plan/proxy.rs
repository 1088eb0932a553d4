//! `--proxy`: which server is reached through which HTTP proxy.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{PlanError, Target, Transport};
use crate::finding::Finding;
use crate::spec::Spec;

const FLAG: &str = "--proxy";
/// The value of the flag that follows the environment.
const ENVIRONMENT: &str = "env";
/// A proxy without a port listens where HTTP does.
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
    /// Reads `http://[user[:password]@]host[:port]`. The error shows nothing of the text, which may hold a password.
    pub fn scan(text: &str) -> Result<Proxy, String> {
        const FORM: &str = "write it as http://[USER:PASSWORD@]HOST:PORT";
        let rest = match text.trim().split_once("://") {
            None => text.trim(),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(format!("is not an http:// proxy, and no others are spoken to; {FORM}")),
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
            return Err(format!("has no host that can be looked up; {FORM}"));
        }
        let port = match port.filter(|port| !port.is_empty()) {
            None => DEFAULT_PORT,
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(format!("has no port; {FORM}"))?,
        };
        Ok(Proxy { host: host.to_string(), port, credentials })
    }

    /// Host and port, for people.
    pub fn authority(&self) -> String {
        with_port(&self.host, self.port)
    }

    /// The value of `Proxy-Authorization`.
    pub fn authorization(&self) -> Option<String> {
        let (user, password) = self.credentials.as_ref()?;
        Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
    }

    /// What must never be shown of it.
    pub fn secrets(&self) -> Vec<String> {
        let encoded = self.authorization().and_then(|value| value.split(' ').nth(1).map(str::to_string));
        let password = self.credentials.as_ref().map(|(_, password)| password.clone());
        encoded.into_iter().chain(password).collect()
    }
}

/// `host:port`, an IPv6 address in brackets.
pub fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Percent-encoded text as it is meant.
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

/// What the environment says of proxies. Whoever plans has read it first.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyVariables {
    /// Of `http`, `https` and all schemes: the variable's name and value.
    http: Option<(&'static str, String)>,
    https: Option<(&'static str, String)>,
    all: Option<(&'static str, String)>,
    /// Hosts that are reached straight.
    no_proxy: String,
}

impl fmt::Debug for ProxyVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [&self.http, &self.https, &self.all].into_iter().flatten().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl ProxyVariables {
    /// Reads the environment through `variable`. Of two spellings the one in small letters counts.
    pub fn read(variable: &dyn Fn(&str) -> Option<String>) -> ProxyVariables {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, variable(name).filter(|value| !value.trim().is_empty())?)))
        };
        ProxyVariables {
            http: first(["http_proxy", "HTTP_PROXY"]),
            https: first(["https_proxy", "HTTPS_PROXY"]),
            all: first(["all_proxy", "ALL_PROXY"]),
            no_proxy: first(["no_proxy", "NO_PROXY"]).map_or(String::new(), |(_, value)| value),
        }
    }

    /// The variable that holds for a server, and its value.
    fn of(&self, tls: bool, host: &str, port: u16) -> Option<&(&'static str, String)> {
        let own = if tls { &self.https } else { &self.http };
        own.as_ref().or(self.all.as_ref()).filter(|_| !self.excepts(host, port))
    }

    /// Whether `no_proxy` names a server: `*`, a name with everything under it, an address, a range of addresses, each
    /// with a port where only that is meant.
    fn excepts(&self, host: &str, port: u16) -> bool {
        let names = self.no_proxy.split([',', ' ']).map(str::trim).filter(|name| !name.is_empty());
        names.into_iter().any(|name| {
            let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
            let (name, only) = match name.rsplit_once(':') {
                Some((rest, digits)) if !rest.contains(':') || rest.ends_with(']') => (rest, digits.parse().ok()),
                _ => (name, None),
            };
            let name = bare(name);
            only.is_none_or(|only: u16| only == port)
                && (name == "*" || is_under(host, &name) || is_within(host, &name))
        })
    }
}

/// Whether `host` is `name` or a part of that domain.
fn is_under(host: &str, name: &str) -> bool {
    let name = name.trim_start_matches("*.").trim_start_matches('.');
    host == name || host.strip_suffix(name).is_some_and(|front| front.ends_with('.'))
}

/// Whether `host` is an address within a range as `10.0.0.0/8`.
fn is_within(host: &str, range: &str) -> bool {
    let Some((network, bits)) = range.split_once('/') else { return false };
    let (Ok(host), Ok(network), Ok(bits)) = (host.parse::<IpAddr>(), network.parse::<IpAddr>(), bits.parse::<u32>())
    else {
        return false;
    };
    let (host, network, width) = match (host, network) {
        (IpAddr::V4(host), IpAddr::V4(network)) => (u128::from(host.to_bits()), u128::from(network.to_bits()), 32),
        (IpAddr::V6(host), IpAddr::V6(network)) => (host.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    let ignored = width - bits.min(width);
    ignored >= 128 || (host ^ network) >> ignored == 0
}

/// What `--proxy` says.
#[derive(Clone, Debug)]
pub enum ProxyChoice {
    /// No proxy, whatever the environment says.
    Straight(ProxyVariables),
    One(Proxy),
    Environment(ProxyVariables),
}

impl ProxyChoice {
    /// Reads the flag.
    pub fn of(spec: &Spec, variables: &ProxyVariables) -> Result<ProxyChoice, PlanError> {
        match spec.proxy.as_deref().map(str::trim) {
            None => Ok(ProxyChoice::Straight(variables.clone())),
            Some("") => Err(PlanError::value(FLAG, "is empty; write http://HOST:PORT, or env")),
            Some(ENVIRONMENT) => Ok(ProxyChoice::Environment(variables.clone())),
            Some(text) => Proxy::scan(text).map(ProxyChoice::One).map_err(|what| PlanError::value(FLAG, what)),
        }
    }

    /// The proxy through which a server is reached.
    pub fn for_server(&self, tls: bool, host: &str, port: u16) -> Result<Option<Proxy>, PlanError> {
        match self {
            ProxyChoice::Straight(_) => Ok(None),
            ProxyChoice::One(proxy) => Ok(Some(proxy.clone())),
            ProxyChoice::Environment(variables) => match variables.of(tls, host, port) {
                None => Ok(None),
                Some((name, value)) => {
                    Proxy::scan(value).map(Some).map_err(|what| PlanError::value(FLAG, format!("env: {name} {what}")))
                }
            },
        }
    }

    /// Puts the proxy into a target, with a note of what should be said about it. A server on this machine that is no
    /// TCP server of somebody else's, is always reached straight.
    pub fn apply(&self, target: &mut Target, own: bool, notes: &mut Vec<Finding>) -> Result<(), PlanError> {
        let straight = own || target.mock.is_some() || matches!(target.transport, Transport::Unix(_));
        if straight {
            if matches!(self, ProxyChoice::One(_)) {
                notes.push(Finding::ProxyNotUsed { url: target.url.clone() });
            }
            return Ok(());
        }
        if let ProxyChoice::Straight(variables) = self {
            if let Some((name, _)) = variables.of(target.tls.is_some(), &target.host, target.port) {
                notes.push(Finding::ProxyVariableNotUsed { variable: name.to_string() });
            }
            return Ok(());
        }
        target.proxy = self.for_server(target.tls.is_some(), &target.host, target.port)?;
        if let Some(proxy) = &target.proxy {
            notes.push(Finding::ProxyUsed { proxy: proxy.authority() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(all: &[(&str, &str)]) -> ProxyVariables {
        ProxyVariables::read(&|name| all.iter().find(|(given, _)| *given == name).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn proxies_are_read() {
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

    #[test]
    fn the_environment_is_read_as_everywhere() {
        let env = variables(&[("http_proxy", "a:1"), ("HTTP_PROXY", "b:1"), ("ALL_PROXY", "c:1")]);
        assert_eq!(env.of(false, "h", 80).unwrap().1, "a:1");
        assert_eq!(env.of(true, "h", 443).unwrap(), &("ALL_PROXY", "c:1".to_string()));
        let env = variables(&[("https_proxy", " "), ("no_proxy", "x")]);
        assert_eq!(env.of(true, "h", 443), None);
    }

    #[test]
    fn hosts_are_excepted() {
        let excepts = |list: &str, host: &str, port: u16| variables(&[("no_proxy", list)]).excepts(host, port);
        for (list, host) in [
            ("*", "h"),
            ("localhost, 127.0.0.1", "127.0.0.1"),
            ("example.com", "example.com"),
            ("example.com", "a.example.com"),
            (".example.com", "a.example.com"),
            ("*.Example.com", "a.example.com"),
            ("10.0.0.0/8", "10.2.3.4"),
            ("fd00::/8", "fd00::1"),
            ("::1", "::1"),
            ("[::1]:80", "::1"),
            ("h:80", "h"),
        ] {
            assert!(excepts(list, host, 80), "{list} {host}");
        }
        for (list, host) in
            [("", "h"), ("example.com", "notexample.com"), ("10.0.0.0/8", "11.0.0.1"), ("h:81", "h"), ("a.h", "h")]
        {
            assert!(!excepts(list, host, 80), "{list} {host}");
        }
        assert!(excepts("0.0.0.0/0", "1.2.3.4", 1) && excepts("::/0", "::1", 1));
    }
}
