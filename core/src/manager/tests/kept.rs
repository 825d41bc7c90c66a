//! How many users and topics are kept for their logs alone.

use serde_json::value::to_raw_value;

use super::{Shard, assert_consistent, at, attach, conn, drain, run_start, shard, tick, user};
use crate::id::{TopicId, TopicName};
use crate::limits::Limits;
use crate::manager::{Custom, Manager};
use crate::protocol::{Mode, Position};
use crate::stream::RunEvent;

fn three() -> Shard {
    shard(Limits { kept_streams: 3, ..Limits::default() })
}

fn publish(shard: &mut Shard, micros: u64, name: &str) -> crate::protocol::Receipt {
    let receipt = shard.publish(at(micros), &user(name), custom(), to_raw_value(&1).unwrap()).unwrap();
    drain(shard);
    assert_consistent(shard);
    receipt
}

fn custom() -> Custom {
    Custom { thread: None, name: "n".into(), key: None }
}

fn topic(name: &str) -> TopicId {
    TopicId::new(None, TopicName::new(name).unwrap()).unwrap()
}

fn names(shard: &Shard) -> Vec<&str> {
    let mut names: Vec<_> = shard.users.keys().map(|id| id.sub()).collect();
    names.sort_unstable();
    names
}

#[test]
fn three_are_kept_and_of_four_the_one_that_is_idle_longest_goes() {
    let mut shard = three();
    // In one moment too: the order is the order of events.
    for name in ["dave", "carol", "bob"] {
        publish(&mut shard, 5, name);
    }
    assert_eq!(names(&shard), ["bob", "carol", "dave"]);
    publish(&mut shard, 5, "ann");
    assert_eq!(names(&shard), ["ann", "bob", "carol"], "never the one that has just come");
    // Who was there again is idle from then on.
    attach(&mut shard, at(6), "carol", 1, None).unwrap();
    drain(&mut shard);
    shard.detach(at(7), &user("carol"), conn(1));
    publish(&mut shard, 8, "eve");
    assert_eq!(names(&shard), ["ann", "carol", "eve"]);
    let back = attach(&mut shard, at(9), "bob", 2, None).unwrap().stream;
    assert!(back.position.epoch > 0 && back.head.seq == 0, "another incarnation");
    drain(&mut shard);
    assert_eq!(tick(&mut shard, 400_000_000), []);
    assert_eq!(names(&shard), ["bob"], "the retention goes on as before");
}

#[test]
fn a_position_in_a_log_that_was_dropped_is_answered_with_the_loss() {
    let mut shard = shard(Limits { kept_streams: 1, ..Limits::default() });
    publish(&mut shard, 0, "ann");
    let known = shard.users[&user("ann")].channel.log.head();
    publish(&mut shard, 1, "bob");
    assert_eq!(names(&shard), ["bob"]);
    publish(&mut shard, 2, "ann");
    let stream = shard.users[&user("ann")].channel.log.resume(Some(known), false);
    assert_eq!((stream.mode, stream.lost.map(|lost| lost.from)), (Mode::Reset, Some(known)));
}

#[test]
fn topics_count_too_and_whoever_is_in_use_is_never_dropped() {
    let mut shard = three();
    attach(&mut shard, at(0), "connected", 1, None).unwrap();
    drain(&mut shard);
    let run = shard.start_run(at(0), run_start("running", 1)).unwrap().run;
    drain(&mut shard);
    shard.subscribe(at(0), &topic("followed"), conn(1), 1, None);
    shard.publish_topic(at(0), &topic("followed"), custom(), to_raw_value(&1).unwrap()).unwrap();
    drain(&mut shard);
    for n in 0..20 {
        publish(&mut shard, 1, &format!("user-{n:02}"));
        shard.publish_topic(at(1), &topic(&format!("topic-{n:02}")), custom(), to_raw_value(&1).unwrap()).unwrap();
        drain(&mut shard);
        assert_consistent(&shard);
        assert!(shard.users.len() + shard.topics.len() <= 3 + 3);
    }
    assert_eq!(names(&shard), ["connected", "running", "user-19"]);
    let mut topics: Vec<_> = shard.topics.keys().map(|id| id.name().as_str()).collect();
    topics.sort_unstable();
    assert_eq!(topics, ["followed", "topic-18", "topic-19"]);
    // They fall idle, and stand at the end of the order.
    shard.run_event(at(2), &user("running"), run, RunEvent::Completed { final_response: None, result: None }).unwrap();
    shard.unsubscribe(at(2), &topic("followed"), conn(1));
    assert_consistent(&shard);
    assert_eq!((names(&shard), shard.topics.len()), (vec!["connected", "running"], 2));
}

#[test]
fn who_follows_and_leaves_many_topics_pushes_nobodys_events_out() {
    let mut shard = three();
    publish(&mut shard, 0, "ann");
    attach(&mut shard, at(1), "eve", 1, None).unwrap();
    drain(&mut shard);
    for n in 0..20 {
        let topic = topic(&format!("topic-{n}"));
        shard.subscribe(at(2), &topic, conn(1), 1, None);
        shard.unsubscribe(at(2), &topic, conn(1));
        assert_consistent(&shard);
    }
    assert_eq!((names(&shard), shard.topics.len()), (vec!["ann", "eve"], 2));
    // One that gets an event while it is idle stands with those who had one, at their end.
    shard.publish_topic(at(3), &topic("topic-18"), custom(), to_raw_value(&1).unwrap()).unwrap();
    drain(&mut shard);
    assert_consistent(&shard);
    publish(&mut shard, 4, "bob");
    publish(&mut shard, 5, "cyd");
    assert_eq!(names(&shard), ["bob", "cyd", "eve"]);
    assert_eq!(shard.topics.keys().map(|id| id.name().as_str()).collect::<Vec<_>>(), ["topic-18"]);
}

#[test]
fn every_shard_keeps_its_part_and_one_at_least() {
    let part = |kept_streams, shards| {
        let limits = Limits { kept_streams, ..Limits::default() };
        Manager::<u32>::new(std::sync::Arc::new(limits), shards).max_kept
    };
    assert_eq!((part(100, 4), part(3, 4), part(1, 16)), (25, 1, 1));
    let mut shard = shard(Limits { kept_streams: 1, ..Limits::default() });
    publish(&mut shard, 0, "ann");
    publish(&mut shard, 0, "bob");
    assert_eq!(
        shard.users[&user("bob")].channel.log.start(),
        Position { seq: 0, ..shard.users[&user("bob")].channel.log.head() }
    );
}
