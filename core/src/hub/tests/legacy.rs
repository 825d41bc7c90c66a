//! Devices that speak the legacy frames beside those that do not: one manager, one order, the same bounds.

pub(super) mod device;

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use device::{Legacy, OFFERS, offering};

use super::harness::{World, ident, next_message, thread};
use crate::auth::{Access, CookieName, Origin};
use crate::codec::frame::{Opcode, encode};
use crate::drive::Machine;
use crate::hub::{HubConfig, Run, RunOptions};
use crate::level::ServiceLevel;
use crate::limits::{AtCapacity, Limits};

fn start(world: &World, user: &str) -> Run {
    world.hub.start_run(&ident(user), thread("t"), RunOptions::named("assistant")).unwrap()
}

fn golden(run: &Run) {
    run.thinking("Adding.").unwrap();
    run.tool("calculator", &json!({"expression": "2+2"})).unwrap().completed(&4).unwrap();
    run.delta("It is ").unwrap();
    run.completed(Some("It is 4.".into())).unwrap();
}

const GOLDEN: [&str; 6] =
    ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "stream_chunk", "agent_completed"];

#[test]
fn the_answer_names_the_profile_and_the_first_frame_is_its_own() {
    let world = World::new();
    let mut ann = Legacy::at(&world, "/ws", &offering(&world, "ann"));
    assert!(ann.head.contains("\r\nSec-WebSocket-Protocol: jwt-auth\r\n"), "{}", ann.head);
    let frames = ann.take(&world);
    assert_eq!((frames.len(), &frames[0]["type"]), (1, &json!("connection_established")));
    let data = &frames[0]["data"];
    assert_eq!((&data["user_id"], &data["connection_ready"]), (&json!("ann"), &json!(true)));
    assert_eq!((&data["streams"][0]["mode"], &data["service_level"]), (&json!("live"), &json!("normal")));
    assert_eq!(world.hub.devices(&ident("ann")).len(), 1, "a device as any other");
}

#[test]
fn a_legacy_device_and_a_native_one_see_the_same_run_in_the_same_order_and_resume_is_untouched() {
    let world = World::new();
    let (mut old, mut new, mut flaky) = (Legacy::enter(&world, "ann"), world.device("ann"), world.device("ann"));
    let mut bob = Legacy::enter(&world, "bob");
    let run = start(&world, "ann");
    let mut resumed = flaky.stream();
    let (position, session) = (flaky.client.position(), flaky.client.session());
    flaky.cut();
    golden(&run);
    let frames = old.take(&world);
    let events = new.stream();
    assert_eq!(frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect::<Vec<_>>(), GOLDEN);
    for (frame, event) in frames.iter().zip(&events) {
        assert_eq!(frame["event_id"], event.position.to_string());
        assert_eq!((frame["run_seq"].as_u64(), &frame["user_id"]), (event.run_seq, &json!("ann")));
    }
    assert_eq!(frames.len(), events.len());
    let mut back = world.resuming("ann", position, session);
    resumed.extend(back.stream());
    assert_eq!(resumed, events);
    assert_eq!(bob.take(&world), Vec::<Value>::new(), "another user's device hears nothing");
}

#[test]
fn a_message_of_a_legacy_device_starts_a_run_once_and_every_device_shows_it() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let (mut old, mut new) = (Legacy::enter(&world, "ann"), world.device("ann"));
    let chat = json!({"type": "chat", "thread_id": "t", "message_id": "m-1", "payload": {"content": "2+2?"}});
    old.send(&world, &chat);
    // Nothing comes back before the application has taken it.
    assert_eq!(old.take(&world), Vec::<Value>::new());
    let message = next_message(&mut requests);
    assert_eq!((message.content(), message.thread().as_str()), ("2+2?", "t"));
    let run = message.start("assistant").unwrap();
    golden(&run);
    let frames = old.take(&world);
    let types: Vec<_> = frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    assert_eq!(types[..2], ["ack", "user_message"], "{types:?}");
    assert_eq!(types[2..], GOLDEN);
    let ack = &frames[0];
    assert_eq!((&ack["received_type"], &ack["message_id"]), (&json!("user_message"), &json!("m-1")));
    assert_eq!(ack["run_id"], frames[2]["run_id"]);
    assert_eq!(new.stream().len(), 1 + GOLDEN.len());
    // A repeat, over another connection too, has no second effect.
    let mut again = Legacy::enter(&world, "ann");
    again.send(&world, &chat);
    assert_eq!(again.take(&world)[0]["run_id"], ack["run_id"]);
    assert!(new.stream().is_empty());
}

#[test]
fn pings_heartbeats_and_the_end() {
    let world = World::new();
    let mut ann = Legacy::enter(&world, "ann");
    for kind in ["ping", "heartbeat", "pong", "connect", "whatever"] {
        ann.send(&world, &json!({"type": kind}));
    }
    assert_eq!(ann.types(&world), ["pong", "heartbeat_ack", "system_message", "ack"]);
    ann.say(&world, "{not json");
    assert_eq!((ann.types(&world), ann.closed), (vec!["error_message".to_owned()], None), "the connection is kept");
    ann.send(&world, &json!({"type": "disconnect"}));
    assert_eq!(ann.take(&world)[0]["data"]["status"], "disconnect_acknowledged");
    assert_eq!((ann.closed, world.hub.devices(&ident("ann")).len()), (Some(1000), 0));
}

#[test]
fn a_run_can_be_stopped_and_decided_from_a_legacy_device() {
    let world = World::new();
    let mut ann = Legacy::enter(&world, "ann");
    let run = start(&world, "ann");
    let approval = run.suspend(Some("Pay 5?".into())).unwrap();
    let asked = ann.take(&world);
    let id = &asked[1]["approval_id"];
    ann.send(
        &world,
        &json!({"type": "approve", "message_id": "a", "payload": {"approval_id": id, "decision": "allow"}}),
    );
    let frames = ann.take(&world);
    assert_eq!((&frames[0]["type"], &frames[0]["message_id"]), (&json!("ack"), &json!("a")));
    assert!(frames.iter().any(|frame| frame["type"] == "agent_resumed" && frame["decision"] == "allow"), "{frames:?}");
    drop(approval);
    let cancel = json!({"type": "cancel_run", "message_id": "c", "payload": {"run_id": run.id().to_string()}});
    ann.send(&world, &cancel);
    let answer = &ann.take(&world)[0];
    assert_eq!((&answer["received_type"], &answer["data"]["state"]), (&json!("cancel_run"), &json!("requested")));
    run.cancelled("ann", "asked to").unwrap();
    assert_eq!(ann.types(&world), ["agent_cancelled"]);
}

#[test]
fn without_a_token_that_holds_nobody_comes_in_whatever_is_said_then() {
    let world = World::new();
    for (lines, code) in [
        ("Sec-WebSocket-Protocol: jwt-auth\r\n".to_owned(), 4400),
        (format!("{OFFERS}aa.bb.cc\r\n"), 4400),
        (format!("{OFFERS}{}\r\n", world.token(&ident("ann"), Duration::ZERO)), 4200),
        (format!("{}Sec-WebSocket-Protocol: bearer.aa.bb.cc\r\n", offering(&world, "ann")), 4400),
    ] {
        let turn = if code == 4200 { Duration::from_secs(10) } else { Duration::ZERO };
        world.clock.turn(turn);
        let mut device = Legacy::at(&world, "/ws", &lines);
        device.say(&world, r#"{"type":"hello"}"#);
        assert_eq!((device.closed, device.frames.len()), (Some(code), 0), "{lines}");
        assert!(device.head.contains("\r\nSec-WebSocket-Protocol: jwt-auth\r\n"), "a browser shows the close: {lines}");
    }
    let refused = Legacy::at(&world, "/ws", "Sec-WebSocket-Protocol: jwt-auth\r\nAuthorization: Bearer aa.bb.cc\r\n");
    assert!(refused.head.starts_with("HTTP/1.1 401"), "{}", refused.head);
    assert_eq!(world.hub.counts().connections, 0);
}

#[test]
fn every_carrier_that_comes_with_the_upgrade_lets_in() {
    let name = CookieName::parse("token").unwrap();
    let access = Access::with_origins(Origin::parse("https://app.example")).with_cookie(name).unwrap().with_tickets();
    let world = World::of(HubConfig { access, ..HubConfig::default() });
    let token = world.token(&ident("ann"), Duration::from_secs(3600));
    let protocol = "Sec-WebSocket-Protocol: jwt-auth";
    let grant = crate::auth::Grant {
        user: ident("ann"),
        issued_at: None,
        expires: world.now().unix + Duration::from_secs(60),
        token_id: None,
        scopes: Default::default(),
    };
    let ticket = format!("/ws?ticket={}", world.hub.issue_ticket(grant).unwrap().ticket.to_text());
    for (target, lines) in [
        ("/ws", format!("{protocol}, jwt.{token}\r\n")),
        ("/ws", format!("{protocol}, jwt-auth.{token}\r\n")),
        ("/ws", format!("{protocol}, bearer.{token}\r\n")),
        ("/ws", format!("{protocol}\r\nAuthorization: Bearer {token}\r\n")),
        ("/ws", format!("{protocol}\r\nOrigin: https://app.example\r\nCookie: token={token}\r\n")),
        (ticket.as_str(), format!("{protocol}\r\n")),
    ] {
        let mut device = Legacy::at(&world, target, &lines);
        assert_eq!(device.types(&world), ["connection_established"], "{target}");
    }
}

#[test]
fn who_names_the_native_protocol_or_meets_a_server_without_the_profile_gets_native_frames() {
    let off = World::of(HubConfig { legacy_profile: false, ..HubConfig::default() });
    let mut device = Legacy::at(&off, "/ws", &offering(&off, "ann"));
    assert!(!device.head.contains("Sec-WebSocket-Protocol"), "{}", device.head);
    device.say(&off, r#"{"type":"hello"}"#);
    assert_eq!(device.types(&off), ["welcome"]);
    let on = World::new();
    let both = offering(&on, "ann").replace("jwt-auth,", "jwt-auth, trunkline.v1,");
    let mut device = Legacy::at(&on, "/ws", &both);
    assert!(device.head.contains("\r\nSec-WebSocket-Protocol: trunkline.v1\r\n"));
    device.say(&on, r#"{"type":"hello"}"#);
    assert_eq!(device.types(&on), ["welcome"]);
}

#[test]
fn what_was_missed_comes_after_the_position_in_the_address_and_its_loss_is_said() {
    let world = World::with(Limits { log_entries: 8, ..Limits::default() });
    let mut first = Legacy::enter(&world, "ann");
    let run = start(&world, "ann");
    golden(&run);
    let seen = first.take(&world);
    let at = |place: &str| format!("/ws?v=1&last_event_id={place}");
    let third = seen[2]["event_id"].as_str().unwrap();
    let mut back = Legacy::at(&world, &at(third), &offering(&world, "ann"));
    let frames = back.take(&world);
    assert_eq!(frames[0]["data"]["streams"][0]["mode"], "replay");
    assert_eq!(frames[1..], seen[3..]);
    // Without it the welcome says that it goes on live, and from where.
    let plain = Legacy::at(&world, "/ws?last_event_id=nonsense", &offering(&world, "ann")).take(&world);
    assert_eq!((plain.len(), &plain[0]["data"]["streams"][0]["mode"]), (1, &json!("live")));
    for n in 0..20 {
        world.hub.publish(&ident("ann"), None, "n", &n).unwrap();
    }
    let mut late = Legacy::at(&world, &at(third), &offering(&world, "ann"));
    let frames = late.take(&world);
    let entry = &frames[0]["data"]["streams"][0];
    assert_eq!((&entry["mode"], &entry["lost"]["from"]), (&json!("reset"), &json!(third)));
    assert_eq!(frames.len(), 1 + 8, "and what is kept follows");
}

#[test]
fn a_device_that_comes_in_the_middle_of_a_run_gets_its_state() {
    let world = World::new();
    let run = start(&world, "ann");
    run.thinking("so far").unwrap();
    let mut ann = Legacy::at(&world, "/ws", &offering(&world, "ann"));
    let frames = ann.take(&world);
    assert_eq!(frames[0]["data"]["streams"][0]["mode"], "snapshot");
    // The log still has its beginning: the state before it is empty, and everything follows.
    assert_eq!(frames[1]["data"]["event"], "snapshot");
    assert_eq!(frames[2..].iter().map(|frame| frame["type"].as_str().unwrap()).collect::<Vec<_>>(), GOLDEN[..2]);
    run.failed("broken").unwrap();
    let end = ann.take(&world);
    assert_eq!((&end[0]["type"], &end[0]["error"]), (&json!("agent_error"), &json!("broken")));
}

#[test]
fn a_reader_that_lags_is_told_and_gets_every_letter_in_batches() {
    let world = World::with(Limits { lag_entries: 4, ..Limits::default() });
    let mut ann = Legacy::enter(&world, "ann");
    let run = start(&world, "ann");
    let whole: String = (0..200).map(|n| format!("word {n} ")).collect();
    for n in 0..200 {
        run.delta(format!("word {n} ")).unwrap();
    }
    run.completed(None).unwrap();
    let frames = ann.take(&world);
    let lag: Vec<_> = frames.iter().filter(|frame| frame["data"]["event"] == "lag").collect();
    assert_eq!((&lag[0]["data"]["merging"], &lag[1]["data"]["merging"]), (&json!(true), &json!(false)));
    let (mut text, mut at) = (String::new(), 0);
    for frame in frames.iter().filter(|frame| frame.get("event_id").is_some()) {
        let seq = frame["seq"].as_u64().unwrap();
        assert_eq!(frame["prev"].as_u64().unwrap_or(seq - 1), at, "{frame}");
        at = seq;
        let batch = frame["events"]["stream_chunk"].as_array().map_or(&[][..], Vec::as_slice);
        for chunk in batch.iter().chain((frame["type"] == "stream_chunk").then_some(frame)) {
            assert_eq!(chunk["offset"].as_u64().unwrap() as usize, text.chars().count());
            text.push_str(chunk["content"].as_str().unwrap());
        }
    }
    assert_eq!(text, whole);
    assert!(frames.iter().any(|frame| frame["type"] == "event_batch"));
}

#[test]
fn rates_and_sizes_are_those_of_every_connection() {
    let limits = || Limits { messages_per_second: 1, message_burst: 3, message_bytes: 1_000, ..Limits::default() };
    let world = World::with(limits());
    let sized = |bytes: usize| {
        let frame = r#"{"type":"heartbeat","pad":""}"#;
        frame.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - frame.len())))
    };
    let mut ann = Legacy::enter(&world, "ann");
    ann.say(&world, &sized(1_000));
    assert_eq!((ann.types(&world), ann.closed), (vec!["heartbeat_ack".to_owned()], None));
    ann.say(&world, &sized(1_001));
    assert_eq!(ann.closed, Some(1009), "said, not ignored");
    let mut bob = Legacy::enter(&world, "bob");
    // What answers nothing counts as well.
    for _ in 0..3 {
        bob.send(&world, &json!({"type": "pong"}));
    }
    assert_eq!(bob.closed, None);
    bob.send(&world, &json!({"type": "pong"}));
    assert_eq!(bob.closed, Some(4002));
    let mut eve = Legacy::enter(&world, "eve");
    let mut frame = Vec::new();
    encode(&mut frame, Opcode::Binary, b"x", Some([1, 2, 3, 4]));
    eve.feed(&world, &frame);
    assert_eq!(eve.closed, Some(1003));
}

#[test]
fn caps_evictions_revocation_expiry_and_the_shutdown_close_with_the_codes_of_every_connection() {
    let limits = Limits { connections_per_user: 1, at_capacity: AtCapacity::Refuse, ..Limits::default() };
    let full = World::with(limits);
    let mut first = Legacy::enter(&full, "ann");
    assert_eq!(Legacy::at(&full, "/ws", &offering(&full, "ann")).closed, Some(4410));
    first.pump(&full);
    assert_eq!(first.closed, None);

    let world = World::with(Limits { connections_per_user: 1, ..Limits::default() });
    let mut idle = Legacy::enter(&world, "ann");
    let mut bob = Legacy::enter(&world, "bob");
    for _ in 0..13 {
        // The time of an eviction, with pings answered.
        world.clock.turn(Duration::from_secs(5));
        for device in [&mut idle, &mut bob] {
            device.session.as_mut().unwrap().handle_timeout(world.now());
            let mut pong = Vec::new();
            encode(&mut pong, Opcode::Pong, b"", Some([1, 2, 3, 4]));
            device.feed(&world, &pong);
        }
    }
    let _newcomer = Legacy::enter(&world, "ann");
    idle.pump(&world);
    assert_eq!(idle.closed, Some(4100), "never 1000");
    world.hub.begin_shutdown();
    let told = bob.take(&world);
    assert_eq!(told[0]["type"], "system_shutdown");
    assert!(told[0]["reconnect_delay"].is_u64(), "{told:?}");
    world.clock.turn(Duration::from_secs(25));
    bob.session.as_mut().unwrap().handle_timeout(world.now());
    bob.pump(&world);
    assert_eq!(bob.closed, Some(1012));

    let world = World::new();
    let token = world.scoped_token(&ident("ann"), Duration::from_secs(100), "", Some("jti"));
    let mut ann = Legacy::at(&world, "/ws", &format!("{OFFERS}{token}\r\n"));
    ann.take(&world);
    world.clock.turn(Duration::from_secs(60));
    ann.session.as_mut().unwrap().handle_timeout(world.now());
    let notices = ann.take(&world);
    assert!(notices.iter().any(|frame| frame["data"]["event"] == "auth_expiring"), "{notices:?}");
    let token = world.token(&ident("ann"), Duration::from_secs(3600));
    ann.send(&world, &json!({"type": "refresh", "message_id": "r", "payload": {"token": token}}));
    let answer = ann.take(&world);
    assert_eq!((&answer[0]["type"], &answer[0]["received_type"]), (&json!("ack"), &json!("refresh")), "{answer:?}");
    world.clock.turn(Duration::from_secs(3_700));
    ann.pump(&world);
    assert_eq!(ann.closed, Some(4200));
}

#[test]
fn a_change_of_the_level_is_said_once_and_replaces_nothing() {
    let world = World::new();
    let mut ann = Legacy::enter(&world, "ann");
    world.hub.set_level(Some(ServiceLevel::Degraded), "the index is rebuilt");
    let run = start(&world, "ann");
    golden(&run);
    world.keeper.handle_timeout();
    let mut frames = ann.take(&world);
    world.hub.set_level(Some(ServiceLevel::Normal), "all is well");
    world.keeper.handle_timeout();
    frames.extend(ann.take(&world));
    let events: Vec<_> = frames.iter().filter_map(|frame| frame["data"]["event"].as_str()).collect();
    assert_eq!(events, ["service_degradation", "service_recovery"], "{frames:?}");
    let types: Vec<_> = frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    for kind in crate::protocol::legacy::GOLDEN_PATH_EVENTS {
        assert_eq!(types.iter().filter(|one| **one == kind).count(), 1, "{kind} in {types:?}");
    }
}

#[test]
fn an_event_that_nests_too_deep_is_said_to_be_missing() {
    let world = World::new();
    let mut ann = Legacy::enter(&world, "ann");
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    world.hub.publish(&ident("ann"), None, "deep", &deep).unwrap();
    world.hub.publish(&ident("ann"), None, "flat", &1).unwrap();
    let frames = ann.take(&world);
    assert_eq!((&frames[0]["error_code"], &frames[1]["name"]), (&json!("INTERNAL_ERROR"), &json!("flat")));
}

/// Legacy texts and noise.
fn texts() -> impl Strategy<Value = Vec<String>> {
    let kind = "chat|start_agent|agent|ping|heartbeat|connect|cancel_run|approve|subscribe|refresh|ack|run_start|publish|hello|nope";
    let field = "\"payload\":\\{\\}|\"payload\":\\{\"content\":\"x\"\\}|\"payload\":\\{\"topic\":\"t\"\\}|\"user_id\":\"ann\"|\"user_id\":\"bob\"|\"content\":\"y\"|\"message_id\":\"m\"|\"x\":1";
    let text = (kind, field, field).prop_map(|(kind, a, b)| format!(r#"{{"type":"{kind}",{a},{b}}}"#));
    proptest::collection::vec(prop_oneof![4 => text, 1 => ".*"], 1..20)
}

properties! {
    cases = 64;

    #[test]
    fn nothing_a_legacy_device_says_reaches_another_user_or_breaks_the_profile(texts in texts()) {
        let world = World::new();
        let (mut ann, mut bob) = (Legacy::enter(&world, "ann"), world.device("bob"));
        bob.events();
        let mut requests = world.hub.requests().unwrap();
        for text in &texts {
            ann.say(&world, text);
            while let std::task::Poll::Ready(Some(crate::hub::Request::UserMessage(message))) = crate::hub::tests::harness::poll_now(requests.next()) {
                golden(&message.start("a").unwrap());
            }
        }
        for frame in ann.take(&world) {
            let kind = frame["type"].as_str().unwrap();
            prop_assert!(!["welcome", "reply", "error", "agent_delta", "agent_failed"].contains(&kind), "{frame}");
        }
        prop_assert_eq!(ann.closed, None);
        prop_assert!(bob.events().is_empty());
    }

    #[test]
    fn no_bytes_of_a_legacy_device_make_the_server_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let world = World::new();
        let mut ann = Legacy::enter(&world, "ann");
        ann.feed(&world, &bytes);
        ann.say(&world, &String::from_utf8_lossy(&bytes));
    }
}
