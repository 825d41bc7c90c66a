//! One-time tickets: what a page shows in the address of its WebSocket where it can set no header.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::Grant;
use crate::id::UserId;
use crate::time::{Now, Timestamp};

/// Bits of a ticket that nobody can guess, in bytes.
const TICKET_BYTES: usize = 32;

/// A ticket: 256 random bits. It can only be read on purpose.
#[derive(Clone, PartialEq, Eq)]
// Boxed: what few connections show once takes no room in all of them.
pub struct Ticket(Box<[u8; TICKET_BYTES]>);

impl Ticket {
    /// The ticket that `text` is, when it has the form of one: 43 characters of base64url.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bits = [0; TICKET_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bits).ok()?;
        (length == TICKET_BYTES).then(|| Self::from_bits(bits))
    }

    pub(crate) fn from_bits(bits: [u8; TICKET_BYTES]) -> Self {
        Self(Box::new(bits))
    }

    /// The secret itself, as it stands in the query: for the page that asked, never for a log.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(*self.0)
    }

    /// What it is kept and looked up by: how far a guess agrees with one that is kept says nothing, and takes no time that
    /// does.
    fn mark(&self) -> Mark {
        Sha256::digest(*self.0).into()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

/// SHA-256 of a ticket.
type Mark = [u8; 32];

/// Tickets that were issued and not used, each with what it grants.
#[derive(Clone)]
pub(crate) struct Tickets {
    held: BTreeMap<Mark, Held>,
    /// When each is over.
    order: BTreeSet<(Timestamp, Mark)>,
    /// How many there are of each user.
    owners: BTreeMap<UserId, usize>,
    bounds: Bounds,
}

/// How many tickets there may be, and how long each holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) all: usize,
    pub(crate) per_user: usize,
    pub(crate) life: Duration,
}

#[derive(Clone)]
struct Held {
    until: Timestamp,
    grant: Grant,
}

/// As many tickets are unused as allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// Until the next one is over.
    pub(crate) retry_after: Duration,
}

impl Tickets {
    pub(crate) const fn new(bounds: Bounds) -> Self {
        Self { held: BTreeMap::new(), order: BTreeSet::new(), owners: BTreeMap::new(), bounds }
    }

    /// Takes in a ticket of fresh bits.
    ///
    /// # Errors
    /// When there are too many, of this user or in all, once those that are over have gone.
    pub(crate) fn issue(&mut self, now: Now, ticket: &Ticket, grant: Grant) -> Result<(), Full> {
        self.forget_over(now.at);
        let mark = ticket.mark();
        let of_user = self.owners.get(&grant.user).copied().unwrap_or_default();
        // Bits that come twice are of no use to anybody: the one who has them already keeps them.
        if self.held.len() >= self.bounds.all || of_user >= self.bounds.per_user || self.held.contains_key(&mark) {
            let next = self.order.first().map_or(now.at, |(until, _)| *until);
            return Err(Full { retry_after: next.saturating_since(now.at) });
        }
        let until = now.at + self.bounds.life;
        self.owners.insert(grant.user.clone(), of_user + 1);
        self.order.insert((until, mark));
        self.held.insert(mark, Held { until, grant });
        Ok(())
    }

    /// Uses a ticket up: whoever comes first gets what it grants. One that was used, is over or never was is `None`, all alike.
    pub(crate) fn take(&mut self, now: Now, ticket: &Ticket) -> Option<Grant> {
        let Held { until, grant } = self.remove(&ticket.mark())?;
        (now.at < until).then_some(grant)
    }

    /// How many are unused, those included that are over and not forgotten yet.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    fn forget_over(&mut self, now: Timestamp) {
        while let Some((until, mark)) = self.order.first().copied()
            && until <= now
        {
            self.remove(&mark);
        }
    }

    fn remove(&mut self, mark: &Mark) -> Option<Held> {
        let held = self.held.remove(mark)?;
        self.order.remove(&(held.until, *mark));
        if let Some(count) = self.owners.get_mut(&held.grant.user) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&held.grant.user);
            }
        }
        Some(held)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tickets({})", self.held.len())
    }
}

#[cfg(test)]
mod exploration;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::Scopes;
    use crate::time::UnixTime;

    pub(super) const BOUNDS: Bounds = Bounds { all: 3, per_user: 2, life: Duration::from_secs(30) };

    pub(super) fn at(secs: u64) -> Now {
        Now { at: Timestamp::from_micros(secs * 1_000_000), unix: UnixTime::from_secs(1_800_000_000 + secs) }
    }

    pub(super) fn ticket(n: u8) -> Ticket {
        Ticket::from_bits([n; TICKET_BYTES])
    }

    pub(super) fn grant(sub: &str) -> Grant {
        Grant {
            issued_at: None,
            user: UserId::new(None, sub).unwrap(),
            expires: at(3600).unix,
            token_id: None,
            scopes: Scopes::default(),
        }
    }

    #[test]
    fn a_ticket_is_43_characters_in_one_spelling() {
        let text = ticket(0xfb).to_text();
        assert_eq!((text.len(), Ticket::parse(&text)), (43, Some(ticket(0xfb))));
        assert_eq!(format!("{:?}", ticket(7)), "Ticket(..)");
        let loose = format!("{}t", &text[..42]);
        for bad in ["", "x", &text[1..], &format!("{text}="), &format!("{text}A"), &format!(" {text}"), &loose, "a.b.c"]
        {
            assert_eq!(Ticket::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn it_is_good_once_and_for_its_life() {
        let mut tickets = Tickets::new(BOUNDS);
        tickets.issue(at(0), &ticket(1), grant("ann")).unwrap();
        tickets.issue(at(1), &ticket(2), grant("bob")).unwrap();
        assert_eq!(tickets.take(at(29), &ticket(9)), None);
        assert_eq!(tickets.take(at(29), &ticket(1)), Some(grant("ann")));
        assert_eq!(tickets.take(at(29), &ticket(1)), None);
        assert_eq!(tickets.take(at(31), &ticket(2)), None, "at its end it is over");
        assert_eq!((tickets.len(), tickets.order.len(), tickets.owners.len()), (0, 0, 0));
    }

    #[test]
    fn as_many_as_allowed_are_issued_and_one_more_when_the_first_is_over() {
        let mut tickets = Tickets::new(BOUNDS);
        tickets.issue(at(0), &ticket(1), grant("ann")).unwrap();
        tickets.issue(at(5), &ticket(2), grant("ann")).unwrap();
        let full = Err(Full { retry_after: Duration::from_secs(20) });
        assert_eq!(tickets.issue(at(10), &ticket(3), grant("ann")), full, "of one user");
        tickets.issue(at(10), &ticket(3), grant("bob")).unwrap();
        assert_eq!(tickets.issue(at(10), &ticket(4), grant("eve")), full, "in all");
        tickets.issue(at(30), &ticket(4), grant("eve")).unwrap();
        assert_eq!(tickets.take(at(31), &ticket(1)), None);
        tickets.take(at(31), &ticket(2)).unwrap();
        tickets.issue(at(31), &ticket(5), grant("ann")).unwrap();
    }

    #[test]
    fn bits_that_come_twice_stay_whose_they_were() {
        let mut tickets = Tickets::new(BOUNDS);
        tickets.issue(at(0), &ticket(1), grant("ann")).unwrap();
        tickets.issue(at(0), &ticket(1), grant("bob")).unwrap_err();
        assert_eq!(tickets.take(at(0), &ticket(1)), Some(grant("ann")));
    }

    #[test]
    fn debug_shows_nobody() {
        let mut tickets = Tickets::new(BOUNDS);
        tickets.issue(at(0), &ticket(1), grant("ann")).unwrap();
        assert_eq!(format!("{tickets:?}"), "Tickets(1)");
    }

    properties! {
        /// Against a list of what was issued: nothing is good twice, nothing after its life, and no count drifts.
        #[test]
        fn tickets_are_what_a_list_says(steps in prop::collection::vec((any::<bool>(), 0..6_u8, 0..3_u8, 0..12_u64), 1..80)) {
            let mut tickets = Tickets::new(BOUNDS);
            let mut list: Vec<(u8, u64, String)> = Vec::new();
            let mut now = 0;
            for (issues, bits, user, pause) in steps {
                now += pause;
                let user = format!("user-{user}");
                if issues {
                    list.retain(|(_, until, _)| now < *until);
                    let full = list.len() >= BOUNDS.all
                        || list.iter().filter(|(_, _, of)| *of == user).count() >= BOUNDS.per_user
                        || list.iter().any(|(known, ..)| *known == bits);
                    prop_assert_eq!(tickets.issue(at(now), &ticket(bits), grant(&user)).is_err(), full);
                    if !full {
                        list.push((bits, now + 30, user));
                    }
                } else {
                    let place = list.iter().position(|(known, ..)| *known == bits);
                    let held = place.map(|place| list.remove(place)).filter(|(_, until, _)| now < *until);
                    let taken = tickets.take(at(now), &ticket(bits));
                    prop_assert_eq!(taken.map(|grant| grant.user.sub().to_owned()), held.map(|(_, _, user)| user));
                }
                prop_assert_eq!(tickets.len(), list.len());
                prop_assert_eq!(tickets.order.len(), tickets.held.len());
                prop_assert_eq!(tickets.owners.values().sum::<usize>(), tickets.held.len());
            }
        }
    }
}
