//! Readers that are slow, late, or behind their log.

use std::sync::Arc as Shared;
use std::task::{Wake, Waker};

use super::harness::{Pair, World, ident, thread};
use crate::client::ClientEvent;
use crate::drive::Machine;
use crate::hub::{Hub, Run, RunOptions};
use crate::id::PartId;
use crate::limits::Limits;
use crate::protocol::{EventBody, EventKind, Lost, Mode, Position, ServerFrame};

fn start(world: &World) -> Run {
    world.hub.start_run(&ident("ann"), thread("t"), RunOptions::named("assistant")).unwrap()
}

/// The socket takes nothing, but the session is told of everything.
fn told(pair: &mut Pair, world: &World) -> usize {
    let session = pair.session.as_mut().unwrap();
    session.poll_ready(world.now(), Waker::noop());
    session.transmit().len()
}

fn frames(events: &[ClientEvent]) -> impl Iterator<Item = &ServerFrame> {
    events.iter().filter_map(|event| if let ClientEvent::Frame(frame) = event { Some(&**frame) } else { None })
}

#[test]
fn a_reader_that_takes_nothing_holds_no_more_than_its_share_and_catches_up_to_the_same_text() {
    let world = World::new();
    let (mut slow, mut fast) = (world.device("ann"), world.device("ann"));
    let run = start(&world);
    for n in 0..2_000 {
        run.delta(format!("word {n} ")).unwrap();
        assert!(told(&mut slow, &world) < 100_000);
        fast.pump();
        if n % 500 == 0 {
            fast.events();
        }
    }
    run.completed(None).unwrap();
    fast.pump();
    let events = slow.events();
    assert_eq!((slow.fault(), fast.fault()), (None, None));
    assert_eq!(slow.client.reducer(), fast.client.reducer());
    assert_eq!(slow.client.position(), fast.client.position());
    assert!(events.len() < 1_500, "text was merged: {} frames", events.len());
    let lag: Vec<_> = frames(&events)
        .filter_map(|frame| if let ServerFrame::Lag { merging, .. } = frame { Some(*merging) } else { None })
        .collect();
    assert_eq!(lag, [true, false], "said when it begins and when it ends");
}

#[test]
fn merging_keeps_lifecycle_events_apart_and_in_order_across_runs() {
    let world = World::with(Limits { lag_entries: 4, ..Limits::default() });
    let mut ann = world.device("ann");
    ann.events();
    let position = ann.client.position();
    ann.cut();
    let (a, b) = (start(&world), start(&world));
    for n in 0..20 {
        a.delta(format!("a{n} ")).unwrap();
        b.delta(format!("b{n} ")).unwrap();
    }
    a.thinking("between").unwrap();
    for n in 20..40 {
        b.delta(format!("b{n} ")).unwrap();
        a.delta(format!("a{n} ")).unwrap();
    }
    a.completed(None).unwrap();
    b.completed(None).unwrap();
    let mut back = world.resuming("ann", position, None);
    let events = back.events();
    let names: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            ClientEvent::Event(event) => Some(event.body.kind().as_str()),
            ClientEvent::Frame(frame) => Some(frame.type_name()),
            ClientEvent::Welcome(_) => None,
        })
        .collect();
    let expected = [
        "lag",
        "agent_started",
        "agent_started",
        "agent_deltas",
        "agent_thinking",
        "agent_deltas",
        "agent_completed",
        "agent_completed",
        "lag",
    ];
    assert_eq!(names, expected);
    let text = |run: &Run| back.client.reducer().runs()[&run.id()].parts[&PartId::new("answer").unwrap()].text.clone();
    let said = |name: &str| (0..40).map(|n| format!("{name}{n} ")).collect::<String>();
    assert_eq!((text(&a), text(&b)), (said("a"), said("b")));
}

#[test]
fn a_merged_window_is_the_same_state_as_its_events() {
    let steps = [3_usize, 7, 40, 300];
    for entries in steps {
        let merged = World::with(Limits { lag_entries: 1, ..Limits::default() });
        let plain = World::with(Limits { lag_entries: 100_000, ..Limits::default() });
        let view = |world: &World| {
            let run = start(world);
            for n in 0..entries {
                run.delta(format!("né🙂{n}\"\\ ")).unwrap();
                if n % 50 == 49 {
                    run.thinking("pause").unwrap();
                }
            }
            let mut ann = world.resuming("ann", Some(Position::NONE), None);
            ann.events();
            (ann.fault().cloned(), ann.client.reducer().clone(), ann.client.position().unwrap().seq)
        };
        assert_eq!(view(&merged), view(&plain));
    }
}

#[test]
fn a_device_that_joins_during_a_run_gets_its_state_and_the_tail() {
    let world = World::new();
    let mut first = world.device("ann");
    let run = start(&world);
    let call = run.tool("t", &1).unwrap();
    run.delta("one ").unwrap();
    let mut late = world.device("ann");
    call.completed(&2).unwrap();
    run.delta("two").unwrap();
    run.completed(None).unwrap();
    let events = late.events();
    let ClientEvent::Welcome(welcome) = &events[0] else { panic!("{events:?}") };
    assert_eq!(welcome.streams[0].mode, Mode::Snapshot);
    let Some(ServerFrame::Snapshot(snapshot)) = frames(&events).next() else { panic!("{events:?}") };
    assert_eq!(snapshot.lost, None, "it has lost nothing");
    first.events();
    assert_eq!(late.client.reducer(), first.client.reducer());
    // With nothing open, a new device begins at the end.
    let mut after = world.device("ann");
    assert_eq!(after.events().len(), 1);
}

#[test]
fn a_live_reader_that_leaves_its_log_behind_gets_a_snapshot_and_the_tail() {
    let world = World::with(Limits { log_entries: 8, ..Limits::default() });
    let (mut ann, mut fast) = (world.device("ann"), world.device("ann"));
    ann.events();
    let run = start(&world);
    for n in 0..40 {
        run.thinking(format!("thought {n}")).unwrap();
        run.delta(format!("{n} ")).unwrap();
        fast.events();
    }
    let known = ann.client.position().unwrap();
    let events = ann.events();
    assert_eq!((ann.fault(), ann.closed_with()), (None, None));
    let Some(ServerFrame::Snapshot(first)) = frames(&events).next() else { panic!("{events:?}") };
    assert_eq!(first.lost, Some(Lost { from: known, to: first.event_id }), "and says what is gone");
    run.completed(None).unwrap();
    assert_eq!(ann.kinds(), [EventKind::AgentCompleted]);
    fast.events();
    assert_eq!(ann.client.reducer(), fast.client.reducer());
}

#[test]
fn a_large_state_comes_in_several_frames_of_bounded_size() {
    let world = World::with(Limits { log_entries: 8, ..Limits::default() });
    let (mut ann, mut fast) = (world.device("ann"), world.device("ann"));
    let run = start(&world);
    for n in 0..20 {
        run.delta("x".repeat(20_000)).unwrap();
        run.thinking(format!("{n}")).unwrap();
        fast.events();
    }
    let events = ann.events();
    let sizes: Vec<usize> = frames(&events)
        .filter(|frame| matches!(frame, ServerFrame::Snapshot(_)))
        .map(|frame| frame.encode().len())
        .collect();
    assert!(sizes.len() > 3 && sizes.iter().all(|size| *size <= 64 << 10), "{sizes:?}");
    assert_eq!(ann.client.reducer(), fast.client.reducer());
}

#[test]
fn a_text_over_the_bound_loses_its_beginning_and_says_so() {
    let world = World::with(Limits { log_entries: 8, snapshot_bytes: 50_000, ..Limits::default() });
    let run = start(&world);
    for _ in 0..20 {
        run.delta("x".repeat(20_000)).unwrap();
        run.thinking("y").unwrap();
    }
    run.delta("end").unwrap();
    let mut ann = world.device("ann");
    ann.events();
    let part = &ann.client.reducer().runs()[&run.id()].parts[&PartId::new("answer").unwrap()];
    assert!(part.start > 0 && part.text.ends_with("xend"));
    assert_eq!(part.end, 400_003);
    assert_eq!(part.text.chars().count() as u64, part.end - part.start);
}

#[test]
fn a_joined_piece_that_a_reader_knows_in_part_is_applied_once() {
    let world = World::with(Limits { log_entries: 100, lag_entries: 10_000, ..Limits::default() });
    let mut ann = world.device("ann");
    let run = start(&world);
    for n in 0..50 {
        run.delta(format!("{n} ")).unwrap();
    }
    ann.events();
    let (position, session) = (ann.client.position(), ann.client.session());
    let known = ann.client.reducer().clone();
    ann.cut();
    for n in 50..200 {
        run.delta(format!("{n} ")).unwrap();
    }
    let mut back = world.resuming("ann", position, session);
    let events = back.events();
    let ClientEvent::Event(first) = &events[1] else { panic!("{events:?}") };
    assert_eq!(first.follows(), position.unwrap().seq, "it follows the position, whatever it repeats");
    let EventBody::AgentDelta { offset, .. } = &first.body else { panic!("another kind") };
    assert!(known.runs()[&run.id()].parts.values().next().unwrap().end >= *offset);
    assert_eq!(back.fault(), None);
}

#[test]
fn a_large_snapshot_waits_for_the_socket_and_leaves_room_for_replies() {
    let world = World::with(Limits { log_entries: 8, ..Limits::default() });
    let run = start(&world);
    for n in 0..40 {
        run.delta("x".repeat(20_000)).unwrap();
        run.thinking(format!("{n}")).unwrap();
    }
    let mut late = world.device("ann");
    assert_eq!(late.fault(), None);
    let session = late.session.as_mut().unwrap();
    assert!(session.wants_read());
    late.send(&crate::protocol::ClientFrame::CancelRun {
        id: super::harness::frame_id("c"),
        target: crate::protocol::RunRef::Id(run.id()),
    });
    let parts = &late.client.reducer().runs()[&run.id()].parts;
    assert_eq!(parts.values().next().unwrap().text.len(), 800_000);
    assert_eq!(late.replies().len(), 1);
}

#[test]
fn what_a_full_socket_is_owed_never_exceeds_the_gate_of_replies() {
    let world = World::with(Limits { log_entries: 64, lag_entries: 4, ..Limits::default() });
    let mut ann = world.device("ann");
    ann.events();
    let run = start(&world);
    let gate = (32 << 10) + world.hub.limits().event_bytes + world.hub.limits().control_bytes;
    for n in 0..200 {
        // Neither mergeable nor small, so that one read has more than the socket's share.
        run.thinking("y".repeat(30_000)).unwrap();
        run.delta(format!("{n}")).unwrap();
        assert!(told(&mut ann, &world) < gate, "replies would have no room");
        assert!(ann.session.as_ref().unwrap().wants_read());
    }
    ann.events();
    assert_eq!(ann.fault(), None);
}

#[test]
fn many_thoughts_make_no_large_frame() {
    let world = World::with(Limits { log_entries: 8, ..Limits::default() });
    let run = start(&world);
    for n in 0..40 {
        run.thinking("x".repeat(10_000)).unwrap();
        run.delta(format!("{n}")).unwrap();
    }
    let mut ann = world.device("ann");
    let events = ann.events();
    let snapshots = frames(&events).filter(|frame| matches!(frame, ServerFrame::Snapshot(_)));
    let sizes: Vec<usize> = snapshots.map(|frame| frame.encode().len()).collect();
    assert!(sizes.len() > 3 && sizes.iter().all(|size| *size <= 64 << 10), "{sizes:?}");
}

#[test]
fn the_snapshots_that_are_given_are_bounded_in_all_and_whoever_finds_no_room_waits() {
    let limits =
        Limits { log_entries: 8, snapshot_bytes: 64 << 10, total_snapshot_bytes: 100 << 10, ..Limits::default() };
    let world = World::with(limits);
    let run = start(&world);
    for n in 0..20 {
        run.delta("x".repeat(2_000)).unwrap();
        run.thinking(format!("{n}")).unwrap();
    }
    // As much as the snapshots of others take.
    let taken = world.hub.inner.snapshots.lease(80 << 10).unwrap();
    let mut late = world.device("ann");
    let first = late.events();
    assert!(matches!(first[..], [ClientEvent::Welcome(_)]), "nothing comes before the snapshot: {first:?}");
    run.thinking("one more").unwrap();
    assert_eq!(late.events(), []);
    drop(taken);
    world.sleep(std::time::Duration::from_millis(100), &mut [&mut late]);
    let parts = &late.client.reducer().runs()[&run.id()].parts;
    assert_eq!(parts.values().next().unwrap().text.len(), 40_000);
    assert_eq!(late.fault(), None);
    late.events();
    assert_eq!(world.hub.inner.snapshots.used(), 0, "what was given takes no room");
    let mut live = world.device("ann");
    live.events();
    let _all = world.hub.inner.snapshots.lease(100 << 10).unwrap();
    run.thinking("and another").unwrap();
    assert_eq!(live.kinds().len(), 1, "who needs no snapshot does not wait");
}

/// Publishes as soon as it is woken, which is between two looks of whoever wakes it.
struct Publishing(Hub);

impl Wake for Publishing {
    fn wake(self: Shared<Self>) {
        for n in 0..20 {
            self.0.publish(&ident("ann"), None, "note", &n).unwrap();
        }
    }
}

#[test]
fn what_is_shed_between_the_welcome_and_its_snapshot_is_told_as_lost() {
    let world = World::with(Limits { log_entries: 8, ..Limits::default() });
    let mut old = world.device("ann");
    let run = start(&world);
    for n in 0..20 {
        run.thinking(format!("{n}")).unwrap();
    }
    old.events();
    let waker = Waker::from(Shared::new(Publishing(world.hub.clone())));
    old.session.as_mut().unwrap().poll_ready(world.now(), &waker);
    // To be superseded is what wakes it.
    let mut back = world.resuming("ann", Some(Position::NONE), old.client.session());
    let events = back.events();
    let ClientEvent::Welcome(welcome) = &events[0] else { panic!("{events:?}") };
    let welcomed = welcome.streams[0].event_id;
    let Some(ServerFrame::Snapshot(snapshot)) = frames(&events).next() else { panic!("{events:?}") };
    assert!(snapshot.event_id.seq > welcomed.seq, "the log has gone on");
    assert_eq!(snapshot.lost, Some(Lost { from: welcomed, to: snapshot.event_id }));
    assert_eq!(back.fault(), None);
}
