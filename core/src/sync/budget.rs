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
        broken!(LeasesInTwoSteps => self.take_in_two_steps(units));
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let after = used.checked_add(units).filter(|after| *after <= self.max)?;
            match self.used.compare_exchange_weak(used, after, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(()),
                Err(now) => used = now,
            }
        }
    }

    /// Counts `units` less, of those that were taken.
    fn give_back(&self, units: usize) {
        broken!(ReleasesInTwoSteps => self.give_back_in_two_steps(units));
        self.used.fetch_sub(units, Ordering::AcqRel);
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
            None => self.count.give_back(self.units - units),
        }
        self.units = units;
        true
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.count.give_back(self.units);
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
    use loom::sync::atomic::Ordering;
    use loom::thread;

    use super::{Budget, Count};
    use crate::sync::models::check;

    /// Broken on purpose.
    impl Count {
        pub(super) fn take_in_two_steps(&self, units: usize) -> Option<()> {
            let after = self.used.load(Ordering::Acquire).checked_add(units).filter(|after| *after <= self.max)?;
            self.used.store(after, Ordering::Release);
            Some(())
        }

        pub(super) fn give_back_in_two_steps(&self, units: usize) {
            let used = self.used.load(Ordering::Acquire);
            self.used.store(used.wrapping_sub(units), Ordering::Release);
        }
    }

    /// Leases so much, makes it so much, and gives it back. Answers how much of it was there.
    fn use_some(budget: &Budget, first: usize, then: usize) -> usize {
        let Some(mut lease) = budget.lease(first) else { return 0 };
        let within = |units| {
            let used = budget.used();
            assert!((units..=3).contains(&used), "the count is {used} where {units} of 3 are leased");
        };
        within(lease.units());
        lease.resize(then);
        within(lease.units());
        lease.units()
    }

    /// Property: against leases that grow, shrink and end, the count is never over the bound, never under what is leased, and zero
    /// in the end.
    #[test]
    fn never_over_and_back_to_zero() {
        check(|| {
            let budget = Budget::new(3);
            let other = budget.clone();
            let racer = thread::spawn(move || use_some(&other, 2, 1));
            let mine = use_some(&budget, 1, 3);
            let others = racer.join().unwrap();
            assert!(mine + others > 0, "both were refused");
            assert_eq!(budget.used(), 0, "the count in the end");
        });
    }
}
