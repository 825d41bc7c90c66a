//! Every bad token against a whole server, in every carrier: one answer for all of them, and nobody is called.

#[path = "../../core/tests/corpus/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the verifier's own tests use the rest")]
mod corpus;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use corpus::Bad;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Error, Message};
use trunkline_core::api::Head;
use trunkline_core::auth::{Access, Algorithm, ClaimRules, CookieName, KeySet, Origin};
use trunkline_core::hub::HubConfig;
use trunkline_core::limits::Limits;
use trunkline_tests::server::InProcess;
use trunkline_tests::wire::{Device, STEP, Socket, tcp, upgrade, upgrade_at, within};

/// Of the first frame, before anybody is known.
const HELLO_BYTES: usize = 8 << 10;
/// Of whose pages cookies count.
const APP: &str = "https://app.example";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_bad_token_gets_in_by_any_carrier_and_nobody_is_asked_for_a_key() {
    let mut listeners = Vec::new();
    for _ in 0..4 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    let keys = KeySet::new(corpus::keys(), ClaimRules::default()).unwrap();
    let limits = Limits { message_burst: 10_000, handshake_burst: 100_000, ..Limits::default() };
    let access = Access::with_origins(Origin::parse(APP)).with_cookie(CookieName::parse("token").unwrap()).unwrap();
    let config = HubConfig { limits, access: access.with_tickets(), ..HubConfig::default() };
    let server = InProcess::verifying(Arc::new(keys), config).await;
    let bad = corpus::bad_tokens(&addresses);

    let addr = server.addr;
    let answers = tokio::join!(
        each(&bad, |bad| in_subprotocol(addr, bad)),
        each(&bad, |bad| in_hello(addr, bad)),
        each(&bad, |bad| in_header(addr, bad)),
        each(&bad, |bad| in_cookie(addr, bad)),
        each(&bad, |bad| as_ticket(addr, bad)),
    );
    for (carrier, answers) in [
        ("Sec-WebSocket-Protocol", answers.0),
        ("hello", answers.1),
        ("Authorization", answers.2),
        ("Cookie", answers.3),
        ("ticket", answers.4),
    ] {
        assert_eq!(answers.len(), 1, "all alike in {carrier}: {answers:?}");
    }
    over_http(&server, &bad);
    as_refresh(addr, &bad).await;

    for listener in &listeners {
        assert!(is_not_called(listener).await);
        let _caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!is_not_called(listener).await, "who calls is noticed");
    }
    server.settles_at(0).await;
}

/// The different answers to the tokens that the carrier can carry.
async fn each<'a, F: Future<Output = Option<String>>>(bad: &'a [Bad], send: impl Fn(&'a Bad) -> F) -> BTreeSet<String> {
    let (mut answers, mut sent) = (BTreeSet::new(), 0);
    for bad in bad {
        if let Some(answer) = send(bad).await {
            sent += 1;
            answers.insert(answer);
        }
    }
    assert!(sent >= 400, "{sent} tokens are sent");
    answers
}

async fn in_subprotocol(addr: SocketAddr, bad: &Bad) -> Option<String> {
    let text = &bad.token;
    let spelled =
        if is_plain(text) { format!("bearer.{text}") } else { format!("jwt.{}", corpus::encode(text.as_bytes())) };
    let entries = format!("trunkline.v1, {spelled}");
    let (mut socket, response) = upgrade(addr, &[("sec-websocket-protocol", &entries)]).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "trunkline.v1");
    let _ = socket.send(Message::text(json!({"type": "hello"}).to_string())).await;
    Some(closed(&mut socket, &bad.name).await)
}

async fn in_hello(addr: SocketAddr, bad: &Bad) -> Option<String> {
    let hello = json!({"type": "hello", "token": bad.token}).to_string();
    if hello.len() > HELLO_BYTES {
        return None;
    }
    let (mut socket, _) = upgrade(addr, &[("sec-websocket-protocol", "trunkline.v1")]).await.unwrap();
    let _ = socket.send(Message::text(hello)).await;
    Some(closed(&mut socket, &bad.name).await)
}

async fn in_cookie(addr: SocketAddr, bad: &Bad) -> Option<String> {
    // Quotes around a value are the cookie's own. RFC 6265 section 4.1.1.
    if !is_plain(&bad.token) || bad.token.starts_with('"') {
        return None;
    }
    let (mut socket, _) = upgrade(addr, &[("origin", APP), ("cookie", &format!("token={}", bad.token))]).await.unwrap();
    let _ = socket.send(Message::text(json!({"type": "hello"}).to_string())).await;
    Some(closed(&mut socket, &bad.name).await)
}

/// No token is a ticket, not even one that holds.
async fn as_ticket(addr: SocketAddr, bad: &Bad) -> Option<String> {
    let target = format!("/ws?ticket={}", bad.token);
    if !is_plain(&bad.token) || target.contains(['#', '"', '<', '>', '\\', '^', '`', '{', '|', '}']) {
        return None;
    }
    let (mut socket, _) = upgrade_at(tcp(addr).await, addr, &target, &[]).await.unwrap();
    let _ = socket.send(Message::text(json!({"type": "hello"}).to_string())).await;
    Some(closed(&mut socket, &bad.name).await)
}

async fn in_header(addr: SocketAddr, bad: &Bad) -> Option<String> {
    if !is_plain(&bad.token) {
        return None;
    }
    match upgrade(addr, &[("authorization", &format!("Bearer {}", bad.token))]).await {
        Err(Error::Http(response)) => {
            assert_eq!(response.status(), 401, "{}", bad.name);
            Some(format!("{:?} {:?}", response.headers(), response.body()))
        }
        other => panic!("{}: {:?}", bad.name, other.map(|(_, response)| response)),
    }
}

fn over_http(server: &InProcess, bad: &[Bad]) {
    let mut answers = BTreeSet::new();
    for bad in bad {
        let authorization = format!("Bearer {}", bad.token);
        let lines = [authorization.as_bytes()];
        let head =
            Head { method: "POST", path: "/v1/publish", authorization: &lines, content_type: Some("application/json") };
        // A blank around a token is a header's, and not the token's.
        if bad.token.trim() == bad.token {
            let answer = server.hub.api(&head).expect_err(&bad.name);
            assert_eq!(answer.status, 401, "{}", bad.name);
            answers.insert(format!("{:?} {:?}", answer.headers, answer.body));
        }
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
}

/// The session stays as it was.
async fn as_refresh(addr: SocketAddr, bad: &[Bad]) {
    let mut device = Device::open(addr, &corpus::good(Algorithm::EdDsa)).await;
    for bad in bad {
        device.send(&json!({"type": "refresh", "id": "r", "token": bad.token})).await;
        let reply = device.reply("r").await;
        assert_eq!(reply["error"]["code"], "refresh_refused", "{}: {reply}", bad.name);
    }
    for algorithm in Algorithm::ALL {
        device.send(&json!({"type": "refresh", "id": "good", "token": corpus::good(algorithm)})).await;
        assert_eq!(device.reply("good").await["ok"], true, "{algorithm}");
    }
    device.golden_path().await;
    device.reset();
}

/// What stands in a header as it is.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

async fn closed(socket: &mut Socket, name: &str) -> String {
    match within("a close", STEP, socket.next()).await {
        Some(Ok(Message::Close(Some(close)))) => {
            assert_eq!(u16::from(close.code), 4400, "{name}");
            close.reason.to_string()
        }
        other => panic!("{name}: {other:?}"),
    }
}

async fn is_not_called(listener: &TcpListener) -> bool {
    tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_err()
}
