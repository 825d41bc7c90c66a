//! The one I/O loop, over poll traits that need nothing but `std`.
//!
//! A runtime brings a [`Transport`] and a [`Timer`], each a few lines; the loop is the same for every runtime and for both
//! ends of the protocol.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::sync::{Seat, SeatWaker, TurnPass};
use crate::time::{Clock, Now, Timestamp};

/// A byte stream as a runtime has it.
pub trait Transport {
    /// Reads into `buf`; 0 is the end. All bytes that it says it has read must be there: what `buf` holds before is nothing of
    /// this stream.
    ///
    /// # Errors
    /// When the stream is broken.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes some of `bytes`.
    ///
    /// # Errors
    /// When the stream is broken.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Sends what the stream has taken and still holds, where it holds anything: as TLS does. It is asked on every
    /// wake-up that finds nothing more to write, so that one without a buffer of its own leaves it as it is.
    ///
    /// # Errors
    /// When the stream is broken.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Flushes and ends the sending side.
    ///
    /// # Errors
    /// When the stream is broken.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Every method is the stream's own, the one with a default too.
impl<T: Transport + ?Sized> Transport for Pin<Box<T>> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.get_mut().as_mut().poll_read(cx, buf)
    }

    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().as_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().as_mut().poll_shutdown(cx)
    }
}

/// A timer as a runtime has it, on the hub's clock.
pub trait Timer {
    /// Fires at `at` from now on; [`Timestamp::MAX`] is never.
    fn reset(self: Pin<&mut Self>, at: Timestamp);

    /// Ready once the time has come.
    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

impl<K: Timer + Unpin + ?Sized> Timer for &mut K {
    fn reset(mut self: Pin<&mut Self>, at: Timestamp) {
        Pin::new(&mut **self).reset(at);
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut **self).poll_elapsed(cx)
    }
}

/// A machine that the loop can drive: a server's [`Session`](crate::hub::Session) or a client.
pub trait Machine {
    /// Takes what others left for it, and registers `waker` for more.
    fn poll_ready(&mut self, now: Now, waker: &Waker);
    /// Takes bytes from the socket.
    fn handle_bytes(&mut self, now: Now, bytes: &[u8]);
    /// The peer sends no more.
    fn handle_eof(&mut self, now: Now);
    /// The socket failed.
    fn handle_broken(&mut self, now: Now);
    /// Does what is due.
    fn handle_timeout(&mut self, now: Now);
    /// The next deadline.
    fn poll_timeout(&self) -> Option<Timestamp>;
    /// What the socket is to be given next.
    fn transmit(&self) -> &[u8];
    /// The socket took `n` bytes.
    fn advance(&mut self, now: Now, n: usize);
    /// Whether it may have more to say, or to take, as soon as the socket has taken what [`Machine::transmit`] has now. Where not,
    /// a write is followed by no further round.
    fn goes_on_when_written(&self) -> bool {
        true
    }
    /// Whether to read.
    fn wants_read(&self) -> bool;
    /// How many bytes to read at most, where it wants to. [`READ_BYTES`]; a driver reads at most [`MAX_READ_BYTES`] at once, and more than
    /// [`READ_BYTES`] only where there was more than it had asked for.
    fn read_bytes(&self) -> usize {
        READ_BYTES
    }
    /// Whether the sending side is to be ended now, while what the peer sends is still read.
    fn wants_shutdown(&self) -> bool {
        false
    }
    /// The sending side has ended.
    fn handle_shutdown(&mut self) {}
    /// Whether it is over.
    fn is_closed(&self) -> bool;
}

/// A boxed machine is one: what moves through several futures on its way to the driver's is kept in each of them.
/// Every method is the machine's own, those with a default too.
impl<M: Machine + ?Sized> Machine for Box<M> {
    fn poll_ready(&mut self, now: Now, waker: &Waker) {
        (**self).poll_ready(now, waker);
    }

    fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        (**self).handle_bytes(now, bytes);
    }

    fn handle_eof(&mut self, now: Now) {
        (**self).handle_eof(now);
    }

    fn handle_broken(&mut self, now: Now) {
        (**self).handle_broken(now);
    }

    fn handle_timeout(&mut self, now: Now) {
        (**self).handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        (**self).poll_timeout()
    }

    fn transmit(&self) -> &[u8] {
        (**self).transmit()
    }

    fn advance(&mut self, now: Now, n: usize) {
        (**self).advance(now, n);
    }

    fn goes_on_when_written(&self) -> bool {
        (**self).goes_on_when_written()
    }

    fn wants_read(&self) -> bool {
        (**self).wants_read()
    }

    fn read_bytes(&self) -> usize {
        (**self).read_bytes()
    }

    fn wants_shutdown(&self) -> bool {
        (**self).wants_shutdown()
    }

    fn handle_shutdown(&mut self) {
        (**self).handle_shutdown();
    }

    fn is_closed(&self) -> bool {
        (**self).is_closed()
    }
}

/// A machine, a socket and a timer: a future that ends when the socket does, and gives both back.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Driver<M, T, K, C> {
    /// `None` once the future has ended.
    parts: Option<(M, T)>,
    alarm: Alarm<K>,
    clock: C,
    /// Its place among others in one task, with the waker for whoever leaves something for the machine: see
    /// [`Crew`](crate::crew::Crew).
    seated: Option<SeatWaker>,
    /// The socket may have something, as far as is known.
    readable: bool,
    /// The last read brought all that was asked for.
    hungry: bool,
    /// What came of a write that nobody has noted yet.
    written: Option<Poll<io::Result<usize>>>,
}

/// A timer, and what it is set to.
#[derive(Debug)]
pub(crate) struct Alarm<K> {
    timer: K,
    armed: Timestamp,
}

impl<K: Timer + Unpin> Alarm<K> {
    pub(crate) const fn new(timer: K) -> Self {
        Self { timer, armed: Timestamp::MAX }
    }

    /// Waits for `at`; says whether the timer has fired, which may be early: then it is to be set again.
    pub(crate) fn fires(&mut self, cx: &mut Context<'_>, at: Timestamp) -> bool {
        // A deadline that moved later is met by an early wake-up, which re-arms: cheaper than to re-arm per message.
        if at < self.armed {
            self.armed = at;
            Pin::new(&mut self.timer).reset(at);
        }
        if self.armed == Timestamp::MAX {
            // Never. A timer that has fired and was not set again may say so for ever.
            return false;
        }
        let fired = Pin::new(&mut self.timer).poll_elapsed(cx).is_ready();
        if fired {
            self.armed = Timestamp::MAX;
        }
        fired
    }
}

/// Bytes read at once, of whoever is not trusted with more. 8 KiB.
pub const READ_BYTES: usize = 8 << 10;
/// The most that is read at once. 64 KiB: all that a socket of a Linux system holds at first. Between two ends on one machine that
/// is two segments, and where it is taken out in pieces, the system may tell the sender of room that is too little for one of them
/// and then of no more: the sender waits for 0.2 s before it asks.
pub const MAX_READ_BYTES: usize = 64 << 10;
/// How many rounds one poll may take before others get their turn. What is read at once counts as one for each [`READ_BYTES`]: a
/// poll reads at most 256 KiB.
pub(crate) const BUDGET: usize = 32;

/// What one round has come to.
enum Round {
    /// There may be more at once. It counts as so many rounds.
    Again(usize),
    /// Everything waits.
    Idle,
    /// Everything waits, and a write for its pass.
    PutOff,
    /// The machine is done with the socket.
    Over,
}

impl<M, T, K, C> Driver<M, T, K, C>
where
    M: Machine + Unpin,
    T: Transport + Unpin,
    K: Timer + Unpin,
    C: Clock + Unpin,
{
    /// A driver for a connected socket. `clock` is the machine's.
    pub const fn new(machine: M, transport: T, timer: K, clock: C) -> Self {
        Self {
            parts: Some((machine, transport)),
            alarm: Alarm::new(timer),
            clock,
            seated: None,
            readable: true,
            hungry: false,
            written: None,
        }
    }

    /// It has this seat in a crew: its waker is the seat's. So it reads only where the socket's waker was fired, and writes in
    /// the passes that write.
    pub(crate) fn seated(self, seat: Arc<Seat>) -> Self {
        Self { seated: Some(SeatWaker::aside(seat)), ..self }
    }

    fn now(&self) -> Now {
        self.seated.as_ref().map_or_else(|| self.clock.now(), |seated| seated.seat().now())
    }

    /// One look at everything, of which `left` more may come. Where `puts_off` is, what is to be written waits.
    fn round(&mut self, cx: &mut Context<'_>, puts_off: bool, left: usize) -> Round {
        let now = self.now();
        let Some((machine, transport)) = &mut self.parts else { return Round::Over };
        machine.poll_ready(now, self.seated.as_ref().map_or(cx.waker(), SeatWaker::waker));
        let puts_off = puts_off && !machine.transmit().is_empty() && !machine.is_closed();
        let goes_on = machine.goes_on_when_written();
        let wrote = !puts_off && write(machine, transport, cx, now);
        if machine.is_closed() {
            return Round::Over;
        }
        // A peer that is gone does not make its end any different.
        if !puts_off && machine.wants_shutdown() && Pin::new(&mut *transport).poll_shutdown(cx).is_ready() {
            machine.handle_shutdown();
        }
        let reads = self.readable && machine.wants_read();
        let read = if reads {
            let wanted = if self.hungry { machine.read_bytes() } else { machine.read_bytes().min(READ_BYTES) };
            let max = wanted.clamp(1, MAX_READ_BYTES).min(left * READ_BYTES);
            let read = read_at_most((machine, transport), self.seated.as_ref().map(SeatWaker::seat), cx, now, max);
            self.hungry = read == max;
            read
        } else {
            0
        };
        // One that has no seat cannot tell who has woken it.
        self.readable &= !reads || read > 0 || self.seated.is_none();
        // What is put off sets the timer when it has been written.
        let due = !puts_off && self.time(cx, now);
        match due || read > 0 || (wrote && goes_on) {
            true => Round::Again(read.div_ceil(READ_BYTES).max(1)),
            false if puts_off => Round::PutOff,
            false => Round::Idle,
        }
    }

    /// Leaves what is to be written for the pass that writes. Nothing is not left: a socket that takes nothing of it is not broken.
    fn put_off(&self) {
        let (Some(seated), Some((machine, _))) = (&self.seated, &self.parts) else { return };
        if !machine.transmit().is_empty() {
            seated.seat().put_off();
        }
    }

    /// Writes what was put off, and does nothing beside it.
    fn write_only(&mut self, cx: &mut Context<'_>) {
        if let Some((machine, transport)) = &mut self.parts {
            self.written = Some(Pin::new(transport).poll_write(cx, machine.transmit()));
        }
    }

    /// Notes what was written, and writes on where there is more; says whether a round is to follow.
    fn note_written(&mut self, cx: &mut Context<'_>) -> bool {
        let now = self.now();
        let Some((machine, transport)) = &mut self.parts else { return true };
        let (goes_on, reads) = (machine.goes_on_when_written(), machine.wants_read());
        // Where the socket waits, its waker brings the next turn.
        if let Some(Poll::Ready(outcome)) = self.written.take() {
            took(machine, outcome, now);
            write(machine, transport, cx, now);
        }
        let ends = machine.is_closed() || machine.wants_shutdown();
        // What is written is waited for in another way than what is not.
        goes_on || ends || machine.wants_read() != reads || self.time(cx, now)
    }

    /// Arms the timer and handles what is due; says whether anything was.
    fn time(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        let Some((machine, _)) = &mut self.parts else { return false };
        let Some(at) = machine.poll_timeout() else { return false };
        if at <= now.at {
            machine.handle_timeout(now);
            return true;
        }
        self.alarm.fires(cx, at)
    }

    /// What the seat knows. Answers whether there is a round to take, and whether writes may be put off in it.
    fn take_turn(&mut self, cx: &mut Context<'_>) -> Option<bool> {
        let Some(seated) = &self.seated else { return Some(false) };
        match seated.seat().pass() {
            TurnPass::TakeIn => {
                self.readable |= seated.seat().take_touched();
                Some(true)
            }
            TurnPass::Write => {
                self.write_only(cx);
                None
            }
            TurnPass::GoOn => self.note_written(cx).then_some(false),
        }
    }
}

impl<M, T, K, C> Future for Driver<M, T, K, C>
where
    M: Machine + Unpin,
    T: Transport + Unpin,
    K: Timer + Unpin,
    C: Clock + Unpin,
{
    type Output = (M, T);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(M, T)> {
        let this = self.get_mut();
        let Some(puts_off) = this.take_turn(cx) else { return Poll::Pending };
        let mut left = BUDGET;
        while left > 0 {
            match this.round(cx, puts_off, left) {
                Round::Again(rounds) => left = left.saturating_sub(rounds),
                Round::Idle => return Poll::Pending,
                Round::PutOff => {
                    this.put_off();
                    return Poll::Pending;
                }
                Round::Over => match this.parts.take() {
                    Some(parts) => return Poll::Ready(parts),
                    // Polled after its end: there is nothing to wait for.
                    None => return Poll::Pending,
                },
            }
        }
        // What was put off is written now, and the rest goes on in another turn.
        this.put_off();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Writes all of `rest`, and what the stream holds back of it.
pub(crate) async fn write_all<T: Transport + Unpin>(transport: &mut T, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match poll_fn(|cx| Pin::new(&mut *transport).poll_write(cx, rest)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => rest = rest.get(n..).unwrap_or_default(),
        }
    }
    poll_fn(|cx| Pin::new(&mut *transport).poll_flush(cx)).await
}

/// Writes what there is; says whether the socket took anything.
pub(crate) fn write<M: Machine, T: Transport + Unpin>(
    machine: &mut M,
    transport: &mut T,
    cx: &mut Context<'_>,
    now: Now,
) -> bool {
    let mut wrote = false;
    while !machine.transmit().is_empty() {
        match Pin::new(&mut *transport).poll_write(cx, machine.transmit()) {
            Poll::Ready(outcome) => took(machine, outcome, now),
            Poll::Pending => break,
        }
        wrote = true;
    }
    // Not after a write that waits: a stream may keep one waker for both, and a flush that is through at once forgets it.
    if machine.transmit().is_empty()
        && let Poll::Ready(Err(_)) = Pin::new(transport).poll_flush(cx)
    {
        machine.handle_broken(now);
        wrote = true;
    }
    wrote
}

/// What a write came to: one that takes nothing is broken.
fn took<M: Machine>(machine: &mut M, outcome: io::Result<usize>, now: Now) {
    match outcome {
        Ok(n) if n > 0 => machine.advance(now, n),
        Ok(_) | Err(_) => machine.handle_broken(now),
    }
}

/// Reads once, at most into all of `buf`, which is not empty; answers how many bytes came, and 1 where the stream ended: 0 is none.
pub(crate) fn read<M: Machine, T: Transport + Unpin>(
    machine: &mut M,
    transport: &mut T,
    cx: &mut Context<'_>,
    now: Now,
    buf: &mut [u8],
) -> usize {
    match Pin::new(transport).poll_read(cx, buf) {
        Poll::Ready(Ok(0)) => machine.handle_eof(now),
        Poll::Ready(Ok(n)) => {
            machine.handle_bytes(now, buf.get(..n).unwrap_or_default());
            return n;
        }
        Poll::Ready(Err(_)) => machine.handle_broken(now),
        Poll::Pending => return 0,
    }
    1
}

/// The same into room of the crew's, which is not cleared for each read, or into room of its own.
fn read_at_most<M: Machine, T: Transport + Unpin>(
    (machine, transport): (&mut M, &mut T),
    seat: Option<&Seat>,
    cx: &mut Context<'_>,
    now: Now,
    max: usize,
) -> usize {
    if let Some(seat) = seat {
        return seat.with_room(max, |buf| read(machine, transport, cx, now, buf));
    }
    match [0; READ_BYTES].get_mut(..max) {
        Some(buf) => read(machine, transport, cx, now, buf),
        None => read(machine, transport, cx, now, &mut vec![0; max]),
    }
}

#[cfg(test)]
mod tests;
