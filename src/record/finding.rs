//! Something a reader of the figures should know.

use serde::{Deserialize, Serialize};

/// A finding: what was seen, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    /// Short stable name, such as `send_lag`.
    pub code: String,
    /// One or two sentences that say what was seen and what to do.
    pub text: String,
}

impl Finding {
    /// Good to know; the figures stand.
    pub fn note(code: &str, text: impl Into<String>) -> Finding {
        Finding { severity: Severity::Note, code: code.to_string(), text: text.into() }
    }

    /// Some figures are less exact than they look.
    pub fn caution(code: &str, text: impl Into<String>) -> Finding {
        Finding { severity: Severity::Caution, code: code.to_string(), text: text.into() }
    }

    /// The figures must not be used.
    pub fn void(code: &str, text: impl Into<String>) -> Finding {
        Finding { severity: Severity::Void, code: code.to_string(), text: text.into() }
    }
}

/// How much a finding weighs, the lightest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Note,
    Caution,
    Void,
}
