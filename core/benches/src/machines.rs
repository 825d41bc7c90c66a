//! What a server does most, each in the smallest setting in which it is whole.

use std::hint::black_box;
use std::task::Waker;

use trunkline_core::auth::{ClaimRules, Hs256, TokenVerifier};
use trunkline_core::codec::frame::{Assembler, Message, Opcode, Role, encode_text_parts};
use trunkline_core::drive::Machine as _;
use trunkline_core::hub::{RunOptions, Session};
use trunkline_core::id::{Entropy, PartId, RunId, ThreadId, TopicId, TopicName, UserId};
use trunkline_core::limits::Limits;
use trunkline_core::protocol::{ClientFrame, EventBody, EventHead, Position, encode_event};
use trunkline_core::time::Now;

use crate::support::{SECRET, Still, World, enter, masked, user};
use crate::{Machine, Step};

/// The operations whose cost is guarded.
pub const MACHINES: [Machine; 6] = [
    Machine { name: "decode", repeats: 200, start: decode },
    Machine { name: "verify", repeats: 200, start: verify },
    Machine { name: "route", repeats: 200, start: route },
    Machine { name: "run", repeats: 50, start: run },
    Machine { name: "encode", repeats: 200, start: encode },
    Machine { name: "fan-out", repeats: 5, start: fan_out },
];

/// Subscribers of the topic of [`fan_out`].
const SUBSCRIBERS: usize = 1_000;
/// Some of what a client says, in the order in which it may.
const SAID: [&str; 4] = [
    r#"{"type":"ack","event_id":"1795646270459049-42"}"#,
    r#"{"type":"user_message","id":"m1","key":"k-7","thread_id":"t1","content":"what is 2*(3+4)?","metadata":{"page":7}}"#,
    r#"{"type":"command","id":"c1","name":"rate","args":{"run_id":"run_b80e0def398754f3cd348300da7e6a8a","stars":5}}"#,
    r#"{"type":"ping","id":"1"}"#,
];
const TEXT: &str = "Two and two are four, and seven times six are \"forty-two\".";

/// The bytes of four frames, into what they mean.
fn decode() -> Step {
    let wire = SAID.map(|text| masked(Opcode::Text, text.as_bytes())).concat();
    let mut assembler = Assembler::new(Role::Server, 64 << 10);
    Box::new(move || {
        let mut input = black_box(&wire[..]);
        let mut frames = 0;
        while let Some(message) = assembler.push(&mut input).unwrap() {
            let Message::Text(text) = message else { panic!("{message:?}") };
            black_box(ClientFrame::parse(&text).unwrap());
            frames += 1;
        }
        assert_eq!(frames, SAID.len());
    })
}

/// A token of HS256, into what it grants.
fn verify() -> Step {
    let world = World::new();
    let keys = Hs256::new(SECRET, ClaimRules::default()).unwrap();
    let token = world.scoped_token(&user("ann"), "topic:news publish:ann");
    let now = world.now().unix;
    Box::new(move || {
        black_box(keys.verify(black_box(&token), now).unwrap());
    })
}

/// An event of the application's own to the one device of a user, into the bytes for its socket.
fn route() -> Step {
    let world = World::with(small_logs());
    let ann = user("ann");
    let mut session = world.hub.session().unwrap();
    enter(&world, &mut session, &world.token(&ann));
    warm(move || {
        world.hub.publish(&ann, Some(thread()), "note", &TEXT).unwrap();
        take(&mut session, world.now(), 1);
    })
}

/// A whole run of an agent, into the bytes for its user's device.
fn run() -> Step {
    let world = World::with(small_logs());
    let ann = user("ann");
    let mut session = world.hub.session().unwrap();
    enter(&world, &mut session, &world.token(&ann));
    warm(move || {
        let run = world.hub.start_run(&ann, thread(), RunOptions::named("assistant")).unwrap();
        run.thinking("The message holds an expression; I use the calculator.").unwrap();
        let call = run.tool("calculator", &"2*(3+4)").unwrap();
        call.completed(&14).unwrap();
        for piece in ["2*(3+4) ", "= ", "14"] {
            run.delta(piece).unwrap();
        }
        run.completed(Some("2*(3+4) = 14".into())).unwrap();
        take(&mut session, world.now(), 8);
    })
}

/// An event, into its frame.
fn encode() -> Step {
    let (thread, still) = (thread(), Still::default());
    let run_id = RunId::for_user(&user("ann"), still.id());
    let timestamp = World::new().now().unix;
    let body = EventBody::AgentDelta { part_id: PartId::new("answer").unwrap(), offset: 1_024, text: TEXT.into() };
    let mut wire = Vec::new();
    Box::new(move || {
        let head = EventHead {
            position: Position { epoch: 1_795_646_270_459_049, seq: 42 },
            stream: None,
            timestamp,
            user_id: Some("ann"),
            thread_id: Some(&thread),
            run_id: Some(run_id),
            run_seq: Some(7),
            agent_name: Some("assistant"),
            flaw: None,
        };
        wire.clear();
        encode_text_parts(&mut wire, &[&encode_event(black_box(&head), black_box(&body))]);
        black_box(&wire);
    })
}

/// An event to a topic, into the bytes for each of its subscribers' sockets.
fn fan_out() -> Step {
    let limits = Limits { log_entries: 4, ..Limits::default() };
    let world = World::with(limits);
    let news = TopicName::new("news").unwrap();
    let mut sessions: Vec<Session> = (0..SUBSCRIBERS).map(|n| follower(&world, &format!("user-{n:04}"))).collect();
    let topic = TopicId::new(None, news).unwrap();
    let mut step = move || {
        world.hub.publish_topic(&topic, "note", &TEXT).unwrap();
        for session in &mut sessions {
            take(session, world.now(), 1);
        }
    };
    // Its log is full from then on.
    (0..5).for_each(|_| step());
    Box::new(step)
}

fn follower(world: &World, name: &str) -> Session {
    let mut session = world.hub.session().unwrap();
    let user = UserId::new(None, name).unwrap();
    enter(world, &mut session, &world.scoped_token(&user, "topic:news"));
    let now = world.now();
    session.handle_bytes(now, &masked(Opcode::Text, br#"{"type":"subscribe","id":"1","topic":"news"}"#));
    take(&mut session, now, 1);
    session
}

/// What is done once for each device: all that waits for it is taken, which are `frames` short frames.
fn take(session: &mut Session, now: Now, frames: usize) {
    session.poll_ready(now, Waker::noop());
    let n = black_box(session.transmit()).len();
    assert!(n > 50 * frames, "{n} bytes");
    session.advance(now, n);
}

/// Logs that are full after some events, and forget as they grow from then on.
fn small_logs() -> Limits {
    Limits { log_entries: 64, runs_per_user: 8, ..Limits::default() }
}

/// Does it until nothing grows any more.
fn warm(mut step: impl FnMut() + 'static) -> Step {
    (0..100).for_each(|_| step());
    Box::new(step)
}

fn thread() -> ThreadId {
    ThreadId::new("t1").unwrap()
}
