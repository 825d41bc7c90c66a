//! Why a key, or a set of keys, is not taken. Nothing here quotes a key.

use super::MAX_KID_BYTES;
use super::algorithm::Algorithm;
use super::backend::MAX_RSA_BITS;
use super::jwk::MAX_JWKS_BYTES;
use super::material::MIN_RSA_BITS;
use super::set::MAX_KEYS;

/// Why something is no key to verify with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A short secret can be guessed from one token. RFC 7518 section 3.2.
    #[error("the secret has {bytes} bytes and needs at least {needed}")]
    TooShort {
        /// How many there are.
        bytes: usize,
        /// As many as the hash has.
        needed: usize,
    },
    /// A key of another kind, or of another curve.
    #[error("the key is none for {0}")]
    WrongKind(Algorithm),
    /// A private key: it belongs to the issuer alone, and here only its public half is of use.
    #[error("this is a private key: give the public key only")]
    Private,
    /// The encoding; the text says what is wrong with it.
    #[error("{0}")]
    Malformed(&'static str),
    /// A kind, curve, algorithm or use that is not for verifying tokens here.
    #[error("{0}")]
    Unsupported(&'static str),
    /// An RSA modulus that is too small to be safe, or too large to be verified with at a peer's wish.
    #[error("the RSA key has {bits} bits and may have {MIN_RSA_BITS} to {MAX_RSA_BITS}")]
    RsaSize {
        /// Of the modulus.
        bits: usize,
    },
    /// An RSA modulus or exponent that no RSA key has.
    #[error("the RSA key's modulus is even, or its exponent is even, below 3, or above 32 bits")]
    RsaNumbers,
    /// Coordinates that are no point of the curve, or a point of a small order, for which anybody can sign.
    #[error("the public key is no safe point of its curve")]
    Point,
    /// The name.
    #[error("the key's `kid` must be a text of 1 to {MAX_KID_BYTES} bytes")]
    Kid,
}

/// Why there is no set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// The document.
    #[error("the key set has more than {MAX_JWKS_BYTES} bytes")]
    TooLarge,
    /// The document; the text says what is wrong with it.
    #[error("{0}")]
    Malformed(&'static str),
    /// Counted with those that would be passed over.
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooManyKeys,
    /// Two keys with the same name and algorithm: which of them verifies would be a guess.
    #[error("key {index} has the `kid` and the algorithm of an earlier one")]
    Duplicate {
        /// From 0.
        index: usize,
    },
    /// Nobody could ever come in.
    #[error("the key set has no key to verify with")]
    Empty,
}

/// A key of a JWKS that is not in the set that was made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Its place in the list, from 0.
    pub index: usize,
    /// Why.
    pub problem: KeyError,
}
