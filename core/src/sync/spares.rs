//! What is dear to make and is used again.

use super::Lock;

/// Things that nobody uses at the moment, a bounded number of them: whoever needs one takes it, or makes one where there is none,
/// and puts it back.
#[derive(Debug)]
pub struct Spares<T> {
    kept: Lock<Vec<T>>,
    max: usize,
}

impl<T> Spares<T> {
    /// Keeps `max` at most, and none yet.
    pub fn new(max: usize) -> Self {
        Self { kept: Lock::new(Vec::new()), max }
    }

    /// One that was put back, where there is one.
    pub fn take(&self) -> Option<T> {
        self.kept.lock().pop()
    }

    /// Keeps it for the next one, or drops it where there are enough.
    pub fn put(&self, spare: T) {
        broken!(PutsASpareInTwoSteps => self.put_in_two_steps(spare));
        let mut kept = self.kept.lock();
        if kept.len() < self.max {
            kept.push(spare);
        }
    }

    /// How many are kept.
    pub fn kept(&self) -> usize {
        self.kept.lock().len()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_for_which_there_is_room_is_kept_and_the_next_is_not() {
        let spares = Spares::new(2);
        assert_eq!(spares.take(), None);
        (1..=3).for_each(|n| spares.put(n));
        assert_eq!((spares.kept(), spares.take(), spares.take(), spares.take()), (2, Some(2), Some(1), None));
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::thread;

    use super::Spares;
    use crate::sync::Arc;
    use crate::sync::models::check;

    /// Broken on purpose.
    impl<T> Spares<T> {
        pub(super) fn put_in_two_steps(&self, spare: T) {
            if self.kept() < self.max {
                self.kept.lock().push(spare);
            }
        }
    }

    /// Property: of two who take and put back at once, no two have the same, and no more are kept than may be.
    #[test]
    fn nobody_shares_one_and_few_are_kept() {
        check(|| {
            let spares = Arc::new(Spares::new(1));
            spares.put(0);
            let other = Arc::clone(&spares);
            let racer = thread::spawn(move || {
                let mine = other.take().unwrap_or(1);
                other.put(mine);
                mine
            });
            let mine = spares.take().unwrap_or(2);
            assert!(spares.take().is_none_or(|second| second != mine), "two have the same");
            spares.put(mine);
            racer.join().unwrap();
            assert!(spares.kept() <= 1, "more are kept than may be");
        });
    }
}
