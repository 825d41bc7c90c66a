//! One socket as a pure machine: upgrade, credentials, `hello`, frames, keepalive, close.
//!
//! Bytes and time go in by `handle_*`; what is to be written is in [`Connection::transmit`], what is to be decided
//! elsewhere comes from [`Connection::poll_event`], and every phase but the last owns a deadline, which
//! [`Connection::poll_timeout`] names. A peer's fault is never an error of the caller: it becomes a close.
//!
//! ```text
//! Head ──► VerifyUpgrade ──► AwaitHello ──► VerifyHello ──► Attaching ──► Live
//!   │            │               │               │              │          │
//!   └─ Handoff   └──────────── Closing ◄─────────┴──────────────┴──────────┘ ──► Closed
//! ```
//!
//! Behind a trusted proxy `Reserving` follows `Head`: the client whose request it is needs a place of its own.

mod echo;
mod entrance;
mod handshake;
mod legacy;
mod live;
mod outbox;
mod phase;
mod settings;
#[cfg(test)]
mod tests;
mod validity;
mod wire;

use std::sync::Arc;

use crate::admission::ClientAddress;
use crate::auth::{AuthError, Grant, Ticket, Token};
use crate::codec::upgrade::Refusal;
use crate::error::CloseReason;
use crate::protocol::{ClientFrame, FrameError, Hello, ServerFrame};
use crate::stream::Packed;
use crate::time::{Now, Timestamp, UnixTime};

pub use echo::Echo;
use entrance::Entrance;
use live::Live;
use phase::Phase;
pub use phase::PhaseName;
use settings::HIGH_WATER;
pub use settings::Settings;
use wire::{Closing, Wire};

/// One server-side socket.
#[derive(Debug)]
pub struct Connection {
    settings: Arc<Settings>,
    phase: Phase,
    /// When the phase ends if nothing else ends it. `Live` has deadlines of its own.
    phase_deadline: Timestamp,
    wire: Wire,
    event: Option<ConnectionEvent>,
    entrance: Option<Box<Entrance>>,
    /// Whether TLS ends here, right before the client.
    secure: bool,
    /// Why the socket closes; set once.
    reason: Option<CloseReason>,
    /// The last sign of life of the peer.
    heard: Timestamp,
    /// The status of the answer to the upgrade.
    answered: Option<u16>,
    /// The peer closed it, with a code of its own choice.
    closed_by_peer: bool,
}

/// What somebody else must decide or take. The machine waits for the answer to the first five.
#[derive(Debug)]
pub enum ConnectionEvent {
    /// A proxy's request is this client's: make room for it, then call [`Connection::handle_reserved`].
    Reserve(ClientAddress),
    /// Verify this, then call [`Connection::handle_verified`].
    Verify(Token),
    /// Take this ticket, then call [`Connection::handle_verified`] with what it grants.
    TakeTicket(Ticket),
    /// Attach the user, then call [`Connection::handle_attached`] or [`Connection::close`].
    Attach(Box<Admission>),
    /// The request is not for the WebSocket endpoint: the bytes so far are [`Connection::take_handoff`]'s.
    Handoff,
    /// A frame of the verified, attached client.
    Frame(Box<ClientFrame>),
    /// An event of a producer's run that cannot be read: note its number, then answer with the error.
    Unreadable(Box<FrameError>),
}

/// Who comes in, and with which wishes.
#[derive(Debug)]
pub struct Admission {
    /// What the token grants.
    pub grant: Grant,
    /// The client's first frame.
    pub hello: Hello,
}

/// What a deadline is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKind {
    /// The upgrade request is not whole.
    Handshake,
    /// No `hello`.
    Hello,
    /// A ping is due.
    Ping,
    /// Nothing came after the ping.
    Heartbeat,
    /// The socket takes nothing.
    WriteStall,
    /// A producer over its rate is read again.
    Pace,
    /// No application message.
    Idle,
    /// The client is to be told that its token expires.
    AuthNotice,
    /// The token has expired.
    TokenExpiry,
    /// The server's drain reaches this connection.
    Drain,
    /// The peer does not finish the close.
    Close,
}

impl Connection {
    /// A socket that was just accepted.
    pub fn new(now: Now, settings: Arc<Settings>) -> Self {
        let phase_deadline = now.at + settings.limits.handshake_deadline;
        let wire = Wire::new(settings.limits.hello_bytes);
        let phase = Phase::Head(Box::default());
        Self {
            settings,
            phase,
            phase_deadline,
            wire,
            event: None,
            entrance: None,
            secure: false,
            reason: None,
            heard: now.at,
            answered: None,
            closed_by_peer: false,
        }
    }

    /// Takes bytes from the socket, and answers how many it used. It stops early at what needs an answer from
    /// outside: drain [`Connection::poll_event`], answer, and come again with the rest.
    pub fn handle_bytes(&mut self, now: Now, bytes: &[u8]) -> usize {
        debug_assert!(self.event.is_none(), "the event is taken before the next input");
        match &mut self.phase {
            Phase::Head(_) => self.read_head(now, bytes),
            Phase::AwaitHello(_) | Phase::Live(_) => self.read_frames(now, bytes),
            Phase::Closing(closing) if closing.awaits_peer() => self.read_frames(now, bytes),
            Phase::Reserving(_) | Phase::VerifyUpgrade(_) | Phase::VerifyHello(_) | Phase::Attaching(_) => 0,
            // Read and dropped, so that our close frame is not lost to a reset.
            Phase::Closing(_) | Phase::Closed => bytes.len(),
            Phase::Handoff(_) => 0,
        }
    }

    /// The peer will send no more.
    pub fn handle_eof(&mut self) {
        self.end();
    }

    /// The socket failed: nothing can be written any more.
    pub fn handle_broken(&mut self) {
        self.end();
    }

    /// A trusted proxy has opened this socket: whose it is stands in the request's head, and nothing else of it is looked at
    /// before [`ConnectionEvent::Reserve`] is answered.
    pub fn expect_proxied(&mut self) {
        if let Phase::Head(head) = &mut self.phase {
            head.proxied = true;
        }
    }

    /// The socket is encrypted up to here. What lies before a trusted proxy is not known all the same.
    pub fn expect_secure(&mut self) {
        if let Phase::Head(head) = &self.phase {
            self.secure = !head.proxied;
        }
    }

    /// The answer to [`ConnectionEvent::Reserve`]: go on, or what to refuse the request with.
    pub fn handle_reserved(&mut self, now: Now, verdict: Result<(), Refusal>) {
        let Phase::Reserving(head) = &mut self.phase else { return };
        match verdict {
            Ok(()) => {
                let whole = std::mem::take(head);
                self.enter(now, whole);
            }
            Err(refusal) => self.refuse(now, refusal),
        }
    }

    /// The answer to [`ConnectionEvent::Verify`].
    pub fn handle_verified(&mut self, now: Now, verdict: Result<Grant, AuthError>) {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::VerifyUpgrade(upgrade) => self.upgrade_verified(now, *upgrade, verdict),
            Phase::VerifyHello(said) => self.hello_verified(now, *said, verdict),
            Phase::Live(live) => {
                self.phase = Phase::Live(live);
                self.refresh_verified(now, verdict);
            }
            // Late: the connection went its way meanwhile.
            other @ (Phase::Head(_)
            | Phase::Reserving(_)
            | Phase::AwaitHello(_)
            | Phase::Attaching(_)
            | Phase::Handoff(_)
            | Phase::Closing(_)
            | Phase::Closed) => self.phase = other,
        }
    }

    /// The answer to [`ConnectionEvent::Attach`]: the client is in, and `welcome` is its first frame.
    pub fn handle_attached(&mut self, now: Now, welcome: &ServerFrame) {
        let Phase::Attaching(entering) = &self.phase else { return };
        let live = Live::new(now, &entering.grant, entering.profile, &self.settings.limits);
        self.wire.set_max_message(self.settings.limits.message_bytes);
        self.heard = now.at;
        self.phase_deadline = Timestamp::MAX;
        self.phase = Phase::Live(live);
        self.send(now, welcome);
    }

    /// Does what is due; before a deadline, nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((at, kind)) = self.poll_timeout() {
            if at > now.at {
                return;
            }
            self.expire(now, kind);
        }
    }

    /// The next decision for somebody else.
    pub const fn poll_event(&mut self) -> Option<ConnectionEvent> {
        self.event.take()
    }

    /// The next deadline and what it is about.
    pub fn poll_timeout(&self) -> Option<(Timestamp, TimerKind)> {
        let limits = &self.settings.limits;
        let patience = if let Phase::Live(live) = &self.phase { live.write_stall(limits) } else { limits.write_stall };
        let stall = self.wire.stalled_at(patience).map(|at| (at, TimerKind::WriteStall));
        let phase = match &self.phase {
            Phase::Head(_) | Phase::Reserving(_) | Phase::VerifyUpgrade(_) => {
                Some((self.phase_deadline, TimerKind::Handshake))
            }
            Phase::AwaitHello(_) | Phase::VerifyHello(_) | Phase::Attaching(_) => {
                Some((self.phase_deadline, TimerKind::Hello))
            }
            Phase::Closing(_) => Some((self.phase_deadline, TimerKind::Close)),
            Phase::Live(live) => return live.timeout(self.heard, stall, &self.settings.limits),
            Phase::Handoff(_) | Phase::Closed => None,
        };
        phase.into_iter().chain(stall.filter(|_| phase.is_some())).min()
    }

    /// What the socket is to be given next; empty when there is nothing.
    pub fn transmit(&self) -> &[u8] {
        self.wire.unsent()
    }

    /// The socket took `n` bytes of [`Connection::transmit`].
    pub fn advance(&mut self, now: Now, n: usize) {
        if let Phase::Live(live) = &mut self.phase {
            live.took(n);
        }
        if n > 0 && !self.has_room() {
            // Nobody listens to the peer: what it takes is its sign of life.
            self.heard = now.at;
        }
        self.wire.advance(now.at, n);
        if self.wire.is_empty() {
            if let Phase::Live(live) = &mut self.phase {
                live.flushed(now.at);
            }
            self.flushed();
        }
    }

    /// Whether to read from the socket. Pongs, replies and errors that wait for the socket stop reading; a stream that
    /// is behind does not.
    pub fn wants_read(&self) -> bool {
        match &self.phase {
            Phase::Head(_) | Phase::AwaitHello(_) | Phase::Live(_) => self.has_room() && !self.is_paused(),
            Phase::Closing(_) => true,
            Phase::Reserving(_) | Phase::VerifyUpgrade(_) | Phase::VerifyHello(_) | Phase::Attaching(_) => false,
            Phase::Handoff(_) | Phase::Closed => false,
        }
    }

    /// Whether the sending side is to be ended now, while what the peer sends is still read.
    pub fn wants_shutdown(&self) -> bool {
        self.wire.is_empty() && matches!(&self.phase, Phase::Closing(closing) if closing.wants_shutdown())
    }

    /// The sending side has ended.
    pub const fn handle_shutdown(&mut self) {
        if let Phase::Closing(closing) = &mut self.phase {
            closing.shut();
        }
    }

    /// Whether control frames may be added: [`Limits::control_bytes`](crate::limits::Limits::control_bytes) do not wait yet beside
    /// the stream's events.
    pub fn has_room(&self) -> bool {
        self.wire.unsent().len() < self.settings.read_gate()
    }

    /// Bytes of heap for what has come of a request's head or of a message, while that is not whole; and how many they may
    /// become.
    pub fn half_received(&self) -> (usize, usize) {
        if let Phase::Head(head) = &self.phase {
            (head.heap_bytes(), self.settings.limits.handshake_bytes + 1)
        } else {
            self.wire.half_received()
        }
    }

    /// Whether stream events may be added: the client is in, and little is waiting, also before it was compressed.
    pub fn wants_events(&self) -> bool {
        matches!(self.phase, Phase::Live(_)) && self.wire.unsent().len() < HIGH_WATER && !self.wire.has_packed_much()
    }

    /// Adds a frame that was encoded elsewhere, such as an event.
    pub fn send_encoded(&mut self, now: Now, parts: &[&[u8]]) {
        if self.is_legacy() {
            self.translate(now, parts);
        } else if matches!(self.phase, Phase::Live(_)) {
            self.wire.text(now.at, parts);
        }
    }

    /// Adds an event's frame with `head` in the place of its first byte. Of all connections that take it compressed the first one
    /// makes what they share.
    pub fn send_shared(&mut self, now: Now, head: &[u8], event: &Packed) {
        if self.is_legacy() {
            self.translate(now, &[head, event.tail()]);
        } else if matches!(self.phase, Phase::Live(_)) {
            self.wire.shared_text(now.at, head, event);
        }
    }

    /// Adds a frame.
    pub fn send(&mut self, now: Now, frame: &ServerFrame) {
        if self.is_legacy() {
            self.send_legacy(now, frame);
        } else {
            self.send_encoded(now, &[frame.encode().as_bytes()]);
        }
    }

    /// Closes with a reason, once: a connection that is closing keeps its first.
    pub fn close(&mut self, now: Now, reason: CloseReason) {
        match &self.phase {
            Phase::Closing(_) | Phase::Closed | Phase::Handoff(_) => {}
            // No WebSocket yet: there is nobody to send a close frame to.
            Phase::Head(_) | Phase::Reserving(_) | Phase::VerifyUpgrade(_) => {
                self.reason = Some(reason);
                self.end();
            }
            Phase::AwaitHello(_) | Phase::VerifyHello(_) | Phase::Attaching(_) | Phase::Live(_) => {
                self.reason = Some(reason);
                self.event = None;
                let closing = self.wire.close(now.at, reason);
                self.begin_closing(now, closing);
            }
        }
    }

    /// Ends a connection whose token has expired: nothing is delivered after an expiry that the timer has not told of yet.
    ///
    /// No other deadline may come before the socket is looked at: after a pause of the whole process the peer's pong is
    /// there to be read, and the socket takes bytes again.
    pub fn end_expired(&mut self, now: Now) {
        if matches!(&self.phase, Phase::Live(live) if live.has_expired(now.at)) {
            self.close(now, CloseReason::TokenExpired);
        }
    }

    /// From here on the connection closes by `deadline`, as part of a shutdown.
    pub fn drain_by(&mut self, deadline: Timestamp) {
        if let Phase::Live(live) = &mut self.phase {
            live.drain_by(deadline);
        }
    }

    /// Refuses the upgrade with an HTTP answer, such as 503 while the server drains; later, nothing.
    pub fn refuse(&mut self, now: Now, refusal: Refusal) {
        if matches!(self.phase, Phase::Head(_) | Phase::Reserving(_) | Phase::VerifyUpgrade(_)) {
            self.event = None;
            self.respond(now, refusal.answer());
            self.begin_closing(now, Closing::http());
        }
    }

    /// Whether the socket is done with: close it.
    pub const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Why it closes, once it does so for a reason of ours or the peer's.
    pub const fn close_reason(&self) -> Option<CloseReason> {
        self.reason
    }

    /// The bytes of a request that is not for the WebSocket endpoint.
    pub fn take_handoff(&mut self) -> Option<Vec<u8>> {
        let Phase::Handoff(bytes) = &mut self.phase else { return None };
        let bytes = std::mem::take(bytes);
        self.phase = Phase::Closed;
        Some(bytes)
    }

    /// When the peer last gave a sign of life: a byte that came from it, or that it took while nothing was read.
    pub const fn heard(&self) -> Timestamp {
        self.heard
    }

    /// From when on the peer of a live connection seems to be gone, as things are now: a ping has gone unanswered, or the socket
    /// has taken nothing, for half of the time after which that closes it.
    pub fn seems_dead_at(&self) -> Option<Timestamp> {
        let Phase::Live(live) = &self.phase else { return None };
        let limits = &self.settings.limits;
        let stuck = self.wire.stalled_at(live.write_stall(limits) / 2);
        live.unanswered_at(limits).into_iter().chain(stuck).min()
    }

    /// When the token expires on which it stands, while it is live.
    pub const fn expires(&self) -> Option<UnixTime> {
        match &self.phase {
            Phase::Live(live) => Some(live.expires()),
            Phase::Head(_)
            | Phase::Reserving(_)
            | Phase::VerifyUpgrade(_)
            | Phase::AwaitHello(_)
            | Phase::VerifyHello(_)
            | Phase::Attaching(_)
            | Phase::Handoff(_)
            | Phase::Closing(_)
            | Phase::Closed => None,
        }
    }

    /// Where the machine stands.
    pub const fn phase(&self) -> PhaseName {
        self.phase.name()
    }

    fn expire(&mut self, now: Now, kind: TimerKind) {
        match kind {
            TimerKind::Handshake | TimerKind::Close => self.end(),
            TimerKind::Hello => self.close(now, CloseReason::HelloTimeout),
            TimerKind::Ping => self.ping(now),
            TimerKind::Heartbeat => self.close(now, CloseReason::HeartbeatTimeout),
            TimerKind::WriteStall => self.stalled(now),
            TimerKind::Pace => self.unpause(),
            TimerKind::Idle => self.close(now, CloseReason::IdleTimeout),
            TimerKind::AuthNotice => self.give_notice(now),
            TimerKind::TokenExpiry => self.close(now, CloseReason::TokenExpired),
            TimerKind::Drain => self.close(now, CloseReason::Restart),
        }
    }

    /// A close frame would wait behind what the socket does not take: the peer will know by the missing end.
    fn stalled(&mut self, now: Now) {
        self.close(now, CloseReason::WriteStalled);
        self.end();
    }

    fn begin_closing(&mut self, now: Now, closing: Closing) {
        self.phase = Phase::Closing(closing);
        self.phase_deadline = now.at + self.settings.limits.close_deadline;
        if self.wire.is_empty() {
            self.flushed();
        }
    }

    /// All output is with the socket.
    fn flushed(&mut self) {
        if let Phase::Closing(closing) = &self.phase
            && closing.ends_when_flushed()
        {
            self.end();
        }
    }

    fn end(&mut self) {
        if !matches!(self.phase, Phase::Handoff(_)) {
            self.phase = Phase::Closed;
            self.event = None;
            self.wire.clear();
        }
    }
}
