//! The core reads no clock and draws nothing, opens nothing and blocks nowhere: a second net beside `core/clippy.toml`, by what
//! its sources name.

use syn::visit::{self, Visit};

use super::source::{self, Named, Source};

/// Paths that no source of the core names.
const IMPURE: [&[&str]; 25] = [
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["std", "time", "UNIX_EPOCH"],
    &["std", "net", "TcpStream"],
    &["std", "net", "TcpListener"],
    &["std", "net", "UdpSocket"],
    &["std", "net", "ToSocketAddrs"],
    &["std", "os"],
    &["std", "fs"],
    &["std", "thread"],
    &["std", "env"],
    &["std", "process"],
    &["std", "io", "stdin"],
    &["std", "io", "stdout"],
    &["std", "io", "stderr"],
    &["std", "collections", "HashMap"],
    &["std", "collections", "HashSet"],
    &["std", "collections", "hash_map"],
    &["std", "hash", "RandomState"],
    &["std", "sync", "mpsc"],
    &["rand"],
    &["getrandom"],
    &["println"],
    &["eprintln"],
    &["print"],
];
/// What only `core::sync` names: where models can see it.
const OF_SYNC: [&[&str]; 10] = [
    &["std", "sync", "Mutex"],
    &["std", "sync", "RwLock"],
    &["std", "sync", "Condvar"],
    &["std", "sync", "Barrier"],
    &["std", "sync", "Once"],
    &["std", "sync", "OnceLock"],
    &["std", "sync", "LazyLock"],
    &["std", "sync", "atomic"],
    &["std", "cell"],
    &["std", "task", "AtomicWaker"],
];

fn faults(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let in_sync = source.module.first().is_some_and(|module| module == "sync");
        let is = |named: &Named, list: &[&[&str]]| {
            let std_like = |named: &Named| {
                let mut named = Named { segments: named.segments.clone(), ..*named };
                if named.segments.first().is_some_and(|first| first == "core" || first == "alloc") {
                    named.segments[0] = "std".to_owned();
                }
                named
            };
            list.iter().any(|path| std_like(named).starts_with(path))
        };
        for named in source::names(source) {
            let what = if is(&named, &IMPURE) {
                "is for an adapter"
            } else if is(&named, &OF_SYNC) && !in_sync {
                "is for `core::sync`"
            } else {
                continue;
            };
            faults.push(format!("{}: `{}` {what}", source.at(named.span), named.segments.join("::")));
        }
        if !in_sync {
            let mut wakers = Wakers { source, faults: Vec::new() };
            wakers.visit_file(&source.ast);
            faults.append(&mut wakers.faults);
        }
    }
    faults
}

/// Wakers are passed on, and kept in `core::sync` only.
struct Wakers<'a> {
    source: &'a Source,
    faults: Vec<String>,
}

impl<'ast> Visit<'ast> for Wakers<'_> {
    fn visit_field(&mut self, field: &'ast syn::Field) {
        let mut named = Vec::new();
        let mut words = Words(&mut named);
        words.visit_type(&field.ty);
        if named.iter().any(|word| word == "Waker") {
            let span = syn::spanned::Spanned::span(&field.ty);
            self.faults.push(format!("{}: a waker is kept outside of `core::sync`", self.source.at(span)));
        }
        visit::visit_field(self, field);
    }
}

struct Words<'a>(&'a mut Vec<String>);

impl<'ast> Visit<'ast> for Words<'_> {
    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        self.0.push(ident.to_string());
    }
}

#[test]
fn the_core_names_nothing_that_does_something() {
    let faults = faults(&source::of_crate("core/src/lib.rs"));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_core_that_does_something_is_seen() {
    let planted = |module: &str, text: &str| faults(&[Source::of("core/src/x.rs", &[module], text)]).len();
    for bad in [
        "use std::time::{Duration, Instant};",
        "fn f() { std::thread::spawn(g); }",
        "fn f() -> u64 { rand::random() }",
        "use std::net::TcpStream as Line;",
        "fn f() { println!(\"a\"); }",
        "fn f() { vec![std::env::var(\"A\")]; }",
        "use std::sync::{Arc, Mutex};",
        "struct A { count: std::sync::atomic::AtomicU64 }",
        "use core::sync::atomic::AtomicBool;",
        "struct A { waker: Option<Waker> }",
    ] {
        assert_eq!(planted("hub", bad), 1, "{bad}");
    }
    for good in ["use std::sync::Mutex;", "struct A { waker: Option<Waker> }"] {
        assert_eq!(planted("sync", good), 0, "{good}");
    }
    for good in ["use std::net::{IpAddr, SocketAddr};", "use std::time::Duration;", "fn f(waker: &Waker) {}"] {
        assert_eq!(planted("hub", good), 0, "{good}");
    }
}
