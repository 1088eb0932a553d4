//! Unsolicited responses: those that a server sends on an idle connection before it closes it.
//!
//! A response that arrived before its request is never its response, on a new connection neither.
//!
//! Some servers end an idle connection with a 408. If the client writes its next request while the 408 is in transit,
//! the 408 looks like the response to that request. The request may then be sent once more on a new connection (RFC
//! 9110, 15.5.9).

use crate::api::answer::Answer;
use crate::record::Outcome;
use crate::time::{MS, S, Tick};

/// The status with which a server ends an idle connection.
const REQUEST_TIMEOUT: u16 = 408;
/// A 408 that arrives within this time after the request is unsolicited: a server waits longer before it gives up on a
/// request. On a slow network path, the time that the connection took to open is used instead.
const MIN_WINDOW_NS: u64 = 5 * MS;
/// Upper limit of that time.
const MAX_WINDOW_NS: u64 = S;

/// Whether the response arrived before its request was written.
pub fn is_early(answer: &Answer, write_start: Tick) -> bool {
    answer.seen.first_byte.is_some_and(|first| first.ns_since(write_start) <= 0)
}

/// Whether the response on a reused connection is unsolicited: it arrived before the request was written, or it is a 408
/// that closes the connection and arrives before a server would give up on the request. `connect_ns` is how long the
/// connection took to open.
pub fn is_unsolicited(answer: &Answer, write_start: Tick, closes: bool, connect_ns: u64) -> bool {
    if is_early(answer, write_start) {
        return true;
    }
    let (Outcome::Failed(_), Some(first_byte)) = (answer.outcome(), answer.seen.first_byte) else { return false };
    let after_ns = first_byte.ns_since(write_start);
    let too_soon = || after_ns <= connect_ns.clamp(MIN_WINDOW_NS, MAX_WINDOW_NS) as i64;
    answer.seen.status == REQUEST_TIMEOUT && closes && too_soon()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Dialect;
    use crate::api::answer::AnswerOptions;

    fn answered(bytes: &str, at: u64) -> Answer {
        let options = AnswerOptions {
            dialect: Dialect::Chat,
            stream: true,
            keep_text: false,
            keep_raw: false,
            max_event_bytes: 1 << 20,
            max_response_bytes: 256 << 20,
        };
        let mut answer = Answer::new(options);
        answer.push(bytes.as_bytes(), Tick(at));
        answer.push_eof(Tick(at));
        answer
    }

    #[test]
    fn only_early_responses_are_unsolicited() {
        let status = |status: u16| format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let unsolicited = |status_code, first, connect_ns| {
            is_unsolicited(&answered(&status(status_code), first), Tick(S), true, connect_ns)
        };
        assert!(unsolicited(408, S, 0) && unsolicited(500, S, 0), "before the request");
        assert!(unsolicited(408, S + 14_000, 0) && !unsolicited(500, S + 14_000, 0));
        assert!(
            !unsolicited(408, S + 20 * MS, MS)
                && unsolicited(408, S + 20 * MS, 30 * MS)
                && !unsolicited(408, 9 * S, 9 * S)
        );
        assert!(!is_unsolicited(&answered(&status(408), S + 14_000), Tick(S), false, 0), "the connection stays open");
        let good = "HTTP/1.1 200 OK\r\nContent-Length: 72\r\n\r\n{\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}         ";
        assert_eq!(answered(good, S).outcome(), Outcome::Ok);
        assert!(is_early(&answered(good, S), Tick(S)) && is_unsolicited(&answered(good, S), Tick(S), true, 0));
        assert!(!is_unsolicited(&answered(good, S + 1), Tick(S), true, 0), "it came after the request");
    }
}
