//! Leaving in a shutdown: announced, paced, and not in the middle of a text.

use std::time::Duration;

use super::{Session, State};
use crate::error::CloseReason;
use crate::manager::Leave;
use crate::protocol::ServerFrame;
use crate::time::{Now, Timestamp};

/// How often a producer that waits for the last device looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Whether it is time to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// Nobody said so.
    No,
    /// Its turn comes.
    From(Timestamp),
    /// Its turn has come: it goes with the next boundary of its user's runs.
    Now,
}

impl Leaving {
    /// When it must be looked at without anything else happening.
    pub(super) const fn due(self) -> Option<Timestamp> {
        match self {
            Self::From(at) => Some(at),
            Self::No | Self::Now => None,
        }
    }
}

impl Session {
    /// Announces the end.
    pub(super) fn go_away(&mut self, now: Now, leave: Leave) {
        let reconnect_after = self.share_of(leave.spread).as_secs_f64();
        let frame = ServerFrame::GoingAway { deadline: leave.by.as_secs_f64(), reconnect_after };
        self.connection.send(now, &frame);
        self.connection.drain_by(now.at + leave.by);
        self.leaving = Leaving::From(now.at + leave.after);
        self.look_at_held();
    }

    /// Closes where its turn has come and nothing is broken off.
    pub(super) fn leave(&mut self, now: Now) {
        if self.leaving.due().is_some_and(|at| at <= now.at) {
            self.leaving = Leaving::Now;
        }
        if self.leaving != Leaving::Now {
            return;
        }
        if self.is_producer() && self.hub.has_devices() {
            // Devices wait for the ends of its texts. That the last of them has left, nothing tells.
            self.leaving = Leaving::From(now.at + LOOK_AGAIN);
        } else if self.is_at_boundary() {
            self.leaving = Leaving::No;
            self.connection.close(now, CloseReason::Restart);
        }
    }

    /// Whether the client has everything there is, and no run of its user is in the middle of a text. Each event of a run
    /// wakes the session, so a boundary is never slept through.
    fn is_at_boundary(&self) -> bool {
        let State::Attached(device) = &self.state else { return true };
        // A producer reads no stream of its own.
        let Some(own) = device.cursors.iter().find(|cursor| cursor.topic.is_none()) else { return true };
        let read = !device.cursors.iter().any(|cursor| cursor.has_more() || cursor.waits_for_room());
        read && self.hub.shard(self.hub.shard_of(&device.user)).is_at_boundary(&device.user, own.position)
    }

    /// A random part of `span`.
    fn share_of(&self, span: Duration) -> Duration {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.hub.inner.entropy.u64() % micros)
    }
}
