//! The compact serialization, RFC 7515 section 3.1: `header.claims.signature`, where `header.claims` is what is signed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::AuthError;

/// A token in its parts. The claims stay as they are until the signature holds.
pub(super) struct Compact<'t> {
    pub(super) message: &'t str,
    #[cfg_attr(not(feature = "_signatures"), allow(dead_code, reason = "a fake verifier looks at no header"))]
    pub(super) header: Vec<u8>,
    claims: &'t str,
    pub(super) signature: Vec<u8>,
}

impl<'t> Compact<'t> {
    /// Takes a token apart that has at most `max_bytes`.
    pub(super) fn read(token: &'t str, max_bytes: usize) -> Result<Self, AuthError> {
        if token.len() > max_bytes {
            return Err(AuthError::Invalid("the token is too large"));
        }
        let (message, header, claims, signature) =
            split(token).ok_or(AuthError::Invalid("the token is not three parts"))?;
        let header = decode(header, "the header is not base64url")?;
        let signature = decode(signature, "the signature is not base64url")?;
        Ok(Self { message, header, claims, signature })
    }

    /// The claims' JSON.
    pub(super) fn claims(&self) -> Result<Vec<u8>, AuthError> {
        decode(self.claims, "the claims are not base64url")
    }
}

fn split(token: &str) -> Option<(&str, &str, &str, &str)> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    let whole = !header.is_empty() && !claims.is_empty() && !signature.is_empty() && !claims.contains('.');
    whole.then_some((message, header, claims, signature))
}

/// Strictly: no padding, no other alphabet, and no bits left over, so that each value has one spelling.
fn decode(part: &str, wrong: &'static str) -> Result<Vec<u8>, AuthError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthError::Invalid(wrong))
}

/// `header.claims`, to be signed.
pub(super) fn message(header: &[u8], claims: &[u8]) -> String {
    let mut message = URL_SAFE_NO_PAD.encode(header);
    message.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut message);
    message
}

/// The token that a message and its signature are.
pub(super) fn token(mut message: String, signature: &[u8]) -> String {
    message.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut message);
    message
}
