//! Tokenizers: encoding text to token ids, and decoding.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::chat_template::ChatTemplate;
use super::error::WorkloadError;
use crate::files::read_at_most;

const FLAG: &str = "--tokenizer-path";
const FILE: &str = "tokenizer.json";
/// Maximum size of that file; those of large vocabularies have some 30 MiB.
const MAX_BYTES: u64 = 1 << 30;

/// A Hugging Face tokenizer, and the chat template in the same folder.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    template: Option<ChatTemplate>,
    path: PathBuf,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Opens a folder that contains `tokenizer.json`, or that file.
    pub fn open(given: &Path) -> Result<Tokenizer, WorkloadError> {
        let path = Tokenizer::find(given)?;
        let wrong = |path: &Path, what: String| WorkloadError::File { flag: FLAG, path: path.to_path_buf(), what };
        let bytes = read_at_most(&path, MAX_BYTES).map_err(|cause| WorkloadError::Unreadable {
            flag: FLAG,
            path: path.clone(),
            cause,
        })?;
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| {
            wrong(&path, format!("is not a Hugging Face tokenizer: {}", one_line(&error.to_string())))
        })?;
        // Both are for training and would change counts: a padded "hi" has 128 tokens.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| wrong(&path, format!("cannot be used: {error}")))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let template = ChatTemplate::beside(folder).map_err(|what| wrong(folder, what))?;
        Ok(Tokenizer { inner, template, path })
    }

    /// The path of `tokenizer.json`, which exists: `given`, or the one in the folder `given`.
    pub(crate) fn find(given: &Path) -> Result<PathBuf, WorkloadError> {
        let wrong = |path: &Path, what: String| WorkloadError::File { flag: FLAG, path: path.to_path_buf(), what };
        let path = if given.is_dir() { given.join(FILE) } else { given.to_path_buf() };
        if !path.is_file() {
            let what = if given.is_dir() {
                format!(
                    "has no {FILE}; save it there with transformers: AutoTokenizer.from_pretrained(MODEL).save_pretrained(DIR)"
                )
            } else {
                format!("does not exist; give a folder that holds {FILE}, or that file")
            };
            return Err(wrong(given, what));
        }
        Ok(path)
    }

    /// Sets the size of the tokenizer's cache, words; the default is ten thousand. Random text uses words of the whole
    /// vocabulary repeatedly.
    pub(crate) fn remember_words(&mut self, words: usize) {
        let mut model = self.inner.get_model().clone();
        model.resize_cache(words);
        self.inner.with_model(model);
    }

    /// Whether there is a chat template.
    pub fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// The ids of a text, without special tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, WorkloadError> {
        self.encoded(text, false).map(|encoding| encoding.get_ids().to_vec())
    }

    /// The ids of a prompt, with the special tokens that the model adds to every text.
    pub(crate) fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, WorkloadError> {
        self.encoded(text, true).map(|encoding| encoding.get_ids().to_vec())
    }

    /// Number of tokens of a text, without special tokens.
    pub fn count(&self, text: &str) -> Result<u64, WorkloadError> {
        self.encoded(text, false).map(|encoding| encoding.len() as u64)
    }

    /// Number of tokens of a prompt, with special tokens.
    pub(crate) fn count_prompt(&self, text: &str) -> Result<u64, WorkloadError> {
        self.encoded(text, true).map(|encoding| encoding.len() as u64)
    }

    fn encoded(&self, text: &str, special: bool) -> Result<tokenizers::Encoding, WorkloadError> {
        self.inner.encode_fast(text, special).map_err(|error| self.wrong(format!("cannot encode a prompt: {error}")))
    }

    /// The text of ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String, WorkloadError> {
        self.inner.decode(ids, false).map_err(|error| self.wrong(format!("cannot decode ids: {error}")))
    }

    /// The text that the model gets for these messages.
    pub fn chat(&self, messages: &[Value]) -> Result<String, WorkloadError> {
        let Some(template) = &self.template else {
            return Err(self.wrong("has no chat template; put chat_template.jinja into its folder".to_string()));
        };
        template.render(messages).map_err(WorkloadError::Data)
    }

    /// The text that the model gets for one user message.
    pub fn chat_of(&self, text: &str) -> Result<String, WorkloadError> {
        self.chat(&[json!({"role": "user", "content": text})])
    }

    /// Ids for random text, ascending: no special tokens, no single bytes, and no parts of characters, which would be
    /// encoded to other ids. Where enough are left, only those whose text every implementation of a tokenizer splits
    /// alike: servers differ in combining marks, normalization and unusual white space, and would count other tokens.
    pub(crate) fn plain_ids(&self) -> Vec<u32> {
        let special = self.inner.get_added_tokens_decoder();
        let plain = |id: &u32| {
            let Some(token) = self.inner.id_to_token(*id) else { return false };
            let byte = token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
            !byte
                && !special.contains_key(id)
                && self.inner.decode(&[*id], false).is_ok_and(|text| !text.is_empty() && !text.contains('\u{fffd}'))
        };
        let end = self.inner.get_vocab(false).into_values().max().map_or(0, |last| last + 1);
        let plain: Vec<u32> = (0..end).filter(plain).collect();
        let portable = |id: &u32| self.inner.decode(&[*id], false).is_ok_and(|text| is_portable(&text));
        let kept: Vec<u32> = plain.iter().copied().filter(portable).collect();
        if kept.len() < LEAST_PORTABLE { plain } else { kept }
    }

    fn wrong(&self, what: String) -> WorkloadError {
        WorkloadError::File { flag: FLAG, path: self.path.clone(), what }
    }
}

/// With fewer portable ids than this, all plain ids are used.
const LEAST_PORTABLE: usize = 256;

/// Whether every implementation of a tokenizer splits a text alike: printable ASCII, and letters that have no
/// decomposed form in use (Latin, Greek, Cyrillic, kana, CJK ideographs, Hangul syllables). Brackets and bars are left
/// out, because neighbours could spell a special token, such as `</s>`, which servers read as one.
fn is_portable(text: &str) -> bool {
    let letter = |c: char| {
        matches!(c, '\u{c0}'..='\u{17f}' | '\u{391}'..='\u{3c9}' | '\u{410}'..='\u{44f}' | '\u{3041}'..='\u{3096}'
            | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
            && c.is_alphabetic()
    };
    let ascii = |c: char| matches!(c, ' '..='~') && !"<>[]{}|".contains(c);
    !text.trim().is_empty() && text.chars().all(|c| ascii(c) || letter(c))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_text_has_neither_marks_nor_markup() {
        for text in ["a", " the", "naïve", "你好", "かな", "한국", "Ж", "3.5%", " +"] {
            assert!(is_portable(text), "{text}");
        }
        for text in ["", " ", "\n", "\u{a0}", "</", "s>", "[INST", "<|", "e\u{301}", "\u{64b}", "\u{1100}", "😀", "ก"]
        {
            assert!(!is_portable(text), "{text:?}");
        }
    }
}
