//! Detects and masks secrets in texts, JSON, URLs and headers.

use serde_json::Value;

/// The replacement for a secret.
pub(crate) const MASK: &str = "****";

/// The secrets of a call; [`mask`] replaces them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// All secrets. Masked in texts from the server, which may quote them.
    pub all: Vec<String>,
    /// The secrets that request bodies contain.
    pub bodies: Vec<String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

/// Replaces every secret in `text` with [`MASK`].
pub(crate) fn mask(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_string(), |text, secret| text.replace(secret.as_str(), MASK))
}

/// Whether the value of a header or query parameter with this name is a secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "key", "token", "secret", "cookie", "password", "credential"].iter().any(|word| name.contains(word))
}

/// A JSON member whose name contains one of these is a secret. `token` is not in the list because of `max_tokens`.
const SECRET_PARTS: [&str; 8] =
    ["api_key", "apikey", "secret", "password", "passwd", "authorization", "credential", "private_key"];
/// A JSON member with one of these names is a secret.
const SECRET_NAMES: [&str; 3] = ["token", "auth", "access_key"];
/// `<owner>_token` is a secret for these owners. Others, such as `eos_token`, are not.
const SECRET_TOKEN_OWNERS: [&str; 9] = ["access", "api", "auth", "bearer", "hf", "id", "refresh", "session", "user"];

/// Whether the value of a JSON member with this name is a secret.
fn is_secret_member(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let token_of = name.strip_suffix("_token").map(|owner| owner.rsplit('_').next().unwrap_or(owner).to_string());
    SECRET_NAMES.contains(&name.as_str())
        || SECRET_PARTS.iter().any(|part| name.contains(part))
        || token_of.is_some_and(|owner| SECRET_TOKEN_OWNERS.contains(&owner.as_str()))
}

/// The string values of all secret members of a JSON text; empty if it is not JSON.
pub(crate) fn in_json(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(mut value) = serde_json::from_str(text) {
        walk(&mut value, false, &mut |secret| found.extend(secret.as_str().map(str::to_string)));
    }
    found
}

/// A JSON text with the values of its secret members masked; unchanged if it has none or is not JSON.
pub(crate) fn masked_json(text: &str) -> String {
    let Ok(mut value) = serde_json::from_str(text) else { return text.to_string() };
    let mut any = false;
    walk(&mut value, false, &mut |secret| {
        *secret = Value::String(MASK.to_string());
        any = true;
    });
    if any { value.to_string() } else { text.to_string() }
}

/// Calls `take` with every string and number in a secret member.
fn walk(value: &mut Value, secret: bool, take: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Object(members) => {
            members.iter_mut().for_each(|(name, member)| walk(member, secret || is_secret_member(name), take));
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| walk(element, secret, take)),
        Value::String(_) | Value::Number(_) if secret => take(value),
        _ => {}
    }
}

/// The range of `user:password` in a URL.
fn user_part(url: &str) -> Option<std::ops::Range<usize>> {
    if url.starts_with("unix:") || url.starts_with("mock:") {
        return None;
    }
    let start = url.find("//").map_or(0, |at| at + 2);
    let rest = &url[start..];
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let length = rest[..end].rfind('@').or_else(|| {
        // An unencoded slash can belong to the password; then the text before it is not host and port.
        let (_, port) = rest[..end].split_once(':')?;
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        let before_query = rest.find(['?', '#']).unwrap_or(rest.len());
        rest[..before_query].rfind('@').filter(|_| !is_port)
    })?;
    Some(start..start + length)
}

/// A URL with its user and password masked.
fn without_user(url: &str) -> String {
    match user_part(url) {
        Some(part) => format!("{}{MASK}{}", &url[..part.start], &url[part.end..]),
        None => url.to_string(),
    }
}

/// The secrets in the user part of a URL: `user:password`, and the password alone.
fn user_secrets(url: &str) -> Vec<String> {
    let Some(user) = user_part(url).map(|part| &url[part]) else { return Vec::new() };
    let password = user.split_once(':').map(|(_, password)| password.to_string());
    std::iter::once(user.to_string()).chain(password).collect()
}

/// A URL with user, password and the values of secret query parameters masked.
pub(crate) fn masked_url(url: &str) -> String {
    let url = &without_user(url);
    let Some((path, query)) = url.split_once('?').filter(|_| !is_mock(url)) else { return url.to_string() };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret_name(name) => format!("{name}={MASK}"),
        _ => pair.to_string(),
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// The secrets of a URL: user, password and the values of secret query parameters.
pub(crate) fn in_url(url: &str) -> Vec<String> {
    let query = url.split_once('?').filter(|_| !is_mock(url)).map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let values = pairs.filter(|(name, _)| is_secret_name(name)).map(|(_, value)| value.to_string());
    values.chain(user_secrets(url)).collect()
}

/// A proxy URL with its user and password masked.
pub(crate) fn masked_proxy(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    match text.rfind('@').filter(|at| *at >= start) {
        Some(at) => format!("{}{MASK}{}", &text[..start], &text[at..]),
        None => text.to_string(),
    }
}

/// `mock:` URLs have no secrets: their `tokens=100` is a count.
fn is_mock(url: &str) -> bool {
    url.starts_with("mock:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_names_are_distinguished_from_counts() {
        for name in
            ["api_key", "API-Key", "x_api_key", "token", "access_token", "hf-token", "secret", "Password", "auth"]
        {
            assert!(is_secret_member(name), "{name}");
        }
        for name in ["max_tokens", "eos_token", "stop_token_ids", "tokens", "key", "author", "logprobs"] {
            assert!(!is_secret_member(name), "{name}");
        }
    }

    #[test]
    fn nested_json_members_are_masked() {
        let text = r#"{"max_tokens":5,"a":[{"api_key":"SECRET"}],"auth":{"user":"me","pin":1234}}"#;
        assert_eq!(in_json(text), ["SECRET", "me"]);
        let masked: Value = serde_json::from_str(&masked_json(text)).unwrap();
        let expected = serde_json::json!({
            "max_tokens": 5, "a": [{"api_key": MASK}], "auth": {"user": MASK, "pin": MASK}
        });
        assert_eq!(masked, expected);
        assert_eq!(masked_json(r#"{ "x": 1 }"#), r#"{ "x": 1 }"#);
        assert_eq!(masked_json("{"), "{");
    }

    #[test]
    fn the_user_part_of_a_url_is_masked() {
        for (url, masked) in [
            ("http://user:PASSW0RD@h:1/v1", "http://****@h:1/v1"),
            ("user:pw@h/v1", "****@h/v1"),
            ("http://u:a/b@h/v1?x=a@b", "http://****@h/v1?x=a@b"),
            ("http://h/v1?mail=a@b", "http://h/v1?mail=a@b"),
            ("http://h/@x/v1", "http://h/@x/v1"),
            ("http://h:80/@x/v1", "http://h:80/@x/v1"),
            ("unix:/run/a@b.sock:/v1", "unix:/run/a@b.sock:/v1"),
            ("mock:?tokens=3", "mock:?tokens=3"),
        ] {
            assert_eq!(without_user(url), masked);
        }
        assert_eq!(user_secrets("http://user:PASSW0RD@h"), ["user:PASSW0RD", "PASSW0RD"]);
    }

    #[test]
    fn secret_query_parameters_are_masked() {
        let url = "http://h/v1?api_key=SECRET&x=1";
        assert_eq!(
            (masked_url(url).as_str(), in_url(url)),
            ("http://h/v1?api_key=****&x=1", vec!["SECRET".to_string()])
        );
        assert_eq!(masked_url("mock:?tokens=100"), "mock:?tokens=100");
        assert!(in_url("mock:?tokens=100").is_empty());
        assert_eq!(masked_proxy("http://me:hidden@h:3128"), "http://****@h:3128");
    }
}
