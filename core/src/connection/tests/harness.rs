//! A connection in every phase that there is, and what a peer may send.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Access, Grant, Scopes};
use crate::codec::frame::{Assembler, Message, Opcode, Role, encode, encode_close};
use crate::connection::{Connection, ConnectionEvent, PhaseName, Settings};
use crate::error::CloseReason;
use crate::id::UserId;
use crate::limits::Limits;
use crate::protocol::ServerFrame;
use crate::time::{Now, Timestamp, UnixTime};

/// A token of the right form; whether it holds is the test's to say.
pub(super) const TOKEN: &str = "aa.bb.cc";
/// How long the grants of these tests hold.
pub(super) const TTL: Duration = Duration::from_secs(3600);

/// Where a connection can stand, finer than its phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Head,
    Reserving,
    VerifyUpgrade,
    AwaitHello,
    VerifyHello,
    Attaching,
    Live,
    /// Our close frame came first; it waits for the socket.
    ClosingSent,
    /// The peer's came first; our answer waits for the socket.
    ClosingAnswered,
    /// The peer broke the framing.
    ClosingDeaf,
    /// A refusal waits for the socket.
    ClosingHttp,
    Handoff,
    Closed,
}

impl Stage {
    pub(super) const ALL: [Self; 13] = [
        Self::Head,
        Self::Reserving,
        Self::VerifyUpgrade,
        Self::AwaitHello,
        Self::VerifyHello,
        Self::Attaching,
        Self::Live,
        Self::ClosingSent,
        Self::ClosingAnswered,
        Self::ClosingDeaf,
        Self::ClosingHttp,
        Self::Handoff,
        Self::Closed,
    ];
}

pub(super) fn at(micros: u64) -> Now {
    Now { at: Timestamp::from_micros(micros), unix: UnixTime::from_micros(1_800_000_000_000_000 + micros) }
}

pub(super) fn after(start: Now, by: Duration) -> Now {
    Now { at: start.at + by, unix: start.unix + by }
}

pub(super) fn grant() -> Grant {
    Grant {
        user: UserId::new(None, "ann").unwrap(),
        issued_at: Some(at(0).unix),
        expires: at(0).unix + TTL,
        token_id: None,
        scopes: Scopes::default(),
    }
}

pub(super) fn fresh(limits: Limits) -> Connection {
    allowing(limits, Access::default())
}

pub(super) fn allowing(limits: Limits, access: Access) -> Connection {
    Connection::new(
        at(0),
        Arc::new(Settings {
            limits,
            endpoint: "/ws".into(),
            access,
            legacy_profile: true,
            proxies: Default::default(),
            deflate: Default::default(),
        }),
    )
}

/// An upgrade request with more header lines.
pub(super) fn request(more: &str) -> Vec<u8> {
    format!(
        "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
    .into_bytes()
}

pub(super) fn bearer() -> Vec<u8> {
    request(&format!("Authorization: Bearer {TOKEN}\r\n"))
}

pub(super) fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, opcode, payload, Some([0x11, 0x22, 0x33, 0x44]));
    out
}

pub(super) fn text(text: &str) -> Vec<u8> {
    masked(Opcode::Text, text.as_bytes())
}

pub(super) fn hello() -> Vec<u8> {
    text(&format!(r#"{{"type":"hello","token":"{TOKEN}"}}"#))
}

pub(super) fn peer_close(code: u16) -> Vec<u8> {
    let mut out = Vec::new();
    encode_close(&mut out, code, "", Some([0x11, 0x22, 0x33, 0x44]));
    out
}

/// A frame that no client may send: it is not masked.
pub(super) const JUNK: [u8; 2] = [0x81, 0x00];

/// A connection that stands at `stage` at the time 0. Nothing of the way there waits for the socket, but for what a
/// closing stage is about.
pub(super) fn at_stage(stage: Stage, limits: Limits) -> Connection {
    let mut c = fresh(limits);
    match stage {
        Stage::Head => {}
        Stage::Reserving => {
            c.expect_proxied();
            take(&mut c, &bearer());
        }
        Stage::VerifyUpgrade => take(&mut c, &bearer()),
        Stage::AwaitHello => {
            take(&mut c, &request(""));
            flush(&mut c, at(0));
        }
        Stage::VerifyHello => {
            c = at_stage(Stage::AwaitHello, c.settings.limits.clone());
            take(&mut c, &hello());
        }
        Stage::Attaching => {
            c = at_stage(Stage::VerifyHello, c.settings.limits.clone());
            c.handle_verified(at(0), Ok(grant()));
            assert!(matches!(c.poll_event(), Some(ConnectionEvent::Attach(_))));
        }
        Stage::Live => {
            c = at_stage(Stage::Attaching, c.settings.limits.clone());
            c.handle_attached(at(0), &ServerFrame::Pong { id: None });
            flush(&mut c, at(0));
        }
        Stage::ClosingSent => {
            c = at_stage(Stage::Live, c.settings.limits.clone());
            c.close(at(0), CloseReason::Internal);
        }
        Stage::ClosingAnswered => {
            c = at_stage(Stage::Live, c.settings.limits.clone());
            take(&mut c, &peer_close(1000));
        }
        Stage::ClosingDeaf => {
            c = at_stage(Stage::Live, c.settings.limits.clone());
            take(&mut c, &JUNK);
        }
        Stage::ClosingHttp => take(&mut c, b"\x16\x03\x01"),
        Stage::Handoff => take(&mut c, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Stage::Closed => c.handle_eof(),
    }
    c
}

/// Gives it bytes, and drops what it asks.
pub(super) fn take(c: &mut Connection, bytes: &[u8]) {
    c.handle_bytes(at(0), bytes);
    c.poll_event();
}

/// A live connection.
pub(super) fn live(limits: Limits) -> Connection {
    at_stage(Stage::Live, limits)
}

/// The socket takes everything.
pub(super) fn flush(c: &mut Connection, now: Now) -> Vec<u8> {
    let bytes = c.transmit().to_vec();
    c.advance(now, bytes.len());
    bytes
}

/// The messages that stand in what a server wrote, as a client reads them. Whatever is no frame fails.
pub(super) fn messages(wire: &[u8]) -> Vec<Message> {
    let mut assembler = Assembler::new(Role::Client, usize::MAX);
    let mut rest = wire;
    let found = std::iter::from_fn(|| assembler.push(&mut rest).expect("the server writes legal frames")).collect();
    assert!(assembler.is_idle(), "the last frame is whole");
    found
}

/// The code of the close frame at the end of what waits for the socket.
pub(super) fn close_code(c: &Connection) -> Option<u16> {
    match messages(c.transmit()).last() {
        Some(Message::Close(code, _)) => *code,
        _ => None,
    }
}

pub(super) fn is_over(c: &Connection) -> bool {
    matches!(c.phase(), PhaseName::Closed | PhaseName::Handoff)
}
