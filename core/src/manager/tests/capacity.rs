//! Who gives way at the cap of a user.

use proptest::prelude::*;

use super::{Shard, Told, assert_consistent, at, attach, conn, drain, shard, user};
use crate::error::CloseReason;
use crate::limits::{AtCapacity, Limits};
use crate::time::Timestamp;

const SECOND: u64 = 1_000_000;
const MAX: usize = 3;

fn limits() -> Limits {
    Limits { connections_per_user: MAX, ..Limits::default() }
}

/// A shard whose user is full since the time 0, by the devices 1 to 3.
fn full(limits: Limits) -> Shard {
    let mut shard = shard(limits);
    for n in 1..=MAX as u32 {
        attach(&mut shard, at(0), "ann", n, None).unwrap();
    }
    assert!(shard.is_full(&user("ann")) && !shard.is_full(&user("bob")));
    shard
}

/// Device `n` comes at `secs`, with a session that it continues, where all but `silent` were heard just now.
fn comes(shard: &mut Shard, secs: u64, n: u32, session: Option<u32>, silent: &[(u32, u64)]) -> Result<(), CloseReason> {
    let heard = |handle: &u32| silent.iter().find(|(known, _)| known == handle).map_or(secs, |(_, at)| *at) * SECOND;
    // A ping after 25 s, and half of the 10 s that it may go unanswered.
    shard.note_dead(&user("ann"), |handle| Timestamp::from_micros(heard(handle) + 30 * SECOND));
    attach(shard, at(secs * SECOND), "ann", n, session).map(drop)
}

fn evicted(n: u32) -> Vec<Told> {
    vec![Told::Closed(n, CloseReason::Evicted)]
}

#[test]
fn the_one_that_has_done_nothing_for_the_longest_time_gives_way_and_nobody_before_its_time() {
    let mut shard = full(limits());
    shard.note_active(at(SECOND), &user("ann"), conn(1));
    assert_eq!(comes(&mut shard, 59, 4, None, &[]), Err(CloseReason::TooManyConnections));
    assert_eq!(drain(&mut shard), []);
    assert_eq!(comes(&mut shard, 60, 5, None, &[]), Ok(()));
    assert_eq!(drain(&mut shard), evicted(2));
    assert_eq!(comes(&mut shard, 60, 6, None, &[]), Ok(()));
    assert_eq!(drain(&mut shard), evicted(3));
    assert_eq!(
        comes(&mut shard, 60, 7, None, &[]),
        Err(CloseReason::TooManyConnections),
        "one has spoken, two are new"
    );
    assert_eq!(comes(&mut shard, 61, 8, None, &[]), Ok(()));
    assert_eq!(drain(&mut shard), evicted(1));
    assert_eq!(shard.counts().connections, MAX);
    assert_consistent(&shard);
}

#[test]
fn a_dead_one_gives_way_before_a_living_one_however_little_that_does() {
    let mut shard = full(limits());
    shard.note_active(at(99 * SECOND), &user("ann"), conn(2));
    // It spoke last, and was not heard for 30 s: a ping has gone unanswered.
    assert_eq!(comes(&mut shard, 100, 4, None, &[(2, 70)]), Ok(()));
    assert_eq!(drain(&mut shard), evicted(2));
    let mut shard = full(limits());
    assert_eq!(comes(&mut shard, 100, 4, None, &[(2, 71)]), Ok(()), "29 s are no death yet");
    assert_eq!(drain(&mut shard), evicted(1));
    let mut shard = full(limits());
    assert_eq!(comes(&mut shard, 50, 4, None, &[(2, 20), (3, 19)]), Ok(()), "a dead one need not be idle");
    assert_eq!(drain(&mut shard), evicted(3), "the longest dead first");
}

#[test]
fn whoever_gave_way_and_comes_back_displaces_nobody_alive_until_it_is_told_to_stop() {
    let mut shard = full(limits());
    comes(&mut shard, 60, 4, None, &[]).unwrap();
    assert_eq!(drain(&mut shard), evicted(1));
    assert_eq!(comes(&mut shard, 600, 11, Some(1), &[]), Err(CloseReason::TooManyConnections));
    assert_eq!(drain(&mut shard), []);
    // It was told to stop: that it comes again is somebody's will.
    assert_eq!(comes(&mut shard, 601, 12, Some(1), &[]), Ok(()));
    assert_eq!(drain(&mut shard), evicted(2));
    // A place that is free, and one of a dead device, are there for everybody.
    assert_eq!(comes(&mut shard, 602, 13, Some(2), &[(3, 100)]), Ok(()));
    assert_eq!(drain(&mut shard), evicted(3));
    comes(&mut shard, 700, 14, None, &[]).unwrap();
    assert_eq!(drain(&mut shard), evicted(4));
    shard.detach(at(701 * SECOND), &user("ann"), conn(12));
    assert_eq!(comes(&mut shard, 702, 15, Some(4), &[]), Ok(()));
    assert_eq!(drain(&mut shard), []);
    assert_consistent(&shard);
}

#[test]
fn where_newcomers_are_to_be_refused_nobody_gives_way() {
    let mut shard = full(Limits { at_capacity: AtCapacity::Refuse, ..limits() });
    assert_eq!(comes(&mut shard, 1_000, 4, None, &[(2, 0)]), Err(CloseReason::TooManyConnections));
    assert_eq!(comes(&mut shard, 1_000, 5, Some(2), &[]), Ok(()), "who continues a session has a place");
    assert_eq!(drain(&mut shard), [Told::Closed(2, CloseReason::Superseded)]);
}

#[test]
fn another_user_never_makes_anybody_give_way() {
    let mut shard = full(limits());
    attach(&mut shard, at(600 * SECOND), "bob", 9, None).unwrap();
    assert_eq!(drain(&mut shard), []);
    assert_eq!(shard.counts().connections, MAX + 1);
}

#[derive(Clone, Debug)]
enum Step {
    Come {
        session: Option<u32>,
    },
    Leave(usize),
    Use(usize),
    /// So many seconds pass, in which those whose bit is not set are heard.
    Pass {
        secs: u64,
        silent: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::option::of(0_u32..12).prop_map(|session| Step::Come { session }),
        1 => (0_usize..MAX).prop_map(Step::Leave),
        2 => (0_usize..MAX).prop_map(Step::Use),
        3 => (0_u64..40, any::<u8>()).prop_map(|(secs, silent)| Step::Pass { secs, silent }),
    ]
}

/// What a device has done: its number, its session, when it was heard and when it was used.
#[derive(Clone, Copy, Debug)]
struct Known {
    n: u32,
    session: u32,
    heard: u64,
    used: u64,
}

properties! {
    #[test]
    fn no_living_device_gives_way_while_a_dead_one_is_there_and_the_least_active_goes_first(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut shard = shard(limits());
        let (mut known, mut now, mut gave_way) = (Vec::<Known>::new(), 0, Vec::new());
        for (n, step) in (100..).zip(steps) {
            match step {
                Step::Pass { secs, silent } => {
                    now += secs;
                    for (at, device) in known.iter_mut().enumerate() {
                        if silent & (1 << at) == 0 {
                            device.heard = now;
                        }
                    }
                }
                Step::Use(at) => {
                    if let Some(device) = known.get_mut(at) {
                        (device.used, device.heard) = (now, now);
                        shard.note_active(self::at(now * SECOND), &user("ann"), conn(device.n));
                    }
                }
                Step::Leave(at) if at < known.len() => {
                    let device = known.remove(at);
                    shard.detach(self::at(now * SECOND), &user("ann"), conn(device.n));
                }
                Step::Leave(_) => {}
                Step::Come { session } => {
                    let taken_over = session.is_some_and(|session| known.iter().any(|device| device.session == session));
                    let silent: Vec<_> = known.iter().map(|device| (device.n, device.heard)).collect();
                    let before = known.clone();
                    let came = comes(&mut shard, now, n, session, &silent);
                    let was_sent_away = gave_way.iter().position(|gone| Some(*gone) == session);
                    let returns = was_sent_away.map(|at| gave_way.remove(at)).is_some();
                    for told in drain(&mut shard) {
                        let Told::Closed(gone, reason) = told else { panic!("{told:?}") };
                        let at = known.iter().position(|device| device.n == gone).unwrap();
                        let gone = known.remove(at);
                        prop_assert!(came.is_ok(), "nobody goes for whoever is refused");
                        if taken_over {
                            prop_assert_eq!((reason, Some(gone.session)), (CloseReason::Superseded, session));
                            continue;
                        }
                        prop_assert_eq!((reason, before.len()), (CloseReason::Evicted, MAX));
                        let dead = |device: &Known| now >= device.heard + 30;
                        if dead(&gone) {
                            prop_assert!(before.iter().all(|device| device.heard >= gone.heard));
                        } else {
                            prop_assert!(!returns, "whoever gave way does not come back at the cost of another");
                            gave_way.push(gone.session);
                            gave_way.drain(..gave_way.len().saturating_sub(MAX));
                            prop_assert!(!before.iter().any(dead), "a dead one is there");
                            prop_assert!(now >= gone.used + 60 && before.iter().all(|device| device.used >= gone.used));
                        }
                    }
                    if came.is_ok() {
                        known.push(Known { n, session: session.unwrap_or(n), heard: now, used: now });
                    }
                }
            }
            prop_assert!(known.len() <= MAX);
            prop_assert_eq!(shard.counts().connections, known.len(), "the count is the size of the set");
            assert_consistent(&shard);
        }
    }
}
