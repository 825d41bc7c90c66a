//! The manual has a row for every operation of the legacy managers, and a test by the name of each of the seven.

use std::collections::{BTreeMap, BTreeSet};

const PAGE: &str = include_str!("../src/manual/legacy_managers.rs");
/// `class.operation`, one a line.
const OPERATIONS: &str = include_str!("legacy_operations.txt");
const TESTS: &str = include_str!("../src/hub/tests/seven_managers.rs");

/// The operations of each class's table, with what stands in their row.
fn rows() -> BTreeMap<&'static str, BTreeMap<&'static str, &'static str>> {
    let mut classes = BTreeMap::new();
    let mut class = None;
    for line in PAGE.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim) {
        if line.starts_with('#') {
            class = line.strip_prefix("## ");
        }
        let (Some(class), true) = (class, line.starts_with("| `")) else { continue };
        let mut cells = line.split('|').skip(1);
        let (names, meaning) = (cells.next().unwrap(), cells.next().unwrap().trim());
        let known: &mut BTreeMap<_, _> = classes.entry(class).or_default();
        for name in names.split('`').skip(1).step_by(2) {
            assert_eq!(known.insert(name, meaning), None, "{class}.{name} is there twice");
        }
    }
    classes
}

fn listed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut classes: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for line in OPERATIONS.lines().filter(|line| !line.is_empty()) {
        let (class, operation) = line.split_once('.').expect("class.operation");
        assert!(classes.entry(class).or_default().insert(operation), "{line} is there twice");
    }
    classes
}

#[test]
fn every_legacy_operation_has_a_row_and_every_row_an_operation() {
    let rows = rows();
    let named: BTreeMap<_, BTreeSet<_>> =
        rows.iter().map(|(class, rows)| (*class, rows.keys().copied().collect())).collect();
    assert_eq!(named, listed());
    for (operation, meaning) in rows.values().flatten() {
        let says_why = meaning.starts_with("None: ");
        assert!(says_why || meaning.contains("[`") || meaning.starts_with("the log"), "{operation}: {meaning}");
    }
}

#[test]
fn the_page_names_a_test_for_each_of_the_seven() {
    for name in ["isolated", "factory", "emergency", "degraded", "unified", "adapter", "connection"] {
        assert!(PAGE.contains(&format!("Test `{name}`.")), "the page names {name}");
        assert!(TESTS.contains(&format!("#[test]\nfn {name}()")), "there is a test {name}");
    }
}
