//! Whoever else is there, a user gets the same bytes: every scenario is played with the others and without them, on one
//! shard, on the same clock, with random bits of everybody's own.
//!
//! What others may be felt by, and is kept away from here: the bounds that all users share (sockets, waiting requests, bytes
//! of all logs, keys and snapshots, the deny list) where they are reached; a topic of one's own tenant, which is shared by
//! its purpose; and the microsecond in which a stream begins: of two that begin in the same one, the later is put off to the
//! next. So here no bound is reached, colleagues follow other topics, and no two steps are at the same time.

use std::task::Poll;
use std::time::Duration;

use proptest::prelude::*;

use super::harness::{Pair, World, frame_id, poll_now, thread};
use crate::api::Head;
use crate::client::ClientEvent;
use crate::drive::Machine;
use crate::hub::{Approval, Request, Requests, Run};
use crate::id::{ApprovalId, RunId, SessionId, TopicName, UserId};
use crate::limits::Limits;
use crate::protocol::{ClientFrame, RunRef, Token};

const DEVICES: usize = 2;
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug)]
enum Op {
    Connect {
        resumes: bool,
        continues: bool,
    },
    Cut,
    Say {
        thread: u8,
        key: u8,
    },
    Command {
        key: u8,
    },
    Work {
        run: usize,
        what: u8,
    },
    Cancel {
        run: usize,
    },
    CancelByKey {
        key: u8,
    },
    Approve {
        approval: u8,
    },
    Follow {
        topic: u8,
    },
    Leave {
        topic: u8,
    },
    Ack,
    Refresh,
    Publish {
        topic: Option<u8>,
    },
    Look,
    RevokeSession,
    /// What belongs to the first user, asked for by the others.
    Guess {
        what: u8,
    },
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Do { who: usize, device: usize, op: Op },
    Wait { millis: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (any::<bool>(), any::<bool>()).prop_map(|(resumes, continues)| Op::Connect { resumes, continues }),
        1 => Just(Op::Cut),
        4 => (0..3_u8, 0..6_u8).prop_map(|(thread, key)| Op::Say { thread, key }),
        1 => (0..3_u8).prop_map(|key| Op::Command { key }),
        6 => (0..4_usize, 0..6_u8).prop_map(|(run, what)| Op::Work { run, what }),
        1 => (0..4_usize).prop_map(|run| Op::Cancel { run }),
        1 => (0..6_u8).prop_map(|key| Op::CancelByKey { key }),
        1 => (0..4_u8).prop_map(|approval| Op::Approve { approval }),
        1 => (0..2_u8).prop_map(|topic| Op::Follow { topic }),
        1 => (0..2_u8).prop_map(|topic| Op::Leave { topic }),
        1 => Just(Op::Ack),
        1 => Just(Op::Refresh),
        2 => prop::option::of(0..2_u8).prop_map(|topic| Op::Publish { topic }),
        1 => Just(Op::Look),
        1 => Just(Op::RevokeSession),
        4 => (0..10_u8).prop_map(|what| Op::Guess { what }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3_usize, 0..DEVICES, op()).prop_map(|(who, device, op)| Step::Do { who, device, op }),
        1 => (1..6_000_u64).prop_map(|millis| Step::Wait { millis }),
    ]
}

/// A user with all that is its own. Everybody uses the same names.
struct Person {
    user: UserId,
    lane: usize,
    /// What its back end's token grants.
    scope: &'static str,
    topics: [&'static str; 2],
    devices: [Option<Pair>; DEVICES],
    session: Option<SessionId>,
    runs: Vec<Run>,
    approvals: Vec<Approval>,
    known: Vec<RunId>,
    frames: u32,
    heard: Vec<u8>,
}

impl Person {
    fn new(lane: usize, tenant: &str, sub: &str, scope: &'static str, topics: [&'static str; 2]) -> Self {
        let user = UserId::new(Some(tenant), sub).unwrap();
        Self {
            user,
            lane,
            scope,
            topics,
            devices: [None, None],
            session: None,
            runs: vec![],
            approvals: vec![],
            known: vec![],
            frames: 0,
            heard: vec![],
        }
    }

    fn hear(&mut self) {
        for pair in self.devices.iter_mut().flatten() {
            pair.pump();
            self.heard.append(&mut pair.heard);
            self.session = pair.client.session().or(self.session);
            while let Some(event) = pair.client.poll_event() {
                if let ClientEvent::Event(event) = event {
                    self.known.extend(event.run_id);
                }
            }
        }
    }

    fn run(&self, index: usize) -> Option<&Run> {
        self.runs.get(index % self.runs.len().max(1))
    }
}

struct Play {
    world: World,
    requests: Requests,
    people: Vec<Person>,
    /// How often somebody asked for what is not theirs.
    guesses: usize,
}

impl Play {
    fn new() -> Self {
        let world = World::sharded(Limits::default(), 1);
        let requests = world.hub.requests().unwrap();
        let people = vec![
            Person::new(0, "acme", "ann", "publish:ann publish admin", ["news", "sums"]),
            // A colleague, who follows other topics, and somebody of the same name elsewhere.
            Person::new(1, "acme", "bob", "publish:bob", ["bobs", "bobs-own"]),
            Person::new(2, "rival", "ann", "publish admin", ["news", "sums"]),
        ];
        Self { world, requests, people, guesses: 0 }
    }

    fn step(&mut self, step: Step, alone: bool) {
        self.world.clock.turn(Duration::from_micros(1));
        match step {
            Step::Do { who, .. } if alone && who != 0 => {}
            Step::Do { who, device, op } => {
                self.world.entropy.turn_to(who);
                self.act(who, device, op);
                self.attend();
                self.people[who].hear();
            }
            Step::Wait { millis } => self.wait(millis),
        }
    }

    fn wait(&mut self, millis: u64) {
        self.world.clock.turn(Duration::from_millis(millis));
        self.world.keeper.handle_timeout();
        let now = self.world.now();
        for person in &mut self.people {
            self.world.entropy.turn_to(person.lane);
            for session in person.devices.iter_mut().flatten().filter_map(|pair| pair.session.as_mut()) {
                session.handle_timeout(now);
            }
            person.hear();
        }
    }

    fn token(&self, person: &Person, scope: &str) -> String {
        let token_id = if person.lane == 0 { "anns" } else { "theirs" };
        self.world.scoped_token(&person.user, HOUR, scope, Some(token_id))
    }

    fn act(&mut self, who: usize, device: usize, op: Op) {
        match op {
            Op::Connect { resumes, continues } => self.connect(who, device, resumes, continues),
            Op::Cut => {
                if let Some(pair) = &mut self.people[who].devices[device] {
                    pair.cut();
                }
            }
            Op::Say { thread: name, key } => {
                let content = format!("{} says {key}", self.people[who].user.sub());
                let key = (key > 2).then(|| format!("k-{key}").parse().unwrap());
                let thread_id = thread(&format!("t-{name}"));
                self.send(who, device, |id| ClientFrame::UserMessage { id, key, thread_id, content, metadata: None });
            }
            Op::Command { key } => {
                let key = (key > 0).then(|| format!("k-{key}").parse().unwrap());
                self.send(who, device, |id| ClientFrame::Command { id, name: "look".into(), args: None, key });
            }
            Op::Work { run, what } => self.work(who, run, what),
            Op::Cancel { run } => {
                if let Some(run) = self.people[who].run(run).map(Run::id) {
                    self.send(who, device, |id| ClientFrame::CancelRun { id, target: RunRef::Id(run) });
                }
            }
            Op::CancelByKey { key } => {
                let target = RunRef::Key(format!("k-{key}").parse().unwrap());
                self.send(who, device, |id| ClientFrame::CancelRun { id, target });
            }
            Op::Approve { approval } => self.approve(who, device, approval),
            Op::Follow { topic } => {
                let topic = self.topic(who, topic);
                self.send(who, device, |id| ClientFrame::Subscribe { id, topic, resume: None });
            }
            Op::Leave { topic } => {
                let topic = self.topic(who, topic);
                self.send(who, device, |id| ClientFrame::Unsubscribe { id, topic });
            }
            Op::Ack => {
                let position = self.people[who].devices[device].as_ref().and_then(|pair| pair.client.position());
                if let Some(event_id) = position {
                    let stream = crate::protocol::StreamName::User;
                    self.send(who, device, |_| ClientFrame::Ack { stream, event_id });
                }
            }
            Op::Refresh => {
                let token = Token::new(&self.token(&self.people[who], "topic:*"));
                self.send(who, device, |id| ClientFrame::Refresh { id, token });
            }
            Op::Publish { topic } => {
                let person = &self.people[who];
                let to = match topic {
                    Some(topic) => format!(r#""topic":"{}""#, person.topics[usize::from(topic)]),
                    None => format!(r#""user_id":"{}""#, person.user.sub()),
                };
                let body = format!(r#"{{{to},"name":"n","data":"{:?}","key":"k-1"}}"#, topic);
                self.http(who, "POST", "/v1/publish", &body);
            }
            Op::Look => {
                let path = format!("/v1/users/{}", self.people[who].user.sub());
                self.http(who, "GET", &path, "");
            }
            Op::RevokeSession => {
                if let Some(session) = self.people[who].session {
                    let user = self.people[who].user.sub().to_owned();
                    let body = format!(r#"{{"user_id":"{user}","session_id":"{session}"}}"#);
                    self.http(who, "POST", "/v1/revoke", &body);
                }
            }
            Op::Guess { what } => self.guess(who, device, what),
        }
    }

    fn connect(&mut self, who: usize, device: usize, resumes: bool, continues: bool) {
        let person = &self.people[who];
        let position = person.devices[device].as_ref().and_then(|pair| pair.client.position());
        let resume = if resumes { position } else { None };
        let session = if continues { person.session } else { None };
        let token = self.token(person, "topic:*");
        let pair = self.world.connect(token, resume, session);
        self.people[who].devices[device] = Some(pair);
    }

    fn topic(&self, who: usize, topic: u8) -> TopicName {
        self.people[who].topics[usize::from(topic)].parse().unwrap()
    }

    fn send(&mut self, who: usize, device: usize, frame: impl FnOnce(crate::id::FrameId) -> ClientFrame) {
        let person = &mut self.people[who];
        person.frames += 1;
        let id = frame_id(&format!("f-{}", person.frames));
        if let Some(pair) = person.devices[device].as_mut().filter(|pair| pair.session.is_some()) {
            pair.send(&frame(id));
        }
    }

    fn approve(&mut self, who: usize, device: usize, approval: u8) {
        let approval_id = ApprovalId::new(&format!("a-{approval}")).unwrap();
        let decision = "allow".to_owned();
        self.send(who, device, |id| ClientFrame::Approve { id, approval_id, decision, data: None });
    }

    fn http(&mut self, who: usize, method: &str, path: &str, body: &str) -> u16 {
        let person = &self.people[who];
        let bearer = format!("Bearer {}", self.token(person, person.scope));
        let authorization = [bearer.as_bytes()];
        let head = Head { method, path, authorization: &authorization, content_type: Some("application/json") };
        let answer = self.world.hub.api(&head).map_or_else(|no| no, |call| call.answer(body.as_bytes()));
        self.people[who].heard.extend_from_slice(&answer.body);
        answer.status
    }

    /// One event of one of its runs.
    fn work(&mut self, who: usize, run: usize, what: u8) {
        let person = &mut self.people[who];
        let Some(index) = run.checked_rem(person.runs.len()) else { return };
        let run = &person.runs[index];
        match what {
            0 => drop(run.thinking("hm")),
            1 => drop(run.delta(format!("{} streams ", person.user.sub()))),
            2 => drop(run.tool("tool", &person.user.sub()).map(|call| call.completed(&1))),
            3 => {
                let id = ApprovalId::new(&format!("a-{}", person.approvals.len() % 4)).unwrap();
                if let Ok(approval) = run.suspend_as(id, Some("may I?".into())) {
                    person.approvals.push(approval);
                }
            }
            4 => {
                drop(run.completed(None));
                person.runs.remove(index);
            }
            // Dropped before its end.
            _ => drop(person.runs.remove(index)),
        }
    }

    /// The application: a run for most messages, an answer to every command.
    fn attend(&mut self) {
        while let Poll::Ready(Some(request)) = poll_now(self.requests.next()) {
            match request {
                Request::UserMessage(message) => {
                    let owner = self.people.iter().position(|person| person.user == *message.user()).unwrap();
                    if message.content().ends_with('5') {
                        message.refuse("not that");
                    } else if let Ok(run) = message.start("agent") {
                        self.people[owner].runs.push(run);
                    }
                }
                Request::Command(command) => {
                    let user = command.user().sub().to_owned();
                    command.reply(&user).unwrap();
                }
            }
        }
    }

    /// Asks for what is the first user's, by its true name: it is as if it did not exist.
    fn guess(&mut self, who: usize, device: usize, what: u8) {
        if who == 0 {
            return;
        }
        self.guesses += 1;
        let ann = &self.people[0];
        let run = ann.known.last().copied().unwrap_or(RunId::from_bits(7));
        let session = ann.session.unwrap_or(SessionId::from_bits(7));
        let thinking = r#"{"n":1,"event":{"type":"agent_thinking","thought":"mine"}}"#;
        match what {
            0 => self.send(who, device, |id| ClientFrame::CancelRun { id, target: RunRef::Id(run) }),
            1 => self.approve(who, device, 0),
            2 => {
                let token = self.token(&self.people[who], "topic:*");
                self.people[who].devices[device] = Some(self.world.connect(token, None, Some(session)));
            }
            3 => {
                let status = self.http(who, "POST", &format!("/v1/runs/{run}/events"), thinking);
                assert_eq!(status, 404, "an event of another's run");
            }
            4 => {
                let user = self.people[who].user.sub().to_owned();
                let body = format!(r#"{{"user_id":"{user}","thread_id":"t-1","agent_name":"a","run_id":"{run}"}}"#);
                assert_eq!(self.http(who, "POST", "/v1/runs", &body), 404, "a run taken over");
            }
            5 => {
                let body = format!(r#"{{"user_id":"ann","session_id":"{session}"}}"#);
                // Whoever is an administrator is one of another tenant.
                let status = self.http(who, "POST", "/v1/revoke", &body);
                assert_eq!(status, if who == 1 { 404 } else { 200 });
            }
            6 => {
                let body = r#"{"user_id":"ann","token_id":"anns"}"#;
                self.http(who, "POST", "/v1/revoke", body);
            }
            7 => drop(self.http(who, "GET", "/v1/users/ann", "")),
            8 => {
                let token = Token::new(&self.token(&self.people[0], "topic:*"));
                self.send(who, device, |id| ClientFrame::Refresh { id, token });
            }
            _ => {
                let event_id = ann.devices[0].as_ref().and_then(|pair| pair.client.position()).unwrap_or_default();
                let stream = crate::protocol::StreamName::User;
                self.send(who, device, |_| ClientFrame::Ack { stream, event_id });
            }
        }
    }
}

/// The bytes that the first user heard, how many others heard, and how often they guessed.
fn play(steps: &[Step], alone: bool) -> (Vec<u8>, usize, usize) {
    let mut play = Play::new();
    for step in steps {
        play.step(*step, alone);
    }
    // Whatever is still to be said.
    play.wait(6_000);
    let others = play.people[1..].iter().map(|person| person.heard.len()).sum();
    (std::mem::take(&mut play.people[0].heard), others, play.guesses)
}

fn differ(with: &[u8], without: &[u8]) -> String {
    let at = with.iter().zip(without).take_while(|(a, b)| a == b).count();
    let show = |bytes: &[u8]| {
        let around = &bytes[at.saturating_sub(200)..bytes.len().min(at + 200)];
        String::from_utf8_lossy(around).into_owned()
    };
    format!("at byte {at}:\nwith the others:    {}\nwithout the others: {}", show(with), show(without))
}

properties! {
    cases = 96;

    #[test]
    fn with_and_without_the_others_a_user_gets_the_same_bytes(steps in prop::collection::vec(step(), 10..160)) {
        let (with, _, _) = play(&steps, false);
        let (without, others, _) = play(&steps, true);
        prop_assert_eq!(others, 0);
        prop_assert!(with == without, "{}", differ(&with, &without));
    }
}

/// The steps above are worth comparing: each of the three hears much, and the others do guess.
#[test]
fn the_scenarios_are_lively() {
    let connects = (0..3).map(|who| Step::Do { who, device: 0, op: Op::Connect { resumes: false, continues: false } });
    let works = (0..200_u16).flat_map(|round| {
        let n = u8::try_from(round % 10).unwrap();
        let ops = [
            Op::Say { thread: n % 3, key: n % 5 },
            Op::Work { run: usize::from(n), what: n % 4 },
            Op::Guess { what: n },
            Op::Publish { topic: None },
        ];
        ops.into_iter().flat_map(|op| (0..3).map(move |who| Step::Do { who, device: 0, op }))
    });
    let (heard, others, guesses) = play(&connects.chain(works).collect::<Vec<_>>(), false);
    let text = String::from_utf8_lossy(&heard);
    for kind in
        ["welcome", "user_message", "agent_started", "agent_delta", "tool_completed", "agent_suspended", "custom"]
    {
        assert!(text.contains(&format!(r#""type":"{kind}""#)), "{kind}");
    }
    assert!(!text.contains("bob") && !text.contains("rival"), "a foreign name");
    assert!(others > heard.len() / 2 && guesses == 400, "{others} bytes, {guesses} guesses");
}
