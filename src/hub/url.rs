//! URLs, as far as downloads need them.

use std::fmt;

/// A parsed `http` or `https` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub secure: bool,
    /// Host, and port if given.
    pub authority: String,
    /// Path and query, without fragment; may be empty.
    pub path: String,
}

impl Url {
    /// Parses an absolute URL.
    ///
    /// # Errors
    /// A predicate such as "is not a URL".
    pub fn parse(text: &str) -> Result<Url, String> {
        let (scheme, rest) = text.split_once("://").ok_or("is not a URL")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("is neither http:// nor https://".to_string()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.is_empty() || authority.contains('@') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("is not a URL with a host".to_string());
        }
        let path = path.split('#').next().unwrap_or_default().to_string();
        Ok(Url { secure, authority: authority.to_ascii_lowercase(), path })
    }

    /// This URL with `path` appended, which begins with a slash.
    pub fn join(&self, path: &str) -> Url {
        Url { path: format!("{}{path}", self.path), ..self.clone() }
    }

    /// The target of a `Location` header in a response from this URL.
    pub(crate) fn follow(&self, location: &str) -> Result<Url, String> {
        let scheme = if self.secure { "https" } else { "http" };
        if location.contains("://") {
            return Url::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::parse(&format!("{scheme}://{rest}"));
        }
        let path = match location.strip_prefix('/') {
            Some(_) => location.to_string(),
            None => {
                let path = self.path.split('?').next().unwrap_or_default();
                format!("{}/{location}", path.rsplit_once('/').map_or("", |(folder, _)| folder))
            }
        };
        Url::parse(&format!("{scheme}://{}{path}", self.authority))
    }

    /// The host; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        match self.authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, _)) => host,
            None => self.authority.split(':').next().unwrap_or_default(),
        }
    }

    /// The port; by default that of the scheme.
    pub fn port(&self) -> u16 {
        let rest = self.authority.rsplit(']').next().unwrap_or_default();
        let given = rest.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        given.unwrap_or(if self.secure { 443 } else { 80 })
    }

    /// Whether both URLs have the same scheme, host and port, so that credentials for one may be sent to the other.
    pub(crate) fn same_server(&self, other: &Url) -> bool {
        (self.secure, &self.authority) == (other.secure, &other.authority)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.secure { "https" } else { "http" }, self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_followed() {
        let from = Url::parse("https://Hub.example:444/a/b?c=1").unwrap();
        let to = |location: &str| from.follow(location).unwrap().to_string();
        assert_eq!(to("http://cdn.example/x?sig=1#f"), "http://cdn.example/x?sig=1");
        assert_eq!(to("//cdn.example/x"), "https://cdn.example/x");
        assert_eq!(to("/x/y?z"), "https://hub.example:444/x/y?z");
        assert_eq!(to("x"), "https://hub.example:444/a/x");
        assert!(from.same_server(&from.follow("/x").unwrap()));
        assert!(!from.same_server(&from.follow("http://hub.example:444/").unwrap()));
        for (text, host, port) in
            [("http://h/x", "h", 80), ("https://[::1]:4/", "::1", 4), ("https://[::1]", "::1", 443)]
        {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.host(), url.port()), (host, port));
        }
        for bad in ["ftp://x/", "http://", "http://u:p@h/", "http://h/a b"] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }
}
