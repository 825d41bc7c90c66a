//! Close reasons and error codes: one table each, where the range of a close code is the client's next action.

use std::fmt;

/// What a client does about a close code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NextAction {
    /// Nothing: the conversation is over.
    Nothing,
    /// Connects again with back-off and resumes.
    Retry,
    /// Connects again, much later.
    RetryLater,
    /// Gets a new token, then connects again.
    NewToken,
    /// Connects again without its position.
    RetryAfresh,
    /// Stops: the same request would be refused again.
    Stop,
}

impl NextAction {
    /// What to do about a code from the wire. One that the table does not have has the action of its range; outside the
    /// ranges, and for 1005, where the frame had no code, that is to try again, as after a loss.
    pub const fn for_code(code: u16) -> Self {
        match (CloseReason::from_code(code), code) {
            (Some(reason), _) => reason.next_action(),
            (None, 4100..=4199) => Self::RetryLater,
            (None, 4200..=4299) => Self::NewToken,
            (None, 4300..=4399) => Self::RetryAfresh,
            (None, 4400..=4499) => Self::Stop,
            (None, _) => Self::Retry,
        }
    }
}

macro_rules! close_reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $next:ident;)*) => {
        /// Why a socket closes, as RFC 6455 section 7.4 and this protocol's own ranges name it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CloseReason { $($(#[$doc])* $name,)* }

        impl CloseReason {
            /// Every reason, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The status code on the wire.
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The name that stands as the close frame's text.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What a client does next.
            pub const fn next_action(self) -> NextAction {
                match self { $(Self::$name => NextAction::$next,)* }
            }

            /// The reason with this code, if the protocol has one.
            pub const fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

close_reasons! {
    /// Either side is done.
    Normal = 1000, "normal", Nothing;
    /// The server goes away; another may take over.
    GoingAway = 1001, "going_away", Retry;
    /// The peer broke RFC 6455.
    ProtocolError = 1002, "protocol_error", Stop;
    /// A binary message: frames are text.
    Unsupported = 1003, "unsupported_data", Stop;
    /// Text that is not UTF-8, or a compressed message that cannot be inflated.
    InvalidPayload = 1007, "invalid_payload", Stop;
    /// A message over the limit.
    TooBig = 1009, "message_too_big", Stop;
    /// A fault of the server.
    Internal = 1011, "internal_error", Retry;
    /// The server restarts.
    Restart = 1012, "service_restart", Retry;
    /// The server has no room now, or not yet the key that tells whether the token holds.
    TryAgainLater = 1013, "try_again_later", Retry;
    /// The socket took nothing for the write-stall deadline, or control frames overflowed.
    WriteStalled = 4001, "write_stalled", Retry;
    /// Messages came faster than the limit.
    RateLimited = 4002, "rate_limited", Retry;
    /// No application message for the idle deadline.
    IdleTimeout = 4003, "idle_timeout", Retry;
    /// Nothing came after a ping.
    HeartbeatTimeout = 4004, "heartbeat_timeout", Retry;
    /// An operator ended the connection.
    Disconnected = 4005, "disconnected", Retry;
    /// No `hello` in time.
    HelloTimeout = 4040, "hello_timeout", Retry;
    /// Made room for others.
    Evicted = 4100, "evicted_for_capacity", RetryLater;
    /// The token's `exp` has passed.
    TokenExpired = 4200, "token_expired", NewToken;
    /// The token was revoked.
    TokenRevoked = 4201, "token_revoked", NewToken;
    /// Reserved for a position that means nothing any more: what is lost is told in frames, and this core never closes with it.
    SessionReset = 4300, "session_reset", RetryAfresh;
    /// No credentials, or none that hold.
    BadCredentials = 4400, "bad_credentials", Stop;
    /// Verified, but not allowed.
    Forbidden = 4403, "forbidden", Stop;
    /// A newer socket resumed the same session.
    Superseded = 4409, "superseded", Stop;
    /// The user has as many connections as allowed.
    TooManyConnections = 4410, "too_many_connections", Stop;
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code(), self.name())
    }
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $temporary:literal;)*) => {
        /// `error.code` in a reply or an `error` frame. The connection stays up in every case.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code, in the order of the specification.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it stands in frames.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether the same request may succeed later.
            pub const fn is_temporary(self) -> bool {
                match self { $(Self::$name => $temporary,)* }
            }

            /// The code with this text, if the protocol has one.
            pub fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

error_codes! {
    /// Not JSON, not an object, a key twice, nested too deep, or no `type`.
    Malformed = "malformed", false;
    /// A `type` this server does not know.
    UnknownType = "unknown_type", false;
    /// A field is missing, of the wrong kind, or out of bounds.
    Invalid = "invalid", false;
    /// A frame that has no place now, such as a second `hello`.
    Unexpected = "unexpected", false;
    /// A `user_id` in the frame that is not the verified one.
    IdentityMismatch = "identity_mismatch", false;
    /// Not there, or not this token's to see: the two are alike.
    NotFound = "not_found", false;
    /// The operation is not offered here.
    Unsupported = "unsupported", false;
    /// The event breaks the order of its run.
    RunOrder = "run_order", false;
    /// The run has ended.
    RunEnded = "run_ended", false;
    /// The run is another producer's, which is there.
    RunTaken = "run_taken", true;
    /// Another decision came first.
    AlreadyDecided = "already_decided", false;
    /// A repeat of what was answered before, where the answer is not kept any more.
    AlreadyAnswered = "already_answered", false;
    /// The event, or the application's answer, is over the size limit.
    TooLarge = "too_large", false;
    /// A refresh with a token that does not hold, or is another user's.
    RefreshRefused = "refresh_refused", false;
    /// The user has as many open runs as allowed.
    TooManyRuns = "too_many_runs", true;
    /// The connection follows as many topics as allowed.
    TooManySubscriptions = "too_many_subscriptions", false;
    /// The application refused the request; the message says why.
    Refused = "refused", false;
    /// No application answered in time, or none is there; or the key that tells whether the new token holds is not there yet.
    Unavailable = "unavailable", true;
    /// Too many requests wait already, or another refresh is being looked at.
    Busy = "busy", true;
    /// The server shuts down.
    Draining = "draining", true;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_are_unique_legal_and_in_the_range_of_their_action() {
        let mut last = 0;
        for reason in CloseReason::ALL {
            let code = reason.code();
            assert!(code > last, "{reason} is out of order or there twice");
            last = code;
            assert_eq!(CloseReason::from_code(code), Some(*reason));
            assert!(!matches!(code, 1004 | 1005 | 1006 | 1015), "{reason} must never be on the wire");
            let by_range = match code {
                4000..=4099 => Some(NextAction::Retry),
                4100..=4199 => Some(NextAction::RetryLater),
                4200..=4299 => Some(NextAction::NewToken),
                4300..=4399 => Some(NextAction::RetryAfresh),
                4400..=4499 => Some(NextAction::Stop),
                1000..=1014 => None,
                other => panic!("{other} is in no range"),
            };
            assert!(by_range.is_none_or(|action| action == reason.next_action()), "{reason}");
            assert!(reason.name().len() <= 123, "a close frame holds 125 bytes");
        }
    }

    #[test]
    fn a_code_has_the_action_of_the_table_or_of_its_range() {
        for reason in CloseReason::ALL {
            assert_eq!(NextAction::for_code(reason.code()), reason.next_action());
        }
        let unknown = [(4099, NextAction::Retry), (4199, NextAction::RetryLater), (4299, NextAction::NewToken)];
        let more = [(4399, NextAction::RetryAfresh), (4499, NextAction::Stop), (1005, NextAction::Retry)];
        for (code, action) in unknown.into_iter().chain(more).chain([(3000, NextAction::Retry)]) {
            assert_eq!(NextAction::for_code(code), action, "{code}");
        }
    }

    #[test]
    fn error_codes_round_trip() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_text(code.as_str()), Some(*code));
        }
        assert_eq!(ErrorCode::from_text("nope"), None);
    }
}
