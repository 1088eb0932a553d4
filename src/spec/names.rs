//! Names as flag values: recognizes program paths, suggests known names for misspelled ones.

use crate::api::endpoint::endings;

/// Whether the name of a dataset or an API is the path of a program. Built-in names contain no `/` and no `.`.
pub(crate) fn is_program(name: &str) -> bool {
    name.contains(['/', '.'])
}

/// The known name most similar to `given`, if its edit distance is at most a third of its length.
pub fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given = given.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|name| (distance(&given, name), *name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .min()
        .map(|(_, name)| name)
}

/// The endpoint that was probably meant by `path`, which a server does not know: one with a similar name, or the same one
/// below `/v1`. `None` if `path` is already such an endpoint, or similar to none.
pub(crate) fn nearest_endpoint(path: &str) -> Option<String> {
    let path = path.trim_end_matches('/');
    let misspelled = endings().filter_map(|ending| {
        let (base, wrong_letters) = similar_part(path, ending)?;
        Some((wrong_letters, format!("{base}{ending}")))
    });
    let nearest = misspelled.min_by_key(|(wrong_letters, _)| *wrong_letters).map(|(_, endpoint)| endpoint);
    let below_v1 = || {
        let (base, ending) = endings().find_map(|ending| Some((path.strip_suffix(ending)?, ending)))?;
        (base.is_empty()).then(|| format!("/v1{ending}"))
    };
    nearest.or_else(below_v1)
}

/// The part of `path` before the segments that are similar to `ending` but differ from it, and in how many letters.
fn similar_part<'a>(path: &'a str, ending: &str) -> Option<(&'a str, usize)> {
    let starts: Vec<usize> = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).collect();
    let segments = ending.matches('/').count();
    let parts = starts.windows(segments + 1).map(|part| (part[0], part[segments]));
    let similar = parts.filter_map(|(start, end)| {
        let wrong_letters = distance(&path[start..end], ending);
        // Another API's endpoint of a similar length is farther away.
        (1..=MISSPELLED).contains(&wrong_letters).then_some((&path[..start], wrong_letters))
    });
    similar.min_by_key(|(_, wrong_letters)| *wrong_letters)
}

/// Letters that a misspelled endpoint may have wrong.
const MISSPELLED: usize = 2;

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
    #[test]
    fn a_misspelled_endpoint_gets_the_nearest() {
        for (path, expected) in [
            // The endpoint was added to a path that is not known.
            ("/v1/chat/completion/chat/completions", Some("/v1/chat/completions")),
            ("/v1/chat/completion/models", Some("/v1/chat/completions")),
            ("/proxy/v1/embedding", Some("/proxy/v1/embeddings")),
            ("/v1/mesages/v1/messages", Some("/v1/messages")),
            ("/v1/response/", Some("/v1/responses")),
            ("/chat/completions", Some("/v1/chat/completions")),
            ("/v1/chat/completions", None),
            ("/v1/completions", None),
            ("/generate", None),
            ("", None),
        ] {
            assert_eq!(nearest_endpoint(path).as_deref(), expected, "{path}");
        }
    }
}
