//! A bounded queue with one reader and an absorbing end.

use std::collections::VecDeque;
use std::task::Waker;

use super::{Lock, Moment, ReadyMark};
use crate::time::Timestamp;

/// The bit of a mark that says: look into the mailbox.
pub const MAILBOX_BIT: u8 = 1;

/// What many threads leave for the one task that owns a socket, a run or the application's requests.
///
/// Closing is absorbing: what was pushed before it is still read, nothing after it is accepted, and the first reason
/// stays. `E` is the reason.
#[derive(Debug)]
pub struct Mailbox<T, E> {
    ready: ReadyMark,
    queue: Lock<Queue<T, E>>,
    dead_at: Moment,
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
        Self { ready: ReadyMark::default(), queue: Lock::new(queue), dead_at: Moment::default() }
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
        broken!(ReplacesInTwoSteps => self.replace_in_two_steps(item, bytes, superseded));
        broken!(KeepsTheBytes => self.replace_without_giving_back(item, bytes, superseded));
        self.put(item, bytes, |queue| queue.max_bytes, superseded).map_err(|(_, error)| error)
    }

    fn put(
        &self,
        item: T,
        bytes: usize,
        max: impl FnOnce(&Queue<T, E>) -> usize,
        superseded: impl Fn(&T, &T) -> bool,
    ) -> Result<Option<Waker>, (T, PushError)> {
        broken!(PutsInTwoSteps => self.put_in_two_steps(item, bytes, max));
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
        self.dead_at.set(at);
    }

    /// From when on whoever is behind the reader seems to be dead, as far as was noted.
    pub fn dead_at(&self) -> Timestamp {
        self.dead_at.get()
    }

    /// Marks the reader without leaving anything: "look at what you read elsewhere".
    #[must_use = "the reader sleeps until its waker is fired"]
    pub fn mark(&self) -> Option<Waker> {
        self.mark_with(MAILBOX_BIT)
    }

    /// As [`Mailbox::mark`], with bits that say where to look; [`MAILBOX_BIT`] is set by whatever is left in it, and by its end.
    #[must_use = "the reader sleeps until its waker is fired"]
    pub fn mark_with(&self, bits: u8) -> Option<Waker> {
        self.ready.mark_with(bits)
    }

    /// Ends the mailbox; the first reason stays. The waker is to be fired once no lock is held.
    #[must_use = "the reader sleeps until its waker is fired"]
    pub fn close(&self, reason: E) -> Option<Waker> {
        broken!(ClosesAfterTheMark => self.close_after_the_mark(reason));
        broken!(KeepsTheLastReason => self.close_again(reason));
        self.queue.lock().closed.get_or_insert(reason);
        self.ready.mark()
    }

    /// Registers `waker` and takes the mark; the reader may only sleep after a `false`.
    pub fn take_mark(&self, waker: &Waker) -> bool {
        self.ready.take(waker)
    }

    /// As [`Mailbox::take_mark`], with the bits of the mark; 0 is none.
    pub fn take_bits(&self, waker: &Waker) -> u8 {
        self.ready.take_bits(waker)
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

    /// What waits to be read, in bytes.
    pub fn bytes(&self) -> usize {
        self.queue.lock().bytes
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

#[cfg(all(test, loom))]
mod models;

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
