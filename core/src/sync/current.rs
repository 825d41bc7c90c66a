//! A value that another may take the place of while it is used.

use std::sync::Arc;

use super::Lock;

/// A value that many use, and that is replaced as a whole. Whoever has one goes on with it, whatever comes in its place.
#[derive(Debug)]
pub struct Current<T>(Lock<Arc<T>>);

impl<T> Current<T> {
    /// Begins with `value`.
    pub fn new(value: T) -> Self {
        Self(Lock::new(Arc::new(value)))
    }

    /// Whoever asks from now on has `value`.
    pub fn replace(&self, value: T) {
        let value = Arc::new(value);
        let old = std::mem::replace(&mut *self.0.lock(), value);
        // Freed, secrets wiped, outside the lock.
        drop(old);
    }

    /// The value that counts now.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.lock())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_value_keeps_it_and_whoever_asks_has_the_new_one() {
        let current = Current::new(1);
        let before = current.get();
        current.replace(2);
        assert_eq!((*before, *current.get()), (1, 2));
    }
}
