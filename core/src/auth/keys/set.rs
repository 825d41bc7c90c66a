//! Several keys that count at once, and the one way by which a token is verified.

use std::fmt;

use super::Key;
use super::error::{KeySetError, PassedOver};
use super::jwk::{Secrets, is_twice, read_set};
use crate::auth::claims::{Header, check_claims, read_header};
use crate::auth::compact::Compact;
use crate::auth::{AuthError, ClaimRules, Grant, TokenVerifier};
use crate::time::UnixTime;

/// How many keys a set may hold.
pub const MAX_KEYS: usize = 64;

/// How many keys are tried where the token names none: each costs a verification, which a stranger asks for.
const MAX_TRIES: usize = 4;

/// Keys and what tokens must say, as one [`TokenVerifier`].
///
/// A token's `kid` chooses the key, and its `alg` must be the key's. A token without `kid`, or with one that no key has, is tried
/// with up to four keys: those of its `alg`, and in the second case of them those that have no name. Nothing else in a header
/// says what verifies: `jwk`, `jku`, `x5c` and `x5u` are not looked at.
#[derive(Clone)]
pub struct KeySet {
    keys: Vec<Key>,
    passed_over: Vec<PassedOver>,
    rules: ClaimRules,
}

/// Why a set grants nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// What a set that never changes answers.
    pub(crate) error: AuthError,
    /// No key of the set was the token's by name, and none verified it: a newer set may have it.
    pub(crate) unknown_key: bool,
}

impl KeySet {
    /// A set of these keys.
    ///
    /// # Errors
    /// When there is none, there are more than [`MAX_KEYS`], or two have the same name and algorithm.
    pub fn new(keys: impl IntoIterator<Item = Key>, rules: ClaimRules) -> Result<Self, KeySetError> {
        let mut taken: Vec<Key> = Vec::new();
        for (index, key) in keys.into_iter().enumerate() {
            if index == MAX_KEYS {
                return Err(KeySetError::TooManyKeys);
            }
            if is_twice(&taken, &key) {
                return Err(KeySetError::Duplicate { index });
            }
            taken.push(key);
        }
        Self::of(taken, Vec::new(), rules)
    }

    /// The public keys of a JWKS, RFC 7517 section 5. What is not for verifying tokens here, or is weak, is passed over: see
    /// [`passed_over`](Self::passed_over). So is every secret (`oct`): what others can read keeps none.
    ///
    /// A key without `alg` is bound to one all the same: RSA to RS256, P-256 to ES256, P-384 to ES384, Ed25519 to EdDSA.
    ///
    /// # Errors
    /// When the document has more than [`MAX_JWKS_BYTES`](super::MAX_JWKS_BYTES) or more than [`MAX_KEYS`] keys, is no JWKS, has a
    /// name twice in an object, or two keys have the same `kid` and algorithm; and when no key is left.
    pub fn from_jwks(json: &[u8], rules: ClaimRules) -> Result<Self, KeySetError> {
        let (keys, passed_over) = read_set(json, Secrets::PassedOver)?;
        Self::of(keys, passed_over, rules)
    }

    /// As [`from_jwks`](Self::from_jwks), and secrets too where they name HS256, HS384 or HS512 as their `alg`: for a document that
    /// the server alone can read, never for one from an address.
    ///
    /// # Errors
    /// As `from_jwks`.
    pub fn from_secret_jwks(json: &[u8], rules: ClaimRules) -> Result<Self, KeySetError> {
        let (keys, passed_over) = read_set(json, Secrets::Taken)?;
        Self::of(keys, passed_over, rules)
    }

    /// The keys, in the order they were given.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The keys of the JWKS that are not in the set, and why: for the operator's log.
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    pub(in crate::auth) fn of_one(key: Key, rules: ClaimRules) -> Self {
        Self { keys: vec![key], passed_over: Vec::new(), rules }
    }

    pub(in crate::auth) const fn rules(&self) -> &ClaimRules {
        &self.rules
    }

    /// As [`verify`](TokenVerifier::verify), and says whether another set could decide otherwise.
    pub(crate) fn decide(&self, token: &str, now: UnixTime) -> Result<Grant, Refused> {
        let known = |error| Refused { error, unknown_key: false };
        let token = Compact::read(token, self.rules.max_token_bytes).map_err(known)?;
        let header = read_header(&token.header).map_err(known)?;
        self.check_signature(&token, &header)?;
        check_claims(&token.claims().map_err(known)?, &self.rules, now).map_err(known)
    }

    fn of(keys: Vec<Key>, passed_over: Vec<PassedOver>, rules: ClaimRules) -> Result<Self, KeySetError> {
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self { keys, passed_over, rules }) }
    }

    fn check_signature(&self, token: &Compact<'_>, header: &Header) -> Result<(), Refused> {
        let (candidates, unknown_key) = self.candidates(header)?;
        let mut why = "the signature has the wrong length";
        for key in candidates.into_iter().take(MAX_TRIES) {
            if key.verifies(token.message, &token.signature) {
                return Ok(());
            }
            if token.signature.len() == key.material.signature_bytes {
                why = "the signature does not match";
            }
        }
        Err(Refused { error: AuthError::Invalid(why), unknown_key })
    }

    /// The keys that may verify a token with this header, and whether a newer set may have another.
    fn candidates(&self, header: &Header) -> Result<(Vec<&Key>, bool), Refused> {
        let (mut keys, unknown_key, why) = match header.kid.as_deref() {
            None => (self.keys.iter().collect(), true, "the header's `alg` is no key's"),
            Some(kid) => match self.named(Some(kid)) {
                named if named.is_empty() => (self.named(None), true, "the header's `kid` is no key's"),
                named => (named, false, "the header's `alg` is not the key's"),
            },
        };
        keys.retain(|key| key.algorithm == header.algorithm);
        if keys.is_empty() {
            return Err(Refused { error: AuthError::Invalid(why), unknown_key });
        }
        Ok((keys, unknown_key))
    }

    fn named(&self, kid: Option<&str>) -> Vec<&Key> {
        self.keys.iter().filter(|key| key.kid() == kid).collect()
    }
}

impl TokenVerifier for KeySet {
    fn verify(&self, token: &str, now: UnixTime) -> Result<Grant, AuthError> {
        self.decide(token, now).map_err(|refused| refused.error)
    }
}

/// Names the keys, and nothing of what they are made of.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.keys).field("rules", &self.rules).finish_non_exhaustive()
    }
}
