//! Markdown on a terminal.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::inline::{Inline, Style, width};
use super::{TOPICS, table};

const BOLD: Style = "1";
const CODE: Style = "36";
const PLAIN: Style = "";
/// Text is not set in longer lines than this, even on a wide terminal.
const LONGEST: usize = 100;

/// `markdown` in lines of at most `columns` columns, apart from code. `colours`: with the terminal's codes for bold text
/// and colours; otherwise code is in backticks.
pub fn render(markdown: &str, columns: usize, colours: bool) -> String {
    let mut renderer = Renderer { columns, colours, ..Renderer::default() };
    Parser::new_ext(markdown, Options::ENABLE_TABLES).for_each(|event| renderer.event(event));
    renderer.out
}

#[derive(Default)]
struct Renderer {
    out: String,
    columns: usize,
    colours: bool,
    /// What is being collected: a paragraph, a heading, or a cell.
    text: Inline,
    style: Style,
    /// The target of the link that is open.
    link: String,
    /// The number of the next item of each open list; `None` for a list with dashes.
    lists: Vec<Option<u64>>,
    /// The mark of a list item that has no line yet.
    mark: Option<String>,
    quotes: usize,
    rows: Vec<Vec<Inline>>,
    in_code: bool,
    /// The block that follows belongs to the one before: no empty line between them.
    is_tight: bool,
}

impl Renderer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(end) => self.end(end),
            Event::Text(text) if self.in_code => self.code_lines(&text),
            Event::Text(text) => self.text.push(&text, self.style),
            Event::Code(code) if self.colours => self.text.push(&code, CODE),
            Event::Code(code) => self.text.push(&format!("`{code}`"), self.style),
            Event::SoftBreak | Event::HardBreak => self.text.push(" ", PLAIN),
            Event::Rule => self.line(&"─".repeat(self.text_width())),
            // The guide has comments for tests, and none of the others.
            Event::Html(_)
            | Event::InlineHtml(_)
            | Event::InlineMath(_)
            | Event::DisplayMath(_)
            | Event::FootnoteReference(_)
            | Event::TaskListMarker(_) => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { .. } | Tag::Strong if self.colours => self.style = BOLD,
            Tag::List(first) => {
                self.flush();
                self.lists.push(first);
            }
            Tag::Item => {
                let mark = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{:<4}", format!("{}.", *number - 1))
                    }
                    _ => "- ".to_string(),
                };
                self.mark = Some(mark);
            }
            Tag::BlockQuote(_) => self.quotes += 1,
            Tag::CodeBlock(kind) => {
                self.flush();
                self.in_code = true;
                // Fenced code has a language, which is for tests and editors.
                debug_assert!(matches!(kind, CodeBlockKind::Fenced(_) | CodeBlockKind::Indented));
                self.blank();
            }
            Tag::Table(_) => self.rows.clear(),
            Tag::TableHead => {
                self.rows.push(Vec::new());
                self.style = if self.colours { BOLD } else { PLAIN };
            }
            Tag::TableRow => self.rows.push(Vec::new()),
            Tag::Link { dest_url, .. } => self.link = dest_url.to_string(),
            _ => {}
        }
    }

    fn end(&mut self, end: TagEnd) {
        match end {
            TagEnd::Heading(level) => self.heading(level),
            TagEnd::Strong => self.style = PLAIN,
            TagEnd::Paragraph => self.flush(),
            TagEnd::Item => {
                self.flush();
                self.is_tight = true;
            }
            TagEnd::List(_) => {
                self.lists.pop();
                self.is_tight = !self.lists.is_empty();
            }
            TagEnd::BlockQuote(_) => self.quotes -= 1,
            TagEnd::CodeBlock => self.in_code = false,
            TagEnd::Link => self.end_link(),
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.text);
                if let Some(row) = self.rows.last_mut() {
                    row.push(cell);
                }
            }
            TagEnd::TableHead => self.style = PLAIN,
            TagEnd::Table => {
                self.blank();
                let rows = std::mem::take(&mut self.rows);
                let lines = table::render(rows, self.columns.saturating_sub(width(&self.indent())));
                lines.iter().for_each(|line| self.line(line));
            }
            _ => {}
        }
    }

    /// Appends how to open what a link refers to.
    fn end_link(&mut self) {
        let link = std::mem::take(&mut self.link);
        let topic = link.split('#').next().and_then(|file| file.strip_suffix(".md"));
        match topic.filter(|name| TOPICS.iter().any(|topic| topic.name == *name)) {
            Some(name) => {
                self.text.push(" (", PLAIN);
                self.event(Event::Code(format!("ringmark guide {name}").into()));
                self.text.push(")", PLAIN);
            }
            None => self.text.push(&format!(" ({link})"), PLAIN),
        }
    }

    fn heading(&mut self, level: HeadingLevel) {
        self.style = PLAIN;
        let width = self.text.width();
        self.flush();
        let rule = match level {
            HeadingLevel::H1 => "═",
            HeadingLevel::H2 => "─",
            _ => return,
        };
        self.line(&rule.repeat(width.min(self.text_width())));
    }

    /// Spaces and bars before each line.
    fn indent(&self) -> String {
        let lists: usize = self.lists.iter().map(|number| if number.is_some() { 4 } else { 2 }).sum();
        format!("{}{}", " ".repeat(lists), "│ ".repeat(self.quotes))
    }

    fn text_width(&self) -> usize {
        self.columns.min(LONGEST).saturating_sub(width(&self.indent())).max(10)
    }

    /// Writes the collected text as a paragraph.
    fn flush(&mut self) {
        if self.text.is_empty() {
            return;
        }
        self.blank();
        let lines = std::mem::take(&mut self.text).lines(self.text_width());
        lines.iter().for_each(|(line, _)| self.line(line));
    }

    fn code_lines(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&format!("    {line}"));
        }
    }

    /// An empty line before a block.
    fn blank(&mut self) {
        let is_tight = std::mem::take(&mut self.is_tight) || (self.mark.is_some() && self.lists.len() > 1);
        if !self.out.is_empty() && !is_tight {
            self.out.push('\n');
        }
    }

    fn line(&mut self, line: &str) {
        let mut indent = self.indent();
        if let Some(mark) = self.mark.take() {
            // The mark stands at the end of the indent.
            let at = indent.len().saturating_sub(mark.len().min(indent.len()));
            indent = format!("{}{mark}", &indent[..at]);
        }
        self.out.push_str(format!("{indent}{line}").trim_end());
        self.out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guide::TOPICS;

    #[test]
    fn markdown_is_laid_out() {
        let text = "# Title\n\nOne `two` **three**, [four](report.md)\n\n- a\n- b\n\n1. c\n2. d\n\n> note\n\n```sh\nx  y\n```\n\n\
                    <!-- hidden -->\n\n| a | b |\n|---|---|\n| 1 | long text |\n";
        let expected = "Title\n═════\n\nOne `two` three, four (`ringmark guide report`)\n\n- a\n- b\n\n1.  c\n2.  d\n\n│ \
                        note\n\n    x  y\n\na  b\n────────────\n1  long text\n";
        assert_eq!(render(text, 80, false), expected);
        assert!(render(text, 80, true).contains("One \u{1b}[36mtwo\u{1b}[0m \u{1b}[1mthree\u{1b}[0m,"));
    }

    #[test]
    fn every_topic_fits_80_columns() {
        for topic in TOPICS {
            let text = render(topic.text, 80, false);
            // Code stays as it is.
            for line in text.lines().filter(|line| !line.starts_with("    ")) {
                assert!(width(line) <= 80, "{} has a line of {} columns: {line}", topic.name, width(line));
            }
            assert!(!text.contains("]("), "{}", topic.name);
        }
    }
}
