//! Compressed messages: RFC 7692 section 7, without any context from one message to the next. flate2 is named here only.
//!
//! Each message is compressed alone, so that nothing of one shows in the length of another. Within one message it does: who can put
//! text of its own choice into an event beside a secret, again and again, and sees how long each is on the wire, learns whether its text
//! is like the secret (as CRIME and BREACH did), whatever encrypts the connection. Where secrets and the words of strangers stand in one
//! event, switch compression off: [`Limits::deflate_from`](crate::limits::Limits::deflate_from) of `None`.
//!
//! ```
//! use trunkline_core::codec::deflate::Deflate;
//! let deflate = Deflate::default();
//! let text = "one and two and one and two and one and two";
//! let payload = deflate.compress(&[text.as_bytes()], 15).unwrap();
//! assert!(payload.len() < text.len());
//! assert_eq!(deflate.inflate(&payload, 1024), Ok(text.into()));
//! // Two kinds of bytes have nothing to be shortened.
//! assert_eq!(deflate.compress(&[b"ab"], 15), None);
//! ```

#[cfg(test)]
mod tests;

use std::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::Fault;
use crate::sync::{Arc, Spares};

/// What all connections of a hub compress and inflate with. Clones are the same one.
///
/// No connection has a compressor, of about 330 KiB, or an inflator, of about 50 KiB: one is taken for a message and put back
/// behind it, and a few are kept. Where all of them are in use, one more is made, and dropped afterwards: no more are in use than
/// there are threads, and what goes out does not hang on who else is busy.
#[derive(Clone)]
pub struct Deflate {
    shared: Arc<Shared>,
}

struct Shared {
    compressors: Spares<Compress>,
    inflators: Spares<Decompress>,
}

/// Compressors, and as many inflators, that are kept.
const KEPT: usize = 8;
/// The largest window there is, which is also the one that kept compressors have: 32 KiB.
pub const MAX_WINDOW_BITS: u8 = 15;
/// The smallest that can be had: of the 256 bytes that RFC 7692 also knows, zlib makes no raw streams.
pub const MIN_WINDOW_BITS: u8 = 9;
/// The least work but for fixed codes: on events of some hundred bytes the dearest level saves hardly a hundredth more.
const LEVEL: Compression = Compression::new(2);
/// What a sync flush ends with, and the payload leaves out: RFC 7692 section 7.2.1.
const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];
/// The same for a reader, and an empty last block, which shows that the payload ended where a block did.
const ENDING: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];
/// Where the inflated has no room, it gets twice what there is, and this at least.
const LEAST_ROOM: usize = 256;
/// Final blocks of one message, after each of which a stream begins anew: RFC 7692 section 7.2.3.4 knows one. Each costs as much
/// as some hundred bytes do.
const MAX_STREAMS: usize = 16;
const NOT_DEFLATE: Fault = Fault::NotDeflate;

impl Default for Deflate {
    fn default() -> Self {
        let (compressors, inflators) = (Spares::new(KEPT), Spares::new(KEPT));
        Self { shared: Arc::new(Shared { compressors, inflators }) }
    }
}

impl Deflate {
    /// The payload of a message that is the parts in order, for whoever keeps a window of `window_bits`; `None` where it would be
    /// no shorter than they are.
    ///
    /// It ends where a byte does, and refers to nothing before it: [`stored`] and what comes of other parts may stand before it.
    pub fn compress(&self, parts: &[&[u8]], window_bits: u8) -> Option<Vec<u8>> {
        let bits = window_bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS);
        if bits < MAX_WINDOW_BITS {
            return compress_with(&mut Compress::new_with_window_bits(LEVEL, false, bits), parts);
        }
        let mut compressor = self.shared.compressors.take().unwrap_or_else(|| Compress::new(LEVEL, false));
        let payload = compress_with(&mut compressor, parts);
        compressor.reset();
        self.shared.compressors.put(compressor);
        payload
    }

    /// The message of a payload, of at most `max` bytes. However much it would become, no more than that is kept, and twice as much
    /// for a moment.
    ///
    /// # Errors
    /// [`Fault::TooBig`] as soon as there is more, and [`Fault::NotDeflate`] where it is no whole blocks of RFC 1951, or refers to
    /// what was before it.
    pub fn inflate(&self, payload: &[u8], max: usize) -> Result<Vec<u8>, Fault> {
        let mut inflator = self.shared.inflators.take().unwrap_or_else(|| Decompress::new(false));
        let message = inflate_with(&mut inflator, payload, max);
        inflator.reset(false);
        self.shared.inflators.put(inflator);
        message
    }
}

/// Bytes that are copied as they are: the head of their block, to stand before at most 65,535 of them in a payload. RFC 1951
/// section 3.2.4.
pub fn stored(len: u16) -> [u8; 5] {
    let ([a, b], [c, d]) = (len.to_le_bytes(), (!len).to_le_bytes());
    [0, a, b, c, d]
}

/// What the payload of a message of `max` bytes may have: what cannot be shortened becomes a little longer, by three times as much as
/// zlib reckons with.
pub const fn longest_payload(max: usize) -> usize {
    max.saturating_add(max / 1_024).saturating_add(64)
}

fn compress_with(compressor: &mut Compress, parts: &[&[u8]]) -> Option<Vec<u8>> {
    let len = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    let mut out = Vec::with_capacity(len.saturating_add(FLUSHED.len()));
    for part in parts {
        let before = compressor.total_in();
        compressor.compress_vec(part, &mut out, FlushCompress::None).ok()?;
        if compressor.total_in() - before < part.len() as u64 {
            return None;
        }
    }
    compressor.compress_vec(&[], &mut out, FlushCompress::Sync).ok()?;
    // What fills all the room there is may have an end that found none.
    let payload = out.len().checked_sub(FLUSHED.len()).filter(|payload| *payload < len && out.ends_with(&FLUSHED))?;
    out.truncate(payload);
    Some(out)
}

fn inflate_with(inflator: &mut Decompress, payload: &[u8], max: usize) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    let mut streams = 0;
    make_room(&mut out, payload.len().saturating_mul(2), max)?;
    for (mut rest, is_end) in [(payload, false), (&ENDING[..], true)] {
        while !rest.is_empty() {
            let (had_in, had_out) = (inflator.total_in(), out.len());
            let status = inflator.decompress_vec(rest, &mut out, FlushDecompress::None).map_err(|_| NOT_DEFLATE)?;
            let used = usize::try_from(inflator.total_in() - had_in).map_err(|_| NOT_DEFLATE)?;
            rest = rest.get(used..).unwrap_or_default();
            match status {
                Status::StreamEnd if is_end && rest.is_empty() => return within(out, max),
                Status::StreamEnd if streams < MAX_STREAMS => {
                    streams += 1;
                    inflator.reset(false);
                }
                Status::Ok | Status::BufError if out.len() == out.capacity() => make_room(&mut out, 0, max)?,
                Status::Ok | Status::BufError if used > 0 || out.len() > had_out => {}
                Status::StreamEnd | Status::Ok | Status::BufError => return Err(NOT_DEFLATE),
            }
        }
    }
    Err(NOT_DEFLATE)
}

/// More room than `out` has, up to one byte more than there may be.
fn make_room(out: &mut Vec<u8>, at_first: usize, max: usize) -> Result<(), Fault> {
    if out.len() > max {
        return Err(Fault::TooBig);
    }
    let wanted = out.capacity().saturating_mul(2).max(at_first).max(LEAST_ROOM).min(max.saturating_add(1));
    out.reserve_exact(wanted.saturating_sub(out.len()));
    Ok(())
}

fn within(out: Vec<u8>, max: usize) -> Result<Vec<u8>, Fault> {
    if out.len() > max { Err(Fault::TooBig) } else { Ok(out) }
}

/// Shows what is kept.
impl fmt::Debug for Deflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { compressors, inflators } = &*self.shared;
        write!(f, "Deflate({} compressors, {} inflators)", compressors.kept(), inflators.kept())
    }
}
