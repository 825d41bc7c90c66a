//! Sockets by the addresses of their clients.

use std::net::IpAddr;
use std::task::Waker;
use std::time::Duration;

use proptest::prelude::*;

use super::harness::{World, ident};
use crate::admission::TrustedProxies;
use crate::drive::Machine;
use crate::hub::{HubConfig, Rejected, Session};
use crate::limits::Limits;

const PROXY: &str = "10.0.0.1";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn limits() -> Limits {
    Limits { connections_per_address: 2, handshakes_per_second: 10, handshake_burst: 5, ..Limits::default() }
}

/// A hub that believes what comes from 10.0.0.0/8.
fn behind(limits: Limits) -> World {
    let trusted_proxies = TrustedProxies::new(["10.0.0.0/8"]).unwrap();
    World::of(HubConfig { limits, shards: 2, trusted_proxies, ..HubConfig::default() })
}

/// What a proxy passes on of a client's request.
fn request(path: &str, forwarded: &str, more: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Forwarded-For: {forwarded}\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
    .into_bytes()
}

/// The status of the answer, and the session as long as it is open.
fn ask(world: &World, mut session: Session, bytes: &[u8]) -> (String, Option<Session>) {
    let now = world.now();
    session.handle_bytes(now, bytes);
    session.poll_ready(now, Waker::noop());
    let answer = session.transmit().to_vec();
    session.advance(now, answer.len());
    let open = session.take_handoff().is_some() || !session.is_closed();
    (String::from_utf8_lossy(answer.get(9..12).unwrap_or_default()).into_owned(), open.then_some(session))
}

fn through_proxy(world: &World, bytes: &[u8]) -> (String, Option<Session>) {
    ask(world, world.hub.session_from(address(PROXY)).unwrap(), bytes)
}

#[test]
fn an_address_has_as_many_sockets_as_allowed_to_the_end_of_each() {
    let world = World::with(limits());
    let from = |text| world.hub.session_from(address(text));
    let (first, mut second) = (from("192.0.2.1").unwrap(), from("::ffff:192.0.2.1").unwrap());
    assert_eq!(from("192.0.2.1").unwrap_err(), Rejected::AddressFull);
    let _neighbour = from("192.0.2.2").unwrap();
    let (_one, _other) = (from("2001:db8::1").unwrap(), from("2001:db8::2").unwrap());
    assert_eq!(from("2001:db8::3").unwrap_err(), Rejected::AddressFull, "a line is one address");
    assert_eq!(world.hub.addresses().0, world.hub.sockets());
    // This machine, and what comes from nowhere, is not limited.
    let _unlimited: Vec<_> = (0..20).flat_map(|_| [from("127.0.0.1").unwrap(), world.hub.session().unwrap()]).collect();
    drop(first);
    let third = from("192.0.2.1").unwrap();
    // With the web stack it counts on.
    second.handle_bytes(world.now(), b"GET / HTTP/1.1\r\n\r\n");
    assert!(second.take_handoff().is_some());
    assert_eq!(from("192.0.2.1").unwrap_err(), Rejected::AddressFull);
    drop(second);
    let _fourth = from("192.0.2.1").unwrap();
    drop(third);
}

#[test]
fn an_address_opens_sockets_as_fast_as_allowed_and_refusals_do_not_count() {
    let world = World::with(limits());
    let knock = || world.hub.session_from(address("192.0.2.1")).map(drop);
    assert!((0..5).all(|_| knock().is_ok()));
    assert!((0..1_000).all(|_| knock() == Err(Rejected::AddressRate)));
    world.clock.turn(Duration::from_millis(100));
    assert_eq!((knock(), knock()), (Ok(()), Err(Rejected::AddressRate)));
    let answer = String::from_utf8(Rejected::AddressRate.response()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 5\r\n"), "{answer}");
    assert!(!answer.contains("192.0.2"));
}

#[test]
fn a_socket_that_finds_no_room_among_all_costs_its_address_nothing() {
    let world = World::with(Limits { connections: 1, ..limits() });
    let full = world.hub.session().unwrap();
    for _ in 0..100 {
        assert_eq!(world.hub.session_from(address("192.0.2.1")).unwrap_err(), Rejected::Full);
    }
    assert_eq!(world.hub.addresses().0, 0);
    drop(full);
    world.hub.session_from(address("192.0.2.1")).unwrap();
}

#[test]
fn behind_a_trusted_proxy_the_client_is_counted_before_its_credentials_are_looked_at() {
    let world = behind(limits());
    let token = format!("Authorization: Bearer {}\r\n", world.token(&ident("ann"), Duration::from_secs(60)));
    let good = request("/ws", "198.51.100.1", &token);
    let held = [through_proxy(&world, &good), through_proxy(&world, &request("/", "198.51.100.1", ""))];
    assert_eq!(held.each_ref().map(|(status, session)| (&**status, session.is_some())), [("101", true), ("", true)]);
    assert_eq!(world.hub.addresses(), (2, 1));
    for bytes in
        [&good, &request("/ws", "198.51.100.1", "Authorization: Bearer bad\r\n"), &request("/", "198.51.100.1", "")]
    {
        assert_eq!(through_proxy(&world, bytes).0, "503", "for the page and for bad credentials too");
    }
    // Others behind the same proxy are not concerned, and the proxy itself is not limited.
    let others: Vec<_> =
        (1..40).map(|n| through_proxy(&world, &request("/ws", &format!("198.51.100.{}", n + 1), ""))).collect();
    let probes: Vec<_> = (1..40).map(|_| through_proxy(&world, b"GET /healthz HTTP/1.1\r\n\r\n")).collect();
    assert!(others.iter().all(|(status, session)| status == "101" && session.is_some()));
    assert!(probes.iter().all(|(status, session)| status.is_empty() && session.is_some()));
    drop(held);
    assert_eq!(through_proxy(&world, &good).0, "101");
    drop((others, probes));
    assert_eq!((world.hub.addresses().0, world.hub.sockets()), (0, 0));
}

#[test]
fn what_a_peer_that_is_not_trusted_says_of_its_address_is_ignored() {
    let world = behind(limits());
    let held: Vec<_> = (0..2)
        .map(|n| {
            let session = world.hub.session_from(address("192.0.2.1")).unwrap();
            ask(&world, session, &request("/ws", &format!("198.51.100.{n}, 10.0.0.1"), "")).1.unwrap()
        })
        .collect();
    assert_eq!(world.hub.session_from(address("192.0.2.1")).unwrap_err(), Rejected::AddressFull);
    assert_eq!(world.hub.addresses(), (2, 1));
    drop(held);
}

#[test]
fn clients_whose_address_cannot_be_read_share_what_one_may_have() {
    let world = behind(limits());
    let held: Vec<_> = (0..3).map(|_| through_proxy(&world, &request("/ws", "198.51.100.1, unknown", ""))).collect();
    assert_eq!(held.iter().map(|(status, _)| &**status).collect::<Vec<_>>(), ["101", "101", "503"]);
    assert_eq!(through_proxy(&world, &request("/ws", "198.51.100.1", "")).0, "101");
}

#[derive(Clone, Debug)]
enum Step {
    /// Opens a socket: whose, through a proxy or not, and what it sends.
    Open {
        from: u8,
        proxied: bool,
        what: u8,
    },
    Close(usize),
    Fail(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0_u8..5, any::<bool>(), 0_u8..5).prop_map(|(from, proxied, what)| Step::Open { from, proxied, what }),
        2 => (0_usize..12).prop_map(Step::Close),
        1 => (0_usize..12).prop_map(Step::Fail),
        2 => (0_u64..6_000).prop_map(Step::Wait),
    ]
}

/// The request of the client `from`: of nothing yet, a page, a good and a bad upgrade, and junk.
fn sent(world: &World, from: u8, what: u8) -> Vec<u8> {
    let forwarded = format!("198.51.100.{from}");
    let token = || world.token(&ident(&format!("user-{from}")), Duration::from_secs(3_600));
    match what {
        0 => Vec::new(),
        1 => request("/", &forwarded, ""),
        2 => request("/ws", &forwarded, &format!("Authorization: Bearer {}\r\n", token())),
        3 => request("/ws", &forwarded, "Authorization: Bearer x\r\n"),
        _ => b"\x16\x03\x01".to_vec(),
    }
}

properties! {
    cases = 64;

    #[test]
    fn counts_are_those_of_the_open_sockets_whatever_becomes_of_them(steps in prop::collection::vec(step(), 0..80)) {
        let limits = Limits { connections: 9, unauthenticated: 7, connections_per_address: 3, ..Limits::default() };
        let world = behind(limits.clone());
        let mut open: Vec<(u8, bool, Session)> = Vec::new();
        for step in steps {
            match step {
                Step::Open { from, proxied, what } => {
                    let peer = if proxied { PROXY.to_owned() } else { format!("198.51.100.{from}") };
                    if let Ok(session) = world.hub.session_from(address(&peer)) {
                        let bytes = sent(&world, from, what);
                        let (_, session) = ask(&world, session, &bytes);
                        // A proxy's client is known once its head is there.
                        open.extend(session.map(|session| (from, !proxied || (1..=3).contains(&what), session)));
                    }
                }
                Step::Close(n) if n < open.len() => drop(open.swap_remove(n)),
                Step::Fail(n) if n < open.len() => open[n].2.handle_broken(world.now()),
                Step::Close(_) | Step::Fail(_) => {}
                Step::Wait(millis) => {
                    world.clock.turn(Duration::from_millis(millis));
                    open.iter_mut().for_each(|(_, _, session)| session.handle_timeout(world.now()));
                }
            }
            prop_assert_eq!(world.hub.sockets(), open.len());
            prop_assert_eq!(world.hub.addresses().0, open.iter().filter(|(_, known, _)| *known).count());
            prop_assert!(open.len() <= limits.connections && world.hub.unauthenticated() <= limits.unauthenticated);
            for n in 0..5 {
                let of = open.iter().filter(|(from, known, _)| *from == n && *known).count();
                prop_assert!(of <= limits.connections_per_address, "{} sockets of {}", of, n);
            }
        }
        drop(open);
        prop_assert_eq!((world.hub.sockets(), world.hub.unauthenticated(), world.hub.addresses().0), (0, 0, 0));
        prop_assert_eq!(world.hub.counts().connections, 0);
    }
}
