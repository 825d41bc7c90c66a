//! One-time tickets from their issue to the connection that came in by one.

use std::time::Duration;

use serde_json::Value;

use super::harness::{Pair, World, ident};
use crate::api::{Answer, Head};
use crate::auth::fake::FakeKeys;
use crate::auth::{AuthError, ClaimRules, Grant, NewToken, Scopes, Ticket};
use crate::hub::{Hub, HubConfig, TicketError};
use crate::id::TokenId;
use crate::limits::Limits;
use crate::protocol::RevokeTarget;

const HOUR: Duration = Duration::from_secs(3600);

fn grant(world: &World, ttl: Duration, token_id: Option<&str>) -> Grant {
    let expires = world.now().unix + ttl;
    Grant {
        issued_at: None,
        user: ident("ann"),
        expires,
        token_id: token_id.map(|id| TokenId::new(id).unwrap()),
        scopes: Scopes::default(),
    }
}

fn issued(world: &World, token_id: Option<&str>) -> Ticket {
    world.hub.issue_ticket(grant(world, HOUR, token_id)).unwrap().ticket
}

/// A client that shows this ticket and no token.
fn showing(world: &World, ticket: &Ticket) -> Pair {
    let mut config = world.config(String::new(), None, None);
    config.target = format!("/ws?ticket={}", ticket.to_text());
    world.connect_with(config)
}

fn asked(world: &World, headers: &[&[u8]]) -> Answer {
    let head = Head { method: "POST", path: "/v1/tickets", authorization: headers, content_type: None };
    world.hub.api(&head).map_or_else(|refusal| refusal, |call| call.answer(b""))
}

fn bearer(world: &World, scope: &str, token_id: Option<&str>) -> String {
    let issuer = FakeKeys::new(super::harness::SECRET, ClaimRules::default()).unwrap();
    let user = &ident("ann");
    let new = NewToken { user, issued_at: world.now().unix, ttl: HOUR, scope, token_id };
    format!("Bearer {}", issuer.issue(&new).unwrap())
}

#[test]
fn a_ticket_lets_in_once() {
    let world = World::new();
    let ticket = issued(&world, None);
    let ann = showing(&world, &ticket);
    assert_eq!(ann.session.as_ref().unwrap().user(), Some(&ident("ann")));
    let again = showing(&world, &ticket);
    assert_eq!((again.is_in(), again.closed_with()), (false, Some(4400)));
    assert!(ann.is_in());
    assert_eq!(world.hub.tickets(), 0);
}

#[test]
fn used_over_unknown_and_malformed_are_all_alike() {
    let world = World::new();
    let used = issued(&world, None);
    drop(showing(&world, &used));
    let over = issued(&world, None);
    world.clock.turn(Limits::default().ticket_life);
    let never = Ticket::parse(&"A".repeat(43)).unwrap();
    let bytes = |pair: &Pair| (pair.is_in(), pair.client.end().cloned());
    let unlike = bytes(&showing(&world, &used));
    assert_eq!(unlike.1, Some(Ok((4400, "bad_credentials".into()))));
    for ticket in [over, never] {
        assert_eq!(bytes(&showing(&world, &ticket)), unlike);
    }
    let mut config = world.config(String::new(), None, None);
    config.target = "/ws?ticket=nonsense".into();
    assert_eq!(bytes(&world.connect_with(config)), unlike);
    let last = issued(&world, None);
    world.clock.turn(Limits::default().ticket_life - Duration::from_micros(1));
    assert!(showing(&world, &last).is_in());
}

#[test]
fn a_ticket_is_used_up_by_an_upgrade_that_fails() {
    let world = World::new();
    let ticket = issued(&world, None);
    let mut session = world.hub.session().unwrap();
    let upgrade = format!(
        "GET /ws?ticket={} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        ticket.to_text()
    );
    crate::drive::Machine::handle_bytes(&mut session, world.now(), upgrade.as_bytes());
    drop(session);
    assert_eq!(showing(&world, &ticket).closed_with(), Some(4400));
    // One that is refused before credentials are looked at spends none.
    let ticket = issued(&world, None);
    let mut session = world.hub.session().unwrap();
    let foreign = upgrade.replace("Host: a", "Host: a\r\nOrigin: https://evil.example");
    crate::drive::Machine::handle_bytes(&mut session, world.now(), foreign.as_bytes());
    drop(session);
    assert!(showing(&world, &ticket).is_in());
}

#[test]
fn a_ticket_is_worth_what_its_grant_is_worth_when_it_is_shown() {
    let world = World::new();
    let revoked = issued(&world, Some("jti-1"));
    let kept = issued(&world, Some("jti-2"));
    world.hub.revoke(&ident("ann"), &RevokeTarget::Token(TokenId::new("jti-1").unwrap()), None);
    assert_eq!(showing(&world, &revoked).closed_with(), Some(4201));
    let mut ann = showing(&world, &kept);
    assert!(ann.is_in());
    // What came in by a ticket goes by its token id, too.
    assert_eq!(world.hub.revoke(&ident("ann"), &RevokeTarget::Token(TokenId::new("jti-2").unwrap()), None), 1);
    ann.pump();
    assert_eq!(ann.closed_with(), Some(4201));

    let short = world.hub.issue_ticket(grant(&world, Duration::from_secs(10), None)).unwrap();
    assert_eq!(short.expires_in, Duration::from_secs(15), "the leeway counts");
    let mut ann =
        showing(&world, &world.hub.issue_ticket(grant(&world, Duration::from_secs(10), None)).unwrap().ticket);
    world.sleep(Duration::from_secs(15), &mut [&mut ann]);
    assert_eq!(ann.closed_with(), Some(4200));
    assert_eq!(showing(&world, &short.ticket).closed_with(), Some(4200));
}

#[test]
fn what_is_over_gets_no_ticket_and_where_they_are_off_nobody_does() {
    let world = World::new();
    let late = grant(&world, HOUR, None);
    world.clock.turn(2 * HOUR);
    assert_eq!(world.hub.issue_ticket(late).unwrap_err(), TicketError::Over(AuthError::Expired));
    world.hub.revoke(&ident("ann"), &RevokeTarget::Token(TokenId::new("jti").unwrap()), None);
    let revoked = world.hub.issue_ticket(grant(&world, HOUR, Some("jti"))).unwrap_err();
    assert_eq!(revoked, TicketError::Over(AuthError::Revoked));

    let verifier = FakeKeys::new(super::harness::SECRET, ClaimRules::default()).unwrap();
    let (clock, entropy) = (world.clock.clone(), world.entropy.clone());
    let off = Hub::new(HubConfig::default(), std::sync::Arc::new(verifier), clock, entropy).unwrap().0;
    assert_eq!(off.issue_ticket(grant(&world, HOUR, None)).unwrap_err(), TicketError::Off);
    let world = World { hub: off, ..world };
    let answer = asked(&world, &[bearer(&world, "", None).as_bytes()]);
    assert_eq!((answer.status, asked(&world, &[]).status), (404, 404), "as if there were no such path");

    let world = World::new();
    world.hub.begin_shutdown();
    assert_eq!(world.hub.issue_ticket(grant(&world, HOUR, None)).unwrap_err(), TicketError::Draining);
    assert_eq!(asked(&world, &[bearer(&world, "", None).as_bytes()]).status, 503);
}

#[test]
fn tickets_are_bounded_in_all_and_per_user() {
    let limits = Limits { tickets: 3, tickets_per_user: 2, ..Limits::default() };
    let world = World::with(limits);
    let of = |sub: &str| Grant { user: ident(sub), ..grant(&world, HOUR, None) };
    let first = world.hub.issue_ticket(of("ann")).unwrap();
    world.hub.issue_ticket(of("ann")).unwrap();
    let busy = TicketError::Busy { retry_after: Duration::from_secs(30) };
    assert_eq!(world.hub.issue_ticket(of("ann")).unwrap_err(), busy);
    let answer = asked(&world, &[bearer(&world, "", None).as_bytes()]);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, &body["error"]["code"]), (429, &"busy".into()));
    assert!(answer.headers.contains(&("retry-after", "30".into())), "{:?}", answer.headers);
    world.hub.issue_ticket(of("bob")).unwrap();
    assert_eq!(world.hub.issue_ticket(of("eve")).unwrap_err(), busy);
    assert!(showing(&world, &first.ticket).is_in());
    world.hub.issue_ticket(of("eve")).unwrap();
    world.clock.turn(Duration::from_secs(30));
    for sub in ["ann", "bob", "eve"] {
        world.hub.issue_ticket(of(sub)).unwrap();
    }
}

#[test]
fn over_http_a_token_gives_a_ticket_with_its_scopes() {
    let world = World::new();
    let token = bearer(&world, "topic:news", Some("jti-9"));
    let answer = asked(&world, &[token.as_bytes()]);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, body["expires_in"].as_f64()), (200, Some(30.0)));
    assert!(answer.headers.contains(&("cache-control", "no-store".into())));
    let ticket = Ticket::parse(body["ticket"].as_str().unwrap()).unwrap();
    let mut ann = showing(&world, &ticket);
    ann.events();
    let (topic, resume) = ("news".parse().unwrap(), None);
    ann.send(&crate::protocol::ClientFrame::Subscribe { id: super::harness::frame_id("s"), topic, resume });
    assert!(ann.replies()[0].outcome.is_ok(), "the scopes are the token's");
    world.hub.revoke(&ident("ann"), &RevokeTarget::Token(TokenId::new("jti-9").unwrap()), None);
    ann.pump();
    assert_eq!(ann.closed_with(), Some(4201));
    assert_eq!(asked(&world, &[token.as_bytes()]).status, 401);
    assert_eq!((asked(&world, &[]).status, asked(&world, &[b"Basic eDp5"]).status), (401, 401));
}
