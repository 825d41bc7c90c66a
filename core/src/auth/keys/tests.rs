//! Keys as JSON, sets of them, and the examples of the RFCs.

use base64::Engine;

use super::*;
use crate::auth::{AuthError, ClaimRules, Hs256, NewToken, TokenVerifier};
use crate::id::UserId;
use crate::time::UnixTime;

const NOW: UnixTime = UnixTime::from_secs(1_300_819_000);

/// RFC 7515 appendices A.2.1 and A.3.1, RFC 8037 appendix A.2.
const N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_\
    YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5Zw\
    Kh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const EC: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
const OKP: &str = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;
const OCT: &str =
    r#""kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow""#;
const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

fn rsa(n: &str, e: &str) -> String {
    format!(r#""kty":"RSA","n":"{n}","e":"{e}""#)
}

fn jwk(members: &str) -> Result<Key, KeyError> {
    Key::from_jwk(format!("{{{members}}}").as_bytes())
}

fn jwks(entries: &[&str]) -> Result<KeySet, KeySetError> {
    let list: Vec<String> = entries.iter().map(|members| format!("{{{members}}}")).collect();
    KeySet::from_jwks(format!(r#"{{"keys":[{}]}}"#, list.join(",")).as_bytes(), ClaimRules::default())
}

fn verify(key: Key, token: &str) -> Result<crate::auth::Grant, AuthError> {
    KeySet::new([key], ClaimRules::default()).unwrap().verify(token, NOW)
}

#[test]
fn the_signatures_of_the_rfcs_hold() {
    // Claims are looked at only once the signature holds; these have no `sub`.
    let holds = Err(AuthError::Invalid("claim `sub` is missing"));
    let rs256 = format!(
        "eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5\
         jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO\
         --xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    assert_eq!(verify(jwk(&rsa(N, "AQAB")).unwrap(), &rs256), holds);
    let es256 = format!(
        "eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    assert_eq!(verify(jwk(EC).unwrap(), &es256), holds);
    let hs256 =
        format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    assert_eq!(verify(jwk(&format!(r#"{OCT},"alg":"HS256""#)).unwrap(), &hs256), holds);
    let eddsa = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
        hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(
        verify(jwk(OKP).unwrap(), eddsa),
        Err(AuthError::Invalid("the claims are not a JSON object")),
        "its payload is a plain text"
    );
}

#[test]
fn a_key_without_an_algorithm_is_bound_to_the_usual_one_of_its_kind() {
    let p384 = r#""kty":"EC","crv":"P-384","x":"iA7aUKdRsnZfxuOHrKVsmVzPHvXXXTVWhWiYVcBhwZmtmsAkAUd5vgHwEZOeqNfR","y":"T_fHUXQJqGiT-iE4hUbHbqzlLLGdIRqeX_CnfKEt38fZL-0NcWCQ8ZQC_q3YVq5w""#;
    let bound = |members: &str| jwk(members).map(|key| key.algorithm());
    assert_eq!(bound(&rsa(N, "AQAB")), Ok(Algorithm::Rs256));
    assert_eq!(bound(EC), Ok(Algorithm::Es256));
    assert_eq!(bound(OKP), Ok(Algorithm::EdDsa));
    assert_eq!(bound(p384), Err(KeyError::Point), "these coordinates are of no point");
    for alg in ["RS384", "RS512", "PS256", "PS384", "PS512"] {
        assert_eq!(bound(&format!(r#"{},"alg":"{alg}""#, rsa(N, "AQAB"))).unwrap().name(), alg);
    }
    for (members, alg) in
        [(EC, Algorithm::EdDsa), (EC, Algorithm::Es384), (OKP, Algorithm::Es256), (OKP, Algorithm::Rs256)]
    {
        assert_eq!(bound(&format!(r#"{members},"alg":"{alg}""#)), Err(KeyError::WrongKind(alg)), "{members}");
    }
    assert_eq!(bound(&format!(r#"{},"alg":"HS256""#, rsa(N, "AQAB"))), Err(KeyError::WrongKind(Algorithm::Hs256)));
}

#[test]
fn what_is_weak_or_no_key_is_refused() {
    // Of `n` modulo 2^(8 * bytes): its last letters, which stay odd.
    let short = |letters: usize| N[N.len() - letters..].to_owned();
    let large = "_".repeat(1368);
    let cases = [
        (rsa(&short(340), "AQAB"), "the RSA key has 20"),
        (rsa(&large, "AQAB"), "the RSA key has 8"),
        (rsa(&format!("{}oA", &N[..N.len() - 2]), "AQAB"), "the RSA key's modulus is even"),
        (rsa(N, "AQ"), "the RSA key's modulus is even, or its exponent"),
        (rsa(N, "Ag"), "the RSA key's modulus is even, or its exponent"),
        (rsa(N, ""), "the RSA key's modulus is even, or its exponent"),
        (rsa(N, "AQAAAAE"), "the RSA key's modulus is even, or its exponent"),
        (rsa("", "AQAB"), "the RSA key has 0"),
        (rsa(&format!("{N}="), "AQAB"), "a member of the JWK is not base64url"),
        (EC.replace("f83O", "f83P"), "the public key is no safe point"),
        (EC.replace("f83O", ""), "the key's coordinates"),
        (EC.replace("P-256", "secp256k1"), "the JWK's `crv`"),
        (OKP.replace("Ed25519", "X25519"), "the JWK's `crv`"),
        (OKP.replace("11qY", ""), "a key of Ed25519 has 32 bytes"),
        (OCT.to_owned(), "a secret must name"),
        (format!(r#"{OCT},"alg":"RS256""#), "a secret must name"),
        (r#""kty":"oct","alg":"HS256","k":"AAAA""#.into(), "the secret has 3 bytes and needs at least 32"),
        (format!(r#"{EC},"d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI""#), "this is a private key"),
        (format!(r#"{},"p":"AQAB""#, rsa(N, "AQAB")), "this is a private key"),
        (format!(r#"{EC},"use":"enc""#), "the JWK is not for signatures"),
        (format!(r#"{EC},"use":["sig"]"#), "the JWK is not for signatures"),
        (format!(r#"{EC},"key_ops":["sign"]"#), "the JWK is not for signatures"),
        (format!(r#"{EC},"key_ops":"verify""#), "the JWK is not for signatures"),
        (format!(r#"{EC},"alg":"ES512""#), "the JWK's `alg`"),
        (format!(r#"{EC},"alg":"none""#), "the JWK's `alg`"),
        (format!(r#"{EC},"alg":1"#), "the JWK lacks a member, or one"),
        (format!(r#"{EC},"kid":1"#), "the key's `kid`"),
        (format!(r#"{EC},"kid":"""#), "the key's `kid`"),
        (format!(r#"{EC},"kid":"{}""#, "k".repeat(256)), "the key's `kid`"),
        (EC.replace(r#""kty":"EC","#, ""), "the JWK lacks a member"),
        (EC.replace(r#""kty":"EC""#, r#""kty":"AKP""#), "the JWK's `kty`"),
        (format!(r#"{EC},{EC}"#), "the JWK has a name twice"),
    ];
    for (members, why) in cases {
        let problem = jwk(&members).expect_err(&members).to_string();
        assert!(problem.starts_with(why), "{members}: {problem}");
    }
    for more in
        [r#""use":"sig""#, r#""key_ops":["verify"]"#, r#""key_ops":["sign","verify"]"#, r#""x5c":["AA"],"iss":1"#]
    {
        assert!(jwk(&format!("{EC},{more}")).is_ok(), "{more}");
    }
    assert!(jwk(&format!(r#"{EC},"kid":"{}""#, "k".repeat(255))).is_ok());
    // The zero of a signed integer, which some issuers write.
    let n = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(N).unwrap();
    assert!(Material::rsa(Algorithm::Rs256, &[&[0], &n[..]].concat(), &[0, 1, 0, 1]).is_ok());
    assert_eq!(Material::rsa(Algorithm::Rs256, &n, &[0xff; 4]).err(), None, "32 bits");
    // `0111…1` and `1…1` of so many bytes.
    let bits = |first: u8, bytes: usize| {
        let n = [&[first][..], &vec![0xff; bytes - 1]].concat();
        Material::rsa(Algorithm::Rs256, &n, &[3]).err()
    };
    assert_eq!((bits(0x7f, 256), bits(0x80, 256)), (Some(KeyError::RsaSize { bits: 2047 }), None));
    let most = backend::MAX_RSA_BITS / 8;
    assert_eq!(bits(0xff, most), None);
    assert_eq!(bits(1, most + 1), Some(KeyError::RsaSize { bits: backend::MAX_RSA_BITS + 1 }));
}

#[test]
fn points_for_which_anybody_can_sign_are_refused_in_every_spelling() {
    let zeros = [0_u8; 32];
    let mut points = vec![zeros];
    for low in [1_u8, 0xec, 0xed, 0xee] {
        let mut point = if low == 1 { zeros } else { [0xff; 32] };
        (point[0], point[31]) = (low, if low == 1 { 0 } else { 0x7f });
        points.push(point);
    }
    let eighth = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05";
    let other = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a";
    for text in [eighth, other] {
        points.push(std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()));
    }
    for point in points {
        let mut signed = point;
        signed[31] |= 0x80;
        for point in [point, signed] {
            assert_eq!(Material::ed25519(Algorithm::EdDsa, &point).err(), Some(KeyError::Point), "{point:x?}");
        }
    }
}

#[test]
fn a_set_keeps_what_verifies_and_says_what_it_passed_over() {
    let named = |members: &str, kid: &str| format!(r#"{members},"kid":"{kid}""#);
    let (rsa, ec, okp) = (named(&rsa(N, "AQAB"), "a"), named(EC, "b"), named(OKP, "c"));
    let set = jwks(&[
        &rsa,
        r#""kty":"AKP","alg":"ML-DSA-44""#,
        &ec,
        &format!(r#"{okp},"use":"enc""#),
        &format!(r#"{OCT},"alg":"HS256""#),
        &okp,
    ])
    .unwrap();
    assert_eq!(set.keys().iter().map(|key| key.kid().unwrap()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(set.passed_over().iter().map(|passed| passed.index).collect::<Vec<_>>(), [1, 3, 4]);
    let text = format!(r#"{{"keys":[{{{OCT},"alg":"HS256"}}]}}"#);
    assert_eq!(KeySet::from_jwks(text.as_bytes(), ClaimRules::default()).unwrap_err(), KeySetError::Empty);
    assert!(KeySet::from_secret_jwks(text.as_bytes(), ClaimRules::default()).is_ok(), "from a file of one's own");
}

#[test]
fn documents_that_are_no_set_are_refused_whole() {
    let read = |text: &str| KeySet::from_jwks(text.as_bytes(), ClaimRules::default()).map(|_| ());
    let malformed = |why| Err(KeySetError::Malformed(why));
    assert_eq!(read(""), malformed("the key set is not a JSON object"));
    assert_eq!(read("<html>"), malformed("the key set is not a JSON object"));
    assert_eq!(read("[]"), malformed("the key set is not a JSON object"));
    assert_eq!(read("{}"), malformed("the key set has no list `keys`"));
    assert_eq!(read(r#"{"keys":{}}"#), malformed("the key set has no list `keys`"));
    assert_eq!(read(r#"{"keys":[],"keys":[]}"#), malformed("the key set has a name twice"));
    assert_eq!(read(&format!(r#"{{"keys":[{{{EC},"x":"AA"}}]}}"#)), malformed("the key set has a name twice"));
    assert_eq!(
        read(&format!(r#"{{"keys":[{}{}]}}"#, "[".repeat(20), "]".repeat(20))),
        malformed("the key set nests too deep")
    );
    assert_eq!(read(r#"{"keys":[]}"#), Err(KeySetError::Empty));
    assert_eq!(read(r#"{"keys":[1,"a",null,[]]}"#), Err(KeySetError::Empty));
    let padded = |bytes: usize| {
        let text = format!(r#"{{"keys":[{{{EC}}}]}}"#);
        format!("{text}{}", " ".repeat(bytes - text.len()))
    };
    assert_eq!(read(&padded(MAX_JWKS_BYTES)), Ok(()));
    assert_eq!(read(&padded(MAX_JWKS_BYTES + 1)), Err(KeySetError::TooLarge));
}

#[test]
fn a_set_has_at_most_so_many_keys_and_no_name_twice() {
    let entries: Vec<String> = (0..=MAX_KEYS).map(|n| format!(r#"{EC},"kid":"{n}""#)).collect();
    let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
    assert_eq!(jwks(&entries[..MAX_KEYS]).unwrap().keys().len(), MAX_KEYS);
    assert_eq!(jwks(&entries).unwrap_err(), KeySetError::TooManyKeys);
    let keys = |count| (0..count).map(|n: usize| jwk(EC).unwrap().with_kid(&n.to_string()).unwrap());
    assert!(KeySet::new(keys(MAX_KEYS), ClaimRules::default()).is_ok());
    assert_eq!(KeySet::new(keys(MAX_KEYS + 1), ClaimRules::default()).unwrap_err(), KeySetError::TooManyKeys);

    let (ec, okp) = (format!(r#"{EC},"kid":"k""#), format!(r#"{OKP},"kid":"k""#));
    assert_eq!(jwks(&[&ec, OKP, &ec]).unwrap_err(), KeySetError::Duplicate { index: 2 });
    assert!(jwks(&[&ec, &okp]).is_ok(), "a name may be one per algorithm");
    assert!(jwks(&[EC, EC]).is_ok(), "no name is no name twice");
    let twice = [jwk(&ec).unwrap(), jwk(&ec).unwrap()];
    assert_eq!(KeySet::new(twice, ClaimRules::default()).unwrap_err(), KeySetError::Duplicate { index: 1 });
    assert_eq!(KeySet::new([], ClaimRules::default()).unwrap_err(), KeySetError::Empty);
}

fn hs256(secret: u8, kid: Option<&str>) -> Key {
    let key = Key::from_secret(Algorithm::Hs256, &[secret; 32]).unwrap();
    kid.map_or(Ok(key.clone()), |kid| key.with_kid(kid)).unwrap()
}

/// A token signed with that secret.
fn token(secret: u8, header: &str) -> String {
    let claims = br#"{"sub":"ann","exp":1300819380}"#;
    Hs256::new(&[secret; 32], ClaimRules::default()).unwrap().sign(header.as_bytes(), claims).unwrap()
}

#[test]
fn a_kid_chooses_the_key_and_without_one_those_of_the_algorithm_are_tried() {
    let (bare, named) = (r#"{"alg":"HS256"}"#, |kid: &str| format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#));
    let set = KeySet::new([hs256(1, Some("a")), hs256(2, Some("b")), hs256(3, None)], ClaimRules::default()).unwrap();
    let decide = |secret, header: &str| {
        let verdict = set.decide(&token(secret, header), NOW);
        verdict.map(drop).map_err(|refused| refused.unknown_key)
    };
    let (no, unknown) = (Err(false), Err(true));
    for secret in 1..=3 {
        assert_eq!(decide(secret, bare), Ok(()), "{secret}");
    }
    assert_eq!(decide(4, bare), unknown);
    assert_eq!(decide(1, &named("a")), Ok(()));
    assert_eq!(decide(2, &named("a")), no, "the key that is named, and no other");
    assert_eq!(decide(3, &named("a")), no);
    assert_eq!(decide(3, &named("c")), Ok(()), "a key without a name answers to any that no other has");
    assert_eq!(decide(1, &named("c")), unknown);
    assert_eq!(decide(1, r#"{"alg":"ES256","kid":"a"}"#), no);
    assert_eq!(decide(1, r#"{"alg":"ES256","kid":"c"}"#), unknown);
    assert_eq!(decide(1, r#"{"alg":"ES256"}"#), unknown);
    assert_eq!(decide(1, r#"{"alg":"none"}"#), no);
    assert_eq!(set.decide("a.b.c", NOW).map_err(|refused| refused.unknown_key).map(drop), no);
}

#[test]
fn no_more_than_four_keys_are_tried() {
    let tried = |at: u8| {
        let set = KeySet::new((0..6).map(|secret| hs256(secret, None)), ClaimRules::default()).unwrap();
        set.verify(&token(at, r#"{"alg":"HS256"}"#), NOW).is_ok()
    };
    assert_eq!([0, 3, 4, 5].map(tried), [true, true, false, false]);
}

#[test]
fn nothing_of_a_key_is_shown() {
    let secret = "0123456789abcdef0123456789abcdef";
    let key = Key::from_secret(Algorithm::Hs256, secret.as_bytes()).unwrap().with_kid("k-1").unwrap();
    let set = KeySet::new([key.clone(), jwk(EC).unwrap()], ClaimRules::default()).unwrap();
    let shown = format!("{key:?} {set:?} {:?}", RotatingKeys::new(set.clone()));
    assert!(
        shown.contains("k-1") && !shown.contains(secret) && !shown.contains("48, 49") && !shown.contains("f83O"),
        "{shown}"
    );
}

#[test]
fn what_an_issuer_signs_is_granted_under_rotated_keys_too() {
    let issuer = Hs256::new(&[1; 32], ClaimRules::default()).unwrap();
    let user = UserId::new(None, "ann").unwrap();
    let new =
        NewToken { user: &user, issued_at: NOW, ttl: std::time::Duration::from_secs(60), scope: "", token_id: None };
    let token = issuer.issue(&new).unwrap();
    let keys = RotatingKeys::new(KeySet::new([hs256(2, None)], ClaimRules::default()).unwrap());
    assert!(keys.verify(&token, NOW).is_err());
    keys.replace(KeySet::new([hs256(2, None), hs256(1, None)], ClaimRules::default()).unwrap());
    let grant = keys.verify(&token, NOW).unwrap();
    assert_eq!((grant.user, grant.issued_at), (user, Some(NOW)));
}
