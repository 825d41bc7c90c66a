//! What a close code says to the person.

use trunkline_core::error::{CloseReason, NextAction};

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
    match NextAction::for_code(code) {
        NextAction::NewToken => Some("get a new token, as `trunkline token` makes them, then start again"),
        NextAction::Stop => Some("the same again would be refused again"),
        NextAction::Nothing | NextAction::Retry | NextAction::RetryLater | NextAction::RetryAfresh => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
