//! Any interleaving of publishing, dropping, resuming and reading: every device ends with every event once, in order.

use proptest::prelude::*;

use super::harness::{Pair, World, ident, thread};
use crate::drive::Machine;
use crate::hub::{Run, RunOptions};
use crate::limits::Limits;
use crate::protocol::{Event, EventBody};

#[derive(Clone, Debug)]
enum Step {
    Publish {
        user: usize,
    },
    /// Many at once, so that logs become long.
    Burst {
        user: usize,
    },
    Read {
        device: usize,
    },
    /// Its socket is gone: broken, or dropped with its task.
    Cut {
        device: usize,
        told: bool,
    },
    Resume {
        device: usize,
    },
    EndRun {
        user: usize,
    },
}

const USERS: [&str; 2] = ["ann", "bob"];
const DEVICES: usize = 4;
const BURST: usize = 200;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..USERS.len()).prop_map(|user| Step::Publish { user }),
        1 => (0..USERS.len()).prop_map(|user| Step::Burst { user }),
        2 => (0..DEVICES).prop_map(|device| Step::Read { device }),
        1 => (0..DEVICES, any::<bool>()).prop_map(|(device, told)| Step::Cut { device, told }),
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
    // Nobody is so far behind that texts are merged for it.
    let limits = Limits { lag_entries: 1 << 20, log_entries: 1 << 20, log_bytes: 16 << 20, ..Limits::default() };
    let world = World::sharded(limits, shards);
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
            Step::Burst { user } => {
                for n in 0..BURST {
                    world.hub.publish(&ident(USERS[user]), None, "n", &n).unwrap();
                }
            }
            Step::EndRun { user } => drop(runs[user].take()),
            Step::Read { device } => {
                let device = &mut devices[device];
                device.seen.extend(device.pair.stream());
            }
            Step::Cut { device, told } => {
                let device = &mut devices[device];
                device.seen.extend(std::iter::from_fn(|| device.pair.client.poll_event()).filter_map(event));
                if let Some(session) = device.pair.session.as_mut().filter(|_| told) {
                    session.handle_broken(world.now());
                }
                device.pair.cut();
            }
            Step::Resume { device } => resume(&mut devices[device]),
        }
        let there = devices.iter().filter(|device| device.pair.session.is_some()).count();
        assert_eq!((world.hub.counts().connections, world.hub.sockets(), world.hub.inside()), (there, there, there));
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
        let published = |step: &Step| match step {
            Step::Publish { .. } => 1,
            Step::Burst { .. } => BURST,
            Step::Read { .. } | Step::Cut { .. } | Step::Resume { .. } | Step::EndRun { .. } => 0,
        };
        let of_a_run = |event: &&Event| matches!(event.body, EventBody::AgentStarted { .. }) || event.body.is_terminal();
        let said = |seen: &Vec<Event>| seen.len() - seen.iter().filter(of_a_run).count();
        prop_assert_eq!(said(&seen[0]) + said(&seen[1]), steps.iter().map(published).sum::<usize>());
    }

    #[test]
    fn one_shard_and_four_are_alike(steps in prop::collection::vec(step(), 0..40)) {
        let bodies = |seen: Vec<Vec<Event>>| -> Vec<Vec<_>> {
            seen.into_iter().map(|seen| seen.into_iter().map(|e| (e.position.seq, e.body)).collect()).collect()
        };
        prop_assert_eq!(bodies(play(&steps, 1)), bodies(play(&steps, 4)));
    }
}
