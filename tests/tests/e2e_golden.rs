//! The golden path over real sockets: both servers, every carrier, several devices, drops and slow readers.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use trunkline_core::limits::Limits;
use trunkline_tests::server::{InProcess, Program, token};
use trunkline_tests::wire::{Carrier, Device, STEP, check_golden, closed, refused_status, until, upgrade};

use futures_util::SinkExt;

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_golden_path_on_a_server_in_this_process() {
    let server = InProcess::start(Limits::default()).await;
    let mut ann = Device::open(server.addr, &token("ann")).await;
    assert_eq!(ann.welcome["user_id"], "ann");
    assert_eq!(ann.welcome["streams"][0]["mode"], "live");
    // Twice: the stream goes on where it was.
    ann.golden_path().await;
    ann.golden_path().await;
    server.settles_at(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_golden_path_on_the_program() {
    let program = Program::start(SCRATCH);
    let mut ann = Device::open(program.addr, &token("ann")).await;
    ann.golden_path().await;
    ann.golden_path().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_comes_by_every_carrier() {
    let server = InProcess::start(Limits::default()).await;
    let program = Program::start(SCRATCH);
    for addr in [server.addr, program.addr] {
        for carrier in [Carrier::Subprotocol, Carrier::Authorization, Carrier::Hello] {
            // That the answer names the protocol and never the token, the device checks.
            Device::join(addr, &token("ann"), carrier, json!({})).await.golden_path().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_carriers_agree_or_nobody_is_let_in() {
    let server = InProcess::start(Limits::default()).await;
    let (ann, bob) = (token("ann"), token("bob"));
    let bearer = |token: &str| format!("Bearer {token}");
    let offered = |token: &str| format!("trunkline.v1, bearer.{token}");

    let same = [("sec-websocket-protocol", &*offered(&ann)), ("authorization", &*bearer(&ann))];
    let (mut socket, _) = upgrade(server.addr, &same).await.unwrap();
    let hello = json!({"type": "hello", "token": ann}).to_string();
    socket.send(Message::text(hello)).await.unwrap();
    until("the agreeing carriers are let in", STEP, || server.hub.counts().connections == 1).await;
    drop(socket);

    let two_headers = [("sec-websocket-protocol", &*offered(&ann)), ("authorization", &*bearer(&bob))];
    assert_eq!(refused_status(server.addr, &two_headers).await, 401);

    let two_entries = format!("trunkline.v1, bearer.{ann}, bearer.{bob}");
    let (mut socket, answer) = upgrade(server.addr, &[("sec-websocket-protocol", &two_entries)]).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "trunkline.v1");
    assert_eq!(closed(&mut socket).await, 4400);

    for header in [("sec-websocket-protocol", &*offered(&ann)), ("authorization", &*bearer(&ann))] {
        let mut headers = vec![header];
        if header.0 == "authorization" {
            headers.push(("sec-websocket-protocol", "trunkline.v1"));
        }
        let (mut socket, _) = upgrade(server.addr, &headers).await.unwrap();
        socket.send(Message::text(json!({"type": "hello", "token": bob}).to_string())).await.unwrap();
        assert_eq!(closed(&mut socket).await, 4400, "{} and another token in `hello`", header.0);
    }
    server.settles_at(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_devices_of_one_user_see_one_sequence_and_another_user_sees_nothing() {
    let server = InProcess::start(Limits::default()).await;
    let program = Program::start(SCRATCH);
    for addr in [server.addr, program.addr] {
        let mut phone = Device::open(addr, &token("ann")).await;
        let mut laptop = Device::open(addr, &token("ann")).await;
        let mut bob = Device::open(addr, &token("bob")).await;
        let events = phone.golden_path().await;
        let run_id = events[0]["run_id"].as_str().unwrap();
        assert_eq!(laptop.finish(run_id).await, events);
        // Both speak at once: still one order.
        let first = phone.ask("a", "what is 2*(3+4)?").await;
        let second = laptop.ask("b", "what is 2*(3+4)?").await;
        for device in [&mut phone, &mut laptop] {
            device.finish(&first).await;
            device.finish(&second).await;
        }
        assert_eq!(phone.events, laptop.events);
        bob.ping("still").await;
        assert!(bob.events.is_empty() && bob.others.is_empty(), "{:?} {:?}", bob.events, bob.others);
        // And the other way round.
        bob.golden_path().await;
        phone.ping("still").await;
        assert!(phone.events.iter().all(|event| event["user_id"] == "ann"));
    }
}

/// How a device goes.
#[derive(Clone, Copy, Debug)]
enum Drop {
    Reset,
    Fin,
    InTheMiddleOfAFrame,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_drops_mid_run_and_resumes_has_every_event_once() {
    let server = InProcess::start(Limits::default()).await;
    let mut other = Device::open(server.addr, &token("ann")).await;
    for how in [Drop::Reset, Drop::Fin, Drop::InTheMiddleOfAFrame] {
        let mut device = Device::open(server.addr, &token("ann")).await;
        let run_id = device.ask("1", "hold").await;
        device.event(|event| event["type"] == "tool_executing" && event["run_id"] == run_id.as_str()).await;
        let (before, event_id) = (device.events.clone(), device.event_id());
        match how {
            Drop::Reset => device.reset(),
            Drop::Fin => drop(device),
            Drop::InTheMiddleOfAFrame => {
                device.send_bytes(&[0x81, 0xfe, 0x01, 0x00, 1, 2, 3, 4, b'{' ^ 1]).await;
                device.reset();
            }
        }
        until("the dropped device is out of the hub", STEP, || server.hub.counts().connections == 1).await;
        server.release();
        let whole = other.finish(&run_id).await;
        let mut again = Device::resume(server.addr, &token("ann"), &event_id).await;
        assert_eq!(again.welcome["streams"][0]["mode"], "replay", "{how:?}");
        again.finish(&run_id).await;
        assert_eq!([before, again.events.clone()].concat(), whole, "{how:?}");
        again.golden_path().await;
        let position = again.event_id();
        other.event(|event| event["event_id"] == position.as_str()).await;
        drop(again);
    }
    server.settles_at(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_drops_at_every_event_of_the_programs_run_has_every_event_once() {
    let program = Program::start(SCRATCH);
    let mut other = Device::open(program.addr, &token("ann")).await;
    let mut device = Device::open(program.addr, &token("ann")).await;
    let (mut event_id, session) = (device.event_id(), device.welcome["session_id"].clone());
    let run_id = device.ask("1", "what is 2*(3+4)?").await;
    let mut events = vec![];
    while events.last().is_none_or(|event: &serde_json::Value| event["type"] != "agent_completed") {
        device.event(|_| true).await;
        events.push(device.events[0].clone());
        event_id = events[events.len() - 1]["event_id"].as_str().map_or(event_id, str::to_owned);
        device.reset();
        // With its session, while the old socket may not be known to be dead yet.
        let hello = json!({"session_id": session, "resume": {"user": event_id}});
        device = Device::join(program.addr, &token("ann"), Carrier::Subprotocol, hello).await;
        assert_eq!(device.welcome["session_id"], session);
    }
    check_golden(&events, "ann");
    assert_eq!(other.finish(&run_id).await, events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_sent_again_with_its_key_over_another_connection_has_no_second_effect() {
    let server = InProcess::start(Limits::default()).await;
    let mut witness = Device::open(server.addr, &token("ann")).await;
    let message =
        |id: &str| json!({"type": "user_message", "id": id, "key": "k", "thread_id": "t-1", "content": "hold"});
    let mut first = Device::open(server.addr, &token("ann")).await;
    first.send(&message("1")).await;
    let run_id = witness.event(|event| event["type"] == "agent_started").await["run_id"].clone();
    // Its answer is never read.
    first.reset();
    let mut second = Device::open(server.addr, &token("ann")).await;
    second.send(&message("2")).await;
    let reply = second.reply("2").await;
    assert_eq!((&reply["ok"], &reply["run_id"]), (&true.into(), &run_id), "{reply}");
    server.release();
    witness.finish(run_id.as_str().unwrap()).await;
    witness.ping("last").await;
    assert!(witness.events.iter().all(|event| event["run_id"] == run_id), "{:?}", witness.events);
    server.settles_at(2).await;
}
