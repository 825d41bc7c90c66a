//! A request's head, as a session takes it: found, parsed, and looked through for who sends it and for credentials.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::task::Waker;

use trunkline_core::admission::TrustedProxies;
use trunkline_core::auth::{Access, CookieName, Origin};
use trunkline_core::drive::{Machine as _, READ_BYTES};
use trunkline_core::hub::HubConfig;
use trunkline_core::limits::{Limits, MAX_HANDSHAKE_HEADERS};

use super::{filled, numbered};
use crate::support::World;
use crate::{Input, Step};

pub(super) const INPUTS: [Input; 14] = [
    Input { name: "head: many headers", bytes: 16 << 10, start: many_headers },
    Input { name: "head: one long header", bytes: 32 << 10, start: |bytes| line(bytes, "X-Any: ", "a", "") },
    Input {
        name: "head: a long line without an end",
        bytes: 32 << 10,
        start: |bytes| at_once(filled(bytes, "GET /", "a", "")),
    },
    Input { name: "head: one byte at a time", bytes: 32 << 10, start: one_by_one },
    Input {
        name: "head: many members of Connection",
        bytes: 32 << 10,
        start: |bytes| line(bytes, "Connection: ", "a,", "a"),
    },
    Input {
        name: "head: many subprotocols",
        bytes: 32 << 10,
        start: |bytes| line(bytes, "Sec-WebSocket-Protocol: ", "a,", "trunkline.v1"),
    },
    Input {
        name: "head: a long token among the subprotocols",
        bytes: 32 << 10,
        start: |bytes| line(bytes, "Sec-WebSocket-Protocol: bearer.", "YQ", ".YQ.YQ"),
    },
    Input { name: "head: many cookies", bytes: 32 << 10, start: |bytes| line(bytes, "Cookie: ", "a=b;", "a=b") },
    Input {
        name: "head: a long token",
        bytes: 32 << 10,
        start: |bytes| line(bytes, "Authorization: Bearer ", "YQ", ".YQ.YQ"),
    },
    Input { name: "head: many parameters", bytes: 32 << 10, start: |bytes| target(bytes, "/ws?", "a=b&") },
    Input { name: "head: a long position", bytes: 32 << 10, start: |bytes| target(bytes, "/ws?last_event_id=", "%31") },
    Input { name: "head: a long path", bytes: 32 << 10, start: |bytes| target(bytes, "/ws", "/a") },
    Input {
        name: "head: many proxies",
        bytes: 32 << 10,
        start: |bytes| line(bytes, "X-Forwarded-For: ", "10.0.0.1,", "10.0.0.1"),
    },
    Input { name: "head: many lines of proxies", bytes: 8 << 10, start: many_lines },
];

/// All that an upgrade needs, of a page that may use a cookie, by a proxy that is trusted.
const REST: &str = " HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: https://app.example\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: jwt-auth\r\n";
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fn many_headers(bytes: usize) -> Step {
    // As many as there may be at twice the size, of the length that fills it.
    let each = 2 * (16 << 10) / (MAX_HANDSHAKE_HEADERS - 1);
    let header = format!("X-Any: {}\r\n", "a".repeat(each - 9));
    at_once(filled(bytes, &["GET /ws", REST].concat(), &header, "\r\n"))
}

fn many_lines(bytes: usize) -> Step {
    let lines = |number: usize| {
        format!("X-Forwarded-For: 10.0.{number:03}.1, 10.0.{number:03}.2, 10.0.{number:03}.3, 10.0.0.4\r\n")
    };
    at_once(numbered(bytes, &["GET /ws", REST].concat(), lines, "\r\n"))
}

/// One header line that grows.
fn line(bytes: usize, before: &str, piece: &str, after: &str) -> Step {
    let before = ["GET /ws", REST, before].concat();
    at_once(filled(bytes, &before, piece, &[after, "\r\n\r\n"].concat()))
}

/// A target that grows.
fn target(bytes: usize, before: &str, piece: &str) -> Step {
    at_once(filled(bytes, &["GET ", before].concat(), piece, &["a", REST, "\r\n"].concat()))
}

fn one_by_one(bytes: usize) -> Step {
    let before = ["GET /ws", REST, "X-Any: "].concat();
    in_reads(filled(bytes, &before, "a", "\r\n\r\n"), 1)
}

fn at_once(head: String) -> Step {
    in_reads(head, READ_BYTES)
}

fn in_reads(head: String, size: usize) -> Step {
    let listed = Access::with_origins(Origin::parse("https://app.example"));
    let access = listed.with_cookie(CookieName::parse("token").unwrap()).unwrap().with_tickets();
    let world = World::of(HubConfig {
        limits: Limits { handshake_bytes: 1 << 20, handshake_headers: MAX_HANDSHAKE_HEADERS, ..Limits::default() },
        access,
        trusted_proxies: TrustedProxies::new(["10.0.0.0/8"]).unwrap(),
        ..HubConfig::default()
    });
    let now = world.now();
    Box::new(move || {
        let mut session = world.hub.session_from(PROXY).unwrap();
        for read in black_box(head.as_bytes()).chunks(size) {
            session.handle_bytes(now, read);
            session.poll_ready(now, Waker::noop());
        }
        black_box(session.transmit());
    })
}
