//! Text from elsewhere (servers, files, programs, the command line) on a terminal, in a log or on a page: characters that
//! control the display are written as escapes. Applied where text leaves the program; everything else, such as Chinese,
//! emoji and letters of right-to-left scripts, stays as it is.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with every character that controls the display as an escape such as `\u{1b}`: control characters except line
/// feed and tab, marks that change the direction of text, and separators and invisible marks that a terminal may obey.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    escape_where(text, |c| controls_display(c) && !matches!(c, '\n' | '\t'))
}

/// Like [`visible`], for text that must stay on one line: line feeds and tabs are escapes as well.
pub(crate) fn visible_line(text: &str) -> Cow<'_, str> {
    escape_where(text, controls_display)
}

/// Like [`visible`], but colours, such as `\u{1b}[32m`, stay.
pub(crate) fn visible_coloured(text: &str) -> Cow<'_, str> {
    const ESCAPE: char = '\u{1b}';
    if !text.contains(ESCAPE) {
        return visible(text);
    }
    let mut parts = text.split(ESCAPE);
    let mut out = visible(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        match part.strip_prefix('[').and_then(|rest| rest.split_once('m')) {
            Some((code, rest)) if code.len() <= 2 && code.bytes().all(|byte| byte.is_ascii_digit()) => {
                out.push_str(&format!("{ESCAPE}[{code}m{}", visible(rest)));
            }
            _ => {
                push_escaped(&mut out, ESCAPE);
                out.push_str(&visible(part));
            }
        }
    }
    Cow::Owned(out)
}

fn escape_where(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_escaped(c) {
            true => push_escaped(&mut out, c),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Appends the escape of a character.
pub(crate) fn push_escaped(out: &mut String, c: char) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{}", c.escape_default());
}

/// Whether a display obeys the character instead of showing it.
pub(crate) fn controls_display(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Direction marks, embeddings, overrides and isolates.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // Line and paragraph separator, byte order mark, interlinear annotations.
            | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn characters_that_control_the_display_become_escapes() {
        assert_eq!(visible("a\u{1b}[31mb\rc\u{9b}d\u{202e}e\n\tf"), "a\\u{1b}[31mb\\rc\\u{9b}d\\u{202e}e\n\tf");
        assert_eq!(visible_line("a\nb\tc\u{7}\u{200f}"), "a\\nb\\tc\\u{7}\\u{200f}");
    }

    #[test]
    fn only_colours_of_a_terminal_can_stay() {
        assert_eq!(
            visible_coloured("a\r\u{1b}[32mb\u{7}\u{1b}[0m\u{1b}[2J\u{1b}]0;x"),
            "a\\r\u{1b}[32mb\\u{7}\u{1b}[0m\\u{1b}[2J\\u{1b}]0;x"
        );
        assert_eq!(visible_coloured("a\u{202e}"), "a\\u{202e}");
    }

    #[test]
    fn text_of_any_language_stays_as_it_is() {
        for text in
            ["plain \\ text", "通义千问（模型）", "👩‍🔬 🏴\u{e0067}\u{e0062}\u{e007f} ❤️", "שלום", "مرحبا", "ไทย\u{200b}"]
        {
            assert!(matches!(visible_line(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_controls_the_display_remains(text in any::<String>()) {
            prop_assert!(!visible_line(&text).contains(controls_display));
            let kept: String = visible(&text).chars().filter(|c| controls_display(*c)).collect();
            prop_assert!(kept.chars().all(|c| c == '\n' || c == '\t'));
        }
    }
}
