//! Every race and failure of the table has an entry, and every check that an entry names exists.

use std::io::Write as _;
use std::path::Path;

use trunkline_tests::races::Table;

#[test]
fn every_number_has_an_entry_and_every_named_check_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace's root");
    let text = std::fs::read_to_string(root.join("tests/races.toml")).expect("the table is there");
    let table = Table::parse(&text).unwrap_or_else(|faults| panic!("tests/races.toml:\n{}", lines(&faults)));
    let missing = table.missing_checks(|file| std::fs::read_to_string(root.join(file)).ok());
    let missing: Vec<String> = missing.iter().map(|(number, missing)| format!("{number}: {missing}")).collect();
    assert!(missing.is_empty(), "tests/races.toml:\n{}", lines(&missing));
    // Written past the harness, which shows what a passing test prints to nobody.
    writeln!(std::io::stdout(), "races: {}", table.summary()).expect("standard output is open");
}

fn lines<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join("\n")
}
