//! An operator's levels on the real program: who is told, who comes in, and that nothing is lost.

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use trunkline_tests::http::request;
use trunkline_tests::server::{Program, scoped, token};
use trunkline_tests::wire::{Device, closed, text, upgrade};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// An operator's order; answers what there is then.
async fn order(program: &Program, level: &str) -> Value {
    let bearer = format!("Bearer {}", scoped("operator", "admin"));
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let body = json!({"level": level, "reason": "an exercise"}).to_string();
    let answer = request(program.addr, "PUT /v1/service-level", &headers, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// Reads to the notice of this level.
async fn told(device: &mut Device, level: &str) {
    let notice = device.other(|frame| frame["type"] == "service_level").await;
    assert_eq!(notice["level"], level);
}

/// What a client is closed with that comes and says no more than who it is.
async fn refused(program: &Program, user: &str) -> u16 {
    let entry = format!("trunkline.v1, bearer.{}", token(user));
    let upgraded = upgrade(program.addr, &[("sec-websocket-protocol", &entry)]).await;
    let (mut socket, _) = upgraded.expect("the upgrade is accepted");
    socket.send(Message::text(r#"{"type":"hello"}"#)).await.expect("the socket takes a message");
    closed(&mut socket).await
}

/// The status line of a probe, and what it says.
async fn probed(program: &Program, path: &str) -> (String, Value) {
    let (status, body) = program.get(path).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_an_emergency_who_resumes_comes_in_who_is_new_is_told_to_try_again_and_no_text_is_lost() {
    let program = Program::with(SCRATCH, &[("TRUNKLINE_AGENT_PACE", "20ms")]);
    let mut ann = Device::open(program.addr, &token("ann")).await;
    let mut tablet = Device::open(program.addr, &token("ann")).await;
    ann.golden_path().await;
    assert_eq!(order(&program, "emergency").await["level"], "emergency");
    told(&mut ann, "emergency").await;
    told(&mut tablet, "emergency").await;
    let (status, health) = probed(&program, "/readyz").await;
    assert_eq!((&*status, &health["status"]), ("HTTP/1.1 200 OK", &json!("warn")));
    assert_eq!(health["checks"]["service:level"][0]["observedValue"], "emergency");
    assert_eq!((refused(&program, "ann").await, refused(&program, "bob").await), (1013, 1013));

    let mut back = Device::resume(program.addr, &token("ann"), &ann.event_id()).await;
    assert_eq!(back.welcome["service_level"], "emergency");
    let run_id = back.ask("1", "what is 6*7?").await;
    for device in [&mut back, &mut ann, &mut tablet] {
        let events = device.finish(&run_id).await;
        let is_text = |event: &Value| event["type"] == "agent_delta" || event["type"] == "agent_deltas";
        let (texts, others): (Vec<_>, Vec<_>) = events.into_iter().partition(is_text);
        let kinds: Vec<_> = others.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect();
        let expected =
            ["user_message", "agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed"];
        assert_eq!(kinds, expected);
        assert_eq!(json!(text(&texts)), others[5]["final_response"], "all of the text comes, and before the end");
        assert_eq!(texts.len(), 1, "merged: {texts:?}");
    }

    assert_eq!(order(&program, "automatic").await["level"], "normal");
    for device in [&mut back, &mut ann, &mut tablet] {
        told(device, "normal").await;
        device.ping("p").await;
        assert!(device.others.iter().all(|frame| frame["type"] != "service_level"), "each change once");
    }
    let mut bob = Device::open(program.addr, &token("bob")).await;
    assert_eq!(bob.welcome["service_level"], "normal");
    bob.golden_path().await;
    assert_eq!(probed(&program, "/healthz").await.1["status"], "pass");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_service_is_degraded_half_of_the_room_is_for_newcomers_and_text_comes_in_fewer_frames() {
    let program = Program::with(SCRATCH, &[("TRUNKLINE_AGENT_PACE", "20ms"), ("TRUNKLINE_LIMITS_CONNECTIONS", "6")]);
    let mut ann = Device::open(program.addr, &token("ann")).await;
    order(&program, "degraded").await;
    told(&mut ann, "degraded").await;
    let run_id = ann.ask("1", "what does the README say about runs?").await;
    let events = ann.finish(&run_id).await;
    assert_eq!(json!(text(&events)), events.last().expect("events")["final_response"]);
    assert!(events.iter().any(|event| event["type"] == "agent_deltas"), "{events:?}");
    let _bob = Device::open(program.addr, &token("bob")).await;
    let _cyd = Device::open(program.addr, &token("cyd")).await;
    assert_eq!(refused(&program, "dan").await, 1013);
    Device::resume(program.addr, &token("ann"), &ann.event_id()).await;
}
