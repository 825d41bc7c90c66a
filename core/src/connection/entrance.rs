//! What is unusual about how a socket comes in: nobody is admitted now, or a web stack has read its request.

use super::{Connection, Phase};
use crate::codec::upgrade::{Answer, Refusal};
use crate::time::Now;

/// Boxed, because most sockets have none.
#[derive(Debug, Default)]
pub(super) struct Entrance {
    /// What a good upgrade is refused with.
    refusal: Option<Refusal>,
    relay: Option<Relay>,
}

/// A web stack has read the request and routed it here, and sends the answer.
#[derive(Debug, Default)]
struct Relay {
    answer: Option<Answer>,
}

impl Connection {
    /// Every good upgrade from here on is refused with `refusal`; other requests are still handed over.
    pub fn refuse_upgrades(&mut self, refusal: Refusal) {
        self.entrance.get_or_insert_default().refusal = Some(refusal);
    }

    /// A web stack gives the request, whatever its path, and sends the answer, which is [`Connection::take_answer`]'s. What
    /// comes after it is for the stream, as ever.
    pub fn expect_relayed(&mut self) {
        if matches!(self.phase, Phase::Head(_)) {
            self.entrance.get_or_insert_default().relay = Some(Relay::default());
        }
    }

    /// The answer to a relayed request, once.
    pub fn take_answer(&mut self) -> Option<Answer> {
        let answer = self.entrance.as_mut()?.relay.as_mut()?.answer.take()?;
        self.entrance = None;
        Some(answer)
    }

    /// Whether it was the peer who closed, so that the reason is its word.
    pub const fn was_closed_by_peer(&self) -> bool {
        self.closed_by_peer
    }

    /// The status that its request was answered with, once it was: 101 where it is a WebSocket.
    pub const fn answered(&self) -> Option<u16> {
        self.answered
    }

    pub(super) fn is_relayed(&self) -> bool {
        self.entrance.as_ref().is_some_and(|entrance| entrance.relay.is_some())
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.entrance.as_ref()?.refusal
    }

    /// Gives the answer to the request, to whoever sends it.
    pub(super) fn respond(&mut self, now: Now, answer: Answer) {
        self.answered = Some(answer.status);
        match self.entrance.as_mut().and_then(|entrance| entrance.relay.as_mut()) {
            Some(relay) => relay.answer = Some(answer),
            None => self.wire.raw(now.at, &answer.encode()),
        }
    }
}
