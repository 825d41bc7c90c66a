//! What is made once, by whoever wants it first.

use super::Lock;

/// A value that is made when it is first wanted, and then is the same for everybody. Whoever wants it meanwhile waits until it is
/// made, which must not take longer than to make it again; nothing that is locked to make it may be held while it is wanted.
#[derive(Debug)]
pub struct Once<T>(Lock<Option<T>>);

impl<T> Default for Once<T> {
    /// Not made yet.
    fn default() -> Self {
        Self(Lock::new(None))
    }
}

impl<T: Clone> Once<T> {
    /// A copy of the value, which `make` makes where nobody has.
    pub fn get_or_make(&self, make: impl FnOnce() -> T) -> T {
        broken!(MakesInTwoSteps => self.make_in_two_steps(make));
        self.0.lock().get_or_insert_with(make).clone()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_when_it_is_first_wanted_and_stays() {
        let once = Once::default();
        assert_eq!(once.get_or_make(|| 1), 1);
        assert_eq!(once.get_or_make(|| panic!("it is made")), 1);
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    use super::Once;
    use crate::sync::Arc;
    use crate::sync::models::check;

    /// Broken on purpose.
    impl<T: Clone> Once<T> {
        pub(super) fn make_in_two_steps(&self, make: impl FnOnce() -> T) -> T {
            let known = self.0.lock().clone();
            known.unwrap_or_else(|| {
                let made = make();
                *self.0.lock() = Some(made.clone());
                made
            })
        }
    }

    /// Property: of two who want it at once, one makes it, and both get the same.
    #[test]
    fn it_is_made_once() {
        check(|| {
            let shared = Arc::new((Once::default(), AtomicUsize::new(0)));
            let want =
                |shared: &(Once<usize>, AtomicUsize)| shared.0.get_or_make(|| shared.1.fetch_add(1, Ordering::Relaxed));
            let other = Arc::clone(&shared);
            let racer = thread::spawn(move || want(&other));
            let mine = want(&shared);
            assert_eq!((mine, racer.join().unwrap()), (0, 0), "it is made twice");
        });
    }
}
