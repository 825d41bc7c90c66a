//! Credentials: kept while they hold, replaced when they are over.

use super::*;
use crate::protocol::Token;

const EXPIRING: &str = r#"{"type":"auth_expiring","expires_in":30}"#;

fn refreshed(n: u32, rest: &str) -> String {
    format!(r#"{{"type":"reply","id":"refresh-{n}",{rest}}}"#)
}

fn refreshes(world: &mut World) -> Vec<String> {
    let token =
        |frame| if let ClientFrame::Refresh { token, .. } = frame { Some(token.as_str().to_owned()) } else { None };
    world.sent().into_iter().filter_map(token).collect()
}

fn refuse(why: &str) -> Result<Credentials, TokenError> {
    Err(TokenError::Refused(why.into()))
}

#[test]
fn a_new_token_is_shown_ahead_of_the_end_and_with_the_next_socket() {
    let mut world = World::live();
    world.take();
    world.frame(EXPIRING);
    assert_eq!(world.give("dd.ee.ff"), Wanted::Renewal);
    assert_eq!(refreshes(&mut world), ["dd.ee.ff"]);
    world.frame(&refreshed(1, r#""ok":true,"expires_in":60"#));
    assert_eq!(world.take(), [], "that is between the client and the server");
    world.cut();
    world.wait();
    assert_eq!(world.come_in().token.unwrap().as_str(), "dd.ee.ff");
}

#[test]
fn a_token_that_comes_while_there_is_no_connection_is_the_next_ones() {
    for lost_first in [true, false] {
        let mut world = World::live();
        world.frame(EXPIRING);
        world.cut();
        if lost_first {
            world.give("dd.ee.ff");
            world.wait();
            assert_eq!(world.come_in().token.unwrap().as_str(), "dd.ee.ff");
            assert!(refreshes(&mut world).is_empty());
        } else {
            world.wait();
            assert_eq!(world.open().token.unwrap().as_str(), "aa.bb.cc");
            world.give("dd.ee.ff");
            assert!(refreshes(&mut world).is_empty(), "nothing precedes the welcome");
            world.frame(&welcome(3, 30.0, 5.0));
            assert_eq!(refreshes(&mut world), ["dd.ee.ff"]);
        }
    }
}

#[test]
fn a_source_with_nothing_to_renew_with_is_not_asked_again_and_the_application_hears_of_it() {
    let mut world = World::live();
    world.take();
    world.frame(EXPIRING);
    let is_notice =
        |told: &[Update]| matches!(told, [Update::Frame(frame)] if matches!(**frame, ServerFrame::AuthExpiring { .. }));
    assert_eq!(world.take(), []);
    world.answer(refuse("there is one"));
    assert!(is_notice(&world.take()));
    // The next time that it is reckoned with.
    world.sleep(Duration::from_secs(15));
    assert!(world.asked.is_empty() && is_notice(&world.take()));
    world.client.refresh(world.now(), Token::new("dd.ee.ff"));
    assert_eq!(refreshes(&mut world), ["dd.ee.ff"]);
}

#[test]
fn an_ask_that_never_settles_is_given_up_and_its_late_answer_is_nobodys() {
    let mut world = World::new();
    let (late, _) = world.asked.pop_front().unwrap();
    world.sleep(Duration::from_millis(29_999));
    assert_eq!(world.client.state(), &State::Connecting);
    world.sleep(Duration::from_millis(1));
    assert!(matches!(world.client.state(), State::Waiting { why: Trouble::NoCredentials(_), .. }));
    world.client.handle_credentials(world.now(), late, Ok(Credentials::token("late")));
    world.wait();
    world.give("aa.bb.cc");
    assert_eq!(world.come_in().token.unwrap().as_str(), "aa.bb.cc");
    // Ahead of an expiry it holds up nothing, and the next time it is asked again.
    world.take();
    world.frame(EXPIRING);
    world.sleep(Duration::from_secs(15));
    world.bytes(&[0x89, 0]);
    world.sleep(Duration::from_secs(15));
    assert!(matches!(&world.take()[..], [Update::NoToken(_)]));
    world.asked.clear();
    world.frame(EXPIRING);
    world.sleep(Duration::from_secs(1));
    assert_eq!(world.client.state(), &State::Live);
}

#[test]
fn a_token_that_is_over_is_not_shown_again() {
    let mut world = World::live();
    world.closed(4200);
    assert_eq!(world.give("aa.bb.cc"), Wanted::Another);
    let State::Waiting { failures: 2, why: Trouble::NoCredentials(why), .. } = world.client.state() else { panic!() };
    assert!(why.contains("no other yet"), "{why}");
    world.wait();
    assert_eq!(world.give("dd.ee.ff"), Wanted::Another);
    assert_eq!(world.come_in().token.unwrap().as_str(), "dd.ee.ff");
}

#[test]
fn where_there_is_no_other_token_the_end_is_the_close_code_s() {
    let mut world = World::live();
    world.closed(4200);
    world.answer(refuse("no"));
    assert_eq!(world.stopped().as_deref(), Some("the server closed the connection: 4200 token_expired"));
}

#[test]
fn bad_credentials_are_replaced_once_until_the_server_lets_the_client_in() {
    let bad = |world: &mut World| {
        world.open();
        world.closed(4400);
    };
    let mut world = World::new();
    for token in ["one", "two"] {
        world.give(token);
        bad(&mut world);
    }
    assert!(world.stopped().is_some_and(|why| why.contains("4400")));
    // The same again is not worth a try.
    let mut world = World::new();
    world.give("one");
    bad(&mut world);
    assert_eq!(world.give("one"), Wanted::Another);
    assert!(world.stopped().is_some_and(|why| why.contains("4400")));
    // Each welcome counts anew.
    let mut world = World::new();
    world.give("first");
    for round in 0..5 {
        bad(&mut world);
        world.give(&format!("good-{round}"));
        world.come_in();
        world.closed(4200);
        world.give(&format!("bad-{round}"));
        world.wait();
    }
    // The same where a proxy refuses the upgrade.
    let mut world = World::new();
    world.give("one");
    let attempt = world.opens.pop_front().unwrap();
    world.client.handle_open(world.now(), attempt, Ok(()));
    world.written();
    world.bytes(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(world.give("two"), Wanted::Another);
    world.come_in();
}

#[test]
fn an_expired_token_after_another_meets_the_back_off() {
    let mut world = World::new();
    world.give("0");
    let mut waited = Duration::ZERO;
    for n in 1..30 {
        world.open();
        world.closed(4200);
        world.give(&n.to_string());
        waited += world.wait();
    }
    assert!(waited > Duration::from_secs(60), "{waited:?}");
}

#[test]
fn each_socket_has_a_ticket_of_its_own() {
    let ticket = |text: &str| Ok(Credentials::ticket(text));
    let mut world = World::new();
    for name in ["t-1", "t-2", "t-3"] {
        assert_eq!(world.answer(ticket(name)), Wanted::Socket);
        let attempt = world.opens.pop_front().unwrap();
        assert!(world.client.handle_open(world.now(), attempt, Ok(())));
        let request = world.written();
        assert!(
            String::from_utf8(request.clone()).unwrap().starts_with(&format!("GET /ws?ticket={name} HTTP/1.1\r\n"))
        );
        world.bytes(&answer(&request));
        let hello = messages(&world.written());
        assert!(matches!(&hello[..], [Message::Text(hello)] if !hello.contains("token")), "{hello:?}");
        world.frame(&welcome(3, 30.0, 5.0));
        // No ticket renews anything.
        world.frame(EXPIRING);
        assert!(world.asked.is_empty());
        world.cut();
        world.wait();
    }
    // One that was got for a socket which never opened is old by the next.
    world.answer(ticket("t-4"));
    let attempt = world.opens.pop_front().unwrap();
    world.client.handle_open(world.now(), attempt, Err("no".into()));
    world.drain();
    world.wait();
    assert_eq!(world.answer(ticket("t 5")), Wanted::Socket);
    let attempt = world.opens.pop_front().unwrap();
    assert!(!world.client.handle_open(world.now(), attempt, Ok(())), "it cannot stand in a request");
}

#[test]
fn no_secret_is_shown() {
    let mut world = World::live();
    world.frame(EXPIRING);
    world.give("dd.ee.ff");
    let shown = format!("{:?} {:?} {:?}", world.client, world.client.keys, world.told);
    assert!(!shown.contains("aa.bb") && !shown.contains("dd.ee"), "{shown}");
}
