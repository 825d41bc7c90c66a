//! The system's clock and entropy, which every adapter brings.

use std::time::{Duration, Instant, SystemTime};

use trunkline_core::id::Entropy;
use trunkline_core::time::{Clock, Now, Timestamp, UnixTime};

/// Timestamps count from its making.
pub(crate) struct SystemClock(Instant);

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Now { at: Timestamp::from_micros(micros(self.0.elapsed())), unix: UnixTime::from_micros(micros(unix)) }
    }
}

pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) {
        getrandom::fill(out).expect("without random bits every id could be guessed");
    }
}
