//! Users and topics that are kept for their logs alone, bounded in number.

use std::collections::BTreeMap;

use super::Manager;
use super::housekeeping::Due;

/// Who is kept without a connection, run or request: first those whose logs never had an event, of whom nothing is lost, so
/// that whoever follows and leaves many topics pushes nobody's events out; then in the order in which they fell idle.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    order: BTreeMap<Place, Due>,
    last: u64,
}

/// Whether there ever was an event, and the number among all who fell idle.
type Place = (bool, u64);

/// Where somebody stands among them.
pub(super) type Turn = Option<Place>;

impl Kept {
    /// Keeps the order in step with whether `owner`, who stands at `turn`, is idle, and had an event.
    pub(super) fn observe(&mut self, turn: &mut Turn, is_idle: bool, had_event: bool, owner: impl FnOnce() -> Due) {
        if is_idle && turn.is_some_and(|(known, _)| known == had_event) {
            return;
        }
        self.leave(turn.take());
        if is_idle {
            self.last += 1;
            let place = (had_event, self.last);
            self.order.insert(place, owner());
            *turn = Some(place);
        }
    }

    pub(super) fn leave(&mut self, turn: Turn) {
        if let Some(turn) = turn {
            self.order.remove(&turn);
        }
    }

    #[cfg(test)]
    pub(super) fn in_order(&self) -> impl Iterator<Item = (&Place, &Due)> {
        self.order.iter()
    }

    /// Who goes first, where there are more than `max`.
    fn first_over(&self, max: usize) -> Option<Due> {
        if self.order.len() > max { self.order.values().next().cloned() } else { None }
    }
}

impl<H: Clone> Manager<H> {
    /// Lets go of who comes first in the order while there are too many. Of whoever fell idle last, no event is lost.
    pub(super) fn bound_kept(&mut self) {
        while let Some(owner) = self.kept.first_over(self.max_kept) {
            self.tally.shed += self.log_of(&owner).map_or(0, |log| log.head().seq.saturating_sub(log.start().seq));
            match owner {
                Due::User(id) => self.remove_user(&id),
                Due::Topic(id) => self.remove_topic(&id),
            }
        }
    }
}
