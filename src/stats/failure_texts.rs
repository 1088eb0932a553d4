//! The error texts of one failure class, in bounded memory: texts that differ only in ids and numbers count as one.

use std::collections::HashMap;

/// The failures of one class.
#[derive(Clone, Debug, Default)]
pub struct FailureTexts {
    pub count: u64,
    /// By their [`pattern`].
    texts: HashMap<String, FailureText>,
}

/// Maximum of distinct patterns for each class, which bounds the memory if a server sends a different text each time.
const DISTINCT_PATTERNS: usize = 1000;
/// Texts that differ at most in ids and numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureText {
    /// The first of them.
    pub example: String,
    pub count: u64,
    /// Another one differs from the first.
    pub differ: bool,
}

impl FailureText {
    /// The example with an English note if the texts differ.
    pub fn en(&self) -> String {
        format!("{}{}", self.example, if self.differ { " (ids or numbers differ)" } else { "" })
    }

    /// The example with a Chinese note if the texts differ.
    pub fn zh(&self) -> String {
        format!("{}{}", self.example, if self.differ { "（编号或数字不同）" } else { "" })
    }
}

impl FailureTexts {
    /// Counts a failure with its text, which may be empty.
    pub fn add(&mut self, text: &str) {
        self.count += 1;
        if text.is_empty() {
            return;
        }
        let pattern = pattern(text);
        if let Some(group) = self.texts.get_mut(&pattern) {
            group.count += 1;
            group.differ |= group.example != text;
        } else if self.texts.len() < DISTINCT_PATTERNS {
            self.texts.insert(pattern, FailureText { example: text.to_string(), count: 1, differ: false });
        }
    }

    /// The most frequent texts, the most frequent first, ties in alphabetical order.
    pub fn most_frequent(&self, limit: usize) -> Vec<FailureText> {
        let mut texts: Vec<FailureText> = self.texts.values().cloned().collect();
        texts.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.example.cmp(&b.example)));
        texts.truncate(limit);
        texts
    }
}

/// The text with `#` for everything that looks like a number or an id. A leading status is kept: `429: ...`.
fn pattern(text: &str) -> String {
    let status = match text.as_bytes() {
        [a, b, c, b':', ..] if [a, b, c].iter().all(|byte| byte.is_ascii_digit()) => 3,
        _ => 0,
    };
    let mut out = text[..status].to_string();
    let mut word = String::new();
    for character in text[status..].chars() {
        if character.is_ascii_alphanumeric() {
            word.push(character);
        } else {
            end_word(&mut word, &mut out);
            out.push(character);
        }
    }
    end_word(&mut word, &mut out);
    out
}

/// Appends a word, or its replacement. Parts of a UUID may consist of four letters.
fn end_word(word: &mut String, out: &mut String) {
    const ID: usize = 8;
    let digits = word.bytes().any(|byte| byte.is_ascii_digit());
    let hex = word.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f' | b'A'..=b'F'));
    let within_uuid = word.len() == 4 && out.ends_with("#-");
    if (digits && (hex || word.len() >= ID)) || (hex && (word.len() >= ID || within_uuid)) {
        out.push('#');
    } else {
        let mut number = false;
        for character in word.chars() {
            if !character.is_ascii_digit() {
                out.push(character);
            } else if !number {
                out.push('#');
            }
            number = character.is_ascii_digit();
        }
    }
    word.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_numbers_have_one_pattern() {
        for (one, other) in [
            ("429: busy, request 17", "429: busy, request 180"),
            ("no slot for cmpl-3f2a9c0d1e", "no slot for cmpl-9b1c77aa02"),
            ("id 0b5f3a52-9d1c-4f0e-abcd-0123456789ab", "id deadbeef-beef-4abc-9d1c-a1b2c3d4e5f6"),
            ("req_zX81kQ9pLm failed", "req_0aB3kk9pLq failed"),
            ("4097 tokens is too long by 1", "5000 tokens is too long by 904"),
            ("等待 5 s", "等待 17 s"),
        ] {
            assert_eq!(pattern(one), pattern(other));
        }
        for (one, other) in
            [("429: busy", "503: busy"), ("bad face", "bad cafe"), ("model a is busy", "model b is busy")]
        {
            assert_ne!(pattern(one), pattern(other));
        }
    }

    #[test]
    fn similar_texts_share_one_example() {
        let mut texts = FailureTexts::default();
        (0..300).for_each(|id| texts.add(&format!("request {id} was dropped")));
        texts.add("out of memory");
        texts.add("");
        assert_eq!(texts.count, 302);
        let shown: Vec<(String, u64)> = texts.most_frequent(3).iter().map(|text| (text.en(), text.count)).collect();
        let expected =
            [("request 0 was dropped (ids or numbers differ)".to_string(), 300), ("out of memory".to_string(), 1)];
        assert_eq!(shown, expected);
    }

    #[test]
    fn memory_is_bounded() {
        let mut texts = FailureTexts::default();
        let word = |n: u32| (0..4).map(|place| char::from(b'g' + ((n >> (4 * place)) & 15) as u8)).collect::<String>();
        (0..5000).for_each(|n| texts.add(&word(n)));
        assert_eq!((texts.count, texts.most_frequent(5000).len()), (5000, DISTINCT_PATTERNS));
    }
}
