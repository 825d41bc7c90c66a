//! Which operation a request asks for, and whether its token allows it.

use super::answer::Answer;
use super::not_found;
use crate::auth::Grant;
use crate::auth::carrier::percent_decoded;
use crate::error::ErrorCode;
use crate::id::{RunId, UserId};
use crate::protocol::ReplyError;

/// A path with a method that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Open(Open),
    Publish,
    Runs,
    Events(&'a str),
    Revoke,
    Tickets,
    User(&'a str),
    Level,
    SetLevel,
}

/// What is the same for everybody who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    Document,
    Health,
    Ready,
    /// For operators, unless the settings open it.
    Metrics,
}

/// What a token may ask for, before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Open(Open),
    Publish,
    Start,
    Events(RunId),
    Revoke,
    Ticket,
    User(UserId),
    Level,
    SetLevel,
}

const READ: &[&str] = &["GET", "HEAD"];
const WRITE: &[&str] = &["POST"];
const READ_OR_SET: &[&str] = &["GET", "HEAD", "PUT"];

impl<'a> Place<'a> {
    /// # Errors
    /// The answer where there is no such path, or not for this method.
    pub(super) fn of(method: &str, path: &'a str) -> Result<Self, Answer> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let place = Self::at(path).ok_or_else(|| Answer::refused(&not_found()))?;
        let methods = place.methods();
        if !methods.contains(&method) {
            return Err(Answer::no_such_method(methods));
        }
        Ok(if place == Self::Level && method == "PUT" { Self::SetLevel } else { place })
    }

    fn at(path: &'a str) -> Option<Self> {
        Some(match path {
            "/openapi.json" => Self::Open(Open::Document),
            "/healthz" => Self::Open(Open::Health),
            "/readyz" => Self::Open(Open::Ready),
            "/metrics" => Self::Open(Open::Metrics),
            "/v1/publish" => Self::Publish,
            "/v1/runs" => Self::Runs,
            "/v1/revoke" => Self::Revoke,
            "/v1/tickets" => Self::Tickets,
            "/v1/service-level" => Self::Level,
            other => match other.strip_prefix("/v1/users/") {
                Some(user) => Self::User(one_segment(user)?),
                None => Self::Events(one_segment(other.strip_prefix("/v1/runs/")?.strip_suffix("/events")?)?),
            },
        })
    }

    const fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Open(_) | Self::User(_) => READ,
            Self::Publish | Self::Runs | Self::Events(_) | Self::Revoke | Self::Tickets => WRITE,
            Self::Level | Self::SetLevel => READ_OR_SET,
        }
    }

    /// What anybody may ask for; `open_metrics` says whether the metrics are among it.
    pub(super) fn open(self, open_metrics: bool) -> Option<Open> {
        let Self::Open(open) = self else { return None };
        (open != Open::Metrics || open_metrics).then_some(open)
    }

    /// What is asked for, as far as the token allows it without a look at the body.
    ///
    /// # Errors
    /// `not_found` where it does not, or `invalid` where a user's name is none.
    pub(super) fn allowed_by(self, grant: &Grant) -> Result<Operation, ReplyError> {
        let scopes = &grant.scopes;
        let (operation, allowed) = match self {
            // Where it is not for everybody, it is for operators.
            Self::Open(open) => (Operation::Open(open), grant.is_operator()),
            Self::Publish => (Operation::Publish, scopes.may_publish()),
            Self::Runs => (Operation::Start, scopes.may_publish()),
            // What is no id of this server is nobody's run.
            Self::Events(run) => (Operation::Events(run.parse().map_err(|_| not_found())?), scopes.may_publish()),
            Self::Revoke => (Operation::Revoke, scopes.is_admin()),
            // For whoever the token speaks for: it could open a WebSocket by itself.
            Self::Tickets => (Operation::Ticket, true),
            Self::Level => (Operation::Level, grant.is_operator()),
            Self::SetLevel => (Operation::SetLevel, grant.is_operator()),
            Self::User(name) => {
                let user = user(name, &grant.user)?;
                let allowed = scopes.is_admin() || scopes.may_publish_for(&user);
                (Operation::User(user), allowed)
            }
        };
        if allowed { Ok(operation) } else { Err(not_found()) }
    }
}

impl Operation {
    pub(super) const fn has_body(&self) -> bool {
        match self {
            Self::Open(_) | Self::Ticket | Self::User(_) | Self::Level => false,
            Self::Publish | Self::Start | Self::Events(_) | Self::Revoke | Self::SetLevel => true,
        }
    }
}

fn one_segment(text: &str) -> Option<&str> {
    (!text.is_empty() && !text.contains('/')).then_some(text)
}

fn user(segment: &str, asks: &UserId) -> Result<UserId, ReplyError> {
    let invalid = |problem: &str| ReplyError::new(ErrorCode::Invalid, format!("the user's name in the path {problem}"));
    let sub = percent_decoded(segment).ok_or_else(|| invalid("must be percent-encoded UTF-8"))?;
    asks.beside(&sub).map_err(|problem| invalid(&problem.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, path: &str) -> u16 {
        Place::of(method, path).map_or_else(|answer| answer.status, |_| 200)
    }

    #[test]
    fn the_level_is_read_and_set_at_one_place() {
        let place = |method| Place::of(method, "/v1/service-level").map_err(|answer| answer.status);
        assert_eq!(
            [place("GET"), place("HEAD"), place("PUT")],
            [Ok(Place::Level), Ok(Place::Level), Ok(Place::SetLevel)]
        );
        assert_eq!((place("POST"), place("DELETE")), (Err(405), Err(405)));
    }

    #[test]
    fn a_path_is_one_of_seven_and_has_its_methods() {
        let run = "/v1/runs/run_00000000000000000000000000000007/events";
        for (path, read) in [
            ("/openapi.json", true),
            ("/v1/users/ann", true),
            ("/v1/users/ann?x=/y", true),
            ("/v1/publish", false),
            ("/v1/runs", false),
            ("/v1/revoke", false),
            ("/v1/tickets", false),
            (run, false),
        ] {
            for (method, allowed) in
                [("GET", read), ("HEAD", read), ("POST", !read), ("PUT", false), ("OPTIONS", false), ("get", false)]
            {
                assert_eq!(status(method, path), if allowed { 200 } else { 405 }, "{method} {path}");
            }
        }
        for path in ["", "/", "/v1", "/v1/", "/v1/users/", "/v1/users/a/b", "/v1/runs/", "/v1/runs//events", "/V1/runs"]
        {
            assert_eq!(status("GET", path), 404, "{path}");
        }
    }

    #[test]
    fn a_name_is_percent_decoded_once() {
        let ann = UserId::new(None, "ann").unwrap();
        let name = |segment| user(segment, &ann).map(|user| user.sub().to_owned());
        assert_eq!(name("a%2Fb+%25%C3%a9").unwrap(), "a/b+%é");
        assert_eq!(name("%2541").unwrap(), "%41");
        for wrong in ["%", "%4", "%zz", "%ff", "%00", "a%0ab", &"a".repeat(4096)] {
            assert_eq!(name(wrong).unwrap_err().code.as_str(), "invalid", "{wrong}");
        }
    }
}
