//! HMAC with SHA-256: one secret that both makes tokens and checks them. RFC 7518 section 3.2.

use std::fmt;

use jsonwebtoken::EncodingKey;

use super::issue::claims_json;
use super::keys::backend;
use super::{
    Algorithm, AuthError, ClaimRules, Grant, IssueError, Key, KeyError, KeySet, NewToken, TokenVerifier, compact,
};
use crate::time::UnixTime;

/// The shortest secret: as long as the hash. RFC 7518 section 3.2.
pub const MIN_HS256_KEY_BYTES: usize = 32;

const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

/// Makes tokens signed with one shared secret, and verifies them as a [`KeySet`] of that one key.
pub struct Hs256 {
    keys: KeySet,
    signing: EncodingKey,
}

impl Hs256 {
    /// A verifier, and an issuer, for tokens under this secret.
    ///
    /// # Errors
    /// When the secret is shorter than [`MIN_HS256_KEY_BYTES`].
    pub fn new(secret: &[u8], rules: ClaimRules) -> Result<Self, KeyError> {
        let keys = KeySet::of_one(Key::from_secret(Algorithm::Hs256, secret)?, rules);
        Ok(Self { keys, signing: EncodingKey::from_secret(secret) })
    }

    /// Makes a token that [`verify`](TokenVerifier::verify) accepts from `issued_at` until its `exp`.
    ///
    /// # Errors
    /// When `verify` would refuse it.
    pub fn issue(&self, new: &NewToken<'_>) -> Result<String, IssueError> {
        let rules = self.keys.rules();
        let token = self.sign(HEADER.as_bytes(), &claims_json(rules, new)?)?;
        if token.len() > rules.max_token_bytes { Err(IssueError::TooLarge) } else { Ok(token) }
    }

    pub(super) fn sign(&self, header: &[u8], claims: &[u8]) -> Result<String, IssueError> {
        let message = compact::message(header, claims);
        let mac = backend::sign(Algorithm::Hs256, &self.signing, message.as_bytes()).ok_or(IssueError::Signing)?;
        Ok(compact::token(message, &mac))
    }
}

impl TokenVerifier for Hs256 {
    fn verify(&self, token: &str, now: UnixTime) -> Result<Grant, AuthError> {
        self.keys.verify(token, now)
    }
}

impl fmt::Debug for Hs256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hs256").field("rules", self.keys.rules()).finish_non_exhaustive()
    }
}
