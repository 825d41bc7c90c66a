//! Keys that verify tokens, each bound to one algorithm; sets of them; and sets that are replaced while the server runs.

mod algorithm;
pub(super) mod backend;
mod error;
mod jwk;
mod material;
mod pem;
mod rotating;
mod set;
#[cfg(test)]
mod tests;

use std::fmt;

pub use algorithm::Algorithm;
pub use error::{KeyError, KeySetError, PassedOver};
pub use jwk::MAX_JWKS_BYTES;
pub use rotating::RotatingKeys;
pub use set::{KeySet, MAX_KEYS};

use material::Material;

/// The longest name of a key, in bytes.
pub const MAX_KID_BYTES: usize = 255;

/// A key that verifies the tokens of exactly one algorithm, whatever a token says of itself.
///
/// ```
/// use trunkline_core::auth::{Algorithm, Key};
///
/// let pem = "-----BEGIN PUBLIC KEY-----\n\
///     MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
///     -----END PUBLIC KEY-----\n";
/// let key = Key::from_pem(Algorithm::EdDsa, pem)?.with_kid("2026-11")?;
/// assert_eq!((key.algorithm(), key.kid()), (Algorithm::EdDsa, Some("2026-11")));
/// # Ok::<(), trunkline_core::auth::KeyError>(())
/// ```
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    material: Material,
}

impl Key {
    /// A shared secret, for HS256, HS384 or HS512. Whoever has it can make tokens.
    ///
    /// # Errors
    /// When the secret is shorter than the algorithm's hash (RFC 7518 section 3.2), or the algorithm takes no secret.
    pub fn from_secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { algorithm, kid: None, material: Material::secret(algorithm, secret)? })
    }

    /// A public key in PEM: `PUBLIC KEY` (RFC 5280 section 4.1.2.7) or, for RSA, `RSA PUBLIC KEY` (RFC 8017 appendix A.1.1).
    ///
    /// # Errors
    /// When the text is no such key, is one for another algorithm, or is weak: RSA takes a modulus of 2048 to 8192 bits (4096
    /// with `rust_crypto`) and an odd exponent from 3 to below 2^32; a point must be on its curve and not of a small order.
    pub fn from_pem(algorithm: Algorithm, pem: &str) -> Result<Self, KeyError> {
        Ok(Self { algorithm, kid: None, material: pem::read(algorithm, pem)? })
    }

    /// A key as RFC 7517 writes it, public or a secret. One without `alg` is bound as [`KeySet::from_jwks`] says.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem) and [`from_secret`](Self::from_secret).
    pub fn from_jwk(json: &[u8]) -> Result<Self, KeyError> {
        jwk::read(json)
    }

    /// The same key under this name, which a token's `kid` chooses it by.
    ///
    /// # Errors
    /// When the name is empty or longer than [`MAX_KID_BYTES`].
    pub fn with_kid(self, kid: &str) -> Result<Self, KeyError> {
        if kid.is_empty() || kid.len() > MAX_KID_BYTES {
            return Err(KeyError::Kid);
        }
        Ok(Self { kid: Some(kid.into()), ..self })
    }

    /// The one algorithm it verifies.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its name, where it has one.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Whether `signature` is this key's for `message`.
    fn verifies(&self, message: &str, signature: &Vec<u8>) -> bool {
        signature.len() == self.material.signature_bytes
            && backend::verifies(self.algorithm, &self.material.key, message.as_bytes(), signature)
    }
}

/// Names the key, and nothing of what it is made of.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).field("kid", &self.kid).finish_non_exhaustive()
    }
}
