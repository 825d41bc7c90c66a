//! Sockets that somebody else has accepted: an axum application's, a Unix listener's, one end of a pair.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use trunkline_core::admission::TrustedProxies;
use trunkline_core::auth::{ClaimRules, Hs256, NewToken};
use trunkline_core::codec::frame::{Opcode, encode};
use trunkline_core::hub::{Housekeeper, Hub, HubConfig};
use trunkline_core::id::UserId;
use trunkline_core::limits::Limits;
use trunkline_core::time::Clock;
use trunkline_tokio::axum::{Upgrade, route};
use trunkline_tokio::hyper::Endpoint;
use trunkline_tokio::{NoWeb, SystemClock, SystemEntropy, TokioTimer, serve, serve_connection};

const SECRET: [u8; 32] = [b'k'; 32];
const STEP: Duration = Duration::from_secs(20);

fn hub(config: HubConfig) -> (Hub, Housekeeper) {
    let verifier = Arc::new(Hs256::new(&SECRET, ClaimRules::default()).unwrap());
    Hub::new(config, verifier, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap()
}

fn upgrade(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// An upgrade, and the first frame right behind it.
fn upgrade_and_hello(hub: &Hub, path: &str) -> Vec<u8> {
    let keys = Hs256::new(&SECRET, ClaimRules::default()).unwrap();
    let user = UserId::new(None, "ann").unwrap();
    let ttl = Duration::from_secs(60);
    let new = NewToken { user: &user, issued_at: hub.now().unix, ttl, scope: "", token_id: None };
    let mut bytes = upgrade(path, "").into_bytes();
    let hello = json!({"type": "hello", "token": keys.issue(&new).unwrap()}).to_string();
    encode(&mut bytes, Opcode::Text, hello.as_bytes(), Some([1, 2, 3, 4]));
    bytes
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(STEP, future).await.unwrap_or_else(|_| panic!("waited for {what}"))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(what, look).await;
}

/// Reads until this text has come.
async fn hears(stream: &mut (impl AsyncRead + Unpin), wanted: &str) -> String {
    let mut heard = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&heard).into_owned();
        if text.contains(wanted) {
            return text;
        }
        let read = within(wanted, stream.read_buf(&mut heard)).await.unwrap();
        assert!(read > 0, "{text}");
    }
}

/// The whole life of a socket: in, an event from elsewhere, the drain.
async fn lives(hub: &Hub, path: &str, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    stream.write_all(&upgrade_and_hello(hub, path)).await.unwrap();
    let welcome = hears(&mut stream, "\"welcome\"").await;
    assert!(welcome.starts_with("HTTP/1.1 101 "), "{welcome}");
    hub.publish(&UserId::new(None, "ann").unwrap(), None, "news", &7).unwrap();
    hears(&mut stream, "\"news\"").await;
    hub.begin_shutdown();
    hears(&mut stream, "\"going_away\"").await;
    drop(stream);
    until("the socket is gone", || hub.sockets() == 0).await;
}

/// Serves a router with peers' addresses, for as long as the test runs.
async fn serving(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

async fn asked(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_route_of_axum_takes_what_comes_right_behind_the_request() {
    let (hub, keeper) = hub(HubConfig::default());
    let timer = TokioTimer::new(hub.clone());
    tokio::spawn(keeper.run_until(timer, std::future::pending()));
    let router = Router::new().route("/", get(|| async { "own" })).route("/deep/live", route(hub.clone()));
    let address = serving(router).await;
    hears(&mut asked(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await, "\r\n\r\nown").await;
    lives(&hub, "/deep/live?x=1", TcpStream::connect(address).await.unwrap()).await;
}

#[tokio::test]
async fn a_service_of_tower_is_the_same() {
    let (hub, _keeper) = hub(HubConfig::default());
    let address = serving(Router::new().route_service("/live", Endpoint::new(hub.clone()))).await;
    lives(&hub, "/live", TcpStream::connect(address).await.unwrap()).await;
}

#[tokio::test]
async fn refusals_are_answers_of_the_application() {
    let (hub, _keeper) = hub(HubConfig::default());
    let address = serving(Router::new().route("/live", route(hub.clone()))).await;
    let bad = [
        ("GET /live HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "426", "sec-websocket-version: 13"),
        (upgrade("/live", "Authorization: Bearer aa.bb.cc\r\n"), "401", "www-authenticate: bearer"),
        (upgrade("/live", "Origin: https://other.example\r\n"), "403", "not allowed here"),
        (upgrade("/live", "").replace("GET", "POST"), "405", "allow: get"),
        (upgrade("/live", &format!("X-Long: {}\r\n", "y".repeat(17 << 10))), "431", "send fewer"),
    ];
    for (request, status, more) in bad {
        let mut answer = String::new();
        within(status, asked(address, &request).await.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.to_lowercase().contains(more), "{answer}");
    }
    until("nothing is held", || hub.sockets() == 0).await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_sockets_of_its_own() {
    let limits = Limits { connections_per_address: 1, ..Limits::default() };
    let trusted_proxies = TrustedProxies::new(["127.0.0.0/8"]).unwrap();
    let (hub, _keeper) = hub(HubConfig { limits, trusted_proxies, ..HubConfig::default() });
    let address = serving(Router::new().route("/live", route(hub.clone()))).await;
    let mut held = Vec::new();
    for (client, status) in [("198.51.100.1", "101"), ("198.51.100.1", "503"), ("198.51.100.2", "101")] {
        let mut stream = asked(address, &upgrade("/live", &format!("X-Forwarded-For: {client}\r\n"))).await;
        hears(&mut stream, &format!("HTTP/1.1 {status} ")).await;
        held.push(stream);
    }
}

#[derive(Clone)]
struct App {
    hub: Hub,
    /// Each takes one of them before it answers.
    answers: Arc<Semaphore>,
    grants: bool,
}

impl FromRef<App> for Hub {
    fn from_ref(app: &App) -> Self {
        app.hub.clone()
    }
}

async fn held_back(State(app): State<App>, upgrade: Upgrade) -> Response {
    if let Ok(permit) = app.answers.acquire().await {
        permit.forget();
    }
    if app.grants { upgrade.into_response() } else { StatusCode::FORBIDDEN.into_response() }
}

#[tokio::test]
async fn an_upgrade_that_is_not_sent_gives_its_place_back() {
    for client_leaves in [true, false] {
        let (hub, _keeper) = hub(HubConfig::default());
        let app = App { hub: hub.clone(), answers: Arc::new(Semaphore::new(0)), grants: false };
        let answers = Arc::clone(&app.answers);
        let address = serving(Router::new().route("/live", any(held_back)).with_state(app)).await;
        let mut stream = asked(address, &upgrade("/live", "")).await;
        until("the upgrade waits", || hub.sockets() == 1).await;
        if client_leaves {
            drop(stream);
        } else {
            answers.add_permits(1);
            hears(&mut stream, "HTTP/1.1 403 ").await;
        }
        until("the place is given back", || (hub.sockets(), hub.unauthenticated()) == (0, 0)).await;
    }
}

#[tokio::test]
async fn an_upgrade_that_is_granted_to_nobody_gives_its_place_back() {
    let (hub, _keeper) = hub(HubConfig::default());
    let app = App { hub: hub.clone(), answers: Arc::new(Semaphore::new(0)), grants: true };
    let answers = Arc::clone(&app.answers);
    let address = serving(Router::new().route("/live", any(held_back)).with_state(app)).await;
    let stream = asked(address, &upgrade("/live", "")).await;
    until("the upgrade waits", || hub.sockets() == 1).await;
    // At the same time, as near as it gets.
    answers.add_permits(1);
    drop(stream);
    until("the place is given back", || (hub.sockets(), hub.unauthenticated()) == (0, 0)).await;
}

#[tokio::test]
async fn a_server_that_allows_no_upgrades_says_so_and_holds_no_place() {
    let (hub, _keeper) = hub(HubConfig::default());
    let mut request = hyper::Request::builder().uri("/live").header("host", "a");
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ] {
        request = request.header(name, value);
    }
    let response = trunkline_tokio::hyper::upgrade(&hub, &mut request.body(()).unwrap(), None);
    assert_eq!((response.status().as_u16(), hub.sockets()), (500, 0));
}

/// A stream whose sending side does not end, as that of TLS whose peer takes nothing more.
struct Endless(tokio::io::DuplexStream);

impl AsyncRead for Endless {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Endless {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn a_peer_that_does_not_take_the_end_gives_its_place_back() {
    let limits = Limits { close_deadline: Duration::from_millis(20), ..Limits::default() };
    let (hub, _keeper) = hub(HubConfig { limits, ..HubConfig::default() });
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let server = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(Endless(far)), Endpoint::new(hub.clone()))
        .with_upgrades();
    tokio::spawn(server);
    let mut bytes = upgrade("/live", "").into_bytes();
    encode(&mut bytes, Opcode::Text, b"no hello", Some([1, 2, 3, 4]));
    near.write_all(&bytes).await.unwrap();
    hears(&mut near, "HTTP/1.1 101 ").await;
    until("the place is given back", || hub.sockets() == 0).await;
}

#[tokio::test]
async fn one_end_of_a_pair_and_a_unix_listeners_sockets_are_served_alike() {
    let (hub, _keeper) = hub(HubConfig::default());
    let (near, far) = UnixStream::pair().unwrap();
    let serving = hub.clone();
    tokio::spawn(async move { serve_connection(&serving, far).await });
    lives(&hub, "/ws", near).await;

    let (hub, _keeper) = self::hub(HubConfig::default());
    let path = std::env::temp_dir().join(format!("trunkline-tokio-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let serving = hub.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let hub = serving.clone();
            tokio::spawn(async move { serve_connection(&hub, stream).await });
        }
    });
    let stream = UnixStream::connect(&path).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    lives(&hub, "/ws", stream).await;
}

#[tokio::test]
async fn a_unix_listener_is_served_until_the_server_is_to_stop() {
    let (hub, keeper) = hub(HubConfig::default());
    let path = std::env::temp_dir().join(format!("trunkline-tokio-served-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopping = async move {
        let _ = stopped.await;
    };
    let serving = tokio::spawn(serve(listener, hub.clone(), keeper, NoWeb, stopping));
    let mut elsewhere = UnixStream::connect(&path).await.unwrap();
    elsewhere.write_all(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    hears(&mut elsewhere, "HTTP/1.1 404 ").await;
    drop(elsewhere);
    let stream = UnixStream::connect(&path).await.unwrap();
    lives(&hub, "/ws", stream).await;
    drop(stop);
    within("the server to return", serving).await.unwrap().unwrap();
    std::fs::remove_file(&path).unwrap();
}
