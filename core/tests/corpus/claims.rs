//! Well signed claims that do not hold.

use trunkline_core::auth::Algorithm;

use super::{Bad, attackers, bad, good, header, join, message, signed};

pub(super) fn all(addresses: &[String]) -> Vec<Bad> {
    let long = "x".repeat(300);
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let scope = "topic:a ".repeat(65);
    let more = [
        r#""sub":"ann""#.to_owned(),
        r#""s\u0075b":"bob""#.to_owned(),
        r#""exp":4102444801"#.to_owned(),
        r#""iat":0,"iat":0"#.to_owned(),
        r#""x":[{"a":1,"a":2}]"#.to_owned(),
        r#""nbf":4102444700"#.to_owned(),
        r#""iat":4102444700"#.to_owned(),
        r#""nbf":1e300"#.to_owned(),
        r#""iat":18446744073709551615"#.to_owned(),
        r#""nbf":"0""#.to_owned(),
        r#""nbf":null"#.to_owned(),
        r#""nbf":-1"#.to_owned(),
        r#""iat":"yesterday""#.to_owned(),
        r#""iat":[0]"#.to_owned(),
        r#""iss":1"#.to_owned(),
        r#""iss":["a"]"#.to_owned(),
        r#""iss":null"#.to_owned(),
        r#""aud":1"#.to_owned(),
        r#""aud":{"a":"b"}"#.to_owned(),
        r#""aud":["a",1]"#.to_owned(),
        r#""aud":null"#.to_owned(),
        r#""jti":1"#.to_owned(),
        r#""jti":"""#.to_owned(),
        r#""jti":"a\u0000b""#.to_owned(),
        format!(r#""jti":"{long}""#),
        r#""tenant":1"#.to_owned(),
        r#""tenant":"""#.to_owned(),
        r#""tenant":null"#.to_owned(),
        format!(r#""tenant":"{long}""#),
        r#""scope":["admin"]"#.to_owned(),
        r#""scope":true"#.to_owned(),
        format!(r#""scope":"{scope}""#),
        format!(r#""x":{deep}"#),
    ];
    let mut claims: Vec<String> =
        more.iter().map(|more| format!(r#"{{"sub":"ann","exp":4102444800,{more}}}"#)).collect();
    for exp in [
        r#""4102444800""#,
        "null",
        "true",
        "[4102444800]",
        "{}",
        "-1",
        "-1e300",
        "1e999",
        "NaN",
        "Infinity",
        "0x7fffffff",
        "4102444800,",
    ] {
        claims.push(format!(r#"{{"sub":"ann","exp":{exp}}}"#));
    }
    for sub in ["1", "null", "true", r#"["ann"]"#, r#"{"a":"ann"}"#, r#""""#, r#""a\nb""#, r#""\u0000""#, r#""\ud800""#]
    {
        claims.push(format!(r#"{{"sub":{sub},"exp":4102444800}}"#));
    }
    claims.push(format!(r#"{{"sub":"{long}","exp":4102444800}}"#));
    let whole = [
        "",
        "{}",
        "[]",
        "null",
        "ann",
        r#"{"sub":"ann"}"#,
        r#"{"exp":4102444800}"#,
        r#"{"SUB":"ann","exp":4102444800}"#,
        r#"{"sub":"ann","Exp":4102444800}"#,
        r#"[{"sub":"ann","exp":4102444800}]"#,
        r#"{"sub":"ann","exp":4102444800}{}"#,
        r#"{"sub":"ann","exp":4102444800"#,
        r#"{'sub':'ann','exp':4102444800}"#,
        "\u{feff}{\"sub\":\"ann\",\"exp\":4102444800}",
        "{\"sub\":\"ann\",\"exp\":4102444800}\0",
        "sub=ann&exp=4102444800",
    ];
    claims.extend(whole.into_iter().map(str::to_owned));
    let of = |claims: &String| {
        let name = claims.chars().take(80).collect::<String>();
        bad(format!("the claims {name}"), signed(Algorithm::Hs256, &header(Algorithm::Hs256), claims))
    };
    let mut all: Vec<Bad> = claims.iter().map(of).collect();
    all.extend(nested());
    all.extend(issuers(addresses));
    all
}

/// A token as the claims of another. RFC 7519 section 5.2.
fn nested() -> Vec<Bad> {
    let inner = good(Algorithm::Es256);
    let header = r#"{"alg":"HS256","kid":"HS256","cty":"JWT"}"#;
    vec![
        bad("a token in a token", signed(Algorithm::Hs256, header, &inner)),
        bad("a token in a token, as a text", signed(Algorithm::Hs256, header, &format!("\"{inner}\""))),
    ]
}

/// Issuers whose keys could be fetched, and that the attacker has put there.
fn issuers(addresses: &[String]) -> Vec<Bad> {
    let of = |address: &String| {
        let claims = format!(r#"{{"sub":"ann","exp":4102444800,"iss":"http://{address}/"}}"#);
        let message = message(r#"{"alg":"RS256"}"#, &claims);
        bad("an issuer with keys of its own", join(&message, &attackers(&message)))
    };
    addresses.iter().map(of).collect()
}
