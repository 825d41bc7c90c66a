//! Nothing that is secret or somebody's own, and nothing that a terminal would obey, is in what the program writes: not in its
//! log at its most talkative, not on standard error, not in an answer that names what was wrong.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use trunkline_core::auth::{ClaimRules, Hs256, NewToken};
use trunkline_core::id::UserId;
use trunkline_core::time::UnixTime;
use trunkline_tests::http;
use trunkline_tests::producer::{Producer, thinking};
use trunkline_tests::server::{Program, SECRET, revocable, scoped, signed, token};
use trunkline_tests::wire::{Carrier, Device, STEP, frame, read_to_end, tcp, text_frame, upgrade, upgrade_bytes};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
/// Stands in every payload.
const MARK: &str = "m4rk-of-a-p4yload";
/// What a terminal would obey.
const EVIL: &str = "\u{1b}[31mred\u{9b}2J\u{7}";

/// Tokens that do not hold and carry the mark in their claims and signature.
fn bad_tokens() -> Vec<String> {
    let claims = [format!(r#"{{"sub":"{MARK}","exp":9999999999}}"#), format!(r#"{{"sub":"ann","jti":"{MARK}"}}"#)];
    let mut tokens: Vec<String> = claims
        .iter()
        .map(|claims| format!("{}.{}.{MARK}", base64url(r#"{"alg":"HS256"}"#), base64url(claims)))
        .collect();
    tokens.push(format!("{MARK}.{MARK}.{MARK}"));
    tokens.push(signed(b"another secret, just as long as it must be", "ann", Duration::ZERO));
    tokens.push(signed(SECRET, "ann", Duration::from_secs(7_200)));
    tokens
}

fn base64url(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            out.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    out
}

/// Whatever is sent, as bytes on a connection of its own; answers what came back.
async fn exchange(program: &Program, bytes: &[u8]) -> Vec<u8> {
    let mut stream = tcp(program.addr).await;
    // It may be refused before it is read.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    read_to_end(&mut stream, "the end of an exchange", STEP).await
}

/// Each credential in each carrier, and in places where it has no business.
async fn credentials(program: &Program, secrets: &mut Vec<String>) {
    let mut tokens = bad_tokens();
    tokens.push(token("ann"));
    tokens.push(revocable("ann", "admin publish topic:*", MARK));
    for token in &tokens {
        for headers in [
            format!("Authorization: Bearer {token}\r\n"),
            format!("Authorization: Basic {token}\r\n"),
            format!("Sec-WebSocket-Protocol: trunkline.v1, bearer.{token}\r\n"),
            format!("Sec-WebSocket-Protocol: trunkline.v1, jwt.{token}\r\n"),
            format!("Sec-WebSocket-Protocol: jwt-auth, jwt.{}\r\n", base64url(token)),
            format!("Cookie: session={token}; token={token}\r\n"),
            format!("X-Api-Key: {token}\r\nOrigin: http://{MARK}.example\r\n"),
        ] {
            let request = format!(
                "GET /ws?ticket={token}&token={token} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n",
                program.addr
            );
            let mut bytes = request.clone().into_bytes();
            bytes.extend(text_frame(&json!({"type": "hello", "token": token}).to_string()));
            bytes.extend(text_frame(&json!({"type": "refresh", "id": "1", "token": token}).to_string()));
            bytes.extend(frame(0x88, &1000_u16.to_be_bytes(), Some([1, 2, 3, 4])));
            let answer = exchange(program, &bytes).await;
            assert!(!String::from_utf8_lossy(&answer).contains(token.as_str()), "the answer names a token");
            // The same at another path, where the web stack answers.
            for path in ["/v1/users/ann", "/nowhere", "/dev/info", "/"] {
                let answer =
                    exchange(program, request.replace("/ws", path).replace("Upgrade: websocket\r\n", "").as_bytes())
                        .await;
                assert!(!String::from_utf8_lossy(&answer).contains(token.as_str()), "{path} names a token");
            }
        }
        let refused = http::request(
            program.addr,
            "POST /v1/publish",
            &[("Authorization", &format!("Bearer {token}"))],
            token.as_bytes(),
        )
        .await;
        assert!(!refused.body.to_string().contains(token.as_str()), "{}", refused.body);
    }
    secrets.extend(tokens);
}

/// The mark in everything that a user, a back end and an agent can say.
async fn payloads(program: &Program) {
    let mut ann = Device::join(
        program.addr,
        &scoped("ann", "topic:*"),
        Carrier::Hello,
        json!({"topics": ["news"], "client": {"name": "x"}}),
    )
    .await;
    let mut agent = Producer::come(program.addr, "agent", &["ann"]).await;
    let metadata = json!({MARK: MARK});
    ann.send(&json!({"type": "user_message", "id": "1", "thread_id": "t-1", "content": MARK, "metadata": metadata}))
        .await;
    let run = agent.accept(30).await;
    ann.reply("1").await;
    let events = [
        thinking(MARK),
        json!({"type": "tool_executing", "tool_call_id": "c", "tool_name": "t", "parameters": MARK}),
        json!({"type": "tool_completed", "tool_call_id": "c", "results": MARK, "error": MARK}),
        json!({"type": "agent_delta", "part_id": "p", "text": MARK}),
        json!({"type": "agent_suspended", "approval_id": "a", "question": MARK}),
    ];
    for (n, event) in (1..).zip(events) {
        agent.receipt(&run, n, event).await;
    }
    ann.send(&json!({"type": "approve", "id": "2", "approval_id": "a", "decision": MARK, "data": MARK})).await;
    assert_eq!(ann.reply("2").await["ok"], true);
    // Wrong ones, too: what is said of them names no value.
    for (n, event) in [
        (6, json!({"type": "tool_completed", "tool_call_id": MARK, "results": MARK})),
        (7, json!({"type": "agent_thinking", "thought": {MARK: MARK}})),
        (8, json!({"type": MARK, "thought": MARK})),
    ] {
        let refused = agent.ask(json!({"type": "run_event", "run_id": run, "n": n, "event": event})).await;
        assert_eq!(refused["ok"], false, "{refused}");
    }
    agent.receipt(&run, 9, json!({"type": "agent_failed", "error": MARK})).await;
    for target in [json!({"user_id": "ann"}), json!({"topic": "news"})] {
        for ephemeral in [false, true] {
            let mut publish = json!({"type": "publish", "name": "n", "data": MARK, "ephemeral": ephemeral});
            publish.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
            assert_eq!(agent.ask(publish).await["ok"], true);
        }
    }
    ann.send(&json!({"type": "command", "id": "3", "name": "n", "args": MARK})).await;
    let request = agent.request("command").await;
    let error = json!({"code": "refused", "message": MARK, "temporary": false});
    agent.send(&json!({"type": "reply", "id": request["id"], "ok": false, "error": error})).await;
    assert_eq!(ann.reply("3").await["error"]["message"], MARK, "the application's own word comes through");
    // Through the agent that is built in, in another tenant of names.
    let mut bob = Device::open(program.addr, &token("bob")).await;
    let run = bob.ask("1", &format!("{MARK} what is 2*(3+4)?")).await;
    bob.finish(&run).await;
    let bearer = format!("Bearer {}", scoped("agent", "publish admin"));
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    for (line, body) in [
        ("POST /v1/publish", json!({"user_id": "ann", "name": "n", "data": MARK})),
        ("POST /v1/publish", json!({"user_id": "ann", "name": [MARK], "data": MARK})),
        ("POST /v1/runs", json!({"user_id": "ann", "thread_id": "t", "agent_name": "a", "message": MARK})),
        ("POST /v1/revoke", json!({"user_id": "ann", "token_id": MARK})),
        ("POST /dev/login", json!({"user": MARK, "password": MARK})),
        ("GET /v1/users/ann", Value::Null),
    ] {
        http::request(program.addr, line, &headers, body.to_string().as_bytes()).await;
    }
    ann.send(&json!({"type": "refresh", "id": "4", "token": format!("{MARK}.{MARK}.{MARK}")})).await;
    assert_eq!(ann.reply("4").await["error"]["code"], "refresh_refused");
}

/// Control characters wherever a peer chooses a text, in frames, requests and bytes that are neither.
async fn escapes(program: &Program) {
    let mut ann = Device::open(program.addr, &token("ann")).await;
    let frames = [
        json!({"type": EVIL, "id": "1"}),
        json!({"type": "ping", "id": EVIL}),
        json!({"type": "subscribe", "id": "1", "topic": EVIL}),
        json!({"type": "user_message", "id": "1", "thread_id": EVIL, "content": EVIL}),
        json!({"type": "command", "id": "1", "name": EVIL}),
        json!({"type": "approve", "id": "1", "approval_id": EVIL, "decision": EVIL}),
        json!({"type": "cancel_run", "id": "1", "run_id": EVIL}),
        json!({"type": "ack", "event_id": EVIL, "stream": EVIL}),
        json!({EVIL: EVIL}),
        json!({"type": "user_message", "id": "1", "user_id": EVIL, "thread_id": "t", "content": "x"}),
    ];
    for frame in &frames {
        ann.send(frame).await;
        let answer =
            ann.other(|frame| frame["type"] == "reply" || frame["type"] == "error" || frame["type"] == "pong").await;
        assert!(!answer.to_string().contains("red"), "{frame} is echoed: {answer}");
    }
    ann.send_text(&format!("{{\"type\": \"ping\"}}{EVIL}")).await;
    ann.other(|frame| frame["type"] == "error").await;
    let evil = EVIL.as_bytes();
    let good = upgrade_bytes(program.addr, &token("ann"));
    let with = |line: &str| String::from_utf8_lossy(&good).replace("Host:", &format!("{line}\r\nHost:")).into_bytes();
    let requests: [Vec<u8>; 7] = [
        [b"GET /", evil, b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat(),
        [evil, b" /ws HTTP/1.1\r\nHost: x\r\n\r\n"].concat(),
        with(&format!("X-{EVIL}: 1")),
        with(&format!("User-Agent: {EVIL}")),
        with(&format!("Origin: http://{EVIL}")),
        [
            b"GET /v1/users/%1b%5b31mred HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ".as_slice(),
            scoped("a", "admin").as_bytes(),
            b"\r\n\r\n",
        ]
        .concat(),
        evil.repeat(4),
    ];
    for request in &requests {
        let answer = exchange(program, request).await;
        assert!(!contains(&answer, b"red"), "echoed: {}", String::from_utf8_lossy(&answer).escape_debug());
    }
    // Names that users have are printable; this one only looks as if it were more.
    let mut socket = upgrade(program.addr, &[("sec-websocket-protocol", "trunkline.v1")]).await.unwrap().0;
    let evil_token = evil_subject();
    let hello = json!({"type": "hello", "token": evil_token});
    futures_util::SinkExt::send(&mut socket, tokio_tungstenite::tungstenite::Message::text(hello.to_string()))
        .await
        .unwrap();
    assert_eq!(trunkline_tests::wire::closed(&mut socket).await, 4400);
}

/// A token whose subject is no name.
fn evil_subject() -> String {
    let keys = Hs256::new(SECRET, ClaimRules::default()).unwrap();
    let user = UserId::new(None, "red").unwrap();
    let issued_at = UnixTime::from_secs(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs());
    let new = NewToken { user: &user, issued_at, ttl: Duration::from_secs(60), scope: "", token_id: None };
    let token = keys.issue(&new).unwrap();
    // The signature is another's: what is in the claims is looked at by nobody.
    let claims = base64url(&json!({"sub": EVIL, "exp": 9_999_999_999_u64}).to_string());
    let mut parts = token.split('.');
    let (head, _, mac) = (parts.next().unwrap(), parts.next(), parts.next().unwrap());
    format!("{head}.{claims}.{mac}")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_its_most_talkative_the_program_tells_no_secret_no_payload_and_nothing_a_terminal_obeys() {
    let path = Path::new(SCRATCH).join(format!("silence-{}.log", std::process::id()));
    let variables = [("TRUNKLINE_LIMITS_CLOSE_DEADLINE", "1s"), ("TRUNKLINE_LIMITS_MESSAGE_BURST", "200")];
    let mut program = Program::logging(SCRATCH, &variables, &path);
    let mut secrets = vec![String::from_utf8(SECRET.to_vec()).unwrap(), MARK.to_owned()];
    credentials(&program, &mut secrets).await;
    payloads(&program).await;
    escapes(&program).await;
    program.signal("-TERM");
    assert_eq!(program.exited(STEP * 3).await, Some(0));
    let log = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let text = String::from_utf8_lossy(&log);
    assert!(text.contains("listening") && text.contains("DEBUG"), "the log is on: {text}");
    for secret in &secrets {
        // The claims are as telling as the whole; the header is no secret.
        let parts = secret.split('.').skip(1).filter(|part| part.len() > 8);
        for part in parts.chain([secret.as_str()]) {
            let line = text.lines().find(|line| line.contains(part));
            assert!(line.is_none(), "the log has {part:?}: {}", line.unwrap_or_default());
        }
    }
    let raw = text.lines().find(|line| line.chars().any(char::is_control));
    assert!(raw.is_none(), "a raw control character in the log: {}", raw.unwrap_or_default().escape_debug());
}
