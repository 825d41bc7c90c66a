//! Public keys in PEM, RFC 7468.

use spki::der::asn1::UintRef;
use spki::der::pem::decode_vec;
use spki::der::{self, Decode, Reader, SliceReader};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::algorithm::{Algorithm, Curve};
use super::error::KeyError;
use super::material::Material;

/// The longest text that is looked at, in bytes: a key of 8192 bits has 1.6 KiB.
const MAX_PEM_BYTES: usize = 16 << 10;

/// RFC 8017 appendix A.1.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// RFC 5480 section 2.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// RFC 8410 section 3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

pub(super) fn read(algorithm: Algorithm, pem: &str) -> Result<Material, KeyError> {
    if pem.len() > MAX_PEM_BYTES {
        return Err(KeyError::Malformed("the PEM text is too long"));
    }
    let (label, der) = decode_vec(pem.trim().as_bytes()).map_err(|_| KeyError::Malformed("the text is not PEM"))?;
    match label {
        "PUBLIC KEY" => spki(algorithm, &der),
        "RSA PUBLIC KEY" => rsa(algorithm, &der),
        label if label.ends_with("PRIVATE KEY") => Err(KeyError::Private),
        _ => Err(KeyError::Unsupported("the PEM text is neither `PUBLIC KEY` nor `RSA PUBLIC KEY`")),
    }
}

fn spki(algorithm: Algorithm, bytes: &[u8]) -> Result<Material, KeyError> {
    let info = SubjectPublicKeyInfoRef::from_der(bytes).map_err(malformed)?;
    let key = info.subject_public_key.as_bytes().ok_or(MALFORMED)?;
    match info.algorithm.oid {
        RSA => rsa(algorithm, key),
        EC => ec(algorithm, info.algorithm.parameters_oid().map_err(malformed)?, key),
        ED25519 => Material::ed25519(algorithm, key),
        _ => Err(KeyError::Unsupported("the public key is neither of RSA nor of EC nor of Ed25519")),
    }
}

fn rsa(algorithm: Algorithm, bytes: &[u8]) -> Result<Material, KeyError> {
    let mut reader = SliceReader::new(bytes).map_err(malformed)?;
    let numbers = |inner: &mut SliceReader<'_>| -> der::Result<_> {
        Ok((UintRef::decode(inner)?.as_bytes().to_vec(), UintRef::decode(inner)?.as_bytes().to_vec()))
    };
    let (n, e) = reader.sequence(numbers).map_err(malformed)?;
    reader.finish().map_err(malformed)?;
    Material::rsa(algorithm, &n, &e)
}

fn ec(algorithm: Algorithm, curve: ObjectIdentifier, point: &[u8]) -> Result<Material, KeyError> {
    let curve = match curve {
        P256 => Curve::P256,
        P384 => Curve::P384,
        _ => return Err(KeyError::Unsupported("the public key is neither on P-256 nor on P-384")),
    };
    let Some((4, coordinates)) = point.split_first() else {
        return Err(KeyError::Unsupported("the public key's point is compressed"));
    };
    let (x, y) = coordinates.split_at_checked(curve.bytes()).ok_or(MALFORMED)?;
    Material::ec(algorithm, curve, x, y)
}

const MALFORMED: KeyError = KeyError::Malformed("the PEM text holds no public key in DER");

/// The library's text may say where in the key, which is not for a log.
fn malformed<E>(_: E) -> KeyError {
    MALFORMED
}
