//! Building blocks of hand-written responses.

use ringmark::record::{Failure, Outcome};

use super::{CHAT, read_every_way};

/// A chunked response with one chunk per piece.
pub fn chunked(pieces: &[&str]) -> Vec<u8> {
    let mut response =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in pieces {
        response.extend_from_slice(format!("{:X};ext=1\r\n{piece}\r\n", piece.len()).as_bytes());
    }
    response.extend_from_slice(b"0\r\nX-Trailer: yes\r\n\r\n");
    response
}

pub fn with_length(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub const A: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
pub const B: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\u8a9e\\n\"},\"finish_reason\":null}]}\n\n";
pub const THOUGHT: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"},\"finish_reason\":null}]}\n\n";
pub const CALL: &str =
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\"}}]}}]}\n\n";
pub const ROLE: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
pub const STOP: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub const LENGTH: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"length\"}]}\n\n";
pub const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";
pub const RUNNING: &str =
    "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"completion_tokens\":1}}\n\n";
pub const ROLE_USAGE: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":{\"completion_tokens\":0}}\n\n";
pub const DONE: &str = "data: [DONE]\n\n";

/// Outcome, events, outputs, and text of a response, parsed in every way.
pub fn judged(name: &str, bytes: &[u8]) -> (Outcome, u32, usize, String) {
    let seen = read_every_way(name, bytes, CHAT);
    (seen.outcome, seen.events, seen.outputs, seen.text)
}

pub fn failed(failure: Failure, events: u32, outputs: usize, text: &str) -> (Outcome, u32, usize, String) {
    (Outcome::Failed(failure), events, outputs, text.to_string())
}

pub fn good(events: u32, outputs: usize, text: &str) -> (Outcome, u32, usize, String) {
    (Outcome::Ok, events, outputs, text.to_string())
}
