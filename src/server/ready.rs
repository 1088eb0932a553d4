//! Waits for a server that is still starting: it refuses connections, or answers 503 while it loads its model.

#![expect(clippy::disallowed_methods, reason = "the clock is used for timeouts, not for measurements")]

use std::time::{Duration, Instant};

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// Period of the checks whether the user wants to stop.
const STEP: Duration = Duration::from_millis(20);

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt<E> {
    pub error: E,
    /// What is waited for if the server may still be starting; `None` if waiting would not help.
    pub starting: Option<String>,
}

/// Calls `attempt` until it succeeds, fails for good, or `timeout` has passed since the first attempt. `notify` gets a
/// line when the wait starts. `is_stopped` ends it. The error is that of the last attempt, with the time that was waited.
pub(crate) fn wait_until_ready<T, E>(
    timeout: Duration,
    is_stopped: &dyn Fn() -> bool,
    notify: &mut dyn FnMut(String),
    mut attempt: impl FnMut() -> Result<T, Attempt<E>>,
) -> Result<T, (E, Option<Duration>)> {
    let began = Instant::now();
    let mut waits = false;
    loop {
        let failed = match attempt() {
            Ok(done) => return Ok(done),
            Err(failed) => failed,
        };
        let waited = waits.then(|| began.elapsed());
        let Some(reason) = failed.starting.filter(|_| began.elapsed() < timeout && !is_stopped()) else {
            return Err((failed.error, waited));
        };
        if !waits {
            waits = true;
            notify(format!(
                "{reason}: waiting up to {} s until it is ready (--ready-timeout); press Ctrl-C to stop",
                timeout.as_secs_f64()
            ));
        }
        let next = Instant::now() + PAUSE.min(timeout.saturating_sub(began.elapsed()));
        while Instant::now() < next && !is_stopped() {
            std::thread::sleep(STEP.min(next.saturating_duration_since(Instant::now())));
        }
        if is_stopped() {
            return Err((failed.error, Some(began.elapsed())));
        }
    }
}

/// `text` with the time that was waited in vain.
pub(crate) fn after_waiting(text: &str, waited: Option<Duration>) -> String {
    match waited {
        Some(waited) => {
            // 30 s, 1.5 s.
            let waited_s = (waited.as_secs_f64() * 10.0).round() / 10.0;
            format!("{text} (after waiting {waited_s} s, --ready-timeout)")
        }
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn failed<T>(starting: bool) -> Result<T, Attempt<&'static str>> {
        Err(Attempt { error: "refused", starting: starting.then(|| "it is loading".to_string()) })
    }

    #[test]
    fn only_a_server_that_starts_is_waited_for() {
        let tried = Cell::new(0);
        let mut lines = Vec::new();
        let mut run = |timeout, starting, stopped: bool| {
            tried.set(0);
            let attempt = || {
                tried.set(tried.get() + 1);
                if tried.get() == 3 { Ok(()) } else { failed(starting) }
            };
            let ended = wait_until_ready(timeout, &|| stopped, &mut |line| lines.push(line), attempt);
            (ended.map_err(|(error, waited)| (error, waited.is_some())), tried.get())
        };
        assert_eq!(run(Duration::from_secs(60), true, false), (Ok(()), 3));
        assert_eq!(run(Duration::from_secs(60), false, false), (Err(("refused", false)), 1));
        assert_eq!(run(Duration::ZERO, true, false), (Err(("refused", false)), 1));
        assert_eq!(run(Duration::from_secs(60), true, true), (Err(("refused", false)), 1));
        assert_eq!(run(Duration::from_millis(1), true, false), (Err(("refused", true)), 2));
        assert_eq!(lines.len(), 2, "one line for each wait: {lines:?}");
        assert!(lines[0].contains("it is loading: waiting up to 60 s") && lines[0].contains("Ctrl-C"), "{}", lines[0]);
    }
}
