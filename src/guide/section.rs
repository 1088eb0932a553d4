//! The sections of a Markdown text.

/// A heading with everything up to the next heading of its level or a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section<'a> {
    /// The heading without `#`.
    pub title: &'a str,
    /// The heading and what follows.
    pub text: &'a str,
}

/// The heading in a line of Markdown: its level and its text.
fn heading(line: &str) -> Option<(usize, &str)> {
    let level = line.bytes().take_while(|byte| *byte == b'#').count();
    let title = line[level..].strip_prefix(' ')?;
    (1..=6).contains(&level).then_some((level, title.trim()))
}

/// All sections of `text`, those within others as well.
pub(super) fn headings<'a>(text: &'a str) -> Vec<Section<'a>> {
    let mut starts: Vec<(usize, usize, &'a str)> = Vec::new();
    let (mut at, mut in_code) = (0, false);
    for line in text.split_inclusive('\n') {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        if let Some((level, title)) = heading(line.trim_end()).filter(|_| !in_code) {
            starts.push((at, level, title));
        }
        at += line.len();
    }
    let section = |(number, (start, level, title)): (usize, &(usize, usize, &'a str))| {
        let after = &starts[number + 1..];
        // The title of a topic stands for its introduction only: its sections are listed themselves.
        let next = if *level == 1 { after.first() } else { after.iter().find(|(_, next, _)| next <= level) };
        let end = next.map_or(text.len(), |(next, ..)| *next);
        Section { title: title.trim_matches('`'), text: &text[*start..end] }
    };
    starts.iter().enumerate().map(section).collect()
}

impl<'a> Section<'a> {
    /// Whether `title` is the heading, apart from case.
    pub(super) fn is_titled(&self, title: &str) -> bool {
        self.title.to_lowercase() == title.to_lowercase()
    }

    /// Whether the heading contains `words`, apart from case.
    pub(super) fn contains_title(&self, words: &str) -> bool {
        self.title.to_lowercase().contains(&words.to_lowercase())
    }

    /// The first line of text after the heading; empty if there is none.
    pub(super) fn first_line(&self) -> &'a str {
        self.text.lines().skip(1).find(|line| !line.is_empty()).unwrap_or_default()
    }

    /// The first line that contains `word`, apart from case, before any further heading.
    pub(super) fn line_with(&self, word: &str) -> Option<&'a str> {
        let own = self.text.lines().skip(1).take_while(|line| heading(line).is_none());
        own.into_iter().find(|line| line.to_lowercase().contains(&word.to_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_before_the_next_of_its_level() {
        let text = "# A\nintro\n## B\none\n### `c`\ntwo\n```sh\n# no heading\n```\n## D\nthree\n";
        let sections = headings(text);
        let titles: Vec<&str> = sections.iter().map(|section| section.title).collect();
        assert_eq!(titles, ["A", "B", "c", "D"]);
        assert_eq!(sections[0].text, "# A\nintro\n");
        assert!(sections[1].text.contains("two") && !sections[1].text.contains("three"));
        assert_eq!((sections[1].first_line(), sections[1].line_with("TWO")), ("one", None));
        assert_eq!(sections[2].line_with("TWO"), Some("two"));
    }
}
