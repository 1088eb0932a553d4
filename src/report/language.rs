//! The languages of reports.

pub use crate::options::Language;

impl Language {
    /// The text in this language.
    pub fn pick(self, en: &'static str, zh: &'static str) -> &'static str {
        match self {
            Language::En => en,
            Language::Zh => zh,
        }
    }

    /// The tag of this language, as `--language` and HTML spell it.
    pub fn tag(self) -> &'static str {
        self.pick("en", "zh")
    }
}
