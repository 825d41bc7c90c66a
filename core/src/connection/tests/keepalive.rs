//! Heartbeats, blocked sockets, and what stops reading.

use std::time::Duration;

use super::harness::{after, at, close_code, flush, live, masked, messages, text};
use crate::codec::frame::{Message, Opcode};
use crate::connection::{Connection, PhaseName, TimerKind};
use crate::error::CloseReason;
use crate::limits::Limits;

const SECOND: Duration = Duration::from_secs(1);

fn secs(seconds: u64) -> crate::time::Now {
    at(seconds * 1_000_000)
}

fn next(c: &Connection) -> (u64, TimerKind) {
    let (due, kind) = c.poll_timeout().unwrap();
    (due.as_micros() / 1_000_000, kind)
}

/// The gate of the default limits: what events may take, one that overshoots, and the control frames.
fn gate(limits: &Limits) -> usize {
    (32 << 10) + limits.event_bytes + limits.control_bytes
}

#[test]
fn silence_is_pinged_and_then_ends() {
    let mut c = live(Limits::default());
    assert_eq!(next(&c), (25, TimerKind::Ping));
    c.handle_timeout(secs(25));
    assert!(matches!(messages(&flush(&mut c, secs(25)))[..], [Message::Ping(_)]));
    assert_eq!(next(&c), (35, TimerKind::Heartbeat));
    c.handle_timeout(secs(35));
    assert_eq!((close_code(&c), c.close_reason()), (Some(4004), Some(CloseReason::HeartbeatTimeout)));
}

#[test]
fn any_byte_of_the_peer_counts_as_life() {
    for bytes in [masked(Opcode::Pong, b""), text(r#"{"type":"ack","event_id":"1-1"}"#), vec![0x81]] {
        let mut c = live(Limits::default());
        c.handle_timeout(secs(25));
        flush(&mut c, secs(25));
        c.handle_bytes(secs(34), &bytes);
        c.poll_event();
        assert_eq!(next(&c), (59, TimerKind::Ping));
    }
}

#[test]
fn what_we_write_is_no_sign_of_the_peers_life() {
    let mut c = live(Limits::default());
    for second in 1..25 {
        c.send_encoded(secs(second), &[b"{}"]);
        flush(&mut c, secs(second));
    }
    assert_eq!(next(&c), (25, TimerKind::Ping));
}

#[test]
fn a_ping_behind_much_that_is_on_its_way_is_given_the_time_of_a_stall() {
    for (bytes, patience) in [(16 << 10, 10), ((16 << 10) + 1, 90)] {
        let mut c = live(Limits::default());
        // Read by the peer, so it is not on its way any more.
        c.send_encoded(secs(1), &[&vec![b' '; 64 << 10]]);
        flush(&mut c, secs(1));
        c.handle_bytes(secs(2), &masked(Opcode::Pong, b""));
        // Four bytes of the frame's head, two of the ping.
        c.send_encoded(secs(3), &[&vec![b' '; bytes - 6]]);
        flush(&mut c, secs(3));
        c.handle_timeout(secs(27));
        flush(&mut c, secs(27));
        assert_eq!(next(&c), (27 + patience, TimerKind::Heartbeat), "{bytes}");
    }
}

#[test]
fn while_output_is_blocked_the_write_stall_takes_the_heartbeats_place() {
    let mut c = live(Limits::default());
    c.send_encoded(secs(20), &[b"{}"]);
    assert_eq!(next(&c), (110, TimerKind::WriteStall));
    c.handle_timeout(secs(100));
    assert_eq!(messages(c.transmit()).len(), 1, "no ping is put behind what does not move");
    // One byte taken is progress.
    c.advance(secs(100), 1);
    assert_eq!(next(&c), (190, TimerKind::WriteStall));
    c.handle_timeout(secs(190));
    assert_eq!((c.phase(), c.close_reason()), (PhaseName::Closed, Some(CloseReason::WriteStalled)));
    assert!(c.transmit().is_empty(), "a close frame would wait for ever");
}

#[test]
fn a_stall_is_counted_from_the_first_byte_that_waits_and_not_from_later_ones() {
    let mut c = live(Limits::default());
    for second in 1..20 {
        c.send_encoded(secs(second), &[b"{}"]);
    }
    assert_eq!(next(&c), (91, TimerKind::WriteStall));
}

#[test]
fn once_a_blocked_socket_takes_its_output_the_heartbeat_is_due_again() {
    let mut c = live(Limits::default());
    c.send_encoded(secs(20), &[b"{}"]);
    flush(&mut c, secs(60));
    assert_eq!(next(&c), (25, TimerKind::Ping), "overdue: it goes out now");
    c.handle_timeout(secs(60));
    flush(&mut c, secs(60));
    assert_eq!(next(&c), (70, TimerKind::Heartbeat));
}

#[test]
fn a_ping_that_waited_for_the_socket_is_given_its_time_from_when_it_left() {
    let mut c = live(Limits::default());
    c.handle_timeout(secs(25));
    // The socket takes nothing for a minute, then everything.
    assert_eq!(next(&c), (115, TimerKind::WriteStall));
    c.advance(secs(80), 1);
    flush(&mut c, secs(85));
    assert_eq!(next(&c), (95, TimerKind::Heartbeat));
    // Later output is no reason to wait longer for the pong.
    c.send_encoded(secs(94), &[b"{}"]);
    flush(&mut c, secs(94));
    assert_eq!(next(&c), (95, TimerKind::Heartbeat));
}

#[test]
fn pongs_beyond_the_gate_stop_reading_until_the_socket_has_taken_enough() {
    let limits = Limits::default();
    let mut c = live(limits.clone());
    let ping = masked(Opcode::Ping, &[7; 125]);
    let flood = ping.repeat(4_000);
    let used = c.handle_bytes(at(0), &flood);
    assert!(used < flood.len() && used.is_multiple_of(ping.len()));
    let pong = 2 + 125;
    assert!((gate(&limits)..gate(&limits) + pong).contains(&c.transmit().len()), "{}", c.transmit().len());
    assert_eq!((c.wants_read(), c.handle_bytes(at(0), &flood)), (false, 0));
    let over = c.transmit().len() - gate(&limits);
    c.advance(at(0), over);
    assert!(!c.wants_read(), "at the gate");
    c.advance(at(0), 1);
    assert!(c.wants_read(), "below it");
    assert!(c.handle_bytes(at(0), &flood) > 0);
}

#[test]
fn errors_and_replies_count_for_the_gate_too() {
    for bytes in [text("[]"), text(r#"{"type":"ping","id":"1"}"#), text(r#"{"type":"dance","id":"1"}"#)] {
        let limits = Limits { message_burst: u32::MAX, messages_per_second: 1_000_000, ..Limits::default() };
        let mut c = live(limits.clone());
        let mut fed = 0;
        while c.wants_read() {
            assert_eq!(c.handle_bytes(at(0), &bytes), bytes.len());
            fed += 1;
        }
        assert!((gate(&limits)..gate(&limits) + 1_024).contains(&c.transmit().len()), "after {fed}");
        flush(&mut c, at(0));
        assert!(c.wants_read());
    }
}

#[test]
fn a_stream_that_is_behind_never_stops_reading() {
    for event_bytes in [1, 1_000, 64 << 10] {
        let limits = Limits { event_bytes, ..Limits::default() };
        let mut c = live(limits.clone());
        let event = vec![b'x'; event_bytes];
        while c.wants_events() {
            // As a session fills it: up to a whole read of the log after each look.
            for _ in 0..64.min((32 << 10) / event_bytes).max(1) {
                c.send_encoded(at(0), &[&event]);
            }
        }
        assert!(c.wants_read(), "{event_bytes}");
        let ping = masked(Opcode::Ping, b"still here");
        assert_eq!(c.handle_bytes(at(0), &ping), ping.len());
        assert_eq!(messages(c.transmit()).last(), Some(&pong(b"still here")));
    }
}

#[test]
fn events_are_taken_again_once_the_socket_has_moved() {
    let mut c = live(Limits::default());
    while c.wants_events() {
        c.send_encoded(at(0), &[&[b'x'; 1_000]]);
    }
    let over = c.transmit().len() - (32 << 10);
    c.advance(at(0), over);
    assert!(!c.wants_events());
    c.advance(at(0), 1);
    assert!(c.wants_events());
}

#[test]
fn a_clock_that_stands_still_fires_nothing_twice() {
    let mut c = live(Limits::default());
    let due = after(at(0), 25 * SECOND);
    c.handle_timeout(due);
    c.handle_timeout(due);
    assert_eq!(messages(&flush(&mut c, due)).len(), 1);
}

fn pong(payload: &[u8]) -> Message {
    Message::Pong(crate::codec::frame::ControlPayload::new(payload).unwrap())
}
