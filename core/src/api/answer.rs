//! What a request is answered with, and the one table of statuses.

use std::fmt;

use bytes::Bytes;

use super::OPENAPI;
use crate::auth::AuthError;
use crate::error::{CloseReason, ErrorCode};
use crate::id::RunId;
use crate::protocol::over_http::{write_error, write_ok};
use crate::protocol::{ReplyError, ReplyOk, WireCode};

/// What whoever finds no room is told to wait, in seconds.
const RETRY_AFTER_SECS: u32 = 5;

/// An answer, to be given as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case, each once. The length of the body and the connection's are the web stack's to add.
    pub headers: Vec<(&'static str, String)>,
    /// JSON, but for `/metrics`.
    pub body: Bytes,
}

/// The status of an answer with this code.
pub const fn status(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::Malformed
        | ErrorCode::UnknownType
        | ErrorCode::Invalid
        | ErrorCode::Unexpected
        | ErrorCode::IdentityMismatch
        | ErrorCode::RefreshRefused => 400,
        ErrorCode::NotFound => 404,
        ErrorCode::Unsupported => 405,
        ErrorCode::RunOrder
        | ErrorCode::RunEnded
        | ErrorCode::RunTaken
        | ErrorCode::AlreadyDecided
        | ErrorCode::AlreadyAnswered
        | ErrorCode::TooManySubscriptions
        | ErrorCode::Refused => 409,
        ErrorCode::TooLarge => 413,
        ErrorCode::TooManyRuns | ErrorCode::Busy => 429,
        ErrorCode::Unavailable | ErrorCode::Draining => 503,
    }
}

impl Answer {
    /// The body is over [`MAX_BODY_BYTES`](super::MAX_BODY_BYTES): for a web stack that stops reading there.
    pub fn too_large() -> Self {
        let error = ReplyError::new(ErrorCode::TooLarge, "the body is over 1 MiB: send less at once");
        Self::refused(&error)
    }

    pub(super) fn openapi() -> Self {
        Self { status: 200, headers: headers(), body: Bytes::from_static(OPENAPI.as_bytes()) }
    }

    pub(super) fn of(ok: &ReplyOk) -> Self {
        Self::ok(write_ok(ok))
    }

    pub(super) fn ok(body: String) -> Self {
        Self { status: 200, headers: headers(), body: body.into() }
    }

    /// Of another type than JSON; a cache may not keep it either.
    pub(super) fn typed(status: u16, media_type: &str, body: String) -> Self {
        let headers = vec![("content-type", media_type.to_owned()), ("cache-control", "no-store".to_owned())];
        Self { status, headers, body: body.into() }
    }

    pub(super) fn refused(error: &ReplyError) -> Self {
        Self::error(status_of(&error.code), error.clone(), None)
    }

    pub(super) fn event_refused(error: &ReplyError, run: RunId, n: u64) -> Self {
        Self::error(status_of(&error.code), error.clone(), Some((run, n)))
    }

    pub(super) fn no_such_method(allowed: &[&str]) -> Self {
        let error = ReplyError::new(ErrorCode::Unsupported, "this path has other methods: `Allow` names them");
        Self::refused(&error).with("allow", allowed.join(", "))
    }

    pub(super) fn no_json() -> Self {
        let error =
            ReplyError::new(ErrorCode::Malformed, "the body must be JSON: send `Content-Type: application/json`");
        Self::error(415, error, None)
    }

    pub(super) fn no_token() -> Self {
        let code = CloseReason::BadCredentials;
        Self::unauthorized_with(code, "no token: send `Authorization: Bearer` and a token", "Bearer")
    }

    /// As RFC 6750 section 3.1 says it. Why a token does not hold is not for its bearer; that nobody can tell yet, is.
    pub(super) fn unauthorized(error: AuthError) -> Self {
        let (code, message) = match error {
            AuthError::Expired => (CloseReason::TokenExpired, "the token has expired: get a new one"),
            AuthError::Revoked => (CloseReason::TokenRevoked, "the token was revoked: get a new one"),
            AuthError::Invalid(_) => (CloseReason::BadCredentials, "the token does not hold"),
            AuthError::Undecided => {
                let message = "the token's key is not known yet: try again later";
                return Self::refused(&ReplyError::new(ErrorCode::Unavailable, message));
            }
        };
        Self::unauthorized_with(code, message, r#"Bearer error="invalid_token""#)
    }

    fn unauthorized_with(code: CloseReason, message: &str, challenge: &str) -> Self {
        let code = WireCode::Other(code.name().into());
        let error = ReplyError { code, message: message.to_owned(), temporary: false, retry_after: None };
        Self::error(401, error, None).with("www-authenticate", challenge.to_owned())
    }

    fn error(status: u16, mut error: ReplyError, refused: Option<(RunId, u64)>) -> Self {
        let waits = matches!(status, 429 | 503);
        if waits {
            error.retry_after.get_or_insert(f64::from(RETRY_AFTER_SECS));
        }
        let answer = Self { status, headers: headers(), body: write_error(&error, refused).into() };
        // Whole seconds, RFC 9110 section 10.2.3; the cast saturates.
        let seconds = error.retry_after.map(|seconds| seconds.ceil() as u32);
        match seconds.filter(|_| waits) {
            Some(seconds) => answer.with("retry-after", seconds.to_string()),
            None => answer,
        }
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

fn status_of(code: &WireCode) -> u16 {
    match code {
        WireCode::Known(code) => status(*code),
        // An application's own, which no operation here asks.
        WireCode::Other(_) => 409,
    }
}

fn headers() -> Vec<(&'static str, String)> {
    // What is said of a user is for who asked, and no cache's.
    vec![("content-type", "application/json".to_owned()), ("cache-control", "no-store".to_owned())]
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}
