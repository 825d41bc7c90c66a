//! A timer on tokio's clock.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use trunkline_core::drive::Timer;
use trunkline_core::time::{Clock, Timestamp};

/// A [`Timer`] that counts on the clock `C`, which is the hub's.
#[derive(Debug)]
pub struct TokioTimer<C> {
    clock: C,
    /// Made at the first deadline: most timers of a burst of short connections never fire.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<C> TokioTimer<C> {
    /// A timer that is not set.
    pub const fn new(clock: C) -> Self {
        Self { clock, sleep: None }
    }
}

impl<C: Clock + Unpin> Timer for TokioTimer<C> {
    fn reset(mut self: Pin<&mut Self>, at: Timestamp) {
        if at == Timestamp::MAX {
            self.sleep = None;
            return;
        }
        let wait = at.saturating_since(self.clock.now().at).min(FAR);
        let deadline = Instant::now() + wait;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.sleep = Some(Box::pin(sleep_until(deadline))),
        }
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// Longer waits wake up early, once a year, and are set again.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
