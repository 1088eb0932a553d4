//! A partially downloaded file and the metadata of the complete file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::files::read_value_text;

/// A download that may have begun in an earlier call. A note beside it has the metadata of the complete file.
#[derive(Debug)]
pub struct ResumableFile {
    path: PathBuf,
    note: PathBuf,
}

/// The state of a download that can be resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeState {
    /// Bytes downloaded so far, at least 1.
    pub length: u64,
    /// The `ETag` of the complete file as the hub sent it; may be empty.
    pub etag: String,
    /// Size of the complete file in bytes, if known.
    pub size: Option<u64>,
}

impl ResumableFile {
    /// A download into `path`, which ends in `.incomplete`.
    pub fn new(path: PathBuf) -> ResumableFile {
        ResumableFile { note: path.with_extension("incomplete-note"), path }
    }

    /// The path of the partial file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes downloaded so far.
    pub fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// The state of an earlier download; `None` if there is none that can be resumed.
    pub fn resume_state(&self) -> Option<ResumeState> {
        let length = self.length();
        let note = read_value_text(&self.note).ok()?;
        let (etag, size) = note.split_once('\n')?;
        let begun = ResumeState { length, etag: etag.to_string(), size: size.trim().parse().ok() };
        let is_known = !begun.etag.is_empty() || begun.size.is_some();
        let may_go_on = begun.size.is_none_or(|size| length < size);
        (length > 0 && is_known && may_go_on).then_some(begun)
    }

    /// Starts a new download. Returns the empty file.
    pub fn begin(&self, etag: &str, size: Option<u64>) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        // The old bytes are truncated before the note is replaced, so that the note never describes other bytes.
        let file = File::create(&self.path)?;
        fs::write(&self.note, format!("{etag}\n{}\n", size.map_or(String::new(), |size| size.to_string())))?;
        Ok(file)
    }

    /// Opens the file to append to it.
    pub fn resume(&self) -> io::Result<File> {
        File::options().append(true).open(&self.path)
    }

    /// Deletes the partial file and its note.
    pub fn discard(&self) {
        // An error means that the file does not exist.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.note);
    }

    /// Moves the complete file to `to`, atomically.
    pub fn finish(&self, to: &Path) -> io::Result<()> {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(&self.path, to)?;
        let _ = fs::remove_file(&self.note);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_downloads_with_metadata_are_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let partial = ResumableFile::new(folder.path().join("a/x.json.incomplete"));
        assert_eq!(partial.resume_state(), None);
        partial.begin("\"e\"", Some(10)).unwrap().write_all(b"12345").unwrap();
        assert_eq!(partial.resume_state(), Some(ResumeState { length: 5, etag: "\"e\"".to_string(), size: Some(10) }));
        partial.resume().unwrap().write_all(b"67890").unwrap();
        assert_eq!(partial.resume_state(), None, "complete");
        partial.begin("", None).unwrap().write_all(b"1").unwrap();
        assert_eq!(partial.resume_state(), None, "without metadata");
        partial.finish(&folder.path().join("b/x.json")).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 0);
        assert_eq!(fs::read(folder.path().join("b/x.json")).unwrap(), b"1");
    }
}
