//! The memory that the answers of one worker hold while they are received.

use std::sync::Arc;

use crate::record::memory::{MemoryBudget, MemoryClaim};

/// The largest step in which a worker claims memory, bytes.
const MAX_STEP_BYTES: u64 = 16 << 20;
/// A worker's step is at most this share of the budget divided by the workers.
const STEPS: u64 = 16;

/// Counts the bytes of the answers in flight, and claims them from the budget of all workers in steps.
pub struct WorkerMemory {
    claim: MemoryClaim,
    held_bytes: u64,
    step_bytes: u64,
}

impl WorkerMemory {
    /// The memory of one of so many workers.
    pub fn new(budget: &Arc<MemoryBudget>, workers: u16) -> WorkerMemory {
        let step_bytes = (budget.limit_bytes / (STEPS * u64::from(workers.max(1)))).clamp(1, MAX_STEP_BYTES);
        WorkerMemory { claim: budget.claim(0), held_bytes: 0, step_bytes }
    }

    /// An answer that held `before` bytes holds `now`. Returns whether the budget has room for it.
    #[inline]
    pub fn update(&mut self, before: u64, now: u64) -> bool {
        self.held_bytes = self.held_bytes + now - before;
        self.held_bytes <= self.claim.bytes() || self.grow()
    }

    fn grow(&mut self) -> bool {
        self.claim.grow_to(self.held_bytes + self.step_bytes) || self.claim.grow_to(self.held_bytes)
    }

    /// An answer that held these bytes is stored or dropped.
    pub fn release(&mut self, bytes: u64) {
        self.held_bytes -= bytes;
        if self.claim.bytes() > self.held_bytes + 4 * self.step_bytes {
            self.claim.shrink_to(self.held_bytes + self.step_bytes);
        }
    }

    /// The error of an answer for which there is no room.
    pub fn refusal(&self) -> String {
        let mib = self.claim.limit_bytes() as f64 / f64::from(1 << 20);
        format!(
            "the responses in flight and those not yet written hold {mib:.0} MiB, a quarter of the memory: use a lower \
             --parallel or --max-response-size, or --save metrics"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_claim_steps_and_give_them_back() {
        let budget = MemoryBudget::new(3200);
        let (mut one, mut two) = (WorkerMemory::new(&budget, 2), WorkerMemory::new(&budget, 2));
        assert!(one.update(0, 10) && one.update(10, 90));
        assert_eq!(budget.claimed_bytes(), 110, "the second read is within the step");
        assert!(one.update(90, 3000) && two.update(0, 90) && !two.update(90, 300));
        assert!(two.refusal().contains("a quarter of the memory"));
        two.release(300);
        one.release(3000);
        assert!(budget.claimed_bytes() <= 500, "{}", budget.claimed_bytes());
        assert!(two.update(0, 2000));
    }
}
