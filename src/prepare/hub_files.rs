//! Downloads missing datasets and tokenizers from the hubs before planning.

use std::any::Any;
use std::sync::Arc;

use crate::hub::{self, Settings};
use crate::spec::proxy::ProxyChoice;
use crate::spec::{RigFacts, Spec, resolve};
use crate::workload::progress::StepProgress;

/// Stores the paths of the dataset and tokenizer files that `spec` takes from a hub in `facts`. Files that are in no
/// cache are downloaded: `show_steps` displays the progress until its result is dropped, `notify` gets a line before each
/// download. Returns one log line for each file. The error is one line that says what to do.
pub fn hub_files(
    spec: &Spec,
    facts: &mut RigFacts,
    show_steps: &dyn Fn(Arc<StepProgress>) -> Box<dyn Any>,
    notify: &mut dyn FnMut(String),
) -> Result<Vec<String>, String> {
    let wanted = hub::required_items(spec);
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    // Errors in other flags are reported before the download starts.
    facts.hub = hub::placeholders(&wanted);
    resolve(spec, facts).map_err(|error| error.to_string())?;
    let proxy = ProxyChoice::from_flag(spec.target.proxy.as_deref(), &facts.proxy_variables)
        .map_err(|error| error.to_string())?;
    let settings = Settings { proxy, ..Settings::new(spec.data.data_source, &|name| std::env::var(name).ok())? };
    let steps = Arc::new(StepProgress::default());
    let shown = show_steps(steps.clone());
    let fetched = hub::fetch_all(&wanted, &settings, &steps, notify);
    drop(shown);
    let (files, lines) = fetched?;
    facts.hub = files;
    Ok(lines)
}
