//! Everything at once: filters, merging, acks that trim, logs that give way to others, topics that are left and followed again,
//! narrow sockets, dead sockets that are still open. What a device was not given, it was told to be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::harness::{Pair, World, frame_id, ident, thread};
use crate::client::{ClientConfig, ClientEvent};
use crate::drive::Machine;
use crate::hub::{Run, RunOptions};
use crate::id::{RunId, SessionId, ThreadId, TopicId, TopicName};
use crate::limits::Limits;
use crate::protocol::{ClientFrame, Lost, Mode, Position, ReplyOk, ServerFrame, StreamEntry, StreamName};
use crate::stream::Reducer;

const USERS: [&str; 3] = ["ann", "bob", "cyd"];
const THREADS: [&str; 2] = ["a", "b"];
const STEPS: usize = 400;
const SEEDS: u64 = 6;

/// A generator whose seed a failure names.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }
}

/// What was published: of each stream the thread of each event, and the text of each run.
#[derive(Default)]
struct Truth {
    events: BTreeMap<(StreamName, &'static str), Vec<Option<usize>>>,
    texts: BTreeMap<RunId, String>,
}

impl Truth {
    fn note(&mut self, stream: &StreamName, user: &'static str, thread: Option<usize>) {
        self.events.entry((stream.clone(), user)).or_default().push(thread);
    }
}

struct Device {
    user: &'static str,
    filter: Option<usize>,
    pair: Pair,
    /// Sockets that broke without the server's notice.
    dead: Vec<Pair>,
    session: Option<SessionId>,
    position: Option<Position>,
    topic: Option<Position>,
    /// It has asked to follow the topic from elsewhere.
    afresh: bool,
    view: Reducer,
    /// Seqs that were given or named as lost, and where each stream was begun.
    covered: BTreeMap<StreamName, BTreeSet<u64>>,
    begun: BTreeMap<StreamName, u64>,
}

impl Device {
    fn new(world: &World, user: &'static str, filter: Option<usize>) -> Self {
        let pair = connect(world, user, filter, None, None);
        let (covered, begun, view) = (BTreeMap::new(), BTreeMap::new(), Reducer::default());
        Self {
            user,
            filter,
            pair,
            dead: Vec::new(),
            session: None,
            position: None,
            topic: None,
            afresh: false,
            view,
            covered,
            begun,
        }
    }

    fn come_back(&mut self, world: &World, half_open: bool) {
        self.take();
        let next = connect(world, self.user, self.filter, self.position, self.session);
        let old = std::mem::replace(&mut self.pair, next);
        if half_open {
            self.dead.push(old);
        }
        // The next socket follows no topic until it says so.
    }

    fn read_some(&mut self, world: &World, bytes: usize) {
        self.pair.read_some(bytes);
        let Some(session) = &mut self.pair.session else { return };
        let up = self.pair.client.transmit().to_vec();
        self.pair.client.advance(up.len());
        if !up.is_empty() {
            session.handle_bytes(world.now(), &up);
        }
        self.take();
    }

    fn place(&mut self, entry: &StreamEntry) {
        let is_own = entry.stream == StreamName::User;
        let known = if is_own { self.position } else { self.topic };
        self.lost(&entry.stream, entry.lost);
        if known.is_none() || known.is_some_and(|known| known.seq > entry.event_id.seq) {
            self.begun.insert(entry.stream.clone(), entry.event_id.seq);
        } else if entry.lost.is_none() {
            assert_eq!(known, Some(entry.event_id), "without a loss it goes on where it was");
        }
        if is_own && matches!(entry.mode, Mode::Reset) {
            self.view.clear();
        }
        self.stand(&entry.stream, entry.event_id);
    }

    fn stand(&mut self, stream: &StreamName, at: Position) {
        *(if *stream == StreamName::User { &mut self.position } else { &mut self.topic }) = Some(at);
    }

    fn lost(&mut self, stream: &StreamName, lost: Option<Lost>) {
        if let Some(Lost { from, to }) = lost {
            self.cover(stream, from.seq, to.seq);
        }
    }

    fn cover(&mut self, stream: &StreamName, prev: u64, seq: u64) {
        self.covered.entry(stream.clone()).or_default().extend(prev + 1..=seq);
    }

    fn take(&mut self) {
        while let Some(event) = self.pair.client.poll_event() {
            match event {
                ClientEvent::Welcome(welcome) => {
                    self.session = Some(welcome.session_id);
                    self.topic = None;
                    welcome.streams.iter().for_each(|entry| self.place(entry));
                }
                ClientEvent::Event(event) => {
                    let fresh = self.covered.entry(event.stream.clone()).or_default().insert(event.position.seq);
                    assert!(fresh, "{:?} came twice", event.position);
                    // Pieces of one text that were joined.
                    if event.body.kind().as_str() == "agent_delta" {
                        self.cover(&event.stream, event.follows(), event.position.seq);
                    }
                    if event.stream == StreamName::User {
                        self.view.apply(&event);
                    }
                    self.stand(&event.stream, event.position);
                }
                ClientEvent::Frame(frame) => self.frame(&frame),
            }
        }
        assert_eq!(self.pair.fault(), None);
        assert_eq!(self.pair.closed_with(), None);
    }

    fn frame(&mut self, frame: &ServerFrame) {
        match frame {
            ServerFrame::Deltas(window) => {
                self.cover(&window.stream, window.prev, window.position.seq);
                for part in &window.parts {
                    self.view.extend(part.run_id, &part.part_id, part.offset, &part.text, part.run_seq);
                }
                self.stand(&window.stream, window.position);
            }
            ServerFrame::Position { stream, event_id, .. } => self.stand(stream, *event_id),
            ServerFrame::Snapshot(part) => {
                self.lost(&part.stream, part.lost);
                if part.stream == StreamName::User {
                    if part.part == 1 {
                        self.view.clear();
                    }
                    part.runs.iter().for_each(|run| self.view.restore(run));
                }
                if part.part == part.of {
                    self.stand(&part.stream, part.event_id);
                }
            }
            ServerFrame::Reply(reply) => {
                if let Ok(ReplyOk::Stream(entry)) = &reply.outcome {
                    if self.afresh {
                        self.topic = None;
                        self.covered.remove(&entry.stream);
                    }
                    self.place(entry);
                }
            }
            _ => {}
        }
    }

    fn check(&self, truth: &Truth) {
        for ((stream, user), threads) in &truth.events {
            let is_own = *stream == StreamName::User;
            if is_own && *user != self.user || !self.begun.contains_key(stream) {
                continue;
            }
            let position = if is_own { self.position } else { self.topic };
            let Some(position) = position else { continue };
            assert_eq!(position.seq, threads.len() as u64, "{stream:?} of {} is read to its end", self.user);
            let none = BTreeSet::new();
            let covered = self.covered.get(stream).unwrap_or(&none);
            for (seq, of) in (1..).zip(threads).filter(|(seq, _)| *seq > self.begun[stream]) {
                let shown = !is_own || self.filter.is_none() || of.is_none() || *of == self.filter;
                assert!(
                    !shown || covered.contains(&seq),
                    "{} of {stream:?}: {seq} is neither given nor lost",
                    self.user
                );
            }
        }
        for (run, view) in self.view.runs() {
            let Some(whole) = truth.texts.get(run) else { continue };
            for part in view.parts.values() {
                let letters: Vec<char> = whole.chars().collect();
                let expected: String = letters[usize::try_from(part.start).unwrap()..].iter().collect();
                assert_eq!(part.text, expected, "{}: the text from {} on", self.user, part.start);
            }
        }
    }
}

fn topic() -> TopicName {
    "news".parse().unwrap()
}

fn connect(
    world: &World,
    user: &str,
    filter: Option<usize>,
    resume: Option<Position>,
    session: Option<SessionId>,
) -> Pair {
    let token = world.scoped_token(&ident(user), Duration::from_secs(1_000_000), "topic:*", None);
    let threads: Vec<ThreadId> = filter.iter().map(|at| thread(THREADS[*at])).collect();
    world.connect_with(ClientConfig { threads, ..world.config(token, resume, session) })
}

fn play(seed: u64) {
    let mut random = Random(seed);
    let (log_entries, lag_entries) = ([12, 130, 4_096][random.index(3)], [3, 64][random.index(2)]);
    let total_log_bytes = [20_000, 1 << 20][random.index(2)];
    let log_retention = Duration::from_secs(2);
    let limits = Limits {
        log_entries,
        lag_entries,
        total_log_bytes,
        log_retention,
        dedup_window: log_retention,
        ..Limits::default()
    };
    let world = World::sharded(limits, 1);
    let mut truth = Truth::default();
    let mut runs: BTreeMap<(usize, usize), Run> = BTreeMap::new();
    let mut devices: Vec<Device> =
        (0..USERS.len() * 3).map(|n| Device::new(&world, USERS[n % 3], [None, Some(0), Some(1)][n / 3])).collect();
    devices.iter_mut().for_each(Device::take);
    // The topic is never left by everybody, so that it is one log all the time.
    let mut anchor = connect(&world, "dan", None, None, None);
    anchor.send(&ClientFrame::Subscribe { id: frame_id("s"), topic: topic(), resume: None });
    for _ in 0..STEPS {
        let (user, of, which) = (random.index(3), random.index(2), random.index(devices.len()));
        let device = &mut devices[which];
        match random.below(14) {
            0..=3 => {
                let run = runs.entry((user, of)).or_insert_with(|| {
                    truth.note(&StreamName::User, USERS[user], Some(of));
                    world.hub.start_run(&ident(USERS[user]), thread(THREADS[of]), RunOptions::named("a")).unwrap()
                });
                for _ in 0..random.below(40) {
                    let most = [4, 400][random.index(2)];
                    let text = "é\"🙂x".repeat(1 + random.index(most));
                    run.delta(text.as_str()).unwrap();
                    truth.note(&StreamName::User, USERS[user], Some(of));
                    truth.texts.entry(run.id()).or_default().push_str(&text);
                }
            }
            4 => {
                if let Some(run) = runs.get(&(user, of)) {
                    run.thinking("z".repeat(random.index(3_000))).unwrap();
                    truth.note(&StreamName::User, USERS[user], Some(of));
                }
            }
            5 => {
                if let Some(run) = runs.remove(&(user, of)) {
                    run.completed(None).unwrap();
                    truth.note(&StreamName::User, USERS[user], Some(of));
                }
            }
            6 => {
                let of = [None, Some(of)][random.index(2)];
                world.hub.publish(&ident(USERS[user]), of.map(|of| thread(THREADS[of])), "n", &1).unwrap();
                truth.note(&StreamName::User, USERS[user], of);
            }
            7 => {
                for _ in 0..random.below(30) {
                    let id = TopicId::new(None, topic()).unwrap();
                    world.hub.publish_topic(&id, "n", &"y".repeat(random.index(2_000))).unwrap();
                    truth.note(&StreamName::Topic(topic()), "", None);
                }
            }
            8 => device.read_some(&world, 1 + random.index(60_000)),
            9 => {
                device.pair.pump();
                device.take();
            }
            10 => {
                device.come_back(&world, random.below(2) == 0);
                device.take();
            }
            11 => {
                let resume = [None, device.topic, Some(Position::NONE)][random.index(3)];
                // One request at a time: what came before it is taken first.
                device.pair.pump();
                device.take();
                device.afresh = resume != device.topic;
                device.pair.client.send(&ClientFrame::Subscribe { id: frame_id("s"), topic: topic(), resume });
                if !device.afresh {
                    // What would come before the answer would come again by the client's own wish.
                    device.pair.pump();
                }
            }
            12 => {
                // The position as it is: early, late, repeated.
                if let Some(event_id) = device.position {
                    device.pair.client.send(&ClientFrame::Ack { stream: StreamName::User, event_id });
                }
            }
            _ => {
                world.clock.turn(Duration::from_millis(random.below(3_000)));
                world.keeper.handle_timeout();
            }
        }
        // One event on top of the share.
        assert!(world.hub.counts().log_bytes <= total_log_bytes + (64 << 10));
    }
    for device in &mut devices {
        device.pair.pump();
        device.take();
        world.clock.turn(Duration::from_secs(1));
        let now = world.now();
        if let Some(session) = &mut device.pair.session {
            session.handle_timeout(now);
        }
        device.pair.pump();
        device.take();
        device.check(&truth);
    }
}

#[test]
fn whatever_is_not_given_is_told_to_be_lost() {
    for seed in 1..=SEEDS {
        println!("seed {seed}");
        play(seed);
    }
}
