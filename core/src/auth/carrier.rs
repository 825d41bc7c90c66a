//! Where a request carries its credential: the one extractor, for every spelling.

mod spelling;
#[cfg(test)]
mod tests;

use std::fmt;

use super::access::CookieName;
use super::tickets::Ticket;
pub(crate) use spelling::percent_decoded;
use spelling::{bearer, cookie, either_form, offered_token, parameter};

/// How many subprotocols one request may offer, how many `Authorization` lines it may have, and how many parameters beside
/// or before a ticket.
pub const MAX_ENTRIES: usize = 32;
/// How many cookies one request may bring: more than browsers keep for a site, whoever set them.
pub const MAX_COOKIES: usize = 256;

/// This protocol's name in `Sec-WebSocket-Protocol`.
pub const TRUNKLINE_V1: &str = "trunkline.v1";
/// The name by which older clients ask for the legacy profile.
pub const JWT_AUTH: &str = "jwt-auth";
/// The parameter of the query that holds a ticket. No other is read.
pub const TICKET: &str = "ticket";

/// How a credential came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// `Authorization: Bearer <JWT>`, RFC 6750 section 2.1. Its user can read an HTTP status.
    Authorization,
    /// An entry of `Sec-WebSocket-Protocol`: all that a browser lets a page set.
    Subprotocol,
    /// A cookie, which a browser adds by itself: RFC 6265.
    Cookie,
    /// A one-time ticket in the query.
    Ticket,
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

/// What says who asks, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// For the verifier.
    Token(Token),
    /// For the hub that issued it.
    Ticket(Ticket),
}

/// What the answer to an upgrade names in `Sec-WebSocket-Protocol`; never a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Subprotocol {
    /// `trunkline.v1`, whatever else was offered.
    TrunklineV1,
    /// `jwt-auth` was offered by that very name, and `trunkline.v1` was not: the legacy profile.
    JwtAuth,
    /// Neither: the answer has no such line.
    #[default]
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

/// What a request says about who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// The credential and how it came; the first of [`Extractor`]'s carriers where it came by several.
    pub credential: Option<(Credential, Carrier)>,
    /// What the answer names.
    pub subprotocol: Subprotocol,
}

impl Extracted {
    /// The credential to verify once the first frame is there too: the request's where both carry the same.
    ///
    /// # Errors
    /// When the frame's token is not one, or the request's credential is another. A ticket is never the same as a token.
    pub fn with_hello(self, token: Option<&str>) -> Result<Option<(Credential, Carrier)>, CarrierError> {
        let mut found = Found(self.credential);
        if let Some(text) = token {
            found.token(Token::parse(text).ok_or(CarrierError::Malformed(Carrier::Hello))?, Carrier::Hello)?;
        }
        Ok(found.0)
    }
}

/// Why a request is refused before any credential is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarrierError {
    /// Two different credentials: nobody can say which one is meant.
    #[error("the request carries two different credentials")]
    Disagree,
    /// The carrier holds no credential in the form it demands.
    #[error("{} is malformed", name(*.0))]
    Malformed(Carrier),
    /// Over [`MAX_ENTRIES`] or [`MAX_COOKIES`].
    #[error("{} has too many entries", name(*.0))]
    TooMany(Carrier),
}

/// Finds the credential in all that a request may carry one in; a carrier that is off is not asked for here. The same token any
/// number of times, by whatever carriers, is one token. A ticket stands alone: beside a token, or a second one, it is refused.
///
/// ```
/// use trunkline_core::auth::carrier::{Carrier, Credential, Extractor, Subprotocol};
/// let found = Extractor::default().protocols([&b"trunkline.v1, bearer.aa.bb.cc"[..]].into_iter())?.finish();
/// let Some((Credential::Token(token), carrier)) = found.credential else { panic!("there is one") };
/// assert_eq!((token.as_str(), carrier), ("aa.bb.cc", Carrier::Subprotocol));
/// assert_eq!(found.subprotocol, Subprotocol::TrunklineV1);
/// assert_eq!(format!("{token:?}"), "Token(..)");
/// # Ok::<(), trunkline_core::auth::CarrierError>(())
/// ```
#[derive(Debug, Default)]
pub struct Extractor {
    found: Found,
    subprotocol: Subprotocol,
}

impl Extractor {
    /// The values of all `Authorization` lines: each is `Bearer` and one token.
    ///
    /// # Errors
    /// When one is anything else, there are too many, or two tokens differ.
    pub fn authorization<'a>(mut self, lines: impl Iterator<Item = &'a [u8]>) -> Result<Self, CarrierError> {
        for (index, line) in lines.enumerate() {
            within(MAX_ENTRIES, index, Carrier::Authorization)?;
            let token = bearer(line).ok_or(CarrierError::Malformed(Carrier::Authorization))?;
            self.found.token(token, Carrier::Authorization)?;
        }
        Ok(self)
    }

    /// The values of all `Sec-WebSocket-Protocol` lines. The spellings are `bearer.<T>`, `jwt.<T>` and `jwt-auth.<T>`, where
    /// `<T>` is the JWT, or its base64url with or without padding. An entry that is none of them is some other protocol's name
    /// and is passed over.
    ///
    /// # Errors
    /// When two tokens differ, or there are too many entries.
    pub fn protocols<'a>(mut self, lines: impl Iterator<Item = &'a [u8]>) -> Result<Self, CarrierError> {
        for (index, entry) in lines.flat_map(|line| line.split(|byte| *byte == b',')).enumerate() {
            within(MAX_ENTRIES, index, Carrier::Subprotocol)?;
            match Entry::of(entry) {
                Entry::TrunklineV1 => self.subprotocol = Subprotocol::TrunklineV1,
                Entry::JwtAuth if self.subprotocol == Subprotocol::None => self.subprotocol = Subprotocol::JwtAuth,
                Entry::Token(token) => self.found.token(token, Carrier::Subprotocol)?,
                Entry::JwtAuth | Entry::Other => {}
            }
        }
        Ok(self)
    }

    /// The values of all `Cookie` lines. The cookie's value is the JWT or its base64url, in quotes or not; one of the name
    /// that is neither is passed over, as every other cookie is.
    ///
    /// # Errors
    /// When two tokens differ, or there are too many cookies.
    pub fn cookies<'a>(
        mut self,
        name: &CookieName,
        lines: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, CarrierError> {
        for (index, pair) in lines.flat_map(|line| line.split(|byte| *byte == b';')).enumerate() {
            within(MAX_COOKIES, index, Carrier::Cookie)?;
            if let Some(token) = cookie(pair, name.as_str()).and_then(either_form) {
                self.found.token(token, Carrier::Cookie)?;
            }
        }
        Ok(self)
    }

    /// The query of the request's target: its [`TICKET`], percent-encoded or not.
    ///
    /// # Errors
    /// When that is no ticket, stands twice, or is beside a token; and when there are too many parameters.
    pub fn query(mut self, query: &str) -> Result<Self, CarrierError> {
        let mut seen = false;
        for (index, text) in query.split('&').enumerate() {
            within(MAX_ENTRIES, index, Carrier::Ticket)?;
            let Some(value) = parameter(text, TICKET) else { continue };
            let ticket = percent_decoded(value).and_then(|text| Ticket::parse(&text)).filter(|_| !seen);
            let ticket = ticket.ok_or(CarrierError::Malformed(Carrier::Ticket))?;
            self.found.add(Credential::Ticket(ticket), Carrier::Ticket)?;
            seen = true;
        }
        Ok(self)
    }

    /// What was found.
    pub fn finish(self) -> Extracted {
        Extracted { credential: self.found.0, subprotocol: self.subprotocol }
    }
}

/// The credential so far; the first carrier keeps it.
#[derive(Debug, Default)]
struct Found(Option<(Credential, Carrier)>);

impl Found {
    fn token(&mut self, token: Token, carrier: Carrier) -> Result<(), CarrierError> {
        self.add(Credential::Token(token), carrier)
    }

    fn add(&mut self, credential: Credential, carrier: Carrier) -> Result<(), CarrierError> {
        match &self.0 {
            None => self.0 = Some((credential, carrier)),
            Some((before, _)) if *before == credential => {}
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
            other => offered_token(other).map_or(Self::Other, Self::Token),
        }
    }
}

fn within(max: usize, index: usize, carrier: Carrier) -> Result<(), CarrierError> {
    if index < max { Ok(()) } else { Err(CarrierError::TooMany(carrier)) }
}

fn name(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::Authorization => "`Authorization`",
        Carrier::Subprotocol => "`Sec-WebSocket-Protocol`",
        Carrier::Cookie => "`Cookie`",
        Carrier::Ticket => "the query",
        Carrier::Hello => "the token of `hello`",
    }
}
