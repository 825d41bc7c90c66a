//! The README's table of ways to embed the manager: what it links to is there, and what it names compiles.

use std::collections::BTreeSet;
use std::path::Path;

const README: &str = include_str!("../../README.md");
const HEAD: &str = "| you have | take | |\n";

/// Every path that the table may name. Each is imported, so that it is there.
macro_rules! paths {
    ($($($part:ident)::+,)*) => {
        #[allow(unused_imports, reason = "that it is there is all")]
        mod named {
            $(use $($part)::+ as _;)*
        }
        const PATHS: &[&[&str]] = &[$(&[$(stringify!($part)),+]),*];
    };
}

paths! {
    std::net,
    trunkline_core::manual::adapters,
    trunkline_smol::serve,
    trunkline_smol::serve_connection,
    trunkline_tokio::Web,
    trunkline_tokio::axum,
    trunkline_tokio::hyper,
    trunkline_tokio::serve,
    trunkline_tokio::serve_connection,
}

/// Whose features the table speaks of.
const MANIFEST: &str = include_str!("../../runtime-tokio/Cargo.toml");

/// What is wrong with a table, and which of the paths it names.
fn look(table: &str) -> (Vec<String>, BTreeSet<usize>) {
    let (mut faults, mut named) = (Vec::new(), BTreeSet::new());
    for row in table.lines() {
        for file in row.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file).is_file() {
                faults.push(format!("{file} is not there"));
            }
        }
        let pieces: Vec<&str> = row.split('`').collect();
        for (before, word) in pieces.iter().zip(&pieces[1..]).step_by(2) {
            // A path of HTTP, or the text of a link, which was looked at above.
            if word.starts_with('/') || before.ends_with('[') {
                continue;
            }
            if before.ends_with("feature ") {
                if !MANIFEST.lines().any(|line| line.starts_with(&format!("{word} = ["))) {
                    faults.push(format!("there is no feature {word}"));
                }
                continue;
            }
            let parts: Vec<&str> = word.split("::").collect();
            // One word is of whatever crate the row is about; "of either" is of both.
            let found: Vec<_> = (0..PATHS.len()).filter(|at| PATHS[*at].ends_with(&parts)).collect();
            if found.is_empty() {
                faults.push(format!("`{word}` is not among the paths that this test imports"));
            }
            named.extend(found);
        }
    }
    (faults, named)
}

fn rows() -> &'static str {
    let (_, table) = README.split_once(HEAD).expect("the table is there");
    let table = table.split_once('\n').expect("its rows").1;
    table.split("\n\n").next().unwrap_or_default()
}

#[test]
fn whatever_the_table_of_ways_names_is_there() {
    assert!(rows().lines().count() >= 8, "{}", rows());
    let (faults, named) = look(rows());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for (at, path) in PATHS.iter().enumerate() {
        assert!(named.contains(&at), "the table does not name {} any more", path.join("::"));
    }
}

#[test]
fn what_is_not_there_is_seen() {
    for bad in [
        "| x | [`core/examples/gone.rs`](core/examples/gone.rs) | |",
        "| x | `trunkline_tokio::gone`, feature `axum` | |",
        "| x | `trunkline_tokio::axum`, feature `gone` | |",
        "| x | `gone` of either | |",
    ] {
        assert_eq!(look(bad).0.len(), 1, "{bad}");
    }
    assert_eq!(look("| x | `serve_connection` of either | `/ws` |").1.len(), 2);
}
