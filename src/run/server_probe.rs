//! Finds out that the server has ended while every stream is silent: new requests, which would be refused, may not exist.
//! A thread opens a connection, and closes it again without sending anything, only if nothing has arrived for seconds.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use crate::engine::server_watch::ServerWatch;
use crate::plan::Plan;
use crate::server::http_get::refuses;
use crate::time::clock::Clock;

/// Period of the checks. A check costs two loads; a probe follows only after seconds of silence.
const PERIOD: Duration = Duration::from_secs(1);

/// The running thread; dropping this ends it.
pub(super) struct ServerProbe {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread. Without it, silent streams end with the read timeout.
pub(super) fn start(server: &Arc<ServerWatch>, plan: &Arc<Plan>) -> ServerProbe {
    let (stop, stopped) = bounded::<()>(0);
    let (server, plan) = (server.clone(), plan.clone());
    let watch = move || {
        let clock = Clock::new();
        while stopped.recv_timeout(PERIOD).is_err_and(|error| error.is_timeout()) {
            clock.maintain(clock.now());
            if let Some(since) = server.quiet_since(clock.now())
                && refuses(&plan.target)
            {
                server.refused(since);
            }
        }
    };
    let thread = std::thread::Builder::new().name("server probe".to_string()).spawn(watch);
    ServerProbe { stop: Some(stop), thread: thread.ok() }
}

impl Drop for ServerProbe {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The message of a panic is already on standard error; the run is not affected.
            let _ = thread.join();
        }
    }
}
