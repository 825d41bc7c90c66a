//! The drain: nobody is let in, every device is told when it goes, one after the other, and runs end what they say.

use std::time::Duration;

use super::{Control, Manager, Output};
use crate::id::UserId;
use crate::protocol::Position;

/// From one connection's close to the next: a thousand a second.
const STEP: Duration = Duration::from_millis(1);
/// What even the first connection has between the announcement and its close.
const NOTICE: Duration = Duration::from_millis(100);

/// When a connection leaves, counted from the moment it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// From here on it closes as soon as its user's runs are at a boundary.
    pub after: Duration,
    /// It closes by then, whatever the runs do.
    pub by: Duration,
    /// Its client is asked to come back at a moment of its own within this.
    pub spread: Duration,
}

/// Spaces the closes of a drain evenly: at most one a millisecond, and where that is too slow for
/// [`Limits::drain_deadline`], as many as end in half of it. Every connection may wait equally long for a boundary, until
/// three quarters are over at the latest; the last quarter is left for the closing handshakes.
///
/// [`Limits::drain_deadline`]: crate::limits::Limits::drain_deadline
#[derive(Clone, Debug)]
pub struct Pace {
    notice: Duration,
    step: Duration,
    patience: Duration,
    spread: Duration,
    /// How many are told, and how many there are.
    told: u32,
    count: u32,
}

impl Pace {
    /// For a drain of `connections` that ends within `deadline`.
    pub fn new(connections: usize, deadline: Duration) -> Self {
        let count = u32::try_from(connections).unwrap_or(u32::MAX).max(1);
        let notice = NOTICE.min(deadline / 8);
        let step = STEP.min(deadline / 2 / count);
        let busy = notice.saturating_add(step.saturating_mul(count));
        let patience = (deadline / 4 * 3).saturating_sub(busy);
        Self { notice, step, patience, spread: busy.saturating_mul(2), told: 0, count }
    }

    /// The turn of the next connection.
    pub fn turn(&mut self) -> Leave {
        let after = self.notice.saturating_add(self.step.saturating_mul(self.told));
        // One more than were counted goes with the last.
        self.told = self.told.saturating_add(1).min(self.count - 1);
        Leave { after, by: after.saturating_add(self.patience), spread: self.spread }
    }
}

impl<H: Clone> Manager<H> {
    /// Stops admission for good; the devices are told by [`Manager::drain_some`].
    pub const fn begin_drain(&mut self) {
        self.draining = true;
    }

    /// Tells the devices of up to `users` users after `last`; answers where to go on, until there are none.
    pub fn drain_some(&mut self, last: Option<&UserId>, users: usize, pace: &mut Pace) -> Option<UserId> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.assert_drained();
        let from = last.map_or(Unbounded, Excluded);
        let mut reached = None;
        for (id, user) in self.users.range::<UserId, _>((from, Unbounded)).take(users) {
            for device in &user.channel.devices {
                self.outputs.push_back(Output::Control(device.handle.clone(), Control::GoingAway(pace.turn())));
            }
            reached = Some(id.clone());
        }
        reached
    }

    /// Whether a reader at `position` of the user's log may leave without breaking a text off: it has everything, and
    /// the last event of no open run is a piece of text.
    pub fn is_at_boundary(&self, user: &UserId, position: Position) -> bool {
        self.users.get(user).is_none_or(|user| {
            user.channel.log.head() == position && !user.runs.values().any(|open| open.machine.is_in_text())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closes_are_evenly_spaced_and_end_within_three_quarters() {
        let deadline = Duration::from_secs(30);
        for count in [1_u32, 2, 3, 1_000, 15_000, 15_001, 100_000] {
            let mut pace = Pace::new(count as usize, deadline);
            let leaves: Vec<Leave> = (0..count).map(|_| pace.turn()).collect();
            let step = STEP.min(deadline / 2 / count);
            assert!(leaves.windows(2).all(|pair| pair[1].after - pair[0].after == step), "{count}");
            assert!(leaves.iter().all(|leave| leave.after >= NOTICE && leave.by >= leave.after), "{count}");
            assert!(leaves.iter().all(|leave| leave.by <= deadline / 4 * 3), "{count}");
            assert!(leaves.last().unwrap().after < NOTICE + deadline / 2, "{count}");
            // Everybody may wait equally long.
            let patience = leaves[0].by - leaves[0].after;
            assert!(leaves.iter().all(|leave| leave.by - leave.after == patience), "{count}");
        }
    }

    #[test]
    fn no_count_and_no_deadline_is_too_much() {
        for deadline in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(200), Duration::MAX] {
            for count in [0, 1, usize::MAX] {
                let mut pace = Pace::new(count, deadline);
                for _ in 0..3 {
                    let leave = pace.turn();
                    assert!(leave.after <= leave.by && leave.by <= deadline);
                }
            }
        }
    }
}
