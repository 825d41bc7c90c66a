//! Text waits and is merged, everything else comes at once, and in the end everybody has seen the same.

use proptest::prelude::*;

use super::*;
use crate::id::{PartId, TopicId};
use crate::protocol::{ClientFrame, Event, EventKind};
use crate::stream::Reducer;

/// What came, by name; text with what it says.
fn names(pair: &mut Pair) -> Vec<String> {
    let name = |event| match event {
        ClientEvent::Event(event) => Some(event.body.kind().as_str().to_owned()),
        ClientEvent::Frame(frame) => match *frame {
            ServerFrame::Deltas(window) => {
                Some(window.parts.iter().map(|part| part.text.clone()).collect::<Vec<_>>().join("|"))
            }
            ServerFrame::ServiceLevel { .. } => None,
            other => Some(other.type_name().to_owned()),
        },
        ClientEvent::Welcome(_) => None,
    };
    pair.events().into_iter().filter_map(name).collect()
}

#[test]
fn where_the_service_is_degraded_text_comes_in_larger_pieces_to_everybody() {
    let world = World::new();
    let mut ann = world.device("ann");
    order(&world, Degraded);
    let (a, b) = (start(&world, "ann"), start(&world, "ann"));
    assert_eq!(names(&mut ann), ["agent_started", "agent_started"]);
    for n in 0..4 {
        a.delta(format!("a{n}")).unwrap();
        b.delta(format!("b{n}")).unwrap();
        ann.pump();
        world.sleep(50 * MS, &mut [&mut ann]);
        assert_eq!(names(&mut ann), [""; 0]);
    }
    world.sleep(50 * MS, &mut [&mut ann]);
    assert_eq!(names(&mut ann), ["a0a1a2a3|b0b1b2b3"], "250 ms after the first of them");
    a.delta("x").unwrap();
    assert_eq!(names(&mut ann), [""; 0]);
    a.completed(None).unwrap();
    assert_eq!(names(&mut ann), ["agent_delta", "agent_completed"], "nothing waits behind another event");
    assert_eq!(ann.fault(), None);
}

#[test]
fn in_an_emergency_text_waits_for_the_next_other_event_or_for_seconds() {
    let world = World::new();
    let mut ann = world.device("ann");
    order(&world, Emergency);
    let run = start(&world, "ann");
    run.delta("one ").unwrap();
    run.delta("two ").unwrap();
    world.sleep(2 * SEC, &mut [&mut ann]);
    assert_eq!(names(&mut ann), ["agent_started"]);
    run.thinking("hm").unwrap();
    run.delta("three ").unwrap();
    assert_eq!(names(&mut ann), ["one two ", "agent_thinking"]);
    run.delta("four").unwrap();
    world.sleep(3 * SEC - MS, &mut [&mut ann]);
    assert_eq!(names(&mut ann), [""; 0]);
    world.sleep(MS, &mut [&mut ann]);
    assert_eq!(names(&mut ann), ["three four"]);
    // What is much is given earlier.
    for _ in 0..200 {
        run.delta("x").unwrap();
        ann.pump();
    }
    assert!(!names(&mut ann).is_empty());
    run.delta("\nthe end").unwrap();
    assert_eq!(names(&mut ann), [""; 0]);
    order(&world, Normal);
    ann.events();
    assert_eq!(ann.client.position().unwrap().seq, 207, "back to normal, nothing waits");
    assert_eq!(ann.fault(), None);
}

#[test]
fn text_that_waits_costs_no_reading_and_a_shutdown_does_not_wait_for_it() {
    let world = World::new();
    let mut ann = world.device("ann");
    order(&world, Emergency);
    let run = start(&world, "ann");
    run.delta("the rest").unwrap();
    assert_eq!(names(&mut ann), ["agent_started"]);
    let (at, due) = (world.now().at, ann.session.as_ref().unwrap().poll_timeout().unwrap());
    assert_eq!(due.saturating_since(at), 3 * SEC, "it wakes by itself, and not before");
    world.hub.begin_shutdown();
    assert_eq!(names(&mut ann), ["going_away", "agent_delta"]);
}

/// As where memory is short: the log loses what text waits in, and the snapshots of others take all the room.
#[test]
fn text_that_waits_and_is_lost_wakes_its_reader_only_to_look_for_room() {
    let world = World::with(Limits {
        log_entries: 8,
        snapshot_bytes: 64 << 10,
        total_snapshot_bytes: 100 << 10,
        ..Limits::default()
    });
    let mut ann = world.device("ann");
    order(&world, Degraded);
    let run = start(&world, "ann");
    ann.events();
    run.delta("it waits").unwrap();
    assert_eq!(names(&mut ann), [""; 0]);
    let taken = world.hub.inner.snapshots.lease(100 << 10).unwrap();
    for n in 0..20 {
        run.thinking(format!("{n}")).unwrap();
    }
    assert_eq!(names(&mut ann), [""; 0]);
    for _ in 0..5 {
        world.sleep(SEC, &mut [&mut ann]);
        let due = ann.session.as_ref().unwrap().poll_timeout().unwrap();
        assert!(due > world.now().at, "a deadline that has passed stays, and its reader never sleeps");
    }
    drop(taken);
    world.sleep(SEC, &mut [&mut ann]);
    run.completed(None).unwrap();
    ann.events();
    assert_eq!((ann.client.position().unwrap().seq, ann.fault()), (23, None));
}

#[test]
fn events_for_now_are_left_out_in_an_emergency_only() {
    let world = World::new();
    let news = TopicId::new(None, "news".parse().unwrap()).unwrap();
    let user = ident("ann");
    let token = world.scoped_token(&user, Duration::from_secs(3600), "topic:news", None);
    let mut ann = world.connect(token, None, None);
    ann.send(&ClientFrame::Subscribe { id: frame_id("s"), topic: news.name().clone(), resume: None });
    ann.events();
    for (level, count) in [(Normal, 2), (Degraded, 2), (Emergency, 0), (Normal, 2)] {
        order(&world, level);
        world.hub.publish_ephemeral(&user, None, "typing", &1).unwrap();
        world.hub.publish_topic_ephemeral(&news, "typing", &2).unwrap();
        assert_eq!(names(&mut ann).len(), count, "{level}");
        world.hub.publish(&user, None, "kept", &3).unwrap();
        world.hub.publish_topic(&news, "kept", &4).unwrap();
        assert_eq!(names(&mut ann), ["custom", "custom"], "{level}");
    }
}

#[test]
fn a_level_leaves_a_reader_that_lags_as_it_is() {
    let world = World::with(Limits { lag_entries: 4, ..Limits::default() });
    let mut ann = world.device("ann");
    ann.events();
    order(&world, Degraded);
    let run = start(&world, "ann");
    for _ in 0..20 {
        run.delta("x").unwrap();
    }
    let seen = names(&mut ann);
    assert_eq!(
        (seen.first().map(String::as_str), seen.last().map(String::as_str)),
        (Some("lag"), Some("lag")),
        "{seen:?}"
    );
    assert_eq!(ann.client.position().unwrap().seq, 21);
}

#[derive(Clone, Debug)]
enum Step {
    Say { run: usize, pieces: usize },
    Think { run: usize },
    End { run: usize },
    Note,
    Read { device: usize },
    ReadSome { device: usize, bytes: usize },
    Resume { device: usize },
    Wait { millis: u32 },
    Level { level: usize },
}

const RUNS: usize = 3;
const DEVICES: usize = 2;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..RUNS, 1_usize..40).prop_map(|(run, pieces)| Step::Say { run, pieces }),
        2 => (0..RUNS).prop_map(|run| Step::Think { run }),
        1 => (0..RUNS).prop_map(|run| Step::End { run }),
        1 => Just(Step::Note),
        4 => (0..DEVICES).prop_map(|device| Step::Read { device }),
        2 => (0..DEVICES, 1_usize..20_000).prop_map(|(device, bytes)| Step::ReadSome { device, bytes }),
        1 => (0..DEVICES).prop_map(|device| Step::Resume { device }),
        3 => (1_u32..4_000).prop_map(|millis| Step::Wait { millis }),
        2 => (0_usize..3).prop_map(|level| Step::Level { level }),
    ]
}

/// A reader and all it has seen, over all its sockets.
struct Device {
    pair: Pair,
    view: Reducer,
    /// Everything but text, by place and kind.
    events: Vec<(u64, EventKind)>,
    position: Option<Position>,
}

impl Device {
    fn new(world: &World) -> Self {
        let mut device =
            Self { pair: world.device("ann"), view: Reducer::default(), events: Vec::new(), position: None };
        device.take();
        device
    }

    fn take(&mut self) {
        while let Some(event) = self.pair.client.poll_event() {
            match event {
                ClientEvent::Welcome(_) => {}
                ClientEvent::Event(event) => self.event(&event),
                ClientEvent::Frame(frame) => match *frame {
                    ServerFrame::Deltas(window) => {
                        for part in &window.parts {
                            self.view.extend(part.run_id, &part.part_id, part.offset, &part.text, part.run_seq);
                        }
                    }
                    ServerFrame::Snapshot(_) => panic!("nothing is lost here"),
                    _ => {}
                },
            }
        }
        assert_eq!((self.pair.fault(), self.pair.closed_with()), (None, None));
        self.position = self.pair.client.position();
    }

    fn event(&mut self, event: &Event) {
        self.view.apply(event);
        if event.body.kind() != EventKind::AgentDelta {
            self.events.push((event.position.seq, event.body.kind()));
        }
    }

    fn read_some(&mut self, bytes: usize) {
        self.pair.read_some(bytes);
        self.take();
    }
}

/// Which levels a scenario is played at.
#[derive(Clone, Copy, Debug)]
enum Play {
    At(ServiceLevel),
    Changing,
}

type Seen = (Vec<(u64, EventKind)>, Vec<(String, String)>, Option<Position>);

fn play(steps: &[Step], how: Play) -> Vec<Seen> {
    let world = World::new();
    let mut devices: Vec<Device> = (0..DEVICES).map(|_| Device::new(&world)).collect();
    if let Play::At(level) = how {
        order(&world, level);
    }
    let mut runs: Vec<Option<Run>> = vec![None, None, None];
    let mut started = Vec::new();
    for step in steps {
        match *step {
            Step::Say { run, pieces } => {
                let run = runs[run].get_or_insert_with(|| start(&world, "ann"));
                if started.last() != Some(&run.id()) && !started.contains(&run.id()) {
                    started.push(run.id());
                }
                for n in 0..pieces {
                    run.delta(format!("é{n}\" ")).unwrap();
                }
            }
            Step::Think { run } => {
                if let Some(run) = &runs[run] {
                    run.thinking("hm").unwrap();
                }
            }
            Step::End { run } => drop(runs[run].take()),
            Step::Note => drop(world.hub.publish(&ident("ann"), None, "n", &1).unwrap()),
            Step::Read { device } => {
                devices[device].pair.pump();
                devices[device].take();
            }
            Step::ReadSome { device, bytes } => devices[device].read_some(bytes),
            Step::Resume { device } => {
                let device = &mut devices[device];
                device.pair = world.resuming("ann", device.position, device.pair.client.session());
                assert!(device.pair.is_in(), "a resume is let in at every level");
                device.take();
            }
            Step::Wait { millis } => {
                let mut pairs: Vec<_> = devices.iter_mut().map(|device| &mut device.pair).collect();
                world.sleep(millis * MS, &mut pairs);
                devices.iter_mut().for_each(Device::take);
            }
            Step::Level { level } => {
                if matches!(how, Play::Changing) {
                    order(&world, ServiceLevel::ALL[level]);
                }
            }
        }
    }
    let mut pairs: Vec<_> = devices.iter_mut().map(|device| &mut device.pair).collect();
    pairs.iter_mut().for_each(|pair| pair.pump());
    world.sleep(3 * SEC, &mut pairs);
    devices.iter_mut().for_each(Device::take);
    let texts = |view: &Reducer| {
        let run = |id: &crate::id::RunId| view.runs().get(id).cloned();
        started
            .iter()
            .enumerate()
            .filter_map(|(n, id)| Some((n, run(id)?)))
            .map(|(n, run)| {
                let text =
                    run.parts.get(&PartId::new("answer").unwrap()).map_or_else(String::new, |part| part.text.clone());
                (format!("{n} {:?} {} {:?}", run.status, run.run_seq, run.thoughts), text)
            })
            .collect()
    };
    devices.into_iter().map(|device| (device.events, texts(&device.view), device.position)).collect()
}

properties! {
    cases = 48;

    /// At every level, and with levels that change in the middle, a reader ends with the same state and has seen the same events
    /// at the same places: nothing is replaced, reordered or left out.
    #[test]
    fn the_same_is_seen_at_every_level(steps in prop::collection::vec(step(), 1..60)) {
        let normal = play(&steps, Play::At(Normal));
        for how in [Play::At(Degraded), Play::At(Emergency), Play::Changing] {
            prop_assert_eq!(&play(&steps, how), &normal, "{:?}", how);
        }
    }
}
