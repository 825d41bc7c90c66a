//! One suite for every server of this workspace, and all of them come to the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Instant;

use trunkline_core::error::CloseReason;
use trunkline_tests::conformance::Suite;
use trunkline_tests::conformance::language::{Action, Need};
use trunkline_tests::conformance::report::{Report, Verdict};
use trunkline_tests::conformance::target::{Simulated, Started, Target};
use trunkline_tests::conformance::token::Issuer;
use trunkline_tests::server::{Program, SECRET, binary, example};
use trunkline_tests::simulator::Weather;

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// How the whole servers are set up: every carrier is on, and only producers answer.
const VARIABLES: [(&str, &str); 4] = [
    ("TRUNKLINE_AGENT", "false"),
    ("TRUNKLINE_TICKETS", "true"),
    ("TRUNKLINE_COOKIE", "token"),
    ("TRUNKLINE_ORIGINS", "https://app.example"),
];

/// What a server of the suite cannot be asked for, and why not.
type Lacks = &'static [(Need, &'static str)];

const TOO_LONG: (Need, &str) = (Need::VirtualTime, "it takes longer than a test may");
const BARE: Lacks = &[
    TOO_LONG,
    (Need::Http, "the endpoint is all that the example has"),
    (Need::Tickets, "they are issued over HTTP, and are off by default"),
    (Need::Cookie, "it is off by default"),
    (Need::NoAgent, "an agent of the example's answers"),
];
const ON_HYPER: Lacks = &[
    BARE[0],
    BARE[1],
    BARE[2],
    BARE[3],
    BARE[4],
    (Need::OwnHttp, "hyper has read the request before the manager is asked"),
];
const ON_AXUM: Lacks = &[BARE[0], BARE[2], BARE[3], BARE[4], ON_HYPER[5]];

/// One to be tested: what it is called, what it lacks, and how it comes about where it is not the simulator.
struct Candidate {
    name: &'static str,
    lacks: Lacks,
    start: Option<fn(&'static str) -> Program>,
}

const CANDIDATES: [Candidate; 8] = [
    Candidate { name: "simulator", lacks: &[], start: None },
    Candidate { name: "program", lacks: &[TOO_LONG], start: Some(|_| Program::with(SCRATCH, &VARIABLES)) },
    Candidate { name: "server", lacks: &[TOO_LONG], start: Some(on_threads) },
    Candidate { name: "axum", lacks: ON_AXUM, start: Some(bare) },
    Candidate { name: "hyper", lacks: ON_HYPER, start: Some(bare) },
    Candidate { name: "threads", lacks: BARE, start: Some(bare) },
    Candidate { name: "poll_loop", lacks: BARE, start: Some(bare) },
    Candidate { name: "compio", lacks: BARE, start: Some(bare) },
];

/// smol runs its tasks in one thread where nobody asks for more.
fn on_threads(name: &'static str) -> Program {
    let variables: Vec<_> = VARIABLES.into_iter().chain([("SMOL_THREADS", "4")]).collect();
    Program::example(SCRATCH, name, &variables)
}

fn bare(name: &'static str) -> Program {
    Program::example(SCRATCH, name, &[])
}

impl Candidate {
    fn offers(&self) -> BTreeSet<Need> {
        Need::ALL.into_iter().filter(|need| self.lacks.iter().all(|(lacked, _)| lacked != need)).collect()
    }

    fn tested(&self) -> Report {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let run = |target: &dyn Target| runtime.block_on(suite().run(target));
        match self.start {
            Some(start) => run(&Started::new(self.name, self.offers(), || start(self.name))),
            None => run(&Simulated::new(self.name, 1, Weather::default())),
        }
    }
}

fn suite() -> Suite {
    let mut suite = suite_of_all();
    // All targets run at once, and every deadline of theirs goes by the clock.
    suite.jobs = 48;
    match std::env::var("CONFORMANCE_FILTER") {
        Ok(part) => suite.filtered(&part),
        Err(_) => suite,
    }
}

fn suite_of_all() -> Suite {
    Suite::all(Issuer::Secret(SECRET.to_vec())).unwrap_or_else(|fault| panic!("{fault}"))
}

/// What all of them came to. They run at once, on behalf of the test that comes first: mostly they wait.
fn reports() -> &'static BTreeMap<&'static str, Report> {
    static REPORTS: OnceLock<BTreeMap<&'static str, Report>> = OnceLock::new();
    REPORTS.get_or_init(|| {
        // Before any deadline runs: a compiler takes all the time that there is.
        for candidate in CANDIDATES {
            match candidate.name {
                "simulator" => {}
                "program" => drop(binary()),
                name => drop(example(name)),
            }
        }
        let start = Instant::now();
        let reports = std::thread::scope(|scope| {
            let running = CANDIDATES.each_ref().map(|candidate| (candidate.name, scope.spawn(|| candidate.tested())));
            running.map(|(name, report)| (name, report.join().expect("a report")))
        });
        println!("{} targets in {:?}", reports.len(), start.elapsed());
        reports.into()
    })
}

/// None fails against this one.
fn conforms(name: &str) {
    let report = &reports()[name];
    println!("{report}");
    let failures = report.failures().count();
    assert_eq!(failures, 0, "{failures} scenarios failed against {name}");
}

#[test]
fn the_program_conforms() {
    conforms("program");
}

#[test]
fn the_example_on_smol_conforms() {
    conforms("server");
}

#[test]
fn the_simulator_conforms() {
    conforms("simulator");
}

#[test]
fn the_embedding_in_axum_conforms() {
    conforms("axum");
}

#[test]
fn the_embedding_in_hyper_conforms() {
    conforms("hyper");
}

#[test]
fn two_threads_for_each_socket_conform() {
    conforms("threads");
}

#[test]
fn one_poll_loop_for_all_conforms() {
    conforms("poll_loop");
}

#[test]
fn a_runtime_of_somebody_elses_conforms() {
    conforms("compio");
}

/// Scenarios by name, with whether they passed; those that were skipped are not there.
fn outcomes(report: &Report) -> BTreeMap<&str, bool> {
    let outcome = |verdict: &Verdict| match verdict {
        Verdict::Passed => Some(true),
        Verdict::Failed(_) => Some(false),
        Verdict::Skipped(_) => None,
    };
    report.lines.iter().filter_map(|line| Some((line.name.as_str(), outcome(&line.verdict)?))).collect()
}

#[test]
fn whatever_two_of_them_are_asked_comes_to_the_same() {
    let outcomes: BTreeMap<_, _> = reports().iter().map(|(name, report)| (*name, outcomes(report))).collect();
    for (one, of_one) in &outcomes {
        for (other, of_other) in &outcomes {
            let differs = |name: &&str| of_other.get(*name).is_some_and(|outcome| *outcome != of_one[*name]);
            let different: Vec<_> = of_one.keys().copied().filter(|name| differs(name)).collect();
            assert!(different.is_empty(), "{one} and {other} differ in {different:?}");
        }
    }
}

#[test]
fn what_one_of_them_is_not_asked_it_lacks_for_a_reason() {
    let suite = suite();
    for candidate in &CANDIDATES {
        let ran = outcomes(&reports()[candidate.name]);
        for scenario in &suite.scenarios {
            let lacked: Vec<_> = candidate.lacks.iter().filter(|(need, _)| scenario.needs.contains(need)).collect();
            let (name, place) = (scenario.name.as_str(), candidate.name);
            assert_eq!(ran.contains_key(name), lacked.is_empty(), "{place} lacks {lacked:?} of {name}");
        }
        // Whoever lacks nothing worth the name is asked nearly all.
        assert!(ran.len() * 10 >= suite.scenarios.len() * 8, "{} is asked {} scenarios", candidate.name, ran.len());
        let needed = |need| suite.scenarios.iter().any(|scenario| scenario.needs.contains(need));
        let idle: Vec<_> = candidate.lacks.iter().filter(|(need, _)| !needed(need)).collect();
        assert!(idle.is_empty(), "no scenario asks {} for {idle:?}", candidate.name);
    }
}

/// What no scenario awaits, and why not.
const NEVER_AWAITED: [(CloseReason, &str); 5] = [
    (CloseReason::GoingAway, "servers of this version restart with 1012; a peer may send it"),
    (CloseReason::Internal, "an embedder's word, by `Session::close`: the core has no such fault"),
    (CloseReason::WriteStalled, "it takes a full socket and more than a scenario waits for; the core's tests have it"),
    (CloseReason::IdleTimeout, "it is off by default; the core's tests have it"),
    (CloseReason::SessionReset, "reserved: servers of this version never send it"),
];

#[test]
fn every_close_code_is_awaited_by_a_scenario_or_never_for_a_reason() {
    let suite = suite_of_all();
    let steps = suite.scenarios.iter().flat_map(|scenario| &scenario.steps);
    let awaited: BTreeSet<u16> = steps
        .filter_map(|step| if let Action::Closes { code, .. } = step.action { Some(code) } else { None })
        .collect();
    for reason in CloseReason::ALL {
        let never = NEVER_AWAITED.iter().find(|(known, _)| known == reason).map(|(_, why)| why);
        assert_eq!(awaited.contains(&reason.code()), never.is_none(), "{reason}: {never:?}");
    }
}
