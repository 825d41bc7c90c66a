//! Tickets, exhaustively: four of two users, and every order of issuing, using and letting time pass. A ticket that was used is
//! shown again, and its bits may be drawn again.
//!
//! By the invariant groups of the design: a ticket is good at most once, for its user alone and within its life, and no count drifts
//! (6); as many as allowed are kept, of a user and in all (1).

use super::tests::{BOUNDS, at, grant, ticket};
use super::*;
use crate::explore::{Fingerprint, Model, explore};

const USERS: [&str; 2] = ["ann", "bob"];
/// One more than there may be at once.
const TICKETS: u8 = 4;
/// Two pauses leave a ticket good, three do not.
const PAUSE: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Issue(u8, usize),
    Take(u8),
    Wait,
}

#[derive(Clone)]
struct World {
    tickets: Tickets,
    /// Whose it is and when it was issued, of each that was not used since.
    issued: [Option<(usize, u64)>; TICKETS as usize],
    now: u64,
    issues: u32,
    takes: u32,
    waits: u32,
}

impl World {
    fn good(&self) -> impl Iterator<Item = (u8, usize)> {
        let now = self.now;
        (0..).zip(self.issued).filter_map(move |(number, issued)| {
            issued.filter(|(_, since)| at(now).at < at(*since).at + BOUNDS.life).map(|(user, _)| (number, user))
        })
    }

    fn issue(&mut self, number: u8, user: usize) {
        self.issues -= 1;
        let of_user = self.good().filter(|(_, of)| *of == user).count();
        let is_known = self.good().any(|(known, _)| known == number);
        let is_full = self.good().count() >= BOUNDS.all || of_user >= BOUNDS.per_user;
        let issued = self.tickets.issue(at(self.now), &ticket(number), grant(USERS[user]));
        assert_eq!(issued.is_err(), is_full || is_known);
        if issued.is_ok() {
            self.issued[usize::from(number)] = Some((user, self.now));
        }
    }

    fn take(&mut self, number: u8) {
        self.takes -= 1;
        let good = self.good().find(|(known, _)| *known == number).map(|(_, user)| grant(USERS[user]));
        assert_eq!(self.tickets.take(at(self.now), &ticket(number)), good);
        self.issued[usize::from(number)] = None;
    }
}

impl Model for World {
    type Op = Op;

    fn ops(&self) -> Vec<Op> {
        let mut ops = Vec::new();
        for number in 0..TICKETS {
            // Bits are alike: the first to be drawn are the first.
            let is_next = number == 0 || self.issued[usize::from(number) - 1].is_some();
            if self.issues > 0 && is_next {
                ops.extend((0..USERS.len()).map(|user| Op::Issue(number, user)));
            }
            ops.extend((self.takes > 0).then_some(Op::Take(number)));
        }
        ops.extend((self.waits > 0).then_some(Op::Wait));
        ops
    }

    fn play(&mut self, op: &Op) {
        match *op {
            Op::Issue(number, user) => self.issue(number, user),
            Op::Take(number) => self.take(number),
            Op::Wait => {
                self.waits -= 1;
                self.now += PAUSE;
            }
        }
        // Those that are over may be forgotten late, those that are good never are.
        let Tickets { held, order, owners, .. } = &self.tickets;
        assert!(held.len() >= self.good().count() && held.len() <= BOUNDS.all);
        assert_eq!((order.len(), owners.values().sum::<usize>()), (held.len(), held.len()));
        assert!(owners.values().all(|count| (1..=BOUNDS.per_user).contains(count)));
    }

    fn fingerprint(&self, out: &mut Fingerprint) {
        let Self { tickets, issued, now, issues, takes, waits } = self;
        out.shown(&(&tickets.order, &tickets.owners, issued, now, issues, takes, waits));
        tickets.held.iter().for_each(|(mark, held)| out.shown(&(mark, held.until, &held.grant)));
    }
}

#[test]
fn every_order_of_issuing_and_using_tickets() {
    let tickets = Tickets::new(BOUNDS);
    let start = World { tickets, issued: [None; TICKETS as usize], now: 0, issues: 4, takes: 3, waits: 4 };
    explore("tickets", start).is_all("tickets", 18_792);
}
