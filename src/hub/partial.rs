//! A file that is not all there yet, and what is known of the whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A download that may have been begun before. Beside its bytes stands a note of what they are a part of.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    note: PathBuf,
}

/// What a begun download is a part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Bytes that are there; more than none.
    pub length: u64,
    /// The `ETag` of the whole file as the hub gave it; may be empty.
    pub etag: String,
    /// Bytes of the whole file, where known.
    pub size: Option<u64>,
}

impl Partial {
    /// A download into `path`, which ends in `.incomplete`.
    pub fn new(path: PathBuf) -> Partial {
        Partial { note: path.with_extension("incomplete-note"), path }
    }

    /// Where the bytes are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are there.
    pub fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// What was begun before; `None` where there is nothing that one could go on with.
    pub fn begun(&self) -> Option<Begun> {
        let length = self.length();
        let note = fs::read_to_string(&self.note).ok()?;
        let (etag, size) = note.split_once('\n')?;
        let begun = Begun { length, etag: etag.to_string(), size: size.trim().parse().ok() };
        let is_known = !begun.etag.is_empty() || begun.size.is_some();
        let may_go_on = begun.size.is_none_or(|size| length < size);
        (length > 0 && is_known && may_go_on).then_some(begun)
    }

    /// Begins anew.
    pub fn begin(&self, etag: &str, size: Option<u64>) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        // The bytes go first: a note must never speak of other bytes.
        let file = File::create(&self.path)?;
        fs::write(&self.note, format!("{etag}\n{}\n", size.map_or(String::new(), |size| size.to_string())))?;
        Ok(file)
    }

    /// Goes on behind the bytes that are there.
    pub fn go_on(&self) -> io::Result<File> {
        File::options().append(true).open(&self.path)
    }

    /// Forgets what was begun.
    pub fn forget(&self) {
        // What is not there cannot be removed, and need not be.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.note);
    }

    /// Moves the whole file to its place, at once for everybody who looks there.
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
    fn only_what_is_known_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let partial = Partial::new(folder.path().join("a/x.json.incomplete"));
        assert_eq!(partial.begun(), None);
        partial.begin("\"e\"", Some(10)).unwrap().write_all(b"12345").unwrap();
        assert_eq!(partial.begun(), Some(Begun { length: 5, etag: "\"e\"".to_string(), size: Some(10) }));
        partial.go_on().unwrap().write_all(b"67890").unwrap();
        assert_eq!(partial.begun(), None, "all is there");
        partial.begin("", None).unwrap().write_all(b"1").unwrap();
        assert_eq!(partial.begun(), None, "of what?");
        partial.finish(&folder.path().join("b/x.json")).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 0);
        assert_eq!(fs::read(folder.path().join("b/x.json")).unwrap(), b"1");
    }
}
