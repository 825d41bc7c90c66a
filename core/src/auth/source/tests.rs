//! Tests of the machine in [`super::schedule`], with a source that is up and down in made-up time.

use std::time::Duration;

use proptest::prelude::*;

use super::kids::MAX_KIDS;
use super::*;
use crate::time::Timestamp;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn at(millis: u64) -> Timestamp {
    Timestamp::from_micros(millis * 1_000)
}

fn config() -> SourceConfig {
    SourceConfig {
        refresh: ms(10_000),
        cooldown: ms(1_000),
        fetch_deadline: ms(300),
        retry: ms(50),
        breaker: BreakerConfig { failures: 3, open: ms(600) },
        max_age: None,
    }
}

/// A source outside, which takes its time and is down at times, and the machine that asks it.
struct World {
    schedule: Schedule,
    now: Timestamp,
    /// When it ends, and whether well.
    under_way: Option<(Fetch, Timestamp, bool)>,
    /// When each fetch began, and when it ended and how.
    fetches: Vec<(Timestamp, Option<(Timestamp, bool)>)>,
    /// From and until when the source answers nothing.
    outages: Vec<(Timestamp, Timestamp)>,
    takes: Duration,
    random: u64,
    too_old: usize,
}

impl World {
    fn new(config: SourceConfig) -> Self {
        Self {
            schedule: Schedule::new(config).unwrap(),
            now: Timestamp::ZERO,
            under_way: None,
            fetches: Vec::new(),
            outages: Vec::new(),
            takes: ms(20),
            random: 0,
            too_old: 0,
        }
    }

    fn down(mut self, from: u64, until: u64) -> Self {
        self.outages.push((at(from), at(until)));
        self
    }

    fn is_down(&self, now: Timestamp) -> bool {
        self.outages.iter().any(|(from, until)| (*from..*until).contains(&now))
    }

    /// Lets time pass, and does everything at its time.
    fn until(&mut self, end: Timestamp) {
        for _ in 0..100_000 {
            let fetch = self.under_way.map_or(Timestamp::MAX, |(_, ends, _)| ends);
            let next = self.schedule.poll_timeout().min(fetch);
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            self.step();
        }
        panic!("it spins at {:?}", self.now);
    }

    fn step(&mut self) {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if let Some((fetch, ends, well)) = self.under_way
            && ends <= self.now
        {
            self.under_way = None;
            self.fetches.last_mut().unwrap().1 = Some((self.now, well));
            if well {
                self.schedule.handle_loaded(fetch, self.random >> 7);
            } else {
                self.schedule.handle_failed(self.now, fetch, self.random >> 7);
            }
        }
        self.too_old += usize::from(self.schedule.handle_timeout(self.now));
        if let Some(fetch) = self.schedule.poll_fetch(self.now) {
            assert!(self.under_way.is_none(), "one at a time");
            let well = !self.is_down(self.now);
            let ends = if well { self.now + self.takes } else { fetch.deadline };
            self.under_way = Some((fetch, ends, well));
            self.fetches.push((self.now, None));
        }
        assert!(self.schedule.poll_fetch(self.now).is_none(), "one at a time");
    }

    fn begins(&self) -> Vec<Timestamp> {
        self.fetches.iter().map(|(began, _)| *began).collect()
    }
}

#[test]
fn a_source_is_fetched_at_the_start_and_then_at_every_refresh() {
    let mut world = World::new(config());
    assert_eq!((world.schedule.poll_timeout(), world.schedule.health()), (Timestamp::ZERO, Health::Starting));
    world.until(at(100_000));
    let begins = world.begins();
    assert_eq!(begins[0], Timestamp::ZERO);
    assert!((10..=12).contains(&begins.len()), "{begins:?}");
    for pair in begins.windows(2) {
        let gap = pair[1].saturating_since(pair[0]);
        assert!((ms(9_000)..=ms(10_000)).contains(&gap), "{gap:?}");
    }
    assert_eq!(world.schedule.health(), Health::Up);
}

#[test]
fn a_new_name_is_fetched_after_the_cooldown_and_then_decided_for_as_long() {
    let mut world = World::new(config());
    world.until(at(100));
    assert_eq!(world.schedule.handle_asked("new"), Verdict::Undecided);
    assert_eq!(world.schedule.poll_timeout(), at(1_000));
    world.until(at(1_010));
    // Asked for while the fetch is under way, which may have been answered before the key was there.
    assert_eq!(world.schedule.handle_asked("newer"), Verdict::Undecided);
    world.until(at(1_020));
    assert_eq!(world.schedule.handle_asked("new"), Verdict::Absent);
    assert_eq!(world.schedule.handle_asked("newer"), Verdict::Undecided);
    world.until(at(2_020));
    assert_eq!(world.begins(), [at(0), at(1_000), at(2_000)]);
    assert_eq!(world.schedule.handle_asked("newer"), Verdict::Absent);
    // Nobody's refusal lasts: a name that was asked for too early is looked up again.
    world.until(at(2_999));
    assert_eq!(world.schedule.handle_asked("newer"), Verdict::Absent);
    world.until(at(3_000));
    assert_eq!(world.schedule.handle_asked("newer"), Verdict::Undecided);
    assert_eq!(world.schedule.poll_timeout(), at(3_000));
}

#[test]
fn a_name_asked_for_long_after_the_last_fetch_is_fetched_at_once() {
    let mut world = World::new(config());
    world.until(at(5_000));
    world.schedule.handle_asked("new");
    world.until(at(5_000));
    assert_eq!(world.begins(), [at(0), at(5_000)]);
}

#[test]
fn an_order_is_a_fetch_at_once_and_one_more_when_one_is_under_way() {
    let mut world = World::new(config());
    world.until(at(100));
    world.schedule.handle_order();
    world.until(at(110));
    assert_eq!(world.begins(), [at(0), at(100)]);
    world.schedule.handle_order();
    world.until(at(5_000));
    assert_eq!(world.begins(), [at(0), at(100), at(120)]);
}

#[test]
fn a_source_that_fails_is_left_alone_longer_each_time_and_then_by_its_breaker() {
    let mut world = World::new(config()).down(0, 5_000);
    let mut seen = Vec::new();
    for now in 0..6_000 {
        world.until(at(now));
        let health = world.schedule.health();
        if seen.last() != Some(&health) {
            seen.push(health);
        }
    }
    assert_eq!(seen, [Health::Starting, Health::Failing, Health::Down, Health::Up]);
    let ends: Vec<_> = world.fetches.iter().filter_map(|(_, end)| end.map(|(when, _)| when)).collect();
    let gaps: Vec<_> = world.begins()[1..].iter().zip(ends).map(|(next, end)| next.saturating_since(end)).collect();
    assert!((ms(25)..=ms(50)).contains(&gaps[0]) && (ms(50)..=ms(100)).contains(&gaps[1]), "{gaps:?}");
    assert!(gaps[2..].iter().all(|gap| *gap == ms(600)) && gaps.len() >= 5, "{gaps:?}");
}

#[test]
fn the_outcome_of_a_fetch_that_is_over_is_ignored() {
    let mut schedule = Schedule::new(config()).unwrap();
    let first = schedule.poll_fetch(at(0)).unwrap();
    schedule.handle_failed(at(300), first, 0);
    let second = schedule.poll_fetch(at(400)).unwrap();
    schedule.handle_loaded(first, 0);
    schedule.handle_failed(at(401), first, 0);
    assert_eq!((schedule.health(), schedule.breaker()), (Health::Failing, BreakerState::Closed { failures: 1 }));
    assert!(schedule.poll_fetch(at(10_000)).is_none(), "the second is under way");
    schedule.handle_loaded(second, 0);
    schedule.handle_failed(at(402), second, 0);
    assert_eq!((schedule.health(), schedule.breaker()), (Health::Up, BreakerState::Closed { failures: 0 }));
}

#[test]
fn keys_last_as_long_as_they_may_and_by_default_for_ever() {
    let aged = SourceConfig { max_age: Some(ms(12_000)), ..config() };
    for (config, too_old) in [(config(), 0), (aged, 1)] {
        let mut world = World::new(config).down(1, 40_000);
        world.until(at(11_999));
        assert_eq!(world.too_old, 0);
        world.until(at(39_000));
        assert_eq!(world.too_old, too_old);
        world.until(at(60_000));
        assert_eq!((world.too_old, world.schedule.health()), (too_old, Health::Up));
    }
}

#[test]
fn figures_that_make_no_sense_are_refused_by_name() {
    let good = config();
    let zero = Duration::ZERO;
    let table = [
        ("refresh", SourceConfig { refresh: zero, cooldown: zero, ..good }),
        ("cooldown", SourceConfig { cooldown: zero, ..good }),
        ("cooldown", SourceConfig { cooldown: ms(10_001), ..good }),
        ("fetch_deadline", SourceConfig { fetch_deadline: zero, ..good }),
        ("retry", SourceConfig { retry: zero, ..good }),
        ("breaker", SourceConfig { breaker: BreakerConfig { open: zero, ..good.breaker }, ..good }),
        ("breaker", SourceConfig { breaker: BreakerConfig { failures: 0, ..good.breaker }, ..good }),
        ("max_age", SourceConfig { max_age: Some(ms(11_599)), ..good }),
    ];
    for (name, config) in table {
        assert_eq!(config.check().unwrap_err().name, name);
        assert!(Schedule::new(config).is_err());
    }
    for good in [good, SourceConfig::default(), SourceConfig::of_file()] {
        good.check().unwrap();
    }
    SourceConfig { cooldown: ms(10_000), max_age: Some(ms(20_600)), ..good }.check().unwrap();
}

#[test]
fn a_source_that_recovers_later_than_connections_are_lost_is_refused() {
    // 300 ms twice, and the longer of 600 ms and 1 s.
    assert_eq!(config().recovery(), ms(1_600));
    let refused = config().check_against(ms(1_600)).unwrap_err();
    assert_eq!(refused.name, "cooldown");
    config().check_against(ms(1_601)).unwrap();
    let slow = SourceConfig { breaker: BreakerConfig { open: ms(300_000), ..config().breaker }, ..config() };
    assert_eq!(slow.check_against(ms(180_000)).unwrap_err().name, "breaker");
    SourceConfig { fetch_deadline: Duration::MAX, ..config() }.check_against(Duration::MAX).unwrap_err();
}

/// What happens around the machine.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    /// A token names this one of a few keys.
    Ask(u8),
    /// Tokens name so many keys that do not exist, each another.
    Junk(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u64..700).prop_map(Step::Pass),
        1 => (0_u64..8_000).prop_map(Step::Pass),
        3 => (0_u8..4).prop_map(Step::Ask),
        2 => any::<u8>().prop_map(Step::Junk),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..80)
}

fn outages() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0_u64..60_000, 0_u64..9_000), 0..6)
}

fn world(outages: &[(u64, u64)], takes: u64) -> World {
    let mut world = World::new(config());
    world.takes = ms(takes);
    outages.iter().fold(world, |world, (from, length)| world.down(*from, from + length))
}

/// Plays the steps, and looks at each answer.
fn play(world: &mut World, steps: &[Step], mut answered: impl FnMut(&World, &str, Verdict)) {
    let mut made_up = 0_u32;
    for step in steps {
        let now = world.now;
        match *step {
            Step::Pass(millis) => world.until(now + ms(millis)),
            Step::Ask(key) => {
                let kid = format!("key-{key}");
                let verdict = world.schedule.handle_asked(&kid);
                answered(world, &kid, verdict);
            }
            Step::Junk(count) => {
                for _ in 0..count {
                    made_up += 1;
                    let _ = world.schedule.handle_asked(&format!("junk-{made_up}"));
                }
            }
        }
        let (asked, absent) = world.schedule.kids();
        assert!(asked <= MAX_KIDS && absent <= MAX_KIDS, "{asked} and {absent}");
    }
    let now = world.now;
    world.until(now + ms(30_000));
}

properties! {
    cases = 512;

    /// Whatever tokens name: after a fetch that succeeded the next one waits for the cooldown at least.
    #[test]
    fn junk_costs_one_fetch_a_cooldown_at_most(steps in steps(), outages in outages(), takes in 0_u64..299) {
        let mut world = world(&outages, takes);
        play(&mut world, &steps, |_, _, _| {});
        for pair in world.fetches.windows(2) {
            let ((began, ended), (next, _)) = (pair[0], pair[1]);
            let (ended, well) = ended.expect("one at a time");
            let least = if well { began + ms(1_000) } else { ended + ms(25) };
            prop_assert!(next >= least, "{next:?} after {began:?}");
        }
    }

    /// A breaker is moved by the outcomes of its source's fetches and by nothing else, and while the source fails nobody's
    /// tokens bring the next fetch forward.
    #[test]
    fn no_token_moves_a_breaker(steps in steps(), outages in outages(), takes in 0_u64..299) {
        let mut world = world(&outages, takes);
        play(&mut world, &steps, |_, _, _| {});
        let mut model = Breaker::new(config().breaker);
        let (mut failures, mut failed) = (0_u32, None);
        for (began, ended) in &world.fetches {
            prop_assert!(model.admit(*began), "a fetch at {began:?} that its own breaker refuses");
            if let Some((_, least)) = failed {
                prop_assert!(*began >= least, "{began:?} and not {least:?}");
            }
            match ended {
                Some((_, true)) => {
                    model.succeeded();
                    (failures, failed) = (0, None);
                }
                Some((when, false)) => {
                    model.failed(*when);
                    let wait = ms(50).saturating_mul(2_u32.saturating_pow(failures)).min(ms(600));
                    failures += 1;
                    failed = Some((*when, *when + wait / 2));
                }
                None => {}
            }
        }
        prop_assert_eq!(model.state(), world.schedule.breaker());
    }

    /// A name is refused only by a fetch that began after it was first asked for, that succeeded, and that is not older than
    /// the cooldown.
    #[test]
    fn a_name_is_refused_only_after_a_fetch_that_looked_for_it(
        steps in steps(), outages in outages(), takes in 0_u64..299,
    ) {
        let mut world = world(&outages, takes);
        let mut first = std::collections::BTreeMap::new();
        let mut refused = Vec::new();
        play(&mut world, &steps, |world, kid, verdict| {
            let asked = *first.entry(kid.to_owned()).or_insert(world.now);
            if verdict == Verdict::Absent {
                refused.push((asked, world.now));
            }
        });
        for (asked, now) in refused {
            let looked = world.fetches.iter().any(|(began, ended)| {
                let well = ended.is_some_and(|(when, well)| well && when <= now);
                well && *began >= asked && now <= *began + ms(1_000)
            });
            prop_assert!(looked, "asked at {asked:?}, refused at {now:?}: {:?}", world.fetches);
        }
    }

    /// Once the source works, new keys are there within the time that the configuration is checked against.
    #[test]
    fn a_source_that_works_again_is_found_in_time(
        steps in steps(), outages in outages(), takes in 0_u64..299, asked in 0_u64..70_000,
    ) {
        let mut world = world(&outages, takes);
        play(&mut world, &steps[..steps.len() / 2], |_, _, _| {});
        let healthy = world.outages.iter().map(|(_, until)| *until).max().unwrap_or_default();
        let from = healthy.max(world.now).max(at(asked));
        world.until(from);
        let needed = world.schedule.handle_asked("new");
        prop_assert_eq!(needed, Verdict::Undecided);
        let by = from + config().recovery();
        world.until(by);
        let found = world.fetches.iter().any(|(began, ended)| {
            *began >= from && ended.is_some_and(|(when, well)| well && when <= by)
        });
        prop_assert!(found, "asked at {from:?}: {:?}", world.fetches);
    }
}
