//! A refresh on the machine alone: one at a time, in time, and of the connection that asked for it.

use std::time::Duration;

use super::harness::{Stage, TTL, after, at, at_stage, bearer, close_code, flush, grant, live, messages, text};
use crate::auth::{AuthError, Grant};
use crate::codec::frame::Message;
use crate::connection::{Connection, ConnectionEvent};
use crate::limits::Limits;
use crate::time::{Now, Timestamp, UnixTime};

fn refresh(c: &mut Connection, now: Now, id: &str) {
    c.handle_bytes(now, &text(&format!(r#"{{"type":"refresh","id":"{id}","token":"aa.bb.cc"}}"#)));
}

/// What was said since the last call.
fn said(c: &mut Connection, now: Now) -> String {
    let texts = messages(&flush(c, now)).into_iter();
    texts.filter_map(|message| if let Message::Text(text) = message { Some(text) } else { None }).collect()
}

fn lasting(ttl: Duration) -> Grant {
    Grant { expires: at(0).unix + ttl, ..grant() }
}

#[test]
fn a_second_refresh_is_busy_while_the_first_is_being_verified() {
    let mut c = live(Limits::default());
    refresh(&mut c, at(0), "one");
    assert!(matches!(c.poll_event(), Some(ConnectionEvent::Verify(_))));
    // Whoever verifies takes its time, and the connection goes on meanwhile.
    refresh(&mut c, at(1), "two");
    assert!(c.poll_event().is_none());
    let busy = said(&mut c, at(1));
    assert!(busy.contains(r#""id":"two""#) && busy.contains(r#""code":"busy""#), "{busy}");
    c.handle_verified(at(2), Ok(lasting(TTL * 2)));
    let answer = said(&mut c, at(2));
    assert!(answer.contains(r#""id":"one""#) && answer.contains("expires_in"), "{answer}");
    // A verdict that nobody asked for, or that comes twice, changes nothing.
    c.handle_verified(at(3), Ok(lasting(TTL * 3)));
    assert_eq!((said(&mut c, at(3)), c.expires()), (String::new(), Some(at(0).unix + TTL * 2)));
    refresh(&mut c, at(4), "three");
    assert!(matches!(c.poll_event(), Some(ConnectionEvent::Verify(_))));
}

#[test]
fn a_verdict_after_the_expiry_or_the_close_prolongs_nothing() {
    let over = after(at(0), TTL + Limits::default().token_leeway);
    let mut c = live(Limits::default());
    let before = after(at(0), TTL);
    c.handle_timeout(after(at(0), Duration::from_secs(1)));
    refresh(&mut c, before, "r");
    assert!(matches!(c.poll_event(), Some(ConnectionEvent::Verify(_))));
    c.handle_verified(over, Ok(lasting(TTL * 9)));
    assert_eq!((close_code(&c), c.expires()), (Some(4200), None));
    for stage in Stage::ALL {
        let mut c = at_stage(stage, Limits::default());
        let before = (c.phase(), c.expires(), c.transmit().to_vec());
        if matches!(stage, Stage::VerifyUpgrade | Stage::VerifyHello) {
            continue;
        }
        for verdict in [Ok(lasting(TTL * 9)), Err(AuthError::Revoked)] {
            c.handle_verified(at(1), verdict);
            assert_eq!((c.phase(), c.expires(), c.transmit().to_vec()), before, "{stage:?}");
        }
    }
}

#[test]
fn another_users_token_is_refused_and_the_session_is_as_it_was() {
    let mut c = live(Limits::default());
    let others = [crate::id::UserId::new(None, "bob"), crate::id::UserId::new(Some("acme"), "ann")];
    for other in others.map(Result::unwrap) {
        refresh(&mut c, at(0), "r");
        c.poll_event();
        c.handle_verified(at(0), Ok(Grant { user: other, ..lasting(TTL * 2) }));
        assert!(said(&mut c, at(0)).contains("refresh_refused"));
        assert_eq!(c.expires(), Some(at(0).unix + TTL));
    }
}

#[test]
fn a_token_that_ends_before_hello_attaches_nobody() {
    let end = after(at(0), TTL + Limits::default().token_leeway);
    for (micros_before, comes_in) in [(1, true), (0, false)] {
        let mut c = at_stage(Stage::Head, Limits { hello_deadline: TTL * 2, ..Limits::default() });
        c.handle_bytes(at(0), &bearer());
        assert!(matches!(c.poll_event(), Some(ConnectionEvent::Verify(_))));
        c.handle_verified(at(0), Ok(grant()));
        flush(&mut c, at(0));
        let now = Now {
            at: Timestamp::from_micros(end.at.as_micros() - micros_before),
            unix: UnixTime::from_micros(end.unix.as_micros() - micros_before),
        };
        c.handle_bytes(now, &text(r#"{"type":"hello"}"#));
        let attaches = matches!(c.poll_event(), Some(ConnectionEvent::Attach(_)));
        assert_eq!((attaches, close_code(&c)), (comes_in, (!comes_in).then_some(4200)));
    }
}
