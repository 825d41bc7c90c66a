//! Messages, commands and cancellations that are sent again, over whatever connection, against a naive model: one effect,
//! and the same answer to every repeat.

use std::task::Poll;
use std::time::Duration;

use proptest::prelude::*;

use super::harness::{Pair, World, frame_id, message, poll_now};
use crate::hub::{Request, Requests, Run};
use crate::id::{IdempotencyKey, RunId};
use crate::limits::Limits;
use crate::protocol::{ClientFrame, ReplyOk, RunRef};
use crate::stream::RunError;

const USERS: [&str; 2] = ["ann", "bob"];
/// Of each user; the first is never cut, so that the user is always known.
const DEVICES: usize = 3;
const MAX_RUNS: usize = 4;
const MAX_KEYS: usize = 4;
const MAX_BYTES: usize = 100;
/// How many may wait for one answer.
const MAX_WAITING: usize = 16;
const WINDOW: u64 = 60;
const DEADLINE: u64 = 10;

fn limits() -> Limits {
    Limits {
        runs_per_user: MAX_RUNS,
        dedup_keys: MAX_KEYS,
        dedup_bytes: MAX_BYTES,
        dedup_window: Duration::from_secs(WINDOW),
        request_deadline: Duration::from_secs(DEADLINE),
        // All that is sent at one moment.
        message_burst: 1_000,
        ..Limits::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Message,
    Command,
}

#[derive(Clone, Debug)]
enum Op {
    Send { user: usize, device: usize, kind: Kind, key: Option<u8> },
    CancelKey { user: usize, device: usize, key: u8 },
    CancelRun { user: usize, device: usize, run: usize },
    Answer { request: usize, how: How },
    End { run: usize },
    Reconnect { user: usize, device: usize },
    Wait(u64),
}

#[derive(Clone, Copy, Debug)]
enum How {
    /// A run, or a result of that many bytes.
    Well(usize),
    Refuse,
    Drop,
}

fn op() -> impl Strategy<Value = Op> {
    let (user, device) = (0..USERS.len(), 0..DEVICES);
    let kind = prop_oneof![Just(Kind::Message), Just(Kind::Command)];
    let how = prop_oneof![
        6 => prop_oneof![Just(10), Just(40), Just(MAX_BYTES), Just(MAX_BYTES + 1)].prop_map(How::Well),
        2 => Just(How::Refuse),
        1 => Just(How::Drop),
    ];
    prop_oneof![
        8 => (user.clone(), device.clone(), kind, prop::option::weighted(0.9, 0_u8..4))
            .prop_map(|(user, device, kind, key)| Op::Send { user, device, kind, key }),
        2 => (user.clone(), device.clone(), 0_u8..4).prop_map(|(user, device, key)| Op::CancelKey { user, device, key }),
        2 => (user.clone(), device.clone(), 0_usize..8).prop_map(|(user, device, run)| Op::CancelRun { user, device, run }),
        5 => (0_usize..6, how).prop_map(|(request, how)| Op::Answer { request, how }),
        2 => (0_usize..6).prop_map(|run| Op::End { run }),
        1 => (user, 1..DEVICES).prop_map(|(user, device)| Op::Reconnect { user, device }),
        2 => (0_u64..5).prop_map(|tens| Op::Wait(tens * DEADLINE)),
    ]
}

/// What somebody is told: who, of which frame, and what.
type Told = (usize, usize, String, String);

#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Run(RunId),
    Withdrawn(RunId),
    Answered(String),
    Gone,
}

struct Settled {
    at: u64,
    key: (Kind, u8),
    outcome: Outcome,
    bytes: usize,
}

/// A request that waits, and the connections that do.
struct Waiting {
    user: usize,
    key: Option<(Kind, u8)>,
    deadline: u64,
    run: Option<RunId>,
    senders: Vec<(usize, u32, String)>,
}

/// What the application holds: the request, and what the model knows of it while somebody waits.
struct Held {
    request: Request,
    waiting: Option<Waiting>,
}

#[derive(Default)]
struct Known {
    /// Oldest first.
    settled: Vec<Settled>,
    ended: Vec<(u64, RunId)>,
    /// All runs there ever were.
    runs: Vec<RunId>,
}

struct Model {
    now: u64,
    known: Vec<Known>,
    held: Vec<Held>,
    open: Vec<(usize, Run)>,
    /// Which socket of each device is the living one.
    socket: Vec<Vec<u32>>,
    told: Vec<Told>,
    sent: u32,
}

impl Model {
    fn tell(&mut self, waiting: &Waiting, what: &str) {
        for (device, socket, frame) in &waiting.senders {
            if self.socket[waiting.user][*device] == *socket {
                self.told.push((waiting.user, *device, frame.clone(), what.to_owned()));
            }
        }
    }

    fn find(&self, user: usize, key: (Kind, u8)) -> Option<Outcome> {
        let settled = self.known[user].settled.iter().find(|settled| settled.key == key)?;
        (settled.at + WINDOW > self.now).then(|| settled.outcome.clone())
    }

    fn settle(&mut self, user: usize, key: Option<(Kind, u8)>, outcome: Outcome, bytes: usize) {
        let Some(key) = key else { return };
        let (now, settled) = (self.now, &mut self.known[user].settled);
        settled.retain(|known| known.at + WINDOW > now);
        let fits = bytes <= MAX_BYTES;
        let (outcome, bytes) = if fits { (outcome, bytes) } else { (Outcome::Gone, 0) };
        settled.push(Settled { at: now, key, outcome, bytes });
        while settled.iter().map(|known| known.bytes).sum::<usize>() > MAX_BYTES {
            let oldest = settled.iter_mut().find(|known| known.bytes > 0).unwrap();
            (oldest.outcome, oldest.bytes) = (Outcome::Gone, 0);
        }
        let over = settled.len().saturating_sub(MAX_KEYS);
        settled.drain(..over);
    }

    fn end(&mut self, user: usize, run: RunId) {
        self.known[user].ended.push((self.now, run));
        let over = self.known[user].ended.len().saturating_sub(MAX_RUNS);
        self.known[user].ended.drain(..over);
    }

    fn waiting(&mut self, user: usize) -> impl Iterator<Item = &mut Waiting> {
        self.held.iter_mut().filter_map(|held| held.waiting.as_mut()).filter(move |waiting| waiting.user == user)
    }

    fn is_open(&self, run: RunId) -> bool {
        self.open.iter().any(|(_, open)| open.id() == run)
    }

    /// What is said of a frame at once, or `None` where it waits; `true` where the application is asked.
    fn send(&mut self, user: usize, device: usize, kind: Kind, key: Option<u8>, frame: &str) -> (Option<String>, bool) {
        let key = key.map(|key| (kind, key));
        let sender = (device, self.socket[user][device], frame.to_owned());
        if let Some(first) = self.waiting(user).find(|waiting| key.is_some() && waiting.key == key) {
            if first.senders.len() == MAX_WAITING {
                return (Some("busy".into()), false);
            }
            first.senders.push(sender);
            return (None, false);
        }
        match key.and_then(|key| self.find(user, key)) {
            Some(Outcome::Run(run)) => return (Some(format!("run {run}")), false),
            Some(Outcome::Withdrawn(_)) => return (Some("refused".into()), false),
            Some(Outcome::Answered(what)) => return (Some(what), false),
            Some(Outcome::Gone) => return (Some("already_answered".into()), false),
            None => {}
        }
        let messages = self.waiting(user).filter(|waiting| waiting.run.is_some()).count();
        let open = self.open.iter().filter(|(of, _)| *of == user).count();
        match kind {
            Kind::Message if open + messages >= MAX_RUNS => (Some("too_many_runs".into()), false),
            Kind::Command if self.waiting(user).count() >= MAX_RUNS => (Some("busy".into()), false),
            Kind::Message | Kind::Command => (None, true),
        }
    }

    fn withdraw(&mut self, at: usize) -> RunId {
        let waiting = self.held[at].waiting.take().unwrap();
        let run = waiting.run.unwrap();
        self.settle(waiting.user, waiting.key, Outcome::Withdrawn(run), 0);
        self.end(waiting.user, run);
        self.tell(&waiting, "refused");
        run
    }

    fn cancel_run(&mut self, user: usize, run: RunId) -> String {
        if self.open.iter().any(|(of, open)| *of == user && open.id() == run) {
            return format!("{run} requested");
        }
        let reserves = |held: &Held| held.waiting.as_ref().is_some_and(|w| w.user == user && w.run == Some(run));
        if let Some(at) = self.held.iter().position(reserves) {
            return format!("{} cancelled", self.withdraw(at));
        }
        let now = self.now;
        let has_ended = self.known[user].ended.iter().any(|(at, ended)| *ended == run && at + WINDOW > now);
        if has_ended { format!("{run} ended") } else { "not_found".into() }
    }

    fn cancel_key(&mut self, user: usize, key: u8) -> String {
        let key = (Kind::Message, key);
        let names = |held: &Held| held.waiting.as_ref().is_some_and(|w| w.user == user && w.key == Some(key));
        if let Some(at) = self.held.iter().position(names) {
            return format!("{} cancelled", self.withdraw(at));
        }
        match self.find(user, key) {
            Some(Outcome::Run(run)) if self.is_open(run) => format!("{run} requested"),
            Some(Outcome::Run(run)) => format!("{run} ended"),
            Some(Outcome::Withdrawn(run)) => format!("{run} cancelled"),
            Some(Outcome::Answered(_) | Outcome::Gone) | None => "not_found".into(),
        }
    }

    /// The application says something of a request that it holds; where nobody waits any more, nobody is told.
    fn answer(&mut self, at: usize, how: How) {
        let Held { request, waiting } = self.held.remove(at);
        let (what, outcome, bytes) = match (request, how) {
            (Request::UserMessage(message), How::Well(_)) => {
                let (run, started) = (message.run_id(), message.start("a"));
                let Some(waiting) = &waiting else {
                    assert_eq!(started.unwrap_err(), RunError::RequestClosed);
                    return;
                };
                self.open.push((waiting.user, started.unwrap()));
                (format!("run {run}"), Some(Outcome::Run(run)), 0)
            }
            (Request::Command(command), How::Well(bytes)) => {
                // Each answer is another one.
                let json = format!("{:0<bytes$}", self.sent + 1);
                let raw: Box<serde_json::value::RawValue> = serde_json::from_str(&json).unwrap();
                command.reply(&raw).unwrap();
                (format!("result {json}"), Some(Outcome::Answered(format!("result {json}"))), bytes)
            }
            (request, How::Refuse) => {
                match request {
                    Request::UserMessage(message) => message.refuse("no"),
                    Request::Command(command) => command.refuse("no"),
                }
                ("refused".into(), Some(Outcome::Answered("refused".into())), "refused".len() + "no".len())
            }
            (request, How::Drop) => {
                drop(request);
                ("unavailable".into(), None, 0)
            }
        };
        let Some(waiting) = waiting else { return };
        if let Some(outcome) = outcome {
            self.settle(waiting.user, waiting.key, outcome, bytes);
        }
        self.tell(&waiting, &what);
    }

    fn wait(&mut self, seconds: u64) {
        self.now += seconds;
        for at in 0..self.held.len() {
            let is_late = self.held[at].waiting.as_ref().is_some_and(|waiting| waiting.deadline <= self.now);
            if let Some(waiting) = self.held[at].waiting.take_if(|_| is_late) {
                self.tell(&waiting, "unavailable");
            }
        }
    }
}

/// The next request, which must be the only one.
fn take_asked(requests: &mut Requests) -> Option<Request> {
    let Poll::Ready(Some(request)) = poll_now(requests.next()) else { return None };
    assert!(poll_now(requests.next()).is_pending(), "one effect");
    Some(request)
}

fn replies(devices: &mut [Vec<Pair>]) -> Vec<Told> {
    let mut told = Vec::new();
    for (user, devices) in devices.iter_mut().enumerate() {
        for (device, pair) in devices.iter_mut().enumerate() {
            for reply in pair.replies() {
                let what = match reply.outcome {
                    Ok(ReplyOk::Run { run_id }) => format!("run {run_id}"),
                    Ok(ReplyOk::Cancel { run_id, state }) => {
                        format!("{run_id} {}", format!("{state:?}").to_lowercase())
                    }
                    Ok(ReplyOk::Result(json)) => format!("result {}", json.get()),
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => error.code.as_str().to_owned(),
                };
                told.push((user, device, reply.id.as_str().to_owned(), what));
            }
        }
    }
    told.sort();
    told
}

fn play(world: &World, requests: &mut Requests, devices: &mut [Vec<Pair>], model: &mut Model, op: &Op) {
    model.sent += 1;
    let frame = format!("f{}", model.sent);
    let key_of = |key: u8| IdempotencyKey::new(&format!("k{key}")).unwrap();
    match *op {
        Op::Send { user, device, kind, key } => {
            let (said, asks) = model.send(user, device, kind, key, &frame);
            model.told.extend(said.map(|what| (user, device, frame.clone(), what)));
            let text = key.map(|key| format!("k{key}"));
            devices[user][device].send(&match kind {
                Kind::Message => message(&frame, text.as_deref(), "hi"),
                Kind::Command => {
                    let (id, key) = (frame_id(&frame), key.map(key_of));
                    ClientFrame::Command { id, name: "n".into(), args: None, key }
                }
            });
            let asked = take_asked(requests);
            assert_eq!(asked.is_some(), asks, "whether the application is asked");
            if let Some(request) = asked {
                let run = match &request {
                    Request::UserMessage(message) => Some(message.run_id()),
                    Request::Command(_) => None,
                };
                model.known[user].runs.extend(run);
                let senders = vec![(device, model.socket[user][device], frame)];
                let (key, deadline) = (key.map(|key| (kind, key)), model.now + DEADLINE);
                model.held.push(Held { request, waiting: Some(Waiting { user, key, deadline, run, senders }) });
            }
        }
        Op::CancelKey { user, device, key } => {
            let what = model.cancel_key(user, key);
            model.told.push((user, device, frame.clone(), what));
            devices[user][device]
                .send(&ClientFrame::CancelRun { id: frame_id(&frame), target: RunRef::Key(key_of(key)) });
        }
        Op::CancelRun { user, device, run } => {
            // Now and then another user's.
            let runs = if run == 7 { &model.known[1 - user].runs } else { &model.known[user].runs };
            let Some(run) = runs.iter().rev().nth(run).or(runs.last()).copied() else { return };
            let what = model.cancel_run(user, run);
            model.told.push((user, device, frame.clone(), what));
            devices[user][device].send(&ClientFrame::CancelRun { id: frame_id(&frame), target: RunRef::Id(run) });
        }
        Op::Answer { request, how } if request < model.held.len() => model.answer(request, how),
        Op::End { run } if run < model.open.len() => {
            let (user, run) = model.open.remove(run);
            run.completed(None).unwrap();
            model.end(user, run.id());
        }
        Op::Answer { .. } | Op::End { .. } => {}
        Op::Reconnect { user, device } => {
            model.socket[user][device] += 1;
            devices[user][device].cut();
            devices[user][device] = world.device(USERS[user]);
        }
        Op::Wait(seconds) => {
            model.wait(seconds);
            world.sleep(Duration::from_secs(seconds), &mut devices.iter_mut().flatten().collect::<Vec<_>>());
        }
    }
}

properties! {
    #[test]
    fn every_repeat_gets_the_same_answer_and_has_no_second_effect(ops in prop::collection::vec(op(), 0..80)) {
        let world = World::with(limits());
        let mut requests = world.hub.requests().unwrap();
        let mut devices: Vec<Vec<Pair>> =
            USERS.iter().map(|user| (0..DEVICES).map(|_| world.device(user)).collect()).collect();
        let mut model = Model {
            now: 0,
            known: USERS.iter().map(|_| Known::default()).collect(),
            held: Vec::new(),
            open: Vec::new(),
            socket: vec![vec![0; DEVICES]; USERS.len()],
            told: Vec::new(),
            sent: 0,
        };
        for op in &ops {
            play(&world, &mut requests, &mut devices, &mut model, op);
            model.told.sort();
            prop_assert_eq!(replies(&mut devices), std::mem::take(&mut model.told), "{:?}", op);
            let waiting = model.held.iter().filter(|held| held.waiting.is_some()).count();
            prop_assert_eq!(world.hub.counts().requests, waiting);
            prop_assert_eq!(world.hub.counts().runs, model.open.len());
        }
    }
}
