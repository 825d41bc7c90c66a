//! The real lock and mailbox alone, in the order in which the hub takes them: a publisher fills mailboxes under its shard's
//! lock, a reader takes its mailbox and the shard one after the other.

use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

use super::{Hand, ann};
use crate::auth::{Grant, Scopes, Ticket, TicketBounds, Tickets};
use crate::sync::faults::{Fault, is_on};
use crate::sync::models::check;
use crate::sync::{Lock, Mailbox, Popped};
use crate::time::Clock;

/// A log under a shard's lock, and the mailbox of its one reader.
struct Small {
    log: Lock<Vec<usize>>,
    mail: Mailbox<usize, ()>,
}

impl Small {
    /// As the hub does it: append and leave word under the lock, wake after it.
    fn publish(&self) {
        let mut log = self.log.lock();
        let next = log.len() + 1;
        log.push(next);
        let waker = self.mail.push(next, 1).unwrap();
        drop(log);
        waker.into_iter().for_each(Waker::wake);
    }
}

#[derive(Default)]
struct Seen {
    words: Vec<usize>,
    entries: Vec<usize>,
    cursor: usize,
    nested: bool,
}

impl Seen {
    fn look(&mut self, small: &Small) {
        if is_on(Fault::ReaderNestsLocks) && !std::mem::replace(&mut self.nested, true) {
            // What asks whether an item is superseded is called under the mailbox's lock.
            let _ = small.mail.replace(0, 0, |_, _| small.log.lock().is_empty());
        }
        while let Popped::Item(word) = small.mail.pop() {
            self.words.push(word);
        }
        let log = small.log.lock();
        self.entries.extend(&log[self.cursor..]);
        self.cursor = log.len();
        if is_on(Fault::ReaderTakesTwoLocks) {
            drop(log);
            self.cursor = small.log.lock().len();
        }
    }
}

/// Property: with the mailbox's lock inside the shard's and never the other way round, nothing waits for ever and nothing is read twice.
#[test]
fn a_shard_and_a_mailbox_one_after_the_other() {
    check(|| {
        let small = Arc::new(Small { log: Lock::new(Vec::new()), mail: Mailbox::new(8) });
        let publishers = [0, 1].map(|_| {
            let small = Arc::clone(&small);
            thread::spawn(move || small.publish())
        });
        let mut seen = Seen::default();
        block_on(poll_fn(|cx| {
            if is_on(Fault::ReaderLooksFirst) {
                seen.look(&small);
                let _ = small.mail.take_mark(cx.waker());
            } else {
                while small.mail.take_mark(cx.waker()) {
                    seen.look(&small);
                }
            }
            if seen.cursor < 2 { Poll::Pending } else { Poll::Ready(()) }
        }));
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        seen.look(&small);
        seen.words.retain(|word| *word != 0);
        assert_eq!((seen.words, seen.entries), (vec![1, 2], vec![1, 2]));
    });
}

/// Two connects show one ticket. Answers in how many the ticket was good.
fn takes_one_ticket() -> usize {
    let bounds = TicketBounds { all: 4, per_user: 4, life: Duration::from_secs(30) };
    let ticket = Ticket::from_bits([7; 32]);
    let expires = Hand::default().now().unix + Duration::from_secs(60);
    let grant = Grant { user: ann(), issued_at: None, expires, token_id: None, scopes: Scopes::default() };
    let mut tickets = Tickets::new(bounds);
    tickets.issue(Hand::default().now(), &ticket, grant).unwrap();
    let tickets = Arc::new(Lock::new(tickets));
    let take = {
        let tickets = Arc::clone(&tickets);
        move || {
            if !is_on(Fault::TakesATicketInTwoSteps) {
                return tickets.lock().take(Hand::default().now(), &ticket).is_some();
            }
            let good = tickets.lock().clone().take(Hand::default().now(), &ticket).is_some();
            tickets.lock().take(Hand::default().now(), &ticket);
            good
        }
    };
    let other = thread::spawn(take.clone());
    let won = usize::from(take()) + usize::from(other.join().unwrap());
    assert_eq!(tickets.lock().len(), 0);
    won
}

/// Property: of two connects that show one ticket at once, exactly one comes in.
#[test]
fn a_ticket_is_taken_by_exactly_one_of_two() {
    check(|| assert_eq!(takes_one_ticket(), 1));
}
