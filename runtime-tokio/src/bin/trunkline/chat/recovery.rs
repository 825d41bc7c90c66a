//! What a close code asks for, and how long to wait before the next try.

use std::time::Duration;

use trunkline_core::error::{CloseReason, NextAction};

/// The first wait is below this.
const BASE: Duration = Duration::from_millis(500);
/// No wait is longer, unless the server asks for one.
const CAP: Duration = Duration::from_secs(30);
/// The longest wait that a server may ask for.
const MAX_ASKED: Duration = Duration::from_secs(120);

/// What to do after a close frame. A code that this build does not know has the action of its range.
pub(crate) fn next_action(code: u16) -> NextAction {
    match (CloseReason::from_code(code), code) {
        (Some(reason), _) => reason.next_action(),
        // 1005: a close frame without a code says no more than a lost connection.
        (None, 1005 | 4000..=4099) => NextAction::Retry,
        (None, 4100..=4199) => NextAction::RetryLater,
        (None, 4200..=4299) => NextAction::NewToken,
        (None, 4300..=4399) => NextAction::RetryAfresh,
        (None, _) => NextAction::Stop,
    }
}

/// A close frame as one line: the code, its name, and what the person may do where the program cannot go on.
pub(crate) fn describe(code: u16, text: &str) -> String {
    let named = named(code, text);
    match advice(code) {
        Some(advice) => format!("{named}: {advice}"),
        None => named,
    }
}

/// The code and its name alone, for who goes on by itself.
pub(crate) fn named(code: u16, text: &str) -> String {
    match CloseReason::from_code(code) {
        Some(reason) => format!("the server closed the connection: {reason}"),
        None => format!("the server closed the connection: {code} {text}").trim_end().to_owned(),
    }
}

fn advice(code: u16) -> Option<&'static str> {
    let special = [
        (CloseReason::BadCredentials, "this server does not take the token; get one that it does"),
        (CloseReason::Forbidden, "the token does not allow this"),
        (CloseReason::Superseded, "another connection goes on with this session"),
        (CloseReason::TooManyConnections, "close another connection of this user, then start again"),
    ];
    if let Some((_, advice)) = special.iter().find(|(reason, _)| reason.code() == code) {
        return Some(advice);
    }
    match next_action(code) {
        NextAction::NewToken => Some("get a new token, as `trunkline token` makes them, then start again"),
        NextAction::Stop => Some("the same again would be refused again"),
        NextAction::Nothing | NextAction::Retry | NextAction::RetryLater | NextAction::RetryAfresh => None,
    }
}

/// How long to wait: full jitter below a ceiling that doubles with each failure, so that clients which lost the same
/// server do not come back together. `asked` is the server's own wish, `bits` are random.
pub(crate) fn pause(failures: u32, later: bool, asked: Duration, bits: u64) -> Duration {
    let ceiling = if later { CAP } else { BASE.saturating_mul(1 << failures.min(16)).min(CAP) };
    let ceiling = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX);
    let jitter = Duration::from_micros(bits % ceiling.saturating_add(1));
    let floor = if later { CAP / 2 } else { Duration::ZERO };
    jitter.max(floor).max(asked.min(MAX_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_action_of_its_range() {
        for reason in CloseReason::ALL {
            assert_eq!(next_action(reason.code()), reason.next_action());
        }
        let unknown = [(4099, NextAction::Retry), (4199, NextAction::RetryLater), (4299, NextAction::NewToken)];
        let more = [(4399, NextAction::RetryAfresh), (4499, NextAction::Stop), (1005, NextAction::Retry)];
        for (code, action) in unknown.into_iter().chain(more).chain([(3000, NextAction::Stop)]) {
            assert_eq!(next_action(code), action, "{code}");
        }
    }

    #[test]
    fn who_cannot_go_on_is_told_what_to_do() {
        for reason in CloseReason::ALL {
            let line = describe(reason.code(), "");
            let stops = matches!(reason.next_action(), NextAction::Stop | NextAction::NewToken);
            assert_eq!(line.matches(": ").count(), 1 + usize::from(stops), "{line}");
            assert!(line.contains(&reason.to_string()));
        }
        assert!(describe(4200, "").contains("4200 token_expired: get a new token"));
        assert!(describe(4250, "odd").contains("4250 odd: get a new token"));
        assert_eq!(describe(1005, ""), "the server closed the connection: 1005");
    }

    #[test]
    fn waits_grow_to_a_cap_and_honour_the_server() {
        let none = Duration::ZERO;
        for (failures, ceiling) in [(0, 500), (1, 1_000), (5, 16_000), (6, 30_000), (u32::MAX, 30_000)] {
            let ceiling = Duration::from_millis(ceiling);
            assert_eq!(pause(failures, false, none, u64::try_from(ceiling.as_micros()).unwrap()), ceiling);
            assert!(pause(failures, false, none, u64::MAX) <= ceiling);
        }
        assert_eq!(pause(0, false, none, 0), none);
        assert_eq!(pause(0, true, none, 0), CAP / 2);
        assert_eq!(pause(0, false, Duration::from_secs(9), 0), Duration::from_secs(9));
        assert_eq!(pause(0, false, Duration::MAX, 0), MAX_ASKED);
    }
}
