//! What one reader is given of a log: the shared frames, or for one that lags, windows of merged text.

use bytes::Bytes;

use super::{Entry, Reducer};
use crate::protocol::{AgentDeltas, DeltaPart, Position, ServerFrame, Snapshot, SnapshotRun, StreamName};

/// One frame for one reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The seq it follows, where that is not the one before its own.
    pub prev: Option<u64>,
    /// The position it ends at.
    pub seq: u64,
    /// The frame, without `prev` where that is to be put before it.
    pub frame: Bytes,
}

/// How much text one window may hold, in bytes before escapes: an escape is at most six times as long, but real text is
/// nearly free of them.
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
        frames.push(Outgoing { prev, seq: at, frame: entry.frame().clone() });
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
    Some(Outgoing { prev: None, seq: last.seq(), frame: Bytes::from(frame.encode()) })
}

/// Text of a snapshot's frames, in bytes before escapes.
const SNAPSHOT_BYTES: usize = 32 << 10;

/// A state as the frames that carry it: at least one, each of at most 32 KiB of text unless a single tool call has
/// more.
pub fn snapshot_frames(stream: &StreamName, position: Position, state: &Reducer) -> Vec<ServerFrame> {
    let mut parts: Vec<Vec<SnapshotRun>> = vec![Vec::new()];
    let mut bytes = 0;
    for piece in state.pieces(SNAPSHOT_BYTES / 2) {
        let size = PIECE_OVERHEAD + piece_bytes(&piece);
        if bytes + size > SNAPSHOT_BYTES && bytes > 0 {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = parts.last_mut() {
            last.push(piece);
        }
    }
    // Bounded by the bytes that a base may hold: far below 2^32.
    let of = parts.len() as u32;
    let frame = |(part, runs)| {
        ServerFrame::Snapshot(Box::new(Snapshot { stream: stream.clone(), event_id: position, part, of, runs }))
    };
    (1..).zip(parts).map(frame).collect()
}

/// Names, ids and punctuation of a piece.
const PIECE_OVERHEAD: usize = 512;

fn piece_bytes(piece: &SnapshotRun) -> usize {
    let raw = |json: &Option<Box<serde_json::value::RawValue>>| json.as_ref().map_or(0, |json| json.get().len());
    let thoughts: usize = piece.thoughts.iter().map(|thought| size_of::<String>() + thought.len()).sum();
    let parts: usize = piece.parts.iter().map(|part| part.text.len()).sum();
    let tools: usize = piece.tools.iter().map(|tool| raw(&tool.parameters) + raw(&tool.results)).sum();
    thoughts + parts + tools
}
