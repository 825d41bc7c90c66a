//! Random frames: any chunking reads the same, bounds hold, and tungstenite's own `WebSocket` agrees.

use super::tests::{drain, frame};
use super::*;
use proptest::prelude::*;
use std::io::{self, Cursor, Read, Write};
use tungstenite::protocol::{Role as PeerRole, WebSocketConfig};
use tungstenite::{Error, WebSocket};

const LIMIT: usize = 300;

/// Frames that are mostly legal and mostly fit together, so that runs get deep; anything may follow anything.
fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let payload = prop_oneof![
        4 => "[a-zä😀]{0,40}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (100_usize..330).prop_map(|len| vec![b'x'; len]),
        1 => Just(vec![0xf0, 0x9f]),
        1 => Just(vec![0x98, 0x80]),
    ];
    let close = (prop::sample::select(vec![1000_u16, 1001, 1003, 1007, 1011, 3000, 4999]), "[a-z]{0,9}")
        .prop_map(|(code, text)| frame(0x88, &[&code.to_be_bytes()[..], text.as_bytes()].concat()));
    let one = prop_oneof![
        6 => (prop::sample::select(vec![0x81_u8, 0x82]), payload.clone())
            .prop_map(|(first, it)| vec![frame(first, &it)]),
        6 => fragmented(payload.clone()),
        4 => (prop::sample::select(vec![0x89_u8, 0x8a]), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(first, it)| vec![frame(first, &it)]),
        1 => close.prop_map(|it| vec![it]),
        1 => (any::<u8>(), payload).prop_map(|(first, it)| vec![frame(first, &it)]).prop_filter(
            "tungstenite turns an illegal close code into a legal one", |it| it[0][0] & 0x0f != 8),
        1 => Just(vec![vec![0x81, 2, b'h', b'i']]),
    ];
    prop::collection::vec(one, 0..12).prop_map(|groups| groups.concat())
}

fn fragmented(payload: impl Strategy<Value = Vec<u8>> + Clone) -> impl Strategy<Value = Vec<Vec<u8>>> {
    (1_u8..=2, payload.clone(), prop::collection::vec((payload, any::<bool>()), 1..5)).prop_map(
        |(kind, first, parts)| {
            let mut sent = vec![frame(kind, &first)];
            let last = parts.len() - 1;
            for (at, (part, ping)) in parts.into_iter().enumerate() {
                if ping {
                    sent.push(frame(0x89, b"ping"));
                }
                sent.push(frame(if at == last { 0x80 } else { 0 }, &part));
            }
            sent
        },
    )
}

/// Reads what is there in pieces of one size and takes whatever is written.
struct Wire {
    bytes: Cursor<Vec<u8>>,
    piece: usize,
}

impl Read for Wire {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = out.len().min(self.piece);
        self.bytes.read(&mut out[..len])
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite reads, up to a close frame or a fault; whether there was a fault.
fn peer_reads(bytes: Vec<u8>, piece: usize) -> (Vec<Message>, bool) {
    let config =
        WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT)).read_buffer_size(512);
    let wire = Wire { bytes: Cursor::new(bytes), piece };
    let mut socket = WebSocket::from_raw_socket(wire, PeerRole::Server, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => {
                messages.push(ours(message));
                if matches!(messages.last(), Some(Message::Close(..))) {
                    return (messages, false);
                }
            }
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                return (messages, false);
            }
            Err(_) => return (messages, true),
        }
    }
}

fn ours(message: tungstenite::Message) -> Message {
    match message {
        tungstenite::Message::Text(text) => Message::Text(text.as_str().into()),
        tungstenite::Message::Binary(bytes) => Message::Binary(bytes.to_vec()),
        tungstenite::Message::Ping(bytes) => Message::Ping(ControlPayload::new(&bytes).unwrap()),
        tungstenite::Message::Pong(bytes) => Message::Pong(ControlPayload::new(&bytes).unwrap()),
        tungstenite::Message::Close(Some(close)) => {
            Message::Close(Some(close.code.into()), close.reason.as_str().into())
        }
        tungstenite::Message::Close(None) => Message::Close(None, "".into()),
        tungstenite::Message::Frame(_) => panic!("reading yields no raw frames"),
    }
}

/// What we read in the given pieces, up to a close frame.
fn we_read(bytes: &[u8], pieces: &[usize]) -> (Vec<Message>, Option<Fault>) {
    let mut assembler = Assembler::new(Role::Server, LIMIT);
    let mut rest = bytes;
    let mut all = Vec::new();
    let mut pieces = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(pieces.next().unwrap_or(usize::MAX).clamp(1, rest.len()));
        rest = tail;
        let (messages, fault) = drain(&mut assembler, piece);
        all.extend(messages);
        if let Some(end) = all.iter().position(|message| matches!(message, Message::Close(..))) {
            all.truncate(end + 1);
            return (all, None);
        }
        if fault.is_some() {
            return (all, fault);
        }
    }
    (all, None)
}

properties! {
    cases = 1_000;

    #[test]
    fn any_chunking_reads_the_same(frames in frames(), pieces in prop::collection::vec(1_usize..50, 1..8)) {
        let bytes = frames.concat();
        prop_assert_eq!(we_read(&bytes, &[]), we_read(&bytes, &pieces));
    }

    #[test]
    fn tungstenite_reads_the_same(frames in frames(), piece in 1_usize..600) {
        let bytes = frames.concat();
        let (messages, fault) = we_read(&bytes, &[piece]);
        prop_assert_eq!((messages, fault.is_some()), peer_reads(bytes, piece));
    }

    #[test]
    fn what_is_encoded_reads_back(
        payload in any::<Vec<u8>>(),
        text in any::<String>(),
        mask in any::<[u8; 4]>(),
        control in prop::collection::vec(any::<u8>(), 0..=125),
    ) {
        for (role, mask) in [(Role::Server, Some(mask)), (Role::Client, None)] {
            let mut bytes = Vec::new();
            encode(&mut bytes, Opcode::Text, text.as_bytes(), mask);
            encode(&mut bytes, Opcode::Binary, &payload, mask);
            encode(&mut bytes, Opcode::Ping, &control, mask);
            encode_close(&mut bytes, 4000, &text, mask);
            let (messages, fault) = drain(&mut Assembler::new(role, 1 << 20), &bytes);
            prop_assert_eq!(fault, None);
            prop_assert_eq!(&messages[..2], &[Message::Text(text.clone()), Message::Binary(payload.clone())][..]);
            prop_assert_eq!(&messages[2], &Message::Ping(ControlPayload::new(&control).unwrap()));
            prop_assert!(matches!(&messages[3], Message::Close(Some(4000), said) if text.starts_with(&**said)));
        }
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_pile_up(
        bytes in any::<Vec<u8>>(),
        start in prop::sample::select(vec![0x01_u8, 0x02, 0x81, 0x82, 0x89]),
        client in any::<bool>(),
        piece in 1_usize..20,
    ) {
        let role = if client { Role::Client } else { Role::Server };
        let opened = [&[start, if client { 126 } else { 254 }, 0x01, 0x00, 0, 0, 0, 0][..], &bytes].concat();
        for input in [bytes, opened] {
            let mut assembler = Assembler::new(role, LIMIT);
            let mut seen = 0;
            for chunk in input.chunks(piece) {
                seen += chunk.len();
                let (_, fault) = drain(&mut assembler, chunk);
                prop_assert!(assembler.heap_bytes() <= LIMIT.min(2 * seen));
                prop_assert!(fault.is_none() || assembler.heap_bytes() == 0);
                prop_assert!(!assembler.is_idle() || assembler.heap_bytes() == 0);
            }
        }
    }
}
