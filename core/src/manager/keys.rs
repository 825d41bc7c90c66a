//! Keys of requests, so that a repeat has the same effect and the same answer, also over another connection.

use std::collections::{BTreeMap, VecDeque};

use super::requests::RequestId;
use crate::id::{IdempotencyKey, RunId};
use crate::limits::Limits;
use crate::time::Timestamp;

/// What became of the request that came with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    Waiting(RequestId),
    Run(RunId),
}

/// The newest keys of one user: bounded in number and age.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Keys {
    known: BTreeMap<IdempotencyKey, Outcome>,
    order: VecDeque<(Timestamp, IdempotencyKey)>,
}

impl Keys {
    pub(super) fn get(&mut self, now: Timestamp, key: &IdempotencyKey, limits: &Limits) -> Option<Outcome> {
        self.age(now, limits);
        self.known.get(key).copied()
    }

    pub(super) fn insert(&mut self, now: Timestamp, key: IdempotencyKey, outcome: Outcome, limits: &Limits) {
        if self.known.insert(key.clone(), outcome).is_none() {
            self.order.push_back((now, key));
        }
        while self.order.len() > limits.dedup_keys {
            self.forget_oldest();
        }
        self.age(now, limits);
    }

    /// The request has become a run. A key that was forgotten meanwhile and has come again is the later request's.
    pub(super) fn settle(
        &mut self,
        now: Timestamp,
        key: IdempotencyKey,
        request: RequestId,
        run: RunId,
        limits: &Limits,
    ) {
        if self.known.get(&key).is_none_or(|known| *known == Outcome::Waiting(request)) {
            self.insert(now, key, Outcome::Run(run), limits);
        }
    }

    /// The request came to nothing: its repeat is a new request. A key that was forgotten meanwhile and has come again
    /// is the later request's.
    pub(super) fn remove(&mut self, key: &IdempotencyKey, request: RequestId) {
        if self.known.get(key) == Some(&Outcome::Waiting(request)) {
            self.known.remove(key);
            self.order.retain(|(_, known)| known != key);
        }
    }

    /// When the last key stops to count.
    pub(super) fn expiry(&self, limits: &Limits) -> Option<Timestamp> {
        self.order.back().map(|(at, _)| *at + limits.dedup_window)
    }

    fn age(&mut self, now: Timestamp, limits: &Limits) {
        while self.order.front().is_some_and(|(at, _)| *at + limits.dedup_window <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey::new(text).unwrap()
    }

    const RUN: Outcome = Outcome::Run(RunId::from_bits(1));

    #[test]
    fn the_number_is_bounded_and_the_oldest_goes() {
        let limits = Limits { dedup_keys: 2, ..Limits::default() };
        let mut keys = Keys::default();
        for name in ["a", "b", "c"] {
            keys.insert(Timestamp::ZERO, key(name), RUN, &limits);
        }
        assert_eq!(keys.get(Timestamp::ZERO, &key("a"), &limits), None);
        assert_eq!(keys.get(Timestamp::ZERO, &key("b"), &limits), Some(RUN));
        assert_eq!(keys.order.len(), keys.known.len());
    }

    #[test]
    fn a_key_is_known_until_its_window_ends() {
        let limits = Limits { dedup_window: Duration::from_micros(10), ..Limits::default() };
        let mut keys = Keys::default();
        keys.insert(Timestamp::ZERO, key("a"), RUN, &limits);
        assert_eq!(keys.get(Timestamp::from_micros(9), &key("a"), &limits), Some(RUN));
        assert_eq!(keys.get(Timestamp::from_micros(10), &key("a"), &limits), None);
        assert_eq!(keys, Keys::default());
    }
}
