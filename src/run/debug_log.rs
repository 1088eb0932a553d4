//! `--debug`: writes the events of requests to the log, on a thread of its own, so that no worker waits for a file.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::log::Log;
use crate::plan::Plan;
use crate::record::trace::{Trace, TraceReceiver, channel, event_line};
use crate::time::clock::Clock;

/// The thread that writes; it ends when the last sender of events is gone.
pub struct DebugLog(Option<JoinHandle<()>>);

/// Starts the thread, where `plan` asks for it, and logs the plan first.
pub fn start(plan: &Plan, log: &Arc<Log>) -> (DebugLog, Option<Trace>) {
    if !plan.report.debug {
        return (DebugLog(None), None);
    }
    log.debug(&format!("the plan: {}", shown(plan)));
    let (trace, listener) = channel();
    let log = log.clone();
    let thread = std::thread::Builder::new().name("debug".to_string()).spawn(move || write(&listener, &log));
    // Without a thread no events are logged; the run is not affected.
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

fn write(listener: &TraceReceiver, log: &Log) {
    let clock = Clock::new();
    for event in &listener.lines {
        clock.maintain(clock.now());
        log.debug_at(event.at.0 as i64 + clock.wall_offset_ns(), &event_line(&event));
        let dropped = listener.take_dropped();
        if dropped > 0 {
            log.debug(&format!("{dropped} lines were dropped here: more happened than this log can take"));
        }
    }
}

/// The plan on one line, without the prompts, which follow with the requests, and without fields that hold secrets.
fn shown(plan: &Plan) -> String {
    let Plan { target, dialect, load, timeouts, workload, report, .. } = plan;
    format!(
        "{} to {} ({dialect:?}, stream {}); {load:?}, requests {:?}, warm-up {}, duration {:?} ns, ramp {} ns, drain {} \
         ns; seed {}; {timeouts:?}; workers on cores {:?}, spin {}, cold {}, from {:?}; headers {:?}; {:?}; into {}",
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
        workload.headers,
        workload.options.sampling,
        report.folder.display(),
    )
}
