//! Connections that are cut in every way, again and again, while events are published: nothing lost, nothing twice,
//! nothing out of order, nothing of anybody else's.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;
use trunkline_core::limits::Limits;
use trunkline_tests::raw::{Heard, Raw};
use trunkline_tests::script::{Feed, Ledger};
use trunkline_tests::server::{InProcess, scoped};
use trunkline_tests::wire::{STEP, text_frame, upgrade_bytes, within};

const USERS: usize = 25;
const DEVICES: usize = 4;
const TOPICS: usize = 5;
/// Of each of the 100 connections.
const CUTS: usize = 200;
/// Half-open sockets that a device leaves behind and has not given up yet.
const CORPSES: usize = 2;
/// Each end's, so that a few dozen events fill what lies between.
const BUFFER: u32 = 8 << 10;
/// Events at once; among so many is always one with a payload.
const BURST: u64 = 5;
/// For both ends of every socket, and as much again for other tests of this process.
const DESCRIPTORS: u64 = (2 * USERS * DEVICES * (2 + CORPSES)) as u64 + 500;
const LIMIT: Duration = Duration::from_secs(240);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The end of the client's stream.
    Fin,
    Reset,
    /// The old socket stays open, silent and unread.
    BlackHole,
    /// In the middle of a frame that the client sends, by any of the three above.
    InAFrame,
    /// While the server has more to write than the socket takes.
    InAWrite,
    /// After a few events of those that were missed.
    InAReplay,
}

const KINDS: [Cut; 6] = [Cut::Fin, Cut::Reset, Cut::BlackHole, Cut::InAFrame, Cut::InAWrite, Cut::InAReplay];

/// A generator that is good enough to choose cuts.
#[derive(Clone, Copy, Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }
}

/// How often each thing happened.
#[derive(Debug, Default)]
struct Tally {
    cuts: [usize; KINDS.len()],
    unread: usize,
    inside_a_message: usize,
    superseded: usize,
    events: u64,
    windows: u64,
}

/// What the devices share.
struct World {
    addr: SocketAddr,
    users: Vec<Mutex<Feed>>,
    topics: Vec<Mutex<Feed>>,
    /// One permit for every cut: the pace of the publishing.
    cut: Semaphore,
    tally: Mutex<Tally>,
    everybody: Barrier,
}

impl World {
    /// Publishes more than a narrow socket takes.
    fn burst(&self, user: usize) {
        let mut feed = self.users[user].lock().unwrap();
        (0..BURST).for_each(|_| feed.publish(32_000));
    }
}

/// One device of a user, over all of its connections.
struct Phone {
    world: Arc<World>,
    user: usize,
    token: String,
    session: Value,
    ledger: Ledger,
    dice: Dice,
    corpses: VecDeque<Corpse>,
}

/// A half-open socket that a device has left behind, and what had been read from it.
struct Corpse {
    raw: Raw,
    ledger: Ledger,
    /// Not even the answer to its upgrade.
    unread: bool,
}

/// Shows who it is and where it stands: what a failure is told by.
impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Phone").field("user", &self.user).field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

impl Phone {
    fn new(world: &Arc<World>, index: usize, seed: u64) -> Self {
        let user = index % USERS;
        let (name, topic) = (format!("user-{user}"), format!("topic-{}", user % TOPICS));
        let ledger = Ledger::new(&name, &[&topic]);
        let token = scoped(&name, &format!("topic:{topic}"));
        let dice = Dice(seed ^ (index as u64).wrapping_mul(0x5851_f42d_4c95_7f2d));
        Self { world: Arc::clone(world), user, token, session: Value::Null, ledger, dice, corpses: VecDeque::new() }
    }

    /// Connects and asks to continue; the answer is still to be read.
    async fn dial(&mut self, receive: Option<u32>) -> Raw {
        let mut raw = Raw::connect(self.world.addr, receive).await;
        // Somebody else's topic among them, which is as if it were not there.
        let other = format!("topic-{}", (self.user + 1) % TOPICS);
        let hello =
            json!({"type": "hello", "session_id": self.session, "resume": self.ledger.resume(), "topics": [other]});
        let mut bytes = upgrade_bytes(self.world.addr, &self.token);
        bytes.extend(text_frame(&hello.to_string()));
        raw.send(&bytes).await;
        raw
    }

    async fn welcomed(&mut self, raw: &mut Raw) {
        raw.upgraded().await;
        let Heard::Frame(welcome) = raw.heard().await else { panic!("a welcome was awaited: {self:?}") };
        self.ledger.welcome(&welcome);
        let session = welcome["session_id"].clone();
        assert!(self.session.is_null() || self.session == session, "{welcome}");
        self.session = session;
    }

    async fn read(&mut self, raw: &mut Raw) -> Value {
        match raw.heard().await {
            Heard::Frame(frame) => {
                self.ledger.take(&frame);
                frame
            }
            other @ (Heard::Close(_) | Heard::End) => panic!("a frame was awaited, not {other:?}: {self:?}"),
        }
    }

    /// Reads until at least `events` more have come.
    async fn read_events(&mut self, raw: &mut Raw, events: usize) {
        let wanted = self.ledger.events + events as u64;
        while self.ledger.events < wanted {
            self.read(raw).await;
        }
    }

    /// One connection from its beginning to its cut.
    async fn connect_and_cut(&mut self, cut: Cut) {
        let narrow = matches!(cut, Cut::InAWrite | Cut::InAReplay).then_some(BUFFER);
        if cut == Cut::InAReplay {
            // Missed: more than the socket takes.
            self.world.burst(self.user);
        }
        let mut raw = self.dial(narrow).await;
        let unread = matches!(cut, Cut::Fin | Cut::Reset | Cut::BlackHole) && self.dice.below(4) == 0;
        if unread {
            // Its request may have been heard or not: the next one continues from the same place.
            self.world.tally.lock().unwrap().unread += 1;
        } else {
            self.welcomed(&mut raw).await;
        }
        let events = self.dice.below(4);
        match cut {
            Cut::Fin | Cut::Reset | Cut::BlackHole if unread => {}
            Cut::Fin | Cut::Reset | Cut::BlackHole => self.read_events(&mut raw, events).await,
            Cut::InAFrame => {
                self.read_events(&mut raw, events).await;
                let frame = text_frame(&json!({"type": "ping", "id": "p".repeat(100)}).to_string());
                raw.send(&frame[..1 + self.dice.below(frame.len() - 1)]).await;
            }
            Cut::InAWrite => {
                self.world.burst(self.user);
                raw.more(1 + self.dice.below(2_000)).await;
            }
            Cut::InAReplay => {
                let (head, before) = (self.world.users[self.user].lock().unwrap().seq(), self.ledger.seq("user"));
                self.read_events(&mut raw, events).await;
                assert!(before + BURST <= head, "{before} and {head}");
                raw.more(1 + self.dice.below(2_000)).await;
            }
        }
        self.end(raw, cut, unread).await;
    }

    async fn end(&mut self, raw: Raw, cut: Cut, unread: bool) {
        {
            let mut tally = self.world.tally.lock().unwrap();
            tally.cuts[KINDS.iter().position(|kind| *kind == cut).unwrap()] += 1;
            tally.inside_a_message += usize::from(raw.is_inside_a_message());
        }
        let how = match cut {
            Cut::InAFrame => KINDS[self.dice.below(3)],
            Cut::InAReplay => KINDS[self.dice.below(2)],
            Cut::InAWrite => Cut::Reset,
            Cut::Fin | Cut::Reset | Cut::BlackHole => cut,
        };
        match how {
            Cut::Fin => raw.fin().await,
            Cut::BlackHole => self.corpses.push_back(Corpse { raw, ledger: self.ledger.clone(), unread }),
            Cut::Reset | Cut::InAFrame | Cut::InAWrite | Cut::InAReplay => raw.reset(),
        }
        if self.corpses.len() > CORPSES {
            self.bury().await;
        }
        self.world.cut.add_permits(1);
    }

    /// Reads what the oldest corpse was given: its own stream too, up to where the next connection took over.
    async fn bury(&mut self) {
        let Some(Corpse { mut raw, mut ledger, unread }) = self.corpses.pop_front() else { return };
        if unread {
            raw.upgraded().await;
        }
        loop {
            match raw.heard().await {
                Heard::Frame(frame) if frame["type"] == "welcome" && unread => ledger.welcome(&frame),
                Heard::Frame(frame) => ledger.take(&frame),
                Heard::Close(code) => {
                    assert_eq!(code, 4409, "{self:?}");
                    self.world.tally.lock().unwrap().superseded += 1;
                    break;
                }
                Heard::End => panic!("the half-open socket is told why it ends: {self:?}"),
            }
        }
        raw.reset();
    }

    /// The whole life of the device: what it holds in the end is all that was published.
    async fn live(mut self, first: Raw) {
        first.reset();
        for _ in 0..CUTS {
            let cut = KINDS[self.dice.below(KINDS.len())];
            self.connect_and_cut(cut).await;
        }
        while !self.corpses.is_empty() {
            // The newest may be on its own: the last connection takes over from it.
            if self.corpses.len() == 1 {
                let mut raw = self.dial(None).await;
                self.welcomed(&mut raw).await;
                raw.fin().await;
            }
            self.bury().await;
        }
        // The publishers end, and tell where.
        self.world.everybody.wait().await;
        self.world.everybody.wait().await;
        let mut raw = self.dial(None).await;
        self.welcomed(&mut raw).await;
        let heads = [
            ("user".to_owned(), self.world.users[self.user].lock().unwrap().seq()),
            (
                format!("topic:topic-{}", self.user % TOPICS),
                self.world.topics[self.user % TOPICS].lock().unwrap().seq(),
            ),
        ];
        while heads.iter().any(|(stream, head)| self.ledger.seq(stream) < *head) {
            self.read(&mut raw).await;
        }
        raw.send(&text_frame(r#"{"type": "ping", "id": "last"}"#)).await;
        while self.read(&mut raw).await["type"] != "pong" {}
        for (stream, head) in heads {
            assert_eq!(self.ledger.seq(&stream), head, "{stream} ends here");
        }
        {
            let mut tally = self.world.tally.lock().unwrap();
            tally.events += self.ledger.events;
            tally.windows += self.ledger.windows;
        }
        self.world.everybody.wait().await;
    }
}

/// Publishes one event for every user and, now and then, for every topic: once for each forty cuts, or a few milliseconds
/// after the last, until it is told to stop.
async fn publish(world: Arc<World>, stop: Arc<Semaphore>) {
    for round in 0_usize.. {
        if stop.is_closed() {
            return;
        }
        let forty = tokio::time::timeout(Duration::from_millis(20), world.cut.acquire_many(40)).await;
        if let Ok(Ok(permits)) = forty {
            permits.forget();
        }
        world.users.iter().for_each(|feed| feed.lock().unwrap().publish(round % 7 * 100));
        if round.is_multiple_of(5) {
            world.topics.iter().for_each(|feed| feed.lock().unwrap().publish(0));
        }
    }
}

fn seed() -> u64 {
    let chosen = std::env::var("TRUNKLINE_TEST_SEED").ok().map(|seed| seed.parse().expect("a seed is a number"));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    chosen.unwrap_or(u64::from(now.subsec_nanos()) ^ now.as_secs())
}

/// All that is published stays in the logs, and a reader that is a few events behind is given merged text.
fn limits() -> Limits {
    Limits {
        // Whoever is taken over from takes no place of its user's.
        connections_per_user: DEVICES,
        log_entries: 1 << 20,
        log_bytes: 1 << 30,
        total_log_bytes: 16 << 30,
        lag_entries: 4,
        close_deadline: 4 * STEP,
        ..Limits::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_connections_that_are_cut_two_hundred_times_each_have_every_event_once_and_in_order() {
    let allowed = rlimit::increase_nofile_limit(DESCRIPTORS).unwrap_or(0);
    assert!(allowed >= DESCRIPTORS, "this needs {DESCRIPTORS} open files and the system allows {allowed}");
    let seed = seed();
    println!("TRUNKLINE_TEST_SEED={seed}");
    let server = InProcess::narrow(BUFFER, limits());
    let start = Instant::now();
    let world = Arc::new(World {
        addr: server.addr,
        users: (0..USERS).map(|user| Mutex::new(Feed::user(&server.hub, &format!("user-{user}")))).collect(),
        topics: (0..TOPICS).map(|topic| Mutex::new(Feed::topic(&server.hub, &format!("topic-{topic}")))).collect(),
        cut: Semaphore::new(0),
        tally: Mutex::default(),
        everybody: Barrier::new(USERS * DEVICES + 1),
    });
    let mut phones = JoinSet::new();
    for index in 0..USERS * DEVICES {
        let mut phone = Phone::new(&world, index, seed);
        let mut first = phone.dial(None).await;
        phone.welcomed(&mut first).await;
        phones.spawn(phone.live(first));
    }
    let stop = Arc::new(Semaphore::new(0));
    let publisher = tokio::spawn(publish(Arc::clone(&world), Arc::clone(&stop)));
    let cut = async {
        world.everybody.wait().await;
        stop.close();
        publisher.await.unwrap();
        world.users.iter().for_each(|feed| feed.lock().unwrap().finish());
        world.everybody.wait().await;
        world.everybody.wait().await;
    };
    let all = async {
        tokio::select! {
            () = cut => {}
            Some(Err(failed)) = phones.join_next() => std::panic::resume_unwind(failed.into_panic()),
        }
        phones.join_all().await;
    };
    within("everybody to be cut and to catch up", LIMIT, all).await;
    server.settles_at(0).await;
    let tally = world.tally.lock().unwrap();
    let published: u64 = world.users.iter().map(|feed| feed.lock().unwrap().seq()).sum();
    println!("{:?} for {tally:?}, of {published} events of the users' own", start.elapsed());
    assert_eq!(tally.cuts.iter().sum::<usize>(), USERS * DEVICES * CUTS);
    // What the cuts are meant to hit was hit.
    assert!(tally.cuts.iter().all(|count| *count > USERS * DEVICES * CUTS / 10));
    assert!(tally.inside_a_message > tally.cuts[4], "in the middle of messages");
    assert!(tally.superseded > 0 && tally.windows > 0 && tally.unread > 0);
}
