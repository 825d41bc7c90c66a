//! A mark that says "look again", set by many and taken by one.

use std::task::Waker;

use super::Lock;
use super::atomic::{AtomicBool, Ordering};

/// Set by publishers, taken by the one task that reads.
///
/// The reader registers its waker *before* it looks, the publisher sets the mark *before* it takes the waker: whichever
/// comes second sees the other, so no wake-up is lost. Marks that come before the reader looked are one mark.
#[derive(Debug)]
pub struct ReadyMark {
    marked: AtomicBool,
    waker: Lock<Option<Waker>>,
}

impl Default for ReadyMark {
    fn default() -> Self {
        Self { marked: AtomicBool::new(false), waker: Lock::new(None) }
    }
}

impl ReadyMark {
    /// Sets the mark after the data are in place. The waker it returns is to be fired once no lock is held.
    #[must_use = "the reader sleeps until its waker is fired"]
    pub fn mark(&self) -> Option<Waker> {
        if self.marked.swap(true, Ordering::AcqRel) {
            return None;
        }
        self.waker.lock().take()
    }

    /// Whether the mark is set.
    #[cfg(test)]
    pub(crate) fn is_marked(&self) -> bool {
        self.marked.load(Ordering::Acquire)
    }

    /// Registers `waker` for the next mark, then takes the one that is set. While it answers `true` there may be more:
    /// the reader may only sleep after a `false`.
    pub fn take(&self, waker: &Waker) -> bool {
        let mut slot = self.waker.lock();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
        drop(slot);
        self.marked.swap(false, Ordering::AcqRel)
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
    use std::task::Poll;

    use super::ReadyMark;

    /// Property: with two publishers against a reader that sleeps after every `false`, each publication is seen; a lost
    /// wake-up is a deadlock, which loom reports.
    #[test]
    fn no_wake_up_is_lost() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(model.preemption_bound.unwrap_or(2));
        model.check(|| {
            let shared = Arc::new((ReadyMark::default(), AtomicUsize::new(0)));
            let publishers: Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        shared.1.fetch_add(1, Ordering::Release);
                        if let Some(waker) = shared.0.mark() {
                            waker.wake();
                        }
                    })
                })
                .collect();
            block_on(std::future::poll_fn(|cx| {
                loop {
                    if shared.1.load(Ordering::Acquire) == 2 {
                        return Poll::Ready(());
                    }
                    if !shared.0.take(cx.waker()) {
                        return Poll::Pending;
                    }
                }
            }));
            for publisher in publishers {
                publisher.join().unwrap();
            }
        });
    }
}
