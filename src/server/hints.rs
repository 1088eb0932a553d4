//! What the user can do about a server that refuses connections or requests, for error messages.

use crate::plan::{Target, Transport};
use crate::spec::names::nearest_endpoint;

/// Headers with a key of the user, in lower case.
const KEY_HEADERS: [&str; 3] = ["authorization", "x-api-key", "api-key"];

/// The question whether the target runs, with its address or that of the proxy.
pub(crate) fn about_refusal(target: &Target) -> String {
    let (host, port) = target.peer();
    match (&target.transport, &target.proxy) {
        (Transport::Unix(path), _) => format!("is the server running at {}?", path.display()),
        (Transport::Tcp(_), Some(_)) => format!("is the proxy running at {host}:{port}?"),
        (Transport::Tcp(_), None) => format!("is the server running at {host}:{port}?"),
    }
}

/// What a status says about the flags of a call; `None` if it says nothing. `header_names` are those of the request.
pub(crate) fn about_status<'a>(
    status: u16,
    target: &Target,
    mut header_names: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let is_key = |name: &str| KEY_HEADERS.iter().any(|header| name.eq_ignore_ascii_case(header));
    match status {
        401 | 403 if header_names.any(is_key) => Some("the server refused the given key: check --api-key".to_string()),
        401 | 403 => Some("the server requires a key: give --api-key KEY".to_string()),
        404 | 405 => {
            let path = target.path.split('?').next().unwrap_or_default();
            nearest_endpoint(path).map(|endpoint| format!("check the path of --url: did you mean {endpoint}?"))
        }
        407 => target.proxy.as_ref().map(|proxy| {
            let wrong = match proxy.credentials {
                Some(_) => "the proxy refused the given user and password",
                None => "the proxy requires a user and password",
            };
            format!("{wrong}; give them in --proxy, as USER:PASSWORD@HOST:PORT")
        }),
        _ => None,
    }
}
