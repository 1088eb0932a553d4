//! Which API is spoken, and what of a request depends on it: template, streaming, headers.

use std::path::Path;
use std::sync::Arc;

use super::local::LocalKind;
use super::{PlanError, data, spell};
use crate::api::Dialect;
use crate::api::custom::CustomApi;
use crate::api::endpoint::{Api, NAMES};
use crate::api::flags::{field_of, flags};
use crate::api::program::ProgramApi;
use crate::api::query_template::{Given, QueryTemplate};
use crate::api::render::Options;
use crate::finding::Finding;
use crate::spec::Spec;
use crate::workload::head::Header;

/// Everything that `--api` may name.
const KNOWN: [&str; NAMES.len() + LocalKind::ALL.len()] = {
    let mut known = [""; NAMES.len() + LocalKind::ALL.len()];
    let mut at = 0;
    while at < known.len() {
        known[at] = if at < NAMES.len() { NAMES[at] } else { LocalKind::ALL[at - NAMES.len()].0 };
        at += 1;
    }
    known
};

/// What `--api` names: one that is built in, or a description in a file.
pub fn api(spec: &Spec) -> Result<Api, PlanError> {
    if let Some(text) = &spec.api_description {
        let api = CustomApi::scan(text).map_err(|what| PlanError::value("--api", format!("{}: {what}", spec.api)))?;
        return Ok(Api::Custom(api));
    }
    if data::is_program(&spec.api) {
        return Ok(Api::Program(ProgramApi::new(Path::new(&spec.api))));
    }
    Api::named(&spec.api).ok_or_else(|| PlanError::Unknown {
        flag: "--api",
        kind: "API",
        given: spec.api.clone(),
        suggested: spell::nearest(&spec.api, &KNOWN),
        known: &KNOWN,
    })
}

/// The template of `--query-template`, with what the command line gives beside it.
pub fn template(spec: &Spec, api: Api) -> Result<Option<Arc<QueryTemplate>>, PlanError> {
    const FLAG: &str = "--query-template";
    let Some(text) = &spec.query_template else { return Ok(None) };
    if let Api::Custom(_) | Api::Program(_) = api {
        return Err(PlanError::conflict(format!("{FLAG} has no use beside the body that {} makes", spec.api)));
    }
    let given = Given {
        model: spec.model.is_some(),
        stream: spec.stream_given,
        max_tokens: !spec.max_tokens.is_empty(),
        temperature: spec.temperature.is_some(),
    };
    let template = QueryTemplate::scan(text, given).map_err(|what| PlanError::value(FLAG, what))?;
    Ok(Some(Arc::new(template)))
}

/// Whether SSE is asked for, after everybody who has a say in the body.
pub fn stream(spec: &Spec, options: &Options) -> bool {
    let extra = options.extra.get("stream").and_then(serde_json::Value::as_bool);
    let template = options.template.as_ref().and_then(|template| template.stream());
    options.dialect.streams() && extra.or(template).unwrap_or(spec.stream)
}

/// What of the call has no place in a body of this API, and what a template leaves out.
pub fn notes(spec: &Spec, options: &Options) -> Vec<Finding> {
    let mut notes = Vec::new();
    let given = |flag: &str| match flag {
        "--max-tokens" => !spec.max_tokens.is_empty(),
        "--temperature" => spec.temperature.is_some(),
        // It has another use here, and cannot be unwanted.
        "--seed" => false,
        _ => true,
    };
    let unsent: Vec<&str> = flags(&options.sampling)
        .into_iter()
        .map(|(flag, _)| flag)
        .filter(|flag| given(flag) && field_of(options.dialect, flag).is_none())
        .collect();
    if !unsent.is_empty() {
        let flags = unsent.into_iter().map(str::to_string).collect();
        notes.push(Finding::FieldsNotSent { api: spec.api.clone(), flags });
    }
    if spec.stream_given && spec.stream && !options.dialect.streams() {
        notes.push(Finding::NotStreamed { api: spec.api.clone() });
    }
    if let Some(template) = &options.template
        && !template.names_prompt()
        && ["messages", "prompt", "input", "query"].iter().any(|field| template.get(field).is_some())
    {
        notes.push(Finding::SamePrompt);
    }
    notes
}

/// The user's headers, with the key as one of them, and those that the API needs.
pub fn headers(spec: &Spec, dialect: Dialect, stream: bool) -> Result<Vec<Header>, PlanError> {
    let wrong = |what: String| PlanError::value("--headers", format!("cannot be used: {what}"));
    let mut headers = Vec::with_capacity(spec.headers.len() + 2);
    for text in &spec.headers {
        headers.push(Header::scan(text).map_err(wrong)?);
    }
    for (place, header) in headers.iter().enumerate() {
        if headers[..place].iter().any(|earlier| earlier.name.eq_ignore_ascii_case(&header.name)) {
            return Err(PlanError::value("--headers", format!("names {} twice; keep one", header.name)));
        }
    }
    let key = key(spec)?;
    let mut own = Vec::new();
    let mut key_is_placed = false;
    for (name, value) in dialect.headers(stream) {
        let value = match (value.contains("%k"), key) {
            (true, None) => {
                return Err(PlanError::conflict(format!("{}: the header {name} needs --api-key", spec.api)));
            }
            (true, Some(key)) => {
                key_is_placed = true;
                value.replace("%k", key)
            }
            (false, _) => value,
        };
        let header = Header::scan(&format!("{name}={value}"));
        own.push(header.map_err(|what| PlanError::value("--api", format!("{}: {what}", spec.api)))?);
    }
    if let Some(key) = key.filter(|_| !key_is_placed) {
        let (name, value) = dialect.key_header(key);
        if headers.iter().any(|header| header.name.eq_ignore_ascii_case(name)) {
            let article = if name.starts_with('A') { "an" } else { "a header" };
            let what = if name.starts_with('A') { "Authorization header" } else { name };
            return Err(PlanError::conflict(format!(
                "--api-key and {article} {what} in --headers are both given; keep one"
            )));
        }
        own.push(Header { name: name.to_string(), value });
    }
    own.retain(|header| !headers.iter().any(|given| given.name.eq_ignore_ascii_case(&header.name)));
    headers.extend(own);
    Ok(headers)
}

fn key(spec: &Spec) -> Result<Option<&str>, PlanError> {
    match spec.api_key.as_deref() {
        Some(key) if key.trim().is_empty() || key.chars().any(char::is_control) => {
            Err(PlanError::value("--api-key", "is empty or holds a control character such as a line end"))
        }
        key => Ok(key),
    }
}
