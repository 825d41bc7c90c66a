//! How a credential is spelled in each of its places.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Token;

/// The token of an offered subprotocol, where it is one that carries a token.
pub(super) fn offered_token(entry: &str) -> Option<Token> {
    either_form(["bearer.", "jwt.", "jwt-auth."].iter().find_map(|prefix| entry.strip_prefix(prefix))?)
}

/// A JWT, or its base64url. A JWT has dots and base64url has none, so a text is at most one of the two.
pub(super) fn either_form(text: &str) -> Option<Token> {
    Token::parse(text).or_else(|| {
        let decoded = BASE64URL.decode(text).ok()?;
        Token::parse(std::str::from_utf8(&decoded).ok()?)
    })
}

/// Clients differ in whether they pad; the standard library of many languages does.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `Bearer`, in any case (RFC 9110 section 11.1), spaces, and the token.
pub(super) fn bearer(line: &[u8]) -> Option<Token> {
    let line = std::str::from_utf8(line).ok()?.trim_matches([' ', '\t']);
    let (scheme, token) = line.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Token::parse(token.trim_start_matches(' ')))?
}

/// The value of a cookie of exactly this name, without quotes around it: RFC 6265 section 4.1.1.
pub(super) fn cookie<'a>(pair: &'a [u8], name: &str) -> Option<&'a str> {
    let (key, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
    let value = value.trim_matches([' ', '\t']);
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    (key.trim_matches([' ', '\t']) == name).then_some(unquoted.unwrap_or(value))
}

/// The value of a parameter of this name, still encoded.
pub(super) fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (percent_decoded(key)? == name).then_some(value)
}

/// RFC 3986 section 2.1, once; a `+` is a plus.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        // Two digits: below 256.
        out.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(out).ok()
}
