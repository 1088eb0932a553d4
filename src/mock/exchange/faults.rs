//! The steps that inject faults.

use super::{Ending, Exchange, Next, Step};
use crate::mock::config::{CloseStyle, Config};
use crate::mock::fault::FaultKind;
use crate::mock::http::{self, BodyFraming, HeadOptions};
use crate::mock::request_body::Endpoint;

impl Exchange {
    /// Injects a fault that replaces the response.
    pub(super) fn immediate(&mut self, config: &Config, out: &mut Vec<u8>) -> Step {
        let mut next = Next::End(Ending::Close);
        let mut head = false;
        match self.fault {
            Some(FaultKind::Status { code, retry_after_s }) => {
                let body = http::error_json(code, "this request failed because of an injected fault");
                let framing = BodyFraming::Length(body.len());
                let announce_close = !self.keep || config.close == CloseStyle::Announce;
                let options = HeadOptions { framing, announce_close, promise_keep_alive: false, retry_after_s };
                http::write_head(out, code, "application/json", options);
                out.extend_from_slice(&body);
                self.truth.status = code;
                head = true;
                next = Next::End(if announce_close { Ending::Close } else { Ending::Keep });
            }
            Some(FaultKind::Garbage) => {
                out.extend_from_slice(b"\x16\x03\x01\x02\x00 this is not HTTP\r\n\r\n\x00\xff\xfe")
            }
            _ => {}
        }
        Step { head, next }
    }

    /// Injects the fault in the middle of a stream.
    pub(super) fn midway(&mut self, config: &Config, out: &mut Vec<u8>) -> Step {
        let next = match self.fault {
            Some(FaultKind::Reset) => Next::End(Ending::Reset),
            Some(FaultKind::Hang) => Next::Silence,
            Some(FaultKind::CleanTruncate) => {
                http::write_end(out, self.framing);
                Next::End(self.ending(config))
            }
            Some(FaultKind::InStreamError) => {
                let error = http::error_json(500, "the engine died: this is an injected fault");
                self.piece(out, |this, event| {
                    if matches!(this.params.endpoint, Endpoint::Messages | Endpoint::DashScope) {
                        event.extend_from_slice(b"event: error\n");
                    }
                    event.extend_from_slice(b"data: ");
                    event.extend_from_slice(&error);
                    event.extend_from_slice(b"\n\n");
                });
                self.done(config, out);
                http::write_end(out, self.framing);
                Next::End(self.ending(config))
            }
            Some(FaultKind::MalformedEvent) => {
                self.piece(out, |this, event| this.shape.malformed(event));
                Next::Step
            }
            Some(FaultKind::Stall { ns }) => {
                self.due_ns = self.due_ns.saturating_add(ns);
                Next::Step
            }
            Some(FaultKind::HugeEvent { bytes }) => {
                self.piece(out, |this, event| this.shape.huge(event, this.params.endpoint, bytes));
                Next::Step
            }
            _ => Next::End(Ending::Close),
        };
        Step { head: false, next }
    }

    /// What follows the first half of a JSON response.
    pub(super) fn broken_end(&self, config: &Config) -> Next {
        match self.fault {
            Some(FaultKind::Reset) => Next::End(Ending::Reset),
            Some(FaultKind::Truncate) => Next::End(Ending::Close),
            Some(FaultKind::Hang) => Next::Silence,
            _ => Next::End(self.ending(config)),
        }
    }
}

impl FaultKind {
    /// Whether the fault is injected in the middle of a stream.
    pub(super) fn is_midway(self) -> bool {
        !matches!(
            self,
            FaultKind::Status { .. }
                | FaultKind::Garbage
                | FaultKind::Empty
                | FaultKind::CloseBeforeResponse
                | FaultKind::SlowHead { .. }
        )
    }

    /// Whether the response still reaches its regular end.
    pub(super) fn is_survivable(self) -> bool {
        matches!(
            self,
            FaultKind::SlowHead { .. }
                | FaultKind::Stall { .. }
                | FaultKind::MalformedEvent
                | FaultKind::HugeEvent { .. }
                | FaultKind::Empty
        )
    }
}
