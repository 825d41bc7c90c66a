//! Signatures that no signer makes.

use trunkline_core::auth::Algorithm;

use super::{Bad, CLAIMS, bad, header, join, message, signature};

const P256_ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const P384_ORDER: &str =
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";
/// Little-endian. RFC 8032 section 5.1.
const ED25519_ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

pub(super) fn all() -> Vec<Bad> {
    let mut all = Vec::new();
    for algorithm in Algorithm::ALL {
        all.extend(cut(algorithm));
    }
    all.extend(ecdsa(Algorithm::Es256, &hex(P256_ORDER)));
    all.extend(ecdsa(Algorithm::Es384, &hex(P384_ORDER)));
    all.extend(eddsa());
    all.extend(pss());
    all
}

/// Of every algorithm: shorter, longer, empty, zero, one bit off.
fn cut(algorithm: Algorithm) -> Vec<Bad> {
    let message = message(&header(algorithm), CLAIMS);
    let good = signature(algorithm, &message);
    let (mut first, mut last) = (good.clone(), good.clone());
    first[0] ^= 0x80;
    *last.last_mut().unwrap() ^= 1;
    let half = &good[..good.len() / 2];
    let forms: [(&str, Vec<u8>); 9] = [
        ("no signature", Vec::new()),
        ("one byte of the signature", good[..1].to_vec()),
        ("half of the signature", half.to_vec()),
        ("the signature without its last byte", good[..good.len() - 1].to_vec()),
        ("a byte after the signature", [&good[..], &[0]].concat()),
        ("a byte before the signature", [&[0], &good[..]].concat()),
        ("a signature of zeros", vec![0; good.len()]),
        ("the signature with its first bit turned", first),
        ("the signature with its last bit turned", last),
    ];
    forms.into_iter().map(|(what, signature)| bad(format!("{algorithm}: {what}"), join(&message, &signature))).collect()
}

fn ecdsa(algorithm: Algorithm, order: &[u8]) -> Vec<Bad> {
    let message = message(&header(algorithm), CLAIMS);
    let good = signature(algorithm, &message);
    let (r, s) = good.split_at(order.len());
    let zero = vec![0; order.len()];
    let mut one = zero.clone();
    *one.last_mut().unwrap() = 1;
    let max = vec![0xff; order.len()];
    let pairs: [(&str, &[u8], &[u8]); 11] = [
        ("r is 0", &zero, s),
        ("s is 0", r, &zero),
        ("r is the order", order, s),
        ("s is the order", r, order),
        ("r and s are the order", order, order),
        ("r is above the order", &max, s),
        ("s is above the order", r, &max),
        ("r and s are 1", &one, &one),
        ("r is 1 and s is 0", &one, &zero),
        ("r is 0 and s is 1", &zero, &one),
        ("r and s change places", s, r),
    ];
    let mut all: Vec<Bad> = pairs
        .into_iter()
        .map(|(what, r, s)| bad(format!("{algorithm}: {what}"), join(&message, &[r, s].concat())))
        .collect();
    all.push(bad(format!("{algorithm}: in DER"), join(&message, &in_der(r, s))));
    all
}

/// As X.509 has it: RFC 3279 section 2.2.3.
fn in_der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let mut bytes = number[zeros..].to_vec();
        if bytes[0] >= 0x80 {
            bytes.insert(0, 0);
        }
        [&[2, u8::try_from(bytes.len()).unwrap()], &bytes[..]].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}

/// The same point with a scalar above the order would be a second spelling of the signature.
fn eddsa() -> Vec<Bad> {
    let message = message(&header(Algorithm::EdDsa), CLAIMS);
    let good = signature(Algorithm::EdDsa, &message);
    let (r, s) = good.split_at(32);
    let (mut above, mut carry) = (Vec::new(), 0);
    for (byte, of_order) in s.iter().zip(hex(ED25519_ORDER)) {
        let sum = u16::from(*byte) + u16::from(of_order) + carry;
        above.push(sum as u8);
        carry = sum >> 8;
    }
    let mut identity = vec![0; 32];
    identity[0] = 1;
    let pairs: [(&str, &[u8], &[u8]); 4] = [
        ("s plus the order", r, &above),
        ("r is the neutral point, s is 0", &identity, &[0; 32]),
        ("s is 0", r, &[0; 32]),
        ("r and s change places", s, r),
    ];
    pairs.into_iter().map(|(what, r, s)| bad(format!("EdDSA: {what}"), join(&message, &[r, s].concat()))).collect()
}

/// Made with `openssl dgst -sign`, which can be told to do it wrong. The one that is right is for the tests.
fn pss() -> Vec<Bad> {
    let lines = include_str!("pss.tsv").lines().map(|line| line.split_once('\t').unwrap());
    lines
        .filter(|(what, _)| *what != "good")
        .map(|(what, token)| bad(format!("PS256 with {what}"), token.to_owned()))
        .collect()
}

/// What `openssl` signed with the right parameters.
pub(crate) fn good_pss() -> &'static str {
    let mut lines = include_str!("pss.tsv").lines().map(|line| line.split_once('\t').unwrap());
    lines.find(|(what, _)| *what == "good").unwrap().1
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
