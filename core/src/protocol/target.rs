//! What a frame is about, where one of several fields says so.

use super::wire::{Fault, Field, Object, Raw, Writer};
use crate::id::{IdempotencyKey, RunId, SessionId, TokenId, TopicName};

/// A run by its id, or by the key of the message that asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunRef {
    /// `run_id`.
    Id(RunId),
    /// `key`.
    Key(IdempotencyKey),
}

/// To whom a `publish` goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishTarget {
    /// `user_id`: the subject, in the producer's tenant.
    User(String),
    /// `topic`.
    Topic(TopicName),
}

/// What a `revoke` ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevokeTarget {
    /// `session_id`.
    Session(SessionId),
    /// `token_id`: the token's `jti`.
    Token(TokenId),
    /// `all`: every token that was issued up to now, and every session.
    All,
}

/// To leave a field out by mistake must not revoke everything: `all` is said.
impl Field for RevokeTarget {
    fn read(_: Raw<'_>) -> Result<Self, Fault> {
        Err(Fault::invalid("", "cannot stand alone"))
    }
    fn write(&self, _: &mut String) {}
    fn take(object: &Object<'_>, _: &'static str) -> Result<Self, Fault> {
        let session = Field::take(object, "session_id")?;
        let token = Field::take(object, "token_id")?;
        match (session, token, Field::take(object, "all")?) {
            (Some(session), None, None) => Ok(Self::Session(session)),
            (None, Some(token), None) => Ok(Self::Token(token)),
            (None, None, Some(true)) => Ok(Self::All),
            (None, None, Some(false)) => Err(Fault::invalid("all", "must be true where it stands")),
            (None, None, None) => {
                Err(Fault::invalid("session_id", "is missing: the frame needs it, or `token_id`, or `all`"))
            }
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                Err(Fault::invalid("session_id", "must stand alone: send one of it, `token_id` and `all`"))
            }
        }
    }
    fn put(&self, writer: &mut Writer, _: &'static str) {
        match self {
            Self::Session(session) => session.put(writer, "session_id"),
            Self::Token(token) => token.put(writer, "token_id"),
            Self::All => true.put(writer, "all"),
        }
    }
}

/// Two fields of which a frame has exactly one.
macro_rules! either {
    ($name:ident { $first:ident = $first_name:literal, $second:ident = $second_name:literal }) => {
        impl Field for $name {
            fn read(_: Raw<'_>) -> Result<Self, Fault> {
                Err(Fault::invalid("", "cannot stand alone"))
            }
            fn write(&self, _: &mut String) {}
            fn take(object: &Object<'_>, _: &'static str) -> Result<Self, Fault> {
                match (Field::take(object, $first_name)?, Field::take(object, $second_name)?) {
                    (Some(value), None) => Ok(Self::$first(value)),
                    (None, Some(value)) => Ok(Self::$second(value)),
                    (None, None) => Err(Fault::invalid(
                        $first_name,
                        concat!("is missing: the frame needs it or `", $second_name, "`"),
                    )),
                    (Some(_), Some(_)) => Err(Fault::invalid(
                        $first_name,
                        concat!("must not stand beside `", $second_name, "`: send one of the two"),
                    )),
                }
            }
            fn put(&self, writer: &mut Writer, _: &'static str) {
                match self {
                    Self::$first(value) => value.put(writer, $first_name),
                    Self::$second(value) => value.put(writer, $second_name),
                }
            }
        }
    };
}
either! { RunRef { Id = "run_id", Key = "key" } }
either! { PublishTarget { User = "user_id", Topic = "topic" } }
