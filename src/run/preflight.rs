//! The connection test: one request before the run. It succeeds or fails by the same rules as the requests of the run.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded, unbounded};

use super::error::RunError;
use crate::api::error_text;
use crate::engine::preflight_progress::{PreflightProgress, PreflightStep};
use crate::engine::{Engine, EngineError, PhaseRequest};
use crate::log::Log;
use crate::plan::{Load, Plan, Target};
use crate::record::share::Share;
use crate::record::{CollectorMessage, Failure, Outcome, Phase};
use crate::server::hints;
use crate::server::ready::{Attempt, after_waiting, wait_until_ready};

/// Interval after which the log names the step that is being waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends one request, again and again while the server is starting; the error describes the last failure. A response that
/// has started but not finished counts as success.
pub fn test_connection(engine: &mut Engine, plan: &Plan, log: &Log, stop: &AtomicU8) -> Result<(), RunError> {
    let timeout = Duration::from_nanos(plan.ready_timeout_ns);
    let is_stopped = || stop.load(Ordering::Relaxed) != 0;
    let mut notify = |line: String| log.warning(&line);
    let tested = wait_until_ready(timeout, &is_stopped, &mut notify, || test_once(engine, plan, log));
    // The interrupt has cut the response short, which says nothing about it.
    let tested = tested.and_then(|()| match is_stopped() {
        true => Err((RunError::ConnectionTest(INTERRUPTED.to_string()), None)),
        false => Ok(()),
    });
    tested.map_err(|(error, waited)| match error {
        RunError::ConnectionTest(_) if is_stopped() => RunError::ConnectionTest(INTERRUPTED.to_string()),
        RunError::ConnectionTest(text) => RunError::ConnectionTest(after_waiting(&text, waited)),
        other => other,
    })
}

const INTERRUPTED: &str = "it was interrupted";

/// Sends one request.
fn test_once(engine: &mut Engine, plan: &Plan, log: &Log) -> Result<(), Attempt<RunError>> {
    let failed = |error: RunError| Attempt { error, starting: None };
    let interrupted = || failed(RunError::ConnectionTest(INTERRUPTED.to_string()));
    let (messages, received) = unbounded();
    run_with_wait_log(
        engine,
        PhaseRequest {
            phase: Phase::Preflight,
            load: Load::Closed { parallel: 1 },
            share: Share::default(),
            warmup: 0,
            requests: Some(1),
            duration_ns: None,
            ramp_ns: 0,
            messages,
        },
        plan,
        log,
    )
    .map_err(|error| failed(error.into()))?;
    let block = received.try_iter().find_map(|message| match message {
        CollectorMessage::Block(block) if !block.records.is_empty() => Some(block),
        _ => None,
    });
    let Some(block) = block else {
        return Err(interrupted());
    };
    let record = &block.records[0];
    let server_text = error_text::shorten(&String::from_utf8_lossy(record.error.slice(&block.bytes)));
    match record.outcome {
        Outcome::Ok => Ok(()),
        Outcome::Unfinished if record.first_token.is_some() => Ok(()),
        Outcome::Unfinished => Err(interrupted()),
        Outcome::Failed(failure) => {
            let class = match failure {
                Failure::Status => format!("status {}", record.status),
                other => other.name().to_string(),
            };
            // Servers that do not know the field name it in their message.
            let hint = match failure == Failure::Status && server_text.contains("stream_options") {
                true => "\nhint: --extra-args '{\"stream_options\": null}' leaves the field out",
                false => "",
            };
            let url = &plan.target.url;
            let refused = failure == Failure::Connect && engine.server.refused_since().is_some();
            let cause = format!("the request to {url} failed ({class}): {server_text}");
            let names = plan.workload.headers.iter().map(|header| header.name.as_str());
            let advice = match failure {
                Failure::Status => hints::about_status(record.status, &plan.target, names),
                Failure::Connect if refused => Some(hints::about_refusal(&plan.target)),
                _ => None,
            };
            let advice = advice.map_or(String::new(), |advice| format!("; {advice}"));
            let error = RunError::ConnectionTest(format!("{cause}{advice}{hint}"));
            Err(Attempt { error, starting: (refused || record.status == 503).then_some(cause) })
        }
    }
}

/// Runs the phase. Steps that take longer than [`PATIENCE`] are logged once each.
fn run_with_wait_log(engine: &mut Engine, request: PhaseRequest, plan: &Plan, log: &Log) -> Result<(), EngineError> {
    let progress = engine.preflight.clone();
    std::thread::scope(|scope| {
        let (running, over) = bounded::<()>(0);
        let report_waiting = move || {
            let mut logged = PreflightStep::Nothing;
            while over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                log_step(&progress, &mut logged, &plan.target, log);
            }
        };
        // Without the thread nothing is logged; the test is not affected.
        let _ = std::thread::Builder::new().name("connection test".to_string()).spawn_scoped(scope, report_waiting);
        let ran = engine.run(request);
        drop(running);
        ran.map(drop)
    })
}

fn log_step(progress: &PreflightProgress, logged: &mut PreflightStep, target: &Target, log: &Log) {
    let now = progress.get();
    if *logged == now {
        return;
    }
    *logged = now;
    let (host, port) = target.peer();
    let what = match now {
        PreflightStep::Nothing => return,
        PreflightStep::Connection if target.port == 0 => format!("a connection to {}", target.url),
        PreflightStep::Connection => format!("a connection to {host}:{port} (--connect-timeout)"),
        PreflightStep::Tunnel => format!("the proxy {host}:{port} (--connect-timeout)"),
        PreflightStep::TlsHandshake => format!("the TLS handshake with {} (--connect-timeout)", target.authority),
        PreflightStep::Answer => format!("the response of {} (--read-timeout)", target.url),
    };
    log.info(&format!("connection test: waiting for {what}"));
}
