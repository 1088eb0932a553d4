//! What is answered at once, and what begins a script.

use super::{EventLoop, Place, Verdict};
use crate::mock::asked;
use crate::mock::connection::{Connection, Request, Sent};
use crate::mock::exchange::Ending;
use crate::mock::http::{self, Route};
use crate::mock::truth;

impl EventLoop {
    /// Answers a request, or begins to.
    pub(super) fn begin(&mut self, connection: &mut Connection, place: Place, request: Request) -> Verdict {
        let keep = request.head.keep_alive;
        let json = "application/json";
        match &request.head.route {
            Route::Generate(endpoint) => match asked::read(*endpoint, &request.body, request.head.sse) {
                Ok(asked) => self.begin_exchange(connection, place, &request, asked),
                Err(message) => {
                    let body = http::error_json(400, &message);
                    self.refuse(connection, http::whole(400, json, &body, !keep), keep)
                }
            },
            Route::Models => {
                let model = serde_json::json!({
                    "id": self.shared.config.model, "object": "model", "created": self.shared.created_s,
                    "owned_by": "ringmark", "max_model_len": 1 << 20,
                });
                let body = serde_json::json!({"object": "list", "data": [model]}).to_string();
                self.reply(connection, http::whole(200, json, body.as_bytes(), !keep), keep)
            }
            Route::Health => self.reply(connection, http::whole(200, json, b"", !keep), keep),
            Route::Metrics => {
                let page = self.shared.metrics();
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                self.reply(connection, http::whole(200, kind, &page, !keep), keep)
            }
            Route::Truth => {
                let page = truth::page(&self.shared.stats(), &self.shared.truths());
                self.reply(connection, http::whole(200, json, &page, !keep), keep)
            }
            Route::TruthReset => {
                self.shared.reset();
                self.reply(connection, http::whole(200, json, b"{}", !keep), keep)
            }
            Route::WrongMethod => {
                let body = http::error_json(405, "Method Not Allowed");
                self.refuse(connection, http::whole(405, json, &body, !keep), keep)
            }
            Route::Unknown(path) => {
                let body = http::error_json(404, &format!("no such path: {path}"));
                self.refuse(connection, http::whole(404, json, &body, !keep), keep)
            }
        }
    }

    /// Answers a request that is not served.
    pub(super) fn refuse(&mut self, connection: &mut Connection, response: Vec<u8>, keep: bool) -> Verdict {
        self.share().tally.refused.add(1);
        self.reply(connection, response, keep)
    }

    /// Sends a whole response at once.
    fn reply(&mut self, connection: &mut Connection, response: Vec<u8>, keep: bool) -> Verdict {
        connection.ending = Some(if keep { Ending::Keep } else { Ending::Close });
        match connection.send(&response) {
            Sent::Gone => Verdict::Close,
            Sent::Blocked => Verdict::Keep,
            Sent::All => self.end_if_sent(connection),
        }
    }
}
