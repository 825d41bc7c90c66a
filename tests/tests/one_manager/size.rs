//! An adapter is small: what is not the runtime's own is the core's.

use std::collections::BTreeSet;
use std::io::Write as _;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

use super::source::{self, Source};

/// Lines of code that an adapter may have.
const MAX_LINES: usize = 400;
/// Parts that stand on another crate than the runtime, and may be left out of it.
const ASIDE: [&str; 4] = ["axum", "hyper", "keys", "tls"];

/// Lines with anything but comments, documentation and space on them, without tests.
fn lines(source: &Source) -> usize {
    let mut found = BTreeSet::new();
    mark(source.ast.to_token_stream(), &mut found);
    found.len()
}

fn mark(tokens: TokenStream, found: &mut BTreeSet<usize>) {
    let mut trees = tokens.into_iter().peekable();
    while let Some(tree) = trees.next() {
        if matches!(&tree, TokenTree::Punct(punct) if punct.as_char() == '#') {
            let mut ahead = trees.clone();
            let inner =
                ahead.next_if(|tree| matches!(tree, TokenTree::Punct(punct) if punct.as_char() == '!')).is_some();
            if ahead.next().is_some_and(|tree| is_documentation(&tree)) {
                trees.nth(usize::from(inner));
                continue;
            }
        }
        if let TokenTree::Group(group) = &tree {
            found.extend([group.span_open().start().line, group.span_close().end().line]);
            mark(group.stream(), found);
        } else {
            found.extend(tree.span().start().line..=tree.span().end().line);
        }
    }
}

fn is_documentation(tree: &TokenTree) -> bool {
    let TokenTree::Group(group) = tree else { return false };
    matches!(group.stream().into_iter().next(), Some(TokenTree::Ident(ident)) if ident == "doc")
}

/// The lines of an adapter, file by file.
fn adapter(root: &str) -> Vec<(String, usize)> {
    let is_aside = |source: &Source| source.module.first().is_some_and(|module| ASIDE.contains(&module.as_str()));
    let sources = source::of_crate(root);
    sources.iter().filter(|source| !is_aside(source)).map(|source| (source.path.clone(), lines(source))).collect()
}

#[test]
fn both_adapters_stay_small() {
    for root in ["runtime-tokio/src/lib.rs", "runtime-smol/src/lib.rs"] {
        let files = adapter(root);
        let total: usize = files.iter().map(|(_, lines)| lines).sum();
        // Written past the harness, which shows what a passing test prints to nobody.
        writeln!(std::io::stdout(), "{root}: {total} lines of code").expect("standard output is open");
        assert!(total > 100, "{root}: this rule sees only {files:?}");
        assert!(total < MAX_LINES, "{root}: {total} lines of code, and the adapter may have {MAX_LINES}: {files:?}");
    }
}

#[test]
fn a_line_of_code_is_one_that_does_something() {
    let count = |text: &str| lines(&Source::of("a.rs", &[], text));
    assert_eq!(count("//! About.\n\n/// A.\n// B\nfn f() {}\n"), 1);
    assert_eq!(count("fn f() {\n    // A comment.\n\n    g(\n        1,\n    )\n}\n"), 5);
    assert_eq!(count("#[derive(Debug)]\nstruct A;\n/* a\n b */\n"), 2);
    assert_eq!(count("fn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n"), 1);
    assert_eq!(count("const A: &str = \"a\nb\";"), 2);
    assert_eq!(count(&"fn f() {}\n".repeat(500)), 500);
}
