//! The quick way into an object, for what most frames are: names and texts without escapes, and plain numbers. It answers nothing
//! where it finds anything else, and takes nothing in that the library would not.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::object::{FIELDS, Fields};
use super::wire::Fault;
use super::writer::plain_len;

/// A value as it stands in a frame: valid JSON, unread.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    text: &'a str,
    /// It is a string without an escape.
    is_plain: bool,
    /// The same, where the library has read it: what is large is not read again to be kept.
    known: Option<&'a RawValue>,
}

impl<'a> Raw<'a> {
    /// The text of the value.
    pub(super) const fn get(self) -> &'a str {
        self.text
    }

    pub(super) fn is_null(self) -> bool {
        self.text == "null"
    }

    /// What it says where it is known to be a string without an escape.
    pub(super) fn plain_text(self) -> Option<&'a str> {
        self.text.get(1..self.text.len().checked_sub(1)?).filter(|_| self.is_plain)
    }

    /// The value by itself, for the application.
    pub(super) fn payload(self) -> Result<Box<RawValue>, Fault> {
        match self.known {
            Some(known) => Ok(known.to_owned()),
            None => serde_json::from_str(self.text).map_err(|_| Fault::invalid("", "must be JSON")),
        }
    }
}

impl<'a> From<&'a RawValue> for Raw<'a> {
    fn from(known: &'a RawValue) -> Self {
        Self { text: known.get(), is_plain: false, known: Some(known) }
    }
}

/// The fields of an object in their order, where it is an ordinary one.
pub(super) fn scan_object(text: &str) -> Option<Fields<'_>> {
    let mut scanner = Scanner { text, at: 0 };
    let mut fields = Vec::with_capacity(FIELDS);
    scanner.take(b'{')?;
    if scanner.take(b'}').is_none() {
        loop {
            let name = scanner.name()?;
            scanner.take(b':')?;
            fields.push((Cow::Borrowed(name), scanner.value()?));
            if scanner.take(b',').is_none() {
                break;
            }
        }
        scanner.take(b'}')?;
    }
    scanner.peek().is_none().then_some(fields)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The next byte that is no white space (RFC 8259 section 2).
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.as_bytes().get(self.at)? {
                // Most often there is none.
                byte if byte > b' ' => return Some(byte),
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Goes on behind this byte, where it is the next.
    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn name(&mut self) -> Option<&'a str> {
        self.peek()?;
        let len = self.string_len()?;
        let name = self.text.get(self.at + 1..self.at + len - 1)?;
        self.at += len;
        Some(name)
    }

    fn value(&mut self) -> Option<Raw<'a>> {
        let first = self.peek()?;
        let plain = match first {
            b'"' => self.string_len(),
            b'0'..=b'9' => self.number_len(),
            b't' => self.word_len("true"),
            b'f' => self.word_len("false"),
            b'n' => self.word_len("null"),
            _ => None,
        };
        let raw = match plain {
            Some(len) => {
                let text = self.text.get(self.at..self.at + len)?;
                Raw { text, is_plain: first == b'"', known: None }
            }
            None => self.known_value()?,
        };
        self.at += raw.text.len();
        Some(raw)
    }

    /// One value, by the library.
    fn known_value(&self) -> Option<Raw<'a>> {
        let rest = serde_json::Deserializer::from_str(self.text.get(self.at..)?);
        rest.into_iter::<&RawValue>().next()?.ok().map(Raw::from)
    }

    /// Bytes of a string without an escape, quotes included.
    fn string_len(&self) -> Option<usize> {
        let inner = self.text.as_bytes().get(self.at..)?.strip_prefix(b"\"")?;
        let len = plain_len(inner);
        (inner.get(len) == Some(&b'"')).then_some(len + 2)
    }

    /// Digits of a number that has nothing else.
    fn number_len(&self) -> Option<usize> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let goes_on = matches!(rest.get(len), Some(b'.' | b'e' | b'E'));
        (!goes_on && (len == 1 || rest.first() != Some(&b'0'))).then_some(len)
    }

    fn word_len(&self, word: &str) -> Option<usize> {
        self.text.get(self.at..)?.starts_with(word).then_some(word.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn scanned(text: &str) -> Option<Vec<(String, String)>> {
        let fields = scan_object(text)?;
        Some(fields.into_iter().map(|(name, raw)| (name.into_owned(), raw.get().to_owned())).collect())
    }

    #[test]
    fn ordinary_objects_are_read() {
        let text = " {\"a\": 1 ,\"b\":\"x\",\"c\":{\"d\":[1]} , \"e\":\"\\n\",\"f\":true,\"g\":null,\"h\":-1.5e3}\r\n";
        let fields = scanned(text).unwrap();
        let values: Vec<&str> = fields.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["1", "\"x\"", "{\"d\":[1]}", "\"\\n\"", "true", "null", "-1.5e3"]);
        assert_eq!(scanned("{}"), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_object_is_not() {
        for text in [
            "",
            "{",
            "}",
            "[]",
            "1",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\":01}",
            "{\"a\":1}x",
            "{\"a\":truex}",
            "{\"a\":1 2}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"x}",
            "{\"a:1}",
            "{a:1}",
            "{\"a\":+1}",
            "{\"a\":1.}",
            "{\"a\":nul}",
            "{\"a\":\"\\x\"}",
            "\u{feff}{}",
            "\u{c}{}",
        ] {
            assert_eq!(scanned(text), None, "{text}");
        }
    }

    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{", "}", "[", "]", ":", ",", "\"", "\"a\"", "\"b\"", "\"é\"", "\\", "\\\"", "\\u00e9", "0", "1", "12",
            "-", ".", "e", "+", "true", "false", "null", " ", "\n", "\t", "\u{c}", "\u{0}", "{\"a\":", "\"a\":1",
            ",\"b\":", "x",
        ]);
        prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
    }

    properties! {
        /// Whatever is taken in, the library takes in too, and finds the same in it.
        #[test]
        fn nothing_is_taken_in_that_the_library_refuses(text in prop_oneof![pieces(), pieces().prop_map(|inner| format!("{{{inner}}}"))]) {
            if let Some(fields) = scanned(&text) {
                let theirs = serde_json::from_str::<BTreeMap<String, &RawValue>>(&text);
                prop_assert!(theirs.is_ok(), "{:?} in {}", theirs, text);
                let ours: BTreeMap<String, String> = fields.into_iter().collect();
                let theirs: BTreeMap<String, String> =
                    theirs.unwrap().into_iter().map(|(name, raw)| (name, raw.get().to_owned())).collect();
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
