//! Many connections in one task, so that what concerns many of them at once costs one wake-up.
//!
//! A runtime has one [`Crew`] for each of its threads, and seats every socket in one of them. Where an event goes to a thousand
//! subscribers, their tasks would be woken one by one, each to write once and to sleep again. A crew is woken once. It lets
//! everybody that is ready take in what there is, and then all of them write, one directly after the other: what is at the other
//! end finds the next bytes while it is still awake.
//!
//! ```
//! use std::net::IpAddr;
//! use std::pin::Pin;
//!
//! use trunkline_core::crew::{Crew, Crews};
//! use trunkline_core::drive::{Timer, Transport};
//! use trunkline_core::hub::Hub;
//! use trunkline_core::serve::{Handover, Outcome, Socket, Sockets};
//!
//! type Member<T> = Pin<Box<dyn Future<Output = Outcome<Handover<T>>> + Send>>;
//!
//! /// The task of each thread. `web` starts another for a request of the web stack.
//! async fn work<T, K: Timer + Unpin>(mut crew: Crew<Member<T>, K, Hub>, web: impl Fn(Handover<T>)) {
//!     loop {
//!         if let Outcome::Web(request) = crew.next().await {
//!             web(request);
//!         }
//!     }
//! }
//!
//! /// What the accept loop does with a socket.
//! fn accepted<T>(crews: &Crews<Member<T>>, sockets: &Sockets, stream: T, peer: IpAddr)
//! where
//!     T: Transport + Unpin + Send + 'static,
//! {
//!     let (session, sockets) = (sockets.admit(Some(peer)), sockets.clone());
//!     let socket: Socket<T> = Socket::Open(stream);
//!     crews.seat(|berth| Box::pin(async move { sockets.serve_in(berth, session, socket).await }));
//! }
//! ```

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::drive::{Alarm, Timer};
use crate::sync::{Key, Lock, Seat, SeatWaker, TurnPass, Turns};
use crate::time::{Clock, Timestamp};

/// How many have their turn before those of them that have something to write do: what they touch stays in the processor's cache.
const PASS: usize = 64;
/// How many have their turn by one reading of the clock.
const TURNS_OF_A_MOMENT: usize = 16;
/// How many passes there are, and how long they take at most, before other tasks of the thread have their turn.
const PASSES: usize = 32;
const SHIFT: Duration = Duration::from_millis(5);

/// Futures that one task drives. Dropped, it drops them all.
///
/// One that panics is dropped; it takes no other with it. Whatever one does in its turn, the others wait for. Of one that has ended,
/// the place stays for the next: some tens of bytes for each of the most that there ever were at once.
#[derive(Debug)]
#[must_use = "nobody has a turn unless it is polled"]
pub struct Crew<F: Future, K, C> {
    turns: Arc<Turns>,
    coming: Coming<F>,
    /// By the indexes of their seats.
    members: Vec<Option<Member<F>>>,
    /// Whoever is to have a turn.
    ready: Vec<Key>,
    /// Whoever has one in a pass; empty between two.
    turn: Vec<Key>,
    ended: Vec<F::Output>,
    /// How many passes there were since others of the thread had their turn, and when the first began.
    passes: usize,
    began: Timestamp,
    alarm: Alarm<K>,
    clock: C,
}

/// Those that nobody has seated yet; `None` where nobody will.
type Coming<F> = Arc<Lock<Option<Vec<Member<F>>>>>;

#[derive(Debug)]
struct Member<F> {
    future: Pin<Box<F>>,
    waker: SeatWaker,
}

impl<F> Member<F> {
    fn seat(&self) -> &Seat {
        self.waker.seat()
    }
}

impl<F: Future, K: Timer + Unpin, C: Clock> Crew<F, K, C> {
    /// Gives turns until one of the futures has ended, whose output this is. It is never done: more may come. Nothing is lost
    /// where this future is dropped.
    pub async fn next(&mut self) -> F::Output {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same for whoever polls by hand. Others that share the thread have their turn after a bounded number of its own, and
    /// after some milliseconds, also where whoever polls takes output after output.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        loop {
            if let Some(output) = self.ended.pop() {
                return Poll::Ready(output);
            }
            let now = self.rouse_due(cx);
            if self.passes == 0 {
                self.began = now;
            }
            if self.passes == PASSES || now > self.began + SHIFT {
                cx.waker().wake_by_ref();
                break;
            }
            if self.ready.is_empty() && !self.turns.take(&mut self.ready, cx.waker()) {
                break;
            }
            self.seat_who_came();
            self.pass();
            self.passes += 1;
        }
        self.passes = 0;
        Poll::Pending
    }

    /// Brings turns to those whose moments have come, and sets the timer for the next. Answers what the clock says.
    fn rouse_due(&mut self, cx: &mut Context<'_>) -> Timestamp {
        let now = self.clock.now().at;
        while let Some(key) = self.turns.pop_due(now) {
            self.member(key).iter().for_each(|member| member.seat().rouse());
        }
        if self.alarm.fires(cx, self.turns.next_alarm().unwrap_or(Timestamp::MAX)) {
            // Between the two looks at the clock, or early.
            cx.waker().wake_by_ref();
        }
        now
    }

    fn seat_who_came(&mut self) {
        let came = self.coming.lock().as_mut().map(std::mem::take).unwrap_or_default();
        for member in came {
            let at = member.seat().key().index();
            self.members.resize_with(self.members.len().max(at + 1), || None);
            self.members[at] = Some(member);
        }
    }

    /// Some have their turn: they take in what there is, then all write, then they go on.
    fn pass(&mut self) {
        let mut turn = std::mem::take(&mut self.turn);
        turn.extend(self.ready.drain(..self.ready.len().min(PASS)));
        for key in &turn {
            self.member(*key).iter().for_each(|member| member.seat().begin_turn());
        }
        for pass in [TurnPass::TakeIn, TurnPass::Write, TurnPass::GoOn] {
            self.turns.begin(pass);
            let mut taken = 0;
            turn.retain(|key| {
                if taken % TURNS_OF_A_MOMENT == 0 {
                    self.turns.set_now(self.clock.now());
                }
                taken += 1;
                self.poll(*key) || pass != TurnPass::TakeIn
            });
        }
        turn.clear();
        self.turn = turn;
    }

    /// One has its turn; says whether it has put off a write.
    fn poll(&mut self, key: Key) -> bool {
        let Some(member) = self.member(key) else { return false };
        let mut cx = Context::from_waker(member.waker.waker());
        // What one of them does is not the others' fault.
        let polled = catch_unwind(AssertUnwindSafe(|| member.future.as_mut().poll(&mut cx)));
        match polled {
            Ok(Poll::Pending) => self.turns.take_put_off(),
            Ok(Poll::Ready(output)) => {
                self.ended.push(output);
                self.dismiss(key)
            }
            Err(_) => self.dismiss(key),
        }
    }

    /// Lets one go that has ended; nobody writes for it any more.
    fn dismiss(&mut self, key: Key) -> bool {
        self.turns.take_put_off();
        if let Some(member) = self.members.get_mut(key.index()).and_then(Option::take) {
            let Member { future, waker } = member;
            let_go(future);
            self.turns.leave(waker.seat());
        }
        false
    }

    /// Whoever has the seat; `None` where that has gone.
    fn member(&mut self, key: Key) -> Option<&mut Member<F>> {
        self.members.get_mut(key.index())?.as_mut().filter(|member| member.seat().key() == key)
    }
}

impl<F: Future, K, C> Drop for Crew<F, K, C> {
    fn drop(&mut self) {
        let came = self.coming.lock().take();
        for member in self.members.drain(..).flatten().chain(came.into_iter().flatten()) {
            let_go(member.future);
        }
    }
}

/// Drops one; where that panics, it is not the others' fault.
fn let_go<F>(future: Pin<Box<F>>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
}

/// The crews of a runtime, one for each of its threads.
#[derive(Debug)]
pub struct Crews<F>(Vec<Seats<F>>);

/// What seats futures in a crew, from any thread.
#[derive(Debug)]
struct Seats<F> {
    turns: Arc<Turns>,
    coming: Coming<F>,
}

impl<F> Default for Crews<F> {
    /// None yet.
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<F: Future> Crews<F> {
    /// One more crew, on this timer and its clock. Its task must poll it.
    pub fn add<K: Timer + Unpin, C: Clock>(&mut self, timer: K, clock: C) -> Crew<F, K, C> {
        let turns = Arc::new(Turns::default());
        let coming = Arc::new(Lock::new(Some(Vec::new())));
        self.0.push(Seats { turns: Arc::clone(&turns), coming: Arc::clone(&coming) });
        Crew {
            turns,
            coming,
            members: Vec::new(),
            ready: Vec::new(),
            turn: Vec::new(),
            ended: Vec::new(),
            passes: 0,
            began: Timestamp::ZERO,
            alarm: Alarm::new(timer),
            clock,
        }
    }

    /// Seats a future, which is made with its place, in the crew that has fewest. Where all have gone, or where there is none,
    /// it is dropped.
    pub fn seat(&self, make: impl FnOnce(Berth) -> F) {
        let there = self.0.iter().filter(|seats| !seats.have_gone());
        if let Some(seats) = there.min_by_key(|seats| seats.turns.taken()) {
            seats.take(make);
        }
    }
}

impl<F> Seats<F> {
    /// Whether the crew was dropped, with its task perhaps.
    fn have_gone(&self) -> bool {
        self.coming.lock().is_none()
    }

    fn take(&self, make: impl FnOnce(Berth) -> F) {
        let seat = Arc::new(self.turns.seat());
        let future = Box::pin(make(Berth(Arc::clone(&seat))));
        let member = Member { future, waker: SeatWaker::of_socket(Arc::clone(&seat)) };
        if self.leave(member).is_none() {
            seat.rouse();
        }
    }

    /// Leaves it for the crew; answers it where the crew has gone.
    fn leave(&self, member: Member<F>) -> Option<Member<F>> {
        match &mut *self.coming.lock() {
            Some(coming) => coming.push(member),
            None => return Some(member),
        }
        None
    }
}

/// A seat in a crew, for the future that has it.
#[derive(Debug)]
pub struct Berth(Arc<Seat>);

impl Berth {
    /// A timer on the crew's. All that one place has are one: it fires at the moment that was set last.
    pub fn timer(&self) -> CrewTimer {
        CrewTimer::new(&self.0)
    }

    pub(crate) fn into_seat(self) -> Arc<Seat> {
        self.0
    }
}

/// A timer of one in a crew. All of them are one timer of the runtime: it costs nothing to have one, and a few bytes while it is set.
#[derive(Debug)]
pub struct CrewTimer(Arc<Seat>);

impl CrewTimer {
    pub(crate) fn new(seat: &Arc<Seat>) -> Self {
        Self(Arc::clone(seat))
    }
}

impl Timer for CrewTimer {
    fn reset(self: Pin<&mut Self>, at: Timestamp) {
        self.0.set_alarm(at);
    }

    fn poll_elapsed(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        if self.0.alarm_has_come() { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io;
    use std::task::Waker;

    use super::*;
    use crate::drive::{Driver, Machine, Transport};
    use crate::time::Now;

    /// It listens only when it has said everything, and nothing else comes of what was written.
    #[derive(Debug)]
    struct Polite {
        rest: &'static [u8],
        heard: bool,
    }

    impl Machine for Polite {
        fn poll_ready(&mut self, _now: Now, _waker: &Waker) {}

        fn handle_bytes(&mut self, _now: Now, _bytes: &[u8]) {
            self.heard = true;
        }

        fn handle_eof(&mut self, _now: Now) {}

        fn handle_broken(&mut self, _now: Now) {}

        fn handle_timeout(&mut self, _now: Now) {}

        fn poll_timeout(&self) -> Option<Timestamp> {
            None
        }

        fn transmit(&self) -> &[u8] {
            self.rest
        }

        fn advance(&mut self, _now: Now, n: usize) {
            self.rest = self.rest.get(n..).unwrap_or_default();
        }

        fn goes_on_when_written(&self) -> bool {
            false
        }

        fn wants_read(&self) -> bool {
            self.rest.is_empty()
        }

        fn is_closed(&self) -> bool {
            self.heard
        }
    }

    /// It has always something to read, takes all that is written, and fires no waker.
    #[derive(Debug)]
    struct Open;

    impl Transport for Open {
        fn poll_read(self: Pin<&mut Self>, _cx: &mut Context<'_>, _buf: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(1))
        }

        fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// It never fires, and its clock stands still.
    #[derive(Debug)]
    struct Never;

    impl Timer for Never {
        fn reset(self: Pin<&mut Self>, _at: Timestamp) {}

        fn poll_elapsed(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    impl Clock for Never {
        fn now(&self) -> Now {
            Now::default()
        }
    }

    #[test]
    fn whoever_listens_once_it_has_said_everything_hears_in_the_same_turn() {
        let mut crews = Crews::default();
        let mut crew = crews.add(Never, Never);
        let polite = Polite { rest: b"after you", heard: false };
        crews.seat(|berth| Driver::new(polite, Open, berth.timer(), Never).seated(berth.into_seat()));
        let polled = crew.poll_next(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready((Polite { heard: true, .. }, Open))), "{polled:?}");
    }
}
