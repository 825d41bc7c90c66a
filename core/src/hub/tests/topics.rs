//! Shared streams: who may follow them, from where, and what they never see.

use std::time::Duration;

use super::harness::{Pair, World, frame_id, ident};
use crate::auth::fake::FakeKeys;
use crate::auth::{ClaimRules, NewToken};
use crate::client::ClientEvent;
use crate::drive::Machine;
use crate::id::{TopicId, TopicName, UserId};
use crate::limits::Limits;
use crate::protocol::{
    ClientFrame, EventBody, Lost, Mode, Position, Receipt, Reply, ReplyOk, ServerFrame, StreamEntry, StreamName, Token,
};
use crate::time::Clock;

fn name(topic: &str) -> TopicName {
    TopicName::new(topic).unwrap()
}

fn news() -> TopicId {
    TopicId::new(None, name("news")).unwrap()
}

fn stream() -> StreamName {
    StreamName::Topic(name("news"))
}

/// A device whose token grants `scope`.
fn granted(world: &World, user: &UserId, scope: &str) -> Pair {
    let issuer = FakeKeys::new(super::harness::SECRET, ClaimRules::default()).unwrap();
    let issued_at = world.clock.now().unix;
    let token = NewToken { user, issued_at, ttl: Duration::from_secs(3600), scope, token_id: None };
    let mut pair = world.connect(issuer.issue(&token).unwrap(), None, None);
    pair.events();
    pair
}

fn reader(world: &World, user: &str) -> Pair {
    granted(world, &ident(user), "topic:*")
}

fn subscribe(pair: &mut Pair, topic: &str, resume: Option<Position>) -> Reply {
    pair.send(&ClientFrame::Subscribe { id: frame_id("s"), topic: name(topic), resume });
    pair.replies().remove(0)
}

fn followed(pair: &mut Pair, resume: Option<Position>) -> StreamEntry {
    pair.send(&ClientFrame::Subscribe { id: frame_id("s"), topic: name("news"), resume });
    // The events that follow stay for the test.
    let entry = pair.client.position_in(&stream());
    assert!(entry.is_some());
    match pair.client.poll_event() {
        Some(ClientEvent::Frame(frame)) => match *frame {
            ServerFrame::Reply(reply) => match reply.outcome {
                Ok(ReplyOk::Stream(entry)) => entry,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn numbers(pair: &mut Pair) -> Vec<u64> {
    pair.stream()
        .iter()
        .map(|event| match &event.body {
            EventBody::Custom { data, .. } => data.get().parse().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn publish(world: &World, n: u64) -> Receipt {
    world.hub.publish_topic(&news(), "n", &n).unwrap()
}

#[test]
fn every_follower_sees_the_same_order_and_nobody_else_anything() {
    let world = World::new();
    let (mut ann, mut bob, mut eve) = (reader(&world, "ann"), reader(&world, "bob"), reader(&world, "eve"));
    assert_eq!(followed(&mut ann, None).mode, Mode::Live);
    followed(&mut bob, None);
    for n in 0..100 {
        assert_eq!(publish(&world, n), Receipt::DeliveredTo(2));
    }
    let expected: Vec<u64> = (0..100).collect();
    assert_eq!(numbers(&mut ann), expected);
    let seen = bob.stream();
    assert!(seen.iter().all(|event| event.stream == stream() && event.user_id.is_none()));
    assert_eq!(seen.len(), 100);
    assert_eq!(eve.events(), []);
}

#[test]
fn a_topic_that_the_token_does_not_grant_is_as_one_that_does_not_exist() {
    let world = World::new();
    let mut none = granted(&world, &ident("ann"), "");
    let mut other = granted(&world, &ident("ann"), "topic:sports");
    let forbidden = subscribe(&mut other, "news", None);
    assert_eq!(forbidden.outcome, subscribe(&mut none, "nothing-here", None).outcome);
    assert_eq!(forbidden.outcome.unwrap_err().code.as_str(), "not_found");
    assert!(subscribe(&mut other, "sports", None).outcome.is_ok());
    publish(&world, 1);
    assert_eq!(other.events(), []);
}

#[test]
fn the_topics_of_two_tenants_with_one_name_are_two() {
    let world = World::new();
    let acme = UserId::new(Some("acme"), "ann").unwrap();
    let mut theirs = granted(&world, &acme, "topic:news");
    let mut ours = reader(&world, "ann");
    followed(&mut theirs, None);
    followed(&mut ours, None);
    publish(&world, 1);
    world.hub.publish_topic(&TopicId::of(&acme, name("news")), "n", &2).unwrap();
    assert_eq!((numbers(&mut theirs), numbers(&mut ours)), (vec![2], vec![1]));
}

#[test]
fn a_topic_is_resumed_in_the_hello_beside_the_users_own_stream() {
    let world = World::new();
    let mut ann = reader(&world, "ann");
    followed(&mut ann, None);
    publish(&world, 1);
    world.hub.publish(&ident("ann"), None, "own", &2).unwrap();
    let mut seen = numbers(&mut ann);
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);
    let position = ann.client.position_in(&stream());
    ann.cut();
    publish(&world, 3);
    let mut back = reader(&world, "ann");
    assert_eq!(followed(&mut back, position).mode, Mode::Replay);
    assert_eq!(numbers(&mut back), [3]);
    assert_eq!(followed(&mut back, Some(Position { epoch: 1, seq: 9 })).mode, Mode::Reset);
    assert_eq!(numbers(&mut back), [1, 3]);
}

#[test]
fn whoever_leaves_or_is_gone_gets_nothing_and_is_not_counted() {
    let world = World::new();
    let (mut ann, mut bob) = (reader(&world, "ann"), reader(&world, "bob"));
    followed(&mut ann, None);
    followed(&mut bob, None);
    ann.send(&ClientFrame::Unsubscribe { id: frame_id("u"), topic: name("news") });
    assert_eq!(ann.replies()[0].outcome, Ok(ReplyOk::Done));
    ann.send(&ClientFrame::Unsubscribe { id: frame_id("u"), topic: name("news") });
    assert_eq!(ann.replies()[0].outcome.as_ref().unwrap_err().code.as_str(), "not_found");
    bob.cut();
    assert_eq!(publish(&world, 1), Receipt::Stored);
    assert_eq!(ann.events(), []);
    world.sleep(Limits::default().log_retention, &mut [&mut ann]);
    assert_eq!(world.hub.counts().topics, 0, "nothing is kept beyond the retention");
}

#[test]
fn subscriptions_are_capped_at_n() {
    let world = World::with(Limits { subscriptions: 2, ..Limits::default() });
    let mut ann = reader(&world, "ann");
    for topic in ["a", "b", "a"] {
        assert!(subscribe(&mut ann, topic, None).outcome.is_ok(), "{topic}");
    }
    assert_eq!(subscribe(&mut ann, "c", None).outcome.unwrap_err().code.as_str(), "too_many_subscriptions");
}

#[test]
fn several_streams_replay_in_turns() {
    let world = World::with(Limits { lag_entries: 100_000, ..Limits::default() });
    for n in 0..1_000 {
        publish(&world, n);
        world.hub.publish_topic(&TopicId::new(None, name("b")).unwrap(), "n", &n).unwrap();
    }
    let mut ann = reader(&world, "ann");
    let now = world.now();
    for topic in ["news", "b"] {
        ann.client.send(&ClientFrame::Subscribe {
            id: frame_id("s"),
            topic: name(topic),
            resume: Some(Position::NONE),
        });
    }
    let up = ann.client.transmit().to_vec();
    ann.client.advance(up.len());
    Machine::handle_bytes(ann.session.as_mut().unwrap(), now, &up);
    let events = ann.stream();
    assert_eq!((events.len(), ann.fault()), (2_000, None));
    let first_of_b = events.iter().position(|event| event.stream != stream()).unwrap();
    assert!(first_of_b < 500, "the second stream waits for the end of the first: {first_of_b}");
}

#[test]
fn a_follower_that_leaves_the_log_behind_is_told_where_it_goes_on() {
    let world = World::with(Limits { log_entries: 5, ..Limits::default() });
    let mut ann = reader(&world, "ann");
    followed(&mut ann, None);
    for n in 0..20 {
        publish(&world, n);
    }
    let known = ann.client.position_in(&stream()).unwrap();
    let events = ann.events();
    let snapshot = events.iter().find_map(|event| match event {
        ClientEvent::Frame(frame) => match &**frame {
            ServerFrame::Snapshot(snapshot) => Some(snapshot),
            _ => None,
        },
        ClientEvent::Welcome(_) | ClientEvent::Event(_) => None,
    });
    let snapshot = snapshot.expect("a live follower is told");
    assert_eq!((&snapshot.stream, snapshot.event_id.seq), (&stream(), 15));
    assert_eq!(snapshot.lost, Some(Lost { from: known, to: snapshot.event_id }), "and of what it has lost");
    assert_eq!(events.iter().filter(|event| matches!(event, ClientEvent::Event(_))).count(), 5);
    assert_eq!(ann.fault(), None);
    publish(&world, 20);
    assert_eq!(numbers(&mut ann), [20]);
}

#[test]
fn a_thousand_followers_are_told_in_batches_and_all_see_it() {
    let world = World::with(Limits::default());
    let mut readers: Vec<Pair> = (0..1_000).map(|n| reader(&world, &format!("user-{n}"))).collect();
    for reader in &mut readers {
        followed(reader, None);
    }
    assert_eq!(publish(&world, 7), Receipt::DeliveredTo(1_000));
    assert!(readers.iter_mut().all(|reader| numbers(reader) == [7]));
}

#[test]
fn a_lag_that_was_told_ends_although_the_topic_is_followed_from_elsewhere_meanwhile() {
    let world = World::with(Limits { lag_entries: 4, ..Limits::default() });
    let mut ann = reader(&world, "ann");
    followed(&mut ann, None);
    for _ in 0..10 {
        world.hub.publish_topic(&news(), "n", &"x".repeat(20_000)).unwrap();
    }
    // The socket takes nothing, so that it lags when the client follows the topic once more.
    let session = ann.session.as_mut().unwrap();
    session.poll_ready(world.clock.now(), std::task::Waker::noop());
    ann.client.send(&ClientFrame::Subscribe { id: frame_id("s"), topic: name("news"), resume: None });
    let up = ann.client.transmit().to_vec();
    ann.client.advance(up.len());
    session.handle_bytes(world.clock.now(), &up);
    let lag = |frame| if let ServerFrame::Lag { merging, .. } = frame { Some(merging) } else { None };
    let told: Vec<bool> = ann.frames().into_iter().filter_map(lag).collect();
    assert_eq!((told, ann.fault()), (vec![true, false], None));
}

#[test]
fn a_refresh_without_the_scope_leaves_its_topics_and_one_with_it_stays() {
    let world = World::new();
    let user = ident("ann");
    for (scope, stays) in [("topic:news", true), ("topic:other", false)] {
        let mut ann = granted(&world, &user, "topic:*");
        followed(&mut ann, None);
        let issuer = FakeKeys::new(super::harness::SECRET, ClaimRules::default()).unwrap();
        let (issued_at, ttl) = (world.clock.now().unix, Duration::from_secs(3600));
        let token = issuer.issue(&NewToken { user: &user, issued_at, ttl, scope, token_id: None }).unwrap();
        ann.send(&ClientFrame::Refresh { id: frame_id("r"), token: Token::new(&token) });
        assert!(ann.replies()[0].outcome.is_ok());
        publish(&world, 7);
        assert_eq!(numbers(&mut ann), if stays { vec![7] } else { vec![] }, "{scope}");
        assert_eq!(subscribe(&mut ann, "news", None).outcome.is_ok(), stays, "{scope}");
        assert_eq!(ann.fault(), None);
    }
}

#[test]
fn what_is_for_now_only_does_not_come_after_the_topic_was_left() {
    use crate::drive::Machine;
    let world = World::new();
    let mut ann = reader(&world, "ann");
    subscribe(&mut ann, "news", None);
    world.hub.publish_topic_ephemeral(&news(), "typing", &1).unwrap();
    assert_eq!(ann.frames().len(), 1);
    // It lies in the mailbox, and the frame that leaves the topic is read first.
    world.hub.publish_topic_ephemeral(&news(), "typing", &2).unwrap();
    ann.client.send(&ClientFrame::Unsubscribe { id: frame_id("u"), topic: name("news") });
    let bytes = ann.client.transmit().to_vec();
    ann.client.advance(bytes.len());
    ann.session.as_mut().unwrap().handle_bytes(world.now(), &bytes);
    assert!(matches!(&ann.frames()[..], [ServerFrame::Reply(_)]));
}
