//! The rules of src/README.md, kept by a test: who may use what, which way imports point, how long things may be. Each
//! rule is a function over source text, and each has a test on a snippet that breaks it.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file as the rules see it.
struct Source {
    /// Relative to the crate, with forward slashes.
    path: String,
    /// The text as it is.
    text: String,
    /// Without comments, the contents of literals, and the module of unit tests; lines stay where they were.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        // A module of unit tests in a file of its own.
        let tests = path.starts_with("src/") && path.ends_with("/tests.rs");
        let code = if tests { String::new() } else { without_tests(&blank(text)) };
        Source { path: path.to_string(), text: text.to_string(), code }
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    fn breach(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

// Reading source text.

/// The text with comments and the contents of string and character literals replaced by spaces.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment(&chars, at);
        match end {
            Some(end) => out.extend(chars[at..end].iter().map(|&c| if c == '\n' || c == '"' { c } else { ' ' })),
            None => out.push(chars[at]),
        }
        at = end.unwrap_or(at + 1);
    }
    out
}

/// Where the comment or literal that begins at `at` ends.
fn literal_or_comment(chars: &[char], at: usize) -> Option<usize> {
    let starts = |word: &str| word.chars().enumerate().all(|(offset, c)| chars.get(at + offset) == Some(&c));
    let find = |from: usize, word: &[char]| {
        (from..chars.len()).find(|&i| chars[i..].starts_with(word)).map_or(chars.len(), |i| i + word.len())
    };
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if starts("//") => Some((at..chars.len()).find(|&i| chars[i] == '\n').unwrap_or(chars.len())),
        '/' if starts("/*") => Some(find(at + 2, &['*', '/'])),
        'r' if !in_word || chars[at - 1] == 'b' => {
            let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
            let quoted = chars.get(at + 1 + hashes) == Some(&'"');
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            quoted.then(|| find(at + 2 + hashes, &end))
        }
        '"' => Some(quoted_end(chars, at, '"')),
        // A lifetime has no closing quote.
        '\'' if starts("'\\") || chars.get(at + 2) == Some(&'\'') => Some(quoted_end(chars, at, '\'')),
        _ => None,
    }
}

fn quoted_end(chars: &[char], at: usize, quote: char) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != quote {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

/// The text with modules of unit tests emptied: from `#[cfg(test)]` in the first column to the next `}` there.
fn without_tests(code: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(code.len());
    for line in code.lines() {
        inside |= line.starts_with("#[cfg(test)]");
        if !inside {
            out.push_str(line);
        }
        inside &= line != "}" && !(line.starts_with("mod ") && line.ends_with(';'));
        out.push('\n');
    }
    out
}

/// Whether `word` stands in `line` as a word of its own.
fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(start, _)| {
        !part_of_word(line[..start].chars().next_back()) && !part_of_word(line[start + word.len()..].chars().next())
    })
}

// The rules. Each returns what is wrong, a line each.

/// A word and the places that may use it.
struct Ban {
    words: &'static [&'static str],
    places: &'static [&'static str],
}

const BANS: &[Ban] = &[
    Ban { words: &["monoio", "io_uring"], places: &["src/engine/", "src/mock/"] },
    Ban { words: &["rusqlite"], places: &["src/record/store", "src/report/export"] },
    Ban { words: &["clap"], places: &["src/cli/"] },
    Ban { words: &["tokenizers"], places: &["src/workload/"] },
    Ban { words: &["minijinja"], places: &["src/workload/", "src/api/"] },
    // The command line stamps folders and log lines; what is measured has the engine's clock.
    Ban {
        words: &["Instant", "SystemTime", "Timestamp::now", "Zoned::now"],
        places: &["src/engine/clock.rs", "src/rig/", "src/server/", "src/mock/", "src/cli/", "src/visualizer/"],
    },
    Ban { words: &["println", "print"], places: &["src/cli/", "src/report/"] },
    Ban { words: &["eprintln", "eprint"], places: &["src/cli/"] },
    Ban {
        words: &["unsafe"],
        places: &["src/engine/clock.rs", "src/engine/inbox/", "src/engine/pacer.rs", "src/rig/"],
    },
    Ban { words: &["todo", "unimplemented", "dbg", "dead_code"], places: &[] },
];

fn only_where_allowed(source: &Source) -> Vec<String> {
    let mut breaches = Vec::new();
    for ban in BANS.iter().filter(|ban| !source.is_in(ban.places)) {
        for (number, line) in source.numbered() {
            for word in ban.words.iter().filter(|word| has_word(line, word) && is_use(line, word)) {
                breaches.push(source.breach(number, &format!("'{word}' may stand only in {:?}", ban.places)));
            }
        }
    }
    breaches
}

/// Words that are also plain names count only where they are a macro's, an attribute's or a path's.
fn is_use(line: &str, word: &str) -> bool {
    let followed_by = |mark: &str| line.contains(&format!("{word}{mark}"));
    match word {
        "println" | "print" | "eprintln" | "eprint" | "todo" | "unimplemented" | "dbg" => followed_by("!"),
        "clap" | "rusqlite" | "monoio" | "io_uring" | "tokenizers" | "minijinja" => {
            followed_by("::") || line.contains(&format!("use {word}"))
        }
        _ => true,
    }
}

/// serde_json builds a tree for every event: too slow for the stream's path, where `protocol::json` scans.
fn no_serde_json_while_streaming(source: &Source) -> Vec<String> {
    if !source.is_in(&["src/engine/", "src/protocol/"]) {
        return Vec::new();
    }
    let hits = source.numbered().filter(|(_, line)| has_word(line, "serde_json"));
    hits.map(|(number, _)| source.breach(number, "no serde_json in engine/ and protocol/")).collect()
}

/// Protocol, API, workload, statistics and plans can be fuzzed and tested without a machine: they do no I/O.
fn pure_rooms_do_no_io(source: &Source) -> Vec<String> {
    const PURE: &[&str] = &["src/protocol/", "src/stats/", "src/time.rs", "src/spec.rs", "src/search"];
    const WORDS: &[&str] = &["std::fs", "std::net::Tcp", "std::thread", "std::process", "std::env"];
    if !source.is_in(PURE) {
        return Vec::new();
    }
    let hit = |line: &str| WORDS.iter().any(|word| line.contains(word));
    source.numbered().filter(|(_, line)| hit(line)).map(|(number, _)| source.breach(number, "no I/O here")).collect()
}

fn no_unwrap(source: &Source) -> Vec<String> {
    let mut breaches = Vec::new();
    let lines: Vec<&str> = source.text.lines().collect();
    for (number, line) in source.numbered() {
        if line.contains(".unwrap()") || line.contains(".unwrap_err()") {
            breaches.push(source.breach(number, "unwrap: name the invariant with expect, or give an error"));
        }
        // A method of that name of our own takes no text.
        if line.contains(".expect(\"") {
            let reason = lines[number - 1].split(".expect(\"").nth(1).unwrap_or_default();
            if reason.split_whitespace().count() < 4 {
                breaches.push(source.breach(number, "expect must name the invariant that justifies it"));
            }
        }
    }
    breaches
}

fn no_glob_imports(source: &Source) -> Vec<String> {
    let is_glob = |line: &str| {
        let line = line.trim();
        line.starts_with("use ") && line.ends_with("::*;") && line != "use super::*;" && !line.contains("proptest")
    };
    source
        .numbered()
        .filter(|(_, line)| is_glob(line))
        .map(|(number, _)| source.breach(number, "glob import"))
        .collect()
}

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 60;

fn files_are_short(source: &Source) -> Vec<String> {
    let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
    let too_long = lines > FILE_LINES;
    too_long.then(|| source.breach(lines, &format!("more than {FILE_LINES} lines of code"))).into_iter().collect()
}

/// A function that only fills a struct field by field, as the command line's conversion does, is long but not deep.
fn functions_are_short(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.code.lines().collect();
    let mut breaches = Vec::new();
    for (start, line) in lines.iter().enumerate().filter(|(_, line)| has_word(line, "fn") && !line.contains("(fn")) {
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(indent));
        let Some(length) = lines[start..].iter().position(|line| *line == closing) else { continue };
        let body = &lines[start + 1..start + length];
        let is_flat = |line: &&&str| {
            let line = line.trim();
            line.ends_with(',') && !line.contains('{')
        };
        let counted = body.len() - body.iter().filter(is_flat).count().min(body.len());
        // One arm for each finding: long, but not deep.
        let is_table = source.path.starts_with("src/finding/");
        if counted > FUNCTION_LINES && !is_table {
            breaches.push(source.breach(start + 1, &format!("a function of {counted} lines")));
        }
    }
    breaches
}

/// Room, or file where a room has parts on two levels, and its level. Imports point to the same room or downwards.
const LEVELS: &[(&str, u8)] = &[
    ("time", 0),
    ("finding", 0),
    ("protocol", 1),
    // Needs engine and mock, as a run does.
    ("rig::roofline", 5),
    ("rig", 1),
    ("mock", 1),
    ("record::collector", 4),
    ("record::store", 4),
    ("record::facts", 4),
    ("record::live", 4),
    ("record", 1),
    ("api", 2),
    ("workload", 2),
    // What was asked and what will be done name each other.
    ("spec", 3),
    ("plan", 3),
    ("log", 4),
    ("engine", 4),
    // It fills the plan's wants before a plan is made.
    ("hub", 4),
    // It speaks to the server with the engine's clock and TLS, and tells the log how it fares.
    ("server", 5),
    // Figures are a function of what is stored.
    ("stats", 6),
    ("report", 7),
    ("visualizer", 7),
    ("recount", 8),
    ("reparse", 8),
    ("run", 8),
    ("sweep", 8),
    // Pure: from summaries to the next load. Reports show what it found.
    ("search", 6),
    ("cli", 9),
    ("main", 10),
    ("lib", 10),
];

fn level(module: &str) -> Option<(&'static str, u8)> {
    let fits = |name: &str| module == name || module.starts_with(&format!("{name}::"));
    LEVELS.iter().find(|(name, _)| fits(name)).copied()
}

/// Pairs of one level that may import each other: parts of one subject.
const PAIRS: &[(&str, &str)] = &[
    ("spec", "plan"),
    ("workload", "api"),
    ("run", "sweep"),
    ("recount", "run"),
    ("reparse", "run"),
    ("stats", "search"),
    // It writes lengths of time.
    ("finding", "time"),
];

fn imports_point_down(source: &Source) -> Vec<String> {
    let module = module_of(&source.path);
    let Some((room, own)) = level(&module) else {
        return vec![source.breach(1, &format!("'{module}' has no level in tests/architecture.rs: give it one"))];
    };
    let mut breaches = Vec::new();
    for (number, line) in source.numbered() {
        for used in crate_paths(line) {
            let Some((name, theirs)) = level(&used) else { continue };
            let first = |name: &'static str| name.split("::").next().unwrap_or(name);
            let same = first(room) == first(name);
            let paired = PAIRS.iter().any(|&(a, b)| (a, b) == (room, name) || (b, a) == (room, name));
            // Within record, the parts that store may use the types, not the other way round.
            let allowed = if same { theirs <= own || room != "record" } else { theirs < own || paired };
            if !allowed {
                breaches.push(source.breach(number, &format!("{room} (level {own}) uses {name} (level {theirs})")));
            }
        }
    }
    breaches
}

/// `src/record/store/reader.rs` is `record::store::reader`, `src/api/mod.rs` is `api`.
fn module_of(path: &str) -> String {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    inner.strip_suffix("/mod").unwrap_or(inner).replace('/', "::")
}

/// The paths that a line names with `crate::`, one level into braces.
fn crate_paths(line: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (_, rest) in line.match_indices("crate::").map(|(at, word)| (at, &line[at + word.len()..])) {
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let stem: String = rest.chars().take_while(|&c| is_path(c)).collect();
        let parts = rest[stem.len()..].strip_prefix('{').and_then(|inner| inner.split('}').next());
        let parts = parts.map_or(vec![""], |inner| inner.split(',').map(str::trim).collect());
        paths.extend(parts.into_iter().map(|part| format!("{stem}{part}").trim_end_matches(':').to_string()));
    }
    paths
}

/// Nothing in the repository may depend on where one machine keeps things, or on where packages come from.
fn no_machine_paths(path: &str, text: &str) -> Vec<String> {
    // Written apart, so that this file does not break its own rule.
    let banned: Vec<String> = [
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("/Us", "ers/"),
        ("pypi", ".org"),
        ("npmjs", ".org"),
        ("deb.", "debian.org"),
    ]
    .iter()
    .map(|(a, b)| format!("{a}{b}"))
    .collect();
    let mut breaches = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for word in banned.iter().filter(|word| line.contains(word.as_str())) {
            breaches.push(format!("{path}:{}: '{word}'", index + 1));
        }
    }
    breaches
}

// The rules, held against what is there.

fn files(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().to_string();
            if path.is_dir()
                && !["target", "corpus", "captures", "__pycache__", "outputs", "artifacts"].contains(&name.as_str())
            {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let relative = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                found.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} holds nothing to look at");
    found
}

fn hold(rule: fn(&Source) -> Vec<String>) {
    let sources = files("src", &[".rs"]);
    let breaches: Vec<String> = sources.iter().flat_map(|(path, text)| rule(&Source::new(path, text))).collect();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn crates_and_macros_stand_only_where_allowed() {
    hold(only_where_allowed);
    let text =
        "use rusqlite::Connection;\nfn f() { println!(\"x\"); }\n// use clap::Args;\nlet monoio = \"clap::x\";\n";
    assert_eq!(only_where_allowed(&Source::new("src/stats/a.rs", text)).len(), 2);
    assert_eq!(only_where_allowed(&Source::new("src/engine/a.rs", "unsafe { f() }\nlet unsafety = 1;\n")).len(), 1);
    assert!(only_where_allowed(&Source::new("src/engine/inbox/a.rs", "unsafe { f() }")).is_empty());
    assert_eq!(only_where_allowed(&Source::new("src/run.rs", "let t = Instant::now();")).len(), 1);
    assert_eq!(only_where_allowed(&Source::new("src/cli/a.rs", "#[allow(dead_code)]\nfn f() { todo!() }")).len(), 2);
}

#[test]
fn nothing_builds_json_trees_while_streaming() {
    hold(no_serde_json_while_streaming);
    assert_eq!(no_serde_json_while_streaming(&Source::new("src/engine/a.rs", "serde_json::from_str(x)")).len(), 1);
    let in_tests = "#[cfg(test)]\nmod tests {\n    use serde_json::Value;\n}\n";
    assert!(no_serde_json_while_streaming(&Source::new("src/protocol/a.rs", in_tests)).is_empty());
}

#[test]
fn pure_rooms_touch_no_machine() {
    hold(pure_rooms_do_no_io);
    assert_eq!(pure_rooms_do_no_io(&Source::new("src/stats/a.rs", "std::fs::read(x)")).len(), 1);
    assert!(pure_rooms_do_no_io(&Source::new("src/server/a.rs", "std::fs::read(x)")).is_empty());
}

#[test]
fn nothing_unwraps_without_a_reason() {
    hold(no_unwrap);
    let text = "x.unwrap();\ny.expect(\"oops\");\nz.expect(\"a spec holds only strings\");\n";
    assert_eq!(no_unwrap(&Source::new("src/a.rs", text)).len(), 2);
}

#[test]
fn imports_name_what_they_import() {
    hold(no_glob_imports);
    assert_eq!(no_glob_imports(&Source::new("src/a.rs", "use std::io::*;\nuse super::*;\n")).len(), 1);
}

#[test]
fn files_and_functions_are_short() {
    hold(files_are_short);
    hold(functions_are_short);
    let long = "fn f() {\n".to_string() + &"    g();\n".repeat(FUNCTION_LINES + 1) + "}\n";
    assert_eq!(functions_are_short(&Source::new("src/a.rs", &long)).len(), 1);
    assert_eq!(files_are_short(&Source::new("src/a.rs", &long.repeat(9))).len(), 1);
    let flat = "fn f() {\n".to_string() + &"    a: b,\n".repeat(FUNCTION_LINES + 1) + "}\n";
    assert!(functions_are_short(&Source::new("src/a.rs", &flat)).is_empty());
}

#[test]
fn arrows_point_one_way() {
    hold(imports_point_down);
    let up = |path: &str, text: &str| imports_point_down(&Source::new(path, text)).len();
    assert_eq!(up("src/protocol/a.rs", "use crate::api::Meaning;"), 1);
    assert_eq!(up("src/stats/a.rs", "use crate::{report, time};"), 1);
    assert_eq!(up("src/record/mod.rs", "use crate::plan::Plan;"), 1);
    assert_eq!(up("src/record/mod.rs", "use crate::record::store::Reader;"), 1);
    assert_eq!(up("src/rig/facts.rs", "use crate::engine::Engine;"), 1);
    assert_eq!(up("src/engine/a.rs", "use crate::stats::Summary;"), 1);
    assert_eq!(up("src/engine/a.rs", "use crate::server::models;"), 1, "rooms of one level do not know each other");
    assert_eq!(up("src/plan/resolve.rs", "use crate::spec::Spec;"), 0);
    assert_eq!(up("src/cli/mod.rs", "use crate::run::run;"), 0);
    assert_eq!(up("src/novel/a.rs", ""), 1, "a new room needs a level");
}

#[test]
fn the_repository_stands_alone() {
    let mut breaches = Vec::new();
    for folder in ["src", "tests", "tools", "bench", ".ci", "perf-notes"] {
        let endings = [".rs", ".py", ".sh", ".md", ".toml", ".conf", ".template", "run", "seed"];
        breaches.extend(files(folder, &endings).iter().flat_map(|(path, text)| no_machine_paths(path, text)));
    }
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    breaches.extend(no_machine_paths("README.md", &readme));
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
    assert_eq!(no_machine_paths("a", &format!("cd /{}/user/x", "home")).len(), 1);
    assert!(no_machine_paths("a", "network/x").is_empty());
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "a /* x */ b // c\n\"d \\\" e\" f 'g' h<'i> r#\"j\"k\"# '\\'' l\n";
    let code = blank(text);
    let words: Vec<&str> = code.split_whitespace().filter(|word| !word.starts_with('"')).collect();
    assert_eq!(words, ["a", "b", "f", "h<'i>", "l"], "{code:?}");
    assert_eq!(code.lines().count(), text.lines().count());
}
