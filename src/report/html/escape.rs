//! Text from elsewhere as HTML.

use crate::visible::{controls_display, push_escaped};

/// Escapes text for HTML, including attributes. Characters that control the display become visible.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if controls_display(c) && !matches!(c, '\n' | '\t') => push_escaped(&mut out, c),
            c => out.push(c),
        }
    }
    out
}

/// Escapes a text for HTML elements. Each flag, such as `--max-tokens`, is in a `span` in which no line breaks: browsers
/// break lines after hyphens.
pub fn prose(text: &str) -> String {
    let escaped = escape(text);
    let (mut out, mut rest, mut before) = (String::with_capacity(escaped.len()), escaped.as_str(), None);
    while let Some(at) = rest.find("--") {
        let name = rest[at + 2..].find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len() - at - 2);
        let (text, from) = rest.split_at(at);
        let (flag, after) = from.split_at(2 + name);
        let in_word = text.chars().next_back().or(before).is_some_and(|c| c.is_ascii_alphanumeric() || c == '-');
        out.push_str(text);
        match !in_word && flag[2..].starts_with(|c: char| c.is_ascii_lowercase()) {
            true => out.push_str(&format!("<span class=\"flag\">{flag}</span>")),
            false => out.push_str(flag),
        }
        (before, rest) = (flag.chars().next_back(), after);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_breaks_within_a_flag() {
        let flag = |name: &str| format!("<span class=\"flag\">{name}</span>");
        assert_eq!(prose("Use more --workers."), format!("Use more {}.", flag("--workers")));
        let two = format!("'{}' or {}=2 & a--b -- c ---d", flag("--abort-on"), flag("--sla-num-runs"));
        assert_eq!(
            prose("'--abort-on' or --sla-num-runs=2 & a--b -- c ---d"),
            two.replace('\'', "&#39;").replace(" & ", " &amp; ")
        );
        assert_eq!(prose("请增大 --drain。"), format!("请增大 {}。", flag("--drain")));
        assert_eq!(prose("<--x>"), format!("&lt;{}&gt;", flag("--x")));
    }
}
