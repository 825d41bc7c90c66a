//! A bounded queue with one reader and an absorbing end.

use std::collections::VecDeque;
use std::task::Waker;

use super::atomic::{AtomicU64, Ordering};
use super::{Lock, ReadyMark};
use crate::time::Timestamp;

/// What many threads leave for the one task that owns a socket, a run or the application's requests.
///
/// Closing is absorbing: what was pushed before it is still read, nothing after it is accepted, and the first reason
/// stays. `E` is the reason.
#[derive(Debug)]
pub struct Mailbox<T, E> {
    ready: ReadyMark,
    queue: Lock<Queue<T, E>>,
    /// Microseconds of the hub's clock.
    dead_at: AtomicU64,
}

#[derive(Debug)]
struct Queue<T, E> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    max_bytes: usize,
    closed: Option<E>,
}

/// Why a push was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The mailbox is closed.
    #[error("the mailbox is closed")]
    Closed,
    /// Over its bytes.
    #[error("the mailbox is full")]
    Full,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Popped<T, E> {
    /// The oldest item.
    Item(T),
    /// Nothing now.
    Empty,
    /// Nothing ever again, and why.
    Closed(E),
}

impl<T, E: Clone> Mailbox<T, E> {
    /// An open, empty mailbox that accepts items of `max_bytes` in all.
    pub fn new(max_bytes: usize) -> Self {
        let queue = Queue { items: VecDeque::new(), bytes: 0, max_bytes, closed: None };
        Self { ready: ReadyMark::default(), queue: Lock::new(queue), dead_at: AtomicU64::new(u64::MAX) }
    }

    /// From here on it accepts items of at least `max_bytes` in all.
    pub fn widen(&self, max_bytes: usize) {
        let mut queue = self.queue.lock();
        queue.max_bytes = queue.max_bytes.max(max_bytes);
    }

    /// Puts `item`, which counts as `bytes`. The waker is to be fired once no lock is held.
    ///
    /// # Errors
    /// When the mailbox is closed or full; the item is dropped.
    pub fn push(&self, item: T, bytes: usize) -> Result<Option<Waker>, PushError> {
        self.offer(item, bytes).map_err(|(_, error)| error)
    }

    /// As [`Mailbox::push`], with the item back where it is not accepted.
    ///
    /// # Errors
    /// When the mailbox is closed or full.
    pub fn offer(&self, item: T, bytes: usize) -> Result<Option<Waker>, (T, PushError)> {
        self.put(item, bytes, |queue| queue.max_bytes, |_, _| false)
    }

    /// As [`Mailbox::push`], and takes those out that `superseded` names, whose bytes are free for it.
    ///
    /// # Errors
    /// As [`Mailbox::push`]; nothing is taken out then.
    pub fn replace(
        &self,
        item: T,
        bytes: usize,
        superseded: impl Fn(&T, &T) -> bool,
    ) -> Result<Option<Waker>, PushError> {
        self.put(item, bytes, |queue| queue.max_bytes, superseded).map_err(|(_, error)| error)
    }

    fn put(
        &self,
        item: T,
        bytes: usize,
        max: impl FnOnce(&Queue<T, E>) -> usize,
        superseded: impl Fn(&T, &T) -> bool,
    ) -> Result<Option<Waker>, (T, PushError)> {
        let mut queue = self.queue.lock();
        if queue.closed.is_some() {
            return Err((item, PushError::Closed));
        }
        let goes = |earlier: &T| superseded(&item, earlier);
        let freed = queue.items.iter().filter(|(earlier, _)| goes(earlier)).map(|(_, bytes)| *bytes).sum();
        let after = queue.bytes.saturating_sub(freed).saturating_add(bytes);
        if after > max(&queue) {
            return Err((item, PushError::Full));
        }
        queue.items.retain(|(earlier, _)| !goes(earlier));
        queue.items.push_back((item, bytes));
        queue.bytes = after;
        drop(queue);
        Ok(self.ready.mark())
    }

    /// As [`Mailbox::push`], but only as long as half of the bytes stay free for what must arrive.
    ///
    /// # Errors
    /// As [`Mailbox::push`].
    pub fn push_spare(&self, item: T, bytes: usize) -> Result<Option<Waker>, PushError> {
        let spare = |queue: &Queue<T, E>| queue.max_bytes / 2;
        self.put(item, bytes, spare, |_, _| false).map_err(|(_, error)| error)
    }

    /// Notes from when on whoever is behind the reader seems to be dead, for others to look at; [`Timestamp::MAX`] where nothing
    /// says so. It orders nothing.
    pub fn note_dead_at(&self, at: Timestamp) {
        self.dead_at.store(at.as_micros(), Ordering::Relaxed);
    }

    /// From when on whoever is behind the reader seems to be dead, as far as was noted.
    pub fn dead_at(&self) -> Timestamp {
        Timestamp::from_micros(self.dead_at.load(Ordering::Relaxed))
    }

    /// Marks the reader without leaving anything: "look at what you read elsewhere".
    #[must_use = "the reader sleeps until its waker is fired"]
    pub fn mark(&self) -> Option<Waker> {
        self.ready.mark()
    }

    /// Ends the mailbox; the first reason stays. The waker is to be fired once no lock is held.
    #[must_use = "the reader sleeps until its waker is fired"]
    pub fn close(&self, reason: E) -> Option<Waker> {
        self.queue.lock().closed.get_or_insert(reason);
        self.ready.mark()
    }

    /// Registers `waker` and takes the mark; the reader may only sleep after a `false`.
    pub fn take_mark(&self, waker: &Waker) -> bool {
        self.ready.take(waker)
    }

    /// Whether the reader has been told to look, and has not yet.
    #[cfg(test)]
    pub(crate) fn is_marked(&self) -> bool {
        self.ready.is_marked()
    }

    /// Why it is closed, whatever is left in it.
    pub fn end(&self) -> Option<E> {
        self.queue.lock().closed.clone()
    }

    /// Whether nothing waits to be read.
    pub fn is_empty(&self) -> bool {
        self.queue.lock().items.is_empty()
    }

    /// The oldest item, or what there is instead.
    pub fn pop(&self) -> Popped<T, E> {
        let mut queue = self.queue.lock();
        if let Some((item, bytes)) = queue.items.pop_front() {
            queue.bytes = queue.bytes.saturating_sub(bytes);
            if queue.items.is_empty() {
                // An idle connection holds no buffer.
                queue.items = VecDeque::new();
            }
            return Popped::Item(item);
        }
        queue.closed.clone().map_or(Popped::Empty, Popped::Closed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_before_the_end_is_read_and_nothing_after_it_is_taken() {
        let mailbox: Mailbox<u8, &str> = Mailbox::new(8);
        mailbox.push(1, 4).unwrap();
        assert_eq!(mailbox.end(), None);
        let _ = mailbox.close("first");
        let _ = mailbox.close("second");
        assert_eq!(mailbox.end(), Some("first"));
        assert_eq!(mailbox.push(2, 1).unwrap_err(), PushError::Closed);
        assert_eq!(mailbox.pop(), Popped::Item(1));
        assert_eq!(mailbox.pop(), Popped::Closed("first"));
    }

    #[test]
    fn what_is_superseded_makes_room() {
        let mailbox: Mailbox<u8, ()> = Mailbox::new(8);
        mailbox.push(1, 4).unwrap();
        for item in [3, 5, 7] {
            mailbox.replace(item, 4, |_, earlier| *earlier > 2).unwrap();
        }
        assert_eq!(mailbox.pop(), Popped::Item(1));
        assert_eq!(mailbox.pop(), Popped::Item(7));
        assert_eq!(mailbox.pop(), Popped::Empty);
        mailbox.push(1, 8).unwrap();
    }

    #[test]
    fn what_is_refused_supersedes_nothing() {
        let mailbox: Mailbox<u8, ()> = Mailbox::new(8);
        mailbox.push(1, 4).unwrap();
        assert_eq!(mailbox.replace(2, 9, |_, _| true).unwrap_err(), PushError::Full);
        let _ = mailbox.close(());
        assert_eq!(mailbox.replace(3, 4, |_, _| true).unwrap_err(), PushError::Closed);
        assert_eq!(mailbox.pop(), Popped::Item(1));
        assert_eq!(mailbox.pop(), Popped::Closed(()));
    }

    #[test]
    fn what_may_be_lost_leaves_half_of_the_room() {
        let mailbox: Mailbox<u8, ()> = Mailbox::new(8);
        mailbox.push_spare(1, 4).unwrap();
        assert_eq!(mailbox.push_spare(2, 1).unwrap_err(), PushError::Full);
        mailbox.push(3, 4).unwrap();
        mailbox.widen(16);
        assert_eq!(mailbox.push_spare(4, 1).unwrap_err(), PushError::Full);
        mailbox.push(5, 8).unwrap();
    }

    #[test]
    fn the_bytes_are_bounded_and_given_back() {
        let mailbox: Mailbox<u8, ()> = Mailbox::new(8);
        mailbox.push(1, 4).unwrap();
        mailbox.push(2, 4).unwrap();
        assert_eq!(mailbox.push(3, 1).unwrap_err(), PushError::Full);
        assert_eq!(mailbox.offer(4, 1).unwrap_err(), (4, PushError::Full));
        assert_eq!(mailbox.pop(), Popped::Item(1));
        mailbox.push(3, 4).unwrap();
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::{Mailbox, Popped, PushError};
    use loom::future::block_on;
    use loom::sync::Arc;
    use loom::thread;
    use std::task::{Poll, Waker};

    /// Property: a push against a close is either refused or read before the end, and the reader sees the end.
    #[test]
    fn a_push_against_a_close_is_refused_or_read() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(model.preemption_bound.unwrap_or(2));
        model.check(|| {
            let mailbox = Arc::new(Mailbox::<u8, ()>::new(8));
            let pusher = {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || match mailbox.push(1, 1) {
                    Ok(waker) => {
                        if let Some(waker) = waker {
                            waker.wake();
                        }
                        true
                    }
                    Err(_) => false,
                })
            };
            let closer = {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || {
                    if let Some(waker) = mailbox.close(()) {
                        waker.wake();
                    }
                })
            };
            let mut read = false;
            block_on(std::future::poll_fn(|cx| {
                loop {
                    match mailbox.pop() {
                        Popped::Item(_) => read = true,
                        Popped::Closed(()) => return Poll::Ready(()),
                        Popped::Empty => {
                            if !mailbox.take_mark(cx.waker()) {
                                return Poll::Pending;
                            }
                        }
                    }
                }
            }));
            assert_eq!(pusher.join().unwrap(), read);
            closer.join().unwrap();
        });
    }

    /// Property: of a full mailbox that is read and closed meanwhile, each item offered is read or comes back, once.
    #[test]
    fn what_is_offered_is_read_or_comes_back() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(model.preemption_bound.unwrap_or(2));
        model.check(|| {
            let mailbox = Arc::new(Mailbox::<u8, ()>::new(1));
            let offerer = {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || {
                    let mut back = Vec::new();
                    for item in [1, 2] {
                        match mailbox.offer(item, 1) {
                            Ok(waker) => waker.into_iter().for_each(Waker::wake),
                            Err((item, _)) => back.push(item),
                        }
                    }
                    mailbox.close(()).into_iter().for_each(Waker::wake);
                    back
                })
            };
            let mut all = read_all(&mailbox);
            all.extend(offerer.join().unwrap());
            all.sort_unstable();
            assert_eq!(all, [1, 2]);
        });
    }

    /// How one item takes the place of those of its own last digit.
    type Replace = fn(&Mailbox<u8, ()>, u8) -> bool;

    fn fire(outcome: Result<Option<Waker>, PushError>) -> bool {
        outcome.map(|waker| waker.into_iter().for_each(Waker::wake)).is_ok()
    }

    fn same(item: &u8, earlier: &u8) -> bool {
        item % 10 == earlier % 10
    }

    fn replace(mailbox: &Mailbox<u8, ()>, item: u8) -> bool {
        fire(mailbox.replace(item, 1, same))
    }

    /// Broken on purpose: what is superseded goes under one lock, and its successor comes under another.
    fn replace_in_two_steps(mailbox: &Mailbox<u8, ()>, item: u8) -> bool {
        let mut queue = mailbox.queue.lock();
        let before = queue.items.len();
        queue.items.retain(|(earlier, _)| !same(&item, earlier));
        queue.bytes -= before - queue.items.len();
        drop(queue);
        fire(mailbox.push(item, 1))
    }

    /// Broken on purpose: the bytes of what is superseded stay counted.
    fn replace_without_giving_back(mailbox: &Mailbox<u8, ()>, item: u8) -> bool {
        mailbox.queue.lock().items.retain(|(earlier, _)| !same(&item, earlier));
        fire(mailbox.push(item, 1))
    }

    /// Reads to the end; the bytes are those of what waits, and within the bound, all the time.
    fn read_all(mailbox: &Mailbox<u8, ()>) -> Vec<u8> {
        let mut read = Vec::new();
        block_on(std::future::poll_fn(|cx| {
            loop {
                let popped = mailbox.pop();
                let queue = mailbox.queue.lock();
                assert!(queue.bytes == queue.items.len() && queue.bytes <= 2, "{} bytes", queue.bytes);
                drop(queue);
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

    fn check_replace(replace: Replace) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(model.preemption_bound.unwrap_or(2));
        model.check(move || {
            let mailbox = Arc::new(Mailbox::<u8, ()>::new(2));
            assert!(fire(mailbox.push(1, 1)) && fire(mailbox.push(5, 1)), "room for two");
            let replacer = {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || replace(&mailbox, 11))
            };
            let closer = {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || mailbox.close(()).into_iter().for_each(Waker::wake))
            };
            let read = read_all(&mailbox);
            let replaced = replacer.join().unwrap();
            closer.join().unwrap();
            assert!(read.contains(&5), "superseded by nothing, and still lost: {read:?}");
            assert!(read.contains(&1) || read.contains(&11), "superseded and superseding are both lost: {read:?}");
            assert_eq!(read.contains(&11), replaced, "{read:?}");
            assert!(read.is_sorted_by_key(|item| u8::from(*item == 11)), "overtaken: {read:?}");
        });
    }

    /// Property: an item is read, or gives way to one that is read, against pop and close; the bytes are never over.
    #[test]
    fn what_is_superseded_is_read_or_its_successor_is() {
        check_replace(replace);
    }

    /// Property: the model above finds the item that is lost between two locks.
    #[test]
    #[should_panic(expected = "are both lost")]
    fn a_replacement_in_two_steps_is_found_out() {
        check_replace(replace_in_two_steps);
    }

    /// Property: the model above finds bytes that are not given back.
    #[test]
    #[should_panic(expected = "bytes")]
    fn a_replacement_that_keeps_the_bytes_is_found_out() {
        check_replace(replace_without_giving_back);
    }
}
