//! What frames carry: messages, and what can be wrong with them.

use crate::error::CloseReason;
use std::fmt;

/// Bytes a control frame may carry: RFC 6455 section 5.5.
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// Which end this is: a server takes masked frames only, a client unmasked ones only (RFC 6455 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Accepted the upgrade.
    Server,
    /// Asked for the upgrade.
    Client,
}

/// What an outgoing frame is. Frames go out whole, so there is no continuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// A UTF-8 message.
    Text,
    /// A message of bytes.
    Binary,
    /// The close handshake.
    Close,
    /// Asks for a pong with the same payload.
    Ping,
    /// Answers a ping, or nothing.
    Pong,
}

impl Opcode {
    /// The four bits on the wire: RFC 6455 section 5.2.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// Whether the payload is held to [`MAX_CONTROL_PAYLOAD`].
    pub const fn is_control(self) -> bool {
        match self {
            Self::Text | Self::Binary => false,
            Self::Close | Self::Ping | Self::Pong => true,
        }
    }
}

/// A whole message or control frame. It owns its bytes: nothing pins a read buffer. `Debug` shows sizes, not contents.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message, all fragments together.
    Text(String),
    /// A binary message, all fragments together.
    Binary(Vec<u8>),
    /// A ping: answer with a pong that carries the same payload.
    Ping(ControlPayload),
    /// A pong, solicited or not.
    Pong(ControlPayload),
    /// The peer's close frame: its code, legal on the wire, and its text. `None` where the frame was empty.
    /// What follows it on the wire means nothing: stop pushing.
    Close(Option<u16>, Box<str>),
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
            Self::Ping(payload) => write!(f, "Ping({} bytes)", payload.as_bytes().len()),
            Self::Pong(payload) => write!(f, "Pong({} bytes)", payload.as_bytes().len()),
            Self::Close(code, text) => write!(f, "Close({code:?}, {} bytes)", text.len()),
        }
    }
}

/// Up to [`MAX_CONTROL_PAYLOAD`] bytes, without heap: a flood of pings allocates nothing, but for those that a read has cut.
#[derive(Clone, PartialEq, Eq)]
pub struct ControlPayload {
    len: u8,
    // Zero beyond `len`, so that equality is equality of the payloads.
    bytes: [u8; MAX_CONTROL_PAYLOAD],
}

impl ControlPayload {
    /// A copy of `payload`, or `None` beyond [`MAX_CONTROL_PAYLOAD`] bytes.
    pub fn new(payload: &[u8]) -> Option<Self> {
        let mut copy = Self::default();
        let mut rest = payload;
        copy.fill_from(&mut rest, MAX_CONTROL_PAYLOAD);
        rest.is_empty().then_some(copy)
    }

    /// The payload.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub(super) fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..usize::from(self.len)).unwrap_or_default()
    }

    /// Moves bytes from the front of `input` until `target` are held; says whether they are.
    pub(super) fn fill_from(&mut self, input: &mut &[u8], target: usize) -> bool {
        let held = usize::from(self.len);
        let target = target.min(MAX_CONTROL_PAYLOAD);
        let take = target.saturating_sub(held).min(input.len());
        let (head, rest) = input.split_at(take);
        if let Some(room) = self.bytes.get_mut(held..held + take) {
            room.copy_from_slice(head);
            *input = rest;
            // At most MAX_CONTROL_PAYLOAD, which a u8 holds.
            self.len = (held + take) as u8;
        }
        usize::from(self.len) >= target
    }
}

impl Default for ControlPayload {
    fn default() -> Self {
        Self { len: 0, bytes: [0; MAX_CONTROL_PAYLOAD] }
    }
}

impl AsRef<[u8]> for ControlPayload {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for ControlPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlPayload({} bytes)", self.len)
    }
}

/// What the peer did wrong. The connection closes with [`Fault::close_reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A rule of RFC 6455 is broken; the text names it.
    #[error("{0}")]
    Protocol(&'static str),
    /// A message beyond the limit, known at its header.
    #[error("the message is larger than the limit")]
    TooBig,
    /// Text, or a close reason, that is not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// A compressed message that is none: RFC 7692 section 7.2.2.
    #[error("the message cannot be inflated")]
    NotDeflate,
}

impl Fault {
    /// 1002, 1009 or 1007: RFC 6455 section 7.4.1.
    pub const fn close_reason(&self) -> CloseReason {
        match self {
            Self::Protocol(_) => CloseReason::ProtocolError,
            Self::TooBig => CloseReason::TooBig,
            Self::NotUtf8 | Self::NotDeflate => CloseReason::InvalidPayload,
        }
    }
}

/// Whether a close frame may carry this code: RFC 6455 section 7.4 and the IANA registry (1012 to 1014). The reserved
/// 1004, 1005, 1006 and 1015 never stand on the wire; 1016 to 2999 wait for future versions.
pub const fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_payload_holds_125_bytes_and_not_126() {
        assert_eq!(ControlPayload::new(&[7; 125]).unwrap().as_bytes(), [7; 125]);
        assert_eq!(ControlPayload::new(&[]).unwrap().as_bytes(), b"");
        assert_eq!(ControlPayload::new(&[7; 126]), None);
    }

    #[test]
    fn close_codes_at_the_edges_of_their_ranges() {
        for code in [1000, 1003, 1007, 1014, 3000, 4999] {
            assert!(is_close_code(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert!(!is_close_code(code), "{code}");
        }
    }

    #[test]
    fn every_reason_of_the_table_may_stand_on_the_wire() {
        for reason in CloseReason::ALL {
            assert!(is_close_code(reason.code()), "{reason}");
        }
    }

    #[test]
    fn debug_shows_no_payload() {
        let payload = ControlPayload::new(b"secret").unwrap();
        let messages =
            [Message::Text("secret".into()), Message::Binary(b"secret".to_vec()), Message::Ping(payload.clone())];
        for message in messages {
            assert!(!format!("{message:?}").contains("secret"));
            assert!(format!("{message:?}").contains("6 bytes"));
        }
        assert_eq!(format!("{payload:?}"), "ControlPayload(6 bytes)");
        assert_eq!(format!("{:?}", Message::Close(Some(1000), "secret".into())), "Close(Some(1000), 6 bytes)");
    }
}
