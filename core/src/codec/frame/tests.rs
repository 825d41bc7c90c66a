//! The rules of RFC 6455 one by one, each at its edge and one beyond.

use super::*;
use crate::error::CloseReason;

const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A client's frame with any first byte, in the shortest form of length.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, Opcode::Binary, payload, Some(MASK));
    bytes[0] = first;
    bytes
}

/// Only the start of a frame: the header as a client writes it, whatever it claims.
fn header(first: u8, length: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | length[0]];
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&MASK);
    bytes
}

pub(super) fn drain(assembler: &mut Assembler, mut input: &[u8]) -> (Vec<Message>, Option<Fault>) {
    let mut messages = Vec::new();
    loop {
        match assembler.push(&mut input) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, None),
            Err(fault) => return (messages, Some(fault)),
        }
    }
}

/// What a server with a limit of 1,000 bytes makes of the frames, whole and one byte at a time.
fn read(frames: &[Vec<u8>]) -> Result<Vec<Message>, Fault> {
    let bytes = frames.concat();
    let whole = drain(&mut Assembler::new(Role::Server, 1_000), &bytes);
    let mut assembler = Assembler::new(Role::Server, 1_000);
    let mut dripped = (Vec::new(), None);
    for byte in &bytes {
        let (messages, fault) = drain(&mut assembler, &[*byte]);
        dripped.0.extend(messages);
        dripped.1 = fault;
    }
    assert_eq!(whole, dripped);
    match whole.1 {
        None => Ok(whole.0),
        Some(fault) => Err(fault),
    }
}

fn is_protocol(outcome: Result<Vec<Message>, Fault>) -> bool {
    matches!(outcome, Err(Fault::Protocol(_)))
}

fn text(text: &str) -> Message {
    Message::Text(text.into())
}

fn payload(bytes: &[u8]) -> ControlPayload {
    ControlPayload::new(bytes).unwrap()
}

#[test]
fn single_frames_of_each_kind() {
    let sent = [
        frame(FIN | TEXT, "grün".as_bytes()),
        frame(FIN | BINARY, &[0xff]),
        frame(FIN | PING, b"a"),
        frame(FIN | PONG, b""),
    ];
    let expected =
        vec![text("grün"), Message::Binary(vec![0xff]), Message::Ping(payload(b"a")), Message::Pong(payload(b""))];
    assert_eq!(read(&sent), Ok(expected));
    assert_eq!(read(&[frame(FIN | TEXT, b"")]), Ok(vec![text("")]));
}

#[test]
fn control_frames_come_between_fragments() {
    let sent = [
        frame(TEXT, b"one "),
        frame(FIN | PING, b"1"),
        frame(CONTINUATION, b""),
        frame(CONTINUATION, b"two"),
        frame(FIN | PONG, b"2"),
        frame(FIN | CONTINUATION, b" three"),
    ];
    let expected = vec![Message::Ping(payload(b"1")), Message::Pong(payload(b"2")), text("one two three")];
    assert_eq!(read(&sent), Ok(expected));
}

#[test]
fn reserved_bits_and_opcodes_are_refused() {
    for bit in [0x40, 0x20, 0x10] {
        assert!(is_protocol(read(&[frame(FIN | bit | TEXT, b"")])));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert!(is_protocol(read(&[frame(FIN | opcode, b"")])), "{opcode}");
    }
}

#[test]
fn each_role_refuses_the_other_ends_masking() {
    for (role, mask, passes) in [
        (Role::Server, Some(MASK), true),
        (Role::Server, None, false),
        (Role::Client, None, true),
        (Role::Client, Some(MASK), false),
    ] {
        let mut bytes = Vec::new();
        encode(&mut bytes, Opcode::Text, b"hi", mask);
        let (messages, fault) = drain(&mut Assembler::new(role, 10), &bytes);
        assert_eq!((messages == [text("hi")], fault.is_none()), (passes, passes), "{role:?}");
    }
}

#[test]
fn the_first_two_bytes_are_judged_before_the_rest_comes() {
    for start in [[FIN | 3, 0x80], [FIN | TEXT, 5], [PING, 0x80], [FIN | PING, 0xfe], [CONTINUATION, 0x80]] {
        assert!(is_protocol(read(&[start.to_vec()])), "{start:?}");
    }
}

#[test]
fn control_frames_are_short_and_whole() {
    for opcode in [PING, PONG] {
        assert!(read(&[frame(FIN | opcode, &[b'x'; 125])]).is_ok());
        assert!(is_protocol(read(&[header(FIN | opcode, &[126, 0, 126])])));
        assert!(is_protocol(read(&[header(opcode, &[0])])));
    }
    assert!(is_protocol(read(&[header(CLOSE, &[0])])));
    assert!(is_protocol(read(&[header(FIN | CLOSE, &[126, 0, 126])])));
}

#[test]
fn continuations_continue_and_messages_do_not_nest() {
    assert!(is_protocol(read(&[frame(FIN | CONTINUATION, b"")])));
    assert!(is_protocol(read(&[frame(CONTINUATION, b"")])));
    assert!(is_protocol(read(&[frame(TEXT, b"a"), frame(FIN | TEXT, b"b")])));
    assert!(is_protocol(read(&[frame(TEXT, b""), frame(BINARY, b"")])));
    assert!(is_protocol(read(&[frame(FIN | TEXT, b"a"), frame(FIN | CONTINUATION, b"b")])));
}

#[test]
fn lengths_come_in_their_shortest_form() {
    let long = |length: u64| {
        let mut bytes = vec![127];
        bytes.extend_from_slice(&length.to_be_bytes());
        header(FIN | BINARY, &bytes)
    };
    let decide = |bytes: Vec<u8>| drain(&mut Assembler::new(Role::Server, usize::MAX), &bytes).1;
    assert_eq!(decide(header(FIN | BINARY, &[126, 0, 126])), None);
    assert!(matches!(decide(header(FIN | BINARY, &[126, 0, 125])), Some(Fault::Protocol(_))));
    assert_eq!(decide(long(65_536)), None);
    assert!(matches!(decide(long(65_535)), Some(Fault::Protocol(_))));
    assert_eq!(decide(long(i64::MAX as u64)), None);
    assert!(matches!(decide(long(1 << 63)), Some(Fault::Protocol(_))));
    assert!(matches!(decide(long(u64::MAX)), Some(Fault::Protocol(_))));
}

#[test]
fn a_message_is_measured_at_its_header_over_all_fragments() {
    assert!(read(&[frame(FIN | BINARY, &[0; 1_000])]).is_ok());
    assert_eq!(read(&[header(FIN | BINARY, &[126, 0x03, 0xe9])]), Err(Fault::TooBig));
    assert!(read(&[frame(BINARY, &[0; 999]), frame(FIN | CONTINUATION, &[0; 1])]).is_ok());
    assert_eq!(read(&[frame(BINARY, &[0; 999]), header(FIN | CONTINUATION, &[2])]), Err(Fault::TooBig));
    let huge = [127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(read(&[frame(BINARY, &[0; 9]), header(CONTINUATION, &huge)]), Err(Fault::TooBig));
    // Control frames are none of the message's bytes.
    assert!(read(&[frame(BINARY, &[0; 1_000]), frame(FIN | PING, &[0; 125]), frame(FIN | CONTINUATION, b"")]).is_ok());
}

#[test]
fn fragments_cannot_overflow_the_size() {
    let mut assembler = Assembler::new(Role::Server, usize::MAX);
    let claim = header(CONTINUATION, &[127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let bytes = [frame(BINARY, &[0; 9]), claim].concat();
    assert_eq!(drain(&mut assembler, &bytes), (vec![], None));
    assert!(assembler.heap_bytes() <= 18, "{}", assembler.heap_bytes());
}

#[test]
fn the_limit_can_rise_and_fall_between_frames() {
    let mut assembler = Assembler::new(Role::Server, 1);
    assembler.set_max_message(2);
    assert_eq!(drain(&mut assembler, &frame(FIN | TEXT, b"ab")).0, [text("ab")]);
    assembler.set_max_message(1);
    assert_eq!(drain(&mut assembler, &frame(FIN | TEXT, b"ab")).1, Some(Fault::TooBig));
}

#[test]
fn characters_may_be_split_over_fragments() {
    let smile = "😀".as_bytes();
    for cut in 0..=4 {
        let sent = [frame(TEXT, &smile[..cut]), frame(FIN | PING, b""), frame(FIN | CONTINUATION, &smile[cut..])];
        assert_eq!(read(&sent), Ok(vec![Message::Ping(payload(b"")), text("😀")]));
    }
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let bad: [&[u8]; 6] =
        [&[0xff], &[0xc0, 0x80], &[0xed, 0xa0, 0x80], &[0xf4, 0x90, 0x80, 0x80], &[0xe4, 0xb8], &[0x80]];
    for bytes in bad {
        assert_eq!(read(&[frame(FIN | TEXT, bytes)]), Err(Fault::NotUtf8), "{bytes:?}");
        for cut in 0..bytes.len() {
            let sent = [frame(TEXT, &bytes[..cut]), frame(FIN | CONTINUATION, &bytes[cut..])];
            assert_eq!(read(&sent), Err(Fault::NotUtf8), "{bytes:?} {cut}");
        }
        assert!(read(&[frame(FIN | BINARY, bytes)]).is_ok());
    }
}

#[test]
fn text_fails_at_the_first_wrong_byte_and_not_at_the_end_of_the_frame() {
    let bytes = frame(FIN | TEXT, &[b'a', 0xf4, 0x90, 0x80, 0x80, b'b']);
    let mut assembler = Assembler::new(Role::Server, 1_000);
    assert_eq!(drain(&mut assembler, &bytes[..8]), (vec![], None));
    assert_eq!(drain(&mut assembler, &bytes[8..9]), (vec![], Some(Fault::NotUtf8)));
}

#[test]
fn close_frames_carry_nothing_or_a_legal_code_and_utf8() {
    let close = |payload: &[u8]| read(&[frame(FIN | CLOSE, payload)]);
    assert_eq!(close(b""), Ok(vec![Message::Close(None, "".into())]));
    assert_eq!(close(&[0x03, 0xe8]), Ok(vec![Message::Close(Some(1000), "".into())]));
    assert_eq!(close(b"\x03\xe9bye"), Ok(vec![Message::Close(Some(1001), "bye".into())]));
    assert!(close(&[&[0x03, 0xe8][..], &[b'x'; 123]].concat()).is_ok());
    assert!(is_protocol(close(&[0x03])));
    assert_eq!(close(&[0x03, 0xe8, 0xff]), Err(Fault::NotUtf8));
    for code in 0..=u16::MAX {
        let mut assembler = Assembler::new(Role::Server, 0);
        let fault = drain(&mut assembler, &frame(FIN | CLOSE, &code.to_be_bytes())).1;
        assert_eq!(fault.is_none(), is_close_code(code), "{code}");
    }
}

#[test]
fn a_fault_is_final_and_frees_the_heap() {
    let mut assembler = Assembler::new(Role::Server, 1_000);
    let bytes = [frame(TEXT, b"abc"), frame(FIN | TEXT, b"")].concat();
    let (_, fault) = drain(&mut assembler, &bytes);
    assert!(fault.is_some());
    assert_eq!(assembler.heap_bytes(), 0);
    assert!(!assembler.is_idle());
    assert_eq!(drain(&mut assembler, &frame(FIN | TEXT, b"fine")), (vec![], fault));
    assert_eq!(drain(&mut assembler, b""), (vec![], fault));
}

#[test]
fn each_fault_has_its_close_code() {
    assert_eq!(Fault::Protocol("").close_reason(), CloseReason::ProtocolError);
    assert_eq!(Fault::TooBig.close_reason(), CloseReason::TooBig);
    assert_eq!(Fault::NotUtf8.close_reason(), CloseReason::InvalidPayload);
    assert_eq!(Fault::NotDeflate.close_reason(), CloseReason::InvalidPayload);
}

#[test]
fn idle_means_between_messages_and_holds_no_heap() {
    let bytes = [frame(TEXT, b"abc"), frame(FIN | PING, b"p"), frame(FIN | CONTINUATION, b"def")].concat();
    let mut assembler = Assembler::new(Role::Server, 1_000);
    assert!(assembler.is_idle());
    for byte in &bytes[..bytes.len() - 1] {
        drain(&mut assembler, &[*byte]);
        assert!(!assembler.is_idle());
    }
    drain(&mut assembler, &bytes[bytes.len() - 1..]);
    assert!(assembler.is_idle());
    assert_eq!(assembler.heap_bytes(), 0);
    assert!(size_of::<Assembler>() <= 104, "{}", size_of::<Assembler>());
}

#[test]
fn a_message_of_many_fragments_moves_its_bytes_few_times() {
    // Linear work shows as few reallocations: the capacity doubles or reaches the limit.
    let count = 10_000;
    let mut assembler = Assembler::new(Role::Server, count);
    drain(&mut assembler, &frame(TEXT, b"a"));
    let mut growths = 0;
    let mut held = assembler.heap_bytes();
    for _ in 1..count {
        drain(&mut assembler, &frame(CONTINUATION, b"a"));
        growths += usize::from(assembler.heap_bytes() != held);
        held = assembler.heap_bytes();
    }
    assert!(growths <= 14, "{growths}");
    assert_eq!(held, count);
    let (messages, fault) = drain(&mut assembler, &frame(FIN | CONTINUATION, b""));
    assert_eq!((messages, fault), (vec![text(&"a".repeat(count))], None));
}
