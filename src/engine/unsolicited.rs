//! Unsolicited responses: what a server sends on an idle connection before it closes it.
//!
//! Some servers end an idle connection with a 408. When it is already on its way as the next request is written, it would
//! be taken for the response to that request. But the connection was dead before, and the request may be sent once more
//! on a new one (RFC 9110, 15.5.9, for the 408).

use crate::api::answer::Answer;
use crate::record::Outcome;
use crate::time::{MS, S, Tick};

/// The status of a server that has waited too long for a request.
const REQUEST_TIMEOUT: u16 = 408;
/// A 408 this soon after the request was sent before the server saw it: a server that gives up on a request takes longer.
const DECIDED_BEFORE_NS: u64 = 5 * MS;
/// On a long network path it may take as long as the connection took to open, but not longer than this.
const MOST_NS: u64 = S;

/// Whether the failed response on a reused connection belongs to no request: it arrived before the request was written,
/// or it is a 408 that closes the connection and arrives sooner than any server gives up on a request.
pub fn is_unsolicited(answer: &Answer, write_start: Tick, closes: bool, connect_ns: u64) -> bool {
    let (Outcome::Failed(_), Some(first_byte)) = (answer.outcome(), answer.seen.first_byte) else { return false };
    let after_ns = first_byte.ns_since(write_start);
    let too_soon = || after_ns <= connect_ns.clamp(DECIDED_BEFORE_NS, MOST_NS) as i64;
    after_ns <= 0 || (answer.seen.status == REQUEST_TIMEOUT && closes && too_soon())
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
        };
        let mut answer = Answer::new(options);
        answer.push(bytes.as_bytes(), Tick(at));
        answer.push_eof(Tick(at));
        answer
    }

    #[test]
    fn only_what_cannot_be_an_answer_is_unasked() {
        let status = |status: u16| format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let unasked = |status_code, first, connect_ns| {
            is_unsolicited(&answered(&status(status_code), first), Tick(S), true, connect_ns)
        };
        assert!(unasked(408, S, 0) && unasked(500, S, 0), "before the request");
        assert!(unasked(408, S + 14_000, 0) && !unasked(500, S + 14_000, 0));
        assert!(!unasked(408, S + 20 * MS, MS) && unasked(408, S + 20 * MS, 30 * MS) && !unasked(408, 9 * S, 9 * S));
        assert!(!is_unsolicited(&answered(&status(408), S + 14_000), Tick(S), false, 0), "the connection goes on");
        let good = "HTTP/1.1 200 OK\r\nContent-Length: 72\r\n\r\n{\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}         ";
        assert_eq!(answered(good, S).outcome(), Outcome::Ok);
        assert!(!is_unsolicited(&answered(good, S), Tick(S), true, 0), "a good answer is one");
    }
}
