//! The only home of locks, atomics and wakers.
//!
//! Nothing here waits: a lock is held for a few instructions, a full queue answers so, and a waker is handed back to be
//! fired after every lock is released. Each primitive is one file, and each has a loom model beside its tests. A model must
//! also fail where the primitive is broken: `broken!` says how it can be, and is nothing outside the models' build.

/// In the build of the models, answers with `$instead` where the fault is on: see [`faults`]. Anywhere else it is nothing.
macro_rules! broken {
    ($fault:ident => $instead:expr) => {
        #[cfg(all(test, loom))]
        if $crate::sync::faults::is_on($crate::sync::faults::Fault::$fault) {
            return $instead;
        }
    };
}
pub(crate) use broken;

mod budget;
mod current;
#[cfg(all(test, loom))]
pub(crate) mod faults;
mod gate;
mod lock;
mod mailbox;
#[cfg(all(test, loom))]
pub(crate) mod models;
mod moment;
mod once;
mod ready;
mod spares;
mod tally;
mod turns;

pub use budget::{Budget, Lease};
pub use current::Current;
pub use gate::{Gate, Pass};
pub use lock::Lock;
pub use mailbox::{MAILBOX_BIT, Mailbox, Popped, PushError};
pub use moment::Moment;
pub use once::Once;
pub use ready::ReadyMark;
pub use spares::Spares;
pub use tally::Tally;
pub(crate) use turns::{Key, Pass as TurnPass, SeatWaker};
pub use turns::{Seat, Turns};

/// The shared pointer of this build: loom's under `cfg(loom)`.
#[cfg(loom)]
pub use loom::sync::Arc;
/// The shared pointer of this build: loom's under `cfg(loom)`.
#[cfg(not(loom))]
pub use std::sync::Arc;

#[cfg(loom)]
mod atomic {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
}
#[cfg(not(loom))]
mod atomic {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
}

/// Wakers collected under a lock, to be fired when it is released.
#[derive(Debug, Default)]
#[must_use = "whoever waits stays asleep until `wake` is called"]
pub struct Wakers {
    /// Most often there is one, which takes no allocation.
    first: Option<std::task::Waker>,
    more: Vec<std::task::Waker>,
}

impl Wakers {
    /// Keeps `waker` for later.
    pub fn push(&mut self, waker: Option<std::task::Waker>) {
        if self.first.is_none() {
            self.first = waker;
        } else {
            self.more.extend(waker);
        }
    }

    /// Fires them all. No lock may be held.
    pub fn wake(self) {
        self.first.into_iter().chain(self.more).for_each(std::task::Waker::wake);
    }
}
