//! Errors of planning. Every message names the flag and what to do.

/// An invalid flag or combination of flags, found before any request is sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(
        "--url is required: give --url http://HOST:PORT/v1/chat/completions, or --url mock: for the built-in server"
    )]
    NoUrl,
    #[error("--url '{url}': {what}")]
    Url { url: String, what: String },
    /// A flag with an invalid value.
    #[error("{flag} {what}")]
    Value { flag: &'static str, what: String },
    /// Two flags that conflict, or a flag that needs another one.
    #[error("{0}")]
    Conflict(String),
    #[error("{flag}: unknown {kind} '{given}'{} (known: {})", suggestion(suggested), known.join(", "))]
    Unknown {
        flag: &'static str,
        kind: &'static str,
        given: String,
        suggested: Option<&'static str>,
        known: &'static [&'static str],
    },
    #[error(
        "--number has {numbers} values and {flag} has {loads}: give one --number for all loads, or one for each load"
    )]
    Lengths { numbers: usize, flag: &'static str, loads: usize },
}

impl PlanError {
    /// Creates the error for an invalid value. `what` follows the name of the flag.
    pub fn value(flag: &'static str, what: impl Into<String>) -> PlanError {
        PlanError::Value { flag, what: what.into() }
    }

    /// Creates the error for conflicting flags.
    pub fn conflict(what: impl Into<String>) -> PlanError {
        PlanError::Conflict(what.into())
    }
}

fn suggestion(suggested: &Option<&'static str>) -> String {
    suggested.map_or(String::new(), |name| format!(", did you mean '{name}'?"))
}
