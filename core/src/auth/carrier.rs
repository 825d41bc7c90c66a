//! Where a request carries its token: the one extractor, for every spelling.

use std::fmt;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// How many subprotocols one request may offer, and how many `Authorization` lines it may have.
pub const MAX_ENTRIES: usize = 32;

/// This protocol's name in `Sec-WebSocket-Protocol`.
pub const TRUNKLINE_V1: &str = "trunkline.v1";
/// The name by which older clients ask for the legacy profile.
pub const JWT_AUTH: &str = "jwt-auth";

/// How a token came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// `Authorization: Bearer <JWT>`, RFC 6750 section 2.1. Its user can read an HTTP status.
    Authorization,
    /// An entry of `Sec-WebSocket-Protocol`: all that a browser lets a page set.
    Subprotocol,
    /// The first frame's `token`.
    Hello,
}

/// The text of a token, in the form `a.b.c` and not yet verified. It can only be read on purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// The token that `text` is, when it has the form of one: three non-empty parts of base64url.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = 0;
        for part in text.split('.') {
            let plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            if part.is_empty() || !plain {
                return None;
            }
            parts += 1;
        }
        (parts == 3).then(|| Self(text.into()))
    }

    /// The secret itself: for a verifier, never for a log.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What the answer to an upgrade names in `Sec-WebSocket-Protocol`; never a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subprotocol {
    /// `trunkline.v1`, whatever else was offered.
    TrunklineV1,
    /// `jwt-auth` was offered by that very name, and `trunkline.v1` was not: the legacy profile.
    JwtAuth,
    /// Neither: the answer has no such line.
    None,
}

impl Subprotocol {
    /// As it stands in the answer.
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::TrunklineV1 => Some(TRUNKLINE_V1),
            Self::JwtAuth => Some(JWT_AUTH),
            Self::None => None,
        }
    }
}

/// What a request's headers say about who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extracted {
    /// The token and how it came; `Authorization` where it came both ways.
    pub token: Option<(Token, Carrier)>,
    /// What the answer names.
    pub subprotocol: Subprotocol,
}

impl Extracted {
    /// The token to verify once the first frame is there too: the headers' where both carry the same.
    ///
    /// # Errors
    /// When the frame's token is not one, or is another than the headers'.
    pub fn with_hello(self, token: Option<&str>) -> Result<Option<(Token, Carrier)>, CarrierError> {
        let mut found = Found(self.token);
        if let Some(text) = token {
            found.add(Token::parse(text).ok_or(CarrierError::Malformed(Carrier::Hello))?, Carrier::Hello)?;
        }
        Ok(found.0)
    }
}

/// Why a request is refused before any token is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarrierError {
    /// Two different tokens: nobody can say which one is meant.
    #[error("the request carries two different tokens")]
    Disagree,
    /// The carrier holds no token in the form it demands.
    #[error("{} is malformed", name(*.0))]
    Malformed(Carrier),
    /// Over [`MAX_ENTRIES`].
    #[error("{} has too many entries", name(*.0))]
    TooMany(Carrier),
}

/// Finds the token and the protocol in the values of all `Sec-WebSocket-Protocol` and all `Authorization` lines.
///
/// The subprotocol's spellings are `bearer.<T>`, `jwt.<T>` and `jwt-auth.<T>`, where `<T>` is the JWT, or its base64url
/// with or without padding. An entry that is none of them is some other protocol's name and is passed over. The same
/// token any number of times is one token.
///
/// ```
/// use trunkline_core::auth::carrier::{Carrier, Subprotocol, extract};
/// let found = extract([&b"trunkline.v1, bearer.aa.bb.cc"[..]].into_iter(), [].into_iter())?;
/// let (token, carrier) = found.token.expect("there is one");
/// assert_eq!((token.as_str(), carrier), ("aa.bb.cc", Carrier::Subprotocol));
/// assert_eq!(found.subprotocol, Subprotocol::TrunklineV1);
/// assert_eq!(format!("{token:?}"), "Token(..)");
/// # Ok::<(), trunkline_core::auth::CarrierError>(())
/// ```
///
/// # Errors
/// When two tokens differ, when an `Authorization` line is not one `Bearer` token, or when there are too many entries.
pub fn extract<'a>(
    protocol_lines: impl Iterator<Item = &'a [u8]>,
    authorization_lines: impl Iterator<Item = &'a [u8]>,
) -> Result<Extracted, CarrierError> {
    let mut found = Found(None);
    for (index, line) in authorization_lines.enumerate() {
        within_bound(index, Carrier::Authorization)?;
        found.add(bearer(line).ok_or(CarrierError::Malformed(Carrier::Authorization))?, Carrier::Authorization)?;
    }
    let mut subprotocol = Subprotocol::None;
    for (index, entry) in protocol_lines.flat_map(|line| line.split(|byte| *byte == b',')).enumerate() {
        within_bound(index, Carrier::Subprotocol)?;
        match Entry::of(entry) {
            Entry::TrunklineV1 => subprotocol = Subprotocol::TrunklineV1,
            Entry::JwtAuth if subprotocol == Subprotocol::None => subprotocol = Subprotocol::JwtAuth,
            Entry::Token(token) => found.add(token, Carrier::Subprotocol)?,
            Entry::JwtAuth | Entry::Other => {}
        }
    }
    Ok(Extracted { token: found.0, subprotocol })
}

/// The token so far; the first carrier keeps it.
struct Found(Option<(Token, Carrier)>);

impl Found {
    fn add(&mut self, token: Token, carrier: Carrier) -> Result<(), CarrierError> {
        match &self.0 {
            None => self.0 = Some((token, carrier)),
            Some((before, _)) if *before == token => {}
            Some(_) => return Err(CarrierError::Disagree),
        }
        Ok(())
    }
}

/// One subprotocol that a client offers.
enum Entry {
    TrunklineV1,
    JwtAuth,
    Token(Token),
    Other,
}

impl Entry {
    fn of(entry: &[u8]) -> Self {
        let Ok(entry) = std::str::from_utf8(entry) else { return Self::Other };
        match entry.trim_matches([' ', '\t']) {
            TRUNKLINE_V1 => Self::TrunklineV1,
            JWT_AUTH => Self::JwtAuth,
            other => spelled_token(other).map_or(Self::Other, Self::Token),
        }
    }
}

fn spelled_token(entry: &str) -> Option<Token> {
    let text = ["bearer.", "jwt.", "jwt-auth."].iter().find_map(|prefix| entry.strip_prefix(prefix))?;
    // A JWT has dots and base64url has none, so a text is at most one of the two.
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
fn bearer(line: &[u8]) -> Option<Token> {
    let line = std::str::from_utf8(line).ok()?.trim_matches([' ', '\t']);
    let (scheme, token) = line.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Token::parse(token.trim_start_matches(' ')))?
}

fn within_bound(index: usize, carrier: Carrier) -> Result<(), CarrierError> {
    if index < MAX_ENTRIES { Ok(()) } else { Err(CarrierError::TooMany(carrier)) }
}

fn name(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::Authorization => "`Authorization`",
        Carrier::Subprotocol => "`Sec-WebSocket-Protocol`",
        Carrier::Hello => "the token of `hello`",
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{URL_SAFE as PADDED, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    // Of a length whose base64 needs padding.
    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl-_";

    fn from(protocols: &[&str], authorizations: &[&str]) -> Result<Extracted, CarrierError> {
        extract(protocols.iter().map(|line| line.as_bytes()), authorizations.iter().map(|line| line.as_bytes()))
    }

    fn token(protocols: &[&str]) -> Option<String> {
        from(protocols, &[]).unwrap().token.map(|(token, carrier)| {
            assert_eq!(carrier, Carrier::Subprotocol);
            token.as_str().to_owned()
        })
    }

    fn spellings(jwt: &str) -> Vec<String> {
        let texts = [jwt.to_owned(), URL_SAFE_NO_PAD.encode(jwt), PADDED.encode(jwt)];
        let prefixes = ["bearer.", "jwt.", "jwt-auth."];
        prefixes.iter().flat_map(|prefix| texts.iter().map(move |text| format!("{prefix}{text}"))).collect()
    }

    #[test]
    fn every_spelling_gives_the_same_token_wherever_it_stands() {
        for entry in spellings(JWT) {
            for lines in [
                vec![entry.clone()],
                vec![format!("trunkline.v1, {entry}")],
                vec![format!("{entry},trunkline.v1")],
                vec![format!("{entry}, jwt-auth")],
                vec!["trunkline.v1".into(), format!(" \t{entry}\t ")],
                vec![format!(",, other , {entry},")],
                vec![entry.clone(), entry.clone()],
            ] {
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                assert_eq!(token(&lines).as_deref(), Some(JWT), "{lines:?}");
            }
        }
    }

    #[test]
    fn a_malformed_entry_does_not_stop_the_scan() {
        let good = format!("jwt.{}", URL_SAFE_NO_PAD.encode(JWT));
        let not_a_jwt = format!("jwt.{}", URL_SAFE_NO_PAD.encode("a.b"));
        let not_text = format!("jwt.{}", URL_SAFE_NO_PAD.encode([0xff, 0xfe]));
        let padded_wrong = format!("jwt.{}===", URL_SAFE_NO_PAD.encode(JWT));
        for bad in [
            "jwt.",
            "jwt.x",
            "jwt.a.b",
            "jwt.a.b.c.d",
            "jwt..b.c",
            "jwt.a.b.",
            "jwt.a b.c",
            "bearer",
            "bearer.",
            "jwt",
            "jwt-auth.",
            "jwt.!!!!",
            "BEARER.a.b.c",
            "bearer a.b.c",
            "xjwt.a.b.c",
            "jwt.a+b.c/d.e",
            "jwt.a=.b=.c=",
            &not_a_jwt,
            &not_text,
            &padded_wrong,
        ] {
            assert_eq!(token(&[bad]), None, "{bad}");
            assert_eq!(token(&[&format!("{bad}, {good}")]).as_deref(), Some(JWT), "{bad}");
            assert_eq!(token(&[bad, &good]).as_deref(), Some(JWT), "{bad}");
        }
        let found = extract([&b"jwt.\xff.\xff.\xff"[..], good.as_bytes()].into_iter(), [].into_iter()).unwrap();
        assert_eq!(found.token.unwrap().0.as_str(), JWT);
    }

    #[test]
    fn the_answer_names_what_was_offered_and_never_a_token() {
        let table = [
            (&["trunkline.v1, bearer.a.b.c"][..], Subprotocol::TrunklineV1),
            (&["jwt-auth, trunkline.v1"], Subprotocol::TrunklineV1),
            (&["trunkline.v1", "jwt-auth"], Subprotocol::TrunklineV1),
            (&["jwt-auth, jwt.a.b.c"], Subprotocol::JwtAuth),
            (&["jwt.a.b.c", "jwt-auth"], Subprotocol::JwtAuth),
            // A client that did not offer `jwt-auth` by name must not be answered with it: RFC 6455 section 4.1.
            (&["jwt-auth.a.b.c"], Subprotocol::None),
            (&["TRUNKLINE.V1, trunkline.v2, chat"], Subprotocol::None),
            (&[], Subprotocol::None),
        ];
        for (lines, wanted) in table {
            let found = from(lines, &["Bearer a.b.c"]).unwrap();
            assert_eq!(found.subprotocol, wanted, "{lines:?}");
            assert!(found.subprotocol.as_str().is_none_or(|name| [TRUNKLINE_V1, JWT_AUTH].contains(&name)));
        }
    }

    #[test]
    fn authorization_is_bearer_and_nothing_else() {
        for good in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c", " Bearer a.b.c\t"] {
            let (token, carrier) = from(&[], &[good]).unwrap().token.unwrap();
            assert_eq!((token.as_str(), carrier), ("a.b.c", Carrier::Authorization), "{good}");
        }
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "a.b.c",
            "Basic YTpi",
            "Bearer a.b",
            "Bearer a.b.c d",
            "Bearer a.b.c, Bearer a.b.c",
            "Bearer\ta.b.c",
            "Bearera.b.c",
            "Bearer a.b.c=",
            "Bearer \"a.b.c\"",
        ] {
            assert_eq!(from(&[], &[bad]), Err(CarrierError::Malformed(Carrier::Authorization)), "{bad}");
            let beside = from(&["trunkline.v1, bearer.a.b.c"], &[bad]);
            assert_eq!(beside, Err(CarrierError::Malformed(Carrier::Authorization)), "{bad}");
        }
        assert_eq!(from(&[], &["Basic YTpi"]).unwrap_err().to_string(), "`Authorization` is malformed");
    }

    #[test]
    fn different_tokens_are_refused_and_equal_ones_are_one() {
        assert_eq!(from(&["bearer.a.b.c, jwt.a.b.d"], &[]), Err(CarrierError::Disagree));
        assert_eq!(from(&["bearer.a.b.c", "bearer.a.b.d"], &[]), Err(CarrierError::Disagree));
        assert_eq!(from(&["bearer.a.b.c"], &["Bearer a.b.d"]), Err(CarrierError::Disagree));
        assert_eq!(from(&[], &["Bearer a.b.c", "Bearer a.b.d"]), Err(CarrierError::Disagree));
        let same = from(&["bearer.a.b.c, jwt.YS5iLmM"], &["Bearer a.b.c", "bearer a.b.c"]).unwrap();
        assert_eq!(same.token, Some((Token::parse("a.b.c").unwrap(), Carrier::Authorization)));
    }

    #[test]
    fn the_first_frame_agrees_with_the_headers_or_is_refused() {
        let bare = || from(&["trunkline.v1"], &[]).unwrap();
        let carried = || from(&["trunkline.v1, bearer.a.b.c"], &[]).unwrap();
        let a = || Token::parse("a.b.c").unwrap();
        assert_eq!(bare().with_hello(None), Ok(None));
        assert_eq!(bare().with_hello(Some("a.b.c")), Ok(Some((a(), Carrier::Hello))));
        assert_eq!(carried().with_hello(None), Ok(Some((a(), Carrier::Subprotocol))));
        assert_eq!(carried().with_hello(Some("a.b.c")), Ok(Some((a(), Carrier::Subprotocol))));
        assert_eq!(carried().with_hello(Some("a.b.d")), Err(CarrierError::Disagree));
        assert_eq!(bare().with_hello(Some("nope")), Err(CarrierError::Malformed(Carrier::Hello)));
    }

    #[test]
    fn entries_are_bounded() {
        let line = |n: usize| vec!["x"; n].join(",");
        assert!(from(&[&line(MAX_ENTRIES)], &[]).is_ok());
        assert_eq!(from(&[&line(MAX_ENTRIES + 1)], &[]), Err(CarrierError::TooMany(Carrier::Subprotocol)));
        assert_eq!(from(&[&line(MAX_ENTRIES), ""], &[]), Err(CarrierError::TooMany(Carrier::Subprotocol)));
        assert!(from(&[], &["Bearer a.b.c"; MAX_ENTRIES]).is_ok());
        let more = from(&[], &["Bearer a.b.c"; MAX_ENTRIES + 1]);
        assert_eq!(more, Err(CarrierError::TooMany(Carrier::Authorization)));
    }

    #[test]
    fn debug_shows_no_token() {
        let shown = format!("{:?}", from(&[&format!("bearer.{JWT}")], &[]).unwrap());
        assert!(shown.contains("Token(..)") && JWT.split('.').all(|part| !shown.contains(part)), "{shown}");
    }

    proptest! {
        #[test]
        fn spellings_of_one_token_are_one_token(
            jwt in "[A-Za-z0-9_-]{1,40}\\.[A-Za-z0-9_-]{1,80}\\.[A-Za-z0-9_-]{1,43}",
            picks in prop::collection::vec((0..9_usize, "[ \t]{0,2}", any::<bool>()), 1..8),
            others in prop::collection::vec("[a-z.]{0,6}", 0..4),
        ) {
            let all = spellings(&jwt);
            let mut lines = vec![others.join(",")];
            for (pick, space, new_line) in &picks {
                let entry = format!("{space}{}{space}", all[*pick]);
                if *new_line { lines.push(entry) } else { let last = lines.last_mut().unwrap(); *last += ","; *last += &entry }
            }
            prop_assume!(others.iter().all(|other| spelled_token(other).is_none()));
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(token(&lines), Some(jwt.clone()));
            let header = format!("Bearer {jwt}");
            prop_assert_eq!(from(&lines, &[&header]).unwrap().token.unwrap().1, Carrier::Authorization);
        }

        #[test]
        fn any_bytes_are_survived(
            protocols in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4),
            authorizations in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..2),
        ) {
            let _ = extract(protocols.iter().map(Vec::as_slice), authorizations.iter().map(Vec::as_slice));
        }
    }
}
