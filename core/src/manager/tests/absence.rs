//! Runs whose user leaves and comes back.

use std::time::Duration;

use proptest::prelude::*;

use super::{Shard, Told, assert_consistent, at, attach, conn, drain, run_start, shard, tick, user};
use crate::id::RunId;
use crate::limits::Limits;
use crate::manager::{OnDisconnect, RunStart};
use crate::stream::RunEvent;

const GRACE: u64 = 10;

fn start(shard: &mut Shard, on_disconnect: OnDisconnect) -> RunId {
    let run = shard.start_run(at(0), RunStart { on_disconnect, ..run_start("ann", 7 << 32) }).unwrap().run;
    assert_consistent(shard_of(shard));
    run
}

/// What is not about producers is taken out.
fn shard_of(shard: &mut Shard) -> &Shard {
    drain(shard);
    shard
}

fn cancel_after() -> OnDisconnect {
    OnDisconnect::CancelAfter(Duration::from_micros(GRACE))
}

/// A shard where ann is connected as 1 and leaves at 0.
fn left(on_disconnect: OnDisconnect) -> (Shard, RunId) {
    let mut shard = shard(Limits::default());
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    let run = start(&mut shard, on_disconnect);
    assert_eq!(shard.poll_timeout(), None);
    shard.detach(at(0), &user("ann"), conn(1));
    assert_eq!(shard.users[&user("ann")].channel.log.head().seq, 1, "leaving appends nothing");
    (shard, run)
}

#[test]
fn the_grace_ends_at_its_moment_and_the_request_is_made_once() {
    let (mut shard, run) = left(cancel_after());
    assert_eq!(drain(&mut shard), []);
    assert_eq!(tick(&mut shard, GRACE - 1), []);
    assert_eq!(tick(&mut shard, GRACE), [Told::Cancel(900)]);
    assert_eq!(tick(&mut shard, 100 * GRACE), []);
    assert_eq!(shard.counts().runs, 1, "ending the run is the producer's to do");
    let end = RunEvent::Cancelled { by: "disconnect".into(), reason: "nobody is there".into() };
    shard.run_event(at(GRACE), &user("ann"), run, end).unwrap();
    assert_consistent(&shard);
}

#[test]
fn at_the_moment_of_the_deadline_whoever_is_first_counts() {
    let (mut shard, _) = left(cancel_after());
    attach(&mut shard, at(GRACE), "ann", 2, None).unwrap();
    assert_eq!(tick(&mut shard, GRACE), [], "the device was first");
    assert_eq!(tick(&mut shard, 100 * GRACE), []);

    let (mut shard, _) = left(cancel_after());
    assert_eq!(tick(&mut shard, GRACE), [Told::Cancel(900)]);
    attach(&mut shard, at(GRACE), "ann", 2, None).unwrap();
    assert_eq!(drain(&mut shard), [], "a request stands");
}

#[test]
fn another_device_or_a_superseding_socket_is_presence() {
    let mut shard = shard(Limits::default());
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    attach(&mut shard, at(0), "ann", 2, None).unwrap();
    start(&mut shard, cancel_after());
    shard.detach(at(0), &user("ann"), conn(1));
    assert_eq!(shard.poll_timeout(), None);
    attach(&mut shard, at(1), "ann", 3, Some(2)).unwrap();
    drain(&mut shard);
    shard.detach(at(1), &user("ann"), conn(2));
    assert_eq!((tick(&mut shard, 100 * GRACE), shard.poll_timeout()), (vec![], None));
}

#[test]
fn a_run_that_starts_with_nobody_there_has_its_grace_too_and_one_that_ends_has_none() {
    let mut shard = shard(Limits::default());
    let run = start(&mut shard, cancel_after());
    assert_eq!(shard.poll_timeout().map(|(at, _)| at.as_micros()), Some(GRACE));
    let end = RunEvent::Completed { final_response: None, result: None };
    shard.run_event(at(1), &user("ann"), run, end).unwrap();
    assert_eq!(tick(&mut shard, 100 * GRACE), []);
}

#[test]
fn a_paused_run_is_told_at_the_edges_and_one_that_goes_on_is_not() {
    let (mut shard, _) = left(OnDisconnect::Pause);
    assert_eq!(drain(&mut shard), [Told::Paused(900)]);
    attach(&mut shard, at(5), "ann", 2, None).unwrap();
    assert_eq!(drain(&mut shard), [Told::Resumed(900)]);
    attach(&mut shard, at(5), "ann", 3, None).unwrap();
    assert_eq!(drain(&mut shard), []);
    let (mut shard, _) = left(OnDisconnect::Continue);
    assert_eq!((drain(&mut shard), shard.poll_timeout()), (vec![], None));
}

properties! {
    /// Absences and presences in turn, with the housekeeper as late as it likes within each.
    #[test]
    fn only_an_absence_of_the_whole_grace_cancels(spans in prop::collection::vec((0..2 * GRACE, 0..2 * GRACE), 1..20)) {
        let (mut shard, _) = left(cancel_after());
        let (mut now, mut connection) = (0, 1);
        for (away, here) in spans {
            now += away;
            let told = tick(&mut shard, now);
            prop_assert_eq!(told.len(), usize::from(away >= GRACE));
            connection += 1;
            attach(&mut shard, at(now), "ann", connection, None).unwrap();
            prop_assert_eq!(tick(&mut shard, now + here), []);
            now += here;
            shard.detach(at(now), &user("ann"), conn(connection));
            prop_assert_eq!(drain(&mut shard), []);
            assert_consistent(&shard);
        }
    }
}
