//! Tokens that were made without the key: no algorithm, or another than the key's.

use trunkline_core::auth::Algorithm;

use super::{Bad, CLAIMS, ED25519, P256, P384, RSA, bad, der, hmac, join, message, public, signature, signed};

const HMACS: [Algorithm; 3] = [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512];

pub(super) fn all() -> Vec<Bad> {
    let parts = [unsigned(), public_keys_as_secrets(), guessed_secrets(), other_algorithms(), other_keys()];
    parts.into_iter().flatten().collect()
}

fn unsigned() -> Vec<Bad> {
    let mut all = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let message = message(&format!(r#"{{"alg":"{alg}"}}"#), CLAIMS);
        all.push(bad(format!("alg {alg:?}, no signature"), format!("{message}.")));
        all.push(bad(format!("alg {alg:?}, some signature"), format!("{message}.AAAA")));
    }
    let with_kid = message(r#"{"alg":"none","kid":"HS256"}"#, CLAIMS);
    all.push(bad("alg none with a kid", format!("{with_kid}.")));
    all.push(bad("alg none with a good MAC", join(&with_kid, &signature(Algorithm::Hs256, &with_kid))));
    all.push(bad("alg none as a list", format!("{}.", message(r#"{"alg":["none"]}"#, CLAIMS))));
    all
}

/// The classic: what everybody knows as the secret of a MAC.
fn public_keys_as_secrets() -> Vec<Bad> {
    let keys = [("RS256", RSA), ("ES256", P256), ("ES384", P384), ("EdDSA", ED25519)];
    let mut all = Vec::new();
    for (kid, pem) in keys {
        let der = der(pem);
        let raw = &der[der.len() - 32..];
        for (form, secret) in [
            ("PEM", pem.as_bytes()),
            ("PEM without its last line end", pem.trim_end().as_bytes()),
            ("DER", &der),
            ("last bytes", raw),
        ] {
            for algorithm in HMACS {
                let named = message(&format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#), CLAIMS);
                all.push(bad(
                    format!("{algorithm} with the {form} of the key {kid}"),
                    join(&named, &hmac(algorithm, secret, &named)),
                ));
            }
            let unnamed = message(r#"{"alg":"HS256"}"#, CLAIMS);
            all.push(bad(
                format!("HS256 with the {form} of the key {kid}, no kid"),
                join(&unnamed, &hmac(Algorithm::Hs256, secret, &unnamed)),
            ));
        }
    }
    all
}

fn guessed_secrets() -> Vec<Bad> {
    let message = message(r#"{"alg":"HS256","kid":"HS256"}"#, CLAIMS);
    let guesses: [&[u8]; 6] = [b"", b"\0", b"secret", b"HS256", &[0; 32], b"null"];
    guesses
        .iter()
        .map(|secret| {
            bad(format!("HS256 with the secret {secret:?}"), join(&message, &hmac(Algorithm::Hs256, secret, &message)))
        })
        .collect()
}

/// Signed well, by the very key, under an algorithm that it is not bound to.
fn other_algorithms() -> Vec<Bad> {
    let rsa =
        [Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512];
    let mut all = Vec::new();
    for of_key in rsa {
        for named in rsa.into_iter().filter(|named| *named != of_key) {
            let header = format!(r#"{{"alg":"{named}","kid":"{of_key}"}}"#);
            all.push(bad(format!("signed with {named} by the key {of_key}"), signed(named, &header, CLAIMS)));
        }
    }
    // One algorithm in the header, another in the signature.
    for [named, used] in [
        [Algorithm::Rs256, Algorithm::Ps256],
        [Algorithm::Ps256, Algorithm::Rs256],
        [Algorithm::Rs512, Algorithm::Rs256],
        [Algorithm::Es256, Algorithm::EdDsa],
        [Algorithm::EdDsa, Algorithm::Es256],
        [Algorithm::Es256, Algorithm::Es384],
        [Algorithm::Es384, Algorithm::Es256],
        [Algorithm::Hs256, Algorithm::Hs512],
        [Algorithm::Hs512, Algorithm::Hs256],
    ] {
        let header = format!(r#"{{"alg":"{named}","kid":"{named}"}}"#);
        all.push(bad(format!("names {named} and is signed with {used}"), signed(used, &header, CLAIMS)));
    }
    // The key named is the one that signed, and only `alg` says otherwise.
    for named in Algorithm::ALL.into_iter().filter(|named| *named != Algorithm::Hs256) {
        let header = format!(r#"{{"alg":"{named}","kid":"HS256"}}"#);
        all.push(bad(
            format!("names {named} and is signed by the key HS256"),
            signed(Algorithm::Hs256, &header, CLAIMS),
        ));
    }
    for alg in ["RS1", "ES512", "ES256K", "PS257", "hs256", "HS256 ", "HS", "RSA-OAEP", "dir", "A128KW", "Ed448"] {
        let header = format!(r#"{{"alg":"{alg}","kid":"HS256"}}"#);
        all.push(bad(format!("alg {alg:?}"), signed(Algorithm::Hs256, &header, CLAIMS)));
    }
    all
}

/// Signed well, by another key of the server's than the one that is named.
fn other_keys() -> Vec<Bad> {
    assert_eq!(public(Algorithm::Hs256).kid(), None);
    let pairs = [
        (Algorithm::Hs256, "HS384"),
        (Algorithm::Es256, "EdDSA"),
        (Algorithm::EdDsa, "RS256"),
        (Algorithm::Rs256, "HS256"),
    ];
    let of = |(algorithm, kid): (Algorithm, &str)| {
        bad(
            format!("{algorithm} under the kid {kid}"),
            signed(algorithm, &format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#), CLAIMS),
        )
    };
    pairs.into_iter().map(of).collect()
}
