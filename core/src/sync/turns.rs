//! Whose turn it is, among many that one task drives.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Wake, Waker};

use super::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use super::{Lock, Moment};
use crate::time::{Now, Timestamp, UnixTime};

/// Who among many in one task is to go on, and when they want to be woken in any case.
///
/// Whoever wakes one of them puts it into the list, once, and wakes the task with the first. So however many become ready
/// at once, the task is woken once.
#[derive(Debug, Default)]
pub struct Turns {
    state: Lock<State>,
    /// What the clock said last, in microseconds.
    at: AtomicU64,
    unix: AtomicU64,
    /// Which pass it is. Only the task itself looks at it, and at the next.
    pass: AtomicU8,
    put_off: AtomicBool,
    /// What all sockets of the task are read into, one after the other.
    room: Lock<Vec<u8>>,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<Key>,
    /// The task, where it sleeps.
    sleeper: Option<Waker>,
    alarms: BTreeSet<(Timestamp, Key)>,
    /// Indexes of seats that were left.
    free: Vec<u32>,
    taken: u32,
    next: u32,
}

/// What everybody does at the same time. One that has put off a write has a turn in all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Takes in what there is.
    TakeIn,
    /// Writes, and nothing else: see [`crate::crew`].
    Write,
    /// Notes what was written.
    GoOn,
}

/// A seat, by where its owner is kept. The number tells it from those who had the place before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    index: u32,
    number: u32,
}

impl Key {
    /// Where its owner is kept.
    pub(crate) const fn index(self) -> usize {
        self.index as usize
    }
}

impl Turns {
    /// A seat in it, until it is given up.
    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        let mut state = self.state.lock();
        let index = state.free.pop().unwrap_or(state.taken);
        let number = state.next;
        state.next = number.wrapping_add(1);
        state.taken += 1;
        Seat {
            turns: Arc::clone(self),
            key: Key { index, number },
            woken: AtomicBool::new(false),
            touched: AtomicBool::new(false),
            alarm: Moment::default(),
        }
    }

    /// Another may have the seat.
    pub(crate) fn leave(&self, seat: &Seat) {
        let mut state = self.state.lock();
        state.alarms.remove(&(seat.alarm.get(), seat.key));
        state.free.push(seat.key.index);
        state.taken -= 1;
    }

    /// How many seats are taken.
    pub(crate) fn taken(&self) -> u32 {
        self.state.lock().taken
    }

    /// Moves the list of who is ready into `batch`, which is empty; where nobody is, `waker` is woken with the first.
    pub(crate) fn take(&self, batch: &mut Vec<Key>, waker: &Waker) -> bool {
        broken!(LooksForTurnsFirst => self.take_in_two_steps(batch, waker));
        let mut state = self.state.lock();
        std::mem::swap(&mut state.ready, batch);
        if batch.is_empty() {
            state.sleeper = Some(waker.clone());
        }
        !batch.is_empty()
    }

    /// The earliest moment that somebody waits for.
    pub(crate) fn next_alarm(&self) -> Option<Timestamp> {
        self.state.lock().alarms.first().map(|(at, _)| *at)
    }

    /// Takes out one whose moment has come.
    pub(crate) fn pop_due(&self, now: Timestamp) -> Option<Key> {
        let mut state = self.state.lock();
        let due = state.alarms.first().is_some_and(|(at, _)| *at <= now);
        if due { state.alarms.pop_first().map(|(_, key)| key) } else { None }
    }

    /// A pass begins.
    pub(crate) fn begin(&self, pass: Pass) {
        self.pass.store(pass as u8, Ordering::Relaxed);
    }

    /// What everybody whose turn comes goes by.
    pub(crate) fn set_now(&self, now: Now) {
        self.at.store(now.at.as_micros(), Ordering::Relaxed);
        self.unix.store(now.unix.as_micros(), Ordering::Relaxed);
    }

    /// Whether whoever had the turn has put off a write.
    pub(crate) fn take_put_off(&self) -> bool {
        self.put_off.swap(false, Ordering::Relaxed)
    }

    fn push(&self, key: Key) {
        let mut state = self.state.lock();
        state.ready.push(key);
        let sleeper = state.sleeper.take();
        drop(state);
        sleeper.into_iter().for_each(Waker::wake);
    }
}

const WRITE: u8 = Pass::Write as u8;
const GO_ON: u8 = Pass::GoOn as u8;

/// One's place among many in one task. As a waker it says that the socket may have something.
#[derive(Debug)]
pub struct Seat {
    turns: Arc<Turns>,
    key: Key,
    /// It is in the list.
    woken: AtomicBool,
    /// The socket's waker was fired.
    touched: AtomicBool,
    alarm: Moment,
}

impl Seat {
    pub(crate) const fn key(&self) -> Key {
        self.key
    }

    /// From here on a wake-up brings another turn.
    pub(crate) fn begin_turn(&self) {
        broken!(ForgetsToListen => ());
        self.woken.swap(false, Ordering::AcqRel);
    }

    /// Whether it was woken as a waker since it was asked last.
    pub(crate) fn take_touched(&self) -> bool {
        self.touched.swap(false, Ordering::AcqRel)
    }

    /// A waker that brings a turn and does not concern the socket.
    fn aside(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::new(Aside(Arc::clone(self))))
    }

    /// Brings a turn.
    pub(crate) fn rouse(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.turns.push(self.key);
        }
    }

    /// The time of this turn.
    pub(crate) fn now(&self) -> Now {
        let at = Timestamp::from_micros(self.turns.at.load(Ordering::Relaxed));
        Now { at, unix: UnixTime::from_micros(self.turns.unix.load(Ordering::Relaxed)) }
    }

    /// Which pass it is.
    pub(crate) fn pass(&self) -> Pass {
        match self.turns.pass.load(Ordering::Relaxed) {
            WRITE => Pass::Write,
            GO_ON => Pass::GoOn,
            _ => Pass::TakeIn,
        }
    }

    /// Lends room of so many bytes, in which something may lie that others have left. It stays as large as it was ever wanted.
    pub(crate) fn with_room<R>(&self, bytes: usize, use_it: impl FnOnce(&mut [u8]) -> R) -> R {
        // Taken out: nothing is called under a lock, and whoever asks meanwhile gets room of its own.
        let mut room = std::mem::take(&mut *self.turns.room.lock());
        if room.len() < bytes {
            room.resize(bytes, 0);
        }
        let result = use_it(room.get_mut(..bytes).unwrap_or_default());
        *self.turns.room.lock() = room;
        result
    }

    /// Puts a write off until the pass that writes.
    pub(crate) fn put_off(&self) {
        self.turns.put_off.store(true, Ordering::Relaxed);
    }

    /// Brings a turn at that moment, in the place of the one that was set before; [`Timestamp::MAX`] is never.
    pub(crate) fn set_alarm(&self, at: Timestamp) {
        let mut state = self.turns.state.lock();
        state.alarms.remove(&(self.alarm.get(), self.key));
        if at != Timestamp::MAX {
            state.alarms.insert((at, self.key));
        }
        self.alarm.set(at);
    }

    /// Whether that moment has come, by the time of this turn.
    pub(crate) fn alarm_has_come(&self) -> bool {
        self.alarm.get() <= self.now().at
    }
}

impl Wake for Seat {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.touched.store(true, Ordering::Release);
        self.rouse();
    }
}

/// A seat with one of its wakers, which is made once: whoever is given it anew knows that it is the same.
#[derive(Debug)]
pub(crate) struct SeatWaker {
    seat: Arc<Seat>,
    waker: Waker,
}

impl SeatWaker {
    /// With the one that says that the socket may have something.
    pub(crate) fn of_socket(seat: Arc<Seat>) -> Self {
        let waker = Waker::from(Arc::clone(&seat));
        Self { seat, waker }
    }

    /// With one that says nothing of the socket.
    pub(crate) fn aside(seat: Arc<Seat>) -> Self {
        let waker = seat.aside();
        Self { seat, waker }
    }

    pub(crate) fn seat(&self) -> &Seat {
        &self.seat
    }

    pub(crate) const fn waker(&self) -> &Waker {
        &self.waker
    }
}

struct Aside(Arc<Seat>);

impl Wake for Aside {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.rouse();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(turns: &Turns, waker: &Waker) -> Vec<usize> {
        let mut batch = Vec::new();
        turns.take(&mut batch, waker);
        batch.into_iter().map(Key::index).collect()
    }

    #[test]
    fn many_that_become_ready_wake_their_task_once() {
        let turns = Arc::new(Turns::default());
        let seats: Vec<_> = (0..3).map(|_| Arc::new(turns.seat())).collect();
        let counted = Arc::new(Counted::default());
        let waker = Waker::from(Arc::clone(&counted));
        assert!(take(&turns, &waker).is_empty());
        for seat in seats.iter().chain(&seats) {
            seat.wake_by_ref();
        }
        assert_eq!(counted.0.load(Ordering::Relaxed), 1);
        assert_eq!(take(&turns, &waker), [0, 1, 2]);
        // Two have had their turn, and the third not yet.
        seats[..2].iter().for_each(|seat| seat.begin_turn());
        seats.iter().for_each(|seat| seat.rouse());
        assert_eq!(take(&turns, &waker), [0, 1]);
    }

    #[test]
    fn only_the_waker_of_the_socket_concerns_it() {
        let seat = Arc::new(Arc::new(Turns::default()).seat());
        seat.aside().wake();
        assert!(!seat.take_touched());
        Waker::from(Arc::clone(&seat)).wake();
        assert!(seat.take_touched() && !seat.take_touched());
    }

    #[test]
    fn room_is_one_for_all_and_whoever_asks_meanwhile_has_its_own() {
        let turns = Arc::new(Turns::default());
        let (first, second) = (turns.seat(), turns.seat());
        first.with_room(2, |outer| {
            outer.fill(7);
            second.with_room(3, |inner| assert_eq!(*inner, [0; 3]));
            assert_eq!(*outer, [7; 2]);
        });
        second.with_room(1, |room| assert_eq!(*room, [7]));
        first.with_room(4, |room| assert_eq!(*room, [7, 7, 0, 0]));
    }

    #[test]
    fn a_seat_that_was_left_is_taken_again_under_another_number() {
        let turns = Arc::new(Turns::default());
        let (first, second) = (turns.seat(), turns.seat());
        first.set_alarm(Timestamp::from_micros(1));
        turns.leave(&first);
        assert_eq!((turns.taken(), turns.next_alarm()), (1, None));
        let third = turns.seat();
        assert_eq!((third.key().index(), second.key().index(), turns.seat().key().index()), (0, 1, 2));
        assert_ne!(third.key(), first.key());
    }

    #[test]
    fn alarms_are_due_in_their_order_and_each_seat_has_one() {
        let turns = Arc::new(Turns::default());
        let (first, second) = (turns.seat(), turns.seat());
        first.set_alarm(Timestamp::from_micros(9));
        second.set_alarm(Timestamp::from_micros(5));
        first.set_alarm(Timestamp::from_micros(3));
        assert_eq!(turns.pop_due(Timestamp::from_micros(2)), None);
        let now = Timestamp::from_micros(5);
        assert_eq!(turns.pop_due(now), Some(first.key()));
        assert_eq!(turns.pop_due(now), Some(second.key()));
        assert_eq!((turns.pop_due(now), turns.next_alarm()), (None, None));
        turns.set_now(Now { at: now, ..Now::default() });
        assert!(first.alarm_has_come());
        first.set_alarm(Timestamp::MAX);
        assert!(!first.alarm_has_come() && turns.next_alarm().is_none());
    }
}

#[cfg(all(test, loom))]
mod models {
    use std::future::poll_fn;
    use std::task::Poll;

    use loom::future::block_on;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;
    use crate::sync::models::check;

    /// Broken on purpose.
    impl Turns {
        pub(super) fn take_in_two_steps(&self, batch: &mut Vec<Key>, waker: &Waker) -> bool {
            std::mem::swap(&mut self.state.lock().ready, batch);
            if batch.is_empty() {
                self.state.lock().sleeper = Some(waker.clone());
            }
            !batch.is_empty()
        }
    }

    /// Property: with two that wake two seats against the task that drives them, each finds what was left for it before its
    /// wake-up; a lost wake-up is a deadlock, which loom reports.
    #[test]
    fn nobody_waits_for_a_turn_in_vain() {
        check(|| {
            let turns = Arc::new(Turns::default());
            let seats = [(), ()].map(|()| Arc::new(turns.seat()));
            let left = loom::sync::Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            let other = {
                let (seats, left) = (seats.clone(), loom::sync::Arc::clone(&left));
                thread::spawn(move || {
                    for at in [0, 0, 1] {
                        left[at].fetch_add(1, Ordering::Relaxed);
                        seats[at].wake_by_ref();
                    }
                })
            };
            let (mut seen, mut batch, mut turns_taken) = ([0; 2], Vec::new(), 0);
            block_on(poll_fn(|cx| {
                while turns.take(&mut batch, cx.waker()) {
                    for key in batch.drain(..) {
                        seats[key.index()].begin_turn();
                        assert!(seats[key.index()].take_touched() || seen[key.index()] > 0, "a turn for nothing");
                        seen[key.index()] = left[key.index()].load(Ordering::Relaxed);
                        turns_taken += 1;
                    }
                }
                if seen == [2, 1] { Poll::Ready(()) } else { Poll::Pending }
            }));
            other.join().unwrap();
            assert!(turns_taken <= 3, "more turns than wake-ups");
        });
    }
}
