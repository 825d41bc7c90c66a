//! A client that comes back against the hub itself, over a pipe that breaks anywhere: what is told is in order and once or stated as
//! gone, and a message takes effect once or is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;

use super::harness::{World, ident, message, poll_now, thread};
use crate::client::{
    Credentials, Output, Reconnecting, ReconnectingConfig, RequestError, State, TokenError, Undone, Update,
};
use crate::drive::Machine as _;
use crate::hub::{Request, Requests, Session};
use crate::protocol::{EventBody, Position, RevokeTarget, ServerFrame, StreamName};

#[derive(Clone, Debug)]
enum Op {
    Publish,
    Say,
    Answer,
    /// So many bytes up and down.
    Carry(usize, usize),
    Pump,
    Cut,
    /// So many of the next openings, or asks for a token, fail.
    Network(u8),
    Tokens(u8),
    Sleep(u64),
    /// Another process in the place of the server.
    Restart,
    Expel,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Publish),
        4 => Just(Op::Say),
        3 => Just(Op::Answer),
        6 => (0_usize..300, 0_usize..300).prop_map(|(up, down)| Op::Carry(up, down)),
        6 => Just(Op::Pump),
        4 => Just(Op::Cut),
        1 => (0_u8..4).prop_map(Op::Network),
        1 => (0_u8..4).prop_map(Op::Tokens),
        6 => (0_u64..40_000).prop_map(Op::Sleep),
        1 => Just(Op::Sleep(400_000)),
        1 => Just(Op::Restart),
        1 => Just(Op::Expel),
    ]
}

struct Play {
    world: World,
    requests: Requests,
    session: Option<Session>,
    client: Reconnecting,
    told: Vec<Update>,
    sockets: u32,
    micros: u64,
    published: u64,
    said: u32,
    /// How often each content reached the application, over all servers.
    effects: BTreeMap<String, u32>,
    network: u8,
    tokens: u8,
}

impl Play {
    fn new() -> Self {
        let world = World::new();
        let requests = world.hub.requests().unwrap();
        let mut config = ReconnectingConfig::new("ws://localhost/ws".parse().unwrap());
        config.resume = Some(Position::NONE);
        let client = Reconnecting::new(world.now(), config, std::sync::Arc::clone(&world.entropy) as _).unwrap();
        let (told, effects, session) = (Vec::new(), BTreeMap::new(), None);
        let (sockets, micros, published, said, network, tokens) = (0, 0, 0, 0, 0, 0);
        let mut play =
            Self { world, requests, session, client, told, sockets, micros, published, said, effects, network, tokens };
        play.settle();
        play
    }

    /// Does what the client wants done.
    fn settle(&mut self) {
        while let Some(output) = self.client.poll_output() {
            let now = self.world.now();
            match output {
                Output::Tell(update) => self.told.push(update),
                Output::Ask(ask, _) => {
                    let fails = self.tokens > 0;
                    self.tokens = self.tokens.saturating_sub(1);
                    let token = self.world.token(&ident("ann"), Duration::from_secs(120));
                    let given = Ok(Credentials::token(&token));
                    let none = Err(TokenError::Unavailable("none".into()));
                    self.client.handle_credentials(now, ask, if fails { none } else { given });
                }
                Output::Open(attempt) => {
                    self.sockets += 1;
                    let fails = self.network > 0;
                    self.network = self.network.saturating_sub(1);
                    if fails {
                        self.client.handle_open(now, attempt, Err("down".into()));
                    } else {
                        self.session = Some(self.world.hub.session().unwrap());
                        assert!(self.client.handle_open(now, attempt, Ok(())));
                    }
                }
            }
        }
        if !self.client.has_socket() {
            self.session = None;
        }
    }

    /// Carries bytes once; says whether there were any.
    fn carry(&mut self, up: usize, down: usize) -> bool {
        let now = self.world.now();
        let Some(session) = &mut self.session else { return false };
        session.poll_ready(now, Waker::noop());
        let bytes: Vec<u8> = session.transmit().iter().copied().take(down).collect();
        session.advance(now, bytes.len());
        let sent: Vec<u8> = self.client.transmit().iter().copied().take(up).collect();
        self.client.advance(now, sent.len());
        if !sent.is_empty() {
            session.handle_bytes(now, &sent);
        }
        let closed = session.is_closed();
        if !bytes.is_empty() {
            self.client.handle_bytes(now, &bytes);
        }
        if closed {
            self.session = None;
            self.client.handle_eof(now);
        }
        self.settle();
        !bytes.is_empty() || !sent.is_empty() || closed
    }

    fn sleep(&mut self, micros: u64) {
        // No longer at once than what the server needs to keep its pings apart.
        let mut left = micros;
        loop {
            let step = left.min(1_000_000);
            self.world.clock.turn(Duration::from_micros(step));
            self.micros += step;
            left -= step;
            self.world.keeper.handle_timeout();
            let now = self.world.now();
            if let Some(session) = &mut self.session {
                session.handle_timeout(now);
            }
            self.client.handle_timeout(now);
            self.settle();
            if left == 0 {
                return;
            }
            if self.session.is_some() {
                while self.carry(usize::MAX, usize::MAX) {}
            }
        }
    }

    fn answer(&mut self) -> bool {
        let Poll::Ready(Some(Request::UserMessage(message))) = poll_now(self.requests.next()) else { return false };
        *self.effects.entry(message.content().to_owned()).or_default() += 1;
        if let Ok(run) = message.start("tester") {
            let _ = run.completed(None);
        }
        true
    }

    fn restart(&mut self) {
        self.session = None;
        while self.answer() {}
        let world = World::new();
        self.micros += 1_000_000;
        world.clock.turn(Duration::from_micros(self.micros));
        self.requests = world.hub.requests().unwrap();
        self.world = world;
        self.client.handle_eof(self.world.now());
        self.settle();
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Publish => {
                self.world.hub.publish(&ident("ann"), Some(thread("t")), "note", &self.published).unwrap();
                self.published += 1;
            }
            Op::Say => {
                let id = self.said.to_string();
                match self.client.request(self.world.now(), message(&id, None, &id)) {
                    Ok(_) => self.said += 1,
                    Err(error) => assert_eq!(error, RequestError::Stopped),
                }
                self.settle();
            }
            Op::Answer => drop(self.answer()),
            Op::Carry(up, down) => drop(self.carry(up, down)),
            Op::Pump => while self.carry(usize::MAX, usize::MAX) {},
            Op::Cut => {
                self.session = None;
                self.client.handle_eof(self.world.now());
                self.settle();
            }
            Op::Network(times) => self.network = times,
            Op::Tokens(times) => self.tokens = times,
            Op::Sleep(millis) => self.sleep(millis * 1_000),
            Op::Restart => self.restart(),
            Op::Expel => {
                let user = ident("ann");
                self.world.hub.revoke(&user, &RevokeTarget::All, None);
                // Tokens of the same second would be revoked too.
                self.sleep(1_000_000);
            }
        }
    }

    /// From here on nothing breaks: the client must come to be live, up to date, and without an open question.
    fn mend(&mut self) {
        (self.network, self.tokens) = (0, 0);
        for _ in 0..400 {
            while self.carry(usize::MAX, usize::MAX) || self.answer() {}
            if self.client.state() == &State::Live && self.told_of().len() == self.said as usize {
                self.apply(Op::Publish);
                while self.carry(usize::MAX, usize::MAX) {}
                return;
            }
            self.sleep(500_000);
        }
        panic!("it never came back: {:?}, {} of {}", self.client.state(), self.told_of().len(), self.said);
    }

    /// Which requests have come to an end, and to which.
    fn told_of(&self) -> BTreeMap<String, Option<Undone>> {
        let mut ends = BTreeMap::new();
        for update in &self.told {
            let (id, end) = match update {
                Update::Undone { id, why, .. } => (id.to_string(), Some(*why)),
                Update::Frame(frame) => match &**frame {
                    ServerFrame::Reply(reply) => (reply.id.to_string(), None),
                    _ => continue,
                },
                _ => continue,
            };
            assert!(ends.insert(id, end).is_none(), "told twice: {update:?}");
        }
        ends
    }

    fn check(&self) {
        let (mut next, mut gap, mut seen, mut at) = (0, false, BTreeSet::new(), Position::NONE);
        for update in &self.told {
            match update {
                Update::Gap { stream: StreamName::User, .. } => gap = true,
                Update::Event(event) => {
                    assert!(event.position > at, "{} after {at}", event.position);
                    assert!(
                        event.position.epoch == at.epoch && event.position.seq > at.seq || gap || at == Position::NONE
                    );
                    at = event.position;
                    if let EventBody::Custom { data, .. } = &event.body {
                        let number: u64 = data.get().parse().unwrap();
                        // Who held nothing yet is not owed what an earlier server had.
                        let owed = !gap && next > 0;
                        assert!(number == next || !owed && number > next, "{number} for {next}, gap {gap}");
                        (next, gap) = (number + 1, false);
                    }
                    if let EventBody::UserMessage { content, .. } = &event.body {
                        assert!(seen.insert(content.clone()), "{content} twice");
                    }
                }
                _ => {}
            }
        }
        assert_eq!(next, self.published, "the last one has come");
        for (id, end) in self.told_of() {
            let effects = self.effects.get(&id).copied().unwrap_or_default();
            let allowed = match end {
                None | Some(Undone::Unknown) => 0..=1,
                Some(Undone::NotSent | Undone::Refused(_)) => 0..=0,
            };
            assert!(allowed.contains(&effects), "{id} had {effects} effects, and the end {end:?}");
        }
    }
}

properties! {
    cases = 96;

    #[test]
    fn a_client_that_comes_back_misses_nothing_and_does_nothing_twice(ops in prop::collection::vec(op(), 1..80)) {
        let mut play = Play::new();
        for op in ops {
            play.apply(op);
        }
        play.mend();
        play.check();
        let seconds = play.micros / 1_000_000;
        prop_assert!(u64::from(play.sockets) <= 100 + seconds / 2, "{} sockets in {seconds} s", play.sockets);
    }
}
