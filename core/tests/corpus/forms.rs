//! Texts that are no token, made of one that is.

use serde_json::json;
use trunkline_core::auth::Algorithm;

use super::{Bad, CLAIMS, bad, encode, good, header, signed};

pub(super) fn all() -> Vec<Bad> {
    let token = good(Algorithm::Hs256);
    let [head, body, mac] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let bob = encode(CLAIMS.replace("ann", "bob").as_bytes());
    let bare = encode(br#"{"alg":"HS256"}"#);
    let texts = [
        ("nothing", String::new()),
        ("one point", ".".to_owned()),
        ("two points", "..".to_owned()),
        ("points alone", ".....".to_owned()),
        ("a word", "token".to_owned()),
        ("one part", head.to_owned()),
        ("two parts", format!("{head}.{body}")),
        ("an empty signature", format!("{head}.{body}.")),
        ("empty claims", format!("{head}..{mac}")),
        ("an empty header", format!(".{body}.{mac}")),
        ("a fourth part", format!("{token}.{mac}")),
        ("an empty fourth part", format!("{token}.")),
        ("a leading point", format!(".{token}")),
        ("two tokens", format!("{token}.{token}")),
        (
            "five parts",
            format!("{}.{}.{}.{}.{}", encode(br#"{"alg":"dir","enc":"A128GCM"}"#), "", "AAAA", body, "AAAA"),
        ),
        ("five parts, all there", format!("{}.AAAA.AAAA.{body}.{mac}", encode(br#"{"alg":"A128KW","enc":"A128GCM"}"#))),
        ("a JWE's header in three parts", format!("{}.{body}.{mac}", encode(br#"{"alg":"dir","enc":"A128GCM"}"#))),
        ("JSON, general", json!({"payload": body, "signatures": [{"protected": head, "signature": mac}]}).to_string()),
        ("JSON, flattened", json!({"payload": body, "protected": head, "signature": mac}).to_string()),
        ("claims of somebody else", format!("{head}.{bob}.{mac}")),
        ("another header", format!("{bare}.{body}.{mac}")),
        ("header and claims that change places", format!("{body}.{head}.{mac}")),
        ("a header twice", format!("{head}.{head}.{mac}")),
        ("the claims as the signature", format!("{head}.{body}.{body}")),
        ("padding after the header", format!("{head}=.{body}.{mac}")),
        ("padding after the claims", format!("{head}.{body}=.{mac}")),
        ("padding after the signature", format!("{head}.{body}.{mac}=")),
        ("padding alone", "=.=.=".to_owned()),
        ("a blank before", format!(" {token}")),
        ("a blank after", format!("{token} ")),
        ("a line end after", format!("{token}\n")),
        ("a line end inside", format!("{head}.\n{body}.{mac}")),
        ("a tab inside", format!("{head}.{body}\t.{mac}")),
        ("a NUL after", format!("{token}\0")),
        ("a NUL inside", format!("{head}\0.{body}.{mac}")),
        ("the standard alphabet in the header", format!("{head}+/.{body}.{mac}")),
        ("the standard alphabet in the claims", format!("{head}.{body}+/.{mac}")),
        ("the standard alphabet in the signature", format!("{head}.{body}.+/{}", &mac[2..])),
        ("letters that look alike", format!("{}.{body}.{mac}", head.replacen('e', "\u{435}", 1))),
        ("wide letters", format!("{head}.{body}.\u{ff21}{}", &mac[1..])),
        ("percent-encoding", token.replace('.', "%2e")),
        ("a quoted token", format!("\"{token}\"")),
        ("a scheme before", format!("Bearer {token}")),
        ("a list", format!("{token},{token}")),
        ("bits left over", with_bits_left_over(head, body, mac)),
        ("a header of binary", format!("{}.{body}.{mac}", encode(&[0xff; 30]))),
        ("a large token", large()),
    ];
    texts.into_iter().map(|(what, text)| bad(format!("a token that is {what}"), text)).collect()
}

/// The last letter of 32 bytes has two bits that mean nothing and must be 0: RFC 4648 section 3.5.
fn with_bits_left_over(head: &str, body: &str, mac: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (most, last) = mac.split_at(mac.len() - 1);
    let at = LETTERS.iter().position(|letter| *letter == last.as_bytes()[0]).unwrap();
    format!("{head}.{body}.{most}{}", char::from(LETTERS[at | 1]))
}

/// One byte, and a little, over the 8 KiB that are looked at.
fn large() -> String {
    let claims = |pad: usize| format!(r#"{{"sub":"ann","exp":4102444800,"x":"{}"}}"#, "x".repeat(pad));
    let token = |pad| signed(Algorithm::Hs256, &header(Algorithm::Hs256), &claims(pad));
    (6000..).map(token).find(|token| token.len() > 8 << 10).unwrap()
}
