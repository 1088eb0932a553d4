//! Downloads one file over HTTP: redirects, retries, resumption, limits, and error messages.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts, not for measurements")]

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::cache::{Identity, bare_etag};
use super::resumable_file::ResumableFile;
use super::settings::Limits;
use super::url::Url;
use crate::net::tls::system_certificates;
use crate::plan::proxy::Proxy;
use crate::spec::proxy::ProxyChoice;
use crate::workload::progress::StepProgress;

/// Maximum number of redirects.
const MAX_REDIRECTS: usize = 8;
/// Maximum number of consecutive retries without progress.
const RETRIES: u32 = 4;
/// Maximum number of attempts, however many bytes each of them adds.
const MAX_ATTEMPTS: u32 = 100;
/// Read timeout.
const SILENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(20);
const CHUNK: usize = 128 * 1024;

/// Why a download failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No response.
    #[error("{host} cannot be reached: {cause}")]
    Unreachable { host: String, cause: String },
    /// A response that is not the file. `code` is the hub's error code, possibly empty.
    #[error("{host} responded with status {status}{}", in_parentheses(code))]
    Status { host: String, status: u16, code: String, identity: Identity },
    #[error("the connection to {host} was lost after {got} bytes{} ({cause})", of_size(*size))]
    Cut { host: String, got: u64, size: Option<u64>, cause: String },
    #[error("{host} sent {got} bytes instead of the announced {expected}")]
    Size { host: String, got: u64, expected: u64 },
    #[error("{host} {what}")]
    Wrong { host: String, what: String },
    #[error("{host} sent fewer than {bytes} bytes within {} s", within.as_secs_f64())]
    Slow { host: String, bytes: u64, within: Duration },
    #[error("{host} sends more than {limit} bytes, the most that is downloaded for one file")]
    TooLong { host: String, limit: u64 },
    #[error("cannot write {path}: {cause}")]
    Disk { path: String, cause: io::Error },
}

fn in_parentheses(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(" ({code})") }
}

fn of_size(size: Option<u64>) -> String {
    size.map_or(String::new(), |size| format!(" of {size}"))
}

/// A file to download, and how to download it.
pub struct Request<'a> {
    pub url: Url,
    /// Headers for the hub itself, never sent to another server after a redirect.
    pub own_headers: &'a [(&'static str, String)],
    pub proxy: &'a ProxyChoice,
    /// Pause before the first retry.
    pub pause: Duration,
    pub limits: Limits,
    pub making: &'a StepProgress,
}

/// Downloads a file into `partial`, resuming after the bytes that it has. Retries while a retry may succeed.
pub fn download(request: &Request<'_>, partial: &ResumableFile) -> Result<Identity, Failure> {
    let mut fruitless = 0;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let before = partial.length();
        let failure = match attempt(request, partial) {
            Ok(identity) => return Ok(identity),
            Err(failure) => failure,
        };
        fruitless = if partial.length() > before { 0 } else { fruitless + 1 };
        if fills_disk(&failure) {
            // The space is needed by others, and a retry could not write either.
            partial.discard();
        }
        if !is_transient(&failure) || fruitless > RETRIES || attempts >= MAX_ATTEMPTS {
            return Err(failure);
        }
        std::thread::sleep(request.pause * 2u32.pow(fruitless.min(5)) / 2);
    }
}

/// Whether a retry may succeed. An unreachable host is not retried, because usually this machine has no network access.
fn is_transient(failure: &Failure) -> bool {
    match failure {
        Failure::Cut { .. } => true,
        Failure::Status { status, .. } => matches!(status, 416 | 429 | 500 | 502 | 503 | 504),
        _ => false,
    }
}

/// Whether there is no space for the file.
fn fills_disk(failure: &Failure) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(failure, Failure::Disk { cause, .. } if matches!(cause.kind(), StorageFull | QuotaExceeded | FileTooLarge))
}

fn attempt(request: &Request<'_>, partial: &ResumableFile) -> Result<Identity, Failure> {
    let mut url = request.url.clone();
    let mut metadata = FileMetadata::default();
    for _ in 0..MAX_REDIRECTS {
        let response = send_request(request, &url, &metadata, partial)?;
        metadata.update(response.headers(), url.same_server(&request.url));
        let status = response.status().as_u16();
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return receive(request, &url, &metadata, response, partial);
        }
        if metadata.contradicts(partial) {
            partial.discard();
        }
        let wrong = |what: &str| Failure::Wrong { host: url.authority.clone(), what: what.to_string() };
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        let next =
            url.follow(location.unwrap_or_default()).map_err(|_| wrong("sent a redirect with an invalid Location"))?;
        if url.secure && !next.secure {
            return Err(wrong("redirects from https to http, which is not allowed"));
        }
        url = next;
    }
    Err(Failure::Wrong { host: url.authority, what: format!("redirected more than {MAX_REDIRECTS} times") })
}

/// The metadata of the file, from the headers of the hub's responses.
#[derive(Debug, Default)]
struct FileMetadata {
    identity: Identity,
    /// Size of the file, bytes.
    size: Option<u64>,
    /// The hub has sent the ETag of the file that its redirect points to (`X-Linked-ETag`).
    linked: bool,
}

impl FileMetadata {
    fn update(&mut self, headers: &HeaderMap, from_hub: bool) {
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

    /// Whether the partial download belongs to another version of the file.
    fn contradicts(&self, partial: &ResumableFile) -> bool {
        let Some(begun) = partial.resume_state() else { return false };
        let other_etag = self.linked && bare_etag(&begun.etag) != bare_etag(&self.identity.etag);
        other_etag || self.size.is_some_and(|size| begun.size.is_some_and(|begun| begun != size))
    }
}

fn send_request(
    request: &Request<'_>,
    url: &Url,
    metadata: &FileMetadata,
    partial: &ResumableFile,
) -> Result<Response<Body>, Failure> {
    let unreachable = |cause: String| Failure::Unreachable { host: url.authority.clone(), cause };
    let proxy = request.proxy.for_server(url.secure, url.host(), url.port());
    let proxy = proxy.map_err(|error| unreachable(error.to_string()))?;
    let agent = agent(url, proxy.as_ref()).map_err(unreachable)?;
    // Compression would change the lengths.
    let mut call = agent.get(url.to_string()).header("Accept-Encoding", "identity");
    if url.same_server(&request.url) {
        for (name, value) in request.own_headers {
            call = call.header(*name, value);
        }
    }
    if let Some(begun) = partial.resume_state() {
        call = call.header("Range", format!("bytes={}-", begun.length));
        // A server other than the hub has another ETag for the file, so only the hub's metadata are compared then.
        if begun.etag.starts_with('"') && !metadata.linked {
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
        // Redirects are followed by `attempt`, which sends the token to the hub only.
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Set explicitly, because by default ureq reads the environment.
        .proxy(proxy.map(ureq_proxy).transpose()?)
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .user_agent(concat!("ringmark/", env!("CARGO_PKG_VERSION")));
    if url.secure {
        let found = system_certificates()?;
        let roots = if found.is_empty() {
            RootCerts::WebPki
        } else {
            let found = found.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
            RootCerts::Specific(Arc::new(found))
        };
        config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    Ok(config.build().new_agent())
}

fn ureq_proxy(proxy: &Proxy) -> Result<ureq::Proxy, String> {
    let host = if proxy.host.contains(':') { format!("[{}]", proxy.host) } else { proxy.host.clone() };
    let mut builder = ureq::Proxy::builder(ureq::ProxyProtocol::Http).host(&host).port(proxy.port);
    if let Some((user, password)) = &proxy.credentials {
        builder = builder.username(user).password(password);
    }
    builder.build().map_err(|error| format!("the proxy {}: {error}", proxy.authority()))
}

/// The cause of an error, without ureq's own prefix.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "its name cannot be resolved".to_string(),
        ureq::Error::ConnectionFailed => "no connection".to_string(),
        ureq::Error::Timeout(_) => "it does not respond".to_string(),
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

/// Receives the file or the rest of it.
fn receive(
    request: &Request<'_>,
    url: &Url,
    metadata: &FileMetadata,
    mut response: Response<Body>,
    partial: &ResumableFile,
) -> Result<Identity, Failure> {
    let host = url.authority.clone();
    let number = |name: &str| response.headers().get(name)?.to_str().ok()?.parse::<u64>().ok();
    let disk = |cause: io::Error| Failure::Disk { path: partial.path().display().to_string(), cause };
    let status = response.status().as_u16();
    let (mut file, size) = match status {
        200 => {
            let size = number("content-length").or(metadata.size);
            (partial.begin(&metadata.identity.etag, size).map_err(disk)?, size)
        }
        206 => {
            let Some(whole) = whole_size(response.headers(), metadata, partial) else {
                partial.discard();
                return Err(Failure::Cut { host, got: 0, size: None, cause: "the file has changed".to_string() });
            };
            (partial.resume().map_err(disk)?, Some(whole))
        }
        _ => {
            if status == 416 {
                partial.discard();
            }
            let code = response.headers().get("x-error-code").and_then(|value| value.to_str().ok());
            let code = code.unwrap_or_default().to_string();
            return Err(Failure::Status { host, status, code, identity: metadata.identity.clone() });
        }
    };
    if let (Some(got), Some(expected)) = (size, metadata.size.filter(|announced| Some(*announced) != size)) {
        partial.discard();
        return Err(Failure::Size { host, got, expected });
    }
    let max_bytes = request.limits.max_bytes;
    if size.is_some_and(|size| size > max_bytes) {
        partial.discard();
        return Err(Failure::TooLong { host, limit: max_bytes });
    }
    request.making.go_to(partial.length(), size.unwrap_or(0));
    // One byte more than announced shows that the size is wrong.
    let most = size.map_or(max_bytes, |size| size.saturating_add(1)).saturating_sub(partial.length());
    let ended = copy(&mut response.body_mut().as_reader(), &mut file, request, most);
    let got = partial.length();
    match ended {
        Err(CopyError::Slow) => {
            Err(Failure::Slow { host, bytes: request.limits.slow_bytes, within: request.limits.slow_time })
        }
        Err(CopyError::TooLong) if size.is_none() => {
            partial.discard();
            Err(Failure::TooLong { host, limit: max_bytes })
        }
        Err(CopyError::Write(cause)) => Err(disk(cause)),
        Err(CopyError::Read(cause)) => Err(Failure::Cut { host, got, size, cause: cause.to_string() }),
        Ok(()) | Err(CopyError::TooLong) if size.is_some_and(|size| got < size) => {
            Err(Failure::Cut { host, got, size, cause: "the server closed the connection".to_string() })
        }
        Ok(()) | Err(CopyError::TooLong) => match size.filter(|size| got != *size) {
            Some(expected) => {
                partial.discard();
                Err(Failure::Size { host, got, expected })
            }
            None => file.sync_all().map_err(disk).map(|()| metadata.identity.clone()),
        },
    }
}

/// The size of the whole file, if a response with status 206 continues exactly where `partial` ends, with the same file.
fn whole_size(headers: &HeaderMap, metadata: &FileMetadata, partial: &ResumableFile) -> Option<u64> {
    let begun = partial.resume_state()?;
    let range = headers.get("content-range")?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, whole) = range.split_once('/')?;
    let start: u64 = range.split_once('-')?.0.parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    let same_size = begun.size.is_none_or(|size| size == whole);
    let etag = &metadata.identity.etag;
    let same_etag = etag.is_empty() || bare_etag(etag) == bare_etag(&begun.etag);
    (start == begun.length && same_size && same_etag).then_some(whole)
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
    /// Fewer bytes than the limit within its time.
    Slow,
    /// `most` bytes have arrived, and there may be more.
    TooLong,
}

/// Copies at most `most` bytes.
fn copy(from: &mut impl Read, to: &mut impl Write, request: &Request<'_>, most: u64) -> Result<(), CopyError> {
    let Limits { slow_bytes, slow_time, .. } = request.limits;
    let mut buffer = vec![0; CHUNK];
    let mut left = most;
    let (mut since, mut added) = (Instant::now(), 0);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                let kept = length.min(usize::try_from(left).unwrap_or(length));
                to.write_all(&buffer[..kept]).map_err(CopyError::Write)?;
                request.making.add(kept as u64);
                left -= kept as u64;
                if left == 0 {
                    return Err(CopyError::TooLong);
                }
                added += kept as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CopyError::Read(error)),
        }
        if since.elapsed() > slow_time {
            if added < slow_bytes {
                return Err(CopyError::Slow);
            }
            (since, added) = (Instant::now(), 0);
        }
    }
}
