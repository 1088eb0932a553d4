//! `--dataset builtin`: a hundred questions in several languages, from one word to a page, so that a first run needs no
//! file and still has varied prompts.

/// The questions, separated by lines of `%%`.
const TEXT: &str = include_str!("builtin.txt");

/// Every question, in a fixed order.
pub fn prompts() -> impl Iterator<Item = &'static str> {
    TEXT.trim_end().split("\n%%\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn there_are_a_hundred_different_questions_of_varied_length() {
        let all: Vec<&str> = prompts().collect();
        assert_eq!(all.len(), 100);
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 100);
        assert!(all.iter().all(|text| !text.trim().is_empty() && text.trim() == *text));
        let lengths: Vec<usize> = all.iter().map(|text| text.chars().count()).collect();
        assert!(lengths.iter().any(|length| *length < 20));
        assert!(lengths.iter().any(|length| *length > 800));
    }
}
