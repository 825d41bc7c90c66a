//! Single rules, each with its failing neighbour.

use std::time::Duration;

use serde_json::value::to_raw_value;

use super::{
    Told, asked, assert_consistent, at, attach, command, conn, done, drain, message, run_start, shard, tick, user,
};
use crate::error::{CloseReason, ErrorCode};
use crate::id::{IdempotencyKey, RunId};
use crate::limits::Limits;
use crate::manager::Custom;
use crate::protocol::{CancelState, ReplyError, ReplyOk, RunRef};
use crate::stream::{RunError, RunEvent};
use crate::time::Timestamp;

const MICROS: u64 = 1_000_000;

#[test]
fn a_late_detach_of_an_older_connection_changes_nothing() {
    let mut shard = shard(Limits::default());
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    // The device comes back as connection 2 and supersedes its old socket.
    attach(&mut shard, at(0), "ann", 2, Some(1)).unwrap();
    assert_eq!(drain(&mut shard), [Told::Closed(1, CloseReason::Superseded)]);
    let before = format!("{shard:?}");
    shard.detach(at(0), &user("ann"), conn(1));
    shard.detach(at(0), &user("nobody"), conn(2));
    assert_eq!(format!("{shard:?}"), before);
    shard.detach(at(0), &user("ann"), conn(2));
    assert_eq!(shard.counts().connections, 0);
}

#[test]
fn a_session_is_one_users_own() {
    let mut shard = shard(Limits::default());
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    attach(&mut shard, at(0), "bob", 2, Some(1)).unwrap();
    assert_eq!((drain(&mut shard), shard.counts().connections), (vec![], 2));
}

#[test]
fn a_full_user_lets_nobody_in_but_who_supersedes() {
    let mut shard = shard(Limits { connections_per_user: 2, ..Limits::default() });
    for n in [1, 2] {
        attach(&mut shard, at(0), "ann", n, None).unwrap();
    }
    assert_eq!(attach(&mut shard, at(0), "ann", 3, None).unwrap_err(), CloseReason::TooManyConnections);
    assert!(drain(&mut shard).is_empty());
    attach(&mut shard, at(0), "ann", 4, Some(2)).unwrap();
    assert_eq!(drain(&mut shard), [Told::Closed(2, CloseReason::Superseded)]);
    assert_consistent(&shard);
}

#[test]
fn a_draining_shard_lets_nobody_in_and_starts_no_run() {
    let mut shard = shard(Limits::default());
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    let run = shard.start_run(at(0), run_start("ann", 7)).unwrap().run;
    drain(&mut shard);
    shard.begin_drain();
    assert_eq!(attach(&mut shard, at(0), "ann", 2, None).unwrap_err(), CloseReason::Restart);
    assert_eq!(shard.start_run(at(0), run_start("ann", 8)).unwrap_err(), RunError::Draining);
    shard.message(at(0), message("ann", 1, "m", None, 9));
    assert_eq!(drain(&mut shard), [Told::Reply(1, "m".into(), Some("draining".into()))]);
    let end = RunEvent::Completed { final_response: None, result: None };
    shard.run_event(at(0), &user("ann"), run, end).unwrap();
    assert_eq!(drain(&mut shard), [Told::Ready(1)], "what runs goes on");
    assert_consistent(&shard);
}

#[test]
fn a_message_that_waits_when_a_drain_begins_may_still_start_its_run() {
    let mut shard = shard(Limits::default());
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    shard.message(at(0), message("ann", 1, "m", None, 9));
    let request = asked(&drain(&mut shard));
    shard.begin_drain();
    shard.start_run(at(0), super::RunStart { request: Some(request), ..run_start("ann", 8) }).unwrap();
    assert_eq!(shard.counts().runs, 1);
    drain(&mut shard);
    assert_consistent(&shard);
}

#[test]
fn a_user_is_kept_for_the_retention_and_not_a_microsecond_longer() {
    let mut shard = shard(Limits { log_retention: Duration::from_secs(3), ..Limits::default() });
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    assert_eq!(shard.poll_timeout(), None, "nobody goes while connected");
    shard.detach(at(MICROS), &user("ann"), conn(1));
    let due = Timestamp::from_micros(4 * MICROS);
    assert_eq!(shard.poll_timeout().map(|(at, _)| at), Some(due));
    let before = format!("{shard:?}");
    shard.handle_timeout(at(4 * MICROS - 1));
    assert_eq!(format!("{shard:?}"), before);
    tick(&mut shard, 4 * MICROS);
    assert_eq!((shard.counts().users, shard.logs.total(), shard.poll_timeout()), (0, 0, None));
}

#[test]
fn whoever_comes_back_in_time_keeps_the_log_and_the_next_retention_is_whole() {
    let mut shard = shard(Limits { log_retention: Duration::from_secs(3), ..Limits::default() });
    let first = attach(&mut shard, at(0), "ann", 1, None).unwrap();
    shard.detach(at(0), &user("ann"), conn(1));
    let second = attach(&mut shard, at(2 * MICROS), "ann", 2, None).unwrap();
    assert_eq!(second.stream.head.epoch, first.stream.head.epoch);
    shard.detach(at(2 * MICROS), &user("ann"), conn(2));
    tick(&mut shard, 5 * MICROS - 1);
    assert_eq!(shard.counts().users, 1);
    tick(&mut shard, 5 * MICROS);
    assert_eq!(shard.counts().users, 0);
    // The same moment on the calendar, and still a later incarnation.
    let third = attach(&mut shard, at(0), "ann", 3, None).unwrap();
    assert!(third.stream.head.epoch > first.stream.head.epoch);
}

#[test]
fn an_open_run_or_a_request_keeps_a_user() {
    let mut shard = shard(Limits { log_retention: Duration::from_secs(1), ..Limits::default() });
    let run = shard.start_run(at(0), run_start("ann", 7)).unwrap().run;
    assert_eq!(shard.poll_timeout(), None);
    let end = RunEvent::Completed { final_response: None, result: None };
    shard.run_event(at(MICROS), &user("ann"), run, end).unwrap();
    assert_eq!(shard.poll_timeout().map(|(at, _)| at.as_micros()), Some(2 * MICROS));
    tick(&mut shard, 2 * MICROS);
    assert_eq!(shard.counts().users, 0);
}

#[test]
fn a_key_keeps_its_user_as_long_as_it_may_be_repeated() {
    let limits =
        Limits { log_retention: Duration::from_secs(1), dedup_window: Duration::from_secs(60), ..Limits::default() };
    let mut shard = shard(limits);
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    shard.message(at(0), message("ann", 1, "m", Some("k"), 7));
    let request = asked(&drain(&mut shard));
    let start = super::RunStart { request: Some(request), ..run_start("ann", 0) };
    let run = shard.start_run(at(0), start).unwrap().run;
    drain(&mut shard);
    let end = RunEvent::Completed { final_response: None, result: None };
    shard.run_event(at(0), &user("ann"), run, end).unwrap();
    drain(&mut shard);
    shard.detach(at(0), &user("ann"), conn(1));
    tick(&mut shard, 60 * MICROS - 1);
    assert_eq!(shard.counts().users, 1);
    attach(&mut shard, at(60 * MICROS - 1), "ann", 2, None).unwrap();
    shard.message(at(60 * MICROS - 1), message("ann", 2, "again", Some("k"), 8));
    assert_eq!(drain(&mut shard), [Told::Reply(2, "again".into(), None)], "the same run, and nobody is asked");
}

#[test]
fn a_request_is_answered_at_its_deadline_and_its_repeat_is_a_new_one() {
    let mut shard = shard(Limits { request_deadline: Duration::from_secs(10), ..Limits::default() });
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    shard.message(at(0), message("ann", 1, "a", Some("k"), 7));
    let request = asked(&drain(&mut shard));
    shard.message(at(MICROS), message("ann", 1, "b", Some("k"), 8));
    assert!(drain(&mut shard).is_empty(), "it waits with the first");
    assert_eq!(tick(&mut shard, 10 * MICROS - 1), []);
    let code = Some("unavailable".to_owned());
    let both = [Told::Reply(1, "a".into(), code.clone()), Told::Reply(1, "b".into(), code)];
    assert_eq!(tick(&mut shard, 10 * MICROS), both);
    assert!(!shard.answer(at(10 * MICROS), &user("ann"), request, done()), "too late");
    assert!(drain(&mut shard).is_empty());
    shard.message(at(10 * MICROS), message("ann", 1, "c", Some("k"), 9));
    assert_ne!(asked(&drain(&mut shard)), request, "numbers are never used again");
}

#[test]
fn a_key_is_not_forgotten_while_its_request_waits_however_many_follow() {
    let mut shard = shard(Limits { dedup_keys: 1, ..Limits::default() });
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    let ask = |shard: &mut super::Shard, id: &str, key: &str| {
        shard.message(at(0), message("ann", 1, id, Some(key), 7));
        asked(&drain(shard))
    };
    ask(&mut shard, "a", "k");
    for key in ["l", "m"] {
        let other = ask(&mut shard, key, key);
        assert!(shard.answer(at(0), &user("ann"), other, done()));
        drain(&mut shard);
    }
    shard.message(at(0), message("ann", 1, "d", Some("k"), 8));
    assert_eq!(drain(&mut shard), [], "it waits with the first");
    assert_consistent(&shard);
}

#[test]
fn a_command_and_its_repeats_are_one_request_with_one_answer() {
    let mut shard = shard(Limits::default());
    for n in [1, 2] {
        attach(&mut shard, at(0), "ann", n, None).unwrap();
    }
    shard.command(at(0), command("a", 1, Some("k")));
    let request = asked(&drain(&mut shard));
    shard.command(at(0), command("b", 2, Some("k")));
    assert_eq!(drain(&mut shard), [], "it waits with the first");
    assert!(shard.answer(at(MICROS), &user("ann"), request, done()));
    assert_eq!(drain(&mut shard), [Told::Reply(1, "a".into(), None), Told::Reply(2, "b".into(), None)]);
    let window = u64::try_from(Limits::default().dedup_window.as_micros()).unwrap();
    shard.command(at(MICROS + window - 1), command("c", 2, Some("k")));
    assert_eq!(drain(&mut shard), [Told::Reply(2, "c".into(), None)]);
    shard.command(at(MICROS + window), command("d", 1, Some("k")));
    asked(&drain(&mut shard));
    assert_consistent(&shard);
}

#[test]
fn a_refusal_is_repeated_and_an_error_that_passes_is_not() {
    let mut shard = shard(Limits { runs_per_user: 1, requests: 2, ..Limits::default() });
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    attach(&mut shard, at(0), "bob", 2, None).unwrap();
    let refused = |code| Err(ReplyError::new(code, "no"));
    let reply = |id: &str, code: &str| Told::Reply(1, id.into(), Some(code.into()));
    // Nobody answers; the application refuses; its refusal is what a repeat gets.
    shard.command(at(0), command("a", 1, Some("k")));
    let first = asked(&drain(&mut shard));
    assert!(shard.answer(at(0), &user("ann"), first, refused(ErrorCode::Unavailable)));
    assert_eq!(drain(&mut shard), [reply("a", "unavailable")]);
    shard.command(at(0), command("b", 1, Some("k")));
    let second = asked(&drain(&mut shard));
    // No room for another one: that passes too.
    shard.command(at(0), command("c", 1, Some("l")));
    assert_eq!(drain(&mut shard), [reply("c", "busy")]);
    assert!(shard.answer(at(0), &user("ann"), second, refused(ErrorCode::Refused)));
    drain(&mut shard);
    shard.command(at(0), command("d", 1, Some("k")));
    assert_eq!(drain(&mut shard), [reply("d", "refused")]);
    shard.command(at(0), command("e", 1, Some("l")));
    asked(&drain(&mut shard));
    // A shard that drains asks nobody, and still says what became of what it knows.
    shard.begin_drain();
    shard.command(at(0), command("f", 1, Some("k")));
    assert_eq!(drain(&mut shard), [reply("f", "refused")]);
    shard.command(at(0), command("g", 1, Some("m")));
    assert_eq!(drain(&mut shard), [reply("g", "draining")]);
}

#[test]
fn an_answer_that_finds_no_room_is_not_given_again_and_the_command_not_done_again() {
    let mut shard = shard(Limits { dedup_bytes: 4, ..Limits::default() });
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    for (key, result, again) in [("a", "1234", None), ("b", "12345", Some("already_answered"))] {
        shard.command(at(0), command("x", 1, Some(key)));
        let request = asked(&drain(&mut shard));
        let result = serde_json::value::RawValue::from_string(result.into()).unwrap();
        assert!(shard.answer(at(0), &user("ann"), request, Ok(ReplyOk::Result(result))));
        drain(&mut shard);
        shard.command(at(0), command("y", 1, Some(key)));
        assert_eq!(drain(&mut shard), [Told::Reply(1, "y".into(), again.map(str::to_owned))], "{key}");
    }
    assert_consistent(&shard);
}

#[test]
fn a_withdrawn_message_stays_withdrawn_for_its_repeats_and_for_repeated_cancellations() {
    let mut shard = shard(Limits::default());
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    shard.message(at(0), message("ann", 1, "a", Some("k"), 7));
    asked(&drain(&mut shard));
    let by_key = RunRef::Key(IdempotencyKey::new("k").unwrap());
    let (run, state) = shard.cancel(at(0), &user("ann"), &by_key).unwrap();
    assert_eq!(state, CancelState::Cancelled);
    drain(&mut shard);
    shard.message(at(0), message("ann", 1, "b", Some("k"), 8));
    assert_eq!(drain(&mut shard), [Told::Reply(1, "b".into(), Some("refused".into()))], "nobody is asked");
    assert_eq!(shard.cancel(at(0), &user("ann"), &by_key), Ok((run, CancelState::Cancelled)));
    assert_eq!(shard.cancel(at(0), &user("ann"), &RunRef::Id(run)), Ok((run, CancelState::Ended)));
    assert_consistent(&shard);
}

#[test]
fn a_cancellation_that_comes_after_the_end_says_so_as_long_as_the_run_is_known() {
    let limits = Limits { runs_per_user: 1, dedup_window: Duration::from_secs(60), ..Limits::default() };
    let mut shard = shard(limits);
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    attach(&mut shard, at(0), "bob", 2, None).unwrap();
    let end = || RunEvent::Completed { final_response: None, result: None };
    shard.message(at(0), message("ann", 1, "m", Some("k"), 7 << 32));
    let start = super::RunStart { request: Some(asked(&drain(&mut shard))), ..run_start("ann", 0) };
    let run = shard.start_run(at(0), start).unwrap().run;
    drain(&mut shard);
    shard.run_event(at(0), &user("ann"), run, end()).unwrap();
    drain(&mut shard);
    let by_key = RunRef::Key(IdempotencyKey::new("k").unwrap());
    for target in [&RunRef::Id(run), &by_key] {
        assert_eq!(shard.cancel(at(60 * MICROS - 1), &user("ann"), target), Ok((run, CancelState::Ended)));
        assert!(shard.cancel(at(60 * MICROS), &user("ann"), target).is_err(), "{target:?}: the window is over");
        assert!(shard.cancel(at(0), &user("bob"), target).is_err(), "{target:?}: another user's");
    }
    // One more than are remembered: by its id it is forgotten, by its key it is not.
    let next = shard.start_run(at(0), run_start("ann", 8 << 32)).unwrap().run;
    drain(&mut shard);
    shard.run_event(at(0), &user("ann"), next, end()).unwrap();
    drain(&mut shard);
    assert!(shard.cancel(at(0), &user("ann"), &RunRef::Id(run)).is_err());
    assert_eq!(shard.cancel(at(0), &user("ann"), &by_key), Ok((run, CancelState::Ended)));
    assert_eq!(shard.cancel(at(0), &user("ann"), &RunRef::Id(next)), Ok((next, CancelState::Ended)));
}

#[test]
fn repeats_that_wait_for_one_answer_are_bounded() {
    let mut shard = shard(Limits::default());
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    for n in 0..16 {
        shard.message(at(0), message("ann", 1, &n.to_string(), Some("k"), 7));
        assert_eq!(drain(&mut shard).len(), usize::from(n == 0));
    }
    shard.message(at(0), message("ann", 1, "16", Some("k"), 7));
    assert_eq!(drain(&mut shard), [Told::Reply(1, "16".into(), Some("busy".into()))]);
}

#[test]
fn an_answer_goes_to_who_asked_and_a_second_one_to_nobody() {
    let mut shard = shard(Limits::default());
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    shard.command(at(0), command("c", 1, None));
    let request = asked(&drain(&mut shard));
    assert!(!shard.answer(at(0), &user("bob"), request, done()), "another user's");
    assert!(shard.answer(at(0), &user("ann"), request, done()));
    assert_eq!(drain(&mut shard), [Told::Reply(1, "c".into(), None)]);
    assert!(!shard.answer(at(0), &user("ann"), request, done()));
    assert!(drain(&mut shard).is_empty());
}

#[test]
fn a_cancellation_reaches_the_producer_of_an_open_run_and_withdraws_a_waiting_one() {
    let mut shard = shard(Limits::default());
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    let run = shard.start_run(at(0), run_start("ann", 7)).unwrap().run;
    drain(&mut shard);
    let cancelled = shard.cancel(at(0), &user("ann"), &RunRef::Id(run));
    assert_eq!(cancelled, Ok((run, CancelState::Requested)));
    assert_eq!(drain(&mut shard), [Told::Cancel(900)]);
    assert!(shard.cancel(at(0), &user("bob"), &RunRef::Id(run)).is_err());
    assert!(shard.cancel(at(0), &user("ann"), &RunRef::Id(RunId::from_bits(1))).is_err());
    shard.message(at(0), message("ann", 1, "m", Some("k"), 8));
    asked(&drain(&mut shard));
    let key = RunRef::Key(IdempotencyKey::new("k").unwrap());
    assert!(matches!(shard.cancel(at(0), &user("ann"), &key), Ok((_, CancelState::Cancelled))));
    assert_eq!(drain(&mut shard), [Told::Reply(1, "m".into(), Some("refused".into()))]);
    assert!(shard.cancel(at(0), &user("bob"), &key).is_err());
    assert_consistent(&shard);
}

#[test]
fn a_parent_is_an_open_run_of_the_same_user_and_its_end_is_not_its_childrens() {
    let mut shard = shard(Limits::default());
    let child = |name, parent, random| super::RunStart { parent: Some(parent), ..run_start(name, random) };
    let nobody = RunId::from_bits(1);
    assert_eq!(
        shard.start_run(at(0), child("ann", nobody, 1 << 32)).unwrap_err(),
        RunError::NoParent { parent: nobody }
    );
    assert_eq!(shard.counts().users, 0, "nothing is made for it");
    let parent = shard.start_run(at(0), run_start("ann", 7 << 32)).unwrap().run;
    shard.start_run(at(0), run_start("bob", 8)).unwrap();
    assert_eq!(shard.start_run(at(0), child("bob", parent, 9 << 32)).unwrap_err(), RunError::NoParent { parent });
    let run = shard.start_run(at(0), child("ann", parent, 10 << 32)).unwrap().run;
    let end = || RunEvent::Completed { final_response: None, result: None };
    shard.run_event(at(0), &user("ann"), parent, end()).unwrap();
    assert_eq!(shard.start_run(at(0), child("ann", parent, 11 << 32)).unwrap_err(), RunError::NoParent { parent });
    shard.run_event(at(0), &user("ann"), run, end()).unwrap();
    drain(&mut shard);
    assert_consistent(&shard);
}

#[test]
fn an_event_that_is_refused_leaves_no_trace() {
    let mut shard = shard(Limits { event_bytes: 400, ..Limits::default() });
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    let run = shard.start_run(at(0), run_start("ann", 7)).unwrap().run;
    drain(&mut shard);
    let before = format!("{shard:?}");
    let long = "x".repeat(400);
    let thinking = RunEvent::Thinking { thought: long.clone(), step: None, progress: None };
    assert!(matches!(shard.run_event(at(0), &user("ann"), run, thinking), Err(RunError::TooLarge { .. })));
    let custom = Custom { thread: None, name: "n".into(), key: None };
    let data = to_raw_value(&long).unwrap();
    assert!(matches!(shard.publish(at(0), &user("ann"), custom, data), Err(RunError::TooLarge { .. })));
    assert!(
        shard.run_event(at(0), &user("bob"), run, RunEvent::Completed { final_response: None, result: None }).is_err()
    );
    assert!(drain(&mut shard).is_empty());
    assert_eq!(format!("{shard:?}"), before);
}

#[test]
fn so_many_runs_are_open_in_all_and_an_end_makes_room() {
    let mut shard = shard(Limits { runs: 2, ..Limits::default() });
    let first = shard.start_run(at(0), run_start("ann", 1)).unwrap().run;
    drain(&mut shard);
    shard.start_run(at(0), run_start("bob", 2)).unwrap();
    drain(&mut shard);
    assert_eq!(shard.start_run(at(0), run_start("carol", 3)), Err(RunError::Full { max: 2 }));
    assert_consistent(&shard);
    shard.run_event(at(0), &user("ann"), first, RunEvent::Completed { final_response: None, result: None }).unwrap();
    drain(&mut shard);
    shard.start_run(at(0), run_start("carol", 3)).unwrap();
    drain(&mut shard);
    assert_consistent(&shard);
}
