//! Reads the files that flags name and that planning needs.

use std::fs;
use std::path::Path;

use crate::files::read_value_text;
use crate::spec::Spec;
use crate::spec::names::is_program;
use crate::workload::plugin_process;
use crate::workload::recipe::{Recipe, Source};
use crate::workload::tokenizer::Tokenizer;

/// Returns `spec` with the contents of `--query-template @FILE` and of the description file of `--api`. If `--api` names
/// a program, checks that the program exists. The error is one line that names the flag and the file.
pub fn read(spec: &Spec) -> Result<Spec, String> {
    let mut spec = spec.clone();
    if let Some(file) = spec.data.query_template.as_deref().and_then(|text| text.strip_prefix('@')) {
        let flag = format!("--query-template @{file}");
        let text = read_text(&flag, Path::new(file))?;
        // Validated here because later errors could not name the file.
        serde_json::from_str::<serde_json::Value>(&text)
            .map_err(|error| format!("{flag} is not valid JSON ({error}); write %m and %p within quotes"))?;
        spec.data.query_template = Some(text);
    }
    if Path::new(&spec.target.api).extension().is_some_and(|extension| extension == "toml") {
        spec.target.api_description =
            Some(read_text(&format!("--api {}", spec.target.api), Path::new(&spec.target.api))?);
    }
    if is_program(&spec.target.api) && spec.target.api_description.is_none() {
        plugin_process::check(Path::new(&spec.target.api))
            .map_err(|what| format!("--api {}: {what}", spec.target.api))?;
    }
    Ok(spec)
}

/// Checks that the files of the prompts and of the tokenizer exist, before a server is asked or waited for.
pub fn check_data(workload: &Recipe) -> Result<(), String> {
    let source = match &workload.source {
        // A program is checked when its flag is, and a trace has been read.
        Source::Program(_) | Source::Trace(_) => None,
        source => source.path(),
    };
    if let Some(path) = source {
        let flag = if matches!(workload.source, Source::PromptFile(_)) { "--prompt" } else { "--dataset-path" };
        fs::metadata(path).map_err(|error| format!("{flag}: cannot read {}: {error}", path.display()))?;
    }
    let tokenizer = workload.tokens.as_ref().map(|tokens| Tokenizer::find(Path::new(&tokens.tokenizer)));
    tokenizer.transpose().map(drop).map_err(|error| error.to_string())
}

fn read_text(flag: &str, path: &Path) -> Result<String, String> {
    let text = read_value_text(path).map_err(|error| format!("{flag}: cannot read the file: {error}"))?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_string())
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn files_are_read_and_errors_name_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        fs::write(path("good.json"), "{\"x\": \"%p\"}").unwrap();
        fs::write(path("bad.json"), "{\n\"x\": %p}").unwrap();
        fs::write(path("api.toml"), "body = {}").unwrap();
        let read_with = |template: &str, api: &str| {
            let query_template = Some(format!("@{}", path(template)));
            read(&Spec::default().with(|s| {
                s.data.query_template = query_template;
                s.target.api = api.to_string();
            }))
        };
        let spec = read_with("good.json", &path("api.toml")).unwrap();
        assert_eq!(spec.data.query_template.as_deref(), Some("{\"x\": \"%p\"}"));
        assert_eq!(spec.target.api_description.as_deref(), Some("body = {}"));
        let error = read_with("bad.json", "openai").unwrap_err();
        assert!(error.contains("bad.json") && error.contains("line 2"), "{error}");
        assert!(read_with("none.json", "openai").unwrap_err().contains("none.json: cannot read"));
        assert!(read_with("good.json", "none.toml").unwrap_err().starts_with("--api none.toml: cannot read"));
    }
}
