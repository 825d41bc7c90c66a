//! Close codes and error codes stand in one table: `core/src/error.rs`.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use trunkline_core::error::{CloseReason, ErrorCode};

use super::adapters::SOME;
use super::source::{self, Source};

const TABLE: &str = "core/src/error.rs";
/// Numbers that are not told apart from the table's: where they stand, and what they are.
const OTHERS: [(&str, &str); 1] =
    [("core/src/codec/frame/message.rs", "the ranges of RFC 6455, in which a peer's code must lie")];
/// Names of codes that name something else too.
const AMBIGUOUS: [(&str, &str); 2] = [("going_away", "a frame"), ("heartbeat_timeout", "a limit")];

fn faults(sources: &[Source]) -> Vec<String> {
    // 1000 is a thousand of something far more often.
    let numbers: BTreeSet<u64> =
        CloseReason::ALL.iter().map(|reason| reason.code().into()).filter(|code| *code != 1000).collect();
    let texts: BTreeSet<&str> = CloseReason::ALL
        .iter()
        .map(|reason| reason.name())
        .chain(ErrorCode::ALL.iter().map(|code| code.as_str()))
        .collect();
    // A word of the language or of other tables says nothing by itself.
    let is_ambiguous = |text: &str| !text.contains('_') || AMBIGUOUS.iter().any(|(known, _)| text == *known);
    let telling = |text: &str| texts.contains(text) && !is_ambiguous(text);
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.path != TABLE) {
        for literal in literals(source.ast.to_token_stream()) {
            let number = literal.to_string().replace('_', "").parse::<u64>().ok();
            let at = source.at(literal.span());
            if let Some(number) = number.filter(|number| numbers.contains(number))
                && !OTHERS.iter().any(|(path, _)| source.path == *path)
            {
                faults.push(format!("{at}: {number} is a close code: name its reason"));
            }
            if let Ok(text) = syn::parse2::<syn::LitStr>(literal.to_token_stream())
                && telling(&text.value())
            {
                faults.push(format!("{at}: {literal} is the name of a code: take it from the table"));
            }
        }
    }
    faults
}

/// The literals of a source, but for those of its attributes: documentation gives examples.
fn literals(tokens: TokenStream) -> Vec<proc_macro2::Literal> {
    let mut found = Vec::new();
    let mut after_hash = false;
    for tree in tokens {
        match tree {
            TokenTree::Group(group) if after_hash && group.delimiter() == proc_macro2::Delimiter::Bracket => {}
            TokenTree::Group(group) => found.extend(literals(group.stream())),
            TokenTree::Literal(literal) => found.push(literal),
            TokenTree::Punct(punct) => {
                after_hash = punct.as_char() == '#' || (after_hash && punct.as_char() == '!');
                continue;
            }
            TokenTree::Ident(_) => {}
        }
        after_hash = false;
    }
    found
}

#[test]
fn every_code_stands_in_the_one_table() {
    let mut sources = source::of_crate("core/src/lib.rs");
    sources.extend(super::adapters::adapters());
    sources.extend(source::of_crate("runtime-tokio/src/bin/trunkline/main.rs"));
    for path in [TABLE].into_iter().chain(SOME) {
        assert!(sources.iter().any(|source| source.path == path), "this rule does not see {path}");
    }
    let faults = faults(&sources);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_code_outside_of_the_table_is_seen() {
    let planted = |text: &str| faults(&[Source::of("core/src/x.rs", &["x"], text)]).len();
    assert_eq!(planted("const SUPERSEDED: u16 = 4409;"), 1);
    for path in SOME {
        assert_eq!(faults(&[Source::of(path, &[], "fn f() { session.close(now, 4409); }")]).len(), 1, "{path}");
    }
    assert_eq!(planted("fn f(code: u16) -> bool { matches!(code, 4001 | 4_002) }"), 2);
    assert_eq!(planted("fn f() -> &'static str { \"rate_limited\" }"), 1);
    assert_eq!(planted("fn f() { json!({ \"code\": \"run_ended\" }) }"), 1);
    assert_eq!(planted("/// Closes with 4409, `rate_limited`.\nfn f(n: u16) -> bool { n > 4096 || n == 1000 }"), 0);
    assert_eq!(planted("#[doc = \"rate_limited\"] fn f() -> &'static str { \"busy\" }"), 0);
    assert_eq!(faults(&[Source::of(TABLE, &["error"], "const A: u16 = 4409;")]).len(), 0);
}
