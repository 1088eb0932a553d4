//! Names as flag values: recognizes program paths, suggests known names for misspelled ones.

/// Whether the name of a dataset or an API is the path of a program. Built-in names contain no `/` and no `.`.
pub(crate) fn is_program(name: &str) -> bool {
    name.contains(['/', '.'])
}

/// The known name most similar to `given`, if its edit distance is at most a third of its length.
pub fn nearest(given: &str, known: &[&'static str]) -> Option<&'static str> {
    let given = given.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|name| (distance(&given, name), *name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein distance over characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_similar_names_are_suggested() {
        let known = ["builtin", "line_by_line"];
        assert_eq!(nearest("buildin", &known), Some("builtin"));
        assert_eq!(nearest("line-by-line", &known), Some("line_by_line"));
        assert_eq!(nearest("random", &known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
