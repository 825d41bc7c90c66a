//! Which conversations a reader watches.

use std::fmt;

use super::{Entry, Reducer};
use crate::id::ThreadId;
use crate::protocol::thread_text;

/// The conversations that a reader watches: it sees their events, and those that belong to none.
#[derive(Clone, PartialEq, Eq)]
pub struct Threads {
    /// Their ids as frames write them, sorted, so that an entry is looked up without a copy of its id.
    texts: Box<[Box<[u8]>]>,
}

impl Threads {
    /// These alone; `None` where there are none, which is to watch all.
    pub fn new(threads: &[ThreadId]) -> Option<Self> {
        let mut texts: Vec<_> = threads.iter().map(thread_text).collect();
        texts.sort_unstable();
        texts.dedup();
        (!texts.is_empty()).then(|| Self { texts: texts.into() })
    }

    /// Whether an entry of a log is shown.
    pub fn shows_entry(&self, entry: &Entry) -> bool {
        entry.thread_on().is_none_or(|text| self.any_begins(text))
    }

    /// Whether what belongs to this conversation is shown.
    pub fn shows_thread(&self, thread: Option<&ThreadId>) -> bool {
        thread.is_none_or(|thread| self.any_begins(&thread_text(thread)))
    }

    /// Drops the runs of other conversations.
    pub fn narrow(&self, state: &mut Reducer) {
        state.retain(|run| self.shows_thread(run.thread_id.as_ref()));
    }

    /// Whether `text` begins with one of the ids.
    fn any_begins(&self, text: &[u8]) -> bool {
        // No id is the beginning of another, so between one that `text` begins with and `text` itself no other one sorts.
        let after = self.texts.partition_point(|known| **known <= *text);
        after.checked_sub(1).and_then(|at| self.texts.get(at)).is_some_and(|known| text.starts_with(known))
    }
}

/// Shows how many, not which.
impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Threads({})", self.texts.len())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::MergedText;
    use super::*;
    use crate::id::{PartId, RunId};
    use crate::protocol::{EventBody, EventHead, Position, encode_event};
    use crate::time::UnixTime;

    fn entry(seq: u64, thread: Option<&ThreadId>, user: &str, body: &EventBody) -> Entry {
        let (run, timestamp) = (Some(RunId::from_bits(7)), UnixTime::from_secs(seq));
        let head = EventHead {
            position: Position { epoch: 3, seq },
            stream: None,
            timestamp,
            user_id: Some(user),
            thread_id: thread,
            run_id: run,
            run_seq: Some(seq),
            agent_name: Some("a"),
            flaw: None,
        };
        let frame = Bytes::from(encode_event(&head, body));
        let entry = Entry::new(seq, frame, body, MergedText { run, run_seq: seq, timestamp });
        if thread.is_some() { entry.in_thread() } else { entry }
    }

    fn id(text: &str) -> ThreadId {
        ThreadId::new(text).unwrap()
    }

    fn delta(offset: u64, text: &str) -> EventBody {
        EventBody::AgentDelta { part_id: PartId::new("p").unwrap(), offset, text: text.into() }
    }

    /// Letters that frames escape, and words that stand around the id in them.
    fn name() -> impl Strategy<Value = String> {
        prop::collection::vec(prop_oneof![Just("a"), Just("\""), Just("\\"), Just("é"), Just(",\"thread_id\":")], 1..5)
            .prop_map(|parts| parts.concat())
    }

    properties! {
        #[test]
        fn an_entry_is_shown_where_its_thread_is_among_them(
            watched in prop::collection::vec(name(), 1..6), thread in prop::option::of(name()), user in name(), text in name(),
        ) {
            let ids: Vec<ThreadId> = watched.iter().map(|name| id(name)).collect();
            let threads = Threads::new(&ids).unwrap();
            let of = thread.as_deref().map(id);
            let expected = of.as_ref().is_none_or(|of| ids.contains(of));
            let first = entry(1, of.as_ref(), &user, &delta(0, &text));
            let later = entry(10_000, of.as_ref(), &user, &delta(text.chars().count() as u64, &text));
            prop_assert_eq!(threads.shows_entry(&first), expected);
            // Joined, the id stands elsewhere.
            prop_assert_eq!(threads.shows_entry(&Entry::join(&[first, later]).unwrap()), expected);
            prop_assert_eq!(threads.shows_thread(of.as_ref()), expected);
        }
    }

    #[test]
    fn none_is_all_and_what_belongs_to_no_thread_is_shown_to_everybody() {
        assert_eq!(Threads::new(&[]), None);
        let threads = Threads::new(&[id("a"), id("a")]).unwrap();
        assert!(threads.shows_entry(&entry(1, None, "ann", &delta(0, ",\"thread_id\":\"b\""))));
        assert_eq!(format!("{threads:?}"), "Threads(1)");
    }

    #[test]
    fn an_entry_is_no_larger_for_knowing_its_thread() {
        assert!(size_of::<Entry>() <= 112, "{}", size_of::<Entry>());
    }
}
