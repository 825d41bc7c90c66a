//! The frame of an event, encoded once for every reader.

use super::event::EventBody;
use super::position::{Position, StreamName};
use super::wire::{Field, Writer};
use super::writer::push_text;
use crate::id::{RunId, ThreadId};
use crate::time::UnixTime;

/// What stands before an event's own fields.
#[derive(Clone, Copy, Debug)]
pub struct EventHead<'a> {
    /// Where it stands in its stream.
    pub position: Position,
    /// The topic's stream; `None` is the user's own.
    pub stream: Option<&'a StreamName>,
    /// When it was appended.
    pub timestamp: UnixTime,
    /// The subject; not on topics.
    pub user_id: Option<&'a str>,
    /// The conversation.
    pub thread_id: Option<&'a ThreadId>,
    /// The run.
    pub run_id: Option<RunId>,
    /// The event's number within its run, from 1.
    pub run_seq: Option<u64>,
    /// Who works.
    pub agent_name: Option<&'a str>,
    /// Why the event should not have come now, where its run lets such events in.
    pub flaw: Option<&'a str>,
}

/// Bytes of a head with ids of usual length, names and punctuation.
const HEAD_BYTES: usize = 320;

/// The frame of an event without `prev`, as a log keeps it and every reader shares it.
pub fn encode_event(head: &EventHead<'_>, body: &EventBody) -> Vec<u8> {
    let mut out = String::with_capacity(HEAD_BYTES);
    encode_event_in(&mut out, head, body);
    out.into_bytes()
}

/// The same in the room of `out`, in place of what it says.
pub fn encode_event_in(out: &mut String, head: &EventHead<'_>, body: &EventBody) {
    let mut writer = Writer::frame_in(std::mem::take(out), body.type_name());
    write_head(&mut writer, head);
    body.write_body(&mut writer);
    *out = writer.finish();
}

pub(super) fn write_head(writer: &mut Writer, head: &EventHead<'_>) {
    head.position.put(writer, "event_id");
    writer.number("seq", head.position.seq);
    head.timestamp.put(writer, "timestamp");
    if let Some(stream) = head.stream.filter(|stream| **stream != StreamName::User) {
        stream.put(writer, "stream");
    }
    if let Some(user_id) = head.user_id {
        writer.text("user_id", user_id);
    }
    if let Some(thread_id) = head.thread_id {
        writer.text("thread_id", thread_id.as_str());
    }
    if let Some(run_id) = head.run_id {
        run_id.put(writer, "run_id");
    }
    if let Some(run_seq) = head.run_seq {
        writer.number("run_seq", run_seq);
    }
    if let Some(agent_name) = head.agent_name {
        writer.text("agent_name", agent_name);
    }
    if let Some(flaw) = head.flaw {
        writer.text("flaw", flaw);
    }
}

/// Whether an event of [`encode_event`] may change what is known of a run. What an application or a user says does not.
pub fn tells_of_a_run(frame: &[u8]) -> bool {
    // The type comes first.
    ![CUSTOM, USER_MESSAGE].iter().any(|kind| frame.starts_with(kind))
}

const CUSTOM: &[u8] = b"{\"type\":\"custom\",";
const USER_MESSAGE: &[u8] = b"{\"type\":\"user_message\",";

/// Where the value of `thread_id` begins in an event of [`encode_event`] that belongs to a conversation.
pub fn thread_at(frame: &[u8]) -> Option<u32> {
    // Before it stand only fields of the head, and no text of theirs has a quote without a backslash before it.
    let at = THREAD.end_in(frame, 0)?;
    u32::try_from(at).ok()
}

/// A conversation's id as it stands in the frames of its events, quotes included. No such text is the beginning of another.
pub fn thread_text(thread: &ThreadId) -> Box<[u8]> {
    let mut text = String::with_capacity(thread.as_str().len() + 2);
    push_text(&mut text, thread.as_str());
    text.into_bytes().into_boxed_slice()
}

static THREAD: Needle = Needle::new(b",\"thread_id\":");

/// Where the last two fields of an encoded `agent_delta` stand, so that neighbours can be joined without parsing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeltaLayout {
    /// The first digit of `offset`.
    offset_at: u32,
    /// The opening quote of `text`, which goes to the byte before the frame's last.
    text_at: u32,
}

impl DeltaLayout {
    /// Finds the fields; `None` where the frame is no `agent_delta` of [`encode_event`].
    pub fn find(frame: &[u8]) -> Option<Self> {
        // Inside a JSON string a quote follows a backslash, so neither needle occurs in a value.
        let offset_at = OFFSET.end_in(frame, 0)?;
        let text_at = TEXT.end_in(frame, offset_at)?;
        frame.ends_with(END).then_some(())?;
        Some(Self { offset_at: u32::try_from(offset_at).ok()?, text_at: u32::try_from(text_at).ok()? })
    }

    /// `text` as it stands in the frame: a JSON string with its quotes.
    pub fn text(self, frame: &[u8]) -> &[u8] {
        let end = frame.len().saturating_sub(1);
        frame.get(self.text_at as usize..end).unwrap_or_default()
    }

    /// One frame of several neighbours, in order: the last one's head, the first one's offset, and all the texts. Every
    /// byte is written once.
    pub fn join(pieces: &[(Self, &[u8])]) -> Vec<u8> {
        let (Some((first, earliest)), Some((last, latest))) = (pieces.first(), pieces.last()) else {
            return Vec::new();
        };
        let head = latest.get(..last.offset_at as usize).unwrap_or_default();
        let offset = earliest.get(first.offset_at as usize..=first.text_at as usize).unwrap_or_default();
        let texts = pieces.iter().map(|(layout, frame)| layout.letters(frame));
        let bytes = head.len() + offset.len() + texts.clone().map(<[u8]>::len).sum::<usize>() + END.len();
        let mut joined = Vec::with_capacity(bytes);
        joined.extend_from_slice(head);
        joined.extend_from_slice(offset);
        texts.for_each(|text| joined.extend_from_slice(text));
        joined.extend_from_slice(END);
        joined
    }

    /// `text` without its quotes.
    fn letters(self, frame: &[u8]) -> &[u8] {
        let end = frame.len().saturating_sub(END.len());
        frame.get(self.text_at as usize + 1..end).unwrap_or_default()
    }
}

static OFFSET: Needle = Needle::new(b",\"offset\":");
static TEXT: Needle = Needle::new(b",\"text\":");
const END: &[u8] = b"\"}";

/// What is searched in every event, by Horspool's way: the byte under the needle's end says how far the needle moves.
struct Needle {
    text: &'static [u8],
    moves: [u8; 256],
}

impl Needle {
    /// `text` has from 1 to 255 bytes.
    const fn new(text: &'static [u8]) -> Self {
        let mut moves = [text.len() as u8; 256];
        let mut at = 0;
        while at + 1 < text.len() {
            moves[text[at] as usize] = (text.len() - 1 - at) as u8;
            at += 1;
        }
        Self { text, moves }
    }

    /// Where the first one ends that begins at `from` or later.
    fn end_in(&self, haystack: &[u8], from: usize) -> Option<usize> {
        let mut end = from.checked_add(self.text.len())?;
        loop {
            let last = *haystack.get(end.checked_sub(1)?)?;
            if self.text.last() == Some(&last) && haystack.get(..end)?.ends_with(self.text) {
                return Some(end);
            }
            end += usize::from(self.moves[usize::from(last)]);
        }
    }
}

/// What goes before `encoded[1..]` where a frame does not follow the seq before it.
///
/// ```
/// use trunkline_core::protocol::prev_prefix;
/// let encoded = br#"{"type":"agent_delta"}"#;
/// let frame = [prev_prefix(7).as_ref(), &encoded[1..]].concat();
/// assert_eq!(frame, br#"{"prev":7,"type":"agent_delta"}"#);
/// ```
pub fn prev_prefix(prev: u64) -> PrevPrefix {
    let mut prefix = PrevPrefix { bytes: [0; PREV_PREFIX_BYTES], len: 0 };
    prefix.push(b"{\"prev\":");
    prefix.push(itoa::Buffer::new().format(prev).as_bytes());
    prefix.push(b",");
    prefix
}

/// `{"prev":`, at most 20 digits, and a comma.
const PREV_PREFIX_BYTES: usize = 8 + 20 + 1;

/// The bytes that [`prev_prefix`] makes, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct PrevPrefix {
    bytes: [u8; PREV_PREFIX_BYTES],
    len: u8,
}

impl PrevPrefix {
    fn push(&mut self, more: &[u8]) {
        let start = usize::from(self.len);
        // The three pieces together are at most PREV_PREFIX_BYTES, which fits in a byte.
        self.bytes[start..start + more.len()].copy_from_slice(more);
        self.len += more.len() as u8;
    }
}

impl AsRef<[u8]> for PrevPrefix {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    properties! {
        #[test]
        fn a_needle_is_found_where_a_plain_search_finds_it(haystack in "[,\"a-d:]{0,40}", from in 0_usize..45) {
            static NEEDLE: Needle = Needle::new(b",\"ab\":");
            let plain = haystack.get(from..).and_then(|rest| rest.find(",\"ab\":")).map(|at| from + at + 6);
            prop_assert_eq!(NEEDLE.end_in(haystack.as_bytes(), from), plain);
            let around = format!("{haystack},\"ab\":{haystack}");
            let first = around.find(",\"ab\":").map(|at| at + 6);
            prop_assert_eq!(NEEDLE.end_in(around.as_bytes(), 0), first);
        }
    }
}
