//! Bytes of messages that are half received, all together.

use std::task::Waker;
use std::time::Duration;

use super::harness::{Pair, World};
use super::producers::producer;
use crate::codec::frame::{Opcode, encode_header};
use crate::drive::{MAX_READ_BYTES, Machine, READ_BYTES};
use crate::limits::Limits;

const MESSAGE: usize = 64 << 10;
fn world(total: usize) -> World {
    let mut limits = Limits { producer_message_bytes: MESSAGE, event_bytes: MESSAGE, ..Limits::default() };
    limits.total_inbound_bytes = total.max(MESSAGE);
    World::with(limits)
}

/// As many bytes of a message of 64 KiB as the session will read; answers how many it took.
fn send(world: &World, pair: &mut Pair, from: usize, bytes: usize) -> usize {
    let mut wire = Vec::new();
    if from == 0 {
        encode_header(&mut wire, Opcode::Text, MESSAGE, Some([0; 4]));
    }
    let head = wire.len();
    wire.resize(head + bytes, b' ');
    let session = pair.session.as_mut().unwrap();
    let mut sent = 0;
    while sent < wire.len() && session.wants_read() {
        let end = (sent + session.read_bytes().min(READ_BYTES)).min(wire.len());
        session.handle_bytes(world.now(), &wire[sent..end]);
        sent = end;
    }
    sent.saturating_sub(head)
}

fn reads(pair: &Pair) -> bool {
    pair.session.as_ref().unwrap().wants_read()
}

#[test]
fn what_is_half_received_is_bounded_in_all_and_whoever_finds_no_room_waits_for_it() {
    let asked = {
        let world = world(1 << 20);
        let mut pair = world.device("a");
        send(&world, &mut pair, 0, 10 << 10);
        world.hub.inbound_bytes()
    };
    assert!(asked >= 10 << 10);
    // What four such messages ask for, and one byte less.
    for (total, fits) in [(4 * asked, true), (4 * asked - 1, false)] {
        let world = world(total);
        let mut pairs: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| world.device(name)).collect();
        assert!(pairs.iter_mut().all(|pair| send(&world, pair, 0, 10 << 10) == 10 << 10));
        assert_eq!(pairs.iter().map(reads).collect::<Vec<_>>(), [true, true, true, fits], "{total}");
        assert!(world.hub.inbound_bytes() <= total);
        // Whoever sends little is not concerned.
        let mut small = world.device("e");
        small.events();
        small.send(&crate::protocol::ClientFrame::Ping { id: None });
        assert_eq!(small.frames().len(), 1);
        // Room that another gives back is found.
        pairs[0].cut();
        world.clock.turn(Duration::from_millis(100));
        let now = world.now();
        let session = pairs[3].session.as_mut().unwrap();
        session.handle_timeout(now);
        session.poll_ready(now, Waker::noop());
        assert!(reads(&pairs[3]));
        drop(pairs);
        assert_eq!(world.hub.inbound_bytes(), 0);
    }
}

#[test]
fn whoever_waits_for_room_for_ten_seconds_is_asked_to_come_later() {
    let world = world(MESSAGE);
    let mut pairs: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| world.device(name)).collect();
    for pair in &mut pairs {
        send(&world, pair, 0, 10 << 10);
    }
    assert!(!reads(&pairs[3]));
    for micros in [9_999_999, 1] {
        assert_eq!(pairs[3].closed_with(), None);
        world.clock.turn(Duration::from_micros(micros));
        let now = world.now();
        pairs[3].session.as_mut().unwrap().handle_timeout(now);
        pairs[3].pump();
    }
    assert_eq!(pairs[3].closed_with(), Some(1013));
    assert!(pairs[..3].iter().all(|pair| pair.closed_with().is_none()));
}

#[test]
fn a_crowd_of_half_messages_holds_no_more_than_the_bound_and_a_little_each() {
    let world = world(256 << 10);
    let mut crowd: Vec<_> = (0..100).map(|n| world.device(&format!("user-{n}"))).collect();
    let mut taken = vec![0; crowd.len()];
    for _ in 0..6 {
        for (pair, taken) in crowd.iter_mut().zip(&mut taken) {
            *taken += send(&world, pair, *taken, 10 << 10);
        }
        assert!(world.hub.inbound_bytes() <= 256 << 10);
    }
    let all: usize = taken.iter().sum();
    assert!(all <= (256 << 10) + crowd.len() * (2 * READ_BYTES), "{all} bytes are held");
    assert!(all < crowd.len() * MESSAGE / 2, "{all}");
}

#[test]
fn a_crowd_of_strangers_leaves_half_of_the_room_to_those_who_are_in() {
    let world = world(2 * MESSAGE);
    let mut ann = world.device("ann");
    let mut crowd: Vec<_> = (0..50).map(|_| world.hub.session().unwrap()).collect();
    let mut head = b"GET /ws HTTP/1.1\r\nx: ".to_vec();
    head.resize(12 << 10, b'x');
    for stranger in &mut crowd {
        let mut sent = 0;
        while sent < head.len() && stranger.wants_read() {
            let end = (sent + stranger.read_bytes()).min(head.len());
            stranger.handle_bytes(world.now(), &head[sent..end]);
            sent = end;
        }
    }
    assert!(crowd.iter().any(Machine::wants_read) && !crowd.iter().all(Machine::wants_read));
    assert!(world.hub.inbound_bytes() <= MESSAGE, "{}", world.hub.inbound_bytes());
    assert_eq!(send(&world, &mut ann, 0, MESSAGE - 1), MESSAGE - 1);
    drop((crowd, ann));
    assert_eq!(world.hub.inbound_bytes(), 0);
}

#[test]
fn of_a_producer_much_is_read_at_once_and_little_where_there_is_little_room() {
    let at_once = |pair: &Pair| pair.session.as_ref().unwrap().read_bytes();
    let world = world(MESSAGE);
    let (ann, mut bot, mut bob) = (world.device("ann"), producer(&world, "bot"), world.device("bob"));
    assert_eq!((at_once(&ann), at_once(&bot)), (READ_BYTES, MAX_READ_BYTES));
    // Alone, it has room for all of its message.
    send(&world, &mut bot, 0, 10);
    assert_eq!((at_once(&bot), world.hub.inbound_bytes()), (MAX_READ_BYTES, MESSAGE - READ_BYTES));
    // Whole, it gives it back.
    send(&world, &mut bot, 10, MESSAGE - 10);
    assert_eq!((at_once(&bot), world.hub.inbound_bytes()), (MAX_READ_BYTES, 0));
    // Beside another one it goes on by less at once, and where there is none it waits, with no more than others.
    send(&world, &mut bob, 0, 12 << 10);
    send(&world, &mut bot, 0, 10);
    assert_eq!(at_once(&bot), READ_BYTES);
    let taken = send(&world, &mut bot, 10, MESSAGE - 10);
    assert!((2 * READ_BYTES..MESSAGE / 2).contains(&taken) && !reads(&bot), "{taken}");
    assert!(world.hub.inbound_bytes() <= MESSAGE);
    bob.cut();
    world.clock.turn(Duration::from_millis(100));
    bot.session.as_mut().unwrap().handle_timeout(world.now());
    assert!(reads(&bot));
    assert_eq!(send(&world, &mut bot, 10 + taken, MESSAGE - 10 - taken), MESSAGE - 10 - taken);
    assert_eq!(world.hub.inbound_bytes(), 0);
}
