//! The log of one stream: encoded frames, one order, bounded.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use crate::limits::Limits;
use crate::protocol::{Lost, Mode, Position};

/// What an entry costs beside its bytes: the handle in the queue and the header of the shared allocation.
const ENTRY_OVERHEAD: usize = size_of::<Bytes>() + 24;

/// An append-only log of encoded frames. Seqs rise by one; the oldest go when a bound is reached, and a reader whose
/// place is gone is told so.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Log {
    epoch: u64,
    head: u64,
    entries: VecDeque<Bytes>,
    bytes: usize,
}

/// Where a reader continues from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// What the next frame follows.
    pub position: Position,
    /// The end of the log at this moment.
    pub head: Position,
    /// How the way from the one to the other is covered.
    pub mode: Mode,
    /// What is gone.
    pub lost: Option<Lost>,
}

impl Log {
    /// An empty log. No other log of this name may ever have had `epoch`.
    pub const fn new(epoch: u64) -> Self {
        Self { epoch, head: 0, entries: VecDeque::new(), bytes: 0 }
    }

    /// The end: the position of the newest entry.
    pub const fn head(&self) -> Position {
        Position { epoch: self.epoch, seq: self.head }
    }

    /// The position that the next append gets.
    pub const fn next(&self) -> Position {
        Position { epoch: self.epoch, seq: self.head + 1 }
    }

    /// The position before the oldest entry.
    pub fn start(&self) -> Position {
        Position { epoch: self.epoch, seq: self.head - self.entries.len() as u64 }
    }

    /// Bytes held, bookkeeping included.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a frame that was encoded for [`Log::next`], and sheds the oldest down to the bounds. The newest is
    /// never shed.
    pub fn append(&mut self, frame: Bytes, limits: &Limits) -> Position {
        self.bytes += frame.len() + ENTRY_OVERHEAD;
        self.entries.push_back(frame);
        self.head += 1;
        while self.entries.len() > limits.log_entries || self.bytes > limits.log_bytes {
            if !self.shed() {
                break;
            }
        }
        self.head()
    }

    /// Sheds the oldest entry unless it is the newest too; answers whether it did.
    pub fn shed(&mut self) -> bool {
        if self.entries.len() <= 1 {
            return false;
        }
        if let Some(oldest) = self.entries.pop_front() {
            self.bytes -= oldest.len() + ENTRY_OVERHEAD;
        }
        true
    }

    /// The entries after `position`, oldest first; `None` when they are not all here any more, or never were.
    pub fn after(&self, position: Position) -> Option<impl ExactSizeIterator<Item = &Bytes>> {
        let start = self.start();
        if position.epoch != self.epoch || position.seq < start.seq || position.seq > self.head {
            return None;
        }
        // At most the number of entries, which is a usize.
        let skip = (position.seq - start.seq) as usize;
        Some(self.entries.range(skip..))
    }

    /// Answers a reader that was at `position`; one without a position starts at the head.
    pub fn resume(&self, position: Option<Position>) -> Resumption {
        let (start, head) = (self.start(), self.head());
        let Some(known) = position else {
            return Resumption { position: head, head, mode: Mode::Live, lost: None };
        };
        if known.epoch == self.epoch && (start.seq..=self.head).contains(&known.seq) {
            let mode = if known.seq == self.head { Mode::Live } else { Mode::Replay };
            return Resumption { position: known, head, mode, lost: None };
        }
        // Whoever never had a position has lost nothing while the log still holds its first entry.
        let lost = (known != Position::NONE || start.seq > 0).then_some(Lost { from: known, to: start });
        Resumption { position: start, head, mode: Mode::Reset, lost }
    }
}

/// Shows where it begins and ends, not what it holds.
impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({} to {}, {} bytes)", self.start(), self.head(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, seq: u64) -> Position {
        Position { epoch, seq }
    }

    fn log_of(entries: u64, limits: &Limits) -> Log {
        let mut log = Log::new(7);
        for seq in 1..=entries {
            log.append(Bytes::from(seq.to_string()), limits);
        }
        log
    }

    fn texts(log: &Log, position: Position) -> Option<Vec<String>> {
        log.after(position).map(|entries| entries.map(|entry| String::from_utf8(entry.to_vec()).unwrap()).collect())
    }

    #[test]
    fn reading_continues_after_the_position() {
        let log = log_of(3, &Limits::default());
        assert_eq!(texts(&log, at(7, 0)), Some(vec!["1".into(), "2".into(), "3".into()]));
        assert_eq!(texts(&log, at(7, 2)), Some(vec!["3".into()]));
        assert_eq!(texts(&log, at(7, 3)), Some(vec![]));
        assert_eq!(texts(&log, at(7, 4)), None, "never was");
        assert_eq!(texts(&log, at(6, 1)), None, "another incarnation");
    }

    #[test]
    fn the_entry_bound_holds_at_n_and_sheds_at_n_plus_1() {
        let limits = Limits { log_entries: 3, ..Limits::default() };
        assert_eq!(log_of(3, &limits).start(), at(7, 0));
        let log = log_of(4, &limits);
        assert_eq!((log.start(), log.head()), (at(7, 1), at(7, 4)));
        assert_eq!(texts(&log, at(7, 0)), None);
    }

    #[test]
    fn the_byte_bound_holds_and_the_newest_stays_whatever_its_size() {
        let limits = Limits { log_bytes: 3 * (1 + ENTRY_OVERHEAD), ..Limits::default() };
        let mut log = log_of(3, &limits);
        assert_eq!(log.bytes(), limits.log_bytes);
        log.append(Bytes::from_static(b"4"), &limits);
        assert_eq!((log.start(), log.bytes()), (at(7, 1), limits.log_bytes));
        log.append(Bytes::from(vec![b'x'; limits.log_bytes]), &limits);
        assert_eq!((log.start(), log.head()), (at(7, 4), at(7, 5)));
        assert!(!log.shed());
    }

    #[test]
    fn a_resume_is_answered_for_every_kind_of_position() {
        let whole = log_of(3, &Limits::default());
        let cut = log_of(3, &Limits { log_entries: 2, ..Limits::default() });
        let lost = |from, to| Some(Lost { from, to });
        let cases = [
            (&whole, None, at(7, 3), Mode::Live, None),
            (&whole, Some(at(7, 3)), at(7, 3), Mode::Live, None),
            (&whole, Some(at(7, 0)), at(7, 0), Mode::Replay, None),
            (&whole, Some(Position::NONE), at(7, 0), Mode::Reset, None),
            (&whole, Some(at(6, 9)), at(7, 0), Mode::Reset, lost(at(6, 9), at(7, 0))),
            (&whole, Some(at(7, 4)), at(7, 0), Mode::Reset, lost(at(7, 4), at(7, 0))),
            (&cut, Some(at(7, 1)), at(7, 1), Mode::Replay, None),
            (&cut, Some(at(7, 0)), at(7, 1), Mode::Reset, lost(at(7, 0), at(7, 1))),
            (&cut, Some(Position::NONE), at(7, 1), Mode::Reset, lost(Position::NONE, at(7, 1))),
        ];
        for (log, known, position, mode, lost) in cases {
            let answer = log.resume(known);
            assert_eq!((answer.position, answer.mode, answer.lost), (position, mode, lost), "{known:?}");
            assert_eq!(answer.head, at(7, 3));
            assert!(log.after(answer.position).is_some(), "the answer can be read from");
        }
    }

    #[test]
    fn debug_shows_positions_and_no_payload() {
        assert_eq!(
            format!("{:?}", log_of(1, &Limits::default())),
            format!("Log(7-0 to 7-1, {} bytes)", 1 + ENTRY_OVERHEAD)
        );
    }

    #[test]
    fn a_stream_without_an_event_can_be_resumed() {
        let log = Log::new(7);
        assert_eq!(log.resume(Some(at(7, 0))).mode, Mode::Live);
        assert_eq!(log.resume(Some(Position::NONE)).lost, None);
    }
}
