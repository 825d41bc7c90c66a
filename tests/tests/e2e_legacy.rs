//! Clients of the legacy managers over real sockets: their frames, their way in, and beside them a device of today.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use trunkline_core::limits::Limits;
use trunkline_core::protocol::legacy::GOLDEN_PATH_EVENTS;
use trunkline_tests::producer::{Producer, thinking};
use trunkline_tests::server::{InProcess, Program, token};
use trunkline_tests::wire::{Device, QUESTION, STEP, Socket, closed, tcp, upgrade, upgrade_at, within};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// A legacy client: what a page of theirs does.
struct Legacy(Socket);

impl Legacy {
    async fn open(addr: SocketAddr, user: &str) -> (Self, Value) {
        let offered = offered(user);
        let (socket, answer) = upgrade(addr, &[("sec-websocket-protocol", &offered)]).await.expect("the upgrade");
        assert_eq!(answer.headers()["sec-websocket-protocol"], "jwt-auth");
        Self::welcomed(socket).await
    }

    async fn welcomed(socket: Socket) -> (Self, Value) {
        let mut client = Self(socket);
        let welcome = client.frame().await;
        assert_eq!(welcome["type"], "connection_established", "{welcome}");
        (client, welcome)
    }

    async fn send(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).await.expect("an open socket");
    }

    async fn frame(&mut self) -> Value {
        match within("a frame", STEP, self.0.next()).await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("a frame was awaited: {other:?}"),
        }
    }

    /// The frames up to and with the first of this type.
    async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            frames.push(self.frame().await);
            if frames.last().expect("one at least")["type"] == kind {
                return frames;
            }
        }
    }
}

fn offered(user: &str) -> String {
    format!("jwt-auth, jwt.{}", URL_SAFE_NO_PAD.encode(token(user)))
}

/// The five events in their order, with the fields that the legacy schema demands, all of one run.
fn check_golden(frames: &[Value], user: &str) {
    let golden: Vec<_> =
        frames.iter().filter(|frame| GOLDEN_PATH_EVENTS.contains(&frame["type"].as_str().expect("a type"))).collect();
    let types: Vec<_> = golden.iter().map(|frame| frame["type"].as_str().expect("a type")).collect();
    assert_eq!(types, GOLDEN_PATH_EVENTS);
    for frame in &golden {
        for name in ["event_id", "thread_id", "run_id", "agent_name"] {
            assert!(frame[name].is_string(), "{name} of {frame}");
        }
        assert!(frame["timestamp"].is_number(), "{frame}");
        assert_eq!((&frame["user_id"], &frame["run_id"]), (&json!(user), &golden[0]["run_id"]), "{frame}");
    }
    assert!(golden[2]["tool_name"].is_string() && golden[3]["tool_name"] == golden[2]["tool_name"]);
    assert!(golden[3].get("results").is_some(), "{}", golden[3]);
    assert_eq!((&golden[4]["status"], &golden[4]["success"]), (&json!("completed"), &json!(true)));
    let text: String = frames
        .iter()
        .filter_map(|frame| frame["content"].as_str().filter(|_| frame["type"] == "stream_chunk"))
        .collect();
    assert_eq!(golden[4]["final_response"], text, "the chunks are the answer");
}

/// A back end that answers each message of a user by the five events, where the server has no agent of its own.
async fn attend(addr: SocketAddr, user: &str) -> JoinHandle<()> {
    let mut producer = Producer::come(addr, "golden", &[user]).await;
    let user = user.to_owned();
    tokio::spawn(async move {
        loop {
            let request = producer.request("user_message").await;
            let run = request["run_id"].as_str().expect("a reserved run").to_owned();
            let start = json!({"type": "run_start", "user_id": user, "thread_id": request["thread_id"],
                "agent_name": "tester", "run_id": run, "lease": 30});
            assert_eq!(producer.ask(start).await["ok"], true);
            let events = [
                thinking("A sum."),
                json!({"type": "tool_executing", "tool_call_id": "call_1", "tool_name": "calculator", "parameters": {"n": 14}}),
                json!({"type": "tool_completed", "tool_call_id": "call_1", "results": {"value": 14}}),
                json!({"type": "agent_delta", "part_id": "answer", "text": "It is 14."}),
                json!({"type": "agent_completed", "final_response": "It is 14."}),
            ];
            for (n, event) in (1..).zip(events) {
                producer.event(&run, n, event).await;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_legacy_client_chats_beats_and_leaves_on_every_server() {
    let server = InProcess::start(Limits::default()).await;
    let program = Program::start(SCRATCH);
    let on_axum = Program::example(SCRATCH, "axum", &[]);
    let on_smol = Program::example(SCRATCH, "server", &[("SMOL_THREADS", "2")]);
    let back_end = attend(on_smol.addr, "ann").await;
    for addr in [server.addr, program.addr, on_axum.addr, on_smol.addr] {
        let (mut ann, welcome) = Legacy::open(addr, "ann").await;
        assert_eq!((&welcome["data"]["user_id"], &welcome["data"]["connection_ready"]), (&json!("ann"), &json!(true)));
        ann.send(&json!({"type": "connect", "payload": {}})).await;
        assert_eq!(ann.frame().await["data"]["status"], "connected");
        ann.send(&json!({"type": "ping", "timestamp": 1.5})).await;
        assert_eq!(ann.frame().await["type"], "pong");
        ann.send(&json!({"type": "heartbeat"})).await;
        assert_eq!(ann.frame().await["type"], "heartbeat_ack");
        ann.send(&json!({"type": "chat", "message_id": "m-1", "thread_id": "t-1", "payload": {"content": QUESTION}}))
            .await;
        let frames = ann.until("agent_completed").await;
        let ack = frames.iter().find(|frame| frame["type"] == "ack").expect("an answer");
        assert_eq!(ack["message_id"], "m-1");
        check_golden(&frames, "ann");
        ann.send(&json!({"type": "start_agent", "message_id": "m-2", "payload": {"user_request": QUESTION}})).await;
        check_golden(&ann.until("agent_completed").await, "ann");
        ann.send(&json!({"type": "chat", "user_id": "bob", "payload": {"content": "x"}})).await;
        assert_eq!(ann.frame().await["error_code"], "IDENTITY_MISMATCH");
        ann.send(&json!({"type": "disconnect"})).await;
        assert_eq!(ann.frame().await["data"]["status"], "disconnect_acknowledged");
        assert_eq!(closed(&mut ann.0).await, 1000);
    }
    back_end.abort();
    server.settles_at(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_legacy_device_and_one_of_today_see_one_run_and_a_reconnect_continues() {
    let server = InProcess::start(Limits::default()).await;
    let (mut old, _) = Legacy::open(server.addr, "ann").await;
    let mut new = Device::open(server.addr, &token("ann")).await;
    let (mut bob, _) = Legacy::open(server.addr, "bob").await;
    let run = new.ask("1", QUESTION).await;
    let events = new.finish(&run).await;
    let frames = old.until("agent_completed").await;
    check_golden(&frames, "ann");
    let ids = |frames: &[Value]| {
        frames.iter().filter_map(|frame| frame["event_id"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(ids(&frames).last(), ids(&events).last());
    // After its first event, all the others once more.
    let seen = ids(&frames);
    drop(old);
    let target = format!("/ws?last_event_id={}", seen[0]);
    let headers = [("sec-websocket-protocol", &*offered("ann"))];
    let (socket, _) = upgrade_at(tcp(server.addr).await, server.addr, &target, &headers).await.expect("the upgrade");
    let (mut back, welcome) = Legacy::welcomed(socket).await;
    assert_eq!(welcome["data"]["streams"][0]["mode"], "replay");
    assert_eq!(ids(&back.until("agent_completed").await), seen[1..]);
    // Another user was given nothing of it.
    bob.send(&json!({"type": "ping"})).await;
    assert_eq!(bob.frame().await["type"], "pong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_turns_the_profile_off_and_no_token_is_no_way_in() {
    let program = Program::with(SCRATCH, &[("TRUNKLINE_LEGACY_PROFILE", "false")]);
    let raw = offered("ann");
    // Without a name that it offered, a client of tungstenite does not go on either.
    let refused = upgrade(program.addr, &[("sec-websocket-protocol", &raw)]).await;
    assert!(refused.is_err(), "{:?}", refused.map(|(_, answer)| answer));
    let program = Program::start(SCRATCH);
    let (mut socket, _) = upgrade(program.addr, &[("sec-websocket-protocol", "jwt-auth")]).await.expect("the upgrade");
    assert_eq!(closed(&mut socket).await, 4400);
}
