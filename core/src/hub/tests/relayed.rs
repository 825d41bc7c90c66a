//! A request that a web stack has read leads where the same bytes on a socket of our own lead.

use std::net::IpAddr;
use std::task::Waker;
use std::time::Duration;

use super::harness::{World, ident};
use crate::admission::TrustedProxies;
use crate::auth::{Access, CookieName, Origin};
use crate::codec::frame::{Opcode, encode};
use crate::codec::upgrade::{Answer, GivenHead, Head, parse_head};
use crate::connection::PhaseName;
use crate::drive::Machine;
use crate::hub::{HubConfig, Session};
use crate::limits::Limits;

const HOUR: Duration = Duration::from_secs(3600);
const UPGRADE: &str = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn world() -> World {
    world_with(Limits::default())
}

fn world_with(limits: Limits) -> World {
    let access = Access::with_origins([Origin::parse("https://page.example").unwrap()]);
    let access = access.with_cookie(CookieName::parse("token").unwrap()).unwrap().with_tickets();
    let trusted_proxies = TrustedProxies::new(["10.0.0.0/8"]).unwrap();
    World::of(HubConfig { limits, shards: 2, access, trusted_proxies, ..HubConfig::default() })
}

/// Gives the session what a web stack would make of these bytes.
fn relay(world: &World, session: &mut Session, bytes: &[u8]) -> Answer {
    let Ok(Head::Complete { request, .. }) = parse_head(bytes, &Limits::default()) else { panic!("no head") };
    let text = std::str::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = text.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    let headers: Vec<(&str, &[u8])> = lines
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.trim().as_bytes()))
        .collect();
    let version = if request.is_http_11() { "HTTP/1.1" } else { "HTTP/1.0" };
    let head = GivenHead { method: request.method(), target: request.target(), version, headers: &headers };
    session.handle_request(world.now(), &head)
}

fn hello(world: &World) -> Vec<u8> {
    let mut out = Vec::new();
    let text = format!(r#"{{"type":"hello","token":"{}"}}"#, world.token(&ident("ann"), HOUR));
    encode(&mut out, Opcode::Text, text.as_bytes(), Some([1, 2, 3, 4]));
    out
}

/// What goes out next.
fn said(world: &World, session: &mut Session) -> Vec<u8> {
    session.poll_ready(world.now(), Waker::noop());
    let out = session.transmit().to_vec();
    session.advance(world.now(), out.len());
    out
}

#[test]
fn every_request_is_answered_alike_whoever_has_read_it() {
    let heads = |world: &World| {
        let token = world.token(&ident("ann"), HOUR);
        let ticket = |user| {
            let issued = world.hub.issue_ticket(world.hub.grant(&world.token(&ident(user), HOUR)).unwrap());
            issued.unwrap().ticket.to_text()
        };
        let more = |more: &str| format!("GET /ws HTTP/1.1\r\n{UPGRADE}{more}\r\n");
        vec![
            more(""),
            more(&format!("Authorization: Bearer {token}\r\n")),
            more("Authorization: Bearer aa.bb.cc\r\n"),
            more(&format!("Sec-WebSocket-Protocol: trunkline.v1, bearer.{token}\r\n")),
            more("Sec-WebSocket-Protocol: trunkline.v1, bearer.aa.bb.cc\r\n"),
            more("Sec-WebSocket-Protocol: trunkline.v1, bearer.aa.bb.cc, bearer.dd.ee.ff\r\n"),
            more(&format!("Origin: https://page.example\r\nCookie: token={token}\r\n")),
            more("Origin: https://page.example\r\nCookie: token=aa.bb.cc\r\n"),
            more("Origin: https://other.example\r\n"),
            format!("GET /ws?ticket={} HTTP/1.1\r\n{UPGRADE}\r\n", ticket("ann")),
            format!("GET /ws?ticket=none HTTP/1.1\r\n{UPGRADE}\r\n"),
            more("Content-Length: 3\r\n"),
            more(&"X-More: y\r\n".repeat(200)),
            more(&format!("X-Long: {}\r\n", "y".repeat(17 << 10))),
            format!("POST /ws HTTP/1.1\r\n{UPGRADE}\r\n"),
            format!("GET /ws HTTP/1.0\r\n{UPGRADE}\r\n"),
            "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        ]
    };
    // Each in a world of its own, so that a ticket is there twice and every random number is the same.
    let count = heads(&world()).len();
    let mut statuses = Vec::new();
    for index in 0..count {
        let (own, other) = (world(), world());
        let (bytes, same) = (heads(&own).swap_remove(index), heads(&other).swap_remove(index));
        let (mut socket, mut relayed) = (own.hub.session().unwrap(), other.hub.session().unwrap());
        socket.handle_bytes(own.now(), bytes.as_bytes());
        let mut direct = said(&own, &mut socket);
        let Ok(Head::Complete { .. }) = parse_head(same.as_bytes(), &Limits::default()) else {
            // What is too large or malformed for the parser of this test: the stack is given it all the same.
            let lines: Vec<_> = same.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
            let headers: Vec<_> = lines.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            let head = GivenHead { method: "GET", target: "/ws", version: "HTTP/1.1", headers: &headers };
            assert_eq!(relayed.handle_request(other.now(), &head).encode(), direct, "{index}");
            statuses.push(431);
            continue;
        };
        let answer = relay(&other, &mut relayed, same.as_bytes());
        statuses.push(answer.status);
        let mut there = [answer.encode(), said(&other, &mut relayed)].concat();
        for (world, session, out) in [(&own, &mut socket, &mut direct), (&other, &mut relayed, &mut there)] {
            if session.wants_read() {
                session.handle_bytes(world.now(), &hello(world));
                out.extend(said(world, session));
            }
        }
        assert_eq!(String::from_utf8_lossy(&there), String::from_utf8_lossy(&direct), "{bytes}");
        assert_eq!((relayed.phase(), relayed.close_reason()), (socket.phase(), socket.close_reason()), "{bytes}");
    }
    let expected = [101, 101, 401, 101, 101, 101, 101, 101, 403, 101, 101, 400, 431, 431, 405, 400, 426];
    assert_eq!(statuses, expected);
}

#[test]
fn the_path_is_the_web_stacks_to_decide() {
    let world = world();
    let mut session = world.hub.session().unwrap();
    let answer = relay(&world, &mut session, format!("GET /live/here?x=1 HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes());
    assert_eq!((answer.status, session.phase()), (101, PhaseName::AwaitHello));
    assert!(session.take_handoff().is_none());
}

#[test]
fn websockets_over_http_2_are_refused() {
    let world = world();
    let headers: [(&str, &[u8]); 2] = [("sec-websocket-version", b"13"), ("host", b"a")];
    for method in ["CONNECT", "GET"] {
        let head = GivenHead { method, target: "/ws", version: "HTTP/2.0", headers: &headers };
        let mut session = world.hub.session().unwrap();
        let answer = session.handle_request(world.now(), &head);
        assert_eq!((answer.status, session.is_closed()), (400, true));
        assert!(answer.body.contains("use HTTP/1.1"), "{}", answer.body);
    }
}

#[test]
fn a_relayed_socket_that_goes_before_its_upgrade_gives_its_place_back() {
    let limits = Limits { unauthenticated: 1, connections_per_address: 1, ..Limits::default() };
    let world = world_with(limits);
    let peer: IpAddr = "192.0.2.1".parse().unwrap();
    for _ in 0..3 {
        let mut session = world.hub.session_from(peer).unwrap();
        let answer = relay(&world, &mut session, format!("GET / HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes());
        assert!(answer.is_upgrade());
        assert!(world.hub.session_from(peer).is_err());
        drop(session);
        assert_eq!((world.hub.sockets(), world.hub.unauthenticated(), world.hub.addresses().0), (0, 0, 0));
    }
}

#[test]
fn behind_a_trusted_proxy_the_client_counts() {
    let world = world_with(Limits { connections_per_address: 1, ..Limits::default() });
    let proxy: IpAddr = "10.0.0.1".parse().unwrap();
    let mut held = Vec::new();
    for (client, status) in [("192.0.2.1", 101), ("192.0.2.1", 503), ("192.0.2.2", 101)] {
        let mut session = world.hub.session_from(proxy).unwrap();
        let request = format!("GET / HTTP/1.1\r\n{UPGRADE}X-Forwarded-For: {client}\r\n\r\n");
        assert_eq!(relay(&world, &mut session, request.as_bytes()).status, status, "{client}");
        held.push(session);
    }
}

#[test]
fn a_server_that_drains_says_so() {
    let world = world();
    world.hub.begin_shutdown();
    let mut session = world.hub.session().unwrap();
    let answer = relay(&world, &mut session, format!("GET / HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes());
    assert_eq!((answer.status, session.is_closed()), (503, true));
    assert_eq!(session.phase(), PhaseName::Closed);
}

#[test]
fn a_session_takes_one_request() {
    let world = world();
    let mut session = world.hub.session().unwrap();
    let request = format!("GET / HTTP/1.1\r\n{UPGRADE}\r\n");
    assert_eq!(relay(&world, &mut session, request.as_bytes()).status, 101);
    let again = relay(&world, &mut session, request.as_bytes());
    assert_eq!(again.status, 400);
    assert!(!again.is_upgrade());
}

#[test]
fn a_socket_that_never_says_hello_is_closed_in_time() {
    let world = world();
    let mut session = world.hub.session().unwrap();
    relay(&world, &mut session, format!("GET / HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes());
    assert_eq!(session.poll_timeout(), Some(world.now().at + world.hub.limits().hello_deadline));
}
