//! The machine behind the echo servers: messages come back as they are, and every way in which it ends.
#![cfg(not(loom))]

mod support;

use std::sync::Arc;
use std::task::Waker;

use support::{masked, upgrade};
use trunkline_core::codec::frame::{Assembler, Message, Opcode, Role};
use trunkline_core::connection::Echo;
use trunkline_core::drive::Machine;
use trunkline_core::limits::Limits;
use trunkline_core::time::{Now, Timestamp, UnixTime};

fn at(seconds: u64) -> Now {
    Now { at: Timestamp::from_micros(seconds * 1_000_000), unix: UnixTime::from_secs(1_800_000_000 + seconds) }
}

fn open(limits: Limits) -> Echo {
    let mut echo = Echo::new(at(0), Arc::new(limits));
    echo.handle_bytes(at(0), &upgrade());
    let answer = taken(&mut echo, at(0));
    assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(b"\r\n\r\n"));
    echo
}

/// What the socket takes: everything.
fn taken(echo: &mut Echo, now: Now) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let bytes = echo.transmit().to_vec();
        if bytes.is_empty() {
            return all;
        }
        echo.advance(now, bytes.len());
        all.extend(bytes);
        echo.poll_ready(now, Waker::noop());
    }
}

fn messages(mut wire: &[u8]) -> Vec<Message> {
    let mut assembler = Assembler::new(Role::Client, usize::MAX);
    std::iter::from_fn(|| assembler.push(&mut wire).unwrap()).collect()
}

fn close_code(wire: &[u8]) -> Option<u16> {
    match messages(wire).pop() {
        Some(Message::Close(code, _)) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_come_back_as_they_are_and_pings_and_closes_are_answered() {
    let mut echo = open(Limits::default());
    let close = masked(Opcode::Close, &[0x0f, 0xa1, b'x']);
    for bytes in [masked(Opcode::Text, "ä€".as_bytes()), masked(Opcode::Ping, b"p"), masked(Opcode::Binary, &[0xff])]
    {
        bytes.iter().for_each(|byte| echo.handle_bytes(at(0), &[*byte]));
    }
    echo.handle_bytes(at(0), &[close, masked(Opcode::Text, b"late")].concat());
    let answers = messages(&taken(&mut echo, at(0)));
    let texts: Vec<String> = answers.iter().map(|message| format!("{message:?}")).collect();
    assert_eq!(texts, ["Text(5 bytes)", "Pong(1 bytes)", "Binary(1 bytes)", "Close(Some(4001), 0 bytes)"]);
    assert_eq!(answers[0], Message::Text("ä€".into()));
    assert!(echo.is_closed());
}

#[test]
fn a_message_of_the_limit_comes_back_and_one_byte_more_does_not() {
    let limits = Limits { message_bytes: 70_000, ..Limits::default() };
    let mut echo = open(limits.clone());
    echo.handle_bytes(at(0), &masked(Opcode::Binary, &[7; 70_000]));
    assert_eq!(messages(&taken(&mut echo, at(0))), [Message::Binary(vec![7; 70_000])]);
    echo.handle_bytes(at(0), &masked(Opcode::Binary, &[7; 70_001]));
    assert_eq!(close_code(&taken(&mut echo, at(0))), Some(1009));
}

#[test]
fn what_is_wrong_is_said_at_its_first_byte_and_the_sending_side_ends_once() {
    for (wrong, code) in [(masked(Opcode::Text, b"ok\xff....")[..9].to_vec(), 1007), (vec![0x83], 1002)] {
        let mut echo = open(Limits::default());
        let padded = if wrong.len() == 1 { vec![wrong[0], 0x80] } else { wrong };
        echo.handle_bytes(at(0), &padded);
        assert!(!echo.wants_shutdown(), "the close frame comes first");
        assert_eq!(close_code(&taken(&mut echo, at(0))), Some(code));
        assert!(echo.wants_shutdown() && echo.wants_read() && !echo.is_closed());
        echo.handle_shutdown();
        echo.handle_bytes(at(0), &[0; 1_000]);
        assert!(!echo.wants_shutdown() && echo.transmit().is_empty());
        echo.handle_eof(at(0));
        assert!(echo.is_closed());
    }
}

#[test]
fn a_request_that_is_no_upgrade_is_refused() {
    for (request, answer) in [("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 426 "), ("\u{1}", "HTTP/1.1 400 ")] {
        let mut echo = Echo::new(at(0), Arc::default());
        echo.handle_bytes(at(0), request.as_bytes());
        assert!(taken(&mut echo, at(0)).starts_with(answer.as_bytes()));
        assert!(echo.is_closed());
    }
}

#[test]
fn a_peer_that_does_not_read_is_not_read_and_loses_nothing() {
    let mut echo = open(Limits::default());
    let control = Limits::default().control_bytes;
    // One read as it comes: everything that the gate leaves must wait inside.
    let pings: Vec<u8> = (0..2_000).flat_map(|n: u32| masked(Opcode::Ping, &[n.to_be_bytes(); 25].concat())).collect();
    echo.handle_bytes(at(0), &pings);
    assert!(!echo.wants_read());
    assert!(echo.transmit().len() <= control + 200, "{}", echo.transmit().len());
    let answers = messages(&taken(&mut echo, at(0)));
    assert_eq!(answers.len(), 2_000);
    assert!(echo.wants_read());
}

#[test]
fn every_phase_ends_by_its_deadline() {
    let limits = Limits::default();
    let mut head = Echo::new(at(0), Arc::default());
    assert_eq!(head.poll_timeout(), Some(Timestamp::ZERO + limits.handshake_deadline));
    head.handle_timeout(at(9));
    assert!(!head.is_closed());
    head.handle_timeout(at(10));
    assert!(head.is_closed() && head.poll_timeout().is_none());

    let mut silent = open(Limits::default());
    let silence = limits.heartbeat_interval + limits.heartbeat_timeout;
    assert_eq!(silent.poll_timeout(), Some(Timestamp::ZERO + silence));
    silent.handle_timeout(at(35));
    assert_eq!(close_code(&taken(&mut silent, at(35))), Some(4003));
    assert!(!silent.wants_shutdown());
    silent.handle_timeout(at(39));
    assert!(!silent.is_closed());
    silent.handle_timeout(at(40));
    assert!(silent.is_closed());

    let mut stalled = open(Limits::default());
    stalled.handle_bytes(at(1), &masked(Opcode::Ping, b"x"));
    assert_eq!(stalled.poll_timeout(), Some(at(1).at + limits.write_stall));
    stalled.handle_timeout(at(90));
    assert!(!stalled.is_closed());
    stalled.handle_timeout(at(91));
    assert!(stalled.is_closed());
    assert_eq!(stalled.poll_timeout(), None);
}
