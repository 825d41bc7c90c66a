//! Every race and failure of the table has an entry, every check that an entry names exists, and the manual has them all.

use std::io::Write as _;
use std::path::Path;

use trunkline_tests::races::Table;

const PAGE: &str = "core/src/manual/races.md";

#[test]
fn every_number_has_an_entry_and_every_named_check_exists() {
    let (root, table) = table();
    let missing = table.missing_checks(|file| std::fs::read_to_string(root.join(file)).ok());
    let missing: Vec<String> = missing.iter().map(|(number, missing)| format!("{number}: {missing}")).collect();
    assert!(missing.is_empty(), "tests/races.toml:\n{}", lines(&missing));
    // Written past the harness, which shows what a passing test prints to nobody.
    writeln!(std::io::stdout(), "races: {}", table.summary()).expect("standard output is open");
}

#[test]
fn the_page_of_the_manual_says_what_the_table_says() {
    let (root, table) = table();
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    assert!(page == table.page(), "write it anew: cargo run -p trunkline-tests --bin races -- --page {PAGE}");
}

fn table() -> (&'static Path, Table) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace's root");
    let text = std::fs::read_to_string(root.join("tests/races.toml")).expect("the table is there");
    (root, Table::parse(&text).unwrap_or_else(|faults| panic!("tests/races.toml:\n{}", lines(&faults))))
}

fn lines<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join("\n")
}
