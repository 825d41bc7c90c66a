//! Limits of size and rate, each at n and n + 1.

use super::harness::{Stage, at, at_stage, bearer, close_code, flush, fresh, grant, live, masked, request, take, text};
use crate::codec::frame::{Opcode, encode_header};
use crate::connection::{Connection, ConnectionEvent, PhaseName};
use crate::error::CloseReason;
use crate::limits::Limits;

/// A JSON object of exactly `bytes` bytes.
fn padded(start: &str, bytes: usize) -> String {
    let object = format!("{{{start},\"x\":\"{}\"}}", "x".repeat(bytes - start.len() - 9));
    assert_eq!(object.len(), bytes);
    object
}

/// Verified by its header, so that the first frame needs no token.
fn greeted(limits: Limits) -> Connection {
    let mut c = fresh(limits);
    take(&mut c, &bearer());
    c.handle_verified(at(0), Ok(grant()));
    flush(&mut c, at(0));
    c
}

#[test]
fn a_first_frame_of_hello_bytes_is_taken_and_of_one_more_is_not() {
    let limits = Limits { hello_bytes: 100, ..Limits::default() };
    let hello = r#""type":"hello","token":"aa.bb.cc""#;
    let mut c = at_stage(Stage::AwaitHello, limits.clone());
    c.handle_bytes(at(0), &text(&padded(hello, 100)));
    assert!(matches!(c.poll_event(), Some(ConnectionEvent::Verify(_))));
    let mut c = at_stage(Stage::AwaitHello, limits);
    c.handle_bytes(at(0), &text(&padded(hello, 101)));
    assert_eq!(close_code(&c), Some(1009));
    assert!(c.poll_event().is_none());
}

#[test]
fn whoever_is_known_by_the_upgrade_may_name_as_many_topics_as_a_message_holds() {
    let limits = Limits { hello_bytes: 100, message_bytes: 200, ..Limits::default() };
    let mut c = greeted(limits.clone());
    c.handle_bytes(at(0), &text(&padded(r#""type":"hello""#, 200)));
    assert!(matches!(c.poll_event(), Some(ConnectionEvent::Attach(_))));
    let mut c = greeted(limits);
    c.handle_bytes(at(0), &text(&padded(r#""type":"hello""#, 201)));
    assert_eq!(close_code(&c), Some(1009));
}

#[test]
fn a_message_of_message_bytes_is_taken_and_of_one_more_is_not() {
    // Above the limit of the first frame, which does not count any more.
    let limits = Limits { hello_bytes: 100, message_bytes: 200, ..Limits::default() };
    let mut c = live(limits.clone());
    c.handle_bytes(at(0), &text(&padded(r#""type":"ping""#, 200)));
    assert_eq!((c.phase(), close_code(&c)), (PhaseName::Live, None));
    c.handle_bytes(at(0), &text(&padded(r#""type":"ping""#, 201)));
    assert_eq!(close_code(&c), Some(1009));
}

#[test]
fn a_message_that_is_too_large_is_refused_at_its_header() {
    for claimed in [Limits::default().message_bytes + 1, 1 << 40] {
        let mut c = live(Limits::default());
        let mut header = Vec::new();
        encode_header(&mut header, Opcode::Text, claimed, Some([1, 2, 3, 4]));
        c.handle_bytes(at(0), &header);
        assert_eq!((close_code(&c), c.close_reason()), (Some(1009), Some(CloseReason::TooBig)));
        assert_eq!(c.wire.half_received().0, 0, "nothing is allocated for a claim");
    }
}

#[test]
fn fragments_count_together() {
    for (rest, code) in [(100, None), (101, Some(1009))] {
        let limits = Limits { message_bytes: 200, ..Limits::default() };
        let mut c = live(limits);
        let mut first = masked(Opcode::Text, padded(r#""type":"ping""#, 100).as_bytes());
        first[0] &= 0x7f;
        let mut last = masked(Opcode::Text, &vec![b' '; rest]);
        last[0] = 0x80;
        c.handle_bytes(at(0), &[first, last].concat());
        assert_eq!(close_code(&c), code);
    }
}

#[test]
fn a_burst_of_n_messages_is_taken_and_one_more_is_not() {
    let limits = Limits { message_burst: 5, messages_per_second: 10, ..Limits::default() };
    let ping = text(r#"{"type":"ping"}"#);
    let mut c = live(limits);
    c.handle_bytes(at(0), &ping.repeat(5));
    assert_eq!(c.phase(), PhaseName::Live);
    c.handle_bytes(at(99_999), &masked(Opcode::Ping, b""));
    assert_eq!(c.phase(), PhaseName::Live, "control frames are no messages");
    c.handle_bytes(at(100_000), &ping);
    assert_eq!(c.phase(), PhaseName::Live, "the rate has earned one");
    c.handle_bytes(at(199_999), &ping);
    assert_eq!(close_code(&c), Some(4002));
}

#[test]
fn messages_that_make_no_sense_count_for_the_rate() {
    let mut c = live(Limits { message_burst: 2, messages_per_second: 1, ..Limits::default() });
    c.handle_bytes(at(0), &text("[]").repeat(3));
    assert_eq!(c.close_reason(), Some(CloseReason::RateLimited));
}

#[test]
fn a_head_of_handshake_bytes_is_taken_and_of_one_more_is_not() {
    let plain = request("").len();
    let limits = Limits { handshake_bytes: plain + 50, ..Limits::default() };
    for (pad, status) in [(50, 101), (51, 431)] {
        let more = format!("X: {}\r\n", "x".repeat(pad - 5));
        for chunk in [1, 7, 10_000] {
            let mut c = fresh(limits.clone());
            let head = request(&more);
            assert_eq!(head.len(), plain + pad);
            let used: usize = head.chunks(chunk).map(|bytes| c.handle_bytes(at(0), bytes)).sum();
            assert_eq!((used, answer(&c)), (head.len(), status), "{chunk}");
        }
    }
}

#[test]
fn a_head_that_never_ends_is_refused_once_it_cannot_fit() {
    let mut c = fresh(Limits { handshake_bytes: 1_000, ..Limits::default() });
    c.handle_bytes(at(0), &[b'x'; 999]);
    assert_eq!(c.phase(), PhaseName::Head);
    assert_eq!(c.handle_bytes(at(0), &[b'x'; 100_000]), 100_000, "the rest is dropped");
    assert_eq!(answer(&c), 431);
}

#[test]
fn n_headers_are_taken_and_one_more_is_not() {
    let own = 5;
    let limits = Limits { handshake_headers: own + 3, ..Limits::default() };
    for (more, status) in [(3, 101), (4, 431)] {
        let mut c = fresh(limits.clone());
        c.handle_bytes(at(0), &request(&"X: y\r\n".repeat(more)));
        assert_eq!(answer(&c), status);
    }
}

#[test]
fn a_refusal_that_is_set_answers_upgrades_and_nothing_else() {
    let refusal = crate::codec::upgrade::Refusal::Unavailable { retry_after_secs: 5 };
    let mut c = fresh(Limits::default());
    c.refuse_upgrades(refusal);
    c.handle_bytes(at(0), &request(""));
    assert_eq!(answer(&c), 503);
    let mut c = fresh(Limits::default());
    c.refuse_upgrades(refusal);
    c.handle_bytes(at(0), b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody");
    assert_eq!(c.phase(), PhaseName::Handoff);
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    let mut c = at_stage(Stage::Live, Limits::default());
    c.handle_bytes(at(0), &text(r#"{"type":"ping"}"#));
    flush(&mut c, at(0));
    assert!(c.wire.is_idle() && c.transmit().is_empty());
}

/// The status of the HTTP answer that waits.
fn answer(c: &Connection) -> u16 {
    let line = std::str::from_utf8(c.transmit().get(9..12).unwrap_or_default()).unwrap();
    line.parse().unwrap_or_default()
}
