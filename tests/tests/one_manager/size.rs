//! An adapter is small: what is not the runtime's own is the core's.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

use super::source::{self, Source};

/// Lines of code that an adapter may have without what is aside.
const MAX_LINES: usize = 400;
/// Parts that stand on another crate than the runtime and behind a feature of their own, and how many lines each may have.
const ASIDE: [(&str, usize); 4] = [("axum", 150), ("hyper", 150), ("keys", 100), ("tls", 140)];

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

/// The lines of an adapter: its own, under no name, and those of each part that is aside.
fn adapter(sources: &[Source]) -> BTreeMap<&'static str, usize> {
    let mut found = BTreeMap::new();
    for source in sources {
        let part = source.module.first().map_or("", String::as_str);
        let part = ASIDE.iter().map(|(name, _)| *name).find(|name| *name == part).unwrap_or_default();
        *found.entry(part).or_default() += lines(source);
    }
    found
}

/// The parts that are larger than they may be.
fn too_large(parts: &BTreeMap<&'static str, usize>) -> Vec<String> {
    let bounds: BTreeMap<_, _> = ASIDE.into_iter().chain([("", MAX_LINES)]).collect();
    let over = parts.iter().filter(|(part, lines)| **lines >= bounds[*part]);
    over.map(|(part, lines)| format!("{part:?} has {lines} lines of code, and may have {}", bounds[part])).collect()
}

#[test]
fn both_adapters_stay_small() {
    for root in ["runtime-tokio/src/lib.rs", "runtime-smol/src/lib.rs"] {
        let parts = adapter(&source::of_crate(root));
        // Written past the harness, which shows what a passing test prints to nobody.
        let aside: Vec<_> =
            parts.iter().filter(|(part, _)| !part.is_empty()).map(|(part, lines)| format!("{part} {lines}")).collect();
        writeln!(std::io::stdout(), "{root}: {} lines of code; aside: {}", parts[""], aside.join(", "))
            .expect("standard output is open");
        assert!(parts[""] > 100, "{root}: this rule sees only {parts:?}");
        assert_eq!(too_large(&parts), Vec::<String>::new(), "{root}");
    }
}

#[test]
fn the_readme_says_what_is_counted_and_how_much_of_it_there_may_be() {
    let readme = std::fs::read_to_string(source::workspace().join("README.md")).expect("it is there");
    let own = format!("stays under {MAX_LINES} lines of code");
    let aside = ASIDE.map(|(part, lines)| format!("`{part}` {lines}")).join(", ");
    for said in [own, aside] {
        assert!(readme.contains(&said), "the README does not say {said:?}");
    }
}

#[test]
fn a_part_that_grows_is_seen_whichever_it_is() {
    let of = |module: &'static str, lines: usize| {
        adapter(&[Source::of("a.rs", &[module, "inner"], &"fn f() {}\n".repeat(lines))])
    };
    assert_eq!(too_large(&of("serve", MAX_LINES - 1)).len(), 0);
    assert_eq!(too_large(&of("serve", MAX_LINES)).len(), 1);
    for (part, lines) in ASIDE {
        assert_eq!(too_large(&of(part, lines - 1)).len(), 0, "{part}");
        assert_eq!(too_large(&of(part, lines)).len(), 1, "{part}");
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
