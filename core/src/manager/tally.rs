//! What a shard counts. No decision rests on it.

use super::Manager;
use crate::limits::Limits;
use crate::metrics::{Aside, RequestKind, ShardTally};
use crate::protocol::Position;
use crate::stream::{Entry, Log};
use crate::time::Timestamp;

/// When the newest entry of a log came.
pub(super) type Appended = Aside<Timestamp>;

/// Appends, and counts the entries that made room.
pub(super) fn append_to(log: &mut Log, entry: Entry, limits: &Limits, tally: &mut ShardTally) {
    let start = log.start().seq;
    log.append(entry, limits);
    tally.shed += log.start().seq.saturating_sub(start);
}

/// Whether a client has been somewhere: one that asks for everything that is kept has not.
pub(super) fn is_known(position: Option<Position>) -> bool {
    position.is_some_and(|position| position != Position::NONE)
}

impl<H> Manager<H> {
    /// What this shard has counted.
    pub const fn tally(&self) -> &ShardTally {
        &self.tally
    }

    /// Counts a request of a user, whatever becomes of it.
    pub const fn count_request(&mut self, kind: RequestKind) {
        self.tally.request(kind);
    }

    /// Counts what a reader has taken: `taken` events that it was not given before, of `behind` that were there. `appended` is
    /// when the newest came, where the reader has reached it.
    pub fn count_read(&mut self, now: Timestamp, taken: u64, behind: u64, appended: Option<Timestamp>) {
        self.tally.read(taken, behind, appended.map(|at| now.as_micros().saturating_sub(at.as_micros())));
    }
}
