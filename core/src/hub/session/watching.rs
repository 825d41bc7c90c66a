//! A device that watches some threads: what is hidden from it moves its client on, and seldom.

use super::{Session, State};
use crate::id::ThreadId;
use crate::protocol::{Position, ServerFrame, StreamName};
use crate::stream::{Entry, Reducer, Threads};
use crate::time::{Now, Timestamp};

/// What of the user's own stream a device is given. Topics are not filtered.
#[derive(Debug)]
pub(super) struct Watching {
    threads: Threads,
    /// Where the client stands: the cursor is further where the events between are hidden.
    told: u64,
    /// Until then nothing is sent that only moves the client on, unless much is hidden.
    quiet_until: Timestamp,
}

/// So many events are hidden at most before the client is moved on, whatever the time. It also bounds the work between
/// two looks at the socket, which hidden events never fill.
const MAX_HIDDEN: u64 = 256;

impl Watching {
    /// `None` where no threads are named: all are watched, and nothing of this is held.
    pub(super) fn new(threads: &[ThreadId], position: Position) -> Option<Box<Self>> {
        let threads = Threads::new(threads)?;
        Some(Box::new(Self { threads, told: position.seq, quiet_until: Timestamp::ZERO }))
    }

    pub(super) fn narrow(&self, entries: &mut Vec<Entry>) {
        entries.retain(|entry| self.threads.shows_entry(entry));
    }

    /// The client begins again at the snapshot's position.
    pub(super) fn restart(&mut self, position: Position, state: &mut Reducer) {
        self.threads.narrow(state);
        self.told = position.seq;
    }

    pub(super) const fn told(&self) -> u64 {
        self.told
    }

    pub(super) const fn tell(&mut self, seq: u64) {
        self.told = seq;
    }
}

impl Session {
    /// Whether an event of this conversation is shown.
    pub(super) fn watches(&self, thread: Option<&ThreadId>) -> bool {
        let State::Attached(device) = &self.state else { return false };
        device.watching.as_ref().is_none_or(|watching| watching.threads.shows_thread(thread))
    }

    /// Whether as much is hidden as may be before the client is moved on.
    pub(super) fn hides_much(&self) -> bool {
        self.hidden().is_some_and(|(hidden, _)| hidden >= MAX_HIDDEN)
    }

    /// Moves the client on over what is hidden from it.
    pub(super) fn move_on(&mut self, now: Now) {
        let State::Attached(device) = &mut self.state else { return };
        let (Some(watching), Some(own)) = (&mut device.watching, device.cursors.first()) else { return };
        let event_id = own.position;
        if watching.told != event_id.seq {
            let prev = std::mem::replace(&mut watching.told, event_id.seq);
            self.connection.send(now, &ServerFrame::Position { stream: StreamName::User, prev, event_id });
        }
    }

    /// The same at the end of the log, where the next event may come soon: at once after a quiet time, and then not
    /// oftener than [`Limits::position_interval`](crate::limits::Limits::position_interval).
    pub(super) fn move_on_in_time(&mut self, now: Now) {
        if self.moves_on_at().is_none_or(|at| at > now.at) {
            return;
        }
        let quiet_until = now.at + self.hub.limits().position_interval;
        if let State::Attached(device) = &mut self.state
            && let Some(watching) = &mut device.watching
        {
            watching.quiet_until = quiet_until;
        }
        self.move_on(now);
    }

    /// When the client is to be moved on: not while the socket is full, since what it takes asks again.
    pub(super) fn moves_on_at(&self) -> Option<Timestamp> {
        let (hidden, at) = self.hidden()?;
        (hidden > 0 && self.connection.wants_events()).then_some(at)
    }

    /// How many events before the cursor the client does not know of, and when it may be told.
    fn hidden(&self) -> Option<(u64, Timestamp)> {
        let State::Attached(device) = &self.state else { return None };
        let (watching, own) = (device.watching.as_ref()?, device.cursors.first()?);
        Some((own.position.seq.saturating_sub(watching.told), watching.quiet_until))
    }
}
