//! Routes a request: most paths get a whole response at once, generating endpoints a timed one.

use super::connection::Request;
use super::http::{self, Refusal, Route};
use super::request_body::{self, RequestParams};
use super::shared::Shared;
use super::truth;

const JSON: &str = "application/json";

/// How a request is answered.
pub(super) enum Reply {
    Whole(WholeResponse),
    /// By an [`Exchange`](super::exchange::Exchange).
    Generate(RequestParams),
}

/// A response that is sent at once.
pub(super) struct WholeResponse {
    pub(super) bytes: Vec<u8>,
    /// The connection stays open.
    pub(super) keep: bool,
    /// The request was rejected.
    pub(super) refused: bool,
}

/// Routes a request.
pub(super) fn reply_to(shared: &Shared, request: &Request) -> Reply {
    let keep = request.head.keep_alive;
    let ok =
        |kind: &str, body: &[u8]| WholeResponse { bytes: http::whole(200, kind, body, !keep), keep, refused: false };
    Reply::Whole(match &request.head.route {
        Route::Generate(endpoint) => match request_body::parse(*endpoint, &request.body, request.head.sse) {
            Ok(params) => return Reply::Generate(params),
            Err(message) => error(400, &message, keep),
        },
        Route::Models => {
            let model = serde_json::json!({
                "id": shared.config.model, "object": "model", "created": shared.created_s,
                "owned_by": "ringmark", "max_model_len": 1 << 20,
            });
            ok(JSON, serde_json::json!({"object": "list", "data": [model]}).to_string().as_bytes())
        }
        Route::Health => ok(JSON, b""),
        Route::Metrics => ok("text/plain; version=0.0.4; charset=utf-8", &shared.metrics_page()),
        Route::Truth => ok(JSON, &truth::page(&shared.stats(), &shared.truths())),
        Route::TruthReset => {
            shared.reset();
            ok(JSON, b"{}")
        }
        Route::WrongMethod => error(405, "Method Not Allowed", keep),
        Route::Unknown(path) => error(404, &format!("no such path: {path}"), keep),
    })
}

/// The response to a request that cannot be parsed.
pub(super) fn reply_to_refusal(refusal: &Refusal) -> WholeResponse {
    error(refusal.status, &refusal.message, false)
}

fn error(status: u16, message: &str, keep: bool) -> WholeResponse {
    let body = http::error_json(status, message);
    WholeResponse { bytes: http::whole(status, JSON, &body, !keep), keep, refused: true }
}
