//! Numbers that only rise, counted by many threads.

use super::atomic::{AtomicU64, Ordering};

/// `N` counters. They order nothing: each is right by itself, and two that are read after each other are of two moments.
#[derive(Debug)]
pub struct Tally<const N: usize> {
    counts: [AtomicU64; N],
}

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl<const N: usize> Tally<N> {
    /// Counts one more at this place; one that there is not counts nothing.
    pub fn count(&self, at: usize) {
        let Some(count) = self.counts.get(at) else { return };
        broken!(CountsInTwoSteps => count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed));
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// All of them.
    pub fn get(&self) -> [u64; N] {
        std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_threads() {
        let tally = Tally::<2>::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|n| tally.count(n % 3)));
            }
        });
        assert_eq!(tally.get(), [4 * 334, 4 * 333]);
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::thread;

    use super::Tally;
    use crate::sync::Arc;
    use crate::sync::models::check;

    /// Property: what two count at the same time is both there.
    #[test]
    fn nothing_is_lost_between_threads() {
        check(|| {
            let tally = Arc::new(Tally::<1>::default());
            let other = {
                let tally = Arc::clone(&tally);
                thread::spawn(move || tally.count(0))
            };
            tally.count(0);
            other.join().unwrap();
            assert_eq!(tally.get(), [2], "a count is lost");
        });
    }
}
