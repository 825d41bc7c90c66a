//! Who is told of a level and who is let in at it.

use std::sync::Arc;

use super::*;
use crate::level::{LevelNotice, ServiceLevel};

fn notice(number: u64, level: ServiceLevel) -> Arc<LevelNotice> {
    Arc::new(LevelNotice { number, level, reason: "r".into() })
}

#[test]
fn who_comes_while_a_change_is_announced_knows_it_and_an_older_change_reaches_nobody() {
    let mut shard = shard(Limits::default());
    let mut names = ["a", "b", "c", "d", "e"];
    names.sort_by_key(|name| user(name));
    for (n, name) in [names[1], names[2], names[4]].into_iter().enumerate() {
        attach(&mut shard, at(0), name, n as u32, None).unwrap();
        drain(&mut shard);
    }
    assert!(shard.set_level(&notice(2, ServiceLevel::Degraded)));
    let reached = shard.announce_some(None, 1);
    assert_eq!((reached.clone(), drain(&mut shard)), (Some(user(names[1])), vec![Told::Level(0, 2)]));
    // One before the place that was reached, and one behind it, who is told once more.
    for (n, name) in [(10, names[0]), (11, names[3])] {
        attach(&mut shard, at(0), name, n, None).unwrap();
        assert_eq!((drain(&mut shard), shard.level().number), (vec![], 2), "the welcome says it");
    }
    assert!(!shard.set_level(&notice(1, ServiceLevel::Emergency)), "it was overtaken");
    assert!(!shard.set_level(&notice(2, ServiceLevel::Degraded)));
    // The newer one comes into the middle; whoever goes on with the older one passes on the newer.
    assert!(shard.set_level(&notice(3, ServiceLevel::Normal)));
    let reached = shard.announce_some(reached.as_ref(), 9);
    assert_eq!(reached, Some(user(names[4])));
    assert_eq!(drain(&mut shard), [Told::Level(1, 3), Told::Level(11, 3), Told::Level(2, 3)]);
    assert_eq!(shard.announce_some(reached.as_ref(), 9), None);
}

/// Connection `n` of ann's, which says that it was here.
fn come(shard: &mut Shard, n: u32, attached: usize, resume: Option<Position>) -> Result<(), CloseReason> {
    let id = |n: u32| SessionId::from_bits(n.into());
    let outcome = shard.attach(
        at(0),
        Attach {
            handle: n,
            connection: conn(n),
            order: n.into(),
            user: user("ann"),
            session: None,
            fresh_session: id(n),
            resume,
            token: Credential::default(),
            threads: Vec::new(),
            attached,
        },
    );
    drain(shard);
    outcome.map(drop)
}

#[test]
fn newcomers_are_let_in_up_to_half_or_not_at_all_and_who_was_here_always() {
    let limits = Limits { connections: 9, ..Limits::default() };
    let mut shard = shard(limits);
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    drain(&mut shard);
    let epoch = shard.users[&user("ann")].channel.log.head().epoch;
    let known = Some(Position { epoch, seq: 0 });
    for (number, level, most) in
        [(1, ServiceLevel::Degraded, 4), (2, ServiceLevel::Emergency, 0), (3, ServiceLevel::Normal, usize::MAX)]
    {
        shard.set_level(&notice(number, level));
        for attached in [1, 4, 5, 9] {
            let refused = (attached > most).then_some(CloseReason::TryAgainLater);
            for new in [None, Some(Position::NONE), Some(Position { epoch: epoch - 1, seq: 0 })] {
                assert_eq!(come(&mut shard, 2, attached, new).err(), refused, "{level} {attached} {new:?}");
                shard.detach(at(0), &user("ann"), conn(2));
            }
            // A place that the stream has not come to was never given.
            let ahead = Some(Position { epoch, seq: 1 });
            assert_eq!(come(&mut shard, 2, attached, ahead).err(), refused);
            shard.detach(at(0), &user("ann"), conn(2));
            assert_eq!(come(&mut shard, 2, attached, known), Ok(()), "{level} {attached}");
            shard.detach(at(0), &user("ann"), conn(2));
        }
    }
}

#[test]
fn a_session_that_is_there_may_move_to_another_socket_and_a_made_up_one_may_not() {
    let mut shard = shard(Limits::default());
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    drain(&mut shard);
    shard.set_level(&notice(1, ServiceLevel::Emergency));
    assert_eq!(attach(&mut shard, at(0), "ann", 2, Some(7)).err(), Some(CloseReason::TryAgainLater));
    attach(&mut shard, at(0), "ann", 3, Some(1)).unwrap();
    assert_eq!(drain(&mut shard), [Told::Closed(1, CloseReason::Superseded)]);
    assert_eq!(attach(&mut shard, at(0), "bob", 4, Some(1)).err(), Some(CloseReason::TryAgainLater), "another's");
    assert_eq!(shard.counts().users, 1, "whoever is refused leaves nothing behind");
}

#[test]
fn the_hub_is_told_of_growth_in_steps() {
    let limits = Limits { total_log_bytes: 64_000, total_dedup_bytes: 64_000, ..Limits::default() };
    let mut shard = shard(limits);
    let (mut told, mut published) = (0, 0);
    while shard.held_bytes() < 20_000 {
        let data = serde_json::value::to_raw_value(&"x".repeat(200)).unwrap();
        let custom = super::super::Custom { thread: None, name: "n".into(), key: None };
        shard.publish(at(0), &user("ann"), custom, data).unwrap();
        drain(&mut shard);
        (told, published) = (told + usize::from(shard.has_grown()), published + 1);
        assert!(!shard.has_grown(), "once a step");
    }
    // A 32nd of 128,000 bytes is 4,000.
    assert_eq!(told, 4, "{published} events");
}
