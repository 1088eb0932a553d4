//! Layout of a bar within the width of the terminal. A bar that wraps to a second line leaves fragments on redraw.

use indicatif::ProgressStyle;
use unicode_width::UnicodeWidthStr;

use crate::report::table::is_unit;

/// The count beside a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Requests, of this total.
    Requests(u64),
    /// Bytes and bytes per second.
    Bytes,
    /// Percentage of the duration.
    Share,
    /// This many so far, with an unknown total; no bar is drawn.
    Endless(u64),
}

impl Counts {
    fn template(self) -> &'static str {
        match self {
            Counts::Requests(_) => "{pos}/{len}",
            Counts::Bytes => "{bytes}/{total_bytes} {bytes_per_sec}",
            Counts::Share => "{percent}%",
            Counts::Endless(_) => "{pos}",
        }
    }

    /// Maximum width in columns.
    fn width(self) -> usize {
        let digits = |number: u64| number.to_string().len();
        match self {
            Counts::Requests(total) => 2 * digits(total) + 1,
            // For example `1023.99 MiB/1023.99 MiB 1023.99 MiB/s`.
            Counts::Bytes => 11 + 1 + 11 + 1 + 13,
            Counts::Share => 4,
            Counts::Endless(so_far) => digits(so_far),
        }
    }
}

/// Preferred length of a bar, columns.
const BAR: usize = 40;
/// Minimum length of a bar, columns.
const SHORTEST_BAR: usize = 8;
/// Width of ` [00:00:12<1d 00:01:00]`, columns.
const TIMES: usize = 23;

/// The template of a bar with a label and a message of these lengths, for a terminal of `width` columns. As the width
/// shrinks, the bar gets shorter, then the times are dropped, then the bar.
pub fn template(counts: &Counts, label: usize, message: usize, width: usize) -> String {
    let text = counts.template();
    let message_width = if message == 0 { 0 } else { message + 1 };
    let words = label + 1 + counts.width() + message_width;
    let (endless, message) = (matches!(counts, Counts::Endless(_)), if message == 0 { "" } else { " {msg}" });
    // The last column stays free because some terminals wrap when it is filled.
    let has_room_for = |columns: usize| columns < width;
    if endless {
        let times = if has_room_for(words + TIMES) { " [{elapsed_precise}]" } else { "" };
        return format!("{{prefix}} {text}{times}{}", if has_room_for(words) { message } else { "" });
    }
    // The brackets and the space before them.
    let words = words + 3;
    if has_room_for(words + BAR + TIMES) {
        format!("{{prefix}} [{{bar:{BAR}}}] {text} [{{elapsed_precise}}<{{eta_precise}}]{message}")
    } else if has_room_for(words + SHORTEST_BAR + TIMES) {
        let bar = width - 1 - words - TIMES;
        format!("{{prefix}} [{{bar:{bar}}}] {text} [{{elapsed_precise}}<{{eta_precise}}]{message}")
    } else if has_room_for(words + SHORTEST_BAR) {
        format!("{{prefix}} [{{bar:{}}}] {text}{message}", width - 1 - words)
    } else if has_room_for(words) {
        format!("{{prefix}} {text}{message}")
    } else {
        text.to_string()
    }
}

/// The style for a template.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// Wraps lines between words at `width` columns. Continuation lines are indented by 4. Words longer than the width stay
/// whole, and so do commands in quotes, which are for copying, and numbers with their units. With a width of 0, which
/// terminals without a size have, all lines stay whole.
pub(in crate::cli) fn wrapped(text: &str, width: usize) -> String {
    let width = if width == 0 { usize::MAX } else { width };
    const INDENT: usize = 4;
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.split_inclusive('\n') {
        let mut column = 0;
        for word in words(line) {
            let shown = word.trim_end().width();
            if column > INDENT && column + shown > width {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                out.push_str(&" ".repeat(INDENT));
                column = INDENT;
            }
            out.push_str(word);
            column += word.width();
        }
    }
    out
}

/// The words of a line, each with the space behind it; `'ringmark report FILE'` and `88.3 %` are one.
fn words(line: &str) -> Vec<&str> {
    const COMMAND: &str = "'ringmark ";
    let mut words = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let quoted = rest.strip_prefix(COMMAND).and_then(|rest| rest.find('\'')).map_or(0, |end| COMMAND.len() + end);
        let after_word = |start: usize| rest[start..].find(' ').map_or(rest.len(), |space| start + space + 1);
        let (mut end, next) = (after_word(quoted), after_word(after_word(quoted)));
        let is_number = rest[..end].trim_end().ends_with(|c: char| c.is_ascii_digit());
        if is_number && is_unit(rest[end..next].trim_end()) {
            end = next;
        }
        let (word, after) = rest.split_at(end);
        words.push(word);
        rest = after;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_flags_stay_whole() {
        let text = "hint: see 'ringmark guide shards' or use fewer --workers\n";
        assert_eq!(wrapped(text, 30), "hint: see\n    'ringmark guide shards' or\n    use fewer --workers\n");
        assert_eq!(wrapped(text, 0), text);
        assert_eq!(words("it's 'a b' 'ringmark x"), ["it's ", "'a ", "b' ", "'ringmark ", "x"]);
        assert_eq!(words("at 88.3 % of 4 cores, 12 ms."), ["at ", "88.3 % ", "of ", "4 ", "cores, ", "12 ms."]);
    }

    #[test]
    fn parts_are_dropped_as_the_terminal_gets_narrower() {
        let message = "20 ok, 19.5 req/s".len();
        let at = |width| template(&Counts::Requests(1000), "Processing".len(), message, width);
        assert!(at(200).starts_with("{prefix} [{bar:40}] {pos}/{len} [{elapsed_precise}<{eta_precise}] {msg}"));
        assert_eq!(at(80), "{prefix} [{bar:15}] {pos}/{len} [{elapsed_precise}<{eta_precise}] {msg}");
        assert_eq!(at(60), "{prefix} [{bar:18}] {pos}/{len} {msg}");
        assert_eq!(at(45), "{prefix} {pos}/{len} {msg}");
        assert_eq!(at(20), "{pos}/{len}");
        assert_eq!(template(&Counts::Endless(12), 10, 5, 80), "{prefix} {pos} [{elapsed_precise}] {msg}");
        assert_eq!(template(&Counts::Endless(12), 10, 5, 30), "{prefix} {pos} {msg}");
        assert_eq!(
            template(&Counts::Share, 10, 0, 80),
            "{prefix} [{bar:38}] {percent}% [{elapsed_precise}<{eta_precise}]"
        );
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two three\nfour\n", 9), "one two\n    three\nfour\n");
        assert_eq!(wrapped("short\n", 80), "short\n");
        // A Chinese character has two columns.
        assert_eq!(wrapped("模型 千问 abc\n", 10), "模型 千问\n    abc\n");
        let long = "x".repeat(30);
        assert_eq!(wrapped(&format!("a {long} b\n"), 10), format!("a {long}\n    b\n"));
    }
}
