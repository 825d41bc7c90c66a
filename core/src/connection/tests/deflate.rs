//! What is compressed for a connection, and what is not.

use super::harness::{at, bearer, close_code, flush, fresh, grant, masked, request, take};
use crate::codec::deflate::Deflate;
use crate::codec::frame::{Assembler, Message, Opcode, Role, encode};
use crate::connection::{Connection, ConnectionEvent, PhaseName};
use crate::limits::Limits;
use crate::protocol::ServerFrame;
use crate::stream::Packed;

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// A live connection whose client has offered something.
fn live(limits: Limits, offer: &str) -> Connection {
    let mut c = fresh(limits);
    let head = String::from_utf8(bearer()).unwrap();
    take(&mut c, format!("{}{offer}\r\n", &head[..head.len() - 2]).as_bytes());
    c.handle_verified(at(0), Ok(grant()));
    let answer = String::from_utf8(flush(&mut c, at(0))).unwrap();
    let agreed = answer.contains("\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover");
    assert_eq!(agreed, !offer.is_empty() && c.settings.limits.deflate_from.is_some(), "{answer}");
    take(&mut c, &masked(Opcode::Text, br#"{"type":"hello"}"#));
    c.handle_attached(at(0), &ServerFrame::Pong { id: None });
    assert_eq!(c.phase(), PhaseName::Live);
    flush(&mut c, at(0));
    c
}

/// A frame of a log, of some hundred bytes.
fn event(filler: usize) -> Vec<u8> {
    format!(r#"{{"type":"message","event_id":"7-42","user_id":"ann","data":"{}"}}"#, "ab ".repeat(filler)).into_bytes()
}

/// The first byte of the only frame that waits, and its message.
fn sent(c: &mut Connection) -> (u8, Message) {
    let bytes = flush(c, at(0));
    let mut assembler = Assembler::new(Role::Client, 1 << 20);
    assembler.set_deflate(Deflate::default());
    let mut rest = &bytes[..];
    let message = assembler.push(&mut rest).unwrap().unwrap();
    assert!(rest.is_empty(), "one frame");
    (bytes[0], message)
}

const COMPRESSED: u8 = 0xc1;
const PLAIN: u8 = 0x81;

fn said(bytes: &[u8]) -> Message {
    Message::Text(String::from_utf8(bytes.to_vec()).unwrap())
}

#[test]
fn a_message_of_the_threshold_is_compressed_and_a_shorter_one_is_not() {
    let frame = event(100);
    for (from, offer, first) in [
        (Some(frame.len()), OFFER, COMPRESSED),
        (Some(frame.len() + 1), OFFER, PLAIN),
        (Some(frame.len()), "", PLAIN),
        (None, OFFER, PLAIN),
    ] {
        let mut c = live(Limits { deflate_from: from, ..Limits::default() }, offer);
        c.send_encoded(at(0), &[&frame[..5], &frame[5..]]);
        assert_eq!(sent(&mut c), (first, said(&frame)), "from {from:?}, {offer:?}");
    }
    // What does not become shorter stays as it is, and control frames always do.
    let mut c = live(Limits { deflate_from: Some(1), ..Limits::default() }, OFFER);
    c.send_encoded(at(0), &[b"{}"]);
    assert_eq!(sent(&mut c), (PLAIN, said(b"{}")));
    take(&mut c, &masked(Opcode::Ping, &[b'a'; 125]));
    assert_eq!(sent(&mut c).0, 0x8a);
    c.close(at(0), crate::error::CloseReason::Restart);
    assert_eq!(sent(&mut c).0, 0x88);
}

#[test]
fn an_event_is_compressed_once_for_all_who_take_it() {
    let frame = event(300);
    let packed = Packed::new(frame.clone().into());
    let window = |bits: u8| format!("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={bits}\r\n");
    for (offer, head) in [
        (OFFER.to_owned(), &b"{"[..]),
        (OFFER.to_owned(), br#"{"prev":41,"#),
        // The event is no longer than the window.
        (window(10), b"{"),
        // It is longer: this one is compressed for its reader alone.
        (window(9), b"{"),
    ] {
        let mut c = live(Limits::default(), &offer);
        c.send_shared(at(0), head, &packed);
        assert!(c.transmit().len() < frame.len() / 2, "what waits is what is sent");
        assert_eq!(sent(&mut c), (COMPRESSED, said(&[head, &frame[1..]].concat())), "{offer}");
    }
    // For whoever has not agreed it stays as it is.
    let mut c = live(Limits::default(), "");
    c.send_shared(at(0), b"{", &packed);
    assert_eq!(sent(&mut c), (PLAIN, said(&frame)));
    assert!(packed.form(|_| panic!("it is made")).is_some());
}

#[test]
fn what_becomes_short_is_still_work_and_waits_for_the_socket() {
    let frame = event(10_000);
    let packed = Packed::new(frame.clone().into());
    for shared in [false, true] {
        let mut c = live(Limits::default(), OFFER);
        for _ in 0..2 {
            let mut count = 0;
            while c.wants_events() {
                count += 1;
                if shared { c.send_shared(at(0), b"{", &packed) } else { c.send_encoded(at(0), &[&frame]) }
            }
            assert_eq!(count, 5, "of 30 KB each, shared: {shared}");
            let waits = c.transmit().len();
            c.advance(at(0), waits - 1);
            assert!(!c.wants_events(), "a byte still waits");
            c.advance(at(0), 1);
            assert!(c.wants_events());
        }
    }
}

#[test]
fn an_event_that_was_not_worth_it_is_not_tried_again() {
    let frame = event(300);
    let packed = Packed::new(frame.clone().into());
    assert_eq!(packed.form(|_| None), None);
    let mut c = live(Limits::default(), OFFER);
    c.send_shared(at(0), b"{", &packed);
    assert_eq!(sent(&mut c), (PLAIN, said(&frame)));
}

/// A client's frame of a compressed text.
fn compressed(text: &str) -> Vec<u8> {
    let payload = Deflate::default().compress(&[text.as_bytes()], 15).unwrap();
    let mut bytes = Vec::new();
    encode(&mut bytes, Opcode::Text, &payload, Some([1, 2, 3, 4]));
    bytes[0] |= 0x40;
    bytes
}

#[test]
fn a_client_that_has_agreed_may_compress_and_another_may_not() {
    let command = format!(r#"{{"type":"command","id":"1","name":"x","args":"{}"}}"#, "y".repeat(500));
    let mut c = live(Limits::default(), OFFER);
    c.handle_bytes(at(0), &compressed(&command));
    assert!(matches!(c.poll_event(), Some(ConnectionEvent::Frame(_))));
    for (limits, offer) in [(Limits::default(), ""), (Limits { deflate_from: None, ..Limits::default() }, OFFER)] {
        let mut c = live(limits, offer);
        c.handle_bytes(at(0), &compressed(&command));
        assert_eq!(close_code(&c), Some(1002));
    }
}

#[test]
fn a_bomb_is_a_message_over_the_limit() {
    let limits = Limits { message_bytes: 2_000, ..Limits::default() };
    let padded = |len: usize| format!(r#"{{"type":"ping","x":"{}"}}"#, "x".repeat(len - 22));
    let mut c = live(limits.clone(), OFFER);
    c.handle_bytes(at(0), &compressed(&padded(2_000)));
    assert_eq!((c.phase(), close_code(&c)), (PhaseName::Live, None));
    for len in [2_001, 1 << 20] {
        let mut c = live(limits.clone(), OFFER);
        c.handle_bytes(at(0), &compressed(&padded(len)));
        assert_eq!(close_code(&c), Some(1009), "{len}");
    }
    let mut c = live(limits, OFFER);
    c.handle_bytes(at(0), &[0xc1, 0x82, 0, 0, 0, 0, 0x06, 0x00]);
    assert_eq!(close_code(&c), Some(1007));
}

#[test]
fn what_comes_behind_our_close_is_not_inflated() {
    let mut c = live(Limits::default(), OFFER);
    c.close(at(0), crate::error::CloseReason::Restart);
    let answer = flush(&mut c, at(0));
    // Whether they could be or not, and in however many pieces.
    let (bomb, mut broken) = (compressed(&"x".repeat(1 << 20)), masked(Opcode::Text, &[0x06, 0x00]));
    broken[0] |= 0x40;
    for bytes in [&bomb, &broken] {
        for chunk in [bytes.len(), 3] {
            bytes.chunks(chunk).for_each(|piece| assert_eq!(c.handle_bytes(at(0), piece), piece.len()));
        }
    }
    let kept = "Deflate(0 compressors, 0 inflators)";
    assert_eq!((c.phase(), format!("{:?}", c.settings.deflate)), (PhaseName::Closing, kept.to_owned()));
    assert!(c.transmit().is_empty());
    // The peer's close still counts.
    take(&mut c, &masked(Opcode::Close, &answer[2..4]));
    assert_eq!(c.phase(), PhaseName::Closed);
}

#[test]
fn what_is_half_received_of_a_compressed_message_counts() {
    let mut c = live(Limits { message_bytes: 64_000, ..Limits::default() }, OFFER);
    assert_eq!(c.half_received().0, 0);
    let mut bytes = masked(Opcode::Text, &vec![0; 40_000]);
    bytes[0] |= 0x40;
    c.handle_bytes(at(0), &bytes[..30_000]);
    let (held, most) = c.half_received();
    assert!((29_000..=most).contains(&held) && most == 64_000 + 62 + 64, "{held} of {most}");
}

#[test]
fn a_header_that_breaks_the_grammar_is_refused() {
    let mut c = fresh(Limits::default());
    take(&mut c, &request("Sec-WebSocket-Extensions: permessage-deflate;\r\n"));
    assert!(c.transmit().starts_with(b"HTTP/1.1 400 "));
}
