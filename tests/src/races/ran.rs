//! Whether named checks ran, by what a whole run of the tests printed.

use std::collections::BTreeSet;

use super::{CheckName, Kind, Number, Status, Table};

/// What ran and passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Rust tests by the name of their program and their own.
    passed: BTreeSet<(String, String)>,
    text: String,
}

impl Log {
    /// Reads what `cargo test`, `node --test` and the others printed, standard error included: there cargo says which
    /// program's tests follow.
    pub fn parse(text: &str) -> Self {
        let (mut passed, mut program) = (BTreeSet::new(), String::new());
        for line in text.lines().map(str::trim) {
            if let Some((_, path)) = line.strip_prefix("Running ").and_then(|rest| rest.split_once(" (")) {
                let name = path.trim_end_matches(')').rsplit('/').next().unwrap_or_default();
                program = name.rsplit_once('-').map_or(name, |(name, _)| name).to_owned();
            } else if let Some(test) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... ok")) {
                // A test that is expected to panic says so behind its name.
                let name = test.split(' ').next().unwrap_or_default();
                passed.insert((program.clone(), name.to_owned()));
            }
        }
        Self { passed, text: text.to_owned() }
    }

    /// Whether this check ran and passed. Scenarios run in the tests of the suite, as many as its files have.
    pub fn has(&self, check: &CheckName, kind: Kind) -> bool {
        if check.file.ends_with(".toml") {
            return ["the_program_conforms", "the_simulator_conforms"]
                .iter()
                .all(|test| self.passed.contains(&("conformance".to_owned(), (*test).to_owned())));
        }
        if !check.file.ends_with(".rs") {
            // As `node --test` and the clients in Python say that something has passed.
            let passed = |line: &str| line.starts_with("ok ") || line.starts_with('\u{2714}');
            return self.text.lines().map(str::trim).any(|line| passed(line) && line.contains(&check.name));
        }
        // A type rules out at compile time.
        kind == Kind::Type && !check.name.starts_with(|c: char| c.is_lowercase()) || self.has_test(check)
    }

    fn has_test(&self, check: &CheckName) -> bool {
        let (program, module) = place(&check.file);
        self.passed.iter().any(|(ran, path)| {
            let (within, name) = path.rsplit_once("::").unwrap_or(("", path));
            *ran == program
                && name == check.name
                && (within == module || within.starts_with(&format!("{module}::")) || module.is_empty())
        })
    }
}

/// The program that has the tests of a file, and the file's module in it.
fn place(file: &str) -> (String, String) {
    let (package, rest) = file.split_once('/').unwrap_or(("", file));
    let rest = rest.strip_suffix(".rs").unwrap_or(rest);
    let parts: Vec<&str> = rest.split('/').collect();
    let (program, module) = match parts.as_slice() {
        ["src", "bin", program, module @ ..] => ((*program).to_owned(), module),
        ["tests", program, module @ ..] => ((*program).to_owned(), module),
        ["src", module @ ..] => {
            let package = package.strip_prefix("runtime-").unwrap_or(package);
            (format!("trunkline_{package}"), module)
        }
        module => (String::new(), module),
    };
    let module: Vec<&str> = module.iter().copied().filter(|part| !matches!(*part, "mod" | "lib" | "main")).collect();
    (program, module.join("::"))
}

impl Table {
    /// The named checks that did not run or did not pass.
    pub fn not_run(&self, log: &Log) -> Vec<(Number, CheckName)> {
        let mut missing = Vec::new();
        for (number, entry) in self.entries() {
            if let Status::Checked { kind, by, .. } = &entry.status {
                missing.extend(by.iter().filter(|check| !log.has(check, *kind)).map(|check| (number, check.clone())));
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
     Running unittests src/lib.rs (target/debug/deps/trunkline_core-0f1e)

running 3 tests
test hub::tests::races::nothing_twice ... ok
test sync::ready::models::broken - should panic ... ok
test hub::tests::races::slow ... ignored
test hub::failing ... FAILED
     Running tests/e2e_cuts.rs (target/debug/deps/e2e_cuts-aa12)
test every_cut ... ok
     Running unittests src/bin/trunkline/main.rs (target/debug/deps/trunkline-77)
test chat::tests::reads ... ok
ok 3 - a token is asked for once
not ok 4 - a token is asked for twice
\u{2714} a socket is opened once (0.3ms)
ok      two devices see the same
";

    fn ran(name: &str) -> bool {
        Log::parse(PRINTED).has(&name.parse().unwrap(), Kind::Unit)
    }

    #[test]
    fn what_passed_in_its_place_ran() {
        for name in [
            "core/src/hub/tests/races.rs::nothing_twice",
            "core/src/sync/ready.rs::broken",
            "core/src/hub/tests/mod.rs::nothing_twice",
            "runtime-tokio/src/bin/trunkline/chat.rs::reads",
            "tests/browser/client.test.mjs::a token is asked for once",
            "tests/browser/client.test.mjs::a socket is opened once",
            "tests/interop/python_client.py::two devices see the same",
        ] {
            assert!(ran(name), "{name}");
        }
    }

    #[test]
    fn what_failed_was_left_out_or_is_elsewhere_did_not() {
        for name in [
            "core/src/hub/tests/races.rs::slow",
            "core/src/hub/mod.rs::failing",
            "core/src/hub/tests/rac.rs::nothing_twice",
            "tests/src/hub/tests/races.rs::nothing_twice",
            "tests/tests/e2e_other.rs::every_cut",
            "tests/browser/client.test.mjs::a token is asked for twice",
            "tests/conformance/faults.toml::any",
        ] {
            assert!(!ran(name), "{name}");
        }
    }

    #[test]
    fn the_program_of_a_test_is_known_by_its_file() {
        let of = |file: &str| place(file);
        assert_eq!(of("core/src/hub/mod.rs"), ("trunkline_core".into(), "hub".into()));
        assert_eq!(of("runtime-smol/src/lib.rs"), ("trunkline_smol".into(), String::new()));
        assert_eq!(of("tests/tests/one_manager/main.rs"), ("one_manager".into(), String::new()));
        assert_eq!(of("tests/tests/e2e_cuts.rs"), ("e2e_cuts".into(), String::new()));
    }
}
