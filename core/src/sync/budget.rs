//! A counted budget: sockets, handshakes, requests.

use super::Arc;
use super::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Something of which only so much may be in use at once. What is leased is given back when the [`Lease`] drops, so the
/// count is the sum of the live leases and can neither drift nor go below zero.
#[derive(Clone, Debug)]
pub struct Budget {
    count: Arc<Count>,
}

#[derive(Debug)]
struct Count {
    used: AtomicUsize,
    given: AtomicU64,
    max: usize,
}

impl Budget {
    /// A budget of `max` units, none in use.
    pub fn new(max: usize) -> Self {
        Self { count: Arc::new(Count { used: AtomicUsize::new(0), given: AtomicU64::new(0), max }) }
    }

    /// Takes `units`, or `None` when they are not free.
    pub fn lease(&self, units: usize) -> Option<Lease> {
        self.count.take(units)?;
        let number = self.count.given.fetch_add(1, Ordering::Relaxed);
        Some(Lease { count: Arc::clone(&self.count), units, number })
    }

    /// Units in use.
    pub fn used(&self) -> usize {
        self.count.used.load(Ordering::Acquire)
    }
}

impl Count {
    /// Counts `units` more, where they are free.
    fn take(&self, units: usize) -> Option<()> {
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let after = used.checked_add(units).filter(|after| *after <= self.max)?;
            match self.used.compare_exchange_weak(used, after, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(()),
                Err(now) => used = now,
            }
        }
    }
}

/// Units in use, given back on drop.
#[derive(Debug)]
pub struct Lease {
    count: Arc<Count>,
    units: usize,
    number: u64,
}

impl Lease {
    /// Rises from lease to lease of one budget.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// How many units it is.
    pub const fn units(&self) -> usize {
        self.units
    }

    /// Makes it so many units. Answers whether it is: where more are not free, it stays as it was.
    pub fn resize(&mut self, units: usize) -> bool {
        match units.checked_sub(self.units) {
            Some(more) if self.count.take(more).is_none() => return false,
            Some(_) => {}
            None => {
                self.count.used.fetch_sub(self.units - units, Ordering::AcqRel);
            }
        }
        self.units = units;
        true
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.count.used.fetch_sub(self.units, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_unit_is_leased_and_the_next_is_not() {
        let budget = Budget::new(2);
        let first = budget.lease(1).unwrap();
        let second = budget.lease(1).unwrap();
        assert!(budget.lease(1).is_none());
        drop(first);
        assert_eq!(budget.used(), 1);
        assert!(budget.lease(usize::MAX).is_none());
        assert!(budget.lease(1).is_some());
        drop(second);
        let mut third = budget.lease(0).unwrap();
        assert!(third.resize(2) && !third.resize(3) && third.units() == 2 && budget.used() == 2);
        assert!(third.resize(1) && budget.used() == 1);
        drop(third);
        assert_eq!(budget.used(), 0);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::Budget;
    use loom::thread;

    /// Property: of two racing for one unit at most one has it at a time, and in the end none is in use.
    #[test]
    fn never_over_and_back_to_zero() {
        loom::model(|| {
            let budget = Budget::new(1);
            let other = budget.clone();
            let racer = thread::spawn(move || {
                let lease = other.lease(1);
                assert!(other.used() <= 1);
                lease.is_some()
            });
            let mine = budget.lease(1);
            assert!(budget.used() <= 1);
            drop(mine);
            racer.join().unwrap();
            assert_eq!(budget.used(), 0);
        });
    }
}
