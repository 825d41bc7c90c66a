//! One entry of a log: a frame, and for streamed text what it takes to join it with its neighbour.

use std::fmt;

use bytes::Bytes;

use crate::id::{PartId, RunId};
use crate::protocol::{DeltaLayout, DeltaPart, EventBody, thread_at};
use crate::time::UnixTime;

/// A frame as a log keeps it, covering `(prev, seq]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    seq: u64,
    /// How many events it covers: one, unless neighbours were joined.
    covers: u32,
    /// Where the frame says which conversation it belongs to; 0 where it does not. Not the id itself: a log holds thousands.
    thread_at: u32,
    frame: Bytes,
    delta: Option<Delta>,
}

/// What of an event is needed to merge it, and is not in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MergedText {
    /// The run.
    pub run: Option<RunId>,
    /// The event's number within the run.
    pub run_seq: u64,
    /// When it was appended.
    pub timestamp: UnixTime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Delta {
    run: RunId,
    part: PartId,
    offset: u64,
    run_seq: u64,
    timestamp: UnixTime,
    layout: DeltaLayout,
}

impl Entry {
    /// The entry of an event at `seq`.
    pub fn new(seq: u64, frame: Bytes, body: &EventBody, meta: MergedText) -> Self {
        let delta = match (body, meta.run) {
            (EventBody::AgentDelta { part_id, offset, .. }, Some(run)) => {
                DeltaLayout::find(&frame).map(|layout| Delta {
                    run,
                    part: part_id.clone(),
                    offset: *offset,
                    run_seq: meta.run_seq,
                    timestamp: meta.timestamp,
                    layout,
                })
            }
            _ => None,
        };
        Self { seq, covers: 1, thread_at: 0, frame, delta }
    }

    /// The same of an event that belongs to a conversation, as its frame says.
    #[must_use]
    pub fn in_thread(mut self) -> Self {
        self.thread_at = thread_at(&self.frame).unwrap_or(0);
        self
    }

    /// The seq before the first event it covers.
    pub const fn prev(&self) -> u64 {
        self.seq.saturating_sub(self.covers as u64)
    }

    /// The last seq it covers.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// The frame, without `prev`.
    pub const fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// The frame from the id of its conversation on, which stands there as [`thread_text`](crate::protocol::thread_text)
    /// writes it; `None` where it belongs to none.
    pub(super) fn thread_on(&self) -> Option<&[u8]> {
        if self.thread_at == 0 { None } else { self.frame.get(self.thread_at as usize..) }
    }

    /// Whether it is streamed text, which may be merged.
    pub const fn is_text(&self) -> bool {
        self.delta.is_some()
    }

    /// What it counts as: the frame, the handle in the queue, and the header of the shared allocation.
    pub const fn bytes(&self) -> usize {
        self.frame.len() + ENTRY_OVERHEAD
    }

    /// Its text as a part of a merged window; `None` where it is no text.
    pub fn part(&self) -> Option<DeltaPart> {
        let delta = self.delta.as_ref()?;
        let text = serde_json::from_slice(delta.layout.text(&self.frame)).ok()?;
        Some(DeltaPart {
            run_id: delta.run,
            part_id: delta.part.clone(),
            offset: delta.offset,
            text,
            run_seq: delta.run_seq,
        })
    }

    /// When its last event was appended, where it is text.
    pub fn timestamp(&self) -> Option<UnixTime> {
        self.delta.as_ref().map(|delta| delta.timestamp)
    }

    /// Whether `next`, its neighbour, is a piece of the same text, and both fit in one frame.
    pub(super) fn can_take(&self, next: &Self, max_bytes: usize) -> bool {
        let (Some(own), Some(other)) = (&self.delta, &next.delta) else { return false };
        let fits = self.frame.len() + other.layout.text(&next.frame).len() <= max_bytes.min(MAX_JOINED);
        let countable = self.covers.checked_add(next.covers).is_some();
        own.run == other.run && own.part == other.part && self.seq == next.prev() && fits && countable
    }

    /// Both as one.
    pub(super) fn joined_with(&self, next: &Self) -> Self {
        let (Some(own), Some(other)) = (&self.delta, &next.delta) else { return next.clone() };
        let frame = own.layout.join(&self.frame, other.layout, &next.frame);
        let delta = DeltaLayout::find(&frame).map(|layout| Delta { offset: own.offset, layout, ..other.clone() });
        let covers = self.covers.saturating_add(next.covers);
        // The head is the later one's, and so is the place of what stands in it.
        Self { seq: next.seq, covers, thread_at: next.thread_at, frame: Bytes::from(frame), delta }
    }
}

/// Shows where it stands, not what it holds.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry(({}, {}], {} bytes)", self.prev(), self.seq, self.frame.len())
    }
}

/// The handle in the queue and the header of the shared allocation.
pub(super) const ENTRY_OVERHEAD: usize = size_of::<Entry>() + 24;
/// Joined frames stay small enough to be sent between others.
const MAX_JOINED: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Event, EventHead, Position, ServerFrame, encode_event};

    fn entry(seq: u64, part: &str, offset: u64, text: &str) -> Entry {
        let run = RunId::from_bits(7);
        let body = EventBody::AgentDelta { part_id: PartId::new(part).unwrap(), offset, text: text.into() };
        let timestamp = UnixTime::from_secs(seq);
        let head = EventHead {
            position: Position { epoch: 3, seq },
            stream: None,
            timestamp,
            // A user whose name tries to look like a field.
            user_id: Some(r#"x","offset":9,"text":"y"#),
            thread_id: None,
            run_id: Some(run),
            run_seq: Some(seq),
            agent_name: None,
        };
        let frame = Bytes::from(encode_event(&head, &body));
        Entry::new(seq, frame, &body, MergedText { run: Some(run), run_seq: seq, timestamp })
    }

    fn event(entry: &Entry) -> Box<Event> {
        match ServerFrame::parse(std::str::from_utf8(entry.frame()).unwrap()).unwrap() {
            ServerFrame::Event(event) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn joined_pieces_are_one_event_with_the_last_head_and_the_first_offset() {
        let first = entry(4, "p", 2, "né \"quoted\"");
        let second = entry(5, "p", 13, "🙂\\ and on\n");
        assert!(first.can_take(&second, 64 << 10));
        let joined = first.joined_with(&second);
        assert_eq!((joined.prev(), joined.seq()), (3, 5));
        let event = event(&joined);
        assert_eq!((event.position.seq, event.run_seq), (5, Some(5)));
        let EventBody::AgentDelta { offset, text, .. } = event.body else { panic!("another kind") };
        assert_eq!((offset, text.as_str()), (2, "né \"quoted\"🙂\\ and on\n"));
        assert_eq!(joined.part().unwrap().text, text);
    }

    #[test]
    fn only_neighbours_of_one_text_that_fit_are_joined() {
        let first = entry(4, "p", 0, "ab");
        assert!(!first.can_take(&entry(5, "q", 2, "c"), 64 << 10), "another part");
        assert!(!first.can_take(&entry(6, "p", 2, "c"), 64 << 10), "no neighbour");
        let next = entry(5, "p", 2, "c");
        let needed = first.frame().len() + 3;
        assert!(first.can_take(&next, needed) && !first.can_take(&next, needed - 1));
    }
}
