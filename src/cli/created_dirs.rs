//! Directories that a call creates for its results. A call that measures nothing removes them again.

use std::fs;
use std::path::{Path, PathBuf};

use super::call_output::LOG_FILE;

/// The result directories that did not exist before the call.
pub struct CreatedDirs {
    root: PathBuf,
    /// Innermost first.
    folders: Vec<PathBuf>,
}

impl CreatedDirs {
    /// The directories that creating `root` will create.
    pub fn to_create(root: &Path) -> CreatedDirs {
        let missing = root.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        CreatedDirs { root: root.to_path_buf(), folders: missing.map(Path::to_path_buf).collect() }
    }

    /// Removes the log and the created directories. Keeps directories with other files, and a log that already existed.
    pub fn remove_if_unused(&self) {
        let Some(entries) = fs::read_dir(&self.root).ok().filter(|_| !self.folders.is_empty()) else { return };
        let mut others = entries.flatten().filter(|entry| entry.file_name() != LOG_FILE);
        // `remove_dir` removes only empty directories; errors are ignored.
        if others.all(|entry| fs::remove_dir(entry.path()).is_ok()) {
            let _ = fs::remove_file(self.root.join(LOG_FILE));
            self.folders.iter().for_each(|folder| drop(fs::remove_dir(folder)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_created_and_empty_directories_are_removed() {
        let outputs = tempfile::tempdir().unwrap();
        let root = outputs.path().join("20260101").join("mock");
        let write = |name: &str| {
            fs::create_dir_all(&root).unwrap();
            fs::write(root.join(name), "x").unwrap();
        };
        let created = CreatedDirs::to_create(&root);
        write(LOG_FILE);
        CreatedDirs::to_create(&root).remove_if_unused();
        assert!(root.exists(), "it existed before");
        write("offline-run");
        fs::create_dir(root.join("empty")).unwrap();
        created.remove_if_unused();
        assert!(root.join(LOG_FILE).exists(), "another file is in the directory");
        fs::remove_file(root.join("offline-run")).unwrap();
        created.remove_if_unused();
        assert!(outputs.path().exists() && !root.parent().unwrap().exists());
    }
}
