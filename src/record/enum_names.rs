//! The names of a record's enums in the database.

use super::{Failure, Finish, Outcome, Phase, TokenSource};

impl Phase {
    /// The name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Preflight => "preflight",
            Phase::Warmup => "warmup",
            Phase::Measured => "measured",
            Phase::Witness => "witness",
        }
    }

    /// The phase of that name.
    pub fn from_name(name: &str) -> Option<Phase> {
        let all = [Phase::Preflight, Phase::Warmup, Phase::Measured, Phase::Witness];
        all.into_iter().find(|phase| phase.name() == name)
    }
}

impl TokenSource {
    const ALL: [TokenSource; 4] =
        [TokenSource::Unknown, TokenSource::Server, TokenSource::Tokenizer, TokenSource::Program];

    /// The name in the database.
    pub fn name(self) -> &'static str {
        match self {
            TokenSource::Unknown => "unknown",
            TokenSource::Server => "server",
            TokenSource::Tokenizer => "tokenizer",
            TokenSource::Program => "program",
        }
    }

    /// The source of that name.
    pub fn from_name(name: &str) -> Option<TokenSource> {
        TokenSource::ALL.into_iter().find(|source| source.name() == name)
    }
}

impl Finish {
    /// In the order of the codes, `finish as u8`.
    pub const ALL: [Finish; 6] =
        [Finish::None, Finish::Stop, Finish::Length, Finish::ToolCalls, Finish::ContentFilter, Finish::Other];

    /// The name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Finish::None => "none",
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::ToolCalls => "tool_calls",
            Finish::ContentFilter => "content_filter",
            Finish::Other => "other",
        }
    }

    /// The finish reason of that name.
    pub fn from_name(name: &str) -> Option<Finish> {
        Finish::ALL.into_iter().find(|finish| finish.name() == name)
    }
}

impl Failure {
    /// The class of that name.
    pub fn from_name(name: &str) -> Option<Failure> {
        Failure::ALL.into_iter().find(|failure| failure.name() == name)
    }
}

impl Outcome {
    /// The name in the database: `ok`, `unfinished`, or the class of the failure.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Unfinished => "unfinished",
            Outcome::Failed(failure) => failure.name(),
        }
    }

    /// The outcome of that name.
    pub fn from_name(name: &str) -> Option<Outcome> {
        match name {
            "ok" => Some(Outcome::Ok),
            "unfinished" => Some(Outcome::Unfinished),
            other => Failure::from_name(other).map(Outcome::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_what_they_name() {
        for failure in Failure::ALL {
            let outcome = Outcome::Failed(failure);
            assert_eq!(Outcome::from_name(outcome.name()), Some(outcome));
        }
        for outcome in [Outcome::Ok, Outcome::Unfinished] {
            assert_eq!(Outcome::from_name(outcome.name()), Some(outcome));
        }
        for finish in Finish::ALL {
            assert_eq!(Finish::from_name(finish.name()), Some(finish));
        }
        for phase in [Phase::Preflight, Phase::Warmup, Phase::Measured] {
            assert_eq!(Phase::from_name(phase.name()), Some(phase));
        }
        for source in TokenSource::ALL {
            assert_eq!(TokenSource::from_name(source.name()), Some(source));
        }
        assert_eq!(Outcome::from_name("sunny"), None);
    }
}
