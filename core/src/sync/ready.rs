//! A mark that says "look again", set by many and taken by one.

use std::task::Waker;

use super::Lock;
use super::atomic::{AtomicU8, Ordering};

/// Set by publishers, taken by the one task that reads. A mark is a set of bits, which say where to look.
///
/// The reader registers its waker *before* it looks, the publisher sets the mark *before* it takes the waker: whichever
/// comes second sees the other, so no wake-up is lost. Marks that come before the reader looked are one mark.
#[derive(Debug)]
pub struct ReadyMark {
    marked: AtomicU8,
    waker: Lock<Option<Waker>>,
}

impl Default for ReadyMark {
    fn default() -> Self {
        Self { marked: AtomicU8::new(0), waker: Lock::new(None) }
    }
}

impl ReadyMark {
    /// Sets the mark after the data are in place. The waker it returns is to be fired once no lock is held.
    #[must_use = "the reader sleeps until its waker is fired"]
    pub fn mark(&self) -> Option<Waker> {
        self.mark_with(1)
    }

    /// As [`ReadyMark::mark`], with these bits beside those that are set already.
    #[must_use = "the reader sleeps until its waker is fired"]
    pub fn mark_with(&self, bits: u8) -> Option<Waker> {
        if self.marked.fetch_or(bits, Ordering::AcqRel) != 0 {
            return None;
        }
        self.waker.lock().take()
    }

    /// Whether the mark is set.
    #[cfg(test)]
    pub(crate) fn is_marked(&self) -> bool {
        self.marked.load(Ordering::Acquire) != 0
    }

    /// Registers `waker` for the next mark, then takes the one that is set. While it answers `true` there may be more:
    /// the reader may only sleep after a `false`.
    pub fn take(&self, waker: &Waker) -> bool {
        self.take_bits(waker) != 0
    }

    /// As [`ReadyMark::take`], with what the mark says; 0 is none.
    pub fn take_bits(&self, waker: &Waker) -> u8 {
        broken!(RegistersTooLate => self.take_and_register(waker));
        broken!(KeepsTheFirstWaker => self.take_for_the_first(waker));
        broken!(TakesTheMarkInTwoSteps => self.take_in_two_steps(waker));
        self.register(waker);
        self.marked.swap(0, Ordering::AcqRel)
    }

    fn register(&self, waker: &Waker) {
        let mut slot = self.waker.lock();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_taken_once_and_wakes_once() {
        let ready = ReadyMark::default();
        assert!(!ready.take(Waker::noop()));
        assert!(ready.mark().is_some());
        assert!(ready.mark().is_none(), "the mark is set already");
        assert!(ready.take(Waker::noop()));
        assert!(!ready.take(Waker::noop()));
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::future::block_on;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;
    use std::future::poll_fn;
    use std::task::{Poll, Waker};

    use super::ReadyMark;
    use crate::sync::models::check;

    /// Broken on purpose.
    impl ReadyMark {
        pub(super) fn take_and_register(&self, waker: &Waker) -> u8 {
            let marked = self.marked.swap(0, Ordering::AcqRel);
            self.register(waker);
            marked
        }

        pub(super) fn take_for_the_first(&self, waker: &Waker) -> u8 {
            self.waker.lock().get_or_insert_with(|| waker.clone());
            self.marked.swap(0, Ordering::AcqRel)
        }

        pub(super) fn take_in_two_steps(&self, waker: &Waker) -> u8 {
            self.register(waker);
            let marked = self.marked.load(Ordering::Acquire);
            self.marked.store(0, Ordering::Release);
            marked
        }
    }

    /// Property: with two publishers against a reader that looks for a mark and for nothing else, each publication is seen, and
    /// no mark is taken twice; a lost wake-up is a deadlock, which loom reports.
    #[test]
    fn no_wake_up_is_lost() {
        check(|| {
            let shared = Arc::new((ReadyMark::default(), AtomicUsize::new(0)));
            let publishers = [0, 1].map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.1.fetch_add(1, Ordering::Release);
                    shared.0.mark().into_iter().for_each(Waker::wake);
                })
            });
            let (mut taken, mut seen) = (0, 0);
            block_on(poll_fn(|cx| {
                while shared.0.take(cx.waker()) {
                    taken += 1;
                    seen = shared.1.load(Ordering::Acquire);
                }
                if seen == 2 { Poll::Ready(()) } else { Poll::Pending }
            }));
            publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
            assert!(taken + usize::from(shared.0.take(Waker::noop())) <= 2, "a mark is taken twice");
        });
    }

    /// Property: where another task goes on with the reading while the mark is set, it finds the mark, or is woken by it.
    #[test]
    fn whoever_takes_over_the_reading_is_woken() {
        check(|| {
            let ready = Arc::new(ReadyMark::default());
            let publisher = {
                let ready = Arc::clone(&ready);
                thread::spawn(move || ready.mark().into_iter().for_each(Waker::wake))
            };
            let mut marked = ready.take(Waker::noop());
            block_on(poll_fn(|cx| {
                marked |= ready.take(cx.waker());
                if marked { Poll::Ready(()) } else { Poll::Pending }
            }));
            publisher.join().unwrap();
            assert!(!ready.take(Waker::noop()), "a mark is taken twice");
        });
    }
}
