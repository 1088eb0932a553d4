//! The programs that a file makes a call start. They are named before they start: the user may not have written the file.

use super::{Place, Setting};
use crate::plan::LocalKind;
use crate::spec::Spec;
use crate::spec::names::is_program;

/// The line that names the programs that flags of the file start; `None` if there are none.
pub(super) fn line(spec: &Spec, chosen: &[&Setting]) -> Option<String> {
    let place = |id: &str| {
        let setting = chosen.iter().find(|setting| setting.id.as_str() == id)?;
        match &setting.place {
            Place::File { path, line } => Some((path.as_str(), *line)),
            Place::Variable(_) => None,
        }
    };
    let api = spec.target.api.as_str();
    let is_local = LocalKind::ALL.iter().any(|(name, _)| *name == api);
    let is_api_program = is_program(api) && !api.ends_with(".toml");
    let dataset = spec.data.dataset.as_deref().filter(|name| is_program(name));
    let masked = spec.masked();
    let local = &masked.target.local;
    let starts = [
        ("api", is_local.then(|| format!("the local server of --api {api}"))),
        ("api", is_api_program.then(|| format!("--api {api}"))),
        ("dataset", dataset.map(|name| format!("--dataset {name}"))),
        ("python", local.python.as_ref().map(|python| format!("--python {}", python.display()))),
        (
            "server_args",
            (is_local && !local.server_args.is_empty())
                .then(|| format!("the server's arguments {}", local.server_args.join(" "))),
        ),
        ("visualizer", spec.output.visualizer.map(|service| format!("Python with the SDK of {}", service.name()))),
    ];
    let mut file = None;
    let mut named = Vec::new();
    for (id, what) in starts {
        if let (Some((path, line)), Some(what)) = (place(id), what) {
            file = Some(path);
            named.push(format!("{what} (line {line})"));
        }
    }
    file.map(|file| format!("{file} starts programs: {}", named.join(", ")))
}
