//! Headers that name their own keys, or hide something.

use serde_json::{Value, json};
use trunkline_core::auth::Algorithm;

use super::{ATTACKER_RSA, Bad, CLAIMS, attackers, bad, der, encode, hmac, join, message, signed};

pub(super) fn all(addresses: &[String]) -> Vec<Bad> {
    [kids(addresses), own_keys(addresses), extensions(), shapes()].into_iter().flatten().collect()
}

/// Names that other servers have looked up in files, databases and on the network. The MACs are those of what would be found.
fn kids(addresses: &[String]) -> Vec<Bad> {
    let long = "x".repeat(4000);
    let found: [(Value, &[u8]); 18] = [
        (json!("/dev/null"), b""),
        (json!("../../../../../../dev/null"), b""),
        (json!("..\\..\\windows\\win.ini"), b""),
        (json!("/proc/sys/kernel/randomize_va_space"), b"2"),
        (json!("file:///dev/null"), b""),
        (json!("HS256\0"), b""),
        (json!("HS256\n"), b""),
        (json!(" HS256"), b""),
        (json!("hs256"), b""),
        (json!("HS256%00.pem"), b""),
        (json!("x' UNION SELECT 'key';--"), b"key"),
        (json!("\"; DROP TABLE keys; --"), b""),
        (json!("$(id)"), b""),
        (json!("${jndi:ldap://127.0.0.1/a}"), b""),
        (json!("\u{202e}652SH"), b""),
        (json!(format!("http://{}/key", addresses[0])), b""),
        (json!(format!("//{}/key", addresses[1])), b""),
        (json!(long), b""),
    ];
    let mut all = Vec::new();
    for (kid, secret) in found {
        let name = kid.to_string().chars().take(40).collect::<String>();
        let message = message(&json!({"alg": "HS256", "kid": kid}).to_string(), CLAIMS);
        all.push(bad(
            format!("kid {name} with what it finds"),
            join(&message, &hmac(Algorithm::Hs256, secret, &message)),
        ));
    }
    // Signed well, but by a key that has another name.
    for kid in [
        json!(""),
        json!("HS257"),
        json!(0),
        json!(["HS256"]),
        json!({"HS256": 1}),
        json!(null),
        json!(true),
        json!("%48S256"),
    ] {
        let header = json!({"alg": "HS256", "kid": kid}).to_string();
        all.push(bad(format!("kid {kid}, well signed"), signed(Algorithm::Hs256, &header, CLAIMS)));
    }
    all
}

/// The attacker's key in the header, or where to find it. Without a look at it the signature is the attacker's.
fn own_keys(addresses: &[String]) -> Vec<Bad> {
    let der = der(ATTACKER_RSA);
    // The modulus of a 2048-bit key ends five bytes before the end of its SPKI.
    let modulus = &der[der.len() - 5 - 256..der.len() - 5];
    let jwk = json!({"kty": "RSA", "n": encode(modulus), "e": "AQAB", "kid": "own", "alg": "RS256"});
    let mut own = vec![
        ("jwk", jwk.clone()),
        ("jwks", json!({"keys": [jwk]})),
        ("x5c", json!([ATTACKER_RSA.lines().filter(|line| !line.starts_with('-')).collect::<String>()])),
        ("x5t", json!(encode(&[7; 20]))),
        ("x5t#S256", json!(encode(&[7; 32]))),
        ("pem", json!(ATTACKER_RSA)),
    ];
    for (at, name) in ["jku", "x5u", "iss", "kid"].into_iter().enumerate() {
        own.push((name, json!(format!("http://{}/jwks.json", addresses[at]))));
        own.push((name, json!(format!("https://{}/jwks.json", addresses[at]))));
    }
    own.push(("jku", json!(format!("http://user@{}#/../keys", addresses[0]))));
    own.push(("jku", json!("file:///etc/passwd")));
    own.push(("x5u", json!("data:application/x-pem-file,x")));
    let mut all = Vec::new();
    for (name, value) in own {
        for kid in [None, Some("RS256"), Some("own")] {
            let mut header = json!({"alg": "RS256", "typ": "JWT", name: value});
            if let Some(kid) = kid.filter(|_| name != "kid") {
                header["kid"] = kid.into();
            }
            let message = message(&header.to_string(), CLAIMS);
            let shown = value.to_string().chars().take(40).collect::<String>();
            all.push(bad(format!("{name} {shown} under the kid {kid:?}"), join(&message, &attackers(&message))));
        }
    }
    all
}

/// Well signed: what must be understood is not.
fn extensions() -> Vec<Bad> {
    let more = [
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""crit":["http://example.com/x"],"http://example.com/x":1"#,
        r#""crit":["b64"],"b64":false"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""crit":"alg""#,
    ];
    let with = |more: &&str| bad(format!("a header with {more}"), header_with(more));
    more.iter().map(with).collect()
}

/// Well signed, with a header that is none.
fn shapes() -> Vec<Bad> {
    let deep = format!(r#"{{"alg":"HS256","kid":"HS256","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let headers = [
        r#"{"alg":"HS256","alg":"HS256","kid":"HS256"}"#,
        r#"{"alg":"none","alg":"HS256","kid":"HS256"}"#,
        r#"{"alg":"HS256","\u0061lg":"none","kid":"HS256"}"#,
        r#"{"alg":"HS256","kid":"HS256","kid":"HS256"}"#,
        r#"{"alg":"HS256","kid":"HS256","x":{"a":1,"a":2}}"#,
        r#"{"kid":"HS256","typ":"JWT"}"#,
        r#"{"ALG":"HS256","kid":"HS256"}"#,
        r#"{"alg":null,"kid":"HS256"}"#,
        r#"{"alg":256,"kid":"HS256"}"#,
        r#"{"alg":["HS256"],"kid":"HS256"}"#,
        r#"{"alg":{"name":"HS256"},"kid":"HS256"}"#,
        r#"{"alg":"HS256","kid":"HS256","typ":1}"#,
        r#"{"alg":"HS256","kid":"HS256","cty":["JWT"]}"#,
        r#"{"alg":"HS256","kid":"HS256"}{}"#,
        r#"{"alg":"HS256","kid":"HS256"} //"#,
        r#"{"alg":"HS256","kid":"HS256",}"#,
        r#"[{"alg":"HS256","kid":"HS256"}]"#,
        r#""HS256""#,
        "HS256",
        "null",
        "{}",
        "\u{feff}{\"alg\":\"HS256\",\"kid\":\"HS256\"}",
        &deep,
    ];
    let of = |header: &str| {
        let name = header.chars().take(60).collect::<String>();
        bad(format!("the header {name}"), signed(Algorithm::Hs256, header, CLAIMS))
    };
    headers.into_iter().map(of).collect()
}

fn header_with(more: &str) -> String {
    signed(Algorithm::Hs256, &format!(r#"{{"alg":"HS256","kid":"HS256",{more}}}"#), CLAIMS)
}
