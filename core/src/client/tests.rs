//! The client's machine against a server that tests script.

mod acks;

use std::sync::Arc;

use proptest::prelude::*;

use super::{Client, ClientConfig, ClientEvent, Fault};
use crate::codec::frame::{Assembler, Message, Opcode, Role, encode, encode_close};
use crate::codec::upgrade::{Head, check_upgrade, parse_head};
use crate::id::{ConnectionId, Entropy, SessionId};
use crate::limits::Limits;
use crate::protocol::{
    ClientFrame, Heartbeat, Mode, Position, ServerFrame, ServiceLevel, StreamEntry, StreamName, Welcome, WelcomeLimits,
};
use crate::sync::Lock;
use crate::time::{Now, Timestamp, UnixTime};

pub(super) const EPOCH: u64 = 7;

#[derive(Debug, Default)]
pub(super) struct Counting(Lock<u64>);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) {
        for byte in out {
            let mut count = self.0.lock();
            *count += 1;
            *byte = count.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0];
        }
    }
}

pub(super) fn secs(seconds: u64) -> Now {
    micros(seconds * 1_000_000)
}

pub(super) fn micros(micros: u64) -> Now {
    Now { at: Timestamp::from_micros(micros), unix: UnixTime::from_micros(1_800_000_000_000_000 + micros) }
}

fn fresh(resume: Option<Position>) -> Client {
    let config = ClientConfig {
        host: "a".into(),
        target: "/ws".into(),
        token: "aa.bb.cc".into(),
        session: None,
        resume,
        threads: Vec::new(),
        producer: None,
        name: "test".into(),
    };
    Client::new(secs(0), config, Arc::new(Counting::default())).unwrap()
}

/// Everything the client has for its socket.
pub(super) fn take(client: &mut Client) -> Vec<u8> {
    let bytes = client.transmit().to_vec();
    client.advance(bytes.len());
    bytes
}

/// The server's answer to the upgrade request in `bytes`.
pub(super) fn answer(bytes: &[u8]) -> Vec<u8> {
    match parse_head(bytes, &Limits::default()) {
        Ok(Head::Complete { request, .. }) => check_upgrade(&request).unwrap().response(Some("trunkline.v1")),
        other => panic!("{other:?}"),
    }
}

fn upgraded() -> Client {
    let mut client = fresh(None);
    let request = take(&mut client);
    client.handle_bytes(secs(0), &answer(&request));
    take(&mut client);
    client
}

fn live() -> Client {
    let mut client = upgraded();
    client.handle_bytes(secs(0), &text(&welcome(3, 30.0, 5.0)));
    assert!(matches!(client.poll_event(), Some(ClientEvent::Welcome(_))));
    client
}

pub(super) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, opcode, payload, None);
    out
}

pub(super) fn text(text: &str) -> Vec<u8> {
    frame(Opcode::Text, text.as_bytes())
}

pub(super) fn close(code: u16) -> Vec<u8> {
    let mut out = Vec::new();
    encode_close(&mut out, code, "why", None);
    out
}

pub(super) fn welcome(seq: u64, interval: f64, timeout: f64) -> String {
    let position = Position { epoch: EPOCH, seq };
    let entry =
        StreamEntry { stream: StreamName::User, event_id: position, head: position, mode: Mode::Live, lost: None };
    ServerFrame::Welcome(Box::new(Welcome {
        connection_id: ConnectionId::from_bits(1),
        session_id: SessionId::from_bits(2),
        user_id: "ann".into(),
        server_time: 1.0,
        expires_in: 3600.0,
        heartbeat: Heartbeat { interval, timeout },
        limits: WelcomeLimits { message_bytes: 65536, messages_per_second: 30, message_burst: 60, event_bytes: 65536 },
        service_level: ServiceLevel::Normal,
        streams: vec![entry],
    }))
    .encode()
}

pub(super) fn event(epoch: u64, seq: u64) -> String {
    format!(
        r#"{{"type":"custom","event_id":"{epoch}-{seq}","seq":{seq},"timestamp":1.5,"user_id":"ann","name":"n","data":1}}"#
    )
}

/// What a client wrote, as a server reads it.
pub(super) fn messages(bytes: &[u8]) -> Vec<Message> {
    let mut assembler = Assembler::new(Role::Server, usize::MAX);
    let mut rest = bytes;
    std::iter::from_fn(|| assembler.push(&mut rest).expect("the client writes legal frames")).collect()
}

fn fault(client: &Client) -> &Fault {
    client.end().expect("it ended").as_ref().expect_err("by a fault")
}

/// Seqs of the events that were delivered.
fn seqs(client: &mut Client) -> Vec<u64> {
    std::iter::from_fn(|| client.poll_event())
        .filter_map(|event| if let ClientEvent::Event(event) = event { Some(event.position.seq) } else { None })
        .collect()
}

#[test]
fn the_hello_carries_token_and_position_and_nothing_precedes_it() {
    let position = Position { epoch: EPOCH, seq: 3 };
    let mut client = fresh(Some(position));
    client.send(&ClientFrame::Ping { id: None });
    let request = take(&mut client);
    assert!(!String::from_utf8(request.clone()).unwrap().contains("aa.bb.cc"), "no token where proxies log");
    client.handle_bytes(secs(0), &answer(&request));
    client.send(&ClientFrame::Ping { id: None });
    match &messages(&take(&mut client))[..] {
        [Message::Text(hello)] => match ClientFrame::parse(hello).unwrap().frame {
            ClientFrame::Hello(hello) => {
                assert_eq!(hello.token.unwrap().as_str(), "aa.bb.cc");
                assert_eq!(hello.resume[&StreamName::User], position);
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_that_drips_in_is_taken_with_the_frames_behind_it() {
    let mut client = fresh(None);
    let wire = [answer(&take(&mut client)), text(&welcome(3, 30.0, 5.0)), text(&event(EPOCH, 4))].concat();
    for byte in wire {
        client.handle_bytes(secs(0), &[byte]);
    }
    assert_eq!(seqs(&mut client), [4]);
}

#[test]
fn an_upgrade_that_is_refused_or_forged_is_a_fault() {
    let mut client = fresh(None);
    client.handle_bytes(secs(0), b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    assert!(matches!(fault(&client), Fault::Upgrade(error) if error.status == Some(503)));
    let mut client = fresh(None);
    // The answer to somebody else's key.
    let mut other = Client::new(secs(0), client_config(), Arc::new(Fixed)).unwrap();
    let foreign = answer(&take(&mut other));
    client.handle_bytes(secs(0), &foreign);
    assert!(matches!(fault(&client), Fault::Upgrade(_)));
}

#[test]
fn before_the_welcome_nothing_else_is_taken() {
    let frames =
        [event(EPOCH, 4), r#"{"type":"pong"}"#.to_owned(), r#"{"type":"reply","id":"1","ok":true}"#.to_owned()];
    for first in frames {
        let mut client = upgraded();
        client.handle_bytes(secs(0), &text(&first));
        assert!(matches!(fault(&client), Fault::Protocol(_)), "{first}");
        assert_eq!(client.poll_event(), None);
    }
    let mut client = live();
    client.handle_bytes(secs(0), &text(&welcome(3, 30.0, 5.0)));
    assert!(matches!(fault(&client), Fault::Protocol(_)), "nor a second one");
}

#[test]
fn events_that_follow_are_delivered_once() {
    let mut client = live();
    for seq in 4..10 {
        client.handle_bytes(secs(0), &text(&event(EPOCH, seq)));
    }
    assert_eq!(seqs(&mut client), [4, 5, 6, 7, 8, 9]);
    assert_eq!(client.position(), Some(Position { epoch: EPOCH, seq: 9 }));
}

#[test]
fn a_gap_a_repeat_and_a_foreign_epoch_are_faults_that_close_with_1002() {
    let expected = Position { epoch: EPOCH, seq: 4 };
    for (epoch, seq) in [(EPOCH, 6), (EPOCH, 4), (EPOCH, 3), (EPOCH + 1, 5), (EPOCH - 1, 5)] {
        let mut client = live();
        client.handle_bytes(secs(0), &text(&event(EPOCH, 4)));
        let late = [text(&event(epoch, seq)), text(&event(EPOCH, 5))].concat();
        client.handle_bytes(secs(0), &late);
        assert_eq!(seqs(&mut client), [4], "{epoch}-{seq}");
        assert_eq!(*fault(&client), Fault::Gap { expected, follows: seq - 1 });
        assert!(!client.is_closed(), "the close frame goes out first");
        assert!(matches!(messages(&take(&mut client))[..], [Message::Close(Some(1002), _)]));
        assert!(client.is_closed());
        assert_eq!(client.position(), Some(expected), "to resume from");
    }
}

#[test]
fn a_move_of_the_position_is_followed_and_a_wrong_one_is_a_gap() {
    let moved = |prev, seq| {
        let event_id = Position { epoch: EPOCH, seq };
        text(&ServerFrame::Position { stream: StreamName::User, prev, event_id }.encode())
    };
    let mut client = live();
    client.handle_bytes(secs(0), &[moved(3, 5), text(&event(EPOCH, 6))].concat());
    assert_eq!((seqs(&mut client), client.end()), (vec![6], None));
    // An event of a kind that only newer servers know.
    let newer = format!(r#"{{"type":"agent_danced","event_id":"{EPOCH}-7","seq":7,"timestamp":1}}"#);
    client.handle_bytes(secs(0), &[text(&newer), text(&event(EPOCH, 8))].concat());
    assert_eq!((seqs(&mut client), client.end()), (vec![8], None));
    client.handle_bytes(secs(0), &moved(9, 10));
    assert!(matches!(fault(&client), Fault::Gap { follows: 9, .. }));
}

#[test]
fn silence_ends_at_the_interval_and_twice_the_timeout() {
    let mut client = live();
    // 30 s and twice 5 s, counted from the last byte of whatever kind.
    client.handle_bytes(secs(7), &frame(Opcode::Pong, b""));
    assert_eq!(client.poll_timeout(), Some(secs(47).at));
    client.handle_timeout(micros(46_999_999));
    assert_eq!(client.end(), None);
    client.handle_timeout(secs(47));
    assert_eq!(*fault(&client), Fault::Silent);
    assert!(client.is_closed() && client.poll_timeout().is_none());
}

#[test]
fn the_way_to_the_welcome_has_its_deadline_and_drips_do_not_extend_it() {
    let mut client = fresh(None);
    let answer = answer(&take(&mut client));
    client.handle_bytes(secs(14), &answer[..10]);
    assert_eq!(client.poll_timeout(), Some(secs(15).at));
    client.handle_bytes(secs(14), &answer[10..]);
    client.handle_bytes(secs(20), &frame(Opcode::Ping, b""));
    assert_eq!(client.poll_timeout(), Some(secs(29).at));
    client.handle_timeout(secs(29));
    assert_eq!(*fault(&client), Fault::Silent);
}

#[test]
fn a_ping_is_answered_with_its_payload_and_every_frame_has_a_mask_of_its_own() {
    let mut client = live();
    client.handle_bytes(secs(0), &[frame(Opcode::Ping, b"one"), frame(Opcode::Ping, b"one")].concat());
    let bytes = take(&mut client);
    let pongs = messages(&bytes);
    assert!(
        matches!(&pongs[..], [Message::Pong(a), Message::Pong(b)] if a.as_bytes() == b"one" && b.as_bytes() == b"one")
    );
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_ne!(first[2..6], second[2..6], "the masks");
    let mut masks: Vec<[u8; 4]> = Vec::new();
    for _ in 0..100 {
        client.send(&ClientFrame::Ping { id: None });
        let bytes = take(&mut client);
        masks.push(bytes[2..6].try_into().unwrap());
    }
    masks.sort_unstable();
    masks.dedup();
    assert_eq!(masks.len(), 100);
}

#[test]
fn a_close_is_echoed_once_and_says_how_it_ended() {
    for (wire, code) in [(close(1012), 1012), (close(4200), 4200), (frame(Opcode::Close, b""), 1005)] {
        let mut client = live();
        client.handle_bytes(secs(0), &[wire.clone(), text(&event(EPOCH, 4))].concat());
        client.handle_bytes(secs(0), &wire);
        let sent = messages(&take(&mut client));
        assert!(matches!(&sent[..], [Message::Close(echo, _)] if echo.unwrap_or(1005) == code), "{sent:?}");
        assert_eq!(client.end().unwrap().as_ref().unwrap().0, code);
        assert!(client.is_closed());
        assert!(seqs(&mut client).is_empty(), "nothing follows a close");
    }
}

#[test]
fn a_close_of_ones_own_waits_for_the_peers_until_its_deadline() {
    let mut client = live();
    client.close(secs(1));
    client.close(secs(2));
    assert!(matches!(messages(&take(&mut client))[..], [Message::Close(Some(1000), _)]));
    client.send(&ClientFrame::Ping { id: None });
    assert!(client.transmit().is_empty() && !client.is_closed());
    let mut other = live();
    other.close(secs(1));
    take(&mut other);
    other.handle_bytes(secs(2), &close(1000));
    assert!(other.is_closed() && other.end().unwrap().is_ok());
    client.handle_timeout(secs(1 + Limits::default().close_deadline.as_secs()));
    assert!(client.is_closed());
}

#[test]
fn the_end_of_the_socket_is_a_loss_unless_a_close_came_first() {
    let mut client = live();
    client.handle_eof();
    assert_eq!(*fault(&client), Fault::Lost);
    let mut client = live();
    client.handle_bytes(secs(0), &close(1000));
    client.handle_eof();
    assert!(client.end().unwrap().is_ok(), "the first end stays");
}

#[test]
fn events_that_nobody_takes_stop_reading() {
    let mut client = live();
    let mut seq = 3;
    while client.wants_read() {
        seq += 1;
        client.handle_bytes(secs(0), &text(&event(EPOCH, seq)));
    }
    assert_eq!(seq - 3, 1_024);
    client.poll_event();
    assert!(client.wants_read());
}

#[test]
fn a_heartbeat_that_makes_no_sense_does_not_end_a_connection() {
    for (interval, timeout) in [(1e300, 1.0), (-1.0, 0.0)] {
        let mut client = upgraded();
        client.handle_bytes(secs(0), &text(&welcome(0, interval, timeout)));
        client.handle_timeout(secs(3_600));
        assert!(client.end().is_none_or(|end| matches!(end, Err(Fault::Protocol(_)))), "{interval}");
    }
}

/// What a server may send, well or badly.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (3_u64..12).prop_map(|seq| text(&event(EPOCH, seq))),
        1 => (EPOCH - 1..EPOCH + 2, 0_u64..9).prop_map(|(epoch, seq)| text(&event(epoch, seq))),
        1 => (0_u64..9, 0_u64..12).prop_map(|(prev, seq)| {
            let event_id = Position { epoch: EPOCH, seq };
            text(&ServerFrame::Position { stream: StreamName::User, prev, event_id }.encode())
        }),
        1 => Just(text(&welcome(3, 30.0, 5.0))),
        1 => "[ -~]{0,30}".prop_map(|json| text(&json)),
        1 => prop::collection::vec(any::<u8>(), 0..126).prop_map(|payload| frame(Opcode::Ping, &payload)),
        1 => any::<u16>().prop_map(close),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

properties! {
    #[test]
    fn hostile_bytes_never_panic_and_never_deliver_twice_or_out_of_order(
        stage in 0..3, pieces in prop::collection::vec(piece(), 0..30), size in 1_usize..60,
    ) {
        let mut client = match stage {
            0 => fresh(None),
            1 => upgraded(),
            _ => live(),
        };
        let mut seen = Vec::new();
        for chunk in pieces.concat().chunks(size) {
            client.handle_bytes(secs(1), chunk);
            seen.extend(seqs(&mut client));
            client.handle_timeout(secs(1));
        }
        prop_assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", seen);
        client.handle_eof();
        prop_assert!(client.end().is_some());
        messages(&if stage == 0 { Vec::new() } else { take(&mut client) });
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), stage in 0..3) {
        let mut client = match stage {
            0 => fresh(None),
            1 => upgraded(),
            _ => live(),
        };
        client.handle_bytes(secs(1), &bytes);
        client.handle_timeout(secs(100_000));
        prop_assert!(client.is_closed() || client.end().is_some());
    }
}

fn client_config() -> ClientConfig {
    ClientConfig {
        host: "a".into(),
        target: "/ws".into(),
        token: String::new(),
        session: None,
        resume: None,
        threads: Vec::new(),
        producer: None,
        name: "t".into(),
    }
}

/// Always the same nonce.
struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, out: &mut [u8]) {
        out.fill(7);
    }
}

#[test]
fn debug_shows_no_token() {
    assert!(!format!("{:?} {:?}", fresh(None), client_config_with_token()).contains("aa.bb.cc"));
}

fn client_config_with_token() -> ClientConfig {
    ClientConfig { token: "aa.bb.cc".into(), ..client_config() }
}
