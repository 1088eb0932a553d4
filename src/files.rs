//! Writing result files: whole or not at all, and not through symbolic links.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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
}
