//! `--proxy`: selects the HTTP proxy for each server.

use std::fmt;
use std::net::IpAddr;

use crate::finding::Finding;
use crate::plan::proxy::Proxy;
use crate::plan::{PlanError, Target, Transport};

const FLAG: &str = "--proxy";
/// The value of the flag that uses the proxy variables of the environment.
const ENVIRONMENT: &str = "env";

/// The proxy variables of the environment. The caller reads them before planning.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyVariables {
    /// For `http` servers: the variable's name and value.
    http: Option<(&'static str, String)>,
    /// For `https` servers.
    https: Option<(&'static str, String)>,
    /// For both, if the specific variable is not set.
    all: Option<(&'static str, String)>,
    /// Hosts that are reached without a proxy.
    no_proxy: String,
}

impl fmt::Debug for ProxyVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [&self.http, &self.https, &self.all].into_iter().flatten().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl ProxyVariables {
    /// Reads the variables with `variable`. Lower-case names take precedence over upper-case ones.
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

    /// The name and value of the variable that applies to a server.
    fn for_server(&self, tls: bool, host: &str, port: u16) -> Option<&(&'static str, String)> {
        let own = if tls { &self.https } else { &self.http };
        own.as_ref().or(self.all.as_ref()).filter(|_| !self.is_excluded(host, port))
    }

    /// Whether `no_proxy` excludes a server. Its entries are `*`, a domain with its subdomains, an address or an address
    /// range, each with an optional port.
    fn is_excluded(&self, host: &str, port: u16) -> bool {
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

/// Whether `host` is `name` or a subdomain of it.
fn is_under(host: &str, name: &str) -> bool {
    let name = name.trim_start_matches("*.").trim_start_matches('.');
    host == name || host.strip_suffix(name).is_some_and(|front| front.ends_with('.'))
}

/// Whether `host` is an address in a range such as `10.0.0.0/8`.
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

/// The value of `--proxy`.
#[derive(Clone, Debug)]
pub enum ProxyChoice {
    /// No proxy. The variables are only used for a note that they are ignored.
    Direct(ProxyVariables),
    /// The same proxy for all servers.
    Fixed(Proxy),
    /// The proxy that the variables give for each server.
    Environment(ProxyVariables),
}

impl ProxyChoice {
    /// Parses the value of `--proxy`.
    pub(crate) fn from_flag(flag: Option<&str>, variables: &ProxyVariables) -> Result<ProxyChoice, PlanError> {
        match flag.map(str::trim) {
            None => Ok(ProxyChoice::Direct(variables.clone())),
            Some("") => Err(PlanError::value(FLAG, "is empty; give http://HOST:PORT or env")),
            Some(ENVIRONMENT) => Ok(ProxyChoice::Environment(variables.clone())),
            Some(text) => Proxy::scan(text).map(ProxyChoice::Fixed).map_err(|what| PlanError::value(FLAG, what)),
        }
    }

    /// The proxy for a server; `None` for a direct connection.
    pub(crate) fn for_server(&self, tls: bool, host: &str, port: u16) -> Result<Option<Proxy>, PlanError> {
        match self {
            ProxyChoice::Direct(_) => Ok(None),
            ProxyChoice::Fixed(proxy) => Ok(Some(proxy.clone())),
            ProxyChoice::Environment(variables) => match variables.for_server(tls, host, port) {
                None => Ok(None),
                Some((name, value)) => {
                    Proxy::scan(value).map(Some).map_err(|what| PlanError::value(FLAG, format!("env: {name} {what}")))
                }
            },
        }
    }

    /// Sets the proxy of a target and adds a finding about it. Local servers (`is_local`), the built-in server and Unix
    /// sockets never use a proxy.
    pub fn apply(&self, target: &mut Target, is_local: bool, notes: &mut Vec<Finding>) -> Result<(), PlanError> {
        let direct = is_local || target.mock.is_some() || matches!(target.transport, Transport::Unix(_));
        if direct {
            if matches!(self, ProxyChoice::Fixed(_)) {
                notes.push(Finding::ProxyNotUsed { url: target.url.clone() });
            }
            return Ok(());
        }
        if let ProxyChoice::Direct(variables) = self {
            if let Some((name, _)) = variables.for_server(target.tls.is_some(), &target.host, target.port) {
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
    fn the_environment_is_read_as_everywhere() {
        let env = variables(&[("http_proxy", "a:1"), ("HTTP_PROXY", "b:1"), ("ALL_PROXY", "c:1")]);
        assert_eq!(env.for_server(false, "h", 80).unwrap().1, "a:1");
        assert_eq!(env.for_server(true, "h", 443).unwrap(), &("ALL_PROXY", "c:1".to_string()));
        let env = variables(&[("https_proxy", " "), ("no_proxy", "x")]);
        assert_eq!(env.for_server(true, "h", 443), None);
    }

    #[test]
    fn no_proxy_excludes_hosts() {
        let is_excluded = |list: &str, host: &str, port: u16| variables(&[("no_proxy", list)]).is_excluded(host, port);
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
            assert!(is_excluded(list, host, 80), "{list} {host}");
        }
        for (list, host) in
            [("", "h"), ("example.com", "notexample.com"), ("10.0.0.0/8", "11.0.0.1"), ("h:81", "h"), ("a.h", "h")]
        {
            assert!(!is_excluded(list, host, 80), "{list} {host}");
        }
        assert!(is_excluded("0.0.0.0/0", "1.2.3.4", 1) && is_excluded("::/0", "::1", 1));
    }
}
