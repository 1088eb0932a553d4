//! The kind of file system that a path is on.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// File systems that several machines mount. Those of FUSE are treated as such: most of them are.
const SHARED: [&str; 15] = [
    "nfs",
    "nfs4",
    "lustre",
    "cifs",
    "smb3",
    "smbfs",
    "gpfs",
    "beegfs",
    "ceph",
    "glusterfs",
    "afs",
    "panfs",
    "wekafs",
    "orangefs",
    "pvfs2",
];

/// The type of the file system of a path, or of the nearest folder above it that exists; `None` if it cannot be read.
pub(crate) fn kind(path: &Path) -> Option<String> {
    let existing = path.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let path = existing.into_iter().find_map(|path| fs::canonicalize(path).ok())?;
    kind_in(&fs::read("/proc/self/mountinfo").ok()?, &path)
}

/// Whether several machines may use a file system of this type at the same time.
pub(crate) fn is_shared(kind: &str) -> bool {
    SHARED.contains(&kind) || kind.starts_with("fuse.")
}

/// The same from a text in the form of `/proc/self/mountinfo` (proc(5)). The mount point that is deepest counts, of several
/// at one place the last one.
fn kind_in(mountinfo: &[u8], path: &Path) -> Option<String> {
    let mount = |line: &[u8]| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let separator = fields.iter().position(|field| *field == b"-")?;
        Some((unescaped(fields.get(4)?), String::from_utf8_lossy(fields.get(separator + 1)?).into_owned()))
    };
    let mounts = mountinfo.split(|byte| *byte == b'\n').filter_map(mount);
    let above = mounts.filter(|(point, _)| path.starts_with(point));
    above.max_by_key(|(point, _)| point.components().count()).map(|(_, kind)| kind)
}

/// A path in which spaces and the like are written as octal numbers: `\040`.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_latest_mount_counts() {
        let mounts = br"22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /shared rw,relatime shared:5 master:2 - nfs4 server:/export rw
31 30 0:41 / /shared/fast\040disk rw - lustre mgs@tcp:/fast rw
32 22 0:42 / /over rw - xfs /dev/sdb rw
33 22 0:43 / /over rw - fuse.sshfs host: rw
";
        let kind = |path: &str| kind_in(mounts, Path::new(path));
        for (path, expected) in [
            ("/home/a", "ext4"),
            ("/shared/a", "nfs4"),
            ("/sharedlike", "ext4"),
            ("/shared/fast disk/a", "lustre"),
            ("/over", "fuse.sshfs"),
        ] {
            assert_eq!(kind(path).as_deref(), Some(expected), "{path}");
        }
        assert_eq!(kind_in(b"", Path::new("/")), None);
        assert_eq!(kind_in(b"1 2 3\n - \nx - y", Path::new("/")), None);
    }

    #[test]
    fn shared_file_systems_are_known() {
        assert!(["nfs", "nfs4", "lustre", "fuse.sshfs", "cifs"].into_iter().all(is_shared));
        assert!(!["ext4", "xfs", "tmpfs", "overlay", "fuseblk", "zfs", "btrfs"].into_iter().any(is_shared));
        assert!(kind(Path::new("/")).is_some());
        assert!(kind(Path::new("/no such folder/a/b")).is_some());
    }
}
