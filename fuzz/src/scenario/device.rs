//! One device: a client that comes back, its socket, and what it was given.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Waker;

use trunkline_core::client::{
    Credentials, Output, Reconnecting, ReconnectingConfig, State, TokenError, Update, Wanted,
};
use trunkline_core::drive::Machine;
use trunkline_core::hub::Session;
use trunkline_core::id::{Entropy, FrameId, RunId, ThreadId, UserId};
use trunkline_core::protocol::{ClientFrame, Event, EventBody, EventKind, Position, StreamName};

use super::Truth;
use crate::session::world::World;

pub(super) struct Device {
    pub(super) user: &'static UserId,
    token: &'static str,
    client: Reconnecting,
    session: Option<Session>,
    /// Sockets that the device has left and the hub does not know to be dead.
    half_open: Vec<Session>,
    asked: Option<u64>,
    opening: Option<u64>,
    is_live: bool,
    at: Option<Position>,
    /// The last one of what was published, and its place among all of the user.
    last: Option<(u64, usize)>,
    ended: BTreeSet<RunId>,
    messages: u64,
}

/// Fewer than have room beside the user's other device.
const MAX_HALF_OPEN: usize = 2;
const MAX_ROUNDS: usize = 64;

impl Device {
    pub(super) fn new(world: &World, user: &'static UserId, token: &'static str, entropy: Arc<dyn Entropy>) -> Self {
        let config = ReconnectingConfig::new("ws://localhost/ws".parse().expect("an address"));
        let client = Reconnecting::new(world.now(), config, entropy).expect("a good configuration");
        let (session, half_open, asked, opening) = (None, Vec::new(), None, None);
        let (is_live, at, last, ended, messages) = (false, None, None, BTreeSet::new(), 0);
        Self { user, token, client, session, half_open, asked, opening, is_live, at, last, ended, messages }
    }

    pub(super) fn is_live(&self) -> bool {
        self.is_live
    }

    /// The last number that it was given.
    pub(super) fn last(&self) -> Option<u64> {
        self.last.map(|(number, _)| number)
    }

    /// Up to `n` bytes to the hub, as far as it wants to read.
    pub(super) fn up(&mut self, world: &World, n: usize) {
        let Some(session) = &mut self.session else { return };
        let bytes = self.client.transmit();
        let bytes = bytes[..n.min(bytes.len())].to_vec();
        if session.wants_read() && !bytes.is_empty() {
            self.client.advance(world.now(), bytes.len());
            session.handle_bytes(world.now(), &bytes);
        }
    }

    /// Up to `n` bytes from the hub.
    pub(super) fn down(&mut self, world: &World, truth: &mut Truth, n: usize) {
        let Some(session) = &mut self.session else { return };
        session.poll_ready(world.now(), Waker::noop());
        let bytes = session.transmit();
        let bytes = bytes[..n.min(bytes.len())].to_vec();
        if !bytes.is_empty() {
            session.advance(world.now(), bytes.len());
            self.client.handle_bytes(world.now(), &bytes);
        }
        self.drain(truth);
    }

    pub(super) fn flow(&mut self, world: &World, truth: &mut Truth) {
        for _ in 0..MAX_ROUNDS {
            self.up(world, usize::MAX);
            self.down(world, truth, usize::MAX);
            let waits = self.session.as_ref().is_some_and(|session| !session.transmit().is_empty());
            if !waits && self.client.transmit().is_empty() {
                break;
            }
        }
        self.settle(world, truth);
    }

    pub(super) fn give(&mut self, world: &World, good: bool) {
        let now = world.now();
        if let Some(ask) = self.asked.take() {
            let outcome =
                if good { Ok(Credentials::token(self.token)) } else { Err(TokenError::Unavailable(String::new())) };
            self.client.handle_credentials(now, ask, outcome);
        } else if let Some(attempt) = self.opening.take() {
            let session = if good { world.hub.session().ok() } else { None };
            let outcome = session.as_ref().map(|_| ()).ok_or_else(String::new);
            if self.client.handle_open(now, attempt, outcome) {
                self.session = session;
            }
        }
    }

    pub(super) fn cut(&mut self, world: &World) {
        self.cut_for_the_hub(world);
        self.client.handle_eof(world.now());
    }

    pub(super) fn cut_for_itself(&mut self, world: &World) {
        if let Some(session) = self.session.take() {
            self.half_open.push(session);
            if self.half_open.len() > MAX_HALF_OPEN {
                self.half_open.remove(0);
            }
        }
        self.client.handle_eof(world.now());
    }

    /// The device waits for a socket that is dead, until its own heartbeat tells.
    pub(super) fn cut_for_the_hub(&mut self, world: &World) {
        if let Some(session) = &mut self.session {
            session.handle_broken(world.now());
        }
        self.session = None;
    }

    pub(super) fn lose_up(&mut self, world: &World, n: usize) {
        let n = n.min(self.client.transmit().len());
        self.client.advance(world.now(), n);
        self.cut(world);
    }

    pub(super) fn lose_down(&mut self, world: &World, n: usize) {
        if let Some(session) = &mut self.session {
            session.poll_ready(world.now(), Waker::noop());
            let n = n.min(session.transmit().len());
            session.advance(world.now(), n);
        }
        self.cut(world);
    }

    pub(super) fn say(&mut self, world: &World) {
        self.messages += 1;
        let frame = ClientFrame::UserMessage {
            id: FrameId::new(&self.messages.to_string()).expect("digits are an id"),
            key: None,
            thread_id: ThreadId::new("t").expect("a letter is an id"),
            content: "hi".into(),
            metadata: None,
        };
        // One over the bound is refused.
        let _ = self.client.request(world.now(), frame);
    }

    pub(super) fn hurry(&mut self, world: &World) {
        self.client.reconnect_now(world.now());
    }

    /// What is due is done, on both sides.
    pub(super) fn settle(&mut self, world: &World, truth: &mut Truth) {
        let now = world.now();
        for session in self.session.iter_mut().chain(&mut self.half_open) {
            for round in 0.. {
                session.poll_ready(now, Waker::noop());
                if session.poll_timeout().is_none_or(|at| at > now.at) {
                    break;
                }
                assert!(round < MAX_ROUNDS, "a deadline that is due stays due");
                session.handle_timeout(now);
            }
        }
        self.half_open.retain(|session| !session.is_closed());
        for round in 0.. {
            self.drain(truth);
            if self.client.poll_timeout().is_none_or(|at| at > now.at) {
                break;
            }
            assert!(round < MAX_ROUNDS, "the client spins: {:?}", self.client);
            self.client.handle_timeout(now);
        }
        // A close frame is read before the end of the socket.
        let is_over = self.session.as_ref().is_some_and(|session| session.is_closed() && session.transmit().is_empty());
        if is_over || !self.client.has_socket() && self.session.is_some() {
            self.session = None;
            self.client.handle_eof(now);
            self.drain(truth);
        }
    }

    fn drain(&mut self, truth: &mut Truth) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Ask(ask, Wanted::Socket | Wanted::Another | Wanted::Renewal) => self.asked = Some(ask),
                Output::Open(attempt) => self.opening = Some(attempt),
                Output::Tell(update) => self.hear(update, truth),
            }
        }
    }

    fn hear(&mut self, update: Update, truth: &mut Truth) {
        match update {
            Update::State(State::Stopped(why)) => panic!("{} stopped: {why}", self.user.sub()),
            Update::State(state) => self.is_live = state == State::Live,
            Update::Gap { stream: StreamName::User, .. } => (self.at, self.last) = (None, None),
            Update::Event(event) => self.event(&event, truth),
            Update::Welcome(welcome) => assert_eq!(welcome.user_id, self.user.sub()),
            Update::Gap { .. }
            | Update::Frame(_)
            | Update::Undone { .. }
            | Update::TopicRefused(_)
            | Update::NoToken(_) => {}
        }
    }

    fn event(&mut self, event: &Event, truth: &mut Truth) {
        assert_eq!(event.user_id.as_deref(), Some(self.user.sub()));
        let (before, now) = (self.at.replace(event.position), event.position);
        assert!(before.is_none_or(|before| before < now && before.epoch == now.epoch), "{before:?}, then {now}");
        let run = event.run_id;
        let what = if let EventBody::Custom { data, .. } = &event.body {
            self.published(data.get().parse().expect("a number"), truth);
            data.get().to_owned()
        } else {
            format!("{run:?} {}", event.body.type_name())
        };
        let seen = truth.at.entry((self.user.sub(), now)).or_insert_with(|| what.clone());
        assert_eq!(*seen, what, "two devices saw different things at {now}");
        assert!(run.is_none_or(|run| !self.ended.contains(&run)), "an event after the end of its run");
        if matches!(event.body.kind(), EventKind::AgentCompleted | EventKind::AgentFailed | EventKind::AgentCancelled) {
            self.ended.extend(run);
        }
    }

    /// The one that follows the last.
    fn published(&mut self, number: u64, truth: &Truth) {
        let index = truth.index(self.user.sub(), number);
        assert!(self.last.is_none_or(|(_, last)| index == last + 1), "{number} after {:?}", self.last);
        self.last = Some((number, index));
    }
}
