//! The same operations on both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use trunkline_core::id::{ConnectionId, TopicId, UserId};
use trunkline_core::limits::Limits;
use trunkline_core::manager::{Control, Manager, Output, Pace};
use trunkline_core::time::{Now, Timestamp, UnixTime};

use super::model::{Denied, LOG_ENTRIES, MAX_DEVICES, MAX_RUNS, REQUEST, RETENTION, Stream, Topic, User};

pub(super) const NAMES: [&str; 3] = ["ann", "bob", "carol"];
pub(super) const TOPICS: [&str; 2] = ["news", "talk"];
/// The handle of whoever works on runs.
pub(super) const PRODUCER: u32 = u32::MAX;
pub(super) const BIRTH: u64 = 1_800_000_000_000_000;

pub(super) struct Game {
    pub(super) shard: Manager<u32>,
    pub(super) users: BTreeMap<usize, User>,
    pub(super) topics: BTreeMap<usize, Topic>,
    pub(super) denied: [Denied; NAMES.len()],
    pub(super) now: u64,
    pub(super) next: u32,
    last_epoch: u64,
    pub(super) draining: bool,
    /// What the shard has told and nobody expected yet.
    pub(super) told: Vec<String>,
}

impl Game {
    pub(super) fn new() -> Self {
        let limits = Limits {
            connections_per_user: MAX_DEVICES,
            runs_per_user: MAX_RUNS,
            log_entries: LOG_ENTRIES as usize,
            log_retention: Duration::from_micros(RETENTION),
            request_deadline: Duration::from_micros(REQUEST),
            dedup_window: Duration::from_micros(RETENTION),
            ..Limits::default()
        };
        Self {
            shard: Manager::new(Arc::new(limits), 1),
            users: BTreeMap::new(),
            topics: BTreeMap::new(),
            denied: Default::default(),
            now: 0,
            next: 0,
            last_epoch: 0,
            draining: false,
            told: Vec::new(),
        }
    }

    pub(super) fn play(&mut self, which: u8, whose: u8, with: u8) {
        self.next += 1;
        let user = usize::from(whose) % NAMES.len();
        match which {
            0 | 1 => self.attach(user, with),
            2 => self.detach(user, whose / 3, with),
            3 => self.start(user),
            4 => self.text(user, with),
            5 => self.work(user, with),
            6 => self.end_run(user, with),
            7 => self.message(user, with),
            8 => self.answer(user, with),
            9 if with & 1 == 0 => self.cancel(user, with >> 1),
            9 => self.ack(user, with >> 1),
            10 => self.publish(user, with),
            11 => self.follow(usize::from(whose) % TOPICS.len(), user, with),
            12 => self.publish_topic(usize::from(whose) % TOPICS.len(), with),
            13 => self.read(user, with),
            14 => self.revoke(user, with),
            _ => self.wait(u64::from(with) % 64),
        }
        self.settle();
        assert_eq!(self.told, Vec::<String>::new(), "told, and nobody should be");
    }

    /// What is counted is what is there.
    pub(super) fn check(&self) {
        let counts = self.shard.counts();
        let sum = |of: fn(&User) -> usize| self.users.values().map(of).sum::<usize>();
        assert_eq!((counts.users, counts.topics), (self.users.len(), self.topics.len()));
        assert_eq!(counts.connections, sum(|user| user.devices.len()));
        assert_eq!((counts.runs, counts.requests), (sum(|user| user.runs.len()), sum(|user| user.requests.len())));
        for (n, user) in &self.users {
            let devices = self.shard.devices(&name(*n));
            assert!(
                devices.iter().map(|device| device.connection).eq(user.devices.iter().map(|device| conn(device.n)))
            );
        }
    }

    /// Everybody reads to the end, leaves, and is forgotten.
    pub(super) fn end(&mut self) {
        for user in 0..NAMES.len() {
            while self.users.get(&user).is_some_and(|known| known.devices.iter().any(|d| d.at < known.stream.head())) {
                self.read(user, 255);
            }
            while self.users.get(&user).is_some_and(|user| !user.runs.is_empty()) {
                self.end_run(user, 1);
            }
            while let Some(device) = self.users.get(&user).and_then(|user| user.devices.first().map(|device| device.n))
            {
                self.shard.detach(self.at(), &name(user), conn(device));
                self.users.get_mut(&user).expect("it has a device").devices.remove(0);
            }
        }
        for topic in 0..TOPICS.len() {
            while let Some(reader) = self.topics.get(&topic).and_then(|topic| topic.readers.keys().next().copied()) {
                assert!(self.shard.unsubscribe(self.at(), &topic_id(topic), conn(reader)));
                self.topics.get_mut(&topic).expect("it has a reader").readers.remove(&reader);
            }
        }
        self.settle();
        self.told.clear();
        for _ in 0..3 {
            self.wait(RETENTION);
            self.settle();
        }
        self.check();
        assert_eq!((self.users.len(), self.topics.len()), (0, 0));
        assert_eq!((self.shard.counts().log_bytes, self.shard.poll_timeout()), (0, None));
    }

    pub(super) fn at(&self) -> Now {
        Now { at: Timestamp::from_micros(self.now), unix: UnixTime::from_micros(BIRTH + self.now) }
    }

    fn settle(&mut self) {
        for user in self.users.values_mut() {
            user.settle(self.now);
        }
        for topic in self.topics.values_mut() {
            topic.stream.settle(self.now, topic.readers.is_empty());
        }
    }

    /// Every incarnation of a stream has a higher epoch than all before it.
    fn epoch(&mut self) -> u64 {
        self.last_epoch = (BIRTH + self.now).max(self.last_epoch + 1);
        self.last_epoch
    }

    pub(super) fn user(&mut self, user: usize) -> &mut User {
        if !self.users.contains_key(&user) {
            let stream = Stream::new(self.epoch());
            self.users.insert(user, User { stream, ..User::default() });
        }
        self.users.get_mut(&user).expect("it is there or was made")
    }

    pub(super) fn topic(&mut self, topic: usize) -> &mut Topic {
        if !self.topics.contains_key(&topic) {
            let stream = Stream::new(self.epoch());
            self.topics.insert(topic, Topic { stream, ..Topic::default() });
        }
        self.topics.get_mut(&topic).expect("it is there or was made")
    }

    pub(super) fn expect(&mut self, mut expected: Vec<String>) {
        self.told.extend(std::iter::from_fn(|| self.shard.poll_output()).map(told));
        self.told.sort();
        expected.sort();
        assert_eq!(std::mem::take(&mut self.told), expected);
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.shard.begin_drain();
        let mut pace = Pace::new(self.shard.counts().connections, Duration::from_secs(1));
        let mut last = None;
        loop {
            last = self.shard.drain_some(last.as_ref(), 1, &mut pace);
            self.told.extend(std::iter::from_fn(|| self.shard.poll_output()).map(told));
            if last.is_none() {
                break;
            }
        }
        let devices = self.users.values().flat_map(|user| &user.devices);
        let expected = devices.map(|device| format!("going away {}", device.n)).collect();
        self.expect(expected);
    }

    fn wait(&mut self, micros: u64) {
        self.now += micros;
        let now = self.now;
        for round in 0.. {
            if self.shard.poll_timeout().is_none_or(|(due, _)| due.as_micros() > now) {
                break;
            }
            assert!(round < 100, "what is due stays due");
            self.shard.handle_timeout(self.at());
            self.told.extend(std::iter::from_fn(|| self.shard.poll_output()).map(told));
        }
        self.users.retain(|_, user| !user.stream.is_over(now));
        self.topics.retain(|_, topic| !topic.stream.is_over(now));
        let mut expected = vec![];
        for user in self.users.values_mut() {
            for late in user.requests.extract_if(.., |waiting| waiting.deadline <= now) {
                expected.extend(late.senders.iter().map(|to| format!("reply {to} unavailable")));
            }
        }
        self.expect(expected);
    }
}

/// An output in words.
pub(super) fn told(output: Output<u32>) -> String {
    match output {
        Output::Ready(to, _) => format!("ready {to}"),
        Output::Close(to, reason) => format!("close {to} {reason:?}"),
        Output::Control(to, Control::Reply(reply)) => {
            let code = reply.outcome.as_ref().err().map_or("ok", |error| error.code.as_str());
            format!("reply {to} {code}")
        }
        Output::Control(to, Control::GoingAway(_)) => format!("going away {to}"),
        Output::Control(PRODUCER, Control::CancelRequested { run, .. }) => format!("cancel {run}"),
        Output::Control(to, control) => format!("{control:?} to {to}"),
        Output::Ask(ask) | Output::AskAgain(ask) => format!("ask {:?}", ask.user()),
    }
}

pub(super) fn name(user: usize) -> UserId {
    UserId::new(None, NAMES[user]).expect("a name")
}

pub(super) fn topic_id(topic: usize) -> TopicId {
    TopicId::new(None, TOPICS[topic].parse().expect("a name")).expect("a name")
}

pub(super) fn conn(n: u32) -> ConnectionId {
    ConnectionId::from_bits(n.into())
}
