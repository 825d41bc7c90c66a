//! A whole hub: one socket that sends anything, and another user's that must not notice.

mod bystander;
mod stranger;
mod world;

use bystander::Bystander;
use stranger::Stranger;
use world::World;

/// Arbitrary bytes, in any order with time, output that is taken or not, and what the application does.
///
/// The first byte says where the socket stands to begin with: 0 is freshly accepted, 1 upgraded, 2 welcomed (modulo 3).
/// Then come operations, each a byte whose low two bits say which and whose high six say how much:
///
/// | bits | operation |
/// |---|---|
/// | 0 | the next `4 * (n + 1)` bytes come as they are |
/// | 1 | the next `4 * (n + 1)` bytes come as a masked text frame, in which `$T` stands for a good token |
/// | 2 | `n` seconds pass, or a millisecond |
/// | 3 | `n` modulo 8, see `Step` in the source: output is taken, the agent works, the socket ends or comes again |
///
/// Nothing panics, nobody is welcomed without a good token, what waits for the socket is bounded, every frame of the
/// server parses and follows the one before, and the other user gets exactly what is for that user.
pub fn session(data: &[u8]) {
    let Some((first, mut input)) = data.split_first() else { return };
    let stage = first % 3;
    let mut world = World::new();
    let mut bystander = Bystander::welcomed(&world);
    let mut stranger = Stranger::new(&world, stage);
    for _ in 0..MAX_STEPS {
        let Some(step) = Step::take(&mut input) else { break };
        run(&mut world, &mut bystander, &mut stranger, step, stage);
    }
    stranger.take(usize::MAX, &world);
    drop(stranger);
    world.end_runs();
    bystander.still_works(&world);
    assert_eq!((world.hub.sockets(), world.hub.unauthenticated(), world.hub.counts().connections), (1, 0, 1));
}

/// Enough to reach every limit; more only makes runs slower.
const MAX_STEPS: usize = 128;

enum Step<'a> {
    Raw(&'a [u8]),
    Text(&'a [u8]),
    Pass { millis: u64 },
    TakeAll,
    Take(usize),
    Answer,
    Refuse,
    Eof,
    Broken,
    Publish,
    Again,
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
                _ => Self::Again,
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

fn run(world: &mut World, bystander: &mut Bystander, stranger: &mut Stranger, step: Step<'_>, stage: u8) {
    match step {
        Step::Raw(bytes) => stranger.feed(bytes, world),
        Step::Text(text) => stranger.say(text, world),
        Step::Pass { millis } => pass(world, bystander, stranger, millis),
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
        Step::Again => *stranger = Stranger::new(world, stage),
    }
    stranger.settle(world);
    bystander.pump(world);
}

/// In strides below the heartbeat's deadlines, which the bystander meets.
fn pass(world: &mut World, bystander: &mut Bystander, stranger: &mut Stranger, mut millis: u64) {
    while millis > 0 {
        let stride = millis.min(5_000);
        millis -= stride;
        world.pass(stride);
        stranger.settle(world);
        bystander.pump(world);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_are_what_they_are_called() {
        let world = World::new();
        for (stage, verified) in [(0, false), (1, false), (2, true)] {
            let _stranger = Stranger::new(&world, stage);
            assert_eq!(world.stranger_verified(), verified, "{stage}");
        }
    }

    #[test]
    fn bytes_are_operations() {
        let mut input = &b"\x01{}  \x06\x3f\x04ab"[..];
        assert!(matches!(Step::take(&mut input), Some(Step::Text(b"{}  "))));
        assert!(matches!(Step::take(&mut input), Some(Step::Pass { millis: 1_000 })));
        assert!(matches!(Step::take(&mut input), Some(Step::Again)));
        assert!(matches!(Step::take(&mut input), Some(Step::Raw(b"ab"))));
        assert!(Step::take(&mut input).is_none());
    }
}
