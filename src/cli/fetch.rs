//! Downloads missing datasets and tokenizers from the hubs before planning.

use std::io::Write;
use std::sync::Arc;

use super::progress::Bars;
use crate::hub::{self, Settings};
use crate::spec::proxy::ProxyChoice;
use crate::spec::{RigFacts, Spec, resolve};
use crate::workload::progress::StepProgress;

/// Stores the paths of the dataset and tokenizer files that `spec` takes from a hub in `facts`. Files that are in no
/// cache are downloaded. Returns one log line for each file. The error is one line that says what to do.
pub fn hub_files(spec: &Spec, facts: &mut RigFacts, bars: &Bars) -> Result<Vec<String>, String> {
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
    let bar = bars.show_steps(steps.clone());
    let mut say = |line: String| {
        if !spec.output.quiet {
            // A closed standard error is ignored.
            let _ = writeln!(bars.stderr(), "{line}");
        }
    };
    let fetched = hub::fetch_all(&wanted, &settings, &steps, &mut say);
    drop(bar);
    let (files, lines) = fetched?;
    facts.hub = files;
    Ok(lines)
}
