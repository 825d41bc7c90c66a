//! The system's clock and entropy.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use trunkline_core::id::Entropy;
use trunkline_core::time::{Clock, Now, Timestamp, UnixTime};

/// The system's clocks. Timestamps count from the clock's making.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        // A calendar before 1970 is no calendar: tokens are then judged at its start.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { at: Timestamp::from_micros(micros(self.origin.elapsed())), unix: UnixTime::from_micros(micros(unix)) }
    }
}

/// The system's random bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    /// When the system has no random bits: then no id may be made.
    #[expect(clippy::panic, reason = "to go on without entropy would hand out ids that can be guessed")]
    fn fill(&self, out: &mut [u8]) {
        if let Err(error) = getrandom::fill(out) {
            panic!("the system gives no random bits: {error}");
        }
    }
}
