//! What the level of the service means for one connection: it is told of a change, and its texts may wait to be merged.

use std::sync::Arc as Shared;

use super::leaving::Leaving;
use super::{Session, State};
use crate::level::{Effects, LevelNotice, ServiceLevel};
use crate::protocol::ServerFrame;
use crate::stream::{Ahead, Entry};
use crate::time::{Now, Timestamp};

/// The level that counts for a connection, and the one that its client knows of.
#[derive(Debug)]
pub(super) struct Told {
    notice: Shared<LevelNotice>,
    client: ServiceLevel,
}

impl Told {
    /// The welcome says it.
    pub(super) fn new(notice: &Shared<LevelNotice>) -> Self {
        Self { notice: Shared::clone(notice), client: notice.level }
    }

    /// Whether texts are merged for everybody.
    pub(super) fn merges(&self) -> bool {
        self.notice.level != ServiceLevel::Normal
    }
}

/// Text at the end of the user's own stream that waits until another event follows it, or there is enough of it.
#[derive(Debug)]
pub(super) struct Holding {
    /// Up to here everything is given.
    free: u64,
    /// When the text after that is given, whatever follows it.
    until: Option<Timestamp>,
    /// Bytes of the log's text when it began to wait.
    bytes: usize,
}

impl Holding {
    fn new(ahead: &Ahead) -> Self {
        Self { free: 0, until: None, bytes: ahead.text_bytes }
    }

    /// Leaves text that is to wait out of what was read. An entry that begins before is given whole.
    pub(super) fn keep_from(&self, entries: &mut Vec<Entry>) {
        entries.truncate(entries.partition_point(|entry| entry.prev() < self.free));
    }
}

impl Session {
    /// The level that counts for this connection.
    pub(super) fn level(&self) -> ServiceLevel {
        match &self.state {
            State::Attached(device) => device.level.notice.level,
            State::Stranger(_) | State::Gone(_) => ServiceLevel::Normal,
        }
    }

    /// Goes by another level from now on. One that comes late is older than what is known.
    pub(super) fn take_level(&mut self, now: Now, notice: Shared<LevelNotice>) {
        let State::Attached(device) = &mut self.state else { return };
        if notice.number <= device.level.notice.number {
            return;
        }
        let hold = Effects::of(notice.level, self.hub.limits()).text_hold;
        if let (Some(hold), Some(holding)) = (hold, &mut device.holding) {
            // No text waits longer than the level that counts now lets it.
            holding.until = holding.until.map(|until| until.min(now.at + hold));
        }
        device.level.notice = notice;
        self.look_at_held();
        self.tell_level(now);
    }

    /// Tells the client of the level, where it knows another. While nothing has room, it waits, and of several changes the
    /// client then hears the last.
    pub(super) fn tell_level(&mut self, now: Now) {
        let capabilities = self.effects().capabilities;
        let State::Attached(device) = &mut self.state else { return };
        let LevelNotice { level, reason, .. } = &*device.level.notice;
        if device.level.client == *level || !self.connection.has_room() {
            return;
        }
        device.level.client = *level;
        let frame = ServerFrame::ServiceLevel {
            level: *level,
            reason: reason.to_string(),
            capabilities: capabilities.iter().map(|name| (*name).to_owned()).collect(),
        };
        self.connection.send(now, &frame);
    }

    /// Whether only text lies ahead that is to wait. Where it answers `false`, [`Holding::keep_from`] says how far to read.
    ///
    /// Text waits for a short time, and only as long as the log is in no danger to lose it: half as many entries as make a
    /// connection lag, and an eighth of a log's bytes.
    pub(super) fn holds_back(&mut self, now: Now, at: usize) -> bool {
        let hold = self.effects().text_hold.filter(|_| self.leaving == Leaving::No);
        let State::Attached(device) = &mut self.state else { return false };
        let cursor = &mut device.cursors[at];
        if cursor.topic.is_some() {
            return false;
        }
        let Some(hold) = hold else {
            device.holding = None;
            return false;
        };
        let shard = self.hub.shard(self.hub.shard_of(&device.user));
        let ahead = shard.ahead(&device.user, device.connection, cursor.position);
        drop(shard);
        let Some(ahead) = ahead else {
            // The log has gone on without the text that waited: a time that stays would come again and again.
            if let Some(holding) = &mut device.holding {
                holding.until = None;
            }
            return false;
        };
        let holding = device.holding.get_or_insert_with(|| Box::new(Holding::new(&ahead)));
        if cursor.position.seq < ahead.boundary.max(holding.free) {
            // What waited is followed by another event, or its time has come.
            (holding.free, holding.until) = (ahead.boundary.max(holding.free), None);
            return false;
        }
        let limits = self.hub.limits();
        let until = *holding.until.get_or_insert_with(|| {
            holding.bytes = ahead.text_bytes;
            now.at + hold
        });
        let many = ahead.head.saturating_sub(cursor.position.seq) > limits.lag_entries as u64 / 2;
        let large = ahead.text_bytes.saturating_sub(holding.bytes) > limits.log_bytes / 8;
        if until <= now.at || many || large {
            (holding.free, holding.until) = (ahead.head, None);
            return false;
        }
        cursor.behind = false;
        true
    }

    /// When text that waits is given.
    pub(super) fn gives_held_at(&self) -> Option<Timestamp> {
        let State::Attached(device) = &self.state else { return None };
        device.holding.as_ref()?.until.filter(|_| self.connection.wants_events())
    }

    /// Gives text that has waited long enough.
    pub(super) fn give_held(&mut self, now: Now) {
        if self.gives_held_at().is_none_or(|at| at > now.at) {
            return;
        }
        self.look_at_held();
    }

    /// Looks again at text that waits, since what it waits for is another now.
    pub(super) fn look_at_held(&mut self) {
        if let State::Attached(device) = &mut self.state {
            device.cursors.iter_mut().filter(|cursor| cursor.topic.is_none()).for_each(|cursor| cursor.behind = true);
        }
    }

    fn effects(&self) -> Effects {
        Effects::of(self.level(), self.hub.limits())
    }
}
