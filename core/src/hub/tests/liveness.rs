//! Whatever has happened: where nothing comes in any more, jumping from deadline to deadline leads to the end of every socket and
//! to a hub that holds nothing, and every deadline that is served lies in the past afterwards.

use std::task::Waker;
use std::time::Duration;

use proptest::prelude::*;

use super::harness::{Pair, World, frame_id, ident, message, thread};
use crate::codec::frame::{Opcode, encode};
use crate::drive::Machine;
use crate::hub::{Counts, OnDisconnect, Run, RunOptions, Session};
use crate::limits::Limits;
use crate::protocol::{ClientFrame, RevokeTarget};
use crate::time::{Now, Timestamp};

#[derive(Clone, Debug)]
enum Step {
    /// A socket that sends this much of an opening, and no more.
    Stranger {
        bytes: usize,
    },
    Device {
        user: usize,
        secs: u64,
    },
    Say {
        device: usize,
    },
    /// Half of a message.
    Half {
        device: usize,
        bytes: usize,
    },
    Follow {
        device: usize,
    },
    Read {
        device: usize,
        bytes: usize,
    },
    Start {
        user: usize,
        cancels: bool,
    },
    Delta {
        run: usize,
        bytes: usize,
    },
    Suspend {
        run: usize,
    },
    End {
        run: usize,
    },
    Publish {
        user: usize,
        bytes: usize,
    },
    PublishTopic,
    Cut {
        device: usize,
    },
    Revoke {
        user: usize,
    },
    Wait {
        millis: u64,
    },
    Drain,
}

const USERS: [&str; 2] = ["ann", "bob"];

fn step() -> impl Strategy<Value = Step> {
    let (user, device, run) = (0..USERS.len(), 0_usize..6, 0_usize..4);
    prop_oneof![
        3 => (0_usize..1_500).prop_map(|bytes| Step::Stranger { bytes }),
        5 => (user.clone(), prop_oneof![3 => Just(3_600_u64), 1 => 0_u64..60])
            .prop_map(|(user, secs)| Step::Device { user, secs }),
        2 => device.clone().prop_map(|device| Step::Say { device }),
        1 => (device.clone(), 1_usize..60_000).prop_map(|(device, bytes)| Step::Half { device, bytes }),
        1 => device.clone().prop_map(|device| Step::Follow { device }),
        2 => (device.clone(), 0_usize..80_000).prop_map(|(device, bytes)| Step::Read { device, bytes }),
        2 => (user.clone(), any::<bool>()).prop_map(|(user, cancels)| Step::Start { user, cancels }),
        4 => (run.clone(), 0_usize..20_000).prop_map(|(run, bytes)| Step::Delta { run, bytes }),
        1 => run.clone().prop_map(|run| Step::Suspend { run }),
        1 => run.prop_map(|run| Step::End { run }),
        3 => (user.clone(), 0_usize..40_000).prop_map(|(user, bytes)| Step::Publish { user, bytes }),
        1 => Just(Step::PublishTopic),
        1 => device.prop_map(|device| Step::Cut { device }),
        1 => user.prop_map(|user| Step::Revoke { user }),
        3 => (0_u64..20_000).prop_map(|millis| Step::Wait { millis }),
        1 => Just(Step::Drain),
    ]
}

struct Play {
    world: World,
    strangers: Vec<Session>,
    devices: Vec<Pair>,
    runs: Vec<Run>,
}

impl Play {
    fn new() -> Self {
        let world = World::with(Limits { total_snapshot_bytes: 10_000, ..Limits::default() });
        Self { world, strangers: Vec::new(), devices: Vec::new(), runs: Vec::new() }
    }

    fn opening(&self) -> Vec<u8> {
        let token = self.world.token(&ident("ann"), Duration::from_secs(60));
        let mut bytes = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            .to_vec();
        let hello = format!(r#"{{"type":"hello","token":"{token}"}}"#);
        encode(&mut bytes, Opcode::Text, hello.as_bytes(), Some([7; 4]));
        bytes
    }

    fn play(&mut self, step: &Step) {
        match *step {
            Step::Stranger { bytes } => {
                let opening = self.opening();
                let Ok(mut session) = self.world.hub.session() else { return };
                session.handle_bytes(self.world.now(), &opening[..bytes.min(opening.len())]);
                session.poll_ready(self.world.now(), Waker::noop());
                self.strangers.push(session);
            }
            Step::Device { user, secs } => {
                let Ok(accepted) = self.world.hub.session() else { return };
                let token = self.world.scoped_token(&ident(USERS[user]), Duration::from_secs(secs), "topic:*", None);
                self.devices.push(self.world.connect_on(accepted, self.world.config(token, None, None)));
            }
            Step::Say { device } => self.send(device, &message("m", None, "hello")),
            Step::Half { device, bytes } => {
                let now = self.world.now();
                let Some(session) = self.session(device) else { return };
                let mut wire = Vec::new();
                encode(&mut wire, Opcode::Text, &vec![b'x'; bytes], Some([7; 4]));
                session.handle_bytes(now, &wire[..wire.len() / 2]);
            }
            Step::Follow { device } => {
                let (id, topic) = (frame_id("s"), "news".parse().unwrap());
                self.send(device, &ClientFrame::Subscribe { id, topic, resume: None });
            }
            Step::Read { device, bytes } => {
                if let Some(pair) = self.devices.get_mut(device) {
                    pair.read_some(bytes);
                }
            }
            Step::Start { user, cancels } => {
                let grace = Duration::from_secs(30);
                let on_disconnect = if cancels { OnDisconnect::CancelAfter(grace) } else { OnDisconnect::Continue };
                let options = RunOptions { on_disconnect, ..RunOptions::named("a") };
                self.runs.extend(self.world.hub.start_run(&ident(USERS[user]), thread("t"), options));
            }
            Step::Delta { run, bytes } => drop(self.runs.get(run).map(|run| run.delta("x".repeat(bytes)))),
            Step::Suspend { run } => drop(self.runs.get(run).map(|run| run.suspend(None))),
            Step::End { run } => {
                if run < self.runs.len() {
                    drop(self.runs.swap_remove(run));
                }
            }
            Step::Publish { user, bytes } => {
                self.world.hub.publish(&ident(USERS[user]), None, "n", &"y".repeat(bytes)).unwrap();
            }
            Step::PublishTopic => {
                let topic = crate::id::TopicId::new(None, "news".parse().unwrap()).unwrap();
                self.world.hub.publish_topic(&topic, "n", &1).unwrap();
            }
            Step::Cut { device } => {
                if let Some(pair) = self.devices.get_mut(device) {
                    pair.cut();
                }
            }
            Step::Revoke { user } => drop(self.world.hub.revoke(&ident(USERS[user]), &RevokeTarget::All, None)),
            Step::Wait { millis } => self.at(self.world.now().at + Duration::from_millis(millis), false),
            Step::Drain => self.world.hub.begin_shutdown(),
        }
    }

    fn session(&mut self, device: usize) -> Option<&mut Session> {
        self.devices.get_mut(device).and_then(|pair| pair.session.as_mut())
    }

    fn send(&mut self, device: usize, frame: &ClientFrame) {
        let now = self.world.now();
        let Some(pair) = self.devices.get_mut(device) else { return };
        let Some(session) = &mut pair.session else { return };
        pair.client.send(frame);
        let up = pair.client.transmit().to_vec();
        pair.client.advance(up.len());
        if !up.is_empty() {
            session.handle_bytes(now, &up);
        }
    }

    fn sessions(&mut self) -> impl Iterator<Item = &mut Session> {
        self.strangers.iter_mut().chain(self.devices.iter_mut().filter_map(|pair| pair.session.as_mut()))
    }

    /// Serves what is due at a time, as drivers and the housekeeper do.
    fn at(&mut self, at: Timestamp, takes: bool) {
        self.world.clock.turn(at.saturating_since(self.world.now().at));
        self.world.keeper.handle_timeout();
        let now = self.world.now();
        for session in self.sessions() {
            // What the socket takes may bring a deadline forward: the driver looks again.
            for _ in 0..8 {
                session.handle_timeout(now);
                carry(session, now, takes);
                if session.poll_timeout().is_none_or(|due| due > at) {
                    break;
                }
            }
        }
        self.strangers.retain(|session| !session.is_closed());
        self.devices.retain(|pair| pair.session.as_ref().is_some_and(|session| !session.is_closed()));
    }

    fn next(&mut self) -> Option<Timestamp> {
        let hub = self.world.keeper.handle_timeout();
        self.sessions().filter_map(|session| session.poll_timeout()).chain(hub).min()
    }

    /// Jumps from deadline to deadline until there is none; answers when the last socket closed.
    fn run_out(&mut self, takes: bool) -> Timestamp {
        self.at(self.world.now().at, takes);
        let mut last_socket = self.world.now().at;
        for _ in 0..5_000 {
            if self.sessions().next().is_some() {
                last_socket = self.world.now().at;
            }
            let Some(due) = self.next() else { return last_socket };
            assert!(due > self.world.now().at, "a deadline that was served is still there");
            self.at(due, takes);
            assert!(self.sessions().all(|session| session.poll_timeout().is_some()), "a socket without a deadline");
        }
        panic!("it never ends");
    }
}

/// What a session's task does when it runs.
fn carry(session: &mut Session, now: Now, takes: bool) {
    loop {
        session.poll_ready(now, Waker::noop());
        let waits = session.transmit().len();
        if !takes || waits == 0 {
            break;
        }
        session.advance(now, waits);
    }
    if session.wants_shutdown() {
        session.handle_shutdown();
    }
}

properties! {
    cases = 96;

    #[test]
    fn without_input_every_socket_ends_and_the_hub_holds_nothing(
        steps in prop::collection::vec(step(), 0..60), takes in any::<bool>(),
    ) {
        let mut play = Play::new();
        for step in &steps {
            play.play(step);
        }
        play.runs.clear();
        let quiet = play.world.now().at;
        let closed = play.run_out(takes);
        let patience = play.world.hub.limits().write_stall + Duration::from_secs(60);
        prop_assert!(closed <= quiet + patience, "the last socket was open until {:?} of {:?}", closed, quiet);
        prop_assert_eq!(play.world.hub.counts(), Counts::default());
        let hub = &play.world.hub;
        prop_assert_eq!((hub.sockets(), hub.unauthenticated(), hub.inbound_bytes()), (0, 0, 0));
    }
}
