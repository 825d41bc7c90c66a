//! A timer on async-io's reactor.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use trunkline_core::drive::Timer;
use trunkline_core::time::{Clock, Timestamp};

/// A [`Timer`] that counts on the clock `C`, which is the hub's.
#[derive(Debug)]
pub struct SmolTimer<C> {
    clock: C,
    /// Registered with the reactor only while it is set and polled.
    timer: Option<smol::Timer>,
}

impl<C> SmolTimer<C> {
    /// A timer that is not set.
    pub const fn new(clock: C) -> Self {
        Self { clock, timer: None }
    }
}

impl<C: Clock + Unpin> Timer for SmolTimer<C> {
    fn reset(mut self: Pin<&mut Self>, at: Timestamp) {
        if at == Timestamp::MAX {
            self.timer = None;
            return;
        }
        let wait = at.saturating_since(self.clock.now().at).min(FAR);
        let deadline = Instant::now() + wait;
        match &mut self.timer {
            Some(timer) => timer.set_at(deadline),
            None => self.timer = Some(smol::Timer::at(deadline)),
        }
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.timer {
            Some(timer) => Pin::new(timer).poll(cx).map(drop),
            None => Poll::Pending,
        }
    }
}

/// Longer waits wake up early, once a year, and are set again.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::SystemClock;

    fn elapsed(timer: &mut SmolTimer<SystemClock>) -> impl Future<Output = ()> {
        poll_fn(|cx| Pin::new(&mut *timer).poll_elapsed(cx))
    }

    #[test]
    fn it_fires_at_its_time_and_again_once_it_is_set_again() {
        let clock = SystemClock::new();
        let mut timer = SmolTimer::new(clock);
        for _ in 0..2 {
            let at = clock.now().at + Duration::from_millis(5);
            Pin::new(&mut timer).reset(Timestamp::from_micros(u64::MAX - 1));
            Pin::new(&mut timer).reset(at);
            smol::block_on(elapsed(&mut timer));
            // A microsecond is what the clock rounds down.
            assert!(clock.now().at + Duration::from_micros(1) >= at);
        }
    }

    #[test]
    fn never_is_never() {
        let mut timer = SmolTimer::new(SystemClock::new());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut timer).poll_elapsed(&mut cx).is_pending());
        Pin::new(&mut timer).reset(Timestamp::ZERO);
        Pin::new(&mut timer).reset(Timestamp::MAX);
        assert!(Pin::new(&mut timer).poll_elapsed(&mut cx).is_pending());
    }
}
