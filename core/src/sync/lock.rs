//! A mutex without poisoning.

#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
#[allow(clippy::disallowed_types, reason = "this is where the lock lives")]
use std::sync::{Mutex, MutexGuard};

/// A mutex that outlives a panic of a holder: the data are single-step machines, whole between two calls.
#[derive(Debug, Default)]
#[allow(clippy::disallowed_types, reason = "this is where the lock lives")]
pub struct Lock<T>(Mutex<T>);

#[allow(clippy::disallowed_types, reason = "this is where the lock lives")]
impl<T> Lock<T> {
    /// Wraps `value`.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for the lock; holders never block, so this is short.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
