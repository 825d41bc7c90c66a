//! Compressed messages as frames: RFC 7692 section 6.

use super::tests::{drain, frame};
use super::*;
use crate::codec::deflate::{Deflate, longest_payload};
use proptest::prelude::*;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const LIMIT: usize = 1_000;

fn deflating(limit: usize) -> Assembler {
    let mut assembler = Assembler::new(Role::Server, limit);
    assembler.set_deflate(Deflate::default());
    assembler
}

/// What a server that has agreed makes of the frames, whole and one byte at a time.
fn read(frames: &[Vec<u8>]) -> Result<Vec<Message>, Fault> {
    let bytes = frames.concat();
    let whole = drain(&mut deflating(LIMIT), &bytes);
    let mut assembler = deflating(LIMIT);
    let mut dripped = (Vec::new(), None);
    for byte in &bytes {
        let (messages, fault) = drain(&mut assembler, &[*byte]);
        dripped.0.extend(messages);
        dripped.1 = fault;
        assert!(assembler.heap_bytes() <= assembler.max_heap_bytes());
    }
    assert_eq!(whole, dripped);
    whole.1.map_or(Ok(whole.0), Err)
}

fn text(text: &str) -> Message {
    Message::Text(text.into())
}

fn is_protocol(outcome: Result<Vec<Message>, Fault>) -> bool {
    matches!(outcome, Err(Fault::Protocol(_)))
}

/// The payload of a message, as long as it likes.
fn packed(message: &[u8]) -> Vec<u8> {
    let mut compressor = Vec::new();
    // Copied in one block where it cannot be shortened.
    match Deflate::default().compress(&[message], 15) {
        Some(payload) => payload,
        None => {
            compressor.extend(crate::codec::deflate::stored(u16::try_from(message.len()).unwrap()));
            compressor.extend(message);
            compressor.push(0);
            compressor
        }
    }
}

const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

#[test]
fn the_examples_of_the_rfc() {
    // RFC 7692 section 7.2.3.1, in one frame and in two; and a compressed message is not the next one's business.
    let sent = [
        frame(FIN | RSV1 | TEXT, &HELLO),
        frame(RSV1 | TEXT, &HELLO[..3]),
        frame(FIN, &HELLO[3..]),
        frame(FIN | TEXT, b"Hello"),
        frame(FIN | RSV1 | BINARY, &[0]),
        frame(FIN | RSV1 | TEXT, &[0]),
    ];
    let expected = vec![text("Hello"), text("Hello"), text("Hello"), Message::Binary(vec![]), text("")];
    assert_eq!(read(&sent), Ok(expected));
}

#[test]
fn control_frames_come_between_the_fragments_of_a_compressed_message() {
    let sent = [
        frame(RSV1 | TEXT, &HELLO[..1]),
        frame(FIN | 9, b"1"),
        frame(0, b""),
        frame(FIN | 10, b"2"),
        frame(FIN, &HELLO[1..]),
    ];
    let control = |bytes: &[u8]| ControlPayload::new(bytes).unwrap();
    let expected = vec![Message::Ping(control(b"1")), Message::Pong(control(b"2")), text("Hello")];
    assert_eq!(read(&sent), Ok(expected));
}

#[test]
fn the_bit_is_for_the_first_frame_of_a_message_alone() {
    assert!(is_protocol(read(&[frame(RSV1 | TEXT, &HELLO[..3]), frame(FIN | RSV1, &HELLO[3..])])));
    assert!(is_protocol(read(&[frame(TEXT, b"a"), frame(FIN | RSV1, &HELLO)])));
    for opcode in [8, 9, 10] {
        assert!(is_protocol(read(&[frame(FIN | RSV1 | opcode, b"")])), "{opcode}");
    }
    for bits in [0x20, 0x10, 0x60, 0x50, 0x70] {
        assert!(is_protocol(read(&[frame(FIN | bits | TEXT, &HELLO)])), "{bits:x}");
    }
    for opcode in [3, 7, 11, 15] {
        assert!(is_protocol(read(&[frame(FIN | RSV1 | opcode, &HELLO)])), "{opcode}");
    }
}

#[test]
fn whoever_has_not_agreed_refuses_the_bit() {
    for role in [Role::Server, Role::Client] {
        let mut bytes = frame(FIN | RSV1 | TEXT, &HELLO);
        if role == Role::Client {
            bytes = [&[FIN | RSV1 | TEXT, 7][..], &HELLO].concat();
        }
        let (messages, fault) = drain(&mut Assembler::new(role, LIMIT), &bytes);
        assert_eq!(messages, []);
        assert_eq!(fault, Some(Fault::Protocol("a reserved bit is set, and no extension was negotiated")));
    }
}

#[test]
fn text_is_utf8_once_it_is_inflated() {
    for (bytes, good) in [("grün 😀".as_bytes(), true), (&[0xff], false), (&[0xf0, 0x9f, 0x98], false)] {
        let payload = packed(bytes);
        // Cut within a character, and where the payload is no text at all.
        let sent = [frame(RSV1 | TEXT, &payload[..7]), frame(FIN, &payload[7..])];
        let expected = std::str::from_utf8(bytes).map(|said| vec![text(said)]).map_err(|_| Fault::NotUtf8);
        assert_eq!((read(&sent), expected.is_ok()), (expected, good));
        assert_eq!(read(&[frame(FIN | RSV1 | BINARY, &payload)]), Ok(vec![Message::Binary(bytes.to_vec())]));
    }
}

#[test]
fn a_message_has_the_same_limit_compressed_and_not() {
    let bomb = |len: usize| packed(&vec![b'a'; len]);
    for kind in [TEXT, BINARY] {
        let sent = |len: usize| read(&[frame(FIN | RSV1 | kind, &bomb(len))]);
        assert_eq!(sent(LIMIT).map(|messages| messages.len()), Ok(1));
        assert_eq!(sent(LIMIT + 1), Err(Fault::TooBig));
        assert_eq!(sent(1 << 20), Err(Fault::TooBig));
    }
    assert_eq!(Fault::TooBig.close_reason().code(), 1009);
    assert_eq!(Fault::NotDeflate.close_reason().code(), 1007);
}

#[test]
fn what_is_held_of_a_compressed_message_is_bounded_by_its_limit() {
    let longest = longest_payload(LIMIT);
    let parts = |len: usize| {
        let half = vec![0xaa; len / 2];
        [frame(RSV1 | BINARY, &half), frame(0, &vec![0xaa; len - len / 2])]
    };
    assert_eq!(read(&parts(longest)), Ok(vec![]));
    assert_eq!(read(&parts(longest + 1)), Err(Fault::TooBig));
    assert_eq!(read(&[frame(FIN | RSV1 | BINARY, &vec![0xaa; longest + 1])]), Err(Fault::TooBig));
    // What is not compressed has the limit it always had.
    assert_eq!(read(&[frame(FIN | BINARY, &[0; LIMIT + 1])]), Err(Fault::TooBig));
    assert_eq!(read(&[frame(BINARY, &[0; LIMIT]), frame(0, &[0])]), Err(Fault::TooBig));
}

#[test]
fn a_fault_in_a_compressed_message_is_final_and_frees_the_heap() {
    let mut assembler = deflating(LIMIT);
    let bytes = [frame(RSV1 | TEXT, &HELLO[..3]), frame(FIN, &[0xff; 9])].concat();
    assert_eq!(drain(&mut assembler, &bytes), (vec![], Some(Fault::NotDeflate)));
    assert_eq!((assembler.heap_bytes(), assembler.is_idle()), (0, false));
    assert_eq!(drain(&mut assembler, &frame(FIN | TEXT, b"fine")).1, Some(Fault::NotDeflate));
}

#[test]
fn an_idle_connection_holds_neither_bytes_nor_an_inflator() {
    let mut assembler = deflating(LIMIT);
    drain(&mut assembler, &[frame(RSV1 | TEXT, &HELLO[..3]), frame(FIN, &HELLO[3..])].concat());
    assert!(assembler.is_idle() && assembler.heap_bytes() == 0);
    assert!(size_of::<Assembler>() <= 104, "{}", size_of::<Assembler>());
}

properties! {
    /// However it is cut into fragments and reads, and with pings between them.
    #[test]
    fn a_compressed_message_reads_the_same_in_whatever_pieces(
        words in prop::collection::vec(prop::sample::select(vec!["one", " and ", "zwölf", "😀", "{\"type\":"]), 0..60),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        piece in 1_usize..50,
        pings in any::<bool>(),
    ) {
        let message = words.concat();
        let payload = packed(message.as_bytes());
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
        ends.push(payload.len());
        ends.sort_unstable();
        let mut sent = Vec::new();
        let mut from = 0;
        for (at, end) in ends.iter().enumerate() {
            let first = if at == 0 { RSV1 | TEXT } else { 0 } | if at + 1 == ends.len() { FIN } else { 0 };
            sent.push(frame(first, &payload[from..*end]));
            if pings {
                sent.push(frame(FIN | 9, b"p"));
            }
            from = *end;
        }
        let mut assembler = deflating(LIMIT);
        let mut found = Vec::new();
        for read in sent.concat().chunks(piece) {
            let (messages, fault) = drain(&mut assembler, read);
            prop_assert_eq!(fault, None);
            found.extend(messages.into_iter().filter(|message| matches!(message, Message::Text(_))));
        }
        prop_assert_eq!(found, vec![text(&message)]);
        prop_assert!(assembler.is_idle());
    }
}
