//! Reading and writing one JSON object: the ground the frames stand on.
//!
//! Derived `serde` code cannot say which field is wrong without echoing its value, and cannot keep raw payloads in
//! tagged enums. So an object is read once into its fields, and each field reads itself; writing mirrors reading.

use std::borrow::Cow;

use serde_json::value::RawValue;

pub(super) use super::object::Object;
pub(super) use super::scan::Raw;
pub(super) use super::writer::Writer;
use super::writer::{push_display, push_number, push_text};
use crate::error::ErrorCode;
use crate::id::{
    ApprovalId, ConnectionId, FrameId, IdempotencyKey, PartId, RunId, SessionId, ThreadId, TokenId, ToolCallId,
    TopicName,
};
use crate::time::UnixTime;

/// Whole numbers in frames stay below this: 2^53, beyond which JavaScript loses digits.
pub const NUMBER_END: u64 = 1 << 53;

/// What is wrong with an object, by the name of the field.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) code: ErrorCode,
    path: String,
    needs: Cow<'static, str>,
}

impl Fault {
    /// A field that is missing, of the wrong kind, or out of bounds; `needs` starts with a verb.
    pub(super) fn invalid(field: &str, needs: impl Into<Cow<'static, str>>) -> Self {
        Self { code: ErrorCode::Invalid, path: field.to_owned(), needs: needs.into() }
    }

    /// A frame that is understood and refused for what this field says.
    pub(super) fn refused(code: ErrorCode, field: &str, needs: &'static str) -> Self {
        Self { code, path: field.to_owned(), needs: Cow::Borrowed(needs) }
    }

    pub(super) fn malformed(needs: &'static str) -> Self {
        Self { code: ErrorCode::Malformed, path: String::new(), needs: Cow::Borrowed(needs) }
    }

    /// The same fault, seen from the object that holds the field `outer`.
    pub(super) fn within(mut self, outer: &str) -> Self {
        self.path = if self.path.is_empty() { outer.to_owned() } else { format!("{outer}.{}", self.path) };
        self
    }

    /// For the peer: which field, and what to do.
    pub(super) fn message(&self) -> String {
        if self.path.is_empty() {
            format!("the frame {}", self.needs)
        } else {
            format!("`{}` {}", self.path, self.needs)
        }
    }
}

/// A value that knows how to stand in a frame.
pub(super) trait Field: Sized {
    /// Reads the value; `Err` says what it must be.
    fn read(raw: Raw<'_>) -> Result<Self, Fault>;

    /// Pushes the value as JSON.
    fn write(&self, out: &mut String);

    /// Whether the value is left out where it stands alone in a field: JSON has no number for it.
    fn is_unwritable(&self) -> bool {
        false
    }

    /// Takes the field `name`; one that spreads over several fields overrides this.
    fn take(object: &Object<'_>, name: &'static str) -> Result<Self, Fault> {
        let raw = object.get(name).ok_or_else(|| Fault::invalid(name, "is missing: the frame needs it"))?;
        Self::read(raw).map_err(|fault| fault.within(name))
    }

    /// Puts the field `name`.
    fn put(&self, writer: &mut Writer, name: &'static str) {
        if !self.is_unwritable() {
            self.write(writer.name(name));
        }
    }
}

/// The fields of an object that are known together: the body of a frame or a nested record.
pub(super) trait Record: Sized {
    /// The frame's `type`, where the kind of record is not one alone.
    fn kind_or(&self, given: &'static str) -> &'static str {
        given
    }
    fn read_fields(object: &Object<'_>) -> Result<Self, Fault>;
    fn write_fields(&self, writer: &mut Writer);
}

impl<T: Record> Field for T {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        Self::read_fields(&Object::read(raw.get())?)
    }
    fn write(&self, out: &mut String) {
        let mut writer = Writer::with_capacity(128);
        self.write_fields(&mut writer);
        out.push_str(&writer.finish());
    }
}

/// Absent and `null` are the same.
impl<T: Field> Field for Option<T> {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        if raw.is_null() { Ok(None) } else { T::read(raw).map(Some) }
    }
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }
    fn is_unwritable(&self) -> bool {
        self.as_ref().is_none_or(Field::is_unwritable)
    }
    fn take(object: &Object<'_>, name: &'static str) -> Result<Self, Fault> {
        object.get(name).map_or(Ok(None), |raw| Self::read(raw).map_err(|fault| fault.within(name)))
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        let items =
            serde_json::from_str::<Vec<&RawValue>>(raw.get()).map_err(|_| Fault::invalid("", "must be an array"))?;
        items.into_iter().map(|item| T::read(item.into())).collect()
    }
    fn write(&self, out: &mut String) {
        out.push('[');
        for (index, item) in self.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            item.write(out);
        }
        out.push(']');
    }
}

/// The text that a string says, borrowed where it holds no escape, as most do.
pub(super) fn read_text(raw: Raw<'_>) -> Result<Cow<'_, str>, Fault> {
    match raw.plain_text() {
        Some(plain) => Ok(Cow::Borrowed(plain)),
        None => serde_json::from_str(raw.get()).map(Cow::Owned).map_err(|_| Fault::invalid("", "must be a string")),
    }
}

impl Field for String {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        read_text(raw).map(Cow::into_owned)
    }
    fn write(&self, out: &mut String) {
        push_text(out, self);
    }
}

impl Field for bool {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        raw.get().parse().map_err(|_| Fault::invalid("", "must be true or false"))
    }
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl Field for u64 {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        // JSON has no sign that a plain number could begin with, and no leading zero.
        let number = raw.get().parse().ok().filter(|number| *number < NUMBER_END);
        number.ok_or_else(|| Fault::invalid("", "must be a whole number from 0 to below 2^53"))
    }
    fn write(&self, out: &mut String) {
        push_number(out, *self);
    }
}

impl Field for u32 {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        raw.get().parse().map_err(|_| Fault::invalid("", "must be a whole number from 0 to below 2^32"))
    }
    fn write(&self, out: &mut String) {
        push_number(out, u64::from(*self));
    }
}

/// Seconds, or a share of one. What is no number for JSON is left out.
impl Field for f64 {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        let text = raw.get();
        let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        // `serde_json` reads some numbers a bit off; the standard library reads what was written.
        let number = text.parse().ok().filter(|number: &f64| is_number && number.is_finite());
        number.ok_or_else(|| Fault::invalid("", "must be a number"))
    }
    fn write(&self, out: &mut String) {
        push_display(out, format_args!("{self}"));
    }
    fn is_unwritable(&self) -> bool {
        !self.is_finite()
    }
}

/// Seconds since 1970 with up to six digits of fraction, exact both ways: a float would be off by a microsecond.
impl Field for UnixTime {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        if let Some(micros) = exact_micros(raw.get()) {
            return Ok(Self::from_micros(micros));
        }
        // The cast saturates: no number of seconds is out of range.
        f64::read(raw).map(|seconds| Self::from_micros((seconds * 1e6).round() as u64))
    }
    fn write(&self, out: &mut String) {
        let micros = self.as_micros() % 1_000_000;
        push_number(out, self.as_secs());
        if micros > 0 {
            // Six digits after one that gives way to the point.
            let point = out.len();
            push_number(out, 1_000_000 + micros);
            out.replace_range(point..=point, ".");
            out.truncate(out.trim_end_matches('0').len());
        }
    }
}

/// `None` for what is not digits, or has an exponent or more than six digits of fraction.
fn exact_micros(text: &str) -> Option<u64> {
    let (secs, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.len() > 6 || !digits(secs) || !digits(fraction) {
        return None;
    }
    let scale = 10_u64.pow(6 - fraction.len() as u32);
    let micros = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()?.checked_mul(scale)? };
    secs.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)
}

/// A payload of the application: any JSON, kept as it was given.
impl Field for Box<RawValue> {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        raw.payload()
    }
    fn write(&self, out: &mut String) {
        out.push_str(self.get());
    }
}

macro_rules! text_fields {
    ($max:literal: $($name:ident)*) => {
        $(impl Field for $name {
            fn read(raw: Raw<'_>) -> Result<Self, Fault> {
                read_text(raw).ok().and_then(|text| Self::new(&text).ok()).ok_or_else(|| {
                    Fault::invalid("", concat!("must be a string of 1 to ", $max, " bytes without control characters"))
                })
            }
            fn write(&self, out: &mut String) {
                push_text(out, self.as_str());
            }
        })*
    };
}
text_fields! { 128: ThreadId TopicName ToolCallId PartId IdempotencyKey FrameId ApprovalId }
text_fields! { 255: TokenId }

macro_rules! server_ids {
    ($($name:ident)*) => {
        $(impl Field for $name {
            fn read(raw: Raw<'_>) -> Result<Self, Fault> {
                let id = read_text(raw).ok().and_then(|text| text.parse().ok());
                id.ok_or_else(|| Fault::invalid("", "must be an id that this server gave"))
            }
            fn write(&self, out: &mut String) {
                out.push('"');
                self.push_onto(out);
                out.push('"');
            }
        })*
    };
}
server_ids! { ConnectionId SessionId RunId }
