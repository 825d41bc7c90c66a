//! One entry of a log: a frame, and for streamed text what it takes to join it with its neighbour.

use std::fmt;

use bytes::Bytes;

use super::Packed;
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
    frame: Frame,
    delta: Option<Delta>,
}

/// Most are short, and nobody compresses them.
#[derive(Clone, PartialEq, Eq)]
enum Frame {
    Plain(Bytes),
    Packed(Packed),
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
        Self { seq, covers: 1, thread_at: 0, frame: Frame::Plain(frame), delta }
    }

    /// The same of an event that belongs to a conversation, as its frame says.
    #[must_use]
    pub fn in_thread(mut self) -> Self {
        self.thread_at = thread_at(self.frame()).unwrap_or(0);
        self
    }

    /// The same with a place for its compressed form, where its frame has `from` bytes; `None` is never.
    #[must_use]
    pub(super) fn packed_from(self, from: Option<usize>) -> Self {
        match self.frame {
            Frame::Plain(frame) if from.is_some_and(|from| frame.len() >= from) => {
                Self { frame: Frame::Packed(Packed::new(frame)), ..self }
            }
            Frame::Plain(_) | Frame::Packed(_) => self,
        }
    }

    /// The frame with its compressed form, where it has a place for that.
    pub const fn packed(&self) -> Option<&Packed> {
        if let Frame::Packed(packed) = &self.frame { Some(packed) } else { None }
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
    pub fn frame(&self) -> &Bytes {
        match &self.frame {
            Frame::Plain(frame) => frame,
            Frame::Packed(packed) => packed.frame(),
        }
    }

    /// The frame from the id of its conversation on, which stands there as [`thread_text`](crate::protocol::thread_text)
    /// writes it; `None` where it belongs to none.
    pub(super) fn thread_on(&self) -> Option<&[u8]> {
        if self.thread_at == 0 { None } else { self.frame().get(self.thread_at as usize..) }
    }

    /// Whether it is streamed text, which may be merged.
    pub const fn is_text(&self) -> bool {
        self.delta.is_some()
    }

    /// What it counts as: the frame and what it may have compressed, the handle in the queue, the names it holds, and the headers
    /// of shared allocations.
    pub fn bytes(&self) -> usize {
        let name = self.delta.as_ref().map_or(0, |delta| SHARED_HEADER + delta.part.as_str().len());
        let packed = self.packed().map_or(0, Packed::reserved);
        self.frame().len() + ENTRY_OVERHEAD + name + packed
    }

    /// Its text as a part of a merged window; `None` where it is no text.
    pub fn part(&self) -> Option<DeltaPart> {
        let delta = self.delta.as_ref()?;
        let text = serde_json::from_slice(delta.layout.text(self.frame())).ok()?;
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

    /// Whether `next` is the piece of the same text that follows it.
    pub(super) fn continues_in(&self, next: &Self) -> bool {
        let (Some(own), Some(other)) = (&self.delta, &next.delta) else { return false };
        own.run == other.run && own.part == other.part && self.seq == next.prev()
    }

    /// Bytes of its text in the frame, quotes and escapes included; 0 where it is no text.
    pub(super) fn text_len(&self) -> usize {
        self.delta.as_ref().map_or(0, |delta| delta.layout.text(self.frame()).len())
    }

    /// Neighbouring pieces of one text as one entry; `None` where they are none.
    pub(super) fn join(pieces: &[Self]) -> Option<Self> {
        let (first, last) = (pieces.first()?, pieces.last()?);
        let layouts: Vec<_> = pieces
            .iter()
            .filter_map(|piece| piece.delta.as_ref().map(|delta| (delta.layout, &**piece.frame())))
            .collect();
        if layouts.len() < pieces.len() {
            return None;
        }
        let frame = DeltaLayout::join(&layouts);
        #[cfg(test)]
        tests::count_written(frame.len());
        let layout = DeltaLayout::find(&frame)?;
        let delta = Delta { offset: first.delta.as_ref()?.offset, layout, ..last.delta.clone()? };
        let covers = pieces.iter().try_fold(0_u32, |sum, piece| sum.checked_add(piece.covers))?;
        // Few read it: whoever does compresses it for itself, and the log is never larger for it.
        let frame = Frame::Plain(Bytes::from(frame));
        // The head is the last one's, and so is the place of what stands in it.
        Some(Self { seq: last.seq, covers, thread_at: last.thread_at, frame, delta: Some(delta) })
    }
}

/// Shows where it stands, not what it holds.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry(({}, {}], {} bytes)", self.prev(), self.seq, self.frame().len())
    }
}

/// The handle in the queue and the header of the shared allocation.
pub(super) const ENTRY_OVERHEAD: usize = size_of::<Entry>() + SHARED_HEADER;
/// Two counts, and the allocator's own.
const SHARED_HEADER: usize = 24;

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::protocol::{Event, EventHead, Position, ServerFrame, encode_event};

    thread_local! {
        static WRITTEN: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn count_written(bytes: usize) {
        WRITTEN.set(WRITTEN.get() + bytes);
    }

    /// Bytes that joining has written on this thread.
    pub(in crate::stream) fn written() -> usize {
        WRITTEN.get()
    }

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
            flaw: None,
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
        assert!(first.continues_in(&second));
        let joined = Entry::join(&[first, second]).unwrap();
        assert_eq!((joined.prev(), joined.seq()), (3, 5));
        let event = event(&joined);
        assert_eq!((event.position.seq, event.run_seq), (5, Some(5)));
        let EventBody::AgentDelta { offset, text, .. } = event.body else { panic!("another kind") };
        assert_eq!((offset, text.as_str()), (2, "né \"quoted\"🙂\\ and on\n"));
        assert_eq!(joined.part().unwrap().text, text);
    }

    #[test]
    fn only_neighbours_of_one_text_are_joined() {
        let first = entry(4, "p", 0, "ab");
        assert!(!first.continues_in(&entry(5, "q", 2, "c")), "another part");
        assert!(!first.continues_in(&entry(6, "p", 2, "c")), "no neighbour");
        let other = Entry::new(5, Bytes::from_static(b"{}"), &message(), MergedText::default());
        assert!(!first.continues_in(&other) && !other.continues_in(&first), "no text");
        assert_eq!(Entry::join(&[first, other]), None);
    }

    fn message() -> EventBody {
        EventBody::UserMessage { content: String::new(), metadata: None }
    }

    #[test]
    fn many_pieces_are_joined_at_once_and_the_joined_one_goes_on() {
        let mut pieces = vec![entry(1, "p", 0, "0\n")];
        for seq in 2..=12_u64 {
            pieces.push(entry(seq, "p", 2 * (seq - 1), "\"\u{1}"));
        }
        let half = Entry::join(&pieces[..6]).unwrap();
        let whole = Entry::join(&[&[half], &pieces[6..]].concat()).unwrap();
        assert_eq!(whole, Entry::join(&pieces).unwrap());
        let part = whole.part().unwrap();
        assert_eq!((part.text, part.run_seq), (format!("0\n{}", "\"\u{1}".repeat(11)), 12));
        assert_eq!(whole.text_len(), crate::protocol::encoded_text_len(&part_text(&pieces)));
    }

    fn part_text(pieces: &[Entry]) -> String {
        pieces.iter().map(|piece| piece.part().unwrap().text).collect()
    }
}
