//! Python files that register classes, with `@register_dataset` or `@register_api` of evalscope or of the package `ringmark`,
//! as plug-ins. They run in a Python process that gets the modules of the package from here, so that nothing needs to be
//! installed and files written for evalscope run unchanged.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value as Json, json};

/// The script that loads the file and calls the class.
const HOST: &str = include_str!("../../tools/python/python/ringmark/plugin/_host.py");

macro_rules! modules {
    ($($name:literal: $file:literal,)*) => {
        [$(($name, include_str!(concat!("../../tools/python/python/ringmark/", $file)))),*]
    };
}

/// The modules of the package that files can import, by name, in an order in which each uses only those before it.
const MODULES: [(&str, &str); 18] = modules! {
    "ringmark.perf._fields": "perf/_fields.py",
    "ringmark.perf.arguments": "perf/arguments.py",
    "ringmark.plugin.responses": "plugin/responses.py",
    "ringmark.plugin.tokens": "plugin/tokens.py",
    "ringmark.plugin.dataset": "plugin/dataset.py",
    "ringmark.plugin.api": "plugin/api.py",
    "ringmark.plugin.registry": "plugin/registry.py",
    "ringmark.plugin": "plugin/__init__.py",
    "ringmark.perf.plugin": "perf/plugin/__init__.py",
    "ringmark.perf.plugin.registry": "perf/plugin/registry.py",
    "ringmark.perf.plugin.api": "perf/plugin/api/__init__.py",
    "ringmark.perf.plugin.api.base": "perf/plugin/api/base.py",
    "ringmark.perf.plugin.api.default_api": "perf/plugin/api/default_api.py",
    "ringmark.perf.plugin.datasets": "perf/plugin/datasets/__init__.py",
    "ringmark.perf.plugin.datasets.base": "perf/plugin/datasets/base.py",
    "ringmark.perf.plugin.datasets.utils": "perf/plugin/datasets/utils.py",
    "ringmark.perf.utils.benchmark_util": "perf/utils/benchmark_util.py",
    "ringmark.utils.logger": "utils/logger.py",
};
/// Packages whose own content is of no use to a file.
const PACKAGES: [(&str, &str); 2] =
    modules! { "ringmark.perf.utils": "perf/utils/__init__.py", "ringmark.utils": "utils/__init__.py", };

/// Bytes of a file that are searched for the decorators.
const SEARCHED_BYTES: u64 = 4 << 20;
/// Longest first line of a file, bytes.
const MAX_SHEBANG_BYTES: u64 = 4096;

/// The file of a plug-in and the name of a class in it: `./file.py:NAME` selects one of several.
pub fn split(path: &Path) -> (&Path, Option<&str>) {
    const END: &str = ".py";
    let parts = path.to_str().and_then(|text| {
        let (stem, name) = text.rsplit_once(".py:")?;
        Some((Path::new(&text[..stem.len() + END.len()]), Some(name)))
    });
    parts.unwrap_or((path, None))
}

/// The command that calls the class which `path` registers, up to its arguments; `None` if the file registers none, or is
/// not run by Python. `executable`: the first line names the interpreter.
pub fn command(path: &Path, executable: bool) -> Option<Command> {
    let (file, name) = split(path);
    let shebang = if executable { shebang(file) } else { None };
    let is_python = match &shebang {
        Some((interpreter, argument)) => {
            let words = interpreter.split(['/', ' ']).chain(argument.iter().flat_map(|text| text.split(['/', ' '])));
            words.into_iter().any(|word| word.starts_with("python"))
        }
        None => file.extension().is_some_and(|extension| extension == "py"),
    };
    if !is_python || (name.is_none() && !registers_classes(file)) {
        return None;
    }
    let (interpreter, argument) = shebang.unwrap_or_else(|| ("python3".to_string(), None));
    let mut command = Command::new(interpreter);
    command.args(argument).arg("-c").arg(HOST);
    Some(command)
}

/// Whether the file registers classes; then the prompts of a dataset have the lengths that the class selects.
pub fn is_class_file(path: &Path, executable: bool) -> bool {
    command(path, executable).is_some()
}

/// The first line of input of the script: the modules and the arguments of the call, without those that are not given.
pub fn first_line(arguments: &Map<String, Json>) -> String {
    let is_given = |value: &Json| match value {
        Json::Null => false,
        Json::Array(items) => !items.is_empty(),
        _ => true,
    };
    let given: Map<String, Json> = arguments
        .iter()
        .filter(|(_, value)| is_given(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let keywords: Vec<&String> = arguments.keys().collect();
    let modules: Vec<&(&str, &str)> = MODULES.iter().chain(&PACKAGES).collect();
    json!({"modules": modules, "keywords": keywords, "arguments": given}).to_string()
}

/// The interpreter that the first line of the file names, and its argument, as the kernel splits them.
fn shebang(file: &Path) -> Option<(String, Option<String>)> {
    let mut line = String::new();
    BufReader::new(File::open(file).ok()?).take(MAX_SHEBANG_BYTES).read_line(&mut line).ok()?;
    let words = line.strip_prefix("#!")?.trim();
    match words.split_once(char::is_whitespace) {
        Some((interpreter, argument)) => Some((interpreter.to_string(), Some(argument.trim().to_string()))),
        None => Some((words.to_string(), None)),
    }
}

fn registers_classes(file: &Path) -> bool {
    let mut text = Vec::new();
    let read = File::open(file).and_then(|file| file.take(SEARCHED_BYTES).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    read.is_ok() && ["register_dataset(", "register_api("].iter().any(|decorator| text.contains(decorator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_named_behind_the_file() {
        assert_eq!(split(Path::new("./a.py:x")), (Path::new("./a.py"), Some("x")));
        assert_eq!(split(Path::new("/b/a.py")), (Path::new("/b/a.py"), None));
        assert_eq!(split(Path::new("C:a.sh")), (Path::new("C:a.sh"), None));
    }

    #[test]
    fn files_with_decorators_are_run_by_their_interpreter() {
        let folder = tempfile::tempdir().unwrap();
        let command_of = |text: &str, executable| {
            let file = folder.path().join("f.py");
            std::fs::write(&file, text).unwrap();
            let command = command(&file, executable)?;
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
            Some(words[..words.len() - 2].join(" "))
        };
        let class = "@register_dataset('a')\nclass A: pass\n";
        assert_eq!(command_of(class, false).as_deref(), Some("python3"));
        let shebang = |line: &str| command_of(&format!("#!{line}\n{class}"), true);
        assert_eq!(shebang("/v/bin/python3.12 -u").as_deref(), Some("/v/bin/python3.12 -u"));
        assert_eq!(shebang(" /usr/bin/env python3").as_deref(), Some("/usr/bin/env python3"));
        assert_eq!(shebang("/bin/sh"), None);
        assert_eq!(command_of("# see register_dataset\nprint('\"x\"')\n", false), None);
    }

    #[test]
    fn arguments_that_are_not_given_are_keywords_only() {
        let arguments = json!({"model": "m", "seed": null, "stop": [], "debug": false});
        let line: Json = serde_json::from_str(&first_line(arguments.as_object().unwrap())).unwrap();
        assert_eq!(line["arguments"], json!({"model": "m", "debug": false}));
        assert_eq!(line["keywords"], json!(["model", "seed", "stop", "debug"]));
        assert_eq!(line["modules"].as_array().unwrap().len(), MODULES.len() + PACKAGES.len());
    }
}
