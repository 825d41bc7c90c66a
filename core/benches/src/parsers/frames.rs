//! Frames: to the codec alone, and to a session that is in.

use std::hint::black_box;
use std::task::Waker;

use trunkline_core::codec::deflate::Deflate;
use trunkline_core::codec::frame::{Assembler, Opcode, Role, apply_mask};
use trunkline_core::drive::{Machine as _, READ_BYTES};
use trunkline_core::limits::Limits;

use crate::support::{OFFER, World, enter_with, masked, user};
use crate::{Input, Step};

pub(super) const INPUTS: [Input; 11] = [
    Input { name: "frames: one long text", bytes: BYTES, start: |bytes| assembled(text(&long(bytes)), READ_BYTES) },
    Input { name: "frames: a text one byte at a time", bytes: BYTES, start: |bytes| assembled(text(&long(bytes)), 1) },
    Input {
        name: "frames: long characters one byte at a time",
        bytes: BYTES,
        start: |bytes| assembled(text(&"𝄞".repeat(bytes / 4)), 1),
    },
    Input {
        name: "frames: fragments of one byte",
        bytes: BYTES,
        start: |bytes| assembled(fragments(bytes, b"a", 0), READ_BYTES),
    },
    Input {
        name: "frames: empty fragments",
        bytes: BYTES,
        start: |bytes| assembled(fragments(bytes, b"", 0), READ_BYTES),
    },
    Input {
        name: "frames: pings between fragments",
        bytes: BYTES,
        start: |bytes| assembled(fragments(bytes, b"a", 1), READ_BYTES),
    },
    Input {
        name: "frames: fragments one byte at a time",
        bytes: BYTES,
        start: |bytes| assembled(fragments(bytes, b"a", 1), 1),
    },
    Input {
        name: "frames: many empty texts",
        bytes: BYTES,
        start: |bytes| assembled(many(bytes, Opcode::Text, b""), READ_BYTES),
    },
    Input { name: "session: a text one byte at a time", bytes: BYTES, start: |bytes| received(text(&long(bytes)), 1) },
    Input {
        name: "session: many pings",
        bytes: BYTES,
        start: |bytes| received(many(bytes, Opcode::Ping, b""), READ_BYTES),
    },
    Input {
        name: "session: many small frames",
        bytes: BYTES,
        start: |bytes| received(many(bytes, Opcode::Text, b"{}"), READ_BYTES),
    },
];

const BYTES: usize = 32 << 10;
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

fn long(bytes: usize) -> String {
    "a".repeat(bytes)
}

fn text(text: &str) -> Vec<u8> {
    masked(Opcode::Text, text.as_bytes())
}

fn many(bytes: usize, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let one = masked(opcode, payload);
    one.repeat(bytes / one.len())
}

/// One text in fragments, with so many empty pings after each.
fn fragments(bytes: usize, payload: &[u8], pings: usize) -> Vec<u8> {
    let between = masked(Opcode::Ping, b"").repeat(pings);
    let inner = [fragment(0, payload), between].concat();
    let count = bytes / inner.len();
    [fragment(1, payload), inner.repeat(count), fragment(0x80, payload)].concat()
}

/// A frame with this first byte: only whole messages are encoded by the core.
pub(super) fn fragment(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = payload.to_vec();
    apply_mask(&mut bytes, MASK);
    let len = u8::try_from(payload.len()).unwrap();
    [&[first, 0x80 | len], &MASK[..], &bytes].concat()
}

pub(super) fn assembled(wire: Vec<u8>, size: usize) -> Step {
    let mut assembler = Assembler::new(Role::Server, 1 << 20);
    assembler.set_deflate(Deflate::default());
    Box::new(move || {
        for mut read in black_box(&wire).chunks(size) {
            while let Some(message) = assembler.push(&mut read).unwrap() {
                black_box(message);
            }
        }
        assert!(assembler.is_idle());
    })
}

/// To a session whose answers are taken after each read.
pub(super) fn received(wire: Vec<u8>, size: usize) -> Step {
    let limits =
        Limits { message_bytes: 1 << 20, messages_per_second: 1 << 30, message_burst: 1 << 30, ..Limits::default() };
    let world = World::with(limits);
    let mut session = world.hub.session().unwrap();
    enter_with(&world, &mut session, &world.token(&user("ann")), OFFER);
    let now = world.now();
    Box::new(move || {
        for read in black_box(&wire).chunks(size) {
            session.handle_bytes(now, read);
            loop {
                session.poll_ready(now, Waker::noop());
                let n = black_box(session.transmit()).len();
                if n == 0 {
                    break;
                }
                session.advance(now, n);
            }
        }
        assert!(session.user().is_some(), "it is in, whatever it sent");
    })
}
