//! The caches of the hubs' own tools: looks up files, and adds files so that these tools find them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::catalog::Repository;
use super::resumable_file::ResumableFile;
use super::settings::{Hub, Site};
use crate::files::read_value_text;

/// The default revision.
const MAIN: &str = "main";

/// The identity of a file as reported by a hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The `ETag` as it was sent; empty if absent.
    pub etag: String,
    /// The commit that the file belongs to. Hugging Face only.
    pub commit: String,
}

/// The folders that may hold the files of `repository`.
pub fn folders(site: &Site, repository: &Repository) -> Vec<PathBuf> {
    match site.hub {
        Hub::HuggingFace => {
            let root = huggingface_root(site, repository);
            let commit = read_value_text(&root.join("refs").join(MAIN)).unwrap_or_default();
            let commit = Some(commit.trim()).filter(|commit| is_plain(commit));
            commit.map(|commit| root.join("snapshots").join(commit)).into_iter().collect()
        }
        Hub::ModelScope => modelscope_folders(site, repository),
    }
}

/// The layouts of all versions of ModelScope's tools. The newest versions have snapshots by revision, in the folder above
/// `hub` if MODELSCOPE_CACHE is not set. Earlier versions replace dots by three underscores (not all of them), and the
/// oldest have no folder for models. Files are stored in the middle layout, which old and new tools find.
fn modelscope_folders(site: &Site, repository: &Repository) -> Vec<PathBuf> {
    let (owner, name) = repository.parts();
    let kind = kind(repository);
    let mut folders = Vec::new();
    for owner in [site.cache.join(kind).join(owner), site.cache.join(owner)] {
        folders.extend([owner.join(name.replace('.', "___")), owner.join(name)]);
    }
    let above = site.cache.parent().filter(|_| site.cache.ends_with("hub"));
    for base in [Some(site.cache.as_path()), above].into_iter().flatten() {
        let snapshots = base.join(kind).join(format!("{owner}--{name}")).join("snapshots");
        folders.extend(["master", MAIN].map(|revision| snapshots.join(revision)));
    }
    folders
}

/// The folder name for a repository's kind.
fn kind(repository: &Repository) -> &'static str {
    if repository.dataset { "datasets" } else { "models" }
}

/// The path of a cached file.
pub fn find(site: &Site, repository: &Repository, file: &str) -> Option<PathBuf> {
    folders(site, repository).into_iter().map(|folder| folder.join(file)).find(|path| path.is_file())
}

/// Whether the cache has an entry that the repository has no such file.
pub fn is_known_absent(site: &Site, repository: &Repository, file: &str) -> bool {
    let root = huggingface_root(site, repository);
    site.hub == Hub::HuggingFace && root.join(".no_exist").join(revision(site, repository)).join(file).is_file()
}

/// Stores in the cache that the repository has no such file.
pub fn note_absent(site: &Site, repository: &Repository, file: &str, identity: &Identity) {
    let known = revision(site, repository);
    let commit = if identity.commit.is_empty() { &known } else { &identity.commit };
    if site.hub != Hub::HuggingFace || !is_plain(commit) || commit == MAIN {
        return;
    }
    let folder = huggingface_root(site, repository).join(".no_exist").join(commit);
    // A failure costs one request at the next call.
    let _ = fs::create_dir_all(&folder).and_then(|()| File::create(folder.join(file)));
}

/// The revision to request: the commit of the files that are cached, so that all files of a model are of one commit.
pub fn revision(site: &Site, repository: &Repository) -> String {
    let folder = match site.hub {
        Hub::HuggingFace => folders(site, repository).into_iter().next(),
        Hub::ModelScope => return "master".to_string(),
    };
    let commit = folder.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().to_string());
    commit.unwrap_or_else(|| MAIN.to_string())
}

/// The file into which a download is written.
pub fn resumable_file(site: &Site, repository: &Repository, file: &str) -> ResumableFile {
    let name = format!("{}.incomplete", file.replace('/', "--"));
    ResumableFile::new(match site.hub {
        Hub::HuggingFace => huggingface_root(site, repository).join("blobs").join(name),
        Hub::ModelScope => modelscope_temporary(site, repository).join(name),
    })
}

/// The lock file that prevents concurrent downloads from one repository.
pub fn lock_file(site: &Site, repository: &Repository) -> PathBuf {
    match site.hub {
        Hub::HuggingFace => {
            let name = huggingface_name(repository);
            site.cache.join(".locks").join(name).join("ringmark.lock")
        }
        Hub::ModelScope => modelscope_temporary(site, repository).join("ringmark.lock"),
    }
}

/// Moves a completely downloaded file to its place in the cache. Returns its path.
pub fn store(
    site: &Site,
    repository: &Repository,
    file: &str,
    identity: &Identity,
    partial: &ResumableFile,
) -> io::Result<PathBuf> {
    match site.hub {
        Hub::HuggingFace => store_huggingface(&huggingface_root(site, repository), file, identity, partial),
        Hub::ModelScope => {
            let (owner, name) = repository.parts();
            let path = site.cache.join(kind(repository)).join(owner).join(name.replace('.', "___")).join(file);
            partial.finish(&path)?;
            Ok(path)
        }
    }
}

/// Stores a blob named by its ETag, a link to it in the snapshot of its commit, and the commit as that of the main branch.
fn store_huggingface(root: &Path, file: &str, identity: &Identity, partial: &ResumableFile) -> io::Result<PathBuf> {
    let etag = bare_etag(&identity.etag);
    let blob = root.join("blobs").join(etag);
    let link = root.join("snapshots").join(&identity.commit).join(file);
    fs::create_dir_all(link.parent().unwrap_or(root))?;
    partial.finish(&blob)?;
    // A link that another process has just created points to the same blob.
    let up = "../".repeat(2 + file.matches('/').count());
    let linked = std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(etag), &link);
    if linked.is_err() && !link.exists() {
        // The file system does not support links: store the file itself in the snapshot.
        let _ = fs::remove_file(&link);
        fs::rename(&blob, &link)?;
    }
    let reference = root.join("refs").join(MAIN);
    if !reference.exists() {
        fs::create_dir_all(root.join("refs"))?;
        let new = root.join("refs").join(format!(".{MAIN}.{}", std::process::id()));
        fs::write(&new, &identity.commit)?;
        fs::rename(&new, &reference)?;
    }
    Ok(link)
}

/// Whether the hub reported an identity under which the file can be cached.
pub fn can_store(site: &Site, identity: &Identity) -> bool {
    site.hub == Hub::ModelScope || (is_plain(bare_etag(&identity.etag)) && is_plain(&identity.commit))
}

/// An ETag without quotes and weakness prefix.
pub fn bare_etag(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

/// Whether a name sent by a hub is safe as a file name.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn huggingface_name(repository: &Repository) -> String {
    format!("{}--{}", kind(repository), repository.id.replace('/', "--"))
}

fn huggingface_root(site: &Site, repository: &Repository) -> PathBuf {
    site.cache.join(huggingface_name(repository))
}

fn modelscope_temporary(site: &Site, repository: &Repository) -> PathBuf {
    let (owner, name) = repository.parts();
    site.cache.join(kind(repository)).join("._____temp").join(owner).join(name)
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;
    use super::*;
    use crate::options::DataSource;

    #[test]
    fn unsafe_names_are_not_stored() {
        let settings = Settings::new(DataSource::Huggingface, &|_| None).unwrap();
        assert!(!can_store(&settings.site, &Identity::default()));
        assert!(can_store(&settings.other, &Identity::default()));
        let odd = Identity { etag: "\"../../x\"".to_string(), commit: "abc".to_string() };
        assert!(!can_store(&settings.site, &odd));
        let plain = Identity { etag: "W/\"1f-2\"".to_string(), commit: "abc".to_string() };
        assert!(can_store(&settings.site, &plain));
    }
}
