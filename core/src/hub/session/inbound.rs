//! Room for what is half received, of a request's head or of a message. A little is everybody's own; more is leased from what all
//! have together. Where there is none, the socket is read no further until there is, and is closed where that takes too long.

use std::time::Duration;

use super::{NO_ROOM, Session, State};
use crate::drive::{MAX_READ_BYTES, READ_BYTES};
use crate::error::CloseReason;
use crate::sync::Lease;
use crate::time::{Now, Timestamp};

/// What a connection may hold without asking: as much as one read brings of a client, so that small messages never ask.
const OWN_BYTES: usize = READ_BYTES;
/// How long a connection waits for room before it is closed, and after how long it looks again.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The room of what is half received now.
#[derive(Debug)]
pub(super) struct Inbound {
    lease: Lease,
    /// What the next read may bring.
    next: usize,
    short: Option<Short>,
}

/// Room is missing.
#[derive(Clone, Copy, Debug)]
struct Short {
    since: Timestamp,
    again: Timestamp,
}

impl Session {
    /// Makes room for what is half received, and what the next read brings to it.
    pub(super) fn make_room(&mut self, now: Now) {
        let (held, most) = self.connection.half_received();
        if held == 0 {
            // What is whole, or not begun, needs none: the common case.
            self.inbound = None;
            return;
        }
        // Buffers double.
        let wanted =
            |next: usize| held.saturating_mul(2).saturating_add(next).min(most.max(held)).saturating_sub(OWN_BYTES);
        let whole = self.whole_read();
        // One token opens any number of sockets that never say hello: they leave half of the room to those who are in.
        let is_stranger = matches!(self.state, State::Stranger(_));
        let (all, total) = (&self.hub.inner.inbound, self.hub.limits().total_inbound_bytes);
        let inbound = match &mut self.inbound {
            Some(inbound) => inbound,
            None if wanted(whole) == 0 => return,
            // Nothing is always free.
            empty @ None => match all.lease(0) {
                Some(lease) => empty.insert(Box::new(Inbound { lease, next: whole, short: None })),
                None => return,
            },
        };
        let others = all.used().saturating_sub(inbound.lease.units());
        let fits = |wanted: usize| !is_stranger || others.saturating_add(wanted) <= (total / 2).max(most);
        let mut granted = |next| {
            let wanted = wanted(next);
            inbound.lease.units() >= wanted || (fits(wanted) && inbound.lease.resize(wanted))
        };
        // Where there is no room for much, a little goes on.
        if let Some(next) = [whole, READ_BYTES].into_iter().find(|next| granted(*next)) {
            (inbound.next, inbound.short) = (next, None);
        } else {
            let since = inbound.short.map_or(now.at, |short| short.since);
            inbound.short = Some(Short { since, again: now.at + LOOK_AGAIN });
        }
    }

    /// How many bytes may be read next.
    pub(super) fn read_room(&self) -> usize {
        match &self.inbound {
            Some(inbound) if inbound.short.is_some() => OWN_BYTES.saturating_sub(self.connection.half_received().0),
            Some(inbound) => inbound.next,
            None => self.whole_read(),
        }
    }

    /// How many where there is room. Producers send for many, and [`Limits::producers`] bounds their number: of theirs all is read
    /// that the system has.
    ///
    /// [`Limits::producers`]: crate::limits::Limits::producers
    fn whole_read(&self) -> usize {
        if self.is_producer() { MAX_READ_BYTES } else { READ_BYTES }
    }

    /// When to look again whether there is room.
    pub(super) fn looks_for_room_at(&self) -> Option<Timestamp> {
        self.short().map(|short| short.again)
    }

    /// Looks again whether there is room, and gives up after a while.
    pub(super) fn look_for_room(&mut self, now: Now) {
        match self.short() {
            Some(short) if short.since + PATIENCE <= now.at => {
                self.inbound = None;
                self.connection.refuse(now, NO_ROOM);
                self.connection.close(now, CloseReason::TryAgainLater);
                self.settle();
            }
            Some(short) if short.again <= now.at => self.make_room(now),
            Some(_) | None => {}
        }
    }

    fn short(&self) -> Option<Short> {
        self.inbound.as_ref().and_then(|inbound| inbound.short)
    }
}
