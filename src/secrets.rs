//! Detects and masks secrets in texts, JSON, URLs and headers.

use std::borrow::Cow;

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

impl Secrets {
    /// The secrets that look generated. Only these are overwritten in answers, where a word such as the key `EMPTY` may be
    /// text of the model.
    pub(crate) fn generated(&self) -> Vec<String> {
        self.all.iter().filter(|secret| looks_random(secret)).cloned().collect()
    }
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

/// `bytes` with every secret overwritten by asterisks. The length stays, because spans refer to it.
pub(crate) fn overwritten<'a>(bytes: &'a [u8], secrets: &[String]) -> Cow<'a, [u8]> {
    let mut out = Cow::Borrowed(bytes);
    for secret in secrets {
        for at in memchr::memmem::find_iter(bytes, secret.as_bytes()) {
            out.to_mut()[at..at + secret.len()].fill(b'*');
        }
    }
    out
}

/// The name of a header, query parameter or JSON member in lower case, its words separated by underscores: `x-api-key`,
/// `xApiKey`, `X_API_KEY` and `XApiKey` are one name.
fn words(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 4);
    for (place, &c) in characters.iter().enumerate() {
        let before = place.checked_sub(1).map(|before| characters[before]);
        let ends_acronym = characters.get(place + 1).is_some_and(|next| next.is_lowercase());
        let begins_word = c.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase() || before.is_ascii_digit() || (before.is_uppercase() && ends_acronym)
            });
        if begins_word {
            out.push('_');
        }
        match c {
            '-' | '.' | ' ' => out.push('_'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// A name that contains one of these names a secret. `token` is not in the list because of `max_tokens`.
const SECRET_PARTS: [&str; 13] = [
    "access_key",
    "accesskey",
    "api_key",
    "apikey",
    "authorization",
    "credential",
    "jwt",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "secret",
    "x_amz_",
];
/// These names name secrets.
const SECRET_NAMES: [&str; 4] = ["auth", "cookie", "pass", "token"];
/// A name whose last word is one of these names a secret.
const SECRET_LAST_WORDS: [&str; 5] = ["bearer", "pat", "pwd", "sig", "signature"];
/// `<owner>_token`, `<owner>_code` and `<owner>_pass` are secrets for these owners. Others, such as `eos_token`,
/// `language_code` and `first_pass`, are not.
const SECRET_OWNERS: [&str; 15] = [
    "access", "api", "auth", "bearer", "db", "device", "github", "gitlab", "hf", "id", "login", "refresh", "security",
    "session", "user",
];
/// A header or query parameter whose name contains one of these is a secret.
const SECRET_PARTS_OF_PARAMETERS: [&str; 7] = ["auth", "key", "token", "secret", "cookie", "password", "credential"];
/// Words that contain one of the former by chance.
const HARMLESS_WORDS: [&str; 7] = ["author", "authors", "keyword", "keywords", "tokenizer", "tokenizers", "tokens"];
/// Environment variables whose names contain one of these have secrets in their values: the path of a webhook is one, and
/// connection strings have passwords in many notations.
const SECRET_PARTS_OF_VARIABLES: [&str; 7] =
    ["connection_string", "database_url", "db_url", "dsn", "passphrase", "passwd", "webhook"];

/// Whether the value of a header or query parameter with this name is a secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = words(name);
    let rest: String = name.split('_').filter(|word| !HARMLESS_WORDS.contains(word)).collect();
    name == "code" || names_secret(&name) || SECRET_PARTS_OF_PARAMETERS.iter().any(|part| rest.contains(part))
}

/// Whether the value of an environment variable is a secret or contains one: by its name, as a URL with a user or a secret
/// parameter, or as a key that a service generated.
pub(crate) fn is_secret_variable(name: &str, value: &str) -> bool {
    let named = words(name);
    is_secret_name(name)
        || SECRET_PARTS_OF_VARIABLES.iter().any(|part| named.contains(part))
        || has_secret(value)
        // Proxies are also given without a scheme.
        || (named.ends_with("proxy") && masked_proxy(value) != value)
}

/// Whether there is a secret in a value. Paths can have `//` and `@`, so only a scheme makes a URL.
fn has_secret(value: &str) -> bool {
    let in_url = value.contains("://") && masked_text(value) != value;
    in_url || !named_values(value).is_empty() || !keys(value).is_empty()
}

/// Whether the value of a JSON member with this name is a secret, whatever it is. `name` is the output of [`words`].
fn names_secret(name: &str) -> bool {
    let (owners, last) = name.rsplit_once('_').unwrap_or(("", name));
    let owner = owners.rsplit('_').next().unwrap_or(owners);
    SECRET_NAMES.contains(&name)
        || SECRET_PARTS.iter().any(|part| name.contains(part))
        || SECRET_LAST_WORDS.contains(&last)
        || (matches!(last, "token" | "code" | "pass") && SECRET_OWNERS.contains(&owner))
}

/// Whether a JSON member is a secret. A `code` is one only if it looks like one: it can also be an error code, a country, or
/// a program.
fn is_secret_member(name: &str, value: &Value) -> bool {
    let name = words(name);
    names_secret(&name) || (name == "code" && value.as_str().is_some_and(looks_random))
}

/// Whether the text looks like a generated secret: one long word of letters and digits.
fn looks_random(text: &str) -> bool {
    const SHORTEST: usize = 16;
    let has = |is: fn(&u8) -> bool| text.bytes().any(|byte| is(&byte));
    text.len() >= SHORTEST
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
}

/// The string values of all secret members of a JSON text; empty if it is not JSON.
pub(crate) fn in_json(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(mut value) = serde_json::from_str(text) {
        walk(&mut value, false, &mut |secret| found.extend(secret.as_str().map(str::to_string)));
    }
    found
}

/// The secrets in the arguments of a program: the values of flags such as `--api-key KEY` and `--api-key=KEY`.
pub(crate) fn in_arguments(arguments: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = arguments.iter().map(String::as_str).peekable();
    while let Some(argument) = rest.next() {
        let Some(flag) = argument.strip_prefix('-') else { continue };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        if names_secret(&words(name.trim_start_matches('-'))) {
            // A flag without a value is followed by another one.
            let value = value.or_else(|| rest.next_if(|next| !next.starts_with("--")));
            found.extend(value.map(str::to_string));
        }
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
            members.iter_mut().for_each(|(name, member)| {
                let secret = secret || is_secret_member(name, member);
                walk(member, secret, take);
            });
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

/// The secrets of a URL: user, password and the values of secret query parameters, as written and decoded.
pub(crate) fn in_url(url: &str) -> Vec<String> {
    let query = url.split_once('?').filter(|_| !is_mock(url)).map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let values = pairs.filter(|(name, _)| is_secret_name(name)).map(|(_, value)| value.to_string());
    let found: Vec<String> = values.chain(user_secrets(url)).collect();
    let decoded: Vec<String> = found.iter().filter_map(|secret| percent_decoded(secret)).collect();
    [found, decoded].concat()
}

/// The text with its percent escapes decoded, as a server repeats it; `None` if it has none that are valid.
fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, behind @ ..] = rest {
        let hex = behind.get(..2).filter(|_| *byte == b'%').and_then(|hex| str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                rest = &behind[2..];
            }
            None => {
                out.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8(out).ok().filter(|decoded| decoded != text)
}

/// A proxy URL with its user and password masked.
pub(crate) fn masked_proxy(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    match text.rfind('@').filter(|at| *at >= start) {
        Some(at) => format!("{}{MASK}{}", &text[..start], &text[at..]),
        None => text.to_string(),
    }
}

/// A text from elsewhere (a server, a proxy, a program) with the given secrets masked, and with everything in it that is a
/// secret by itself: see [`masked_text`].
pub(crate) fn mask_foreign(text: &str, secrets: &[String]) -> String {
    masked_text(&mask(text, secrets))
}

/// A text with what looks like a secret masked: the user part of URLs, the values of secret names (`sig=x`,
/// `"api_key": "x"`), credentials of the schemes Bearer and Basic, and keys with a known prefix.
fn masked_text(text: &str) -> String {
    let mut found = user_parts(text);
    found.extend(named_values(text));
    found.extend(keys(text));
    found.sort_unstable_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for range in found {
        if range.end <= done {
            continue;
        }
        if range.start >= done {
            out.push_str(&text[done..range.start]);
            out.push_str(MASK);
        }
        done = range.end;
    }
    out + &text[done..]
}

/// What ends a URL or a value in a text.
fn ends_value(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '\\')
}

/// The length of the text before the first such character.
fn length_until(text: &str, ends: impl Fn(char) -> bool) -> usize {
    text.find(ends).unwrap_or(text.len())
}

/// The user parts of all URLs in a text.
fn user_parts(text: &str) -> Vec<std::ops::Range<usize>> {
    let part = |(at, _): (usize, &str)| {
        let url = &text[at..at + length_until(&text[at..], ends_value)];
        user_part(url).map(|part| at + part.start..at + part.end).filter(|part| !part.is_empty())
    };
    text.match_indices("//").filter_map(part).collect()
}

/// The values of all pairs in a text whose names are those of secrets.
fn named_values(text: &str) -> Vec<std::ops::Range<usize>> {
    text.match_indices(['=', ':']).filter_map(|(at, sign)| named_value(text, at, sign == "=")).collect()
}

/// The secret value behind the sign at `at`. In a query, the rules of URLs apply. Elsewhere counts, such as `token=5`, and
/// words, such as `unexpected token: end`, stay.
fn named_value(text: &str, at: usize, is_equals: bool) -> Option<std::ops::Range<usize>> {
    let is_quote = |c: char| matches!(c, '"' | '\'' | '\\');
    let before = text[..at].trim_end_matches(' ');
    let name_end = before.trim_end_matches(is_quote);
    let quoted = name_end.len() < before.len();
    let (head, name) = name_end.split_at(name_end.trim_end_matches(is_in_name).len());
    let in_query = is_equals && head.ends_with(['?', '&', '#']);
    let start = at + 1 + (text[at + 1..].len() - text[at + 1..].trim_start_matches(' ').len());
    let start = start + (text[start..].len() - text[start..].trim_start_matches(is_quote).len());
    let in_quotes = text[..start].ends_with(is_quote);
    let rest = &text[start..];
    let length = match in_quotes {
        true => length_until(rest, |c| is_quote(c) || c == '\n'),
        false => value_length(rest),
    };
    let value = &rest[..length];
    let is_word = matches!(value.to_ascii_lowercase().as_str(), "" | MASK | "true" | "false" | "none" | "null")
        || value.ends_with("...");
    let name = words(name);
    let is_secret = if in_query {
        is_secret_name(&name)
    } else if is_equals || quoted {
        let is_count = matches!(name.as_str(), "token" | "pass") && value.bytes().all(|byte| byte.is_ascii_digit());
        (names_secret(&name) && !is_count) || (name == "code" && looks_random(value))
    } else {
        names_secret(&name) && (looks_random(value) || name.contains("authorization") || name.ends_with("password"))
    };
    (is_secret && !is_word).then_some(start..start + length)
}

/// The length of a value without quotes. The name of a scheme belongs to the credentials behind it.
fn value_length(rest: &str) -> usize {
    let ends = |c: char| ends_value(c) || matches!(c, '&' | ',' | ';' | ')' | ']' | '}' | '#');
    let length = length_until(rest, ends);
    let is_scheme = ["bearer", "basic"].contains(&rest[..length].to_ascii_lowercase().as_str());
    match rest[length..].strip_prefix(' ').filter(|_| is_scheme) {
        Some(credentials) => length + 1 + length_until(credentials, ends),
        None => length,
    }
}

fn is_in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// The beginnings of keys that services generate.
const KEY_PREFIXES: [&str; 10] =
    ["sk-", "sk_", "hf_", "ghp_", "github_pat_", "glpat-", "nvapi-", "gsk_", "AIza", "eyJ"];

/// The keys and credentials in a text that need no name: `sk-...` and `Bearer ...`.
fn keys(text: &str) -> Vec<std::ops::Range<usize>> {
    const SHORTEST: usize = 12;
    let mut found = Vec::new();
    let (mut at, mut after_scheme) = (0, false);
    while at < text.len() {
        let length = length_until(&text[at..], |c| !is_in_name(c));
        let word = text[at..at + length].trim_end_matches('.');
        let random = word.len() >= SHORTEST
            && word.bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
            && word.bytes().any(|byte| byte.is_ascii_alphabetic());
        if random && (after_scheme || KEY_PREFIXES.iter().any(|prefix| word.starts_with(prefix))) {
            found.push(at..at + word.len());
        }
        if length > 0 {
            after_scheme = word.eq_ignore_ascii_case("bearer");
        }
        at += length;
        at += text[at..].chars().next().map_or(0, char::len_utf8);
    }
    found
}

/// `mock:` URLs have no secrets: their `tokens=100` is a count.
fn is_mock(url: &str) -> bool {
    url.starts_with("mock:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_programs_have_secrets() {
        let found = |line: &str| in_arguments(&line.split(' ').map(str::to_string).collect::<Vec<_>>());
        assert_eq!(found("--api-key k1 --port 80 --hf-token=k2 -token k3 --auth"), ["k1", "k2", "k3"]);
        assert!(
            found("--max-num-batched-tokens 8192 --tokenizer t --ssl-keyfile f --api-key --port 80 key").is_empty()
        );
    }

    #[test]
    fn secret_names_are_distinguished_from_counts() {
        for name in [
            "api_key",
            "API-Key",
            "x_api_key",
            "apiKey",
            "APIKey",
            "xApiKey",
            "token",
            "access_token",
            "accessToken",
            "hf-token",
            "secret",
            "clientSecret",
            "Password",
            "auth",
            "sig",
            "signature",
            "requestSignature",
            "jwt",
            "idJwt",
            "pwd",
            "userPwd",
            "pass",
            "dbPass",
            "bearer",
            "pat",
            "githubPat",
            "X-Amz-Signature",
            "x-amz-credential",
            "X-Amz-Security-Token",
            "accessKeyId",
            "authCode",
            "privateKey",
            "cookie",
        ] {
            assert!(names_secret(&words(name)), "{name}");
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "max_tokens",
            "maxTokens",
            "eos_token",
            "eosToken",
            "stop_token_ids",
            "tokens",
            "key",
            "author",
            "logprobs",
            "top_p",
            "pattern",
            "passages",
            "passage",
            "first_pass",
            "pass_through",
            "path",
            "compat",
            "encode",
            "language_code",
            "barcode",
            "design",
            "signal",
            "bearing",
            "assignature_id",
        ] {
            assert!(!names_secret(&words(name)), "{name}");
        }
        for name in [
            "max_tokens",
            "maxTokens",
            "top_p",
            "pattern",
            "passages",
            "author",
            "keywords",
            "country_code",
            "version",
            "model",
            "stream",
            "api-version",
            "path",
            "signal",
            "encoding",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
        assert!(is_secret_name("code") && is_secret_name("sessionkey") && is_secret_name("subscription-key"));
    }

    #[test]
    fn variables_with_secrets_are_found_by_name_and_by_value() {
        for (name, value) in [
            ("HF_TOKEN", "x"),
            ("OPENAI_API_KEY", "x"),
            ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T0/B0/x"),
            ("SENTRY_DSN", "x"),
            ("DATABASE_URL", "postgres:///x"),
            ("BACKEND", "postgres://me:pw@db/x"),
            ("HTTP_PROXY", "http://me:pw@proxy:3128"),
            ("https_proxy", "me:pw@proxy:3128"),
            ("STORE", "https://s3/x?X-Amz-Signature=abc"),
            ("OPTIONS", "--header 'Authorization: Bearer abcdef123456'"),
            ("MY_SERVICE", "sk-abcDEF123456"),
        ] {
            assert!(is_secret_variable(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("PATH", "/usr/bin:/opt//openssl@3/bin"),
            ("HTTP_PROXY", "http://proxy:3128"),
            ("TOKENIZERS_PARALLELISM", "false"),
            ("HF_HUB_OFFLINE", "1"),
            ("LANG", "en_US.UTF-8"),
            ("CUDA_VISIBLE_DEVICES", "0"),
            ("LS_COLORS", "rs=0:di=01;34"),
        ] {
            assert!(!is_secret_variable(name, value), "{name}={value}");
        }
    }

    #[test]
    fn a_code_in_json_is_a_secret_if_it_looks_like_one() {
        let secret = serde_json::json!({"code": "4/0AeaYSHB-7xQzT1k"}).to_string();
        assert_eq!(in_json(&secret), ["4/0AeaYSHB-7xQzT1k"]);
        for harmless in
            [r#"{"code": "print('hello 1 world')"}"#, r#"{"code": "invalid_request_error"}"#, r#"{"code": 429}"#]
        {
            assert!(in_json(harmless).is_empty(), "{harmless}");
            assert_eq!(masked_json(harmless), harmless);
        }
    }

    #[test]
    fn generated_secrets_are_overwritten_in_answers() {
        let all = ["sk-0123456789abcdef", "EMPTY", "python", "letters-without-digits"].map(str::to_string).to_vec();
        let generated = Secrets { all, bodies: Vec::new() }.generated();
        assert_eq!(generated, ["sk-0123456789abcdef"]);
        let answer = "EMPTY python sk-0123456789abcdef!";
        assert_eq!(overwritten(answer.as_bytes(), &generated), "EMPTY python *******************!".as_bytes());
        assert!(matches!(overwritten(b"plain", &generated), Cow::Borrowed(_)));
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
        let url = "http://h/v1?X-Amz-Signature=abc&sig=d%2Be&top_p=1&pattern=x&code=f&max_tokens=5";
        assert_eq!(
            masked_url(url),
            "http://h/v1?X-Amz-Signature=****&sig=****&top_p=1&pattern=x&code=****&max_tokens=5"
        );
        assert_eq!(in_url(url), ["abc", "d%2Be", "f", "d+e"]);
        assert_eq!(masked_url("mock:?tokens=100"), "mock:?tokens=100");
        assert!(in_url("mock:?tokens=100").is_empty());
        assert_eq!(masked_proxy("http://me:hidden@h:3128"), "http://****@h:3128");
    }

    #[test]
    fn secrets_of_others_are_masked_in_texts() {
        for (text, expected) in [
            (
                "307: redirected to https://u:LOCPW9@evil/x?sig=LOCSEC1&code=LOCSEC2&X-Amz-Signature=LOCSEC3 (use that)",
                "307: redirected to https://****@evil/x?sig=****&code=****&X-Amz-Signature=**** (use that)",
            ),
            ("see /login?key=abc&x=1#access_token=def.", "see /login?key=****&x=1#access_token=****"),
            ("to //me:pw@h/x, then ftp://a:b@c", "to //****@h/x, then ftp://****@c"),
            ("bad api_key=SECRET, retry", "bad api_key=****, retry"),
            ("password='a b' of x", "password='****' of x"),
            (r#"no choices: {"access_token": "abc","n":1}"#, r#"no choices: {"access_token": "****","n":1}"#),
            (r#"{\"client_secret\":\"abc\"}"#, r#"{\"client_secret\":\"****\"}"#),
            ("Incorrect API key provided: sk-abcDEF123456.", "Incorrect API key provided: ****."),
            ("sent Authorization: Bearer abcdef", "sent Authorization: ****"),
            ("sent bearer abcdef123456 twice", "sent bearer **** twice"),
            ("通义 hf_abcdefgh12345，请检查", "通义 ****，请检查"),
        ] {
            assert_eq!(mask_foreign(text, &[]), expected);
            assert_eq!(mask_foreign(expected, &[]), expected, "twice");
        }
        assert_eq!(mask_foreign("own SECRET and sig=x", &["SECRET".to_string()]), "own **** and sig=****");
    }

    #[test]
    fn other_texts_of_servers_stay_as_they_are() {
        for text in [
            "400: max_tokens=5 is too large: prompt_tokens=12, token=5, total_tokens: 17",
            "unexpected token: end of stream; code=422, code: invalid_request_error",
            "redirected to http://127.0.0.1:8000/v1?model=x&max_tokens=5 (use that address in --url)",
            "KeyError: 'token'; author=me; pattern=a; first_pass=2; auth=none",
            "--api-key is missing; pass=3; mail me@example.com; sk-learn is not sk-preprocessing",
            "http://h/v1?mail=a@b // a note",
            "token: '' password=",
            "use --headers 'Authorization=Basic ...' instead",
            "",
        ] {
            assert_eq!(mask_foreign(text, &[]), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_masked(text in "[a-z?&=:/@\"'\\\\ é.*-]{0,40}(token=|//|sk-|\"key\":)?[a-z@:\"é ]{0,10}") {
            let once = mask_foreign(&text, &[]);
            proptest::prop_assert!(!once.contains("password=secret"));
        }
    }
}
