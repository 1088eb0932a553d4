//! The facts of a plan that are stored with its run.

use super::{Arrival, Load, Plan};
use crate::record::facts::{Mode, RunFacts, ShardFacts};

impl Plan {
    /// The facts of this plan. Its request ids begin with `request_id_prefix`.
    pub fn facts(&self, request_id_prefix: &str) -> RunFacts {
        let schedule = self.load.schedule();
        let share = self.share();
        let rate_per_s = schedule.map(|schedule| schedule.rate_per_s);
        RunFacts {
            version: env!("CARGO_PKG_VERSION").to_string(),
            name: self.report.name.clone(),
            model: self.report.model.clone(),
            dataset: self.report.dataset.clone(),
            api: self.report.api.clone(),
            url: self.target.url.clone(),
            addresses: self.target.addresses_used(self.address_rotation),
            stream: self.stream,
            mode: match self.load {
                Load::Closed { .. } => Mode::Closed,
                Load::Paced { .. } => Mode::Paced,
                Load::Open { .. } => Mode::Open,
            },
            parallel: self.slots(),
            rate_per_s: rate_per_s.map(|rate| rate / f64::from(share.count())),
            arrival: schedule.map(|s| arrival_name(&s.arrival)),
            requests: self.requests.map(|requests| share.part(requests)),
            conversations: None,
            duration_ns: self.duration_ns,
            drain_ns: self.drain_ns,
            warmup_requests: share.part(self.warmup_requests),
            warmup_flows: true,
            ramp_ns: self.ramp_ns,
            seed: self.workload.randomness.data_seed,
            salt: self.workload.randomness.salt,
            run: self.workload.randomness.run,
            workers: self.cores.len() as u32,
            spin: self.spin,
            cold: self.cold,
            request_id_prefix: request_id_prefix.to_string(),
            slo: self.report.slo.clone(),
            gpus: self.report.gpus,
            abort_on: self.abort_on.as_ref().map_or_else(String::new, |limit| limit.text.clone()),
            distinct_prompts: self.workload.has_distinct_prompts(),
            ignore_eos: self.workload.ignores_eos(),
            full_answer_tokens: self.workload.full_answer_tokens(),
            search: self.report.search.clone(),
            witness: self.witness.map_or(0, |witness| witness.connections),
            choices: self.workload.options.choices(),
            clock_domain: String::new(),
            shard: self.shard.as_ref().map(|_| ShardFacts {
                share,
                call_id: self.workload.id_prefix.clone(),
                plan_hash: String::new(),
                clock_domain: String::new(),
                parallel: self.load.parallel(),
                rate_per_s,
                requests: self.requests,
                warmup_requests: self.warmup_requests,
                conversations: None,
            }),
        }
    }
}

fn arrival_name(arrival: &Arrival) -> String {
    match arrival {
        Arrival::Poisson => "poisson".to_string(),
        Arrival::Constant => "constant".to_string(),
        Arrival::Gamma { cv } => format!("gamma:{cv}"),
        Arrival::Burst => "burst".to_string(),
        Arrival::Trace(_) => "trace".to_string(),
    }
}
