//! The life of a token on real sockets, measured by the server's own clock; and revocation among ten thousand.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use trunkline_core::auth::{ClaimRules, Hs256};
use trunkline_core::client::{Client, ClientConfig};
use trunkline_core::drive::Machine;
use trunkline_core::hub::{Hub, HubConfig, Session};
use trunkline_core::id::{TokenId, UserId};
use trunkline_core::limits::Limits;
use trunkline_core::protocol::RevokeTarget;
use trunkline_core::time::Clock as _;
use trunkline_tests::server::{InProcess, SECRET, revocable, signed, token};
use trunkline_tests::wire::{Device, STEP, until, within};
use trunkline_tokio::{SystemClock, SystemEntropy};

/// How long the tokens of [`token`] hold, in seconds.
const HOUR: u64 = 3_600;
const LEEWAY: Duration = Duration::from_secs(1);

fn user(name: &str) -> UserId {
    UserId::new(None, name).expect("a user's name")
}

/// A token that holds for `secs` seconds yet, or up to one less.
fn short(name: &str, secs: u64) -> String {
    signed(SECRET, name, Duration::from_secs(HOUR - secs))
}

/// The `exp` of a token, in seconds since 1970, as its claims say.
fn expires(welcome: &Value) -> f64 {
    welcome["server_time"].as_f64().expect("a time") + welcome["expires_in"].as_f64().expect("a duration")
}

/// All that comes to a device up to the server's close: frames of the given type in order, and the code.
async fn read_up(device: &mut Device, refresh: Option<String>) -> (Vec<Value>, u16) {
    let mut refresh = refresh;
    let mut seen = Vec::new();
    loop {
        match within("a frame, or the close", STEP, device.socket.next()).await {
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
                if frame["type"] == "auth_expiring"
                    && let Some(token) = refresh.take()
                {
                    device.send(&json!({"type": "refresh", "id": "r", "token": token})).await;
                }
                let is_last = frame["data"] == "last";
                seen.push(frame);
                if is_last {
                    return (seen, 0);
                }
            }
            Some(Ok(Message::Close(Some(close)))) => return (seen, close.code.into()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("a close with a code was awaited: {other:?}"),
        }
    }
}

fn of_type<'a>(frames: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> {
    frames.iter().filter(move |frame| frame["type"] == name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_token_and_goes_on_over_a_refresh() {
    let limits = Limits { token_leeway: LEEWAY, auth_notice: Duration::from_secs(1), ..Limits::default() };
    let server = InProcess::start(limits).await;
    let mut ann = Device::open(server.addr, &short("ann", 4)).await;
    let mut bob = Device::open(server.addr, &short("bob", 4)).await;
    let (anns_end, clock) = (expires(&ann.welcome) + LEEWAY.as_secs_f64(), SystemClock::new());
    let hub = server.hub.clone();
    let publishing = tokio::spawn(async move {
        let mut left = None;
        for n in 0_u64.. {
            for name in ["ann", "bob"] {
                hub.publish(&user(name), None, "tick", &n).expect("an event");
            }
            let now = clock.now().unix.as_secs_f64();
            if left.is_none() && hub.devices(&user("ann")).is_empty() {
                left = Some(now);
            }
            if now > anns_end + 1.0 && left.is_some() {
                hub.publish(&user("bob"), None, "tick", &"last").expect("an event");
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        left.expect("it has left")
    });
    let reading = async { tokio::join!(read_up(&mut ann, None), read_up(&mut bob, Some(token("bob")))) };
    let ((anns, code), (bobs, _)) = within("both streams to end", STEP * 2, reading).await;
    let left = publishing.await.expect("the publisher ends well");

    assert_eq!(code, 4200);
    assert_eq!(of_type(&anns, "auth_expiring").count(), 1, "told once");
    let last = of_type(&anns, "custom").filter_map(|event| event["timestamp"].as_f64()).fold(0.0, f64::max);
    let late = left - anns_end;
    println!(
        "the last event came {:.1} ms before the end, and the close {:.1} ms after it",
        (anns_end - last) * 1e3,
        late * 1e3
    );
    // Events have the times of the server's own clock.
    assert!(last < anns_end, "an event of {last} after the end at {anns_end}");
    assert!(last > anns_end - 1.0, "it ended {} s too early", anns_end - last);
    // 250 ms on a machine that is not loaded.
    assert!((-0.01..3.0).contains(&late), "closed {late} s after the end");

    assert_eq!(of_type(&bobs, "auth_expiring").count(), 1);
    let reply = of_type(&bobs, "reply").next().expect("an answer");
    assert!(reply["expires_in"].as_f64().is_some_and(|left| left > 3_000.0), "{reply}");
    let mut seqs = of_type(&bobs, "custom").map(|event| event["seq"].as_u64().expect("a number"));
    let first = seqs.next().expect("events");
    assert!(seqs.zip(first + 1..).all(|(seq, expected)| seq == expected), "nothing is missing or twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_is_revoked_is_out_on_every_socket() {
    let server = InProcess::start(Limits::default()).await;
    let mut devices = Vec::new();
    for token_id in ["one", "two", "three"] {
        devices.push(Device::open(server.addr, &revocable("ann", "", token_id)).await);
    }
    let mut bob = Device::open(server.addr, &token("bob")).await;
    let mut root = Device::open(server.addr, &revocable("root", "admin", "root")).await;
    root.send(&json!({"type": "revoke", "id": "x", "user_id": "ann", "all": true})).await;
    assert_eq!(root.reply("x").await["closed"], 3);
    for device in &mut devices {
        assert_eq!(device.closed().await, 4201);
    }
    bob.ping("still").await;
    until("the three are out of the hub", STEP, || server.hub.counts().connections == 2).await;
}

/// A session and a client in one memory.
struct Pair {
    session: Session,
    client: Client,
}

impl Pair {
    fn pump(&mut self, clock: SystemClock) {
        loop {
            let now = clock.now();
            self.session.poll_ready(now, Waker::noop());
            let down = self.session.transmit().to_vec();
            self.session.advance(now, down.len());
            self.client.handle_bytes(now, &down);
            let up = self.client.transmit().to_vec();
            self.client.advance(up.len());
            self.session.handle_bytes(now, &up);
            if down.is_empty() && up.is_empty() {
                return;
            }
        }
    }

    fn is_revoked(&self) -> bool {
        matches!(self.client.end(), Some(Ok((4201, _))))
    }
}

#[test]
fn a_revocation_among_ten_thousand_connections_closes_its_own_within_100_ms() {
    const USERS: usize = 1_000;
    const DEVICES: usize = 10;
    let clock = SystemClock::new();
    let verifier = Hs256::new(SECRET, ClaimRules::default()).expect("a secret");
    let (hub, _keeper) = Hub::new(HubConfig::default(), Arc::new(verifier), Arc::new(clock), Arc::new(SystemEntropy))
        .expect("limits that agree");
    let name = |user: usize| format!("user-{user}");
    let mut pairs = Vec::with_capacity(USERS * DEVICES);
    for user in 0..USERS {
        let token = revocable(&name(user), "", "jti");
        for _ in 0..DEVICES {
            let config = ClientConfig {
                host: "localhost".into(),
                target: "/ws".into(),
                token: token.clone(),
                session: None,
                resume: None,
                threads: Vec::new(),
                producer: None,
                name: "test".into(),
            };
            let client = Client::new(clock.now(), config, Arc::new(SystemEntropy)).expect("a client");
            let mut pair = Pair { session: hub.session().expect("there is room"), client };
            pair.pump(clock);
            pairs.push(pair);
        }
    }
    assert_eq!(hub.counts().connections, USERS * DEVICES);
    let session = pairs[0].client.session().expect("it is in");
    let cases = [
        (RevokeTarget::Session(session), 1),
        (RevokeTarget::Token(TokenId::new("jti").unwrap()), DEVICES),
        (RevokeTarget::All, DEVICES),
    ];
    let mut gone = 0;
    for (index, (target, expected)) in cases.into_iter().enumerate() {
        let own = &mut pairs[index * DEVICES..(index + 1) * DEVICES];
        let start = Instant::now();
        let closed = hub.revoke(&user(&name(index)), &target, None);
        own.iter_mut().for_each(|pair| pair.pump(clock));
        let took = start.elapsed();
        let reached = own.iter().filter(|pair| pair.is_revoked()).count();
        println!("{expected} of {} connections were told in {took:?}", USERS * DEVICES);
        assert_eq!((closed as usize, reached), (expected, expected));
        // Far above what it takes, and far below what looking at every connection would.
        assert!(took < Duration::from_millis(100) * if cfg!(debug_assertions) { 10 } else { 1 }, "{took:?}");
        gone += expected;
        assert_eq!(hub.counts().connections, USERS * DEVICES - gone);
    }
    pairs.iter_mut().for_each(|pair| pair.pump(clock));
    assert_eq!(pairs.iter().filter(|pair| pair.session.user().is_none()).count(), gone);
}
