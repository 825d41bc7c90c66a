//! HMAC with SHA-256: one secret that both makes tokens and checks them. RFC 7518 section 3.2.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::CryptoProvider;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::Serialize;

use super::claims::{check_claims, check_header, is_token_id};
use super::{AuthError, ClaimRules, Grant, Scopes, TokenVerifier};
use crate::id::UserId;
use crate::time::UnixTime;

/// The shortest secret: as long as the hash. RFC 7518 section 3.2.
pub const MIN_HS256_KEY_BYTES: usize = 32;

const ALG: &str = "HS256";
const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;
const MAC_BYTES: usize = 32;

/// Makes and verifies tokens signed with one shared secret.
pub struct Hs256 {
    verifying: DecodingKey,
    signing: EncodingKey,
    rules: ClaimRules,
}

/// Why a secret is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A short secret can be guessed from one token.
    #[error("the secret has {bytes} bytes and needs at least {MIN_HS256_KEY_BYTES}")]
    TooShort {
        /// How many there are.
        bytes: usize,
    },
}

/// What a new token says. Issuer and audience are those of the [`ClaimRules`].
#[derive(Clone, Copy, Debug)]
pub struct NewToken<'a> {
    /// Whose token it is: the claims `sub` and `tenant`.
    pub user: &'a UserId,
    /// The claim `iat`, rounded down to a second.
    pub issued_at: UnixTime,
    /// From there to the claim `exp`, which is rounded up to a second.
    pub ttl: Duration,
    /// The claim `scope`, see [`Scopes`]; none when empty.
    pub scope: &'a str,
    /// The claim `jti`: 1 to [`MAX_TOKEN_ID_BYTES`](super::MAX_TOKEN_ID_BYTES), no control characters.
    pub token_id: Option<&'a str>,
}

/// Why no token was made: the verifier would refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The scope has too many words.
    #[error("the scope has too many words")]
    Scope,
    /// The token's id is empty, too long, or has control characters.
    #[error("the token's id is empty, too long, or has control characters")]
    TokenId,
    /// Over [`ClaimRules::max_token_bytes`].
    #[error("the token would be too large")]
    TooLarge,
    /// The cryptographic library refused.
    #[error("the cryptographic library could not sign")]
    Signing,
}

impl Hs256 {
    /// A verifier, and an issuer, for tokens under this secret.
    ///
    /// # Errors
    /// When the secret is shorter than [`MIN_HS256_KEY_BYTES`].
    pub fn new(secret: &[u8], settings: ClaimRules) -> Result<Self, KeyError> {
        if secret.len() < MIN_HS256_KEY_BYTES {
            return Err(KeyError::TooShort { bytes: secret.len() });
        }
        install_provider();
        let (verifying, signing) = (DecodingKey::from_secret(secret), EncodingKey::from_secret(secret));
        Ok(Self { verifying, signing, rules: settings })
    }

    /// Makes a token that [`verify`](TokenVerifier::verify) accepts from `issued_at` until its `exp`.
    ///
    /// # Errors
    /// When `verify` would refuse it.
    pub fn issue(&self, claims: &NewToken<'_>) -> Result<String, IssueError> {
        Scopes::parse(claims.scope, claims.user).map_err(|_| IssueError::Scope)?;
        if !claims.token_id.is_none_or(is_token_id) {
            return Err(IssueError::TokenId);
        }
        let json = serde_json::to_vec(&self.wire_claims(claims)).map_err(|_| IssueError::Signing)?;
        let token = self.sign(HEADER.as_bytes(), &json)?;
        if token.len() > self.rules.max_token_bytes {
            return Err(IssueError::TooLarge);
        }
        Ok(token)
    }

    fn wire_claims<'a>(&'a self, claims: &NewToken<'a>) -> WireClaims<'a> {
        let expires = claims.issued_at + claims.ttl;
        WireClaims {
            iss: self.rules.issuer.as_deref(),
            aud: self.rules.audience.as_deref(),
            tenant: claims.user.tenant(),
            sub: claims.user.sub(),
            iat: claims.issued_at.as_secs(),
            exp: expires.as_micros().div_ceil(1_000_000),
            jti: claims.token_id,
            scope: Some(claims.scope).filter(|scope| !scope.is_empty()),
        }
    }

    pub(super) fn sign(&self, header: &[u8], claims: &[u8]) -> Result<String, IssueError> {
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signer = (PROVIDER.signer_factory)(&Algorithm::HS256, &self.signing).map_err(|_| IssueError::Signing)?;
        let mac = signer.try_sign(token.as_bytes()).map_err(|_| IssueError::Signing)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(mac, &mut token);
        Ok(token)
    }

    fn check_mac(&self, message: &str, mac: &str) -> Result<(), AuthError> {
        let mac = decode(mac, "the signature is not base64url")?;
        if mac.len() != MAC_BYTES {
            return Err(AuthError::Invalid("the signature has the wrong length"));
        }
        let verifier = (PROVIDER.verifier_factory)(&Algorithm::HS256, &self.verifying)
            .map_err(|_| AuthError::Invalid("the cryptographic library refused the key"))?;
        // In constant time: the library compares the codes.
        verifier.verify(message.as_bytes(), &mac).map_err(|_| AuthError::Invalid("the signature does not match"))
    }
}

impl TokenVerifier for Hs256 {
    fn verify(&self, token: &str, now: UnixTime) -> Result<Grant, AuthError> {
        if token.len() > self.rules.max_token_bytes {
            return Err(AuthError::Invalid("the token is too large"));
        }
        let parts = Parts::of(token).ok_or(AuthError::Invalid("the token is not three parts"))?;
        check_header(&decode(parts.header, "the header is not base64url")?, ALG)?;
        self.check_mac(parts.message, parts.mac)?;
        check_claims(&decode(parts.claims, "the claims are not base64url")?, &self.rules, now)
    }
}

impl fmt::Debug for Hs256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hs256").field("rules", &self.rules).finish_non_exhaustive()
    }
}

// The library's whole-token `decode` is not used: it reads the system's clock, keeps unbounded headers, and lets some
// wrongly typed claims pass. Only its cryptography is, from a provider named here, so that no state of the process and
// no combination of features can leave the first token without one.
#[cfg(feature = "aws_lc_rs")]
static PROVIDER: &CryptoProvider = &jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
#[cfg(all(feature = "rust_crypto", not(feature = "aws_lc_rs")))]
static PROVIDER: &CryptoProvider = &jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
#[cfg(not(any(feature = "aws_lc_rs", feature = "rust_crypto")))]
compile_error!("trunkline-core needs one of its features `aws_lc_rs` (default) and `rust_crypto` to verify signatures");

/// With both backends compiled in, the library picks none for code elsewhere in the process and would panic there.
#[cfg(all(feature = "aws_lc_rs", feature = "rust_crypto"))]
fn install_provider() {
    // An error means that the application has installed one already, which stays.
    let _ = PROVIDER.install_default();
}

#[cfg(not(all(feature = "aws_lc_rs", feature = "rust_crypto")))]
fn install_provider() {}

/// The compact serialization, RFC 7515 section 3.1: `header.claims.mac`, where `header.claims` is what is signed.
struct Parts<'t> {
    message: &'t str,
    header: &'t str,
    claims: &'t str,
    mac: &'t str,
}

impl<'t> Parts<'t> {
    fn of(token: &'t str) -> Option<Self> {
        let (message, mac) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let whole = !header.is_empty() && !claims.is_empty() && !mac.is_empty() && !claims.contains('.');
        whole.then_some(Self { message, header, claims, mac })
    }
}

/// Strictly: no padding, no other alphabet, and no bits left over, so that each value has one spelling.
fn decode(part: &str, wrong: &'static str) -> Result<Vec<u8>, AuthError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthError::Invalid(wrong))
}

#[derive(Serialize)]
struct WireClaims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
}
