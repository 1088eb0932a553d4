//! Plans of a shard: shard 0 decides what the shards of a call have in common, and the others wait for it.

use jiff::Timestamp;

use crate::mock::Mock;
use crate::plan::Plan;
use crate::plan::shard::{RendezvousPlan, ShardPlan};
use crate::rendezvous::{CallFacts, Rendezvous};
use crate::spec::{RigFacts, Spec, resolve};
use crate::time::clock::wall_now_ns;
use crate::workload::rng::mix;

/// Plans, and the mock that they measure.
type Made = (Vec<Plan>, Option<Mock>);

/// The plans of a shard, and where it meets the others. `facts` get what all shards have in common.
pub(super) fn make_plans(
    shard: &ShardPlan,
    spec: &Spec,
    facts: &mut RigFacts,
    notify: &mut dyn FnMut(String),
) -> Result<(Option<Rendezvous>, Made), String> {
    // Errors in flags are reported before anyone is waited for.
    resolve(spec, facts).map_err(|error| error.to_string())?;
    // An interrupt ends the process here: nothing has been written.
    let stopped = &|| false;
    let token = facts.shard_variables.token();
    let mut rendezvous = Rendezvous::open(shard, token, wall_now_ns, stopped).map_err(|error| error.to_string())?;
    let made = if let RendezvousPlan::At { unix_ns } = shard.rendezvous {
        let call = call_at(unix_ns, spec.data.data_seed.unwrap_or_default());
        apply(&call, facts);
        super::make_plans(spec, facts, notify)
    } else if shard.share.is_first() {
        facts.started = format!("{}_{:08x}", facts.started, facts.nonce);
        lead(&mut rendezvous, spec, facts, notify)
    } else {
        rendezvous.share_call(None, stopped).map_err(|error| error.to_string()).and_then(|call| {
            let call = call.ok_or("the shards have no call in common")?;
            apply(&call, facts);
            let spec = spec.clone().with(|spec| spec.target.model = Some(call.model.clone()));
            super::make_plans(&spec, facts, notify)
        })
    };
    match made {
        Ok(made) => Ok((Some(rendezvous), made)),
        Err(error) => {
            rendezvous.fail(&error);
            Err(error)
        }
    }
}

/// Shard 0: makes its plans, for which it may have to wait for the server, and shares what follows from them.
fn lead(
    rendezvous: &mut Rendezvous,
    spec: &Spec,
    facts: &RigFacts,
    notify: &mut dyn FnMut(String),
) -> Result<Made, String> {
    let made = super::make_plans(spec, facts, notify)?;
    let model = made.0[0].report.model.clone();
    let call = CallFacts { nonce: facts.nonce, started: facts.started.clone(), model };
    rendezvous.share_call(Some(call), &|| false).map_err(|error| error.to_string())?;
    Ok(made)
}

fn apply(call: &CallFacts, facts: &mut RigFacts) {
    facts.nonce = call.nonce;
    facts.started = call.started.clone();
}

/// What shards have in common if nothing but their start is given.
fn call_at(unix_ns: i64, data_seed: u64) -> CallFacts {
    let nonce = mix(unix_ns as u64 ^ mix(data_seed)) as u32;
    let start = Timestamp::from_nanosecond(unix_ns.into()).unwrap_or_default();
    CallFacts { nonce, started: format!("{}_{nonce:08x}", start.strftime("%Y%m%d_%H%M%SZ")), model: String::new() }
}
