//! Tokens that must let nobody in, and the keys of the server that refuses them. Shared by the tests of the verifier and of
//! whole servers.

mod claims;
mod forgeries;
mod forms;
mod headers;
mod signatures;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use serde_json::json;
pub(crate) use signatures::good_pss;
use trunkline_core::auth::{Algorithm, Key};

/// A token that must be refused, and by what name a failure calls it.
pub(crate) struct Bad {
    pub(crate) name: String,
    pub(crate) token: String,
}

/// Claims that hold until 2100.
pub(crate) const CLAIMS: &str = r#"{"sub":"ann","exp":4102444800}"#;

pub(crate) const RSA: &str = include_str!("keys/rsa.public.pem");
pub(crate) const P256: &str = include_str!("keys/p256.public.pem");
pub(crate) const P384: &str = include_str!("keys/p384.public.pem");
pub(crate) const ED25519: &str = include_str!("keys/ed25519.public.pem");
pub(crate) const ATTACKER_RSA: &str = include_str!("keys/attacker_rsa.public.pem");

const RSA_PRIVATE: &str = include_str!("keys/rsa.private.pem");
const P256_PRIVATE: &str = include_str!("keys/p256.private.pem");
const P384_PRIVATE: &str = include_str!("keys/p384.private.pem");
const ED25519_PRIVATE: &str = include_str!("keys/ed25519.private.pem");
const ATTACKER_RSA_PRIVATE: &str = include_str!("keys/attacker_rsa.private.pem");

/// The server's keys: one for each algorithm, each under the algorithm's name.
pub(crate) fn keys() -> Vec<Key> {
    Algorithm::ALL.into_iter().map(|algorithm| public(algorithm).with_kid(algorithm.name()).unwrap()).collect()
}

/// The server's key for an algorithm, without a name.
pub(crate) fn public(algorithm: Algorithm) -> Key {
    match pem(algorithm) {
        Some(pem) => Key::from_pem(algorithm, pem),
        None => Key::from_secret(algorithm, &secret(algorithm)),
    }
    .unwrap()
}

/// Every bad token. `addresses` are `host:port` of listeners that must see nobody, at least four.
pub(crate) fn bad_tokens(addresses: &[String]) -> Vec<Bad> {
    let parts = [forgeries::all(), signatures::all(), headers::all(addresses), claims::all(addresses), forms::all()];
    parts.into_iter().flatten().collect()
}

/// What a token is signed with where the server's own issuer signs it.
pub(crate) fn signed(algorithm: Algorithm, header: &str, claims: &str) -> String {
    let message = message(header, claims);
    join(&message, &signature(algorithm, &message))
}

/// A token that holds.
pub(crate) fn good(algorithm: Algorithm) -> String {
    signed(algorithm, &header(algorithm), CLAIMS)
}

/// The header that names an algorithm and its key.
pub(crate) fn header(algorithm: Algorithm) -> String {
    json!({"alg": algorithm.name(), "kid": algorithm.name()}).to_string()
}

fn bad(name: impl Into<String>, token: String) -> Bad {
    Bad { name: name.into(), token }
}

fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()))
}

fn join(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", encode(signature))
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn signature(algorithm: Algorithm, message: &str) -> Vec<u8> {
    let key = match pem(algorithm) {
        None => EncodingKey::from_secret(&secret(algorithm)),
        Some(RSA) => EncodingKey::from_rsa_der(&der(RSA_PRIVATE)),
        Some(P256) => EncodingKey::from_ec_der(&der(P256_PRIVATE)),
        Some(P384) => EncodingKey::from_ec_der(&der(P384_PRIVATE)),
        Some(_) => EncodingKey::from_ed_der(&der(ED25519_PRIVATE)),
    };
    sign(algorithm, &key, message)
}

/// What somebody signs who has no key of the server's.
fn attackers(message: &str) -> Vec<u8> {
    sign(Algorithm::Rs256, &EncodingKey::from_rsa_der(&der(ATTACKER_RSA_PRIVATE)), message)
}

fn hmac(algorithm: Algorithm, secret: &[u8], message: &str) -> Vec<u8> {
    sign(algorithm, &EncodingKey::from_secret(secret), message)
}

fn sign(algorithm: Algorithm, key: &EncodingKey, message: &str) -> Vec<u8> {
    let algorithm = algorithm.name().parse().unwrap();
    let text = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn secret(algorithm: Algorithm) -> Vec<u8> {
    format!("{algorithm} of the tests").repeat(5).into_bytes()
}

fn pem(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => None,
        Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 => Some(RSA),
        Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 => Some(RSA),
        Algorithm::Es256 => Some(P256),
        Algorithm::Es384 => Some(P384),
        Algorithm::EdDsa => Some(ED25519),
    }
}

/// The bytes in a PEM text.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).unwrap()
}
