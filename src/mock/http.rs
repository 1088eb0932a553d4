//! HTTP/1.1 on the server side: parses request heads, writes response heads and framing. No I/O.

use std::io::Write;

use super::config::Framing;
use super::request_body::Endpoint;

/// Largest request body.
pub(super) const MAX_BODY_BYTES: usize = 64 << 20;
/// Largest request head.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// A parsed request head.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    pub(super) head_bytes: usize,
    pub(super) body_bytes: usize,
    pub(super) route: Route,
    /// The client allows the connection to be reused.
    pub(super) keep_alive: bool,
    /// HTTP/1.0: no chunked coding.
    pub(super) http10: bool,
    /// `Expect: 100-continue`.
    pub(super) expects_continue: bool,
    /// `X-Request-Id`; empty if absent.
    pub(super) request_id: String,
    /// `X-DashScope-SSE: enable`.
    pub(super) sse: bool,
}

/// The resource that a request addresses.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Route {
    Generate(Endpoint),
    Models,
    Health,
    Metrics,
    Truth,
    TruthReset,
    /// A known path with another method.
    WrongMethod,
    Unknown(String),
}

/// A request that cannot be parsed. The connection is closed after the response.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
}

fn refuse<T>(status: u16, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, message: message.into() })
}

/// Parses a request head; `None` while it is incomplete.
pub(super) fn read_head(bytes: &[u8]) -> Result<Option<Head>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; 96];
    let mut request = httparse::Request::new(&mut headers);
    let head_bytes = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) if bytes.len() > MAX_HEAD_BYTES => {
            return refuse(431, "the request head is longer than 64 KiB");
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return refuse(400, format!("not an HTTP request: {error}")),
    };
    let http10 = request.version == Some(0);
    let mut head = Head {
        head_bytes,
        body_bytes: 0,
        route: route(request.method.unwrap_or(""), request.path.unwrap_or("")),
        keep_alive: !http10,
        http10,
        expects_continue: false,
        request_id: String::new(),
        sse: false,
    };
    for header in request.headers.iter() {
        head.read_header(header.name, String::from_utf8_lossy(header.value).trim())?;
    }
    Ok(Some(head))
}

impl Head {
    fn read_header(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        if name.eq_ignore_ascii_case("content-length") {
            self.body_bytes = match value.parse() {
                Ok(bytes) if bytes <= MAX_BODY_BYTES => bytes,
                Ok(_) => return refuse(413, "the request body is larger than 64 MiB"),
                Err(_) => return refuse(400, "Content-Length is not a number"),
            };
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return refuse(411, "send the request body with Content-Length; chunked requests are not supported");
        } else if name.eq_ignore_ascii_case("connection") {
            for option in value.split(',').map(str::trim) {
                if option.eq_ignore_ascii_case("close") {
                    self.keep_alive = false;
                } else if option.eq_ignore_ascii_case("keep-alive") {
                    self.keep_alive = true;
                }
            }
        } else if name.eq_ignore_ascii_case("expect") {
            self.expects_continue = value.eq_ignore_ascii_case("100-continue");
        } else if name.eq_ignore_ascii_case("x-request-id") {
            self.request_id = value.chars().take(200).collect();
        } else if name.eq_ignore_ascii_case("x-dashscope-sse") {
            self.sse = value.eq_ignore_ascii_case("enable");
        }
        Ok(())
    }
}

fn route(method: &str, target: &str) -> Route {
    let path = target.split('?').next().unwrap_or("");
    // The prefixes of DashScope's endpoints that are compatible with others.
    let prefixes = ["/compatible-mode/v1/", "/compatible-api/v1/"];
    let compatible = prefixes.iter().any(|prefix| path.starts_with(prefix));
    let below = if compatible { path.find("/v1/").unwrap_or(0) } else { 0 };
    let (allowed, route) = match &path[below..] {
        "/v1/chat/completions" => ("POST", Route::Generate(Endpoint::Chat)),
        "/v1/completions" => ("POST", Route::Generate(Endpoint::Completions)),
        "/v1/responses" => ("POST", Route::Generate(Endpoint::Responses)),
        "/v1/embeddings" => ("POST", Route::Generate(Endpoint::Embeddings)),
        "/v1/rerank" | "/v1/reranks" | "/rerank" => ("POST", Route::Generate(Endpoint::Rerank)),
        "/api/v1/services/aigc/text-generation/generation" => ("POST", Route::Generate(Endpoint::DashScope)),
        "/v1/messages" => ("POST", Route::Generate(Endpoint::Messages)),
        "/v1/models" => ("GET", Route::Models),
        "/health" => ("GET", Route::Health),
        "/metrics" => ("GET", Route::Metrics),
        "/truth" => ("GET", Route::Truth),
        "/truth/reset" => ("POST", Route::TruthReset),
        _ => return Route::Unknown(path.to_string()),
    };
    if method == allowed { route } else { Route::WrongMethod }
}

/// Header fields of a response besides status and content type.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadOptions {
    pub(super) framing: BodyFraming,
    /// Send `Connection: close`.
    pub(super) announce_close: bool,
    /// Send `Keep-Alive`, as llama.cpp does although it closes the connection.
    pub(super) promise_keep_alive: bool,
    pub(super) retry_after_s: Option<u32>,
}

/// How the body of one response is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    Chunked,
    UntilClose,
    Length(usize),
}

impl BodyFraming {
    /// The framing of a stream.
    pub(super) fn for_stream(framing: Framing, http10: bool) -> BodyFraming {
        match framing {
            Framing::UntilClose => BodyFraming::UntilClose,
            _ if http10 => BodyFraming::UntilClose,
            Framing::Chunked | Framing::ContentLength => BodyFraming::Chunked,
        }
    }

    /// The framing of a JSON response.
    pub(super) fn for_body(framing: Framing, http10: bool, bytes: usize) -> BodyFraming {
        match framing {
            Framing::ContentLength => BodyFraming::Length(bytes),
            Framing::Chunked if !http10 => BodyFraming::Chunked,
            Framing::Chunked | Framing::UntilClose => BodyFraming::UntilClose,
        }
    }
}

/// Appends a response head.
pub(super) fn write_head(out: &mut Vec<u8>, status: u16, content_type: &str, options: HeadOptions) {
    let mut text = format!("HTTP/1.1 {status} {}\r\nserver: ringmark-mock\r\n", reason(status));
    text.push_str(&format!("content-type: {content_type}\r\n"));
    match options.framing {
        BodyFraming::Chunked => text.push_str("transfer-encoding: chunked\r\n"),
        BodyFraming::UntilClose => {}
        BodyFraming::Length(bytes) => text.push_str(&format!("content-length: {bytes}\r\n")),
    }
    if let Some(seconds) = options.retry_after_s {
        text.push_str(&format!("retry-after: {seconds}\r\n"));
    }
    if options.announce_close || options.framing == BodyFraming::UntilClose {
        text.push_str("connection: close\r\n");
    } else if options.promise_keep_alive {
        text.push_str("keep-alive: timeout=5, max=100\r\n");
    }
    text.push_str("\r\n");
    out.extend_from_slice(text.as_bytes());
}

/// Appends body bytes, as one chunk if the body is chunked.
pub(super) fn write_piece(out: &mut Vec<u8>, framing: BodyFraming, bytes: &[u8]) {
    if framing == BodyFraming::Chunked {
        write!(out, "{:x}\r\n", bytes.len()).expect("writing to a Vec cannot fail");
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    } else {
        out.extend_from_slice(bytes);
    }
}

/// Appends the last chunk if the body is chunked.
pub(super) fn write_end(out: &mut Vec<u8>, framing: BodyFraming) {
    if framing == BodyFraming::Chunked {
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

/// Renders a whole response with a body of known length.
pub(super) fn whole(status: u16, content_type: &str, body: &[u8], announce_close: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 160);
    let framing = BodyFraming::Length(body.len());
    let options = HeadOptions { framing, announce_close, promise_keep_alive: false, retry_after_s: None };
    write_head(&mut out, status, content_type, options);
    out.extend_from_slice(body);
    out
}

/// An error as JSON, in vLLM's format.
pub(super) fn error_json(status: u16, message: &str) -> Vec<u8> {
    let kind = match status {
        400 => "BadRequestError",
        404 => "NotFoundError",
        429 => "RateLimitError",
        500.. => "InternalServerError",
        _ => reason(status),
    };
    serde_json::json!({"error": {"message": message, "type": kind, "param": null, "code": status}})
        .to_string()
        .into_bytes()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &[u8] =
        b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 12\r\nX-Request-Id: r-1\r\n\r\n";

    #[test]
    fn incomplete_heads_give_none() {
        for cut in 0..POST.len() {
            assert_eq!(read_head(&POST[..cut]), Ok(None), "{cut}");
        }
        let head = read_head(POST).unwrap().unwrap();
        assert_eq!((head.head_bytes, head.body_bytes), (POST.len(), 12));
        assert_eq!(head.route, Route::Generate(Endpoint::Chat));
        assert_eq!(head.request_id, "r-1");
        assert!(head.keep_alive && !head.http10);
    }

    #[test]
    fn invalid_heads_give_the_matching_status() {
        let status = |text: &str| read_head(text.as_bytes()).unwrap_err().status;
        assert_eq!(status("nonsense nonsense\r\n\r\n"), 400);
        assert_eq!(status("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 411);
        assert_eq!(status("POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"), 413);
        assert_eq!(status("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"), 400);
        assert_eq!(status(&format!("GET /{} HTTP/1.1", "a".repeat(70_000))), 431);
    }

    #[test]
    fn keep_alive_follows_version_and_connection_header() {
        let keep = |text: &str| read_head(text.as_bytes()).unwrap().unwrap().keep_alive;
        assert!(keep("GET /health HTTP/1.1\r\n\r\n"));
        assert!(!keep("GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"));
        assert!(!keep("GET /health HTTP/1.0\r\n\r\n"));
        assert!(keep("GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    }

    #[test]
    fn routes_check_the_method() {
        assert_eq!(route("GET", "/v1/chat/completions"), Route::WrongMethod);
        assert_eq!(route("POST", "/rerank"), Route::Generate(Endpoint::Rerank));
        assert_eq!(route("POST", "/compatible-api/v1/reranks"), Route::Generate(Endpoint::Rerank));
        assert_eq!(route("POST", "/compatible-mode/v1/embeddings"), Route::Generate(Endpoint::Embeddings));
        assert_eq!(route("GET", "/compatible-mode/v1/x"), Route::Unknown("/compatible-mode/v1/x".to_string()));
        assert_eq!(route("GET", "/nope?x"), Route::Unknown("/nope".to_string()));
    }
}
