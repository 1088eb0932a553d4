//! Files of the model hubs, ModelScope and Hugging Face: found in the caches their own tools keep, else fetched once.

use std::path::PathBuf;

use crate::spec::HubFiles;
use crate::workload::making::Making;

mod cache;
mod download;
mod fetch;
mod partial;
mod settings;
mod url;
mod wanted;

pub use fetch::{Fetched, fetch};
pub use settings::{Hub, Settings, Site};
pub use wanted::{Repository, Wanted, wanted};

/// The files as far as a plan cares: named, though none is there yet. With them a call can be checked before anything
/// is fetched for it.
pub fn promised(wanted: &[Wanted]) -> HubFiles {
    let mut files = HubFiles::default();
    wanted.iter().for_each(|wanted| put(&mut files, wanted, PathBuf::from(wanted.name())));
    files
}

/// Finds or fetches everything, and gives a line on where each thing is; `say` gets a line before each download. The
/// error is one line that names the flag and what to do.
pub fn fetch_all(
    wanted: &[Wanted],
    settings: &Settings,
    making: &Making,
    say: &mut dyn FnMut(String),
) -> Result<(HubFiles, Vec<String>), String> {
    let (mut files, mut lines) = (HubFiles::default(), Vec::new());
    for wanted in wanted {
        let found = fetch(wanted, settings, making, say)?;
        let origin = if found.from_cache { " (from the cache)" } else { "" };
        lines.push(format!("{}: {}{origin}", wanted.flag(), found.path.display()));
        put(&mut files, wanted, found.path);
    }
    Ok((files, lines))
}

fn put(files: &mut HubFiles, wanted: &Wanted, path: PathBuf) {
    match wanted {
        Wanted::Dataset(_) => files.dataset = Some(path),
        Wanted::Tokenizer(_) => files.tokenizer = Some(path),
    }
}
