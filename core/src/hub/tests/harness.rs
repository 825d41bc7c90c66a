//! A hub on a clock that tests turn, and pairs of a session and a client whose bytes tests carry.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc as Shared;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::auth::fake::FakeKeys;
use crate::auth::{Access, ClaimRules, NewToken};
use crate::client::{Client, ClientConfig, ClientEvent, Fault};
use crate::drive::Machine;
use crate::hub::{Housekeeper, Hub, HubConfig, Request, Requests, Session};
use crate::id::{Entropy, FrameId, SessionId, ThreadId, UserId};
use crate::limits::Limits;
use crate::protocol::{ClientFrame, Event, EventKind, Position, Reply, ServerFrame};
use crate::sync::Lock;
use crate::time::{Clock, Now, Timestamp, UnixTime};

pub(super) const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
const START: u64 = 1_800_000_000;

/// A clock that stands still until it is turned.
#[derive(Debug, Default)]
pub(super) struct TestClock(Lock<u64>);

impl TestClock {
    pub(super) fn turn(&self, by: Duration) {
        *self.0.lock() += u64::try_from(by.as_micros()).unwrap();
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let micros = *self.0.lock();
        let unix = UnixTime::from_micros(START * 1_000_000 + micros);
        Now { at: Timestamp::from_micros(micros), unix }
    }
}

/// Numbers that are all different, the same in every run. Whoever acts may draw from a lane of its own, in which the
/// numbers do not hang on what others draw.
#[derive(Debug, Default)]
pub(super) struct TestEntropy(Lock<(usize, [u64; LANES])>);

pub(super) const LANES: usize = 4;

impl TestEntropy {
    pub(super) fn turn_to(&self, lane: usize) {
        self.0.lock().0 = lane;
    }
}

impl Entropy for TestEntropy {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let (lane, counts) = &mut *self.0.lock();
            counts[*lane] += 1;
            let number = counts[*lane] + ((*lane as u64) << 32);
            let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xd6e8_feb8_6659_fd93);
            chunk.copy_from_slice(&mixed.to_be_bytes()[..chunk.len()]);
        }
    }
}

pub(super) struct World {
    pub(super) hub: Hub,
    pub(super) keeper: Housekeeper,
    pub(super) clock: Shared<TestClock>,
    pub(super) entropy: Shared<TestEntropy>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(super) fn with(limits: Limits) -> Self {
        Self::sharded(limits, 4)
    }

    pub(super) fn sharded(limits: Limits, shards: usize) -> Self {
        Self::of(HubConfig { limits, shards, access: Access::default().with_tickets(), ..HubConfig::default() })
    }

    pub(super) fn of(config: HubConfig) -> Self {
        let clock = Shared::new(TestClock::default());
        let entropy = Shared::new(TestEntropy::default());
        let rules = ClaimRules { leeway: config.limits.token_leeway, ..ClaimRules::default() };
        let verifier = FakeKeys::new(SECRET, rules).unwrap();
        let (hub, keeper) =
            Hub::new(config, Shared::new(verifier), Shared::clone(&clock) as _, Shared::clone(&entropy) as _).unwrap();
        Self { hub, keeper, clock, entropy }
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(super) fn token(&self, user: &UserId, ttl: Duration) -> String {
        self.scoped_token(user, ttl, "", None)
    }

    /// The same with scopes, and with an id to revoke it by.
    pub(super) fn scoped_token(&self, user: &UserId, ttl: Duration, scope: &str, token_id: Option<&str>) -> String {
        let issuer = FakeKeys::new(SECRET, ClaimRules::default()).unwrap();
        issuer.issue(&NewToken { user, issued_at: self.now().unix, ttl, scope, token_id }).unwrap()
    }

    /// A device of `user` that is in.
    pub(super) fn device(&self, user: &str) -> Pair {
        self.resuming(user, None, None)
    }

    pub(super) fn resuming(&self, user: &str, resume: Option<Position>, session: Option<SessionId>) -> Pair {
        let token = self.token(&ident(user), Duration::from_secs(3600));
        self.connect(token, resume, session)
    }

    pub(super) fn connect(&self, token: String, resume: Option<Position>, session: Option<SessionId>) -> Pair {
        self.connect_with(self.config(token, resume, session))
    }

    /// A device that watches these threads alone.
    pub(super) fn watching(&self, user: &str, threads: &[ThreadId], resume: Option<Position>) -> Pair {
        let token = self.token(&ident(user), Duration::from_secs(3600));
        self.connect_with(ClientConfig { threads: threads.to_vec(), ..self.config(token, resume, None) })
    }

    pub(super) fn config(&self, token: String, resume: Option<Position>, session: Option<SessionId>) -> ClientConfig {
        ClientConfig {
            host: "localhost".into(),
            target: "/ws".into(),
            token,
            session,
            resume,
            threads: Vec::new(),
            producer: None,
            name: "test".into(),
        }
    }

    pub(super) fn connect_with(&self, config: ClientConfig) -> Pair {
        self.connect_on(self.hub.session().unwrap(), config)
    }

    /// A client on a socket that was accepted before.
    pub(super) fn connect_on(&self, accepted: Session, config: ClientConfig) -> Pair {
        let client = Client::new(self.now(), config, Shared::clone(&self.entropy) as _).unwrap();
        let clock = Shared::clone(&self.clock);
        let mut pair = Pair { session: Some(accepted), client, heard: Vec::new(), clock };
        pair.pump();
        pair
    }

    /// Turns the clock and lets everything due happen.
    pub(super) fn sleep(&self, by: Duration, pairs: &mut [&mut Pair]) {
        self.clock.turn(by);
        self.keeper.handle_timeout();
        for pair in pairs {
            let now = self.now();
            if let Some(session) = &mut pair.session {
                session.handle_timeout(now);
            }
            pair.pump();
        }
    }
}

pub(super) fn ident(user: &str) -> UserId {
    UserId::new(None, user).unwrap()
}

pub(super) fn thread(name: &str) -> ThreadId {
    ThreadId::new(name).unwrap()
}

pub(super) fn frame_id(name: &str) -> FrameId {
    FrameId::new(name).unwrap()
}

/// A server's session and a client with a wire between them.
pub(super) struct Pair {
    /// `None` once the socket was cut.
    pub(super) session: Option<Session>,
    pub(super) client: Client,
    /// Every byte that the server has sent.
    pub(super) heard: Vec<u8>,
    clock: Shared<TestClock>,
}

impl Pair {
    /// Carries up to so many bytes of the server's, once.
    pub(super) fn read_some(&mut self, bytes: usize) {
        let Some(session) = &mut self.session else { return };
        let now = self.clock.now();
        session.poll_ready(now, Waker::noop());
        let down = session.transmit();
        let down = down[..bytes.min(down.len())].to_vec();
        session.advance(now, down.len());
        self.client.handle_bytes(now, &down);
    }

    /// Carries bytes until nothing moves.
    pub(super) fn pump(&mut self) {
        let now = self.clock.now();
        loop {
            let Some(session) = &mut self.session else { return };
            session.poll_ready(now, Waker::noop());
            let goes_on = session.goes_on_when_written();
            let down = session.transmit().to_vec();
            session.advance(now, down.len());
            if !down.is_empty() {
                self.heard.extend_from_slice(&down);
                self.client.handle_bytes(now, &down);
            }
            let up = self.client.transmit().to_vec();
            self.client.advance(up.len());
            if !up.is_empty() && session.wants_read() {
                session.handle_bytes(now, &up);
            }
            if session.is_closed() {
                self.session = None;
                self.client.handle_eof();
            }
            // As the driver does it.
            if (down.is_empty() || !goes_on) && up.is_empty() {
                return;
            }
        }
    }

    /// The socket breaks.
    pub(super) fn cut(&mut self) {
        self.session = None;
        self.client.handle_eof();
    }

    pub(super) fn send(&mut self, frame: &ClientFrame) {
        self.client.send(frame);
        self.pump();
    }

    pub(super) fn say(&mut self, id: &str, content: &str) {
        self.send(&message(id, None, content));
    }

    /// Everything that came since the last call.
    pub(super) fn events(&mut self) -> Vec<ClientEvent> {
        self.pump();
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    /// The user's events among them.
    pub(super) fn stream(&mut self) -> Vec<Event> {
        self.events()
            .into_iter()
            .filter_map(|event| if let ClientEvent::Event(e) = event { Some(*e) } else { None })
            .collect()
    }

    pub(super) fn kinds(&mut self) -> Vec<EventKind> {
        self.stream().iter().map(|event| event.body.kind()).collect()
    }

    /// Everything but events and the welcome.
    pub(super) fn frames(&mut self) -> Vec<ServerFrame> {
        let frame = |event| if let ClientEvent::Frame(frame) = event { Some(*frame) } else { None };
        self.events().into_iter().filter_map(frame).collect()
    }

    pub(super) fn replies(&mut self) -> Vec<Reply> {
        self.events()
            .into_iter()
            .filter_map(|event| match event {
                ClientEvent::Frame(frame) => {
                    if let ServerFrame::Reply(reply) = *frame {
                        Some(*reply)
                    } else {
                        None
                    }
                }
                ClientEvent::Welcome(_) | ClientEvent::Event(_) => None,
            })
            .collect()
    }

    pub(super) fn is_in(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.user().is_some())
    }

    /// The close code it saw.
    pub(super) fn closed_with(&self) -> Option<u16> {
        self.client.end().and_then(|end| end.as_ref().ok().map(|(code, _)| *code))
    }

    pub(super) fn fault(&self) -> Option<&Fault> {
        self.client.end().and_then(|end| end.as_ref().err())
    }
}

pub(super) fn message(id: &str, key: Option<&str>, content: &str) -> ClientFrame {
    ClientFrame::UserMessage {
        id: frame_id(id),
        key: key.map(|key| key.parse().unwrap()),
        thread_id: thread("t"),
        content: content.into(),
        metadata: None,
    }
}

/// What a future says now.
pub(super) fn poll_now<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

pub(super) fn next_message(requests: &mut Requests) -> crate::hub::UserMessage {
    match poll_now(requests.next()) {
        Poll::Ready(Some(Request::UserMessage(message))) => message,
        other => panic!("no message waits: {other:?}"),
    }
}
