//! The life of a token on the socket: notice, refresh, expiry, revocation, and all of them at once.

mod races;
mod revocation;

use std::task::Waker;
use std::time::Duration;

use super::harness::{Pair, World, frame_id, ident};
use crate::drive::Machine;
use crate::limits::Limits;
use crate::protocol::{ClientFrame, ReplyOk, ServerFrame, Token};

const NOTHING: [f64; 0] = [];

/// A token of `sub` from now on.
fn token(world: &World, sub: &str, secs: u64, scope: &str, token_id: Option<&str>) -> String {
    world.scoped_token(&ident(sub), Duration::from_secs(secs), scope, token_id)
}

/// What a refresh comes to: the time that is left, or the error's code.
fn refresh(pair: &mut Pair, token: &str) -> Result<f64, String> {
    pair.send(&ClientFrame::Refresh { id: frame_id("r"), token: Token::new(token) });
    let replies = pair.replies();
    match &replies.last().expect("an answer").outcome {
        Ok(ReplyOk::Refreshed { expires_in }) => Ok(*expires_in),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code.as_str().to_owned()),
    }
}

/// What the server says of expiries in `secs` seconds; pings keep the line alive.
fn told_within(world: &World, pair: &mut Pair, secs: u64) -> Vec<f64> {
    let mut told = Vec::new();
    for _ in 0..secs {
        world.clock.turn(Duration::from_secs(1));
        let Some(session) = &mut pair.session else { break };
        session.handle_timeout(world.now());
        session.poll_ready(world.now(), Waker::noop());
        let wire = session.transmit();
        told.extend(
            String::from_utf8_lossy(wire)
                .split("\"auth_expiring\",\"expires_in\":")
                .skip(1)
                .map(|rest| rest.split('}').next().unwrap().parse::<f64>().unwrap()),
        );
        pair.pump();
    }
    told
}

#[test]
fn a_client_is_told_once_ahead_of_each_expiry_and_never_after_the_end() {
    let world = World::new();
    let mut ann = world.connect(token(&world, "ann", 600, "", None), None, None);
    assert_eq!(told_within(&world, &mut ann, 539), NOTHING);
    assert_eq!(told_within(&world, &mut ann, 1), [60.0]);
    assert_eq!(told_within(&world, &mut ann, 20), NOTHING);
    // It does not last as long: nothing new is to be told.
    assert_eq!(refresh(&mut ann, &token(&world, "ann", 10, "", None)), Ok(40.0));
    assert_eq!(told_within(&world, &mut ann, 9), NOTHING);
    // A short one: at half of its life.
    assert_eq!(refresh(&mut ann, &token(&world, "ann", 50, "", None)), Ok(50.0));
    assert_eq!(told_within(&world, &mut ann, 24), NOTHING);
    assert_eq!(told_within(&world, &mut ann, 1), [25.0]);
    assert_eq!(told_within(&world, &mut ann, 100), NOTHING);
    assert_eq!(ann.closed_with(), Some(4200));

    let mut bob = world.connect(token(&world, "bob", 600, "", None), None, None);
    bob.client.close(world.now());
    bob.pump();
    assert_eq!(told_within(&world, &mut bob, 600), NOTHING);
}

#[test]
fn what_comes_after_the_expiry_does_not_count_although_the_timer_is_late() {
    for late in [false, true] {
        let world = World::with(Limits { heartbeat_interval: Duration::from_secs(3_600), ..Limits::default() });
        let mut ann = world.connect(token(&world, "ann", 60, "", None), None, None);
        ann.events();
        let fresh = Token::new(&token(&world, "ann", 600, "", None));
        ann.client.send(&ClientFrame::Refresh { id: frame_id("r"), token: fresh });
        let bytes = ann.client.transmit().to_vec();
        world.clock.turn(Duration::from_micros(if late { 65_000_000 } else { 64_999_999 }));
        ann.session.as_mut().unwrap().handle_bytes(world.now(), &bytes);
        ann.client.advance(bytes.len());
        ann.pump();
        assert_eq!((ann.is_in(), ann.closed_with()), (!late, late.then_some(4200)));
    }
}

#[test]
fn what_a_shorter_lived_token_grants_alone_does_not_outlive_it() {
    let world = World::new();
    let topic = |name: &str| crate::id::TopicName::new(name).unwrap();
    let follows = |pair: &mut Pair, name: &str| {
        pair.send(&ClientFrame::Subscribe { id: frame_id("s"), topic: topic(name), resume: None });
        pair.replies()[0].outcome.is_ok()
    };
    let mut ann = world.connect(token(&world, "ann", 600, "topic:a topic:b", None), None, None);
    ann.events();
    assert_eq!(refresh(&mut ann, &token(&world, "ann", 60, "topic:b topic:c", None)), Ok(600.0));
    assert_eq!(["a", "b", "c"].map(|name| follows(&mut ann, name)), [false, true, false]);
    assert_eq!(refresh(&mut ann, &token(&world, "ann", 900, "topic:b topic:c", None)), Ok(900.0));
    assert_eq!(["a", "b", "c"].map(|name| follows(&mut ann, name)), [false, true, true]);
}

#[test]
fn a_client_is_asked_for_a_token_in_time_and_a_refresh_carries_it_over_the_expiry() {
    let world = World::new();
    let mut ann = world.connect(token(&world, "ann", 60, "", None), None, None);
    let mut asked = 0;
    for second in 0..600_u64 {
        world.sleep(Duration::from_secs(1), &mut [&mut ann]);
        for frame in ann.frames() {
            if matches!(frame, ServerFrame::AuthExpiring { .. }) {
                asked += 1;
                // Every second try fails.
                if asked % 2 == 0 {
                    ann.client.refresh(Token::new(&token(&world, "ann", 60, "", None)));
                    ann.pump();
                }
            }
        }
        assert!(ann.is_in(), "after {second} s");
    }
    assert!((20..=40).contains(&asked), "{asked}");
}

#[test]
fn a_client_that_has_only_the_same_token_asks_a_few_times_and_is_closed_by_its_expiry() {
    let world = World::new();
    let only = token(&world, "ann", 60, "", None);
    let mut ann = world.connect(only.clone(), None, None);
    let mut asked = 0;
    while ann.is_in() {
        world.sleep(Duration::from_millis(10), &mut [&mut ann]);
        ann.client.handle_timeout(world.now());
        for frame in ann.frames() {
            if matches!(frame, ServerFrame::AuthExpiring { .. }) {
                asked += 1;
                ann.client.refresh(Token::new(&only));
                ann.pump();
            }
        }
    }
    assert_eq!(ann.closed_with(), Some(4200), "and not for its rate");
    assert!((3..=12).contains(&asked), "{asked}");
}
