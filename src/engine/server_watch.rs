//! Whether the server still answers: what the workers have noticed together. It is touched once per request or
//! connection, never per event.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

use crate::time::{S, Tick};

/// While new connections are refused, streams that have been silent for this long are given up: nothing will come.
pub(crate) const SILENT_NS: u64 = 5 * S;

/// What the workers have noticed about the server. A time of 0 means none.
#[derive(Debug, Default)]
pub struct ServerWatch {
    /// The first refused connection since the last one that was accepted, or the last response.
    refused_since: AtomicU64,
    /// The first connection that broke since the last response.
    broken_since: AtomicU64,
    /// The last arrival on any connection, exact to the period of the workers' housekeeping.
    heard: AtomicU64,
    /// When a worker last had a request in flight.
    waits: AtomicU64,
    answered: AtomicBool,
    /// Requests in flight on all workers, exact to the period of their housekeeping.
    in_flight: AtomicI64,
}

impl ServerWatch {
    /// A connection was refused.
    pub(crate) fn refused(&self, at: Tick) {
        set_if_unset(&self.refused_since, at);
    }

    /// A connection was accepted.
    pub(crate) fn accepted(&self) {
        clear(&self.refused_since);
    }

    /// A connection broke while a request was on it.
    pub(crate) fn broke(&self, at: Tick) {
        set_if_unset(&self.broken_since, at);
    }

    /// A request got a response, whatever its status.
    pub(crate) fn answered(&self) {
        if !self.answered.load(Relaxed) {
            self.answered.store(true, Relaxed);
        }
        clear(&self.refused_since);
        clear(&self.broken_since);
    }

    /// A worker has requests in flight, and last received bytes at `heard`.
    pub(crate) fn waits(&self, now: Tick, heard: Tick) {
        self.heard.fetch_max(heard.0, Relaxed);
        self.waits.fetch_max(now.0, Relaxed);
    }

    /// The requests in flight of a worker have changed by this number.
    pub(crate) fn in_flight_changed(&self, by: i64) {
        if by != 0 {
            self.in_flight.fetch_add(by, Relaxed);
        }
    }

    /// Requests in flight on all workers.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed).max(0) as u64
    }

    /// Since when nothing has arrived although requests are in flight, if that is long enough to ask why.
    pub(crate) fn quiet_since(&self, now: Tick) -> Option<Tick> {
        let (heard, waits) = (some(&self.heard)?, some(&self.waits)?);
        let is_waiting = now.ns_since(waits) < S as i64;
        (is_waiting && now.ns_since(heard) >= SILENT_NS as i64).then_some(heard)
    }

    /// Since when connections are refused.
    pub fn refused_since(&self) -> Option<Tick> {
        some(&self.refused_since)
    }

    /// Since when the server, which has answered before, neither accepts nor answers.
    pub(crate) fn gone_since(&self) -> Option<Tick> {
        let since = [some(&self.refused_since), some(&self.broken_since)].into_iter().flatten().min();
        since.filter(|_| self.answered.load(Relaxed))
    }

    /// Since when connections are refused and nothing arrives on the others, if that is long enough to give up.
    pub(crate) fn silent_since(&self, now: Tick) -> Option<Tick> {
        let since = self.refused_since()?.max(Tick(self.heard.load(Relaxed)));
        (now.ns_since(since) >= SILENT_NS as i64).then_some(since)
    }
}

fn some(time: &AtomicU64) -> Option<Tick> {
    Some(time.load(Relaxed)).filter(|&ns| ns > 0).map(Tick)
}

fn set_if_unset(time: &AtomicU64, at: Tick) {
    if time.load(Relaxed) == 0 {
        // Another worker may have been first; its time is as good.
        let _ = time.compare_exchange(0, at.0, Relaxed, Relaxed);
    }
}

fn clear(time: &AtomicU64) {
    if time.load(Relaxed) != 0 {
        time.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_never_answered_has_not_ended() {
        let watch = ServerWatch::default();
        watch.refused(Tick(5));
        assert_eq!((watch.refused_since(), watch.gone_since()), (Some(Tick(5)), None));
        watch.answered();
        assert_eq!((watch.refused_since(), watch.gone_since()), (None, None));
        watch.refused(Tick(9));
        watch.broke(Tick(7));
        watch.broke(Tick(8));
        assert_eq!(watch.gone_since(), Some(Tick(7)));
        watch.answered();
        assert_eq!(watch.gone_since(), None);
    }

    #[test]
    fn streams_are_silent_only_if_no_worker_hears_anything() {
        let watch = ServerWatch::default();
        assert_eq!(watch.silent_since(Tick(9 * S)), None);
        watch.refused(Tick(S));
        assert_eq!(watch.silent_since(Tick(6 * S - 1)), None);
        assert_eq!(watch.silent_since(Tick(6 * S)), Some(Tick(S)));
        watch.waits(Tick(5 * S), Tick(4 * S));
        assert_eq!(watch.silent_since(Tick(6 * S)), None);
        assert_eq!(watch.silent_since(Tick(9 * S)), Some(Tick(4 * S)));
        watch.accepted();
        assert_eq!(watch.silent_since(Tick(60 * S)), None);
    }

    #[test]
    fn only_silence_with_requests_in_flight_is_a_reason_to_ask() {
        let watch = ServerWatch::default();
        assert_eq!(watch.quiet_since(Tick(60 * S)), None);
        watch.waits(Tick(8 * S), Tick(4 * S));
        assert_eq!(watch.quiet_since(Tick(8 * S)), None);
        watch.waits(Tick(9 * S), Tick(3 * S));
        assert_eq!(watch.quiet_since(Tick(9 * S)), Some(Tick(4 * S)));
        // Nothing is in flight any more.
        assert_eq!(watch.quiet_since(Tick(11 * S)), None);
    }
}
