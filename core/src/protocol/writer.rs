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
        Self::frame_in(String::with_capacity(bytes), kind)
    }

    /// The same in the room of a text, in place of what it says.
    pub(super) fn frame_in(mut room: String, kind: &str) -> Self {
        room.clear();
        room.push('{');
        let mut writer = Self(room);
        writer.text("type", kind);
        writer
    }

    /// Writes the name; what is pushed next is its value.
    pub(super) fn name(&mut self, name: &str) -> &mut String {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push('"');
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
    let mut rest = text;
    // What ends a run is ASCII, so it is split on the borders of characters.
    while let Some((plain, after)) = rest.split_at_checked(plain_len(rest.as_bytes())) {
        out.push_str(plain);
        let Some(byte) = after.bytes().next() else { break };
        push_escaped(out, byte);
        rest = after.get(1..).unwrap_or_default();
    }
    out.push('"');
}

fn push_escaped(out: &mut String, byte: u8) {
    match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        control => push_display(out, format_args!("\\u{control:04x}")),
    }
}

/// How many bytes from the start on may stand in a JSON string as they are: up to a quote, a backslash or a control character.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let special = special_in(u64::from_le_bytes(*word));
        if special != 0 {
            return 8 * at + special.trailing_zeros() as usize / 8;
        }
    }
    8 * words.len() + rest.iter().take_while(|byte| is_plain(**byte)).count()
}

const fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// Zero where all eight bytes are plain; otherwise the lowest bit that is set is the highest one of the first byte that is not. A
/// byte that is too small for what is taken from it borrows: from its own highest bit, and from the bytes after it.
const fn special_in(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHEST: u64 = ONES << 7;
    let quotes = word ^ (ONES * b'"' as u64);
    let backslashes = word ^ (ONES * b'\\' as u64);
    let below = word.wrapping_sub(ONES * 0x20) & !word;
    let equal = (quotes.wrapping_sub(ONES) & !quotes) | (backslashes.wrapping_sub(ONES) & !backslashes);
    (below | equal) & HIGHEST
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    properties! {
        #[test]
        fn words_agree_with_single_bytes(bytes in prop::collection::vec(prop_oneof![8 => any::<u8>(), 1 => 0x1e_u8..0x24, 1 => 0x5a_u8..0x5e], 0..40)) {
            let naive = bytes.iter().take_while(|byte| is_plain(**byte)).count();
            prop_assert_eq!(plain_len(&bytes), naive);
        }

        #[test]
        fn what_is_pushed_says_the_text(text in any::<String>()) {
            let mut out = String::new();
            push_text(&mut out, &text);
            prop_assert_eq!(out.len(), encoded_text_len(&text));
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }
}
