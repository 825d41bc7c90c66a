//! Writing one JSON object, piece by piece into one text.

use std::fmt;

/// Writes one object, field by field.
pub(super) struct Writer(String);

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut out = String::with_capacity(bytes);
        out.push('{');
        Self(out)
    }

    /// Starts a frame: its `type` comes first.
    pub(super) fn frame(kind: &str, bytes: usize) -> Self {
        let mut writer = Self::with_capacity(bytes);
        writer.text("type", kind);
        writer
    }

    /// Writes the name; what is pushed next is its value.
    pub(super) fn name(&mut self, name: &str) -> &mut String {
        self.0.push_str(if self.0.len() > 1 { ",\"" } else { "\"" });
        self.0.push_str(name);
        self.0.push_str("\":");
        &mut self.0
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        push_text(self.name(name), value);
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        push_number(self.name(name), value);
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

pub(super) fn push_display(out: &mut String, value: fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = fmt::Write::write_fmt(out, value);
}

/// Pushes a whole number: each event has several, and formatting by `fmt` costs ten times as much.
pub(super) fn push_number(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// Pushes a JSON string (RFC 8259 section 7): escapes quotes, backslashes and control characters, copies the rest in runs.
pub(super) fn push_text(out: &mut String, text: &str) {
    out.push('"');
    if is_plain(text) {
        out.push_str(text);
    } else {
        push_escaped(out, text);
    }
    out.push('"');
}

/// Whether a text needs no escape. It has no early end, so that many bytes are looked at together.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, byte| plain & (byte >= 0x20) & (byte != b'"') & (byte != b'\\'))
}

fn push_escaped(out: &mut String, text: &str) {
    let mut copied = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        // `byte` is ASCII, so both ends are on the border of a character.
        out.push_str(&text[copied..at]);
        copied = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => push_display(out, format_args!("\\u{control:04x}")),
        }
    }
    out.push_str(&text[copied..]);
}

/// Bytes of a text as a JSON string in a frame: its escapes and both quotes included.
///
/// ```
/// use trunkline_core::protocol::encoded_text_len;
/// assert_eq!(encoded_text_len("a\"\n\u{1}"), r#""a\"\n\u0001""#.len());
/// ```
pub fn encoded_text_len(text: &str) -> usize {
    text.bytes().map(encoded_byte_len).sum::<usize>() + 2
}

/// What [`push_text`] makes of one byte.
const fn encoded_byte_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    }
}
