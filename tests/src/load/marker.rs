//! Messages that carry a number and a time, made and found without JSON.

use memchr::memmem;
use trunkline_core::codec::frame::{Opcode, apply_mask, encode_header};
use trunkline_core::protocol::Position;

use super::checker::Given;

/// What begins a marker; nothing else that is sent or received has it.
const SIGN: &str = "~load~";
const DIGITS: usize = 16;
/// The marker: the sign, the number and the time, in hexadecimal.
pub(super) const MARKER: usize = SIGN.len() + 2 * DIGITS;

/// Of every frame that is made from a template. Not zero: servers need do nothing for a mask of zeros.
const MASK: [u8; 4] = [0x5a, 0x01, 0xc3, 0x7e];

/// One whole masked frame, in which only numbers and the time change.
#[derive(Debug)]
pub(super) struct Template {
    frame: Vec<u8>,
    /// Where the payload begins: there the mask does, too.
    payload: usize,
    /// Where numbers stand in the payload.
    numbers: Vec<usize>,
    time: usize,
}

impl Template {
    /// `text` has `{id}` where an identifier that says the number is to stand, if anywhere, and `{data}` where the string with the
    /// marker is, which has `size` bytes.
    pub(super) fn new(text: &str, size: usize) -> Self {
        let zeros = "0".repeat(DIGITS);
        let pad = "x".repeat(size.saturating_sub(MARKER));
        let text =
            text.replace("{id}", &format!("n{zeros}")).replace("{data}", &format!("\"{SIGN}{zeros}{zeros}{pad}\""));
        let id = memmem::find(text.as_bytes(), format!("n{zeros}\"").as_bytes()).map(|at| at + 1);
        let sign = memmem::find(text.as_bytes(), SIGN.as_bytes()).unwrap_or_default() + SIGN.len();
        let mut frame = Vec::with_capacity(text.len() + 14);
        encode_header(&mut frame, Opcode::Text, text.len(), Some(MASK));
        let payload = frame.len();
        frame.extend_from_slice(text.as_bytes());
        apply_mask(frame.get_mut(payload..).unwrap_or_default(), MASK);
        Self { frame, payload, numbers: id.into_iter().chain([sign]).collect(), time: sign + DIGITS }
    }

    /// The frame with this number and this time.
    pub(super) fn append(&self, out: &mut Vec<u8>, number: u64, time: u64) {
        let start = out.len() + self.payload;
        out.extend_from_slice(&self.frame);
        for at in &self.numbers {
            put(out, start, *at, number);
        }
        put(out, start, self.time, time);
    }
}

fn put(out: &mut [u8], payload: usize, at: usize, value: u64) {
    let Some(room) = out.get_mut(payload + at..payload + at + DIGITS) else { return };
    for (digit, byte) in room.iter_mut().enumerate() {
        let nibble = (value >> (60 - 4 * digit)) & 0xf;
        *byte = b"0123456789abcdef"[nibble as usize] ^ MASK[(at + digit) % 4];
    }
}

/// A frame of a server, as far as the harness reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    /// It carries a marker.
    Marked {
        /// What is to be checked.
        given: Given,
        /// The time that its sender wrote.
        time: u64,
    },
    /// It does not; this is its type.
    Other(&'a str),
}

/// Reads a frame whose marked string has `size` bytes.
///
/// # Errors
/// When it is none that a server sends, or the string is not as it was sent.
pub(super) fn see(frame: &[u8], size: usize) -> Result<Seen<'_>, String> {
    let Some(at) = memmem::find(frame, SIGN.as_bytes()) else {
        let kind = string(frame, b"\"type\":\"").ok_or_else(|| format!("a frame without a type: {}", shown(frame)))?;
        return Ok(Seen::Other(kind));
    };
    let digits = at + SIGN.len();
    let number = hexadecimal(frame, digits).ok_or_else(|| format!("a number is none: {}", shown(frame)))?;
    let time = hexadecimal(frame, digits + DIGITS).ok_or_else(|| format!("a time is none: {}", shown(frame)))?;
    if frame.get(at + size) != Some(&b'"') || at.checked_sub(1).and_then(|at| frame.get(at)) != Some(&b'"') {
        return Err(format!("a message is not as long as it was sent: {}", shown(frame)));
    }
    let head = frame.get(..at).unwrap_or_default();
    Ok(Seen::Marked { given: Given { number, place: place(head) }, time })
}

/// Of an event: its `event_id`, and the seq it follows.
fn place(head: &[u8]) -> Option<(Position, u64)> {
    let place: Position = string(head, b"\"event_id\":\"")?.parse().ok()?;
    let prev = match memmem::find(head, b"\"prev\":") {
        Some(at) => decimal(head.get(at + 7..)?)?,
        None => place.seq.checked_sub(1)?,
    };
    Some((place, prev))
}

/// The string behind `key`, which has no escapes.
pub(super) fn string<'a>(frame: &'a [u8], key: &[u8]) -> Option<&'a str> {
    let from = memmem::find(frame, key)? + key.len();
    let rest = frame.get(from..)?;
    std::str::from_utf8(rest.get(..memchr::memchr(b'"', rest)?)?).ok()
}

/// The number that an identifier says that a template has made.
pub(super) fn number_of(id: &str) -> Option<u64> {
    hexadecimal(id.strip_prefix('n')?.as_bytes(), 0)
}

fn decimal(bytes: &[u8]) -> Option<u64> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(bytes.get(..end)?).ok()?.parse().ok()
}

fn hexadecimal(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + DIGITS)?.iter().try_fold(0, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

/// The beginning of a frame, for people.
pub(super) fn shown(frame: &[u8]) -> String {
    let text = String::from_utf8_lossy(frame);
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::split_frame;

    /// What a server makes of a template's frame, without the mask.
    fn unmasked(template: &Template, number: u64, time: u64) -> String {
        let mut out = b"before".to_vec();
        template.append(&mut out, number, time);
        let mut payload = out.split_off(6 + template.payload);
        apply_mask(&mut payload, MASK);
        String::from_utf8(payload).unwrap()
    }

    #[test]
    fn a_template_is_a_frame_with_its_number_and_time() {
        let template = Template::new(r#"{"type":"command","id":"{id}","name":"echo","args":{data}}"#, 64);
        let text = unmasked(&template, 0x1f, u64::MAX);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["id"], "n000000000000001f");
        assert_eq!(number_of("n000000000000001f"), Some(0x1f));
        let of_a_channel = Template::new(r#"{"id":"12.{id}","data":{data}}"#, 64);
        assert!(
            unmasked(&of_a_channel, 0x1f, 0)
                .starts_with(r#"{"id":"12.n000000000000001f","data":"~load~000000000000001f0"#)
        );
        let data = value["args"].as_str().unwrap();
        assert_eq!(data.len(), 64);
        assert!(data.starts_with("~load~000000000000001fffffffffffffffffx"), "{data}");
        let given = Given { number: 0x1f, place: None };
        assert_eq!(see(text.as_bytes(), 64), Ok(Seen::Marked { given, time: u64::MAX }));
    }

    #[test]
    fn a_template_has_a_header_that_servers_take() {
        for size in [MARKER, 125, 70_000] {
            let mut out = Vec::new();
            Template::new("{data}", size).append(&mut out, 1, 2);
            assert!(split_frame(&out).is_err(), "it is masked");
            let mut input = out.as_slice();
            let role = trunkline_core::codec::frame::Role::Server;
            let mut assembler = trunkline_core::codec::frame::Assembler::new(role, 1 << 20);
            let message = assembler.push(&mut input).unwrap().unwrap();
            let trunkline_core::codec::frame::Message::Text(text) = message else { panic!("{message:?}") };
            assert_eq!(text.len(), size + 2);
            assert!(input.is_empty());
        }
    }

    #[test]
    fn an_event_is_seen_with_its_place() {
        let data = format!("{SIGN}{:016x}{:016x}", 7, 9);
        let tail = format!(r#""seq":42,"timestamp":1784131209,"stream":"topic:t","name":"load","data":"{data}"}}"#);
        let plain = format!(r#"{{"type":"custom","event_id":"1784131200000000-42",{tail}"#);
        let place = Position { epoch: 1_784_131_200_000_000, seq: 42 };
        let given = Given { number: 7, place: Some((place, 41)) };
        assert_eq!(see(plain.as_bytes(), MARKER), Ok(Seen::Marked { given, time: 9 }));
        let late = format!(r#"{{"prev":12,"type":"custom","event_id":"1784131200000000-42",{tail}"#);
        let given = Given { number: 7, place: Some((place, 12)) };
        assert_eq!(see(late.as_bytes(), MARKER), Ok(Seen::Marked { given, time: 9 }));
    }

    #[test]
    fn what_is_cut_or_prolonged_is_no_message() {
        let data = format!("{SIGN}{:016x}{:016x}xx", 7, 9);
        let frame = format!(r#"{{"type":"reply","result":"{data}"}}"#);
        assert!(see(frame.as_bytes(), MARKER + 2).is_ok());
        assert!(see(frame.as_bytes(), MARKER + 1).is_err());
        assert!(see(frame.as_bytes(), MARKER + 3).is_err());
        assert!(see(frame.replace("00007", "0000z").as_bytes(), MARKER + 2).is_err());
        assert!(see(&frame.as_bytes()[..60], MARKER + 2).is_err());
    }

    #[test]
    fn other_frames_are_known_by_their_type() {
        assert_eq!(see(br#"{"type":"lag","stream":"user"}"#, 99), Ok(Seen::Other("lag")));
        assert!(see(b"{}", 99).is_err());
    }
}
