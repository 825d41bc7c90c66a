//! The bytes of all logs of a shard: strict, and nobody's load is another's loss.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use serde_json::value::to_raw_value;

use super::{Shard, assert_consistent, at, attach, conn, drain, run_start, shard, user};
use crate::id::{PartId, RunId, TopicId, TopicName};
use crate::limits::Limits;
use crate::manager::{Custom, Due, Read};
use crate::protocol::{Position, Receipt, ServerFrame};
use crate::stream::{Entry, Log, Reducer, RunEvent};

fn topic(name: &str) -> TopicId {
    TopicId::new(None, TopicName::new(name).unwrap()).unwrap()
}

fn publish(shard: &mut Shard, owner: &Due, bytes: usize) -> Receipt {
    let data = to_raw_value(&"x".repeat(bytes)).unwrap();
    let custom = Custom { thread: None, name: "n".into(), key: None };
    let receipt = match owner {
        Due::User(id) => shard.publish(at(0), id, custom, data),
        Due::Topic(id) => shard.publish_topic(at(0), id, custom, data),
    };
    drain(shard);
    receipt.unwrap()
}

fn log<'a>(shard: &'a Shard, owner: &Due) -> Option<&'a Log> {
    match owner {
        Due::User(id) => shard.users.get(id).map(|user| &user.channel.log),
        Due::Topic(id) => shard.topics.get(id).map(|topic| &topic.log),
    }
}

fn logs(shard: &Shard) -> BTreeMap<Due, &Log> {
    let users = shard.users.iter().map(|(id, user)| (Due::User(id.clone()), &user.channel.log));
    users.chain(shard.topics.iter().map(|(id, topic)| (Due::Topic(id.clone()), &topic.log))).collect()
}

fn entries(log: &Log) -> Vec<Entry> {
    log.after(log.start()).unwrap().cloned().collect()
}

fn streams() -> Vec<Due> {
    let users = ["ann", "bob", "carol", "dave", "eve"].map(|name| Due::User(user(name)));
    users.into_iter().chain(["news", "sport", "weather"].map(|name| Due::Topic(topic(name)))).collect()
}

/// Logs as lists of sizes.
#[derive(Default)]
struct Model(BTreeMap<Due, VecDeque<usize>>);

impl Model {
    fn append(&mut self, owner: &Due, bytes: usize, limits: &Limits) {
        let sum = |log: &VecDeque<usize>| log.iter().sum::<usize>();
        let log = self.0.entry(owner.clone()).or_default();
        log.push_back(bytes);
        while log.len() > limits.log_entries || sum(log) > limits.log_bytes {
            log.pop_front();
        }
        let fair = limits.total_log_bytes / self.0.len();
        while self.0.values().map(sum).sum::<usize>() > limits.total_log_bytes {
            let newest_alone = |(other, log): &(&Due, &mut VecDeque<usize>)| *other == owner && log.len() == 1;
            let largest =
                self.0.iter_mut().filter(|entry| !newest_alone(entry)).max_by_key(|(id, log)| (sum(log), *id));
            match largest.filter(|(_, log)| sum(log) > fair) {
                Some((_, log)) => log.pop_front(),
                None => return,
            };
        }
    }
}

fn random_limits() -> impl Strategy<Value = Limits> {
    (3_usize..20, 1_500_usize..8_000, 2_000_usize..12_000).prop_map(|(log_entries, log_bytes, total_log_bytes)| {
        Limits { log_entries, log_bytes, total_log_bytes, event_bytes: 1_500, deflate_from: None, ..Limits::default() }
    })
}

#[test]
fn full_logs_give_way_when_the_shares_shrink() {
    const FULL: usize = 6_000;
    let limits = Limits { log_entries: 4, total_log_bytes: 10 << 20, ..Limits::default() };
    let mut shard = shard(limits.clone());
    let id = |n: usize| Due::User(user(&format!("user-{n:05}")));
    for n in 0..FULL {
        for _ in 0..4 {
            publish(&mut shard, &id(n), 100);
        }
    }
    let full = shard.logs.total();
    assert!(logs(&shard).values().all(|log| entries(log).len() == 4) && full < limits.total_log_bytes);
    // Four times as many come, each with one small event: the first ones' part is a quarter of what they hold.
    let mut newcomer = 0;
    for n in FULL..4 * FULL {
        publish(&mut shard, &id(n), 1);
        newcomer = log(&shard, &id(n)).unwrap().bytes();
        assert!(shard.logs.total() <= limits.total_log_bytes, "{} after {n}", shard.logs.total());
    }
    assert!(newcomer < shard.fair_share());
    for n in FULL..4 * FULL {
        assert_eq!(entries(log(&shard, &id(n)).unwrap()).len(), 1, "who is within its fair part keeps everything");
    }
    let shed = (0..FULL).filter(|n| log(&shard, &id(*n)).unwrap().start().seq > 0).count();
    assert!(shed > FULL / 2, "{shed} gave way");
}

#[test]
fn the_total_holds_at_n_and_sheds_at_n_plus_1() {
    let owner = Due::User(user("ann"));
    let mut measure = shard(Limits::default());
    publish(&mut measure, &owner, 100);
    publish(&mut measure, &owner, 100);
    let exactly = measure.logs.total();
    for (total_log_bytes, start) in [(exactly, 0), (exactly - 1, 1)] {
        let mut shard = shard(Limits { total_log_bytes, ..Limits::default() });
        publish(&mut shard, &owner, 100);
        publish(&mut shard, &owner, 100);
        assert_eq!(log(&shard, &owner).unwrap().start().seq, start, "{total_log_bytes}");
    }
}

#[test]
fn the_last_entry_goes_too_but_not_in_the_append_that_brought_it_and_a_reader_is_told() {
    let mut shard = shard(Limits { total_log_bytes: 1_000, ..Limits::default() });
    let from = attach(&mut shard, at(0), "ann", 1, None).unwrap().stream.position;
    let (ann, bob) = (Due::User(user("ann")), Due::User(user("bob")));
    publish(&mut shard, &ann, 2_000);
    assert!(shard.logs.total() > 2_000, "what was just appended is there, as its receipt says");
    publish(&mut shard, &bob, 10);
    assert_eq!((log(&shard, &ann).unwrap().bytes(), shard.logs.total() <= 1_000), (0, true));
    let end = Position { seq: 1, ..from };
    assert_eq!(shard.read(&user("ann"), conn(1), from, 1_000), Read::Lost);
    assert_eq!(shard.base(&user("ann"), conn(1)), Some((end, Reducer::default())));
    publish(&mut shard, &ann, 10);
    let Read::Entries { entries, .. } = shard.read(&user("ann"), conn(1), end, 1_000) else { panic!("not there") };
    assert_eq!(entries[0].seq(), 2, "the order goes on");
}

#[test]
fn what_is_kept_of_open_runs_counts_and_gives_way_last() {
    let mut shard = shard(Limits { log_entries: 8, total_log_bytes: 60_000, ..Limits::default() });
    let ann = Due::User(user("ann"));
    let run = shard.start_run(at(0), run_start("ann", 7)).unwrap().run;
    let parameters = to_raw_value(&"p".repeat(10_000)).unwrap();
    event(
        &mut shard,
        "ann",
        run,
        RunEvent::ToolExecuting { tool_call_id: None, tool_name: "t".into(), parameters: Some(parameters) },
    );
    for _ in 0..20 {
        event(&mut shard, "ann", run, thinking(1_000));
    }
    let kept = log(&shard, &ann).unwrap();
    assert!(kept.base().bytes() > 20_000, "the open call's parameters and the thoughts");
    assert_eq!(kept.bytes(), kept.base().bytes() + entries(kept).iter().map(Entry::bytes).sum::<usize>());
    assert_consistent(&shard);
    for n in 0..29 {
        publish(&mut shard, &Due::User(user(&format!("user-{n}"))), 1_500);
        assert!(shard.logs.total() <= 60_000);
    }
    let squeezed = log(&shard, &ann).unwrap();
    assert_eq!(entries(squeezed).len(), 0, "entries go first");
    assert!(squeezed.base().bytes() <= shard.fair_share());
    let view = &squeezed.base().runs()[&run];
    assert!(view.shortened && view.tools.len() == 1, "the open call is still there");
    event(&mut shard, "ann", run, RunEvent::Failed { reason: None, error: "x".into() });
}

fn event(shard: &mut Shard, name: &str, run: RunId, event: RunEvent) {
    // Nothing is ever refused for room.
    shard.run_event(at(0), &user(name), run, event).unwrap();
    drain(shard);
}

fn thinking(bytes: usize) -> RunEvent {
    RunEvent::Thinking { thought: "y".repeat(bytes), step: None, progress: None }
}

#[derive(Clone, Debug)]
enum Op {
    Say { user: usize, part: bool, bytes: usize },
    Think { user: usize, bytes: usize },
    Call { user: usize },
    End { user: usize },
    Publish { user: usize, bytes: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let user = 0_usize..4;
    prop_oneof![
        12 => (user.clone(), any::<bool>(), 0_usize..40).prop_map(|(user, part, bytes)| Op::Say { user, part, bytes }),
        2 => (user.clone(), 0_usize..300).prop_map(|(user, bytes)| Op::Think { user, bytes }),
        1 => user.clone().prop_map(|user| Op::Call { user }),
        1 => user.clone().prop_map(|user| Op::End { user }),
        1 => (user, 0_usize..600).prop_map(|(user, bytes)| Op::Publish { user, bytes }),
    ]
}

/// Runs that fill their logs, and what they would show if nothing were ever shed.
struct Full {
    shard: Shard,
    runs: Vec<Option<RunId>>,
    whole: Vec<Reducer>,
    seen: Vec<u64>,
    next: u128,
}

const NAMES: [&str; 4] = ["ann", "bob", "carol", "dave"];

impl Full {
    fn new(limits: Limits) -> Self {
        let whole = vec![Reducer::default(); NAMES.len()];
        Self { shard: shard(limits), runs: vec![None; NAMES.len()], whole, seen: vec![0; NAMES.len()], next: 0 }
    }

    fn run(&mut self, at_user: usize) -> RunId {
        if self.runs[at_user].is_none() {
            self.next += 1;
            let started = self.shard.start_run(at(0), run_start(NAMES[at_user], self.next << 64)).unwrap();
            drain(&mut self.shard);
            self.runs[at_user] = Some(started.run);
            self.witness(at_user);
        }
        self.runs[at_user].unwrap()
    }

    fn play(&mut self, op: &Op) -> usize {
        match *op {
            Op::Say { user, part, bytes } => {
                let part_id = PartId::new(if part { "p" } else { "q" }).unwrap();
                self.tell(user, RunEvent::Delta { part_id, offset: None, text: "é".repeat(bytes) })
            }
            Op::Think { user, bytes } => self.tell(user, thinking(bytes)),
            Op::Call { user } => {
                let call = RunEvent::ToolExecuting { tool_call_id: None, tool_name: "t".into(), parameters: None };
                self.tell(user, call)
            }
            Op::End { user } => {
                let failed = RunEvent::Failed { reason: None, error: "x".into() };
                self.tell(user, failed);
                self.whole[user].forget(self.runs[user].take().unwrap());
                user
            }
            Op::Publish { user: at_user, bytes } => {
                publish(&mut self.shard, &Due::User(user(NAMES[at_user])), bytes);
                self.witness(at_user);
                at_user
            }
        }
    }

    fn tell(&mut self, at_user: usize, what: RunEvent) -> usize {
        let run = self.run(at_user);
        let is_call = matches!(what, RunEvent::ToolExecuting { .. });
        let told = self.shard.run_event(at(0), &user(NAMES[at_user]), run, what);
        drain(&mut self.shard);
        // As many calls as allowed is no matter of room.
        assert!(told.is_ok() || is_call, "{told:?}");
        if told.is_ok() {
            self.witness(at_user);
        }
        at_user
    }

    /// Takes what was just appended into the view of one who sees everything.
    fn witness(&mut self, at_user: usize) {
        let log = log(&self.shard, &Due::User(user(NAMES[at_user]))).unwrap();
        let newest = entries(log).pop().expect("what was just appended is in the log");
        assert!(newest.seq() == log.head().seq && log.head().seq > self.seen[at_user]);
        self.seen[at_user] = newest.seq();
        replay(&newest, &mut self.whole[at_user]);
    }
}

fn replay(entry: &Entry, view: &mut Reducer) {
    match ServerFrame::parse(std::str::from_utf8(entry.frame()).unwrap()).unwrap() {
        ServerFrame::Event(event) => view.apply(&event),
        other => panic!("{other:?}"),
    }
}

properties! {
    cases = 128;

    #[test]
    fn any_appends_leave_what_a_naive_model_leaves(
        limits in random_limits(),
        appends in prop::collection::vec((0_usize..8, 0_usize..1_000), 1..120),
    ) {
        let (mut shard, mut model, streams) = (shard(limits.clone()), Model::default(), streams());
        for (stream, bytes) in appends {
            let owner = &streams[stream];
            let before: BTreeMap<_, _> = logs(&shard).into_iter().map(|(id, log)| (id, log.clone())).collect();
            publish(&mut shard, owner, bytes);
            assert_consistent(&shard);
            let newest = entries(log(&shard, owner).unwrap()).last().unwrap().bytes();
            model.append(owner, newest, &limits);
            let now = logs(&shard);
            for (id, log) in &now {
                let sizes: VecDeque<_> = entries(log).iter().map(Entry::bytes).collect();
                prop_assert_eq!(&sizes, &model.0[id], "{:?}", id);
            }
            let fair = shard.fair_share();
            for (id, log) in before.iter().filter(|(id, log)| *id != owner && log.bytes() <= fair) {
                prop_assert!(now[id] == log, "{:?} was within its fair part and lost something", id);
            }
            let slack = newest.saturating_sub(fair);
            prop_assert!(shard.logs.total() <= limits.total_log_bytes + slack, "{}", shard.logs.total());
        }
    }

    #[test]
    fn full_logs_refuse_nothing_and_join_text_before_they_shed(
        log_entries in 8_usize..80,
        total_log_bytes in 4_000_usize..60_000,
        ops in prop::collection::vec(op(), 1..400),
    ) {
        let mut full = Full::new(Limits { log_entries, total_log_bytes, tools_per_run: 16, ..Limits::default() });
        for op in &ops {
            let starts: BTreeMap<_, _> = logs(&full.shard).into_iter().map(|(id, log)| (id, log.start())).collect();
            full.play(op);
            for (id, log) in logs(&full.shard) {
                let shed = starts.get(&id).is_some_and(|start| log.start() != *start);
                prop_assert!(!shed || log.settled_text_is_joined(), "{:?} shed before it had joined its text", id);
            }
            prop_assert!(full.shard.logs.total() <= total_log_bytes + 2_000);
        }
        assert_consistent(&full.shard);
        for (name, whole) in NAMES.iter().zip(&full.whole) {
            let Some(log) = log(&full.shard, &Due::User(user(name))) else { continue };
            let mut view = log.base().clone();
            entries(log).iter().for_each(|entry| replay(entry, &mut view));
            for (run, seen) in whole.runs() {
                let told = &view.runs()[run];
                prop_assert!(
                    told == seen || told.shortened,
                    "{}: base and log are the whole history: {:?} of {:?}",
                    name,
                    told,
                    seen
                );
                prop_assert_eq!((told.status, told.run_seq), (seen.status, seen.run_seq));
            }
        }
    }
}
