//! Tokens that must not hold, each with its reason, and those that must.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_800_000_000;
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const GOOD: &str = r#"{"sub":"ann","exp":1800000600}"#;

fn keys() -> Hs256 {
    Hs256::new(SECRET, ClaimRules::default()).unwrap()
}

fn at(secs: u64) -> UnixTime {
    UnixTime::from_secs(secs)
}

fn invalid(why: &'static str) -> Result<Grant, AuthError> {
    Err(AuthError::Invalid(why))
}

fn signed(header: &str, claims: &str) -> String {
    keys().sign(header.as_bytes(), claims.as_bytes()).unwrap()
}

fn verify(token: &str) -> Result<Grant, AuthError> {
    keys().verify(token, at(NOW))
}

fn claims(claims: &str) -> Result<Grant, AuthError> {
    verify(&signed(HS256, claims))
}

/// Claims that hold, and these on top.
fn with(more: &str) -> Result<Grant, AuthError> {
    claims(&format!(r#"{{"sub":"ann","exp":1800000600,{more}}}"#))
}

/// Wrong in every place where a text is wanted.
const NOT_TEXTS: [&str; 6] = ["null", "true", "7", "1.5", r#"["x"]"#, r#"{"x":"y"}"#];
/// Wrong in every place where a time is wanted.
const NOT_TIMES: [&str; 8] = ["null", "true", r#""1800000600""#, "[1800000600]", "{}", "-1", "-0.5", "-1e300"];

#[test]
fn a_good_token_grants_what_it_says() {
    let more = r#""tenant":"acme","jti":"t-1","scope":"openid publish topic:news","iat":1799999999,"nbf":1800000000,
        "iss":"https://id.example","aud":"anything","name":"\u00e4","roles":{"a":[{"b":1}]}"#;
    let grant = with(more).unwrap();
    assert_eq!(grant.user, UserId::new(Some("acme"), "ann").unwrap());
    assert_eq!(grant.expires, at(1_800_000_600));
    assert_eq!(grant.token_id, Some(TokenId::new("t-1").unwrap()));
    assert!(grant.scopes.may_publish_for(&UserId::new(Some("acme"), "bob").unwrap()));
    let plain = claims(GOOD).unwrap();
    assert_eq!((plain.user.tenant().as_str(), plain.token_id, plain.scopes), (None, None, Scopes::default()));
}

#[test]
fn the_example_of_rfc_7515_appendix_a_1_has_a_good_signature() {
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let keys = Hs256::new(&URL_SAFE_NO_PAD.decode(secret).unwrap(), ClaimRules::default()).unwrap();
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                 eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                 dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    // Claims are looked at only once the signature holds; it has no `sub`.
    assert_eq!(keys.verify(token, at(1_300_819_000)), invalid("claim `sub` is missing"));
}

#[test]
fn only_the_keys_own_algorithm_is_accepted() {
    for alg in ["none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "ES512", "ES256K", "Ed25519", "RSA1_5", "dir"] {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        assert_eq!(verify(&signed(&header, GOOD)), invalid("the header's `alg` is none that is known"), "{alg}");
    }
    for alg in Algorithm::ALL.into_iter().filter(|alg| *alg != Algorithm::Hs256) {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        assert_eq!(verify(&signed(&header, GOOD)), invalid("the header's `alg` is no key's"), "{alg}");
    }
    for alg in NOT_TEXTS {
        let header = format!(r#"{{"alg":{alg}}}"#);
        assert_eq!(verify(&signed(&header, GOOD)), invalid("the header's `alg` is not a string"), "{alg}");
    }
    let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(GOOD));
    assert_eq!(verify(&unsigned), invalid("the token is not three parts"));
}

#[test]
fn headers_that_do_not_hold() {
    let deep = format!(r#"{{"alg":"HS256","x":{}{}}}"#, "[".repeat(16), "]".repeat(16));
    let table = [
        (r#"{"typ":"JWT"}"#, "the header has no `alg`"),
        (r#"{"alg":"HS256","crit":["exp"]}"#, "the header has `crit`"),
        (r#"{"alg":"HS256","crit":[]}"#, "the header has `crit`"),
        (r#"{"alg":"HS256","crit":null}"#, "the header has `crit`"),
        (r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, "the header has `crit`"),
        (r#"{"alg":"HS256","b64":false}"#, "the header has `b64`"),
        (r#"{"alg":"HS256","kid":7}"#, "the header's `kid` is not a string"),
        (r#"{"alg":"HS256","typ":["JWT"]}"#, "the header's `typ` is not a string"),
        (r#"{"alg":"HS256","cty":null}"#, "the header's `cty` is not a string"),
        (r#"{"alg":"none","alg":"HS256"}"#, "the header has a name twice"),
        (r#"{"alg":"HS256","\u0061lg":"HS256"}"#, "the header has a name twice"),
        (r#"["HS256"]"#, "the header is not a JSON object"),
        ("HS256", "the header is not a JSON object"),
        (r#"{"alg":"HS256"} {}"#, "the header is not a JSON object"),
        (&deep, "the header nests too deep"),
    ];
    for (header, why) in table {
        assert_eq!(verify(&signed(header, GOOD)), invalid(why), "{header}");
    }
    assert!(verify(&signed(r#"{"alg":"HS256","kid":"k","jwk":{"k":"AA"},"typ":"at+jwt"}"#, GOOD)).is_ok());
}

#[test]
fn forms_that_are_no_token() {
    const PARTS: &str = "the token is not three parts";
    let good = signed(HS256, GOOD);
    let [header, body, mac] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let (cut, longer) = (&mac[..mac.len() - 1], format!("{mac}AA"));
    let standard = format!("{header}.{body}+/.{mac}");
    // The last character of 32 bytes holds two bits that must be zero.
    let last = mac.as_bytes()[mac.len() - 1];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = alphabet.iter().position(|b| *b == last).unwrap();
    let loose = format!("{cut}{}", alphabet[bits | 1] as char);
    let table = [
        (String::new(), PARTS),
        ("..".into(), PARTS),
        ("abc".into(), PARTS),
        (format!("{header}.{body}"), PARTS),
        (format!("{header}.{body}."), PARTS),
        (format!("{header}..{mac}"), PARTS),
        (format!(".{body}.{mac}"), PARTS),
        (format!("{good}."), PARTS),
        (format!("{good}.x"), PARTS),
        (format!("{good}.x.y"), PARTS),
        (format!(" {good}"), "the header is not base64url"),
        (format!("{header}=.{body}.{mac}"), "the header is not base64url"),
        (format!("{header}.{body}.{mac}="), "the signature is not base64url"),
        (format!("{header}.{body}.{mac}\n"), "the signature is not base64url"),
        (format!("{header}.{body}.{loose}"), "the signature is not base64url"),
        (format!("{header}.{body}.é"), "the signature is not base64url"),
        (format!("{header}.{body}.{}", &mac[..42]), "the signature is not base64url"),
        (format!("{header}.{body}.{}", URL_SAFE_NO_PAD.encode([0; 31])), "the signature has the wrong length"),
        (format!("{header}.{body}.{}", URL_SAFE_NO_PAD.encode([0; 33])), "the signature has the wrong length"),
        (format!("{header}.{body}.AA"), "the signature has the wrong length"),
        (format!("{header}.{body}.{longer}"), "the signature is not base64url"),
        (format!("{header}.{body}.{}", URL_SAFE_NO_PAD.encode([0; 32])), "the signature does not match"),
        (format!("{body}.{header}.{mac}"), "the header has no `alg`"),
        (format!("{header}.{header}.{mac}"), "the signature does not match"),
        (standard, "the signature does not match"),
    ];
    for (token, why) in table {
        assert_eq!(verify(&token), invalid(why), "{token:?}");
    }
}

#[test]
fn another_key_or_a_changed_claim_does_not_match() {
    let other = Hs256::new(&[7; 32], ClaimRules::default()).unwrap();
    assert_eq!(other.verify(&signed(HS256, GOOD), at(NOW)), invalid("the signature does not match"));
    let good = signed(HS256, GOOD);
    let forged = good.replace(&URL_SAFE_NO_PAD.encode(GOOD), &URL_SAFE_NO_PAD.encode(GOOD.replace("ann", "bob")));
    assert_eq!(verify(&forged), invalid("the signature does not match"));
    // An expired token under a wrong key is not "expired": that would tell a stranger something.
    assert_eq!(
        other.verify(&signed(HS256, r#"{"sub":"ann","exp":1}"#), at(NOW)),
        invalid("the signature does not match")
    );
}

#[test]
fn claims_that_do_not_hold() {
    let deep = format!(r#"{{"sub":"ann","exp":1800000600,"x":{}{}}}"#, "[".repeat(16), "]".repeat(16));
    let table = [
        ("", "the claims are not a JSON object"),
        ("[]", "the claims are not a JSON object"),
        (r#"{"sub":"ann","exp":1e999}"#, "the claims are not a JSON object"),
        (r#"{"sub":"ann","exp":NaN}"#, "the claims are not a JSON object"),
        (r#"{"sub":"ann","sub":"bob","exp":1800000600}"#, "the claims have a name twice"),
        (r#"{"sub":"ann","exp":1,"exp":1800000600}"#, "the claims have a name twice"),
        (r#"{"sub":"ann","exp":1800000600,"x":1,"x":1}"#, "the claims have a name twice"),
        (&deep, "the claims nest too deep"),
        (r#"{"exp":1800000600}"#, "claim `sub` is missing"),
        (r#"{"sub":"ann"}"#, "claim `exp` is missing"),
        ("{}", "claim `sub` is missing"),
    ];
    for (text, why) in table {
        // An empty part would be refused by form.
        let text = if text.is_empty() { " " } else { text };
        assert_eq!(claims(text), invalid(why), "{text}");
    }
    const USER: &str = "claim `sub` or `tenant` is empty, too long, or has control characters";
    for sub in [String::new(), "x".repeat(256), "a\\nb".into(), "a\\u0000".into()] {
        assert_eq!(claims(&format!(r#"{{"sub":"{sub}","exp":1800000600}}"#)), invalid(USER), "{sub}");
        assert_eq!(with(&format!(r#""tenant":"{sub}""#)), invalid(USER), "{sub}");
    }
    const JTI: &str = "claim `jti` is empty, too long, or has control characters";
    for jti in [String::new(), "x".repeat(256), "a\\nb".into()] {
        assert_eq!(with(&format!(r#""jti":"{jti}""#)), invalid(JTI), "{jti}");
    }
    assert!(with(&format!(r#""jti":"{}""#, "x".repeat(255))).is_ok());
    let words = |n| (0..n).map(|i| format!("topic:{i} ")).collect::<String>();
    assert!(with(&format!(r#""scope":"{}""#, words(64))).is_ok());
    assert_eq!(with(&format!(r#""scope":"{}""#, words(65))), invalid("claim `scope` has too many words"));
}

#[test]
fn wrongly_typed_claims_are_refused_whether_or_not_they_are_needed() {
    for value in NOT_TEXTS {
        assert_eq!(claims(&format!(r#"{{"sub":{value},"exp":1800000600}}"#)), invalid("claim `sub` is not a string"));
        for (name, why) in [
            ("iss", "claim `iss` is not a string"),
            ("tenant", "claim `tenant` is not a string"),
            ("jti", "claim `jti` is not a string"),
            ("scope", "claim `scope` is not a string"),
        ] {
            assert_eq!(with(&format!(r#""{name}":{value}"#)), invalid(why), "{name}: {value}");
        }
    }
    for value in NOT_TIMES {
        assert_eq!(
            claims(&format!(r#"{{"sub":"ann","exp":{value}}}"#)),
            invalid("claim `exp` is not a time"),
            "{value}"
        );
        assert_eq!(with(&format!(r#""nbf":{value}"#)), invalid("claim `nbf` is not a time"), "{value}");
        assert_eq!(with(&format!(r#""iat":{value}"#)), invalid("claim `iat` is not a time"), "{value}");
    }
    for value in ["null", "true", "7", "{}", "[7]", r#"["a",null]"#, r#"[["a"]]"#] {
        let why = "claim `aud` is neither a string nor a list of strings";
        assert_eq!(with(&format!(r#""aud":{value}"#)), invalid(why), "{value}");
    }
}

#[test]
fn exp_holds_until_just_before_the_leeway_is_over() {
    let keys = keys();
    let token = signed(HS256, GOOD);
    let end = at(1_800_000_605);
    assert!(keys.verify(&token, UnixTime::from_micros(end.as_micros() - 1)).is_ok());
    assert_eq!(keys.verify(&token, end), Err(AuthError::Expired));
    assert_eq!(keys.verify(&token, UnixTime::MAX), Err(AuthError::Expired));

    let strict = Hs256::new(SECRET, ClaimRules { leeway: Duration::ZERO, ..ClaimRules::default() }).unwrap();
    assert!(strict.verify(&token, at(1_800_000_599)).is_ok());
    assert_eq!(strict.verify(&token, at(1_800_000_600)), Err(AuthError::Expired));
}

#[test]
fn nbf_and_iat_may_be_ahead_by_the_leeway_and_no_more() {
    for (name, why) in [("nbf", "claim `nbf` is in the future"), ("iat", "claim `iat` is in the future")] {
        assert!(with(&format!(r#""{name}":{}"#, NOW + 5)).is_ok());
        assert_eq!(with(&format!(r#""{name}":{}.001"#, NOW + 5)), invalid(why));
        assert_eq!(with(&format!(r#""{name}":{}"#, u64::MAX)), invalid(why));
        assert!(with(&format!(r#""{name}":0"#)).is_ok());
    }
}

#[test]
fn times_are_numbers_of_any_size_and_saturate() {
    for (exp, wanted) in [
        ("1800000600.5", UnixTime::from_micros(1_800_000_600_500_000)),
        ("1.8000006e9", at(1_800_000_600)),
        ("18446744073709551615", UnixTime::MAX),
        ("18446744073709551616", UnixTime::MAX),
        ("1e300", UnixTime::MAX),
        ("1e308", UnixTime::MAX),
    ] {
        assert_eq!(claims(&format!(r#"{{"sub":"ann","exp":{exp}}}"#)).unwrap().expires, wanted, "{exp}");
    }
    for exp in ["0", "0.0", "1e-300"] {
        assert_eq!(claims(&format!(r#"{{"sub":"ann","exp":{exp}}}"#)), Err(AuthError::Expired), "{exp}");
    }
}

#[test]
fn expired_says_that_everything_else_holds() {
    let expired = |more: &str| claims(&format!(r#"{{"sub":"ann","exp":1{more}}}"#));
    assert_eq!(expired(""), Err(AuthError::Expired));
    assert_eq!(expired(r#","nbf":1900000000"#), invalid("claim `nbf` is in the future"));
    assert_eq!(expired(r#","iat":1900000000"#), invalid("claim `iat` is in the future"));
    assert_eq!(expired(r#","jti":7"#), invalid("claim `jti` is not a string"));
    assert_eq!(expired(r#","aud":7"#), invalid("claim `aud` is neither a string nor a list of strings"));
}

#[test]
fn issuer_and_audience_are_demanded_once_configured() {
    let rules =
        ClaimRules { issuer: Some("https://id".into()), audience: Some("trunk".into()), ..ClaimRules::default() };
    let keys = Hs256::new(SECRET, rules).unwrap();
    let verify = |more: &str| {
        keys.verify(&signed(HS256, &format!(r#"{{"sub":"ann","exp":1800000600{more}}}"#)), at(NOW)).map(|_| ())
    };
    let no = |why| Err(AuthError::Invalid(why));
    assert_eq!(verify(r#","iss":"https://id","aud":"trunk""#), Ok(()));
    assert_eq!(verify(r#","iss":"https://id","aud":["other","trunk"]"#), Ok(()));
    assert_eq!(verify(r#","aud":"trunk""#), no("claim `iss` is missing"));
    assert_eq!(verify(r#","iss":"https://id/","aud":"trunk""#), no("claim `iss` names another issuer"));
    assert_eq!(verify(r#","iss":["https://id"],"aud":"trunk""#), no("claim `iss` is not a string"));
    assert_eq!(verify(r#","iss":"https://id""#), no("claim `aud` is missing"));
    assert_eq!(verify(r#","iss":"https://id","aud":[]"#), no("claim `aud` is missing"));
    assert_eq!(verify(r#","iss":"https://id","aud":"Trunk""#), no("claim `aud` names another audience"));
    assert_eq!(verify(r#","iss":"https://id","aud":["trunks",""]"#), no("claim `aud` names another audience"));
}

#[test]
fn a_token_is_measured_before_it_is_read() {
    let token = signed(HS256, GOOD);
    let sized = |max| {
        let rules = ClaimRules { max_token_bytes: max, ..ClaimRules::default() };
        Hs256::new(SECRET, rules).unwrap().verify(&token, at(NOW)).map(|_| ())
    };
    assert_eq!(sized(token.len()), Ok(()));
    assert_eq!(sized(token.len() - 1), Err(AuthError::Invalid("the token is too large")));
    assert_eq!(verify(&"x".repeat(8193)), invalid("the token is too large"));
    assert_eq!(verify(&"x".repeat(8192)), invalid("the token is not three parts"));
}

#[test]
fn a_key_is_as_long_as_its_hash() {
    assert!(Hs256::new(&[1; 32], ClaimRules::default()).is_ok());
    assert_eq!(Hs256::new(&[1; 31], ClaimRules::default()).unwrap_err(), KeyError::TooShort { bytes: 31, needed: 32 });
}

#[test]
fn what_would_not_be_accepted_is_not_issued() {
    let user = UserId::new(None, "ann").unwrap();
    let plain = NewToken { user: &user, issued_at: at(NOW), ttl: Duration::from_secs(60), scope: "", token_id: None };
    let words = "topic:a ".repeat(65);
    assert_eq!(keys().issue(&NewToken { scope: &words, ..plain }), Err(IssueError::Scope));
    assert_eq!(keys().issue(&NewToken { token_id: Some(""), ..plain }), Err(IssueError::TokenId));
    let long = "x".repeat(8192);
    assert_eq!(keys().issue(&NewToken { scope: &long, ..plain }), Err(IssueError::TooLarge));
    let token = keys().issue(&plain).unwrap();
    let body = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), r#"{"sub":"ann","iat":1800000000,"exp":1800000060}"#);
}

#[test]
fn debug_and_errors_show_no_secret() {
    let secret = std::str::from_utf8(SECRET).unwrap();
    let shown = format!("{:?}", keys());
    assert!(shown.starts_with("Hs256") && !shown.contains(secret) && !shown.contains("48, 49"), "{shown}");
    let token = signed(HS256, GOOD);
    let grant = format!("{:?} {:?}", verify(&token), verify(&token[..token.len() - 2]));
    assert!(token.split('.').all(|part| !grant.contains(part)), "{grant}");
    assert_eq!(AuthError::Invalid("x").to_string(), "the token does not hold: x");
}

properties! {
    #[test]
    fn what_is_issued_is_granted(
        (tenant, sub) in (prop::option::of("[^\\p{Cc}]{1,60}"), "[^\\p{Cc}]{1,60}"),
        micros in 0..4_000_000_000_000_000_u64,
        ttl in 1..1_000_000_000_u64,
        scope in "[ -~]{0,60}",
        token_id in prop::option::of("[!-~]{1,40}"),
        issuer in prop::option::of("[ -~]{1,20}"),
        audience in prop::option::of("[ -~]{1,20}"),
    ) {
        let keys = Hs256::new(SECRET, ClaimRules { issuer, audience, ..ClaimRules::default() }).unwrap();
        let user = UserId::new(tenant.as_deref(), &sub).unwrap();
        let (now, ttl) = (UnixTime::from_micros(micros), Duration::from_micros(ttl));
        let token_id = token_id.as_deref();
        let token = keys.issue(&NewToken { user: &user, issued_at: now, ttl, scope: &scope, token_id }).unwrap();
        let grant = keys.verify(&token, now).unwrap();
        prop_assert!(Token::parse(&token).is_some());
        prop_assert_eq!(&grant.user, &user);
        prop_assert_eq!(grant.token_id.as_ref().map(TokenId::as_str), token_id);
        prop_assert_eq!(&grant.scopes, &Scopes::parse(&scope, &user).unwrap());
        prop_assert!(grant.expires >= now + ttl && grant.expires < now + ttl + Duration::from_secs(1));
        prop_assert_eq!(keys.verify(&token, grant.expires + Duration::from_secs(5)), Err(AuthError::Expired));
    }

    #[test]
    fn a_token_with_any_character_changed_is_refused(at_char in 0..200_usize, to in "[A-Za-z0-9_.=-]") {
        let good = signed(HS256, GOOD);
        let at_char = at_char % good.len();
        prop_assume!(good[at_char..=at_char] != to);
        let mut bad = good.clone();
        bad.replace_range(at_char..=at_char, &to);
        prop_assert!(matches!(verify(&bad), Err(AuthError::Invalid(_))), "{}", bad);
    }

    #[test]
    fn any_text_is_survived(token in ".{0,200}", header in ".{0,60}", claims in ".{0,60}") {
        prop_assert!(verify(&token).is_err());
        prop_assert!(verify(&signed(&header, GOOD)).is_err());
        prop_assert!(verify(&signed(HS256, &claims)).is_err());
    }
}
