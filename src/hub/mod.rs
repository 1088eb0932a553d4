//! Files of the model hubs ModelScope and Hugging Face. Files are looked up in the caches of the hubs' own tools; missing
//! files are downloaded into them once.

use std::path::PathBuf;

use crate::spec::HubFiles;
use crate::workload::progress::StepProgress;

mod cache;
mod catalog;
mod download;
mod fetch;
mod resumable_file;
mod settings;
mod url;

pub use catalog::{HubItem, Repository, required_items};
pub use fetch::{Fetched, fetch};
pub use settings::{Hub, Limits, Settings, Site};

/// Placeholder paths of files that are not fetched yet, with which a plan can be checked before any download.
pub(crate) fn placeholders(items: &[HubItem]) -> HubFiles {
    let mut files = HubFiles::default();
    items.iter().for_each(|item| put(&mut files, item, PathBuf::from(item.name())));
    files
}

/// Finds or fetches all files. Returns their paths, and one line per file that describes where it is. `notify` is called
/// with one line before each download.
///
/// # Errors
/// One line with the flag, the cause and what to do.
pub(crate) fn fetch_all(
    items: &[HubItem],
    settings: &Settings,
    making: &StepProgress,
    notify: &mut dyn FnMut(String),
) -> Result<(HubFiles, Vec<String>), String> {
    let (mut files, mut lines) = (HubFiles::default(), Vec::new());
    for item in items {
        let found = fetch(item, settings, making, notify)?;
        let origin = if found.from_cache { " (from the cache)" } else { "" };
        lines.push(format!("{}: {}{origin}", item.flag(), found.path.display()));
        put(&mut files, item, found.path);
    }
    Ok((files, lines))
}

fn put(files: &mut HubFiles, item: &HubItem, path: PathBuf) {
    match item {
        HubItem::Dataset(_) => files.dataset = Some(path),
        HubItem::Tokenizer(_) => files.tokenizer = Some(path),
    }
}
