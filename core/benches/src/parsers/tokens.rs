//! Tokens that nobody has signed, up to the signature; and one that somebody has.

use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use trunkline_core::auth::{ClaimRules, Hs256, NewToken, TokenVerifier};
use trunkline_core::time::UnixTime;

use super::{filled, member, nested, numbered};
use crate::support::{SECRET, user};
use crate::{Input, Step};

pub(super) const INPUTS: [Input; 9] = [
    Input {
        name: "tokens: long claims",
        bytes: BYTES,
        start: |bytes| verified(unsigned(HEADER, &"a".repeat(bytes / 4 * 3))),
    },
    Input {
        name: "tokens: a long signature",
        bytes: BYTES,
        start: |bytes| verified(filled(bytes, "eyJhbGciOiJIUzI1NiJ9.e30.", "YWFh", "")),
    },
    Input { name: "tokens: no dots", bytes: BYTES, start: |bytes| verified("a".repeat(bytes)) },
    Input {
        name: "tokens: many names in the header",
        bytes: BYTES,
        start: |bytes| headed(numbered(json(bytes), OPEN, member, "}")),
    },
    Input {
        name: "tokens: a deep header",
        bytes: BYTES,
        start: |bytes| headed(filled(json(bytes), LIST, &nested(14), "0]}")),
    },
    Input { name: "tokens: a long number", bytes: BYTES, start: |bytes| headed(filled(json(bytes), NUMBER, "1", "}")) },
    Input {
        name: "tokens: a long fraction",
        bytes: BYTES,
        start: |bytes| headed(filled(json(bytes), FRACTION, "1", "}")),
    },
    Input {
        name: "tokens: escapes",
        bytes: BYTES,
        start: |bytes| headed(filled(json(bytes), NAME, "\\ud834\\udd1e", "\"}")),
    },
    Input { name: "tokens: many words in the scope", bytes: BYTES, start: many_words },
];

const BYTES: usize = 32 << 10;
const HEADER: &str = r#"{"alg":"HS256"}"#;
const OPEN: &str = r#"{"alg":"HS256""#;
const LIST: &str = r#"{"alg":"HS256","a":["#;
const NUMBER: &str = r#"{"alg":"HS256","a":"#;
const FRACTION: &str = r#"{"alg":"HS256","a":0."#;
const NAME: &str = r#"{"alg":"HS256","kid":""#;
const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// Bytes of JSON that come to so many in base64.
const fn json(bytes: usize) -> usize {
    bytes / 4 * 3
}

fn unsigned(header: &str, claims: &str) -> String {
    [&URL_SAFE_NO_PAD.encode(header), ".", &URL_SAFE_NO_PAD.encode(claims), ".", &"A".repeat(43)].concat()
}

fn headed(header: String) -> Step {
    verified(unsigned(&header, "{}"))
}

/// Words that mean nothing, which are not counted; an issuer has let its user choose them.
fn many_words(bytes: usize) -> Step {
    let (ann, ttl) = (user("ann"), std::time::Duration::from_secs(60));
    let scope = "a ".repeat(json(bytes) / 2);
    let new = NewToken { user: &ann, issued_at: NOW, ttl, scope: &scope, token_id: None };
    let token = keys().issue(&new).unwrap();
    verified(token)
}

fn verified(token: String) -> Step {
    let keys = keys();
    Box::new(move || {
        drop(black_box(keys.verify(black_box(&token), NOW)));
    })
}

fn keys() -> Hs256 {
    Hs256::new(SECRET, ClaimRules { max_token_bytes: 1 << 20, ..ClaimRules::default() }).unwrap()
}
