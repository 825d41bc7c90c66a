//! Refresh, revocation, expiry, drain and reconnects in any order, and at the same time.

use std::collections::BTreeSet;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::client::ClientEvent;
use crate::protocol::RevokeTarget;

#[derive(Clone, Debug)]
enum Step {
    Pass { millis: u64 },
    Refresh { device: usize, secs: u64, id: usize },
    RefreshBy { device: usize, other: &'static str },
    RevokeToken { id: usize },
    RevokeSession { device: usize },
    RevokeAll,
    Publish,
    Connect { device: usize, secs: u64, id: usize },
    Drain,
}

const DEVICES: usize = 3;
const IDS: [&str; 3] = ["one", "two", "three"];

fn step() -> impl Strategy<Value = Step> {
    let device = 0..DEVICES;
    prop_oneof![
        4 => (0_u64..30_000).prop_map(|millis| Step::Pass { millis }),
        4 => (device.clone(), 1_u64..120, 0..IDS.len()).prop_map(|(device, secs, id)| Step::Refresh { device, secs, id }),
        1 => (device.clone(), prop_oneof![Just("bob"), Just("")]).prop_map(|(device, other)| Step::RefreshBy { device, other }),
        1 => (0..IDS.len()).prop_map(|id| Step::RevokeToken { id }),
        1 => device.clone().prop_map(|device| Step::RevokeSession { device }),
        1 => Just(Step::RevokeAll),
        4 => Just(Step::Publish),
        3 => (device, 1_u64..120, 0..IDS.len()).prop_map(|(device, secs, id)| Step::Connect { device, secs, id }),
        1 => Just(Step::Drain),
    ]
}

/// What a connection rests on, told from the history alone. Times are microseconds.
struct Expected {
    ends: u64,
    ids: Vec<usize>,
    is_revoked: bool,
}

/// The steps against what must follow from them.
struct Played {
    world: World,
    now: u64,
    devices: Vec<(Pair, Option<Expected>)>,
    denied: BTreeSet<usize>,
    all_since: Option<u64>,
    draining: bool,
}

const LEEWAY: u64 = 5_000_000;

impl Played {
    fn new() -> Self {
        let far = Duration::from_secs(100_000);
        let limits =
            Limits { heartbeat_interval: far, heartbeat_timeout: far, drain_deadline: far, ..Limits::default() };
        let world = World::with(limits);
        let devices = (0..DEVICES).map(|_| (world.device("nobody"), None)).collect();
        Self { world, now: 0, devices, denied: BTreeSet::new(), all_since: None, draining: false }
    }

    /// Whether a token that is issued now, under this id, lets anybody in.
    fn holds(&self, id: usize) -> bool {
        let issued = self.now / 1_000_000 * 1_000_000;
        !self.denied.contains(&id) && self.all_since.is_none_or(|since| issued > since)
    }

    /// When a token of `secs` seconds that is issued now ends for a connection: `exp` is rounded up to a second, `iat` down.
    fn ends(&self, secs: u64) -> u64 {
        (self.now.div_ceil(1_000_000) + secs) * 1_000_000 + LEEWAY
    }

    fn is_in(&self, device: usize) -> bool {
        // A shutdown closes whom it likes when it likes.
        self.devices[device].0.closed_with() != Some(1012)
            && self.devices[device].1.as_ref().is_some_and(|it| !it.is_revoked && it.ends > self.now)
    }

    fn revoke(&mut self, hit: impl Fn(usize, &Expected) -> bool) {
        for (device, (_, expected)) in self.devices.iter_mut().enumerate() {
            if let Some(it) = expected.as_mut().filter(|it| hit(device, it)) {
                it.is_revoked = true;
            }
        }
    }

    fn play(&mut self, step: &Step) {
        if self.draining {
            self.devices.iter_mut().for_each(|(pair, _)| pair.pump());
        }
        match *step {
            Step::Pass { millis } => {
                self.now += millis * 1_000;
                self.world.clock.turn(Duration::from_millis(millis));
            }
            Step::Refresh { device, secs, id } => {
                let token = token(&self.world, "ann", secs, "", Some(IDS[id]));
                let (is_in, holds, ends, now) = (self.is_in(device), self.holds(id), self.ends(secs), self.now);
                let (pair, expected) = &mut self.devices[device];
                pair.send(&ClientFrame::Refresh { id: frame_id("r"), token: Token::new(&token) });
                let replies = pair.replies();
                let Some(expected) = expected.as_mut() else { return };
                if !is_in {
                    return assert_eq!(replies, []);
                }
                if !holds {
                    return assert_eq!(replies[0].outcome.as_ref().unwrap_err().code.as_str(), "refresh_refused");
                }
                if ends >= expected.ends {
                    expected.ids.clear();
                } else {
                    expected.ids.truncate(1);
                }
                expected.ids.push(id);
                let before = expected.ends;
                expected.ends = before.max(ends);
                let Ok(ReplyOk::Refreshed { expires_in }) = replies[0].outcome else { panic!("{replies:?}") };
                let left = (expected.ends - LEEWAY).saturating_sub(now) as f64 / 1e6;
                assert!((expires_in - left).abs() < 1e-6, "{expires_in} for {left}");
            }
            Step::RefreshBy { device, other } => {
                let token = if other.is_empty() { "a.b.c".into() } else { token(&self.world, other, 600, "", None) };
                let is_in = self.is_in(device);
                let (pair, Some(_)) = &mut self.devices[device] else { return };
                pair.send(&ClientFrame::Refresh { id: frame_id("r"), token: Token::new(&token) });
                let refused =
                    |reply: &crate::protocol::Reply| reply.outcome.as_ref().unwrap_err().code.as_str().to_owned();
                let refused: Vec<String> = pair.replies().iter().map(refused).collect();
                assert_eq!(refused, if is_in { vec!["refresh_refused"] } else { vec![] });
            }
            Step::RevokeToken { id } => {
                self.world.hub.revoke(
                    &ident("ann"),
                    &RevokeTarget::Token(IDS[id].parse().unwrap()),
                    Some(crate::time::UnixTime::MAX),
                );
                self.denied.insert(id);
                self.revoke(|_, it| it.ids.contains(&id));
            }
            Step::RevokeSession { device } => {
                let Some(session) = self.devices[device].0.client.session() else { return };
                self.world.hub.revoke(&ident("ann"), &RevokeTarget::Session(session), None);
                self.revoke(|other, _| other == device);
            }
            Step::RevokeAll => {
                self.world.hub.revoke(&ident("ann"), &RevokeTarget::All, None);
                self.all_since = Some(self.now);
                self.revoke(|_, _| true);
            }
            Step::Publish => self.publish(),
            Step::Connect { device, secs, id } => {
                let token = token(&self.world, "ann", secs, "", Some(IDS[id]));
                let comes_in = self.holds(id) && !self.draining;
                self.devices[device].0 = self.world.connect(token, None, None);
                let expected = Expected { ends: self.ends(secs), ids: vec![id], is_revoked: false };
                self.devices[device].1 = comes_in.then_some(expected);
                assert_eq!(self.devices[device].0.is_in(), comes_in);
            }
            Step::Drain => {
                self.world.hub.begin_shutdown();
                self.draining = true;
            }
        }
    }

    /// An event comes to exactly those who are in, whatever their timers have done yet.
    fn publish(&mut self) {
        if self.draining {
            self.devices.iter_mut().for_each(|(pair, _)| pair.pump());
        }
        self.world.hub.publish(&ident("ann"), None, "note", &self.now).unwrap();
        for device in 0..DEVICES {
            let is_in = self.is_in(device);
            let (pair, expected) = &mut self.devices[device];
            let seen = pair.events().iter().filter(|event| matches!(event, ClientEvent::Event(_))).count();
            assert_eq!(seen, usize::from(is_in), "device {device}");
            if expected.is_some() && !is_in {
                let is_revoked = expected.as_ref().is_some_and(|it| it.is_revoked);
                let code = pair.closed_with();
                assert!(matches!(code, Some(4200 | 1012)) || is_revoked && code == Some(4201), "{code:?}");
            }
        }
    }
}

properties! {
    cases = 128;

    /// An expiry never moves backward, and nothing that has expired or was revoked gets an event, or anything done.
    #[test]
    fn whatever_the_order_the_expired_and_the_revoked_get_nothing_more(steps in prop::collection::vec(step(), 1..60)) {
        let mut played = Played::new();
        for step in &steps {
            played.play(step);
        }
        played.publish();
    }
}

#[test]
fn whoever_comes_in_or_refreshes_while_it_is_revoked_is_out_afterwards() {
    for round in 0..200_u64 {
        let world = World::new();
        let mut ann = world.connect(token(&world, "ann", 3_600, "", Some("one")), None, None);
        let (new, refreshed) =
            (token(&world, "ann", 3_600, "", Some("two")), token(&world, "ann", 7_200, "", Some("two")));
        let target = if round % 2 == 0 { RevokeTarget::All } else { RevokeTarget::Token("two".parse().unwrap()) };
        let attached = thread::scope(|scope| {
            let attach = scope.spawn(|| world.connect(new.clone(), None, None));
            let refresh = scope.spawn(|| {
                ann.client.refresh(Token::new(&refreshed));
                ann.pump();
            });
            let revoke = scope.spawn(|| world.hub.revoke(&ident("ann"), &target, None));
            revoke.join().unwrap();
            refresh.join().unwrap();
            attach.join().unwrap()
        });
        world.hub.publish(&ident("ann"), None, "late", &1).unwrap();
        let mut attached = attached;
        assert_eq!((attached.stream(), attached.closed_with()), (vec![], Some(4201)), "round {round}");
        let stands_on_it = ann.replies().iter().any(|reply| reply.outcome.is_ok());
        let out = ann.closed_with() == Some(4201);
        assert_eq!(out, stands_on_it || target == RevokeTarget::All, "round {round}");
    }
}
