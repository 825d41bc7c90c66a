//! Random faults, and servers that send anything.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::client::tests::frame;
use crate::codec::frame::Opcode;

/// What may happen to a client.
#[derive(Clone, Debug)]
enum Step {
    /// The answer to what is asked for or opened, good or bad.
    Give(bool),
    Opened(bool),
    /// The server answers the upgrade, says welcome, sends these bytes.
    Upgrade,
    Welcome(u64, u64, &'static str),
    Bytes(Vec<u8>),
    Cut,
    Close(u16),
    Sleep(u32),
    Say(u8),
    Reply(u8),
    Leave,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Give),
        4 => any::<bool>().prop_map(Step::Opened),
        6 => Just(Step::Upgrade),
        6 => (7_u64..9, 0_u64..6, prop::sample::select(vec!["live", "replay", "reset", "snapshot"]))
            .prop_map(|(epoch, seq, mode)| Step::Welcome(epoch, seq, mode)),
        8 => (7_u64..9, 0_u64..12).prop_map(|(epoch, seq)| Step::Bytes(text(&event(epoch, seq)))),
        2 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Bytes),
        1 => "[ -~]{0,30}".prop_map(|json| Step::Bytes(text(&json))),
        1 => Just(Step::Bytes(frame(Opcode::Ping, b"x"))),
        1 => Just(Step::Bytes(text(r#"{"type":"auth_expiring","expires_in":1e300}"#))),
        1 => (-1.0_f64..1e9).prop_map(|wait| {
            Step::Bytes(text(&format!(r#"{{"type":"going_away","deadline":1,"reconnect_after":{wait}}}"#)))
        }),
        1 => (1_u32..3, 1_u32..3, 0_u64..9).prop_map(|(part, of, seq)| {
            Step::Bytes(text(&format!(
                r#"{{"type":"snapshot","stream":"user","event_id":"7-{seq}","part":{part},"of":{of},"runs":[]}}"#
            )))
        }),
        3 => Just(Step::Cut),
        2 => any::<u16>().prop_map(Step::Close),
        1 => prop::sample::select(vec![4200_u16, 4201, 4300, 1012, 4001, 4100]).prop_map(Step::Close),
        4 => (0_u32..60_000).prop_map(Step::Sleep),
        3 => (0_u8..12).prop_map(Step::Say),
        3 => (0_u8..12).prop_map(Step::Reply),
        1 => Just(Step::Leave),
    ]
}

fn play(world: &mut World, step: Step, tokens: &mut u32) {
    match step {
        Step::Give(good) => {
            if !world.asked.is_empty() {
                *tokens += 1;
                let unavailable = Err(TokenError::Unavailable("no".into()));
                world.answer(if good { Ok(Credentials::token(&tokens.to_string())) } else { unavailable });
            }
        }
        Step::Opened(good) => {
            if let Some(attempt) = world.opens.pop_front() {
                world.client.handle_open(world.now(), attempt, if good { Ok(()) } else { Err("no".into()) });
                world.drain();
            }
        }
        Step::Upgrade => {
            let written = world.written();
            if written.starts_with(b"GET ") && written.ends_with(b"\r\n\r\n") {
                world.bytes(&answer(&written));
            }
        }
        Step::Welcome(epoch, seq, mode) => world.frame(&welcome_with(&[&entry("user", epoch, seq, mode)])),
        Step::Bytes(bytes) => world.bytes(&bytes),
        Step::Cut => world.cut(),
        Step::Close(code) => world.closed(code),
        Step::Sleep(millis) => world.sleep(Duration::from_millis(millis.into())),
        Step::Say(n) => drop(world.say(&n.to_string())),
        Step::Reply(n) => world.frame(&replied(&n.to_string())),
        Step::Leave => world.client.close(world.now()),
    }
    world.drain();
}

/// Each event follows the one before it in its epoch, or a gap was told between.
fn assert_in_order(told: &[Update]) {
    let mut last: BTreeMap<StreamName, Position> = BTreeMap::new();
    for update in told {
        match update {
            Update::Event(event) => {
                let before = last.insert(event.stream.clone(), event.position);
                assert!(before.is_none_or(|it| it < event.position && it.epoch == event.position.epoch), "{told:?}");
            }
            Update::Gap { stream, .. } => drop(last.remove(stream)),
            _ => {}
        }
    }
}

/// Every request that was taken came to one end, or waits.
fn assert_told_once(told: &[Update], taken: u32, waiting: usize) {
    let (mut ends, mut replies) = (0, BTreeSet::new());
    for update in told {
        match update {
            Update::Undone { .. } => ends += 1,
            Update::Frame(frame) => {
                if let ServerFrame::Reply(reply) = &**frame {
                    replies.insert(reply.id.clone());
                }
            }
            _ => {}
        }
    }
    assert!(ends + waiting <= taken as usize && ends + waiting + replies.len() * taken as usize >= taken as usize);
}

properties! {
    cases = 512;

    /// Whatever a server sends and whatever breaks: no panic, order, no end of a request told twice, no socket more than the back-off allows,
    /// nothing due in the past that does nothing, and a good server finds a client that is live, or one that has said why it stopped.
    #[test]
    fn a_client_survives_any_server(steps in prop::collection::vec(step(), 0..80)) {
        let (mut world, mut tokens, mut taken) = (World::new(), 0, 0);
        for step in steps {
            if let Step::Say(n) = step {
                taken += u32::from(world.say(&n.to_string()).is_ok());
            } else {
                play(&mut world, step, &mut tokens);
            }
            assert_quiet(&mut world);
        }
        for round in 0.. {
            if world.client.state() == &State::Live || world.client.is_stopped() {
                break;
            }
            prop_assert!(round < 20, "{:?}", world.client.state());
            mend(&mut world, &mut tokens);
        }
        assert_in_order(&world.told);
        let waiting = world.client.outbox.drain().len();
        assert_told_once(&world.told, taken, waiting);
        prop_assert_eq!(world.told.iter().filter(|it| matches!(it, Update::State(State::Stopped(_)))).count(),
            usize::from(world.client.is_stopped()));
    }

    /// A server that is never there, refuses, or loses every client: so many sockets in so much time, and no more.
    #[test]
    fn it_never_hurries(kind in 0..4, hold in 0_u64..9_000) {
        let (mut world, mut tokens) = (World::live(), 0);
        let start = world.sockets;
        while world.micros < 3_600_000_000 {
            match kind {
                0 => play(&mut world, Step::Opened(false), &mut tokens),
                1 => { play(&mut world, Step::Opened(true), &mut tokens); world.cut(); }
                2 => {
                    if !world.opens.is_empty() { world.come_in(); }
                    world.sleep(Duration::from_millis(hold));
                    world.cut();
                }
                _ => { play(&mut world, Step::Give(false), &mut tokens); world.closed(4200); }
            }
            let due = world.client.poll_timeout().expect("it goes on");
            world.sleep(due.saturating_since(world.now().at).max(Duration::from_micros(1)));
        }
        // Half of 30 s each, once the waits have grown: 240 in an hour, with room for luck and the short ones at first.
        prop_assert!(world.sockets - start < 340, "{} sockets in an hour", world.sockets - start);
    }
}

/// Nothing is due at once for ever.
fn assert_quiet(world: &mut World) {
    for _ in 0..10 {
        let Some(due) = world.client.poll_timeout() else { return };
        if due > world.now().at {
            return;
        }
        world.client.handle_timeout(world.now());
        world.drain();
    }
    panic!("it spins: {:?}", world.client);
}

/// The next thing that a good server and a good source do.
fn mend(world: &mut World, tokens: &mut u32) {
    if !world.asked.is_empty() {
        play(world, Step::Give(true), tokens);
    } else if !world.opens.is_empty() && world.client.awaits_socket(world.opens[0]) {
        let hello = world.open();
        let at = hello.resume.get(&StreamName::User).copied().filter(|at| *at != Position::NONE);
        let entry = at.map_or(entry("user", 7, 0, "reset"), |at| entry("user", at.epoch, at.seq, "live"));
        world.frame(&welcome_with(&[&entry]));
    } else {
        // Whatever this socket was, it ends.
        world.cut();
        let due = world.client.poll_timeout().map_or(Duration::ZERO, |due| due.saturating_since(world.now().at));
        world.sleep(due);
    }
}
