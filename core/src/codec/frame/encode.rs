//! Frames out: each message is one frame.

use super::{MAX_CONTROL_PAYLOAD, Opcode, apply_mask, is_close_code};

/// Appends one whole frame. A client passes a fresh random mask, a server `None`.
///
/// A control payload is cut to [`MAX_CONTROL_PAYLOAD`] bytes, so that the frame is legal.
pub fn encode(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    let bound = if opcode.is_control() { MAX_CONTROL_PAYLOAD } else { usize::MAX };
    let payload = payload.get(..bound).unwrap_or(payload);
    encode_header(out, opcode, payload.len(), mask);
    append_masked(out, payload, mask);
}

/// Appends a close frame: the code and as much of `reason` as fits, cut between characters.
///
/// A code that may not stand on the wire (see [`is_close_code`]) makes the frame empty, which RFC 6455 section 7.1.5
/// reads as "no code"; so the echo of an empty close frame is `encode_close(out, 1005, "", mask)`.
pub fn encode_close(out: &mut Vec<u8>, code: u16, reason: &str, mask: Option<[u8; 4]>) {
    if !is_close_code(code) {
        return encode(out, Opcode::Close, &[], mask);
    }
    let reason = reason.get(..reason.floor_char_boundary(MAX_CONTROL_PAYLOAD - 2)).unwrap_or_default();
    let mut payload = Vec::with_capacity(MAX_CONTROL_PAYLOAD);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    encode(out, Opcode::Close, &payload, mask);
}

/// Appends one unmasked text frame whose payload is the parts in order. The parts together are UTF-8.
pub fn encode_text_parts(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let len = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    out.reserve(len.saturating_add(MAX_HEADER));
    encode_header(out, Opcode::Text, len, None);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Appends one unmasked frame, of text or of bytes, whose payload is the parts in order: together one that is
/// [compressed](crate::codec::deflate). RFC 7692 section 6.1.
pub fn encode_compressed(out: &mut Vec<u8>, opcode: Opcode, parts: &[&[u8]]) {
    debug_assert!(!opcode.is_control(), "control frames are never compressed");
    let start = out.len();
    let len = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    out.reserve(len.saturating_add(MAX_HEADER));
    encode_header(out, opcode, len, None);
    if let Some(first) = out.get_mut(start) {
        *first |= COMPRESSED;
    }
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// RSV1 of a message's first frame.
pub(super) const COMPRESSED: u8 = 0x40;

/// Appends the header of a final frame whose payload of `len` bytes, masked by the caller where there is a mask,
/// follows. A control frame's `len` is at most [`MAX_CONTROL_PAYLOAD`].
pub fn encode_header(out: &mut Vec<u8>, opcode: Opcode, len: usize, mask: Option<[u8; 4]>) {
    debug_assert!(!opcode.is_control() || len <= MAX_CONTROL_PAYLOAD, "a control frame of {len} bytes");
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode.bits());
    // The shortest of three forms: RFC 6455 section 5.2.
    if let Some(short) = u8::try_from(len).ok().filter(|short| *short < 126) {
        out.push(masked | short);
    } else if let Ok(medium) = u16::try_from(len) {
        out.push(masked | 126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(masked | 127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
    }
}

/// The longest header: two bytes, a 64-bit length, a mask.
const MAX_HEADER: usize = 14;

fn append_masked(out: &mut Vec<u8>, payload: &[u8], mask: Option<[u8; 4]>) {
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(out.get_mut(start..).unwrap_or_default(), mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use tungstenite::protocol::frame::{Frame, FrameHeader};

    fn encoded(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, opcode, payload, mask);
        out
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 6455 section 5.7.
        assert_eq!(encoded(Opcode::Text, b"Hello", None), [0x81, 5, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(encoded(Opcode::Text, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d])), masked);
        assert_eq!(encoded(Opcode::Ping, b"Hello", None), [0x89, 5, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        assert_eq!(encoded(Opcode::Binary, &[0; 256], None)[..4], [0x82, 126, 1, 0]);
        assert_eq!(encoded(Opcode::Binary, &[0; 65536], None)[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn headers_agree_with_tungstenite_at_every_edge_of_the_length() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
            for mask in [None, Some([9, 8, 7, 6])] {
                let mut ours = Vec::new();
                encode_header(&mut ours, Opcode::Binary, len, mask);
                let mut header = Frame::message(vec![], 2.into(), true).header().clone();
                header.mask = mask;
                let mut theirs = Vec::new();
                header.format(len as u64, &mut theirs).unwrap();
                assert_eq!(ours, theirs, "{len}");
                let parsed = FrameHeader::parse(&mut Cursor::new(&ours)).unwrap();
                assert_eq!(parsed, Some((header, len as u64)));
            }
        }
    }

    #[test]
    fn a_control_payload_is_cut_at_125_bytes() {
        assert_eq!(encoded(Opcode::Pong, &[1; 125], None).len(), 127);
        assert_eq!(encoded(Opcode::Pong, &[1; 126], None), encoded(Opcode::Pong, &[1; 125], None));
    }

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        encode_close(&mut out, 1000, &"ä".repeat(100), None);
        assert_eq!(out[..4], [0x88, 124, 0x03, 0xe8]);
        assert_eq!(std::str::from_utf8(&out[4..]), Ok("ä".repeat(61).as_str()));
    }

    #[test]
    fn a_code_that_may_not_stand_on_the_wire_makes_an_empty_close() {
        let mut out = Vec::new();
        encode_close(&mut out, 1006, "gone", None);
        assert_eq!(out, [0x88, 0]);
    }

    #[test]
    fn parts_are_one_frame() {
        let mut out = vec![0xff];
        encode_text_parts(&mut out, &[b"{\"a\":", b"", b"1}"]);
        assert_eq!(out[1..], encoded(Opcode::Text, b"{\"a\":1}", None));
        out.clear();
        encode_text_parts(&mut out, &[]);
        assert_eq!(out, [0x81, 0]);
    }

    #[test]
    fn a_compressed_frame_differs_in_one_bit() {
        for (opcode, len) in [(Opcode::Text, 3), (Opcode::Binary, 70_000)] {
            let payload = vec![7; len];
            let mut out = vec![0xff];
            encode_compressed(&mut out, opcode, &[&payload[..1], &payload[1..]]);
            let mut plain = encoded(opcode, &payload, None);
            plain[0] |= 0x40;
            assert_eq!(out[1..], plain);
        }
    }
}
