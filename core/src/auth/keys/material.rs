//! What keys are made of, checked once: afterwards no token can tell a weak one from a strong one.

use jsonwebtoken::DecodingKey;

use super::algorithm::{Algorithm, Curve, Family};
use super::backend;
use super::error::KeyError;

/// The smallest RSA modulus, in bits. RFC 7518 section 3.3.
pub(super) const MIN_RSA_BITS: usize = 2048;

/// A key in the library's form, and how long its signatures are.
#[derive(Clone)]
pub(super) struct Material {
    pub(super) key: DecodingKey,
    pub(super) signature_bytes: usize,
}

impl Material {
    pub(super) fn secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        let Family::Hmac { hash_bytes } = algorithm.family() else { return Err(KeyError::WrongKind(algorithm)) };
        if secret.len() < hash_bytes {
            return Err(KeyError::TooShort { bytes: secret.len(), needed: hash_bytes });
        }
        Ok(Self::new(DecodingKey::from_secret(secret), hash_bytes))
    }

    /// Modulus and exponent, big-endian.
    pub(super) fn rsa(algorithm: Algorithm, n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        if algorithm.family() != Family::Rsa {
            return Err(KeyError::WrongKind(algorithm));
        }
        // Some issuers write the zero of a signed integer in front. RFC 7518 section 6.3.1.1.
        let (n, e) = (trimmed(n), trimmed(e));
        let bits = bits(n);
        if !(MIN_RSA_BITS..=backend::MAX_RSA_BITS).contains(&bits) {
            return Err(KeyError::RsaSize { bits });
        }
        if !is_odd(n) || !is_odd(e) || bits_of_exponent_are_wrong(e) {
            return Err(KeyError::RsaNumbers);
        }
        Ok(Self::new(DecodingKey::from_rsa_raw_components(n, e), n.len()))
    }

    pub(super) fn ec(algorithm: Algorithm, curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        if algorithm.family() != Family::Ec(curve) {
            return Err(KeyError::WrongKind(algorithm));
        }
        if x.len() != curve.bytes() || y.len() != curve.bytes() {
            return Err(KeyError::Malformed("the key's coordinates do not have the length of its curve"));
        }
        // Uncompressed: SEC 1 section 2.3.3.
        let point = [&[4], x, y].concat();
        Self::point(algorithm, DecodingKey::from_ec_der(&point), 2 * curve.bytes())
    }

    pub(super) fn ed25519(algorithm: Algorithm, x: &[u8]) -> Result<Self, KeyError> {
        if algorithm.family() != Family::Ed25519 {
            return Err(KeyError::WrongKind(algorithm));
        }
        let x: &[u8; 32] = x.try_into().map_err(|_| KeyError::Malformed("a key of Ed25519 has 32 bytes"))?;
        if is_of_small_order(x) {
            return Err(KeyError::Point);
        }
        Self::point(algorithm, DecodingKey::from_ed_der(x), 64)
    }

    fn point(algorithm: Algorithm, key: DecodingKey, signature_bytes: usize) -> Result<Self, KeyError> {
        if backend::accepts(algorithm, &key) { Ok(Self::new(key, signature_bytes)) } else { Err(KeyError::Point) }
    }

    fn new(key: DecodingKey, signature_bytes: usize) -> Self {
        backend::install();
        Self { key, signature_bytes }
    }
}

fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Of a number without zeros in front.
fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|last| last % 2 == 1)
}

/// With 1, a signature is its own message. Above 32 bits, verifying takes as long as signing.
fn bits_of_exponent_are_wrong(e: &[u8]) -> bool {
    !(2..=32).contains(&bits(e))
}

/// The points of order 1, 2, 4 and 8: under such a key anybody signs anything. By their `y`, little-endian, in every encoding,
/// also those above the prime. RFC 7748 section 7 and RFC 8032 section 5.1.3.
fn is_of_small_order(point: &[u8; 32]) -> bool {
    const ORDER_8: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    // The top bit is the sign of x, which changes no order.
    let mut y = *point;
    y[31] &= 0x7f;
    let (low, rest) = (y[0], &y[1..31]);
    let zero_or_one = low <= 1 && rest.iter().all(|byte| *byte == 0) && y[31] == 0;
    // The prime is 2^255 - 19: one below it, itself, and one above.
    let near_prime = (0xec..=0xee).contains(&low) && rest.iter().all(|byte| *byte == 0xff) && y[31] == 0x7f;
    zero_or_one || near_prime || ORDER_8.contains(&y)
}
