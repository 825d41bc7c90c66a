//! The one place that calls a cryptographic library.
//!
//! The library's whole-token `decode` is not used: it reads the system's clock, keeps unbounded headers, and lets some wrongly
//! typed claims pass. Only its cryptography is, from a provider named here, so that no state of the process and no combination
//! of features can leave the first token without one.

use jsonwebtoken::crypto::CryptoProvider;
use jsonwebtoken::{DecodingKey, EncodingKey};

use super::algorithm::Algorithm;

#[cfg(feature = "aws_lc_rs")]
static PROVIDER: &CryptoProvider = &jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
#[cfg(all(feature = "rust_crypto", not(feature = "aws_lc_rs")))]
static PROVIDER: &CryptoProvider = &jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
#[cfg(not(any(feature = "aws_lc_rs", feature = "rust_crypto")))]
compile_error!("`_signatures` is what `aws_lc_rs` and `rust_crypto` have in common: choose one of these");

/// The largest RSA modulus that the backend verifies with, in bits.
pub(super) const MAX_RSA_BITS: usize = if cfg!(feature = "aws_lc_rs") { 8192 } else { 4096 };

/// Whether `signature` is this key's for `message`. Codes of an HMAC are compared in constant time.
pub(super) fn verifies(algorithm: Algorithm, key: &DecodingKey, message: &[u8], signature: &Vec<u8>) -> bool {
    let verifier = (PROVIDER.verifier_factory)(&library(algorithm), key);
    verifier.is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
}

/// Signs, where the key is one for this algorithm.
pub(in crate::auth) fn sign(algorithm: Algorithm, key: &EncodingKey, message: &[u8]) -> Option<Vec<u8>> {
    let signer = (PROVIDER.signer_factory)(&library(algorithm), key).ok()?;
    signer.try_sign(message).ok()
}

/// Whether a public key is a point of its curve, as far as the backend tells before it verifies: `aws_lc_rs` looks at a key
/// of Ed25519 only then.
pub(super) fn accepts(algorithm: Algorithm, key: &DecodingKey) -> bool {
    on_curve(algorithm, key) && (PROVIDER.verifier_factory)(&library(algorithm), key).is_ok()
}

#[cfg(feature = "aws_lc_rs")]
fn on_curve(algorithm: Algorithm, key: &DecodingKey) -> bool {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey};

    use super::algorithm::{Curve, Family};

    let curve = match algorithm.family() {
        Family::Ec(Curve::P256) => &ECDSA_P256_SHA256_FIXED,
        Family::Ec(Curve::P384) => &ECDSA_P384_SHA384_FIXED,
        Family::Hmac { .. } | Family::Rsa | Family::Ed25519 => return true,
    };
    key.try_get_as_bytes().is_ok_and(|point| ParsedPublicKey::new(curve, point).is_ok())
}

/// Making a verifier decodes the point.
#[cfg(not(feature = "aws_lc_rs"))]
fn on_curve(_: Algorithm, _: &DecodingKey) -> bool {
    true
}

/// With both backends compiled in, the library picks none for code elsewhere in the process and would panic there.
pub(super) fn install() {
    #[cfg(all(feature = "aws_lc_rs", feature = "rust_crypto"))]
    // An error means that the application has installed one already, which stays.
    let _ = PROVIDER.install_default();
}

const fn library(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::Hs384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::Hs512 => jsonwebtoken::Algorithm::HS512,
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Rs384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::Rs512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::Ps384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::Ps512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Es384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
    }
}
