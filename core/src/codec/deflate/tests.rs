//! The examples of RFC 7692, what is no payload, bounds, and what fits together.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use proptest::prelude::*;

use super::*;

const MAX: usize = 1 << 20;

fn inflate(payload: &[u8]) -> Result<Vec<u8>, Fault> {
    Deflate::default().inflate(payload, MAX)
}

/// As any other implementation compresses, with a flush after each part.
fn compressed_by_flate2(parts: &[&[u8]], level: u32) -> Vec<u8> {
    let mut compressor = Compress::new(Compression::new(level), false);
    let mut out = Vec::with_capacity(parts.iter().map(|part| 2 * part.len() + 64).sum::<usize>() + 64);
    for part in parts {
        compressor.compress_vec(part, &mut out, FlushCompress::Sync).unwrap();
    }
    compressor.compress_vec(&[], &mut out, FlushCompress::Full).unwrap();
    assert_eq!(out[out.len() - 4..], FLUSHED);
    out.truncate(out.len() - 4);
    out
}

/// As any other implementation inflates, with a window of so many bits.
fn inflated_by_flate2(payload: &[u8], window_bits: u8) -> Vec<u8> {
    let mut inflator = Decompress::new_with_window_bits(false, window_bits);
    let mut out = Vec::with_capacity(MAX);
    inflator.decompress_vec(&[payload, &FLUSHED].concat(), &mut out, FlushDecompress::Sync).unwrap();
    out
}

/// What is long, and becomes short.
fn event(len: usize) -> Vec<u8> {
    let one = br#"{"type":"message","event_id":"1795646270459049-42","user_id":"ann","data":{"price":12.5}},"#;
    one.iter().copied().cycle().take(len).collect()
}

/// Bytes that cannot be shortened, and are the same in every run.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn the_examples_of_the_rfc() {
    // RFC 7692 sections 7.2.3.1, 7.2.3.3, 7.2.3.4, 7.2.3.5 and 7.2.3.6.
    for (payload, message) in [
        (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], "Hello"),
        (&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], "Hello"),
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], "Hello"),
        (&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], "Hello"),
        (&[0x00], ""),
    ] {
        assert_eq!(inflate(payload), Ok(message.into()), "{payload:?}");
    }
    // Section 7.2.3.2: the second message of a context that was taken over refers to the first.
    assert_eq!(inflate(&[0xf2, 0x00, 0x11, 0x00, 0x00]), Err(Fault::NotDeflate));
}

#[test]
fn what_is_no_whole_blocks_is_refused() {
    for (name, payload) in [
        ("nothing", &[][..]),
        ("a reserved kind of block", &[0x06]),
        ("two lengths that do not agree", &[0x00, 0x05, 0x00, 0xfa, 0xfe, b'H']),
        ("a distance before the beginning", &[0x02, 0x43, 0x00]),
        ("bytes behind the end", &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xaa]),
        ("a last block without the empty one behind it", &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
        ("bytes behind the last block", &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xff, 0x00]),
        ("text", b"{\"type\":\"ping\"}"),
    ] {
        assert_eq!(inflate(payload), Err(Fault::NotDeflate), "{name}");
    }
}

#[test]
fn what_is_cut_off_is_refused_or_another_message() {
    let event = event(2_000);
    for payload in [compressed_by_flate2(&[&event], 9), compressed_by_flate2(&[&event[..900], &event[900..]], 0)] {
        for end in 0..payload.len() {
            if let Ok(message) = inflate(&payload[..end]) {
                // Cut between two blocks, or four bytes before the end of one that was copied.
                assert!(message.len() <= event.len() && event.starts_with(&message[..message.len().saturating_sub(4)]));
            }
        }
        assert_eq!(inflate(&payload).as_ref(), Ok(&event));
    }
}

#[test]
fn a_message_is_inflated_up_to_the_limit_and_not_a_byte_further() {
    let deflate = Deflate::default();
    for len in [1, 255, 256, 257, 1_000, 65_536, 1 << 22] {
        let bomb = compressed_by_flate2(&[&vec![0; len]], 9);
        let message = deflate.inflate(&bomb, len).unwrap();
        assert_eq!((message.len(), message.iter().any(|byte| *byte != 0)), (len, false));
        assert!(message.capacity() <= len.max(LEAST_ROOM) + 1);
        for max in [len - 1, len / 2, len / 1_000, 0] {
            assert_eq!(deflate.inflate(&bomb, max), Err(Fault::TooBig), "{len} bytes, of which {max} may be");
        }
    }
    assert_eq!(deflate.inflate(&[0], 0), Ok(vec![]));
    // What is wrong may be seen before what is too much.
    let broken = [&compressed_by_flate2(&[&[0; 5_000]], 9)[..], &[0xff; 9]].concat();
    assert!(deflate.inflate(&broken, 4_000).is_err());
    assert_eq!(deflate.inflate(&broken, 5_000), Err(Fault::NotDeflate));
}

#[test]
fn streams_that_end_within_a_message_are_few() {
    let stream = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let message = |count: usize| inflate(&[&stream.repeat(count)[..], &[0]].concat());
    assert_eq!(message(MAX_STREAMS), Ok(b"Hello".repeat(MAX_STREAMS)));
    assert_eq!(message(MAX_STREAMS + 1), Err(Fault::NotDeflate));
}

#[test]
fn what_was_refused_leaves_nothing_to_the_next() {
    let deflate = Deflate::default();
    let payload = deflate.compress(&[&event(500)], 15).unwrap();
    for bad in [&[0x06][..], &payload[..40], &[0xf3, 0x48]] {
        assert!(deflate.inflate(bad, MAX).is_err());
        assert_eq!(deflate.inflate(&payload, 100), Err(Fault::TooBig));
        assert_eq!(deflate.inflate(&payload, MAX), Ok(event(500)));
    }
    assert_eq!(deflate.compress(&[&noise(500)], 15), None);
    assert_eq!(deflate.compress(&[&event(500)], 15), Some(payload));
}

#[test]
fn no_message_refers_to_one_before_it_or_to_a_stream_that_ended() {
    let deflate = Deflate::default();
    let second = [0xf2, 0x00, 0x11, 0x00, 0x00];
    for before in [event(500), event(70_000)] {
        let payload = compressed_by_flate2(&[&before], 6);
        assert_eq!(deflate.inflate(&payload, MAX), Ok(before));
        assert_eq!(deflate.inflate(&second, MAX), Err(Fault::NotDeflate));
    }
    assert_eq!(format!("{deflate:?}"), "Deflate(0 compressors, 1 inflators)");
    let ended = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(deflate.inflate(&[&ended[..], &second].concat(), MAX), Err(Fault::NotDeflate));
}

#[test]
fn what_is_used_again_is_kept_and_shared_by_all_clones() {
    let deflate = Deflate::default();
    assert_eq!(format!("{deflate:?}"), "Deflate(0 compressors, 0 inflators)");
    let payload = deflate.clone().compress(&[&event(500)], 15).unwrap();
    assert_eq!(deflate.clone().inflate(&payload, MAX), Ok(event(500)));
    deflate.compress(&[&event(500)], 9).unwrap();
    assert_eq!(format!("{deflate:?}"), "Deflate(1 compressors, 1 inflators)");
}

#[test]
fn what_cannot_be_shortened_is_not() {
    let deflate = Deflate::default();
    for len in [0, 1, 2, 10, 1_000, 70_000] {
        assert_eq!(deflate.compress(&[&noise(len)], 15), None, "{len}");
        assert!(compressed_by_flate2(&[&noise(len)], 9).len() <= longest_payload(len), "{len}");
    }
}

#[test]
fn whoever_keeps_a_small_window_can_inflate_what_is_for_it() {
    // Far apart and alike, so that a larger window is used where there is one.
    let far = [noise(20_000), noise(20_000), event(3_000)].concat();
    let deflate = Deflate::default();
    for bits in 9..=15 {
        let payload = deflate.compress(&[&event(9_000), &far], bits).unwrap();
        assert_eq!(inflated_by_flate2(&payload, bits), [event(9_000), far.clone()].concat(), "{bits}");
    }
    assert!(deflate.compress(&[&far], 15).unwrap().len() < deflate.compress(&[&far], 10).unwrap().len());
}

#[test]
fn a_shared_tail_is_read_behind_any_head() {
    let deflate = Deflate::default();
    let event = event(1_000);
    let tail = deflate.compress(&[&event[1..]], 15).unwrap();
    for head in [&b"{"[..], b"{\"prev\":18446744073709551615,", b"", &noise(65_535)] {
        let payload = [&stored(u16::try_from(head.len()).unwrap())[..], head, &tail].concat();
        assert_eq!(inflate(&payload), Ok([head, &event[1..]].concat()));
        assert_eq!(inflated_by_flate2(&payload, 15), [head, &event[1..]].concat());
    }
}

/// Bytes with more and less in them that is alike.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        &b"{\"type\":\""[..],
        b"agent_delta",
        b"\"}",
        b"aaaaaaaaaaaaaaaa",
        b"\0\0\xff\xff",
        b" ",
    ]);
    prop_oneof![
        3 => prop::collection::vec(word, 0..200).prop_map(|words| words.concat()),
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => (0_usize..3_000).prop_map(noise),
        1 => (any::<u8>(), 0_usize..70_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

properties! {
    /// In whatever parts, for any window, and by whomever it is read.
    #[test]
    fn what_is_compressed_is_inflated_to_the_same(message in bytes(), cut in any::<prop::sample::Index>(), bits in 9_u8..=15) {
        let deflate = Deflate::default();
        let (first, second) = message.split_at(cut.index(message.len() + 1));
        if let Some(payload) = deflate.compress(&[first, second], bits) {
            prop_assert!(payload.len() < message.len());
            prop_assert_eq!(deflate.inflate(&payload, message.len()), Ok(message.clone()));
            prop_assert_eq!(inflated_by_flate2(&payload, bits), message);
        }
    }

    /// However it was compressed, with flushes in it or without.
    #[test]
    fn what_others_compress_is_inflated(message in bytes(), cut in any::<prop::sample::Index>(), level in 0_u32..=9) {
        let (first, second) = message.split_at(cut.index(message.len() + 1));
        let payload = compressed_by_flate2(&[first, second], level);
        prop_assert_eq!(Deflate::default().inflate(&payload, message.len()), Ok(message.clone()));
        if let Some(max) = message.len().checked_sub(1) {
            prop_assert_eq!(Deflate::default().inflate(&payload, max), Err(Fault::TooBig));
        }
    }

    /// And whatever they come to is within the limit.
    #[test]
    fn arbitrary_payloads_never_panic(payload in any::<Vec<u8>>(), start in bytes(), max in 0_usize..4_096) {
        let begun = compressed_by_flate2(&[&start], 6);
        for payload in [payload.clone(), [begun, payload].concat()] {
            if let Ok(message) = Deflate::default().inflate(&payload, max) {
                prop_assert!(message.len() <= max);
            }
        }
    }
}
