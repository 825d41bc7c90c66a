//! One shard alone, with numbers for handles.

mod absence;
mod acks;
mod bounds;
mod capacity;
mod exploration;
mod fingerprint;
mod kept;
mod keys;
mod language;
mod leases;
mod levels;
mod model;
mod reading;
mod rules;

use std::sync::Arc;

use super::{Attach, Attached, Control, Credential, Due, Manager, NewCommand, NewMessage, Output, RunStart};
use crate::error::CloseReason;
use crate::id::{ConnectionId, FrameId, IdempotencyKey, SessionId, ThreadId, UserId};
use crate::limits::Limits;
use crate::protocol::{Position, ReplyOk};
use crate::time::{Now, Timestamp, UnixTime};

type Shard = Manager<u32>;

fn shard(limits: Limits) -> Shard {
    Manager::new(Arc::new(limits), 1)
}

fn at(micros: u64) -> Now {
    Now { at: Timestamp::from_micros(micros), unix: UnixTime::from_micros(1_800_000_000_000_000 + micros) }
}

fn user(name: &str) -> UserId {
    UserId::new(None, name).unwrap()
}

fn thread() -> ThreadId {
    ThreadId::new("t").unwrap()
}

fn frame(id: &str) -> FrameId {
    FrameId::new(id).unwrap()
}

fn conn(n: u32) -> ConnectionId {
    ConnectionId::from_bits(n.into())
}

/// Attaches connection `n`, whose handle is `n` too.
fn attach(shard: &mut Shard, now: Now, name: &str, n: u32, session: Option<u32>) -> Result<Attached, CloseReason> {
    let id = |n: u32| SessionId::from_bits(n.into());
    shard.attach(
        now,
        Attach {
            handle: n,
            connection: conn(n),
            order: n.into(),
            user: user(name),
            session: session.map(id),
            fresh_session: id(n),
            resume: Some(Position::NONE),
            token: Credential::default(),
            threads: Vec::new(),
            attached: 1,
        },
    )
}

fn run_start(name: &str, random: u128) -> RunStart<u32> {
    RunStart {
        user: user(name),
        producer: Some(900),
        request: None,
        random,
        thread: thread(),
        agent_name: "a".into(),
        parent: None,
        message: None,
        order: crate::protocol::OrderPolicy::Reject,
        on_disconnect: super::OnDisconnect::Continue,
    }
}

fn message(name: &str, sender: u32, id: &str, key: Option<&str>, random: u128) -> NewMessage<u32> {
    NewMessage {
        user: user(name),
        sender,
        id: frame(id),
        key: key.map(|key| IdempotencyKey::new(key).unwrap()),
        thread: thread(),
        content: "hi".into(),
        metadata: None,
        random,
    }
}

/// A command of ann's.
fn command(id: &str, sender: u32, key: Option<&str>) -> NewCommand<u32> {
    let key = key.map(|key| IdempotencyKey::new(key).unwrap());
    NewCommand { user: user("ann"), sender, id: frame(id), key, name: "n".into(), args: None }
}

/// What one operation means for others, in the order in which it leaves.
fn drain(shard: &mut Shard) -> Vec<Told> {
    std::iter::from_fn(|| shard.poll_output()).map(Told::of).collect()
}

/// An output without what tests do not look at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Ready(u32),
    Ephemeral(u32),
    Closed(u32, CloseReason),
    GoingAway(u32),
    Cancel(u32),
    Decided(u32, String),
    Paused(u32),
    Resumed(u32),
    /// The number of the change.
    Level(u32, u64),
    /// Whether it was good, and the code where not.
    Reply(u32, String, Option<String>),
    Asked(UserId, super::RequestId),
}

impl Told {
    fn of(output: Output<u32>) -> Self {
        match output {
            Output::Ready(to, _) => Self::Ready(to),
            Output::Close(to, reason) => Self::Closed(to, reason),
            Output::Control(to, Control::GoingAway(_)) => Self::GoingAway(to),
            Output::Control(to, Control::Ephemeral(_)) => Self::Ephemeral(to),
            Output::Control(to, Control::ServiceLevel(notice)) => Self::Level(to, notice.number),
            Output::Control(_, Control::Request(_)) => panic!("a shard asks by `Output::Ask`"),
            Output::Control(to, Control::CancelRequested { .. }) => Self::Cancel(to),
            Output::Control(to, Control::Paused { .. }) => Self::Paused(to),
            Output::Control(to, Control::Resumed { .. }) => Self::Resumed(to),
            Output::Control(to, Control::Decided { decision, .. }) => Self::Decided(to, decision.decision),
            Output::Control(to, Control::Reply(reply)) => {
                let error = reply.outcome.err().map(|error| error.code.as_str().to_owned());
                Self::Reply(to, reply.id.as_str().to_owned(), error)
            }
            Output::Ask(ask) | Output::AskAgain(ask) => Self::Asked(ask.user().clone(), ask.request()),
        }
    }
}

fn asked(told: &[Told]) -> super::RequestId {
    match told {
        [Told::Asked(_, request)] => *request,
        other => panic!("{other:?}"),
    }
}

fn done() -> Result<ReplyOk, crate::protocol::ReplyError> {
    Ok(ReplyOk::Done)
}

/// Handles everything that is due, as the hub's housekeeper does.
fn tick(shard: &mut Shard, micros: u64) -> Vec<Told> {
    let mut told = Vec::new();
    while shard.poll_timeout().is_some_and(|(due, _)| due <= at(micros).at) {
        shard.handle_timeout(at(micros));
        told.extend(drain(shard));
        assert_consistent(shard);
    }
    told
}

/// What must hold between any two operations, whatever they were.
fn assert_consistent(shard: &Shard) {
    assert!(shard.outputs.is_empty(), "drained");
    let users = shard.users.iter().filter_map(|(id, user)| user.armed.map(|at| (at, Due::User(id.clone()))));
    let topics = shard.topics.iter().filter_map(|(id, topic)| topic.armed.map(|at| (at, Due::Topic(id.clone()))));
    assert_eq!(shard.deadlines, users.chain(topics).collect(), "the deadlines are the users' and topics' own");
    let logs = shard.users.values().map(|user| &user.channel.log).chain(shard.topics.values().map(|topic| &topic.log));
    assert_eq!(shard.logs.total(), logs.map(crate::stream::Log::bytes).sum::<usize>());
    assert_kept(shard);
    let keys = shard.users.values().map(|user| (user.counted_keys, user.key_bytes()));
    assert!(keys.clone().all(|(counted, has)| counted == has), "keys are counted as they are");
    let topics = shard.topics.values().map(|topic| topic.key_bytes());
    assert_eq!(shard.key_sizes.total(), keys.map(|(counted, _)| counted).chain(topics).sum::<usize>());
    for (id, user) in &shard.users {
        assert_eq!(user.is_idle(), user.idle_since.is_some(), "{id:?}");
        assert!(!user.is_idle() || user.armed.is_some(), "{id:?}: nobody who is idle stays for ever");
        let requests = user.requests.values().map(|waiting| waiting.deadline);
        let runs = user.runs.values().flat_map(|open| open.cancel_at().into_iter().chain(open.lease_until()));
        let next = requests.chain(runs).min();
        assert!(next.is_none() || user.armed <= next, "{id:?}: the next request's or run's deadline is armed");
        let watched = !user.channel.devices.is_empty();
        assert!(user.runs.values().all(|open| open.absence.is_none() == watched), "{id:?}: runs know who is there");
        let connections: std::collections::BTreeSet<_> =
            user.channel.devices.iter().map(|device| device.connection).collect();
        assert_eq!(connections.len(), user.channel.devices.len(), "{id:?}: a connection is there once");
        let sessions: std::collections::BTreeSet<_> =
            user.channel.devices.iter().map(|device| device.session).collect();
        assert_eq!(sessions.len(), user.channel.devices.len(), "{id:?}: a session is there once");
        assert!(user.channel.devices.len() <= shard.limits.connections_per_user);
        assert!(user.open_runs() <= shard.limits.runs_per_user);
        user.keys.assert_consistent(&shard.limits);
        user.producer_keys.assert_consistent(&shard.limits);
        let keyed = user.requests.values().filter(|waiting| waiting.key.is_some()).count();
        assert_eq!(user.keys.waiting(), keyed, "{id:?}: a key waits as long as its request");
    }
    let counts = shard.counts();
    assert_eq!(counts.users, shard.users.len());
    assert_eq!(counts.connections, shard.users.values().map(|user| user.channel.devices.len()).sum::<usize>());
    assert_eq!(counts.runs, shard.open_runs);
    assert_eq!(counts.runs, shard.users.values().map(|user| user.runs.len()).sum::<usize>());
    assert_eq!(counts.requests, shard.asked.len(), "what waits is counted");
    assert_eq!(counts.requests, shard.users.values().map(|user| user.requests.len()).sum::<usize>());
}

/// Who is idle stands in the order of those who are kept, once, and nobody else.
fn assert_kept(shard: &Shard) {
    let users = shard.users.iter().filter_map(|(id, user)| user.kept.map(|turn| (turn, Due::User(id.clone()))));
    let topics = shard.topics.iter().filter_map(|(id, topic)| topic.kept.map(|turn| (turn, Due::Topic(id.clone()))));
    let turns: std::collections::BTreeMap<_, _> = users.chain(topics).collect();
    assert!(shard.kept.in_order().eq(turns.iter()));
    assert!(shard.users.values().all(|user| user.kept.is_some() == user.is_idle()));
    assert!(turns.len() <= shard.max_kept);
}
