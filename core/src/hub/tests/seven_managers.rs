//! What each of the seven legacy managers was for, by the one that has taken their place. [`crate::manual`] says which operation
//! replaces which.

use std::thread::scope;
use std::time::Duration;

use serde_json::json;

use super::harness::{Pair, World, frame_id, ident, next_message, poll_now, thread};
use super::legacy::device::Legacy;
use crate::client::ClientEvent;
use crate::error::ErrorCode;
use crate::hub::{Request, Run, RunOptions};
use crate::id::{TopicId, TopicName};
use crate::level::ServiceLevel;
use crate::limits::{AtCapacity, Limits};
use crate::protocol::{
    ClientFrame, EventKind, Mode, Position, Receipt, ReplyOk, RevokeTarget, RunRef, ServerFrame, StreamName,
};
use crate::stream::RunError;

use ServiceLevel::{Degraded, Emergency, Normal};

const SEC: Duration = Duration::from_secs(1);
const GOLDEN: [EventKind; 5] = [
    EventKind::AgentStarted,
    EventKind::AgentThinking,
    EventKind::ToolExecuting,
    EventKind::ToolCompleted,
    EventKind::AgentCompleted,
];

fn start(world: &World, user: &str, in_thread: &str) -> Run {
    world.hub.start_run(&ident(user), thread(in_thread), RunOptions::named("assistant")).unwrap()
}

/// The five critical events.
fn golden(world: &World, user: &str) {
    let run = start(world, user, "t");
    run.thinking("Adding.").unwrap();
    run.tool("calculator", &"2+2").unwrap().completed(&4).unwrap();
    run.completed(Some("4".into())).unwrap();
}

fn levels(events: &[ClientEvent]) -> usize {
    let is_level = |event: &&ClientEvent| matches!(event, ClientEvent::Frame(frame) if matches!(**frame, ServerFrame::ServiceLevel { .. }));
    events.iter().filter(is_level).count()
}

fn kinds(events: &[ClientEvent]) -> Vec<EventKind> {
    let kind = |event: &ClientEvent| if let ClientEvent::Event(event) = event { Some(event.body.kind()) } else { None };
    events.iter().filter_map(kind).collect()
}

fn refused_with(pair: &mut Pair) -> Option<String> {
    let reply = pair.replies().pop()?;
    reply.outcome.err().map(|error| error.code.as_str().to_owned())
}

/// One user's connections are a world of their own, and every operation of another user's comes to nothing.
#[test]
fn isolated() {
    let world = World::new();
    let (mut phone, mut laptop, mut bob) = (world.device("ann"), world.device("ann"), world.device("bob"));
    bob.events();
    let run = start(&world, "ann", "t");
    assert_eq!(run.thinking("for ann"), Ok(Receipt::DeliveredTo(2)));
    assert_eq!((phone.kinds(), laptop.kinds()), (GOLDEN[..2].to_vec(), GOLDEN[..2].to_vec()));
    assert!(bob.events().is_empty());
    // What another knows of her does not help, and is answered as what does not exist.
    for target in [run.id(), crate::id::RunId::from_bits(7)] {
        bob.send(&ClientFrame::CancelRun { id: frame_id("c"), target: RunRef::Id(target) });
        assert_eq!(refused_with(&mut bob).as_deref(), Some(ErrorCode::NotFound.as_str()));
    }
    assert_eq!(run.cancel_requested(), None);
    // Nor does saying to be her.
    let mut eve = Legacy::enter(&world, "eve");
    eve.send(&world, &json!({"type": "chat", "user_id": "ann", "payload": {"content": "x"}}));
    assert_eq!(eve.take(&world)[0]["error_code"], "IDENTITY_MISMATCH");
    // Her end is hers alone.
    assert_eq!(world.hub.devices(&ident("ann")).len(), 2);
    assert_eq!(world.hub.revoke(&ident("ann"), &RevokeTarget::All, None), 2);
    for pair in [&mut phone, &mut laptop, &mut bob] {
        pair.pump();
    }
    assert_eq!((phone.closed_with(), laptop.closed_with(), bob.is_in()), (Some(4201), Some(4201), true));
    assert!(world.hub.devices(&ident("ann")).is_empty());
}

/// A cap for each user that holds also where many come at once; a session is one device; who gives way is defined, and told.
#[test]
fn factory() {
    const CAP: usize = 3;
    let limits = Limits { connections_per_user: CAP, at_capacity: AtCapacity::Refuse, ..Limits::default() };
    let world = World::sharded(limits, 2);
    for round in 0..10 {
        let user = format!("ann-{round}");
        // Each on a thread of its own, at the same time.
        let pairs: Vec<Pair> = scope(|scope| {
            let racers: Vec<_> = (0..4 * CAP).map(|_| scope.spawn(|| world.device(&user))).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let refused = pairs.iter().filter(|pair| pair.closed_with() == Some(4410)).count();
        assert_eq!((pairs.iter().filter(|pair| pair.is_in()).count(), refused), (CAP, 3 * CAP));
        assert_eq!(world.hub.devices(&ident(&user)).len(), CAP);
    }

    let world = World::with(Limits { connections_per_user: CAP, ..Limits::default() });
    let mut devices: Vec<Pair> = (0..CAP).map(|_| world.device("ann")).collect();
    // Who continues a session takes its own place, and nobody else's.
    let again = world.resuming("ann", devices[0].client.position(), devices[0].client.session());
    devices[0].pump();
    assert_eq!((devices[0].closed_with(), again.is_in()), (Some(4409), true));
    devices[0] = again;
    // Where all are in use nobody gives way.
    assert_eq!(world.device("ann").closed_with(), Some(4410));
    for _ in 0..65 {
        world.sleep(SEC, &mut devices.iter_mut().collect::<Vec<_>>());
    }
    for device in &mut devices[1..] {
        device.send(&ClientFrame::CancelRun { id: frame_id("x"), target: RunRef::Key("none".parse().unwrap()) });
    }
    let newcomer = world.device("ann");
    devices.iter_mut().for_each(Pair::pump);
    let codes: Vec<_> = devices.iter().map(Pair::closed_with).collect();
    assert_eq!((newcomer.is_in(), codes), (true, vec![Some(4100), None, None]), "the one that was idle longest");
}

/// While things fail, whoever was here stays and comes back, every critical event arrives, and what cannot be done is said.
#[test]
fn emergency() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let (mut ann, mut bob) = (world.device("ann"), world.device("bob"));
    let (position, session) = (bob.client.position(), bob.client.session());
    bob.events();
    bob.cut();
    world.hub.set_level(Some(Emergency), "the database is down");
    golden(&world, "ann");
    golden(&world, "bob");
    let events = ann.events();
    assert_eq!((kinds(&events), levels(&events)), (GOLDEN.to_vec(), 1));
    // Back by what he had.
    let mut back = world.resuming("bob", position, session);
    assert_eq!((back.is_in(), back.kinds()), (true, GOLDEN.to_vec()));
    // What a user asks is taken, and what nobody takes is refused aloud: there is no stub that drops it.
    ann.say("m", "still there?");
    let run = next_message(&mut requests).start("assistant").unwrap();
    run.completed(None).unwrap();
    assert!(matches!(ann.replies()[0].outcome, Ok(ReplyOk::Run { .. })));
    ann.say("n", "and now?");
    drop(next_message(&mut requests));
    assert_eq!(refused_with(&mut ann).as_deref(), Some("unavailable"));
    // Somebody new is told to try again, by a code.
    assert_eq!(world.device("eve").closed_with(), Some(1013));
    let noticed = world.hub.publish_ephemeral(&ident("ann"), None, "typing", &1);
    assert_eq!(noticed, Ok(Receipt::DeliveredTo(0)), "the receipt tells the truth");
}

/// The notice comes once for each change, beside the messages, which are the same as ever.
#[test]
fn degraded() {
    let (well, ill) = (World::new(), World::new());
    ill.hub.set_level(Some(Degraded), "the index is rebuilt");
    let told = |world: &World, changes: &[ServiceLevel]| {
        let mut ann = world.device("ann");
        let mut events = ann.events();
        for level in [None].into_iter().chain(changes.iter().copied().map(Some)) {
            if let Some(level) = level {
                world.hub.set_level(Some(level), "a change");
                world.hub.set_level(Some(level), "the same again");
            }
            let run = start(world, "ann", "t");
            run.delta("It is ").unwrap();
            run.thinking("so").unwrap();
            run.delta("4.").unwrap();
            run.completed(Some("It is 4.".into())).unwrap();
            events.extend(ann.events());
        }
        let texts: Vec<_> = ann.client.reducer().runs().values().map(|run| run.parts.clone()).collect();
        (levels(&events), texts, ann.client.position().unwrap().seq)
    };
    let (notices, texts, end) = told(&ill, &[Emergency, Degraded, Normal]);
    assert_eq!(notices, 3, "one for each change, and none for each message");
    assert_eq!(told(&well, &[Normal, Normal, Normal]), (0, texts, end), "nothing is replaced, and nothing is lost");
}

/// What comes while nobody is there waits, up to a cap that is told; a message goes to a user, or to who watches a thread; and
/// nobody polls for a connection.
#[test]
fn unified() {
    const CAP: usize = 8;
    let world = World::with(Limits { log_entries: CAP, ..Limits::default() });
    let mut ann = world.device("ann");
    let position = ann.client.position().unwrap();
    ann.cut();
    assert_eq!(world.hub.publish(&ident("ann"), None, "note", &0), Ok(Receipt::Stored));
    golden(&world, "ann");
    let mut back = world.resuming("ann", Some(position), None);
    let events = back.events();
    assert!(
        matches!(&events[0], ClientEvent::Welcome(welcome) if welcome.streams[0].mode == Mode::Replay),
        "{events:?}"
    );
    assert_eq!(kinds(&events)[1..], GOLDEN, "each once, and after the welcome");
    back.cut();
    for n in 0..CAP {
        world.hub.publish(&ident("ann"), None, "note", &n).unwrap();
    }
    // The oldest are gone, and the client hears of it.
    let mut late = world.resuming("ann", Some(position), None);
    let events = late.events();
    let ClientEvent::Welcome(welcome) = &events[0] else { panic!("{events:?}") };
    assert_eq!(welcome.streams[0].lost.map(|lost| lost.from), Some(position));
    assert_eq!(kinds(&events).len(), CAP);
    // A thread is none of the user ids.
    let (mut a, mut b) = (world.watching("ann", &[thread("bob")], None), world.watching("ann", &[thread("b")], None));
    let mut bob = world.device("bob");
    for pair in [&mut a, &mut b, &mut bob] {
        pair.events();
    }
    world.hub.publish(&ident("ann"), Some(thread("bob")), "note", &1).unwrap();
    assert_eq!((a.kinds().len(), b.kinds().len(), bob.kinds().len()), (1, 0, 0));
    // An event for a socket that is still on its way in: nothing waits, and nothing is missed.
    let accepted = world.hub.session().unwrap();
    golden(&world, "cyd");
    let token = world.token(&ident("cyd"), 60 * SEC);
    let mut cyd = world.connect_on(accepted, world.config(token, Some(Position::NONE), None));
    assert_eq!(cyd.kinds(), GOLDEN);
}

/// One API in front: an answer to one connection, a topic for many without those who left it, and figures that add up.
#[test]
fn adapter() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let token = |user: &str| world.scoped_token(&ident(user), 3600 * SEC, "topic:*", None);
    let mut devices: Vec<Pair> = ["ann", "ann", "bob", "cyd"].map(|user| world.connect(token(user), None, None)).into();
    devices.iter_mut().for_each(|device| drop(device.events()));
    // To one connection: the answer to what it asked.
    devices[0].send(&ClientFrame::Command { id: frame_id("q"), name: "where".into(), args: None, key: None });
    let std::task::Poll::Ready(Some(Request::Command(command))) = poll_now(requests.next()) else {
        panic!("a command")
    };
    command.reply(&"here").unwrap();
    let heard: Vec<usize> = devices.iter_mut().map(|device| device.events().len()).collect();
    assert_eq!(heard, [1, 0, 0, 0]);
    // To many: whoever follows the topic, and nobody else.
    let news = TopicName::new("news").unwrap();
    for device in &mut devices {
        device.send(&ClientFrame::Subscribe { id: frame_id("s"), topic: news.clone(), resume: None });
    }
    devices[2].send(&ClientFrame::Unsubscribe { id: frame_id("u"), topic: news.clone() });
    devices.iter_mut().for_each(|device| drop(device.events()));
    let topic = TopicId::new(None, news).unwrap();
    assert_eq!(world.hub.publish_topic(&topic, "n", &1), Ok(Receipt::DeliveredTo(3)));
    let heard: Vec<usize> = devices.iter_mut().map(|device| device.events().len()).collect();
    assert_eq!(heard, [1, 1, 0, 1], "bob is left out");
    // The figures.
    let run = start(&world, "ann", "t");
    let counts = world.hub.counts();
    assert_eq!((counts.connections, counts.runs, counts.topics, world.hub.sockets()), (4, 1, 1, 4));
    let status = world.hub.user_status(&ident("ann"));
    assert_eq!((status.devices.len(), status.runs.len(), status.runs[0].run), (2, 1, run.id()));
    drop(devices);
    assert_eq!((world.hub.counts().connections, world.hub.sockets()), (0, 0));
}

/// Connect, look up, bind, disconnect: each as often as one likes, with the same outcome.
#[test]
fn connection() {
    let world = World::new();
    assert_eq!((world.hub.devices(&ident("ann")).len(), world.hub.user_status(&ident("ann")).head), (0, None));
    let mut ann = world.connect(world.scoped_token(&ident("ann"), 3600 * SEC, "topic:*", None), None, None);
    let ClientEvent::Welcome(welcome) = ann.events().remove(0) else { panic!("a welcome") };
    let known = world.hub.devices(&ident("ann"));
    assert_eq!((known.len(), known[0].connection, known[0].session), (1, welcome.connection_id, welcome.session_id));
    // To bind a topic twice is to bind it once.
    let news = TopicName::new("news").unwrap();
    for _ in 0..2 {
        ann.send(&ClientFrame::Subscribe { id: frame_id("s"), topic: news.clone(), resume: None });
        assert!(
            matches!(&ann.replies()[0].outcome, Ok(ReplyOk::Stream(entry)) if entry.stream == StreamName::Topic(news.clone()))
        );
    }
    world.hub.publish_topic(&TopicId::new(None, news).unwrap(), "n", &1).unwrap();
    assert_eq!(ann.events().len(), 1);
    // The session outlives its connection, and another connection of it has the threads that it names.
    let position = ann.client.position();
    ann.cut();
    ann.cut();
    assert!(world.hub.devices(&ident("ann")).is_empty());
    let mut back = world.resuming("ann", position, Some(welcome.session_id));
    let ClientEvent::Welcome(again) = back.events().remove(0) else { panic!("a welcome") };
    assert_eq!(again.session_id, welcome.session_id);
    assert_ne!(again.connection_id, welcome.connection_id, "an id is never used again");
    let session = back.session.as_mut().unwrap();
    for _ in 0..2 {
        session.close(world.now(), crate::error::CloseReason::Normal);
    }
    back.pump();
    assert_eq!((back.closed_with(), world.hub.devices(&ident("ann")).len()), (Some(1000), 0));
    // A run that is over takes nothing more, and says so.
    let run = start(&world, "ann", "t");
    run.completed(None).unwrap();
    assert_eq!(run.delta("late"), Err(RunError::Ended));
}
