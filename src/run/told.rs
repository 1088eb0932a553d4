//! `--debug`: writes what is told of requests into the log, on a thread of its own, so that no worker waits for a file.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::log::Log;
use crate::plan::Plan;
use crate::record::trace::{Listener, Trace, channel, text};
use crate::time::clock::Clock;

/// The thread that writes; it ends when nobody is left who could tell anything.
pub struct Teller(Option<JoinHandle<()>>);

/// Starts it, where `plan` asks for it, and says first what will be done.
pub fn start(plan: &Plan, log: &Arc<Log>) -> (Teller, Option<Trace>) {
    if !plan.report.debug {
        return (Teller(None), None);
    }
    log.debug(&format!("the plan: {}", shown(plan)));
    let (trace, listener) = channel();
    let log = log.clone();
    let thread = std::thread::Builder::new().name("debug".to_string()).spawn(move || write(&listener, &log));
    // Without a thread nothing is told, and nothing else is lost.
    (Teller(thread.ok()), Some(trace))
}

impl Drop for Teller {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // What panicked in there has said so on standard error; the run is as good.
            let _ = thread.join();
        }
    }
}

fn write(listener: &Listener, log: &Log) {
    let clock = Clock::new();
    for told in &listener.lines {
        clock.maintain(clock.now());
        log.debug_at(told.at.0 as i64 + clock.wall_offset_ns(), &text(&told));
        let dropped = listener.take_dropped();
        if dropped > 0 {
            log.debug(&format!("{dropped} lines were dropped here: more happened than this log can take"));
        }
    }
}

/// The plan on one line, without the prompts, which follow with the requests, and without what holds its secrets.
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
