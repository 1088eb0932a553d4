//! A hash of what all shards of a load must have in common.

use std::fs::File;
use std::io::Read;

use ring::digest::{Context, SHA256};

use crate::plan::Plan;
use crate::workload::{Source, Workload};

/// SHA-256, in hexadecimal digits, of the load, the schedule, the rendered bodies and how responses are read. Paths, cores,
/// headers and addresses are left out: they may differ between machines, or are secret.
pub(super) fn compute(plan: &Plan, workload: &Workload) -> String {
    let mut context = Context::new(&SHA256);
    let Plan { load, timeouts, .. } = plan;
    let shards = plan.share().count();
    let facts = format!(
        "{} {shards} {} {} {load:?} {:?} {:?} {} {} {} {} {timeouts:?} {} {:?} {} {:?} {:?}",
        env!("CARGO_PKG_VERSION"),
        // A query can have a key.
        plan.target.path.split('?').next().unwrap_or_default(),
        plan.stream,
        plan.requests,
        plan.duration_ns,
        plan.drain_ns,
        plan.warmup_requests,
        plan.ramp_ns,
        plan.seed,
        plan.max_response_bytes,
        plan.workload.randomness,
        plan.workload.id_prefix,
        plan.abort_on.as_ref().map(|limit| &limit.text),
        plan.report.slo,
    );
    context.update(facts.as_bytes());
    workload.each_part(&mut |bytes| context.update(bytes));
    // Not all bodies are there before the start, but the file that they are made from.
    if let (true, Source::ShareGpt { path, .. }) = (plan.workload.is_streamed(), &plan.workload.source) {
        // The file has been read before.
        let _ = File::open(path).and_then(|file| update_from(&mut context, file));
    }
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn update_from(context: &mut Context, mut file: File) -> std::io::Result<()> {
    let mut bytes = vec![0; 1 << 16];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(()),
            count => context.update(&bytes[..count]),
        }
    }
}
