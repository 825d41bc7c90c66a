//! Admission that can be shut, and that knows when the last one left.

use std::task::{Context, Poll, Waker};

use super::atomic::{AtomicUsize, Ordering};
use super::{Arc, Lock};

const SHUT: usize = 1;
const ONE: usize = 2;

/// Lets sessions in until it is shut, then tells when the last one is gone.
///
/// The flag and the count are one word, so nobody enters after the gate was seen shut and empty.
#[derive(Clone, Debug)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: AtomicUsize,
    waiting: Lock<Option<Waker>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// An open gate.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared { state: AtomicUsize::new(0), waiting: Lock::new(None) }) }
    }

    /// Enters, or `None` once the gate is shut.
    pub fn enter(&self) -> Option<Pass> {
        broken!(EntersInTwoSteps => self.enter_in_two_steps());
        let mut state = self.shared.state.load(Ordering::Relaxed);
        loop {
            if state & SHUT != 0 {
                return None;
            }
            match self.shared.state.compare_exchange_weak(state, state + ONE, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(Pass { shared: Arc::clone(&self.shared) }),
                Err(now) => state = now,
            }
        }
    }

    /// Shuts the gate for good. Answers whether it was open.
    pub fn shut(&self) -> bool {
        let was_open = self.shared.state.fetch_or(SHUT, Ordering::AcqRel) & SHUT == 0;
        self.shared.tell();
        was_open
    }

    /// Whether nobody is let in any more.
    pub fn is_shut(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) & SHUT != 0
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.shared.state.load(Ordering::Acquire) / ONE
    }

    /// Ready once the gate is shut. It is the task of [`Gate::poll_empty`] that waits.
    pub fn poll_shut(&self, cx: &mut Context<'_>) -> Poll<()> {
        broken!(LooksBeforeItRegisters => self.look_for_the_shut_and_register(cx));
        // Registered before the look: whoever shuts the gate in between finds the waker.
        *self.shared.waiting.lock() = Some(cx.waker().clone());
        if self.is_shut() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ready once the gate is shut and the last one has left. One task may wait.
    pub fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        broken!(WaitsBeforeItRegisters => self.look_and_register(cx));
        // Registered before the look, so that whoever leaves in between finds the waker.
        *self.shared.waiting.lock() = Some(cx.waker().clone());
        if self.shared.state.load(Ordering::Acquire) == SHUT { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Shared {
    fn tell(&self) {
        let waker = self.waiting.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The right to be inside; leaving is dropping it.
#[derive(Debug)]
pub struct Pass {
    shared: Arc<Shared>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.shared.state.fetch_sub(ONE, Ordering::AcqRel) == SHUT + ONE {
            self.shared.tell();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_shut_gate_empties_once_the_last_one_leaves() {
        let gate = Gate::new();
        let mut cx = Context::from_waker(Waker::noop());
        let pass = gate.enter().unwrap();
        assert_eq!((gate.poll_empty(&mut cx), gate.poll_shut(&mut cx)), (Poll::Pending, Poll::Pending));
        assert!(gate.shut());
        assert_eq!(gate.poll_shut(&mut cx), Poll::Ready(()));
        assert!(!gate.shut(), "shut already");
        assert!(gate.enter().is_none());
        assert_eq!(gate.poll_empty(&mut cx), Poll::Pending);
        assert_eq!(gate.inside(), 1);
        drop(pass);
        assert_eq!(gate.poll_empty(&mut cx), Poll::Ready(()));
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::future::block_on;
    use loom::sync::atomic::Ordering;
    use loom::thread;
    use std::task::{Context, Poll};

    use super::{Gate, ONE, Pass, SHUT};
    use crate::sync::Arc;
    use crate::sync::models::check;

    /// Broken on purpose.
    impl Gate {
        pub(super) fn look_for_the_shut_and_register(&self, cx: &Context<'_>) -> Poll<()> {
            let is_shut = self.is_shut();
            *self.shared.waiting.lock() = Some(cx.waker().clone());
            if is_shut { Poll::Ready(()) } else { Poll::Pending }
        }

        pub(super) fn enter_in_two_steps(&self) -> Option<Pass> {
            if self.is_shut() {
                return None;
            }
            self.shared.state.fetch_add(ONE, Ordering::AcqRel);
            Some(Pass { shared: Arc::clone(&self.shared) })
        }

        pub(super) fn look_and_register(&self, cx: &Context<'_>) -> Poll<()> {
            let state = self.shared.state.load(Ordering::Acquire);
            *self.shared.waiting.lock() = Some(cx.waker().clone());
            if state == SHUT { Poll::Ready(()) } else { Poll::Pending }
        }
    }

    /// Property: whoever waits for the gate to be shut is woken, though others leave meanwhile.
    #[test]
    fn whoever_waits_for_the_end_is_woken() {
        check(|| {
            let gate = Gate::new();
            let inside = gate.enter().unwrap();
            let leaver = thread::spawn(move || drop(inside));
            let shutter = {
                let gate = gate.clone();
                thread::spawn(move || drop(gate.shut()))
            };
            block_on(std::future::poll_fn(|cx| gate.poll_shut(cx)));
            assert!(gate.enter().is_none());
            leaver.join().unwrap();
            shutter.join().unwrap();
        });
    }

    /// Property: of one who leaves and one who comes while the gate is shut, whoever is inside is waited for, the waiter is woken
    /// when the last one leaves, and nobody is inside after that.
    #[test]
    fn shutting_waits_for_everybody_inside() {
        check(|| {
            let gate = Gate::new();
            let inside = gate.enter().unwrap();
            let leaver = thread::spawn(move || drop(inside));
            let visitor = {
                let gate = gate.clone();
                thread::spawn(move || drop(gate.enter()))
            };
            assert!(gate.shut());
            block_on(std::future::poll_fn(|cx| gate.poll_empty(cx)));
            assert!(gate.enter().is_none());
            assert_eq!(gate.inside(), 0, "somebody is inside a gate that was empty");
            leaver.join().unwrap();
            visitor.join().unwrap();
        });
    }
}
