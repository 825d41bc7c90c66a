//! Compressed messages, beside flate2 used plainly.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use trunkline_core::codec::deflate::{Deflate, stored};
use trunkline_core::codec::frame::{Assembler, Fault, Message, Opcode, Role, apply_mask, encode};

use crate::frames::Cuts;

/// A payload in any bytes, and a message in the same.
///
/// As a payload it is inflated to what flate2 makes of it, or refused where that refuses it, is not at the end of a block or comes
/// to more than the limit. As a message it comes back as it was: compressed by this codec for any window and read by flate2, and
/// compressed by flate2 with a flush in it, cut into frames and reads, and read by this codec.
///
/// The first byte is the limit of a message (bits 0 to 3: 16 bytes, doubled so often), the second the window and where the message
/// is cut, the next two how long frames and reads are.
pub fn deflate(data: &[u8]) {
    let Some((&[limit, how, frame, read], bytes)) = data.split_first_chunk::<4>() else { return };
    let deflate = Deflate::default();
    inflates_alike(&deflate, bytes, 16 << (limit & 15));
    is_read_by_flate2(&deflate, bytes, how);
    is_read_from_frames(&deflate, bytes, how, [frame, read]);
}

fn inflates_alike(deflate: &Deflate, payload: &[u8], max: usize) {
    let found = deflate.inflate(payload, max);
    let plain = inflated(payload, 15);
    match &found {
        Ok(message) => assert!(message.len() <= max && plain.as_ref() == Some(message)),
        // Whatever is behind the limit is not looked at.
        Err(Fault::TooBig) => assert!(plain.is_none_or(|message| message.len() > max)),
        Err(Fault::NotDeflate) => assert!(plain.is_none(), "it is refused, and flate2 reads it"),
        Err(fault @ (Fault::Protocol(_) | Fault::NotUtf8)) => panic!("{fault:?}"),
    }
    assert_eq!(deflate.inflate(payload, max), found, "nothing is left of the first time");
}

/// What a payload comes to, of one stream or of a few: RFC 7692 section 7.2.2.
fn inflated(payload: &[u8], window_bits: u8) -> Option<Vec<u8>> {
    // An empty last block shows whether what is before it is whole.
    let whole = [payload, &[0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff]].concat();
    let (mut rest, mut message) = (&whole[..], Vec::new());
    for _ in 0..=16 {
        let mut inflator = Decompress::new_with_window_bits(false, window_bits);
        loop {
            message.reserve(1 << 16);
            let before = (inflator.total_in(), message.len());
            let status = inflator.decompress_vec(rest, &mut message, FlushDecompress::Sync).ok()?;
            rest = &rest[(inflator.total_in() - before.0) as usize..];
            if status == Status::StreamEnd {
                break;
            }
            if (inflator.total_in(), message.len()) == before {
                return None;
            }
        }
        if rest.is_empty() {
            return Some(message);
        }
    }
    None
}

fn is_read_by_flate2(deflate: &Deflate, message: &[u8], how: u8) {
    let window_bits = 9 + how % 7;
    let (head, tail) = message.split_at(usize::from(how).min(message.len()));
    if let Some(payload) = deflate.compress(&[head, tail], window_bits) {
        assert!(payload.len() < message.len());
        assert_eq!(inflated(&payload, window_bits).as_deref(), Some(message));
        assert_eq!(deflate.inflate(&payload, message.len()).as_deref(), Ok(message));
    }
    if let Some(payload) = deflate.compress(&[tail], 15) {
        // At most 255 bytes.
        let shared = [&stored(head.len() as u16)[..], head, &payload].concat();
        assert_eq!(inflated(&shared, 15).as_deref(), Some(message));
    }
}

fn is_read_from_frames(deflate: &Deflate, message: &[u8], how: u8, sizes: [u8; 2]) {
    let payload = compressed(message, how);
    let mut wire = Vec::new();
    let pieces: Vec<&[u8]> = Cuts::new(&payload, &sizes[..1]).collect();
    for (at, piece) in pieces.iter().enumerate() {
        let start = wire.len();
        encode(&mut wire, Opcode::Binary, piece, Some([1, 2, 3, 4]));
        // RSV1 and the kind of the message in the first frame, and the end of it in the last.
        let (first, last) = (at == 0, at + 1 == pieces.len());
        wire[start] = if first { 0x42 } else { 0 } | if last { 0x80 } else { 0 };
    }
    let mut assembler = Assembler::new(Role::Server, message.len());
    assembler.set_deflate(deflate.clone());
    let mut found = Vec::new();
    for mut read in Cuts::new(&wire, &sizes[1..]) {
        while let Some(one) = assembler.push(&mut read).expect("what flate2 compresses is read") {
            found.push(one);
        }
        assert!(assembler.heap_bytes() <= assembler.max_heap_bytes());
    }
    assert_eq!(found, [Message::Binary(message.to_vec())]);
    // Nobody reads it who has not agreed.
    let mut plain = Assembler::new(Role::Server, message.len());
    assert!(matches!(plain.push(&mut &wire[..]), Err(Fault::Protocol(_))));
    // And whatever the peer does to its bytes, they panic nowhere.
    apply_mask(&mut wire, [0, 0, sizes[0], how]);
    let mut broken = Assembler::new(Role::Server, message.len());
    broken.set_deflate(deflate.clone());
    let mut rest = &wire[..];
    while let Ok(Some(_)) = broken.push(&mut rest) {}
}

fn compressed(message: &[u8], how: u8) -> Vec<u8> {
    let mut compressor = Compress::new(Compression::new(u32::from(how) % 10), false);
    let mut payload = Vec::with_capacity(2 * message.len() + 128);
    let (head, tail) = message.split_at(usize::from(how).min(message.len()));
    for (part, flush) in [(head, FlushCompress::Sync), (tail, FlushCompress::Full)] {
        compressor.compress_vec(part, &mut payload, flush).expect("there is room");
    }
    payload.truncate(payload.len() - 4);
    payload
}
