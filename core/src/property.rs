//! Properties: tests over generated cases, alike in how many there are, how a failure is repeated and what they say of themselves.
//!
//! Each is called `…::properties::<name>`, so that the filter `properties::` runs all of them. `PROPTEST_CASES` scales every
//! count: 256 is what stands in the code, 2,560 ten times as much. A failure names the seed that repeats it, to be given as
//! `PROPTEST_RNG_SEED`, and its smallest case, unless `PROPTEST_MAX_SHRINK_ITERS` is 0; nothing is written into the tree. With
//! `--nocapture` each says how many cases it has held for.

use proptest::prelude::Rng as _;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseResult, TestRunner};

/// What `PROPTEST_CASES` is where nobody sets it.
const USUAL: u64 = 256;

/// A property's configuration while it is checked. Dropped in a failure, it says how to repeat it.
#[derive(Debug)]
pub(crate) struct Check {
    name: &'static str,
    seed: u64,
    cases: u32,
}

impl Check {
    /// Of `cases` cases where nobody asks for more or fewer.
    pub(crate) fn new(name: &'static str, cases: u32) -> Self {
        let given = Config::default();
        let seed = match given.rng_seed {
            RngSeed::Fixed(seed) => seed,
            RngSeed::Random => TestRunner::new(given.clone()).rng().next_u64(),
        };
        Self { name, seed, cases: scaled(cases, given.cases) }
    }

    /// Checks what `holds` says over all cases. `proptest!` would take `PROPTEST_CASES` for the number of them.
    pub(crate) fn run<S: Strategy>(&self, cases: &S, holds: impl Fn(S::Value) -> TestCaseResult) {
        if let Err(failure) = TestRunner::new(self.config()).run(cases, holds) {
            panic!("{}: {failure}", self.name);
        }
        println!("evidence property {} {} cases", self.name, self.cases);
    }

    fn config(&self) -> Config {
        let (cases, rng_seed, given) = (self.cases, RngSeed::Fixed(self.seed), Config::default());
        let max_shrink_iters = given.max_shrink_iters.min(5_000);
        Config { cases, rng_seed, failure_persistence: None, max_shrink_iters, ..given }
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: repeat it with PROPTEST_RNG_SEED={} and {} cases", self.name, self.seed, self.cases);
        }
    }
}

fn scaled(cases: u32, asked: u32) -> u32 {
    let scaled = u64::from(cases) * u64::from(asked) / USUAL;
    u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
}

/// Tests over generated cases, written as in `proptest!`, in a module `properties` of their own. `cases` is how many; 256
/// where it is left out.
macro_rules! properties {
    (cases = $cases:expr; $($(#[$meta:meta])* fn $name:ident($($value:pat in $from:expr),+ $(,)?) $body:block)+) => {
        mod properties {
            use super::*;

            $($(#[$meta])* fn $name() {
                $crate::property::Check::new(stringify!($name), $cases).run(&($($from,)+), |($($value,)+)| {
                    $body
                    Ok(())
                });
            })+
        }
    };
    ($($(#[$meta:meta])* fn $name:ident($($values:tt)+) $body:block)+) => {
        properties! { cases = 256; $($(#[$meta])* fn $name($($values)+) $body)+ }
    };
}

#[test]
fn the_number_of_cases_grows_and_shrinks_with_what_is_asked() {
    assert_eq!([scaled(64, 256), scaled(64, 2_560), scaled(64, 16), scaled(64, 1)], [64, 640, 4, 1]);
    assert_eq!(scaled(1_000, u32::MAX), u32::MAX);
}

#[test]
#[should_panic(expected = "minimal failing input: 10")]
fn a_property_that_does_not_hold_fails_with_its_smallest_case() {
    Check::new("below_ten", 256).run(&(0_u32..1_000), |n| {
        proptest::prop_assert!(n < 10);
        Ok(())
    });
}

#[test]
fn a_seed_repeats_the_same_cases() {
    let drawn = |check: &Check| {
        let mut runner = TestRunner::new(check.config());
        [runner.rng().next_u64(), runner.rng().next_u64()]
    };
    let check = Check::new("drawn", 1);
    assert_eq!(drawn(&check), drawn(&Check { name: "again", ..check }));
}
