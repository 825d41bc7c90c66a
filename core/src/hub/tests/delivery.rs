//! Order, resume, devices, isolation.

use super::harness::{World, ident, thread};
use crate::client::ClientEvent;
use crate::hub::{Run, RunOptions};
use crate::id::PartId;
use crate::limits::Limits;
use crate::protocol::{EventBody, EventKind, Mode, Position, Receipt, RunStatus, ServerFrame};

fn start(world: &World, user: &str) -> Run {
    world.hub.start_run(&ident(user), thread("t"), RunOptions::named("assistant")).unwrap()
}

fn golden(run: &Run) {
    run.thinking("Adding.").unwrap();
    let call = run.tool("calculator", &serde_json::json!({"expression": "2*(3+4)"})).unwrap();
    call.completed(&14).unwrap();
    run.delta("It is ").unwrap();
    run.delta("14.").unwrap();
    run.completed(Some("It is 14.".into())).unwrap();
}

const GOLDEN: [EventKind; 7] = [
    EventKind::AgentStarted,
    EventKind::AgentThinking,
    EventKind::ToolExecuting,
    EventKind::ToolCompleted,
    EventKind::AgentDelta,
    EventKind::AgentDelta,
    EventKind::AgentCompleted,
];

#[test]
fn the_first_frame_is_the_welcome_and_names_the_stream() {
    let world = World::new();
    let mut ann = world.device("ann");
    let events = ann.events();
    let [ClientEvent::Welcome(welcome)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(welcome.user_id, "ann");
    assert_eq!(welcome.streams[0].mode, Mode::Live);
    assert!(welcome.streams[0].event_id.epoch > 0);
    assert_eq!(welcome.expires_in, 3600.0);
}

#[test]
fn two_devices_see_the_same_sequence_and_another_user_nothing() {
    let world = World::new();
    let (mut phone, mut laptop, mut bob) = (world.device("ann"), world.device("ann"), world.device("bob"));
    let run = start(&world, "ann");
    golden(&run);
    let seen = phone.stream();
    assert_eq!(seen, laptop.stream());
    assert_eq!(seen.iter().map(|event| event.body.kind()).collect::<Vec<_>>(), GOLDEN);
    assert!(seen.windows(2).all(|pair| pair[1].position.seq == pair[0].position.seq + 1));
    assert!(seen.iter().zip(1..).all(|(event, n)| event.run_seq == Some(n) && event.run_id == Some(run.id())));
    assert_eq!(bob.stream(), []);
    let view = &phone.client.reducer().runs()[&run.id()];
    assert_eq!(view.status, RunStatus::Completed);
    assert_eq!(view.parts[&PartId::new("answer").unwrap()].text, "It is 14.");
}

#[test]
fn a_device_that_drops_mid_run_and_resumes_has_every_event_once() {
    let world = World::new();
    let mut steady = world.device("ann");
    let mut flaky = world.device("ann");
    let run = start(&world, "ann");
    run.thinking("one").unwrap();
    let mut seen = flaky.stream();
    let (position, session) = (flaky.client.position(), flaky.client.session());
    flaky.cut();
    run.thinking("two").unwrap();
    run.completed(None).unwrap();
    let mut back = world.resuming("ann", position, session);
    let events = back.events();
    let ClientEvent::Welcome(welcome) = &events[0] else { panic!("{events:?}") };
    assert_eq!((welcome.streams[0].mode, Some(welcome.session_id)), (Mode::Replay, session));
    seen.extend(events.into_iter().filter_map(|event| if let ClientEvent::Event(e) = event { Some(*e) } else { None }));
    assert_eq!(seen, steady.stream());
}

#[test]
fn a_client_that_never_had_an_event_can_resume_twice() {
    let world = World::new();
    let mut first = world.device("ann");
    let position = first.client.position();
    first.cut();
    let mut second = world.resuming("ann", position, None);
    assert_eq!(second.client.position(), position);
    second.cut();
    let mut third = world.resuming("ann", position, None);
    golden(&start(&world, "ann"));
    assert_eq!(third.kinds(), GOLDEN);
}

#[test]
fn a_position_that_fell_out_of_the_log_is_answered_by_what_is_lost_and_the_rest() {
    let world = World::with(Limits { log_entries: 4, ..Limits::default() });
    let mut ann = world.device("ann");
    let start_position = ann.client.position().unwrap();
    ann.cut();
    golden(&start(&world, "ann"));
    let mut back = world.resuming("ann", Some(start_position), None);
    let events = back.events();
    let ClientEvent::Welcome(welcome) = &events[0] else { panic!("{events:?}") };
    let entry = &welcome.streams[0];
    let lost = entry.lost.unwrap();
    assert_eq!((entry.mode, lost.from, lost.to, lost.to.seq), (Mode::Snapshot, start_position, entry.event_id, 3));
    assert_eq!(events.len(), 1 + 1 + 4, "the welcome, the state at the position, and the tail");
    assert_eq!(back.client.reducer().runs().values().next().unwrap().tools.len(), 1, "the call began before the log");
}

#[test]
fn a_position_of_another_incarnation_is_never_given_a_new_meaning() {
    let world = World::new();
    golden(&start(&world, "ann"));
    let old = Position { epoch: 5, seq: 3 };
    let mut ann = world.resuming("ann", Some(old), None);
    let events = ann.events();
    let ClientEvent::Welcome(welcome) = &events[0] else { panic!("{events:?}") };
    assert_eq!(welcome.streams[0].mode, Mode::Reset);
    assert_eq!(welcome.streams[0].lost.unwrap().from, old);
    assert_eq!(events.len(), 1 + GOLDEN.len());
}

#[test]
fn a_stream_that_begins_anew_has_a_higher_epoch() {
    let world = World::new();
    let mut ann = world.device("ann");
    let before = ann.client.position().unwrap();
    ann.cut();
    world.sleep(Limits::default().log_retention, &mut []);
    assert_eq!(world.hub.counts().users, 0, "nobody is kept beyond the retention");
    let again = world.device("ann");
    assert!(again.client.position().unwrap().epoch > before.epoch);
}

#[test]
fn live_events_never_overtake_the_replay() {
    let world = World::with(Limits { lag_entries: 10_000, ..Limits::default() });
    let run = start(&world, "ann");
    for n in 0..500 {
        run.delta(format!("{n} ")).unwrap();
    }
    // The client verifies that each frame follows the one before.
    let mut ann = world.resuming("ann", Some(Position::NONE), None);
    run.completed(None).unwrap();
    let seen = ann.stream();
    assert_eq!((seen.len(), ann.fault()), (502, None));
    assert!(matches!(seen[501].body, EventBody::AgentCompleted { .. }));
}

#[test]
fn a_receipt_says_how_many_devices_or_that_it_is_stored() {
    let world = World::new();
    let run = start(&world, "ann");
    assert_eq!(run.thinking("alone").unwrap(), Receipt::Stored);
    let _phone = world.device("ann");
    let mut laptop = world.device("ann");
    assert_eq!(run.thinking("two").unwrap(), Receipt::DeliveredTo(2));
    laptop.cut();
    assert_eq!(run.thinking("one").unwrap(), Receipt::DeliveredTo(1));
}

#[test]
fn an_event_of_the_applications_own_arrives_as_custom() {
    let world = World::new();
    let mut ann = world.device("ann");
    world.hub.publish(&ident("ann"), None, "badge", &serde_json::json!({"count": 3})).unwrap();
    let seen = ann.stream();
    assert!(
        matches!(&seen[0].body, EventBody::Custom { name, data } if name == "badge" && data.get() == r#"{"count":3}"#)
    );
}

#[test]
fn an_event_over_the_limit_is_refused_and_the_run_goes_on() {
    let world = World::with(Limits { event_bytes: 1_000, ..Limits::default() });
    let run = start(&world, "ann");
    let error = run.delta("x".repeat(1_000)).unwrap_err();
    assert!(matches!(error, crate::stream::RunError::TooLarge { max: 1_000, .. }), "{error}");
    run.delta("y").unwrap();
    let mut ann = world.resuming("ann", Some(Position::NONE), None);
    let seen = ann.stream();
    assert!(matches!(&seen[1].body, EventBody::AgentDelta { offset: 0, .. }), "what was refused left no trace");
}

#[test]
fn a_run_that_is_dropped_ends_as_producer_lost_and_once() {
    let world = World::new();
    let mut ann = world.device("ann");
    drop(start(&world, "ann"));
    golden(&start(&world, "ann"));
    let kinds = ann.kinds();
    assert_eq!(kinds[..2], [EventKind::AgentStarted, EventKind::AgentFailed]);
    assert_eq!(kinds[2..], GOLDEN);
    assert_eq!(world.hub.counts().runs, 0);
}

#[test]
fn nothing_follows_a_terminal_event() {
    let world = World::new();
    let run = start(&world, "ann");
    let call = run.tool("t", &()).unwrap();
    run.failed("broken").unwrap();
    assert_eq!(run.delta("late"), Err(crate::stream::RunError::Ended));
    assert_eq!(call.completed(&1), Err(crate::stream::RunError::Ended));
    assert_eq!(run.completed(None), Err(crate::stream::RunError::Ended));
}

#[test]
fn the_users_of_two_tenants_with_one_name_are_two() {
    let world = World::new();
    let acme = crate::id::UserId::new(Some("acme"), "ann").unwrap();
    let token = world.token(&acme, std::time::Duration::from_secs(60));
    let mut theirs = world.connect(token, None, None);
    let mut ours = world.device("ann");
    golden(&start(&world, "ann"));
    assert_eq!(theirs.stream(), []);
    assert_eq!(ours.kinds(), GOLDEN);
}

#[test]
fn one_share_of_the_log_bytes_is_kept_by_shedding_from_whoever_is_above_the_fair_part() {
    let limits = Limits { total_log_bytes: 64 << 10, log_bytes: 64 << 10, ..Limits::default() };
    let world = World::sharded(limits, 1);
    let mut quiet = world.device("quiet");
    quiet.cut();
    world.hub.publish(&ident("quiet"), None, "one", &1).unwrap();
    for n in 0..2_000 {
        world.hub.publish(&ident("loud"), None, "n", &n).unwrap();
    }
    let counts = world.hub.counts();
    assert!(counts.log_bytes <= 64 << 10, "{counts:?}");
    let mut back = world.resuming("quiet", Some(Position::NONE), None);
    assert_eq!(back.kinds(), [EventKind::Custom], "another's load shed nothing of this log");
}

#[test]
fn a_ping_of_the_protocol_is_answered() {
    let world = World::new();
    let mut ann = world.device("ann");
    ann.events();
    ann.send(&crate::protocol::ClientFrame::Ping { id: Some(super::harness::frame_id("p")) });
    let events = ann.events();
    assert!(matches!(&events[..], [ClientEvent::Frame(frame)] if matches!(**frame, ServerFrame::Pong { .. })));
}
