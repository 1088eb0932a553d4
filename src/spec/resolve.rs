//! Resolves a spec to plans: validates each group of flags and the combinations across groups.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::client::check_witness;
use super::data::check_dialect;
use super::output::{load_folder_name, repeat_suffix, results_folder};
use super::proxy::{ProxyChoice, ProxyVariables};
use super::shard::{self, NotForShards, ShardVariables, folder_suffix};
use super::url::Endpoint;
use super::{DataSpec, Spec};
use crate::api::Dialect;
use crate::api::endpoint::Api;
use crate::api::query_template::{GivenFlags, QueryTemplate};
use crate::api::request_body::Options;
use crate::finding::Finding;
use crate::host::topology::Topology;
use crate::plan::shard::ShardPlan;
use crate::plan::{Arrival, Load, LocalPlan, Place, Plan, PlanError, Reporting, Schedule, Target, Transport};
use crate::record::share::Share;
use crate::secrets::{Secrets, mask, masked_url};
use crate::workload::rng::{DEFAULT_DATA_SEED, Randomness};
use crate::workload::trace::Trace;
use crate::workload::{Recipe, Source};

/// Facts about this machine and the time of the call that planning needs. The caller collects them, so that planning has no
/// side effects.
#[derive(Clone, Debug, Default)]
pub struct RigFacts {
    /// Cores that this process may run on, ascending.
    pub allowed_cores: Vec<usize>,
    pub topology: Topology,
    /// The CPU time that this process may use, in cores; `None` without a limit.
    pub cpu_quota: Option<f64>,
    /// When the call started, as `YYYYmmdd_HHMMSS` in local time.
    pub started: String,
    /// A number that differs between calls. It makes request ids unique on a server that several calls load, and is the
    /// default of `--salt`.
    pub nonce: u32,
    /// The content of the file that [`trace_file`] names, if any.
    pub trace: Option<Arc<Trace>>,
    /// Local paths of files from a hub.
    pub hub: HubFiles,
    /// The proxy variables of the environment.
    pub proxy_variables: ProxyVariables,
    /// The variables of the environment that say which shard this process is.
    pub shard_variables: ShardVariables,
}

/// Local paths of files from a hub; see [`crate::hub`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubFiles {
    /// The dataset file.
    pub dataset: Option<PathBuf>,
    /// The tokenizer folder.
    pub tokenizer: Option<PathBuf>,
}

impl HubFiles {
    /// Returns `data` with the paths of these files in its flags.
    fn apply_to(&self, data: &DataSpec) -> DataSpec {
        let mut data = data.clone();
        if let Some(path) = &self.dataset {
            data.dataset_path = Some(path.clone());
        }
        if let Some(path) = &self.tokenizer {
            data.tokenizer_path = Some(path.display().to_string());
        }
        data
    }
}

/// The file with recorded times, if any, and the flag that names it. The caller reads it before planning.
pub fn trace_file(spec: &Spec) -> Option<(&Path, &'static str)> {
    match (&spec.data.dataset_path, spec.load.arrival_file()) {
        (_, Some(file)) => Some((Path::new(file), "--arrival")),
        (Some(path), None) if spec.data.is_trace() => Some((path, "--dataset-path")),
        _ => None,
    }
}

/// Resolves a spec to plans, one for each run of the call, in order.
///
/// No names are resolved and no server is contacted: the target has no addresses yet. Without `--model` the plans have an
/// empty model name; the caller then asks the server, sets the name in the spec and calls this again.
///
/// # Errors
///
/// Returns an error if a flag has an invalid value or flags conflict.
pub fn resolve(spec: &Spec, facts: &RigFacts) -> Result<Vec<Plan>, PlanError> {
    let shard = spec.shard.resolve(&facts.shard_variables)?;
    let local = local_plan(spec)?;
    let api = if local.is_some() { Api::OpenAi } else { spec.target.named_api()? };
    let spec =
        &spec.clone().with(|spec| spec.target.url = local.as_ref().map(LocalPlan::url).or(spec.target.url.take()));
    let mut notes: Vec<Finding> = Vec::new();
    let trace = spec.load.trace(facts.trace.as_ref(), &mut notes)?;
    let trace = trace.map(|trace| spec.data.after_offset(trace)).transpose()?;
    let trace = trace.as_ref();
    let loads = spec.load.loads(&spec.data, trace, &mut notes)?;
    let numbers = spec.load.numbers(
        &loads,
        match trace {
            // The warm-up takes the first of the recorded requests.
            Some(trace) => spec.load.without_warmup(trace.rows.len() as u64),
            None => spec.data.default_number(),
        },
    )?;
    notes.extend(spec.client.tuning.note());
    notes.extend(spec.output.objective_notes());
    notes.extend(spec.sla.notes());
    let secrets = spec.secrets();
    let Endpoint { mut target, dialect, notes: target_notes } = endpoint(spec, api, &secrets)?;
    notes.extend(target_notes);
    let proxies = ProxyChoice::from_flag(spec.target.proxy.as_deref(), &facts.proxy_variables)?;
    proxies.apply(&mut target, local.is_some(), &mut notes)?;
    target.url = masked_url(&target.url);
    for word in notes.iter_mut().flat_map(Finding::foreign_words) {
        *word = mask(word, &secrets);
    }
    let template = query_template(spec, api)?;
    let model = spec.target.model_name(template.as_deref(), &target)?;
    let data = facts.hub.apply_to(&spec.data);
    let mut workload = recipe(spec, &data, dialect, template, trace, &model, &mut notes)?;
    workload.id_prefix = format!("rm-{:08x}", facts.nonce);
    if matches!(workload.source, Source::Program(_)) || matches!(dialect, Dialect::Program(_)) {
        workload.plugin_arguments = Arc::new(plugin_arguments(spec, &data, &target.path, &model));
    }
    workload.randomness.salt = data.salt.unwrap_or(u64::from(facts.nonce));
    if let Some(shard) = &shard {
        let unable = NotForShards {
            local_server: local.is_some(),
            mock: target.mock.is_some(),
            visualizer: spec.output.service().is_some(),
            search: spec.sla.sla_auto_tune,
        };
        let runs = loads.len() * spec.load.repeat.max(1) as usize;
        let lacks_salt = data.salt.is_none() && workload.source.is_random_text();
        shard::check(shard, &unable, &loads, &numbers, runs, (data.data_seed.is_some(), lacks_salt))?;
    }
    let call = CallPlan { spec, facts, target, local, workload, model, shard };

    let mut plans: Vec<Plan> = Vec::new();
    // Each repetition runs all loads, so that drift over time does not look like a difference between loads.
    for run in 1..=spec.load.repeat.max(1) {
        let before_this_run = plans.len();
        for (load, number) in loads.iter().zip(&numbers) {
            // Every repetition has the same notes.
            let mut again = Vec::new();
            let mut plan = call.plan_run(load.clone(), *number, if run == 1 { &mut notes } else { &mut again })?;
            let folder = plan.report.folder.as_mut_os_string();
            // Equal loads of a sweep get different folder names.
            let earlier = &plans[before_this_run..];
            let equal = earlier.iter().filter(|e| e.load == plan.load && e.requests == *number).count();
            if equal > 0 {
                folder.push(format!("_{}", equal + 1));
            }
            if spec.load.repeat > 1 {
                folder.push(repeat_suffix(run));
            }
            let before = plans.iter().map(Plan::prompts).sum();
            plan.place_in_call(plans.len() as u32 + 1, spec.data.dataset_offset, before);
            plans.push(plan);
        }
    }
    notes.dedup();
    plans[0].notes = notes;
    let of = Some(plans.len() as u32);
    for plan in &mut plans {
        plan.report.place = Place { of, repeated: spec.load.repeat > 1, ..plan.report.place };
    }
    Ok(plans)
}

/// The parts of a plan that all runs of a call share.
struct CallPlan<'a> {
    spec: &'a Spec,
    facts: &'a RigFacts,
    target: Target,
    local: Option<LocalPlan>,
    workload: Recipe,
    model: String,
    shard: Option<ShardPlan>,
}

impl CallPlan<'_> {
    fn plan_run(&self, load: Load, number: Option<u64>, notes: &mut Vec<Finding>) -> Result<Plan, PlanError> {
        let Spec { target, load: timing, output, client, .. } = self.spec;
        let allowed = &self.facts.allowed_cores;
        let warmup_requests = timing.warmup(number)?;
        let share = self.shard.as_ref().map_or_else(Share::default, |shard| shard.share);
        let cores = client.core_of_each_worker(
            (&self.facts.topology.order(allowed), self.facts.cpu_quota),
            load.parallel().map(|parallel| share.slots(parallel)),
            self.target.mock.is_some(),
            notes,
        )?;
        let witness = client.witness_plan(allowed, &cores, load.parallel(), notes)?;
        if witness.is_some() {
            check_witness(&self.workload.source, self.target.proxy.is_some())?;
        }
        let mut workload = self.workload.clone();
        if !workload.plugin_arguments.is_empty() {
            let of_run = [("number", number), ("parallel", load.parallel().map(u64::from))];
            let values = of_run.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?.into())));
            Arc::make_mut(&mut workload.plugin_arguments).extend(values);
        }
        workload.needed = number.map(|number| number.saturating_add(warmup_requests));
        workload.warmup = warmup_requests;
        workload.witness = witness.map_or(0, |witness| witness.prompts(workload.needed, load.parallel()));
        if client.cold && load.parallel().is_none() {
            return Err(PlanError::conflict(
                "--cold applies only to closed loops: an open loop opens no connections in advance",
            ));
        }
        Ok(Plan {
            target: self.target.clone(),
            dialect: workload.options.dialect,
            stream: workload.options.stream,
            requests: number,
            drain_ns: timing.drain_ns()?,
            duration_ns: timing.duration_ns()?,
            abort_on: timing.abort_limit()?,
            warmup_requests,
            ramp_ns: timing.ramp_ns()?,
            seed: workload.randomness.run_seed(),
            timeouts: target.timeouts()?,
            max_response_bytes: target.max_response_size,
            cores,
            spin: client.spin,
            cold: client.cold,
            source_addresses: client.source_address.clone(),
            address_rotation: target.address_rotation,
            force_fallback: client.force_fallback,
            test_connection: share.is_first() && !target.no_test_connection,
            ready_timeout_ns: target.ready_timeout_ns()?,
            sleep_interval_ns: timing.sleep_interval_ns()?,
            save: output.save,
            local: self.local.clone(),
            server_metrics: target
                .metrics_page(self.local.as_ref(), &self.facts.proxy_variables)?
                .filter(|_| share.is_first()),
            witness: witness.filter(|_| share.is_first()),
            shard: self.shard.clone(),
            calibration: None,
            report: self.reporting(&load, number)?,
            workload,
            load,
            notes: Vec::new(),
        })
    }

    fn reporting(&self, load: &Load, number: Option<u64>) -> Result<Reporting, PlanError> {
        let Spec { target, load: timing, data, output, sla, .. } = self.spec;
        sla.check_streamed(self.workload.options.stream)?;
        let mut name = output.folder_name(&self.model)?;
        if let Some(shard) = &self.shard {
            name.push_str(&folder_suffix(shard.share));
        }
        let started = (!output.no_timestamp).then_some(self.facts.started.as_str());
        let root = results_folder(&output.outputs_dir, started, &name);
        let dataset = match &data.prompt {
            Some(_) => "prompt".to_string(),
            None => data.dataset.clone().unwrap_or_else(|| "builtin".to_string()),
        };
        Ok(Reporting {
            model: self.model.clone(),
            name,
            dataset,
            api: target.api.clone(),
            folder: root.join(load_folder_name(load, number, timing.duration_s)),
            root,
            place: Place::default(),
            log_every: timing.log_every_n_query,
            live: output.live,
            debug: output.debug,
            slo: output.objectives(self.workload.options.stream)?,
            gpus: output.gpus()?,
            search: None,
            exports: output.exports()?,
            visualizer: output.visualizer_plan(target.local.python.as_deref(), &self.model, &self.facts.started)?,
            arguments_json: self.arguments(load, number),
            secrets: Secrets { all: self.spec.secrets(), bodies: self.spec.body_secrets() },
        })
    }

    /// The content of `benchmark_args.json`: the arguments with this run's load, the completed URL and model, secrets masked.
    fn arguments(&self, load: &Load, number: Option<u64>) -> String {
        let mut shown = self.spec.masked();
        shown.target.url = Some(self.target.url.clone());
        shown.target.model = Some(self.model.clone());
        shown.data.data_seed = Some(self.workload.randomness.data_seed);
        shown.data.salt = Some(self.workload.randomness.salt);
        shown.load.number = number.into_iter().collect();
        shown.load.parallel = load.parallel().into_iter().collect();
        shown.load.rate = vec![match load.schedule() {
            Some(Schedule { arrival: Arrival::Burst | Arrival::Trace(_), .. }) | None => -1.0,
            Some(schedule) => schedule.rate_per_s,
        }];
        serde_json::to_string_pretty(&shown).expect("a spec contains only strings, numbers and lists")
    }
}

/// The plan of the local server, if `--api` names one.
fn local_plan(spec: &Spec) -> Result<Option<LocalPlan>, PlanError> {
    let target = &spec.target;
    let python_is_used = spec.output.service().is_some();
    target.local.resolve(&target.api, target.url.as_deref(), target.model.as_deref(), python_is_used)
}

/// The target and its API, checked against the flags of data and client.
fn endpoint(spec: &Spec, api: Api, secrets: &[String]) -> Result<Endpoint, PlanError> {
    let mut found = spec.target.endpoint(api, secrets)?;
    spec.data.redirect(&mut found);
    if matches!(found.target.transport, Transport::Unix(_)) && !spec.client.source_address.is_empty() {
        return Err(PlanError::conflict(
            "--source-address applies to TCP, but --url is a unix: socket: remove --source-address",
        ));
    }
    if matches!(found.target.transport, Transport::Unix(_)) && spec.target.address_rotation {
        return Err(PlanError::conflict(
            "--address-rotation applies to TCP, but --url is a unix: socket: remove --address-rotation",
        ));
    }
    if spec.target.insecure {
        found.notes.push(Finding::CertificateNotVerified);
    }
    Ok(found)
}

/// The template of `--query-template`. It also records which flags override its fields.
fn query_template(spec: &Spec, api: Api) -> Result<Option<Arc<QueryTemplate>>, PlanError> {
    const FLAG: &str = "--query-template";
    let Some(text) = &spec.data.query_template else { return Ok(None) };
    if let Api::Custom(_) | Api::Program(_) = api {
        return Err(PlanError::conflict(format!(
            "{FLAG} conflicts with --api {}, which builds the body itself: remove {FLAG}",
            spec.target.api
        )));
    }
    let given = GivenFlags {
        model: spec.target.model.is_some(),
        stream: spec.sampling.stream_is_given(),
        max_tokens: !spec.sampling.max_tokens.is_empty(),
        temperature: spec.sampling.temperature.is_some(),
    };
    let template = QueryTemplate::scan(text, given).map_err(|what| PlanError::value(FLAG, what))?;
    Ok(Some(Arc::new(template)))
}

/// The recipe of the requests, without the parts that differ between runs. `data` are the data flags of `spec` with the
/// local paths of hub files.
fn recipe(
    spec: &Spec,
    data: &DataSpec,
    dialect: Dialect,
    template: Option<Arc<QueryTemplate>>,
    trace: Option<&Arc<Trace>>,
    model: &str,
    notes: &mut Vec<Finding>,
) -> Result<Recipe, PlanError> {
    let sampling = &spec.sampling;
    let mut options = Options {
        dialect,
        model: model.to_string(),
        stream: false,
        sampling: sampling.resolve(data.wants_full_answers())?,
        template,
        extra: sampling.extra()?,
    };
    let source = data.source(trace, sampling.n_choices, &mut options.extra, notes)?;
    check_dialect(&source, dialect)?;
    data.check_salt(&source)?;
    options.stream = sampling.streams(&options);
    notes.extend(sampling.notes(&spec.target.api, &options, data.tokenizer_path.is_some()));
    Ok(Recipe {
        source,
        lengths: data.lengths()?,
        fit: data.fit()?,
        tokens: data.tokens()?,
        offset: data.dataset_offset,
        // A prompt is no data set: every request sends it.
        skipped: if data.prompt.is_some() { 0 } else { data.dataset_offset },
        needed: None,
        warmup: 0,
        witness: 0,
        tests_connection: !spec.target.no_test_connection,
        headers: spec.target.request_headers(dialect, options.stream)?,
        options,
        randomness: Randomness {
            data_seed: data.data_seed.or(sampling.seed).unwrap_or(DEFAULT_DATA_SEED),
            ..Randomness::default()
        },
        id_prefix: String::new(),
        plugin_arguments: Arc::default(),
    })
}

/// The arguments that classes get: all flags, of which those with one value have no list. `data` are the data flags with the
/// local paths of hub files, `path` is that of the endpoint.
fn plugin_arguments(spec: &Spec, data: &DataSpec, path: &str, model: &str) -> Map<String, Json> {
    let spec = spec.clone().with(|spec| {
        spec.data = data.clone();
        spec.target.model = Some(model.to_string());
        // Of no use to them.
        spec.output.wandb_api_key = None;
        spec.output.swanlab_api_key = None;
    });
    let Ok(Json::Object(mut arguments)) = serde_json::to_value(&spec) else { return Map::new() };
    for name in ["number", "parallel", "rate", "max_tokens"] {
        if let Some(Json::Array(items)) = arguments.get(name)
            && let [item] = &items[..]
        {
            arguments.insert(name.to_string(), item.clone());
        }
    }
    let is_chat = path.split('?').next().is_some_and(|path| path.ends_with("chat/completions"));
    arguments.insert("apply_chat_template".to_string(), json!(data.chat_template.choice().unwrap_or(is_chat)));
    arguments
}
