//! Devices that watch some threads: what they are given, and how their clients move over what is hidden.

mod properties;

use std::task::Waker;
use std::time::Duration;

use super::harness::{Pair, World, frame_id, ident, thread};
use crate::auth::fake::FakeKeys;
use crate::auth::{ClaimRules, NewToken};
use crate::client::{ClientConfig, ClientEvent};
use crate::drive::Machine;
use crate::hub::{Run, RunOptions};
use crate::id::{ThreadId, TopicId, TopicName};
use crate::limits::Limits;
use crate::protocol::{ClientFrame, Event, EventBody, Mode, Position, ServerFrame, StreamName};

fn start(world: &World, user: &str, name: &str) -> Run {
    world.hub.start_run(&ident(user), thread(name), RunOptions::named("a")).unwrap()
}

fn note(world: &World, user: &str, name: Option<&str>) {
    world.hub.publish(&ident(user), name.map(thread), "note", &1).unwrap();
}

fn watching(world: &World, user: &str, threads: &[&str], resume: Option<Position>) -> Pair {
    let threads: Vec<ThreadId> = threads.iter().map(|name| thread(name)).collect();
    world.watching(user, &threads, resume)
}

/// What came, each as the seqs it covers: `(prev, seq]`, and what kind of frame it is.
fn spans(pair: &mut Pair) -> Vec<(u64, u64, &'static str)> {
    let span = |event| match event {
        ClientEvent::Event(event) => Some((event.follows(), event.position.seq, event.body.kind().as_str())),
        ClientEvent::Frame(frame) => match *frame {
            ServerFrame::Position { prev, event_id, .. } => Some((prev, event_id.seq, "position")),
            ServerFrame::Deltas(window) => Some((window.prev, window.position.seq, "agent_deltas")),
            _ => None,
        },
        ClientEvent::Welcome(_) => None,
    };
    pair.events().into_iter().filter_map(span).collect()
}

#[test]
fn hidden_events_leave_no_frame_and_the_next_one_follows_the_clients_position() {
    let world = World::new();
    let mut ann = watching(&world, "ann", &["a"], None);
    for name in ["a", "b", "b", "c", "a"] {
        note(&world, "ann", Some(name));
    }
    note(&world, "ann", None);
    assert_eq!(spans(&mut ann), [(0, 1, "custom"), (1, 5, "custom"), (5, 6, "custom")]);
    for name in ["b", "c", "b"] {
        note(&world, "ann", Some(name));
    }
    assert_eq!(spans(&mut ann), [(6, 9, "position")], "one for the tail");
    note(&world, "ann", Some("a"));
    assert_eq!(spans(&mut ann), [(9, 10, "custom")]);
    assert_eq!(ann.fault(), None);
}

#[test]
fn after_a_frame_that_only_moves_the_client_on_the_next_waits_for_its_time() {
    let world = World::new();
    let interval = world.hub.limits().position_interval;
    let mut ann = watching(&world, "ann", &["a"], None);
    note(&world, "ann", Some("b"));
    assert_eq!(spans(&mut ann), [(0, 1, "position")], "the first at once");
    for _ in 0..5 {
        note(&world, "ann", Some("b"));
        assert_eq!(spans(&mut ann), []);
    }
    world.sleep(interval - Duration::from_micros(1), &mut [&mut ann]);
    assert_eq!(spans(&mut ann), []);
    assert_eq!(ann.session.as_ref().unwrap().poll_timeout(), Some(world.now().at + Duration::from_micros(1)));
    world.sleep(Duration::from_micros(1), &mut [&mut ann]);
    assert_eq!(spans(&mut ann), [(1, 6, "position")]);
    world.sleep(interval, &mut [&mut ann]);
    assert_eq!(spans(&mut ann), [], "nothing is hidden: nothing is told");
    // What is shown needs no other frame.
    note(&world, "ann", Some("b"));
    note(&world, "ann", Some("a"));
    assert_eq!(spans(&mut ann), [(6, 8, "custom")]);
    world.sleep(interval, &mut [&mut ann]);
    assert_eq!(spans(&mut ann), []);
}

#[test]
fn many_hidden_events_move_the_client_on_before_their_time() {
    let world = World::new();
    let mut ann = watching(&world, "ann", &["a"], None);
    note(&world, "ann", Some("b"));
    assert_eq!(spans(&mut ann).len(), 1);
    for n in 1..=600_u64 {
        note(&world, "ann", Some("b"));
        let expected: &[_] = match n {
            256 => &[(1, 257, "position")],
            512 => &[(257, 513, "position")],
            _ => &[],
        };
        assert_eq!(spans(&mut ann), expected, "{n}");
    }
}

#[test]
fn a_long_hidden_replay_is_read_in_bounded_rounds_and_ends_at_the_head() {
    let world = World::new();
    for _ in 0..1_000 {
        note(&world, "ann", Some("b"));
    }
    let mut ann = watching(&world, "ann", &["a"], Some(Position::NONE));
    let moves = spans(&mut ann);
    // A round ends with the read that reaches the bound, and one read takes as much again at most.
    assert!(moves.len() <= 5 && moves.iter().all(|(prev, seq, _)| seq - prev < 512), "{moves:?}");
    assert_eq!(ann.client.position().map(|at| at.seq), Some(1_000));
}

#[test]
fn what_is_shown_after_much_that_is_hidden_comes_without_anything_else() {
    let world = World::new();
    let mut ann = watching(&world, "ann", &["a"], None);
    ann.events();
    for _ in 0..1_000 {
        note(&world, "ann", Some("b"));
    }
    note(&world, "ann", Some("a"));
    assert_eq!(ann.stream().len(), 1);
    let session = ann.session.as_mut().unwrap();
    session.poll_ready(world.now(), Waker::noop());
    assert!(session.transmit().is_empty() && !session.goes_on_when_written());
}

#[test]
fn a_socket_that_is_full_is_not_asked_to_take_a_position_again_and_again() {
    let world = World::new();
    let mut ann = watching(&world, "ann", &["a"], None);
    ann.events();
    let (shown, hidden) = (start(&world, "ann", "a"), start(&world, "ann", "b"));
    ann.events();
    hidden.thinking("x").unwrap();
    for _ in 0..4 {
        shown.thinking("y".repeat(30_000)).unwrap();
        hidden.thinking("x").unwrap();
    }
    let session = ann.session.as_mut().unwrap();
    session.poll_ready(world.now(), Waker::noop());
    world.clock.turn(world.hub.limits().position_interval);
    let waits = session.transmit().len();
    assert!(session.poll_timeout().is_some_and(|at| at > world.now().at), "only the stall of the socket is timed");
    session.handle_timeout(world.now());
    assert_eq!(session.transmit().len(), waits);
    assert_eq!(spans(&mut ann).last(), Some(&(10, 11, "position")));
}

#[test]
fn a_merged_window_reaches_over_what_is_hidden() {
    let world = World::with(Limits { lag_entries: 4, ..Limits::default() });
    let (a, b) = (start(&world, "ann", "a"), start(&world, "ann", "b"));
    for n in 0..20 {
        a.delta(format!("a{n} ")).unwrap();
        b.delta(format!("b{n} ")).unwrap();
        b.thinking("between").unwrap();
    }
    a.completed(None).unwrap();
    b.completed(None).unwrap();
    let mut ann = watching(&world, "ann", &["a"], Some(Position::NONE));
    let expected =
        [(0, 1, "agent_started"), (1, 60, "agent_deltas"), (60, 63, "agent_completed"), (63, 64, "position")];
    assert_eq!(spans(&mut ann), expected);
    let said: String = (0..20).map(|n| format!("a{n} ")).collect();
    let runs = ann.client.reducer().runs();
    assert_eq!(runs.keys().collect::<Vec<_>>(), [&a.id()]);
    assert_eq!(runs[&a.id()].parts.values().next().unwrap().text, said);
}

#[test]
fn a_snapshot_has_only_runs_of_watched_threads() {
    let world = World::with(Limits { log_entries: 8, ..Limits::default() });
    let (a, b) = (start(&world, "ann", "a"), start(&world, "ann", "b"));
    for n in 0..20 {
        a.thinking(format!("a{n}")).unwrap();
        b.thinking(format!("b{n}")).unwrap();
    }
    for (threads, run) in [(["a"], &a), (["b"], &b)] {
        let mut ann = watching(&world, "ann", &threads, None);
        ann.events();
        assert_eq!(ann.client.reducer().runs().keys().collect::<Vec<_>>(), [&run.id()]);
        assert_eq!(ann.client.reducer().runs()[&run.id()].thoughts.len(), 20);
        assert_eq!(ann.client.position().map(|at| at.seq), Some(42));
    }
}

#[test]
fn a_run_of_another_thread_is_no_reason_for_a_snapshot() {
    let world = World::new();
    let _b = start(&world, "ann", "b");
    for (threads, mode) in [(&["a"][..], Mode::Live), (&["a", "b"], Mode::Snapshot), (&[], Mode::Snapshot)] {
        let mut ann = watching(&world, "ann", threads, None);
        let ClientEvent::Welcome(welcome) = &ann.events()[0] else { panic!("no welcome") };
        assert_eq!(welcome.streams[0].mode, mode, "{threads:?}");
    }
}

#[test]
fn a_sub_run_is_of_its_own_thread_and_not_of_its_parents() {
    let world = World::new();
    let mut ann = watching(&world, "ann", &["a"], None);
    let parent = start(&world, "ann", "a");
    let options = RunOptions { parent: Some(parent.id()), ..RunOptions::named("sub") };
    let elsewhere = world.hub.start_run(&ident("ann"), thread("b"), options.clone()).unwrap();
    let here = world.hub.start_run(&ident("ann"), thread("a"), options).unwrap();
    let events = ann.stream();
    let runs: Vec<_> = events.iter().filter_map(|event| event.run_id).collect();
    assert_eq!(runs, [parent.id(), here.id()]);
    let EventBody::AgentStarted { parent_run_id, .. } = &events[1].body else { panic!("another kind") };
    assert_eq!(*parent_run_id, Some(parent.id()));
    elsewhere.completed(None).unwrap();
    assert_eq!(ann.kinds(), []);
}

#[test]
fn a_position_says_how_far_the_stream_was_covered_for_its_filter() {
    let world = World::new();
    let mut ann = watching(&world, "ann", &["a"], None);
    for name in ["a", "b", "a"] {
        note(&world, "ann", Some(name));
    }
    assert_eq!(spans(&mut ann), [(0, 1, "custom"), (1, 3, "custom")]);
    let position = ann.client.position();
    ann.cut();
    note(&world, "ann", Some("b"));
    // More is watched from here on: what was hidden before stays so, unless it is asked for.
    let mut wider = watching(&world, "ann", &["a", "b"], position);
    assert_eq!(spans(&mut wider), [(3, 4, "custom")]);
    let mut all = watching(&world, "ann", &[], Some(Position::NONE));
    assert_eq!(spans(&mut all).len(), 4);
    let mut other = watching(&world, "ann", &["c"], position);
    assert_eq!(spans(&mut other), [(3, 4, "position")]);
}

/// A device that watches thread `a` and follows the topic `news`.
fn following(world: &World) -> (Pair, TopicId) {
    let name = TopicName::new("news").unwrap();
    let issuer = FakeKeys::new(super::harness::SECRET, ClaimRules::default()).unwrap();
    let user = ident("ann");
    let ttl = Duration::from_secs(60);
    let token = NewToken { user: &user, issued_at: world.now().unix, ttl, scope: "topic:*", token_id: None };
    let config = world.config(issuer.issue(&token).unwrap(), None, None);
    let mut ann = world.connect_with(ClientConfig { threads: vec![thread("a")], ..config });
    ann.send(&ClientFrame::Subscribe { id: frame_id("s"), topic: name.clone(), resume: None });
    ann.events();
    (ann, TopicId::new(None, name).unwrap())
}

#[test]
fn topics_are_not_filtered() {
    let world = World::new();
    let (mut ann, topic) = following(&world);
    for own in ["a", "b", "b"] {
        note(&world, "ann", Some(own));
        world.hub.publish_topic(&topic, "headline", &1).unwrap();
    }
    let seqs = |events: Vec<Event>| -> Vec<_> { events.iter().map(|e| (e.stream.clone(), e.position.seq)).collect() };
    let news = |seq| (StreamName::Topic(topic.name().clone()), seq);
    // The two positions have nothing to do with each other.
    assert_eq!(seqs(ann.stream()), [(StreamName::User, 1), news(1), news(2), news(3)]);
    world.hub.publish_topic(&topic, "headline", &1).unwrap();
    assert_eq!(seqs(ann.stream()), [news(4)]);
    assert_eq!(ann.fault(), None);
}

#[test]
fn a_topic_that_is_left_behind_leaves_the_own_streams_position_alone() {
    let world = World::with(Limits { log_entries: 4, ..Limits::default() });
    let (mut ann, topic) = following(&world);
    note(&world, "ann", Some("b"));
    assert_eq!(spans(&mut ann), [(0, 1, "position")]);
    note(&world, "ann", Some("b"));
    for _ in 0..10 {
        world.hub.publish_topic(&topic, "headline", &1).unwrap();
    }
    assert_eq!(spans(&mut ann).len(), 4, "what the topic still has");
    note(&world, "ann", Some("a"));
    assert_eq!(spans(&mut ann), [(1, 3, "custom")]);
    assert_eq!(ann.fault(), None);
}

#[test]
fn a_thread_of_two_owners_reaches_the_watching_devices_of_each_and_nobody_else() {
    // The thread is called as one of the users, too: it leads nowhere by itself.
    for name in ["t", "bob"] {
        let world = World::new();
        let mut devices = Vec::new();
        for user in ["ann", "bob", "eve"] {
            for threads in [vec![name], vec!["other"], vec![]] {
                let device = watching(&world, user, &threads, None);
                devices.push((user, threads, device));
            }
        }
        let runs = [start(&world, "ann", name), start(&world, "bob", name)];
        for (run, word) in runs.iter().zip(["to ann", "to bob"]) {
            run.thinking(word).unwrap();
        }
        note(&world, "ann", Some(name));
        for (user, threads, device) in &mut devices {
            let events = device.stream();
            assert!(events.iter().all(|event| event.user_id.as_deref() == Some(*user)));
            assert!(events.iter().all(|event| event.thread_id.as_ref().is_some_and(|of| of.as_str() == name)));
            let watches = threads.is_empty() || threads.contains(&name);
            let expected = match *user {
                "ann" if watches => 3,
                "bob" if watches => 2,
                _ => 0,
            };
            assert_eq!(events.len(), expected, "{user} {threads:?}");
        }
    }
}

#[test]
fn a_loss_begins_where_the_client_stands_and_not_behind_what_is_hidden() {
    let world = World::with(Limits { log_entries: 8, ..Limits::default() });
    let mut ann = watching(&world, "ann", &["a"], None);
    for _ in 0..4 {
        note(&world, "ann", Some("b"));
        ann.pump();
    }
    ann.events();
    let known = ann.client.position().unwrap();
    assert_eq!(known.seq, 1, "the others wait for their time");
    (0..20).for_each(|_| note(&world, "ann", Some("b")));
    let snapshot = ann.events().into_iter().find_map(|event| match event {
        ClientEvent::Frame(frame) => {
            if let ServerFrame::Snapshot(part) = *frame {
                Some(part)
            } else {
                None
            }
        }
        ClientEvent::Event(_) | ClientEvent::Welcome(_) => None,
    });
    let lost = snapshot.and_then(|part| part.lost).unwrap();
    assert_eq!((lost.from, ann.fault()), (known, None));
}
