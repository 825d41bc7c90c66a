//! How far a user's devices have come, and what of the log has done its service.
//!
//! What devices acknowledge is advice: nothing that one of them is given or has lost rests on it. It says how far behind a
//! device is, and which entries every connected device has. Of these the log keeps the newest, for [`Limits::log_retention`],
//! so that a device that comes back or reloads has a history to read; without that a user who stays connected would keep
//! what is hours old, up to the log's bounds.

use std::collections::VecDeque;
use std::time::Duration;

use super::Manager;
use super::housekeeping::Due;
use super::user::{Channel, Device};
use crate::id::{ConnectionId, SessionId, UserId};
use crate::limits::Limits;
use crate::protocol::Position;
use crate::time::{Now, Timestamp};

/// A connected device, as it stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceStatus {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its session, which outlives the connection.
    pub session: SessionId,
    /// What it has acknowledged of the user's own stream over this connection; `None` while it has said nothing.
    pub acked: Option<Position>,
    /// How many events the end of that stream is ahead of what the device is known to have: what it has acknowledged, or
    /// what it continued from.
    pub behind: u64,
}

/// When the entries of a log were appended, to an eighth of the retention.
#[derive(Clone, Debug, Default)]
pub(super) struct Ages(VecDeque<Span>);

/// Entries that were appended within one step of time.
#[derive(Clone, Copy, Debug)]
struct Span {
    begun: Timestamp,
    /// The seq of the newest of them.
    last: u64,
}

/// How many steps the retention is told apart in.
const STEPS: u32 = 8;
/// Older ones than so many become one, and so seem younger: where nobody acknowledges, what is kept is old anyway.
pub(super) const MAX_SPANS: usize = 2 * STEPS as usize;
/// How many entries one pass sheds, since it holds the shard.
pub(super) const TRIM_AT_ONCE: usize = 128;

impl Ages {
    /// The log has grown to `head`.
    pub(super) fn note(&mut self, now: Timestamp, head: u64, retention: Duration) {
        match self.0.back_mut() {
            Some(newest) if newest.begun + retention / STEPS > now => newest.last = head,
            Some(_) | None => {
                self.0.reserve_exact(1);
                self.0.push_back(Span { begun: now, last: head });
            }
        }
        if self.0.len() > MAX_SPANS {
            self.0.pop_front();
        }
    }

    /// When the entry at `seq` is sure to be older than the retention.
    fn old_at(&self, seq: u64, retention: Duration) -> Option<Timestamp> {
        let span = self.0.iter().find(|span| span.last >= seq)?;
        Some(span.begun + retention / STEPS + retention)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Lets go of what lies before the log.
    fn forget(&mut self, start: u64) {
        while self.0.front().is_some_and(|oldest| oldest.last <= start) {
            self.0.pop_front();
        }
    }
}

impl<H> Device<H> {
    /// What it is known to have.
    fn has_up_to(&self) -> u64 {
        self.acked.map_or(self.continued_from, |acked| acked.max(self.continued_from))
    }
}

impl<H: Clone> Channel<H> {
    /// When the oldest entry may go: every connected device has it, and it is as old as the retention. `None` where one of
    /// them does not have it, nobody is connected, or it is the newest too.
    pub(super) fn trim_at(&self, limits: &Limits) -> Option<Timestamp> {
        let everybody_has = self.devices.iter().map(Device::has_up_to).min()?;
        if everybody_has <= self.log.start().seq {
            // The usual case, without a look at an entry that nobody has touched for long.
            return None;
        }
        let mut entries = self.log.after(self.log.start())?;
        let oldest = entries.next()?.seq();
        (oldest <= everybody_has && entries.len() > 0).then(|| self.ages.old_at(oldest, limits.log_retention)).flatten()
    }
}

impl<H: Clone> Manager<H> {
    /// A device says how far it has come in the user's own stream. Cumulative: an earlier position changes nothing, and
    /// neither does one that this stream does not have.
    pub fn ack(&mut self, now: Now, id: &UserId, connection: ConnectionId, position: Position) {
        self.assert_drained();
        let Some(user) = self.users.get_mut(id) else { return };
        let head = user.channel.log.head();
        let device = user.channel.devices.iter_mut().find(|device| device.connection == connection);
        let Some(device) = device.filter(|_| position.epoch == head.epoch && position.seq <= head.seq) else { return };
        device.acked = device.acked.max(Some(position.seq));
        self.settle(now, id);
    }

    /// The user's connected devices, in the order in which they came. Looking changes nothing.
    pub fn devices(&self, id: &UserId) -> Vec<DeviceStatus> {
        let Some(user) = self.users.get(id) else { return Vec::new() };
        let head = user.channel.log.head();
        let status = |device: &Device<H>| DeviceStatus {
            connection: device.connection,
            session: device.session,
            acked: device.acked.map(|seq| Position { epoch: head.epoch, seq }),
            behind: head.seq.saturating_sub(device.has_up_to()),
        };
        user.channel.devices.iter().map(status).collect()
    }

    /// Sheds what every device has and what is older than the retention. What is left over comes at once again.
    pub(super) fn trim(&mut self, now: Timestamp, id: &UserId) {
        let Some(user) = self.users.get_mut(id) else { return };
        let before = user.channel.log.bytes();
        for _ in 0..TRIM_AT_ONCE {
            let is_due = user.channel.trim_at(&self.limits).is_some_and(|at| at <= now);
            if !is_due || !user.channel.log.shed(&self.limits) {
                break;
            }
        }
        user.channel.ages.forget(user.channel.log.start().seq);
        let after = user.channel.log.bytes();
        self.account(&Due::User(id.clone()), before, after);
    }
}
