//! The codec's half of a socket, whatever the messages mean: pings answered, closes answered, faults told, output bounded
//! by its user. What serves clients and what is held to conformance suites ([`Echo`](super::Echo)) read and write by it.

use std::time::Duration;

use super::outbox::Outbox;
use crate::codec::deflate::{Deflate, MAX_WINDOW_BITS, stored};
use crate::codec::frame::{Assembler, Message, Opcode, Role};
use crate::codec::upgrade::Agreed;
use crate::error::CloseReason;
use crate::stream::Packed;
use crate::time::Timestamp;

/// Frames in and out.
#[derive(Debug)]
pub(super) struct Wire {
    assembler: Assembler,
    out: Outbox,
    /// Boxed: most messages go out as they are, and many clients agree on nothing.
    packer: Option<Box<Packer>>,
}

/// What compresses the messages of one connection.
#[derive(Debug)]
struct Packer {
    deflate: Deflate,
    window_bits: u8,
    /// Shorter messages stay as they are.
    from: usize,
    /// Bytes that were to be compressed since the socket last had all of it.
    taken: usize,
}

/// Of so many the socket is to take what came before more are compressed, however little that is: 128 KiB.
const MUCH: usize = 128 << 10;

/// What the next message of a peer comes to.
pub(super) enum Incoming {
    /// The bytes are used up, and no message is whole.
    Starved,
    /// It needed nobody else: a ping, a pong, or anything but a close while the socket closes.
    Handled,
    /// A text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// The socket closes: the answer, or what the peer did wrong, waits to go out. The reason counts where it is the first.
    Closing(CloseReason, Closing),
}

impl Wire {
    pub(super) fn new(max_message: usize) -> Self {
        Self { assembler: Assembler::new(Role::Server, max_message), out: Outbox::default(), packer: None }
    }

    /// From here on messages may be compressed in both directions, and those of `from` bytes are.
    pub(super) fn set_deflate(&mut self, agreed: Agreed, deflate: &Deflate, from: usize) {
        self.assembler.set_deflate(deflate.clone());
        let (deflate, window_bits) = (deflate.clone(), agreed.window_bits());
        self.packer = Some(Box::new(Packer { deflate, window_bits, from, taken: 0 }));
    }

    pub(super) fn set_max_message(&mut self, max_message: usize) {
        self.assembler.set_max_message(max_message);
    }

    /// Takes one message from the front of `input`, while frames still mean something. `closing` is how far a close has come.
    pub(super) fn read(&mut self, now: Timestamp, closing: Option<Closing>, input: &mut &[u8]) -> Incoming {
        match self.assembler.push(input) {
            Ok(None) => Incoming::Starved,
            Ok(Some(Message::Close(code, _))) => self.peer_closes(now, closing, code),
            // While closing only the peer's close frame counts.
            Ok(Some(_)) if closing.is_some() => Incoming::Handled,
            Ok(Some(Message::Ping(payload))) => {
                self.out.frame(now, Opcode::Pong, payload.as_bytes());
                Incoming::Handled
            }
            Ok(Some(Message::Pong(_))) => Incoming::Handled,
            Ok(Some(Message::Text(text))) => Incoming::Text(text),
            Ok(Some(Message::Binary(bytes))) => Incoming::Binary(bytes),
            Err(fault) => {
                let reason = fault.close_reason();
                if closing.is_none() {
                    self.out.close(now, reason.code(), reason.name());
                }
                Incoming::Closing(reason, Closing::deaf())
            }
        }
    }

    /// Says why we close.
    pub(super) fn close(&mut self, now: Timestamp, reason: CloseReason) -> Closing {
        self.assembler.skip_messages();
        self.out.close(now, reason.code(), reason.name());
        Closing::sent()
    }

    pub(super) fn ping(&mut self, now: Timestamp) {
        self.out.frame(now, Opcode::Ping, b"");
    }

    /// A text whose parts were encoded elsewhere.
    pub(super) fn text(&mut self, now: Timestamp, parts: &[&[u8]]) {
        match self.packer.as_mut().and_then(|packer| packer.pack(parts)) {
            Some(payload) => self.out.compressed(now, Opcode::Text, &[&payload]),
            None => self.out.text(now, parts),
        }
    }

    pub(super) fn binary(&mut self, now: Timestamp, bytes: &[u8]) {
        match self.packer.as_mut().and_then(|packer| packer.pack(&[bytes])) {
            Some(payload) => self.out.compressed(now, Opcode::Binary, &[&payload]),
            None => self.out.frame(now, Opcode::Binary, bytes),
        }
    }

    /// A text that is an event's frame with `head` in the place of its first byte. What follows it is the same for others.
    pub(super) fn shared_text(&mut self, now: Timestamp, head: &[u8], event: &Packed) {
        let Some(packer) = self.packer.as_mut().filter(|packer| packer.shares(event.tail())) else {
            return self.text(now, &[head, event.tail()]);
        };
        packer.taken = packer.taken.saturating_add(event.tail().len());
        let form = event.form(|tail| packer.deflate.compress(&[tail], MAX_WINDOW_BITS));
        match (form, u16::try_from(head.len())) {
            (Some(form), Ok(len)) => self.out.compressed(now, Opcode::Text, &[&stored(len), head, &form]),
            // It was not worth it for whoever came first.
            (Some(_) | None, _) => self.out.text(now, &[head, event.tail()]),
        }
    }

    /// The answer to the upgrade.
    pub(super) fn raw(&mut self, now: Timestamp, bytes: &[u8]) {
        self.out.raw(now, bytes);
    }

    pub(super) fn unsent(&self) -> &[u8] {
        self.out.unsent()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Whether much was compressed that still waits: it is little to send, and was work all the same.
    pub(super) fn has_packed_much(&self) -> bool {
        self.packer.as_ref().is_some_and(|packer| packer.taken >= MUCH)
    }

    pub(super) fn advance(&mut self, now: Timestamp, n: usize) {
        self.out.advance(now, n);
        if let Some(packer) = self.packer.as_mut().filter(|_| self.out.is_empty()) {
            packer.taken = 0;
        }
    }

    /// When a socket that takes nothing counts as stalled, while something waits.
    pub(super) fn stalled_at(&self, after: Duration) -> Option<Timestamp> {
        self.out.stalled_at(after)
    }

    /// Bytes of heap for what has come of a message, and how many they may become.
    pub(super) fn half_received(&self) -> (usize, usize) {
        (self.assembler.heap_bytes(), self.assembler.max_heap_bytes())
    }

    /// The socket is over.
    pub(super) fn clear(&mut self) {
        *self = Self::new(0);
    }

    /// Whether nothing is half received and nothing waits to go out.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.assembler.is_idle() && self.assembler.heap_bytes() == 0 && self.out.is_empty()
    }

    /// RFC 6455 section 5.5.1: a close is answered with the code it came with.
    fn peer_closes(&mut self, now: Timestamp, closing: Option<Closing>, code: Option<u16>) -> Incoming {
        if closing.is_none() {
            match code {
                Some(code) => self.out.close(now, code, ""),
                None => self.out.frame(now, Opcode::Close, b""),
            }
        }
        let reason = code.and_then(CloseReason::from_code).unwrap_or(CloseReason::Normal);
        Incoming::Closing(reason, Closing::answered())
    }
}

impl Packer {
    /// The payload of a message, where that is to be compressed.
    fn pack(&mut self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        let len = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        if len < self.from {
            return None;
        }
        self.taken = self.taken.saturating_add(len);
        self.deflate.compress(parts, self.window_bits)
    }

    /// Whether the form that is shared can be read by this client: nothing in it refers to what is further back than it is long.
    const fn shares(&self, tail: &[u8]) -> bool {
        self.window_bits == MAX_WINDOW_BITS || tail.len() <= 1 << self.window_bits
    }
}

/// How far a close has come. The socket ends once both halves are there, or by the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    /// The peer's close frame is still to come.
    awaits_peer: bool,
    /// Frames still make sense; after a fault or on HTTP they do not.
    parses: bool,
    /// The peer is to see the end of what we write, once it is with the socket.
    half: bool,
}

impl Closing {
    /// Our close frame is on its way.
    pub(super) const fn sent() -> Self {
        Self { awaits_peer: true, parses: true, half: false }
    }

    /// Both close frames are there.
    pub(super) const fn answered() -> Self {
        Self { awaits_peer: false, parses: false, half: false }
    }

    /// The peer broke the framing: its close frame cannot be recognised any more, so the end of its bytes takes the place of
    /// that. It comes at once where the peer sees the end of ours. Nothing is cut, so that our close frame is not lost to a reset.
    pub(super) const fn deaf() -> Self {
        Self { awaits_peer: true, parses: false, half: true }
    }

    /// An HTTP answer is on its way.
    pub(super) const fn http() -> Self {
        Self { awaits_peer: false, parses: false, half: false }
    }

    pub(super) const fn awaits_peer(&self) -> bool {
        self.awaits_peer && self.parses
    }

    pub(super) const fn ends_when_flushed(&self) -> bool {
        !self.awaits_peer
    }

    pub(super) const fn wants_shutdown(&self) -> bool {
        self.half
    }

    /// The peer sees the end of what we write.
    pub(super) const fn shut(&mut self) {
        self.half = false;
    }
}
