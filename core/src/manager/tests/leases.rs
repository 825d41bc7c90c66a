//! Runs of producers over the wire: who holds them, which events count, and how they end.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::id::RunId;
use crate::manager::{Held, Holder, LeasedStart};
use crate::protocol::Receipt;
use crate::stream::{RunError, RunEvent};

const LEASE: Duration = Duration::from_micros(30);

fn limits() -> Limits {
    Limits { run_lease: LEASE, ..Limits::default() }
}

/// Connection `n`, whose handle is `n` too; 0 is nobody's.
fn leased(n: u32, random: u128) -> LeasedStart<u32> {
    let holder = (n > 0).then(|| Holder { connection: conn(n), handle: n });
    let start = RunStart { producer: (n > 0).then_some(n), ..run_start("ann", random) };
    LeasedStart { holder, start, wanted: None, key: None, lease: None }
}

fn start(shard: &mut Shard, now: u64, n: u32, random: u128) -> RunId {
    let held = shard.start_leased(at(now), leased(n, random)).unwrap();
    drain(shard);
    held.run
}

fn take_over(shard: &mut Shard, now: u64, n: u32, run: RunId) -> (Result<Held, RunError>, Vec<Told>) {
    let outcome = shard.start_leased(at(now), LeasedStart { wanted: Some(run), ..leased(n, 0) });
    (outcome, drain(shard))
}

fn thinking() -> RunEvent {
    RunEvent::Thinking { thought: "x".into(), step: None, progress: None }
}

fn done_event() -> RunEvent {
    RunEvent::Completed { final_response: None, result: None }
}

fn send(shard: &mut Shard, now: u64, n: u32, run: RunId, number: u64, event: RunEvent) -> Result<Receipt, RunError> {
    let by = (n > 0).then(|| conn(n));
    let outcome = shard.leased_event(at(now), by, run, number, event, |id| *id == user("ann"));
    drain(shard);
    assert_consistent(shard);
    outcome.map(|taken| taken.receipt)
}

fn head(shard: &Shard) -> u64 {
    shard.users[&user("ann")].channel.log.head().seq
}

#[test]
fn numbers_rise_by_one_repeats_are_harmless_and_gaps_are_refused() {
    let mut shard = shard(limits());
    let run = start(&mut shard, 0, 1, 7);
    assert_eq!(send(&mut shard, 1, 1, run, 2, thinking()), Err(RunError::Gap { expected: 1 }));
    for _ in 0..3 {
        assert_eq!(send(&mut shard, 1, 1, run, 1, thinking()), Ok(Receipt::Stored));
    }
    assert_eq!(head(&shard), 2, "the start and one thought");
    let early = RunEvent::ToolCompleted {
        tool_call_id: crate::id::ToolCallId::new("c").unwrap(),
        results: None,
        success: None,
        error: None,
    };
    assert!(matches!(send(&mut shard, 1, 1, run, 2, early), Err(RunError::ToolNotOpen { .. })));
    assert_eq!(
        send(&mut shard, 1, 1, run, 3, done_event()),
        Ok(Receipt::Stored),
        "a refused event has used its number"
    );
    assert_eq!(send(&mut shard, 1, 1, run, 4, thinking()), Err(RunError::Ended));
    assert_eq!(head(&shard), 3);
}

#[test]
fn only_its_holder_works_on_a_run_and_nobody_sees_whether_anothers_is_there() {
    let mut shard = shard(limits());
    let run = start(&mut shard, 0, 1, 7);
    assert_eq!(send(&mut shard, 0, 2, run, 1, thinking()), Err(RunError::RunTaken { run }));
    assert_eq!(send(&mut shard, 0, 0, run, 1, thinking()), Err(RunError::RunTaken { run }), "over HTTP neither");
    let (outcome, _) = take_over(&mut shard, 0, 2, run);
    assert_eq!(outcome, Err(RunError::RunTaken { run }));
    let missing = RunError::NoRun { run };
    assert_eq!(shard.leased_event(at(0), Some(conn(1)), run, 1, thinking(), |_| false), Err(missing.clone()));
    let bobs = LeasedStart { wanted: Some(run), start: run_start("bob", 1), ..leased(1, 1) };
    assert_eq!(shard.start_leased(at(0), bobs), Err(missing));
}

#[test]
fn a_lost_producer_leaves_its_lease_and_whoever_comes_in_time_goes_on_where_it_was() {
    let mut shard = shard(limits());
    attach(&mut shard, at(0), "ann", 5, None).unwrap();
    drain(&mut shard);
    let run = start(&mut shard, 0, 1, 7);
    send(&mut shard, 0, 1, run, 1, thinking()).unwrap();
    assert!(!shard.release_producer(at(10), conn(1), at(10).at, 9, |_| true));
    assert_consistent(&shard);
    assert_eq!(tick(&mut shard, 39), []);
    assert_eq!(
        send(&mut shard, 39, 1, run, 2, thinking()),
        Err(RunError::RunTaken { run }),
        "it is to be taken over first"
    );
    // Asked while nobody is there, told to who comes.
    shard.cancel(at(39), &user("ann"), &crate::protocol::RunRef::Id(run)).unwrap();
    assert_eq!(drain(&mut shard), []);
    let (outcome, told) = take_over(&mut shard, 39, 2, run);
    assert_eq!((outcome, told), (Ok(Held { run, last_n: 1, lease: LEASE }), vec![Told::Cancel(2)]));
    let (outcome, told) = take_over(&mut shard, 39, 2, run);
    assert_eq!((outcome, told), (Ok(Held { run, last_n: 1, lease: LEASE }), vec![]), "a repeat tells nothing twice");
    assert_eq!(tick(&mut shard, 1_000), [], "a held run has no deadline");
    send(&mut shard, 1_000, 2, run, 2, done_event()).unwrap();
    let (outcome, _) = take_over(&mut shard, 1_000, 2, run);
    assert_eq!(outcome, Err(RunError::Ended));
}

#[test]
fn a_lease_that_is_over_ends_the_run_at_its_moment_and_not_before() {
    let mut shard = shard(limits());
    attach(&mut shard, at(0), "ann", 5, None).unwrap();
    drain(&mut shard);
    let run = start(&mut shard, 0, 1, 7);
    // It was silent since 4, which is seen at 10.
    shard.release_producer(at(10), conn(1), at(4).at, 9, |_| true);
    assert_eq!(tick(&mut shard, 33), []);
    assert_eq!(tick(&mut shard, 34), [Told::Ready(5)]);
    assert_eq!(head(&shard), 2);
    assert_eq!(send(&mut shard, 34, 1, run, 1, thinking()), Err(RunError::Ended));
    assert_eq!(shard.counts().runs, 0);
}

#[test]
fn over_http_every_event_renews_the_lease() {
    let mut shard = shard(limits());
    let run = start(&mut shard, 0, 0, 7);
    for n in 1..9 {
        send(&mut shard, 29 * n, 0, run, n, thinking()).unwrap();
    }
    assert_eq!(send(&mut shard, 29 * 9, 0, run, 8, thinking()), Ok(Receipt::Stored), "a repeat renews it too");
    tick(&mut shard, 29 * 9 + 29);
    assert_eq!(shard.counts().runs, 1);
    tick(&mut shard, 29 * 9 + 30);
    assert_eq!(shard.counts().runs, 0);
}

#[test]
fn a_key_names_one_run_also_after_its_end() {
    let mut shard = shard(limits());
    let keyed = |n, random| LeasedStart { key: Some(IdempotencyKey::new("k").unwrap()), ..leased(n, random) };
    let first = shard.start_leased(at(0), keyed(1, 1)).unwrap();
    drain(&mut shard);
    assert_eq!(shard.start_leased(at(0), keyed(1, 2)), Ok(first));
    send(&mut shard, 0, 1, first.run, 1, done_event()).unwrap();
    assert_eq!(shard.start_leased(at(0), keyed(1, 3)), Err(RunError::Ended));
    assert_eq!(head(&shard), 2, "one start, one end");
}

#[test]
fn a_connection_lets_go_in_batches() {
    let mut shard = shard(limits());
    for n in 0..5 {
        start(&mut shard, 0, 1, n << 16);
    }
    let mut rounds = 1;
    while shard.release_producer(at(0), conn(1), at(0).at, 2, |_| true) {
        rounds += 1;
    }
    assert_eq!(rounds, 3);
    tick(&mut shard, 30);
    assert_eq!(shard.counts().runs, 0);
}

#[test]
fn a_run_of_this_process_cannot_be_taken() {
    let mut shard = shard(limits());
    let run = shard.start_run(at(0), run_start("ann", 1)).unwrap().run;
    drain(&mut shard);
    let (outcome, _) = take_over(&mut shard, 0, 1, run);
    assert_eq!(outcome, Err(RunError::RunTaken { run }));
    assert_eq!(send(&mut shard, 0, 1, run, 1, thinking()), Err(RunError::NoRun { run }));
}

properties! {
    /// Whatever producers do and whenever they go: every run that started ends once, within its lease, and nothing follows.
    #[test]
    fn every_run_ends_within_its_lease(ops in proptest::collection::vec((0_u8..6, 1_u32..4, 0_usize..4, 1_u64..12), 1..60)) {
        let mut shard = shard(limits());
        attach(&mut shard, at(0), "ann", 50, None).unwrap();
        drain(&mut shard);
        let (mut now, mut runs, mut numbers) = (0, Vec::new(), std::collections::BTreeMap::new());
        for (kind, n, which, wait) in ops {
            now += wait;
            tick(&mut shard, now);
            let run = runs.get(which).copied();
            match (kind, run) {
                (0, _) | (_, None) => {
                    let run = start(&mut shard, now, n, (runs.len() as u128 + 1) << 16);
                    runs.push(run);
                }
                (1 | 2, Some(run)) => {
                    let next = numbers.get(&run).copied().unwrap_or(0) + 1;
                    if send(&mut shard, now, n, run, next, thinking()).is_ok() {
                        numbers.insert(run, next);
                    }
                }
                (3, Some(run)) => {
                    if let (Ok(held), _) = take_over(&mut shard, now, n, run) {
                        prop_assert_eq!(held.last_n, numbers.get(&run).copied().unwrap_or(0));
                    }
                }
                (4, Some(_)) => {
                    while shard.release_producer(at(now), conn(n), at(now.saturating_sub(wait)).at, 1, |_| true) {}
                }
                (_, Some(run)) => {
                    let next = numbers.get(&run).copied().unwrap_or(0) + 1;
                    let _ = send(&mut shard, now, n, run, next, done_event());
                }
            }
            drain(&mut shard);
            assert_consistent(&shard);
        }
        for n in 1..4 {
            while shard.release_producer(at(now), conn(n), at(now).at, 9, |_| true) {}
        }
        tick(&mut shard, now + 30);
        prop_assert_eq!(shard.counts().runs, 0);
        let log = &shard.users[&user("ann")].channel.log;
        let start = log.start();
        let mut view = crate::stream::Reducer::default();
        let mut ends = 0;
        for entry in log.after(start).unwrap() {
            let text = std::str::from_utf8(entry.frame()).unwrap();
            let crate::protocol::ServerFrame::Event(event) = crate::protocol::ServerFrame::parse(text).unwrap() else { panic!() };
            let run = event.run_id.unwrap();
            prop_assert!(!view.runs().get(&run).is_some_and(|run| run.status.is_terminal()), "nothing follows an end");
            ends += usize::from(event.body.is_terminal());
            view.apply(&event);
        }
        prop_assert_eq!(ends, runs.len());
    }
}

#[test]
fn no_event_has_the_number_zero() {
    let mut shard = shard(limits());
    let run = start(&mut shard, 0, 1, 7);
    assert_eq!(send(&mut shard, 1, 1, run, 0, thinking()), Err(RunError::Gap { expected: 1 }));
    assert_eq!(send(&mut shard, 1, 1, run, 1, thinking()), Ok(Receipt::Stored));
    assert_eq!(send(&mut shard, 1, 1, run, 0, thinking()), Err(RunError::Gap { expected: 2 }));
}

#[test]
fn who_takes_a_pausing_run_over_is_told_whether_a_device_is_there_now() {
    use crate::manager::OnDisconnect;
    let mut shard = shard(limits());
    attach(&mut shard, at(0), "ann", 1, None).unwrap();
    drain(&mut shard);
    let mut first = leased(7, 7);
    first.start.on_disconnect = OnDisconnect::Pause;
    let run = shard.start_leased(at(0), first).unwrap().run;
    drain(&mut shard);
    shard.detach(at(1), &user("ann"), conn(1));
    drain(&mut shard);
    shard.release_producer(at(2), conn(7), at(2).at, 9, |_| true);
    drain(&mut shard);
    attach(&mut shard, at(3), "ann", 2, None).unwrap();
    drain(&mut shard);
    let (held, told) = take_over(&mut shard, 4, 8, run);
    assert_eq!(held, Ok(Held { run, last_n: 0, lease: LEASE }));
    assert!(told.contains(&Told::Resumed(8)), "{told:?}");
}

#[test]
fn the_key_of_a_run_that_has_ended_long_ago_still_says_so() {
    let mut shard = shard(limits());
    let keyed = || LeasedStart { key: Some("k".parse().unwrap()), ..leased(1, 7) };
    let run = shard.start_leased(at(0), keyed()).unwrap().run;
    drain(&mut shard);
    send(&mut shard, 0, 1, run, 1, done_event()).unwrap();
    for random in 1..=1_100 {
        let other = start(&mut shard, 1, 1, random << 64);
        shard.leased_event(at(1), Some(conn(1)), other, 1, done_event(), |_| true).unwrap();
        drain(&mut shard);
    }
    assert_eq!(shard.start_leased(at(2), keyed()), Err(RunError::Ended));
}

#[test]
fn two_runs_of_a_user_never_wait_for_one_approval_under_any_policy() {
    use crate::id::ApprovalId;
    use crate::protocol::OrderPolicy;
    let wait = |id: &str| RunEvent::Suspended { approval_id: Some(ApprovalId::new(id).unwrap()), question: None };
    for order in [OrderPolicy::Reject, OrderPolicy::Repair, OrderPolicy::Flag] {
        let mut shard = shard(limits());
        let first = start(&mut shard, 0, 1, 7);
        let mut second = leased(1, 1 << 64);
        second.start.order = order;
        let second = shard.start_leased(at(0), second).unwrap().run;
        drain(&mut shard);
        send(&mut shard, 1, 1, first, 1, wait("x")).unwrap();
        send(&mut shard, 1, 1, second, 1, wait("y")).unwrap();
        assert!(send(&mut shard, 1, 1, second, 2, wait("x")).is_err(), "{order:?}");
        assert!(send(&mut shard, 1, 1, second, 3, wait("z")).is_ok() == (order == OrderPolicy::Repair), "{order:?}");
    }
}
