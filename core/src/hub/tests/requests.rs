//! Messages, commands, cancellations, and who answers them.

use std::task::Poll;
use std::time::Duration;

use super::harness::{World, frame_id, message, next_message, poll_now};
use crate::error::ErrorCode;
use crate::hub::Request;
use crate::limits::Limits;
use crate::protocol::{CancelState, ClientFrame, EventKind, Reply, ReplyOk, RunRef};
use crate::stream::RunError;

fn code(reply: &Reply) -> &str {
    reply.outcome.as_ref().unwrap_err().code.as_str()
}

fn command(id: &str) -> ClientFrame {
    ClientFrame::Command { id: frame_id(id), name: "echo".into(), args: None, key: None }
}

#[test]
fn a_message_is_logged_and_answered_when_its_run_starts() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let (mut ann, mut tablet) = (world.device("ann"), world.device("ann"));
    ann.say("m1", "hello");
    assert_eq!(tablet.stream(), [], "nothing is logged before it is accepted");
    let asked = next_message(&mut requests);
    assert_eq!((asked.content(), asked.user().sub(), asked.thread().as_str()), ("hello", "ann", "t"));
    let run = asked.start("assistant").unwrap();
    let replies = ann.replies();
    assert_eq!(replies[0].outcome, Ok(ReplyOk::Run { run_id: run.id() }));
    run.completed(None).unwrap();
    assert_eq!(tablet.kinds(), [EventKind::UserMessage, EventKind::AgentStarted, EventKind::AgentCompleted]);
}

#[test]
fn without_an_application_a_message_is_refused_at_once_and_leaves_no_trace() {
    let world = World::new();
    let mut ann = world.device("ann");
    ann.say("m1", "hello");
    let replies = ann.replies();
    assert_eq!(code(&replies[0]), "unavailable");
    assert!(replies[0].outcome.as_ref().unwrap_err().temporary);
}

#[test]
fn a_dropped_or_late_request_is_answered_and_its_key_is_free_again_and_a_refused_one_stays_refused() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let mut ann = world.device("ann");
    ann.send(&message("m1", Some("k"), "hello"));
    drop(next_message(&mut requests));
    assert_eq!(code(&ann.replies()[0]), "unavailable");
    ann.send(&message("m2", Some("k"), "hello"));
    next_message(&mut requests).refuse("not today");
    assert_eq!(code(&ann.replies()[0]), "refused");
    ann.send(&message("again", Some("k"), "hello"));
    assert_eq!(code(&ann.replies()[0]), "refused");
    assert!(poll_now(requests.next()).is_pending(), "nobody is asked again");
    ann.send(&message("m3", Some("k3"), "hello"));
    let late = next_message(&mut requests);
    world.sleep(Limits::default().request_deadline, &mut [&mut ann]);
    assert_eq!(code(&ann.replies()[0]), "unavailable");
    assert_eq!(late.start("assistant").unwrap_err(), RunError::RequestClosed);
    assert_eq!(ann.stream(), [], "none of them left a trace");
    drop(requests);
    ann.say("m4", "hello");
    assert_eq!(code(&ann.replies()[0]), "unavailable");
    assert_eq!(world.hub.counts().requests, 0);
}

#[test]
fn a_repeated_key_is_one_run_and_one_answer_also_over_another_connection() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let (mut first, mut second) = (world.device("ann"), world.device("ann"));
    first.send(&message("a", Some("k"), "hello"));
    second.send(&message("b", Some("k"), "hello"));
    let run = next_message(&mut requests).start("assistant").unwrap();
    assert!(poll_now(requests.next()).is_pending(), "there is one request");
    let expected = Ok(ReplyOk::Run { run_id: run.id() });
    assert_eq!(first.replies()[0].outcome, expected);
    assert_eq!(second.replies()[0].outcome, expected);
    run.completed(None).unwrap();
    second.send(&message("c", Some("k"), "hello"));
    let events = second.events();
    let again = events.iter().find_map(|event| match event {
        crate::client::ClientEvent::Frame(frame) => Some(frame.encode()),
        _ => None,
    });
    assert!(again.unwrap().contains(&run.id().to_string()));
}

#[test]
fn a_run_is_cancelled_by_id_by_key_and_before_it_starts() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let mut ann = world.device("ann");
    ann.send(&message("m1", Some("k1"), "hello"));
    let run = next_message(&mut requests).start("assistant").unwrap();
    ann.events();
    assert_eq!(run.cancel_requested(), None);
    for target in [RunRef::Id(run.id()), RunRef::Key("k1".parse().unwrap())] {
        ann.send(&ClientFrame::CancelRun { id: frame_id("c"), target });
        let expected = ReplyOk::Cancel { run_id: run.id(), state: CancelState::Requested };
        assert_eq!(ann.replies()[0].outcome, Ok(expected));
        assert_eq!(run.cancel_requested().as_deref(), Some("ann"));
        assert_eq!(poll_now(run.cancel_request()), Poll::Ready("ann".into()));
    }
    run.cancelled("ann", "asked to").unwrap();
    ann.events();
    for target in [RunRef::Id(run.id()), RunRef::Key("k1".parse().unwrap())] {
        ann.send(&ClientFrame::CancelRun { id: frame_id("c"), target });
        let expected = ReplyOk::Cancel { run_id: run.id(), state: CancelState::Ended };
        assert_eq!(ann.replies()[0].outcome, Ok(expected));
    }

    ann.send(&message("m2", Some("k2"), "hello"));
    let taken = next_message(&mut requests);
    ann.send(&ClientFrame::CancelRun { id: frame_id("c"), target: RunRef::Key("k2".parse().unwrap()) });
    let replies = ann.replies();
    let of = |id: &str| replies.iter().find(|reply| reply.id.as_str() == id).unwrap();
    assert_eq!(code(of("m2")), "refused");
    assert!(matches!(of("c").outcome, Ok(ReplyOk::Cancel { state: CancelState::Cancelled, .. })), "{replies:?}");
    assert_eq!(taken.start("assistant").unwrap_err(), RunError::RequestClosed);
}

#[test]
fn another_users_run_is_not_found() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let (mut ann, mut bob) = (world.device("ann"), world.device("bob"));
    ann.say("m1", "hello");
    let run = next_message(&mut requests).start("assistant").unwrap();
    bob.send(&ClientFrame::CancelRun { id: frame_id("c"), target: RunRef::Id(run.id()) });
    assert_eq!(code(&bob.replies()[0]), "not_found");
    assert_eq!(run.cancel_requested(), None);
}

#[test]
fn a_command_is_answered_by_the_application() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let mut ann = world.device("ann");
    ann.send(&command("a"));
    ann.send(&command("b"));
    let mut take = || match poll_now(requests.next()) {
        Poll::Ready(Some(Request::Command(command))) => command,
        other => panic!("{other:?}"),
    };
    let (first, second) = (take(), take());
    second.refuse("no");
    first.reply(&serde_json::json!({"pong": true})).unwrap();
    let replies = ann.replies();
    assert_eq!((replies[0].id.as_str(), code(&replies[0])), ("b", "refused"));
    assert!(matches!(&replies[1].outcome, Ok(ReplyOk::Result(json)) if json.get() == r#"{"pong":true}"#));
}

#[test]
fn a_repeated_command_gets_the_same_result_byte_for_byte_over_another_connection() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let (mut phone, mut tablet, mut bob) = (world.device("ann"), world.device("ann"), world.device("bob"));
    let keyed = |id: &str| ClientFrame::Command {
        id: frame_id(id),
        name: "count".into(),
        args: None,
        key: Some("k".parse().unwrap()),
    };
    phone.send(&keyed("a"));
    tablet.send(&keyed("b"));
    let Poll::Ready(Some(Request::Command(first))) = poll_now(requests.next()) else { panic!("nothing waits") };
    phone.cut();
    first.reply(&serde_json::json!({"count": 1, "of": [1.5, "é"]})).unwrap();
    tablet.send(&keyed("c"));
    let results: Vec<_> = tablet
        .replies()
        .into_iter()
        .map(|reply| match reply.outcome {
            Ok(ReplyOk::Result(json)) => (reply.id.as_str().to_owned(), json.get().to_owned()),
            other => panic!("{other:?}"),
        })
        .collect();
    let json = r#"{"count":1,"of":[1.5,"é"]}"#;
    assert_eq!(results, [("b".to_owned(), json.to_owned()), ("c".to_owned(), json.to_owned())]);
    assert!(poll_now(requests.next()).is_pending(), "it was asked once");
    bob.send(&keyed("d"));
    assert!(poll_now(requests.next()).is_ready(), "another user's key is another key");
}

#[test]
fn open_runs_are_capped_at_n_reserved_ones_included() {
    let world = World::with(Limits { runs_per_user: 2, ..Limits::default() });
    let mut requests = world.hub.requests().unwrap();
    let mut ann = world.device("ann");
    ann.say("a", "1");
    ann.say("b", "2");
    ann.say("c", "3");
    assert_eq!(code(&ann.replies()[0]), "too_many_runs");
    let run = next_message(&mut requests).start("assistant").unwrap();
    ann.say("d", "4");
    assert_eq!(code(&ann.replies()[1]), "too_many_runs");
    run.completed(None).unwrap();
    ann.say("e", "5");
    assert_eq!(world.hub.counts().requests, 2);
}

#[test]
fn what_waits_for_the_application_is_capped_at_n_also_where_it_has_taken_them() {
    let world = World::sharded(Limits { requests: 2, ..Limits::default() }, 1);
    let mut requests = world.hub.requests().unwrap();
    let (mut ann, mut bob) = (world.device("ann"), world.device("bob"));
    ann.say("a", "1");
    bob.send(&command("b"));
    let taken = [poll_now(requests.next()), poll_now(requests.next())];
    for again in [&command("c"), &message("d", None, "2")] {
        bob.send(again);
        assert_eq!(code(&bob.replies()[0]), ErrorCode::Busy.as_str());
    }
    drop(taken);
    bob.say("e", "3");
    assert_eq!(next_message(&mut requests).content(), "3");
}

#[test]
fn a_request_that_timed_out_has_given_its_room_back_whoever_still_holds_it() {
    let world = World::sharded(Limits { requests: 1, ..Limits::default() }, 1);
    let mut requests = world.hub.requests().unwrap();
    let (mut ann, mut bob) = (world.device("ann"), world.device("bob"));
    ann.say("a", "1");
    let held = next_message(&mut requests);
    world.sleep(Limits::default().request_deadline, &mut [&mut ann, &mut bob]);
    assert_eq!(code(&ann.replies()[0]), "unavailable");
    bob.say("b", "2");
    assert_eq!(next_message(&mut requests).content(), "2");
    drop(held);
    assert_eq!(code(&bob.replies()[0]), "unavailable", "only the second was dropped unanswered");
}

#[test]
fn what_lies_in_the_applications_queue_is_capped_at_n_whatever_its_shard() {
    // Each of the shards has room for one.
    let world = World::sharded(Limits { requests: 2, ..Limits::default() }, 64);
    let mut requests = world.hub.requests().unwrap();
    let mut devices: Vec<_> = ["ann", "bob", "carol"].map(|name| world.device(name)).into();
    devices[0].say("a", "1");
    devices[1].say("b", "2");
    devices[2].say("c", "3");
    assert_eq!(code(&devices[2].replies()[0]), ErrorCode::Busy.as_str());
    assert_eq!(next_message(&mut requests).content(), "1");
    devices[2].say("d", "4");
    assert_eq!([next_message(&mut requests), next_message(&mut requests)].map(|m| m.content().to_owned()), ["2", "4"]);
    assert_eq!(world.hub.counts().requests, 0);
}

#[test]
fn what_was_answered_while_it_lay_in_the_queue_does_not_come() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let mut ann = world.device("ann");
    ann.say("late", "1");
    world.sleep(Limits::default().request_deadline, &mut [&mut ann]);
    ann.send(&message("withdrawn", Some("k"), "2"));
    ann.send(&ClientFrame::CancelRun { id: frame_id("c"), target: RunRef::Key("k".parse().unwrap()) });
    ann.say("m", "3");
    ann.replies();
    assert_eq!(next_message(&mut requests).content(), "3");
    assert!(poll_now(requests.next()).is_pending());
    let answered: Vec<_> = ann.replies().iter().map(|reply| reply.id.as_str().to_owned()).collect();
    assert_eq!(answered, ["m"], "nobody is answered twice");
}

#[test]
fn frames_that_this_version_does_not_take_are_answered_and_the_connection_stays() {
    let world = World::new();
    let mut ann = world.device("ann");
    ann.events();
    let frames = [
        (r#"{"type":"approve","id":"x","approval_id":"a","decision":"yes"}"#, "not_found"),
        (
            r#"{"type":"revoke","id":"x","user_id":"bob","session_id":"sess_00000000000000000000000000000001"}"#,
            "not_found",
        ),
        (r#"{"type":"run_start","id":"x","user_id":"bob","thread_id":"t","agent_name":"a"}"#, "unexpected"),
        (r#"{"type":"publish","id":"x","user_id":"bob","name":"n","data":1}"#, "not_found"),
        (r#"{"type":"dance","id":"x"}"#, "unknown_type"),
        (r#"{"type":"user_message","id":"x"}"#, "invalid"),
    ];
    for (text, expected) in frames {
        let now = world.now();
        let mut wire = Vec::new();
        crate::codec::frame::encode(&mut wire, crate::codec::frame::Opcode::Text, text.as_bytes(), Some([9; 4]));
        crate::drive::Machine::handle_bytes(ann.session.as_mut().unwrap(), now, &wire);
        let replies = ann.replies();
        assert_eq!(code(&replies[0]), expected, "{text}");
    }
    world.clock.turn(Duration::from_secs(1));
    assert!(ann.is_in());
}

#[test]
fn a_users_commands_are_capped_at_n_and_leave_room_for_others() {
    let world = World::with(Limits { runs_per_user: 2, ..Limits::default() });
    let mut requests = world.hub.requests().unwrap();
    let (mut ann, mut bob) = (world.device("ann"), world.device("bob"));
    for id in ["a", "b", "c"] {
        ann.send(&command(id));
    }
    let replies = ann.replies();
    assert_eq!((replies.len(), replies[0].id.as_str(), code(&replies[0])), (1, "c", "busy"));
    bob.send(&command("d"));
    assert_eq!(bob.replies(), []);
    let Poll::Ready(Some(Request::Command(first))) = poll_now(requests.next()) else { panic!("nothing waits") };
    first.reply(&1).unwrap();
    ann.replies();
    ann.send(&command("e"));
    assert_eq!(ann.replies(), []);
}

#[test]
fn a_name_that_leaves_no_room_for_the_last_event_starts_no_run() {
    let world = World::new();
    let start = |length: usize| {
        let options = crate::hub::RunOptions::named("x".repeat(length));
        world.hub.start_run(&super::harness::ident("ann"), super::harness::thread("t"), options)
    };
    assert!(start(crate::id::MAX_ID_BYTES).is_ok());
    let error = start(crate::id::MAX_ID_BYTES + 1).unwrap_err();
    assert!(matches!(error, RunError::AgentName { max: crate::id::MAX_ID_BYTES, .. }), "{error}");
}
