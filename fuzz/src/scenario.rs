//! Sound clients that come back, over sockets that break, beside each other on one hub.

mod device;

use std::collections::BTreeMap;
use std::sync::Arc;

use trunkline_core::id::UserId;
use trunkline_core::protocol::Position;

use crate::session::world::{Counting, USERS, World};
use device::Device;

/// Two users with two devices each, an application, and a network that is bad at any byte.
///
/// The bytes are operations of two each. Of the first the low four bits say which, and the two after them whose; the second
/// says how much.
///
/// | bits | operation |
/// |---|---|
/// | 0, 1 | so many bytes go from the device to the hub, or from the hub to the device |
/// | 2, 3 | everything that can move does, of this device or of all |
/// | 4 | a token or a socket that was asked for comes, or does not |
/// | 5 | the socket ends for both |
/// | 6, 7 | the socket ends for the device alone, or for the hub alone |
/// | 8, 9 | so many bytes are taken from the device, or from the hub, and never come; then the socket ends |
/// | 10 | something is published for the user |
/// | 11, 12 | the application takes what it is asked and works, or refuses |
/// | 13 | the device sends a message |
/// | 14 | the device hurries |
/// | 15 | time passes |
///
/// Whatever happens: a device is given its user's events alone, each once and in order, and none is left out of which no gap
/// is told; two devices that are at one position saw the same there; nothing follows the end of a run; no device stops. Once the
/// network is good again, every device is in within minutes, gets what is published then, and no run stays open.
pub fn scenario(data: &[u8]) {
    let mut scene = Scene::new();
    for operation in data.chunks_exact(2).take(MAX_OPERATIONS) {
        scene.play(operation[0], operation[1]);
        scene.settle();
    }
    scene.end();
}

/// Enough for everybody to come back several times; more only makes runs slower.
const MAX_OPERATIONS: usize = 256;

/// What the application published for each user, and what stands at each position.
#[derive(Default)]
struct Truth {
    published: BTreeMap<&'static str, Vec<u64>>,
    at: BTreeMap<(&'static str, Position), String>,
}

impl Truth {
    /// One more for this user; its number is nobody else's.
    fn next(&mut self, user: &'static UserId) -> u64 {
        let number = self.published.values().map(Vec::len).sum::<usize>() as u64 + 1;
        self.published.entry(user.sub()).or_default().push(number);
        number
    }

    /// Where a published number stands among those of the user.
    fn index(&self, user: &'static str, number: u64) -> usize {
        let own = self.published.get(user).map(Vec::as_slice).unwrap_or_default();
        own.iter().position(|known| *known == number).expect("an event of somebody else, or of nobody")
    }
}

struct Scene {
    // Before the world, whose hub they speak to.
    devices: [Device; 4],
    truth: Truth,
    world: World,
}

impl Scene {
    fn new() -> Self {
        let world = World::roomy();
        let device = |user, token| Device::new(&world, user, token, Arc::new(Counting::default()));
        let (one, other) = ((&USERS.stranger, &*USERS.asker_token), (&USERS.bystander, &*USERS.bystander_token));
        let devices = [one, one, other, other].map(|(user, token)| device(user, token));
        let mut scene = Self { devices, truth: Truth::default(), world };
        // What they want first is theirs to say.
        scene.settle();
        scene
    }

    fn play(&mut self, operation: u8, much: u8) {
        let Self { devices, truth, world } = self;
        let device = &mut devices[usize::from(operation >> 4 & 3)];
        let bytes = 1 + 8 * usize::from(much);
        match operation & 15 {
            0 => device.up(world, bytes),
            1 => device.down(world, truth, bytes),
            2 => device.flow(world, truth),
            3 => devices.iter_mut().for_each(|device| device.flow(world, truth)),
            4 => device.give(world, much & 3 != 3),
            5 => device.cut(world),
            6 => device.cut_for_itself(world),
            7 => device.cut_for_the_hub(world),
            8 => device.lose_up(world, bytes),
            9 => device.lose_down(world, bytes),
            10 => Self::publish(world, truth, device.user),
            11 => world.answer(),
            12 => world.refuse(),
            13 => device.say(world),
            14 => device.hurry(world),
            _ => self.pass(100 * u64::from(much)),
        }
    }

    fn publish(world: &World, truth: &mut Truth, user: &'static UserId) {
        world.hub.publish(user, None, "news", &truth.next(user)).expect("room in the log");
    }

    fn settle(&mut self) {
        self.devices.iter_mut().for_each(|device| device.settle(&self.world, &mut self.truth));
    }

    fn pass(&mut self, millis: u64) {
        self.world.pass(millis);
        self.settle();
    }

    /// The network is good, and everybody is asked for nothing that does not come.
    fn end(mut self) {
        self.converge(|device| device.is_live());
        self.world.end_runs();
        for user in [&USERS.stranger, &USERS.bystander] {
            Self::publish(&self.world, &mut self.truth, user);
        }
        let last = self.truth.published.clone();
        self.converge(|device| device.is_live() && device.last() == last[device.user.sub()].last().copied());
        let counts = self.world.hub.counts();
        assert_eq!((counts.runs, counts.requests), (0, 0), "every run ends, and every request is answered");
        assert_eq!(counts.connections, self.devices.len(), "one connection of each device is left");
    }

    fn converge(&mut self, there: impl Fn(&Device) -> bool) {
        for _ in 0..MAX_SECONDS {
            for device in &mut self.devices {
                device.give(&self.world, true);
                device.flow(&self.world, &mut self.truth);
            }
            self.world.refuse();
            self.settle();
            if self.devices.iter().all(&there) && self.world.hub.counts().connections == self.devices.len() {
                return;
            }
            self.pass(1_000);
        }
        panic!("it does not settle");
    }
}

/// The longest back-off, a half-open socket's heartbeat and the longest deadline, several times over.
const MAX_SECONDS: usize = 900;

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: u8 = 1;
    const FLOW: u8 = 2 | DEVICE << 4;
    const ALL_FLOW: u8 = 3;
    const GIVE: u8 = 4 | DEVICE << 4;
    const PUBLISH: u8 = 10 | DEVICE << 4;

    /// A device that is in and was given something.
    fn welcomed() -> Scene {
        let mut scene = Scene::new();
        for operation in [GIVE, GIVE, FLOW, PUBLISH, ALL_FLOW] {
            scene.play(operation, 0);
            scene.settle();
        }
        assert_eq!(scene.devices[1].last(), Some(1));
        scene
    }

    #[test]
    fn a_device_that_lost_its_socket_comes_back_and_misses_nothing() {
        let mut scene = welcomed();
        for operation in [9 | DEVICE << 4, PUBLISH, PUBLISH] {
            scene.play(operation, 0);
            scene.settle();
        }
        assert!(!scene.devices[1].is_live());
        scene.end();
    }

    #[test]
    #[should_panic(expected = "3 after Some((1, 0))")]
    fn an_event_that_is_left_out_is_a_finding() {
        let mut scene = welcomed();
        // Published, as the truth has it, and in no log.
        scene.truth.next(&USERS.stranger);
        scene.play(PUBLISH, 0);
        scene.play(ALL_FLOW, 0);
    }

    #[test]
    #[should_panic(expected = "of somebody else")]
    fn an_event_of_the_other_user_is_a_finding() {
        let mut scene = welcomed();
        let number = scene.truth.next(&USERS.bystander);
        scene.world.hub.publish(&USERS.stranger, None, "news", &number).unwrap();
        scene.play(ALL_FLOW, 0);
    }
}
