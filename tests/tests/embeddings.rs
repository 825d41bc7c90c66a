//! Each way to embed the manager, as a whole server: the examples, held to the golden path and to what adapters get wrong.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trunkline_tests::http::request;
use trunkline_tests::server::{Program, SECRET, scoped, signed, token};
use trunkline_tests::wire::{Carrier, Device, STEP, refused_status, tcp, text_frame, upgrade_bytes, within};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_threads_for_each_socket() {
    whole(Program::example(SCRATCH, "threads", &[])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_poll_loop_for_all() {
    whole(Program::example(SCRATCH, "poll_loop", &[])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_for_a_runtime_of_somebody_elses_in_under_100_lines() {
    let lines = include_str!("../examples/compio/adapter.rs").lines().count();
    assert!(lines < 100, "{lines} lines");
    whole(Program::example(SCRATCH, "compio", &[])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_on_hyper() {
    let program = Program::example(SCRATCH, "hyper", &[]);
    let own = request(program.addr, "GET /", &[("Connection", "close")], b"").await;
    assert_eq!(own.status, 200);
    whole(program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_on_axum_with_the_operations_beside() {
    let program = Program::example(SCRATCH, "axum", &[]);
    let mut ann = Device::open(program.addr, &token("ann")).await;
    let bearer = format!("Bearer {}", scoped("billing", "publish"));
    let close = ("Connection", "close");
    let headers = [("Authorization", &*bearer), ("Content-Type", "application/json"), close];
    let body = json!({"user_id": "ann", "name": "paid", "data": {"order": 7}}).to_string();
    let published = request(program.addr, "POST /v1/publish", &headers, body.as_bytes()).await;
    assert_eq!((published.status, &published.body["delivered_to"]), (200, &json!(1)));
    ann.event(|event| event["type"] == "custom").await;
    for (path, status) in [("/hello/ann", 200), ("/openapi.json", 200), ("/v1/nothing", 404), ("/nothing", 404)] {
        let answer = request(program.addr, &format!("GET {path}"), &[headers[0], close], b"").await;
        assert_eq!(answer.status, status, "{path}");
    }
    drop(ann);
    whole(program).await;
}

/// What every server must do, up to its end.
async fn whole(mut program: Program) {
    let addr = program.addr;
    // Who has no credentials, or asks for something else, hears so.
    assert_eq!(refused_status(addr, &[("authorization", "Bearer aa.bb.cc")]).await, 401);
    let old = format!("Bearer {}", signed(SECRET, "ann", Duration::from_secs(7_200)));
    assert_eq!(refused_status(addr, &[("authorization", &old)]).await, 401);
    assert_eq!(request(addr, "GET /elsewhere", &[("Connection", "close")], b"").await.status, 404);

    hello_right_behind_the_request(addr).await;

    // What one device asks the other sees: effects come from other threads, while nothing comes from the socket.
    let mut phone = Device::open(addr, &token("ann")).await;
    let mut laptop = Device::join(addr, &token("ann"), Carrier::Authorization, json!({})).await;
    let mut bob = Device::join(addr, &token("bob"), Carrier::Hello, json!({})).await;
    let events = phone.golden_path().await;
    let run_id = events[0]["run_id"].as_str().unwrap();
    assert_eq!(laptop.finish(run_id).await, events);
    bob.ping("1").await;
    assert!(bob.events.is_empty(), "{:?}", bob.events);

    // A cut in the middle of a run, and the rest of it.
    let position = laptop.event_id();
    let run_id = laptop.ask("2", "what is 2*(3+4)?").await;
    laptop.reset();
    let all = phone.finish(&run_id).await;
    let mut laptop = Device::resume(addr, &token("ann"), &position).await;
    assert_eq!(laptop.finish(&run_id).await, all);

    // A peer that reads nothing for a while, and is no burden; then it has everything.
    for n in 0..40 {
        bob.send(&json!({"type": "user_message", "id": n.to_string(), "thread_id": "t-1", "content": "1+1"})).await;
    }
    bob.reply("39").await;
    phone.golden_path().await;

    program.signal("-TERM");
    for device in [&mut phone, &mut laptop] {
        device.other(|frame| frame["type"] == "going_away").await;
        assert_eq!(device.closed().await, 1012);
    }
    assert_eq!(bob.closed().await, 1012);
    assert_eq!(program.exited(STEP).await, Some(0));
}

/// The client need not wait for the answer to its upgrade: its first frame may come in the same segment.
async fn hello_right_behind_the_request(addr: std::net::SocketAddr) {
    let mut stream = tcp(addr).await;
    let mut bytes = upgrade_bytes(addr, &token("ann"));
    bytes.extend(text_frame(&json!({"type": "hello"}).to_string()));
    within("both to leave", STEP, stream.write_all(&bytes)).await.unwrap();
    let mut heard = Vec::new();
    while !heard.windows(9).any(|window| window == b"\"welcome\"") {
        let read = within("a welcome", STEP, stream.read_buf(&mut heard)).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&heard));
    }
}
