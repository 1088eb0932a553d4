//! The program and arguments that start a local server.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::plan::{LocalKind, LocalPlan};

/// Python script that serves a GGUF file with xllamacpp.
const LLAMACPP: &str = include_str!("llamacpp.py");
const HOST: &str = "127.0.0.1";

/// The health check path. A server that is ready responds with status 200, or with 404 if it has no such page.
pub const HEALTH: &str = "/health";

/// The command that starts the server of a plan. `path` is the value of PATH.
///
/// # Errors
/// One line with the missing program or file and what to install.
pub fn command(plan: &LocalPlan, path: Option<OsString>) -> Result<Command, String> {
    let find = Finder { python: plan.python.clone(), path: path.unwrap_or_default() };
    let port = plan.port.to_string();
    let mut command = match plan.kind {
        LocalKind::Transformers => {
            let mut command = Command::new(find.program("transformers", "transformers[serving]")?);
            command.args(["serve", "--host", HOST, "--port", &port]);
            if let Some(name) = &plan.attn_implementation {
                command.args(["--attn-implementation", name]);
            }
            command
        }
        LocalKind::Vllm => {
            let mut command = Command::new(find.program("vllm", "vllm")?);
            command.args(["serve", &plan.model, "--host", HOST, "--port", &port]);
            tensor_parallel(&mut command, plan, "--tensor-parallel-size");
            command
        }
        LocalKind::Lmdeploy => {
            let mut command = Command::new(find.program("lmdeploy", "lmdeploy")?);
            command.args(["serve", "api_server", &plan.model, "--server-name", HOST, "--server-port", &port]);
            tensor_parallel(&mut command, plan, "--tp");
            command
        }
        LocalKind::Sglang => {
            let mut command = Command::new(find.python_with("sglang", "sglang[all]")?);
            command.args(["-m", "sglang.launch_server", "--model-path", &plan.model, "--host", HOST, "--port", &port]);
            command.arg("--enable-metrics");
            tensor_parallel(&mut command, plan, "--tp-size");
            command
        }
        LocalKind::LlamaCpp => llamacpp(plan, &find)?,
    };
    command.args(&plan.arguments);
    Ok(command)
}

fn tensor_parallel(command: &mut Command, plan: &LocalPlan, flag: &str) {
    if let Some(gpus) = plan.tensor_parallel {
        command.args([flag, &gpus.to_string()]);
    }
}

/// Uses llama-server if it is on PATH, else xllamacpp, which is the same server in a Python package.
fn llamacpp(plan: &LocalPlan, find: &Finder) -> Result<Command, String> {
    let is_file = plan.model.ends_with(".gguf") || Path::new(&plan.model).exists();
    if is_file && !Path::new(&plan.model).is_file() {
        return Err(format!("--model {}: no such file; llama.cpp needs a GGUF file or a hub id", plan.model));
    }
    let install = "install llama.cpp (llama-server on PATH), or run: pip install xllamacpp";
    let mut command = match find.llama_server() {
        Some(program) => Command::new(program),
        None => {
            let python = find.python_with("xllamacpp", "xllamacpp").map_err(|why| format!("{why}; {install}"))?;
            if !is_file {
                return Err(format!("--model {}: xllamacpp needs a GGUF file", plan.model));
            }
            let mut command = Command::new(python);
            command.args(["-c", LLAMACPP]);
            command
        }
    };
    command.args([if is_file { "-m" } else { "-hf" }, &plan.model]);
    command.args(["--host", HOST, "--port", &plan.port.to_string(), "--alias", &plan.model, "--metrics"]);
    Ok(command)
}

/// Finds programs: in the folder of the Python given with `--python`, else on PATH.
struct Finder {
    python: Option<PathBuf>,
    path: OsString,
}

impl Finder {
    /// The path of a program that a Python package installs.
    fn program(&self, name: &str, package: &str) -> Result<PathBuf, String> {
        match &self.python {
            Some(python) => {
                let python = self.given_python(python)?;
                let beside = python.with_file_name(name);
                if is_program(&beside) {
                    Ok(beside)
                } else {
                    let python = python.display();
                    Err(format!("'{name}' is not in the folder of {python}: run {python} -m pip install '{package}'"))
                }
            }
            None => self.on_path(name).ok_or_else(|| {
                format!(
                    "'{name}' is not on PATH: run pip install '{package}', or give the environment that has it with \
                     --python DIR/bin/python"
                )
            }),
        }
    }

    /// The path of a Python that has a module.
    fn python_with(&self, module: &str, package: &str) -> Result<PathBuf, String> {
        let python = match &self.python {
            Some(python) => self.given_python(python)?,
            None => {
                self.on_path("python3").or_else(|| self.on_path("python")).ok_or("no python3 on PATH: give --python")?
            }
        };
        let script = format!("import importlib.util as u, sys; sys.exit(u.find_spec({module:?}) is None)");
        let output = Command::new(&python).args(["-c", &script]).output();
        let shown = python.display();
        match output {
            Ok(output) if output.status.success() => Ok(python),
            Ok(_) => Err(format!("{shown} has no module {module}: run {shown} -m pip install '{package}'")),
            Err(error) => Err(format!("{shown} cannot be started: {error}")),
        }
    }

    /// The path of llama-server; `None` with `--python`, which selects the xllamacpp of that environment.
    fn llama_server(&self) -> Option<PathBuf> {
        if self.python.is_some() { None } else { self.on_path("llama-server") }
    }

    fn given_python(&self, python: &Path) -> Result<PathBuf, String> {
        let found = if python.components().count() > 1 || python.is_absolute() {
            is_program(python).then(|| python.to_path_buf())
        } else {
            self.on_path(&python.to_string_lossy())
        };
        found.ok_or_else(|| format!("--python {}: no such program", python.display()))
    }

    fn on_path(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path).map(|folder| folder.join(name)).find(|program| is_program(program))
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn plan(kind: LocalKind) -> LocalPlan {
        LocalPlan {
            kind,
            model: "org/model".to_string(),
            port: 8123,
            tensor_parallel: None,
            attn_implementation: None,
            python: None,
            arguments: vec!["--extra".to_string(), "1".to_string()],
        }
    }

    /// A folder with programs that exit with status 0.
    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    fn line(plan: &LocalPlan, folder: &tempfile::TempDir) -> Result<String, String> {
        let command = command(plan, Some(folder.path().as_os_str().to_os_string()))?;
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        let program = Path::new(command.get_program()).file_name().unwrap().to_string_lossy().into_owned();
        Ok([program].into_iter().chain(words).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn each_kind_has_its_command() {
        let all = folder(&["vllm", "transformers", "lmdeploy", "python3", "llama-server"]);
        for (plan, expected) in [
            (
                LocalPlan { tensor_parallel: Some(2), ..plan(LocalKind::Vllm) },
                "vllm serve org/model --host 127.0.0.1 --port 8123 --tensor-parallel-size 2 --extra 1",
            ),
            (
                LocalPlan { attn_implementation: Some("sdpa".into()), ..plan(LocalKind::Transformers) },
                "transformers serve --host 127.0.0.1 --port 8123 --attn-implementation sdpa --extra 1",
            ),
            (
                plan(LocalKind::Lmdeploy),
                "lmdeploy serve api_server org/model --server-name 127.0.0.1 --server-port 8123 --extra 1",
            ),
            (
                plan(LocalKind::Sglang),
                "python3 -m sglang.launch_server --model-path org/model --host 127.0.0.1 --port 8123 --enable-metrics \
                 --extra 1",
            ),
            (
                plan(LocalKind::LlamaCpp),
                "llama-server -hf org/model --host 127.0.0.1 --port 8123 --alias org/model --metrics --extra 1",
            ),
        ] {
            assert_eq!(line(&plan, &all).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn errors_contain_what_to_install() {
        let empty = folder(&[]);
        for (kind, what) in [
            (LocalKind::Vllm, "pip install 'vllm'"),
            (LocalKind::Transformers, "transformers[serving]"),
            (LocalKind::Lmdeploy, "pip install 'lmdeploy'"),
            (LocalKind::Sglang, "--python"),
            (LocalKind::LlamaCpp, "pip install xllamacpp"),
        ] {
            let error = line(&plan(kind), &empty).unwrap_err();
            assert!(error.contains(what) && !error.contains('\n'), "{error}");
        }
        let gone = LocalPlan { model: "gone.gguf".to_string(), ..plan(LocalKind::LlamaCpp) };
        assert!(line(&gone, &empty).unwrap_err().contains("no such file"));
    }

    #[test]
    fn programs_are_found_in_the_folder_of_the_given_python() {
        let (environment, empty) = (folder(&["python", "vllm"]), folder(&[]));
        let python = Some(environment.path().join("python"));
        assert!(line(&LocalPlan { python, ..plan(LocalKind::Vllm) }, &empty).unwrap().starts_with("vllm serve"));
        let python = Some(environment.path().join("python9"));
        assert!(line(&LocalPlan { python, ..plan(LocalKind::Vllm) }, &empty).unwrap_err().contains("--python"));
    }
}
