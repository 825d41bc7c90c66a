//! What the level of the service means on a shard: who is let in, and who is told of a change.

use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::{Attach, Control, Manager, Output};
use crate::error::CloseReason;
use crate::id::{ConnectionId, UserId};
use crate::level::{Effects, LevelNotice};
use crate::protocol::Position;
use crate::stream::Ahead;

/// The hub is told of growth in steps of this part of what a shard may hold.
const STEPS: usize = 32;

impl<H: Clone> Manager<H> {
    /// The level changes; who is connected is told by [`Manager::announce_some`]. Answers `false` for one that is not newer
    /// than what the shard knows.
    pub fn set_level(&mut self, notice: &Arc<LevelNotice>) -> bool {
        let is_newer = notice.number > self.level.number;
        if is_newer {
            self.level = Arc::clone(notice);
        }
        is_newer
    }

    /// The level that this shard knows of. Whoever attaches has this one.
    pub const fn level(&self) -> &Arc<LevelNotice> {
        &self.level
    }

    /// Tells the devices of up to `users` users after `last` of the level; answers where to go on, until there are none. Who
    /// attaches in between knows it already.
    pub fn announce_some(&mut self, last: Option<&UserId>, users: usize) -> Option<UserId> {
        self.assert_drained();
        let from = last.map_or(Unbounded, Excluded);
        let mut reached = None;
        for (id, user) in self.users.range::<UserId, _>((from, Unbounded)).take(users) {
            for device in &user.channel.devices {
                let told = Control::ServiceLevel(Arc::clone(&self.level));
                self.outputs.push_back(Output::Control(device.handle.clone(), told));
            }
            reached = Some(id.clone());
        }
        reached
    }

    /// What lies before a reader of the user's log; `None` where it has all there is, is lost, or not attached any more.
    pub fn ahead(&self, user: &UserId, connection: ConnectionId, position: Position) -> Option<Ahead> {
        self.users.get(user).filter(|user| user.channel.has(connection))?.channel.log.ahead(position)
    }

    /// Bytes of logs and keys.
    pub const fn held_bytes(&self) -> usize {
        self.logs.total().saturating_add(self.key_sizes.total())
    }

    /// Whether what is held has grown so much that the hub should look at it.
    pub fn has_grown(&mut self) -> bool {
        let held = self.held_bytes();
        let step = (self.log_share.saturating_add(self.keys_share) / STEPS).max(1);
        let grown = held >= self.bytes_seen.saturating_add(step);
        if grown || held < self.bytes_seen {
            self.bytes_seen = held;
        }
        grown
    }

    pub(super) fn sheds_ephemeral(&self) -> bool {
        self.effects().sheds_ephemeral
    }

    /// Whoever continues something is let in at every level.
    pub(super) fn admit(&self, attach: &Attach<H>) -> Result<(), CloseReason> {
        let let_in = self.effects().newcomers.admits(attach.attached, &self.limits) || self.is_resume(attach);
        if let_in { Ok(()) } else { Err(CloseReason::TryAgainLater) }
    }

    /// Whether the client shows that it was here: by the session of a device that is still attached, or by a position that only
    /// this incarnation of its stream has given.
    fn is_resume(&self, attach: &Attach<H>) -> bool {
        self.users.get(&attach.user).is_some_and(|user| {
            let is_there = |session| user.channel.devices.iter().any(|device| device.session == session);
            attach.session.is_some_and(is_there) || attach.resume.is_some_and(|known| user.channel.log.knows(known))
        })
    }

    fn effects(&self) -> Effects {
        Effects::of(self.level.level, &self.limits)
    }
}
