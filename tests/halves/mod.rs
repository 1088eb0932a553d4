//! A page has both languages; this is what a reader sees of it.

use ringmark::spec::Language;

/// The page without the elements of the other language.
pub fn half(page: &str, shown: Language) -> String {
    let hidden = if shown == Language::En { "lang=\"zh-CN\"" } else { "lang=\"en\"" };
    let body = page.find("<main>").expect("a page has a body");
    let (mut out, mut rest) = (page[..body].to_string(), &page[body..]);
    // Open elements inside a hidden one.
    let mut depth = 0;
    while let Some(begin) = rest.find('<') {
        let end = begin + rest[begin..].find('>').expect("every tag ends") + 1;
        let tag = &rest[begin..end];
        let hides = depth == 0 && tag.contains(hidden);
        if depth == 0 {
            out.push_str(&rest[..if hides { begin } else { end }]);
        }
        match (depth, tag.starts_with("</"), tag.ends_with("/>")) {
            (0, ..) => depth = usize::from(hides),
            (_, true, _) => depth -= 1,
            (_, false, false) => depth += 1,
            (_, false, true) => {}
        }
        rest = &rest[end..];
        if depth == 0 && tag == "<script>" {
            break;
        }
    }
    assert_eq!(depth, 0, "a hidden element does not end");
    out + rest
}
