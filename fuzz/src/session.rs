//! A whole hub: one socket that sends anything, and another user's that must not notice.

mod bystander;
mod peers;
mod stranger;
pub(crate) mod world;

use bystander::Bystander;
use peers::Peers;
use stranger::Stranger;
use world::{LONGEST_LEASE, World};

/// Arbitrary bytes, in any order with time, output that is taken or not, and what the application does.
///
/// The first byte says where the socket stands to begin with: 0 is freshly accepted, 1 upgraded, 2 welcomed, 3 welcomed as a
/// producer for its user (modulo 4).
/// Then come operations, each a byte whose low two bits say which and whose high six say how much:
///
/// | bits | operation |
/// |---|---|
/// | 0 | the next `4 * (n + 1)` bytes come as they are |
/// | 1 | the next `4 * (n + 1)` bytes come as a masked text frame, in which `$T` stands for a good token, `$P` for a producer's, `$R` and `$Q` for the run and the request named last |
/// | 2 | `n` seconds pass, or a millisecond |
/// | 3 | `n` modulo 8, see `Step` in the source: output is taken, the agent works, the socket ends or comes again, a sound producer comes, works and goes, a sound device asks it |
///
/// Nothing panics, nobody is welcomed without a good token, what waits for the socket is bounded, every frame of the
/// server parses and follows the one before, the other user gets exactly what is for that user, and once everybody has gone
/// and the longest lease is over, no run is open.
pub fn session(data: &[u8]) {
    let Some((first, mut input)) = data.split_first() else { return };
    let mut scene = Scene::new(first % 4);
    for _ in 0..MAX_STEPS {
        let Some(step) = Step::take(&mut input) else { break };
        scene.run(step);
    }
    scene.end();
}

/// Where a socket may stand to begin with; below are the steps to it.
const DEVICE: u8 = 2;
const PRODUCER: u8 = 3;

/// Enough to reach every limit; more only makes runs slower.
const MAX_STEPS: usize = 128;

enum Step<'a> {
    Raw(&'a [u8]),
    Text(&'a [u8]),
    Pass {
        millis: u64,
    },
    TakeAll,
    Take(usize),
    Answer,
    Refuse,
    Eof,
    Broken,
    Publish,
    /// The socket is a new one, at this stage or, without one, where it began.
    Again(Option<u8>),
    AgentComes,
    AgentWorks,
    AgentGoes,
    SomebodyAsks,
}

impl<'a> Step<'a> {
    fn take(input: &mut &'a [u8]) -> Option<Self> {
        let (first, rest) = input.split_first()?;
        *input = rest;
        let n = first >> 2;
        Some(match first & 3 {
            0 => Self::Raw(bytes(input, n)),
            1 => Self::Text(bytes(input, n)),
            2 => Self::Pass { millis: (u64::from(n) * 1_000).max(1) },
            _ => match n & 7 {
                0 => Self::TakeAll,
                1 => Self::Take(1 + 32 * usize::from(n >> 3)),
                2 => Self::Answer,
                3 => Self::Refuse,
                4 => Self::Eof,
                5 => Self::Broken,
                6 => Self::Publish,
                _ => match n >> 3 {
                    1 => Self::AgentComes,
                    2 => Self::AgentWorks,
                    3 => Self::AgentGoes,
                    4 => Self::SomebodyAsks,
                    5 => Self::Again(Some(PRODUCER)),
                    6 => Self::Again(Some(DEVICE)),
                    _ => Self::Again(None),
                },
            },
        })
    }
}

fn bytes<'a>(input: &mut &'a [u8], n: u8) -> &'a [u8] {
    let len = (4 * (usize::from(n) + 1)).min(input.len());
    let (bytes, rest) = input.split_at(len);
    *input = rest;
    bytes
}

/// Everybody on one hub.
struct Scene {
    // Before the world, whose hub they speak to.
    stranger: Stranger,
    peers: Peers,
    bystander: Bystander,
    world: World,
    stage: u8,
}

impl Scene {
    fn new(stage: u8) -> Self {
        let world = World::new();
        let bystander = Bystander::welcomed(&world);
        let stranger = Stranger::new(&world, stage);
        Self { stranger, peers: Peers::default(), bystander, world, stage }
    }

    fn run(&mut self, step: Step<'_>) {
        let Self { stranger, peers, bystander, world, stage } = self;
        match step {
            Step::Raw(bytes) => stranger.feed(bytes, world),
            Step::Text(text) => stranger.say(text, world),
            Step::Pass { millis } => self.pass(millis),
            Step::TakeAll => stranger.take(usize::MAX, world),
            Step::Take(n) => stranger.take(n, world),
            Step::Answer => world.answer(),
            Step::Refuse => world.refuse(),
            Step::Eof => stranger.eof(world),
            Step::Broken => stranger.broken(world),
            Step::Publish => {
                world.publish_to_stranger();
                bystander.gets_its_own(world);
            }
            Step::Again(other) => *stranger = Stranger::new(world, other.unwrap_or(*stage)),
            Step::AgentComes => peers.agent_comes(world),
            Step::AgentWorks => peers.agent_works(world),
            Step::AgentGoes => peers.agent_goes(),
            Step::SomebodyAsks => peers.somebody_asks(world),
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.stranger.settle(&self.world);
        self.peers.pump(&self.world);
        self.bystander.pump(&self.world);
    }

    /// In strides below the heartbeat's deadlines, which the sound clients meet.
    fn pass(&mut self, mut millis: u64) {
        while millis > 0 {
            let stride = millis.min(5_000);
            millis -= stride;
            self.world.pass(stride);
            self.settle();
        }
    }

    /// Everybody goes but the bystander, who works on.
    fn end(mut self) {
        self.stranger.take(usize::MAX, &self.world);
        drop(self.stranger);
        self.peers.leave();
        self.world.end_runs();
        self.bystander.still_works(&self.world);
        let hub = &self.world.hub;
        assert_eq!((hub.sockets(), hub.unauthenticated(), hub.counts().connections), (1, 0, 1));
        for _ in 0..=LONGEST_LEASE.as_secs() / 5 {
            self.world.pass(5_000);
            self.bystander.pump(&self.world);
        }
        let counts = self.world.hub.counts();
        assert_eq!((counts.runs, counts.requests), (0, 0), "every run ends, and every request is answered");
        self.bystander.still_works(&self.world);
    }
}

#[cfg(test)]
mod tests {
    use super::world::USERS;
    use super::*;

    #[test]
    fn the_stages_are_what_they_are_called() {
        let world = World::new();
        for (stage, device, producer) in [(0, false, false), (1, false, false), (2, true, false), (3, true, true)] {
            let _stranger = Stranger::new(&world, stage);
            let verified = (world.verified(&USERS.stranger), world.verified(&USERS.producer));
            assert_eq!(verified, (device, producer), "{stage}");
        }
    }

    #[test]
    fn bytes_are_operations() {
        let mut input = &b"\x01{}  \x06\x1f\x3f\x04ab"[..];
        assert!(matches!(Step::take(&mut input), Some(Step::Text(b"{}  "))));
        assert!(matches!(Step::take(&mut input), Some(Step::Pass { millis: 1_000 })));
        assert!(matches!(Step::take(&mut input), Some(Step::Again(None))));
        assert!(matches!(Step::take(&mut input), Some(Step::AgentComes)));
        assert!(matches!(Step::take(&mut input), Some(Step::Raw(b"ab"))));
        assert!(Step::take(&mut input).is_none());
    }
}
