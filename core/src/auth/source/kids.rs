//! The names of keys that tokens asked for and no set had.

use std::collections::{BTreeMap, BTreeSet};

/// How many names wait for a fetch, and how many are remembered as absent.
pub(super) const MAX_KIDS: usize = 64;

/// What is known about a `kid` that the loaded set does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// No fetch has succeeded that began after it was first asked for: it may be a key that is newer than the set.
    Undecided,
    /// Such a fetch has succeeded, not long ago, and did not bring it.
    Absent,
}

/// Two bounded tables. A name for which there is no room stays undecided, so that names made up by others cost a good token
/// no more than time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Kids {
    /// Each with the number of the fetch that decides about it: the first that began after it was asked for.
    asked: BTreeMap<Box<str>, u64>,
    absent: BTreeSet<Box<str>>,
}

impl Kids {
    /// Asks for a name while `next` is the number of the fetch that begins next.
    pub(super) fn ask(&mut self, kid: &str, next: u64) -> Verdict {
        if self.absent.contains(kid) {
            return Verdict::Absent;
        }
        if !self.asked.contains_key(kid) && self.asked.len() < MAX_KIDS {
            self.asked.insert(kid.into(), next);
        }
        Verdict::Undecided
    }

    /// Whether a fetch that begins now would decide something.
    pub(super) fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The fetch of this number has brought a set. Whoever finds a name in it does not ask here.
    pub(super) fn decide(&mut self, fetch: u64) {
        let (decided, waiting): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.asked).into_iter().partition(|(_, by)| *by <= fetch);
        self.asked = waiting;
        self.absent = decided.into_keys().collect();
    }

    /// What was absent may have come meanwhile. Answers whether anything was.
    pub(super) fn forget_absent(&mut self) -> bool {
        !std::mem::take(&mut self.absent).is_empty()
    }

    pub(super) fn has_absent(&self) -> bool {
        !self.absent.is_empty()
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.asked.len(), self.absent.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_decided_by_a_fetch_that_began_after_it_was_asked_for() {
        let mut kids = Kids::default();
        assert_eq!(kids.ask("early", 3), Verdict::Undecided);
        // Fetch 3 is under way.
        assert_eq!(kids.ask("late", 4), Verdict::Undecided);
        assert_eq!(kids.ask("early", 4), Verdict::Undecided);
        kids.decide(3);
        assert_eq!((kids.ask("early", 4), kids.ask("late", 4)), (Verdict::Absent, Verdict::Undecided));
        assert!(kids.is_waiting());
        kids.decide(4);
        assert_eq!(kids.ask("late", 5), Verdict::Absent);
        assert!(!kids.is_waiting());
        assert!(kids.forget_absent());
        assert_eq!(kids.ask("late", 5), Verdict::Undecided);
    }

    #[test]
    fn both_tables_are_bounded_and_whoever_finds_no_room_stays_undecided() {
        let mut kids = Kids::default();
        for index in 0..MAX_KIDS + 1 {
            assert_eq!(kids.ask(&format!("junk-{index}"), 0), Verdict::Undecided);
            assert_eq!(kids.sizes(), (MAX_KIDS.min(index + 1), 0));
        }
        kids.decide(0);
        assert_eq!(kids.sizes(), (0, MAX_KIDS));
        let last = format!("junk-{MAX_KIDS}");
        assert_eq!(kids.ask("junk-0", 1), Verdict::Absent);
        assert_eq!(kids.ask(&last, 1), Verdict::Undecided, "nobody looked for it in the set that came");
    }
}
