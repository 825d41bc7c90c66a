//! Every bad token is refused by a set with a key of every algorithm, and every good one is not.

#![allow(missing_docs, reason = "a test")]

mod corpus;

use std::collections::BTreeSet;

use trunkline_core::auth::{Algorithm, AuthError, ClaimRules, Key, KeySet, RotatingKeys, TokenVerifier};
use trunkline_core::time::UnixTime;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn set() -> KeySet {
    KeySet::new(corpus::keys(), ClaimRules::default()).unwrap()
}

#[test]
fn no_bad_token_holds() {
    let addresses: Vec<String> = (1..=4).map(|port| format!("127.0.0.1:{port}")).collect();
    let (set, bad) = (set(), corpus::bad_tokens(&addresses));
    for corpus::Bad { name, token } in &bad {
        let verdict = set.verify(token, NOW);
        assert!(matches!(verdict, Err(AuthError::Invalid(_))), "{name}: {verdict:?}");
    }
    let different: BTreeSet<_> = bad.iter().map(|bad| &bad.token).collect();
    assert!(different.len() >= 400, "{} tokens", different.len());
}

#[test]
fn every_algorithm_verifies_what_its_key_signed_and_no_other() {
    let set = set();
    for algorithm in Algorithm::ALL {
        assert!(set.verify(&corpus::good(algorithm), NOW).is_ok(), "{algorithm}");
        let unnamed = corpus::signed(algorithm, &format!(r#"{{"alg":"{algorithm}"}}"#), corpus::CLAIMS);
        assert!(set.verify(&unnamed, NOW).is_ok(), "{algorithm}, without a kid");
        for other in Algorithm::ALL {
            let one = KeySet::new([corpus::public(other)], ClaimRules::default()).unwrap();
            assert_eq!(one.verify(&unnamed, NOW).is_ok(), other == algorithm, "{algorithm} under a key for {other}");
        }
    }
    assert!(set.verify(corpus::good_pss(), NOW).is_ok(), "as openssl signs it");
}

#[test]
fn keys_are_replaced_while_tokens_are_verified() {
    let of = |algorithm| KeySet::new([corpus::public(algorithm)], ClaimRules::default()).unwrap();
    let keys = RotatingKeys::new(of(Algorithm::Es256));
    let (old, new) = (corpus::good(Algorithm::Es256), corpus::good(Algorithm::EdDsa));
    assert!(keys.verify(&old, NOW).is_ok() && keys.verify(&new, NOW).is_err());
    keys.replace(of(Algorithm::EdDsa));
    assert!(keys.verify(&old, NOW).is_err() && keys.verify(&new, NOW).is_ok());
}

#[test]
fn keys_of_files_are_taken_or_refused_by_their_kind() {
    let taken = |algorithm, pem: &str| Key::from_pem(algorithm, pem).is_ok();
    assert!(taken(Algorithm::Rs256, include_str!("corpus/keys/rsa.pkcs1.public.pem")));
    assert!(taken(Algorithm::Ps512, &corpus::RSA.replace('\n', "\r\n")));
    for (pem, own) in [
        (corpus::RSA, &Algorithm::ALL[3..9]),
        (corpus::P256, &[Algorithm::Es256][..]),
        (corpus::P384, &[Algorithm::Es384]),
        (corpus::ED25519, &[Algorithm::EdDsa]),
    ] {
        for algorithm in Algorithm::ALL {
            assert_eq!(taken(algorithm, pem), own.contains(&algorithm), "{algorithm}");
        }
        // Neither a cut key nor one with something behind it.
        assert!(!taken(own[0], &pem[..pem.len() / 2]) && !taken(own[0], &format!("{pem}{pem}")));
    }
    let refused = |algorithm, pem: &str| Key::from_pem(algorithm, pem).unwrap_err().to_string();
    assert_eq!(
        refused(Algorithm::Rs256, include_str!("corpus/keys/rsa1024.public.pem")).split(" and").next(),
        Some("the RSA key has 1024 bits")
    );
    assert!(refused(Algorithm::Es256, include_str!("corpus/keys/secp256k1.public.pem")).contains("neither on P-256"));
    for (algorithm, pem) in [
        (Algorithm::Rs256, include_str!("corpus/keys/rsa.private.pem")),
        (Algorithm::Es256, include_str!("corpus/keys/p256.private.pem")),
        (Algorithm::EdDsa, include_str!("corpus/keys/ed25519.private.pem")),
    ] {
        assert_eq!(refused(algorithm, pem), "this is a private key: give the public key only");
    }
}
