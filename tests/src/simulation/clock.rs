//! Time: one clock that only goes on, and a calendar that jumps.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use trunkline_core::drive::Timer;
use trunkline_core::time::{Clock, Now, Timestamp, UnixTime};

/// The first instant of every simulation, in microseconds since 1970.
const START: u64 = 1_800_000_000_000_000;

/// The time of a simulation.
#[derive(Debug, Default)]
pub(super) struct SimClock {
    micros: AtomicU64,
    /// How far the server's calendar is off, in microseconds.
    skew: AtomicI64,
}

impl Clock for SimClock {
    fn now(&self) -> Now {
        let micros = self.micros.load(Ordering::Relaxed);
        let unix = (START + micros).saturating_add_signed(self.skew.load(Ordering::Relaxed));
        Now { at: Timestamp::from_micros(micros), unix: UnixTime::from_micros(unix) }
    }
}

impl SimClock {
    pub(super) fn at(&self) -> Timestamp {
        Timestamp::from_micros(self.micros.load(Ordering::Relaxed))
    }

    pub(super) fn move_to(&self, at: Timestamp) {
        self.micros.fetch_max(at.as_micros(), Ordering::Relaxed);
    }

    /// The calendar of everybody but the server.
    pub(super) fn true_unix(&self) -> UnixTime {
        UnixTime::from_micros(START + self.micros.load(Ordering::Relaxed))
    }

    pub(super) fn skew_by(&self, micros: i64) {
        self.skew.store(micros, Ordering::Relaxed);
    }

    /// Whether the server's calendar is far ahead.
    pub(super) fn is_ahead(&self) -> bool {
        self.skew.load(Ordering::Relaxed) > 5_000_000
    }

    pub(super) fn is_skewed(&self) -> bool {
        self.skew.load(Ordering::Relaxed) != 0
    }
}

/// A handle on the clock.
#[derive(Clone, Debug)]
pub(super) struct Watch(pub(super) Arc<SimClock>);

impl Clock for Watch {
    fn now(&self) -> Now {
        self.0.now()
    }
}

/// A timer whose deadline the world looks at.
#[derive(Debug)]
pub(super) struct SimTimer {
    clock: Arc<SimClock>,
    due: Rc<Cell<Timestamp>>,
}

impl SimTimer {
    pub(super) fn new(clock: &Arc<SimClock>) -> (Self, Rc<Cell<Timestamp>>) {
        let due = Rc::new(Cell::new(Timestamp::MAX));
        (Self { clock: Arc::clone(clock), due: Rc::clone(&due) }, due)
    }
}

impl Timer for SimTimer {
    fn reset(self: Pin<&mut Self>, at: Timestamp) {
        self.due.set(at);
    }

    fn poll_elapsed(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        if self.due.get() > self.clock.at() {
            return Poll::Pending;
        }
        self.due.set(Timestamp::MAX);
        Poll::Ready(())
    }
}

/// Set when its task can go on.
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.set();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set();
    }
}

impl Flag {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
