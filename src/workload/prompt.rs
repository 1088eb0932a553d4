//! `--prompt`: the same text for every request.

use std::io;
use std::path::Path;

use super::error::WorkloadError;
use crate::api::prompt::Prompt;
use crate::files::read_value_text;

const FLAG: &str = "--prompt";

/// The text of the flag.
pub fn from_text(text: &str) -> Result<Prompt, WorkloadError> {
    if text.is_empty() {
        return Err(WorkloadError::Data("--prompt is empty; give a text or @FILE".to_string()));
    }
    Ok(Prompt::Text(text.to_string()))
}

/// A file as one prompt, without the final line end.
pub fn from_file(path: &Path) -> Result<Prompt, WorkloadError> {
    let text = read_value_text(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::InvalidData => {
            WorkloadError::File { flag: FLAG, path: path.to_path_buf(), what: "is not UTF-8 text".to_string() }
        }
        _ => WorkloadError::Unreadable { flag: FLAG, path: path.to_path_buf(), cause },
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(WorkloadError::Empty { flag: FLAG, path: path.to_path_buf() });
    }
    Ok(Prompt::Text(text.to_string()))
}
