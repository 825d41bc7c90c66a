//! Revocation of a user, a session, a token: what is closed, what stays out, for how long.

use super::*;
use crate::auth::AuthError;
use crate::client::ClientConfig;
use crate::error::CloseReason;
use crate::hub::tests::harness::{message, poll_now};
use crate::id::{SessionId, TokenId};
use crate::protocol::{ProducerHello, RevokeTarget};

const REVOKED: Option<u16> = Some(4201);

fn producer(world: &World, sub: &str) -> Pair {
    let hello = ProducerHello { id: frame_id("p"), users: None };
    let config = world.config(token(world, sub, 3_600, "publish", None), None, None);
    world.connect_with(ClientConfig { producer: Some(hello), ..config })
}

#[test]
fn all_of_a_user_is_closed_and_only_what_is_issued_later_comes_in() {
    let world = World::new();
    let mut before: Vec<Pair> = (0..3).map(|_| world.device("ann")).collect();
    before.push(producer(&world, "ann"));
    let mut others = [world.device("bob"), producer(&world, "agent")];
    let old = token(&world, "ann", 3_600, "admin", None);
    world.clock.turn(Duration::from_millis(300));
    let mut root = world.connect(token(&world, "root", 3_600, "admin", None), None, None);
    let all =
        ClientFrame::Revoke { id: frame_id("x"), user_id: "ann".into(), target: RevokeTarget::All, expires: None };
    root.send(&all);
    assert_eq!(root.replies()[0].outcome, Ok(ReplyOk::Closed { closed: 4 }));
    world.hub.publish(&ident("ann"), None, "late", &1).unwrap();
    for pair in &mut before {
        assert_eq!((pair.stream(), pair.closed_with()), (vec![], REVOKED));
    }
    others.iter_mut().for_each(Pair::pump);
    assert!(others.iter().all(Pair::is_in) && root.is_in());
    let session = before[0].client.session();

    // Of the same second: nobody can tell it from one that was issued before.
    let same_second = token(&world, "ann", 3_600, "", None);
    for token in [&old, &same_second] {
        assert_eq!(world.connect(token.clone(), None, None).closed_with(), REVOKED);
        assert_eq!(world.hub.grant(token).unwrap_err(), AuthError::Revoked);
    }
    assert_eq!(producer(&world, "ann").closed_with(), REVOKED);

    world.clock.turn(Duration::from_millis(700));
    let fresh = token(&world, "ann", 3_600, "", None);
    let mut ann = world.connect(fresh.clone(), None, session);
    assert!(ann.is_in() && world.hub.grant(&fresh).is_ok() && producer(&world, "ann").is_in());
    let new_session = ann.client.session();
    assert_ne!(new_session, session, "a session from before is forgotten");
    assert_eq!(refresh(&mut ann, &old), Err("refresh_refused".into()));
    assert!(ann.is_in());
    assert_eq!(world.connect(fresh, None, new_session).client.session(), new_session);
    assert_eq!(ann.events().len(), 0);
    assert_eq!(ann.closed_with(), Some(4409));
}

#[test]
fn a_producer_forgets_its_session_too() {
    let world = World::new();
    let mut before = producer(&world, "agent");
    let session = before.client.session();
    assert_eq!(world.hub.revoke(&ident("agent"), &RevokeTarget::All, None), 1);
    before.pump();
    world.clock.turn(Duration::from_secs(1));
    let again = |session: Option<SessionId>| {
        let hello = ProducerHello { id: frame_id("p"), users: None };
        let config = world.config(token(&world, "agent", 60, "publish", None), None, session);
        world.connect_with(ClientConfig { producer: Some(hello), ..config }).client.session()
    };
    let fresh = again(session);
    assert!(fresh.is_some() && fresh != session);
    assert_eq!(again(fresh), fresh);
}

#[test]
fn a_token_stays_out_until_it_has_expired_where_that_is_known_and_beyond_the_memory_where_not() {
    let limits = Limits { revocation_memory: Duration::from_secs(60), revocations: 4, ..Limits::default() };
    let world = World::sharded(limits, 1);
    let hour = |id: &str| token(&world, "ann", 3_600, "", Some(id));
    let (seen, unseen) = (hour("seen"), hour("unseen"));
    let ann = world.connect(seen.clone(), None, None);
    for id in ["seen", "unseen"] {
        world.hub.revoke(&ident("ann"), &RevokeTarget::Token(id.parse().unwrap()), None);
    }
    drop(ann);
    let is_out = |token: &str| world.hub.grant(token) == Err(AuthError::Revoked);
    world.clock.turn(Duration::from_secs(3_599));
    assert!(is_out(&seen) && is_out(&unseen), "an hour is longer than the memory");
    // Others need the room: what nobody waits for goes first, and what is known to be needed stays.
    for n in 0..3 {
        world.hub.revoke(&ident("ann"), &RevokeTarget::Token(format!("more-{n}").parse().unwrap()), None);
    }
    assert!(is_out(&seen) && !is_out(&unseen));
    let until = world.now().unix + Duration::from_secs(10);
    world.hub.revoke(&ident("bob"), &RevokeTarget::All, Some(until));
    let bobs = token(&world, "bob", 3_600, "", None);
    world.clock.turn(Duration::from_millis(14_999));
    assert!(is_out(&bobs));
    world.clock.turn(Duration::from_millis(1));
    assert!(is_out(&bobs), "the caller said that none lives longer, and nobody needs the room");
    let since = world.now().unix + Duration::from_secs(60);
    for n in 0..4 {
        world.hub.revoke(&ident("ann"), &RevokeTarget::Token(format!("last-{n}").parse().unwrap()), Some(since));
    }
    assert!(!is_out(&bobs), "it was over: it goes first");
}

#[test]
fn a_revocation_reaches_its_connections_at_ten_thousand_and_no_others() {
    const USERS: usize = 1_000;
    const DEVICES: usize = 10;
    let world = World::sharded(Limits::default(), 16);
    let name = |user: usize| format!("user-{user}");
    let mut pairs: Vec<Pair> = Vec::with_capacity(USERS * DEVICES);
    for user in 0..USERS {
        let token = token(&world, &name(user), 3_600, "", Some("jti"));
        pairs.extend((0..DEVICES).map(|_| world.connect(token.clone(), None, None)));
    }
    assert_eq!(world.hub.counts().connections, USERS * DEVICES);
    let session = pairs[0].client.session().unwrap();
    let cases = [
        (0, RevokeTarget::Session(session), 1),
        (1, RevokeTarget::Token("jti".parse().unwrap()), DEVICES),
        (2, RevokeTarget::All, DEVICES),
    ];
    let mut gone = 0;
    for (user, target, expected) in cases {
        let devices = user * DEVICES..(user + 1) * DEVICES;
        assert_eq!(world.hub.revoke(&ident(&name(user)), &target, None), expected as u32);
        pairs[devices.clone()].iter_mut().for_each(Pair::pump);
        let closed = pairs[devices].iter().filter(|pair| pair.closed_with() == REVOKED).count();
        gone += closed;
        assert_eq!((closed, world.hub.counts().connections), (expected, USERS * DEVICES - gone));
    }
    pairs.iter_mut().for_each(Pair::pump);
    assert_eq!(pairs.iter().filter(|pair| pair.is_in()).count(), USERS * DEVICES - gone);
}

#[test]
fn what_was_for_now_only_is_given_to_nobody_who_is_revoked_meanwhile() {
    let world = World::new();
    for target in [RevokeTarget::All, RevokeTarget::Token(TokenId::new("jti").unwrap())] {
        let mut ann = world.connect(token(&world, "ann", 60, "", Some("jti")), None, None);
        ann.events();
        world.hub.publish_ephemeral(&ident("ann"), None, "typing", &1).unwrap();
        assert_eq!(world.hub.revoke(&ident("ann"), &target, Some(world.now().unix)), 1);
        assert_eq!((ann.events(), ann.closed_with()), (vec![], REVOKED));
        world.clock.turn(Duration::from_secs(10));
    }
}

#[test]
fn what_a_device_had_said_before_it_was_revoked_is_not_acted_on_any_more() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let mut ann = world.device("ann");
    assert_eq!(world.hub.revoke(&ident("ann"), &RevokeTarget::All, None), 1);
    // It is read before the session has heard of it.
    ann.client.send(&message("late", None, "hello"));
    let (now, session) = (world.now(), ann.session.as_mut().unwrap());
    session.handle_bytes(now, ann.client.transmit());
    assert!(poll_now(requests.next()).is_pending());
    assert_eq!(ann.session.as_ref().unwrap().close_reason(), Some(CloseReason::TokenRevoked));
}
