//! From what was asked to what will be done: every cross-check of the command line.

use std::sync::Arc;

use super::proxy::{ProxyChoice, ProxyVariables};
use super::request::{self, seconds_ns};
use super::slo;
use super::url::Endpoint;
use super::workers::cores;
use super::{Arrival, Load, Plan, PlanError, Reporting, Schedule, Target, Timeouts, TlsPlan, Transport};
use super::{HubFiles, LocalPlan, api, data, endpoint, export, folder, local, metrics, visual, witness};
use super::{root_folder, suffix_of_run};
use crate::api::endpoint::Api;
use crate::api::query_template::QueryTemplate;
use crate::finding::Finding;
use crate::spec::secrets::Secrets;
use crate::spec::{Spec, mask, masked_url};
use crate::workload::Recipe;
use crate::workload::trace::Trace;

/// Seconds that requests in flight may go on after `--duration`.
const DEFAULT_DRAIN_S: f64 = 30.0;

/// What a plan has to know about this machine and this moment.
#[derive(Clone, Debug, Default)]
pub struct RigFacts {
    /// Cores this process may run on, ascending.
    pub allowed_cores: Vec<usize>,
    /// When the call started, as `YYYYmmdd_HHMMSS` in local time.
    pub started: String,
    /// Any number that differs between calls. It keeps request ids apart on a server that several calls load.
    pub nonce: u32,
    /// What the file of [`trace_file`] holds, where there is one.
    pub trace: Option<Arc<Trace>>,
    /// Where the files are that a hub has.
    pub hub: HubFiles,
    /// What the environment says of proxies.
    pub proxy_variables: ProxyVariables,
}

/// Decides everything about a call: one plan for each run of the sweep, in order.
///
/// Nothing is looked up: the target has no addresses yet, and without `--model` the plans carry an empty model name
/// (ask the server, put the answer into the spec, and resolve again).
pub fn resolve(spec: &Spec, facts: &RigFacts) -> Result<Vec<Plan>, PlanError> {
    let local = local::plan(spec)?;
    let api = if local.is_some() { Api::OpenAi } else { api::api(spec)? };
    let spec = &Spec { url: local.as_ref().map(LocalPlan::url).or_else(|| spec.url.clone()), ..spec.clone() };
    let mut notes: Vec<Finding> = Vec::new();
    let trace = facts.trace.as_ref();
    let loads = loads(spec, trace, &mut notes)?;
    let numbers = numbers(spec, trace, &loads)?;
    let Endpoint { mut target, dialect, notes: of_target } = target(spec, api)?;
    notes.extend(of_target);
    let proxies = ProxyChoice::of(spec, &facts.proxy_variables)?;
    proxies.apply(&mut target, local.is_some(), &mut notes)?;
    let secrets = spec.secrets();
    target.url = masked_url(&target.url);
    for word in notes.iter_mut().flat_map(Finding::foreign_words) {
        *word = mask(word, &secrets);
    }
    let template = api::template(spec, api)?;
    let model = model(spec, template.as_deref(), &target)?;
    let mut workload = request::recipe(&facts.hub.named_in(spec), dialect, template, trace, &model, &mut notes)?;
    workload.id_prefix = format!("rm-{:08x}", facts.nonce);
    let base = Base { spec, facts, target, local, workload, model };

    let mut plans: Vec<Plan> = Vec::new();
    // All loads once, then all again: what drifts in the meantime is not taken for a difference between loads.
    for run in 1..=spec.repeat.max(1) {
        let before_this_run = plans.len();
        for (load, number) in loads.iter().zip(&numbers) {
            // Every run would say the same again.
            let mut again = Vec::new();
            let mut plan = base.plan(load.clone(), *number, if run == 1 { &mut notes } else { &mut again })?;
            let folder = plan.report.folder.as_mut_os_string();
            // Two equal loads of one sweep keep apart.
            let earlier = &plans[before_this_run..];
            let equal = earlier.iter().filter(|e| e.load == plan.load && e.requests == *number).count();
            if equal > 0 {
                folder.push(format!("_{}", equal + 1));
            }
            if spec.repeat > 1 {
                folder.push(suffix_of_run(run));
            }
            // As in evalscope, the runs of a sweep do not send the same prompts again: the server has them in its cache.
            let before: u64 = plans.iter().filter_map(|earlier| earlier.requests).sum();
            plan.workload.offset = spec.dataset_offset.saturating_add(before);
            plans.push(plan);
        }
    }
    notes.dedup();
    plans[0].notes = notes;
    Ok(plans)
}

/// What the runs of a call share.
struct Base<'a> {
    spec: &'a Spec,
    facts: &'a RigFacts,
    target: Target,
    local: Option<LocalPlan>,
    workload: Recipe,
    model: String,
}

impl Base<'_> {
    fn plan(&self, load: Load, number: Option<u64>, notes: &mut Vec<Finding>) -> Result<Plan, PlanError> {
        let spec = self.spec;
        let warmup_requests = warmup(spec, number)?;
        let cores = cores(spec, &self.facts.allowed_cores, load.parallel(), self.target.mock.is_some(), notes)?;
        let witness = witness::plan(spec, &self.facts.allowed_cores, &cores, load.parallel(), notes)?;
        if witness.is_some() {
            witness::check(&self.workload.source, self.target.proxy.is_some())?;
        }
        let mut workload = self.workload.clone();
        workload.needed = number.map(|number| number.saturating_add(warmup_requests));
        if spec.cold && load.parallel().is_none() {
            return Err(PlanError::conflict("--cold is about a closed loop: an open loop opens no connection ahead"));
        }
        let drain_ns = match (spec.drain_s, spec.duration_s) {
            (Some(_), None) => {
                return Err(PlanError::conflict("--drain needs --duration: only that leaves requests in flight"));
            }
            (drain, _) => seconds_ns("--drain", drain.unwrap_or(DEFAULT_DRAIN_S), true)?,
        };
        Ok(Plan {
            target: self.target.clone(),
            dialect: workload.options.dialect,
            stream: workload.options.stream,
            requests: number,
            duration_ns: spec.duration_s.map(|s| seconds_ns("--duration", s, false)).transpose()?,
            drain_ns,
            warmup_requests,
            ramp_ns: seconds_ns("--ramp", spec.ramp_s, true)?,
            seed: workload.seed,
            timeouts: timeouts(spec)?,
            cores,
            spin: spec.spin,
            cold: spec.cold,
            source_addresses: spec.source_address.clone(),
            force_fallback: spec.force_fallback,
            test_connection: !spec.no_test_connection,
            sleep_interval_ns: seconds_ns("--sleep-interval", spec.sleep_interval_s, true)?,
            save: spec.save,
            local: self.local.clone(),
            server_metrics: metrics::page(spec, self.local.as_ref(), &self.facts.proxy_variables)?,
            witness,
            calibration: None,
            report: self.reporting(&load, number)?,
            workload,
            load,
            notes: Vec::new(),
        })
    }

    fn reporting(&self, load: &Load, number: Option<u64>) -> Result<Reporting, PlanError> {
        let spec = self.spec;
        let name = match &spec.name {
            Some(name) if name.trim().is_empty() => return Err(PlanError::value("--name", "is empty")),
            Some(name) => folder::name_of_run(name),
            None => folder::name_of_model(&self.model),
        };
        let started = (!spec.no_timestamp).then_some(self.facts.started.as_str());
        let root = root_folder(&spec.outputs_dir, started, &name);
        let dataset = match &spec.prompt {
            Some(_) => "prompt".to_string(),
            None => spec.dataset.clone().unwrap_or_else(|| "builtin".to_string()),
        };
        Ok(Reporting {
            model: self.model.clone(),
            name,
            dataset,
            api: spec.api.clone(),
            folder: root.join(folder::name_of_load(load, number, spec.duration_s)),
            root,
            log_every: spec.log_every_n_query,
            debug: spec.debug,
            quiet: spec.quiet,
            slo: self::slo(spec)?,
            search: None,
            exports: export::scan(spec.csv.as_deref(), &spec.export, Some(spec.save))?,
            visualizer: visual::plan(spec, &self.model, &self.facts.started)?,
            arguments_json: self.arguments(load, number),
            secrets: Secrets { all: spec.secrets(), bodies: spec.body_secrets() },
        })
    }

    /// The call as `benchmark_args.json` shows it: this run's load, what was completed, no secrets.
    fn arguments(&self, load: &Load, number: Option<u64>) -> String {
        let mut shown = self.spec.masked();
        shown.url = Some(self.target.url.clone());
        shown.model = Some(self.model.clone());
        shown.number = number.into_iter().collect();
        shown.parallel = load.parallel().into_iter().collect();
        shown.rate = vec![match load.schedule() {
            Some(Schedule { arrival: Arrival::Burst | Arrival::Trace(_), .. }) | None => -1.0,
            Some(schedule) => schedule.rate_per_s,
        }];
        serde_json::to_string_pretty(&shown).expect("a spec holds only strings, numbers and lists")
    }
}

/// The server, and how its certificate is checked.
fn target(spec: &Spec, api: Api) -> Result<Endpoint, PlanError> {
    let url = spec.url.as_deref().ok_or(PlanError::NoUrl)?;
    if spec.insecure && spec.cacert.is_some() {
        return Err(PlanError::conflict(
            "--insecure checks no certificate, so --cacert has no use beside it; keep one",
        ));
    }
    let tls = TlsPlan { ca_file: spec.cacert.clone(), insecure: spec.insecure };
    let mut found = endpoint(url, api, tls).map_err(|error| match error {
        PlanError::Url { url, what } => {
            // What is wrong may quote the URL, or a part of it.
            let (shown, secrets) = (masked_url(&url), spec.secrets());
            PlanError::Url { what: mask(&what.replace(&url, &shown), &secrets), url: mask(&shown, &secrets) }
        }
        other => other,
    })?;
    data::redirect(spec, &mut found);
    if found.target.tls.is_none() {
        for (given, flag) in [(spec.insecure, "--insecure"), (spec.cacert.is_some(), "--cacert")] {
            if given {
                return Err(PlanError::conflict(format!("{flag} is about TLS, but --url is not https://")));
            }
        }
    }
    if matches!(found.target.transport, Transport::Unix(_)) && !spec.source_address.is_empty() {
        return Err(PlanError::conflict("--source-address is about TCP, but --url is a unix: socket"));
    }
    if spec.insecure {
        found.notes.push(Finding::CertificateNotVerified);
    }
    Ok(found)
}

fn model(spec: &Spec, template: Option<&QueryTemplate>, target: &Target) -> Result<String, PlanError> {
    match &spec.model {
        Some(model) if model.trim().is_empty() => {
            Err(PlanError::value("--model", "is empty; leave it out to ask the server"))
        }
        Some(model) => Ok(model.clone()),
        None if template.is_some_and(|template| template.model().is_some()) => {
            Ok(template.and_then(QueryTemplate::model).unwrap_or_default().to_string())
        }
        None if target.mock.is_some() => Ok("mock".to_string()),
        None => Ok(String::new()),
    }
}

/// The objectives as one text, when they can be read.
fn slo(spec: &Spec) -> Result<String, PlanError> {
    let text = spec.slo.join(" ");
    if !spec.slo.is_empty() {
        slo::scan_all(&text).map_err(|what| PlanError::value("--slo", what))?;
    }
    Ok(text)
}

/// The loads of the sweep, in order.
fn loads(spec: &Spec, trace: Option<&Arc<Trace>>, notes: &mut Vec<Finding>) -> Result<Vec<Load>, PlanError> {
    if let Some(schedule) = data::trace_schedule(spec, trace)? {
        if spec.open_loop || data::is_trace(spec) {
            return open_loads(spec, vec![schedule], notes);
        }
        return paced_loads(spec, &[schedule]);
    }
    let arrival = match &spec.arrival {
        None => Arrival::Poisson,
        Some(text) => Arrival::scan(text).map_err(|what| PlanError::value("--arrival", format!("'{text}': {what}")))?,
    };
    let rates = rates(spec, &arrival)?;
    if spec.arrival.is_some() && rates.is_empty() {
        return Err(PlanError::conflict(format!(
            "--arrival says how requests at a rate are spaced: give --rate too, for example --rate 5 --arrival {}",
            spec.arrival.as_deref().unwrap_or_default()
        )));
    }
    if arrival == Arrival::Burst && spec.ramp_s > 0.0 {
        return Err(PlanError::conflict(
            "--arrival burst sends everything at the start, so --ramp cannot stand beside it",
        ));
    }
    let schedules = rates.into_iter().map(|rate_per_s| Schedule { rate_per_s, arrival: arrival.clone() });
    if spec.open_loop {
        return open_loads(spec, schedules.collect(), notes);
    }
    let schedules: Vec<Schedule> = schedules.collect();
    if schedules.len() > 1 {
        return Err(PlanError::conflict(
            "--rate has several values: add --open-loop to run one after the other, or give one rate",
        ));
    }
    paced_loads(spec, &schedules)
}

/// Loads with a cap, at the places of the schedule where there is one.
fn paced_loads(spec: &Spec, schedules: &[Schedule]) -> Result<Vec<Load>, PlanError> {
    if spec.parallel.contains(&0) {
        return Err(PlanError::value("--parallel", "must be at least 1"));
    }
    let parallels = if spec.parallel.is_empty() { &[1][..] } else { &spec.parallel };
    let load = |parallel: u32| match schedules.first() {
        None => Load::Closed { parallel },
        Some(schedule) => Load::Paced { parallel, schedule: schedule.clone() },
    };
    Ok(parallels.iter().map(|parallel| load(*parallel)).collect())
}

fn open_loads(spec: &Spec, schedules: Vec<Schedule>, notes: &mut Vec<Finding>) -> Result<Vec<Load>, PlanError> {
    if schedules.is_empty() {
        return Err(PlanError::conflict("--open-loop needs a rate above 0: add --rate, for example --rate 5"));
    }
    if !spec.parallel.is_empty() {
        notes.push(Finding::ParallelNotUsed);
    }
    Ok(schedules.into_iter().map(|schedule| Load::Open { schedule }).collect())
}

/// The rates asked for; empty without a schedule. A burst counts as one rate of 0.
fn rates(spec: &Spec, arrival: &Arrival) -> Result<Vec<f64>, PlanError> {
    if let Some(wrong) = spec.rate.iter().find(|rate| !rate.is_finite() || (**rate <= 0.0 && **rate != -1.0)) {
        return Err(PlanError::value("--rate", format!("must be above 0, or -1 for no pacing, not {wrong:?}")));
    }
    // Offsets are nanoseconds: a rate past this puts several requests on each, one below it stands still.
    if let Some(wrong) = spec.rate.iter().find(|rate| **rate > 0.0 && !(1e-6..=1e8).contains(*rate)) {
        return Err(PlanError::value(
            "--rate",
            format!("must be between 0.000001 and 100000000 per second, not {wrong}"),
        ));
    }
    let unpaced = spec.rate.contains(&-1.0);
    if unpaced && (spec.open_loop || spec.rate.len() > 1) {
        return Err(PlanError::value("--rate", "-1 means no pacing; an open loop or a sweep needs rates above 0"));
    }
    match arrival {
        Arrival::Burst if spec.rate.is_empty() => Ok(vec![0.0]),
        Arrival::Burst => Err(PlanError::conflict("--arrival burst sends everything at the start: leave --rate out")),
        _ if unpaced => Ok(Vec::new()),
        _ => Ok(spec.rate.clone()),
    }
}

/// Requests of each run; `None` where only the duration ends it.
fn numbers(spec: &Spec, trace: Option<&Arc<Trace>>, loads: &[Load]) -> Result<Vec<Option<u64>>, PlanError> {
    if spec.number.contains(&0) {
        return Err(PlanError::value("--number", "must be at least 1"));
    }
    let endless = |load: &Load| load.schedule().is_none_or(|schedule| schedule.arrival != Arrival::Burst);
    match spec.number.as_slice() {
        [] if spec.duration_s.is_some() => {
            Ok(loads.iter().map(|load| (!endless(load)).then_some(data::default_number(spec, trace))).collect())
        }
        [] => Ok(vec![Some(data::default_number(spec, trace)); loads.len()]),
        [number] => Ok(vec![Some(*number); loads.len()]),
        numbers if numbers.len() == loads.len() => Ok(numbers.iter().copied().map(Some).collect()),
        numbers => {
            let flag = if spec.open_loop { "--rate" } else { "--parallel" };
            Err(PlanError::Lengths { numbers: numbers.len(), flag, loads: loads.len() })
        }
    }
}

/// Warm-up requests: a count, or a share of the run's requests.
fn warmup(spec: &Spec, number: Option<u64>) -> Result<u64, PlanError> {
    const FLAG: &str = "--warmup-num";
    let asked = spec.warmup_num;
    match number {
        _ if !asked.is_finite() || !(0.0..=1e15).contains(&asked) => Err(PlanError::value(
            FLAG,
            format!("must be 0, a share between 0 and 1, or a count from 1 on, not {asked:?}"),
        )),
        _ if asked == 0.0 => Ok(0),
        Some(number) if asked < 1.0 => Ok(((asked * number as f64) as u64).max(1)),
        None if asked < 1.0 => {
            Err(PlanError::conflict("--warmup-num is a share of --number here: give --number, or a count from 1 on"))
        }
        _ if asked.fract() != 0.0 => Err(PlanError::value(FLAG, format!("must be whole from 1 on, not {asked:?}"))),
        _ => Ok(asked as u64),
    }
}

fn timeouts(spec: &Spec) -> Result<Timeouts, PlanError> {
    Ok(Timeouts {
        connect_ns: seconds_ns("--connect-timeout", spec.connect_timeout_s, false)?,
        read_ns: seconds_ns("--read-timeout", spec.read_timeout_s, false)?,
        total_ns: seconds_ns("--total-timeout", spec.total_timeout_s, false)?,
    })
}
