//! Every way to break the code on purpose still fits the sources.

use std::path::Path;

use trunkline_tests::breakages::parse;

/// How many ways there are at least: none is taken out because nothing catches it.
const COUNT: usize = 15;

#[test]
fn every_edit_fits_the_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace's root");
    let read = |file: &str| std::fs::read_to_string(root.join(file)).ok();
    let all =
        parse(&read("tests/breakages.toml").expect("the table is there")).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(all.len() >= COUNT, "{} ways are left of {COUNT}", all.len());
    let stale: Vec<String> =
        all.iter().filter_map(|way| Some(format!("{}: {}", way.name, way.apply(read).err()?))).collect();
    assert!(stale.is_empty(), "tests/breakages.toml:\n{}", stale.join("\n"));
}
