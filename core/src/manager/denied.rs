//! What lets nobody in any more, on one shard: bounded, and shared fairly among tenants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::revocation::Revoked;
use crate::id::UserId;
use crate::time::{Timestamp, UnixTime};

/// What is revoked, and whose.
type Named = (UserId, Revoked);
/// Entries in the order in which they are over.
type Ordered = BTreeSet<(Timestamp, Arc<Named>)>;

/// The entries by name, and in the order in which they are over.
///
/// An entry is over once all that it is about has expired; what names tokens is still known then, until its room is needed. Where
/// nobody knows when that is, it counts on until then.
/// Of too many, those that are over go first; then the tenant that has most gives the one that is over next, so that nobody who
/// revokes much takes the room of others.
#[derive(Clone, Debug)]
pub(super) struct Denied {
    max: usize,
    entries: BTreeMap<Arc<Named>, Entry>,
    order: Ordered,
    tenants: BTreeMap<Option<Arc<str>>, Ordered>,
    /// The tenants by the number of their entries.
    counts: BTreeSet<(usize, Option<Arc<str>>)>,
}

/// How long an entry counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// From then on its room is free for others.
    pub(super) over: Timestamp,
    /// All that it is about has expired by then: it counts no longer.
    pub(super) ends: bool,
    /// The moment of the revocation: what was issued later is not revoked with its user.
    pub(super) since: UnixTime,
}

impl Entry {
    /// Of two revocations of the same: nothing that one of them denies is let in.
    fn with(self, other: Self) -> Self {
        Self { over: self.over.max(other.over), ends: self.ends && other.ends, since: self.since.max(other.since) }
    }
}

impl Denied {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            max,
            entries: BTreeMap::new(),
            order: BTreeSet::new(),
            tenants: BTreeMap::new(),
            counts: BTreeSet::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn insert(&mut self, now: Timestamp, user: &UserId, revoked: Revoked, entry: Entry) {
        let named = Arc::new((user.clone(), revoked));
        let known = self.remove(&named);
        self.put(&named, known.map_or(entry, |known| known.with(entry)));
        while self.entries.len() > self.max {
            let Some(goes) = self.goes(now, &named) else { return };
            self.remove(&goes);
        }
    }

    /// What counts of a user at `now`.
    pub(super) fn get(&self, now: Timestamp, user: &UserId, revoked: Revoked) -> Option<Entry> {
        self.known(user, revoked).filter(|entry| !entry.ends || now < entry.over)
    }

    /// The same with what is over and whose room nobody has needed yet.
    pub(super) fn known(&self, user: &UserId, revoked: Revoked) -> Option<Entry> {
        self.entries.get(&(user.clone(), revoked)).copied()
    }

    /// What is revoked, which `Debug` does not show.
    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<String> {
        self.entries.keys().map(|named| named.1.name()).collect()
    }

    /// Which one makes room for `newest`.
    fn goes(&self, now: Timestamp, newest: &Arc<Named>) -> Option<Arc<Named>> {
        let other = |found: &&(Timestamp, Arc<Named>)| found.1 != *newest;
        let over = self.order.iter().find(other).filter(|(over, _)| *over <= now);
        // The newest alone is passed over, so two steps are enough.
        let most =
            || self.counts.iter().rev().filter_map(|(_, tenant)| self.tenants.get(tenant)?.iter().find(other)).next();
        over.or_else(most).map(|(_, named)| Arc::clone(named))
    }

    fn put(&mut self, named: &Arc<Named>, entry: Entry) {
        self.entries.insert(Arc::clone(named), entry);
        self.order.insert((entry.over, Arc::clone(named)));
        self.of_tenant(named, |ordered| {
            ordered.insert((entry.over, Arc::clone(named)));
        });
    }

    fn remove(&mut self, named: &Arc<Named>) -> Option<Entry> {
        let entry = self.entries.remove(named)?;
        let place = (entry.over, Arc::clone(named));
        self.order.remove(&place);
        self.of_tenant(named, |ordered| {
            ordered.remove(&place);
        });
        Some(entry)
    }

    fn of_tenant(&mut self, named: &Named, change: impl FnOnce(&mut Ordered)) {
        let tenant: Option<Arc<str>> = named.0.tenant().as_str().map(Arc::from);
        let ordered = self.tenants.entry(tenant.clone()).or_default();
        self.counts.remove(&(ordered.len(), tenant.clone()));
        change(ordered);
        match ordered.len() {
            0 => drop(self.tenants.remove(&tenant)),
            count => drop(self.counts.insert((count, tenant))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(tenant: &str) -> UserId {
        UserId::new(Some(tenant), "ann").unwrap()
    }

    fn token(n: u64) -> Revoked {
        Revoked::Token(n.to_string().parse().unwrap())
    }

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    const fn entry(over: u64, ends: bool) -> Entry {
        Entry { over: Timestamp::from_micros(over), ends, since: UnixTime::from_micros(0) }
    }

    /// Which of the tokens count for a tenant.
    fn left(denied: &Denied, now: u64, tenant: &str, tokens: std::ops::Range<u64>) -> Vec<u64> {
        tokens.filter(|n| denied.get(at(now), &user(tenant), token(*n)).is_some()).collect()
    }

    #[test]
    fn an_entry_counts_until_its_token_has_expired_or_where_nobody_knows_until_room_is_needed() {
        let mut denied = Denied::new(2);
        denied.insert(at(0), &user("a"), token(0), entry(10, true));
        denied.insert(at(0), &user("a"), token(1), entry(10, false));
        assert_eq!(left(&denied, 9, "a", 0..2), [0, 1]);
        assert_eq!(left(&denied, 10, "a", 0..2), [1]);
        assert_eq!(left(&denied, 1_000_000, "a", 0..2), [1], "it may live longer than the memory");
        assert!(denied.get(at(0), &user("b"), token(0)).is_none());
        for n in 2..4 {
            denied.insert(at(20), &user("a"), token(n), entry(30, false));
        }
        assert_eq!(left(&denied, 20, "a", 0..9), [2, 3], "what is over makes room");
    }

    #[test]
    fn of_too_many_the_one_that_is_over_next_goes_and_never_the_newest() {
        let mut denied = Denied::new(3);
        for (n, over) in [(0, 30), (1, 10), (2, 20)] {
            denied.insert(at(0), &user("a"), token(n), entry(over, false));
        }
        denied.insert(at(5), &user("a"), token(3), entry(6, true));
        assert_eq!(left(&denied, 5, "a", 0..9), [0, 2, 3]);
        denied.insert(at(5), &user("a"), token(4), entry(40, false));
        assert_eq!(left(&denied, 5, "a", 0..9), [0, 2, 4]);
    }

    #[test]
    fn a_tenant_that_revokes_much_takes_no_other_tenants_room() {
        let mut denied = Denied::new(10);
        for n in 0..5 {
            denied.insert(at(0), &user("small"), token(n), entry(100, false));
        }
        for n in 0..1_000 {
            denied.insert(at(0), &user("greedy"), token(n), entry(1_000 + n, false));
        }
        assert_eq!(left(&denied, 99, "small", 0..5), [0, 1, 2, 3, 4]);
        assert_eq!(left(&denied, 99, "greedy", 0..1_000), [995, 996, 997, 998, 999]);
        // As many tenants as there is room for: the next one finds some, too.
        let mut denied = Denied::new(3);
        for tenant in ["a", "b", "c", "d"] {
            denied.insert(at(0), &user(tenant), token(0), entry(100, false));
        }
        assert_eq!(left(&denied, 0, "d", 0..1), [0]);
        assert_eq!((denied.entries.len(), denied.order.len(), denied.tenants.len(), denied.counts.len()), (3, 3, 3, 3));
    }

    #[test]
    fn a_second_revocation_of_the_same_takes_nothing_back() {
        let mut denied = Denied::new(9);
        denied.insert(at(0), &user("a"), token(0), entry(10, false));
        denied.insert(at(0), &user("a"), token(0), entry(5, true));
        assert_eq!(left(&denied, 50, "a", 0..1), [0]);
        denied.insert(at(0), &user("a"), token(1), entry(5, true));
        denied.insert(at(0), &user("a"), token(1), entry(9, true));
        assert_eq!((left(&denied, 8, "a", 1..2), left(&denied, 9, "a", 1..2)), (vec![1], vec![]));
        assert_eq!((denied.entries.len(), denied.order.len(), denied.counts.len()), (2, 2, 1));
        let later = Entry { since: UnixTime::from_micros(7), ..entry(10, false) };
        for entry in [later, entry(10, false)] {
            denied.insert(at(0), &user("a"), Revoked::All, entry);
        }
        assert_eq!(denied.get(at(0), &user("a"), Revoked::All).map(|entry| entry.since), Some(later.since));
    }
}
