//! What a reader has before it, without reading it.

use super::Log;
use crate::protocol::Position;

/// What of a log lies before a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// The end of the log.
    pub head: u64,
    /// The newest entry that is no text; after it there is nothing but text.
    pub boundary: u64,
    /// Bytes that were appended after the boundary.
    pub text_bytes: usize,
}

impl Log {
    /// What lies before a reader at `position`; `None` where it has all there is, or must be told that it has not.
    pub fn ahead(&self, position: Position) -> Option<Ahead> {
        let within = position.epoch == self.epoch && (self.start().seq..self.head).contains(&position.seq);
        within.then_some(Ahead { head: self.head, boundary: self.boundary, text_bytes: self.text_bytes })
    }

    /// Whether a position was ever given of this log.
    pub const fn knows(&self, position: Position) -> bool {
        position.epoch == self.epoch && position.seq <= self.head
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::{PartId, RunId};
    use crate::limits::Limits;
    use crate::protocol::{EventBody, EventHead, encode_event};
    use crate::stream::{Entry, MergedText};
    use crate::time::UnixTime;

    fn append(log: &mut Log, is_text: bool, limits: &Limits) {
        let body = if is_text {
            EventBody::AgentDelta {
                part_id: PartId::new(&log.next().seq.to_string()).unwrap(),
                offset: 0,
                text: "x".into(),
            }
        } else {
            EventBody::AgentThinking { thought: "x".into(), step: None, progress: None }
        };
        let run_id = Some(RunId::from_bits(7));
        let head = EventHead {
            position: log.next(),
            stream: None,
            timestamp: UnixTime::from_secs(1),
            user_id: None,
            thread_id: None,
            run_id,
            run_seq: Some(log.next().seq),
            agent_name: None,
            flaw: None,
        };
        let meta = MergedText { run: run_id, ..MergedText::default() };
        let frame = Bytes::from(encode_event(&head, &body));
        log.append(Entry::new(log.next().seq, frame, &body, meta), limits);
    }

    #[test]
    fn the_boundary_is_the_newest_entry_that_is_no_text_also_where_it_is_gone() {
        let limits = Limits { log_entries: 3, ..Limits::default() };
        let mut log = Log::new(7);
        let at = |seq| Position { epoch: 7, seq };
        assert_eq!(log.ahead(at(0)), None, "nothing lies ahead");
        for is_text in [true, false, true, true] {
            append(&mut log, is_text, &limits);
        }
        let ahead = log.ahead(at(1)).unwrap();
        assert_eq!((ahead.head, ahead.boundary), (4, 2));
        assert!(ahead.text_bytes > 0 && log.ahead(at(3)) == Some(ahead));
        assert_eq!((log.ahead(at(4)), log.ahead(at(5)), log.ahead(Position { epoch: 6, seq: 3 })), (None, None, None));
        for _ in 0..6 {
            append(&mut log, true, &limits);
        }
        assert!(log.start().seq > 2 && log.ahead(at(2)).is_none(), "lost");
        assert_eq!(log.ahead(at(9)).unwrap().boundary, 2);
        append(&mut log, false, &limits);
        assert_eq!(log.ahead(at(9)).unwrap(), Ahead { head: 11, boundary: 11, text_bytes: 0 });
    }

    #[test]
    fn a_position_is_known_where_this_incarnation_has_given_it() {
        let mut log = Log::new(7);
        append(&mut log, true, &Limits::default());
        for (epoch, seq, known) in [(7, 0, true), (7, 1, true), (7, 2, false), (6, 1, false), (0, 0, false)] {
            assert_eq!(log.knows(Position { epoch, seq }), known, "{epoch}-{seq}");
        }
    }
}
