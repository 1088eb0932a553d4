//! Writing result files: whole or not at all, and not through symbolic links. Reading files that users name, which may
//! have no end. Lists that are in temporary files when they are long.

pub(crate) mod long_list;

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Maximum size of a file that is one value: a prompt, a template, certificates.
const MAX_VALUE_BYTES: u64 = 64 << 20;
/// Maximum length of a line of a dataset, and of an entry of an array.
const MAX_LINE_BYTES: u64 = 256 << 20;
/// Maximum size of a dataset or a trace. The largest that are published have some gigabytes.
const MAX_DATASET_BYTES: u64 = 64 << 30;

/// Reads a file that is one value.
///
/// # Errors
/// Also if it is longer than 64 MiB: a device such as `/dev/zero` has no end.
pub(crate) fn read_value(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, MAX_VALUE_BYTES)
}

/// Reads a file.
///
/// # Errors
/// Also if it is longer than `most` bytes, which are whole mebibytes.
pub(crate) fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_long("it", most)) } else { Ok(bytes) }
}

fn too_long(what: &str, most: u64) -> io::Error {
    let size = if most >= 1 << 30 { format!("{} GiB", most >> 30) } else { format!("{} MiB", most >> 20) };
    io::Error::other(format!("{what} is longer than {size}"))
}

/// Reads a text file that is one value, as [`read_value`] does. Bytes that are not UTF-8 are an error of the kind
/// `InvalidData`.
pub(crate) fn read_value_text(path: &Path) -> io::Result<String> {
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8");
    String::from_utf8(read_value(path)?).map_err(not_text)
}

/// Appends the next line with its end to `bytes`; returns the number of bytes, 0 at the end of the file.
///
/// # Errors
/// Also if the line is longer than 256 MiB.
pub(crate) fn read_line(file: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let count = file.take(MAX_LINE_BYTES + 1).read_until(b'\n', bytes)?;
    if count as u64 > MAX_LINE_BYTES { Err(too_long("a line", MAX_LINE_BYTES)) } else { Ok(count) }
}

/// A dataset or a trace, which may be a pipe or a device without end: reading it fails beyond 64 GiB, and beyond
/// 256 MiB within one entry of an array.
#[derive(Debug)]
pub(crate) struct Dataset<R> {
    source: R,
    /// Bytes that may still be read.
    left: u64,
    /// The same of the current entry.
    left_of_entry: Rc<Cell<u64>>,
}

/// Begins the entries of an array in a [`Dataset`].
#[derive(Clone, Debug)]
pub(crate) struct EntryStart(Rc<Cell<u64>>);

impl EntryStart {
    /// An entry begins. What a buffer has read ahead counts to the one before.
    pub(crate) fn begin(&self) {
        self.0.set(MAX_LINE_BYTES);
    }
}

impl<R> Dataset<R> {
    /// Nothing has been read yet.
    pub(crate) fn new(source: R) -> Dataset<R> {
        Dataset { source, left: MAX_DATASET_BYTES, left_of_entry: Rc::new(Cell::new(u64::MAX)) }
    }

    /// For the entries of an array; without it, only the whole is limited.
    pub(crate) fn entries(&self) -> EntryStart {
        EntryStart(self.left_of_entry.clone())
    }
}

impl<R: Read> Read for Dataset<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        let less = |left: u64| left.checked_sub(count as u64);
        self.left = less(self.left).ok_or_else(|| too_long("it", MAX_DATASET_BYTES))?;
        let left_of_entry = less(self.left_of_entry.get()).ok_or_else(|| too_long("an entry", MAX_LINE_BYTES))?;
        self.left_of_entry.set(left_of_entry);
        Ok(count)
    }
}

/// Replaces the file `path` in a results folder, or creates it. It is written under a temporary name first, so that a
/// full disk leaves the old file or none, never an empty one.
///
/// # Errors
/// Also if `path` is a symbolic link: a results folder has none, unless someone put it there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if is_link(path) {
        return Err(link_error());
    }
    let temporary = temporary_name(path);
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The error of the write is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes a file that the user has named. A device, a pipe or a symbolic link is written to; anything else is replaced
/// as by [`replace`].
pub(crate) fn write_named(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => fs::write(path, bytes),
        _ => replace(path, bytes),
    }
}

/// Opens a file in a results folder for appending, and creates it if it does not exist. A symbolic link is an error.
pub(crate) fn open_append(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().create(true).append(true).custom_flags(libc::O_NOFOLLOW).open(path);
    opened.map_err(|error| if error.raw_os_error() == Some(libc::ELOOP) { link_error() } else { error })
}

/// Appends to a file in a results folder, as [`open_append`] opens it. If this fails, for example on a full disk, the
/// file is as before, or gone if there was none.
pub(crate) fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        // Nothing would be written, but an empty file created.
        return Ok(());
    }
    let mut file = open_append(path)?;
    let before = file.metadata()?.len();
    let written = file.write_all(bytes);
    if written.is_err() {
        // The error of the write is the one to report.
        let _ = if before == 0 { fs::remove_file(path) } else { file.set_len(before) };
    }
    written
}

/// Whether `path` is a symbolic link.
pub(crate) fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

fn link_error() -> io::Error {
    io::Error::other("it is a symbolic link, which is not followed: remove it, or choose another --outputs-dir")
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let create = || OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = match create() {
        // Left by a killed process with the same number. Removing a link does not touch what it points to.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(path).and_then(|()| create()),
        created => created,
    }?;
    file.write_all(bytes)?;
    // Some file systems report a full disk only here.
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("other"), "keep").unwrap();
        symlink(path("other"), path("link")).unwrap();
        assert!(replace(&path("link"), b"x").unwrap_err().to_string().contains("symbolic link"));
        assert!(open_append(&path("link")).unwrap_err().to_string().contains("symbolic link"));
        assert_eq!(fs::read_to_string(path("other")).unwrap(), "keep");
        // The temporary file is not written through a link either.
        symlink(path("other"), temporary_name(&path("new"))).unwrap();
        replace(&path("new"), b"x").unwrap();
        assert_eq!(fs::read_to_string(path("other")).unwrap(), "keep");
        assert_eq!(fs::read_to_string(path("new")).unwrap(), "x");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        replace(&path, b"old").unwrap();
        // A folder in the place of the file cannot be replaced.
        let place = folder.path().join("folder");
        fs::create_dir(&place).unwrap();
        assert!(replace(&place, b"new").is_err());
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }

    #[test]
    fn named_links_are_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        symlink(&file, &link).unwrap();
        write_named(&link, b"new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        write_named(Path::new("/dev/null"), b"new").unwrap();
    }

    #[test]
    fn an_endless_file_is_an_error() {
        let zero = Path::new("/dev/zero");
        assert_eq!(read_value(zero).unwrap_err().to_string(), "it is longer than 64 MiB");
        assert_eq!(read_value_text(zero).unwrap_err().to_string(), "it is longer than 64 MiB");
        let mut lines = io::BufReader::new(File::open(zero).unwrap());
        let error = read_line(&mut lines, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "a line is longer than 256 MiB");
    }

    #[test]
    fn a_dataset_without_end_is_an_error() {
        let mut zeros = Dataset { left: 3 << 20, ..Dataset::new(io::repeat(0)) };
        let error = io::copy(&mut zeros, &mut io::sink()).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 64 GiB");
        let mut zeros = Dataset::new(io::repeat(0));
        zeros.entries().begin();
        let error = io::copy(&mut zeros, &mut io::sink()).unwrap_err();
        assert_eq!(error.to_string(), "an entry is longer than 256 MiB");
        let mut text = Dataset::new(&b"ab"[..]);
        assert_eq!(io::copy(&mut text, &mut io::sink()).unwrap(), 2);
    }

    #[test]
    fn lines_are_appended_with_their_ends() {
        let (mut text, mut bytes) = (&b"a\nbc"[..], Vec::new());
        let counts = [0; 3].map(|_| read_line(&mut text, &mut bytes).unwrap());
        assert_eq!((counts, bytes.as_slice()), ([2, 2, 0], &b"a\nbc"[..]));
    }

    #[test]
    fn an_append_of_nothing_creates_no_file() {
        let folder = tempfile::tempdir().unwrap();
        append(&folder.path().join("a.txt"), b"").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
