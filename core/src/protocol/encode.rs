//! The frame of an event, encoded once for every reader.

use super::event::EventBody;
use super::position::{Position, StreamName};
use super::wire::{Field, Writer};
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
}

/// Bytes of a head with ids of usual length, names and punctuation.
const HEAD_BYTES: usize = 320;

/// The frame of an event without `prev`, as a log keeps it and every reader shares it.
pub fn encode_event(head: &EventHead<'_>, body: &EventBody) -> Vec<u8> {
    let mut writer = Writer::frame(body.type_name(), HEAD_BYTES.saturating_add(body.text_bytes()));
    write_head(&mut writer, head);
    body.write_body(&mut writer);
    let mut bytes = writer.finish().into_bytes();
    // A log keeps these for minutes: what the estimate had too much goes back.
    bytes.shrink_to_fit();
    bytes
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
        writer.plain("run_id", run_id);
    }
    if let Some(run_seq) = head.run_seq {
        writer.number("run_seq", run_seq);
    }
    if let Some(agent_name) = head.agent_name {
        writer.text("agent_name", agent_name);
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
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = prev;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    prefix.push(&digits[at..]);
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
