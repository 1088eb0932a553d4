//! Why a call cannot be carried out. Every text names the flag and what to do.

/// A mistake in what was asked, found before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(
        "no server to measure: give --url http://HOST:PORT/v1/chat/completions, or --url mock: for the built-in one"
    )]
    NoUrl,
    #[error("--url '{url}': {what}")]
    Url { url: String, what: String },
    /// A flag with an impossible value.
    #[error("{flag} {what}")]
    Value { flag: &'static str, what: String },
    /// Two flags that cannot stand together, or one that needs another.
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
        "--number has {numbers} values and {flag} has {loads}: give one --number for all runs, or one for each of them"
    )]
    Lengths { numbers: usize, flag: &'static str, loads: usize },
}

impl PlanError {
    /// An impossible value of a flag.
    pub fn value(flag: &'static str, what: impl Into<String>) -> PlanError {
        PlanError::Value { flag, what: what.into() }
    }

    /// Two flags that do not fit.
    pub fn conflict(what: impl Into<String>) -> PlanError {
        PlanError::Conflict(what.into())
    }
}

fn suggestion(suggested: &Option<&'static str>) -> String {
    suggested.map_or(String::new(), |name| format!(", did you mean '{name}'?"))
}
