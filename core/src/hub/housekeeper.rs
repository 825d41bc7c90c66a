//! Time for the shards: requests that wait too long, logs whose retention is over, a level that has lasted.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use super::{Hub, deadline};
use crate::drive::Timer;
use crate::sync::broken;
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
        Running { keeper: self, timer, armed: Timestamp::MAX, until: Timestamp::MAX }
    }

    /// Runs until `shutdown` is ready or somebody else begins the shutdown, as an operator does; then drains the hub
    /// ([`Hub::begin_shutdown`]), and ends once every connection is closed, at the latest after the limit `drain_deadline`. It is all that a server needs beside its sockets; who serves them itself
    /// goes on doing so until this ends.
    pub async fn run_until<K: Timer + Unpin>(self, timer: K, shutdown: impl Future<Output = ()>) {
        let hub = self.hub.clone();
        let mut running = self.run(timer);
        let mut shutdown = pin!(shutdown);
        poll_fn(|cx| {
            let _for_ever = Pin::new(&mut running).poll(cx);
            if hub.is_draining() { Poll::Ready(()) } else { shutdown.as_mut().poll(cx) }
        })
        .await;
        hub.begin_shutdown();
        running.until = hub.now().at + hub.limits().drain_deadline;
        poll_fn(|cx| {
            let _for_ever = Pin::new(&mut running).poll(cx);
            if hub.now().at >= running.until { Poll::Ready(()) } else { hub.poll_shutdown(cx) }
        })
        .await;
    }

    /// Handles everything that is due, and answers when to come again, or earlier if a deadline moves earlier: see
    /// [`Housekeeper::poll`]. For callers that come often anyway.
    pub fn handle_timeout(&self) -> Option<Timestamp> {
        // When the caller comes again, nobody knows here.
        self.hub.inner.armed.set(Timestamp::MAX);
        sweep(&self.hub)
    }

    /// The same for callers without a runtime: `waker` says when a deadline has moved earlier than the one in the answer.
    pub fn poll(&self, waker: &Waker) -> Option<Timestamp> {
        // Registered before the look: a deadline that moves earlier afterwards finds the waker.
        while self.hub.inner.rearm.take(waker) {}
        broken!(SleepsByAnOldAlarm => self.look_by_an_old_alarm());
        // While it looks, every deadline that moves earlier is told: it may have passed that shard already.
        let next = self.handle_timeout();
        self.hub.inner.armed.set(next.unwrap_or(Timestamp::MAX));
        next
    }
}

/// The future of [`Housekeeper::run`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Running<K> {
    keeper: Housekeeper,
    timer: K,
    armed: Timestamp,
    /// When the timer fires in any case.
    until: Timestamp,
}

impl<K: Timer + Unpin> Future for Running<K> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            let due = this.keeper.poll(cx.waker()).unwrap_or(Timestamp::MAX);
            if this.until <= this.keeper.hub.now().at {
                // Whoever set it looks at the clock too.
                return Poll::Pending;
            }
            let next = due.min(this.until);
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

/// Broken on purpose.
#[cfg(all(test, loom))]
impl Housekeeper {
    fn look_by_an_old_alarm(&self) -> Option<Timestamp> {
        let next = sweep(&self.hub);
        self.hub.inner.armed.set(next.unwrap_or(Timestamp::MAX));
        next
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
