//! What the connection test is waiting for, for whoever watches it from outside.

use std::sync::atomic::{AtomicU8, Ordering};

/// A step of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    Nothing,
    Connection,
    /// The proxy's answer to CONNECT, and the TLS handshake behind it.
    Tunnel,
    TlsHandshake,
    Answer,
}

/// The step at present: told by one lane, read by another thread.
#[derive(Debug, Default)]
pub struct Awaiting(AtomicU8);

impl Awaiting {
    /// All steps, each at the place of its number.
    const STEPS: [Awaited; 5] =
        [Awaited::Nothing, Awaited::Connection, Awaited::Tunnel, Awaited::TlsHandshake, Awaited::Answer];

    pub fn set(&self, step: Awaited) {
        self.0.store(step as u8, Ordering::Relaxed);
    }

    pub fn get(&self) -> Awaited {
        Self::STEPS[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_as_it_was_told() {
        let awaiting = Awaiting::default();
        assert_eq!(awaiting.get(), Awaited::Nothing);
        for step in Awaiting::STEPS {
            awaiting.set(step);
            assert_eq!(awaiting.get(), step);
        }
    }
}
