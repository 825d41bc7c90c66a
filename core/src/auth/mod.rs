//! Who is at the other end: tokens, where requests carry them, and what a verified one grants.
//!
//! There is one way in: a [`TokenVerifier`] turns the text of a token into a [`Grant`], or nobody is let in. It is told
//! the time and reads no clock. [`carrier::Extractor`] finds the credential in a request; no other code looks for one.
//!
//! ```
//! use std::time::Duration;
//! use trunkline_core::auth::{AuthError, ClaimRules, Hs256, NewToken, TokenVerifier};
//! use trunkline_core::id::UserId;
//! use trunkline_core::time::UnixTime;
//!
//! let keys = Hs256::new(b"a secret of at least 32 bytes ...", ClaimRules::default())?;
//! let ann = UserId::new(Some("acme"), "ann")?;
//! let now = UnixTime::from_secs(1_800_000_000);
//! let hour = Duration::from_secs(3600);
//! let token = keys.issue(&NewToken { user: &ann, issued_at: now, ttl: hour, scope: "topic:news", token_id: None })?;
//!
//! let grant = keys.verify(&token, now)?;
//! assert_eq!((grant.user, grant.expires), (ann, now + hour));
//! assert_eq!(keys.verify(&token, now + 2 * hour), Err(AuthError::Expired));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod any;
pub mod carrier;
#[cfg(any(test, feature = "_signatures"))]
mod claims;
#[cfg(any(test, feature = "_signatures"))]
mod compact;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(feature = "_signatures")]
mod hs256;
#[cfg(any(test, feature = "_signatures"))]
mod issue;
#[cfg(any(test, feature = "_signatures"))]
mod json;
#[cfg(feature = "_signatures")]
mod keys;
mod origin;
mod scopes;
pub mod source;
#[cfg(all(test, feature = "_signatures"))]
mod tests;
mod tickets;

use std::time::Duration;

pub use access::{Access, AccessError, CookieName, ForbiddenOrigin, Page};
pub use any::AnyOf;
pub use carrier::{Carrier, CarrierError, Credential, Extracted, Extractor, Subprotocol, Token};
#[cfg(feature = "_signatures")]
pub use hs256::{Hs256, MIN_HS256_KEY_BYTES};
#[cfg(any(test, feature = "_signatures"))]
pub use issue::{IssueError, NewToken};
#[cfg(feature = "_signatures")]
pub use keys::{
    Algorithm, Key, KeyError, KeySet, KeySetError, MAX_JWKS_BYTES, MAX_KEYS, MAX_KID_BYTES, PassedOver, RotatingKeys,
};
pub use origin::{Origin, OriginError};
pub use scopes::{MAX_SCOPES, Scopes, TooManyScopes};

pub use tickets::Ticket;
pub(crate) use tickets::{Bounds as TicketBounds, Full as TicketsFull, Tickets};

use crate::id::{TokenId, UserId};
use crate::time::UnixTime;

/// What a verified token grants, to whom, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// `(tenant, sub)`, both from the token.
    pub user: UserId,
    /// The token's `iat`, where it has one: what is revoked up to a time goes by it.
    pub issued_at: Option<UnixTime>,
    /// The token's `exp` as it stands there: the verifier's leeway is not added.
    pub expires: UnixTime,
    /// The token's `jti`, by which it can be revoked.
    pub token_id: Option<TokenId>,
    /// What the user may do beyond its own stream.
    pub scopes: Scopes,
}

impl Grant {
    /// Whether it speaks for whoever runs the server: the scope `admin` of a token that names no tenant. The admin of a tenant
    /// looks at nothing of others, and orders nothing for them.
    pub fn is_operator(&self) -> bool {
        is_operator(&self.scopes, &self.user)
    }
}

/// As [`Grant::is_operator`], of its parts.
pub(crate) fn is_operator(scopes: &Scopes, user: &UserId) -> bool {
    scopes.is_admin() && user.tenant().as_str().is_none()
}

/// Why a token lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Signature and every other claim hold, but `exp` and the leeway have passed.
    #[error("the token has expired")]
    Expired,
    /// Signature and claims hold, but the token, or its user, was revoked.
    #[error("the token was revoked")]
    Revoked,
    /// Nobody can tell yet: the key that the token names is not known, and newer keys are on their way. The peer may try again.
    #[error("the key that the token names is not known yet")]
    Undecided,
    /// Anything else. The text is for the operator's log and names what was wrong, never a part of the token; peers are
    /// told the same in every case.
    #[error("the token does not hold: {0}")]
    Invalid(&'static str),
}

/// Decides about tokens. The one way to become a user.
pub trait TokenVerifier: Send + Sync {
    /// Checks signature and claims at the time `now`. Pure: the same token at the same time has the same answer.
    ///
    /// # Errors
    /// When the token does not hold. It never panics, whatever the text.
    fn verify(&self, token: &str, now: UnixTime) -> Result<Grant, AuthError>;
}

/// What a token must say, beside being signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRules {
    /// How far the issuer's clock may be off: `exp` counts that much later, `nbf` and `iat` that much earlier. 5 s.
    pub leeway: Duration,
    /// When set, `iss` must be there and be this text, byte for byte. RFC 7519 section 4.1.1.
    pub issuer: Option<String>,
    /// When set, `aud` must be there and be this text or a list that holds it. RFC 7519 section 4.1.3.
    pub audience: Option<String>,
    /// The longest token that is looked at, in bytes. 8 KiB.
    pub max_token_bytes: usize,
}

impl Default for ClaimRules {
    fn default() -> Self {
        Self { leeway: Duration::from_secs(5), issuer: None, audience: None, max_token_bytes: 8 << 10 }
    }
}
