//! Data flows one way: a module of the core names only modules that stand above it in the table of `core/src/lib.rs`.

use super::source::{self, Source};

/// A module that names one below it, and why that is no second way of the data.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// The rows of the table in `lib.rs`, from the ground up.
fn order(root: &Source) -> Vec<Vec<String>> {
    let cells = root.text.lines().filter_map(|line| line.strip_prefix("//! | ")?.split('|').next());
    let rows = cells.map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect());
    rows.filter(|row: &Vec<String>| !row.is_empty()).collect()
}

/// What is wrong, and which exceptions were needed.
fn faults(sources: &[Source]) -> Vec<String> {
    let root = sources.iter().find(|source| source.module.is_empty()).expect("the crate has a root");
    let order = order(root);
    let layer = |module: &str| order.iter().position(|row| row.iter().any(|name| name == module));
    let mut faults = Vec::new();
    let mut used = Vec::new();
    for source in sources {
        let Some(module) = source.module.first() else { continue };
        let Some(own) = layer(module) else {
            faults.push(format!("{}: `{module}` has no row in the table of core/src/lib.rs", source.path));
            continue;
        };
        for named in source::names(source) {
            let path = source::in_crate(source, &named).unwrap_or_default();
            let Some(other) = path.first().filter(|other| *other != module) else { continue };
            let Some(theirs) = layer(other) else { continue };
            if theirs <= own {
                continue;
            }
            if EXCEPTIONS.iter().any(|(from, to, _)| from == module && to == other) {
                used.push((module.clone(), other.clone()));
            } else {
                faults.push(format!("{}: `{module}` names `{other}`, which is below it", source.at(named.span)));
            }
        }
    }
    for (from, to, _) in EXCEPTIONS {
        if !used.iter().any(|(module, other)| module == from && other == to) {
            faults.push(format!("the exception of `{from}` and `{to}` is not needed any more"));
        }
    }
    faults
}

#[test]
fn each_module_of_the_core_names_only_those_above_it() {
    let faults = faults(&source::of_crate("core/src/lib.rs"));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_layer_that_looks_down_is_seen() {
    let root = "//! | module | what |\n//! |---|---|\n//! | [`time`], `id` | a |\n//! | [`hub`] | b |\npub mod time; pub mod hub;";
    let planted = |module: &str, text: &str| {
        let file = format!("core/src/{module}.rs");
        faults(&[Source::of("core/src/lib.rs", &[], root), Source::of(&file, &[module], text)]).len()
    };
    assert_eq!(planted("hub", "use crate::{id::A, time::B}; use crate::hub::C;"), 0);
    assert_eq!(planted("time", "#[cfg(test)] mod tests { use crate::hub::Hub; }"), 0);
    assert_eq!(planted("time", "use crate::{id::A, hub::B};"), 1);
    assert_eq!(planted("time", "use super::hub::Hub;"), 1);
    assert_eq!(planted("time", "fn f() { crate::hub::g() }"), 1);
    assert_eq!(planted("time", "fn f() { vec![crate::hub::g()]; }"), 1);
    assert_eq!(planted("nowhere", ""), 1);
}
