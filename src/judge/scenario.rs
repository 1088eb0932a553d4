//! The loads on which a client is judged.

/// A server's behaviour, and what it can show about a client.
#[derive(Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    /// Keys of the mock.
    pub mock: &'static str,
    /// Whether the client's processes are stopped for [`FREEZE`] while it runs.
    pub freeze: bool,
}

/// How long a client is stopped.
pub const FREEZE: std::time::Duration = std::time::Duration::from_secs(1);

const fn scenario(name: &'static str, about: &'static str, mock: &'static str) -> Scenario {
    Scenario { name, about, mock, freeze: false }
}

/// All scenarios.
pub const ALL: [Scenario; 9] = [
    scenario("steady", "answers of 50 tokens whose times vary", "ttft=uniform(50ms,150ms)&itl=10ms&tokens=50&seed=1"),
    scenario("burst", "all streams send at the same times", "ttft=100ms&itl=20ms&burst=on&tokens=50&seed=1"),
    scenario(
        "role_first",
        "the role comes in an event of its own, before the first token",
        "ttft=200ms&itl=10ms&tokens=50&role=separate&seed=1",
    ),
    scenario(
        "several_tokens",
        "each event has four tokens, as with speculative decoding",
        "ttft=100ms&itl=40ms&tokens=52&step_tokens=4&seed=1",
    ),
    scenario(
        "early_close",
        "every fifth answer is cut off midway",
        "ttft=50ms&itl=10ms&tokens=50&fault=truncate:1/5&seed=1",
    ),
    scenario(
        "stall",
        "every tenth answer pauses for a second midway",
        "ttft=50ms&itl=10ms&tokens=50&fault=stall(1s):1/10&seed=1",
    ),
    Scenario {
        name: "frozen_client",
        about: "the client is stopped for a second while answers arrive",
        mock: "ttft=50ms&itl=10ms&tokens=50&seed=1",
        freeze: true,
    },
    scenario(
        "too_many_requests",
        "every fifth request is answered 429",
        "ttft=50ms&itl=10ms&tokens=50&fault=status(429):1/5&seed=1",
    ),
    scenario("slow_first_token", "the first token takes two seconds", "ttft=2s&itl=10ms&tokens=20&seed=1"),
];

/// The scenario of this name, or an error that lists all names.
pub fn named(name: &str) -> Result<&'static Scenario, String> {
    let all: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
    ALL.iter()
        .find(|scenario| scenario.name == name)
        .ok_or_else(|| format!("no scenario is named '{name}'; give one of {}, or all", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_have_valid_keys_and_names_of_their_own() {
        for (index, scenario) in ALL.iter().enumerate() {
            crate::mock::Config::from_query(scenario.mock).unwrap();
            assert!(ALL[..index].iter().all(|other| other.name != scenario.name));
        }
        assert!(named("steady").is_ok() && named("other").unwrap_err().contains("stall"));
    }
}
