//! Reading and writing one JSON object: the ground the frames stand on.
//!
//! Derived `serde` code cannot say which field is wrong without echoing its value, and cannot keep raw payloads in
//! tagged enums. So an object is read once into its fields, and each field reads itself; writing mirrors reading.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

pub(super) use super::writer::Writer;
use super::writer::{push_display, push_number, push_text};
use crate::error::ErrorCode;
use crate::id::{
    ApprovalId, ConnectionId, FrameId, IdempotencyKey, PartId, RunId, SessionId, ThreadId, TokenId, ToolCallId,
    TopicName,
};
use crate::time::UnixTime;

/// How deep objects and arrays may nest in one frame; the frame itself is the first level.
pub const MAX_DEPTH: usize = 64;

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

    fn malformed(needs: &'static str) -> Self {
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

/// The fields of one object by their names, each still unread. Most frames have few, and a tree of them would cost more than all
/// that is read of it.
#[derive(Clone)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// How many fields there is room for at first.
const FIELDS: usize = 8;

impl<'a> Object<'a> {
    /// Reads a whole frame: depth first, so that nothing recursive ever sees a deep one.
    pub(super) fn read_frame(text: &'a str) -> Result<Self, Fault> {
        if depth_exceeds(text, MAX_DEPTH) {
            return Err(Fault::malformed("must not nest deeper than 64 levels"));
        }
        Self::read(text)
    }

    /// Reads an object whose depth is known to be bounded.
    pub(super) fn read(text: &'a str) -> Result<Self, Fault> {
        serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => Fault::malformed("must be one JSON object that names each field once"),
            Category::Io | Category::Syntax | Category::Eof => Fault::malformed("must be valid JSON"),
        })
    }

    /// The field with this name, unread.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        let at = self.find(name).ok()?;
        self.0.get(at).map(|(_, raw)| *raw)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|raw| !is_null(raw))
    }

    /// Puts a field in, in place of one that is there.
    pub(super) fn set(&mut self, name: &'static str, raw: &'a RawValue) {
        match self.find(name) {
            Ok(at) => self.0[at].1 = raw,
            Err(at) => self.0.insert(at, (Cow::Borrowed(name), raw)),
        }
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, raw)| (name.as_ref(), *raw))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The frame's `type`.
    pub(super) fn kind(&self) -> Result<String, Fault> {
        let raw = self.get("type").ok_or(Fault::malformed("must have a `type`"))?;
        String::read(raw).map_err(|_| Fault::malformed("must have a `type` that is a string"))
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Vec::with_capacity(FIELDS);
                while let Some((Key(name), raw)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    fields.push((name, raw));
                }
                fields.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
                if fields.windows(2).any(|pair| matches!(pair, [(one, _), (other, _)] if one == other)) {
                    return Err(A::Error::custom("a key twice"));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// An object's key, borrowed where it holds no escape.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A value that knows how to stand in a frame.
pub(super) trait Field: Sized {
    /// Reads the value; `Err` says what it must be.
    fn read(raw: &RawValue) -> Result<Self, Fault>;

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
    fn read(raw: &RawValue) -> Result<Self, Fault> {
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
    fn read(raw: &RawValue) -> Result<Self, Fault> {
        if is_null(raw) { Ok(None) } else { T::read(raw).map(Some) }
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
    fn read(raw: &RawValue) -> Result<Self, Fault> {
        let items =
            serde_json::from_str::<Vec<&RawValue>>(raw.get()).map_err(|_| Fault::invalid("", "must be an array"))?;
        items.into_iter().map(T::read).collect()
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

impl Field for String {
    fn read(raw: &RawValue) -> Result<Self, Fault> {
        serde_json::from_str(raw.get()).map_err(|_| Fault::invalid("", "must be a string"))
    }
    fn write(&self, out: &mut String) {
        push_text(out, self);
    }
}

impl Field for bool {
    fn read(raw: &RawValue) -> Result<Self, Fault> {
        serde_json::from_str(raw.get()).map_err(|_| Fault::invalid("", "must be true or false"))
    }
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
}

impl Field for u64 {
    fn read(raw: &RawValue) -> Result<Self, Fault> {
        let number = serde_json::from_str(raw.get()).ok().filter(|number| *number < NUMBER_END);
        number.ok_or_else(|| Fault::invalid("", "must be a whole number from 0 to below 2^53"))
    }
    fn write(&self, out: &mut String) {
        push_number(out, *self);
    }
}

impl Field for u32 {
    fn read(raw: &RawValue) -> Result<Self, Fault> {
        serde_json::from_str(raw.get()).map_err(|_| Fault::invalid("", "must be a whole number from 0 to below 2^32"))
    }
    fn write(&self, out: &mut String) {
        push_number(out, u64::from(*self));
    }
}

/// Seconds, or a share of one. What is no number for JSON is left out.
impl Field for f64 {
    fn read(raw: &RawValue) -> Result<Self, Fault> {
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
    fn read(raw: &RawValue) -> Result<Self, Fault> {
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
    let micros: u64 = format!("{fraction:0<6}").parse().ok()?;
    secs.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)
}

/// A payload of the application: any JSON, kept as it was given.
impl Field for Box<RawValue> {
    fn read(raw: &RawValue) -> Result<Self, Fault> {
        Ok(raw.to_owned())
    }
    fn write(&self, out: &mut String) {
        out.push_str(self.get());
    }
}

macro_rules! text_fields {
    ($max:literal: $($name:ident)*) => {
        $(impl Field for $name {
            fn read(raw: &RawValue) -> Result<Self, Fault> {
                serde_json::from_str(raw.get()).map_err(|_| {
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
            fn read(raw: &RawValue) -> Result<Self, Fault> {
                serde_json::from_str(raw.get()).map_err(|_| Fault::invalid("", "must be an id that this server gave"))
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

fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// Whether brackets outside strings nest deeper than `max`; one pass, whatever the text is.
pub(super) fn depth_exceeds(text: &str, max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > max {
            return true;
        }
    }
    false
}
