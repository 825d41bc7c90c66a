//! Key sets: from a service that is trusted with users, and not with this process.

use std::hint::black_box;

use trunkline_core::auth::{ClaimRules, KeySet, MAX_KEYS};

use super::{filled, member, nested, numbered};
use crate::{Input, Step};

pub(super) const INPUTS: [Input; 8] = [
    Input { name: "keys: as many as there may be", bytes: MAX_KEYS / 2 * KEY_BYTES, start: many_keys },
    Input { name: "keys: many that are none", bytes: BYTES, start: |bytes| read(filled(bytes, KEYS, "0,", "0]}")) },
    Input { name: "keys: a long modulus", bytes: BYTES, start: |bytes| read(filled(bytes, MODULUS, "_", "\"}]}")) },
    Input { name: "keys: many names", bytes: BYTES, start: |bytes| read(numbered(bytes, KEY, member, "}]}")) },
    Input { name: "keys: deep JSON", bytes: BYTES, start: |bytes| read(filled(bytes, LIST, &nested(14), "0]}")) },
    Input { name: "keys: a long number", bytes: BYTES, start: |bytes| read(filled(bytes, NUMBER, "1", "}")) },
    Input { name: "keys: a long name", bytes: BYTES, start: |bytes| read(filled(bytes, KID, "a", "\"}]}")) },
    Input { name: "keys: escapes", bytes: BYTES, start: |bytes| read(filled(bytes, KID, "\\ud834\\udd1e", "\"}]}")) },
];

const BYTES: usize = 32 << 10;
const KEYS: &str = r#"{"keys":["#;
const KEY: &str = r#"{"keys":[{"kty":"oct""#;
const LIST: &str = r#"{"keys":[],"a":["#;
const NUMBER: &str = r#"{"keys":[],"a":"#;
const MODULUS: &str = r#"{"keys":[{"kty":"RSA","e":"AQAB","n":""#;
const KID: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":""#;
/// One key of [`key`], with the comma behind it.
const KEY_BYTES: usize = 384;

fn many_keys(bytes: usize) -> Step {
    let keys: Vec<String> = (0..bytes / KEY_BYTES).map(key).collect();
    read(format!(r#"{{"keys":[{}]}}"#, keys.join(",")))
}

/// A point of RFC 7517 appendix A.1, under a long name that differs from the others at its end only.
fn key(number: usize) -> String {
    let point =
        r#""x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM""#;
    let start = format!(r#"{{"kty":"EC","crv":"P-256",{point},"kid":""#);
    let end = format!(r#"{number:03}"}}"#);
    filled(KEY_BYTES - 1, &start, "k", &end)
}

fn read(json: String) -> Step {
    Box::new(move || {
        drop(black_box(KeySet::from_secret_jwks(black_box(json.as_bytes()), ClaimRules::default())));
    })
}
