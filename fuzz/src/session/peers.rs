//! Sound clients beside the stranger: a producer for the stranger's user, and a device of that user, which asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Waker;

use trunkline_core::client::{Client, ClientConfig, ClientEvent, Fault};
use trunkline_core::drive::Machine;
use trunkline_core::hub::Session;
use trunkline_core::id::{FrameId, RunId};
use trunkline_core::protocol::{ClientFrame, Event, EventKind, ProducerHello, Request, RequestBody, ServerFrame};

use super::bystander::MARK;
use super::world::{Counting, USERS, World};

/// Those that are there.
#[derive(Default)]
pub(super) struct Peers {
    agent: Option<Peer>,
    asker: Option<Peer>,
}

impl Peers {
    pub(super) fn agent_comes(&mut self, world: &World) {
        let producer = ProducerHello { id: FrameId::new("p").expect("an id"), users: None };
        self.agent = Some(Peer::new(world, &USERS.agent_token, Some(producer)));
        self.pump(world);
    }

    /// It answers what it was asked, and ends one of its runs.
    pub(super) fn agent_works(&mut self, world: &World) {
        if let Some(agent) = &mut self.agent {
            agent.work();
        }
        self.pump(world);
    }

    pub(super) fn agent_goes(&mut self) {
        self.agent = None;
    }

    /// A message, a command and a cancellation, from a device that comes for it.
    pub(super) fn somebody_asks(&mut self, world: &World) {
        self.asker.get_or_insert_with(|| Peer::new(world, &USERS.asker_token, None));
        // It is let in, or not, before it speaks.
        self.pump(world);
        if let Some(asker) = &mut self.asker {
            asker.ask();
        }
        self.pump(world);
    }

    pub(super) fn leave(&mut self) {
        *self = Self::default();
    }

    /// Moves bytes both ways until nothing moves.
    pub(super) fn pump(&mut self, world: &World) {
        for peer in [&mut self.agent, &mut self.asker] {
            if let Some(there) = peer {
                there.pump(world);
                // Another connection took its place, or had it already.
                if there.client.end().is_some() {
                    *peer = None;
                }
            }
        }
    }
}

struct Peer {
    session: Session,
    client: Client,
    requests: Vec<Request>,
    /// Runs it works on, with the last `n`.
    runs: BTreeMap<RunId, u64>,
    ended: BTreeSet<RunId>,
    asked: u32,
}

impl Peer {
    fn new(world: &World, token: &str, producer: Option<ProducerHello>) -> Self {
        let config = ClientConfig {
            host: "localhost".into(),
            target: "/ws".into(),
            token: token.to_owned(),
            session: None,
            resume: None,
            threads: Vec::new(),
            producer,
            name: "peer".into(),
        };
        let client = Client::new(world.now(), config, Arc::new(Counting::default())).expect("a sound request");
        let session = world.hub.session().expect("room");
        let (requests, runs, ended) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        Self { session, client, requests, runs, ended, asked: 0 }
    }

    fn pump(&mut self, world: &World) {
        let now = world.now();
        loop {
            self.session.poll_ready(now, Waker::noop());
            self.session.handle_timeout(now);
            self.client.handle_timeout(now);
            let down = self.session.transmit().to_vec();
            self.session.advance(now, down.len());
            self.client.handle_bytes(now, &down);
            // One that is over its rate is read more slowly; the rest waits.
            let up = if self.session.wants_read() { self.client.transmit().to_vec() } else { Vec::new() };
            self.client.advance(up.len());
            self.session.handle_bytes(now, &up);
            self.read();
            if up.is_empty() && down.is_empty() {
                break;
            }
        }
        if let Some(Err(fault @ (Fault::Upgrade(_) | Fault::Protocol(_) | Fault::Gap { .. }))) = self.client.end() {
            panic!("a sound client met {fault}");
        }
    }

    fn read(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                ClientEvent::Event(event) => self.event(&event),
                ClientEvent::Frame(frame) => {
                    if let ServerFrame::Request(request) = *frame {
                        assert_eq!(request.user_id, USERS.stranger.sub(), "a request of a user it may not answer");
                        self.requests.push(*request);
                    }
                }
                ClientEvent::Welcome(_) => {}
            }
        }
    }

    /// A run has one end, and nothing follows it.
    fn event(&mut self, event: &Event) {
        assert!(!format!("{:?}", event.body).contains(MARK));
        let Some(run) = event.run_id else { return };
        assert!(!self.ended.contains(&run), "an event after the end of its run: {event:?}");
        if matches!(event.body.kind(), EventKind::AgentCompleted | EventKind::AgentFailed | EventKind::AgentCancelled) {
            self.ended.insert(run);
        }
    }

    fn say(&mut self, text: &str) {
        self.client.send(&ClientFrame::parse(text).expect("a sound frame").frame);
    }

    fn ask(&mut self) {
        self.asked += 1;
        let n = self.asked;
        self.say(&format!(r#"{{"type":"user_message","id":"m{n}","key":"m{n}","thread_id":"t","content":"hi"}}"#));
        self.say(&format!(r#"{{"type":"command","id":"c{n}","name":"n"}}"#));
        if n > 1 {
            self.say(&format!(r#"{{"type":"cancel_run","id":"x{n}","key":"m{}"}}"#, n - 1));
        }
    }

    fn work(&mut self) {
        if let Some((run, n)) = self.runs.pop_first() {
            let event = r#"{"type":"agent_completed"}"#;
            self.say(&format!(r#"{{"type":"run_event","run_id":"{run}","n":{},"event":{event}}}"#, n + 1));
        }
        for request in std::mem::take(&mut self.requests) {
            self.answer(request);
        }
    }

    fn answer(&mut self, request: Request) {
        let id = request.id.as_str();
        match request.body {
            RequestBody::UserMessage { run_id: run, .. } => {
                let start = r#""user_id":"stranger","thread_id":"t","agent_name":"agent","lease":3"#;
                self.say(&format!(r#"{{"type":"run_start","id":"{id}","run_id":"{run}",{start}}}"#));
                let event = r#"{"type":"agent_delta","part_id":"p","text":"text"}"#;
                self.say(&format!(r#"{{"type":"run_event","run_id":"{run}","n":1,"event":{event}}}"#));
                self.runs.insert(run, 1);
            }
            RequestBody::CancelRun { run_id: run, .. } => {
                let n = self.runs.remove(&run).unwrap_or_default() + 1;
                let event = r#"{"type":"agent_cancelled","by":"stranger","reason":"asked to stop"}"#;
                self.say(&format!(r#"{{"type":"run_event","run_id":"{run}","n":{n},"event":{event}}}"#));
            }
            RequestBody::Command { .. } => {
                self.say(&format!(r#"{{"type":"reply","id":"{id}","ok":true,"result":1}}"#));
            }
            RequestBody::Approve { .. } | RequestBody::Pause { .. } | RequestBody::Resume { .. } => {}
        }
    }
}
