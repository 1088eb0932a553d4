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
