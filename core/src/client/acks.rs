//! When a client tells the server how far it has come: seldom, since nothing but the server's memory rests on it.

use std::time::Duration;

use crate::protocol::Position;
use crate::time::Timestamp;

/// So many events are worth telling of.
pub(super) const ACK_EVENTS: u64 = 64;
/// The least time between two acks, far below what the server's rate allows.
pub(super) const ACK_INTERVAL: Duration = Duration::from_secs(5);

/// How far a connection has told that it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Acks {
    /// What the server knows of.
    told: Option<Position>,
    told_at: Option<Timestamp>,
    /// There is something worth telling.
    wanted: bool,
}

impl Acks {
    /// The connection begins at `position`, which the server gave.
    pub(super) fn begin(position: Position) -> Self {
        Self { told: Some(position), ..Self::default() }
    }

    /// The client has come to `position`.
    pub(super) fn came_to(&mut self, position: Position) {
        let told = self.told.filter(|told| told.epoch == position.epoch).map_or(0, |told| told.seq);
        self.wanted |= position.seq.saturating_sub(told) >= ACK_EVENTS;
    }

    /// It has come to the end of a run: most often nothing follows for a while.
    pub(super) const fn run_ended(&mut self) {
        self.wanted = true;
    }

    /// When to tell.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let earliest = self.told_at.map_or(Timestamp::ZERO, |at| at + ACK_INTERVAL);
        self.wanted.then_some(earliest)
    }

    /// The server has been told.
    pub(super) const fn told(&mut self, now: Timestamp, position: Position) {
        *self = Self { told: Some(position), told_at: Some(now), wanted: false };
    }
}
