//! The step that the connection test has reached, which another thread shows to the user.

use std::sync::atomic::{AtomicU8, Ordering};

/// A step of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreflightStep {
    Nothing,
    Connection,
    /// The proxy's answer to CONNECT, and the TLS handshake behind it.
    Tunnel,
    TlsHandshake,
    Answer,
}

/// The current step: written by one slot, read by another thread.
#[derive(Debug, Default)]
pub struct PreflightProgress(AtomicU8);

impl PreflightProgress {
    /// All steps, indexed by their number.
    const STEPS: [PreflightStep; 5] = [
        PreflightStep::Nothing,
        PreflightStep::Connection,
        PreflightStep::Tunnel,
        PreflightStep::TlsHandshake,
        PreflightStep::Answer,
    ];

    pub fn set(&self, step: PreflightStep) {
        self.0.store(step as u8, Ordering::Relaxed);
    }

    pub fn get(&self) -> PreflightStep {
        Self::STEPS[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_survives_the_round_trip() {
        let progress = PreflightProgress::default();
        assert_eq!(progress.get(), PreflightStep::Nothing);
        for step in PreflightProgress::STEPS {
            progress.set(step);
            assert_eq!(progress.get(), step);
        }
    }
}
