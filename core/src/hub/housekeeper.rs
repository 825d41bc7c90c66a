//! Time for the shards: requests that wait too long, logs whose retention is over, a level that has lasted.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{Hub, deadline};
use crate::drive::Timer;
use crate::time::{Clock, Timestamp};

/// Drives the deadlines of a hub's shards. Run it beside the accept loop, for as long as that runs.
#[derive(Debug)]
#[must_use = "without its housekeeper a hub never ages anything"]
pub struct Housekeeper {
    hub: Hub,
}

impl Housekeeper {
    pub(super) const fn new(hub: Hub) -> Self {
        Self { hub }
    }

    /// Runs on a timer of the runtime, for ever; drop the future to stop.
    pub fn run<K: Timer>(self, timer: K) -> Running<K> {
        Running { hub: self.hub, timer, armed: Timestamp::MAX }
    }

    /// Handles everything that is due, and answers when to come again. For callers without a runtime.
    pub fn handle_timeout(&self) -> Option<Timestamp> {
        sweep(&self.hub)
    }
}

/// The future of [`Housekeeper::run`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Running<K> {
    hub: Hub,
    timer: K,
    armed: Timestamp,
}

impl<K: Timer + Unpin> Future for Running<K> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            // Registered before the look: a deadline that moves earlier afterwards finds the waker.
            while this.hub.inner.rearm.take(cx.waker()) {}
            let next = sweep(&this.hub).unwrap_or(Timestamp::MAX);
            if next != this.armed {
                this.armed = next;
                Pin::new(&mut this.timer).reset(next);
            }
            if next == Timestamp::MAX || Pin::new(&mut this.timer).poll_elapsed(cx).is_pending() {
                return Poll::Pending;
            }
            this.armed = Timestamp::MAX;
        }
    }
}

/// Handles what is due on every shard, one user under one lock at a time, and then the level of the service.
fn sweep(hub: &Hub) -> Option<Timestamp> {
    let mut next = Timestamp::MAX;
    for shard in 0..hub.inner.shards.len() {
        loop {
            let now = hub.now().at;
            let at = deadline(&hub.inner.shards[shard].lock());
            if at > now {
                next = next.min(at);
                break;
            }
            hub.on_shard(shard, |manager, now| manager.handle_timeout(now));
        }
    }
    next = next.min(hub.evaluate_level().unwrap_or(Timestamp::MAX));
    (next != Timestamp::MAX).then_some(next)
}
