//! A socket in a crew.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::{Handover, Outcome};
use crate::crew::CrewTimer;
use crate::drive::{Driver, Transport};
use crate::hub::Session;
use crate::sync::Seat;

/// A socket that is driven in a crew. Most are driven nearly all their lives: what comes before and after that has a box of its
/// own, where an async function would keep room for it in each of them.
pub(super) struct Attending<T, R, W> {
    stage: Stage<T, R>,
    seat: Arc<Seat>,
    /// What makes the future of the end.
    ends: W,
}

#[expect(clippy::large_enum_variant, reason = "nearly all are driven, and are looked at most often")]
enum Stage<T, R> {
    /// The session lies in it: a turn begins with one look at the memory, not with one that waits for another.
    Driven(SeatedDriver<T>),
    Beside(Pin<Box<R>>),
    Over,
}

type SeatedDriver<T> = Driver<Session, T, CrewTimer, crate::hub::Hub>;

/// What comes after something else than driving.
pub(super) enum Next<T> {
    Drive(Box<Session>, T),
    Over(Outcome<Handover<T>>),
}

impl<T: Transport + Unpin, R, W> Attending<T, R, W> {
    /// Begins with driving.
    pub(super) fn driven(seat: Arc<Seat>, session: Box<Session>, transport: T, ends: W) -> Self {
        Self { stage: Stage::Driven(driver(&seat, session, transport)), seat, ends }
    }

    /// Begins with what comes before that.
    pub(super) fn beside(seat: Arc<Seat>, opens: R, ends: W) -> Self {
        Self { stage: Stage::Beside(Box::pin(opens)), seat, ends }
    }
}

fn driver<T: Transport + Unpin>(seat: &Arc<Seat>, session: Box<Session>, transport: T) -> SeatedDriver<T> {
    let hub = session.hub().clone();
    Driver::new(*session, transport, CrewTimer::new(seat), hub).seated(Arc::clone(seat))
}

impl<T, R, W> Future for Attending<T, R, W>
where
    T: Transport + Unpin,
    R: Future<Output = Next<T>>,
    W: Fn(Box<Session>, T, CrewTimer) -> R + Unpin,
{
    type Output = Outcome<Handover<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            this.stage = match &mut this.stage {
                Stage::Driven(driver) => {
                    let (session, transport) = ready!(Pin::new(driver).poll(cx));
                    Stage::Beside(Box::pin((this.ends)(Box::new(session), transport, CrewTimer::new(&this.seat))))
                }
                Stage::Beside(future) => match ready!(future.as_mut().poll(cx)) {
                    Next::Drive(session, transport) => Stage::Driven(driver(&this.seat, session, transport)),
                    Next::Over(outcome) => {
                        this.stage = Stage::Over;
                        return Poll::Ready(outcome);
                    }
                },
                // Polled after its end: there is nothing to wait for.
                Stage::Over => return Poll::Pending,
            }
        }
    }
}
