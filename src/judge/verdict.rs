//! The answer to one question about a client.

use serde::{Deserialize, Serialize};

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    /// The figure is right by another definition than this program's.
    OtherDefinition,
    /// The figure is wrong, and the client reported that its figures are affected.
    Warned,
    Fail,
    /// The client did not report what would be checked.
    Unknown,
}

/// One question about a client, and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub verdict: Verdict,
    pub text: String,
}

impl Check {
    /// A check that passes or fails.
    pub fn new(name: &str, pass: bool, text: String) -> Check {
        let verdict = if pass { Verdict::Pass } else { Verdict::Fail };
        Check { name: name.to_string(), verdict, text }
    }

    /// A check of what the client did not report.
    pub fn unknown(name: &str, text: &str) -> Check {
        Check { name: name.to_string(), verdict: Verdict::Unknown, text: text.to_string() }
    }
}
