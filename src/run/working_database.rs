//! Where the database of a run is written: in its folder, or, if several machines share the folder's file system, in a local
//! one first. SQLite's write-ahead log needs shared memory, which such file systems do not have between machines.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::host::file_system::{is_shared, kind};
use crate::log::Log;
use crate::store::writer::remove_with_logs;

/// The database of a run while it is written.
#[derive(Debug)]
pub(super) struct WorkingDatabase {
    /// Where it is at the end.
    target: PathBuf,
    /// The local folder that it is written to, if it is not written to `target`.
    local: Option<PathBuf>,
}

impl WorkingDatabase {
    /// Chooses where `target` is written. `name` differs between runs.
    pub(super) fn choose(target: PathBuf, name: &str, log: &Log) -> WorkingDatabase {
        WorkingDatabase::choose_among(target, name, log, &std::env::temp_dir(), &kind)
    }

    /// The same with a local folder, and the kinds of file systems.
    fn choose_among(
        target: PathBuf,
        name: &str,
        log: &Log,
        temporary: &Path,
        kind: &dyn Fn(&Path) -> Option<String>,
    ) -> WorkingDatabase {
        let Some(shared) = kind(&target).filter(|kind| is_shared(kind)) else {
            return WorkingDatabase { target, local: None };
        };
        let local = temporary.join(format!("ringmark-{name}"));
        let created = match kind(temporary) {
            Some(kind) if is_shared(&kind) => Err(io::Error::other(format!("it is on {kind} as well"))),
            _ => DirBuilder::new().mode(0o700).create(&local),
        };
        match created {
            Ok(()) => {
                let (local_name, target_name) = (local.display(), target.display());
                log.info(&format!("{target_name} is on {shared}: it is written to {local_name} and moved at the end"));
                WorkingDatabase { target, local: Some(local) }
            }
            Err(error) => {
                log.warning(&format!(
                    "{} is on {shared}, where a kill or a second reader can damage a database that is being written, and {} \
                     cannot be used instead ({error}): set TMPDIR to a local folder",
                    target.display(),
                    local.display()
                ));
                WorkingDatabase { target, local: None }
            }
        }
    }

    /// The file that is written.
    pub(super) fn path(&self) -> PathBuf {
        match &self.local {
            Some(local) => local.join(self.target.file_name().unwrap_or_default()),
            None => self.target.clone(),
        }
    }

    /// Moves the file to where it belongs. Returns where it is; if that fails, it stays where it is.
    pub(super) fn finish(self, log: &Log) -> PathBuf {
        let written = self.path();
        let Some(local) = &self.local else { return written };
        match move_file(&written, &self.target) {
            Ok(()) => {
                // Only its own file was in it.
                let _ = fs::remove_dir_all(local);
                self.target
            }
            Err(error) => {
                let (written_name, target) = (written.display(), self.target.display());
                log.error(&format!("cannot move {written_name} to {target}: {error}; the results are in the former"));
                written
            }
        }
    }

    /// Removes the local folder: nothing was written.
    pub(super) fn abandon(&self) {
        if let Some(local) = &self.local {
            let _ = fs::remove_dir(local);
        }
    }

    /// Removes what was written.
    pub(super) fn discard(self) {
        remove_with_logs(&self.path());
        self.abandon();
    }
}

/// Copies a file to another file system under a temporary name, and gives it its name once it is complete.
fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut partial = to.as_os_str().to_os_string();
    partial.push(".partial");
    let copy = || {
        let mut copy = OpenOptions::new().write(true).create_new(true).open(&partial)?;
        io::copy(&mut File::open(from)?, &mut copy)?;
        copy.sync_all()?;
        // It does not replace a file of that name.
        fs::hard_link(&partial, to).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Err(error),
            // Not all of these file systems have links.
            _ => fs::rename(&partial, to),
        })
    };
    let copied = copy();
    let _ = fs::remove_file(&partial);
    copied
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    fn log() -> Log {
        Log::new(|| Timestamp::UNIX_EPOCH, TimeZone::UTC, Vec::new())
    }

    /// Only the folder `shared` is on NFS.
    fn kinds(path: &Path) -> Option<String> {
        let is_nfs = path.components().any(|part| part.as_os_str() == "shared");
        Some(if is_nfs { "nfs4" } else { "ext4" }.to_string())
    }

    #[test]
    fn a_database_on_a_shared_file_system_is_written_locally_and_moved() {
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("tmp");
        let shared = folder.path().join("shared");
        fs::create_dir(&temporary).unwrap();
        fs::create_dir(&shared).unwrap();
        let choose =
            |target: PathBuf, temporary: &Path| WorkingDatabase::choose_among(target, "a-1", &log(), temporary, &kinds);
        let target = shared.join("benchmark_data.db");
        let database = choose(target.clone(), &temporary);
        assert_eq!(database.path(), temporary.join("ringmark-a-1/benchmark_data.db"));
        fs::write(database.path(), "all").unwrap();
        assert_eq!(database.finish(&log()), target);
        assert_eq!(fs::read_to_string(&target).unwrap(), "all");
        let left = |folder: &Path| fs::read_dir(folder).unwrap().count();
        assert_eq!((left(&temporary), left(&shared)), (0, 1));
        // A file that appears meanwhile is not replaced, and nothing is lost.
        let database = choose(target.clone(), &temporary);
        fs::write(database.path(), "new").unwrap();
        let kept = database.finish(&log());
        assert_eq!(
            (fs::read_to_string(&kept).unwrap(), fs::read_to_string(&target).unwrap()),
            ("new".into(), "all".into())
        );
        assert_eq!(left(&shared), 1);
        // Nowhere to write to, or no need to.
        for (target, temporary) in [(&target, &shared), (&folder.path().join("local.db"), &temporary)] {
            let database = choose(target.clone(), temporary);
            assert_eq!(&database.path(), target);
        }
    }

    #[test]
    fn a_run_that_does_not_start_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("shared/benchmark_data.db");
        let database = WorkingDatabase::choose_among(target, "b", &log(), folder.path(), &kinds);
        fs::write(database.path(), "x").unwrap();
        database.discard();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
