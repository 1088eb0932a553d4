//! `--debug`: writes request events to the log on a separate thread, so that workers do not wait for file I/O.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::log::Log;
use crate::plan::Plan;
use crate::record::trace::{Trace, TraceReceiver, channel, event_line};
use crate::time::clock::Clock;

/// The writing thread. It ends when the last event sender is dropped.
pub struct DebugLog(Option<JoinHandle<()>>);

/// Logs the plan and starts the thread if `plan` has `--debug`.
pub fn start(plan: &Plan, log: &Arc<Log>) -> (DebugLog, Option<Trace>) {
    if !plan.report.debug {
        return (DebugLog(None), None);
    }
    log.debug(&format!("the plan: {}", plan_line(plan)));
    let (trace, receiver) = channel();
    let log = log.clone();
    let thread = std::thread::Builder::new().name("debug".to_string()).spawn(move || write(&receiver, &log));
    // Without the thread no events are logged; the run is not affected.
    (DebugLog(thread.ok()), Some(trace))
}

impl Drop for DebugLog {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // The message of a panic is already on standard error; the run is not affected.
            let _ = thread.join();
        }
    }
}

fn write(receiver: &TraceReceiver, log: &Log) {
    let clock = Clock::new();
    for event in &receiver.lines {
        clock.maintain(clock.now());
        log.debug_at(event.at.0 as i64 + clock.wall_offset_ns(), &event_line(&event));
        let dropped = receiver.take_dropped();
        if dropped > 0 {
            log.debug(&format!("{dropped} lines were dropped here: the log could not keep up with the events"));
        }
    }
}

/// The plan on one line, without prompts, which are logged with the requests, and without fields that contain secrets.
fn plan_line(plan: &Plan) -> String {
    let Plan { target, dialect, load, timeouts, workload, report, .. } = plan;
    format!(
        "{} to {} ({dialect:?}, stream {}); {load:?}, requests {:?}, warm-up {}, duration {:?} ns, ramp {} ns, drain {} \
         ns; seed {}; {timeouts:?}; workers on cores {:?}, spin {}, cold {}, from {:?} to {:?}; headers {:?}; {:?}; into {}",
        report.model,
        target.url,
        plan.stream,
        plan.requests,
        plan.warmup_requests,
        plan.duration_ns,
        plan.ramp_ns,
        plan.drain_ns,
        plan.seed,
        plan.cores,
        plan.spin,
        plan.cold,
        plan.source_addresses,
        target.addresses_used(plan.address_rotation),
        workload.headers,
        workload.options.sampling,
        report.folder.display(),
    )
}
