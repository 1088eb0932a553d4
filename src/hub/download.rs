//! One file over HTTP: redirects, going on where an earlier attempt ended, and what is wrong in words.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::cache::{Identity, bare_etag};
use super::partial::Partial;
use super::url::Url;
use crate::plan::proxy::Proxy;
use crate::spec::proxy::ProxyChoice;
use crate::workload::making::Making;

/// More redirects lead in a circle.
const MAX_HOPS: usize = 8;
/// Attempts in a row that bring nothing, after one that did or a server's "later".
const RETRIES: u32 = 4;
/// Longest silence of a hub.
const SILENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(20);
const CHUNK: usize = 128 * 1024;

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No answer at all.
    #[error("{host} cannot be reached: {cause}")]
    Unreachable { host: String, cause: String },
    /// An answer that is not the file.
    #[error("{host} answers {status}{}", said(code))]
    Status { host: String, status: u16, code: String, identity: Identity },
    #[error("the connection to {host} broke off after {got} bytes{} ({cause})", of(*size))]
    Cut { host: String, got: u64, size: Option<u64>, cause: String },
    #[error("{host} sent {got} bytes where {expected} were announced")]
    Size { host: String, got: u64, expected: u64 },
    #[error("{host} {what}")]
    Wrong { host: String, what: String },
    #[error("cannot write {path}: {cause}")]
    Disk { path: String, cause: io::Error },
}

fn said(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(" ({code})") }
}

fn of(size: Option<u64>) -> String {
    size.map_or(String::new(), |size| format!(" of {size}"))
}

/// What is fetched, and with what.
pub struct Request<'a> {
    pub url: Url,
    /// Headers for the hub itself, never sent to another server that it leads to.
    pub own_headers: &'a [(&'static str, String)],
    pub proxy: &'a ProxyChoice,
    pub pause: Duration,
    pub making: &'a Making,
}

/// Fetches a file into `partial`, going on where that ends. Tries again while that helps.
pub fn download(request: &Request<'_>, partial: &Partial) -> Result<Identity, Failure> {
    let mut fruitless = 0;
    loop {
        let before = partial.length();
        let failure = match attempt(request, partial) {
            Ok(identity) => return Ok(identity),
            Err(failure) => failure,
        };
        fruitless = if partial.length() > before { 0 } else { fruitless + 1 };
        if !may_pass(&failure) || fruitless > RETRIES {
            return Err(failure);
        }
        std::thread::sleep(request.pause * 2u32.pow(fruitless.min(5)) / 2);
    }
}

/// Whether the same question may have a better answer in a moment. A host that cannot be reached is not asked again:
/// mostly this machine has no way out.
fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Cut { .. } => true,
        Failure::Status { status, .. } => matches!(status, 416 | 429 | 500 | 502 | 503 | 504),
        _ => false,
    }
}

fn attempt(request: &Request<'_>, partial: &Partial) -> Result<Identity, Failure> {
    let mut url = request.url.clone();
    let mut told = Told::default();
    for _ in 0..MAX_HOPS {
        let response = ask(request, &url, &told, partial)?;
        told.hear(response.headers(), url.same_server(&request.url));
        let status = response.status().as_u16();
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return receive(request, &url, &told, response, partial);
        }
        if told.contradicts(partial) {
            partial.forget();
        }
        let wrong = |what: &str| Failure::Wrong { host: url.authority.clone(), what: what.to_string() };
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        let next = url.follow(location.unwrap_or_default()).map_err(|_| wrong("leads to nowhere (Location)"))?;
        if url.secure && !next.secure {
            return Err(wrong("leads from https to http, which is not followed"));
        }
        url = next;
    }
    Err(Failure::Wrong { host: url.authority, what: "leads in a circle".to_string() })
}

/// What the hub has told on the way to the file.
#[derive(Debug, Default)]
struct Told {
    identity: Identity,
    /// Bytes of the file.
    size: Option<u64>,
    /// The hub itself vouches for the file behind its redirect.
    linked: bool,
}

impl Told {
    fn hear(&mut self, headers: &HeaderMap, from_hub: bool) {
        if !from_hub {
            return;
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_string);
        if let Some(commit) = text("x-repo-commit") {
            self.identity.commit = commit;
        }
        let linked = text("x-linked-etag");
        self.linked |= linked.is_some();
        if let Some(etag) = linked.or_else(|| text("etag").filter(|_| !self.linked)) {
            self.identity.etag = etag;
        }
        if let Some(size) = text("x-linked-size").and_then(|size| size.parse().ok()) {
            self.size = Some(size);
        }
    }

    /// Whether what was begun is a part of another file.
    fn contradicts(&self, partial: &Partial) -> bool {
        let Some(begun) = partial.begun() else { return false };
        let other_etag = self.linked && bare_etag(&begun.etag) != bare_etag(&self.identity.etag);
        other_etag || self.size.is_some_and(|size| begun.size.is_some_and(|begun| begun != size))
    }
}

fn ask(request: &Request<'_>, url: &Url, told: &Told, partial: &Partial) -> Result<Response<Body>, Failure> {
    let unreachable = |cause: String| Failure::Unreachable { host: url.authority.clone(), cause };
    let proxy = request.proxy.for_server(url.secure, url.host(), url.port());
    let proxy = proxy.map_err(|error| unreachable(error.to_string()))?;
    let agent = agent(url, proxy.as_ref()).map_err(unreachable)?;
    // Lengths are of the bytes as they are.
    let mut call = agent.get(url.to_string()).header("Accept-Encoding", "identity");
    if url.same_server(&request.url) {
        for (name, value) in request.own_headers {
            call = call.header(*name, value);
        }
    }
    if let Some(begun) = partial.begun() {
        call = call.header("Range", format!("bytes={}-", begun.length));
        // Another server than the hub has another ETag for the file; there the hub's word has to do.
        if begun.etag.starts_with('"') && !told.linked {
            call = call.header("If-Range", begun.etag);
        }
    }
    call.call().map_err(|error| {
        let way = proxy.map_or(String::new(), |proxy| format!(" (through the proxy {})", proxy.authority()));
        unreachable(format!("{}{way}", reason(&error)))
    })
}

fn agent(url: &Url, proxy: Option<&Proxy>) -> Result<Agent, String> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        // Followed here, where it is known who may see the token.
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Without this it would be taken from the environment unasked.
        .proxy(proxy.map(through).transpose()?)
        .timeout_connect(Some(CONNECT))
        .timeout_per_read(Some(SILENCE))
        .user_agent(concat!("ringmark/", env!("CARGO_PKG_VERSION")));
    if url.secure {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            return Err("this system has no certificates to trust".to_string());
        }
        let roots: Vec<Certificate<'static>> =
            found.certs.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        config = config.tls_config(TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build());
    }
    Ok(config.build().new_agent())
}

fn through(proxy: &Proxy) -> Result<ureq::Proxy, String> {
    let host = if proxy.host.contains(':') { format!("[{}]", proxy.host) } else { proxy.host.clone() };
    let mut builder = ureq::Proxy::builder(ureq::ProxyProtocol::Http).host(&host).port(proxy.port);
    if let Some((user, password)) = &proxy.credentials {
        builder = builder.username(user).password(password);
    }
    builder.build().map_err(|error| format!("the proxy {}: {error}", proxy.authority()))
}

/// The error without ureq's own words around it.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "its name cannot be looked up".to_string(),
        ureq::Error::ConnectionFailed => "no connection".to_string(),
        ureq::Error::Timeout(_) => "it does not answer".to_string(),
        ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidMessage(_)) => {
                "it does not speak TLS; write http:// before its name".to_string()
            }
            _ => error.to_string(),
        },
        ureq::Error::ConnectProxyFailed(reason) => reason.clone(),
        other => other.to_string(),
    }
}

/// Takes the file, or the rest of it, or says why this answer is neither.
fn receive(
    request: &Request<'_>,
    url: &Url,
    told: &Told,
    mut response: Response<Body>,
    partial: &Partial,
) -> Result<Identity, Failure> {
    let host = url.authority.clone();
    let number = |name: &str| response.headers().get(name)?.to_str().ok()?.parse::<u64>().ok();
    let disk = |cause: io::Error| Failure::Disk { path: partial.path().display().to_string(), cause };
    let status = response.status().as_u16();
    let (mut file, size) = match status {
        200 => {
            let size = number("content-length").or(told.size);
            (partial.begin(&told.identity.etag, size).map_err(disk)?, size)
        }
        206 => {
            let Some(whole) = rest_of(response.headers(), told, partial) else {
                partial.forget();
                return Err(Failure::Cut { host, got: 0, size: None, cause: "the file has changed".to_string() });
            };
            (partial.go_on().map_err(disk)?, Some(whole))
        }
        _ => {
            if status == 416 {
                partial.forget();
            }
            let code = response.headers().get("x-error-code").and_then(|value| value.to_str().ok());
            let code = code.unwrap_or_default().to_string();
            return Err(Failure::Status { host, status, code, identity: told.identity.clone() });
        }
    };
    if let (Some(got), Some(expected)) = (size, told.size.filter(|told| Some(*told) != size)) {
        partial.forget();
        return Err(Failure::Size { host, got, expected });
    }
    request.making.go_to(partial.length(), size.unwrap_or(0));
    let ended = copy(&mut response.body_mut().as_reader(), &mut file, request.making);
    let got = partial.length();
    match ended {
        Err(Copying::Write(cause)) => Err(disk(cause)),
        Err(Copying::Read(cause)) => Err(Failure::Cut { host, got, size, cause: cause.to_string() }),
        Ok(()) if size.is_some_and(|size| got < size) => {
            Err(Failure::Cut { host, got, size, cause: "the server closed it".to_string() })
        }
        Ok(()) => match size.filter(|size| got != *size) {
            Some(expected) => {
                partial.forget();
                Err(Failure::Size { host, got, expected })
            }
            None => file.sync_all().map_err(disk).map(|()| told.identity.clone()),
        },
    }
}

/// The size of the whole file, when a 206 goes on exactly where `partial` ends and with the same file.
fn rest_of(headers: &HeaderMap, told: &Told, partial: &Partial) -> Option<u64> {
    let begun = partial.begun()?;
    let range = headers.get("content-range")?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, whole) = range.split_once('/')?;
    let start: u64 = range.split_once('-')?.0.parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    let same_size = begun.size.is_none_or(|size| size == whole);
    let same_etag = told.identity.etag.is_empty() || bare_etag(&told.identity.etag) == bare_etag(&begun.etag);
    (start == begun.length && same_size && same_etag).then_some(whole)
}

enum Copying {
    Read(io::Error),
    Write(io::Error),
}

fn copy(from: &mut impl Read, to: &mut impl Write, making: &Making) -> Result<(), Copying> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                to.write_all(&buffer[..length]).map_err(Copying::Write)?;
                making.add(length as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Copying::Read(error)),
        }
    }
}
