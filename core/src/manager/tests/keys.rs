//! What a shard remembers of keys, in all.

use super::*;
use crate::id::{TopicId, TopicName};
use crate::manager::Custom;

/// What one key counts as.
const KEY: usize = 384;

fn custom(key: &str) -> (Custom, Box<serde_json::value::RawValue>) {
    let data = serde_json::value::RawValue::from_string("1".into()).unwrap();
    (Custom { thread: None, name: "n".into(), key: Some(IdempotencyKey::new(key).unwrap()) }, data)
}

/// Whether the event had an effect.
fn publish(shard: &mut Shard, name: &str, key: &str) -> bool {
    let head = |shard: &Shard| shard.users.get(&user(name)).map_or(0, |user| user.channel.log.head().seq);
    let before = head(shard);
    let (custom, data) = custom(key);
    shard.publish(at(0), &user(name), custom, data).unwrap();
    drain(shard);
    assert_consistent(shard);
    head(shard) > before
}

fn publish_topic(shard: &mut Shard, topic: &TopicId, key: &str) {
    let (custom, data) = custom(key);
    shard.publish_topic(at(0), topic, custom, data).unwrap();
    drain(shard);
}

#[test]
fn the_keys_of_all_are_bounded_and_who_has_most_forgets_first() {
    let mut shard = shard(Limits { total_dedup_bytes: 10 * KEY, ..Limits::default() });
    assert!(publish(&mut shard, "bob", "k"));
    for n in 0..9 {
        assert!(publish(&mut shard, "ann", &n.to_string()));
    }
    assert!(!publish(&mut shard, "ann", "0"), "n fit");
    assert!(publish(&mut shard, "ann", "9"));
    assert_eq!(shard.key_sizes.total(), 10 * KEY);
    assert!(!publish(&mut shard, "ann", "9") && !publish(&mut shard, "ann", "1"));
    assert!(publish(&mut shard, "ann", "0"), "the oldest of n + 1 is forgotten");
    assert!(!publish(&mut shard, "bob", "k"), "by nobody else's load");
    let news = TopicId::new(None, TopicName::new("news").unwrap()).unwrap();
    for n in 0..30 {
        publish_topic(&mut shard, &news, &n.to_string());
    }
    assert!(shard.key_sizes.total() <= 10 * KEY);
    assert!(!publish(&mut shard, "bob", "k"), "nor by a topic's");
    tick(&mut shard, 3_600_000_000);
    assert_eq!((shard.users.len(), shard.topics.len(), shard.key_sizes.total()), (0, 0, 0));
}
