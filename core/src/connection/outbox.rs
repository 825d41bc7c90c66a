//! Bytes on their way to the socket: one buffer, one write per wake, nothing held while idle.

use std::fmt;
use std::time::Duration;

use crate::codec::frame::{Opcode, encode, encode_close, encode_compressed, encode_text_parts};
use crate::time::Timestamp;

#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// Since when the socket has taken nothing while something waited.
    stuck_since: Timestamp,
}

impl Outbox {
    pub(super) fn unsent(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unsent().is_empty()
    }

    pub(super) fn text(&mut self, now: Timestamp, parts: &[&[u8]]) {
        self.begin(now);
        encode_text_parts(&mut self.bytes, parts);
    }

    /// The parts together are a compressed payload.
    pub(super) fn compressed(&mut self, now: Timestamp, opcode: Opcode, parts: &[&[u8]]) {
        self.begin(now);
        encode_compressed(&mut self.bytes, opcode, parts);
    }

    pub(super) fn frame(&mut self, now: Timestamp, opcode: Opcode, payload: &[u8]) {
        self.begin(now);
        encode(&mut self.bytes, opcode, payload, None);
    }

    pub(super) fn close(&mut self, now: Timestamp, code: u16, text: &str) {
        self.begin(now);
        encode_close(&mut self.bytes, code, text, None);
    }

    pub(super) fn raw(&mut self, now: Timestamp, bytes: &[u8]) {
        self.begin(now);
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn advance(&mut self, now: Timestamp, n: usize) {
        self.sent = self.sent.saturating_add(n).min(self.bytes.len());
        self.stuck_since = now;
        if self.is_empty() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// When a socket that takes nothing counts as stalled, while something waits.
    pub(super) fn stalled_at(&self, after: Duration) -> Option<Timestamp> {
        (!self.is_empty()).then(|| self.stuck_since + after)
    }

    fn begin(&mut self, now: Timestamp) {
        if self.is_empty() {
            self.stuck_since = now;
        }
        // What is sent already goes once it is the larger half, so that the moves stay linear in the bytes.
        if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

/// Shows how much waits, not what.
impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbox({} bytes)", self.unsent().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_outbox_holds_nothing() {
        let mut out = Outbox::default();
        out.text(Timestamp::ZERO, &[b"hello"]);
        let len = out.unsent().len();
        out.advance(Timestamp::ZERO, len);
        assert_eq!((out.bytes.capacity(), out.is_empty()), (0, true));
    }

    #[test]
    fn the_stall_is_counted_from_the_last_byte_taken() {
        let after = Duration::from_secs(90);
        let mut out = Outbox::default();
        assert_eq!(out.stalled_at(after), None);
        out.text(Timestamp::from_micros(5), &[b"hello"]);
        out.text(Timestamp::from_micros(6), &[b"hello"]);
        assert_eq!(out.stalled_at(after), Some(Timestamp::from_micros(5) + after));
        out.advance(Timestamp::from_micros(9), 1);
        assert_eq!(out.stalled_at(after), Some(Timestamp::from_micros(9) + after));
    }

    #[test]
    fn what_was_sent_is_dropped_while_more_comes() {
        let mut out = Outbox::default();
        for _ in 0..1_000 {
            out.raw(Timestamp::ZERO, &[7; 100]);
            out.advance(Timestamp::ZERO, 99);
        }
        assert_eq!(out.unsent().len(), 1_000);
        assert!(out.bytes.len() <= 2_200, "{}", out.bytes.len());
    }
}
