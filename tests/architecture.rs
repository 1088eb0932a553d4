//! Which module may use which, which crate may be used where, and that no file depends on one machine. Each rule has a
//! test on a small tree that breaks it. Rules about single expressions are lints: see `[lints]` in Cargo.toml,
//! clippy.toml and src/lib.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

// The rules.

/// A module and its level. A module may use modules of lower levels and the parts of its own top-level module. The first
/// entry that fits counts.
const LEVELS: &[(&str, u8)] = &[
    // Values of flags that several modules share, and what masks secrets.
    ("files", 0),
    ("options", 0),
    ("secrets", 0),
    ("visible", 0),
    ("time", 0),
    ("finding", 1),
    ("protocol", 1),
    ("host", 2),
    ("net", 2),
    ("record", 2),
    ("api", 3),
    ("mock", 3),
    ("workload", 4),
    ("plan", 5),
    ("log", 5),
    // Flags become a plan.
    ("spec", 6),
    ("engine", 6),
    ("store", 6),
    // It downloads what a plan needs, before the plan is made.
    ("hub", 7),
    // Shards meet with what a plan says.
    ("rendezvous", 7),
    ("server", 7),
    // It runs the engine against the mock, as a run does.
    ("roofline", 7),
    ("search", 8),
    ("stats", 8),
    ("report", 9),
    // It prints its sheets with the tables of reports.
    ("judge", 10),
    ("visualizer", 10),
    ("run", 11),
    ("sweep", 12),
    // From flags to plans that can run.
    ("prepare", 13),
    ("guide", 13),
    ("embed", 14),
    ("cli", 14),
];

/// Modules of one level that may use each other.
const PAIRS: &[(&str, &str)] = &[("stats", "search")];

/// A crate, or a module of a crate, that only these modules may use.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("monoio", &["engine"]),
    ("io_uring", &["engine"]),
    ("rusqlite", &["store", "report::export"]),
    ("memmap2", &["files"]),
    ("clap", &["cli", "spec"]),
    ("ratatui", &["cli::live"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("pulldown_cmark", &["guide"]),
    ("tokenizers", &["workload"]),
    ("minijinja", &["workload", "api"]),
];

/// A crate, or a module of a crate, that these modules may not use.
const NOT_IN: &[(&str, &[&str])] = &[
    // It builds a tree for every event, which is too slow while streaming: `protocol::json` scans instead.
    ("serde_json", &["engine", "protocol"]),
    // Without I/O they can be fuzzed, and tested on any machine.
    ("std::fs", PURE),
    ("std::net::TcpStream", PURE),
    ("std::net::TcpListener", PURE),
    ("std::thread", PURE),
    ("std::process", PURE),
    ("std::env", PURE),
];
const PURE: &[&str] = &["finding", "options", "plan", "protocol", "record", "search", "secrets", "spec", "stats"];

/// A group of files that use each other in a cycle, and why. A group must be listed exactly as it is, so that the list
/// shrinks whenever a cycle does.
struct Cycle {
    files: &'static [&'static str],
    reason: &'static str,
}

const CYCLES: &[Cycle] = &[];

fn imports_point_down(tree: &Tree) -> Vec<String> {
    let level = |module: &str| LEVELS.iter().find(|(name, _)| is_within(module, name)).copied();
    let mut breaches = Vec::new();
    for module in tree.modules.keys().filter(|module| !module.is_empty()) {
        let Some((own_name, own_level)) = level(module) else {
            breaches.push(format!("{module} has no level in tests/architecture.rs"));
            continue;
        };
        for used in tree.used_by(module) {
            let Some((name, its_level)) = level(&used) else { continue };
            let same_top = top_level(module) == top_level(&used);
            let paired = PAIRS.iter().any(|&pair| pair == (own_name, name) || pair == (name, own_name));
            if !(same_top || its_level < own_level || paired) {
                breaches.push(format!("{module} (level {own_level}) uses {used} (level {its_level})"));
            }
        }
    }
    breaches
}

fn crates_stand_where_allowed(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for (module, source) in &tree.modules {
        let is_in = |places: &[&str]| places.iter().any(|place| is_within(module, place));
        let uses = |name: &str| source.paths.iter().any(|path| is_within(&path.join("::"), name));
        let outside = ONLY_IN.iter().filter(|(name, places)| !is_in(places) && uses(name));
        let inside = NOT_IN.iter().filter(|(name, places)| is_in(places) && uses(name));
        breaches.extend(outside.map(|(name, places)| format!("{module} uses {name}, which only {places:?} may use")));
        breaches.extend(inside.map(|(name, _)| format!("{module} may not use {name}")));
    }
    breaches
}

/// The groups of modules that reach each other through what they use. That a file uses its parent does not count: what
/// the files of a module share stands in the parent, which in turn calls them.
fn cycles(tree: &Tree) -> BTreeSet<Vec<String>> {
    let used = |module: &str| tree.used_by(module).into_iter().filter(|used| !is_within(module, used)).collect();
    let uses: BTreeMap<&str, BTreeSet<String>> = tree.modules.keys().map(|m| (m.as_str(), used(m))).collect();
    let reach: BTreeMap<&str, BTreeSet<&str>> = uses.keys().map(|module| (*module, reachable(&uses, module))).collect();
    let group = |module: &str| -> Vec<String> {
        reach[module].iter().filter(|other| reach[*other].contains(module)).map(|other| other.to_string()).collect()
    };
    reach.keys().map(|module| group(module)).filter(|group| group.len() > 1).collect()
}

fn reachable<'a>(uses: &'a BTreeMap<&str, BTreeSet<String>>, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(next) = open.pop() {
        open.extend(uses[next].iter().map(String::as_str).filter(|used| reached.insert(*used)));
    }
    reached
}

fn only_known_cycles(tree: &Tree, known: &[Cycle]) -> Vec<String> {
    let found = cycles(tree);
    let known: BTreeSet<Vec<String>> = known
        .iter()
        .map(|cycle| {
            assert!(cycle.reason.len() > 20, "the reason for a cycle says why it stays: {:?}", cycle.files);
            cycle.files.iter().copied().collect::<BTreeSet<_>>().into_iter().map(str::to_string).collect()
        })
        .collect();
    let new = found.difference(&known).map(|group| format!("use each other in a cycle: {}", group.join(", ")));
    let gone = known.difference(&found).map(|group| format!("no longer exactly this cycle: {}", group.join(", ")));
    new.chain(gone).collect()
}

/// Nothing in the repository may depend on where one machine keeps things, or on where packages come from.
fn machine_paths(path: &str, text: &str) -> Vec<String> {
    // Split, so that this file does not break its own rule.
    const BANNED: &[(&str, &str)] = &[
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("/Us", "ers/"),
        ("pypi", ".org"),
        ("npmjs", ".org"),
        ("deb.", "debian.org"),
    ];
    let banned: Vec<String> = BANNED.iter().map(|(start, end)| format!("{start}{end}")).collect();
    let lines = text.lines().enumerate();
    let hits =
        lines.flat_map(|(index, line)| banned.iter().filter(|word| line.contains(*word)).map(move |w| (index, w)));
    hits.map(|(index, word)| format!("{path}:{}: '{word}'", index + 1)).collect()
}

// The modules of a crate and what they use.

/// The files of a crate by module: `record::store` is src/record/store/mod.rs, the empty name the crate's root.
struct Tree {
    modules: BTreeMap<String, Source>,
}

/// What one file names. Paths begin with `crate`, or with the name of another crate.
#[derive(Default)]
struct Source {
    /// Where in the crate the file is, and the inline modules around what is being visited.
    position: Vec<String>,
    /// Names that `use` brings into the file, and the paths they stand for.
    imports: BTreeMap<String, Vec<String>>,
    /// All paths, those of private imports included. A `pub use` only forwards, which makes nothing depend on it.
    paths: BTreeSet<Vec<String>>,
}

impl Tree {
    fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Tree {
        let mut modules = BTreeMap::new();
        for (path, text) in files {
            let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
            let module = inner.strip_suffix("/mod").unwrap_or(inner).replace('/', "::");
            let is_tests = module.ends_with("::tests");
            if module == "main" || is_tests {
                continue;
            }
            let module = if module == "lib" { String::new() } else { module };
            let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
            let names = module.split("::").filter(|name| !name.is_empty());
            let position = std::iter::once("crate").chain(names).map(str::to_string).collect();
            let mut source = Source { position, ..Source::default() };
            source.visit_file(&file);
            modules.insert(module, source);
        }
        Tree { modules }
    }

    /// The other modules that `module` uses.
    fn used_by(&self, module: &str) -> BTreeSet<String> {
        let paths = self.modules[module].paths.iter();
        let mut used: BTreeSet<String> = paths.filter_map(|path| self.find(module, path, 0)).collect();
        used.remove(module);
        used
    }

    /// The module in which `path`, as `module` names it, is defined; `None` outside of this crate. The crate's root is no
    /// module that anything can use: it only lists the others.
    fn find(&self, module: &str, path: &[String], depth: u32) -> Option<String> {
        let (first, rest) = path.split_first()?;
        if first != "crate" {
            let child = join(module, first);
            if let Some(import) = self.modules[module].imports.get(first).filter(|_| depth < 8) {
                return self.find(module, &[import, rest].concat(), depth + 1);
            }
            let is_child = !rest.is_empty() && self.modules.contains_key(&child);
            return is_child.then(|| self.find_below(child, rest, depth)).flatten();
        }
        self.find_below(String::new(), rest, depth)
    }

    fn find_below(&self, mut module: String, path: &[String], depth: u32) -> Option<String> {
        for (index, name) in path.iter().enumerate() {
            let inner = join(&module, name);
            if self.modules.contains_key(&inner) {
                module = inner;
            } else if self.modules[&module].imports.contains_key(name) && depth < 8 {
                return self.find(&module, &path[index..], depth + 1);
            } else {
                break;
            }
        }
        (!module.is_empty()).then_some(module)
    }
}

impl Source {
    /// `super` and `self` replaced by what they stand for.
    fn absolute(&self, path: &[String]) -> Vec<String> {
        let mut start = self.position.clone();
        let supers = path.iter().take_while(|name| *name == "super").count();
        match path.first().map(String::as_str) {
            Some("self") => [&start[..], &path[1..]].concat(),
            Some("super") => {
                start.truncate(start.len() - supers);
                [&start[..], &path[supers..]].concat()
            }
            _ => path.to_vec(),
        }
    }

    fn add_use(&mut self, tree: &syn::UseTree, stem: &[String], forwards: bool) {
        let extend = |name: &syn::Ident| [stem, &[name.to_string()]].concat();
        let (path, name) = match tree {
            syn::UseTree::Path(path) => return self.add_use(&path.tree, &extend(&path.ident), forwards),
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.add_use(tree, stem, forwards));
            }
            syn::UseTree::Name(name) if name.ident == "self" => (stem.to_vec(), stem.last().cloned()),
            syn::UseTree::Name(name) => (extend(&name.ident), Some(name.ident.to_string())),
            syn::UseTree::Rename(rename) => (extend(&rename.ident), Some(rename.rename.to_string())),
            syn::UseTree::Glob(_) => (stem.to_vec(), None),
        };
        let path = self.absolute(&path);
        // `use clap;` says no more than the name does.
        let says_more = path.len() > 1;
        if let Some(name) = name.filter(|name| says_more || path[0] != *name) {
            self.imports.insert(name, path.clone());
        }
        if !forwards {
            self.paths.insert(path);
        }
    }

    /// Paths in what a macro or an attribute is given, which is not parsed.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if colons == 2 => path.push(name.to_string()),
                TokenTree::Ident(name) => {
                    self.add_path(&std::mem::replace(&mut path, vec![name.to_string()]));
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                _ => self.add_path(&std::mem::take(&mut path)),
            }
            colons = 0;
        }
        self.add_path(&path);
    }

    fn add_path(&mut self, path: &[String]) {
        if !path.is_empty() {
            self.paths.insert(self.absolute(path));
        }
    }
}

impl Visit<'_> for Source {
    fn visit_item(&mut self, item: &syn::Item) {
        if !is_for_tests(item_attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &syn::ItemMod) {
        self.position.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.position.pop();
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.add_use(&item.tree, &[], !matches!(item.vis, syn::Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add_path(&names);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &syn::Macro) {
        self.add_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, attribute: &syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.add_tokens(list.tokens.clone());
        }
        visit::visit_attribute(self, attribute);
    }
}

fn item_attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    let is_test = |list: &syn::MetaList| list.path.is_ident("cfg") && list.tokens.to_string() == "test";
    attributes.iter().any(|attribute| matches!(&attribute.meta, syn::Meta::List(list) if is_test(list)))
}

fn join(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_string() } else { format!("{module}::{name}") }
}

/// Whether `path` is `outer` or lies in it.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn top_level(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

// The files of this repository.

fn files(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    const GENERATED: &[&str] = &["target", "corpus", "captures", "__pycache__", "outputs", "artifacts"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().to_string();
            if path.is_dir() && !GENERATED.contains(&name.as_str()) {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let relative = path.strip_prefix(root).unwrap().to_string_lossy().to_string();
                found.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no files with {endings:?}");
    found
}

fn own_tree() -> Tree {
    let files = files("src", &[".rs"]);
    Tree::new(files.iter().map(|(path, text)| (path.as_str(), text.as_str())))
}

fn assert_none(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn modules_use_only_lower_levels() {
    assert_none(&imports_point_down(&own_tree()));
    let empty =
        ["api", "report", "time", "record", "store", "engine", "stats", "server", "server/models", "spec", "run"];
    let breaches = |path: &str, text: &str| {
        let paths: Vec<String> = empty.iter().map(|name| format!("src/{name}.rs")).collect();
        let others = paths.iter().filter(|other| *other != path).map(|other| (other.as_str(), ""));
        imports_point_down(&Tree::new(others.chain([("src/lib.rs", ""), (path, text)]))).len()
    };
    assert_eq!(breaches("src/protocol/a.rs", "use crate::api::Meaning;"), 1);
    assert_eq!(breaches("src/protocol/a.rs", "fn f() { println!(\"{}\", crate::api::f()); }"), 1);
    assert_eq!(breaches("src/protocol.rs", "use super::api::Meaning;"), 1);
    assert_eq!(breaches("src/stats/a.rs", "use crate::{report, time};"), 1);
    assert_eq!(breaches("src/record.rs", "use crate::store::Reader;"), 1);
    assert_eq!(breaches("src/engine/a.rs", "use crate::server::models;"), 1);
    assert_eq!(breaches("src/plan/a.rs", "use crate::spec::Spec;"), 1);
    assert_eq!(breaches("src/spec/a.rs", "use crate::record::Block;"), 0);
    assert_eq!(breaches("src/cli.rs", "use crate::run::run;"), 0);
    assert_eq!(breaches("src/novel/a.rs", ""), 1, "a new module needs a level");
}

#[test]
fn crates_are_used_only_where_allowed() {
    assert_none(&crates_stand_where_allowed(&own_tree()));
    let breaches = |path: &str, text: &str| crates_stand_where_allowed(&Tree::new([(path, text)])).len();
    assert_eq!(breaches("src/stats/a.rs", "use rusqlite::Connection; // use clap::Args;"), 1);
    assert_eq!(breaches("src/stats/a.rs", "fn f() -> &'static str { let monoio = 1; \"clap::x\" }"), 0);
    assert_eq!(breaches("src/store/a.rs", "use rusqlite::Connection;"), 0);
    assert_eq!(breaches("src/engine/a.rs", "fn f() { serde_json::from_str(x) }"), 1);
    assert_eq!(breaches("src/protocol/a.rs", "#[cfg(test)] mod tests { use serde_json::Value; }"), 0);
    assert_eq!(breaches("src/stats/a.rs", "use std::{fs, env};"), 2);
    assert_eq!(breaches("src/server/a.rs", "fn f() { std::fs::read(x) }"), 0);
}

#[test]
fn files_do_not_use_each_other_in_cycles() {
    assert_none(&only_known_cycles(&own_tree(), CYCLES));
    let root = ("src/lib.rs", "");
    let direct = Tree::new([root, ("src/a.rs", "use crate::b::B;"), ("src/b.rs", "fn f() { super::a::g() }")]);
    assert_eq!(only_known_cycles(&direct, &[]), ["use each other in a cycle: a, b"]);
    let known = Cycle { files: &["a", "b"], reason: "both are halves of one definition" };
    assert!(only_known_cycles(&direct, &[known]).is_empty());
    let inner = |parent: &'static str, child: &'static str| {
        cycles(&Tree::new([root, ("src/a/mod.rs", parent), ("src/a/b.rs", child), ("src/a/c.rs", "use super::B;")]))
            .len()
    };
    assert_eq!(inner("mod b; fn f() { b::g() }", "use super::f;"), 0, "parent and child may use each other");
    assert_eq!(inner("mod b; pub use b::B;", "use super::c::C;"), 1, "a name belongs to the file that defines it");
    assert_eq!(inner("mod b; pub use b::B;", "fn f() { super::c::g() }"), 1);
}

#[test]
fn a_cycle_that_is_gone_leaves_the_list() {
    let apart = Tree::new([("src/lib.rs", ""), ("src/a.rs", "use crate::b::B;"), ("src/b.rs", "")]);
    let known = Cycle { files: &["a", "b"], reason: "both are halves of one definition" };
    assert_eq!(only_known_cycles(&apart, &[known]), ["no longer exactly this cycle: a, b"]);
}

#[test]
fn the_repository_depends_on_no_machine() {
    let endings = [".rs", ".py", ".sh", ".md", ".toml", ".conf", ".template", "run", "seed"];
    let mut all: Vec<(String, String)> = Vec::new();
    for folder in ["src", "tests", "tools", "bench", ".ci", "perf-notes"] {
        all.extend(files(folder, &endings));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "Cargo.toml", "clippy.toml", "deny.toml"]
    {
        all.push((name.to_string(), fs::read_to_string(root.join(name)).unwrap()));
    }
    let breaches: Vec<String> = all.iter().flat_map(|(path, text)| machine_paths(path, text)).collect();
    assert_none(&breaches);
    assert_eq!(machine_paths("a", &format!("cd /{}/user/x", "home")).len(), 1);
    assert!(machine_paths("a", "network/x").is_empty());
}
