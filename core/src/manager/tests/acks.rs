//! How far devices have come, and what goes of the log because all of them have it.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::value::to_raw_value;

use super::{Shard, assert_consistent, at, attach, conn, drain, shard, tick, user};
use crate::id::SessionId;
use crate::limits::Limits;
use crate::manager::{Credential, Custom, DeviceStatus};
use crate::protocol::{Mode, Position};
use crate::stream::Entry;

const RETENTION: u64 = 800;
/// An entry's age is known to an eighth of the retention.
const STEP: u64 = RETENTION / 8;

fn limits() -> Limits {
    Limits { log_retention: Duration::from_micros(RETENTION), ..Limits::default() }
}

fn publish(shard: &mut Shard, micros: u64, events: u64) {
    for _ in 0..events {
        let custom = Custom { thread: None, name: "n".into(), key: None };
        shard.publish(at(micros), &user("ann"), custom, to_raw_value(&1).unwrap()).unwrap();
        drain(shard);
    }
}

/// Attaches a device that is live from here on.
fn live(shard: &mut Shard, micros: u64, n: u32) -> Position {
    let id = |n: u32| SessionId::from_bits(n.into());
    let attached = shard.attach(
        at(micros),
        super::Attach {
            handle: n,
            connection: conn(n),
            order: n.into(),
            token: Credential::default(),
            user: user("ann"),
            session: None,
            fresh_session: id(n),
            resume: None,
            threads: Vec::new(),
            attached: 1,
        },
    );
    attached.unwrap().stream.position
}

fn ack(shard: &mut Shard, micros: u64, n: u32, seq: u64) {
    let epoch = shard.users[&user("ann")].channel.log.head().epoch;
    shard.ack(at(micros), &user("ann"), conn(n), Position { epoch, seq });
    assert!(drain(shard).is_empty(), "nobody is told");
}

/// Seqs of what the log holds.
fn held(shard: &Shard) -> Vec<u64> {
    let log = &shard.users[&user("ann")].channel.log;
    log.after(log.start()).unwrap().map(Entry::seq).collect()
}

fn status(shard: &Shard) -> Vec<(Option<u64>, u64)> {
    let devices = shard.devices(&user("ann"));
    devices.into_iter().map(|DeviceStatus { acked, behind, .. }| (acked.map(|at| at.seq), behind)).collect()
}

#[test]
fn an_ack_is_cumulative_and_one_that_the_stream_does_not_have_changes_nothing() {
    let mut shard = shard(limits());
    let start = live(&mut shard, 0, 1);
    publish(&mut shard, 0, 5);
    assert_eq!(status(&shard), [(None, 5)], "it is known to have what it continued from");
    for (seq, acked) in [(2, 2), (4, 4), (3, 4), (6, 4), (u64::MAX, 4), (5, 5)] {
        ack(&mut shard, 0, 1, seq);
        assert_eq!(status(&shard), [(Some(acked), 5 - acked)], "after {seq}");
    }
    publish(&mut shard, 0, 2);
    let before = format!("{shard:?}");
    for epoch in [start.epoch - 1, start.epoch + 1] {
        shard.ack(at(0), &user("ann"), conn(1), Position { epoch, seq: 7 });
    }
    ack(&mut shard, 0, 2, 7);
    shard.ack(at(0), &user("bob"), conn(1), Position { seq: 7, ..start });
    assert_eq!(format!("{shard:?}"), before, "another incarnation's, another connection's, another user's");
}

#[test]
fn a_device_is_listed_with_what_it_came_with_and_as_long_as_it_is_there() {
    let mut shard = shard(limits());
    assert_eq!(shard.devices(&user("ann")), []);
    live(&mut shard, 0, 1);
    publish(&mut shard, 0, 3);
    live(&mut shard, 0, 2);
    attach(&mut shard, at(0), "ann", 3, None).unwrap();
    assert_eq!(status(&shard), [(None, 3), (None, 0), (None, 3)]);
    ack(&mut shard, 0, 2, 1);
    assert_eq!(status(&shard)[1], (Some(1), 0), "it has what it continued from, whatever it says");
    ack(&mut shard, 0, 3, 2);
    // It comes back from where it was: what it acknowledged is what it resumes from.
    let epoch = shard.users[&user("ann")].channel.log.head().epoch;
    let back = super::Attach {
        handle: 4,
        connection: conn(4),
        order: 4,
        token: Credential::default(),
        user: user("ann"),
        session: Some(SessionId::from_bits(3)),
        fresh_session: SessionId::from_bits(9),
        resume: Some(Position { epoch, seq: 2 }),
        threads: Vec::new(),
        attached: 1,
    };
    shard.attach(at(0), back).unwrap();
    drain(&mut shard);
    assert_eq!(status(&shard), [(None, 3), (Some(1), 0), (None, 1)]);
    assert_eq!(shard.devices(&user("ann"))[2].session, SessionId::from_bits(3));
    shard.detach(at(0), &user("ann"), conn(1));
    let before = format!("{shard:?}");
    assert_eq!(
        shard.devices(&user("ann")).iter().map(|device| device.connection).collect::<Vec<_>>(),
        [conn(2), conn(4)]
    );
    assert_eq!(format!("{shard:?}"), before, "looking changes nothing");
}

#[test]
fn what_every_device_has_goes_once_it_is_as_old_as_the_retention_and_a_resume_says_so() {
    let mut shard = shard(limits());
    for n in [1, 2] {
        live(&mut shard, 0, n);
    }
    publish(&mut shard, 0, 2);
    publish(&mut shard, STEP, 2);
    ack(&mut shard, STEP, 1, 4);
    tick(&mut shard, 10 * RETENTION);
    assert_eq!(held(&shard), [1, 2, 3, 4], "the other one does not have them");
    let mut shard = shard.clone();
    ack(&mut shard, 10 * RETENTION, 2, 3);
    tick(&mut shard, 10 * RETENTION);
    assert_eq!(held(&shard), [4]);
    let lost = attach(&mut shard, at(10 * RETENTION), "ann", 3, None).unwrap().stream;
    assert_eq!((lost.mode, lost.position.seq, lost.lost.map(|lost| lost.to.seq)), (Mode::Reset, 3, Some(3)));
    assert_consistent(&shard);
}

#[test]
fn nothing_goes_before_the_retention_and_the_newest_entry_never() {
    let mut shard = shard(limits());
    live(&mut shard, 0, 1);
    publish(&mut shard, 0, 2);
    publish(&mut shard, STEP, 1);
    ack(&mut shard, STEP, 1, 3);
    let due = STEP + RETENTION;
    assert_eq!(shard.poll_timeout().map(|(at, _)| at.as_micros()), Some(due));
    tick(&mut shard, due - 1);
    assert_eq!(held(&shard), [1, 2, 3]);
    tick(&mut shard, due);
    assert_eq!(held(&shard), [3]);
    assert_eq!(shard.poll_timeout(), None);
    tick(&mut shard, 10 * RETENTION);
    assert_eq!(held(&shard), [3]);
}

#[test]
fn a_user_without_devices_keeps_what_the_log_holds_while_a_run_is_open() {
    let mut shard = shard(limits());
    live(&mut shard, 0, 1);
    shard.start_run(at(0), crate::manager::tests::run_start("ann", 7)).unwrap();
    drain(&mut shard);
    publish(&mut shard, 0, 2);
    ack(&mut shard, 0, 1, 3);
    shard.detach(at(0), &user("ann"), conn(1));
    tick(&mut shard, 10 * RETENTION);
    assert_eq!(held(&shard), [1, 2, 3]);
}

#[test]
fn one_pass_sheds_so_many_entries_and_the_next_one_the_rest() {
    let most = super::super::acks::TRIM_AT_ONCE as u64;
    for (events, left) in [(most + 1, 1), (most + 2, 2)] {
        let mut shard = shard(limits());
        live(&mut shard, 0, 1);
        publish(&mut shard, 0, events);
        ack(&mut shard, 0, 1, events);
        let late = at(2 * RETENTION);
        shard.handle_timeout(late);
        assert_eq!(held(&shard).len(), left);
        assert_consistent(&shard);
        tick(&mut shard, 2 * RETENTION);
        assert_eq!(held(&shard), [events]);
    }
}

#[test]
fn ages_are_bounded_where_nobody_acknowledges_and_make_nothing_older() {
    let most = crate::manager::acks::MAX_SPANS as u64;
    let mut shard = shard(limits());
    live(&mut shard, 0, 1);
    for n in 0..=most {
        publish(&mut shard, n * STEP, 1);
        assert_eq!(shard.users[&user("ann")].channel.ages.len() as u64, (n + 1).min(most));
    }
    let now = most * STEP;
    ack(&mut shard, now, 1, most + 1);
    tick(&mut shard, now);
    // The first two entries have become one span, as young as the second.
    let old = held(&shard);
    assert_eq!(old.first(), Some(&(now.saturating_sub(RETENTION + STEP) / STEP + 2)), "{old:?}");
}

#[test]
fn what_was_answered_is_let_go_with_its_window_also_where_nothing_else_happens() {
    let mut shard = shard(Limits { dedup_window: Duration::from_micros(50), ..limits() });
    live(&mut shard, 0, 1);
    shard.command(at(0), super::command("a", 1, Some("k")));
    let request = super::asked(&drain(&mut shard));
    shard.answer(at(10), &user("ann"), request, super::done());
    drain(&mut shard);
    assert_eq!(shard.poll_timeout().map(|(at, _)| at.as_micros()), Some(60));
    tick(&mut shard, 60);
    assert_eq!(shard.users[&user("ann")].keys, crate::manager::keys::Keys::default());
    assert_eq!(shard.poll_timeout(), None);
}

#[derive(Clone, Debug)]
enum Op {
    Attach(u32),
    Detach(u32),
    Publish(u64),
    Ack(u32, u64),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => (0_u32..3).prop_map(Op::Attach),
        1 => (0_u32..3).prop_map(Op::Detach),
        3 => (1_u64..8).prop_map(Op::Publish),
        4 => (0_u32..3, 0_u64..12).prop_map(|(n, back)| Op::Ack(n, back)),
        3 => (0_u64..RETENTION / 2).prop_map(Op::Wait),
    ]
}

properties! {
    /// Against a model that knows when each event came and what each device has: what goes is old and nobody's need, and
    /// what is old and nobody's need goes.
    #[test]
    fn only_what_all_have_and_is_old_goes_and_it_goes(ops in prop::collection::vec(op(), 0..120)) {
        let mut shard = shard(limits());
        let (mut now, mut born, mut has) = (0, Vec::new(), BTreeMap::<u32, u64>::new());
        // Keeps the user, so that its log has one incarnation.
        shard.start_run(at(0), crate::manager::tests::run_start("ann", 7)).unwrap();
        born.push(0);
        for op in ops {
            match op {
                Op::Attach(n) => {
                    // A run is open, so it gets a snapshot: the base and all of the log.
                    has.entry(n).or_insert_with(|| live(&mut shard, now, n).seq);
                }
                Op::Detach(n) => {
                    shard.detach(at(now), &user("ann"), conn(n));
                    has.remove(&n);
                }
                Op::Publish(events) => {
                    publish(&mut shard, now, events);
                    born.extend((0..events).map(|_| now));
                }
                Op::Ack(n, back) => {
                    let seq = (born.len() as u64).saturating_sub(back);
                    ack(&mut shard, now, n, seq);
                    if let Some(known) = has.get_mut(&n) {
                        *known = seq.max(*known);
                    }
                }
                Op::Wait(micros) => now += micros,
            }
            let before = held(&shard);
            let ages = shard.users[&user("ann")].channel.ages.len();
            tick(&mut shard, now);
            let after = held(&shard);
            let all_have = has.values().min().copied();
            for seq in &before {
                let age = now - born[*seq as usize - 1];
                let is_needed = all_have.is_none_or(|all_have| all_have < *seq) || *seq == born.len() as u64;
                if !after.contains(seq) {
                    prop_assert!(!is_needed && age >= RETENTION, "{seq} went at the age of {age}");
                } else if !is_needed && ages < crate::manager::acks::MAX_SPANS {
                    prop_assert!(age < RETENTION + STEP, "{seq} is there at the age of {age}");
                }
            }
            assert_consistent(&shard);
        }
    }
}
