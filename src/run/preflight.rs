//! The connection test: one request before the run, which is judged as those of the run are.

use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded, unbounded};

use super::error::RunError;
use crate::api::words;
use crate::engine::awaiting::{Awaited, Awaiting};
use crate::engine::{Engine, EngineError, PhaseRequest};
use crate::log::Log;
use crate::plan::{Load, Plan, Target};
use crate::record::{Failure, Outcome, Parcel, Phase};

/// After this long a person wonders what is going on.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends one request and turns a failure into words. An answer that goes on for seconds is good enough.
pub fn test_connection(engine: &mut Engine, plan: &Plan, log: &Log) -> Result<(), RunError> {
    let (parcels, received) = unbounded();
    run_watched(
        engine,
        PhaseRequest {
            phase: Phase::Preflight,
            load: Load::Closed { parallel: 1 },
            requests: Some(1),
            duration_ns: None,
            ramp_ns: 0,
            parcels,
        },
        plan,
        log,
    )?;
    let block = received.try_iter().find_map(|parcel| match parcel {
        Parcel::Block(block) if !block.records.is_empty() => Some(block),
        _ => None,
    });
    let Some(block) = block else {
        return Err(RunError::ConnectionTest("it was interrupted".to_string()));
    };
    let record = &block.records[0];
    let words = words::shorten(&String::from_utf8_lossy(record.error.of(&block.bytes)));
    match record.outcome {
        Outcome::Ok => Ok(()),
        Outcome::Unfinished if record.first_token.is_some() => Ok(()),
        Outcome::Unfinished => Err(RunError::ConnectionTest("it was interrupted".to_string())),
        Outcome::Failed(failure) => {
            let class = match failure {
                Failure::Status => format!("status {}", record.status),
                other => other.name().to_string(),
            };
            Err(RunError::ConnectionTest(format!("{} did not answer as it should ({class}): {words}", plan.target.url)))
        }
    }
}

/// Runs the phase; what it waits for is said when that takes long, and again when it waits for something else.
fn run_watched(engine: &mut Engine, request: PhaseRequest, plan: &Plan, log: &Log) -> Result<(), EngineError> {
    let awaited = engine.awaited.clone();
    std::thread::scope(|scope| {
        let (running, over) = bounded::<()>(0);
        let watch = move || {
            let mut said = Awaited::Nothing;
            while over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                say(&awaited, &mut said, &plan.target, log);
            }
        };
        // Without a thread nothing is said, and the test is as good.
        let _ = std::thread::Builder::new().name("connection test".to_string()).spawn_scoped(scope, watch);
        let ran = engine.run(request);
        drop(running);
        ran.map(drop)
    })
}

fn say(awaited: &Awaiting, said: &mut Awaited, target: &Target, log: &Log) {
    let now = awaited.get();
    if *said == now {
        return;
    }
    *said = now;
    let (host, port) = target.peer();
    let what = match now {
        Awaited::Nothing => return,
        Awaited::Connection if target.port == 0 => format!("a connection to {}", target.url),
        Awaited::Connection => format!("a connection to {host}:{port} (--connect-timeout)"),
        Awaited::Tunnel => format!("the proxy {host}:{port} (--connect-timeout)"),
        Awaited::TlsHandshake => format!("the TLS handshake with {} (--connect-timeout)", target.authority),
        Awaited::Answer => format!("the answer of {} (--read-timeout)", target.url),
    };
    log.info(&format!("connection test: waiting for {what}"));
}
