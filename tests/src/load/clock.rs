//! Time as messages carry it.

use std::time::{Duration, Instant};

/// Nanoseconds since the harness began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> u64 {
        nanos(self.0.elapsed())
    }

    /// Ready at `due`, or at once where that has passed. Not by a timer of tokio, which makes whole milliseconds of what it is
    /// asked for: that would be in every latency.
    pub(super) async fn until(self, due: u64) {
        if self.now() < due {
            smol::Timer::at(self.0 + Duration::from_nanos(due)).await;
        }
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
