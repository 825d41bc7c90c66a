//! A connection that says every message again.

use std::sync::Arc;
use std::task::Waker;

use super::phase::HeadBuffer;
use super::wire::{Closing, Incoming, Wire};
use crate::codec::deflate::Deflate;
use crate::codec::upgrade::{Head, Refusal, Upgrade, check_upgrade, parse_head};
use crate::drive::Machine;
use crate::error::CloseReason;
use crate::limits::Limits;
use crate::time::{Now, Timestamp};

/// A [`Machine`] that accepts every upgrade of RFC 6455 and says each message again, for suites that hold the codec to the
/// standard, such as Autobahn. It reads heads and frames, answers pings and closes, and waits for slow sockets by the same
/// parts as a [`Connection`](super::Connection). It asks nobody for credentials and knows no user, no hub and no data: it is
/// no server to leave open.
///
/// Of the [`Limits`] it keeps to `message_bytes`, `deflate_from`, those of the handshake, of the close, of the heartbeat (a peer that is silent
/// for interval and timeout together is closed with `4003`, without a ping) and of the write stall.
///
/// ```
/// use std::sync::Arc;
/// use trunkline_core::codec::frame::{Opcode, encode};
/// use trunkline_core::connection::Echo;
/// use trunkline_core::drive::Machine;
/// use trunkline_core::limits::Limits;
/// use trunkline_core::time::{Now, Timestamp, UnixTime};
///
/// let now = Now { at: Timestamp::ZERO, unix: UnixTime::from_secs(1_800_000_000) };
/// let mut echo = Echo::new(now, Arc::new(Limits::default()));
/// echo.handle_bytes(now, b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
///     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
/// assert!(echo.transmit().starts_with(b"HTTP/1.1 101 "));
/// echo.advance(now, echo.transmit().len());
///
/// let mut hello = Vec::new();
/// encode(&mut hello, Opcode::Text, b"hello", Some([1, 2, 3, 4]));
/// echo.handle_bytes(now, &hello);
/// assert_eq!(echo.transmit(), b"\x81\x05hello");
/// ```
#[derive(Debug)]
pub struct Echo {
    limits: Arc<Limits>,
    phase: Phase,
    /// When the phase ends if nothing else ends it.
    deadline: Timestamp,
    wire: Wire,
    /// Bytes that wait because their answers would not be read.
    input: Vec<u8>,
    deflate: Option<Deflate>,
}

enum Phase {
    Head(HeadBuffer),
    Open,
    Closing(Closing),
    Closed,
}

impl Echo {
    /// For a socket that was just accepted.
    pub fn new(now: Now, limits: Arc<Limits>) -> Self {
        let (deadline, wire) = (now.at + limits.handshake_deadline, Wire::new(limits.message_bytes));
        Self { limits, phase: Phase::Head(HeadBuffer::default()), deadline, wire, input: Vec::new(), deflate: None }
    }

    /// The same that agrees on `permessage-deflate` where that is offered and [`Limits::deflate_from`] allows it. All connections of
    /// a server share one `deflate`.
    #[must_use]
    pub fn with_deflate(self, deflate: Deflate) -> Self {
        Self { deflate: self.limits.deflate_from.map(|_| deflate), ..self }
    }

    /// Answers how many bytes it used.
    fn take_in(&mut self, now: Now, bytes: &[u8]) -> usize {
        match &mut self.phase {
            Phase::Head(head) => {
                let (used, answer) = match head.take(bytes, &self.limits) {
                    Ok((used, None)) => return used,
                    Ok((used, Some(whole))) => (used, judge(&whole, &self.limits, self.deflate.is_some())),
                    Err(refusal) => (bytes.len(), Err(refusal)),
                };
                self.upgrade(now, answer);
                used
            }
            Phase::Open => self.read_frames(now, bytes),
            Phase::Closing(closing) if closing.awaits_peer() => self.read_frames(now, bytes),
            Phase::Closing(_) | Phase::Closed => bytes.len(),
        }
    }

    fn upgrade(&mut self, now: Now, answer: Result<Upgrade, Refusal>) {
        match answer {
            Ok(upgrade) => {
                self.wire.raw(now.at, &upgrade.response(None));
                if let (Some(agreed), Some(deflate)) = (upgrade.agreed(), &self.deflate) {
                    self.wire.set_deflate(agreed, deflate, self.limits.deflate_from.unwrap_or(usize::MAX));
                }
                self.phase = Phase::Open;
                self.heard(now);
            }
            Err(refusal) => {
                self.wire.raw(now.at, &refusal.response());
                self.begin_closing(now, Closing::http());
            }
        }
    }

    fn read_frames(&mut self, now: Now, bytes: &[u8]) -> usize {
        self.heard(now);
        let mut rest = bytes;
        while self.reads_frames() && self.has_room() {
            match self.wire.read(now.at, self.closing(), &mut rest) {
                Incoming::Starved => break,
                Incoming::Handled => {}
                Incoming::Text(text) => self.wire.text(now.at, &[text.as_bytes()]),
                Incoming::Binary(bytes) => self.wire.binary(now.at, &bytes),
                Incoming::Closing(_, closing) => self.begin_closing(now, closing),
            }
        }
        bytes.len() - rest.len()
    }

    fn reads_frames(&self) -> bool {
        match &self.phase {
            Phase::Open => true,
            Phase::Closing(closing) => closing.awaits_peer(),
            Phase::Head(_) | Phase::Closed => false,
        }
    }

    const fn closing(&self) -> Option<Closing> {
        if let Phase::Closing(closing) = self.phase { Some(closing) } else { None }
    }

    /// One message at a time waits for the socket, and little beside it.
    fn has_room(&self) -> bool {
        self.wire.unsent().len() < self.limits.control_bytes
    }

    fn heard(&mut self, now: Now) {
        if matches!(self.phase, Phase::Open) {
            self.deadline = now.at + self.limits.heartbeat_interval + self.limits.heartbeat_timeout;
        }
    }

    fn begin_closing(&mut self, now: Now, closing: Closing) {
        self.phase = Phase::Closing(closing);
        self.deadline = now.at + self.limits.close_deadline;
        self.flushed();
    }

    /// A close that waits for nobody ends once all output is with the socket.
    fn flushed(&mut self) {
        if self.wire.is_empty() && self.closing().is_some_and(|closing| closing.ends_when_flushed()) {
            self.end();
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Closed;
        self.wire.clear();
        self.input = Vec::new();
    }

    fn stall(&self) -> Option<Timestamp> {
        self.wire.stalled_at(self.limits.write_stall)
    }
}

impl Machine for Echo {
    fn poll_ready(&mut self, now: Now, _waker: &Waker) {
        if !self.input.is_empty() && self.has_room() {
            let waiting = std::mem::take(&mut self.input);
            self.handle_bytes(now, &waiting);
        }
    }

    fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        if !self.input.is_empty() {
            return self.input.extend_from_slice(bytes);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let used = self.take_in(now, rest);
            if used == 0 {
                break;
            }
            rest = rest.get(used..).unwrap_or_default();
        }
        self.input = rest.to_vec();
    }

    fn handle_eof(&mut self, _now: Now) {
        self.end();
    }

    fn handle_broken(&mut self, _now: Now) {
        self.end();
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.poll_timeout().is_none_or(|at| at > now.at) {
            return;
        }
        let stalled = self.stall().is_some_and(|at| at <= now.at);
        match &self.phase {
            Phase::Open if !stalled => {
                let closing = self.wire.close(now.at, CloseReason::IdleTimeout);
                self.begin_closing(now, closing);
            }
            Phase::Head(_) | Phase::Open | Phase::Closing(_) | Phase::Closed => self.end(),
        }
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        match &self.phase {
            // A peer that does not take what waits is no silent one: it has the time of a stalled one.
            Phase::Open => Some(self.stall().unwrap_or(self.deadline)),
            Phase::Head(_) | Phase::Closing(_) => Some(self.stall().map_or(self.deadline, |at| at.min(self.deadline))),
            Phase::Closed => None,
        }
    }

    fn transmit(&self) -> &[u8] {
        self.wire.unsent()
    }

    fn advance(&mut self, now: Now, n: usize) {
        self.wire.advance(now.at, n);
        if n > 0 {
            self.heard(now);
        }
        self.flushed();
    }

    fn wants_read(&self) -> bool {
        match &self.phase {
            Phase::Head(_) | Phase::Open => self.input.is_empty() && self.has_room(),
            Phase::Closing(_) => self.input.is_empty(),
            Phase::Closed => false,
        }
    }

    fn wants_shutdown(&self) -> bool {
        self.wire.is_empty() && self.closing().is_some_and(|closing| closing.wants_shutdown())
    }

    fn handle_shutdown(&mut self) {
        if let Phase::Closing(closing) = &mut self.phase {
            closing.shut();
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }
}

fn judge(whole: &[u8], limits: &Limits, deflates: bool) -> Result<Upgrade, Refusal> {
    match parse_head(whole, limits)? {
        Head::Complete { request, .. } if deflates => check_upgrade(&request)?.with_deflate(&request),
        Head::Complete { request, .. } => check_upgrade(&request),
        // The scanner has seen the end, so the parser does too.
        Head::Incomplete => Err(Refusal::BadRequest("the request is not whole")),
    }
}

/// The name of the phase: what it holds are requests.
impl std::fmt::Debug for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Head(_) => "Head",
            Self::Open => "Open",
            Self::Closing(_) => "Closing",
            Self::Closed => "Closed",
        })
    }
}
