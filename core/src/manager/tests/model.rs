//! Any sequence of operations against a naive model that knows of lists and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::value::to_raw_value;

use super::{Shard, Told, assert_consistent, at, attach, conn, done, drain, message, run_start, shard, user};
use crate::error::{CloseReason, ErrorCode};
use crate::id::RunId;
use crate::limits::Limits;
use crate::manager::{Custom, RequestId};
use crate::protocol::{Receipt, ReplyError, RunRef};
use crate::stream::RunEvent;

const USERS: [&str; 3] = ["ann", "bob", "carol"];
const MAX_DEVICES: usize = 3;
const MAX_RUNS: usize = 3;
const RETENTION: u64 = 50;
const REQUEST: u64 = 20;

#[derive(Clone, Debug)]
enum Op {
    Attach { user: usize, session: Option<usize> },
    Detach { user: usize, connection: u32 },
    Start { user: usize },
    Answer { user: usize, request: usize, how: u8 },
    Event { user: usize, run: usize, ends: bool },
    Message { user: usize, key: Option<u8> },
    Cancel { user: usize, run: usize },
    Publish { user: usize },
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let user = 0..USERS.len();
    prop_oneof![
        4 => (user.clone(), prop::option::of(0_usize..4)).prop_map(|(user, session)| Op::Attach { user, session }),
        3 => (user.clone(), 0_u32..30).prop_map(|(user, connection)| Op::Detach { user, connection }),
        2 => user.clone().prop_map(|user| Op::Start { user }),
        3 => (user.clone(), 0_usize..4, 0_u8..2).prop_map(|(user, request, how)| Op::Answer { user, request, how }),
        4 => (user.clone(), 0_usize..4, any::<bool>()).prop_map(|(user, run, ends)| Op::Event { user, run, ends }),
        4 => (user.clone(), prop::option::of(0_u8..3)).prop_map(|(user, key)| Op::Message { user, key }),
        1 => (user.clone(), 0_usize..4).prop_map(|(user, run)| Op::Cancel { user, run }),
        2 => user.prop_map(|user| Op::Publish { user }),
        3 => (0_u64..40).prop_map(Op::Wait),
    ]
}

#[derive(Clone, Debug, Default)]
struct User {
    /// Connection and session.
    devices: Vec<(u32, u32)>,
    runs: Vec<RunId>,
    /// Request, deadline, key, waiting senders.
    requests: Vec<(RequestId, u64, Option<u8>, Vec<u32>)>,
    /// Keys whose message was answered: when, and whether by a run.
    answered: BTreeMap<u8, (u64, bool)>,
    events: u64,
    idle_since: Option<u64>,
}

impl User {
    fn is_idle(&self) -> bool {
        self.devices.is_empty() && self.runs.is_empty() && self.requests.is_empty()
    }
}

struct Model {
    users: BTreeMap<usize, User>,
    now: u64,
    next: u32,
}

impl Model {
    fn user(&mut self, user: usize) -> &mut User {
        self.users.entry(user).or_default()
    }

    /// Keeps the time since when a user is idle.
    fn settle(&mut self) {
        let now = self.now;
        for user in self.users.values_mut() {
            user.idle_since = if user.is_idle() { user.idle_since.or(Some(now)) } else { None };
        }
    }

    fn ready(&self, user: usize) -> Vec<Told> {
        self.users.get(&user).map(|u| u.devices.iter().map(|(n, _)| Told::Ready(*n)).collect()).unwrap_or_default()
    }

    fn receipt(&self, user: usize) -> Receipt {
        match self.users.get(&user).map_or(0, |user| user.devices.len()) {
            0 => Receipt::Stored,
            n => Receipt::DeliveredTo(n as u32),
        }
    }
}

fn sorted(mut told: Vec<Told>) -> Vec<String> {
    let mut texts: Vec<_> = told.drain(..).map(|told| format!("{told:?}")).collect();
    texts.sort();
    texts
}

/// Plays one operation on both and compares what it told.
fn play(shard: &mut Shard, model: &mut Model, op: &Op) {
    let now = at(model.now);
    model.next += 1;
    let n = model.next;
    let expected: Vec<Told> = match op {
        Op::Attach { user, session } => {
            let wanted = session.and_then(|at| model.users.get(user)?.devices.get(at).map(|device| device.1));
            let answer = attach(shard, now, USERS[*user], n, wanted);
            let known = model.user(*user);
            match wanted {
                Some(session) => {
                    let old = known.devices.iter().position(|device| device.1 == session).unwrap();
                    let (old, _) = known.devices.remove(old);
                    known.devices.push((n, session));
                    assert!(answer.is_ok());
                    vec![Told::Closed(old, CloseReason::Superseded)]
                }
                None if known.devices.len() == MAX_DEVICES => {
                    assert_eq!(answer.unwrap_err(), CloseReason::TooManyConnections);
                    vec![]
                }
                None => {
                    known.devices.push((n, n));
                    assert_eq!(answer.unwrap().stream.head.seq, known.events);
                    vec![]
                }
            }
        }
        Op::Detach { user, connection } => {
            shard.detach(now, &super::user(USERS[*user]), conn(*connection));
            if let Some(known) = model.users.get_mut(user) {
                known.devices.retain(|device| device.0 != *connection);
            }
            vec![]
        }
        Op::Start { user } => {
            let started = shard.start_run(now, run_start(USERS[*user], u128::from(n) << 32));
            let known = model.user(*user);
            if known.runs.len() + known.requests.len() < MAX_RUNS {
                known.runs.push(started.unwrap().run);
                known.events += 1;
                model.ready(*user)
            } else {
                started.unwrap_err();
                vec![]
            }
        }
        Op::Answer { user, request, how } => answer(shard, model, *user, *request, *how),
        Op::Event { user, run, ends } => {
            let Some(run) = model.users.get(user).and_then(|user| user.runs.get(*run).copied()) else { return };
            let end = RunEvent::Completed { final_response: None, result: None };
            let thought = RunEvent::Thinking { thought: "x".into(), step: None, progress: None };
            let entered = shard.run_event(now, &super::user(USERS[*user]), run, if *ends { end } else { thought });
            assert_eq!(entered.unwrap().receipt, model.receipt(*user));
            let known = model.user(*user);
            known.events += 1;
            if *ends {
                known.runs.retain(|known| *known != run);
            }
            model.ready(*user)
        }
        Op::Message { user, key } => said(shard, model, *user, *key, n),
        Op::Cancel { user, run } => {
            let Some(run) = model.users.get(user).and_then(|user| user.runs.get(*run).copied()) else { return };
            shard.cancel(now, &super::user(USERS[*user]), &RunRef::Id(run)).unwrap();
            vec![Told::Cancel(900)]
        }
        Op::Publish { user } => {
            let custom = Custom { thread: None, name: "n".into(), key: None };
            let receipt = shard.publish(now, &super::user(USERS[*user]), custom, to_raw_value(&1).unwrap());
            assert_eq!(receipt.unwrap(), model.receipt(*user));
            model.user(*user).events += 1;
            model.ready(*user)
        }
        Op::Wait(micros) => return wait(shard, model, *micros),
    };
    model.settle();
    assert_eq!(sorted(drain(shard)), sorted(expected), "{op:?}");
}

/// The application starts the run or refuses.
fn answer(shard: &mut Shard, model: &mut Model, user: usize, request: usize, how: u8) -> Vec<Told> {
    let now = at(model.now);
    let found = model.users.get(&user).and_then(|user| user.requests.get(request).cloned());
    let Some((request, _, key, senders)) = found else { return vec![] };
    let time = model.now;
    let known = model.user(user);
    known.requests.retain(|waiting| waiting.0 != request);
    if let Some(key) = key {
        known.answered.insert(key, (time, how != 0));
    }
    let mut told: Vec<Told> =
        senders.iter().map(|to| Told::Reply(*to, "m".into(), (how == 0).then(|| "refused".to_owned()))).collect();
    if how == 0 {
        let refused = Err(ReplyError::new(ErrorCode::Refused, "no"));
        assert!(shard.answer(now, &super::user(USERS[user]), request, refused));
        return told;
    }
    let start = super::RunStart { request: Some(request), ..run_start(USERS[user], 0) };
    let run = shard.start_run(now, start).unwrap().run;
    let known = model.user(user);
    known.runs.push(run);
    known.events += 2;
    told.extend(model.ready(user));
    told
}

/// A message: answered at once where its key is known or there is no room, asked where not.
fn said(shard: &mut Shard, model: &mut Model, user: usize, key: Option<u8>, n: u32) -> Vec<Told> {
    let sender = model.users.get(&user).and_then(|user| user.devices.first()).map_or(n, |device| device.0);
    let text = key.map(|key| format!("k{key}"));
    shard.message(at(model.now), message(USERS[user], sender, "m", text.as_deref(), u128::from(n) << 32));
    let told = drain(shard);
    let time = model.now;
    let reply = |error: Option<&str>| vec![Told::Reply(sender, "m".into(), error.map(str::to_owned))];
    let Some(known) = model.users.get_mut(&user) else {
        assert_eq!(told, reply(Some("draining")));
        return vec![];
    };
    let waiting = known.requests.iter_mut().find(|waiting| key.is_some() && waiting.2 == key);
    if let Some((_, began)) = key.and_then(|key| known.answered.get(&key)) {
        assert_eq!(told, reply((!began).then_some("refused")));
    } else if let Some(waiting) = waiting {
        if waiting.3.len() < 16 {
            waiting.3.push(sender);
            assert_eq!(told, []);
        } else {
            assert_eq!(told, reply(Some("busy")));
        }
    } else if known.runs.len() + known.requests.len() >= MAX_RUNS {
        assert_eq!(told, reply(Some("too_many_runs")));
    } else {
        known.requests.push((super::asked(&told), time + REQUEST, key, vec![sender]));
    }
    vec![]
}

fn wait(shard: &mut Shard, model: &mut Model, micros: u64) {
    model.now += micros;
    let mut told = Vec::new();
    while shard.poll_timeout().is_some_and(|(due, _)| due.as_micros() <= model.now) {
        shard.handle_timeout(at(model.now));
        told.extend(drain(shard));
    }
    let now = model.now;
    model.users.retain(|_, user| user.idle_since.is_none_or(|since| since + RETENTION > now));
    let mut expected = Vec::new();
    for user in model.users.values_mut() {
        for (_, deadline, _, senders) in &user.requests {
            if *deadline <= now {
                let late = |to: &u32| Told::Reply(*to, "m".into(), Some("unavailable".into()));
                expected.extend(senders.iter().map(late));
            }
        }
        user.requests.retain(|waiting| waiting.1 > now);
    }
    model.settle();
    assert_eq!(sorted(told), sorted(expected));
}

/// Every handle that an output names is a device's of the user, or the producer's.
fn assert_same(shard: &Shard, model: &Model) {
    let counts = shard.counts();
    assert_eq!(counts.users, model.users.len());
    assert_eq!(counts.connections, model.users.values().map(|user| user.devices.len()).sum::<usize>());
    assert_eq!(counts.runs, model.users.values().map(|user| user.runs.len()).sum::<usize>());
    assert_eq!(counts.requests, model.users.values().map(|user| user.requests.len()).sum::<usize>());
    for (n, known) in &model.users {
        let real = &shard.users[&user(USERS[*n])];
        assert_eq!(real.channel.log.head().seq, known.events, "{n}");
        assert!(
            real.channel.devices.iter().map(|device| device.handle).eq(known.devices.iter().map(|device| device.0))
        );
        assert!(real.idle_since.map(|at| at.as_micros()).eq(&known.idle_since), "{n}");
    }
}

fn limits() -> Limits {
    Limits {
        connections_per_user: MAX_DEVICES,
        runs_per_user: MAX_RUNS,
        log_retention: Duration::from_micros(RETENTION),
        request_deadline: Duration::from_micros(REQUEST),
        // Shorter than the retention at all times, so that it alone decides how long a user is kept.
        dedup_window: Duration::from_micros(RETENTION),
        ..Limits::default()
    }
}

properties! {
    #[test]
    fn the_shard_is_what_the_model_says_after_every_operation(ops in prop::collection::vec(op(), 0..80)) {
        let mut shard = shard(limits());
        let mut model = Model { users: BTreeMap::new(), now: 0, next: 0 };
        for op in &ops {
            // Keys have a window of their own; the model forgets them with it.
            let now = model.now;
            for user in model.users.values_mut() {
                user.answered.retain(|_, (at, _)| *at + RETENTION > now);
            }
            play(&mut shard, &mut model, op);
            assert_consistent(&shard);
            assert_same(&shard, &model);
        }
    }

    #[test]
    fn a_clone_goes_on_alike(ops in prop::collection::vec(op(), 0..40), more in prop::collection::vec(op(), 0..20)) {
        let mut shard = shard(limits());
        let mut now = 0;
        blind(&mut shard, &ops, &mut now);
        let mut clone = shard.clone();
        let (mut left, mut right) = (now, now);
        prop_assert_eq!(blind(&mut shard, &more, &mut left), blind(&mut clone, &more, &mut right));
        prop_assert_eq!(format!("{shard:?}"), format!("{clone:?}"));
    }
}

/// Plays operations that need no answer of the model.
fn blind(shard: &mut Shard, ops: &[Op], now: &mut u64) -> Vec<Told> {
    let mut told = Vec::new();
    for (n, op) in ops.iter().enumerate() {
        let n = n as u32;
        match op {
            Op::Attach { user, session } => {
                let session = session.map(|session| session as u32);
                let _ = attach(shard, at(*now), USERS[*user], n, session);
            }
            Op::Detach { user, connection } => shard.detach(at(*now), &super::user(USERS[*user]), conn(*connection)),
            Op::Start { user } => drop(shard.start_run(at(*now), run_start(USERS[*user], u128::from(n) << 32))),
            Op::Message { user, key } => {
                let key = key.map(|key| format!("k{key}"));
                shard.message(at(*now), message(USERS[*user], n, "m", key.as_deref(), u128::from(n) << 32));
            }
            Op::Publish { user } => {
                let custom = Custom { thread: None, name: "n".into(), key: None };
                let _ = shard.publish(at(*now), &super::user(USERS[*user]), custom, to_raw_value(&1).unwrap());
            }
            Op::Wait(micros) => {
                *now += micros;
                shard.handle_timeout(at(*now));
            }
            Op::Answer { user, .. } | Op::Event { user, .. } | Op::Cancel { user, .. } => {
                let request =
                    shard.users.get(&super::user(USERS[*user])).and_then(|u| u.requests.keys().next().copied());
                if let Some(request) = request {
                    shard.answer(at(*now), &super::user(USERS[*user]), request, done());
                }
            }
        }
        told.extend(drain(shard));
    }
    told
}
