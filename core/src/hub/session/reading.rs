//! Reading from the logs: a cursor per stream, read in turns, as far as the socket takes what comes of it.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Device, Session, State};
use crate::connection::Connection;
use crate::id::TopicId;
use crate::manager::{Grown, Read};
use crate::metrics::Aside;
use crate::protocol::{Lost, Position, ServerFrame, StreamName, prev_prefix};
use crate::stream::{Entry, Outgoing, Reducer, Resumption, frames_for, snapshot_frames};
use crate::sync::Lease;
use crate::time::{Now, Timestamp};

/// A place in a log.
#[derive(Debug)]
pub(super) struct Cursor {
    /// `None` is the user's own stream.
    pub(super) topic: Option<TopicId>,
    /// How far the log was read: what the client has been given, and what is hidden from it.
    pub(super) position: Position,
    /// What says that the log has grown.
    grown: Grown,
    /// There may be more in the log.
    pub(super) behind: bool,
    /// It lags: texts are merged until it has caught up, and it counts as one of those.
    merging: Option<Aside<Box<Lease>>>,
    /// Up to where what was read is counted: what did not fit is read again.
    counted: Aside<u64>,
    /// What is to be given before anything is read.
    snapshot: Option<Pending>,
}

/// A snapshot that the client is to be given.
#[derive(Debug)]
enum Pending {
    /// It is not taken yet.
    Due,
    /// What is left of one that ends at the cursor's position, with its room among all; at most about
    /// [`Limits::snapshot_bytes`] of text.
    ///
    /// [`Limits::snapshot_bytes`]: crate::limits::Limits::snapshot_bytes
    Taken(Box<Taken>),
}

#[derive(Debug)]
struct Taken {
    frames: VecDeque<ServerFrame>,
    _room: Lease,
}

impl Cursor {
    pub(super) fn new(topic: Option<TopicId>, resumption: &Resumption) -> Self {
        let behind = resumption.position != resumption.head;
        let grown = topic.as_ref().map_or(Grown::OWN, Grown::of);
        let (position, counted) = (resumption.position, Aside(resumption.position.seq));
        Self { topic, position, grown, behind, merging: None, counted, snapshot: None }
    }

    /// Goes on elsewhere in the stream of a cursor before it: what was told of its lag still counts, and ends when this one
    /// has caught up.
    pub(super) fn in_place_of(self, earlier: &mut Self) -> Self {
        let merging = earlier.merging.take();
        Self { behind: self.behind || merging.is_some(), merging, ..self }
    }

    pub(super) fn has_more(&self) -> bool {
        self.behind || matches!(self.snapshot, Some(Pending::Taken(_)))
    }

    /// Takes what a mark says.
    pub(super) fn note_mark(&mut self, bits: u8) {
        self.behind |= self.grown.is_in(bits);
    }

    /// Whether it waits for the room of a snapshot.
    pub(super) const fn waits_for_room(&self) -> bool {
        matches!(self.snapshot, Some(Pending::Due)) && !self.behind
    }

    /// A snapshot comes before anything else.
    pub(super) fn restart(&mut self) {
        (self.snapshot, self.behind) = (Some(Pending::Due), true);
    }

    /// The next frame of the snapshot that is being given.
    fn next_frame(&mut self) -> Option<ServerFrame> {
        let Some(Pending::Taken(taken)) = &mut self.snapshot else { return None };
        let frame = taken.frames.pop_front();
        if taken.frames.is_empty() {
            self.snapshot = None;
        }
        frame
    }

    pub(super) fn stream(&self) -> StreamName {
        self.topic.as_ref().map_or(StreamName::User, |topic| StreamName::Topic(topic.name().clone()))
    }
}

impl Device {
    /// The next cursor in turn that may have more to give.
    fn next_behind(&mut self) -> Option<usize> {
        let count = self.cursors.len();
        let found = (0..count).map(|step| (self.turn + step) % count).find(|at| self.cursors[*at].has_more())?;
        self.turn = (found + 1) % count;
        Some(found)
    }
}

impl Session {
    /// Gives the connection what the socket can take of the log.
    pub(super) fn fill(&mut self, now: Now) {
        while self.connection.wants_events() {
            if self.hides_much() {
                // What is sent brings the next round, after a look at the socket.
                return self.move_on(now);
            }
            let State::Attached(device) = &mut self.state else { return };
            let Some(at) = device.next_behind() else { return self.move_on_in_time(now) };
            let cursor = &mut device.cursors[at];
            if let Some(frame) = cursor.next_frame() {
                self.connection.send(now, &frame);
                continue;
            }
            if cursor.snapshot.is_some() {
                self.take_snapshot(now, at);
                continue;
            }
            if self.holds_back(now, at) {
                continue;
            }
            self.read(now, at);
        }
    }

    fn read(&mut self, now: Now, at: usize) {
        let State::Attached(device) = &mut self.state else { return };
        let (user, connection, cursor) = (&device.user, device.connection, &mut device.cursors[at]);
        let merges = cursor.merging.is_some() || device.level.merges();
        // Merging makes less of what is read.
        let (from, max) = (cursor.position, if merges { 4 * READ_BYTES } else { READ_BYTES });
        let shard = cursor.topic.as_ref().map_or_else(|| self.hub.shard_of(user), |topic| self.hub.topic_shard(topic));
        let mut shard = self.hub.shard(shard);
        let read = match &cursor.topic {
            None => shard.read(user, connection, from, max),
            Some(topic) => shard.read_topic(topic, connection, from, max),
        };
        if let Read::Entries { entries, behind, appended } = &read {
            let reached = entries.last().map_or(from.seq, Entry::seq);
            let taken = reached.saturating_sub(from.seq.max(cursor.counted.0));
            let is_end = reached >= from.seq.saturating_add(*behind);
            cursor.counted.0 = cursor.counted.0.max(reached);
            shard.count_read(now.at, taken, *behind, is_end.then_some(*appended));
        }
        drop(shard);
        if self.mail.end().is_some() {
            // It may have been ended before this was appended, as by a revocation.
            return self.collect(now);
        }
        match read {
            Read::Entries { mut entries, behind, appended: _ } => {
                let holding = device.holding.as_ref().filter(|_| cursor.topic.is_none());
                // What comes to the log from here on leaves a mark. What lags or holds text looks until it finds nothing.
                let whole = entries.last().is_none_or(|last| last.seq() >= from.seq.saturating_add(behind));
                cursor.behind = !entries.is_empty() && (!whole || cursor.merging.is_some() || holding.is_some());
                if let Some(holding) = holding {
                    holding.keep_from(&mut entries);
                }
                // What has come since the look at what lies ahead is looked at once more.
                if !entries.is_empty() || !cursor.behind {
                    self.give(now, at, entries, behind);
                }
            }
            // Its mailbox says why.
            Read::Detached => cursor.behind = false,
            Read::Lost => cursor.restart(),
        }
    }

    /// Adds what a read has taken, and says when merging begins and ends.
    fn give(&mut self, now: Now, at: usize, mut entries: Vec<Entry>, behind: u64) {
        let State::Attached(device) = &mut self.state else { return };
        let threshold = self.hub.limits().lag_entries as u64;
        let cursor = &mut device.cursors[at];
        let stream = cursor.stream();
        if cursor.merging.is_none() && behind > threshold {
            // There is no bound, so there always is one more.
            (cursor.merging, cursor.behind) =
                (self.hub.inner.lagging.lease(1).map(|lease| Aside(Box::new(lease))), true);
            self.connection.send(now, &lag(&stream, behind, true));
        }
        let merges = cursor.merging.is_some() || device.level.merges();
        let user_id = cursor.topic.is_none().then(|| device.user.sub());
        let mut reached = entries.last().map_or(cursor.position.seq, Entry::seq);
        let caught_up = entries.is_empty();
        let mut watching = device.watching.as_deref_mut().filter(|_| cursor.topic.is_none());
        let mut from = cursor.position;
        if let Some(watching) = &watching {
            watching.narrow(&mut entries);
            from.seq = watching.told();
        }
        for frame in frames_for(&stream, user_id, from, &entries, merges) {
            // What does not fit now is read again: events never take the room of replies.
            if !self.connection.wants_events() {
                (reached, cursor.behind) = (cursor.position.seq, true);
                break;
            }
            send_event(&mut self.connection, now, &frame);
            cursor.position.seq = frame.seq;
            if let Some(watching) = &mut watching {
                watching.tell(frame.seq);
            }
        }
        cursor.position.seq = reached;
        if cursor.merging.is_some() && caught_up {
            cursor.merging = None;
            self.connection.send(now, &lag(&stream, 0, false));
        }
    }

    /// Takes a reader who has nothing before the log to its beginning. Where the client stands elsewhere, it is told of the
    /// loss: a log that has gone on since the welcome begins behind what the welcome said.
    ///
    /// Where the snapshots of others take all the room there is, it waits.
    fn take_snapshot(&mut self, now: Now, at: usize) {
        let State::Attached(device) = &mut self.state else { return };
        let (user, connection, cursor) = (&device.user, device.connection, &mut device.cursors[at]);
        // Before the copy is made.
        let bytes =
            cursor.topic.as_ref().map_or_else(|| self.hub.shard(self.hub.shard_of(user)).base_bytes(user), |_| 0);
        let bytes = bytes.saturating_add(SNAPSHOT_OVERHEAD).min(self.hub.limits().total_snapshot_bytes);
        let Some(room) = self.hub.inner.snapshots.lease(bytes) else {
            cursor.behind = false;
            device.look_again = Some(now.at + ROOM_AGAIN);
            return;
        };
        let base = match &cursor.topic {
            None => self.hub.shard(self.hub.shard_of(user)).base(user, connection),
            Some(topic) => {
                let start = self.hub.shard(self.hub.topic_shard(topic)).topic_start(topic, connection);
                start.map(|start| (start, Reducer::default()))
            }
        };
        let Some((position, mut base)) = base else {
            (cursor.snapshot, cursor.behind) = (None, false);
            return;
        };
        let mut known = cursor.position;
        if let Some(watching) = device.watching.as_mut().filter(|_| cursor.topic.is_none()) {
            known.seq = watching.told();
            watching.restart(position, &mut base);
        }
        let lost = (known != position).then_some(Lost { from: known, to: position });
        (cursor.position, cursor.counted.0) = (position, position.seq);
        cursor.behind = true;
        let frames = snapshot_frames(&cursor.stream(), position, lost, &base).into();
        cursor.snapshot = Some(Pending::Taken(Box::new(Taken { frames, _room: room })));
    }

    /// When to look again whether there is room for a snapshot.
    pub(super) fn looks_again_at(&self) -> Option<Timestamp> {
        let State::Attached(device) = &self.state else { return None };
        device.look_again
    }

    /// Looks again whether there is room for a snapshot.
    pub(super) fn look_again(&mut self, now: Now) {
        let State::Attached(device) = &mut self.state else { return };
        if device.look_again.take_if(|at| *at <= now.at).is_some() {
            device.cursors.iter_mut().filter(|cursor| cursor.waits_for_room()).for_each(|cursor| cursor.behind = true);
        }
    }
}

/// How long a reader waits before it looks again whether there is room for its snapshot.
const ROOM_AGAIN: Duration = Duration::from_millis(100);
/// What a snapshot has beside what it says: the heads of its frames and runs.
const SNAPSHOT_OVERHEAD: usize = 4 << 10;

/// Adds one frame of a log, with the place it follows where that is another than usual.
fn send_event(connection: &mut Connection, now: Now, event: &Outgoing) {
    let (first, tail) = event.frame.split_at_checked(1).unwrap_or_default();
    let prefix = event.prev.map(prev_prefix);
    match (&event.packed, &prefix) {
        (None, None) => connection.send_encoded(now, &[&event.frame]),
        (None, Some(prefix)) => connection.send_encoded(now, &[prefix.as_ref(), tail]),
        (Some(packed), prefix) => {
            connection.send_shared(now, prefix.as_ref().map_or(first, AsRef::as_ref), packed);
        }
    }
}

fn lag(stream: &StreamName, behind: u64, merging: bool) -> ServerFrame {
    ServerFrame::Lag { stream: stream.clone(), behind, merging }
}

/// How much of a log one read takes.
const READ_BYTES: usize = 32 << 10;
