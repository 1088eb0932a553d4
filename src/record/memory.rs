//! The memory that answers may hold together, from their first byte until they are stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit that all workers share. It is touched once per request and block, and whenever a worker needs a further step of
/// memory, never per event.
#[derive(Debug)]
pub struct MemoryBudget {
    pub limit_bytes: u64,
    claimed_bytes: AtomicU64,
}

impl MemoryBudget {
    /// A budget of which nothing is claimed.
    pub fn new(limit_bytes: u64) -> Arc<MemoryBudget> {
        Arc::new(MemoryBudget { limit_bytes, claimed_bytes: AtomicU64::new(0) })
    }

    /// Claims memory that is already in use, whether or not the budget has room for it.
    pub fn claim(self: &Arc<MemoryBudget>, bytes: u64) -> MemoryClaim {
        self.claimed_bytes.fetch_add(bytes, Ordering::Relaxed);
        MemoryClaim { budget: self.clone(), bytes }
    }

    /// The memory that is claimed now, bytes.
    #[cfg(test)]
    pub fn claimed_bytes(&self) -> u64 {
        self.claimed_bytes.load(Ordering::Relaxed)
    }
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub struct MemoryClaim {
    budget: Arc<MemoryBudget>,
    bytes: u64,
}

impl MemoryClaim {
    /// The size of the claim, bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The limit of the budget, bytes.
    pub fn limit_bytes(&self) -> u64 {
        self.budget.limit_bytes
    }

    /// Grows the claim to this size. Returns whether the budget had room.
    pub fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let limit = self.budget.limit_bytes;
        let grown = |claimed: u64| claimed.checked_add(more).filter(|&claimed| claimed <= limit);
        let claimed = self.budget.claimed_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown);
        if claimed.is_ok() {
            self.bytes += more;
        }
        claimed.is_ok()
    }

    /// Gives back what is beyond this size.
    pub fn shrink_to(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.budget.claimed_bytes.fetch_sub(less, Ordering::Relaxed);
        self.bytes -= less;
    }
}

impl Drop for MemoryClaim {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_share_the_budget() {
        let budget = MemoryBudget::new(100);
        let (mut a, mut b) = (budget.claim(0), budget.claim(0));
        assert!(a.grow_to(60) && !b.grow_to(41) && b.grow_to(40));
        assert_eq!((a.bytes(), b.bytes(), budget.claimed_bytes()), (60, 40, 100));
        a.shrink_to(10);
        assert!(b.grow_to(90) && !a.grow_to(11));
        let over = budget.claim(7);
        assert_eq!(budget.claimed_bytes(), 107, "what is in use already is counted beyond the limit");
        drop((a, b, over));
        assert_eq!(budget.claimed_bytes(), 0);
    }
}
