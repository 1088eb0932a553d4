//! What the tokenizer is used for: lengths in tokens, prompts through the chat template, prompts as ids.

use std::path::Path;

use super::error::WorkloadError;
use super::item::user_message;
use super::tokenizer::Tokenizer;
use crate::api::Dialect;
use crate::api::prompt::Prompt;

/// What was asked of the tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUse {
    /// `--tokenizer-path`
    pub tokenizer: String,
    /// Count input with the chat template; `None`: where the endpoint is chat and the tokenizer has one.
    pub template: Option<bool>,
    /// `--tokenize-prompt`: send ids.
    pub ids: bool,
}

/// An open tokenizer and how it is used.
#[derive(Debug)]
pub struct Tokens {
    pub tokenizer: Tokenizer,
    /// Input is counted through the chat template.
    pub template: bool,
    /// The template was asked for by name, so that a completions endpoint gets text that went through it.
    pub template_asked: bool,
    pub ids: bool,
    chat: bool,
}

impl Tokens {
    /// Opens the tokenizer and checks what was asked of it.
    pub fn open(asked: &TokenUse, dialect: Dialect) -> Result<Tokens, WorkloadError> {
        Tokens::new(asked, Tokenizer::open(Path::new(&asked.tokenizer))?, dialect)
    }

    /// Checks what was asked against what the tokenizer can do.
    pub fn new(asked: &TokenUse, tokenizer: Tokenizer, dialect: Dialect) -> Result<Tokens, WorkloadError> {
        let chat = dialect == Dialect::Chat;
        if asked.template == Some(true) && !tokenizer.has_template() {
            return Err(WorkloadError::Data(format!(
                "--apply-chat-template: the tokenizer {} has no chat template; put chat_template.jinja beside it",
                asked.tokenizer
            )));
        }
        let template = asked.template.unwrap_or(chat && tokenizer.has_template());
        Ok(Tokens { tokenizer, template, template_asked: asked.template == Some(true), ids: asked.ids, chat })
    }

    /// Tokens of a prompt as the model will count them; `None` for a whole body.
    pub fn length(&self, prompt: &Prompt) -> Result<Option<u64>, WorkloadError> {
        Ok(match prompt {
            Prompt::Text(text) if self.template => Some(self.tokenizer.count(&self.tokenizer.chat_of(text)?)?),
            Prompt::Text(text) => Some(self.tokenizer.count_prompt(text)?),
            Prompt::Messages(messages) if self.tokenizer.has_template() => {
                Some(self.tokenizer.count(&self.tokenizer.chat(messages)?)?)
            }
            Prompt::Messages(messages) => {
                let texts = messages.iter().filter_map(|message| message.get("content")?.as_str());
                let counts: Result<Vec<u64>, _> = texts.map(|text| self.tokenizer.count(text)).collect();
                Some(counts?.into_iter().sum())
            }
            Prompt::Tokens(ids) => Some(ids.len() as u64),
            Prompt::Embedding(texts) => Some(self.sum(texts)?),
            Prompt::Rerank { query, documents } => Some(self.tokenizer.count_prompt(query)? + self.sum(documents)?),
            Prompt::Body(_) => None,
        })
    }

    fn sum(&self, texts: &[String]) -> Result<u64, WorkloadError> {
        texts.iter().map(|text| self.tokenizer.count_prompt(text)).sum()
    }

    /// Whether prompts go out in another form than they were read in.
    pub fn changes_prompts(&self) -> bool {
        self.ids || (self.template_asked && !self.chat)
    }

    /// The form in which a prompt is sent.
    pub fn sent(&self, prompt: &Prompt) -> Result<Prompt, WorkloadError> {
        let (text, through_template) = match prompt {
            Prompt::Text(text) if self.template_asked && !self.chat => {
                (self.tokenizer.chat(&[user_message(text.as_str())])?, true)
            }
            // Messages can become one prompt only so.
            Prompt::Messages(messages) => (self.tokenizer.chat(messages)?, true),
            Prompt::Text(text) => (text.clone(), false),
            Prompt::Tokens(_) | Prompt::Body(_) | Prompt::Embedding(_) | Prompt::Rerank { .. } => {
                return Ok(prompt.clone());
            }
        };
        match (self.ids, through_template) {
            (false, _) => Ok(Prompt::Text(text)),
            (true, true) => Ok(Prompt::Tokens(self.tokenizer.encode(&text)?)),
            (true, false) => Ok(Prompt::Tokens(self.tokenizer.encode_prompt(&text)?)),
        }
    }
}
