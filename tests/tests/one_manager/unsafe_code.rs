//! No package has unsafe code: the workspace forbids it, and every package takes the workspace's lints.

use super::source;

/// What is wrong with the root's manifest and those of its members.
fn faults(root: &toml::Table, members: &[(String, toml::Table)]) -> Vec<String> {
    let lint = |table: &toml::Table| table.get("rust").and_then(|rust| rust.get("unsafe_code").cloned());
    let workspace = root.get("workspace").and_then(|workspace| workspace.get("lints")?.as_table());
    let mut faults = Vec::new();
    if workspace.and_then(lint).as_ref().and_then(toml::Value::as_str) != Some("forbid") {
        faults.push("the workspace does not forbid unsafe code".to_owned());
    }
    for (name, manifest) in members {
        let lints = manifest.get("lints").and_then(toml::Value::as_table);
        let inherits = lints.and_then(|lints| lints.get("workspace")?.as_bool()) == Some(true);
        if !inherits {
            faults.push(format!("{name} does not take the lints of the workspace"));
        }
    }
    faults
}

fn parsed(text: &str) -> toml::Table {
    text.parse().expect("a manifest is TOML")
}

#[test]
fn every_package_forbids_unsafe_code() {
    let read = |path: &str| {
        parsed(&std::fs::read_to_string(source::workspace().join(path).join("Cargo.toml")).expect("a manifest"))
    };
    let root = read(".");
    let members = root["workspace"]["members"].as_array().expect("a list of packages");
    let members: Vec<_> = members.iter().map(|name| name.as_str().expect("a path").to_owned()).collect();
    assert!(members.len() >= 5, "this looks in the wrong place");
    let members: Vec<_> = members.into_iter().map(|name| (name.clone(), read(&name))).collect();
    assert_eq!(faults(&root, &members), Vec::<String>::new());
}

#[test]
fn a_package_that_allows_it_is_seen() {
    let forbids = parsed("[workspace.lints.rust]\nunsafe_code = 'forbid'");
    let warns = parsed("[workspace.lints.rust]\nunsafe_code = 'warn'");
    let member = |text: &str| [("a".to_owned(), parsed(text))];
    assert_eq!(faults(&forbids, &member("[lints]\nworkspace = true")).len(), 0);
    assert_eq!(faults(&warns, &member("[lints]\nworkspace = true")).len(), 1);
    assert_eq!(faults(&forbids, &member("[lints.rust]\nunsafe_code = 'allow'")).len(), 1);
    assert_eq!(faults(&forbids, &member("[dependencies]")).len(), 1);
}
