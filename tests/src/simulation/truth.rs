//! What was really published: of each log which entry is which, of each run what its producer said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use trunkline_core::id::{ApprovalId, RunId};
use trunkline_core::protocol::{EventBody, FailReason, Position};
use trunkline_core::time::Timestamp;

use super::judge::Judge;

/// One event of a run, as its producer said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Started,
    Thinking(u64),
    Called(u64),
    Ended(u64),
    /// Up to where the part's text reaches with it.
    Text {
        part: u8,
        end: u64,
    },
    Suspended,
    Resumed,
    Completed(u64),
    Failed(u64),
    Cancelled,
    /// Its producer is gone.
    Lost,
}

/// What stands at one place of a user's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Something that came over the wire, and that nobody has seen yet.
    Unknown,
    Custom(u64),
    Message(u64),
    /// An event of the run of this number.
    Run {
        tag: usize,
        run_seq: u64,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) what: What,
    /// 0 is none.
    pub(super) thread: u8,
}

/// One run.
#[derive(Debug)]
pub(super) struct RunTruth {
    pub(super) user: usize,
    pub(super) thread: u8,
    pub(super) id: Option<RunId>,
    /// Its producer is no part of the server's process.
    pub(super) wire: bool,
    pub(super) marks: Vec<Mark>,
    /// How many characters each part has.
    pub(super) ends: [u64; PARTS],
    /// Nothing follows.
    pub(super) over: bool,
    /// The server that had it is gone.
    pub(super) gone: bool,
    /// Since when its producer may have been lost, over the wire.
    pub(super) let_go: Option<Timestamp>,
}

pub(super) const PARTS: usize = 2;

/// The letters of streamed texts: some take several bytes, some are escaped in JSON.
const LETTERS: [char; 11] = ['a', 'é', '"', '🙂', 'z', '\\', '1', '\n', 'ß', ' ', '漢'];

fn letter(tag: usize, part: usize, at: u64) -> char {
    LETTERS[(tag as u64 + 3 * part as u64 + at * 5) as usize % LETTERS.len()]
}

/// A piece of the text of a run's part: every run has texts of its own.
pub(super) fn text(tag: usize, part: usize, from: u64, chars: u64) -> String {
    (from..from + chars).map(|at| letter(tag, part, at)).collect()
}

/// How many characters a piece has, where it is what stands there.
pub(super) fn measure(tag: usize, part: usize, from: u64, piece: &str) -> Option<u64> {
    let mut chars = 0;
    for found in piece.chars() {
        if found != letter(tag, part, from + chars) {
            return None;
        }
        chars += 1;
    }
    Some(chars)
}

impl RunTruth {
    pub(super) fn push(&mut self, mark: Mark) -> u64 {
        if let Mark::Text { part, end } = mark {
            self.ends[usize::from(part)] = end;
        }
        self.over |= matches!(mark, Mark::Completed(_) | Mark::Failed(_) | Mark::Cancelled | Mark::Lost);
        self.marks.push(mark);
        self.marks.len() as u64
    }

    pub(super) fn mark(&self, run_seq: u64) -> Option<Mark> {
        self.marks.get(usize::try_from(run_seq).ok()?.checked_sub(1)?).copied()
    }
}

impl Mark {
    pub(super) const fn is_text(self) -> bool {
        matches!(self, Self::Text { .. })
    }

    pub(super) const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed(_) | Self::Failed(_) | Self::Cancelled | Self::Lost)
    }

    /// Whether an event says this; texts are looked at elsewhere.
    pub(super) fn is_said_by(self, body: &EventBody) -> bool {
        let number = |text: &str, number: u64| text.parse() == Ok(number);
        match (self, body) {
            (Self::Started, EventBody::AgentStarted { .. })
            | (Self::Text { .. }, EventBody::AgentDelta { .. })
            | (Self::Suspended, EventBody::AgentSuspended { .. })
            | (Self::Resumed, EventBody::AgentResumed { .. })
            | (Self::Cancelled, EventBody::AgentCancelled { .. }) => true,
            (Self::Thinking(n), EventBody::AgentThinking { thought, .. }) => number(thought, n),
            (Self::Called(n), EventBody::ToolExecuting { tool_name, .. }) => number(tool_name, n),
            (Self::Ended(n), EventBody::ToolCompleted { results, .. }) => number(results.get(), n),
            (Self::Completed(n), EventBody::AgentCompleted { final_response, .. }) => {
                final_response.as_ref().is_some_and(|text| number(text, n))
            }
            (Self::Failed(n), EventBody::AgentFailed { error, .. }) => number(error, n),
            (Self::Lost, EventBody::AgentFailed { reason, .. }) => *reason == FailReason::ProducerLost,
            (
                Self::Started
                | Self::Text { .. }
                | Self::Suspended
                | Self::Resumed
                | Self::Cancelled
                | Self::Thinking(_)
                | Self::Called(_)
                | Self::Ended(_)
                | Self::Completed(_)
                | Self::Failed(_)
                | Self::Lost,
                _,
            ) => false,
        }
    }
}

/// All logs.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) users: Vec<UserTruth>,
    pub(super) runs: Vec<RunTruth>,
    by_id: BTreeMap<RunId, usize>,
    /// Whose event of the application's own a number is, in which thread, with how many bytes.
    pub(super) customs: BTreeMap<u64, (usize, u8, u16)>,
    /// The same of messages.
    pub(super) messages: BTreeMap<u64, (usize, u8)>,
    pub(super) topics: Vec<TopicTruth>,
    /// What runs wait for: whose, which run, and which approval.
    pub(super) approvals: VecDeque<(usize, usize, ApprovalId)>,
    /// Messages that stand in a log.
    answered: BTreeSet<u64>,
    numbers: u64,
}

/// The logs of one user, by their epochs.
#[derive(Debug, Default)]
pub(super) struct UserTruth {
    logs: BTreeMap<u64, Vec<Entry>>,
    pub(super) head: Option<Position>,
}

/// One topic.
#[derive(Debug, Default)]
pub(super) struct TopicTruth {
    /// What was published, in order.
    pub(super) events: Vec<u64>,
    /// What was seen at which position.
    pub(super) seen: BTreeMap<Position, usize>,
}

impl UserTruth {
    pub(super) fn entry(&mut self, position: Position) -> Option<&mut Entry> {
        let at = usize::try_from(position.seq).ok()?.checked_sub(1)?;
        self.logs.get_mut(&position.epoch)?.get_mut(at)
    }

    /// The log's end is here now: how many entries are new.
    pub(super) fn grow(&mut self, head: Option<Position>, judge: &Judge) -> u64 {
        let before = self.head;
        self.head = head;
        let Some(head) = head else { return 0 };
        if before == Some(head) {
            return 0;
        }
        judge.hold(before.is_none_or(|before| before < head), "I4", || format!("a log went from {before:?} to {head}"));
        let log = self.logs.entry(head.epoch).or_default();
        let new = head.seq.saturating_sub(log.len() as u64);
        judge.hold(log.len() as u64 <= head.seq, "I4", || format!("the epoch {} was there before", head.epoch));
        log.resize(log.len() + new as usize, Entry { what: What::Unknown, thread: 0 });
        new
    }
}

impl Truth {
    pub(super) fn new(users: usize, topics: usize) -> Self {
        let users = (0..users).map(|_| UserTruth::default()).collect();
        let topics = (0..topics).map(|_| TopicTruth::default()).collect();
        Self { users, topics, ..Self::default() }
    }

    /// A number that was not used before.
    pub(super) const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A run that begins; its number stands in its first event.
    pub(super) fn begin(&mut self, user: usize, thread: u8, id: Option<RunId>, wire: bool) -> usize {
        let (marks, ends) = (vec![Mark::Started], [0; PARTS]);
        self.runs.push(RunTruth { user, thread, id, wire, marks, ends, over: false, gone: false, let_go: None });
        let tag = self.runs.len() - 1;
        if let Some(id) = id {
            self.by_id.insert(id, tag);
        }
        tag
    }

    /// The run has this id.
    pub(super) fn name(&mut self, tag: usize, id: RunId) {
        let run = &mut self.runs[tag];
        run.id = Some(id);
        run.gone = false;
        self.by_id.insert(id, tag);
    }

    /// A message stands in a log; says whether it is the first time.
    pub(super) fn answer(&mut self, message: u64) -> bool {
        self.answered.insert(message)
    }

    pub(super) fn run_of(&self, id: RunId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// The newest entries of a user's log are these.
    pub(super) fn fill(&mut self, user: usize, entries: &[Entry]) {
        let truth = &mut self.users[user];
        let Some(head) = truth.head else { return };
        for (behind, entry) in entries.iter().rev().enumerate() {
            let seq = head.seq.saturating_sub(behind as u64);
            if let Some(place) = truth.entry(Position { seq, ..head }) {
                *place = *entry;
            }
        }
    }

    /// The server is gone, and every run with it.
    pub(super) fn restart(&mut self) {
        self.users.iter_mut().for_each(|user| user.head = None);
        self.runs.iter_mut().for_each(|run| run.gone |= !run.over);
    }
}
