//! Who gets in, and who does not.

use std::time::Duration;

use super::harness::{World, ident};
use crate::limits::Limits;
use crate::protocol::{ClientFrame, ReplyOk, Token};

#[test]
fn a_wrong_expired_unsigned_or_missing_token_never_gets_a_welcome() {
    let world = World::new();
    let good = world.token(&ident("ann"), Duration::from_secs(60));
    let (head, signature) = good.rsplit_once('.').unwrap();
    let expired = world.token(&ident("ann"), Duration::from_secs(1));
    world.clock.turn(Duration::from_secs(10));
    let mut other: Vec<char> = signature.chars().collect();
    other[0] = if other[0] == 'A' { 'B' } else { 'A' };
    let forged: String = other.into_iter().collect();
    let cases = [
        (format!("{head}.{forged}"), 4400),
        (format!("{head}."), 4400),
        // {"alg":"none"} over the same claims.
        (format!("eyJhbGciOiJub25lIn0.{}.", head.split_once('.').unwrap().1), 4400),
        (String::new(), 4400),
        ("not a token".into(), 4400),
        (expired, 4200),
    ];
    for (token, code) in cases {
        let mut pair = world.connect(token.clone(), None, None);
        assert_eq!(pair.events(), [], "{token}");
        assert_eq!((pair.is_in(), pair.closed_with()), (false, Some(code)), "{token}");
    }
    assert!(world.connect(good, None, None).is_in());
    assert_eq!(world.hub.unauthenticated(), 0);
}

#[test]
fn at_expiry_and_leeway_the_connection_closes_and_gets_nothing_more() {
    let world = World::new();
    let token = world.token(&ident("ann"), Duration::from_secs(60));
    let mut ann = world.connect(token, None, None);
    world.sleep(Duration::from_secs(20), &mut [&mut ann]);
    world.sleep(Duration::from_micros(44_999_999), &mut [&mut ann]);
    assert!(ann.is_in());
    world.clock.turn(Duration::from_micros(1));
    let now = world.now();
    crate::drive::Machine::handle_timeout(ann.session.as_mut().unwrap(), now);
    world.hub.publish(&ident("ann"), None, "late", &1).unwrap();
    ann.pump();
    assert_eq!(ann.stream(), []);
    assert_eq!(ann.closed_with(), Some(4200));
}

#[test]
fn a_refresh_moves_the_expiry_and_never_backward() {
    let world = World::new();
    let token = world.token(&ident("ann"), Duration::from_secs(60));
    let mut ann = world.connect(token, None, None);
    ann.events();
    for (ttl, expected) in [(600, 600.0), (30, 600.0)] {
        let token = Token::new(&world.token(&ident("ann"), Duration::from_secs(ttl)));
        ann.send(&ClientFrame::Refresh { id: super::harness::frame_id("r"), token });
        let replies = ann.replies();
        let Ok(ReplyOk::Refreshed { expires_in }) = &replies[0].outcome else { panic!("{replies:?}") };
        assert_eq!(*expires_in, expected);
    }
}

#[test]
fn a_refresh_with_another_users_token_or_a_bad_one_changes_nothing() {
    let world = World::new();
    let mut ann = world.device("ann");
    ann.events();
    let foreign = world.token(&ident("bob"), Duration::from_secs(600));
    for token in [foreign.as_str(), "a.b.c", "", "x"] {
        ann.send(&ClientFrame::Refresh { id: super::harness::frame_id("r"), token: Token::new(token) });
        let replies = ann.replies();
        let error = replies[0].outcome.as_ref().unwrap_err();
        assert_eq!(error.code.as_str(), "refresh_refused", "{token}");
    }
    assert!(ann.is_in());
    world.hub.publish(&ident("ann"), None, "still", &1).unwrap();
    assert_eq!(ann.stream().len(), 1);
}

#[test]
fn connections_of_a_user_are_capped_at_n_and_counts_equal_the_sets() {
    let world = World::with(Limits { connections_per_user: 2, ..Limits::default() });
    let first = world.device("ann");
    let mut second = world.device("ann");
    let third = world.device("ann");
    assert_eq!(third.closed_with(), Some(4410));
    assert_eq!(world.hub.counts().connections, 2);
    second.cut();
    assert!(world.device("ann").is_in());
    assert!(first.is_in() && world.device("bob").is_in());
}

#[test]
fn sockets_and_strangers_are_capped_apart() {
    let world = World::with(Limits { connections: 3, unauthenticated: 2, ..Limits::default() });
    let ann = world.device("ann");
    let strangers = [world.hub.session().unwrap(), world.hub.session().unwrap()];
    assert!(world.hub.session().is_err());
    drop(strangers);
    assert_eq!((world.hub.sockets(), world.hub.unauthenticated()), (1, 0));
    assert!(world.hub.session().is_ok());
    drop(ann);
    assert_eq!(world.hub.sockets(), 0);
}

#[test]
fn a_session_that_is_resumed_supersedes_its_old_socket_and_no_other() {
    let world = World::new();
    let mut old = world.device("ann");
    let mut other = world.device("ann");
    let mut bob = world.device("bob");
    let (position, session) = (old.client.position(), old.client.session());
    // Bob names Ann's session: it is none of his.
    let bobs = world.resuming("bob", None, session);
    assert!(bobs.is_in() && old.is_in());
    let new = world.resuming("ann", position, session);
    old.pump();
    assert_eq!(old.closed_with(), Some(4409));
    other.pump();
    bob.pump();
    assert!(new.is_in() && other.is_in() && bob.is_in());
    assert_eq!(new.client.session(), session);
    assert_eq!(world.hub.counts().connections, 4);
}

#[test]
fn a_try_that_was_given_up_and_is_read_late_takes_nothing_from_the_one_after_it() {
    let world = World::new();
    let mut first = world.device("ann");
    let (position, session) = (first.client.position(), first.client.session());
    first.cut();
    // Accepted in this order; what the first of them says is read last.
    let given_up = world.hub.session().unwrap();
    let mut live = world.resuming("ann", position, session);
    let token = world.token(&ident("ann"), Duration::from_secs(60));
    let late = world.connect_on(given_up, world.config(token, position, session));
    assert_eq!((late.is_in(), late.closed_with()), (false, Some(4409)));
    live.pump();
    assert!(live.is_in() && world.hub.counts().connections == 1);
}

#[test]
fn a_claimed_user_that_is_not_the_verified_one_is_refused() {
    let world = World::new();
    let mut ann = world.device("ann");
    ann.events();
    let now = world.now();
    let mut wire = Vec::new();
    let text = br#"{"type":"user_message","id":"m","user_id":"bob","thread_id":"t","content":"hi"}"#;
    crate::codec::frame::encode(&mut wire, crate::codec::frame::Opcode::Text, text, Some([1, 2, 3, 4]));
    crate::drive::Machine::handle_bytes(ann.session.as_mut().unwrap(), now, &wire);
    let replies = ann.replies();
    assert_eq!(replies[0].outcome.as_ref().unwrap_err().code.as_str(), "identity_mismatch");
    assert!(ann.is_in());
}

#[test]
fn an_event_after_the_expiry_is_not_delivered_although_the_timer_is_late() {
    let world = World::new();
    let token = world.token(&ident("ann"), Duration::from_secs(60));
    let mut ann = world.connect(token, None, None);
    ann.events();
    // Pings keep it alive up to the expiry.
    world.sleep(Duration::from_secs(20), &mut [&mut ann]);
    world.sleep(Duration::from_secs(20), &mut [&mut ann]);
    world.clock.turn(Duration::from_secs(25));
    world.hub.publish(&ident("ann"), None, "late", &1).unwrap();
    // The wake-up for the event comes before the timer's.
    assert_eq!(ann.stream(), []);
    assert_eq!(ann.closed_with(), Some(4200));
}
