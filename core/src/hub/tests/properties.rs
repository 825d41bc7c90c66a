//! Any interleaving of publishing, dropping, resuming and reading: every device ends with every event once, in order.

use proptest::prelude::*;

use super::harness::{Pair, World, ident, thread};
use crate::hub::{Run, RunOptions};
use crate::protocol::Event;

#[derive(Clone, Debug)]
enum Step {
    Publish { user: usize },
    Read { device: usize },
    Cut { device: usize },
    Resume { device: usize },
    EndRun { user: usize },
}

const USERS: [&str; 2] = ["ann", "bob"];
const DEVICES: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..USERS.len()).prop_map(|user| Step::Publish { user }),
        2 => (0..DEVICES).prop_map(|device| Step::Read { device }),
        1 => (0..DEVICES).prop_map(|device| Step::Cut { device }),
        2 => (0..DEVICES).prop_map(|device| Step::Resume { device }),
        1 => (0..USERS.len()).prop_map(|user| Step::EndRun { user }),
    ]
}

struct Device {
    user: usize,
    pair: Pair,
    seen: Vec<Event>,
}

fn play(steps: &[Step], shards: usize) -> Vec<Vec<Event>> {
    let world = World::sharded(crate::limits::Limits::default(), shards);
    let mut runs: Vec<Option<Run>> = vec![None, None];
    let mut devices: Vec<Device> = (0..DEVICES)
        .map(|n| Device { user: n % USERS.len(), pair: world.device(USERS[n % USERS.len()]), seen: Vec::new() })
        .collect();
    let resume = |device: &mut Device| {
        if device.pair.session.is_none() {
            let (position, session) = (device.pair.client.position(), device.pair.client.session());
            device.pair = world.resuming(USERS[device.user], position, session);
        }
    };
    for step in steps {
        match *step {
            Step::Publish { user } => {
                let start = || world.hub.start_run(&ident(USERS[user]), thread("t"), RunOptions::named("a")).unwrap();
                runs[user].get_or_insert_with(start).delta("x").unwrap();
            }
            Step::EndRun { user } => drop(runs[user].take()),
            Step::Read { device } => {
                let device = &mut devices[device];
                device.seen.extend(device.pair.stream());
            }
            Step::Cut { device } => {
                let device = &mut devices[device];
                device.seen.extend(std::iter::from_fn(|| device.pair.client.poll_event()).filter_map(event));
                device.pair.cut();
            }
            Step::Resume { device } => resume(&mut devices[device]),
        }
        assert_eq!(world.hub.counts().connections, devices.iter().filter(|d| d.pair.session.is_some()).count());
    }
    for device in &mut devices {
        resume(device);
        device.seen.extend(device.pair.stream());
        assert_eq!(device.pair.fault(), None);
    }
    devices.into_iter().map(|device| device.seen).collect()
}

fn event(event: crate::client::ClientEvent) -> Option<Event> {
    if let crate::client::ClientEvent::Event(event) = event { Some(*event) } else { None }
}

properties! {
    cases = 64;

    #[test]
    fn every_device_sees_every_event_once_and_in_order(steps in prop::collection::vec(step(), 0..60)) {
        let seen = play(&steps, 4);
        for user in 0..USERS.len() {
            prop_assert_eq!(&seen[user], &seen[user + USERS.len()], "two devices of one user differ");
            prop_assert!(seen[user].iter().zip(1..).all(|(event, seq)| event.position.seq == seq));
            prop_assert!(seen[user].iter().all(|event| event.user_id.as_deref() == Some(USERS[user])));
        }
        let published = steps.iter().filter(|step| matches!(step, Step::Publish { .. })).count();
        let deltas = |seen: &Vec<Event>| seen.iter().filter(|e| !e.body.is_lifecycle()).count();
        prop_assert_eq!(deltas(&seen[0]) + deltas(&seen[1]), published);
    }

    #[test]
    fn one_shard_and_four_are_alike(steps in prop::collection::vec(step(), 0..40)) {
        let bodies = |seen: Vec<Vec<Event>>| -> Vec<Vec<_>> {
            seen.into_iter().map(|seen| seen.into_iter().map(|e| (e.position.seq, e.body)).collect()).collect()
        };
        prop_assert_eq!(bodies(play(&steps, 1)), bodies(play(&steps, 4)));
    }
}
