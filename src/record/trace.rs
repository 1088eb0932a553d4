//! Requests and responses as text, for `--debug`: what was sent, and every line that came back.

use super::{Block, Outcome, Phase, RequestRecord};

/// Longest piece shown of one body or line, bytes.
const SHOWN_BYTES: usize = 4096;

/// The lines that tell of one finished request, whose JSON body was `body`.
pub fn lines(record: &RequestRecord, block: &Block, body: &[u8]) -> Vec<String> {
    let phase = match record.phase {
        Phase::Preflight => "connection test",
        Phase::Warmup => "warm-up",
        Phase::Measured => "request",
        Phase::Witness => "witness",
    };
    let name = format!("{phase} {}", record.index);
    let mut lines = vec![format!("{name} sent: {}", shown(body))];
    let raw = record.raw.of(&block.bytes);
    let events = raw.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.extend(events.filter(|line| !line.is_empty()).map(|line| format!("{name} received: {}", shown(line))));
    let error = record.error.of(&block.bytes);
    lines.push(match record.outcome {
        Outcome::Ok => format!("{name} ended: status {}, ok", record.status),
        Outcome::Failed(failure) => {
            format!("{name} ended: status {}, {}: {}", record.status, failure.name(), shown(error))
        }
        Outcome::Unfinished => format!("{name} ended: unfinished"),
    });
    lines
}

fn shown(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN_BYTES {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    format!("{}... ({} bytes)", String::from_utf8_lossy(&bytes[..SHOWN_BYTES]), bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Failure;

    #[test]
    fn what_was_sent_and_every_line_that_came_are_told() {
        let mut block = Block::new(0);
        let raw = block.keep_bytes(b"data: {\"a\":1}\r\n\r\ndata: [DONE]\n\n");
        let record = RequestRecord { index: 3, status: 200, outcome: Outcome::Ok, raw, ..RequestRecord::default() };
        let told = lines(&record, &block, b"{\"model\":\"m\"}");
        assert_eq!(
            told,
            [
                "request 3 sent: {\"model\":\"m\"}",
                "request 3 received: data: {\"a\":1}",
                "request 3 received: data: [DONE]",
                "request 3 ended: status 200, ok"
            ]
        );
    }

    #[test]
    fn long_bodies_are_cut_and_failures_named() {
        let block = Block::new(0);
        let outcome = Outcome::Failed(Failure::Connect);
        let told = lines(&RequestRecord { outcome, ..RequestRecord::default() }, &block, &[b'x'; 5000]);
        assert!(told[0].ends_with("x... (5000 bytes)"), "{}", told[0]);
        assert_eq!(told[1], "request 0 ended: status 0, connect: ");
    }
}
