//! The little that fetching needs to know of URLs.

use std::fmt;

/// An `http` or `https` URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub secure: bool,
    /// Host, and port where one is written.
    pub authority: String,
    /// From the first slash on, query included; may be empty.
    pub path: String,
}

impl Url {
    /// Reads a whole URL.
    pub fn read(text: &str) -> Result<Url, String> {
        let (scheme, rest) = text.split_once("://").ok_or("is no URL")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("is neither http:// nor https://".to_string()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.is_empty() || authority.contains('@') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("is no URL of a host".to_string());
        }
        let path = path.split('#').next().unwrap_or_default().to_string();
        Ok(Url { secure, authority: authority.to_ascii_lowercase(), path })
    }

    /// The URL of `path`, which begins with a slash, under this one.
    pub fn under(&self, path: &str) -> Url {
        Url { path: format!("{}{path}", self.path), ..self.clone() }
    }

    /// Where a `Location` header leads from here.
    pub fn follow(&self, location: &str) -> Result<Url, String> {
        let scheme = if self.secure { "https" } else { "http" };
        if location.contains("://") {
            return Url::read(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::read(&format!("{scheme}://{rest}"));
        }
        let path = match location.strip_prefix('/') {
            Some(_) => location.to_string(),
            None => {
                let alone = self.path.split('?').next().unwrap_or_default();
                format!("{}/{location}", alone.rsplit_once('/').map_or("", |(folder, _)| folder))
            }
        };
        Url::read(&format!("{scheme}://{}{path}", self.authority))
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        match self.authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, _)) => host,
            None => self.authority.split(':').next().unwrap_or_default(),
        }
    }

    /// The port, where none is written that of the scheme.
    pub fn port(&self) -> u16 {
        let behind = self.authority.rsplit(']').next().unwrap_or_default();
        let written = behind.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        written.unwrap_or(if self.secure { 443 } else { 80 })
    }

    /// Whether both lead to one server, so that one may see what the other does.
    pub fn same_server(&self, other: &Url) -> bool {
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
        let from = Url::read("https://Hub.example:444/a/b?c=1").unwrap();
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
            let url = Url::read(text).unwrap();
            assert_eq!((url.host(), url.port()), (host, port));
        }
        for bad in ["ftp://x/", "http://", "http://u:p@h/", "http://h/a b"] {
            assert!(Url::read(bad).is_err(), "{bad}");
        }
    }
}
