//! One event to many devices, of which some take it compressed.
#![cfg(not(loom))]

mod support;

use std::task::Waker;

use support::{OFFER, World, enter_with, hello, masked, upgrade_with, user};
use trunkline_core::codec::deflate::Deflate;
use trunkline_core::codec::frame::{Assembler, Message, Opcode, Role};
use trunkline_core::drive::Machine;
use trunkline_core::hub::{RunOptions, Session};
use trunkline_core::id::ThreadId;
use trunkline_core::limits::Limits;

const COMPRESSED: u8 = 0xc1;
const PLAIN: u8 = 0x81;

fn device(world: &World, lines: &str) -> Session {
    let mut session = world.hub.session().unwrap();
    enter_with(world, &mut session, &world.token(&user("ann")), lines);
    session
}

/// One that watches a thread.
fn watching(world: &World, lines: &str, thread: &str) -> Session {
    let mut session = world.hub.session().unwrap();
    let token = world.token(&user("ann"));
    let hello = format!(r#"{{"type":"hello","token":"{token}","threads":["{thread}"]}}"#);
    for bytes in [upgrade_with(lines), masked(Opcode::Text, hello.as_bytes())] {
        session.handle_bytes(world.now(), &bytes);
        taken(world, &mut session);
    }
    session
}

/// What waits for the socket, which takes all of it.
fn taken(world: &World, session: &mut Session) -> Vec<u8> {
    session.poll_ready(world.now(), Waker::noop());
    let bytes = session.transmit().to_vec();
    session.advance(world.now(), bytes.len());
    bytes
}

fn messages(wire: &[u8]) -> Vec<String> {
    let mut assembler = Assembler::new(Role::Client, 1 << 20);
    assembler.set_deflate(Deflate::default());
    let mut rest = wire;
    let texts = std::iter::from_fn(|| match assembler.push(&mut rest).unwrap() {
        Some(Message::Text(text)) => Some(text),
        Some(other) => panic!("{other:?}"),
        None => None,
    });
    texts.collect()
}

/// The payloads of a server's frames as they are on the wire.
fn payloads(mut wire: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let [_, length, rest @ ..] = wire {
        let (len, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            short => (usize::from(*short), rest),
        };
        found.push(rest[..len].to_vec());
        wire = &rest[len..];
    }
    found
}

fn publish(world: &World, thread: &str, filler: usize) {
    let data = "one and two and three, ".repeat(filler);
    world.hub.publish(&user("ann"), Some(ThreadId::new(thread).unwrap()), "note", &data).unwrap();
}

#[test]
fn all_who_take_it_compressed_get_the_same_bytes_and_the_others_the_text() {
    let world = World::new();
    let mut devices = [OFFER, OFFER, ""].map(|lines| device(&world, lines));
    publish(&world, "t", 100);
    let [first, second, plain] = devices.each_mut().map(|session| taken(&world, session));
    assert_eq!((first[0], plain[0]), (COMPRESSED, PLAIN));
    assert!(first == second && first.len() < plain.len() / 4, "{} and {} bytes", first.len(), plain.len());
    assert_eq!(messages(&first), messages(&plain));
    // A short one is worth nothing.
    publish(&world, "t", 1);
    let [first, second, plain] = devices.each_mut().map(|session| taken(&world, session));
    assert_eq!((&first, &second), (&plain, &plain));
}

#[test]
fn whoever_watches_a_thread_gets_the_shared_tail_behind_a_place_of_its_own() {
    let world = World::new();
    let mut all = device(&world, OFFER);
    let mut watcher = watching(&world, OFFER, "seen");
    publish(&world, "hidden", 1);
    publish(&world, "seen", 100);
    taken(&world, &mut watcher);
    publish(&world, "hidden", 1);
    publish(&world, "seen", 90);
    let (whole, narrowed) = (taken(&world, &mut all), taken(&world, &mut watcher));
    let last = messages(&narrowed).pop().unwrap();
    assert!(last.starts_with(r#"{"prev":"#) && last.contains(r#""thread_id":"seen""#), "{last}");
    let expected = messages(&whole).pop().unwrap();
    assert_eq!(last[last.find(',').unwrap()..], format!(",{}", &expected[1..]));
    // Behind a block of `{` alone, and behind one with the place.
    let [whole, narrowed] = [whole, narrowed].map(|wire| payloads(&wire).pop().unwrap());
    let tail = &whole[6..];
    assert!(
        tail.len() > 50 && narrowed.len() > whole.len() && narrowed.ends_with(tail),
        "the tails are the same bytes"
    );
}

#[test]
fn a_log_counts_the_compressed_form_before_anybody_has_wanted_it() {
    let log_of = |deflate_from, filler| {
        let world = World::with(Limits { deflate_from, ..Limits::default() });
        let mut device = device(&world, OFFER);
        publish(&world, "t", filler);
        let before = world.hub.counts().log_bytes;
        let sent = taken(&world, &mut device).len();
        assert_eq!(world.hub.counts().log_bytes, before, "whoever reads changes nothing");
        (before, sent)
    };
    let ((with, sent), (without, plain)) = (log_of(Some(512), 100), log_of(None, 100));
    assert!(with - without >= sent && with - without < plain, "{} for {sent} of {plain} bytes", with - without);
    assert_eq!(log_of(Some(512), 1).0, log_of(None, 1).0, "a short one has none");
}

#[test]
fn what_is_said_to_one_alone_is_compressed_for_it() {
    let world = World::with(Limits { log_entries: 4, ..Limits::default() });
    let options = RunOptions::named("assistant");
    let run = world.hub.start_run(&user("ann"), ThreadId::new("t").unwrap(), options).unwrap();
    for _ in 0..50 {
        run.thinking("The same thought, again and again, which becomes short.").unwrap();
    }
    // The log begins in the middle of the run: what is before that comes as a snapshot.
    let mut session = world.hub.session().unwrap();
    session.handle_bytes(world.now(), &upgrade_with(OFFER));
    taken(&world, &mut session);
    session.handle_bytes(world.now(), &hello(&world.token(&user("ann"))));
    let wire = taken(&world, &mut session);
    let texts = messages(&wire);
    let plain: usize = texts.iter().map(String::len).sum();
    assert!(texts.iter().any(|text| text.starts_with(r#"{"type":"snapshot""#)), "{texts:?}");
    assert!(wire.len() < plain / 2, "{} bytes for {plain}", wire.len());
}
