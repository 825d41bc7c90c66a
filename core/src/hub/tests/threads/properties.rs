//! Any traffic, cut and resumed, merged and left behind: a device that watches some threads ends with exactly their events.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::harness::{Pair, World, ident, thread};
use crate::client::ClientEvent;
use crate::drive::Machine;
use crate::hub::{Run, RunOptions};
use crate::id::ThreadId;
use crate::limits::Limits;
use crate::protocol::{Event, EventBody, Mode, Position, ServerFrame, Snapshot};
use crate::stream::Reducer;

/// One is the beginning of another, and one is escaped in frames.
const THREADS: [&str; 3] = ["t", "t\"1", "t1"];
/// By the threads' indexes; none is all.
const FILTERS: [&[usize]; 5] = [&[], &[0], &[1], &[1, 2], &[0, 2]];
const RUNS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    /// Pieces of text of one run, started where it is not open.
    Say {
        run: usize,
        pieces: usize,
        bytes: usize,
    },
    Think {
        run: usize,
    },
    End {
        run: usize,
    },
    Note {
        thread: Option<usize>,
    },
    Read {
        device: usize,
    },
    /// The socket takes some bytes of what waits.
    ReadSome {
        device: usize,
        bytes: usize,
    },
    Cut {
        device: usize,
    },
    /// The device comes back with nothing.
    Forget {
        device: usize,
    },
    Wait {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let device = || 0..FILTERS.len();
    prop_oneof![
        6 => (0..RUNS, 1_usize..40, prop_oneof![4 => 1_usize..20, 1 => Just(2_000)])
            .prop_map(|(run, pieces, bytes)| Step::Say { run, pieces, bytes }),
        4 => (0..RUNS).prop_map(|run| Step::Think { run }),
        2 => (0..RUNS).prop_map(|run| Step::End { run }),
        3 => prop::option::of(0..THREADS.len()).prop_map(|thread| Step::Note { thread }),
        4 => device().prop_map(|device| Step::Read { device }),
        2 => (device(), 1_usize..50_000).prop_map(|(device, bytes)| Step::ReadSome { device, bytes }),
        3 => device().prop_map(|device| Step::Cut { device }),
        1 => device().prop_map(|device| Step::Forget { device }),
        1 => (1_u64..2_000).prop_map(|millis| Step::Wait { millis }),
    ]
}

/// Small logs fall behind, middling ones join their texts.
fn limits() -> impl Strategy<Value = Limits> {
    (prop_oneof![Just(12_usize), Just(130), Just(4_096)], prop_oneof![Just(3_usize), Just(1_000)])
        .prop_map(|(log_entries, lag_entries)| Limits { log_entries, lag_entries, ..Limits::default() })
}

/// What one frame covers: everything in `(prev, seq]` that the device may see is in it.
enum Covered {
    Event(Box<Event>),
    Texts,
    Nothing,
}

struct Device {
    filter: Vec<ThreadId>,
    pair: Pair,
    position: Option<Position>,
    view: Reducer,
    covered: Vec<(u64, u64, Covered)>,
    /// It was given everything since the stream's first event.
    whole: bool,
    /// Its welcome says that nothing is missing, and nothing was published since.
    promised: bool,
    connections: u64,
}

impl Device {
    fn new(world: &World, filter: &[usize]) -> Self {
        let filter: Vec<ThreadId> = filter.iter().map(|at| thread(THREADS[*at])).collect();
        let pair = world.watching("ann", &filter, None);
        let (view, covered) = (Reducer::default(), Vec::new());
        let (position, whole, promised, connections) = (None, true, false, 1);
        let mut device = Self { filter, pair, position, view, covered, whole, promised, connections };
        device.take();
        device.promised = false;
        device
    }

    fn watches(&self, of: Option<&ThreadId>) -> bool {
        self.filter.is_empty() || of.is_none_or(|of| self.filter.contains(of))
    }

    fn read(&mut self) {
        self.pair.pump();
        self.take();
    }

    fn read_some(&mut self, bytes: usize) {
        self.pair.read_some(bytes);
        self.take();
    }

    fn cut(&mut self) {
        self.take();
        self.pair.cut();
    }

    fn come_back(&mut self, world: &World) {
        if self.pair.session.is_none() {
            self.pair = world.watching("ann", &self.filter, self.position);
            self.connections += 1;
            self.take();
            self.promised = false;
        }
    }

    fn forget(&mut self, world: &World) {
        self.cut();
        self.position = None;
        self.view.clear();
        self.whole = false;
        self.come_back(world);
    }

    fn take(&mut self) {
        while let Some(event) = self.pair.client.poll_event() {
            match event {
                ClientEvent::Welcome(welcome) => {
                    let entry = &welcome.streams[0];
                    let known = self.position.is_none_or(|known| known == entry.event_id);
                    assert!(known || entry.lost.is_some(), "the position is taken, or it says what is lost");
                    self.promised = matches!(entry.mode, Mode::Live | Mode::Replay);
                    self.whole &= self.promised;
                    if entry.mode == Mode::Reset {
                        self.view.clear();
                    }
                    self.position = Some(entry.event_id);
                }
                ClientEvent::Event(event) => {
                    self.view.apply(&event);
                    self.cover(event.follows(), event.position, Covered::Event(event));
                }
                ClientEvent::Frame(frame) => self.frame(*frame),
            }
        }
    }

    fn frame(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Position { prev, event_id, .. } => {
                assert!(event_id.seq > prev, "a frame that moves nobody");
                self.cover(prev, event_id, Covered::Nothing);
            }
            ServerFrame::Deltas(window) => {
                for part in &window.parts {
                    self.view.extend(part.run_id, &part.part_id, part.offset, &part.text, part.run_seq);
                }
                self.cover(window.prev, window.position, Covered::Texts);
            }
            ServerFrame::Snapshot(part) => self.snapshot(&part),
            ServerFrame::Lag { .. } => {}
            other => panic!("nothing asked for {other:?}"),
        }
    }

    fn snapshot(&mut self, part: &Snapshot) {
        assert!(part.runs.iter().all(|run| self.watches(run.thread_id.as_ref())));
        assert!(!self.promised, "what the welcome promised is not there");
        self.whole = false;
        if part.part == 1 {
            self.view.clear();
        }
        part.runs.iter().for_each(|run| self.view.restore(run));
        if part.part == part.of {
            self.position = Some(part.event_id);
        }
    }

    fn cover(&mut self, prev: u64, position: Position, covered: Covered) {
        let known = self.position.unwrap();
        assert_eq!((prev, position.epoch), (known.seq, known.epoch), "a frame follows the position");
        self.position = Some(position);
        self.covered.push((prev, position.seq, covered));
    }

    /// Compares with what was published.
    fn check(&self, all: &BTreeMap<u64, Event>, reference: &Reducer) {
        assert_eq!(self.pair.fault(), None);
        assert_eq!(self.position.map(|at| at.seq), Some(all.len() as u64), "it ends at the head");
        for (prev, seq, covered) in &self.covered {
            let mut visible =
                all.range(prev + 1..=*seq).map(|(_, event)| event).filter(|e| self.watches(e.thread_id.as_ref()));
            match covered {
                Covered::Nothing => assert_eq!(visible.next(), None, "hidden, and not to be"),
                Covered::Texts => assert!(visible.all(|event| !event.body.is_lifecycle())),
                Covered::Event(event) => check_event(event, visible.collect()),
            }
        }
        let mut expected = reference.clone();
        expected.retain(|run| self.watches(run.thread_id.as_ref()));
        for (id, run) in self.view.runs() {
            assert_eq!(Some(run), expected.runs().get(id), "another state");
        }
        let open = |reducer: &Reducer| reducer.runs().values().filter(|run| !run.status.is_terminal()).count();
        assert_eq!(open(&self.view), open(&expected));
        if self.whole {
            assert_eq!(self.view, expected);
        }
    }
}

/// The one event that is visible, or the last of the pieces that were joined to it.
fn check_event(event: &Event, visible: Vec<&Event>) {
    let last = visible.last().expect("an event that is not to be seen");
    assert_eq!((event.position, &event.thread_id, event.run_id), (last.position, &last.thread_id, last.run_id));
    if let EventBody::AgentDelta { part_id, .. } = &event.body {
        let same = |e: &&Event| matches!(&e.body, EventBody::AgentDelta { part_id: part, .. } if part == part_id);
        assert!(visible.iter().all(|e| e.run_id == event.run_id && same(e)), "joined with another");
    } else {
        assert_eq!((visible.len(), &event.body), (1, &last.body));
    }
}

/// Whoever watches all and is never behind.
struct Witness {
    pair: Pair,
    all: BTreeMap<u64, Event>,
    reducer: Reducer,
}

impl Witness {
    fn look(&mut self) {
        for event in self.pair.stream() {
            self.reducer.apply(&event);
            self.all.insert(event.position.seq, event);
        }
    }
}

struct Play {
    world: World,
    witness: Witness,
    runs: Vec<Option<Run>>,
    devices: Vec<Device>,
    waited: Duration,
}

impl Play {
    fn new(limits: Limits) -> Self {
        let world = World::with(limits);
        let pair = world.device("ann");
        let devices = FILTERS.iter().map(|filter| Device::new(&world, filter)).collect();
        let witness = Witness { pair, all: BTreeMap::new(), reducer: Reducer::default() };
        Self { world, witness, runs: (0..RUNS).map(|_| None).collect(), devices, waited: Duration::ZERO }
    }

    fn run(&mut self, at: usize) -> &Run {
        // The last is a run of the first, in a thread of its own.
        let parent = self.runs[0].as_ref().filter(|_| at == RUNS - 1).map(Run::id);
        let options = RunOptions { parent, ..RunOptions::named("a") };
        let of = thread(THREADS[at % THREADS.len()]);
        let started = || self.world.hub.start_run(&ident("ann"), of, options).unwrap();
        self.runs[at].get_or_insert_with(started)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Say { run, pieces, bytes } => {
                for n in 0..pieces {
                    self.run(run).delta(format!("{n}{}", "é".repeat(bytes / 2))).unwrap();
                    self.witness.look();
                }
            }
            Step::Think { run } => drop(self.run(run).thinking("hm").unwrap()),
            Step::End { run } => drop(self.runs[run].take()),
            Step::Note { thread: of } => {
                let of = of.map(|at| thread(THREADS[at]));
                self.world.hub.publish(&ident("ann"), of, "note", &1).unwrap();
            }
            Step::Read { device } => self.devices[device].read(),
            Step::ReadSome { device, bytes } => self.devices[device].read_some(bytes),
            Step::Cut { device } if self.devices[device].pair.session.is_some() => self.devices[device].cut(),
            Step::Cut { device } => self.devices[device].come_back(&self.world),
            Step::Forget { device } => self.devices[device].forget(&self.world),
            Step::Wait { millis } => self.wait(Duration::from_millis(millis)),
        }
        self.witness.look();
    }

    fn wait(&mut self, by: Duration) {
        self.waited += by;
        self.world.clock.turn(by);
        let now = self.world.now();
        for device in &mut self.devices {
            if let Some(session) = &mut device.pair.session {
                session.handle_timeout(now);
            }
        }
    }

    fn finish(mut self) {
        for device in &mut self.devices {
            device.come_back(&self.world);
            device.read();
        }
        self.wait(self.world.hub.limits().position_interval);
        for device in &mut self.devices {
            device.read();
            device.check(&self.witness.all, &self.witness.reducer);
            let moves =
                device.covered.iter().filter(|(_, _, covered)| matches!(covered, Covered::Nothing)).count() as u64;
            let most = device.connections + self.waited.as_secs() + 1 + self.witness.all.len() as u64 / 256;
            assert!(moves <= most, "{moves} frames that only move the client on");
        }
    }
}

properties! {
    cases = 64;

    #[test]
    fn a_device_ends_with_exactly_the_events_of_its_threads(
        limits in limits(), steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut play = Play::new(limits);
        for step in &steps {
            play.step(step);
        }
        play.finish();
    }
}
