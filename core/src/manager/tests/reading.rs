//! Reading from a log, and telling everybody of the drain.

use serde_json::value::to_raw_value;

use super::{Told, at, attach, conn, drain, shard, user};
use crate::id::UserId;
use crate::limits::Limits;
use crate::manager::{Custom, Pace, READ_ENTRIES, Read};
use crate::protocol::Position;

fn publish(shard: &mut super::Shard, name: &str, bytes: usize) {
    let data = to_raw_value(&"x".repeat(bytes)).unwrap();
    shard.publish(at(0), &user(name), Custom { thread: None, name: "n".into(), key: None }, data).unwrap();
    drain(shard);
}

fn frames(read: Read) -> Vec<usize> {
    match read {
        Read::Entries { entries, .. } => entries.iter().map(|entry| entry.frame().len()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_takes_what_fits_and_at_least_one() {
    let mut shard = shard(Limits::default());
    let from = attach(&mut shard, at(0), "ann", 1, None).unwrap().stream.position;
    for bytes in [100, 200, 300] {
        publish(&mut shard, "ann", bytes);
    }
    let read = |from, max| frames(shard.read(&user("ann"), conn(1), from, max));
    let all = read(from, usize::MAX);
    assert_eq!(all.len(), 3);
    assert_eq!(read(from, all[0] + all[1]), all[..2]);
    assert_eq!(read(from, all[0] + all[1] - 1), all[..1]);
    assert_eq!(read(from, 0), all[..1], "one that is larger than the budget is not stuck for ever");
    let end = Position { seq: from.seq + 3, ..from };
    assert_eq!(read(end, usize::MAX), [0; 0]);
}

#[test]
fn a_read_takes_so_many_entries_at_most() {
    let mut shard = shard(Limits::default());
    let mut from = attach(&mut shard, at(0), "ann", 1, None).unwrap().stream.position;
    for _ in 0..=READ_ENTRIES {
        publish(&mut shard, "ann", 1);
    }
    let first = frames(shard.read(&user("ann"), conn(1), from, usize::MAX));
    assert_eq!(first.len(), READ_ENTRIES);
    from.seq += first.len() as u64;
    assert_eq!(frames(shard.read(&user("ann"), conn(1), from, usize::MAX)).len(), 1);
}

#[test]
fn a_cursor_that_fell_out_of_the_log_or_was_never_in_it_is_lost() {
    let mut shard = shard(Limits { log_entries: 2, ..Limits::default() });
    let from = attach(&mut shard, at(0), "ann", 1, None).unwrap().stream.position;
    for _ in 0..3 {
        publish(&mut shard, "ann", 1);
    }
    let read = |from| shard.read(&user("ann"), conn(1), from, usize::MAX);
    assert_eq!(read(from), Read::Lost);
    assert_eq!(read(Position { seq: 4, ..from }), Read::Lost);
    assert_eq!(read(Position { epoch: 1, seq: 2 }), Read::Lost);
    assert_eq!(frames(read(Position { seq: 1, ..from })).len(), 2);
}

#[test]
fn only_a_connection_that_is_attached_to_this_user_reads() {
    let mut shard = shard(Limits::default());
    let from = attach(&mut shard, at(0), "ann", 1, None).unwrap().stream.position;
    attach(&mut shard, at(0), "bob", 2, None).unwrap();
    publish(&mut shard, "ann", 1);
    for (name, n) in [("ann", 2), ("ann", 3), ("carol", 1)] {
        assert_eq!(shard.read(&user(name), conn(n), from, usize::MAX), Read::Detached, "{name} {n}");
    }
    shard.detach(at(0), &user("ann"), conn(1));
    assert_eq!(shard.read(&user("ann"), conn(1), from, usize::MAX), Read::Detached);
}

#[test]
fn a_shard_above_its_share_sheds_the_log_that_grew() {
    // Frames of 1,000 bytes alone, of which ten are above the share.
    let mut shard = shard(Limits { total_log_bytes: 10_000, deflate_from: None, ..Limits::default() });
    for _ in 0..3 {
        publish(&mut shard, "bob", 1_000);
    }
    let bobs = shard.users[&user("bob")].channel.log.start();
    for _ in 0..100 {
        publish(&mut shard, "ann", 1_000);
        super::assert_consistent(&shard);
        assert!(shard.logs.total() <= 10_000, "{}", shard.logs.total());
    }
    assert_eq!(shard.users[&user("bob")].channel.log.start(), bobs, "who is below the fair part loses nothing");
}

#[test]
fn the_drain_reaches_every_device_once_whatever_the_batch() {
    for batch in [1, 2, 3, 100] {
        let mut shard = shard(Limits::default());
        let mut expected = Vec::new();
        for n in 0..20_u32 {
            // Every third user has no device, every fourth two.
            let name = format!("user-{:02}", n / 2);
            if !n.is_multiple_of(3) {
                attach(&mut shard, at(0), &name, n, None).unwrap();
                expected.push(n);
            } else {
                publish(&mut shard, &name, 1);
            }
        }
        shard.begin_drain();
        let mut pace = Pace::new(20, Limits::default().drain_deadline);
        let (mut last, mut told, mut rounds): (Option<UserId>, _, _) = (None, Vec::new(), 0);
        loop {
            last = shard.drain_some(last.as_ref(), batch, &mut pace);
            let here = drain(&mut shard);
            assert!(here.len() <= 2 * batch, "a batch is bounded");
            told.extend(here);
            rounds += 1;
            if last.is_none() {
                break;
            }
        }
        let going = |told| if let Told::GoingAway(n) = told { n } else { panic!("{told:?}") };
        let mut told: Vec<u32> = told.into_iter().map(going).collect();
        told.sort_unstable();
        assert_eq!(told, expected);
        assert_eq!(rounds, shard.users.len().div_ceil(batch) + 1);
    }
}
