//! What the tests of this folder share: a hub on a clock that stands still, and a socket that tests script.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod crewed;

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use trunkline_core::auth::{ClaimRules, Hs256, NewToken};
use trunkline_core::codec::frame::{Opcode, encode};
use trunkline_core::drive::{Machine, Transport};
use trunkline_core::hub::{Housekeeper, Hub, HubConfig, Session};
use trunkline_core::id::{Entropy, UserId};
use trunkline_core::limits::Limits;
use trunkline_core::time::{Clock, Now, Timestamp, UnixTime};

pub const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
const START: u64 = 1_800_000_000_000_000;

/// A clock that stands still until it is turned, and numbers that are all different.
#[derive(Debug, Default)]
pub struct Still {
    micros: AtomicU64,
    drawn: AtomicU64,
}

impl Clock for Still {
    fn now(&self) -> Now {
        let micros = self.micros.load(Ordering::Relaxed);
        Now { at: Timestamp::from_micros(micros), unix: UnixTime::from_micros(START + micros) }
    }
}

impl Entropy for Still {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let drawn = self.drawn.fetch_add(1, Ordering::Relaxed) + 1;
            let mixed = drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
            chunk.copy_from_slice(&mixed.to_be_bytes()[..chunk.len()]);
        }
    }
}

pub struct World {
    pub hub: Hub,
    pub keeper: Housekeeper,
    still: Arc<Still>,
    issuer: Hs256,
}

impl World {
    pub fn new() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        Self::of(HubConfig { limits, ..HubConfig::default() })
    }

    pub fn of(config: HubConfig) -> Self {
        let still = Arc::new(Still::default());
        let verifier = Hs256::new(SECRET, ClaimRules::default()).unwrap();
        let issuer = Hs256::new(SECRET, ClaimRules::default()).unwrap();
        let (hub, keeper) =
            Hub::new(config, Arc::new(verifier), Arc::clone(&still) as _, Arc::clone(&still) as _).unwrap();
        Self { hub, keeper, still, issuer }
    }

    pub fn now(&self) -> Now {
        self.still.now()
    }

    pub fn turn(&self, by: Duration) {
        self.still.micros.fetch_add(u64::try_from(by.as_micros()).unwrap(), Ordering::Relaxed);
    }

    pub fn token(&self, user: &UserId) -> String {
        self.scoped_token(user, "")
    }

    pub fn scoped_token(&self, user: &UserId, scope: &str) -> String {
        let ttl = Duration::from_secs(7_200);
        let new = NewToken { user, issued_at: self.now().unix, ttl, scope, token_id: None };
        self.issuer.issue(&new).unwrap()
    }
}

pub fn user(name: &str) -> UserId {
    UserId::new(None, name).unwrap()
}

pub fn upgrade() -> Vec<u8> {
    upgrade_with("")
}

/// The same with more header lines.
pub fn upgrade_with(lines: &str) -> Vec<u8> {
    let head = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
      Sec-WebSocket-Protocol: trunkline.v1\r\n";
    format!("{head}{lines}\r\n").into_bytes()
}

/// The line of a client that compresses.
pub const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

pub fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, opcode, payload, Some([0x11, 0x22, 0x33, 0x44]));
    out
}

pub fn hello(token: &str) -> Vec<u8> {
    masked(Opcode::Text, format!(r#"{{"type":"hello","token":"{token}"}}"#).as_bytes())
}

/// The whole way in, as bytes over a socket that takes everything.
pub fn enter(world: &World, session: &mut Session, token: &str) {
    enter_with(world, session, token, "");
}

/// The same with more header lines.
pub fn enter_with(world: &World, session: &mut Session, token: &str, lines: &str) {
    let now = world.now();
    for bytes in [upgrade_with(lines), hello(token)] {
        session.handle_bytes(now, &bytes);
        session.poll_ready(now, Waker::noop());
        let n = session.transmit().len();
        assert!(n > 100, "an answer came");
        session.advance(now, n);
    }
    assert!(session.user().is_some() && session.transmit().is_empty());
}

/// One application message in.
pub fn ping(session: &mut Session, now: Now) {
    session.handle_bytes(now, &masked(Opcode::Text, br#"{"type":"ping","id":"1"}"#));
}

/// What a read of the scripted socket gives.
#[derive(Debug)]
pub enum Read {
    Bytes(Vec<u8>),
    Eof,
    Broken,
}

/// A socket that holds what it is told to hold.
#[derive(Debug, Default)]
pub struct Socket {
    pub reads: VecDeque<Read>,
    /// What each write may take; beyond the script, everything. `Some(0)` is not ready, `None` a fault.
    pub writes: VecDeque<Option<usize>>,
    pub written: Vec<u8>,
    pub read_calls: usize,
    pub write_calls: usize,
    /// How often its sending side was ended.
    pub shutdowns: usize,
}

impl Transport for Socket {
    fn poll_read(self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.read_calls += 1;
        match this.reads.pop_front() {
            Some(Read::Bytes(bytes)) => {
                let n = bytes.len().min(buf.len());
                buf[..n].copy_from_slice(&bytes[..n]);
                if n < bytes.len() {
                    this.reads.push_front(Read::Bytes(bytes[n..].to_vec()));
                }
                Poll::Ready(Ok(n))
            }
            Some(Read::Eof) => Poll::Ready(Ok(0)),
            Some(Read::Broken) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => Poll::Pending,
        }
    }

    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.write_calls += 1;
        let n = match this.writes.pop_front() {
            Some(Some(0)) => return Poll::Pending,
            Some(Some(n)) => n.min(bytes.len()),
            Some(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            None => bytes.len(),
        };
        this.written.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().shutdowns += 1;
        Poll::Ready(Ok(()))
    }
}
