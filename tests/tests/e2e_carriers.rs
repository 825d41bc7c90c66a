//! Which page may open a WebSocket, and the carriers that are off until they are asked for: cookies and one-time tickets.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Error, Message};
use trunkline_core::auth::{Access, CookieName, Grant, Origin, Scopes};
use trunkline_core::hub::Hub;
use trunkline_core::id::UserId;
use trunkline_core::limits::Limits;
use trunkline_core::time::Clock as _;
use trunkline_tests::http::request;
use trunkline_tests::server::{InProcess, Program, SECRET, revocable, signed, token};
use trunkline_tests::wire::{Device, STEP, Socket, closed, refused_status, tcp, upgrade, upgrade_at, within};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const APP: &str = "https://app.example";
type Headers<'a> = &'a [(&'a str, &'a str)];
const HELLO: &str = r#"{"type":"hello"}"#;

fn access() -> Access {
    let name = CookieName::parse("__Host-token").unwrap();
    Access::with_origins(Origin::parse(APP)).with_cookie(name).unwrap().with_tickets()
}

/// The first frame after a `hello` that says nothing of who asks: a welcome's user, or the code of the close.
async fn first(mut socket: Socket) -> Result<String, u16> {
    // The server may have closed already.
    let _ = socket.send(Message::text(HELLO)).await;
    match within("the first frame", STEP, socket.next()).await {
        Some(Ok(Message::Text(text))) => {
            let welcome: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(welcome["type"], "welcome", "{welcome}");
            Ok(welcome["user_id"].as_str().unwrap().to_owned())
        }
        Some(Ok(Message::Close(Some(close)))) => Err(close.code.into()),
        other => panic!("a welcome or a close was awaited: {other:?}"),
    }
}

async fn with_headers(addr: SocketAddr, headers: &[(&str, &str)]) -> Result<String, u16> {
    let (socket, _) = upgrade(addr, headers).await.expect("the upgrade is accepted");
    first(socket).await
}

async fn with_ticket(addr: SocketAddr, ticket: &str) -> Result<String, u16> {
    let (socket, _) = upgrade_at(tcp(addr).await, addr, &format!("/ws?ticket={ticket}"), &[]).await.unwrap();
    first(socket).await
}

fn issue(hub: &Hub, sub: &str) -> String {
    let user = UserId::new(None, sub).unwrap();
    let expires = hub.now().unix + Duration::from_secs(3600);
    let grant = Grant { user, issued_at: None, expires, token_id: None, scopes: Scopes::default() };
    hub.issue_ticket(grant).unwrap().ticket.to_text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_origin_is_refused_whatever_it_carries() {
    let server = InProcess::with_access(Limits::default(), access()).await;
    let program = Program::with(SCRATCH, &[("TRUNKLINE_ORIGINS", APP)]);
    for addr in [server.addr, program.addr] {
        let offered = format!("trunkline.v1, bearer.{}", token("ann"));
        let bearer = format!("Bearer {}", token("ann"));
        let own = format!("http://{addr}");
        for origin in ["https://evil.example", "null", "", "https://app.example.evil.example", "http://app.example"] {
            let protocol = [("origin", origin), ("sec-websocket-protocol", offered.as_str())];
            assert_eq!(refused_status(addr, &protocol).await, 403, "{origin}");
            assert_eq!(refused_status(addr, &[("origin", origin), ("authorization", &bearer)]).await, 403, "{origin}");
            assert_eq!(refused_status(addr, &[("origin", origin)]).await, 403, "{origin}");
        }
        assert_eq!(refused_status(addr, &[("origin", APP), ("origin", APP), ("authorization", &bearer)]).await, 403);
        // As a browser spells it: the page's own tab and another site that is let in.
        for origin in [own.as_str(), APP] {
            let headers = [
                ("origin", origin),
                ("user-agent", "Mozilla/5.0"),
                ("accept-encoding", "gzip, deflate, br"),
                ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
                ("sec-websocket-protocol", &offered),
            ];
            assert_eq!(with_headers(addr, &headers).await, Ok("ann".to_owned()), "{origin}");
        }
        assert_eq!(with_headers(addr, &[("sec-websocket-protocol", &offered)]).await, Ok("ann".to_owned()), "no page");
    }
    server.settles_at(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_says_who_a_listed_page_is_and_nobody_else() {
    let server = InProcess::with_access(Limits::default(), access()).await;
    let variables = [("TRUNKLINE_ORIGINS", APP), ("TRUNKLINE_COOKIE", "__Host-token")];
    let program = Program::with(SCRATCH, &variables);
    let good = format!("theme=dark; __Host-token={}; lang=en", token("ann"));
    for addr in [server.addr, program.addr] {
        let own = format!("http://{addr}");
        let cookie = |value: &str| format!("__Host-token={value}");
        let expired = cookie(&signed(SECRET, "ann", Duration::from_secs(7200)));
        let forged = cookie(&signed(b"another secret, just as long as it must be", "ann", Duration::ZERO));
        let other = cookie(&token("bob"));
        let cases: [(Headers<'_>, Result<&str, u16>); 9] = [
            (&[("origin", APP), ("cookie", &good)], Ok("ann")),
            (&[("origin", APP), ("cookie", "theme=dark"), ("cookie", &good)], Ok("ann")),
            (&[("cookie", &good)], Err(4400)),
            (&[("origin", &own), ("cookie", &good)], Err(4400)),
            (&[("origin", APP), ("cookie", &expired)], Err(4200)),
            (&[("origin", APP), ("cookie", &forged)], Err(4400)),
            (&[("origin", APP), ("cookie", "__Host-token=nonsense")], Err(4400)),
            (&[("origin", APP), ("cookie", &good), ("cookie", &other)], Err(4400)),
            (&[("origin", APP), ("cookie", &good.replace("__Host-token", "token"))], Err(4400)),
        ];
        for (headers, expected) in cases {
            assert_eq!(with_headers(addr, headers).await, expected.map(str::to_owned), "{headers:?}");
        }
        assert_eq!(refused_status(addr, &[("origin", "https://evil.example"), ("cookie", &good)]).await, 403);
        let beside = format!("Bearer {}", token("bob"));
        assert_eq!(refused_status(addr, &[("origin", APP), ("cookie", &good), ("authorization", &beside)]).await, 401);
    }
    // Where no cookie is configured, none is read.
    let plain = Program::with(SCRATCH, &[("TRUNKLINE_ORIGINS", APP)]);
    assert_eq!(with_headers(plain.addr, &[("origin", APP), ("cookie", &good)]).await, Err(4400));
    server.settles_at(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_lets_in_once_and_a_token_in_the_query_never() {
    let server = InProcess::with_access(Limits::default(), access()).await;
    let ticket = issue(&server.hub, "ann");
    assert_eq!(with_ticket(server.addr, &ticket).await, Ok("ann".to_owned()));
    let unknown = "A".repeat(43);
    for bad in [ticket.as_str(), &unknown, "nonsense", "", &token("ann")] {
        assert_eq!(with_ticket(server.addr, bad).await, Err(4400), "{bad}");
    }
    for parameter in ["token", "access_token", "jwt", "bearer", "authorization"] {
        let target = format!("/ws?{parameter}={}", token("ann"));
        let (socket, _) = upgrade_at(tcp(server.addr).await, server.addr, &target, &[]).await.unwrap();
        assert_eq!(first(socket).await, Err(4400), "{parameter}");
    }
    let twice = format!("/ws?ticket={0}&ticket={0}", issue(&server.hub, "ann"));
    let (mut socket, _) = upgrade_at(tcp(server.addr).await, server.addr, &twice, &[]).await.unwrap();
    assert_eq!(closed(&mut socket).await, 4400);
    // Off, it is not read.
    let off = InProcess::start(Limits::default()).await;
    assert_eq!(with_ticket(off.addr, &unknown).await, Err(4400));
    server.settles_at(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_and_a_token_never_agree() {
    let server = InProcess::with_access(Limits::default(), access()).await;
    let addr = server.addr;
    let ann = token("ann");
    let target = |hub: &Hub| format!("/ws?ticket={}", issue(hub, "ann"));
    let offered = format!("trunkline.v1, bearer.{ann}");
    let (mut socket, answer) =
        upgrade_at(tcp(addr).await, addr, &target(&server.hub), &[("sec-websocket-protocol", &offered)]).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "trunkline.v1");
    assert_eq!(closed(&mut socket).await, 4400);
    let bearer = format!("Bearer {ann}");
    match upgrade_at(tcp(addr).await, addr, &target(&server.hub), &[("authorization", &bearer)]).await {
        Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), 401),
        other => panic!("an HTTP refusal was awaited: {:?}", other.map(|(_, response)| response)),
    }
    let (mut socket, _) = upgrade_at(tcp(addr).await, addr, &target(&server.hub), &[]).await.unwrap();
    socket.send(Message::text(format!(r#"{{"type":"hello","token":"{ann}"}}"#))).await.unwrap();
    assert_eq!(closed(&mut socket).await, 4400);
    server.settles_at(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_show_one_ticket_at_once_exactly_one_is_welcomed() {
    const RACERS: usize = 8;
    let limits = Limits { connections_per_user: 1_000, ..Limits::default() };
    let server = InProcess::with_access(limits, access()).await;
    for round in 0..25 {
        let ticket = issue(&server.hub, "ann");
        // Connected before, so that the requests are close together.
        let mut streams = Vec::new();
        for _ in 0..RACERS {
            streams.push(tcp(server.addr).await);
        }
        let mut races = JoinSet::new();
        for stream in streams {
            let (addr, target) = (server.addr, format!("/ws?ticket={ticket}"));
            races.spawn(async move {
                let (socket, _) = upgrade_at(stream, addr, &target, &[]).await.unwrap();
                first(socket).await
            });
        }
        let outcomes = races.join_all().await;
        let welcomed = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let refused = outcomes.iter().filter(|outcome| **outcome == Err(4400)).count();
        assert_eq!((welcomed, refused), (1, RACERS - 1), "round {round}");
    }
    assert_eq!(server.hub.tickets(), 0);
    server.settles_at(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_gets_its_ticket_over_http_and_its_token_still_ends_it() {
    let program = Program::with(SCRATCH, &[("TRUNKLINE_TICKETS", "true"), ("TRUNKLINE_LIMITS_TICKET_LIFE", "2s")]);
    let addr = program.addr;
    let token = revocable("ann", "admin", "jti-1");
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let ask = async || {
        let issued = request(addr, "POST /v1/tickets", &headers, b"").await;
        assert_eq!((issued.status, issued.body["expires_in"].as_f64()), (200, Some(2.0)));
        issued.body["ticket"].as_str().unwrap().to_owned()
    };
    assert_eq!(with_ticket(addr, &ask().await).await, Ok("ann".to_owned()));
    let late = ask().await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(with_ticket(addr, &late).await, Err(4400));
    let revoked = ask().await;
    let body = br#"{"user_id":"ann","token_id":"jti-1"}"#;
    assert_eq!(request(addr, "POST /v1/revoke", &headers, body).await.status, 200);
    assert_eq!(with_ticket(addr, &revoked).await, Err(4201));
    Device::open(addr, &trunkline_tests::server::token("bob")).await.golden_path().await;
}
