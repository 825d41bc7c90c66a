//! What the socket is to be given.

use std::sync::Arc;

use crate::codec::frame::{Opcode, encode, encode_close};
use crate::id::Entropy;

/// Frames on their way out, each under a mask of its own.
pub(super) struct Outbound {
    entropy: Arc<dyn Entropy>,
    out: Vec<u8>,
    sent: usize,
}

impl Outbound {
    /// The upgrade request goes first.
    pub(super) const fn new(entropy: Arc<dyn Entropy>, request: Vec<u8>) -> Self {
        Self { entropy, out: request, sent: 0 }
    }

    pub(super) fn transmit(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.sent = self.sent.saturating_add(n).min(self.out.len());
        if self.sent == self.out.len() {
            self.clear();
        }
    }

    /// Nobody takes it any more.
    pub(super) fn clear(&mut self) {
        (self.out, self.sent) = (Vec::new(), 0);
    }

    pub(super) fn frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let mask = self.mask();
        encode(&mut self.out, opcode, payload, mask);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.frame(Opcode::Text, text.as_bytes());
    }

    pub(super) fn close(&mut self, code: u16) {
        let mask = self.mask();
        encode_close(&mut self.out, code, "", mask);
    }

    /// RFC 6455 section 5.3: a new mask for every frame, from a source nobody can guess.
    fn mask(&self) -> Option<[u8; 4]> {
        let mut mask = [0; 4];
        self.entropy.fill(&mut mask);
        Some(mask)
    }
}
