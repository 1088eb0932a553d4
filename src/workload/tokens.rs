//! Uses of the tokenizer: lengths in tokens, prompts formatted by the chat template, prompts as token ids.

use std::path::Path;

use super::error::WorkloadError;
use super::item::user_message;
use super::tokenizer::Tokenizer;
use crate::api::Dialect;
use crate::api::prompt::{Prompt, content_text};

/// The options of the tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUse {
    /// `--tokenizer-path`
    pub tokenizer: String,
    /// Count input with the chat template; `None`: if the server applies one and the tokenizer has one.
    pub template: Option<bool>,
    /// `--tokenize-prompt`: send token ids.
    pub ids: bool,
}

/// An open tokenizer with its options.
#[derive(Debug)]
pub struct Tokens {
    pub tokenizer: Tokenizer,
    /// Input is counted with the chat template.
    pub template: bool,
    /// The flag for the template was given, so that a completions endpoint gets formatted text.
    pub template_asked: bool,
    pub ids: bool,
    chat: bool,
}

impl Tokens {
    /// Opens the tokenizer and checks its options.
    pub fn open(asked: &TokenUse, dialect: Dialect) -> Result<Tokens, WorkloadError> {
        Tokens::new(asked, Tokenizer::open(Path::new(&asked.tokenizer))?, dialect)
    }

    /// Checks the options against the tokenizer.
    pub fn new(asked: &TokenUse, tokenizer: Tokenizer, dialect: Dialect) -> Result<Tokens, WorkloadError> {
        let chat = dialect.applies_chat_template();
        if asked.template == Some(true) && !tokenizer.has_template() {
            return Err(WorkloadError::Data(format!(
                "--apply-chat-template: the tokenizer {} has no chat template; put chat_template.jinja into its folder",
                asked.tokenizer
            )));
        }
        let template = asked.template.unwrap_or(chat && tokenizer.has_template());
        Ok(Tokens { tokenizer, template, template_asked: asked.template == Some(true), ids: asked.ids, chat })
    }

    /// Tokens of a prompt as the model counts them; `None` for a whole request body.
    pub fn length(&self, prompt: &Prompt) -> Result<Option<u64>, WorkloadError> {
        Ok(match prompt {
            Prompt::Text(text) if self.template => Some(self.tokenizer.count(&self.tokenizer.chat_of(text)?)?),
            Prompt::Text(text) => Some(self.tokenizer.count_prompt(text)?),
            Prompt::Messages(messages) if self.tokenizer.has_template() => {
                Some(self.tokenizer.count(&self.tokenizer.chat(messages)?)?)
            }
            Prompt::Messages(messages) => {
                let texts = messages.iter().map(|message| self.tokenizer.count(&content_text(message)));
                Some(texts.sum::<Result<u64, _>>()?)
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

    /// Whether prompts are sent in another form than they were read in.
    pub(crate) fn changes_prompts(&self) -> bool {
        self.ids || (self.template_asked && !self.chat)
    }

    /// The form in which a prompt is sent.
    pub fn sent(&self, prompt: &Prompt) -> Result<Prompt, WorkloadError> {
        let (text, through_template) = match prompt {
            Prompt::Text(text) if self.template_asked && !self.chat => {
                (self.tokenizer.chat(&[user_message(text.as_str())])?, true)
            }
            // Only the template turns messages into one prompt.
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
