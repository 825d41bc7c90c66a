//! The shutdown: one close after the other, no text broken off, and an end in time.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc as Shared;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;

use super::harness::{Pair, TestClock, World, frame_id, ident, thread};
use crate::client::ClientEvent;
use crate::connection::PhaseName;
use crate::drive::{Machine, Timer};
use crate::hub::{Run, RunOptions};
use crate::id::TopicId;
use crate::limits::Limits;
use crate::protocol::{ClientFrame, EventKind, ServerFrame};
use crate::sync::Gate;
use crate::time::{Clock, Timestamp};

const MS: Duration = Duration::from_millis(1);

fn start(world: &World, user: &str) -> Run {
    world.hub.start_run(&ident(user), thread("t"), RunOptions::named("a")).unwrap()
}

/// What the announcement says, in seconds: the deadline, and when to come back.
fn announced(events: &[ClientEvent]) -> Option<(f64, f64)> {
    events.iter().find_map(|event| match event {
        ClientEvent::Frame(frame) => {
            let ServerFrame::GoingAway { deadline, reconnect_after } = **frame else { return None };
            Some((deadline, reconnect_after))
        }
        ClientEvent::Welcome(_) | ClientEvent::Event(_) => None,
    })
}

fn is_over(world: &World) -> bool {
    world.hub.poll_shutdown(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
}

#[test]
fn closes_come_one_after_the_other_and_clients_come_back_at_moments_of_their_own() {
    const DEVICES: usize = 60;
    let world = World::new();
    let mut devices: Vec<Pair> = (0..DEVICES).map(|n| world.device(&format!("user-{}", n / 2))).collect();
    world.hub.begin_shutdown();
    let mut back = BTreeSet::new();
    for device in &mut devices {
        let (deadline, after) = announced(&device.events()).expect("everybody is told");
        assert!(deadline > 0.0 && deadline < world.hub.limits().drain_deadline.as_secs_f64(), "{deadline}");
        assert!((0.0..0.4).contains(&after), "{after}");
        back.insert(after.to_bits());
    }
    assert!(back.len() > DEVICES - 3, "hardly two at the same time: {} of {DEVICES}", back.len());
    let mut closed = 0;
    for step in 0..200 {
        let before = closed;
        closed = devices.iter().filter(|device| device.session.is_none()).count();
        assert!(closed - before <= 1, "{} closes in one step", closed - before);
        assert!(step >= 100 || closed == 0, "there is time between the announcement and the first close");
        world.sleep(MS, &mut devices.iter_mut().collect::<Vec<_>>());
    }
    assert!(devices.iter().all(|device| device.closed_with() == Some(1012)), "{closed}");
    assert!(is_over(&world));
}

#[test]
fn a_text_is_not_broken_off_and_nobody_else_waits_for_it() {
    let world = World::new();
    let (mut ann, mut tablet, mut bob) = (world.device("ann"), world.device("ann"), world.device("bob"));
    let (run, other) = (start(&world, "ann"), start(&world, "ann"));
    run.delta("in the ").unwrap();
    other.thinking("no text").unwrap();
    world.hub.begin_shutdown();
    let mut all = [&mut ann, &mut tablet, &mut bob];
    all.iter_mut().for_each(|device| device.pump());
    world.sleep(Duration::from_secs(1), &mut all);
    assert_eq!((ann.is_in(), tablet.is_in(), bob.closed_with()), (true, true, Some(1012)));
    run.delta("middle").unwrap();
    other.completed(None).unwrap();
    world.sleep(Duration::from_secs(1), &mut [&mut ann, &mut tablet]);
    assert!(ann.is_in() && tablet.is_in(), "another run's end is no boundary of this one");
    run.completed(None).unwrap();
    for mut device in [ann, tablet] {
        assert_eq!(device.kinds().last(), Some(&EventKind::AgentCompleted));
        assert_eq!(device.closed_with(), Some(1012), "at once, with the boundary");
    }
    assert!(is_over(&world));
}

#[test]
fn a_text_without_an_end_holds_no_connection_beyond_its_share() {
    let world = World::new();
    let mut ann = world.device("ann");
    let run = start(&world, "ann");
    world.hub.begin_shutdown();
    let (deadline, _) = announced(&ann.events()).unwrap();
    assert!((22.0..=22.5).contains(&deadline), "three quarters of 30 s, at most: {deadline}");
    let steps = Duration::from_secs_f64(deadline).as_millis() / 500;
    for _ in 0..steps {
        run.delta("more ").unwrap();
        world.sleep(500 * MS, &mut [&mut ann]);
        assert!(ann.is_in());
    }
    world.sleep(500 * MS, &mut [&mut ann]);
    assert_eq!(ann.closed_with(), Some(1012));
    assert!(is_over(&world));
}

#[test]
fn a_reader_that_is_behind_gets_everything_first() {
    let world = World::new();
    let mut ann = world.device("ann");
    for _ in 0..20 {
        world.hub.publish(&ident("ann"), None, "n", &"x".repeat(10_000)).unwrap();
    }
    world.hub.begin_shutdown();
    let session = ann.session.as_mut().unwrap();
    // Its socket takes nothing while its turn comes.
    session.poll_ready(world.now(), Waker::noop());
    world.clock.turn(Duration::from_secs(1));
    session.handle_timeout(world.now());
    session.poll_ready(world.now(), Waker::noop());
    assert_eq!(session.phase(), PhaseName::Live);
    assert_eq!(ann.stream().len(), 20);
    assert_eq!(ann.closed_with(), Some(1012));
}

#[test]
fn a_client_that_takes_nothing_is_gone_by_the_deadline() {
    let world = World::new();
    let mut ann = world.device("ann");
    world.hub.publish(&ident("ann"), None, "n", &1).unwrap();
    world.hub.begin_shutdown();
    let mut session = ann.session.take().unwrap();
    session.poll_ready(world.now(), Waker::noop());
    let mut waited = Duration::ZERO;
    while !session.is_closed() {
        let due = session.poll_timeout().expect("a connection that leaves has a deadline");
        let step = due.saturating_since(world.now().at);
        world.clock.turn(step);
        waited += step;
        session.handle_timeout(world.now());
        session.poll_ready(world.now(), Waker::noop());
    }
    assert!(waited <= world.hub.limits().drain_deadline, "{waited:?}");
    assert!(!is_over(&world), "it counts until its socket is closed");
    drop(session);
    assert!(is_over(&world));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Delta(usize),
    Think(usize),
    End(usize),
    Pass(u64),
    Shut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..4).prop_map(Step::Delta),
        2 => (0_usize..4).prop_map(Step::Think),
        1 => (0_usize..4).prop_map(Step::End),
        3 => (1_u64..8_000).prop_map(Step::Pass),
        1 => Just(Step::Shut),
    ]
}

properties! {
    cases = 128;

    /// Whatever the runs do: a connection closes only at a boundary or at the end of its share, has everything by then,
    /// and all are closed in time.
    #[test]
    fn whoever_leaves_has_everything_up_to_a_boundary(steps in prop::collection::vec(step(), 1..60)) {
        let world = World::new();
        let users = ["ann", "bob"];
        let mut devices: Vec<Pair> = [0, 1, 0].iter().map(|user| world.device(users[*user])).collect();
        // Two runs each; `true` while the last event is text.
        let mut runs: Vec<Option<(Run, bool)>> = (0..4).map(|n| Some((start(&world, users[n % 2]), false))).collect();
        let mut said = [2, 2];
        let mut draining = None;
        for step in steps {
            match step {
                Step::Delta(n) => {
                    if let Some((run, text)) = &mut runs[n] {
                        run.delta("x").unwrap();
                        (*text, said[n % 2]) = (true, said[n % 2] + 1);
                    }
                }
                Step::Think(n) => {
                    if let Some((run, text)) = &mut runs[n] {
                        run.thinking("y").unwrap();
                        (*text, said[n % 2]) = (false, said[n % 2] + 1);
                    }
                }
                Step::End(n) => {
                    if runs[n].take().is_some() {
                        said[n % 2] += 1;
                    }
                }
                Step::Pass(ms) => {
                    draining = draining.map(|since: Duration| since + ms as u32 * MS);
                    world.clock.turn(ms as u32 * MS);
                }
                Step::Shut => {
                    world.hub.begin_shutdown();
                    draining = draining.or(Some(Duration::ZERO));
                }
            }
            for (index, device) in devices.iter_mut().enumerate() {
                let was_in = device.is_in();
                world.sleep(Duration::ZERO, &mut [&mut *device]);
                if !was_in || device.is_in() {
                    continue;
                }
                let user = [0, 1, 0][index];
                let in_text = (0..4).filter(|n| n % 2 == user).any(|n| runs[n].as_ref().is_some_and(|run| run.1));
                let waited = draining.expect("nobody leaves before");
                prop_assert!(!in_text || waited >= Duration::from_secs(22), "{waited:?}");
                prop_assert_eq!(device.client.position().unwrap().seq, said[user]);
                prop_assert_eq!(device.closed_with(), Some(1012));
            }
        }
        world.hub.begin_shutdown();
        devices.iter_mut().for_each(Pair::pump);
        world.sleep(world.hub.limits().drain_deadline / 4 * 3, &mut devices.iter_mut().collect::<Vec<_>>());
        prop_assert!(devices.iter().all(|device| device.closed_with() == Some(1012)));
        prop_assert!(is_over(&world));
    }
}

#[test]
fn a_drain_that_is_short_is_paced_all_the_same() {
    let world = World::with(Limits { drain_deadline: 80 * MS, ..Limits::default() });
    let mut devices: Vec<Pair> = (0..8).map(|n| world.device(&format!("user-{n}"))).collect();
    world.hub.begin_shutdown();
    let mut closed = BTreeSet::new();
    for step in 0..60 {
        world.sleep(MS, &mut devices.iter_mut().collect::<Vec<_>>());
        closed.insert(devices.iter().filter(|device| device.session.is_none()).count());
        assert!(step != 59 || is_over(&world));
    }
    assert_eq!(closed.len(), 9, "one after the other: {closed:?}");
}

#[test]
fn a_follower_that_is_behind_in_a_topic_gets_all_of_it_first() {
    let world = World::new();
    let news = TopicId::new(None, "news".parse().unwrap()).unwrap();
    let token = world.scoped_token(&ident("ann"), Duration::from_secs(3600), "topic:news", None);
    let mut ann = world.connect(token, None, None);
    let id = frame_id("s");
    ann.send(&ClientFrame::Subscribe { id, topic: news.name().clone(), resume: None });
    ann.events();
    for n in 0..10 {
        world.hub.publish_topic(&news, "n", &(n, "x".repeat(20_000))).unwrap();
    }
    // Its own stream is read to the end, its topic as far as the socket takes it.
    ann.session.as_mut().unwrap().poll_ready(world.now(), Waker::noop());
    world.hub.begin_shutdown();
    let session = ann.session.as_mut().unwrap();
    session.poll_ready(world.now(), Waker::noop());
    world.clock.turn(Duration::from_secs(1));
    session.handle_timeout(world.now());
    assert_eq!(session.close_reason(), None, "although its turn has come");
    assert_eq!(ann.stream().len(), 10);
    assert_eq!(ann.closed_with(), Some(1012));
}

/// A timer on the clock of the tests, which nothing wakes.
struct Turned(Shared<TestClock>, Timestamp);

impl Timer for Turned {
    fn reset(mut self: Pin<&mut Self>, at: Timestamp) {
        self.1 = at;
    }

    fn poll_elapsed(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        if self.0.now().at >= self.1 { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[test]
fn a_housekeeper_ends_once_all_are_gone_and_at_the_latest_at_the_deadline() {
    for (leaves, by_operator) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut world = World::new();
        let keeper = std::mem::replace(&mut world.keeper, World::new().keeper);
        let stop = Gate::new();
        let stopped = stop.clone();
        let shutdown = async move { poll_fn(|cx| stopped.poll_empty(cx)).await };
        let mut running = pin!(keeper.run_until(Turned(Shared::clone(&world.clock), Timestamp::MAX), shutdown));
        let mut is_over = || running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        let mut ann = world.device("ann");
        assert!(!is_over() && !world.hub.is_draining());
        if by_operator {
            world.hub.begin_shutdown();
        } else {
            stop.shut();
        }
        assert!(!is_over() && world.hub.is_draining());
        if leaves {
            ann.cut();
        } else {
            world.clock.turn(world.hub.limits().drain_deadline - MS);
            assert!(!is_over());
            world.clock.turn(MS);
        }
        assert!(is_over(), "{leaves} {by_operator}");
    }
}
