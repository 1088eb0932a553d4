//! Finds a file in the caches or downloads it from the hub.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::cache;
use super::catalog::{HubItem, Repository, TOKENIZER, TOKENIZER_CONFIG, TOKENIZER_EXTRAS};
use super::download::{Failure, Request, download};
use super::settings::{Hub, Settings, Site};
use super::url::Url;
use crate::workload::progress::StepProgress;

/// The path of a file or folder, and whether it was cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The file of a dataset, the folder of a tokenizer.
    pub path: PathBuf,
    pub from_cache: bool,
}

/// Finds `item` in the cache of either hub, or downloads it from the hub of `settings.site`.
///
/// # Errors
/// One line with the flag, the cause and what to do.
pub fn fetch(
    item: &HubItem,
    settings: &Settings,
    making: &StepProgress,
    notify: &mut dyn FnMut(String),
) -> Result<Fetched, String> {
    let cached = |site: &Site| in_cache(item, site, settings.offline.is_some());
    if let Some(path) = settings.sites().into_iter().find_map(cached) {
        return Ok(Fetched { path, from_cache: true });
    }
    let failed = |what: String| format!("{}: {what}; or {}", item.flag(), item.by_hand());
    if let Some(offline) = settings.offline {
        let file = if let HubItem::Dataset(_) = item { item.name() } else { TOKENIZER };
        let [first, second] = settings.sites().map(|site| site.cache.display().to_string());
        return Err(format!(
            "{}: {file} is not in the caches {first} and {second}, and {offline} disables downloads; {}",
            item.flag(),
            item.by_hand()
        ));
    }
    let site = &settings.site;
    let repository = item.repository(site.hub);
    let lock = lock(&cache::lock_file(site, &repository), notify).map_err(failed)?;
    // Another process may have fetched it while this one waited.
    if let Some(path) = in_cache(item, site, false) {
        return Ok(Fetched { path, from_cache: true });
    }
    let from = Source { site, repository: &repository, settings, making };
    let path = match item {
        HubItem::Dataset(published) => from.file(published.file(site.hub), notify),
        HubItem::Tokenizer(_) => from.tokenizer(notify),
    };
    drop(lock);
    let path = path.map_err(|failure| failed(from.explain(&failure)))?;
    Ok(Fetched { path, from_cache: false })
}

fn in_cache(item: &HubItem, site: &Site, offline: bool) -> Option<PathBuf> {
    let repository = item.repository(site.hub);
    match item {
        HubItem::Dataset(published) => cache::find(site, &repository, published.file(site.hub)),
        HubItem::Tokenizer(_) => {
            let tokenizer = cache::find(site, &repository, TOKENIZER)?;
            let folder = tokenizer.parent()?.to_path_buf();
            // Some tools download this file only; then the chat template is still missing.
            let complete =
                folder.join(TOKENIZER_CONFIG).is_file() || cache::is_known_absent(site, &repository, TOKENIZER_CONFIG);
            (offline || complete).then_some(folder)
        }
    }
}

/// Locks the repository; waits while another process downloads from it.
fn lock(path: &Path, notify: &mut dyn FnMut(String)) -> Result<File, String> {
    let wrong = |cause: std::io::Error| format!("cannot write to the cache ({}): {cause}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(wrong)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            notify("another process is downloading from the same repository: waiting for it".to_string());
            file.lock().map_err(wrong)?;
        }
        Err(TryLockError::Error(cause)) => return Err(wrong(cause)),
    }
    Ok(file)
}

/// A repository to download from.
struct Source<'a> {
    site: &'a Site,
    repository: &'a Repository,
    settings: &'a Settings,
    making: &'a StepProgress,
}

impl Source<'_> {
    /// Downloads a tokenizer and returns its folder. Optional files come first, so that the presence of the required file
    /// means that the tokenizer is complete.
    fn tokenizer(&self, notify: &mut dyn FnMut(String)) -> Result<PathBuf, Failure> {
        let has = |file: &str| cache::find(self.site, self.repository, file).is_some();
        for extra in TOKENIZER_EXTRAS.into_iter().filter(|extra| !has(extra)) {
            match self.file(extra, notify) {
                Err(Failure::Status { status: 404, code, identity, .. }) if code != "RepoNotFound" => {
                    cache::note_absent(self.site, self.repository, extra, &identity);
                }
                other => drop(other?),
            }
        }
        let file = match cache::find(self.site, self.repository, TOKENIZER) {
            Some(file) => file,
            None => self.file(TOKENIZER, notify)?,
        };
        Ok(file.parent().unwrap_or(Path::new(".")).to_path_buf())
    }

    /// Downloads one file into the cache and returns its path.
    fn file(&self, file: &str, notify: &mut dyn FnMut(String)) -> Result<PathBuf, Failure> {
        let url = self.url(file);
        let partial = cache::resumable_file(self.site, self.repository, file);
        let done =
            partial.resume_state().map_or(String::new(), |begun| format!(", resuming after {} bytes", begun.length));
        notify(format!("fetching {}{done}", self.page(file)));
        self.making.begin_bytes(format!("Fetching {file}"));
        let own_headers = self.headers();
        let Settings { proxy, pause, limits, .. } = self.settings;
        let request =
            Request { url, own_headers: &own_headers, proxy, pause: *pause, limits: *limits, making: self.making };
        let identity = download(&request, &partial)?;
        let host = &self.site.endpoint.authority;
        if !cache::can_store(self.site, &identity) {
            partial.discard();
            let what = "did not send the headers X-Repo-Commit and ETag, as Hugging Face does".to_string();
            return Err(Failure::Wrong { host: host.clone(), what });
        }
        let stored = cache::store(self.site, self.repository, file, &identity, &partial);
        stored.map_err(|cause| Failure::Disk { path: self.site.cache.display().to_string(), cause })
    }

    fn url(&self, file: &str) -> Url {
        let (id, revision) = (&self.repository.id, cache::revision(self.site, self.repository));
        self.site.endpoint.join(&match (self.site.hub, self.repository.dataset) {
            (Hub::HuggingFace, false) => format!("/{id}/resolve/{revision}/{file}"),
            (Hub::HuggingFace, true) => format!("/datasets/{id}/resolve/{revision}/{file}"),
            (Hub::ModelScope, false) => format!("/api/v1/models/{id}/repo?Revision={revision}&FilePath={file}"),
            (Hub::ModelScope, true) => {
                format!("/api/v1/datasets/{id}/repo?Source=SDK&Revision={revision}&FilePath={file}&View=False")
            }
        })
    }

    /// The URL of the file for a browser.
    fn page(&self, file: &str) -> String {
        match self.site.hub {
            Hub::HuggingFace => self.url(file).to_string(),
            Hub::ModelScope => format!("{}/resolve/master/{file}", self.home()),
        }
    }

    /// The URL of the repository for a browser.
    fn home(&self) -> String {
        let kind = match (self.site.hub, self.repository.dataset) {
            (_, true) => "/datasets",
            (Hub::HuggingFace, false) => "",
            (Hub::ModelScope, false) => "/models",
        };
        self.site.endpoint.join(&format!("{kind}/{}", self.repository.id)).to_string()
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let Some(token) = &self.site.token else { return Vec::new() };
        let mut headers = vec![("Authorization", format!("Bearer {token}"))];
        if self.site.hub == Hub::ModelScope {
            headers.push(("Cookie", format!("m_session_id={token}")));
        }
        headers
    }

    /// A message with the cause of a failure and what to do.
    fn explain(&self, failure: &Failure) -> String {
        let (hub, home) = (self.site.hub, self.home());
        let variable = hub.token_variable();
        let kind = if self.repository.dataset { "dataset" } else { "model" };
        match failure {
            Failure::Status { status: 401, code, .. } if code == "RepoNotFound" => self.missing(kind),
            Failure::Status { status: 404, code, .. } if code == "EntryNotFound" => {
                format!("{home} has no {} of its own", self.main_file())
            }
            Failure::Status { status: 404, .. } => self.missing(kind),
            Failure::Status { status: 401 | 403, .. } if self.site.token.is_some() => format!(
                "{failure}: the token in {variable} has no access to {home} (accept the {kind}'s terms on that page, or \
                 use another token)"
            ),
            Failure::Status { status: 401 | 403, .. } => format!(
                "{failure}: {home} has restricted access; accept the {kind}'s terms on that page and set {variable}"
            ),
            Failure::Cut { .. } | Failure::Slow { .. } => format!("{failure}; the next call resumes the download"),
            Failure::Unreachable { cause, .. } if cause.contains("certificate") => {
                format!("{failure}; for a private certificate authority, set SSL_CERT_FILE to its certificate file")
            }
            Failure::Unreachable { .. } | Failure::Status { .. } | Failure::Wrong { .. } | Failure::TooLong { .. } => {
                format!(
                    "{failure}; try --data-source {}, or a mirror with {}",
                    hub.other().flag_value(),
                    hub.endpoint_variable()
                )
            }
            Failure::Size { .. } | Failure::Disk { .. } => failure.to_string(),
        }
    }

    fn missing(&self, kind: &str) -> String {
        let (hub, other) = (self.site.hub, self.site.hub.other().flag_value());
        let private = match &self.site.token {
            Some(_) => String::new(),
            None => format!(" (a private one needs {})", hub.token_variable()),
        };
        let here = if self.repository.dataset { "" } else { "no such folder, and " };
        format!(
            "{here}{hub} has no {kind} {} that contains {}{private}; try --data-source {other}",
            self.repository.id,
            self.main_file()
        )
    }

    fn main_file(&self) -> &'static str {
        if self.repository.dataset { "the file" } else { TOKENIZER }
    }
}
