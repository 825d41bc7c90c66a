//! The program as an operator has it: probes, signals, a crash and a restart.

use serde_json::{Value, json};
use trunkline_tests::server::{Program, scoped, token};
use trunkline_tests::wire::{Carrier, Device, STEP, position, refused_status};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_probes_answer() {
    let program = Program::start(SCRATCH);
    for path in ["/healthz", "/readyz"] {
        let (status, body) = program.get(path).await;
        let health: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&*status, &health["status"]), ("HTTP/1.1 200 OK", &json!("pass")), "{path}: {health}");
    }
    assert_eq!(program.get("/nowhere").await.0, "HTTP/1.1 404 Not Found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_termination_drains_and_exits_with_0() {
    let mut program = Program::with(SCRATCH, &[("TRUNKLINE_LIMITS_CLOSE_DEADLINE", "2s")]);
    let mut ann = Device::open(program.addr, &token("ann")).await;
    ann.golden_path().await;
    // It never answers the close, so the drain lasts for its deadline.
    let stubborn = Device::open(program.addr, &token("bob")).await;
    program.signal("-TERM");
    ann.other(|frame| frame["type"] == "going_away").await;
    assert_eq!(ann.closed().await, 1012);
    let entry = format!("trunkline.v1, bearer.{}", token("ann"));
    assert_eq!(refused_status(program.addr, &[("sec-websocket-protocol", &entry)]).await, 503);
    let (status, body) = program.get("/readyz").await;
    assert!(status.starts_with("HTTP/1.1 503 "), "{status}");
    let health: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&health["status"], &health["checks"]["shutdown"][0]["observedValue"]), (&json!("fail"), &json!(true)));
    assert_eq!(program.get("/healthz").await.0, "HTTP/1.1 200 OK");
    assert_eq!(program.exited(STEP).await, Some(0));
    drop(stubborn);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_termination_breaks_no_text_off() {
    let mut program = Program::with(SCRATCH, &[("TRUNKLINE_AGENT_PACE", "150ms")]);
    let mut ann = Device::open(program.addr, &token("ann")).await;
    let run_id = ann.ask("1", "what is 2*(3+4)?").await;
    ann.event(|event| event["type"] == "agent_delta").await;
    program.signal("-TERM");
    ann.other(|frame| frame["type"] == "going_away").await;
    let events = ann.finish(&run_id).await;
    assert_eq!(events.last().map(|event| &event["type"]), Some(&json!("agent_completed")), "{events:?}");
    assert_eq!(ann.closed().await, 1012);
    assert_eq!(program.exited(STEP).await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_program_at_once() {
    let mut program = Program::with(SCRATCH, &[("TRUNKLINE_LIMITS_CLOSE_DEADLINE", "1h")]);
    // It never answers the close, so that the drain alone would end with 0 at its deadline.
    let mut stubborn = Device::open(program.addr, &token("ann")).await;
    program.signal("-TERM");
    stubborn.other(|frame| frame["type"] == "going_away").await;
    program.signal("-INT");
    assert_eq!(program.exited(STEP).await, Some(1));
}

/// A client of one incarnation: who it is, and where it stood in each of its streams.
struct Known {
    user: &'static str,
    session: Value,
    resume: Value,
}

const STREAMS: [&str; 3] = ["user", "topic:news", "topic:sums"];

/// Where a client stands: in its own stream as it says itself, in the topics, which have no event, as the welcome says.
fn stood(user: &'static str, device: &Device) -> Known {
    let streams = device.welcome["streams"].as_array().unwrap();
    let mut resume: Value =
        streams.iter().map(|entry| (entry["stream"].as_str().unwrap().to_owned(), entry["event_id"].clone())).collect();
    resume["user"] = device.event_id().into();
    Known { user, session: device.welcome["session_id"].clone(), resume }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_each_crash_every_resume_of_every_stream_is_answered_by_a_reset_to_a_higher_epoch() {
    let mut known: Vec<Known> = Vec::new();
    for incarnation in 0..3 {
        let mut program = Program::start(SCRATCH);
        // Each position of each earlier incarnation, from several devices and users.
        for Known { user, session, resume } in &known {
            let hello = json!({"session_id": session, "resume": resume});
            let token = scoped(user, "topic:*");
            let device = Device::join(program.addr, &token, Carrier::Subprotocol, hello).await;
            let streams = device.welcome["streams"].as_array().unwrap();
            assert_eq!(streams.len(), STREAMS.len(), "{}", device.welcome);
            for stream in streams {
                let old = &resume[stream["stream"].as_str().unwrap()];
                assert_eq!(stream["mode"], "reset", "{stream} after {old}");
                assert_eq!((&stream["lost"]["from"], &stream["lost"]["to"]), (old, &stream["event_id"]), "{stream}");
                assert!(position(&stream["event_id"]).0 > position(old).0, "{stream} after {old}");
            }
            device.reset();
        }
        let mut devices = Vec::new();
        for user in ["ann", "ann", "bob", "silent"] {
            let hello = json!({"topics": ["news", "sums"]});
            devices
                .push((user, Device::join(program.addr, &scoped(user, "topic:*"), Carrier::Subprotocol, hello).await));
        }
        for (user, device) in &mut devices {
            if *user != "silent" {
                device.golden_path().await;
            }
        }
        known.extend(devices.iter().map(|(user, device)| stood(user, device)));
        assert_eq!(known.len(), 4 * (incarnation + 1));
        program.signal("-KILL");
        assert_eq!(program.exited(STEP).await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_cancelled_from_another_device() {
    let program = Program::with(SCRATCH, &[("TRUNKLINE_AGENT_PACE", "60s")]);
    let mut phone = Device::open(program.addr, &token("ann")).await;
    let mut laptop = Device::open(program.addr, &token("ann")).await;
    let mut bob = Device::open(program.addr, &token("bob")).await;
    let run_id = phone.ask("1", "what is 2*(3+4)?").await;
    let cancel = json!({"type": "cancel_run", "id": "2", "run_id": run_id});
    // Somebody else's run is no run at all.
    bob.send(&cancel).await;
    assert_eq!(bob.reply("2").await["error"]["code"], "not_found");
    laptop.send(&cancel).await;
    let reply = laptop.reply("2").await;
    assert_eq!((&reply["ok"], &reply["state"]), (&true.into(), &"requested".into()), "{reply}");
    for device in [&mut phone, &mut laptop] {
        let events = device.finish(&run_id).await;
        assert_eq!(events[events.len() - 1]["type"], "agent_cancelled", "{events:?}");
    }
}
