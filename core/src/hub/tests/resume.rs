//! Resumes after long absences.

use std::time::Duration;

use super::harness::{World, ident};
use crate::client::ClientEvent;
use crate::limits::Limits;
use crate::protocol::{Mode, Position, StreamEntry};

fn welcomed(events: &[ClientEvent]) -> StreamEntry {
    let ClientEvent::Welcome(welcome) = &events[0] else { panic!("{events:?}") };
    welcome.streams[0].clone()
}

#[test]
fn a_device_that_was_idle_for_a_long_time_resumes_after_its_last_event() {
    let world = World::new();
    let (mut ann, mut other) = (world.device("ann"), world.device("ann"));
    world.hub.publish(&ident("ann"), None, "n", &1).unwrap();
    assert_eq!((ann.stream().len(), other.stream().len()), (1, 1));
    let (position, session) = (ann.client.position(), ann.client.session());
    // Each far longer than a log is kept for nobody, and all of them within the token's hour.
    let idle = |pairs: &mut [&mut super::harness::Pair]| {
        for _ in 0..40 {
            world.sleep(Duration::from_secs(20), pairs);
        }
    };
    idle(&mut [&mut ann, &mut other]);
    assert!(ann.is_in() && other.is_in());
    ann.cut();
    idle(&mut [&mut other]);
    let mut back = world.resuming("ann", position, session);
    assert_eq!(welcomed(&back.events()).mode, Mode::Live, "nothing was missed");
    back.cut();
    world.hub.publish(&ident("ann"), None, "n", &2).unwrap();
    idle(&mut [&mut other]);
    let mut back = world.resuming("ann", position, session);
    let events = back.events();
    let entry = welcomed(&events);
    assert_eq!((entry.mode, Some(entry.event_id), events.len()), (Mode::Replay, position, 2));
}

#[test]
fn a_user_whose_last_device_was_away_resumes_within_the_retention_and_begins_anew_after_it() {
    let retention = Limits::default().log_retention;
    let world = World::new();
    let mut ann = world.device("ann");
    world.hub.publish(&ident("ann"), None, "n", &1).unwrap();
    ann.events();
    let (position, session) = (ann.client.position(), ann.client.session());
    ann.cut();
    world.hub.publish(&ident("ann"), None, "n", &2).unwrap();
    world.sleep(retention - Duration::from_micros(1), &mut []);
    let mut back = world.resuming("ann", position, session);
    let events = back.events();
    assert_eq!((welcomed(&events).mode, events.len()), (Mode::Replay, 2));
    let before = back.client.position().unwrap();
    back.cut();
    world.sleep(retention, &mut []);
    // The old position means nothing any more, and the answer says so.
    let mut back = world.resuming("ann", Some(before), session);
    let entry = welcomed(&back.events());
    assert_eq!(
        (entry.mode, entry.lost.map(|lost| (lost.from, lost.to))),
        (Mode::Reset, Some((before, entry.event_id)))
    );
    assert_eq!(entry.event_id, Position { seq: 0, ..entry.event_id });
    assert!(entry.event_id.epoch > before.epoch);
}
