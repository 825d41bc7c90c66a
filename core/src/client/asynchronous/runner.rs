//! The task of a client: it does what the machine wants done, and carries what comes of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::requests::{Shared, Urgent};
use super::runtime::{Opening, Runtime, Stream};
use super::{ClientOptions, Incoming, MAX_INCOMING_BYTES};
use crate::client::{Asked, Fault, Output, Reconnecting, State, Stopped, Trouble, Update};
use crate::drive::{Alarm, BUDGET, READ_BYTES, read, write};
use crate::sync::{Popped, PushError};
use crate::time::{Clock as _, Now, Timestamp};

/// How long a socket that is done with may take to shut down.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);
/// The least that an update costs of what may wait.
const UPDATE_BYTES: usize = 256;

pub(super) struct Runner<R: Runtime> {
    machine: Reconnecting,
    options: ClientOptions,
    clock: R::Clock,
    alarm: Alarm<R::Timer>,
    shared: Arc<Shared>,
    incoming: Incoming,
    /// What found the application's mailbox full.
    waiting: Option<(Update, usize)>,
    asking: Option<(u64, Asked)>,
    opening: Option<(u64, Opening)>,
    socket: Option<Stream>,
    /// A socket that is done with, and until when it may take to say so.
    leaving: Option<(Stream, Timestamp)>,
}

enum Round {
    Again,
    Idle,
    Over,
}

impl<R: Runtime> Runner<R> {
    pub(super) fn new(
        machine: Reconnecting,
        options: ClientOptions,
        clock: R::Clock,
        shared: Arc<Shared>,
        incoming: Incoming,
    ) -> Self {
        let alarm = Alarm::new(R::timer(&clock));
        let (waiting, asking, opening, socket, leaving) = (None, None, None, None, None);
        Self { machine, options, clock, alarm, shared, incoming, waiting, asking, opening, socket, leaving }
    }

    fn round(&mut self, cx: &mut Context<'_>) -> Round {
        let now = self.clock.now();
        self.collect(now, cx.waker());
        let mut moved = self.poll_asking(cx, now);
        moved |= self.poll_opening(cx, now);
        moved |= self.poll_socket(cx, now);
        moved |= self.poll_leaving(cx, now);
        moved |= self.act(now);
        if self.is_over() {
            // Orders that crossed the end are refused.
            self.collect(now, cx.waker());
            self.act(now);
            if self.is_over() {
                return Round::Over;
            }
        }
        if self.time(cx, now) || moved { Round::Again } else { Round::Idle }
    }

    /// Takes the application's orders, as long as there is room for them; once it has closed, all of them.
    fn collect(&mut self, now: Now, waker: &Waker) {
        loop {
            self.hurry(now);
            while self.machine.takes_requests() || self.shared.orders.end().is_some() {
                match self.shared.orders.pop() {
                    Popped::Item(frame) => self.machine.order(now, *frame),
                    Popped::Empty => break,
                    Popped::Closed(()) => {
                        self.machine.close(now);
                        break;
                    }
                }
            }
            if !self.shared.orders.take_mark(waker) {
                return;
            }
        }
    }

    /// Does what does not wait for room.
    fn hurry(&mut self, now: Now) {
        let Urgent { token, reconnect } = std::mem::take(&mut *self.shared.urgent.lock());
        if let Some(token) = token {
            self.machine.refresh(now, token);
        }
        if reconnect {
            self.machine.reconnect_now(now);
        }
    }

    fn poll_asking(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        // One that took too long is given up.
        let Some((ask, asked)) = self.asking.as_mut().filter(|(ask, _)| self.machine.awaits_credentials(*ask)) else {
            self.asking = None;
            return false;
        };
        let Poll::Ready(outcome) = asked.as_mut().poll(cx) else { return false };
        let ask = *ask;
        self.asking = None;
        self.machine.handle_credentials(now, ask, outcome);
        true
    }

    fn poll_opening(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        let machine = &self.machine;
        let Some((attempt, opening)) = self.opening.as_mut().filter(|(attempt, _)| machine.awaits_socket(*attempt))
        else {
            self.opening = None;
            return false;
        };
        let Poll::Ready(opened) = opening.as_mut().poll(cx) else { return false };
        let attempt = *attempt;
        self.opening = None;
        let (stream, outcome) = match opened {
            Ok(stream) => (Some(stream), Ok(())),
            Err(error) => (None, Err(self.unreachable(&error))),
        };
        if self.machine.handle_open(now, attempt, outcome) {
            self.socket = stream;
        }
        true
    }

    fn unreachable(&self, error: &std::io::Error) -> String {
        format!("cannot connect to {}: {error}", self.options.config.endpoint.authority())
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        let Some(stream) = &mut self.socket else { return false };
        let wrote = write(&mut self.machine, stream, cx, now);
        let read = self.machine.wants_read() && read(&mut self.machine, stream, cx, now, &mut [0; READ_BYTES]) > 0;
        if !self.machine.has_socket() {
            self.leaving = self.socket.take().map(|stream| (stream, now.at + LEAVE_DEADLINE));
            return true;
        }
        wrote || read
    }

    fn poll_leaving(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        let Some((stream, until)) = &mut self.leaving else { return false };
        // A peer that is gone does not make the end any different.
        let left = *until <= now.at || stream.as_mut().poll_shutdown(cx).is_ready();
        if left {
            self.leaving = None;
        }
        left
    }

    /// Does what the machine wants done, as far as the application takes what it is told.
    fn act(&mut self, now: Now) -> bool {
        let mut moved = false;
        while self.hand_over() {
            let Some((output, bytes)) = self.machine.poll_sized_output() else { break };
            moved = true;
            match output {
                Output::Ask(ask, wanted) => self.asking = Some((ask, self.options.tokens.credentials(wanted))),
                Output::Open(attempt) => self.opening = Some((attempt, self.open())),
                Output::Tell(update) => {
                    if let Update::State(state) = &update {
                        self.note(state);
                    }
                    self.waiting = Some((update, bytes.clamp(UPDATE_BYTES, MAX_INCOMING_BYTES)));
                }
            }
        }
        if moved {
            // What was held back for want of room comes now.
            self.machine.handle_timeout(now);
        }
        moved
    }

    fn open(&self) -> Opening {
        let endpoint = &self.options.config.endpoint;
        match &self.options.connector {
            Some(connector) => connector.open(endpoint),
            None => R::open(endpoint),
        }
    }

    fn note(&mut self, state: &State) {
        if let State::Stopped(_) = state {
            (self.asking, self.opening) = (None, None);
            // Nothing is taken from here on; what came before is refused one by one.
            drop(self.shared.orders.close(()));
        }
        *self.shared.state.lock() = state.clone();
    }

    /// Gives the application what waits for it; answers whether nothing waits any more.
    fn hand_over(&mut self) -> bool {
        let Some((update, bytes)) = self.waiting.take() else { return true };
        match self.incoming.offer(update, bytes) {
            Ok(waker) => wake(waker),
            Err((update, PushError::Full)) => self.waiting = Some((update, bytes)),
            // Nobody reads any more.
            Err((_, PushError::Closed)) => {}
        }
        self.waiting.is_none()
    }

    fn is_over(&self) -> bool {
        self.machine.is_stopped() && self.waiting.is_none() && self.leaving.is_none() && self.socket.is_none()
    }

    fn time(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        let leaving = self.leaving.as_ref().map(|(_, until)| *until);
        let Some(at) = self.machine.poll_timeout().into_iter().chain(leaving).min() else { return false };
        if at <= now.at {
            self.machine.handle_timeout(now);
            return true;
        }
        self.alarm.fires(cx, at)
    }
}

impl<R: Runtime> Future for Runner<R> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        for _ in 0..BUDGET {
            match this.round(cx) {
                Round::Again => {}
                Round::Idle => return Poll::Pending,
                Round::Over => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Whoever waits for an update must not wait for ever when the task was stopped.
impl<R: Runtime> Drop for Runner<R> {
    fn drop(&mut self) {
        drop(self.shared.orders.close(()));
        let mut state = self.shared.state.lock();
        if !matches!(*state, State::Stopped(_)) {
            *state = State::Stopped(Stopped::Trouble(Trouble::Fault(Fault::Lost)));
        }
        drop(state);
        wake(self.incoming.close(()));
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
