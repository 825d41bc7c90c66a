//! Tests of [`super::keys`].

use super::tests::{Scratch, load, refusal};
use super::*;

const URL: (&str, &str) = ("TRUNKLINE_JWKS_URL", "https://login.example/jwks.json");
const ED25519: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

#[test]
fn without_settings_nothing_but_a_secret_verifies() {
    assert!(load(None, &[], &[]).unwrap().keys.is_empty());
    for (key, value) in [("jwks_url", URL.1), ("jwks_file", "/keys.json")] {
        assert!(!load(None, &[], &[(key, value)]).unwrap().keys.is_empty(), "{key}");
    }
}

#[test]
fn a_source_of_keys_is_set_up_as_it_says() {
    let file = "jwks_url = \"https://login.example:8443/k?v=1\"\njwks_refresh = \"1min\"\njwks_cooldown = \"5s\"\njwks_max_age = \"1h\"";
    let (fetch, config) = load(Some(file), &[], &[]).unwrap().keys.url.unwrap();
    assert_eq!(fetch.origin(), "https://login.example:8443");
    let secs = Duration::from_secs;
    assert_eq!((config.refresh, config.cooldown, config.max_age), (secs(60), secs(5), Some(secs(3_600))));
    let (_, config) = load(None, &[URL], &[]).unwrap().keys.url.unwrap();
    assert_eq!((config.refresh, config.cooldown, config.max_age), (secs(300), secs(30), None));
}

#[test]
fn a_source_of_keys_must_recover_before_connections_are_lost() {
    // Two fetches of 10 s at most, and the cooldown, must fit into the 60 s before the end of a token.
    load(None, &[URL, ("TRUNKLINE_JWKS_COOLDOWN", "39999ms")], &[]).unwrap();
    let late = refusal(None, &[URL, ("TRUNKLINE_JWKS_COOLDOWN", "40s")], &[]);
    let start = "setting `jwks_cooldown` (environment variable TRUNKLINE_JWKS_COOLDOWN): lets a source take 60s";
    assert!(late.starts_with(start), "{late}");
    let short = refusal(None, &[URL, ("TRUNKLINE_JWKS_COOLDOWN", "1s"), ("TRUNKLINE_LIMITS_AUTH_NOTICE", "30s")], &[]);
    assert!(short.starts_with("setting `limits.auth_notice` (environment"), "{short}");
}

#[test]
fn mistakes_name_the_setting() {
    let empty = Scratch::new("empty.pem", "");
    let empty = empty.path();
    let table: [(&[(&str, &str)], &str); 10] = [
        (
            &[("TRUNKLINE_JWKS_URL", "http://login.example/k")],
            "`jwks_url` (environment variable TRUNKLINE_JWKS_URL): must begin",
        ),
        (&[("TRUNKLINE_JWKS_URL", "login")], "`jwks_url` (environment variable TRUNKLINE_JWKS_URL): is not an address"),
        (
            &[("TRUNKLINE_JWKS_CA_FILE", empty)],
            "`jwks_ca_file` (environment variable TRUNKLINE_JWKS_CA_FILE): says something",
        ),
        (
            &[("TRUNKLINE_JWKS_REFRESH", "1h")],
            "`jwks_refresh` (environment variable TRUNKLINE_JWKS_REFRESH): says something",
        ),
        (
            &[URL, ("TRUNKLINE_JWKS_CA_FILE", empty)],
            "`jwks_ca_file` (environment variable TRUNKLINE_JWKS_CA_FILE): the certificates to trust: there is none",
        ),
        (
            &[URL, ("TRUNKLINE_JWKS_CA_FILE", "/nonexistent")],
            "`jwks_ca_file` (environment variable TRUNKLINE_JWKS_CA_FILE): /none",
        ),
        (&[URL, ("TRUNKLINE_JWKS_REFRESH", "29s")], "`jwks_cooldown` (default): must not be above"),
        (
            &[URL, ("TRUNKLINE_JWKS_MAX_AGE", "1min")],
            "`jwks_max_age` (environment variable TRUNKLINE_JWKS_MAX_AGE): must be",
        ),
        (
            &[("TRUNKLINE_PUBLIC_KEY_FILE", empty)],
            "`public_key_file` (environment variable TRUNKLINE_PUBLIC_KEY_FILE): ",
        ),
        (
            &[("TRUNKLINE_PUBLIC_KEY_ALGORITHM", "none")],
            "`public_key_algorithm` (environment variable TRUNKLINE_PUBLIC_KEY_ALGORITHM): expected the name",
        ),
    ];
    for (variables, start) in table {
        let message = refusal(None, variables, &[]);
        assert!(message.starts_with(&format!("setting {start}")), "{message}");
    }
}

#[test]
fn a_public_key_is_bound_to_the_algorithm_of_its_kind_or_the_one_that_is_named() {
    let file = Scratch::new("ed25519.pem", ED25519);
    let path = ("TRUNKLINE_PUBLIC_KEY_FILE", file.path());
    let of = |settings: Settings| settings.keys.public_key.unwrap().algorithm().name();
    assert_eq!(of(load(None, &[path], &[]).unwrap()), "EdDSA");
    assert_eq!(of(load(None, &[path, ("TRUNKLINE_PUBLIC_KEY_ALGORITHM", "EdDSA")], &[]).unwrap()), "EdDSA");
    let other = refusal(None, &[path, ("TRUNKLINE_PUBLIC_KEY_ALGORITHM", "RS256")], &[]);
    assert!(other.contains("`public_key_file`") && other.contains("RS256"), "{other}");
}
