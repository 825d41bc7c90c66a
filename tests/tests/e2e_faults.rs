//! Clients that die, drip, or say nothing, and servers that go: everybody else is served all the same.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use trunkline_core::limits::Limits;
use trunkline_tests::server::{InProcess, token};
use trunkline_tests::wire::{
    Device, STEP, closed, read_to_end, refused_status, reset, tcp, text_frame, upgrade, upgrade_bytes, within,
};

/// Everything a client sends from its first byte to a message, and where each part ends.
struct Script {
    bytes: Vec<u8>,
    upgraded: usize,
    greeted: usize,
}

fn script(server: &InProcess, token: &str) -> Script {
    let mut bytes = upgrade_bytes(server.addr, token);
    let upgraded = bytes.len();
    bytes.extend(text_frame(r#"{"type":"hello"}"#));
    let greeted = bytes.len();
    let message = json!({"type": "user_message", "id": "1", "thread_id": "t-1", "content": "what is 2*(3+4)?"});
    bytes.extend(text_frame(&message.to_string()));
    Script { bytes, upgraded, greeted }
}

/// How a client dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// By a reset, at once.
    Reset,
    /// By a reset, once the server has answered what it could.
    ResetAfterTheAnswer,
    /// By the end of its stream, unread answers and all.
    Fin,
}

async fn read_past(stream: &mut TcpStream, what: &str, mark: &[u8]) {
    let mut seen = Vec::new();
    while !seen.windows(mark.len()).any(|window| window == mark) {
        let n = within(what, STEP, stream.read_buf(&mut seen)).await.unwrap();
        assert!(n > 0, "the stream ends before {what}");
    }
}

async fn die(server: &InProcess, script: &Script, length: usize, death: Death) {
    let mut stream = tcp(server.addr).await;
    stream.write_all(&script.bytes[..length]).await.unwrap();
    if death == Death::ResetAfterTheAnswer {
        if length >= script.greeted {
            read_past(&mut stream, "the welcome", b"\"welcome\"").await;
        } else if length >= script.upgraded {
            read_past(&mut stream, "the upgrade's answer", b"\r\n\r\n").await;
        }
    }
    match death {
        Death::Reset | Death::ResetAfterTheAnswer => reset(stream),
        Death::Fin => drop(stream),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_a_client_at_any_byte_harms_no_other() {
    // The dead count against their user until the server has seen their end.
    let limits = Limits { connections_per_user: 10_000, runs_per_user: 10_000, ..Limits::default() };
    let server = InProcess::start(limits).await;
    let mut bob = Device::open(server.addr, &token("bob")).await;
    let mut other_device = Device::open(server.addr, &token("ann")).await;
    let script = script(&server, &token("ann"));
    for death in [Death::Reset, Death::ResetAfterTheAnswer, Death::Fin] {
        for length in 0..=script.bytes.len() {
            die(&server, &script, length, death).await;
        }
        bob.golden_path().await;
        other_device.golden_path().await;
        server.settles_at(2).await;
    }
    // Whatever the dead had asked, both saw each of their own events once and in order; the devices check it.
    assert!(bob.events.iter().all(|event| event["user_id"] == "bob"));
    let replayed = Device::resume(server.addr, &token("ann"), "0-0").await;
    let head = &replayed.welcome["streams"][0]["head"];
    other_device.event(|event| event["event_id"] == *head).await;
}

fn short() -> Limits {
    Limits {
        handshake_deadline: Duration::from_millis(400),
        hello_deadline: Duration::from_millis(400),
        close_deadline: Duration::from_millis(400),
        ..Limits::default()
    }
}

/// Sends `bytes` one by one for as long as the server takes them.
async fn drip(stream: &mut TcpStream, bytes: &[u8]) {
    let (mut read, mut write) = stream.split();
    let dripping = async {
        for byte in bytes {
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
            // The pace is what is tested.
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let ended = async {
        let _ = read.read_to_end(&mut answer).await;
    };
    tokio::select! {
        () = dripping => {}
        () = within("the end of a connection that drips", STEP, ended) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_drips_or_says_nothing_is_gone_by_the_deadline() {
    let server = InProcess::start(short()).await;
    let mut witness = Device::open(server.addr, &token("bob")).await;
    let script = script(&server, &token("ann"));

    let start = Instant::now();
    let mut silent = tcp(server.addr).await;
    read_to_end(&mut silent, "the end of a connection that says nothing", STEP).await;
    assert!(start.elapsed() >= Duration::from_millis(390), "too early: {:?}", start.elapsed());

    // Half a request, byte by byte: every byte is on time, the request is not.
    drip(&mut tcp(server.addr).await, &script.bytes[..script.upgraded]).await;

    // Half open: the request is whole, and then nothing, or a `hello` that does not end.
    for more in [&b""[..], &script.bytes[script.upgraded..script.greeted - 1]] {
        let mut stream = tcp(server.addr).await;
        stream.write_all(&script.bytes[..script.upgraded]).await.unwrap();
        stream.write_all(more).await.unwrap();
        let answer = read_to_end(&mut stream, "the end of a connection without `hello`", STEP).await;
        assert!(answer.windows(2).any(|pair| pair == 4040_u16.to_be_bytes()), "closes with 4040");
    }
    let mut stream = tcp(server.addr).await;
    stream.write_all(&script.bytes[..script.upgraded]).await.unwrap();
    drip(&mut stream, &script.bytes[script.upgraded..script.greeted]).await;

    // As a client library sees it.
    let entry = format!("trunkline.v1, bearer.{}", token("ann"));
    let (mut socket, _) = upgrade(server.addr, &[("sec-websocket-protocol", &entry)]).await.unwrap();
    assert_eq!(closed(&mut socket).await, 4040);
    witness.golden_path().await;
    server.settles_at(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_never_answers_pings_or_closes_is_gone_by_the_deadline() {
    let limits = Limits {
        heartbeat_interval: Duration::from_millis(300),
        heartbeat_timeout: Duration::from_millis(300),
        ..short()
    };
    let server = InProcess::start(limits).await;
    // Both in, and from here on they neither read nor write.
    let mut deaf = Device::open(server.addr, &token("ann")).await;
    let also_deaf = Device::open(server.addr, &token("bob")).await;
    server.settles_at(0).await;
    assert_eq!(closed(&mut deaf.socket).await, 4004);
    drop(also_deaf);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_keeps_whoever_answers() {
    let interval = Duration::from_millis(200);
    let limits = Limits { heartbeat_interval: interval, heartbeat_timeout: STEP, ..Limits::default() };
    let server = InProcess::start(limits).await;
    let mut ann = Device::open(server.addr, &token("ann")).await;
    for _ in 0..3 {
        let ping = within("a ping of the server", STEP, ann.socket.next()).await;
        assert!(matches!(ping, Some(Ok(Message::Ping(_)))), "{ping:?}");
    }
    ann.golden_path().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_announces_itself_closes_everybody_and_admits_nobody() {
    let limits = Limits { close_deadline: Duration::from_secs(2), ..Limits::default() };
    let mut server = InProcess::start(limits).await;
    let mut devices = Vec::new();
    for user in ["ann", "ann", "bob"] {
        devices.push(Device::open(server.addr, &token(user)).await);
    }
    devices[0].golden_path().await;
    // It never answers the close, so the drain lasts for its deadline.
    let stubborn = Device::open(server.addr, &token("eve")).await;
    let mut halfway = tcp(server.addr).await;
    server.stop();
    for device in &mut devices {
        let going = device.other(|frame| frame["type"] == "going_away").await;
        assert!(going["deadline"].is_number() && going["reconnect_after"].is_number(), "{going}");
        assert_eq!(device.closed().await, 1012);
    }
    let entry = format!("trunkline.v1, bearer.{}", token("ann"));
    assert_eq!(refused_status(server.addr, &[("sec-websocket-protocol", &entry)]).await, 503);
    // Also for whoever was connected before.
    halfway.write_all(&upgrade_bytes(server.addr, &token("ann"))).await.unwrap();
    let answer = read_to_end(&mut halfway, "the refusal of a late request", STEP).await;
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(answer.starts_with("http/1.1 503 ") && answer.contains("\r\nretry-after: "), "{answer}");
    server.returned(STEP).await;
    drop(stubborn);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_cuts_at_its_deadline_who_never_answers_the_close() {
    let (close_deadline, drain_deadline) = (Duration::from_secs(3600), Duration::from_millis(500));
    let mut server = InProcess::start(Limits { close_deadline, drain_deadline, ..Limits::default() }).await;
    let mut stubborn = Device::open(server.addr, &token("eve")).await;
    server.stop();
    server.returned(STEP).await;
    assert_eq!(stubborn.closed().await, 1012, "it was told all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_of_a_server_without_connections_is_over_at_once() {
    let mut server = InProcess::start(Limits::default()).await;
    Device::open(server.addr, &token("ann")).await.golden_path().await;
    server.settles_at(0).await;
    server.stop();
    server.returned(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_full_says_so_and_recovers() {
    let limits = Limits { connections: 3, connections_per_user: 2, ..Limits::default() };
    let server = InProcess::start(limits).await;
    let mut first = Device::open(server.addr, &token("ann")).await;
    let second = Device::open(server.addr, &token("ann")).await;
    let entry = format!("trunkline.v1, bearer.{}", token("ann"));
    let (mut third, _) = upgrade(server.addr, &[("sec-websocket-protocol", &entry)]).await.unwrap();
    third.send_hello().await;
    assert_eq!(closed(&mut third).await, 4410);
    server.settles_at(2).await;
    let bob = Device::open(server.addr, &token("bob")).await;
    // The answer may be lost to a reset, for it comes before the request is read; but nobody is let in.
    assert!(upgrade(server.addr, &[("sec-websocket-protocol", &entry)]).await.is_err());
    first.golden_path().await;
    drop((second, bob));
    server.settles_at(1).await;
    Device::open(server.addr, &token("ann")).await.golden_path().await;
}

trait Hello {
    async fn send_hello(&mut self);
}

impl Hello for trunkline_tests::wire::Socket {
    async fn send_hello(&mut self) {
        use futures_util::SinkExt;
        self.send(Message::text(r#"{"type":"hello"}"#)).await.unwrap();
    }
}
