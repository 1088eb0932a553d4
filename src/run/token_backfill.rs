//! Counts tokens after the run for requests without a `usage` object from the server.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::error::RunError;
use crate::api::Dialect;
use crate::api::prompt::Prompt;
use crate::record::TokenSource;
use crate::store::answers::{AnswerUpdate, AnswerUpdates, Pages, UncountedAnswer};
use crate::workload::files::document_text;
use crate::workload::progress::StepProgress;
use crate::workload::tokens::{TokenUse, Tokens};
use crate::workload::{WorkloadError, parallel};

/// Whether counts may still be stored.
#[derive(Debug, Default)]
pub struct Backfill {
    is_over: Mutex<bool>,
}

impl Backfill {
    /// From here on, nothing is stored.
    pub fn end(&self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Stores the counts of a page; `false` if nothing may be stored any more.
    fn store(&self, updates: &AnswerUpdates) -> Result<bool, RunError> {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_over {
            updates.apply(TokenSource::Tokenizer)?;
        }
        Ok(!*is_over)
    }
}

/// Adds missing token counts to the database of a run, on all cores, page by page, until `backfill` ends. Returns the number of requests that lacked a count,
/// and how many of them cannot be counted because the database has no text (`--save metrics`).
pub fn count_missing(
    database: &Path,
    token_use: &TokenUse,
    dialect: Dialect,
    steps: &StepProgress,
    backfill: &Backfill,
) -> Result<(u64, u64), RunError> {
    let mut rows = Pages::<UncountedAnswer>::open(database)?;
    let missing = rows.ids()?.len() as u64;
    if missing == 0 {
        return Ok((0, 0));
    }
    let tokens = Tokens::open(token_use, dialect)?;
    let updates = AnswerUpdates::open(database)?;
    steps.begin("Counting tokens", missing);
    let mut uncounted = 0;
    loop {
        let page = rows.next_page()?;
        if page.is_empty() {
            return Ok((missing, uncounted));
        }
        let counts = parallel::map(page.len(), |place| {
            let counted = count(&page[place], &tokens);
            steps.add(1);
            counted
        })?;
        uncounted += counts.iter().filter(|c| c.input_tokens.is_none() && c.output_tokens.is_none()).count() as u64;
        counts.iter().try_for_each(|update| updates.add(update))?;
        if !backfill.store(&updates)? {
            return Ok((missing, uncounted));
        }
    }
}

fn count(row: &UncountedAnswer, tokens: &Tokens) -> Result<AnswerUpdate, WorkloadError> {
    let output_tokens = match &row.answer {
        Some(texts) => Some(texts.iter().map(|text| tokens.tokenizer.count(text)).sum::<Result<_, _>>()?),
        None => None,
    };
    let prompt = row.body.as_deref().and_then(prompt_of);
    let input_tokens = match prompt {
        Some(prompt) => tokens.length(&prompt)?,
        None => None,
    };
    Ok(AnswerUpdate { id: row.id, input_tokens, output_tokens, ..AnswerUpdate::default() })
}

/// The prompt of a request body of any API: `messages` (with Anthropic's `system` or the responses' `instructions`), `prompt`, `input`, TEI's `inputs`, or
/// `query` with documents.
fn prompt_of(body: &str) -> Option<Prompt> {
    let mut body: Value = serde_json::from_str(body).ok()?;
    if let Some(input @ Value::Object(_)) = body.get_mut("input") {
        // DashScope.
        body = input.take();
    }
    if let Some(Value::Array(messages)) = body.get("messages") {
        let system = ["system", "instructions"].iter().find_map(|name| body.get(name)).filter(|text| !text.is_null());
        let system = system.map(|content| json!({"role": "system", "content": content}));
        return Some(Prompt::Messages(system.into_iter().chain(messages.iter().cloned()).collect()));
    }
    if let Some(query) = body.get("query").and_then(Value::as_str) {
        let documents = ["documents", "passages", "texts"].iter().find_map(|name| body.get(name)?.as_array())?;
        let documents = documents.iter().filter_map(document_text).collect();
        return Some(Prompt::Rerank { query: query.to_string(), documents });
    }
    match ["prompt", "input", "inputs"].iter().find_map(|name| body.get(name))? {
        Value::String(text) => Some(Prompt::Text(text.clone())),
        Value::Array(ids) if ids.iter().all(Value::is_u64) => {
            Some(Prompt::Tokens(ids.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()))
        }
        Value::Array(texts) if texts.iter().all(Value::is_string) => {
            Some(Prompt::Embedding(texts.iter().filter_map(|text| Some(text.as_str()?.to_string())).collect()))
        }
        Value::Array(messages) => Some(Prompt::Messages(messages.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_found_in_request_bodies() {
        assert_eq!(prompt_of(r#"{"prompt":"a"}"#), Some(Prompt::Text("a".to_string())));
        assert_eq!(prompt_of(r#"{"prompt":[1,2]}"#), Some(Prompt::Tokens(vec![1, 2])));
        assert_eq!(
            prompt_of(r#"{"input":["a","b"]}"#),
            Some(Prompt::Embedding(vec!["a".to_string(), "b".to_string()]))
        );
        assert!(matches!(prompt_of(r#"{"messages":[{"role":"user"}]}"#), Some(Prompt::Messages(m)) if m.len() == 1));
        let with_system = prompt_of(r#"{"system":"s","messages":[{"role":"user"}]}"#);
        assert!(matches!(with_system, Some(Prompt::Messages(m)) if m.len() == 2 && m[0]["content"] == "s"));
        let in_input = prompt_of(r#"{"input":{"messages":[{"role":"user"}]},"parameters":{}}"#);
        assert!(matches!(in_input, Some(Prompt::Messages(m)) if m.len() == 1));
        let rerank = Prompt::Rerank { query: "q".to_string(), documents: vec!["a".to_string(), "b".to_string()] };
        assert_eq!(prompt_of(r#"{"query":"q","documents":["a",{"text":"b"}]}"#), Some(rerank.clone()));
        assert_eq!(prompt_of(r#"{"query":"q","texts":["a","b"]}"#), Some(rerank));
        assert_eq!(prompt_of(r#"{"inputs":"a"}"#), Some(Prompt::Text("a".to_string())));
        assert_eq!(prompt_of(r#"{"input":{"prompt":"a"}}"#), Some(Prompt::Text("a".to_string())));
        assert_eq!((prompt_of("{}"), prompt_of("no")), (None, None));
    }
}
