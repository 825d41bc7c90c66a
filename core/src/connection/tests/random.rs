//! Whatever comes in whatever order: one close at most, an end in bounded steps, bounded output, and no dependence on how
//! the bytes are cut.

use std::time::Duration;

use proptest::prelude::*;

use super::harness::{
    JUNK, Stage, after, at, at_stage, bearer, flush, fresh, grant, hello, is_over, masked, messages, peer_close,
    request, text,
};
use crate::auth::AuthError;
use crate::codec::frame::{Message, Opcode, is_close_code};
use crate::connection::{Connection, ConnectionEvent, PhaseName, TimerKind};
use crate::error::CloseReason;
use crate::limits::Limits;
use crate::protocol::ServerFrame;
use crate::time::Now;

#[derive(Clone, Debug)]
enum Op {
    Bytes(Vec<u8>),
    Verdict(bool),
    Attached,
    Wait(u64),
    Taken(usize),
    Event(usize),
    Close(usize),
    Drain(u64),
    Eof,
}

/// Pieces of a conversation, legal and not.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let json = prop_oneof![
        Just(r#"{"type":"ping","id":"1"}"#.to_owned()),
        Just(r#"{"type":"ack","event_id":"1-1"}"#.to_owned()),
        Just(r#"{"type":"refresh","id":"r","token":"aa.bb.cc"}"#.to_owned()),
        Just(r#"{"type":"dance"}"#.to_owned()),
        Just(r#"{"type":"user_message","id":"m","thread_id":"t","content":"hi","user_id":"bob"}"#.to_owned()),
        Just(r#"{"type":"user_message","id":"m","thread_id":"t","content":"hi"}"#.to_owned()),
        "[ -~]{0,20}",
    ];
    prop_oneof![
        6 => json.prop_map(|json| text(&json)),
        2 => Just(hello()),
        1 => Just(request("")),
        1 => Just(bearer()),
        3 => prop::collection::vec(any::<u8>(), 0..126).prop_map(|payload| masked(Opcode::Ping, &payload)),
        1 => Just(masked(Opcode::Pong, b"")),
        1 => Just(masked(Opcode::Binary, b"b")),
        1 => prop_oneof![Just(1000_u16), Just(1001), Just(4999), any::<u16>()].prop_map(peer_close),
        1 => Just(masked(Opcode::Close, b"")),
        1 => Just(masked(Opcode::Close, &[0x03])),
        1 => Just(masked(Opcode::Close, &1005_u16.to_be_bytes())),
        1 => Just(masked(Opcode::Text, &[0xff])),
        1 => Just(JUNK.to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => piece().prop_map(Op::Bytes),
        2 => any::<bool>().prop_map(Op::Verdict),
        2 => Just(Op::Attached),
        2 => (0_u64..40_000_000).prop_map(Op::Wait),
        3 => (0_usize..5_000).prop_map(Op::Taken),
        2 => (0_usize..5_000).prop_map(Op::Event),
        1 => (0..CloseReason::ALL.len()).prop_map(Op::Close),
        1 => (0_u64..40_000_000).prop_map(Op::Drain),
        1 => Just(Op::Eof),
    ]
}

fn stage() -> impl Strategy<Value = Stage> {
    (0..Stage::ALL.len()).prop_map(|n| Stage::ALL[n])
}

/// A connection with what its socket has taken.
struct Played {
    c: Connection,
    now: Now,
    wire: Vec<u8>,
}

impl Played {
    fn new(stage: Stage) -> Self {
        Self { c: at_stage(stage, Limits::default()), now: at(0), wire: Vec::new() }
    }

    fn taken(&mut self, n: usize) {
        let n = n.min(self.c.transmit().len());
        self.wire.extend_from_slice(&self.c.transmit()[..n]);
        self.c.advance(self.now, n);
    }

    /// What is asked of others by it.
    fn play(&mut self, op: &Op) -> Option<ConnectionEvent> {
        match op {
            Op::Bytes(bytes) => {
                self.c.handle_bytes(self.now, bytes);
            }
            Op::Verdict(true) => self.c.handle_verified(self.now, Ok(grant())),
            Op::Verdict(false) => self.c.handle_verified(self.now, Err(AuthError::Expired)),
            Op::Attached => self.c.handle_attached(self.now, &ServerFrame::Pong { id: None }),
            Op::Wait(micros) => {
                self.now = after(self.now, Duration::from_micros(*micros));
                self.c.handle_timeout(self.now);
            }
            Op::Taken(n) => self.taken(*n),
            Op::Event(bytes) => {
                if self.c.wants_events() {
                    self.c.send_encoded(self.now, &[&vec![b'x'; *bytes]]);
                }
            }
            Op::Close(n) => self.c.close(self.now, CloseReason::ALL[*n]),
            Op::Drain(micros) => self.c.drain_by(after(self.now, Duration::from_micros(*micros)).at),
            Op::Eof => self.c.handle_eof(),
        }
        self.c.poll_event()
    }

    fn play_all(&mut self, ops: &[Op]) {
        for op in ops {
            self.play(op);
        }
    }
}

/// What follows the HTTP answer, where there is one; nothing where it is a refusal.
fn frames(wire: &[u8]) -> &[u8] {
    if !wire.starts_with(b"HTTP/") {
        return wire;
    }
    let end = wire.windows(4).position(|four| four == b"\r\n\r\n").map_or(wire.len(), |at| at + 4);
    if wire.starts_with(b"HTTP/1.1 101 ") { &wire[end..] } else { &[] }
}

/// Jumps from deadline to deadline until it is over; answers in how many steps.
fn run_out(c: &mut Connection, mut now: Now, flushing: bool) -> usize {
    for step in 0..64 {
        if flushing {
            flush(c, now);
        }
        let Some((due, _)) = c.poll_timeout() else {
            assert!(is_over(c));
            return step;
        };
        now = after(now, due.saturating_since(now.at));
        c.handle_timeout(now);
        assert!(c.poll_timeout().is_none_or(|(next, _)| next > now.at), "time goes on after a deadline");
    }
    panic!("it never ends: {:?}", c.phase());
}

/// Feeds `chunks` as a session would, answering what is asked; tells what was written and asked.
fn converse(chunks: &[&[u8]], draining: bool) -> (Vec<u8>, Vec<String>) {
    let mut c = fresh(Limits::default());
    let (mut wire, mut asked, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    for chunk in chunks {
        waiting.extend_from_slice(chunk);
        loop {
            let used = c.handle_bytes(at(0), &waiting);
            waiting.drain(..used);
            let mut stuck = used == 0;
            while let Some(event) = c.poll_event() {
                stuck = false;
                match event {
                    ConnectionEvent::Reserve(_) => c.handle_reserved(at(0), Ok(())),
                    ConnectionEvent::Verify(_) | ConnectionEvent::TakeTicket(_) => {
                        c.handle_verified(at(0), Ok(grant()));
                    }
                    ConnectionEvent::Attach(_) => c.handle_attached(at(0), &ServerFrame::Pong { id: None }),
                    ConnectionEvent::Frame(frame) => asked.push(frame.encode()),
                    ConnectionEvent::Unreadable(error) => asked.push(error.to_string()),
                    ConnectionEvent::Handoff => asked.push("handoff".into()),
                }
            }
            if draining {
                wire.extend(flush(&mut c, at(0)));
            }
            if waiting.is_empty() || stuck {
                break;
            }
        }
    }
    asked.push(format!("{:?} {:?}", c.phase(), c.close_reason()));
    wire.extend_from_slice(c.transmit());
    (wire, asked)
}

fn cut<'a>(bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut chunks = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, more) = rest.split_at((*size).min(rest.len()));
        chunks.push(chunk);
        rest = more;
    }
    chunks
}

fn entry() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => Just([request(""), hello()].concat()),
        3 => Just([bearer(), text(r#"{"type":"hello"}"#)].concat()),
        1 => Just(Vec::new()),
        1 => Just(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
    ]
}

properties! {
    #[test]
    fn there_is_one_close_frame_at_most_with_a_legal_code_and_nothing_follows_it(
        stage in stage(), ops in prop::collection::vec(op(), 0..40), more in prop::collection::vec(op(), 0..20),
    ) {
        let mut played = Played::new(stage);
        played.play_all(&ops);
        played.play(&Op::Close(0));
        let reason = played.c.close_reason();
        played.play_all(&more);
        prop_assert_eq!(played.c.close_reason(), reason, "the first reason stays");
        let refused = played.wire.starts_with(b"HTTP/") && !played.wire.starts_with(b"HTTP/1.1 101 ");
        played.taken(usize::MAX);
        if refused || is_over(&played.c) {
            // What the end cut off may be half a frame.
            return Ok(());
        }
        let found = messages(frames(&played.wire));
        let closes = found.iter().filter(|message| matches!(message, Message::Close(..))).count();
        prop_assert!(closes <= 1, "{:?}", found);
        if let Some(at) = found.iter().position(|message| matches!(message, Message::Close(..))) {
            prop_assert_eq!(at + 1, found.len(), "{:?}", found);
            let Message::Close(code, _) = &found[at] else { unreachable!() };
            prop_assert!(code.is_none_or(is_close_code));
        }
    }

    /// Whoever is not let in is asked of nobody and told nothing, whatever it sends and whatever else happens; and nobody is let
    /// in whose token nobody has found to hold.
    #[test]
    fn nothing_is_dispatched_or_said_before_somebody_is_in(
        stage in 0_usize..5, holds in any::<bool>(), ops in prop::collection::vec(op(), 0..60),
    ) {
        let mut played = Played::new(Stage::ALL[stage]);
        for op in &ops {
            if matches!(op, Op::Attached) || (matches!(op, Op::Verdict(true)) && !holds) {
                continue;
            }
            match played.play(op) {
                Some(ConnectionEvent::Frame(frame)) => prop_assert!(false, "{frame:?} of nobody"),
                Some(ConnectionEvent::Unreadable(_)) => prop_assert!(false, "an answer to nobody"),
                Some(ConnectionEvent::Attach(_)) => prop_assert!(holds, "attached without a token that holds"),
                _ => {}
            }
            played.c.send_encoded(played.now, &[b"an event too early"]);
            played.c.send(played.now, &ServerFrame::Pong { id: None });
            prop_assert!(played.c.phase() != PhaseName::Live && !played.c.wants_events());
        }
        let over = is_over(&played.c);
        played.taken(usize::MAX);
        if !over {
            let found = messages(frames(&played.wire));
            let said = found.iter().any(|message| matches!(message, Message::Text(_) | Message::Binary(_)));
            prop_assert!(!said, "{:?}", found);
        }
    }

    #[test]
    fn nothing_is_dispatched_after_the_close(
        stage in stage(), ops in prop::collection::vec(op(), 0..20), more in prop::collection::vec(op(), 0..40),
    ) {
        let mut played = Played::new(stage);
        played.play_all(&ops);
        let asked = played.play(&Op::Close(0));
        prop_assert!(asked.is_none(), "{:?}", asked);
        for op in &more {
            let asked = played.play(op);
            prop_assert!(asked.is_none(), "{:?} asks {:?}", op, asked);
        }
    }

    #[test]
    fn without_input_every_state_comes_to_its_end_in_bounded_steps(
        stage in stage(), ops in prop::collection::vec(op(), 0..40), flushing in any::<bool>(),
    ) {
        let mut played = Played::new(stage);
        played.play_all(&ops);
        let steps = run_out(&mut played.c, played.now, flushing);
        prop_assert!(steps <= 8, "{} steps", steps);
        prop_assert!(played.c.transmit().is_empty());
    }

    /// A peer has so long for its request and so long for its hello, in however many pieces and however slowly they come.
    #[test]
    fn no_byte_puts_off_a_deadline_of_the_opening(
        start in entry(), paces in prop::collection::vec((1_usize..40, 0_u64..4_000_000), 1..30),
    ) {
        let limits = Limits::default();
        let (mut c, mut now, mut rest) = (fresh(limits.clone()), at(0), &start[..]);
        let mut upgraded = None;
        for (bytes, micros) in paces.iter().cycle() {
            let (piece, more) = rest.split_at((*bytes).min(rest.len()));
            c.handle_bytes(now, piece);
            rest = more;
            match c.poll_timeout() {
                Some((due, TimerKind::Handshake)) => prop_assert_eq!(due, at(0).at + limits.handshake_deadline),
                Some((due, TimerKind::Hello)) => {
                    let upgraded = *upgraded.get_or_insert(now.at);
                    prop_assert_eq!(due, upgraded + limits.hello_deadline);
                }
                _ => break,
            }
            if c.poll_event().is_some() || rest.is_empty() {
                break;
            }
            now = after(now, Duration::from_micros(*micros));
            c.handle_timeout(now);
        }
    }

    #[test]
    fn a_call_before_the_deadline_does_nothing(stage in stage(), ops in prop::collection::vec(op(), 0..40)) {
        let mut played = Played::new(stage);
        played.play_all(&ops);
        let before = (played.c.phase(), played.c.transmit().to_vec(), played.c.poll_timeout());
        let just_before = before.2.map(|(due, _)| due.saturating_since(played.now.at));
        if let Some(just_before) = just_before.and_then(|span| span.checked_sub(Duration::from_micros(1))) {
            played.c.handle_timeout(after(played.now, just_before));
        }
        prop_assert_eq!((played.c.phase(), played.c.transmit().to_vec(), played.c.poll_timeout()), before);
    }

    #[test]
    fn how_the_bytes_are_cut_never_matters(
        start in entry(), pieces in prop::collection::vec(piece(), 0..30),
        sizes in prop::collection::vec(1_usize..50, 1..8), draining in any::<bool>(),
    ) {
        let bytes = [start, pieces.concat()].concat();
        let whole = converse(&[&bytes], draining);
        prop_assert_eq!(&converse(&cut(&bytes, &sizes), draining), &whole);
        prop_assert_eq!(&converse(&cut(&bytes, &[1]), draining), &whole);
    }

    #[test]
    fn what_waits_is_bounded_whatever_a_peer_sends_that_never_reads(
        pieces in prop::collection::vec(piece(), 1..8), repeat in 1_usize..2_000,
    ) {
        let limits = Limits { messages_per_second: 1_000_000, message_burst: u32::MAX, ..Limits::default() };
        let gate = (32 << 10) + limits.event_bytes + limits.control_bytes;
        let mut c = at_stage(Stage::Live, limits);
        for _ in 0..repeat {
            for piece in &pieces {
                c.handle_bytes(at(0), piece);
                c.poll_event();
                // The largest answer to one frame is an error that echoes an `id`; a close may follow it.
                prop_assert!(c.transmit().len() <= gate + 2_048, "{}", c.transmit().len());
            }
        }
    }
}
