//! Running text with styles, broken into lines.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A terminal's code for a style, such as `1` for bold; empty for plain text.
pub(super) type Style = &'static str;

/// A word: pieces without white space, each with its style.
#[derive(Clone, Debug, Default)]
struct Word {
    pieces: Vec<(Style, String)>,
    width: usize,
}

impl Word {
    fn push(&mut self, c: char, style: Style) {
        self.width += c.width().unwrap_or(0);
        match self.pieces.last_mut().filter(|(last, _)| *last == style) {
            Some((_, text)) => text.push(c),
            None => self.pieces.push((style, c.to_string())),
        }
    }

    fn write(&self, out: &mut String) {
        for (style, text) in &self.pieces {
            match style.is_empty() {
                true => out.push_str(text),
                false => out.push_str(&format!("\u{1b}[{style}m{text}\u{1b}[0m")),
            }
        }
    }

    /// The same in words of at most `width` columns, for text without white space such as Chinese or a long path.
    fn split(self, width: usize) -> Vec<Word> {
        if self.width <= width {
            return vec![self];
        }
        let mut parts = vec![Word::default()];
        for (style, text) in &self.pieces {
            for c in text.chars() {
                if parts.last().is_some_and(|part| part.width + c.width().unwrap_or(0) > width.max(2)) {
                    parts.push(Word::default());
                }
                if let Some(part) = parts.last_mut() {
                    part.push(c, style);
                }
            }
        }
        parts
    }
}

/// A paragraph, a heading or the cell of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Inline {
    words: Vec<Word>,
    /// The next character belongs to the last word.
    is_open: bool,
}

impl Inline {
    /// Appends text; white space separates words.
    pub(super) fn push(&mut self, text: &str, style: Style) {
        for c in text.chars() {
            if c.is_whitespace() {
                self.is_open = false;
                continue;
            }
            if !self.is_open {
                self.words.push(Word::default());
                self.is_open = true;
            }
            if let Some(word) = self.words.last_mut() {
                word.push(c, style);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Width of the text on one line, columns.
    pub(super) fn width(&self) -> usize {
        self.words.iter().map(|word| word.width + 1).sum::<usize>().saturating_sub(1)
    }

    /// Width of the longest word, columns.
    pub(super) fn longest_word(&self) -> usize {
        self.words.iter().map(|word| word.width).max().unwrap_or(0)
    }

    /// The text in lines of at most `width` columns, each with its width.
    pub(super) fn lines(self, width: usize) -> Vec<(String, usize)> {
        let mut lines: Vec<(String, usize)> = Vec::new();
        for word in self.words.into_iter().flat_map(|word| word.split(width)) {
            match lines.last_mut().filter(|(_, used)| used + 1 + word.width <= width) {
                Some((line, used)) => {
                    line.push(' ');
                    word.write(line);
                    *used += 1 + word.width;
                }
                None => {
                    let mut line = String::new();
                    word.write(&mut line);
                    lines.push((line, word.width));
                }
            }
        }
        lines
    }
}

/// `text` with spaces up to `width` columns; `used` is its own width.
pub(super) fn padded(text: &str, used: usize, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(used)))
}

/// The width of plain text, columns.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_do_not_count_as_width() {
        let mut text = Inline::default();
        text.push("one ", "");
        text.push("two", "1");
        text.push(", three", "");
        assert_eq!(text.width(), 14);
        let lines = text.lines(8);
        assert_eq!(lines, [("one \u{1b}[1mtwo\u{1b}[0m,".to_string(), 8), ("three".to_string(), 5)]);
    }

    #[test]
    fn text_without_spaces_is_split() {
        let mut text = Inline::default();
        text.push("每输出一个词", "");
        let lines: Vec<String> = text.lines(5).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, ["每输", "出一", "个词"]);
    }
}
