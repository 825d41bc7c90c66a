//! The log of one stream: encoded frames, one order, bounded; and the state that stood before its oldest entry.

mod ahead;
mod group;
#[cfg(test)]
mod window;

use std::collections::VecDeque;
use std::fmt;

pub use ahead::Ahead;
use group::Group;

use super::entry::Entry;
use super::reducer::Reducer;
use crate::limits::Limits;
use crate::protocol::{Lost, Mode, Position, ServerFrame, tells_of_a_run};

/// An append-only log of encoded frames. Seqs rise by one.
///
/// When a bound is reached, neighbouring pieces of one streamed text become one entry, and if that is not enough the
/// oldest entries go. What goes is first taken into the `base`: the runs that are open where the log begins. So the base
/// and the log together are always the whole history, as far as open runs are concerned and the base is not too large.
#[derive(Clone, PartialEq, Eq)]
pub struct Log {
    epoch: u64,
    head: u64,
    entries: VecDeque<Entry>,
    /// Of the entries.
    bytes: usize,
    /// How many of the oldest entries were joined with their neighbours already.
    joined: usize,
    /// The newest entry that is no text, and the bytes of those after it.
    boundary: u64,
    text_bytes: usize,
    /// `None` where it tells of no run: most users and all topics have none.
    base: Option<Box<Reducer>>,
}

static NO_RUNS: Reducer = Reducer::new();

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

/// The newest entries stay as they are, or the newest half of a short log: readers that keep up are among them.
const KEEP_APART: usize = 64;
/// How many entries one pass looks at, since it holds the shard.
const MAX_JOINED_AT_ONCE: usize = 256;
/// Fewer entries than this, or than a quarter of a short log, are not worth a pass.
const WORTH_JOINING: usize = 32;
/// Joined frames stay small enough to be sent between others.
const MAX_JOINED: usize = 16 << 10;
/// What was joined before is written again only where so small a multiple of it is new that all the writing stays linear.
const MAX_REWRITTEN: usize = 4;
/// A base that has outgrown its bound gives back an eighth of it, so that not every entry that goes walks through it.
const BASE_SLACK: usize = 8;

impl Log {
    /// An empty log. No other log of this name may ever have had `epoch`.
    pub fn new(epoch: u64) -> Self {
        Self { epoch, head: 0, entries: VecDeque::new(), bytes: 0, joined: 0, boundary: 0, text_bytes: 0, base: None }
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
        let seq = self.entries.front().map_or(self.head, Entry::prev);
        Position { epoch: self.epoch, seq }
    }

    /// Bytes held, bookkeeping and the [`Log::base`] included.
    pub fn bytes(&self) -> usize {
        self.bytes + self.base().bytes()
    }

    /// The runs that are open at [`Log::start`].
    pub fn base(&self) -> &Reducer {
        self.base.as_deref().unwrap_or(&NO_RUNS)
    }

    /// Appends an entry that was encoded for [`Log::next`], and makes room down to the bounds. The newest is never shed.
    pub fn append(&mut self, entry: Entry, limits: &Limits) -> Position {
        debug_assert_eq!(entry.seq(), self.head + 1, "entries are appended in the order they were placed");
        let entry = entry.packed_from(limits.deflate_from);
        self.head = entry.seq();
        self.bytes += entry.bytes();
        if entry.is_text() {
            self.text_bytes = self.text_bytes.saturating_add(entry.bytes());
        } else {
            (self.boundary, self.text_bytes) = (entry.seq(), 0);
        }
        if self.entries.is_empty() {
            // Most users are idle with little in their log: the first takes no room for others.
            self.entries.reserve_exact(1);
        }
        self.entries.push_back(entry);
        while self.entries.len() > limits.log_entries || self.bytes > limits.log_bytes {
            if !self.join_neighbours(limits) && !self.shed(limits) {
                break;
            }
        }
        self.head()
    }

    /// Sheds the oldest entry unless it is the newest too; answers whether it did.
    pub fn shed(&mut self, limits: &Limits) -> bool {
        self.entries.len() > 1 && self.shed_oldest(limits)
    }

    /// Gives something back, the least first: texts that can be joined, then the oldest entry, then, with no entry left,
    /// what of the base is above `wanted` bytes of both. The newest entry stays where `keep_newest` says so. Answers `false`
    /// when there was nothing to give: with 0 wanted, nothing is then left but that entry.
    pub fn relieve(&mut self, wanted: usize, keep_newest: bool, limits: &Limits) -> bool {
        if self.join_neighbours(limits) || self.entries.len() > usize::from(keep_newest) && self.shed_oldest(limits) {
            return true;
        }
        let Some(base) = &mut self.base else { return false };
        let before = base.bytes();
        base.shorten(wanted.saturating_sub(self.bytes));
        base.bytes() < before
    }

    fn shed_oldest(&mut self, limits: &Limits) -> bool {
        let Some(oldest) = self.entries.pop_front() else { return false };
        self.bytes -= oldest.bytes();
        self.joined = self.joined.saturating_sub(1);
        self.take_into_base(&oldest, limits);
        true
    }

    /// The entries after `position`, oldest first; `None` when they are not all here any more, or never were. The first
    /// may begin before `position`, where neighbours were joined: its text is then partly known.
    pub fn after(&self, position: Position) -> Option<impl ExactSizeIterator<Item = &Entry>> {
        if position.epoch != self.epoch || position.seq < self.start().seq || position.seq > self.head {
            return None;
        }
        Some(self.entries.range(self.known_up_to(position.seq)..))
    }

    /// How many entries begin and end at `seq` or before it.
    fn known_up_to(&self, seq: u64) -> usize {
        let ends_by = |entry: &Entry| entry.seq() <= seq;
        // Nearly every reader is near the end, where no entry covers more than one event.
        let ahead = usize::try_from(self.head.saturating_sub(seq)).unwrap_or(usize::MAX);
        let near = self.entries.len().saturating_sub(ahead);
        let is_it = self.entries.get(near).is_none_or(|entry| !ends_by(entry))
            && near.checked_sub(1).and_then(|at| self.entries.get(at)).is_none_or(ends_by);
        if is_it { near } else { self.entries.partition_point(ends_by) }
    }

    /// Answers a reader that was at `position`; one without a position starts at the head, unless a run is open.
    pub fn resume(&self, position: Option<Position>, run_is_open: bool) -> Resumption {
        let (start, head) = (self.start(), self.head());
        let afresh = if self.base.is_none() { Mode::Reset } else { Mode::Snapshot };
        let Some(known) = position else {
            if run_is_open {
                // What the device has not seen of the run is the base and all of the log.
                return Resumption { position: start, head, mode: Mode::Snapshot, lost: None };
            }
            return Resumption { position: head, head, mode: Mode::Live, lost: None };
        };
        if known.epoch == self.epoch && (start.seq..=self.head).contains(&known.seq) {
            let mode = if known.seq == self.head { Mode::Live } else { Mode::Replay };
            return Resumption { position: known, head, mode, lost: None };
        }
        // Whoever never had a position has lost nothing while the log still holds its first entry.
        let lost = (known != Position::NONE || start.seq > 0).then_some(Lost { from: known, to: start });
        Resumption { position: start, head, mode: afresh, lost }
    }

    /// Joins neighbouring pieces of one text that were not looked at before; answers whether anything was gained. Over
    /// the life of a log every entry is looked at once, and few bytes are written more than once.
    fn join_neighbours(&mut self, limits: &Limits) -> bool {
        let len = self.entries.len();
        let settled = len - KEEP_APART.min(len / 2);
        let worth = WORTH_JOINING.min(len / 4).max(1);
        while self.joined + worth <= settled {
            if self.join_up_to(settled.min(self.joined + MAX_JOINED_AT_ONCE), limits) {
                return true;
            }
        }
        false
    }

    fn join_up_to(&mut self, end: usize, limits: &Limits) -> bool {
        let from = self.joined - usize::from(self.goes_on_from_joined(end));
        let mut pairs = self.entries.range(from..end).zip(self.entries.range(from + 1..end));
        if !pairs.any(|(entry, next)| entry.continues_in(next)) {
            self.joined = end;
            return false;
        }
        let newest = self.entries.split_off(end);
        let fresh = self.entries.split_off(from);
        let before = fresh.len();
        let max = limits.event_bytes.min(MAX_JOINED);
        let mut group = Group::default();
        for entry in fresh {
            if !group.has_room_for(&entry, max) {
                self.bytes -= group.join_onto(&mut self.entries);
            }
            group.push(entry);
        }
        self.bytes -= group.join_onto(&mut self.entries);
        self.joined = self.entries.len();
        self.entries.extend(newest);
        self.joined < from + before
    }

    /// Whether the last entry that was looked at goes on in the ones up to `end`, and is small beside them.
    fn goes_on_from_joined(&self, end: usize) -> bool {
        let Some(last) = self.joined.checked_sub(1).and_then(|at| self.entries.get(at)) else { return false };
        let mut before = last;
        let mut fresh = 0;
        for entry in self.entries.range(self.joined..end) {
            if !before.continues_in(entry) {
                break;
            }
            fresh += entry.frame().len();
            before = entry;
        }
        last.frame().len() <= MAX_REWRITTEN.saturating_mul(fresh)
    }

    /// Whether what is not among the newest entries was looked at, and no two single events there could be one.
    #[cfg(test)]
    pub(crate) fn settled_text_is_joined(&self) -> bool {
        let len = self.entries.len();
        let settled = len - KEEP_APART.min(len / 2);
        let single = |entry: &Entry| entry.prev() + 1 == entry.seq();
        let mut pairs = self.entries.iter().take(self.joined.min(settled)).zip(self.entries.iter().skip(1));
        // The last entry that went made the log shorter, and with it what counts as new and as worth a pass.
        let seen = self.joined + WORTH_JOINING.min(len / 4).max(1) + 2 > settled;
        seen && pairs.all(|(entry, next)| {
            let large = entry.frame().len() > MAX_REWRITTEN * next.frame().len();
            let apart = self.entries.get(self.joined).is_some_and(|fresh| fresh.seq() == next.seq());
            apart || large || !(single(entry) && single(next) && entry.continues_in(next))
        })
    }

    fn take_into_base(&mut self, entry: &Entry, limits: &Limits) {
        if !tells_of_a_run(entry.frame()) {
            return;
        }
        // The frames are ours, so they parse; if one did not, the base would only know less.
        let Ok(text) = std::str::from_utf8(entry.frame()) else { return };
        let Ok(ServerFrame::Event(event)) = ServerFrame::parse(text) else { return };
        let base = self.base.get_or_insert_default();
        base.apply(&event);
        if let Some(run) = event.run_id.filter(|_| event.body.is_terminal()) {
            base.forget(run);
        }
        if base.bytes() > limits.snapshot_bytes {
            base.shorten(limits.snapshot_bytes - limits.snapshot_bytes / BASE_SLACK);
        }
        self.base.take_if(|base| base.runs().is_empty());
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
    use bytes::Bytes;

    use super::super::entry::{ENTRY_OVERHEAD, MergedText};
    use super::*;
    use crate::id::{PartId, RunId};
    use crate::protocol::{EventBody, EventHead, encode_event};
    use crate::time::UnixTime;

    fn at(epoch: u64, seq: u64) -> Position {
        Position { epoch, seq }
    }

    /// Something that is no text.
    fn put(log: &mut Log, frame: Bytes, limits: &Limits) {
        let body = EventBody::UserMessage { content: String::new(), metadata: None };
        log.append(Entry::new(log.next().seq, frame, &body, MergedText::default()), limits);
    }

    fn log_of(entries: u64, limits: &Limits) -> Log {
        let mut log = Log::new(7);
        for seq in 1..=entries {
            put(&mut log, Bytes::from(seq.to_string()), limits);
        }
        log
    }

    fn texts(log: &Log, position: Position) -> Option<Vec<String>> {
        log.after(position)
            .map(|entries| entries.map(|entry| String::from_utf8(entry.frame().to_vec()).unwrap()).collect())
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
        put(&mut log, Bytes::from_static(b"4"), &limits);
        assert_eq!((log.start(), log.bytes()), (at(7, 1), limits.log_bytes));
        put(&mut log, Bytes::from(vec![b'x'; limits.log_bytes]), &limits);
        assert_eq!((log.start(), log.head()), (at(7, 4), at(7, 5)));
        assert!(!log.shed(&limits));
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
            let answer = log.resume(known, false);
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
        assert_eq!(log.resume(Some(at(7, 0)), false).mode, Mode::Live);
        assert_eq!(log.resume(Some(Position::NONE), false).lost, None);
    }

    /// A run of one part, as a manager would append it.
    pub(super) struct Writer {
        pub(super) log: Log,
        pub(super) limits: Limits,
        run: RunId,
        run_seq: u64,
        offset: u64,
    }

    impl Writer {
        pub(super) fn new(limits: Limits) -> Self {
            let mut writer = Self { log: Log::new(7), limits, run: RunId::from_bits(9), run_seq: 0, offset: 0 };
            writer.event(&EventBody::AgentStarted { parent_run_id: None, message: None });
            writer
        }

        pub(super) fn event(&mut self, body: &EventBody) {
            self.run_seq += 1;
            let timestamp = UnixTime::from_secs(self.run_seq);
            let head = EventHead {
                position: self.log.next(),
                stream: None,
                timestamp,
                user_id: Some("ann"),
                thread_id: None,
                run_id: Some(self.run),
                run_seq: Some(self.run_seq),
                agent_name: Some("a"),
                flaw: None,
            };
            let frame = Bytes::from(encode_event(&head, body));
            let meta = MergedText { run: Some(self.run), run_seq: self.run_seq, timestamp };
            self.log.append(Entry::new(self.log.next().seq, frame, body, meta), &self.limits);
        }

        pub(super) fn say(&mut self, text: &str) {
            let part_id = PartId::new("p").unwrap();
            self.event(&EventBody::AgentDelta { part_id, offset: self.offset, text: text.into() });
            self.offset += text.chars().count() as u64;
        }
    }

    fn replay(log: &Log, from: Position, mut view: Reducer) -> Reducer {
        for entry in log.after(from).unwrap() {
            match ServerFrame::parse(std::str::from_utf8(entry.frame()).unwrap()).unwrap() {
                ServerFrame::Event(event) => view.apply(&event),
                other => panic!("{other:?}"),
            }
        }
        view
    }

    #[test]
    fn neighbouring_text_is_joined_before_anything_is_shed() {
        let mut run = Writer::new(Limits { log_entries: 200, ..Limits::default() });
        for n in 0..1_000 {
            run.say(&format!("word {n} "));
        }
        assert_eq!(run.log.start(), at(7, 0), "nothing was shed");
        assert!(run.log.after(at(7, 0)).unwrap().len() <= 200);
        let view = replay(&run.log, at(7, 0), Reducer::default());
        let text = &view.runs()[&run.run].parts[&PartId::new("p").unwrap()].text;
        let expected: String = (0..1_000).map(|n| format!("word {n} ")).collect();
        assert_eq!(text, &expected);
        assert_eq!(run.log.bytes(), run.log.after(at(7, 0)).unwrap().map(Entry::bytes).sum::<usize>());
    }

    #[test]
    fn a_position_within_joined_text_is_read_from_with_what_it_knows_repeated() {
        let mut run = Writer::new(Limits { log_entries: 200, ..Limits::default() });
        for n in 0..300 {
            run.say(&format!("{n} "));
        }
        for seq in 0..=301 {
            let entries = run.log.after(at(7, seq)).unwrap();
            let first = entries.into_iter().next();
            assert!(first.is_none_or(|entry| entry.prev() <= seq && seq < entry.seq()), "{seq}");
        }
    }

    #[test]
    fn the_base_and_the_log_are_the_whole_history_of_open_runs() {
        let mut run = Writer::new(Limits { log_entries: 70, ..Limits::default() });
        for n in 0..500 {
            // Thoughts between keep texts apart, so that entries are shed.
            run.event(&EventBody::AgentThinking { thought: format!("t{n}"), step: None, progress: None });
            run.say(&format!("{n} "));
        }
        assert!(run.log.start().seq > 800);
        assert!(run.log.bytes() > run.log.after(run.log.start()).unwrap().map(Entry::bytes).sum::<usize>());
        let view = replay(&run.log, run.log.start(), run.log.base().clone());
        let seen = &view.runs()[&run.run];
        let expected: String = (0..500).map(|n| format!("{n} ")).collect();
        assert_eq!(seen.parts[&PartId::new("p").unwrap()].text, expected);
        assert_eq!((seen.thoughts.len(), seen.run_seq), (500, 1_001));
        run.event(&EventBody::AgentFailed { reason: crate::protocol::FailReason::Error, error: "x".into() });
        for _ in 0..100 {
            run.run = RunId::from_bits(10);
            run.event(&EventBody::AgentThinking { thought: "other".into(), step: None, progress: None });
        }
        assert!(!run.log.base().runs().contains_key(&RunId::from_bits(9)), "an ended run leaves the base");
    }
}
