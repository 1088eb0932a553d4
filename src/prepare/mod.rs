//! From a [`Spec`] to plans that can run: files are read, missing datasets downloaded, names looked up, and the built-in
//! server started.

#![expect(clippy::disallowed_methods, reason = "the time of day goes into names of folders")]

pub mod calibration;
mod files;
mod hub_files;
mod meeting;
pub(crate) mod results;
pub(crate) mod secret_values;

use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use jiff::Zoned;

use crate::host::cgroup;
use crate::host::topology::Topology;
use crate::mock::Mock;
use crate::net::tls;
use crate::plan::Plan;
use crate::plan::sla::SearchPlan;
use crate::rendezvous::Rendezvous;
use crate::run::run_or_abandon;
use crate::server::addresses;
use crate::server::models::{first_model, list_timeouts};
use crate::server::ready::{after_waiting, wait_until_ready};
use crate::spec::proxy::ProxyVariables;
use crate::spec::{HubFiles, RigFacts, ShardVariables, Spec, resolve, trace_file};
use crate::sweep;
use crate::workload::progress::StepProgress;
use crate::workload::trace::{self, Trace};

/// A call that is ready to run.
pub struct Prepared {
    /// The spec with the contents of the files that it names.
    pub spec: Spec,
    pub facts: RigFacts,
    /// The search for a load, if the call is one; then `plans` has its first run.
    pub search: Option<SearchPlan>,
    /// At least one.
    pub plans: Vec<Plan>,
    /// A log line for each file that came from a hub.
    pub fetched: Vec<String>,
    /// The built-in server, if it is the target. It serves until it is dropped.
    pub mock: Option<Mock>,
    /// Where this shard meets the others, if it is one.
    pub rendezvous: Option<Rendezvous>,
}

/// Prepares a call. `show_steps` displays the progress of downloads until its result is dropped, `notify` gets a line
/// before each download.
///
/// # Errors
/// One line that names the flag and says what to do.
pub fn prepare(
    spec: &Spec,
    show_steps: &dyn Fn(Arc<StepProgress>) -> Box<dyn Any>,
    notify: &mut dyn FnMut(String),
) -> Result<Prepared, String> {
    let spec = files::read(spec)?;
    let mut facts = facts();
    facts.trace = trace_file(&spec).map(|(path, flag)| read_trace(path, flag)).transpose()?;
    let search = spec.search().map_err(|error| error.to_string())?;
    let first = search.as_ref().map_or_else(|| spec.clone(), |search| spec.at_load(search, search.space.start));
    let fetched = hub_files::hub_files(&first, &mut facts, show_steps, notify)?;
    let shard = spec.shard.resolve(&facts.shard_variables).map_err(|error| error.to_string())?;
    let (mut rendezvous, (mut plans, mock)) = match &shard {
        Some(shard) => meeting::make_plans(shard, &first, &mut facts, notify)?,
        None => (None, make_plans(&first, &facts, notify)?),
    };
    if let Err(error) = calibration::attach(&spec, &mut plans) {
        rendezvous.iter_mut().for_each(|rendezvous| rendezvous.fail(&error));
        return Err(error);
    }
    Ok(Prepared { spec, facts, search, plans, fetched, mock, rendezvous })
}

/// Reads a trace. If it takes nearly all memory, that is an error; an interrupt ends the process here.
fn read_trace(path: &Path, flag: &'static str) -> Result<Arc<Trace>, String> {
    let path = path.to_path_buf();
    let read =
        run_or_abandon(&AtomicU8::new(0), move || trace::read(&path, flag)).map_err(|error| error.to_string())?;
    read.map(Arc::new).map_err(|error| error.to_string())
}

/// Resolves the spec to plans with the addresses of the target. Starts the built-in server for a `mock:` URL, and asks
/// the server for its model if `--model` is not given.
fn make_plans(
    spec: &Spec,
    facts: &RigFacts,
    notify: &mut dyn FnMut(String),
) -> Result<(Vec<Plan>, Option<Mock>), String> {
    let mut plans = resolve(spec, facts).map_err(|error| error.to_string())?;
    let mut target = plans[0].target.clone();
    // Before the server is asked or waited for. The certificates also where no model is asked for, so that a bad file is
    // reported before anything is written.
    let config = target.tls.as_ref().map(tls::config).transpose()?;
    files::check_data(&plans[0].workload)?;
    let mock = sweep::resolve_target(&mut target, &plans[0].cores, &facts.allowed_cores)?;
    let connect_timeout = Duration::from_nanos(plans[0].timeouts.connect_ns);
    let rotate = plans[0].address_rotation;
    let address_notes = addresses::choose(&mut target, rotate, &plans[0].source_addresses, connect_timeout);
    if plans[0].report.model.is_empty() {
        let headers: String =
            plans[0].workload.headers.iter().map(|header| format!("{}: {}\r\n", header.name, header.value)).collect();
        let timeouts = list_timeouts(plans[0].timeouts);
        let ready_timeout = Duration::from_nanos(plans[0].ready_timeout_ns);
        let attempt = || first_model(&target, &target.models_path(), &headers, config.clone(), timeouts);
        // An interrupt ends the process here: nothing has been written.
        let model = wait_until_ready(ready_timeout, &|| false, notify, attempt).map_err(|(error, waited)| {
            let error = after_waiting(&error, waited);
            format!("--model is not given, and the request to the server for its models failed: {error}")
        })?;
        let named = spec.clone().with(|spec| spec.target.model = Some(model));
        plans = resolve(&named, facts).map_err(|error| error.to_string())?;
    }
    for plan in &mut plans {
        plan.target = target.clone();
        plan.notes.extend(address_notes.iter().cloned());
    }
    Ok((plans, mock))
}

fn facts() -> RigFacts {
    let now = Zoned::now();
    RigFacts {
        topology: Topology::read(),
        allowed_cores: core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect(),
        cpu_quota: cgroup::cpu_quota(),
        started: now.strftime("%Y%m%d_%H%M%S").to_string(),
        nonce: now.timestamp().subsec_nanosecond() as u32 ^ std::process::id().rotate_left(16),
        trace: None,
        hub: HubFiles::default(),
        proxy_variables: ProxyVariables::read(&|name| std::env::var(name).ok()),
        shard_variables: ShardVariables::read(&|name| std::env::var(name).ok()),
    }
}
