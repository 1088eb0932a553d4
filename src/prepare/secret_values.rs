//! Secrets that flags name instead of having them: `env:NAME` is the value of a variable, `file:PATH` the content of a
//! file. They are accepted as the whole value of the flags that can have secrets, and as the value of a header.

use std::path::Path;

use crate::files::read_value_text;
use crate::spec::Spec;

const VARIABLE: &str = "env:";
const FILE: &str = "file:";

/// Whether a value names a secret.
pub(crate) fn is_reference(value: &str) -> bool {
    value.starts_with(VARIABLE) || value.starts_with(FILE)
}

/// Replaces the references by what they name. `variable` is the value of a variable of the environment.
///
/// # Errors
/// One line that names the flag, and the variable or the file. It does not contain the secret.
pub(crate) fn resolve(spec: &Spec, variable: &dyn Fn(&str) -> Option<String>) -> Result<Spec, String> {
    let mut spec = spec.clone();
    let (target, data, output) = (&mut spec.target, &mut spec.data, &mut spec.output);
    let single = [
        ("--api-key", &mut target.api_key),
        ("--url", &mut target.url),
        ("--proxy", &mut target.proxy),
        ("--server-metrics", &mut target.server_metrics),
        ("--wandb-api-key", &mut output.wandb_api_key),
        ("--swanlab-api-key", &mut output.swanlab_api_key),
        ("--extra-args", &mut spec.sampling.extra_args),
        ("--query-template", &mut data.query_template),
        ("--dataset-args", &mut data.dataset_args),
    ];
    for (flag, value) in single {
        if let Some(value) = value {
            replace(flag, value, variable)?;
        }
    }
    for value in &mut target.local.server_args {
        replace("--server-args", value, variable)?;
    }
    for header in &mut target.headers {
        if let Some((name, value)) = header.split_once('=').filter(|(_, value)| is_reference(value)) {
            let mut value = value.to_string();
            replace(&format!("--headers {name}"), &mut value, variable)?;
            *header = format!("{name}={value}");
        }
    }
    Ok(spec)
}

fn replace(flag: &str, value: &mut String, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
    let found = if let Some(name) = value.strip_prefix(VARIABLE) {
        variable(name).ok_or_else(|| format!("{flag} {value}: the environment has no variable {name}"))?
    } else if let Some(path) = value.strip_prefix(FILE) {
        let text = read_value_text(Path::new(path)).map_err(|error| format!("{flag}: cannot read {path}: {error}"))?;
        // Editors end a file with a line feed.
        text.trim_end_matches(['\r', '\n']).to_string()
    } else {
        return Ok(());
    };
    if found.is_empty() {
        return Err(format!("{flag} {value}: it is empty"));
    }
    *value = found;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_errors_name_the_flag() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "s3cret\n").unwrap();
        let variable = |name: &str| match name {
            "KEY" => Some("k3y".to_string()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let resolved = |key: &str, header: &str| {
            let spec = Spec::default().with(|spec| {
                spec.target.api_key = Some(key.to_string());
                spec.target.headers = vec![header.to_string()];
            });
            resolve(&spec, &variable).map(|spec| (spec.target.api_key.unwrap(), spec.target.headers[0].clone()))
        };
        let file = format!("file:{}", path.display());
        let expected = ("k3y".to_string(), "X-Key=s3cret".to_string());
        assert_eq!(resolved("env:KEY", &format!("X-Key={file}")), Ok(expected));
        assert_eq!(resolved("plain", "A=b"), Ok(("plain".to_string(), "A=b".to_string())));
        for (key, what) in
            [("env:NONE", "no variable NONE"), ("env:EMPTY", "empty"), ("file:/none", "cannot read /none")]
        {
            let error = resolved(key, "A=b").unwrap_err();
            assert!(error.contains("--api-key") && error.contains(what), "{error}");
        }
    }
}
