//! The crates that a module stands on are named in that module alone.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{self, Source};

/// A crate as sources name it, and the only folders whose sources may.
const HOMES: [(&str, &[&str]); 13] = [
    ("tungstenite", &["core/src/codec/", "core/tests/", "fuzz/"]),
    ("tokio_tungstenite", &["tests/"]),
    ("httparse", &["core/src/codec/"]),
    // Beside the module, whoever judges it from outside.
    ("flate2", &["core/src/codec/deflate/", "fuzz/"]),
    // Beside the module, whoever judges it from outside.
    ("jsonwebtoken", &["core/src/auth/", "core/tests/", "tests/"]),
    ("spki", &["core/src/auth/"]),
    ("aws_lc_rs", &["core/src/auth/", "tests/"]),
    // And the models that concern more than one of its parts.
    ("loom", &["core/src/sync/", "core/src/hub/tests/"]),
    ("tokio", &["runtime-tokio/", "tests/"]),
    ("smol", &["runtime-smol/", "tests/"]),
    ("async_io", &["runtime-smol/"]),
    ("axum", &["runtime-tokio/", "tests/"]),
    // A subscriber is foreign code, which nothing here calls under a lock.
    ("tracing", &["core/src/hub/trace.rs", "runtime-tokio/src/bin/", "tests/"]),
];

/// A dependency as manifests name it, and the only packages that may have it.
const OWNERS: [(&str, &[&str]); 11] = [
    ("tungstenite", &["core", "fuzz"]),
    ("tokio-tungstenite", &["tests"]),
    ("httparse", &["core"]),
    ("flate2", &["core", "fuzz"]),
    ("jsonwebtoken", &["core", "tests"]),
    ("spki", &["core"]),
    ("loom", &["core"]),
    ("tokio", &["runtime-tokio", "tests"]),
    ("smol", &["runtime-smol", "tests"]),
    ("axum", &["runtime-tokio", "tests"]),
    ("tracing", &["core", "runtime-tokio", "tests"]),
];
/// Here stands what packages inherit: under its own name, or nobody could tell what a package names.
const ROOT: &str = ".";
const PACKAGES: [&str; 6] = ["core", "core/benches", "runtime-tokio", "runtime-smol", "tests", "fuzz"];

fn faults_of_sources(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        for named in source::names(source) {
            let home = HOMES.iter().find(|(name, _)| named.segments.first().is_some_and(|first| first == name));
            // A single word may be a variable; what is in scope was imported or is spelled out.
            let is_path = named.imported || named.segments.len() > 1;
            if let Some((name, folders)) = home
                && is_path
                && !folders.iter().any(|folder| source.path.starts_with(folder))
            {
                faults.push(format!(
                    "{}: names `{name}`, which is for {} only",
                    source.at(named.span),
                    folders.join(", ")
                ));
            }
        }
    }
    faults
}

/// The dependencies that a manifest names, of every kind and for every target.
fn dependencies(manifest: &toml::Table, found: &mut BTreeSet<String>) {
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        if key.ends_with("dependencies") {
            let renamed = |(name, value): (&String, &toml::Value)| {
                value.get("package").and_then(toml::Value::as_str).map_or_else(|| name.clone(), str::to_owned)
            };
            found.extend(table.iter().map(renamed));
        } else {
            dependencies(table, found);
        }
    }
}

fn faults_of_manifests(manifests: &BTreeMap<&str, String>) -> Vec<String> {
    let mut faults = Vec::new();
    for (package, text) in manifests {
        let mut found = BTreeSet::new();
        let manifest: toml::Table = text.parse().unwrap_or_else(|error| panic!("{package}/Cargo.toml: {error}"));
        if *package == ROOT {
            let inherited = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies")?.as_table());
            let renamed = inherited.into_iter().flatten().filter(|(_, value)| value.get("package").is_some());
            faults.extend(renamed.map(|(name, _)| format!("Cargo.toml names `{name}` what has another name")));
            continue;
        }
        dependencies(&manifest, &mut found);
        for (name, packages) in OWNERS.iter().filter(|(name, _)| found.contains(*name)) {
            if !packages.contains(package) {
                faults.push(format!("{package}/Cargo.toml names `{name}`, which is for {} only", packages.join(", ")));
            }
        }
    }
    faults
}

#[test]
fn what_a_module_stands_on_is_named_in_it_alone() {
    let sources: Vec<Source> = PACKAGES.iter().flat_map(|package| source::all_files(package)).collect();
    let manifest = |package: &&'static str| {
        let path = source::workspace().join(package).join("Cargo.toml");
        (*package, std::fs::read_to_string(path).expect("a package has a manifest"))
    };
    let mut faults = faults_of_sources(&sources);
    faults.extend(faults_of_manifests(&PACKAGES.iter().chain([&ROOT]).map(manifest).collect()));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for (name, folder) in [("tungstenite", "core/src/codec/"), ("jsonwebtoken", "core/src/auth/")] {
        let of = |source: &&Source| source.path.starts_with(folder);
        let names = |source: &Source| source::names(source).iter().any(|named| named.starts_with(&[name]));
        assert!(
            sources.iter().filter(of).any(names),
            "nothing in {folder} names `{name}`: this rule looks in the wrong place"
        );
    }
}

#[test]
fn a_crate_outside_of_its_home_is_seen() {
    let planted = |path: &str, text: &str| faults_of_sources(&[Source::of(path, &[], text)]).len();
    assert_eq!(planted("core/src/codec/frame/mod.rs", "use tungstenite::protocol::Message;"), 0);
    assert_eq!(planted("core/src/connection/mod.rs", "use tungstenite::protocol::{Message, Role};"), 2);
    assert_eq!(planted("core/src/hub/mod.rs", "fn f() { jsonwebtoken::decode(t) }"), 1);
    assert_eq!(planted("core/src/hub/mod.rs", "fn f() { vec![jsonwebtoken::decode(t)]; }"), 1);
    assert_eq!(planted("core/src/auth/mod.rs", "fn f(jsonwebtoken: u8) -> u8 { jsonwebtoken }"), 0);
    assert_eq!(planted("runtime-smol/src/serve.rs", "use tokio::net::TcpStream;"), 1);
    assert_eq!(planted("core/src/hub/mod.rs", "extern crate tungstenite as frames;"), 1);
    assert_eq!(planted("runtime-tokio/src/serve.rs", "type A = ::smol::Task<()>;"), 1);

    let manifest = |package, text: &str| faults_of_manifests(&BTreeMap::from([(package, text.to_owned())])).len();
    assert_eq!(manifest("core", "[dependencies]\ntungstenite.workspace = true"), 0);
    assert_eq!(manifest("runtime-smol", "[dependencies]\ntokio = '1'"), 1);
    assert_eq!(
        manifest("runtime-tokio", "[target.'cfg(unix)'.dev-dependencies]\nx = { package = 'smol', version = '2' }"),
        1
    );
    assert_eq!(manifest(ROOT, "[workspace.dependencies]\nx = { package = 'tungstenite', version = '1' }"), 1);
    assert_eq!(manifest(ROOT, "[workspace.dependencies]\ntungstenite = '1'"), 0);
    assert_eq!(manifest("fuzz", "[build-dependencies]\njsonwebtoken = { workspace = true }"), 1);
}
