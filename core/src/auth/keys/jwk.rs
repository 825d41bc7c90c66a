//! Keys as JSON: RFC 7517, with the parameters of RFC 7518 section 6 and RFC 8037 section 2.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Key;
use super::algorithm::{Algorithm, Curve, Family};
use super::error::{KeyError, KeySetError, PassedOver};
use super::material::Material;
use super::set::MAX_KEYS;
use crate::auth::json::{Fault, Json, Object, parse};

/// The longest JWKS that is looked at, in bytes: 256 KiB.
pub const MAX_JWKS_BYTES: usize = 256 << 10;

/// Whether a set may hold secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    Taken,
    PassedOver,
}

pub(super) fn read(json: &[u8]) -> Result<Key, KeyError> {
    if json.len() > MAX_JWKS_BYTES {
        return Err(KeyError::Malformed("the JWK is too long"));
    }
    let jwk = parse(json).map_err(|fault| {
        KeyError::Malformed(match fault {
            Fault::NotAnObject => "the JWK is not a JSON object",
            Fault::Duplicate => "the JWK has a name twice",
            Fault::TooDeep => "the JWK nests too deep",
        })
    })?;
    key(&jwk, Secrets::Taken)
}

/// The keys that verify tokens, and why the others do not. RFC 7517 section 5.
pub(super) fn read_set(json: &[u8], secrets: Secrets) -> Result<(Vec<Key>, Vec<PassedOver>), KeySetError> {
    if json.len() > MAX_JWKS_BYTES {
        return Err(KeySetError::TooLarge);
    }
    let document = parse(json).map_err(|fault| {
        KeySetError::Malformed(match fault {
            Fault::NotAnObject => "the key set is not a JSON object",
            Fault::Duplicate => "the key set has a name twice",
            Fault::TooDeep => "the key set nests too deep",
        })
    })?;
    let Some(Json::List(list)) = document.get("keys") else {
        return Err(KeySetError::Malformed("the key set has no list `keys`"));
    };
    if list.len() > MAX_KEYS {
        return Err(KeySetError::TooManyKeys);
    }
    let (mut keys, mut passed_over) = (Vec::new(), Vec::new());
    for (index, entry) in list.iter().enumerate() {
        match entry_key(entry, secrets) {
            Ok(key) if is_twice(&keys, &key) => return Err(KeySetError::Duplicate { index }),
            Ok(key) => keys.push(key),
            Err(problem) => passed_over.push(PassedOver { index, problem }),
        }
    }
    Ok((keys, passed_over))
}

/// Whether two keys would answer to one name.
pub(super) fn is_twice(keys: &[Key], key: &Key) -> bool {
    key.kid.is_some() && keys.iter().any(|other| other.kid == key.kid && other.algorithm == key.algorithm)
}

fn entry_key(entry: &Json<'_>, secrets: Secrets) -> Result<Key, KeyError> {
    match entry {
        Json::Object(jwk) => key(jwk, secrets),
        Json::Unsigned(_) | Json::Float(_) | Json::Text(_) | Json::List(_) | Json::Other => {
            Err(KeyError::Malformed("the JWK is not a JSON object"))
        }
    }
}

fn key(jwk: &Object<'_>, secrets: Secrets) -> Result<Key, KeyError> {
    check_purpose(jwk)?;
    let named = algorithm(jwk)?;
    let (algorithm, material) = match text(jwk, "kty")? {
        "RSA" => rsa(jwk, named)?,
        "EC" => ec(jwk, named)?,
        "OKP" => okp(jwk, named)?,
        "oct" if secrets == Secrets::Taken => oct(jwk, named)?,
        "oct" => return Err(KeyError::Unsupported("a secret has no place in a public key set")),
        _ => return Err(KeyError::Unsupported("the JWK's `kty` is none that verifies tokens here")),
    };
    let key = Key { algorithm, kid: None, material };
    match jwk.get("kid") {
        None => Ok(key),
        Some(Json::Text(kid)) => key.with_kid(kid),
        Some(Json::Unsigned(_) | Json::Float(_) | Json::List(_) | Json::Object(_) | Json::Other) => Err(KeyError::Kid),
    }
}

/// RFC 7517 sections 4.2 and 4.3: a key that is published for something else verifies nothing.
fn check_purpose(jwk: &Object<'_>) -> Result<(), KeyError> {
    const OTHER: KeyError = KeyError::Unsupported("the JWK is not for signatures");
    if !jwk.get("use").is_none_or(|purpose| is_text(purpose, "sig")) {
        return Err(OTHER);
    }
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Json::List(operations)) if operations.iter().any(|operation| is_text(operation, "verify")) => Ok(()),
        Some(_) => Err(OTHER),
    }
}

fn algorithm(jwk: &Object<'_>) -> Result<Option<Algorithm>, KeyError> {
    const OTHER: KeyError = KeyError::Unsupported("the JWK's `alg` is none that verifies tokens here");
    if !jwk.contains_key("alg") {
        return Ok(None);
    }
    text(jwk, "alg")?;
    Algorithm::from_name(text(jwk, "alg")?).map(Some).ok_or(OTHER)
}

fn rsa(jwk: &Object<'_>, named: Option<Algorithm>) -> Result<(Algorithm, Material), KeyError> {
    check_public(jwk)?;
    let algorithm = named.unwrap_or(Algorithm::Rs256);
    Ok((algorithm, Material::rsa(algorithm, &bytes(jwk, "n")?, &bytes(jwk, "e")?)?))
}

fn ec(jwk: &Object<'_>, named: Option<Algorithm>) -> Result<(Algorithm, Material), KeyError> {
    check_public(jwk)?;
    let (curve, its) = match text(jwk, "crv")? {
        "P-256" => (Curve::P256, Algorithm::Es256),
        "P-384" => (Curve::P384, Algorithm::Es384),
        _ => return Err(OTHER_CURVE),
    };
    let algorithm = named.unwrap_or(its);
    Ok((algorithm, Material::ec(algorithm, curve, &bytes(jwk, "x")?, &bytes(jwk, "y")?)?))
}

fn okp(jwk: &Object<'_>, named: Option<Algorithm>) -> Result<(Algorithm, Material), KeyError> {
    check_public(jwk)?;
    if text(jwk, "crv")? != "Ed25519" {
        return Err(OTHER_CURVE);
    }
    let algorithm = named.unwrap_or(Algorithm::EdDsa);
    Ok((algorithm, Material::ed25519(algorithm, &bytes(jwk, "x")?)?))
}

fn oct(jwk: &Object<'_>, named: Option<Algorithm>) -> Result<(Algorithm, Material), KeyError> {
    // A secret may be for anything: only its owner knows.
    let algorithm = named.filter(|named| matches!(named.family(), Family::Hmac { .. }));
    let algorithm = algorithm.ok_or(KeyError::Unsupported("a secret must name HS256, HS384 or HS512 as its `alg`"))?;
    Ok((algorithm, Material::secret(algorithm, &bytes(jwk, "k")?)?))
}

const OTHER_CURVE: KeyError = KeyError::Unsupported("the JWK's `crv` is none that verifies tokens here");

/// A private key that lies about where only public ones belong has leaked, or is about to: it is said, not used.
fn check_public(jwk: &Object<'_>) -> Result<(), KeyError> {
    const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];
    if PRIVATE.iter().any(|name| jwk.contains_key(*name)) { Err(KeyError::Private) } else { Ok(()) }
}

fn text<'j>(jwk: &'j Object<'_>, name: &str) -> Result<&'j str, KeyError> {
    match jwk.get(name) {
        Some(Json::Text(text)) => Ok(text),
        None | Some(Json::Unsigned(_) | Json::Float(_) | Json::List(_) | Json::Object(_) | Json::Other) => {
            Err(KeyError::Malformed("the JWK lacks a member, or one is not a text"))
        }
    }
}

/// Base64url without padding, in its one spelling.
fn bytes(jwk: &Object<'_>, name: &str) -> Result<Vec<u8>, KeyError> {
    let text = text(jwk, name)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Malformed("a member of the JWK is not base64url"))
}

fn is_text(value: &Json<'_>, wanted: &str) -> bool {
    matches!(value, Json::Text(text) if text == wanted)
}
