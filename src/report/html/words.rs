//! Texts in both languages. A page has both, and CSS shows one: what is the same in both is there once.

use super::chart::escape;
use crate::report::language::Language;

/// A text in English and in Chinese.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub en: String,
    pub zh: String,
}

impl Words {
    /// A text with its translation.
    pub fn new(en: impl Into<String>, zh: impl Into<String>) -> Words {
        Words { en: en.into(), zh: zh.into() }
    }

    /// The text that `text` gives for each language.
    pub fn each(text: impl Fn(Language) -> String) -> Words {
        Words { en: text(Language::En), zh: text(Language::Zh) }
    }

    /// In this language.
    pub fn pick(&self, language: Language) -> &str {
        match language {
            Language::En => &self.en,
            Language::Zh => &self.zh,
        }
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.en.is_empty() && self.zh.is_empty()
    }

    /// Escaped, in elements of the name `tag`: `span` in HTML, `tspan` in SVG.
    pub fn tagged(&self, tag: &str) -> String {
        if self.en == self.zh {
            return escape(&self.en);
        }
        format!("<{tag} lang=\"en\">{}</{tag}><{tag} lang=\"zh-CN\">{}</{tag}>", escape(&self.en), escape(&self.zh))
    }

    /// Escaped, for HTML.
    pub fn html(&self) -> String {
        self.tagged("span")
    }

    /// The attribute `data-<name>`, and `data-<name>-zh` if the Chinese text differs.
    pub fn attributes(&self, name: &str) -> String {
        let zh = if self.en == self.zh { String::new() } else { format!(" data-{name}-zh=\"{}\"", escape(&self.zh)) };
        format!(" data-{name}=\"{}\"{zh}", escape(&self.en))
    }
}

impl From<&str> for Words {
    fn from(text: &str) -> Words {
        Words::new(text, text)
    }
}

impl From<String> for Words {
    fn from(text: String) -> Words {
        Words { en: text.clone(), zh: text }
    }
}

/// A block of HTML in both languages; once if it is the same.
pub fn both(html: impl Fn(Language) -> String) -> String {
    let (en, zh) = (html(Language::En), html(Language::Zh));
    if en == zh { en } else { format!("<div lang=\"en\">{en}</div><div lang=\"zh-CN\">{zh}</div>") }
}

/// The headings of a page, for its contents.
#[derive(Debug, Default)]
pub struct Contents {
    entries: Vec<(String, Words)>,
}

impl Contents {
    /// Adds an entry without a heading.
    pub fn add(&mut self, id: &str, title: Words) {
        self.entries.push((id.to_string(), title));
    }

    /// A heading that the contents link to. `id` must be unique on the page.
    pub fn heading(&mut self, tag: &str, id: &str, title: Words) -> String {
        let html = format!("<{tag} id=\"{id}\">{}</{tag}>", title.html());
        self.add(id, title);
        html
    }

    /// The menu; empty with fewer than two entries.
    pub fn menu(&self) -> String {
        if self.entries.len() < 2 {
            return String::new();
        }
        let link = |(id, title): &(String, Words)| format!("<li><a href=\"#{id}\">{}</a></li>", title.html());
        format!("<nav><ul>{}</ul></nav>", self.entries.iter().map(link).collect::<String>())
    }
}
