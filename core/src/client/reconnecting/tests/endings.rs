//! What each end of a socket leads to.

use super::*;
use crate::error::{CloseReason, NextAction};

#[test]
fn a_close_code_leads_to_its_next_action() {
    for code in CloseReason::ALL.iter().map(|reason| reason.code()).chain([3000, 4099, 4199, 4299, 4399, 4499, 1005]) {
        let mut world = World::live();
        if code == 1005 {
            world.bytes(&[0x88, 0]);
            world.written();
        } else {
            world.closed(code);
        }
        let action = NextAction::for_code(code);
        let is_waiting = |state: &State| matches!(state, State::Waiting { why: Trouble::Closed { .. }, .. });
        match action {
            NextAction::Nothing | NextAction::Stop if code != 4400 => {
                assert!(world.stopped().is_some_and(|why| why.contains(&code.to_string())), "{code}");
                assert_eq!(world.client.poll_timeout(), None);
            }
            NextAction::Retry | NextAction::RetryLater | NextAction::RetryAfresh => {
                assert!(is_waiting(world.client.state()), "{code}: {:?}", world.client.state());
                world.wait();
                let hello = world.come_in();
                let afresh = action == NextAction::RetryAfresh;
                let expected = if afresh { Position::NONE } else { Position { epoch: 7, seq: 3 } };
                assert_eq!(hello.resume[&StreamName::User], expected, "{code}");
                assert_eq!(world.seqs().contains(&0), afresh, "{code}");
            }
            NextAction::NewToken | NextAction::Nothing | NextAction::Stop => {
                assert_eq!(world.give("dd.ee.ff"), Wanted::Another, "{code}");
            }
        }
    }
}

#[test]
fn a_revoked_session_is_not_named_again_and_the_position_is() {
    for (code, named) in [(4200, true), (4201, false)] {
        let mut world = World::live();
        world.closed(code);
        world.give("dd.ee.ff");
        world.wait();
        let hello = world.come_in();
        assert_eq!(hello.session_id.is_some(), named, "{code}");
        assert_eq!(hello.resume[&StreamName::User], Position { epoch: 7, seq: 3 });
        assert_eq!(hello.token.unwrap().as_str(), "dd.ee.ff");
    }
}

#[test]
fn a_server_that_goes_away_is_left_alone_as_long_as_it_asks() {
    let mut world = World::live();
    world.frame(r#"{"type":"going_away","deadline":1.0,"reconnect_after":4.25}"#);
    world.closed(1012);
    let wait = world.wait();
    assert!((4_250..=4_750).contains(&wait.as_millis()), "{wait:?}");
    // Only once.
    world.come_in();
    world.cut();
    assert!(world.wait() <= Duration::from_secs(1));
}

#[test]
fn a_refused_upgrade_is_tried_again_where_its_status_is_about_now() {
    let refused = |status: &str| format!("HTTP/1.1 {status} No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n");
    for (welcomed, status, again) in [
        (false, "503", true),
        (false, "429", true),
        (false, "404", false),
        (false, "200", false),
        (true, "503", true),
        // Something is in between: the server itself had let it in.
        (true, "404", true),
        (true, "200", true),
    ] {
        let mut world = if welcomed { World::live() } else { World::new() };
        if welcomed {
            world.cut();
            world.wait();
        } else {
            world.give("aa.bb.cc");
        }
        let attempt = world.opens.pop_front().unwrap();
        world.client.handle_open(world.now(), attempt, Ok(()));
        world.written();
        world.bytes(refused(status).as_bytes());
        assert_eq!(world.stopped().is_none(), again, "{welcomed} {status}: {:?}", world.client.state());
        if again {
            assert!(world.wait() >= Duration::from_secs(7), "{status}");
        }
    }
}

#[test]
fn a_server_that_breaks_the_protocol_is_left_for_long_or_for_good() {
    for welcomed in [false, true] {
        let mut world = if welcomed { World::live() } else { World::new() };
        if welcomed {
            world.frame("no frame");
        } else {
            world.give("aa.bb.cc");
            world.open();
            world.frame("no frame");
        }
        world.written();
        assert_eq!(world.stopped().is_some(), !welcomed, "{:?}", world.client.state());
    }
}

#[test]
fn a_socket_that_does_not_open_in_time_is_given_up_and_its_late_opening_is_nobodys() {
    let mut world = World::new();
    world.give("aa.bb.cc");
    let late = world.opens.pop_front().unwrap();
    world.sleep(Duration::from_millis(9_999));
    assert_eq!(world.client.state(), &State::Connecting);
    world.sleep(Duration::from_millis(1));
    let State::Waiting { failures: 1, why: Trouble::NoSocket(why), .. } = world.client.state() else { panic!() };
    assert!(why.contains("10 s"), "{why}");
    assert!(!world.client.handle_open(world.now(), late, Ok(())));
    world.wait();
    assert!(!world.client.handle_open(world.now(), late, Ok(())));
    world.come_in();
    assert_eq!(world.client.state(), &State::Live);
}

#[test]
fn waits_grow_to_their_bound_and_fall_back_only_after_a_stable_session() {
    let mut world = World::live();
    let sockets = |world: &mut World, times: u32, hold: Duration| {
        let mut waits = Vec::new();
        for _ in 0..times {
            world.sleep(hold);
            world.cut();
            let State::Waiting { failures, .. } = *world.client.state() else { panic!() };
            waits.push((failures, world.wait()));
            world.come_in();
        }
        waits
    };
    let waits = sockets(&mut world, 40, Duration::from_secs(9));
    for (n, (failures, wait)) in waits.iter().enumerate() {
        let ceiling = Duration::from_millis(500 << n.min(6)).min(Duration::from_secs(30));
        assert!(*wait <= ceiling && *failures == n as u32 + 1, "{n}: {wait:?} {failures}");
    }
    assert!(waits.iter().any(|(_, wait)| *wait > Duration::from_secs(10)), "there is jitter: {waits:?}");
    for (failures, wait) in sockets(&mut world, 5, Duration::from_secs(10)) {
        assert!(failures == 1 && wait <= Duration::from_millis(500));
    }
}

#[test]
fn a_close_of_ones_own_waits_for_nobody_for_long() {
    // Whatever the stage.
    for stage in 0..6 {
        let mut world = World::new();
        if stage >= 1 {
            world.give("aa.bb.cc");
        }
        if stage >= 2 {
            let attempt = world.opens.pop_front().unwrap();
            world.client.handle_open(world.now(), attempt, Ok(()));
        }
        if stage >= 3 {
            let request = world.written();
            world.bytes(&answer(&request));
        }
        if stage >= 4 {
            world.frame(&welcome(3, 30.0, 5.0));
        }
        if stage >= 5 {
            world.written();
        }
        world.client.close(world.now());
        world.drain();
        let spoke = stage >= 3;
        assert_eq!(world.stopped().is_none(), spoke, "{stage}");
        if stage == 5 {
            assert!(matches!(&messages(&world.written())[..], [Message::Close(Some(1000), _)]));
        }
        // Nobody takes or answers it.
        world.sleep(Limits::default().close_deadline);
        assert_eq!(world.stopped().as_deref(), Some("closed"), "{stage}");
        assert!(world.client.poll_timeout().is_none() && world.client.transmit().is_empty());
        assert_eq!(world.say("late"), Err(RequestError::Stopped));
    }
}

#[test]
fn to_connect_now_is_to_wait_no_longer() {
    let mut world = World::live();
    world.cut();
    world.client.reconnect_now(world.now());
    world.drain();
    world.come_in();
    assert_eq!(world.client.state(), &State::Live);
    world.client.reconnect_now(world.now());
    assert_eq!(world.client.state(), &State::Live, "there is nothing to hurry");
}
