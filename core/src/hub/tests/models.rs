//! The hub on several threads, checked by loom: publishers, operators and devices that come and go, on the real hub with real
//! sessions and clients. [`small`] has the real lock and mailbox alone, where readers can be broken too.

mod broken;
mod coming;
mod ending;
mod producing;
mod revoking;
mod shards;
mod small;

use std::future::poll_fn;
use std::sync::Arc as Shared;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loom::future::block_on;
use loom::thread::JoinHandle;

use crate::auth::fake::FakeKeys;
use crate::auth::{ClaimRules, NewToken};
use crate::client::{Client, ClientConfig, ClientEvent};
use crate::drive::Machine;
use crate::hub::{Housekeeper, Hub, HubConfig, Session};
use crate::id::{Entropy, SessionId, UserId};
use crate::limits::Limits;
use crate::protocol::{Position, ProducerHello, Receipt, ServerFrame, StreamName, Welcome};
use crate::sync::models::{check, spawn};
use crate::time::{Clock, Now, Timestamp, UnixTime};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

/// A clock that stands still until it is turned. It adds no lock to what is checked.
#[derive(Default)]
struct Hand(AtomicU64);

impl Hand {
    fn turn(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as u64, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Now {
        let micros = self.0.load(Ordering::Relaxed);
        Now { at: Timestamp::from_micros(micros), unix: UnixTime::from_micros(1_800_000_000_000_000 + micros) }
    }
}

/// Numbers that are all different. Their order is no part of what is checked, so that loom need not see it.
#[derive(Default)]
struct Counted(AtomicU64);

impl Entropy for Counted {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            chunk.copy_from_slice(&number.to_be_bytes()[..chunk.len()]);
        }
    }
}

fn ann() -> UserId {
    UserId::new(None, "ann").unwrap()
}

fn hub() -> Hub {
    world(1, Limits::default()).0
}

fn world(shards: usize, limits: Limits) -> (Hub, Housekeeper, Shared<Hand>) {
    let verifier = FakeKeys::new(SECRET, ClaimRules::default()).unwrap();
    let config = HubConfig { shards, limits, ..HubConfig::default() };
    let clock = Shared::new(Hand::default());
    let (verifier, entropy) = (Shared::new(verifier), Shared::new(Counted::default()));
    let (hub, keeper) = Hub::new(config, verifier, Shared::clone(&clock) as _, entropy).unwrap();
    (hub, keeper, clock)
}

/// How somebody comes.
#[derive(Clone, Copy)]
struct Coming {
    user: &'static str,
    scope: &'static str,
    token_id: Option<&'static str>,
    resume: Option<Position>,
    session: Option<SessionId>,
    /// As the producer of this name.
    producer: Option<&'static str>,
}

impl Default for Coming {
    fn default() -> Self {
        Self { user: "ann", scope: "", token_id: None, resume: None, session: None, producer: None }
    }
}

impl Coming {
    fn producer(name: &'static str) -> Self {
        Self { user: "agent", scope: "publish", producer: Some(name), ..Self::default() }
    }

    fn token(self, now: Now) -> String {
        let keys = FakeKeys::new(SECRET, ClaimRules::default()).unwrap();
        let (issued_at, ttl) = (now.unix, Duration::from_secs(60));
        let Self { user, scope, token_id, .. } = self;
        let user = UserId::new(None, user).unwrap();
        keys.issue(&NewToken { user: &user, issued_at, ttl, scope, token_id }).unwrap()
    }
}

/// A server's session and a client with a wire between them.
struct Device {
    session: Session,
    client: Client,
}

impl Device {
    /// One that is in as soon as it [enters](Device::enter) with its hello, which is answered too.
    fn outside(hub: &Hub, coming: Coming) -> (Self, Vec<u8>) {
        let (host, target, name) = ("localhost".into(), "/ws".into(), "model".into());
        let (token, threads) = (coming.token(hub.now()), Vec::new());
        let Coming { resume, session, producer, .. } = coming;
        let producer = producer.map(|id| ProducerHello { id: id.parse().unwrap(), users: None });
        let config = ClientConfig { host, target, token, session, resume, threads, producer, name };
        let client = Client::new(hub.now(), config, Shared::new(Counted::default())).unwrap();
        let mut device = Self { session: hub.session().unwrap(), client };
        device.send();
        device.carry(Waker::noop());
        let hello = device.client.transmit().to_vec();
        device.client.advance(hello.len());
        (device, hello)
    }

    /// One that is in.
    fn inside(hub: &Hub, coming: Coming) -> Self {
        let (mut device, hello) = Self::outside(hub, coming);
        device.enter(&hello);
        assert_eq!(device.hear(), ["welcome"]);
        device
    }

    fn now(&self) -> Now {
        self.session.hub().now()
    }

    fn enter(&mut self, hello: &[u8]) {
        let now = self.now();
        self.session.handle_bytes(now, hello);
    }

    /// What the client has to send goes to the server.
    fn send(&mut self) {
        let up = self.client.transmit().to_vec();
        self.client.advance(up.len());
        let now = self.now();
        self.session.handle_bytes(now, &up);
    }

    /// As the driver does it: look, write, and look again until nothing comes.
    fn carry(&mut self, waker: &Waker) {
        let now = self.now();
        loop {
            self.session.poll_ready(now, waker);
            let down = self.session.transmit().to_vec();
            if down.is_empty() {
                return;
            }
            self.session.advance(now, down.len());
            self.client.handle_bytes(now, &down);
        }
    }

    /// What the client is told now: events by their numbers, those of a topic with its name, answers by their outcome, and other
    /// frames by their names.
    fn hear(&mut self) -> Vec<String> {
        self.carry(Waker::noop());
        self.told()
    }

    fn told(&mut self) -> Vec<String> {
        let told = std::iter::from_fn(|| self.client.poll_event()).map(|event| match event {
            ClientEvent::Event(event) => match event.stream {
                StreamName::User => event.position.seq.to_string(),
                StreamName::Topic(topic) => format!("{topic} {}", event.position.seq),
            },
            ClientEvent::Frame(frame) => match *frame {
                ServerFrame::Reply(reply) => {
                    reply.outcome.map_or_else(|error| error.code.as_str().to_owned(), |_| "ok".into())
                }
                ServerFrame::ServiceLevel { level, .. } => level.as_str().to_owned(),
                other => other.type_name().to_owned(),
            },
            ClientEvent::Welcome(_) => "welcome".to_owned(),
        });
        told.collect()
    }

    /// Its welcome, which has come.
    fn welcome(&mut self) -> Welcome {
        self.carry(Waker::noop());
        match self.client.poll_event() {
            Some(ClientEvent::Welcome(welcome)) => *welcome,
            other => panic!("{other:?}, {:?}", self.client.end()),
        }
    }

    /// What it is told until that is enough; asleep while nothing comes.
    fn listen(&mut self, mut is_enough: impl FnMut(&[String], &Client) -> bool) -> Vec<String> {
        let mut told = Vec::new();
        let mut poll = |cx: &mut Context<'_>| {
            self.carry(cx.waker());
            told.extend(self.told());
            if is_enough(&told, &self.client) { Poll::Ready(()) } else { Poll::Pending }
        };
        block_on(poll_fn(&mut poll));
        told
    }

    /// The same for one that stays, until there is `count` of it.
    fn listen_for(&mut self, count: usize) -> Vec<String> {
        self.listen(|told, client| {
            assert_eq!(client.end(), None, "a gap or a repetition");
            told.len() >= count
        })
    }

    /// The same until it is closed.
    fn listen_to_the_end(&mut self) -> Vec<String> {
        self.listen(|_, client| client.end().is_some())
    }

    /// The code with which it was closed.
    fn closed_with(&self) -> Option<u16> {
        self.client.end().map(|end| end.as_ref().map_or(0, |(code, _)| *code))
    }
}

fn publish(hub: &Hub) -> Receipt {
    hub.publish(&ann(), None, "n", &1).unwrap()
}

/// Runs `step` on the hub in a thread of its own.
fn with<R: Send + 'static>(hub: &Hub, step: impl FnOnce(&Hub) -> R + Send + 'static) -> JoinHandle<R> {
    let hub = hub.clone();
    spawn(move || step(&hub))
}

/// Property: two publishers and a reader never wait for each other for ever, no wake-up is lost, and each event is read once, in order.
#[test]
fn publishers_against_a_reader_of_the_hub() {
    check(|| {
        let hub = hub();
        let mut device = Device::inside(&hub, Coming::default());
        let publishers = [0, 1].map(|_| with(&hub, publish));
        assert_eq!(device.listen_for(2), ["1", "2"]);
        for publisher in publishers {
            assert_eq!(publisher.join().unwrap(), Receipt::DeliveredTo(1));
        }
    });
}

/// Property: the same with a shutdown, which fills the mailbox under the shard's lock: the reader is told of both, each once.
#[test]
fn a_shutdown_against_a_publisher_and_a_reader_of_the_hub() {
    check(|| {
        let hub = hub();
        let mut device = Device::inside(&hub, Coming::default());
        let publisher = with(&hub, publish);
        let shutdown = with(&hub, Hub::begin_shutdown);
        let mut told = device.listen_for(2);
        told.sort();
        assert_eq!(told, ["1", "going_away"]);
        assert_eq!(publisher.join().unwrap(), Receipt::DeliveredTo(1));
        shutdown.join().unwrap();
    });
}
