//! Sockets of other kinds than TCP: one end of a pair, a Unix listener's.

use std::sync::Arc;
use std::time::Duration;

use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::unix::{UnixListener, UnixStream};
use trunkline_core::auth::{ClaimRules, Hs256, NewToken};
use trunkline_core::codec::frame::{Opcode, encode};
use trunkline_core::hub::{Housekeeper, Hub, HubConfig};
use trunkline_core::id::UserId;
use trunkline_core::time::Clock;
use trunkline_smol::{NoWeb, SystemClock, SystemEntropy, serve, serve_connection};

const SECRET: [u8; 32] = [b'k'; 32];

fn hub() -> (Hub, Housekeeper) {
    let verifier = Arc::new(Hs256::new(&SECRET, ClaimRules::default()).unwrap());
    Hub::new(HubConfig::default(), verifier, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap()
}

/// An upgrade, and the first frame right behind it.
fn upgrade_and_hello(hub: &Hub) -> Vec<u8> {
    let keys = Hs256::new(&SECRET, ClaimRules::default()).unwrap();
    let user = UserId::new(None, "ann").unwrap();
    let ttl = Duration::from_secs(60);
    let new = NewToken { user: &user, issued_at: hub.now().unix, ttl, scope: "", token_id: None };
    let mut bytes = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    let hello = format!(r#"{{"type":"hello","token":"{}"}}"#, keys.issue(&new).unwrap());
    encode(&mut bytes, Opcode::Text, hello.as_bytes(), Some([1, 2, 3, 4]));
    bytes
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let late = async {
        smol::Timer::after(Duration::from_secs(20)).await;
        panic!("waited for {what}")
    };
    smol::future::or(future, late).await
}

async fn hears(stream: &mut UnixStream, wanted: &str) {
    let mut heard = String::new();
    let mut buf = [0; 4096];
    while !heard.contains(wanted) {
        let n = within(wanted, stream.read(&mut buf)).await.unwrap();
        assert!(n > 0, "{heard}");
        heard.push_str(&String::from_utf8_lossy(&buf[..n]));
    }
}

/// The whole life of a socket: in, an event from elsewhere, the drain.
async fn lives(hub: &Hub, mut stream: UnixStream) {
    stream.write_all(&upgrade_and_hello(hub)).await.unwrap();
    hears(&mut stream, "\"welcome\"").await;
    hub.publish(&UserId::new(None, "ann").unwrap(), None, "news", &7).unwrap();
    hears(&mut stream, "\"news\"").await;
    hub.begin_shutdown();
    hears(&mut stream, "\"going_away\"").await;
    drop(stream);
    let gone = async {
        while hub.sockets() > 0 {
            smol::Timer::after(Duration::from_millis(2)).await;
        }
    };
    within("the socket to be gone", gone).await;
}

#[test]
fn one_end_of_a_pair_is_served() {
    smol::block_on(async {
        let (hub, _keeper) = hub();
        let (near, far) = UnixStream::pair().unwrap();
        let serving = hub.clone();
        let served = smol::spawn(async move { serve_connection(&serving, far).await });
        lives(&hub, near).await;
        within("the future to end", served).await;
    });
}

#[test]
fn sockets_of_a_unix_listener_are_served() {
    smol::block_on(async {
        let (hub, _keeper) = hub();
        let path = std::env::temp_dir().join(format!("trunkline-smol-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let serving = hub.clone();
        let served = smol::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            serve_connection(&serving, stream).await
        });
        let stream = UnixStream::connect(&path).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        lives(&hub, stream).await;
        within("the future to end", served).await;
    });
}

#[test]
fn a_unix_listener_is_served_until_the_server_is_to_stop() {
    smol::block_on(async {
        let (hub, keeper) = hub();
        let path = std::env::temp_dir().join(format!("trunkline-smol-served-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let stopping = async move {
            let _ = stopped.recv().await;
        };
        let serving = smol::spawn(serve(listener, hub.clone(), keeper, NoWeb, stopping));
        let mut elsewhere = UnixStream::connect(&path).await.unwrap();
        elsewhere.write_all(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        hears(&mut elsewhere, "HTTP/1.1 404 ").await;
        drop(elsewhere);
        let stream = UnixStream::connect(&path).await.unwrap();
        lives(&hub, stream).await;
        drop(stop);
        within("the server to return", serving).await.unwrap();
        std::fs::remove_file(&path).unwrap();
    });
}
