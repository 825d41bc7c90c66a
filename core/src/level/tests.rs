//! The automaton: by a table, by every path through a small world, and by chance against a slower definition.

mod exploration;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

const SEC: Duration = Duration::from_secs(1);

fn levels(limits: Limits) -> Levels {
    limits.check().unwrap();
    Levels::new(Arc::new(limits))
}

fn at(secs: f64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs_f64(secs)
}

fn name(text: &str) -> DependencyName {
    DependencyName::new(text).unwrap()
}

fn report(level: ServiceLevel) -> Report {
    Report::new(level, "as reported")
}

/// The changes that are told while the timer is served up to `until`.
fn pass(levels: &mut Levels, until: Timestamp) -> Vec<ServiceLevel> {
    let mut told: Vec<_> = levels.poll_change().map(|notice| notice.level).into_iter().collect();
    while let Some(due) = levels.poll_timeout().filter(|due| *due <= until) {
        if levels.wants_memory(due) {
            levels.handle_memory(due, levels.percent as usize, 100);
        }
        levels.handle_timeout(due);
        told.extend(levels.poll_change().map(|notice| notice.level));
    }
    levels.handle_timeout(until);
    told.extend(levels.poll_change().map(|notice| notice.level));
    told
}

#[test]
fn memory_counts_once_it_lasts_and_is_left_below_where_it_was_entered() {
    use ServiceLevel::{Degraded, Emergency, Normal};
    let steps = [
        (79, 5.0, vec![]),
        (80, 0.9, vec![]),
        (79, 5.0, vec![]),
        (80, 1.0, vec![Degraded]),
        (70, 60.0, vec![]),
        (69, 9.9, vec![]),
        (70, 60.0, vec![]),
        (69, 10.0, vec![Normal]),
        (95, 1.0, vec![Emergency]),
        (85, 60.0, vec![]),
        (84, 10.0, vec![Degraded]),
        (94, 60.0, vec![]),
        (100, 1.0, vec![Emergency]),
        (0, 10.0, vec![Normal]),
        // For a moment only.
        (100, 0.5, vec![]),
        (0, 60.0, vec![]),
    ];
    let mut levels = levels(Limits::default());
    let mut now = 0.0;
    for (percent, secs, told) in steps {
        levels.handle_memory(at(now), percent, 100);
        now += secs;
        assert_eq!(pass(&mut levels, at(now)), told, "{percent} % for {secs} s");
    }
    assert_eq!(levels.poll_timeout(), None, "nothing is looked at while all is well");
}

#[test]
fn an_order_counts_at_once_and_alone() {
    let mut levels = levels(Limits::default());
    levels.handle_order(at(0.0), Some(report(ServiceLevel::Emergency)));
    let notice = levels.poll_change().unwrap();
    assert_eq!((notice.level, &*notice.reason), (ServiceLevel::Emergency, "as reported"));
    levels.handle_order(at(0.1), Some(report(ServiceLevel::Emergency)));
    assert_eq!(levels.poll_change(), None, "the same again is no change");
    levels.handle_order(at(0.2), Some(report(ServiceLevel::Normal)));
    levels.handle_memory(at(0.2), 100, 100);
    assert_eq!(pass(&mut levels, at(30.0)), [ServiceLevel::Normal], "whatever else speaks against it");
    levels.handle_order(at(30.0), None);
    assert_eq!(pass(&mut levels, at(30.0)), [ServiceLevel::Emergency], "and what has lasted meanwhile counts after it");
}

#[test]
fn every_level_is_reached_with_any_number_of_dependencies_and_the_worst_counts() {
    use ServiceLevel::{Degraded, Emergency, Normal};
    for count in [1, 2, 3, 10, 64] {
        for worst in [Degraded, Emergency] {
            for which in [0, count / 2, count - 1] {
                let mut levels = levels(Limits::default());
                for n in 0..count {
                    let level = if n == which { worst } else { Normal };
                    levels.handle_report(at(0.0), &name(&format!("d{n}")), report(level)).unwrap();
                }
                assert_eq!(pass(&mut levels, at(1.0)), [worst], "{which} of {count}");
                levels.handle_report(at(5.0), &name(&format!("d{which}")), report(Normal)).unwrap();
                assert_eq!(pass(&mut levels, at(15.0)), [Normal], "{which} of {count}");
            }
        }
    }
}

#[test]
fn trouble_that_passes_from_one_dependency_to_the_next_has_lasted() {
    let mut levels = levels(Limits::default());
    let (search, mail) = (name("search"), name("mail"));
    for n in 0..4_u32 {
        let (well, ill) = if n % 2 == 0 { (&search, &mail) } else { (&mail, &search) };
        let now = at(0.3 * f64::from(n));
        levels.handle_report(now, ill, report(ServiceLevel::Degraded)).unwrap();
        levels.handle_report(now, well, report(ServiceLevel::Normal)).unwrap();
    }
    assert_eq!(pass(&mut levels, at(1.0)), [ServiceLevel::Degraded]);
}

#[test]
fn dependencies_that_are_not_well_are_bounded_and_those_that_are_take_no_place() {
    let mut levels = levels(Limits { dependencies: 2, ..Limits::default() });
    let mut tell = |n: u32, level| levels.handle_report(at(0.0), &name(&n.to_string()), report(level));
    for n in 0..100 {
        tell(n, ServiceLevel::Normal).unwrap();
    }
    tell(1, ServiceLevel::Degraded).unwrap();
    tell(2, ServiceLevel::Degraded).unwrap();
    assert_eq!(tell(3, ServiceLevel::Emergency), Err(TooManyDependencies));
    tell(2, ServiceLevel::Emergency).unwrap();
    tell(1, ServiceLevel::Normal).unwrap();
    tell(3, ServiceLevel::Degraded).unwrap();
    assert_eq!(levels.status().dependencies.len(), 2);
}

#[test]
fn the_reason_is_the_one_of_what_counts_and_cannot_forge_a_line() {
    let mut levels = levels(Limits::default());
    levels.handle_report(at(0.0), &name("a"), Report::new(ServiceLevel::Degraded, "slow")).unwrap();
    levels.handle_report(at(0.0), &name("b"), Report::new(ServiceLevel::Emergency, "gone\r\nfor good")).unwrap();
    levels.handle_timeout(at(1.0));
    assert_eq!(&*levels.poll_change().unwrap().reason, "gonefor good");
    levels.handle_report(at(2.0), &name("b"), report(ServiceLevel::Normal)).unwrap();
    levels.handle_timeout(at(12.0));
    assert_eq!(&*levels.poll_change().unwrap().reason, "slow");
    let long = Report::new(ServiceLevel::Degraded, &"é".repeat(500));
    assert_eq!((long.reason.len(), long.reason.chars().count()), (MAX_REASON_BYTES, MAX_REASON_BYTES / 2));
}

#[test]
fn memory_is_looked_at_while_much_of_it_is_in_use_and_where_it_grows() {
    let mut levels = levels(Limits::default());
    assert!(!levels.wants_memory(at(0.0)) && levels.poll_timeout().is_none());
    levels.handle_growth(at(1.0));
    assert!(levels.wants_memory(at(1.0)));
    levels.handle_memory(at(1.0), 34, 100);
    assert_eq!(levels.poll_timeout(), None);
    levels.handle_memory(at(2.0), 35, 100);
    assert_eq!(levels.poll_timeout(), Some(at(3.0)));
    assert!(!levels.wants_memory(at(2.9)) && levels.wants_memory(at(3.0)));
}

#[test]
fn no_numbers_are_too_much() {
    let mut levels = levels(Limits::default());
    for (used, budget) in [(usize::MAX, 0), (usize::MAX, 1), (usize::MAX, usize::MAX), (0, 0)] {
        levels.handle_memory(Timestamp::MAX, used, budget);
        levels.handle_timeout(Timestamp::MAX);
    }
}

/// Levels change neither heartbeats nor deadlines: there is nothing in what follows from a level that could.
#[test]
fn what_follows_from_a_level_grows_with_it() {
    let limits = Limits::default();
    let [normal, degraded, emergency] = [ServiceLevel::Normal, ServiceLevel::Degraded, ServiceLevel::Emergency]
        .map(|level| Effects::of(level, &limits));
    assert!(normal.text_hold < degraded.text_hold && degraded.text_hold < emergency.text_hold);
    for pair in [[&normal, &degraded], [&degraded, &emergency]] {
        assert!(pair[1].capabilities.iter().all(|name| pair[0].capabilities.contains(name)));
        assert!(pair[1].capabilities.len() < pair[0].capabilities.len());
    }
    let most = |effects: Effects| (1..=limits.connections).rev().find(|n| effects.newcomers.admits(*n, &limits));
    assert_eq!([most(normal), most(degraded), most(emergency)], [Some(100_000), Some(50_000), None]);
}

// --- every path

/// A tick is half a second; a rise takes two, a fall three.
const TICK: Duration = Duration::from_millis(500);
const FALL_TICKS: u64 = 3;

fn small() -> Limits {
    Limits { level_rise_after: TICK * 2, level_fall_after: TICK * 3, ..Limits::default() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Input {
    Memory(usize),
    Report(bool, ServiceLevel),
    Order(Option<ServiceLevel>),
    Tick,
}

fn inputs() -> Vec<Input> {
    let memory = [0, 75, 82, 90, 97].map(Input::Memory);
    let reports = [false, true].into_iter().flat_map(|of| ServiceLevel::ALL.iter().map(move |l| Input::Report(of, *l)));
    let orders = [None, Some(ServiceLevel::Normal), Some(ServiceLevel::Emergency)].map(Input::Order);
    memory.into_iter().chain(reports).chain(orders).chain([Input::Tick]).collect()
}

/// The automaton at a time, without what does not bear on what comes: the times count from now.
fn essence(levels: &Levels, now: Timestamp) -> String {
    let (memory, health) = (levels.memory.ages(now), levels.health.ages(now));
    let reports: Vec<_> = levels.dependencies.iter().map(|(name, report)| (name, report.level)).collect();
    format!("{} {memory:?} {health:?} {reports:?} {:?}", levels.percent, levels.order.as_ref().map(|o| o.level))
}

fn step(levels: &mut Levels, now: &mut Timestamp, input: Input) {
    match input {
        Input::Memory(percent) => levels.handle_memory(*now, percent, 100),
        Input::Report(second, level) => {
            levels.handle_report(*now, &name(if second { "b" } else { "a" }), report(level)).unwrap();
        }
        Input::Order(order) => levels.handle_order(*now, order.map(report)),
        Input::Tick => {
            *now = *now + TICK;
            levels.handle_timeout(*now);
        }
    }
}

/// From every state that can be reached: a change of the level is told once and has a reason to be, no timer is overdue, looking
/// early changes nothing, and healthy inputs lead to normal in the time of a fall.
#[test]
fn every_path_through_a_small_world_leads_back_to_normal() {
    let inputs = inputs();
    let mut seen = BTreeSet::new();
    let mut reached = BTreeMap::new();
    let mut queue = VecDeque::from([(levels(small()), at(1.0))]);
    while let Some((levels, now)) = queue.pop_front() {
        if !seen.insert(essence(&levels, now)) {
            continue;
        }
        *reached.entry(levels.notice.level).or_insert(0) += 1;
        check_state(&levels, now);
        for input in &inputs {
            let (mut next, mut then) = (levels.clone(), now);
            step(&mut next, &mut then, *input);
            let told = next.poll_change();
            assert_eq!(told.is_some(), next.notice.level != levels.notice.level, "{input:?}");
            assert_eq!(next.notice.number - levels.notice.number, u64::from(told.is_some()));
            if *input != Input::Tick && next.order == levels.order {
                assert_eq!(told, None, "{input:?} alone changes nothing before it has lasted");
            }
            queue.push_back((next, then));
        }
    }
    assert_eq!(reached.len(), 3, "every level is reached");
    assert!(seen.len() > 1_000, "{} states", seen.len());
}

fn check_state(levels: &Levels, now: Timestamp) {
    assert!(levels.poll_timeout().is_none_or(|due| due > now || levels.wants_memory(now)), "overdue");
    let mut same = levels.clone();
    same.handle_timeout(now);
    assert_eq!((essence(&same, now), &same.notice), (essence(levels, now), &levels.notice), "looking again");
    let (mut well, mut then) = (levels.clone(), now);
    for healthy in [
        Input::Order(None),
        Input::Memory(0),
        Input::Report(false, ServiceLevel::Normal),
        Input::Report(true, ServiceLevel::Normal),
    ] {
        step(&mut well, &mut then, healthy);
    }
    for _ in 0..FALL_TICKS {
        step(&mut well, &mut then, Input::Tick);
    }
    assert_eq!(well.notice.level, ServiceLevel::Normal, "from {}", essence(levels, now));
    assert!(well.memory.is_calm() && well.health.is_calm());
    well.handle_memory(then, 0, 100);
    assert_eq!(well.poll_timeout(), None, "and rests there");
}

// --- by chance

/// What the level should be, without a state: of all times at which a condition has lasted, or its absence has, the latest counts.
fn by_definition(history: &[ServiceLevel], rise: usize, fall: usize) -> ServiceLevel {
    let counts = |level: ServiceLevel| {
        let is = |at: usize| history[at] >= level;
        // What need not last counts with its own moment; all else is over when the next moment comes.
        let lasted = |at: usize, span: usize, wanted: bool| {
            if span == 0 { is(at) == wanted } else { at >= span && (at - span..at).all(|at| is(at) == wanted) }
        };
        let latest = (0..history.len()).rev().find_map(|at| match (lasted(at, rise, true), lasted(at, fall, false)) {
            (true, true) => Some(rise == 0),
            (true, false) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        });
        latest.unwrap_or(false)
    };
    let reached = [ServiceLevel::Emergency, ServiceLevel::Degraded].into_iter().find(|level| counts(*level));
    reached.unwrap_or(ServiceLevel::Normal)
}

properties! {
    /// Reports at every second, in any order: the level is what the definition says, whether the timer is served or not.
    #[test]
    fn the_level_is_a_function_of_reports_and_how_long_they_have_lasted(
        reports in prop::collection::vec((0_usize..3, 0_usize..3), 1..60),
        served in any::<bool>(),
        rise in 0_u32..4,
        fall in 0_u32..6,
    ) {
        let limits = Limits { level_rise_after: SEC * rise, level_fall_after: SEC * fall, ..Limits::default() };
        let mut levels = levels(limits);
        let mut known = [ServiceLevel::Normal; 3];
        let mut history = Vec::new();
        for (second, (which, level)) in (0_u32..).zip(reports) {
            let now = Timestamp::ZERO + SEC * second;
            known[which] = ServiceLevel::ALL[level];
            levels.handle_report(now, &name(&which.to_string()), report(known[which])).unwrap();
            if served {
                levels.handle_timeout(now);
            }
            history.push(known.into_iter().max().unwrap_or(ServiceLevel::Normal));
            let expected = by_definition(&history, rise as usize, fall as usize);
            prop_assert_eq!(levels.notice().level, expected, "at {} s: {:?}", second, history);
        }
    }
}
