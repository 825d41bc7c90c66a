//! Users and topics that are kept for their logs alone, bounded in number.

use std::collections::BTreeMap;

use super::Manager;
use super::housekeeping::Due;

/// Who is kept without a connection, run or request, in the order in which they fell idle.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    order: BTreeMap<u64, Due>,
    last: u64,
}

/// Where somebody stands among them.
pub(super) type Turn = Option<u64>;

impl Kept {
    /// Keeps the order in step with whether `owner`, who stands at `turn`, is idle.
    pub(super) fn observe(&mut self, turn: &mut Turn, is_idle: bool, owner: impl FnOnce() -> Due) {
        if !is_idle {
            self.leave(turn.take());
        } else if turn.is_none() {
            self.last += 1;
            self.order.insert(self.last, owner());
            *turn = Some(self.last);
        }
    }

    pub(super) fn leave(&mut self, turn: Turn) {
        if let Some(turn) = turn {
            self.order.remove(&turn);
        }
    }

    #[cfg(test)]
    pub(super) fn in_order(&self) -> impl Iterator<Item = (&u64, &Due)> {
        self.order.iter()
    }

    /// Who has been idle longest, where there are more than `max`.
    fn longest_over(&self, max: usize) -> Option<Due> {
        if self.order.len() > max { self.order.values().next().cloned() } else { None }
    }
}

impl<H: Clone> Manager<H> {
    /// Lets go of whoever has been idle longest while there are too many. Whoever fell idle last is not among them.
    pub(super) fn bound_kept(&mut self) {
        while let Some(owner) = self.kept.longest_over(self.max_kept) {
            match owner {
                Due::User(id) => self.remove_user(&id),
                Due::Topic(id) => self.remove_topic(&id),
            }
        }
    }
}
