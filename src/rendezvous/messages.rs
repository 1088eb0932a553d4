//! What shards send each other, and what it means: pure functions of the messages of all shards.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::list;

/// The longest message, bytes.
pub const MAX_MESSAGE: usize = 1024;
/// The longest text of an error that is sent, bytes.
const MAX_ERROR: usize = 600;
/// Plans with one hash begin with the same digits; an error shows so many.
const SHOWN_DIGITS: usize = 12;

/// What shard 0 decides for all shards of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFacts {
    /// See [`crate::spec::RigFacts::nonce`].
    pub nonce: u32,
    /// The name of the folder in which the shards put their results; see [`crate::spec::RigFacts::started`].
    pub started: String,
    /// The name of the model.
    pub model: String,
}

/// A shard is there; that of shard 0 has the facts of the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CallMessage {
    pub version: String,
    pub count: u32,
    pub call: Option<CallFacts>,
    /// Where shard 0 answers clock exchanges; `None` if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockService>,
}

/// Where shard 0 answers clock exchanges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClockService {
    /// Host and port; `None`: those of the TCP connection to shard 0.
    pub address: Option<(String, u16)>,
    /// The token of the exchanges; `None`: that of the job, which all shards have.
    pub token: Option<String>,
}

/// A shard is ready to start a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyMessage {
    pub version: String,
    /// The number of the run within the call.
    pub run: u32,
    pub plan_hash: String,
}

/// The start of a run, nanoseconds since the Unix epoch; only shard 0 names one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StartMessage {
    pub start_unix_ns: Option<i64>,
}

/// This shard has come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fence {}

/// A message, or the error in its place, and when it was composed.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    ok: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    error: Option<String>,
    /// Nanoseconds since the Unix epoch, by the clock of the shard.
    at: i64,
}

/// Without a condition on `T`, which the derived default would have.
fn none<T>() -> Option<T> {
    None
}

/// The bytes of a message that is composed at this time, nanoseconds since the Unix epoch.
pub(super) fn message(own: &impl Serialize, at: i64) -> Vec<u8> {
    let envelope = Envelope { ok: Some(own), error: None, at };
    let bytes = serde_json::to_vec(&envelope).expect("plain structs with text keys always serialise");
    match bytes.len() <= MAX_MESSAGE {
        true => bytes,
        false => failure("the name of the model or of the results is too long for the rendezvous"),
    }
}

/// The message of a shard that has failed.
pub(super) fn failure(text: &str) -> Vec<u8> {
    let line = text.lines().next().unwrap_or_default();
    let mut end = line.len().min(MAX_ERROR);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    let bytes = serde_json::to_vec(&Envelope::<()> { ok: None, error: Some(line[..end].to_string()), at: 0 });
    let bytes = bytes.expect("a text always serialises");
    // Escapes can make a text six times as long.
    if bytes.len() <= MAX_MESSAGE { bytes } else { failure("it failed; its own output has the error") }
}

/// The messages of all shards, each with the time at which it was composed; the errors of those that failed. An empty
/// message is one that did not come because another shard failed.
pub(super) fn gathered<T: DeserializeOwned>(all: &[Vec<u8>]) -> Result<Vec<(T, i64)>, String> {
    let mut failures = Vec::new();
    let mut messages = Vec::new();
    for (shard, bytes) in all.iter().enumerate() {
        match serde_json::from_slice::<Envelope<T>>(bytes) {
            Ok(Envelope { error: Some(text), .. }) => failures.push(format!("shard {shard} failed: {text}")),
            Ok(Envelope { ok: Some(message), at, .. }) => messages.push((message, at)),
            Err(_) if bytes.is_empty() => {}
            _ => failures.push(format!("shard {shard} sent a message that this version cannot read")),
        }
    }
    match failures.is_empty() && messages.len() == all.len() {
        true => Ok(messages),
        false if failures.is_empty() => Err("another shard failed".to_string()),
        false => Err(failures.join("; ")),
    }
}

/// The facts of the call, from the messages of all shards.
pub(super) fn common_call(all: &[CallMessage]) -> Result<CallFacts, String> {
    let first = all.first().ok_or("no shard has sent a message")?;
    check_same("version", all.iter().map(|message| message.version.as_str()))?;
    let counts: Vec<String> = all.iter().map(|message| message.count.to_string()).collect();
    check_same("number of shards", counts.iter().map(String::as_str))?;
    first.call.clone().ok_or_else(|| "shard 0 has not named the call".to_string())
}

/// Checks that all shards are about to do the same.
pub(super) fn check_ready(all: &[ReadyMessage]) -> Result<(), String> {
    check_same("version", all.iter().map(|message| message.version.as_str()))?;
    let runs: Vec<String> = all.iter().map(|message| message.run.to_string()).collect();
    check_same("run", runs.iter().map(String::as_str))?;
    let hashes = all.iter().map(|message| message.plan_hash.get(..SHOWN_DIGITS).unwrap_or(&message.plan_hash));
    check_same("plan", hashes).map_err(|text| {
        format!("{text}: start all shards with the same flags, seeds, dataset and tokenizer files, and version")
    })
}

/// The start that shard 0 has named.
pub(super) fn named_start(all: &[StartMessage]) -> Result<i64, String> {
    all.first().and_then(|message| message.start_unix_ns).ok_or_else(|| "shard 0 has not named the start".to_string())
}

/// An error that names the shards whose value differs from that of shard 0.
fn check_same<'a>(what: &str, values: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let values: Vec<&str> = values.collect();
    let Some(first) = values.first() else { return Err("no shard has sent a message".to_string()) };
    let different: Vec<u32> =
        (0u32..).zip(&values).filter(|(_, value)| *value != first).map(|(shard, _)| shard).collect();
    match different.first() {
        None => Ok(()),
        Some(&shard) => Err(format!(
            "shard {} {} another {what} ({}) than shard 0 ({first})",
            list(&different),
            if different.len() == 1 { "has" } else { "have" },
            values[shard as usize]
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(plan_hash: &str) -> ReadyMessage {
        ReadyMessage { version: "1".to_string(), run: 1, plan_hash: plan_hash.to_string() }
    }

    #[test]
    fn different_plans_name_their_shards() {
        assert_eq!(check_ready(&[ready("aa"), ready("aa")]), Ok(()));
        let error = check_ready(&[ready("aa"), ready("bb"), ready("aa"), ready("cc")]).unwrap_err();
        assert!(error.starts_with("shard 1 and 3 have another plan (bb) than shard 0 (aa): "), "{error}");
        let newer = ReadyMessage { version: "2".to_string(), ..ready("aa") };
        assert_eq!(check_ready(&[ready("aa"), newer]).unwrap_err(), "shard 1 has another version (2) than shard 0 (1)");
        assert!(check_ready(&[]).is_err());
    }

    #[test]
    fn the_call_is_that_of_shard_0() {
        let call = CallFacts { nonce: 7, started: "s".to_string(), model: "m".to_string() };
        let of = |count, call: Option<&CallFacts>| CallMessage {
            version: "1".to_string(),
            count,
            call: call.cloned(),
            clock: None,
        };
        assert_eq!(common_call(&[of(2, Some(&call)), of(2, None)]), Ok(call.clone()));
        assert!(common_call(&[of(2, None), of(2, Some(&call))]).is_err());
        assert!(common_call(&[of(2, Some(&call)), of(3, None)]).unwrap_err().contains("shard 1 has another number"));
    }

    #[test]
    fn failures_are_sent_and_name_their_shard() {
        let ok = message(&ready("aa"), 5);
        assert_eq!(gathered(&[ok.clone(), ok.clone()]), Ok(vec![(ready("aa"), 5), (ready("aa"), 5)]));
        assert_eq!(gathered(&[message(&Fence {}, -1)]), Ok(vec![(Fence {}, -1)]));
        let all = [ok.clone(), failure("no file\nhint: more"), Vec::new()];
        assert_eq!(gathered::<ReadyMessage>(&all).unwrap_err(), "shard 1 failed: no file");
        assert!(gathered::<ReadyMessage>(&[ok, b"x".to_vec()]).unwrap_err().contains("shard 1 sent a message"));
    }

    #[test]
    fn messages_are_short() {
        let long = CallFacts { nonce: 1, started: String::new(), model: "m".repeat(MAX_MESSAGE) };
        let call = CallMessage { version: String::new(), count: 1, call: Some(long), clock: None };
        for bytes in [message(&call, i64::MIN), failure(&"é".repeat(9999)), failure(&"\u{1}".repeat(9999))] {
            assert!(bytes.len() <= MAX_MESSAGE && serde_json::from_slice::<Envelope<()>>(&bytes).is_ok());
        }
    }
}
