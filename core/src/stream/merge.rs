//! What one reader is given of a log: the shared frames, or for one that lags, windows of merged text.

use std::fmt;

use bytes::Bytes;

use super::{Entry, Packed, Reducer};
use crate::protocol::{AgentDeltas, DeltaPart, Lost, Position, ServerFrame, Snapshot, SnapshotRun, StreamName};

/// One frame for one reader. `Debug` shows its size.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The seq it follows, where that is not the one before its own.
    pub prev: Option<u64>,
    /// The position it ends at.
    pub seq: u64,
    /// The frame, without `prev` where that is to be put before it.
    pub frame: Bytes,
    /// The same with its compressed form, where all readers share that.
    pub packed: Option<Packed>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prev, seq, frame, packed: _ } = self;
        f.debug_struct("Outgoing")
            .field("prev", prev)
            .field("seq", seq)
            .field("bytes", &frame.len())
            .finish_non_exhaustive()
    }
}

/// Bytes of the frames that one window may stand for, their escapes included. What a window says of a text stands in its
/// frame too, so that the window has no more than this and its own head.
const WINDOW_BYTES: usize = 32 << 10;

/// The frames that take a reader of `stream` from `from` over `entries`, which follow it. With `merging`, neighbouring
/// texts of whatever run become one frame; their order within each part, and every other event, stays.
pub fn frames_for(
    stream: &StreamName,
    user_id: Option<&str>,
    from: Position,
    entries: &[Entry],
    merging: bool,
) -> Vec<Outgoing> {
    let mut frames = Vec::with_capacity(entries.len());
    let mut at = from.seq;
    let mut rest = entries;
    while let Some(entry) = rest.first() {
        let window = if merging { window_len(rest) } else { 0 };
        if window > 1
            && let Some(frame) = merged(stream, user_id, Position { seq: at, ..from }, &rest[..window])
        {
            at = frame.seq;
            frames.push(frame);
            rest = &rest[window..];
            continue;
        }
        let prev = (at != entry.seq().saturating_sub(1)).then_some(at);
        at = entry.seq();
        frames.push(Outgoing { prev, seq: at, frame: entry.frame().clone(), packed: entry.packed().cloned() });
        rest = &rest[1..];
    }
    frames
}

/// How many of the first entries are text and fit in one window.
fn window_len(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    entries
        .iter()
        .take_while(|entry| {
            bytes += entry.frame().len();
            entry.is_text() && bytes <= WINDOW_BYTES
        })
        .count()
}

fn merged(stream: &StreamName, user_id: Option<&str>, from: Position, window: &[Entry]) -> Option<Outgoing> {
    let last = window.last()?;
    let mut parts: Vec<DeltaPart> = Vec::new();
    for entry in window {
        let piece = entry.part()?;
        match parts.iter_mut().find(|part| part.run_id == piece.run_id && part.part_id == piece.part_id) {
            Some(part) => {
                part.text.push_str(&piece.text);
                part.run_seq = piece.run_seq;
            }
            None => parts.push(piece),
        }
    }
    let frame = ServerFrame::Deltas(Box::new(AgentDeltas {
        position: Position { seq: last.seq(), ..from },
        prev: from.seq,
        stream: stream.clone(),
        timestamp: last.timestamp()?,
        user_id: user_id.map(str::to_owned),
        parts,
    }));
    Some(Outgoing { prev: None, seq: last.seq(), frame: Bytes::from(frame.encode()), packed: None })
}

/// Bytes of one of a snapshot's frames as it is encoded.
const SNAPSHOT_BYTES: usize = 32 << 10;
/// What stands in it before its runs: names, positions, numbers and what is lost.
const SNAPSHOT_HEAD: usize = 1 << 10;

/// A state as the frames that carry it: at least one, each of at most 32 KiB, escapes included. A single thought, or
/// what a single call was given or gave, may have more: it then has a frame of its own, which is at most 1 KiB larger
/// than the frame of its event was. The first says what is `lost`.
pub fn snapshot_frames(
    stream: &StreamName,
    position: Position,
    lost: Option<Lost>,
    state: &Reducer,
) -> Vec<ServerFrame> {
    let mut parts: Vec<Vec<SnapshotRun>> = vec![Vec::new()];
    let mut bytes = SNAPSHOT_HEAD;
    for piece in state.pieces(SNAPSHOT_BYTES / 2) {
        let size = piece.encoded_len() + 1;
        if bytes + size > SNAPSHOT_BYTES && bytes > SNAPSHOT_HEAD {
            parts.push(Vec::new());
            bytes = SNAPSHOT_HEAD;
        }
        bytes += size;
        if let Some(last) = parts.last_mut() {
            last.push(piece);
        }
    }
    // Bounded by the bytes that a base may hold: far below 2^32.
    let of = parts.len() as u32;
    let frame = |(part, runs)| {
        let lost = lost.filter(|_| part == 1);
        ServerFrame::Snapshot(Box::new(Snapshot { stream: stream.clone(), event_id: position, part, of, lost, runs }))
    };
    (1..).zip(parts).map(frame).collect()
}
