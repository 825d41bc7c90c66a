//! What is refused, with which answer, and that nobody else notices.

use std::time::Duration;

use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use trunkline_core::limits::Limits;
use trunkline_tests::server::{InProcess, Program, SECRET, signed, token};
use trunkline_tests::wire::{
    Carrier, Device, STEP, Socket, closed, frame, read_to_end, refused_status, tcp, upgrade, upgrade_bytes,
};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// A mask of no meaning.
const MASK: Option<[u8; 4]> = Some([9, 8, 7, 6]);

/// `{"alg":"none"}` and `{"sub":"ann","exp":9999999999}`.
const UNSIGNED: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJleHAiOjk5OTk5OTk5OTl9";

/// Tokens that let nobody in, and the close code of each.
fn bad_tokens() -> Vec<(&'static str, String, u16)> {
    let good = token("ann");
    let (head, mac) = good.rsplit_once('.').unwrap();
    let swapped = if mac.starts_with('A') { "B" } else { "A" };
    vec![
        ("of another secret", signed(b"another secret, just as long as it must be", "ann", Duration::ZERO), 4400),
        ("with another signature", format!("{head}.{swapped}{}", &mac[1..]), 4400),
        ("expired", signed(SECRET, "ann", Duration::from_secs(7200)), 4200),
        ("expired and of another secret", signed(&[b'x'; 40], "ann", Duration::from_secs(7200)), 4400),
        ("unsigned", format!("{UNSIGNED}."), 4400),
        ("unsigned, with something like a signature", format!("{UNSIGNED}.{mac}"), 4400),
        ("that is none", "nonsense".to_owned(), 4400),
    ]
}

async fn hello(socket: &mut Socket, token: Option<&str>) {
    let mut hello = json!({"type": "hello"});
    if let Some(token) = token {
        hello["token"] = token.into();
    }
    // The server may have closed already.
    let _ = socket.send(Message::text(hello.to_string())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_does_not_hold_never_gets_a_welcome() {
    let server = InProcess::start(Limits::default()).await;
    let program = Program::start(SCRATCH);
    let mut witness = Device::open(server.addr, &token("bob")).await;
    for addr in [server.addr, program.addr] {
        for (what, bad, code) in bad_tokens() {
            let entry = format!("trunkline.v1, bearer.{bad}");
            let (mut socket, _) = upgrade(addr, &[("sec-websocket-protocol", &entry)]).await.unwrap();
            hello(&mut socket, None).await;
            // Texts before the close would be a welcome.
            assert_eq!(first_close(&mut socket).await, code, "in the subprotocol, a token {what}");

            let (mut socket, _) = upgrade(addr, &[("sec-websocket-protocol", "trunkline.v1")]).await.unwrap();
            hello(&mut socket, Some(&bad)).await;
            assert_eq!(first_close(&mut socket).await, code, "in `hello`, a token {what}");

            let bearer = format!("Bearer {bad}");
            assert_eq!(refused_status(addr, &[("authorization", &bearer)]).await, 401, "in the header, a token {what}");
        }
        let (mut socket, _) = upgrade(addr, &[("sec-websocket-protocol", "trunkline.v1")]).await.unwrap();
        hello(&mut socket, None).await;
        assert_eq!(first_close(&mut socket).await, 4400, "without any token");
        assert_eq!(refused_status(addr, &[("authorization", "Basic YW5uOmFubg==")]).await, 401);
    }
    // A query string carries no token.
    let mut stream = tcp(server.addr).await;
    let request = String::from_utf8(upgrade_bytes(server.addr, "none")).unwrap();
    let request = request.replace("/ws HTTP", &format!("/ws?token={} HTTP", token("ann")));
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(&frame(0x81, br#"{"type":"hello"}"#, MASK)).await.unwrap();
    let answer = read_to_end(&mut stream, "the end of a connection with a token in its query", STEP).await;
    assert!(answer.windows(2).any(|pair| pair == 4400_u16.to_be_bytes()));
    assert!(!String::from_utf8_lossy(&answer).contains("welcome"));
    witness.golden_path().await;
    server.settles_at(1).await;
}

/// The close that must come before any text.
async fn first_close(socket: &mut Socket) -> u16 {
    use futures_util::StreamExt;
    match trunkline_tests::wire::within("a close", STEP, socket.next()).await {
        Some(Ok(Message::Close(Some(close)))) => close.code.into(),
        other => panic!("a close was awaited: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_frame_is_a_hello_or_nobody_is_let_in() {
    let server = InProcess::start(Limits::default()).await;
    let ann = token("ann");
    let entry = format!("trunkline.v1, bearer.{ann}");
    let firsts = [
        json!({"type": "ping"}).to_string(),
        json!({"type": "user_message", "id": "1", "thread_id": "t-1", "content": "x"}).to_string(),
        json!({"type": "hello", "user_id": "bob"}).to_string(),
        json!({"type": "hello", "resume": {"user": "nowhere"}}).to_string(),
        "not JSON".to_owned(),
        "[]".to_owned(),
        r#"{"type":"hello","type":"hello"}"#.to_owned(),
    ];
    for first in firsts {
        let (mut socket, _) = upgrade(server.addr, &[("sec-websocket-protocol", &entry)]).await.unwrap();
        socket.send(Message::text(first.as_str())).await.unwrap();
        assert_eq!(first_close(&mut socket).await, 4400, "{first}");
    }
    let (mut socket, _) = upgrade(server.addr, &[("sec-websocket-protocol", &entry)]).await.unwrap();
    socket.send(Message::binary(&b"\x00"[..])).await.unwrap();
    let code = first_close(&mut socket).await;
    assert!([1003, 4400].contains(&code), "a binary first frame: {code}");
    let (mut socket, _) = upgrade(server.addr, &[("sec-websocket-protocol", &entry)]).await.unwrap();
    let long = json!({"type": "hello", "pad": "x".repeat(Limits::default().message_bytes)}).to_string();
    socket.send(Message::text(long)).await.unwrap();
    assert_eq!(first_close(&mut socket).await, 1009, "a first frame that is too large");
    server.settles_at(0).await;
}

/// Frames that are wrong, with the answer's code, and the `id` it must name.
fn wrong_frames() -> Vec<(String, &'static str, Option<&'static str>)> {
    let deep = |levels: usize| format!("{{\"type\":\"ping\",\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    let all = [
        ("", "malformed", None),
        ("nonsense", "malformed", None),
        ("{", "malformed", None),
        ("[1,2]", "malformed", None),
        ("\"text\"", "malformed", None),
        ("null", "malformed", None),
        ("{}", "malformed", None),
        (r#"{"type":7}"#, "malformed", None),
        (r#"{"type":"ping"} {"type":"ping"}"#, "malformed", None),
        (r#"{"type":"ping","type":"ping"}"#, "malformed", None),
        (r#"{"type":"no_such_type"}"#, "unknown_type", None),
        (r#"{"type":"no_such_type","id":"u"}"#, "unknown_type", Some("u")),
        (r#"{"type":"welcome","id":"w"}"#, "unknown_type", Some("w")),
        (r#"{"type":"user_message","id":"m1","content":"x"}"#, "invalid", Some("m1")),
        (r#"{"type":"user_message","id":"m2","thread_id":"t-1"}"#, "invalid", Some("m2")),
        (r#"{"type":"user_message","id":"m3","thread_id":"t-1","content":5}"#, "invalid", Some("m3")),
        (r#"{"type":"user_message","id":"m4","thread_id":"","content":"x"}"#, "invalid", Some("m4")),
        (r#"{"type":"user_message","thread_id":"t-1","content":"x"}"#, "invalid", None),
        (r#"{"type":"cancel_run","id":"c1"}"#, "invalid", Some("c1")),
        (r#"{"type":"cancel_run","id":"c2","run_id":"run_0123456789abcdef0123456789abcdef"}"#, "not_found", Some("c2")),
        (r#"{"type":"ack","event_id":"7"}"#, "invalid", None),
        (r#"{"type":"hello"}"#, "unexpected", None),
        (r#"{"type":"subscribe","id":"s","topic":"news"}"#, "not_found", Some("s")),
        (r#"{"type":"approve","id":"a","approval_id":"a-1","decision":"allow"}"#, "not_found", Some("a")),
        (r#"{"type":"refresh","id":"r","token":"x"}"#, "refresh_refused", Some("r")),
        (r#"{"type":"publish","id":"p","user_id":"ann","name":"n","data":1}"#, "not_found", Some("p")),
        (r#"{"type":"run_start","id":"q","user_id":"ann","thread_id":"t","agent_name":"a"}"#, "unexpected", Some("q")),
        (
            r#"{"type":"run_event","run_id":"run_0123456789abcdef0123456789abcdef","n":1,"event":{"type":"agent_thinking","thought":"x"}}"#,
            "unexpected",
            None,
        ),
        (r#"{"type":"reply","id":"q-1","ok":true}"#, "unexpected", None),
        (r#"{"type":"revoke","id":"v","user_id":"bob","token_id":"x"}"#, "not_found", Some("v")),
        (
            r#"{"type":"user_message","id":"i","user_id":"bob","thread_id":"t-1","content":"x"}"#,
            "identity_mismatch",
            Some("i"),
        ),
        (r#"{"type":"command","id":"k","name":"n"}"#, "refused", Some("k")),
    ];
    let mut frames: Vec<_> = all.map(|(text, code, id)| (text.to_owned(), code, id)).into();
    // The frame itself is the first level.
    frames.push((deep(64), "malformed", None));
    frames.push((deep(20_000), "malformed", None));
    frames
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_frame_gets_the_documented_answer_and_the_connection_stays() {
    let limits = Limits { message_burst: 1_000, ..Limits::default() };
    let server = InProcess::start(limits).await;
    let mut ann = Device::open(server.addr, &token("ann")).await;
    let mut bob = Device::open(server.addr, &token("bob")).await;
    for (index, (text, code, id)) in wrong_frames().iter().enumerate() {
        let shown = &text[..text.len().min(80)];
        ann.send_text(text).await;
        let answer = ann.other(|_| true).await;
        let error = match id {
            Some(id) => {
                assert_eq!((&answer["type"], &answer["id"]), (&"reply".into(), &Value::from(*id)), "{shown}: {answer}");
                assert_eq!(answer["ok"], false, "{shown}: {answer}");
                &answer["error"]
            }
            None => {
                assert_eq!(answer["type"], "error", "{shown}: {answer}");
                &answer
            }
        };
        assert_eq!(error["code"], *code, "{shown}: {answer}");
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{shown}: {answer}");
        ann.ping(&format!("after-{index}")).await;
        assert!(ann.others.is_empty(), "{shown} was answered twice: {:?}", ann.others);
    }
    // Just deep enough is fine, and so are fields that nobody knows.
    let nested = format!("{{\"type\":\"ping\",\"id\":\"deep\",\"x\":{}{}}}", "[".repeat(63), "]".repeat(63));
    ann.send_text(&nested).await;
    ann.other(|frame| frame["type"] == "pong" && frame["id"] == "deep").await;
    ann.golden_path().await;
    bob.golden_path().await;
    assert!(bob.events.iter().all(|event| event["user_id"] == "bob") && bob.others.is_empty());
    server.settles_at(2).await;
}

/// Bytes that end the connection of whoever sends them, and with which code.
fn fatal_bytes() -> Vec<(&'static str, Vec<u8>, u16)> {
    let long = vec![b' '; Limits::default().message_bytes + 1];
    let half = frame(0x01, &long[..40_000], MASK);
    let rest = frame(0x80, &long[..40_000], MASK);
    vec![
        ("a message one byte too large", frame(0x81, &long, MASK), 1009),
        (
            "only the header of one that is far too large",
            {
                let mut header = vec![0x81, 0xff];
                header.extend_from_slice(&(1_u64 << 62).to_be_bytes());
                header.extend_from_slice(&[1, 2, 3, 4]);
                header
            },
            1009,
        ),
        ("fragments that are too large together", [half, rest].concat(), 1009),
        ("a binary message", frame(0x82, b"{}", MASK), 1003),
        ("text that is not UTF-8", frame(0x81, b"{\"type\":\"\xff\"}", MASK), 1007),
        ("text with a surrogate", frame(0x81, b"\xed\xa0\x80", MASK), 1007),
        ("a frame without a mask", frame(0x81, br#"{"type":"ping"}"#, None), 1002),
        ("RSV1", frame(0xc1, b"{}", MASK), 1002),
        ("RSV2", frame(0xa1, b"{}", MASK), 1002),
        ("RSV3", frame(0x91, b"{}", MASK), 1002),
        ("a reserved data opcode", frame(0x83, b"{}", MASK), 1002),
        ("a reserved control opcode", frame(0x8b, b"", MASK), 1002),
        ("a control frame in fragments", frame(0x09, b"", MASK), 1002),
        ("a ping that is too long", frame(0x89, &[b'x'; 126], MASK), 1002),
        ("a continuation of nothing", frame(0x80, b"{}", MASK), 1002),
        ("a message inside a message", [frame(0x01, b"{", MASK), frame(0x81, b"}", MASK)].concat(), 1002),
        ("a close with half a code", frame(0x88, b"\x03", MASK), 1002),
        ("a close with a code that is never sent", frame(0x88, &1005_u16.to_be_bytes(), MASK), 1002),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_break_the_rules_end_their_own_connection_with_the_right_code() {
    // After a fault in the framing the server hears no close of the peer: it waits for the end of its stream so long.
    let limits = Limits { close_deadline: Duration::from_secs(1), ..Limits::default() };
    let server = InProcess::start(limits).await;
    let mut witness = Device::open(server.addr, &token("ann")).await;
    let mut cases = JoinSet::new();
    for (index, (what, bytes, code)) in fatal_bytes().into_iter().enumerate() {
        let mut device = Device::open(server.addr, &token(&format!("user-{index}"))).await;
        cases.spawn(async move {
            device.send_bytes(&bytes).await;
            assert_eq!(device.closed().await, code, "{what}");
        });
    }
    cases.join_all().await;
    let mut largest = vec![b' '; Limits::default().message_bytes];
    largest[..15].copy_from_slice(br#"{"type":"ping"}"#);
    witness.send_bytes(&frame(0x81, &largest, MASK)).await;
    witness.other(|frame| frame["type"] == "pong").await;
    witness.golden_path().await;
    server.settles_at(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sends_over_the_rate_is_closed_and_nobody_else() {
    let limits = Limits { messages_per_second: 1, message_burst: 5, ..Limits::default() };
    let server = InProcess::start(limits).await;
    let mut witness = Device::open(server.addr, &token("ann")).await;
    let mut flood = Device::open(server.addr, &token("ann")).await;
    let ping = frame(0x81, br#"{"type":"ping"}"#, MASK);
    // More than may be earned back while they are sent.
    flood.send_bytes(&ping.repeat(60)).await;
    assert_eq!(flood.closed().await, 4002);
    witness.golden_path().await;
    server.settles_at(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_no_upgrade_get_a_real_answer_of_http() {
    let server = InProcess::start(Limits::default()).await;
    let good = String::from_utf8(upgrade_bytes(server.addr, &token("ann"))).unwrap();
    let requests = [
        ("no WebSocket at all", "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "426"),
        ("another version", good.replace("Version: 13", "Version: 8"), "426"),
        ("another method", good.replace("GET", "POST"), "405"),
        ("no key", good.replace("Sec-WebSocket-Key", "X-Key"), "400"),
        ("no host", good.replace("Host", "X-Host"), "400"),
        ("another path", good.replace("/ws", "/elsewhere"), "404"),
        ("no HTTP", "\x16\x03\x01 hello\r\n\r\n".to_owned(), "400"),
        ("too many bytes", good.replace("\r\n\r\n", &format!("\r\nX: {}\r\n\r\n", "x".repeat(17_000))), "431"),
    ];
    for (what, request, status) in requests {
        let mut stream = tcp(server.addr).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream, "the end of a refused request", STEP).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
    }
    Device::join(server.addr, &token("ann"), Carrier::Subprotocol, json!({})).await.golden_path().await;
    server.settles_at(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_of_the_client_is_answered_with_its_code() {
    let server = InProcess::start(Limits::default()).await;
    let mut ann = Device::open(server.addr, &token("ann")).await;
    ann.send_bytes(&frame(0x88, &1000_u16.to_be_bytes(), MASK)).await;
    assert_eq!(closed(&mut ann.socket).await, 1000);
    server.settles_at(0).await;
}
