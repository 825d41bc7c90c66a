//! Keys of requests, so that a repeat has the same effect and the same answer, also over another connection.

use std::collections::{BTreeMap, VecDeque};

use super::payload_bytes;
use super::requests::RequestId;
use crate::id::{IdempotencyKey, RunId};
use crate::limits::Limits;
use crate::protocol::{ReplyError, ReplyOk};
use crate::time::Timestamp;

/// What a key is for. The same text for something else is another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum KeyKind {
    /// A message to an agent, and the cancellation that names it.
    Message,
    /// A command.
    Command,
    /// A run of a producer over the wire.
    RunStart,
    /// An event of a back end's own.
    Publish,
}

/// What a key counts as: its text twice and what holds it.
const KEY_BYTES: usize = 384;

/// A key in its namespace.
pub(super) type Key = (KeyKind, IdempotencyKey);

/// What became of the request that came with a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// Nothing yet.
    Waiting(RequestId),
    /// A run, open or ended.
    Run(RunId),
    /// Its sender took it back before this run began.
    Withdrawn(RunId),
    /// What the application said.
    Answered(Box<Result<ReplyOk, ReplyError>>),
    /// The application answered, and there was no room to keep what it said.
    AnswerGone,
}

impl Outcome {
    fn bytes(&self) -> usize {
        match self {
            Self::Answered(outcome) => payload_bytes(outcome),
            Self::Waiting(_) | Self::Run(_) | Self::Withdrawn(_) | Self::AnswerGone => 0,
        }
    }
}

/// Keys of one user from one kind of sender: those whose requests wait, and the newest of the others, bounded in number,
/// age, and the bytes of the answers that are kept with them. Boxed, and only where there are any: most users send none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Keys(Option<Box<Table>>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Table {
    known: BTreeMap<Key, Known>,
    /// Those that are settled, oldest first.
    order: VecDeque<Key>,
    /// Those among them whose answer is kept.
    answers: VecDeque<Key>,
    answer_bytes: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    /// Since when the outcome is the last one.
    settled: Option<Timestamp>,
    outcome: Outcome,
}

impl Outcome {
    /// Done, with nothing to keep.
    pub(super) fn done() -> Self {
        Self::Answered(Box::new(Ok(ReplyOk::Done)))
    }
}

impl Keys {
    pub(super) fn has(&self, now: Timestamp, key: &Key, limits: &Limits) -> bool {
        self.get(now, key, limits).is_some()
    }

    pub(super) fn get(&self, now: Timestamp, key: &Key, limits: &Limits) -> Option<&Outcome> {
        let known = self.0.as_ref()?.known.get(key)?;
        known.settled.is_none_or(|at| at + limits.dedup_window > now).then_some(&known.outcome)
    }

    /// The key's first request waits: its repeats wait with it, however many other keys come.
    pub(super) fn open(&mut self, now: Timestamp, key: Key, request: RequestId, limits: &Limits) {
        self.0.get_or_insert_default();
        self.change(|table| {
            table.age(now, limits);
            table.known.insert(key, Known { settled: None, outcome: Outcome::Waiting(request) });
        });
    }

    /// What the key's request came to, for its repeats from now on. The first outcome stays.
    pub(super) fn settle(&mut self, now: Timestamp, key: Key, outcome: Outcome, limits: &Limits) {
        self.0.get_or_insert_default();
        self.change(|table| table.settle(now, key, outcome, limits));
    }

    /// The request came to nothing: its repeat is a new request.
    pub(super) fn forget(&mut self, key: &Key) {
        self.change(|table| {
            if table.known.get(key).is_some_and(|known| known.settled.is_none()) {
                table.known.remove(key);
            }
        });
    }

    /// When the last key stops to count.
    pub(super) fn expiry(&self, limits: &Limits) -> Option<Timestamp> {
        let table = self.0.as_ref()?;
        let newest = table.known.get(table.order.back()?)?;
        newest.settled.map(|at| at + limits.dedup_window)
    }

    /// Lets go of the keys whose window is over.
    pub(super) fn age(&mut self, now: Timestamp, limits: &Limits) {
        self.change(|table| table.age(now, limits));
    }

    /// Bytes of the keys that are settled and of the answers that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |table| table.bytes())
    }

    /// Lets go of the oldest that is settled.
    pub(super) fn forget_oldest(&mut self) {
        self.change(Table::forget_oldest);
    }

    fn change(&mut self, change: impl FnOnce(&mut Table)) {
        let Some(table) = &mut self.0 else { return };
        change(table);
        if table.known.is_empty() {
            self.0 = None;
        }
    }
}

impl Table {
    fn settle(&mut self, now: Timestamp, key: Key, outcome: Outcome, limits: &Limits) {
        self.age(now, limits);
        if self.known.get(&key).is_some_and(|known| known.settled.is_some()) {
            return;
        }
        let outcome = self.with_room(&key, outcome, limits);
        self.known.insert(key.clone(), Known { settled: Some(now), outcome });
        self.order.push_back(key);
        while self.order.len() > limits.dedup_keys {
            self.forget_oldest();
        }
    }

    fn age(&mut self, now: Timestamp, limits: &Limits) {
        while let Some(oldest) = self.order.front().and_then(|key| self.known.get(key)) {
            if oldest.settled.is_none_or(|at| at + limits.dedup_window > now) {
                break;
            }
            self.forget_oldest();
        }
    }

    /// The outcome as it can be kept: of the answers, the oldest make room.
    fn with_room(&mut self, key: &Key, outcome: Outcome, limits: &Limits) -> Outcome {
        let bytes = outcome.bytes();
        if bytes == 0 {
            return outcome;
        }
        if bytes > limits.dedup_bytes {
            return Outcome::AnswerGone;
        }
        self.answers.push_back(key.clone());
        self.answer_bytes += bytes;
        while self.answer_bytes > limits.dedup_bytes {
            let Some(oldest) = self.answers.pop_front() else { break };
            if let Some(known) = self.known.get_mut(&oldest) {
                let answer = std::mem::replace(&mut known.outcome, Outcome::AnswerGone);
                self.answer_bytes = self.answer_bytes.saturating_sub(answer.bytes());
            }
        }
        outcome
    }

    fn bytes(&self) -> usize {
        self.answer_bytes + self.order.len() * KEY_BYTES
    }

    fn forget_oldest(&mut self) {
        let Some(key) = self.order.pop_front() else { return };
        if let Some(known) = self.known.remove(&key) {
            self.answer_bytes = self.answer_bytes.saturating_sub(known.outcome.bytes());
        }
        if self.answers.front() == Some(&key) {
            self.answers.pop_front();
        }
    }
}

/// The latest runs that have ended, so that a cancellation that comes too late is told so; bounded in number and age.
#[derive(Clone, Debug, Default)]
pub(super) struct Ended(VecDeque<(Timestamp, RunId)>);

impl Ended {
    pub(super) fn remember(&mut self, now: Timestamp, run: RunId, limits: &Limits) {
        self.0.push_back((now, run));
        while self.0.len() > limits.runs_per_user {
            self.0.pop_front();
        }
    }

    pub(super) fn contains(&self, now: Timestamp, run: RunId, limits: &Limits) -> bool {
        self.0.iter().any(|(at, ended)| *ended == run && *at + limits.dedup_window > now)
    }
}

#[cfg(test)]
mod tests;
