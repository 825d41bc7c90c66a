//! What a new token says.

use std::time::Duration;

use serde::Serialize;

use super::{ClaimRules, Scopes};
use crate::id::{TokenId, UserId};
use crate::time::UnixTime;

/// What a new token says. Issuer and audience are those of the [`ClaimRules`].
#[derive(Clone, Copy, Debug)]
pub struct NewToken<'a> {
    /// Whose token it is: the claims `sub` and `tenant`.
    pub user: &'a UserId,
    /// The claim `iat`, rounded down to a second.
    pub issued_at: UnixTime,
    /// From there to the claim `exp`, which is rounded up to a second.
    pub ttl: Duration,
    /// The claim `scope`, see [`Scopes`]; none when empty.
    pub scope: &'a str,
    /// The claim `jti`: 1 to [`MAX_TOKEN_ID_BYTES`](crate::id::MAX_TOKEN_ID_BYTES), no control characters.
    pub token_id: Option<&'a str>,
}

/// Why no token was made: the verifier would refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The scope has too many words.
    #[error("the scope has too many words")]
    Scope,
    /// The token's id is empty, too long, or has control characters.
    #[error("the token's id is empty, too long, or has control characters")]
    TokenId,
    /// Over [`ClaimRules::max_token_bytes`].
    #[error("the token would be too large")]
    TooLarge,
    /// The cryptographic library refused.
    #[error("the cryptographic library could not sign")]
    Signing,
}

/// The claims' JSON, where a verifier under these rules accepts it.
pub(super) fn claims_json(rules: &ClaimRules, new: &NewToken<'_>) -> Result<Vec<u8>, IssueError> {
    Scopes::parse(new.scope, new.user).map_err(|_| IssueError::Scope)?;
    new.token_id.map(TokenId::new).transpose().map_err(|_| IssueError::TokenId)?;
    serde_json::to_vec(&Claims::of(rules, new)).map_err(|_| IssueError::Signing)
}

#[derive(Serialize)]
struct Claims<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    sub: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
}

impl<'a> Claims<'a> {
    fn of(rules: &'a ClaimRules, new: &NewToken<'a>) -> Self {
        let expires = new.issued_at + new.ttl;
        Self {
            iss: rules.issuer.as_deref(),
            aud: rules.audience.as_deref(),
            tenant: new.user.tenant().as_str(),
            sub: new.user.sub(),
            iat: new.issued_at.as_secs(),
            exp: expires.as_micros().div_ceil(1_000_000),
            jti: new.token_id,
            scope: Some(new.scope).filter(|scope| !scope.is_empty()),
        }
    }
}
