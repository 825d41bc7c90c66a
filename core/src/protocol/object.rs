//! Reading one JSON object into its fields.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::scan::{Raw, scan_object};
use super::wire::{Fault, read_text};

/// How deep objects and arrays may nest in one frame; the frame itself is the first level.
pub const MAX_DEPTH: usize = 64;

/// The fields of one object, each still unread. Frames have few, and one after the other is looked at for a name: an order of them
/// would cost more than all that is read of it.
#[derive(Clone)]
pub(super) struct Object<'a>(Fields<'a>);

/// Each with its name.
pub(super) type Fields<'a> = Vec<(Cow<'a, str>, Raw<'a>)>;

/// How many fields there is room for at first.
pub(super) const FIELDS: usize = 8;

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
        // What is out of the ordinary, and what is wrong, is judged by the library.
        if let Some(mut fields) = scan_object(text)
            && !has_twice(&mut fields)
        {
            return Ok(Self(fields));
        }
        serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data => Fault::malformed("must be one JSON object that names each field once"),
            Category::Io | Category::Syntax | Category::Eof => Fault::malformed("must be valid JSON"),
        })
    }

    /// The field with this name, unread.
    pub(super) fn get(&self, name: &str) -> Option<Raw<'a>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, raw)| *raw)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|raw| !raw.is_null())
    }

    /// Puts a field in, in place of one that is there.
    pub(super) fn set(&mut self, name: &'static str, raw: Raw<'a>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = raw,
            None => self.0.push((Cow::Borrowed(name), raw)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Raw<'a>)> {
        self.0.iter().map(|(name, raw)| (name.as_ref(), *raw))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The frame's `type`.
    pub(super) fn kind(&self) -> Result<Cow<'a, str>, Fault> {
        let raw = self.get("type").ok_or_else(|| Fault::malformed("must have a `type`"))?;
        read_text(raw).map_err(|_| Fault::malformed("must have a `type` that is a string"))
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
                    fields.push((name, raw.into()));
                }
                if has_twice(&mut fields) { Err(A::Error::custom("a key twice")) } else { Ok(Object(fields)) }
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Whether a name stands twice. Of many fields the order changes, so that the work does not grow with their square.
fn has_twice(fields: &mut [(Cow<'_, str>, Raw<'_>)]) -> bool {
    if fields.len() > 2 * FIELDS {
        fields.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        return fields.windows(2).any(|pair| matches!(pair, [(one, _), (other, _)] if one == other));
    }
    (1..fields.len()).any(|at| fields[..at].iter().any(|(earlier, _)| *earlier == fields[at].0))
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

/// Whether brackets outside strings nest deeper than `max`; two passes at most, whatever the text is.
pub(super) fn depth_exceeds(text: &str, max: usize) -> bool {
    // Most frames have fewer brackets than that in all, and to count them is far less work.
    text.len() > max && count_opened(text) > max && nests_deeper(text, max)
}

/// How many brackets open in a text, within strings too.
fn count_opened(text: &str) -> usize {
    // A byte counts up to 255 of them, which lets many be counted together. The bit is what `[` and `{` differ in.
    let in_piece = |piece: &[u8]| piece.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    text.as_bytes().chunks(255).map(|piece| usize::from(in_piece(piece))).sum()
}

fn nests_deeper(text: &str, max: usize) -> bool {
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
