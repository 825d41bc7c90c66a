//! What a level of the service means for those who are connected and for those who come.

mod reading;

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::harness::{Pair, World, frame_id, ident, thread};
use crate::client::{ClientConfig, ClientEvent};
use crate::drive::Machine;
use crate::error::CloseReason;
use crate::hub::{Run, RunOptions};
use crate::id::DependencyName;
use crate::level::ServiceLevel;
use crate::limits::Limits;
use crate::protocol::{Position, ProducerHello, ServerFrame};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

fn start(world: &World, user: &str) -> Run {
    world.hub.start_run(&ident(user), thread("t"), RunOptions::named("a")).unwrap()
}

fn producer(world: &World) -> Pair {
    let token = world.scoped_token(&ident("agent"), Duration::from_secs(3600), "publish", None);
    let hello = ProducerHello { id: frame_id("p"), users: None };
    world.connect_with(ClientConfig { producer: Some(hello), ..world.config(token, None, None) })
}

/// The levels that a client hears of, in order: of its welcome, then of notices.
fn heard(pair: &mut Pair) -> Vec<ServiceLevel> {
    let level = |event| match event {
        ClientEvent::Welcome(welcome) => Some(welcome.service_level),
        ClientEvent::Frame(frame) => match *frame {
            ServerFrame::ServiceLevel { level, .. } => Some(level),
            _ => None,
        },
        ClientEvent::Event(_) => None,
    };
    pair.events().into_iter().filter_map(level).collect()
}

fn order(world: &World, level: ServiceLevel) {
    world.hub.set_level(Some(level), "an exercise");
}

use ServiceLevel::{Degraded, Emergency, Normal};

#[test]
fn everybody_who_is_connected_is_told_once_of_each_change_and_whoever_comes_by_the_welcome() {
    let world = World::new();
    let mut all: Vec<Pair> = ["ann", "ann", "bob", "cyd"].iter().map(|user| world.device(user)).collect();
    all.push(producer(&world));
    all.iter_mut().for_each(|pair| assert_eq!(heard(pair), [Normal]));
    for level in [Degraded, Emergency, Normal, Emergency, Emergency] {
        let same = world.hub.level() == level;
        order(&world, level);
        let told = if same { vec![] } else { vec![level] };
        all.iter_mut().for_each(|pair| assert_eq!(heard(pair), told));
        assert_eq!(heard(&mut producer(&world)), [level], "a producer is always let in");
        all.pop();
        all.push(producer(&world));
        heard(all.last_mut().unwrap());
    }
    let back = world.resuming("ann", all[0].client.position(), None).events();
    assert!(matches!(&back[0], ClientEvent::Welcome(welcome) if welcome.service_level == Emergency));
}

#[test]
fn the_notice_says_why_and_what_works() {
    let world = World::new();
    let mut ann = world.device("ann");
    ann.events();
    world.hub.set_level(Some(Degraded), "the search index\nis rebuilt");
    let [ServerFrame::ServiceLevel { level, reason, capabilities }] = &ann.frames()[..] else { panic!("one notice") };
    assert_eq!((*level, reason.as_str()), (Degraded, "the search indexis rebuilt"));
    assert_eq!(capabilities.join(" "), "resume user_message new_sessions ephemeral");
}

/// In the order in which they come, half of the room is for newcomers where the service is degraded, and none in an emergency.
#[test]
fn newcomers_are_told_to_try_again_and_who_resumes_is_let_in() {
    let world = World::with(Limits { connections: 8, ..Limits::default() });
    let mut there: Vec<Pair> = ["a", "b", "c"].iter().map(|user| world.device(user)).collect();
    world.hub.publish(&ident("a"), None, "n", &1).unwrap();
    there.iter_mut().for_each(|pair| drop(pair.events()));
    order(&world, Degraded);
    let fourth = world.device("d");
    assert!(fourth.is_in());
    let fifth = world.device("e");
    assert_eq!((fifth.closed_with(), fifth.is_in()), (Some(1013), false));
    let position = there[0].client.position();
    assert!(world.resuming("a", position, None).is_in(), "over the half");
    drop(fourth);
    assert!(world.device("e").is_in(), "there is room again");
    order(&world, Emergency);
    let users = world.hub.counts().users;
    for wrong in [None, Some(Position::NONE), Some(Position { epoch: 1, seq: 1 })] {
        assert_eq!(world.resuming("new", wrong, None).closed_with(), Some(1013), "{wrong:?}");
        assert_eq!(world.resuming("a", wrong, None).closed_with(), Some(1013), "{wrong:?}");
    }
    assert_eq!(world.hub.counts().users, users, "whoever is refused leaves nothing behind");
    let session = there[0].client.session();
    let mut moved = world.resuming("a", None, session);
    assert!(moved.is_in(), "its old socket is still there");
    assert_eq!(there[0].events().len() + usize::from(there[0].is_in()), 1, "superseded, after the notices");
    moved.cut();
    let back = world.resuming("a", position, None);
    assert!(back.is_in() && back.fault().is_none());
    order(&world, Normal);
    assert!(world.device("new").is_in());
}

/// Lower caps than there are connections: nobody is closed, and nobody new comes until there is room.
#[test]
fn a_level_cuts_nobody_and_lets_nobody_new_in_until_there_is_room() {
    let world = World::with(Limits { connections: 10, ..Limits::default() });
    let mut there: Vec<Pair> = (0..9).map(|n| world.device(&format!("user-{n}"))).collect();
    for level in [Degraded, Emergency, Degraded] {
        order(&world, level);
        world.sleep(2 * SEC, &mut there.iter_mut().collect::<Vec<_>>());
        assert!(there.iter().all(Pair::is_in), "{level}");
        assert_eq!(world.device("new").closed_with(), Some(1013));
    }
    while there.len() >= 5 {
        assert_eq!(world.device("new").closed_with(), Some(1013), "{} are there", there.len());
        there.pop();
    }
    assert!(world.device("new").is_in());
}

#[test]
fn a_client_that_reads_nothing_is_not_cut_and_hears_the_last_of_many_changes() {
    let world = World::with(Limits { control_bytes: 300, ..Limits::default() });
    let mut ann = world.device("ann");
    heard(&mut ann);
    let session = ann.session.as_mut().unwrap();
    for level in [Degraded, Emergency].repeat(50) {
        order(&world, level);
    }
    // Its mailbox is as full as it may be, and so is its socket.
    for _ in 0..40 {
        world.hub.publish(&ident("ann"), None, "n", &"x".repeat(60_000)).unwrap();
        session.poll_ready(world.now(), Waker::noop());
    }
    for level in [Normal, Degraded].repeat(50) {
        order(&world, level);
        session.poll_ready(world.now(), Waker::noop());
    }
    assert_eq!(session.close_reason(), None);
    assert!(session.transmit().len() < 200_000, "{}", session.transmit().len());
    let levels = heard(&mut ann);
    assert_eq!(levels.last(), Some(&Degraded));
    assert!(levels.windows(2).all(|pair| pair[0] != pair[1]), "each is a change: {levels:?}");
    assert_eq!(ann.fault(), None);
}

#[test]
fn what_is_reported_counts_once_it_lasts_and_passes_in_time() {
    let world = World::new();
    let mut ann = world.device("ann");
    heard(&mut ann);
    let search: DependencyName = "search".parse().unwrap();
    world.hub.report(&search, Emergency, "no search").unwrap();
    let due = world.keeper.handle_timeout().expect("the level is due");
    assert_eq!(due.saturating_since(world.now().at), SEC);
    world.sleep(SEC - MS, &mut [&mut ann]);
    assert_eq!((heard(&mut ann), world.hub.level()), (vec![], Normal));
    world.sleep(MS, &mut [&mut ann]);
    assert_eq!((heard(&mut ann), world.hub.level()), (vec![Emergency], Emergency));
    let status = world.hub.level_status();
    assert_eq!((&*status.notice.reason, &*status.dependencies[&search].reason), ("no search", "no search"));
    world.hub.report(&search, Normal, "").unwrap();
    world.sleep(10 * SEC - MS, &mut [&mut ann]);
    assert_eq!(heard(&mut ann), []);
    world.sleep(MS, &mut [&mut ann]);
    assert_eq!((heard(&mut ann), world.hub.level()), (vec![Normal], Normal));
}

#[test]
fn memory_in_use_raises_the_level_and_an_idle_hub_is_never_looked_at() {
    let limits = Limits {
        total_log_bytes: 100_000,
        total_snapshot_bytes: 1_000,
        total_dedup_bytes: 1_000,
        log_retention: 5 * SEC,
        dedup_window: 5 * SEC,
        // Nothing counts but what is published.
        deflate_from: None,
        ..Limits::default()
    };
    let world = World::sharded(limits, 1);
    assert_eq!(world.keeper.handle_timeout(), None);
    let publish = |bytes: usize| world.hub.publish(&ident("ann"), None, "n", &"x".repeat(bytes)).unwrap();
    publish(30_000);
    publish(30_000);
    world.sleep(SEC, &mut []);
    assert_eq!((world.hub.level(), world.hub.level_status().memory_percent / 10), (Normal, 5));
    publish(30_000);
    world.sleep(SEC, &mut []);
    world.sleep(SEC, &mut []);
    world.sleep(SEC, &mut []);
    assert_eq!(world.hub.level(), Degraded, "{:?}", world.hub.level_status());
    // The logs of those who are gone are let go of.
    for _ in 0..20 {
        world.sleep(SEC, &mut []);
    }
    assert_eq!((world.hub.level(), world.hub.counts().log_bytes), (Normal, 0));
    assert_eq!(world.keeper.handle_timeout(), None);
}

#[test]
fn whoever_waits_for_a_change_is_woken_and_gets_the_last() {
    let world = World::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(world.hub.poll_level(&mut cx, 0), Poll::Pending);
    order(&world, Degraded);
    order(&world, Emergency);
    let Poll::Ready(notice) = world.hub.poll_level(&mut cx, 0) else { panic!("a change") };
    assert_eq!((notice.number, notice.level), (2, Emergency));
    assert_eq!(world.hub.poll_level(&mut cx, notice.number), Poll::Pending);
    world.hub.set_level(None, "");
    assert!(world.hub.poll_level(&mut cx, notice.number).is_ready());
}

/// A peer that falls silent: when its socket is touched, and why it ends.
fn silence(world: &World, level: ServiceLevel) -> (Vec<Duration>, Option<CloseReason>) {
    let mut ann = world.device("ann");
    order(world, level);
    ann.events();
    let mut session = ann.session.take().unwrap();
    let began = world.now().at;
    let mut times = Vec::new();
    while session.phase() == crate::connection::PhaseName::Live {
        let due = session.poll_timeout().expect("a live connection has a deadline");
        world.clock.turn(due.saturating_since(world.now().at));
        session.handle_timeout(world.now());
        session.poll_ready(world.now(), Waker::noop());
        let sent = session.transmit().len();
        session.advance(world.now(), sent);
        times.push(due.saturating_since(began));
    }
    (times, session.close_reason())
}

/// Property: at every level, interval and timeout together stay below the idle deadline; a level touches none of them.
#[test]
fn a_silent_peer_is_found_out_at_every_level_as_at_any_other_before_it_counts_as_idle() {
    let sum = Limits::default().heartbeat_interval + Limits::default().heartbeat_timeout;
    for limits in [Limits { idle_deadline: Some(sum + MS), ..Limits::default() }, Limits::default()] {
        limits.check().unwrap();
        for level in [Normal, Degraded, Emergency] {
            let world = World::with(limits.clone());
            let (times, reason) = silence(&world, level);
            let expected = [limits.heartbeat_interval, sum];
            assert_eq!((times, reason), (expected.to_vec(), Some(CloseReason::HeartbeatTimeout)), "{level}");
            let heartbeat = world.hub.limits().heartbeat_interval + world.hub.limits().heartbeat_timeout;
            assert!(limits.idle_deadline.is_none_or(|idle| heartbeat < idle));
        }
    }
}
