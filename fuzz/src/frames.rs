//! Frames, cut into reads in every way.

use std::iter::Cycle;
use std::slice;

use trunkline_core::codec::frame::{Assembler, Fault, Message, Role};

/// Frames in any bytes: the same messages and the same fault come out however the bytes are cut into reads, and the heap
/// stays within what has come.
///
/// The first byte is the role (bit 0) and the limit of a message (16 bytes, doubled by bits 1 to 3); the next four are
/// the sizes of reads, less one, in turns; the rest are the frames.
pub fn frames(data: &[u8]) {
    let Some((header, bytes)) = data.split_at_checked(5) else { return };
    let (first, sizes) = (header[0], &header[1..]);
    let role = if first & 1 == 0 { Role::Server } else { Role::Client };
    let limit = 16 << (first >> 1 & 7);
    let whole = Outcome::of(role, limit, [bytes].into_iter());
    let cut = Outcome::of(role, limit, Cuts::new(bytes, sizes));
    assert_eq!(whole, cut);
}

#[derive(Debug, PartialEq)]
struct Outcome {
    messages: Vec<Message>,
    fault: Option<Fault>,
    /// Whether a message is under way at the end.
    idle: bool,
}

impl Outcome {
    fn of<'a>(role: Role, limit: usize, reads: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut assembler = Assembler::new(role, limit);
        let mut messages = Vec::new();
        let mut came = 0;
        for mut read in reads {
            came += read.len();
            loop {
                match assembler.push(&mut read) {
                    Ok(Some(message)) => {
                        check(&message, limit);
                        let closed = matches!(message, Message::Close(..));
                        messages.push(message);
                        if closed {
                            return Self { messages, fault: None, idle: true };
                        }
                    }
                    Ok(None) => break,
                    Err(fault) => {
                        assert_eq!(assembler.push(&mut &b"\x81\x00"[..]), Err(fault), "a failed one stays failed");
                        assert_eq!(assembler.heap_bytes(), 0);
                        return Self { messages, fault: Some(fault), idle: false };
                    }
                }
            }
            assert!(read.is_empty(), "what is not used up would be lost");
            let heap = assembler.heap_bytes();
            assert!(heap <= limit && heap <= 2 * came, "{heap} bytes held of {came}, limit {limit}");
        }
        let idle = assembler.is_idle();
        assert!(!idle || assembler.heap_bytes() == 0);
        Self { messages, fault: None, idle }
    }
}

fn check(message: &Message, limit: usize) {
    let len = match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) => bytes.len(),
        Message::Ping(_) | Message::Pong(_) | Message::Close(..) => 0,
    };
    assert!(len <= limit);
}

/// The bytes in reads of these sizes, less one, in turns.
pub(crate) struct Cuts<'a> {
    bytes: &'a [u8],
    sizes: Cycle<slice::Iter<'a, u8>>,
}

impl<'a> Cuts<'a> {
    pub(crate) fn new(bytes: &'a [u8], sizes: &'a [u8]) -> Self {
        Self { bytes, sizes: sizes.iter().cycle() }
    }
}

impl<'a> Iterator for Cuts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let size = usize::from(*self.sizes.next()?) + 1;
        let (read, rest) = self.bytes.split_at(size.min(self.bytes.len()));
        self.bytes = rest;
        (!read.is_empty()).then_some(read)
    }
}
