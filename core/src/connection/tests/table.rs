//! Every phase against every input.

use super::harness::{JUNK, Stage, after, at, at_stage, close_code, flush, grant, hello, masked, peer_close};
use crate::auth::AuthError;
use crate::codec::frame::Opcode;
use crate::codec::upgrade::Refusal;
use crate::connection::{Connection, PhaseName};
use crate::error::CloseReason;
use crate::limits::Limits;
use crate::protocol::ServerFrame;

/// What can happen to a connection.
#[derive(Clone, Copy, Debug)]
enum Input {
    Hello,
    Junk,
    Ping,
    Binary,
    PeerClose,
    Eof,
    Broken,
    Verified,
    NotVerified,
    Attached,
    /// The next deadline comes.
    Due,
    Close,
    Refuse,
    Drain,
    /// The socket takes all that waits.
    Flush,
    TakeHandoff,
    Reserved,
    NotReserved,
}

const INPUTS: [Input; 18] = [
    Input::Hello,
    Input::Junk,
    Input::Ping,
    Input::Binary,
    Input::PeerClose,
    Input::Eof,
    Input::Broken,
    Input::Verified,
    Input::NotVerified,
    Input::Attached,
    Input::Due,
    Input::Close,
    Input::Refuse,
    Input::Drain,
    Input::Flush,
    Input::TakeHandoff,
    Input::Reserved,
    Input::NotReserved,
];

/// The phase after each input, in the order of [`INPUTS`]; the letters are [`letter`]'s.
const TABLE: [(Stage, &str); 13] = [
    //                        hello, junk, ping, binary, close | eof, broken | ok, no, attached | due, close, refuse, drain, flush, handoff | room, none
    (Stage::Head, "CCCCC XX HHH XXCHHH HH"),
    (Stage::Reserving, "RRRRR XX RRR XXCRRR UC"),
    (Stage::VerifyUpgrade, "UUUUU XX ACU XXCUUU UU"),
    (Stage::AwaitHello, "VCACC XX AAA CCAAAA AA"),
    (Stage::VerifyHello, "VVVVV XX TCV CCVVVV VV"),
    (Stage::Attaching, "TTTTT XX TTL CCTTTT TT"),
    (Stage::Live, "LCLCC XX LLL LCLLLL LL"),
    (Stage::ClosingSent, "CCCCC XX CCC XCCCCC CC"),
    (Stage::ClosingAnswered, "CCCCC XX CCC XCCCXC CC"),
    (Stage::ClosingDeaf, "CCCCC XX CCC XCCCCC CC"),
    (Stage::ClosingHttp, "CCCCC XX CCC XCCCXC CC"),
    (Stage::Handoff, "OOOOO OO OOO OOOOOX OO"),
    (Stage::Closed, "XXXXX XX XXX XXXXXX XX"),
];

const fn letter(phase: PhaseName) -> char {
    match phase {
        PhaseName::Head => 'H',
        PhaseName::Reserving => 'R',
        PhaseName::VerifyUpgrade => 'U',
        PhaseName::AwaitHello => 'A',
        PhaseName::VerifyHello => 'V',
        PhaseName::Attaching => 'T',
        PhaseName::Live => 'L',
        PhaseName::Closing => 'C',
        PhaseName::Handoff => 'O',
        PhaseName::Closed => 'X',
    }
}

fn apply(c: &mut Connection, input: Input) {
    let now = at(0);
    let bytes = |c: &mut Connection, bytes: &[u8]| {
        c.handle_bytes(now, bytes);
    };
    match input {
        Input::Hello => bytes(c, &hello()),
        Input::Junk => bytes(c, &JUNK),
        Input::Ping => bytes(c, &masked(Opcode::Ping, b"")),
        Input::Binary => bytes(c, &masked(Opcode::Binary, b"")),
        Input::PeerClose => bytes(c, &peer_close(1000)),
        Input::Eof => c.handle_eof(),
        Input::Broken => c.handle_broken(),
        Input::Verified => c.handle_verified(now, Ok(grant())),
        Input::NotVerified => c.handle_verified(now, Err(AuthError::Expired)),
        Input::Attached => c.handle_attached(now, &ServerFrame::Pong { id: None }),
        Input::Due => {
            let due = c.poll_timeout().map(|(due, _)| due.saturating_since(now.at));
            c.handle_timeout(after(now, due.unwrap_or_default()));
        }
        Input::Close => c.close(now, CloseReason::Internal),
        Input::Refuse => c.refuse(now, Refusal::Forbidden),
        Input::Drain => c.drain_by(after(now, Limits::default().drain_deadline).at),
        Input::Flush => drop(flush(c, now)),
        Input::TakeHandoff => drop(c.take_handoff()),
        Input::Reserved => c.handle_reserved(now, Ok(())),
        Input::NotReserved => c.handle_reserved(now, Err(Refusal::Forbidden)),
    }
}

#[test]
fn every_input_in_every_phase_leads_where_the_table_says() {
    for (stage, row) in TABLE {
        let row = row.replace(' ', "");
        assert_eq!(row.len(), INPUTS.len(), "{stage:?}");
        for (input, expected) in INPUTS.into_iter().zip(row.chars()) {
            let mut c = at_stage(stage, Limits::default());
            apply(&mut c, input);
            assert_eq!(letter(c.phase()), expected, "{stage:?} on {input:?}");
        }
    }
    assert!(TABLE.iter().map(|(stage, _)| *stage).eq(Stage::ALL), "the table has every stage");
}

#[test]
fn a_phase_is_over_exactly_when_it_owns_no_deadline() {
    for stage in Stage::ALL {
        let c = at_stage(stage, Limits::default());
        let over = matches!(stage, Stage::Handoff | Stage::Closed);
        assert_eq!(c.poll_timeout().is_none(), over, "{stage:?}");
        assert_eq!(c.is_closed(), stage == Stage::Closed, "{stage:?}");
    }
}

#[test]
fn what_waits_for_an_answer_from_outside_takes_no_bytes_and_does_not_ask_for_them() {
    for stage in [Stage::Reserving, Stage::VerifyUpgrade, Stage::VerifyHello, Stage::Attaching, Stage::Handoff] {
        let mut c = at_stage(stage, Limits::default());
        assert_eq!(c.handle_bytes(at(0), b"more"), 0, "{stage:?}");
        assert!(!c.wants_read(), "{stage:?}");
    }
    for stage in [Stage::ClosingSent, Stage::ClosingAnswered, Stage::ClosingDeaf, Stage::ClosingHttp] {
        let mut c = at_stage(stage, Limits::default());
        assert!(c.wants_read(), "{stage:?}: what comes is read and dropped");
        assert_eq!(c.handle_bytes(at(0), &masked(Opcode::Ping, b"x")), 7, "{stage:?}");
    }
}

#[test]
fn only_a_live_connection_takes_events_and_frames() {
    for stage in Stage::ALL {
        let mut c = at_stage(stage, Limits::default());
        let before = c.transmit().len();
        c.send(at(0), &ServerFrame::Pong { id: None });
        let is_live = stage == Stage::Live;
        assert_eq!((c.wants_events(), c.transmit().len() > before), (is_live, is_live), "{stage:?}");
    }
}

#[test]
fn what_is_closed_before_the_upgrade_is_dropped_without_a_frame_and_after_it_with_one() {
    for stage in [Stage::Head, Stage::Reserving, Stage::VerifyUpgrade] {
        let mut c = at_stage(stage, Limits::default());
        c.close(at(0), CloseReason::Restart);
        assert_eq!((c.transmit(), c.close_reason()), (&b""[..], Some(CloseReason::Restart)), "{stage:?}");
    }
    for stage in [Stage::AwaitHello, Stage::VerifyHello, Stage::Attaching, Stage::Live] {
        for reason in CloseReason::ALL {
            let mut c = at_stage(stage, Limits::default());
            c.close(at(0), *reason);
            c.close(at(0), CloseReason::Internal);
            assert_eq!((close_code(&c), c.close_reason()), (Some(reason.code()), Some(*reason)), "{stage:?}");
        }
    }
}

#[test]
fn a_close_is_answered_with_its_code_and_an_empty_one_with_an_empty_one() {
    for code in [1000, 1001, 1008, 3000, 4999] {
        let mut c = at_stage(Stage::Live, Limits::default());
        c.handle_bytes(at(0), &peer_close(code));
        assert_eq!(close_code(&c), Some(code));
    }
    let mut c = at_stage(Stage::Live, Limits::default());
    c.handle_bytes(at(0), &masked(Opcode::Close, b""));
    assert_eq!(c.transmit(), [0x88, 0]);
    flush(&mut c, at(0));
    assert!(c.is_closed());
}

#[test]
fn nothing_is_parsed_after_a_framing_fault() {
    let mut c = at_stage(Stage::Live, Limits::default());
    let wire = [&masked(Opcode::Ping, b"1")[..], &JUNK, &masked(Opcode::Ping, b"2"), &peer_close(1000)].concat();
    assert_eq!(c.handle_bytes(at(0), &wire), wire.len());
    let before = c.transmit().to_vec();
    assert_eq!(super::harness::messages(&before).len(), 2, "a pong and a close");
    c.handle_bytes(at(0), &wire);
    assert_eq!(c.transmit(), before);
    flush(&mut c, at(0));
    assert_eq!(c.phase(), PhaseName::Closing, "the peer's end is still to come");
    assert!(c.poll_event().is_none());
}

#[test]
fn an_unverified_upgrade_is_refused_where_its_user_can_read_it() {
    let mut c = at_stage(Stage::VerifyUpgrade, Limits::default());
    c.handle_verified(at(0), Err(AuthError::Invalid("why")));
    assert!(c.transmit().starts_with(b"HTTP/1.1 401 "), "by the status with an Authorization header");
    let errors = [AuthError::Invalid("why"), AuthError::Expired, AuthError::Revoked, AuthError::Undecided];
    for (error, code) in errors.into_iter().zip([4400, 4200, 4201, 1013]) {
        let mut c = super::harness::fresh(Limits::default());
        let offer = format!("Sec-WebSocket-Protocol: trunkline.v1, bearer.{}\r\n", super::harness::TOKEN);
        super::harness::take(&mut c, &super::harness::request(&offer));
        c.handle_verified(at(0), Err(error));
        let wire = c.transmit();
        let end = wire.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert!(wire.starts_with(b"HTTP/1.1 101 "));
        assert_eq!(wire[end + 2..end + 4], u16::to_be_bytes(code), "by a close code in a browser");
    }
}

#[test]
fn what_cannot_be_decided_yet_is_to_be_tried_again() {
    let mut c = at_stage(Stage::VerifyUpgrade, Limits::default());
    c.handle_verified(at(0), Err(AuthError::Undecided));
    let head = String::from_utf8(c.transmit().to_vec()).unwrap();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("\r\nRetry-After: 5\r\n"), "{head}");

    let mut c = at_stage(Stage::VerifyHello, Limits::default());
    c.handle_verified(at(0), Err(AuthError::Undecided));
    assert_eq!(close_code(&c), Some(1013));

    let mut c = at_stage(Stage::Live, Limits::default());
    let refresh = format!(r#"{{"type":"refresh","id":"r","token":"{}"}}"#, super::harness::TOKEN);
    super::harness::take(&mut c, &super::harness::text(&refresh));
    c.handle_verified(at(0), Err(AuthError::Undecided));
    let wire = String::from_utf8_lossy(c.transmit()).into_owned();
    assert!(wire.contains(r#""code":"unavailable""#) && wire.contains(r#""temporary":true"#), "{wire}");
    assert_eq!(c.phase(), PhaseName::Live, "with the session as it was");
}

#[test]
fn debug_shows_neither_tokens_nor_payloads() {
    let bytes_of_token = format!("{:?}", super::harness::TOKEN.as_bytes()).replace(['[', ']'], "");
    for stage in Stage::ALL {
        let mut c = at_stage(stage, Limits::default());
        if stage == Stage::Head {
            let head = super::harness::bearer();
            c.handle_bytes(at(0), &head[..head.len() - 1]);
        }
        c.send_encoded(at(0), &[super::harness::TOKEN.as_bytes()]);
        let shown = format!("{c:?}");
        assert!(!shown.contains(super::harness::TOKEN) && !shown.contains(&bytes_of_token), "{stage:?}: {shown}");
    }
}
