//! HTTP CONNECT: the request for a tunnel through a proxy, and the proxy's response.

/// Maximum size of the head of a proxy's response, bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Maximum length of the body of an error response that is shown to the user, bytes.
const MAX_SHOWN_BODY_BYTES: usize = 200;

/// The request for a tunnel to `authority` (`host:port`). `authorization` is the value of `Proxy-Authorization`.
pub(crate) fn connect_request(authority: &str, authorization: Option<&str>) -> String {
    let agent = env!("CARGO_PKG_VERSION");
    let credentials = authorization.map_or(String::new(), |value| format!("Proxy-Authorization: {value}\r\n"));
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: ringmark/{agent}\r\n{credentials}\r\n")
}

/// Incremental parser of a proxy's response to CONNECT.
#[derive(Debug, Default)]
pub(crate) struct TunnelAnswer {
    head: Vec<u8>,
}

impl TunnelAnswer {
    /// Parses more bytes of the response. Returns true once the tunnel is open.
    ///
    /// # Errors
    /// The proxy refused the tunnel or its response is not HTTP, as a message.
    pub fn push(&mut self, bytes: &[u8]) -> Result<bool, String> {
        self.head.extend_from_slice(bytes);
        let Some(end) = memchr::memmem::find(&self.head, b"\r\n\r\n").map(|at| at + 4) else {
            if self.head.len() > MAX_HEAD_BYTES || !self.begins_like_http() {
                return Err("the proxy's response is not HTTP".to_string());
            }
            return Ok(false);
        };
        let (status, reason) = self.status_line().ok_or("the proxy's response is not HTTP")?;
        match status {
            // In TLS the client sends first, so the server cannot have sent anything yet.
            200..=299 if end == self.head.len() => Ok(true),
            200..=299 => Err("the proxy sent data after the head of its response to CONNECT".to_string()),
            _ => Err(format!(
                "the proxy answered CONNECT with status {status}{reason}{}{}",
                self.body_text(end),
                hint(status)
            )),
        }
    }

    fn begins_like_http(&self) -> bool {
        let length = self.head.len().min(7);
        self.head[..length] == b"HTTP/1."[..length]
    }

    /// The status, and the reason with a space before it.
    fn status_line(&self) -> Option<(u16, String)> {
        let line = self.head.split(|byte| *byte == b'\r').next()?;
        let line = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
        let (_, rest) = line.split_once(' ')?;
        let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let reason = if reason.trim().is_empty() { String::new() } else { format!(" {}", reason.trim()) };
        Some((status.parse().ok()?, reason))
    }

    /// The part of the body that arrived with the head, in parentheses, if it is a short text.
    fn body_text(&self, end: usize) -> String {
        let body = String::from_utf8_lossy(&self.head[end..]);
        let line = body.split_whitespace().collect::<Vec<_>>().join(" ");
        let fits = !line.is_empty() && line.len() <= MAX_SHOWN_BODY_BYTES && !line.starts_with('<');
        if fits { format!(" ({line})") } else { String::new() }
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        407 => "; give its user and password in --proxy, as USER:PASSWORD@HOST:PORT",
        403 | 405 => "; it may not allow CONNECT to this host or port",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(pieces: &[&str]) -> Result<bool, String> {
        let mut answer = TunnelAnswer::default();
        let mut open = Ok(false);
        for piece in pieces {
            open = answer.push(piece.as_bytes());
        }
        open
    }

    #[test]
    fn connect_request_is_rendered() {
        let text = connect_request("h:443", Some("Basic eA=="));
        assert!(text.starts_with("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n"), "{text}");
        assert!(text.ends_with("Proxy-Authorization: Basic eA==\r\n\r\n"), "{text}");
    }

    #[test]
    fn responses_may_arrive_in_pieces() {
        assert_eq!(answer(&["HTTP/1.1 200 Connection established\r\n", "Via: x\r\n\r", "\n"]), Ok(true));
        assert_eq!(answer(&["HTTP/1.0 200\r\n\r\n"]), Ok(true));
        assert_eq!(answer(&["HT", "TP/1.1 2"]), Ok(false));
    }

    #[test]
    fn refusals_contain_the_proxys_message() {
        let text = answer(&["HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"]).unwrap_err();
        assert!(text.contains("407 Proxy Authentication Required; give its user"), "{text}");
        let text = answer(&["HTTP/1.1 502 Bad Gateway\r\n\r\nno such\nhost"]).unwrap_err();
        assert!(text.ends_with("502 Bad Gateway (no such host)"), "{text}");
        assert!(answer(&["SSH-2.0-x\r\n"]).unwrap_err().contains("is not HTTP"));
        assert!(answer(&["HTTP/1.1 200 OK\r\n\r\nhello"]).unwrap_err().contains("data after the head"));
        assert!(answer(&["HTTP/1.1 x\r\n\r\n"]).is_err());
        assert!(answer(&["HTTP/1.1 200 ", &"x".repeat(20_000)]).is_err());
    }
}
