//! How loom models are checked, and which fault each of them is seen to find.
//!
//! ```console
//! $ RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom cargo test -p trunkline-core --lib --no-default-features models -- --nocapture
//! ```
//!
//! explores every interleaving with at most two preemptions; with `LOOM_MAX_PREEMPTIONS=3` before it, every one with three, of
//! which there are about ten times as many: `--release` pays then. Part of a test's name in the place of `models` runs that model
//! alone.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::thread::{self, JoinHandle};

use super::faults::{self, Fault};

/// A fault, and what a model says that finds it.
type Finds = &'static [(Fault, &'static str)];

/// Every model by the name of its test. One that finds no fault could pass whatever happens.
const MODELS: &[(&str, Finds)] = &[
    (
        "sync::ready::models::no_wake_up_is_lost",
        &[(Fault::RegistersTooLate, "deadlock"), (Fault::TakesTheMarkInTwoSteps, "deadlock")],
    ),
    ("sync::ready::models::whoever_takes_over_the_reading_is_woken", &[(Fault::KeepsTheFirstWaker, "deadlock")]),
    (
        "sync::mailbox::models::a_push_against_a_close_is_refused_or_read",
        &[(Fault::ClosesAfterTheMark, "deadlock"), (Fault::PutsInTwoSteps, "neither read nor refused")],
    ),
    ("sync::mailbox::models::what_is_offered_is_read_or_comes_back", &[(Fault::ClosesAfterTheMark, "deadlock")]),
    (
        "sync::mailbox::models::a_reader_that_goes_leaves_nothing_behind",
        &[(Fault::PutsInTwoSteps, "left in a closed mailbox")],
    ),
    (
        "sync::mailbox::models::an_overflow_ends_it_once",
        &[(Fault::KeepsTheLastReason, "two ends"), (Fault::PutsInTwoSteps, "over the bound")],
    ),
    (
        "sync::mailbox::models::what_is_superseded_is_read_or_its_successor_is",
        &[(Fault::ReplacesInTwoSteps, "are both lost"), (Fault::KeepsTheBytes, "bytes")],
    ),
    (
        "sync::gate::models::shutting_waits_for_everybody_inside",
        &[(Fault::EntersInTwoSteps, "inside a gate that was empty"), (Fault::WaitsBeforeItRegisters, "deadlock")],
    ),
    ("sync::gate::models::whoever_waits_for_the_end_is_woken", &[(Fault::LooksBeforeItRegisters, "deadlock")]),
    ("sync::tally::models::nothing_is_lost_between_threads", &[(Fault::CountsInTwoSteps, "is lost")]),
    (
        "sync::budget::models::never_over_and_back_to_zero",
        &[(Fault::LeasesInTwoSteps, "the count"), (Fault::ReleasesInTwoSteps, "the count")],
    ),
    ("sync::once::models::it_is_made_once", &[(Fault::MakesInTwoSteps, "it is made twice")]),
    (
        "sync::spares::models::nobody_shares_one_and_few_are_kept",
        &[(Fault::PutsASpareInTwoSteps, "more are kept than may be")],
    ),
    (
        "sync::current::models::keys_rotate_under_verifications",
        &[(Fault::EmptiesTheKeys, "no key counts"), (Fault::KeepsTheKeys, "a key that was dropped")],
    ),
    (
        "sync::turns::models::nobody_waits_for_a_turn_in_vain",
        &[(Fault::LooksForTurnsFirst, "deadlock"), (Fault::ForgetsToListen, "deadlock")],
    ),
    (
        "hub::tests::models::publishers_against_a_reader_of_the_hub",
        &[
            (Fault::RegistersTooLate, "deadlock"),
            (Fault::LetsGoOfTheShard, "deadlock"),
            (Fault::WakesTooEarly, "deadlock"),
        ],
    ),
    (
        "hub::tests::models::a_shutdown_against_a_publisher_and_a_reader_of_the_hub",
        &[(Fault::RegistersTooLate, "deadlock"), (Fault::LetsGoOfTheShard, "left == right")],
    ),
    (
        "hub::tests::models::small::a_shard_and_a_mailbox_one_after_the_other",
        &[
            (Fault::ReaderLooksFirst, "deadlock"),
            (Fault::ReaderTakesTwoLocks, "left == right"),
            (Fault::ReaderNestsLocks, "deadlock"),
        ],
    ),
    (
        "hub::tests::models::small::a_ticket_is_taken_by_exactly_one_of_two",
        &[(Fault::TakesATicketInTwoSteps, "left == right")],
    ),
    (
        "hub::tests::models::coming::attaching_and_detaching_against_a_publisher",
        &[(Fault::LetsGoOfTheShard, "left == right")],
    ),
    (
        "hub::tests::models::coming::a_resume_against_publishers",
        &[
            (Fault::LetsGoOfTheShard, "deadlock"),
            (Fault::TakesTheMarkInTwoSteps, "deadlock"),
            (Fault::WakesTooEarly, "deadlock"),
        ],
    ),
    (
        "hub::tests::models::coming::a_late_end_of_the_old_socket_against_a_resume",
        &[(Fault::LetsGoOfTheShard, "left == right")],
    ),
    ("hub::tests::models::coming::two_resumes_of_one_session", &[(Fault::LetsGoOfTheShard, "left == right")]),
    ("hub::tests::models::coming::two_devices_for_the_last_place", &[(Fault::LetsGoOfTheShard, "in the last place")]),
    ("hub::tests::models::coming::a_sweep_against_an_attach_and_a_publisher", &[(Fault::LetsGoOfTheShard, "deadlock")]),
    ("hub::tests::models::coming::a_change_of_the_level_against_an_attach", &[(Fault::LetsGoOfTheShard, "deadlock")]),
    (
        "hub::tests::models::coming::two_changes_of_the_level_against_an_attach",
        &[(Fault::LetsGoOfTheShard, "left == right")],
    ),
    ("hub::tests::models::ending::a_drain_against_admissions", &[(Fault::LetsGoOfTheShard, "somebody is left")]),
    ("hub::tests::models::ending::two_ends_of_one_run", &[(Fault::LetsGoOfTheShard, "completed: true, failed: true")]),
    ("hub::tests::models::revoking::a_revocation_against_an_attach", &[(Fault::LetsGoOfTheShard, "deadlock")]),
    ("hub::tests::models::revoking::a_revocation_against_a_refresh", &[(Fault::LetsGoOfTheShard, "left == right")]),
    (
        "hub::tests::models::revoking::a_revocation_on_one_shard_against_a_publisher_on_another",
        &[(Fault::RegistersTooLate, "deadlock"), (Fault::TakesTheMarkInTwoSteps, "deadlock")],
    ),
    (
        "hub::tests::models::revoking::a_revocation_against_a_producer_that_joins",
        &[(Fault::LooksOnlyBeforeItJoins, "deadlock")],
    ),
    (
        "hub::tests::models::revoking::a_revocation_against_a_refresh_of_a_producer",
        &[(Fault::RetokensAfterTheLook, "a token that was revoked")],
    ),
    (
        "hub::tests::models::producing::a_request_against_a_producer_that_goes",
        &[(Fault::ForgetsWhoHasGone, "deadlock")],
    ),
    (
        "hub::tests::models::producing::a_request_against_producers_that_go_and_come",
        &[(Fault::ForgetsWhoHasGone, "nobody answers")],
    ),
    (
        "hub::tests::models::producing::a_request_against_producers_that_all_go_and_one_that_comes",
        &[(Fault::OverlooksWhoHasCome, "left == right")],
    ),
    (
        "hub::tests::models::producing::two_changes_of_the_level_against_a_producer",
        &[(Fault::TellsProducersLate, "left == right")],
    ),
    (
        "hub::tests::models::shards::two_shards_act_on_one_connection",
        &[(Fault::RegistersTooLate, "deadlock"), (Fault::TakesTheMarkInTwoSteps, "deadlock")],
    ),
    (
        "hub::tests::models::shards::a_deadline_that_moves_earlier_reaches_the_housekeeper",
        &[(Fault::WakesTooEarly, "deadlock")],
    ),
    (
        "hub::tests::models::shards::an_alarm_that_moves_later_passes_over_no_deadline",
        &[(Fault::SleepsByAnOldAlarm, "deadlock")],
    ),
];

/// Explores `model` as it is, and then with each of its faults, which it must find: with at most two preemptions where
/// `LOOM_MAX_PREEMPTIONS` does not say otherwise.
pub(crate) fn check(model: impl Fn() + Send + Sync + 'static) {
    let test = std::thread::current().name().expect("a test's thread has its name").to_owned();
    let (_, finds) = MODELS.iter().find(|(name, _)| *name == test).expect("`MODELS` says what every model finds");
    if faults::on().is_some() {
        explore(model);
        return;
    }
    let count = explore(model);
    for (fault, says) in *finds {
        must_find(&test, *fault, says);
    }
    let name = test.rsplit("::").next().unwrap_or(&test);
    println!("evidence loom {name} {count} interleavings");
}

/// Answers how many interleavings there are.
fn explore(model: impl Fn() + Send + Sync + 'static) -> u64 {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(2));
    builder.max_branches = 20_000;
    let count = Arc::new(AtomicU64::new(0));
    let (counted, model) = (Arc::clone(&count), Arc::new(model));
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let model = Arc::clone(&model);
        // The one that waits takes no part: it is there because the first thread's stack is small, and as large as it is.
        spawn(move || model()).join().expect("the model's own thread");
    });
    count.load(Ordering::Relaxed)
}

/// A thread of a model, with a stack on which a whole hub can be used.
pub(crate) fn spawn<R: Send + 'static>(step: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    thread::Builder::new().stack_size(STACK_WORDS).spawn(step).expect("loom has threads")
}

const STACK_WORDS: usize = 1 << 16;

fn must_find(test: &str, fault: Fault, says: &str) {
    let program = std::env::current_exe().expect("a test is a program");
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture"]).env(faults::VARIABLE, format!("{fault:?}"));
    // No fault needs more.
    command.env("LOOM_MAX_PREEMPTIONS", "2").env("RUST_BACKTRACE", "0");
    let output = command.output().expect("a test can be run");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(!output.status.success() && said.contains(says), "{test} does not find {fault:?}: {said}");
}

/// Property: every model is in the table, every model of the table is a test and finds a fault, and every fault is found.
#[test]
fn every_model_finds_a_fault() {
    let program = std::env::current_exe().expect("a test is a program");
    let output = Command::new(program).args(["--list", "--format", "terse"]).output().expect("tests can be listed");
    let list = String::from_utf8(output.stdout).expect("names are text");
    let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
    let mut tests: Vec<&str> = tests.filter(|test| test.contains("::models::")).collect();
    tests.retain(|test| *test != "sync::models::every_model_finds_a_fault");
    tests.sort_unstable();
    let mut known: Vec<&str> = MODELS.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(tests, known);
    for (name, finds) in MODELS {
        assert!(!finds.is_empty(), "{name} could pass whatever happens");
    }
    let is_found = |fault: &Fault| MODELS.iter().any(|(_, finds)| finds.iter().any(|(found, _)| found == fault));
    let needless: Vec<&Fault> = faults::ALL.iter().filter(|fault| !is_found(fault)).collect();
    assert!(needless.is_empty(), "no model finds {needless:?}");
    println!("{} models find {} faults", MODELS.len(), faults::ALL.len());
}
