//! Pushers, closers and one reader of a mailbox, against each other.

use std::future::poll_fn;
use std::task::{Poll, Waker};

use loom::future::block_on;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

use super::{Mailbox, Popped, PushError, Queue};
use crate::sync::models::check;

/// Broken on purpose.
impl<T, E: Clone> Mailbox<T, E> {
    pub(super) fn put_in_two_steps(
        &self,
        item: T,
        bytes: usize,
        max: impl FnOnce(&Queue<T, E>) -> usize,
    ) -> Result<Option<Waker>, (T, PushError)> {
        let queue = self.queue.lock();
        if queue.closed.is_some() {
            return Err((item, PushError::Closed));
        }
        if queue.bytes + bytes > max(&queue) {
            return Err((item, PushError::Full));
        }
        drop(queue);
        let mut queue = self.queue.lock();
        queue.items.push_back((item, bytes));
        queue.bytes += bytes;
        drop(queue);
        Ok(self.ready.mark())
    }

    pub(super) fn replace_in_two_steps(
        &self,
        item: T,
        bytes: usize,
        superseded: impl Fn(&T, &T) -> bool,
    ) -> Result<Option<Waker>, PushError> {
        let mut queue = self.queue.lock();
        queue.items.retain(|(earlier, _)| !superseded(&item, earlier));
        queue.bytes = queue.items.iter().map(|(_, bytes)| *bytes).sum();
        drop(queue);
        self.push(item, bytes)
    }

    pub(super) fn replace_without_giving_back(
        &self,
        item: T,
        bytes: usize,
        superseded: impl Fn(&T, &T) -> bool,
    ) -> Result<Option<Waker>, PushError> {
        self.queue.lock().items.retain(|(earlier, _)| !superseded(&item, earlier));
        self.push(item, bytes)
    }

    pub(super) fn close_after_the_mark(&self, reason: E) -> Option<Waker> {
        let waker = self.ready.mark();
        self.queue.lock().closed.get_or_insert(reason);
        waker
    }

    pub(super) fn close_again(&self, reason: E) -> Option<Waker> {
        self.queue.lock().closed = Some(reason);
        self.ready.mark()
    }
}

type Numbers<E> = Arc<Mailbox<u8, E>>;

fn numbers<E: Clone>(max_bytes: usize) -> Numbers<E> {
    Arc::new(Mailbox::new(max_bytes))
}

/// Runs `step` on the mailbox in a thread of its own.
fn with<E, R>(mailbox: &Numbers<E>, step: impl FnOnce(&Mailbox<u8, E>) -> R + 'static) -> JoinHandle<R>
where
    E: 'static,
    R: 'static,
{
    let mailbox = Arc::clone(mailbox);
    thread::spawn(move || step(&mailbox))
}

fn fire(outcome: Result<Option<Waker>, PushError>) -> bool {
    outcome.map(|waker| waker.into_iter().for_each(Waker::wake)).is_ok()
}

fn close<E: Clone>(mailbox: &Mailbox<u8, E>, reason: E) {
    mailbox.close(reason).into_iter().for_each(Waker::wake);
}

/// Offers each of them, one byte large. Answers what has come back.
fn offer<E: Clone>(mailbox: &Mailbox<u8, E>, items: [u8; 2]) -> Vec<u8> {
    let offered = items.into_iter().map(|item| mailbox.offer(item, 1));
    let refused = offered.filter_map(|outcome| outcome.map(|waker| waker.into_iter().for_each(Waker::wake)).err());
    refused.map(|(item, _)| item).collect()
}

/// The bytes are those of what waits, and within the bound.
fn look_at_the_bytes<E: Clone>(mailbox: &Mailbox<u8, E>) {
    let queue = mailbox.queue.lock();
    let waiting: usize = queue.items.iter().map(|(_, bytes)| *bytes).sum();
    assert_eq!(queue.bytes, waiting, "the bytes are not those of what waits");
    assert!(queue.bytes <= queue.max_bytes, "{} bytes are over the bound", queue.bytes);
}

/// Reads to the end, and looks at the bytes all the time.
fn read_all(mailbox: &Mailbox<u8, ()>) -> Vec<u8> {
    let mut read = Vec::new();
    block_on(poll_fn(|cx| {
        loop {
            let popped = mailbox.pop();
            look_at_the_bytes(mailbox);
            match popped {
                Popped::Item(item) => read.push(item),
                Popped::Closed(()) => return Poll::Ready(()),
                Popped::Empty => {
                    if !mailbox.take_mark(cx.waker()) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }));
    read
}

/// Property: a push against a close is either refused or read before the end, and the reader sees the end.
#[test]
fn a_push_against_a_close_is_refused_or_read() {
    check(|| {
        let mailbox = numbers(8);
        let pusher = with(&mailbox, |mailbox| fire(mailbox.push(1, 1)));
        let closer = with(&mailbox, |mailbox| close(mailbox, ()));
        let read = read_all(&mailbox);
        let pushed = pusher.join().unwrap();
        closer.join().unwrap();
        assert_eq!(read, if pushed { vec![1] } else { vec![] }, "it is neither read nor refused");
    });
}

/// Property: of a full mailbox that is read and closed meanwhile, each item offered is read or comes back, once.
#[test]
fn what_is_offered_is_read_or_comes_back() {
    check(|| {
        let mailbox = numbers(1);
        let offerer = with(&mailbox, |mailbox| {
            let back = offer(mailbox, [1, 2]);
            close(mailbox, ());
            back
        });
        let mut all = read_all(&mailbox);
        all.extend(offerer.join().unwrap());
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    });
}

/// Property: of a reader that goes while others push and close, nothing is left in the mailbox: what was pushed is read, given up
/// by the reader, or comes back, once.
#[test]
fn a_reader_that_goes_leaves_nothing_behind() {
    check(|| {
        let mailbox = numbers(8);
        let offerer = with(&mailbox, |mailbox| offer(mailbox, [1, 2]));
        let closer = with(&mailbox, |mailbox| close(mailbox, "the server shuts down"));
        let mut all = Vec::new();
        if let Popped::Item(item) = mailbox.pop() {
            all.push(item);
        }
        // As the receiver of requests does it when it is dropped.
        let _ = mailbox.close("the reader is gone");
        while let Popped::Item(item) = mailbox.pop() {
            all.push(item);
        }
        all.extend(offerer.join().unwrap());
        closer.join().unwrap();
        assert!(mailbox.is_empty(), "something is left in a closed mailbox");
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    });
}

/// Property: of two pushers that each end a mailbox which is too full for them, against a reader, one is the first, and its reason is
/// the end for everybody; the bytes are never over the bound, and what was accepted is read before the end.
#[test]
fn an_overflow_ends_it_once() {
    check(|| {
        let mailbox = numbers(3);
        assert!(fire(mailbox.push(9, 2)), "room for one");
        let pushers = [1, 2].map(|item| {
            with(&mailbox, move |mailbox| match mailbox.push(item, 2) {
                Ok(waker) => {
                    waker.into_iter().for_each(Waker::wake);
                    Ok(item)
                }
                Err(_) => {
                    close(mailbox, item);
                    Err(mailbox.end())
                }
            })
        });
        assert_eq!(mailbox.pop(), Popped::Item(9));
        look_at_the_bytes(&mailbox);
        let outcomes = pushers.map(|pusher| pusher.join().unwrap());
        look_at_the_bytes(&mailbox);
        for accepted in outcomes.into_iter().flatten() {
            assert_eq!(mailbox.pop(), Popped::Item(accepted));
        }
        let end = mailbox.end();
        assert_eq!(mailbox.pop(), end.map_or(Popped::Empty, Popped::Closed));
        assert!(outcomes.iter().all(|outcome| outcome.is_ok() || *outcome == Err(end)), "two ends: {outcomes:?}");
    });
}

/// Property: an item is read, or gives way to one that is read, against pop and close; the bytes are never over.
#[test]
fn what_is_superseded_is_read_or_its_successor_is() {
    check(|| {
        let mailbox = numbers(2);
        assert!(fire(mailbox.push(1, 1)) && fire(mailbox.push(5, 1)), "room for two");
        // One takes the place of those of its own last digit.
        let replacer =
            with(&mailbox, |mailbox| fire(mailbox.replace(11, 1, |item, earlier| item % 10 == earlier % 10)));
        let closer = with(&mailbox, |mailbox| close(mailbox, ()));
        let read = read_all(&mailbox);
        let replaced = replacer.join().unwrap();
        closer.join().unwrap();
        assert!(read.contains(&5), "superseded by nothing, and still lost: {read:?}");
        assert!(read.contains(&1) || read.contains(&11), "superseded and superseding are both lost: {read:?}");
        assert_eq!(read.contains(&11), replaced, "{read:?}");
        assert!(read.is_sorted_by_key(|item| u8::from(*item == 11)), "overtaken: {read:?}");
    });
}
