//! A moment on the hub's clock, for others to look at.

use super::atomic::{AtomicU64, Ordering};
use crate::time::Timestamp;

/// A moment that one writes and others read. It orders nothing: who must see it in time writes and reads it around one lock.
#[derive(Debug)]
pub struct Moment(AtomicU64);

impl Default for Moment {
    /// Never.
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Moment {
    /// From here on it is `at`; [`Timestamp::MAX`] is never.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.as_micros(), Ordering::Relaxed);
    }

    /// What it was set to last, as far as it is known here.
    pub fn get(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }
}
