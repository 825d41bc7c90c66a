//! Reading from the logs: a cursor per stream, read in turns, as far as the socket takes what comes of it.

use std::collections::VecDeque;

use super::{Device, Session, State};
use crate::id::TopicId;
use crate::manager::Read;
use crate::protocol::{Lost, Position, ServerFrame, StreamName, prev_prefix};
use crate::stream::{Entry, Reducer, Resumption, frames_for, snapshot_frames};
use crate::time::Now;

/// A place in a log.
#[derive(Debug)]
pub(super) struct Cursor {
    /// `None` is the user's own stream.
    pub(super) topic: Option<TopicId>,
    /// How far the log was read: what the client has been given, and what is hidden from it.
    pub(super) position: Position,
    /// There may be more in the log.
    pub(super) behind: bool,
    /// It lags: texts are merged until it has caught up.
    merging: bool,
    /// What is left to give of a snapshot that ends at `position`; at most about [`Limits::snapshot_bytes`] of text.
    ///
    /// [`Limits::snapshot_bytes`]: crate::limits::Limits::snapshot_bytes
    snapshot: VecDeque<ServerFrame>,
}

impl Cursor {
    pub(super) fn new(topic: Option<TopicId>, resumption: &Resumption) -> Self {
        let behind = resumption.position != resumption.head;
        Self { topic, position: resumption.position, behind, merging: false, snapshot: VecDeque::new() }
    }

    /// Goes on elsewhere in the stream of a cursor before it: what was told of its lag still counts, and ends when this one
    /// has caught up.
    pub(super) fn in_place_of(self, earlier: &Self) -> Self {
        Self { merging: earlier.merging, behind: self.behind || earlier.merging, ..self }
    }

    pub(super) fn has_more(&self) -> bool {
        self.behind || !self.snapshot.is_empty()
    }

    pub(super) fn stream(&self) -> StreamName {
        self.topic.as_ref().map_or(StreamName::User, |topic| StreamName::Topic(topic.name().clone()))
    }

    /// Merging makes less of what is read.
    const fn read_bytes(&self) -> usize {
        if self.merging { 4 * READ_BYTES } else { READ_BYTES }
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
            let (user, connection, cursor) = (&device.user, device.connection, &mut device.cursors[at]);
            if let Some(frame) = cursor.snapshot.pop_front() {
                self.connection.send(now, &frame);
                continue;
            }
            let (from, max) = (cursor.position, cursor.read_bytes());
            let read = match &cursor.topic {
                None => self.hub.shard(self.hub.shard_of(user)).read(user, connection, from, max),
                Some(topic) => self.hub.shard(self.hub.topic_shard(topic)).read_topic(topic, connection, from, max),
            };
            match read {
                Read::Entries { entries, behind } => {
                    cursor.behind = !entries.is_empty();
                    self.give(now, at, entries, behind);
                }
                // Its mailbox says why.
                Read::Detached => cursor.behind = false,
                Read::Lost => self.take_snapshot(at),
            }
        }
    }

    /// Adds what a read has taken, and says when merging begins and ends.
    fn give(&mut self, now: Now, at: usize, mut entries: Vec<Entry>, behind: u64) {
        let State::Attached(device) = &mut self.state else { return };
        let threshold = self.hub.limits().lag_entries as u64;
        let cursor = &mut device.cursors[at];
        let stream = cursor.stream();
        if !cursor.merging && behind > threshold {
            cursor.merging = true;
            self.connection.send(now, &lag(&stream, behind, true));
        }
        let user_id = cursor.topic.is_none().then(|| device.user.sub());
        let mut reached = entries.last().map_or(cursor.position.seq, Entry::seq);
        let caught_up = entries.is_empty();
        let mut watching = device.watching.as_deref_mut().filter(|_| cursor.topic.is_none());
        let mut from = cursor.position;
        if let Some(watching) = &watching {
            watching.narrow(&mut entries);
            from.seq = watching.told();
        }
        for frame in frames_for(&stream, user_id, from, &entries, cursor.merging) {
            // What does not fit now is read again: events never take the room of replies.
            if !self.connection.wants_events() {
                reached = cursor.position.seq;
                break;
            }
            match frame.prev {
                None => self.connection.send_encoded(now, &[&frame.frame]),
                Some(prev) => {
                    let tail = frame.frame.get(1..).unwrap_or_default();
                    self.connection.send_encoded(now, &[prev_prefix(prev).as_ref(), tail]);
                }
            }
            cursor.position.seq = frame.seq;
            if let Some(watching) = &mut watching {
                watching.tell(frame.seq);
            }
        }
        cursor.position.seq = reached;
        if cursor.merging && caught_up {
            cursor.merging = false;
            self.connection.send(now, &lag(&stream, 0, false));
        }
    }

    /// Takes a reader who has nothing before the log to its beginning. Where the client stands elsewhere, it is told of the
    /// loss: a log that has gone on since the welcome begins behind what the welcome said.
    pub(super) fn take_snapshot(&mut self, at: usize) {
        let State::Attached(device) = &mut self.state else { return };
        let (user, connection, cursor) = (&device.user, device.connection, &mut device.cursors[at]);
        let base = match &cursor.topic {
            None => self.hub.shard(self.hub.shard_of(user)).base(user, connection),
            Some(topic) => {
                let start = self.hub.shard(self.hub.topic_shard(topic)).topic_start(topic, connection);
                start.map(|start| (start, Reducer::default()))
            }
        };
        let Some((position, mut base)) = base else {
            cursor.behind = false;
            return;
        };
        let mut known = cursor.position;
        if let Some(watching) = device.watching.as_mut().filter(|_| cursor.topic.is_none()) {
            known.seq = watching.told();
            watching.restart(position, &mut base);
        }
        let lost = (known != position).then_some(Lost { from: known, to: position });
        cursor.position = position;
        cursor.behind = true;
        cursor.snapshot = snapshot_frames(&cursor.stream(), position, lost, &base).into();
    }
}

fn lag(stream: &StreamName, behind: u64, merging: bool) -> ServerFrame {
    ServerFrame::Lag { stream: stream.clone(), behind, merging }
}

/// How much of a log one read takes.
const READ_BYTES: usize = 32 << 10;
