//! Compressed messages: to the codec alone, and to a session that has agreed on them.

use std::hint::black_box;

use trunkline_core::codec::deflate::{Deflate, stored};
use trunkline_core::codec::frame::Opcode;
use trunkline_core::drive::READ_BYTES;

use super::frames::{assembled, fragment, received};
use crate::support::masked;
use crate::{Input, Step};

pub(super) const INPUTS: [Input; 8] = [
    Input { name: "deflate: a bomb", bytes: BYTES, start: |bytes| inflated(packed(&vec![b'a'; bytes])) },
    Input {
        name: "deflate: many bombs over the limit",
        bytes: BYTES,
        start: |bytes| {
            let bomb = packed(&vec![b'a'; 2 * BYTES]);
            let count = bytes / bomb.len();
            let deflate = Deflate::default();
            Box::new(move || (0..count).for_each(|_| assert!(deflate.inflate(black_box(&bomb), BYTES).is_err())))
        },
    },
    Input { name: "deflate: stored blocks of one byte", bytes: BYTES, start: |bytes| inflated(blocks(bytes, &one())) },
    Input { name: "deflate: empty blocks", bytes: BYTES, start: |bytes| inflated(blocks(bytes, &stored(0))) },
    Input {
        name: "deflate: many small blocks with codes",
        bytes: BYTES,
        start: |bytes| inflated(blocks(bytes, &coded())),
    },
    Input {
        name: "deflate: fragments of one byte",
        bytes: BYTES,
        start: |bytes| assembled(fragments(bytes), READ_BYTES),
    },
    Input {
        name: "deflate: fragments one byte at a time",
        bytes: BYTES,
        start: |bytes| assembled(fragments(bytes), 1),
    },
    Input {
        name: "session: many small compressed texts",
        bytes: BYTES,
        start: |bytes| {
            let one = frame(0xc1, &[&stored(2)[..], b"{}", &[0]].concat());
            received(one.repeat(bytes / one.len()), READ_BYTES)
        },
    },
];

const BYTES: usize = 32 << 10;

fn inflated(payload: Vec<u8>) -> Step {
    let deflate = Deflate::default();
    Box::new(move || {
        black_box(deflate.inflate(black_box(&payload), 1 << 20).unwrap());
    })
}

fn packed(message: &[u8]) -> Vec<u8> {
    Deflate::default().compress(&[message], 15).unwrap()
}

/// A payload of so many of a block, and one that ends it.
fn blocks(bytes: usize, block: &[u8]) -> Vec<u8> {
    [&block.repeat(bytes / block.len())[..], &[0]].concat()
}

fn one() -> Vec<u8> {
    [&stored(1)[..], b"a"].concat()
}

/// A block with a table of its own codes, up to where a byte ends.
fn coded() -> Vec<u8> {
    let text: Vec<u8> = (0..200_u32).map(|n| b"abcdefghijklmnop"[(n * n * 7 / 13 % 16) as usize]).collect();
    [&packed(&text)[..], &[0, 0, 0xff, 0xff]].concat()
}

/// A compressed text in fragments of one byte.
fn fragments(bytes: usize) -> Vec<u8> {
    let payload = blocks(bytes / fragment(0, b"a").len(), &one());
    let last = payload.len() - 1;
    let of = |(at, byte): (usize, &u8)| {
        let first = if at == 0 { 0x41 } else { 0 } | if at == last { 0x80 } else { 0 };
        fragment(first, &[*byte])
    };
    payload.iter().enumerate().flat_map(of).collect()
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = masked(Opcode::Text, payload);
    bytes[0] = first;
    bytes
}
