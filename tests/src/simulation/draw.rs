//! From a seed to what the world is and what happens in it.

use std::time::Duration;

use trunkline_core::limits::Limits;

use super::op::Op;

/// A generator whose seed a failure names (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u32) -> u32 {
        // The product of two numbers below 2^32; its upper half is below `n`.
        (((self.next() >> 32) * u64::from(n)) >> 32) as u32
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }
}

/// How the server is set up, by the seed.
pub(super) fn limits(seed: u64) -> (Limits, usize) {
    let mut random = Random::new(seed ^ 0x5e70_77ab);
    let limits = Limits {
        log_entries: random.of(&[24, 120, 4_096]),
        log_bytes: 64 << 10,
        event_bytes: 32 << 10,
        snapshot_bytes: random.of(&[4 << 10, 64 << 10]),
        lag_entries: random.of(&[4, 32, 256]),
        control_bytes: 16 << 10,
        total_log_bytes: random.of(&[160 << 10, 8 << 20]),
        log_retention: Duration::from_secs(random.of(&[20, 300])),
        request_deadline: Duration::from_secs(random.of(&[3, 10])),
        run_lease: Duration::from_secs(5),
        run_lease_max: Duration::from_secs(60),
        dedup_window: Duration::from_secs(600),
        write_stall: Duration::from_secs(random.of(&[20, 90])),
        heartbeat_interval: Duration::from_secs(random.of(&[10, 25])),
        eviction_idle: Duration::from_secs(60),
        connections_per_user: 10,
        message_bytes: 8 << 10,
        auth_notice: Duration::from_secs(random.of(&[5, 60])),
        drain_deadline: Duration::from_secs(random.of(&[2, 30])),
        ..Limits::default()
    };
    (limits, random.of(&[1, 2, 4]))
}

/// The operations of a seed.
pub(super) fn operations(seed: u64, steps: usize) -> Vec<Op> {
    let mut random = Random::new(seed);
    // Every seed has a weather of its own: where everything happens all the time, most of it comes to nothing.
    let weather = Weather::draw(&mut random);
    (0..steps).map(|_| weather.operation(&mut random)).collect()
}

/// How often which kind of thing happens.
#[derive(Debug)]
struct Weather {
    weights: [u32; KINDS],
    total: u32,
    /// The longest of most waits, in milliseconds.
    patience: u32,
    chars: u16,
}

/// Publish, work, people, topics, network, slowness, storms, life of tokens, revocations, producers, server, time.
const KINDS: usize = 12;
const USUAL: [u32; KINDS] = [12, 30, 9, 5, 9, 9, 1, 3, 1, 14, 1, 20];

impl Weather {
    fn draw(random: &mut Random) -> Self {
        let mut weights = USUAL;
        for weight in &mut weights {
            // Three times as often, as usual, seldom, or not at all.
            *weight = *weight * random.of(&[30, 10, 10, 10, 3, 0]) / 10;
        }
        // Something must happen, and time must pass.
        weights[1] = weights[1].max(3);
        weights[KINDS - 1] = weights[KINDS - 1].max(6);
        Self {
            total: weights.iter().sum(),
            weights,
            patience: random.of(&[50, 400, 3_000]),
            chars: random.of(&[8, 60, 900]),
        }
    }

    fn operation(&self, random: &mut Random) -> Op {
        let mut drawn = random.below(self.total);
        let kind = self.weights.iter().position(|weight| {
            let found = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            found
        });
        match kind {
            Some(0) => publish(random),
            Some(1) => work(random, self.chars),
            Some(2) => people(random),
            Some(3) => topics(random),
            Some(4) => network(random),
            Some(5) => slowness(random),
            Some(6) => random.of(&[Op::Storm, Op::Obey]),
            Some(7) => tokens(random),
            Some(8) => revoke(random),
            Some(9) => producer(random),
            Some(10) => server(random),
            Some(_) | None => self.time(random),
        }
    }

    fn time(&self, random: &mut Random) -> Op {
        match random.below(100) {
            0 => Op::Pass { millis: 100_000 + random.below(300_000) },
            1..=6 => Op::Pass { millis: 1_000 + random.below(40_000) },
            7 => Op::Skew { millis: random.of(&[0, 0, 2_000, -2_000, 30_000, -30_000, 3_600_000, -3_600_000]) },
            _ => Op::Pass { millis: 1 + random.below(self.patience) },
        }
    }
}

fn publish(random: &mut Random) -> Op {
    match random.below(20) {
        0 => Op::Publish { user: random.byte(), thread: random.byte(), bytes: 20_000 },
        1 => Op::Ephemeral { user: random.byte() },
        2..=5 => Op::PublishTopic { topic: random.byte(), bytes: random.of(&[0, 10, 2_000]) },
        _ => Op::Publish { user: random.byte(), thread: random.byte(), bytes: random.below(200) as u16 },
    }
}

fn work(random: &mut Random, chars: u16) -> Op {
    let run = random.byte();
    match random.below(32) {
        0..=3 => Op::Start { user: random.byte(), thread: random.byte() },
        4..=8 => Op::Think { run },
        9..=12 => Op::CallTool { run },
        13..=16 => Op::EndTool { run },
        17..=26 => {
            let times = random.of(&[1, 1, 1, 3, 30]);
            Op::Say { run, part: random.byte() % 2, chars: 1 + random.below(chars.into()) as u16, times }
        }
        27 => Op::Suspend { run },
        28 => Op::Resume { run },
        29 | 30 => Op::Complete { run },
        _ if random.chance(50) => Op::Fail { run },
        _ => Op::Abandon { run },
    }
}

fn people(random: &mut Random) -> Op {
    let device = random.byte();
    match random.below(16) {
        0..=4 => Op::Message { device, thread: random.byte() },
        5 | 6 => Op::Command { device },
        7 => Op::Cancel { device },
        8 => Op::Approve { device },
        9..=12 => Op::Answer,
        13 => Op::Refuse,
        14 => Op::Ignore,
        _ => Op::Obey,
    }
}

fn topics(random: &mut Random) -> Op {
    let (device, topic) = (random.byte(), random.byte());
    match random.below(4) {
        0 => Op::Follow { device, topic },
        1 => Op::Leave { device, topic },
        _ => Op::PublishTopic { topic, bytes: random.below(100) as u16 },
    }
}

fn network(random: &mut Random) -> Op {
    let device = random.byte();
    match random.below(24) {
        0..=4 => Op::Cut { device },
        5 => Op::Vanish { device },
        6..=8 => Op::HalfOpen { device },
        9 => Op::Offline { device },
        10..=12 => Op::Online { device },
        13 => Op::Delay { device },
        14..=16 => Op::Late { ghost: random.byte(), bytes: random.of(&[1, 30, 300, 5_000]) },
        17 => Op::LateEnd { ghost: random.byte() },
        18 => Op::Twin { device },
        19 => Op::Stranger { greets: random.chance(50), tenths: random.of(&[1, 5, 20, 60]) },
        20 => Op::Go { device },
        _ => Op::Come { device, afresh: random.chance(30) },
    }
}

fn slowness(random: &mut Random) -> Op {
    let (device, up) = (random.byte(), random.chance(30));
    match random.below(16) {
        0..=2 => Op::Hold { device, up },
        3..=8 => Op::Trickle { device, up, bytes: random.of(&[1, 7, 100, 900, 9_000]) },
        9..=12 => Op::Release { device },
        13 => Op::Fragment { device, bytes: random.of(&[0, 0, 1, 3, 50]) },
        14 => Op::Narrow { device, hundreds: random.of(&[2, 20, 200]) },
        _ => Op::Fragment { device, bytes: 0 },
    }
}

fn tokens(random: &mut Random) -> Op {
    match random.below(8) {
        0..=2 => Op::TokenLife { seconds: random.of(&[2, 10, 30, 120, 250]) },
        3 => Op::IssuerDown,
        4 | 5 => Op::IssuerUp,
        _ => Op::Refresh { device: random.byte() },
    }
}

fn revoke(random: &mut Random) -> Op {
    let device = random.byte();
    match random.below(3) {
        0 => Op::RevokeToken { device },
        1 => Op::RevokeSession { device },
        _ => Op::RevokeUser { user: random.byte() },
    }
}

fn producer(random: &mut Random) -> Op {
    let producer = random.byte();
    match random.below(24) {
        0..=2 => Op::ProducerCome { producer },
        3 => Op::ProducerCut { producer },
        4 => Op::ProducerVanish { producer },
        5..=7 => {
            Op::ProducerStart { producer, user: random.byte(), thread: random.byte(), lease: random.of(&[1, 5, 30]) }
        }
        8..=18 => Op::ProducerWork { producer, run: random.byte(), what: random.of(&[0, 1, 2, 3, 3, 3, 4, 5, 6]) },
        19..=21 => Op::ProducerAnswer { producer },
        _ => Op::ProducerPublish { producer, user: random.byte() },
    }
}

fn server(random: &mut Random) -> Op {
    match random.below(8) {
        0 => Op::Drain,
        1 => Op::Restart,
        2 => Op::Level { level: random.of(&[1, 2]) },
        _ => Op::Level { level: random.of(&[0, 3]) },
    }
}
