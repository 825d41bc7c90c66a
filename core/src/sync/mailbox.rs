//! A bounded queue with one reader and an absorbing end.

use std::collections::VecDeque;
use std::task::Waker;

use super::lock::Guard;
use super::{Lock, ReadyMark};

/// What many threads leave for the one task that owns a socket, a run or the application's requests.
///
/// Closing is absorbing: what was pushed before it is still read, nothing after it is accepted, and the first reason
/// stays. `E` is the reason.
#[derive(Debug)]
pub struct Mailbox<T, E> {
    ready: ReadyMark,
    queue: Lock<Queue<T, E>>,
    max_bytes: usize,
}

#[derive(Debug)]
struct Queue<T, E> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
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
        let queue = Queue { items: VecDeque::new(), bytes: 0, closed: None };
        Self { ready: ReadyMark::default(), queue: Lock::new(queue), max_bytes }
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
        self.push_to(self.queue.lock(), item, bytes)
    }

    fn push_to(
        &self,
        mut queue: Guard<'_, Queue<T, E>>,
        item: T,
        bytes: usize,
    ) -> Result<Option<Waker>, (T, PushError)> {
        if queue.closed.is_some() {
            return Err((item, PushError::Closed));
        }
        let after = queue.bytes.saturating_add(bytes);
        if after > self.max_bytes {
            return Err((item, PushError::Full));
        }
        queue.bytes = after;
        queue.items.push_back((item, bytes));
        drop(queue);
        Ok(self.ready.mark())
    }

    /// As [`Mailbox::push`], after those that `superseded` names are taken out.
    ///
    /// # Errors
    /// As [`Mailbox::push`]; what was superseded is out all the same.
    pub fn replace(
        &self,
        item: T,
        bytes: usize,
        superseded: impl Fn(&T, &T) -> bool,
    ) -> Result<Option<Waker>, PushError> {
        let mut queue = self.queue.lock();
        let mut freed = 0_usize;
        queue.items.retain(|(earlier, bytes)| {
            let goes = superseded(&item, earlier);
            freed += if goes { *bytes } else { 0 };
            !goes
        });
        queue.bytes = queue.bytes.saturating_sub(freed);
        self.push_to(queue, item, bytes).map_err(|(_, error)| error)
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
        let _ = mailbox.close("first");
        let _ = mailbox.close("second");
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
    use super::{Mailbox, Popped};
    use loom::future::block_on;
    use loom::sync::Arc;
    use loom::thread;
    use std::task::Poll;

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
}
