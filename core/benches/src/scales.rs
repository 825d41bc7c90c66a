//! What grows with the number of those it is for, at whatever number.

use std::task::Waker;

use trunkline_core::codec::frame::Opcode;
use trunkline_core::drive::Machine as _;
use trunkline_core::hub::Session;
use trunkline_core::id::{TopicId, TopicName, UserId};
use trunkline_core::limits::Limits;

use crate::support::{World, enter, masked};
use crate::{Scale, Step};

/// What may cost ten times as much for ten times as many, and hardly more.
pub const SCALES: [Scale; 4] = [
    Scale { name: "subscribers of a topic", start: subscribers },
    Scale { name: "users", start: users },
    Scale { name: "topics", start: topics },
    Scale { name: "entries of a log", start: entries },
];

const TEXT: &str = "Two and two are four, and seven times six are \"forty-two\".";

/// One event, to so many subscribers of its topic.
fn subscribers(count: usize) -> Step {
    let world = World::with(limits(4));
    let mut sessions: Vec<_> = (0..count).map(|n| follower(&world, n, "news")).collect();
    let news = topic("news");
    Box::new(move || {
        world.hub.publish_topic(&news, "note", &TEXT).unwrap();
        for session in &mut sessions {
            assert!(take_all(&world, session) > 50);
        }
    })
}

/// An event to each of so many users, who have a device each.
fn users(count: usize) -> Step {
    let world = World::with(limits(4));
    let mut sessions: Vec<_> = (0..count).map(|n| session(&world, n)).collect();
    Box::new(move || {
        for (n, session) in sessions.iter_mut().enumerate() {
            world.hub.publish(&user(n), None, "note", &TEXT).unwrap();
            assert!(take_all(&world, session) > 50);
        }
    })
}

/// An event to each of so many topics, which have a subscriber each.
fn topics(count: usize) -> Step {
    let world = World::with(limits(4));
    let name = |n: usize| format!("news:{n:06}");
    let mut sessions: Vec<_> = (0..count).map(|n| (topic(&name(n)), follower(&world, n, &name(n)))).collect();
    Box::new(move || {
        for (topic, session) in &mut sessions {
            world.hub.publish_topic(topic, "note", &TEXT).unwrap();
            assert!(take_all(&world, session) > 50);
        }
    })
}

/// All of a log with so many entries, to one that comes back to it.
fn entries(count: usize) -> Step {
    let world = World::with(limits(count));
    let mut session = session(&world, 0);
    let subscribed = say(&world, &mut session, r#"{"type":"subscribe","id":"1","topic":"news"}"#);
    let (_, position) = subscribed.split_once(r#""head":""#).unwrap_or_else(|| panic!("{subscribed}"));
    let (position, _) = position.split_once('"').expect("a position is a string");
    let again = format!(r#"{{"type":"subscribe","id":"1","topic":"news","resume":"{position}"}}"#);
    let news = topic("news");
    for _ in 0..count {
        world.hub.publish_topic(&news, "note", &TEXT).unwrap();
    }
    take_all(&world, &mut session);
    Box::new(move || {
        say(&world, &mut session, r#"{"type":"unsubscribe","id":"1","topic":"news"}"#);
        session.handle_bytes(world.now(), &masked(Opcode::Text, again.as_bytes()));
        assert!(take_all(&world, &mut session) > 50 * count);
    })
}

fn limits(log_entries: usize) -> Limits {
    let many = 1_000_000;
    let (messages_per_second, message_burst) = (many, many);
    Limits { log_entries, log_bytes: 1 << 30, messages_per_second, message_burst, ..Limits::default() }
}

fn user(n: usize) -> UserId {
    UserId::new(None, &format!("user-{n:06}")).unwrap()
}

fn topic(name: &str) -> TopicId {
    TopicId::new(None, TopicName::new(name).unwrap()).unwrap()
}

fn session(world: &World, n: usize) -> Session {
    let mut session = world.hub.session().unwrap();
    enter(world, &mut session, &world.scoped_token(&user(n), "topic:*"));
    session
}

fn follower(world: &World, n: usize, topic: &str) -> Session {
    let mut session = session(world, n);
    say(world, &mut session, &format!(r#"{{"type":"subscribe","id":"1","topic":"{topic}"}}"#));
    session
}

/// What the server answers to a frame.
fn say(world: &World, session: &mut Session, frame: &str) -> String {
    session.handle_bytes(world.now(), &masked(Opcode::Text, frame.as_bytes()));
    session.poll_ready(world.now(), Waker::noop());
    let said = String::from_utf8_lossy(session.transmit()).into_owned();
    take_all(world, session);
    said
}

/// Takes all that waits, as a socket would; answers how many bytes.
fn take_all(world: &World, session: &mut Session) -> usize {
    let mut taken = 0;
    loop {
        session.poll_ready(world.now(), Waker::noop());
        let n = session.transmit().len();
        if n == 0 {
            return taken;
        }
        session.advance(world.now(), n);
        taken += n;
    }
}
