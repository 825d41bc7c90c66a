//! Where a client stands in which stream.

use std::fmt;
use std::str::FromStr;

use super::wire::{Fault, Field, NUMBER_END, Object, Raw, read_text};
use super::writer::{push_number, push_text};
use crate::id::TopicName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A place in a stream, written `<epoch>-<seq>` as `event_id`: the stream's incarnation and the number of an event.
///
/// ```
/// use trunkline_core::protocol::Position;
/// let position: Position = "7-42".parse().unwrap();
/// assert_eq!((position.epoch, position.seq), (7, 42));
/// assert!("07-42".parse::<Position>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Rises with each incarnation of the stream. No stream has epoch 0.
    pub epoch: u64,
    /// The last event that lies behind this place; below 2^53. 0 is the beginning.
    pub seq: u64,
}

impl Position {
    /// `0-0`: what a client that holds nothing sends to get all that is kept.
    pub const NONE: Self = Self { epoch: 0, seq: 0 };
}

/// A text that is not a position or not a stream's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// Not `<epoch>-<seq>` in plain decimal.
    #[error("must be `<epoch>-<seq>` in decimal digits without leading zeros, seq below 2^53")]
    Position,
    /// Neither `user` nor `topic:<name>`.
    #[error("must be `user` or `topic:<name>`")]
    Stream,
}

impl FromStr for Position {
    type Err = PositionError;
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let at = text.bytes().position(|byte| byte == b'-').ok_or(PositionError::Position)?;
        let (epoch, seq) = (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default());
        let position = Self { epoch: plain_decimal(epoch)?, seq: plain_decimal(seq)? };
        if position.seq < NUMBER_END { Ok(position) } else { Err(PositionError::Position) }
    }
}

/// One spelling for each number, so that positions can be compared as texts.
fn plain_decimal(text: &str) -> Result<u64, PositionError> {
    let with = |number: u64, digit: u8| number.checked_mul(10)?.checked_add(u64::from(digit));
    let add = |number, byte: u8| if byte.is_ascii_digit() { with(number, byte - b'0') } else { None };
    let is_plain = text == "0" || !text.is_empty() && !text.starts_with('0');
    text.bytes().try_fold(0, add).filter(|_| is_plain).ok_or(PositionError::Position)
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

/// The name of a stream: the user's own, or a shared topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamName {
    /// `user`: one's own.
    User,
    /// `topic:<name>`.
    Topic(TopicName),
}

impl FromStr for StreamName {
    type Err = PositionError;
    fn from_str(text: &str) -> Result<Self, PositionError> {
        if text == "user" {
            return Ok(Self::User);
        }
        let name = text.strip_prefix("topic:").ok_or(PositionError::Stream)?;
        TopicName::new(name).map(Self::Topic).map_err(|_| PositionError::Stream)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user"),
            Self::Topic(name) => write!(f, "topic:{name}"),
        }
    }
}

macro_rules! as_string {
    ($($name:ident)*) => {
        $(impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        })*
    };
}
as_string! { Position StreamName }

impl Field for Position {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        let text = read_text(raw)?;
        text.parse().map_err(|error: PositionError| Fault::invalid("", error.to_string()))
    }
    fn write(&self, out: &mut String) {
        out.push('"');
        push_number(out, self.epoch);
        out.push('-');
        push_number(out, self.seq);
        out.push('"');
    }
}

/// A frame that names no stream speaks of the user's own.
impl Field for StreamName {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        let text = read_text(raw)?;
        text.parse().map_err(|error: PositionError| Fault::invalid("", error.to_string()))
    }
    fn write(&self, out: &mut String) {
        push_text(out, &self.to_string());
    }
    fn take(object: &Object<'_>, name: &'static str) -> Result<Self, Fault> {
        let stream: Option<Self> = Field::take(object, name)?;
        Ok(stream.unwrap_or(Self::User))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_position_has_one_spelling() {
        for text in ["0-0", "1-0", "7-42", "18446744073709551615-9007199254740991"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        for text in
            ["", "-", "1", "1-", "-1", "+1-1", "1-+1", "01-1", "1-01", " 1-1", "1-1 ", "1--1", "1-1-1", "0x1-1", "١-1"]
        {
            assert_eq!(text.parse::<Position>(), Err(PositionError::Position), "{text}");
        }
        assert!("1-9007199254740992".parse::<Position>().is_err(), "2^53 is the end");
        assert!("18446744073709551616-1".parse::<Position>().is_err(), "2^64 is the end");
    }

    #[test]
    fn positions_order_by_epoch_first() {
        assert!(Position { epoch: 2, seq: 0 } > Position { epoch: 1, seq: 99 });
    }

    #[test]
    fn stream_names_are_usable_as_keys() {
        let topic = StreamName::Topic(TopicName::new("news:today").unwrap());
        let map = BTreeMap::from([(StreamName::User, Position::NONE), (topic.clone(), Position { epoch: 1, seq: 2 })]);
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(text, r#"{"user":"0-0","topic:news:today":"1-2"}"#);
        assert_eq!(serde_json::from_str::<BTreeMap<StreamName, Position>>(&text).unwrap(), map);
        for wrong in ["", "users", "topic:", "topic", "User", "topic:a\nb"] {
            assert_eq!(wrong.parse::<StreamName>(), Err(PositionError::Stream), "{wrong}");
        }
    }
}
