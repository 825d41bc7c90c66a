//! Races that no other test settles: verifiers and wakers that call back, sockets cut at any byte, foreign identities,
//! takeovers, positions, and runs that interleave.

use std::collections::BTreeMap;
use std::sync::Arc as Shared;
use std::task::{Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;

use super::harness::{Pair, SECRET, TestClock, TestEntropy, World, ident, next_message, thread};
use crate::auth::fake::FakeKeys;
use crate::auth::{AuthError, ClaimRules, Grant, TokenVerifier};
use crate::client::ClientEvent;
use crate::codec::frame::{Opcode, encode};
use crate::drive::Machine;
use crate::hub::{Hub, HubConfig, Run, RunOptions, ToolCall};
use crate::id::{RunId, TopicId, TopicName};
use crate::limits::Limits;
use crate::protocol::{EventBody, Mode, Position, ServerFrame};
use crate::stream::RunError;
use crate::sync::Lock;
use crate::time::UnixTime;

fn masked(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    encode(&mut wire, Opcode::Text, text.as_bytes(), Some([7; 4]));
    wire
}

/// Every entry of the hub that takes a lock. Under one of them, each would wait for itself.
fn call_everything(hub: &Hub) {
    hub.publish(&ident("ann"), None, "called back", &1).unwrap();
    drop(hub.start_run(&ident("ann"), thread("t"), RunOptions::named("a")).unwrap());
    hub.publish_topic(&TopicId::new(None, TopicName::new("news").unwrap()).unwrap(), "called back", &1).unwrap();
    drop(hub.session());
    assert!(hub.counts().users > 0);
}

/// A verifier with code of the application's own that uses the hub.
struct Reentrant(FakeKeys, Lock<Option<Hub>>);

impl TokenVerifier for Reentrant {
    fn verify(&self, token: &str, now: UnixTime) -> Result<Grant, AuthError> {
        let hub = self.1.lock().clone();
        call_everything(&hub.unwrap());
        self.0.verify(token, now)
    }
}

struct ReentrantWaker(Hub);

impl Wake for ReentrantWaker {
    fn wake(self: Shared<Self>) {
        // A mark that is set already wakes nobody, so this ends.
        call_everything(&self.0);
    }
}

#[test]
fn a_verifier_and_a_waker_may_call_the_hub_back() {
    let mut world = World::sharded(Limits::default(), 1);
    let verifier = Shared::new(Reentrant(FakeKeys::new(SECRET, ClaimRules::default()).unwrap(), Lock::new(None)));
    let (clock, entropy) = (Shared::<TestClock>::clone(&world.clock), Shared::<TestEntropy>::clone(&world.entropy));
    let config = HubConfig { shards: 1, ..HubConfig::default() };
    (world.hub, world.keeper) = Hub::new(config, Shared::clone(&verifier) as _, clock, entropy).unwrap();
    *verifier.1.lock() = Some(world.hub.clone());
    let mut ann = world.device("ann");
    assert!(ann.is_in());
    let waker = Waker::from(Shared::new(ReentrantWaker(world.hub.clone())));
    let now = world.now();
    ann.session.as_mut().unwrap().poll_ready(now, &waker);
    ann.events();
    ann.session.as_mut().unwrap().poll_ready(now, &waker);
    world.hub.publish(&ident("ann"), None, "first", &1).unwrap();
    // The event, and what the waker published when it was told of it.
    assert_eq!(ann.stream().len(), 4);
    verifier.1.lock().take();
}

#[test]
fn nothing_is_dispatched_before_the_welcome_and_what_was_sent_with_the_hello_is_after_it() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let early = masked(r#"{"type":"user_message","id":"m","thread_id":"t","content":"early"}"#);
    for hello in [false, true] {
        let mut session = world.hub.session().unwrap();
        let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        let token = world.token(&ident("ann"), Duration::from_secs(60));
        let mut wire = upgrade.as_bytes().to_vec();
        if hello {
            wire.extend(masked(&format!(r#"{{"type":"hello","token":"{token}"}}"#)));
        }
        wire.extend(&early);
        let now = world.now();
        session.handle_bytes(now, &wire);
        session.poll_ready(now, Waker::noop());
        assert_eq!(world.hub.counts().requests, usize::from(hello), "asked only by who is in");
        if hello {
            next_message(&mut requests).refuse("no");
            session.poll_ready(now, Waker::noop());
            let text = String::from_utf8_lossy(session.transmit()).into_owned();
            assert!(text.find("\"welcome\"").unwrap() < text.find("\"refused\"").unwrap());
        }
    }
}

#[test]
fn a_foreign_identity_is_refused_in_every_frame_and_data_are_passed_on_as_they_came() {
    let world = World::new();
    let mut requests = world.hub.requests().unwrap();
    let mut ann = world.device("ann");
    ann.events();
    let frames = [
        r#""type":"user_message","id":"x","thread_id":"t","content":"c""#,
        r#""type":"command","id":"x","name":"n""#,
        r#""type":"cancel_run","id":"x","key":"k""#,
        r#""type":"subscribe","id":"x","topic":"news""#,
        r#""type":"unsubscribe","id":"x","topic":"news""#,
        r#""type":"approve","id":"x","approval_id":"a","decision":"yes""#,
        r#""type":"refresh","id":"x","token":"a.b.c""#,
        r#""type":"ack","event_id":"1-1""#,
        r#""type":"ping","id":"x""#,
    ];
    let now = world.now();
    for frame in frames {
        let wire = masked(&format!(r#"{{{frame},"user_id":"bob"}}"#));
        ann.session.as_mut().unwrap().handle_bytes(now, &wire);
        let events = ann.events();
        let [ClientEvent::Frame(answer)] = &events[..] else { panic!("{frame}: {events:?}") };
        assert!(answer.encode().contains("identity_mismatch"), "{frame}");
        assert_eq!(world.hub.counts().requests, 0, "{frame}");
    }
    let metadata = r#"{"user_id": "bob", "x": [{"user_id":"eve"}]}"#;
    let text = format!(
        r#"{{"type":"user_message","id":"x","user_id":"ann","thread_id":"t","content":"c","metadata":{metadata}}}"#
    );
    ann.session.as_mut().unwrap().handle_bytes(now, &masked(&text));
    let asked = next_message(&mut requests);
    assert_eq!((asked.user().sub(), asked.metadata().map(|raw| raw.get())), ("ann", Some(metadata)));
}

#[test]
fn a_socket_that_is_cut_at_any_byte_loses_and_repeats_nothing() {
    let world = World::new();
    let mut steady = world.device("ann");
    for cut in 0.. {
        steady.events();
        let mut flaky = world.device("ann");
        flaky.events();
        for n in 0..3 {
            world.hub.publish(&ident("ann"), None, "n", &n).unwrap();
        }
        let now = world.now();
        let session = flaky.session.as_mut().unwrap();
        session.poll_ready(now, Waker::noop());
        let Some(given) = session.transmit().get(..cut).map(<[u8]>::to_vec) else { break };
        session.advance(now, cut);
        flaky.client.handle_bytes(now, &given);
        let mut seen: Vec<_> = std::iter::from_fn(|| flaky.client.poll_event()).collect();
        let (position, id) = (flaky.client.position(), flaky.client.session());
        flaky.cut();
        // One more while it is away, and one during its replay.
        world.hub.publish(&ident("ann"), None, "n", &3).unwrap();
        let mut back = world.resuming("ann", position, id);
        world.hub.publish(&ident("ann"), None, "n", &4).unwrap();
        seen.extend(back.events());
        seen.retain(|event| matches!(event, ClientEvent::Event(_)));
        let whole: Vec<_> = steady.stream().into_iter().map(|event| ClientEvent::Event(Box::new(event))).collect();
        assert_eq!((seen, back.fault()), (whole, None), "cut after {cut} bytes");
    }
}

#[test]
fn a_resume_at_any_position_misses_nothing_that_it_does_not_call_lost() {
    let world = World::with(Limits { log_entries: 5, ..Limits::default() });
    let start = world.device("ann").client.position().unwrap();
    for n in 0..12 {
        world.hub.publish(&ident("ann"), None, "n", &n).unwrap();
    }
    for seq in 0..=14 {
        let known = Position { seq, ..start };
        let mut ann = world.resuming("ann", Some(known), None);
        let events = ann.events();
        let ClientEvent::Welcome(welcome) = &events[0] else { panic!("{events:?}") };
        let entry = &welcome.streams[0];
        let from = entry.lost.map_or(seq, |lost| lost.to.seq);
        assert_eq!(entry.lost.is_some(), !(7..=12).contains(&seq), "{seq}");
        assert_eq!(entry.mode == Mode::Reset, entry.lost.is_some(), "{seq}");
        let seqs =
            events.iter().filter_map(|e| if let ClientEvent::Event(e) = e { Some(e.position.seq) } else { None });
        assert!(seqs.eq(from + 1..=12), "{seq}");
    }
}

#[test]
fn two_sockets_that_take_over_from_each_other_leave_the_newest_and_are_told_to_stop() {
    let world = World::with(Limits { connections_per_user: 1, ..Limits::default() });
    let mut live = world.device("ann");
    for _ in 0..20 {
        let mut next = world.resuming("ann", live.client.position(), live.client.session());
        live.pump();
        let reason = crate::error::CloseReason::from_code(live.closed_with().unwrap()).unwrap();
        assert_eq!(reason, crate::error::CloseReason::Superseded);
        assert_eq!(reason.next_action(), crate::error::NextAction::Stop, "so that they do not go on for ever");
        world.hub.publish(&ident("ann"), None, "n", &1).unwrap();
        assert_eq!((next.stream().len(), live.stream().len()), (1, 0));
        assert_eq!(world.hub.counts().connections, 1);
        live = next;
    }
}

/// What a producer does to one of three runs, of which the third is started by the first.
#[derive(Clone, Copy, Debug)]
enum Act {
    Say,
    Think,
    Call,
    Answer,
    Complete,
    Fail,
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let act = prop_oneof![
        12 => Just(Act::Say), 2 => Just(Act::Think), 1 => Just(Act::Call), 1 => Just(Act::Answer),
        1 => Just(Act::Complete), 1 => Just(Act::Fail),
    ];
    prop::collection::vec((0_usize..3, act), 0..80)
}

/// Plays them; tells which of them were taken.
fn produce(world: &World, acts: &[(usize, Act)]) -> (Vec<RunId>, usize) {
    let options = |parent| RunOptions { parent, ..RunOptions::named("a") };
    let start = |parent| world.hub.start_run(&ident("ann"), thread("t"), options(parent)).unwrap();
    let outer = start(None);
    let runs: [Run; 3] = [start(None), start(Some(outer.id())), outer];
    let mut calls: [Option<ToolCall>; 3] = [None, None, None];
    let mut taken = runs.len();
    for (n, act) in acts {
        let done = match act {
            Act::Say => runs[*n].delta("word ").map(drop),
            Act::Think => runs[*n].thinking("hm").map(drop),
            Act::Call if calls[*n].is_none() => runs[*n].tool("t", &1).map(|call| calls[*n] = Some(call)),
            Act::Call => continue,
            Act::Answer => calls[*n].take().map_or(Err(RunError::Ended), |call| call.completed(&2).map(drop)),
            Act::Complete => runs[*n].completed(None).map(drop),
            Act::Fail => runs[*n].failed("x").map(drop),
        };
        taken += usize::from(done.is_ok());
    }
    // Whatever is open ends as its producer is lost.
    taken += world.hub.counts().runs;
    (runs.iter().map(Run::id).collect(), taken)
}

fn read_all(world: &World) -> Pair {
    world.resuming("ann", Some(Position::NONE), None)
}

properties! {
    cases = 128;

    #[test]
    fn each_run_is_seen_from_its_start_to_its_one_end_whatever_goes_on_beside_it(acts in acts()) {
        let world = World::new();
        let (ids, taken) = produce(&world, &acts);
        let seen = read_all(&world).stream();
        prop_assert_eq!(seen.len(), taken, "nothing is made up and nothing is missing");
        let mut runs: BTreeMap<RunId, Vec<_>> = BTreeMap::new();
        for event in &seen {
            runs.entry(event.run_id.unwrap()).or_default().push(event);
        }
        prop_assert_eq!(runs.len(), 3);
        for (id, events) in &runs {
            prop_assert!(events.iter().zip(1..).all(|(event, n)| event.run_seq == Some(n)));
            let parent = (*id == ids[1]).then_some(ids[2]);
            let starts = matches!(events[0].body, EventBody::AgentStarted { parent_run_id, .. } if parent_run_id == parent);
            prop_assert!(starts);
            let ends: Vec<_> = events.iter().map(|event| event.body.is_terminal()).collect();
            prop_assert_eq!(ends.iter().filter(|end| **end).count(), 1);
            prop_assert_eq!(ends.last(), Some(&true));
        }
    }

    #[test]
    fn a_reader_that_lags_reduces_to_the_state_of_one_that_does_not(acts in acts()) {
        let merged = World::with(Limits { lag_entries: 1, ..Limits::default() });
        let plain = World::with(Limits { lag_entries: 100_000, ..Limits::default() });
        let view = |world: &World| {
            produce(world, &acts);
            let mut reader = read_all(world);
            // The order of what is not text is the same too.
            let events = reader.stream();
            let lifecycle: Vec<_> =
                events.iter().filter(|e| e.body.is_lifecycle()).map(|e| (e.position.seq, e.run_id, e.body.kind())).collect();
            (reader.fault().cloned(), reader.client.reducer().clone(), reader.client.position().map(|p| p.seq), lifecycle)
        };
        prop_assert_eq!(view(&merged), view(&plain));
    }

    /// A log that has shed its beginning, against one that holds everything.
    #[test]
    fn a_snapshot_and_its_tail_are_the_replay(acts in acts(), log_entries in 3_usize..30) {
        let whole = World::with(Limits { log_entries: 100_000, lag_entries: 100_000, ..Limits::default() });
        let shed = World::with(Limits { log_entries, lag_entries: 100_000, ..Limits::default() });
        produce(&whole, &acts);
        produce(&shed, &acts);
        let mut replayed = read_all(&whole);
        let ends: BTreeMap<_, _> = replayed.stream().iter().map(|e| (e.run_id.unwrap(), e.position.seq)).collect();
        let mut reader = read_all(&shed);
        let mut start = Position::NONE;
        for event in reader.events() {
            match event {
                ClientEvent::Welcome(welcome) => start = welcome.streams[0].event_id,
                ClientEvent::Frame(frame) => if let ServerFrame::Snapshot(part) = *frame { start = part.event_id },
                ClientEvent::Event(_) => {}
            }
        }
        let seq = |reader: &Pair| reader.client.position().map(|position| position.seq);
        prop_assert_eq!((reader.fault(), seq(&reader)), (None, seq(&replayed)));
        let (seen, all) = (reader.client.reducer().runs(), replayed.client.reducer().runs());
        for (run, view) in seen {
            prop_assert_eq!(Some(view), all.get(run));
        }
        for (run, end) in ends {
            prop_assert!(seen.contains_key(&run) || end <= start.seq, "{} goes on to {} behind {:?}", run, end, start);
        }
    }
}
