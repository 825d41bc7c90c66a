//! Tasks of one thread, polled in the order of their making, and a clock that moves when none can go on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use trunkline_core::drive::Timer;
use trunkline_core::time::{Clock as _, Timestamp};

use super::VirtualClock;

type Task = Pin<Box<dyn Future<Output = ()>>>;
/// Which can go on, and itself, but while it is polled.
type Place = (Arc<Flag>, Option<Task>);

/// Set when its task can go on.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    fn set() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

pub(super) struct Executor {
    pub(super) clock: Arc<VirtualClock>,
    tasks: RefCell<BTreeMap<u64, Place>>,
    timers: RefCell<BTreeMap<(Timestamp, u64), Waker>>,
    made: Cell<u64>,
}

impl Executor {
    pub(super) fn new(clock: Arc<VirtualClock>) -> Self {
        Self { clock, tasks: RefCell::default(), timers: RefCell::default(), made: Cell::new(0) }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now().at
    }

    fn next_id(&self) -> u64 {
        self.made.set(self.made.get() + 1);
        self.made.get()
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().insert(self.next_id(), (Flag::set(), Some(Box::pin(task))));
    }

    pub(super) fn run<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let flag = Flag::set();
        let waker = Waker::from(Arc::clone(&flag));
        loop {
            if flag.take()
                && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return Some(output);
            }
            let went_on = self.poll_tasks();
            if !went_on && !flag.0.load(Ordering::Relaxed) && !self.move_on() {
                return None;
            }
        }
    }

    /// Polls every task that was woken; says whether there was one.
    fn poll_tasks(&self) -> bool {
        let woken: Vec<u64> =
            self.tasks.borrow().iter().filter(|(_, (flag, _))| flag.take()).map(|(id, _)| *id).collect();
        for id in &woken {
            // It is out of the table while it is polled: it may spawn others.
            let taken =
                self.tasks.borrow_mut().get_mut(id).and_then(|(flag, task)| Some((Arc::clone(flag), task.take()?)));
            let Some((flag, mut task)) = taken else { continue };
            let waker = Waker::from(flag);
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.tasks.borrow_mut().remove(id);
            } else if let Some((_, place)) = self.tasks.borrow_mut().get_mut(id) {
                *place = Some(task);
            }
        }
        !woken.is_empty()
    }

    /// Moves the clock to the next deadline and wakes whoever waits for it; says whether there was one.
    fn move_on(&self) -> bool {
        let Some(at) = self.timers.borrow().keys().next().map(|(at, _)| *at) else { return false };
        self.clock.move_to(at);
        let later = self.timers.borrow_mut().split_off(&(at + std::time::Duration::from_micros(1), 0));
        let due = self.timers.replace(later);
        due.into_values().for_each(Waker::wake);
        true
    }
}

/// A timer on the simulation's clock.
pub struct VirtualTimer {
    executor: Rc<Executor>,
    id: u64,
    at: Timestamp,
}

impl std::fmt::Debug for VirtualTimer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VirtualTimer").field("at", &self.at).finish_non_exhaustive()
    }
}

impl VirtualTimer {
    pub(super) fn new(executor: &Rc<Executor>) -> Self {
        Self { executor: Rc::clone(executor), id: executor.next_id(), at: Timestamp::MAX }
    }

    fn disarm(&self) {
        self.executor.timers.borrow_mut().remove(&(self.at, self.id));
    }
}

impl Timer for VirtualTimer {
    fn reset(self: Pin<&mut Self>, at: Timestamp) {
        let this = self.get_mut();
        this.disarm();
        this.at = at;
    }

    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.at <= self.executor.now() {
            return Poll::Ready(());
        }
        if self.at < Timestamp::MAX {
            self.executor.timers.borrow_mut().insert((self.at, self.id), cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for VirtualTimer {
    fn drop(&mut self) {
        self.disarm();
    }
}
