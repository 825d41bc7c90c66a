//! Tokens, and the keys that verify them.

use std::sync::LazyLock;

use trunkline_core::auth::{Algorithm, ClaimRules, Key, KeySet, MAX_KEYS, TokenVerifier};
use trunkline_core::time::UnixTime;

/// A token in any text, for a server with a key of every algorithm: only those that were issued are accepted, each in its one
/// spelling and in its time.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert_eq!(KEYS.verify(text, NOW).is_ok(), GOOD.contains(&text));
    assert!(KEYS.verify(text, EXPIRED).is_err());
}

/// A JWKS in any bytes. What is taken is within its bounds, without secrets where it is public, says the same when it is read
/// again, and lets nobody in who has signed nothing.
pub fn jwks(data: &[u8]) {
    if let Ok(set) = KeySet::from_secret_jwks(data, ClaimRules::default()) {
        sound(&set);
        let again = KeySet::from_secret_jwks(data, ClaimRules::default()).map(|set| format!("{set:?}"));
        assert_eq!(again, Ok(format!("{set:?}")));
    }
    if let Ok(public) = KeySet::from_jwks(data, ClaimRules::default()) {
        sound(&public);
        assert!(public.keys().iter().all(|key| !key.algorithm().name().starts_with("HS")));
    }
}

fn sound(set: &KeySet) {
    assert!((1..=MAX_KEYS).contains(&set.keys().len()) && set.passed_over().len() < MAX_KEYS);
    for token in UNSIGNED.iter() {
        assert!(set.verify(token, NOW).is_err());
    }
}

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const EXPIRED: UnixTime = UnixTime::from_secs(4_102_444_805);

/// Good until 2100; made by the tests of the verifier, whose keys these are.
const GOOD: [&str; 12] = [
    include_str!("../seeds/token/HS256"),
    include_str!("../seeds/token/HS384"),
    include_str!("../seeds/token/HS512"),
    include_str!("../seeds/token/RS256"),
    include_str!("../seeds/token/RS384"),
    include_str!("../seeds/token/RS512"),
    include_str!("../seeds/token/PS256"),
    include_str!("../seeds/token/PS384"),
    include_str!("../seeds/token/PS512"),
    include_str!("../seeds/token/ES256"),
    include_str!("../seeds/token/ES384"),
    include_str!("../seeds/token/EdDSA"),
];

static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let keys = Algorithm::ALL.map(|algorithm| key(algorithm).with_kid(algorithm.name()).expect("a short name"));
    KeySet::new(keys, ClaimRules::default()).expect("twelve keys")
});

fn key(algorithm: Algorithm) -> Key {
    let pem = |pem| Key::from_pem(algorithm, pem).expect("a public key");
    match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
            let secret = format!("{algorithm} of the tests").repeat(5);
            Key::from_secret(algorithm, secret.as_bytes()).expect("it is long enough")
        }
        Algorithm::Rs256
        | Algorithm::Rs384
        | Algorithm::Rs512
        | Algorithm::Ps256
        | Algorithm::Ps384
        | Algorithm::Ps512 => pem(include_str!("../../core/tests/corpus/keys/rsa.public.pem")),
        Algorithm::Es256 => pem(include_str!("../../core/tests/corpus/keys/p256.public.pem")),
        Algorithm::Es384 => pem(include_str!("../../core/tests/corpus/keys/p384.public.pem")),
        Algorithm::EdDsa => pem(include_str!("../../core/tests/corpus/keys/ed25519.public.pem")),
    }
}

/// The claims of a token that holds, under `none` and under every algorithm, with nothing for a signature and with zeros.
static UNSIGNED: LazyLock<Vec<String>> = LazyLock::new(|| {
    // `{"alg":"none"}`
    let none = "eyJhbGciOiJub25lIn0";
    let headers = GOOD.iter().filter_map(|good| good.split('.').next()).chain([none]);
    let claims = GOOD[0].split('.').nth(1).unwrap_or_default();
    let endings = ["".to_owned(), "A".repeat(43), "A".repeat(86), "A".repeat(128)];
    headers
        .flat_map(|header| endings.iter().map(move |end| format!("{header}.{claims}.{end}")).collect::<Vec<_>>())
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_named_after_algorithms_are_good_tokens() {
        for good in GOOD {
            assert!(KEYS.verify(good, NOW).is_ok(), "{good}");
        }
    }

    #[test]
    fn the_seed_named_all_has_keys_of_every_kind() {
        let set = KeySet::from_secret_jwks(include_bytes!("../seeds/jwks/all"), ClaimRules::default()).unwrap();
        assert_eq!((set.keys().len(), set.passed_over().len()), (5, 2));
    }
}
