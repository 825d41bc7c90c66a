//! One suite for every server of this workspace, and all of them come to the same.

use std::collections::BTreeMap;

use trunkline_tests::conformance::Suite;
use trunkline_tests::conformance::language::Need;
use trunkline_tests::conformance::target::{Simulated, Started, Target};
use trunkline_tests::conformance::token::Issuer;
use trunkline_tests::server::{Program, SECRET};
use trunkline_tests::simulator::Weather;

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// How the program is set up: every carrier is on, and only producers answer.
const VARIABLES: [(&str, &str); 4] = [
    ("TRUNKLINE_AGENT", "false"),
    ("TRUNKLINE_TICKETS", "true"),
    ("TRUNKLINE_COOKIE", "token"),
    ("TRUNKLINE_ORIGINS", "https://app.example"),
];

/// It takes longer than a test may, and other servers come to the same.
const TOO_LONG: &str = "without virtual_time";

fn suite() -> Suite {
    let mut suite = Suite::all(Issuer::Secret(SECRET.to_vec())).unwrap_or_else(|fault| panic!("{fault}"));
    // All targets run at once, and every deadline of theirs goes by the clock.
    suite.jobs = 48;
    match std::env::var("CONFORMANCE_FILTER") {
        Ok(part) => suite.filtered(&part),
        Err(_) => suite,
    }
}

/// Runs all against one target: none fails, and of each need that the target lacks the reason is known.
async fn holds(target: &dyn Target, reasons: &[&str]) {
    let report = suite().run(target).await;
    println!("{report}");
    let failures = report.failures().count();
    assert_eq!(failures, 0, "{failures} scenarios failed against {}", target.name());
    let mut skipped: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    report.skipped().into_iter().for_each(|(name, why)| skipped.entry(why).or_default().push(name));
    let unknown: Vec<_> = skipped.keys().filter(|why| !reasons.contains(why)).collect();
    assert!(unknown.is_empty(), "these scenarios are skipped without a reason: {skipped:?}");
}

#[tokio::test]
async fn the_program_conforms() {
    let offers = [Need::Http, Need::Tickets, Need::Cookie, Need::NoAgent];
    holds(&Started::new("trunkline serve", offers, || Program::with(SCRATCH, &VARIABLES)), &[TOO_LONG]).await;
}

#[tokio::test]
async fn the_example_on_smol_conforms() {
    let offers = [Need::Http, Need::Tickets, Need::Cookie, Need::NoAgent];
    let start = || Program::example(SCRATCH, "server", &VARIABLES);
    holds(&Started::new("smol", offers, start), &[TOO_LONG]).await;
}

#[tokio::test]
async fn the_simulator_conforms() {
    holds(&Simulated::new("simulator", 1, Weather::default()), &[]).await;
}
