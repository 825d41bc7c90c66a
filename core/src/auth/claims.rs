//! What a token's header and claims must say, checked by us against a time we are given.

use std::time::Duration;

use super::json::{Fault, Json, Object, parse};
use super::{AuthError, ClaimRules, Grant, Scopes};
use crate::id::{TokenId, UserId};
use crate::time::UnixTime;

type Checked<T> = Result<T, AuthError>;

/// What a header says of how the token is to be verified. Everything else in it is the signer's own.
#[cfg(feature = "_signatures")]
pub(super) struct Header {
    pub(super) algorithm: super::Algorithm,
    pub(super) kid: Option<String>,
}

/// Reads a token's header: `alg` is one that is known, and nothing must be understood that is not.
#[cfg(feature = "_signatures")]
pub(super) fn read_header(json: &[u8]) -> Checked<Header> {
    let header = parse(json).map_err(|fault| {
        AuthError::Invalid(match fault {
            Fault::NotAnObject => "the header is not a JSON object",
            Fault::Duplicate => "the header has a name twice",
            Fault::TooDeep => "the header nests too deep",
        })
    })?;
    // No extension is understood, so none may be critical. RFC 7515 section 4.1.11.
    if header.contains_key("crit") {
        return invalid("the header has `crit`");
    }
    // Without `crit` it would be ignored, and other claims be read than were signed. RFC 7797 section 6.
    if header.contains_key("b64") {
        return invalid("the header has `b64`");
    }
    text(&header, "typ", "the header's `typ` is not a string")?;
    text(&header, "cty", "the header's `cty` is not a string")?;
    let kid = text(&header, "kid", "the header's `kid` is not a string")?.map(str::to_owned);
    let Some(alg) = text(&header, "alg", "the header's `alg` is not a string")? else {
        return invalid("the header has no `alg`");
    };
    let algorithm =
        super::Algorithm::from_name(alg).ok_or(AuthError::Invalid("the header's `alg` is none that is known"))?;
    Ok(Header { algorithm, kid })
}

/// Checks the claims of a token whose signature holds. `exp` comes last, so that "expired" says that all else holds.
pub(super) fn check_claims(json: &[u8], rules: &ClaimRules, now: UnixTime) -> Checked<Grant> {
    let claims = parse(json).map_err(|fault| {
        AuthError::Invalid(match fault {
            Fault::NotAnObject => "the claims are not a JSON object",
            Fault::Duplicate => "the claims have a name twice",
            Fault::TooDeep => "the claims nest too deep",
        })
    })?;
    check_issuer(&claims, rules)?;
    check_audience(&claims, rules)?;
    let user = user(&claims)?;
    let token_id = token_id(&claims)?;
    let scope = text(&claims, "scope", "claim `scope` is not a string")?.unwrap_or_default();
    let scopes = Scopes::parse(scope, &user).map_err(|_| AuthError::Invalid("claim `scope` has too many words"))?;
    let (issued_at, expires) = check_times(&claims, rules.leeway, now)?;
    Ok(Grant { user, issued_at, expires, token_id, scopes })
}

fn check_issuer(claims: &Object<'_>, rules: &ClaimRules) -> Checked<()> {
    let named = text(claims, "iss", "claim `iss` is not a string")?;
    match (&rules.issuer, named) {
        (None, _) => Ok(()),
        (Some(_), None) => invalid("claim `iss` is missing"),
        (Some(wanted), Some(named)) if wanted == named => Ok(()),
        (Some(_), Some(_)) => invalid("claim `iss` names another issuer"),
    }
}

fn check_audience(claims: &Object<'_>, rules: &ClaimRules) -> Checked<()> {
    const KIND: &str = "claim `aud` is neither a string nor a list of strings";
    let named = match claims.get("aud") {
        None => Vec::new(),
        Some(Json::Text(one)) => vec![one.as_ref()],
        Some(Json::List(list)) => list.iter().map(as_text).collect::<Option<_>>().ok_or(AuthError::Invalid(KIND))?,
        Some(Json::Unsigned(_) | Json::Float(_) | Json::Object(_) | Json::Other) => return invalid(KIND),
    };
    match &rules.audience {
        None => Ok(()),
        Some(wanted) if named.contains(&wanted.as_str()) => Ok(()),
        Some(_) if named.is_empty() => invalid("claim `aud` is missing"),
        Some(_) => invalid("claim `aud` names another audience"),
    }
}

fn user(claims: &Object<'_>) -> Checked<UserId> {
    let Some(sub) = text(claims, "sub", "claim `sub` is not a string")? else {
        return invalid("claim `sub` is missing");
    };
    let tenant = text(claims, "tenant", "claim `tenant` is not a string")?;
    UserId::new(tenant, sub)
        .map_err(|_| AuthError::Invalid("claim `sub` or `tenant` is empty, too long, or has control characters"))
}

/// What could not be named later could not be revoked.
fn token_id(claims: &Object<'_>) -> Checked<Option<TokenId>> {
    let id = text(claims, "jti", "claim `jti` is not a string")?.map(TokenId::new).transpose();
    id.map_err(|_| AuthError::Invalid("claim `jti` is empty, too long, or has control characters"))
}

fn check_times(claims: &Object<'_>, leeway: Duration, now: UnixTime) -> Checked<(Option<UnixTime>, UnixTime)> {
    let not_before = time(claims, "nbf", "claim `nbf` is not a time")?;
    let issued_at = time(claims, "iat", "claim `iat` is not a time")?;
    let expires = time(claims, "exp", "claim `exp` is not a time")?;
    let latest = now + leeway;
    if not_before.is_some_and(|start| latest < start) {
        return invalid("claim `nbf` is in the future");
    }
    if issued_at.is_some_and(|issued| latest < issued) {
        return invalid("claim `iat` is in the future");
    }
    match expires {
        None => invalid("claim `exp` is missing"),
        Some(expires) if now < expires + leeway => Ok((issued_at, expires)),
        Some(_) => Err(AuthError::Expired),
    }
}

/// A `NumericDate`: seconds since 1970, a fraction allowed. RFC 7519 section 2. Beyond the calendar it saturates.
fn time(claims: &Object<'_>, name: &str, wrong: &'static str) -> Checked<Option<UnixTime>> {
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Unsigned(secs)) => Ok(Some(UnixTime::from_secs(*secs))),
        // A cast from a float saturates.
        Some(Json::Float(secs)) if *secs >= 0.0 => Ok(Some(UnixTime::from_micros((secs * 1e6) as u64))),
        Some(Json::Float(_) | Json::Text(_) | Json::List(_) | Json::Object(_) | Json::Other) => invalid(wrong),
    }
}

fn text<'c>(object: &'c Object<'_>, name: &str, wrong: &'static str) -> Checked<Option<&'c str>> {
    object.get(name).map(|value| as_text(value).ok_or(AuthError::Invalid(wrong))).transpose()
}

fn as_text<'c>(value: &'c Json<'_>) -> Option<&'c str> {
    if let Json::Text(text) = value { Some(text) } else { None }
}

fn invalid<T>(why: &'static str) -> Checked<T> {
    Err(AuthError::Invalid(why))
}
