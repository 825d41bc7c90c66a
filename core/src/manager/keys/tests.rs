//! The bounds of remembered keys, and what is left of one that meets them.

use std::time::Duration;

use serde_json::value::RawValue;

use super::*;

fn key(text: &str) -> Key {
    (KeyKind::Command, IdempotencyKey::new(text).unwrap())
}

const RUN: Outcome = Outcome::Run(RunId::from_bits(1));

/// An answer of that many bytes.
fn answer(bytes: usize) -> Outcome {
    Outcome::Answered(Box::new(Ok(ReplyOk::Result(RawValue::from_string("9".repeat(bytes)).unwrap()))))
}

impl Keys {
    /// What must hold between any two operations.
    pub(in super::super) fn assert_consistent(&self, limits: &Limits) {
        let Some(table) = self.0.as_deref() else { return };
        assert!(!table.known.is_empty(), "what holds none is no table");
        let settled = table.known.values().filter(|known| known.settled.is_some()).count();
        assert_eq!(settled, table.order.len());
        assert!(settled <= limits.dedup_keys);
        assert_eq!(table.answer_bytes, table.known.values().map(|known| known.outcome.bytes()).sum::<usize>());
        assert!(table.answer_bytes <= limits.dedup_bytes);
        assert_eq!(table.answers.len(), table.known.values().filter(|known| known.outcome.bytes() > 0).count());
        for known in table.known.values() {
            assert_eq!(known.settled.is_none(), matches!(known.outcome, Outcome::Waiting(_)));
        }
    }

    /// How many of them wait.
    pub(in super::super) fn waiting(&self) -> usize {
        let known = self.0.iter().flat_map(|table| table.known.values());
        known.filter(|known| known.settled.is_none()).count()
    }
}

#[test]
fn the_number_is_bounded_and_the_oldest_goes() {
    let limits = Limits { dedup_keys: 2, ..Limits::default() };
    let mut keys = Keys::default();
    for name in ["a", "b", "c"] {
        keys.settle(Timestamp::ZERO, key(name), RUN, &limits);
        keys.assert_consistent(&limits);
    }
    assert_eq!(keys.get(Timestamp::ZERO, &key("a"), &limits), None);
    assert_eq!(keys.get(Timestamp::ZERO, &key("b"), &limits), Some(&RUN));
}

#[test]
fn a_key_is_known_until_its_window_ends() {
    let limits = Limits { dedup_window: Duration::from_micros(10), ..Limits::default() };
    let mut keys = Keys::default();
    keys.settle(Timestamp::ZERO, key("a"), answer(9), &limits);
    assert_eq!(keys.get(Timestamp::from_micros(9), &key("a"), &limits), Some(&answer(9)));
    assert_eq!(keys.get(Timestamp::from_micros(10), &key("a"), &limits), None);
    keys.age(Timestamp::from_micros(9), &limits);
    assert_ne!(keys, Keys::default());
    keys.age(Timestamp::from_micros(10), &limits);
    assert_eq!(keys, Keys::default());
}

#[test]
fn a_key_whose_request_waits_is_not_forgotten_for_others_nor_for_its_age() {
    let limits = Limits { dedup_keys: 1, dedup_window: Duration::from_micros(10), ..Limits::default() };
    let mut keys = Keys::default();
    let request = RequestId::from_bits(7);
    keys.open(Timestamp::ZERO, key("slow"), request, &limits);
    for (n, name) in ["a", "b"].into_iter().enumerate() {
        keys.settle(Timestamp::from_micros(n as u64 * 20), key(name), RUN, &limits);
    }
    let late = Timestamp::from_micros(99);
    assert_eq!(keys.get(late, &key("slow"), &limits), Some(&Outcome::Waiting(request)));
    // Its window begins with its outcome.
    keys.settle(late, key("slow"), RUN, &limits);
    assert_eq!(keys.get(late + Duration::from_micros(9), &key("slow"), &limits), Some(&RUN));
    keys.assert_consistent(&limits);
}

#[test]
fn the_first_outcome_stays_and_only_a_waiting_key_is_forgotten() {
    let limits = Limits::default();
    let mut keys = Keys::default();
    keys.settle(Timestamp::ZERO, key("a"), RUN, &limits);
    keys.settle(Timestamp::ZERO, key("a"), answer(9), &limits);
    keys.forget(&key("a"));
    assert_eq!(keys.get(Timestamp::ZERO, &key("a"), &limits), Some(&RUN));
    keys.open(Timestamp::ZERO, key("b"), RequestId::from_bits(1), &limits);
    keys.forget(&key("b"));
    assert_eq!(keys.get(Timestamp::ZERO, &key("b"), &limits), None);
    keys.assert_consistent(&limits);
}

#[test]
fn answers_are_bounded_in_bytes_and_the_key_outlives_its_answer() {
    let limits = Limits { dedup_bytes: 20, ..Limits::default() };
    let mut keys = Keys::default();
    let get = |keys: &Keys, name: &str| keys.get(Timestamp::ZERO, &key(name), &limits).cloned();
    for name in ["a", "b"] {
        keys.settle(Timestamp::ZERO, key(name), answer(10), &limits);
    }
    assert_eq!((get(&keys, "a"), get(&keys, "b")), (Some(answer(10)), Some(answer(10))), "20 bytes fit");
    keys.settle(Timestamp::ZERO, key("c"), answer(1), &limits);
    assert_eq!((get(&keys, "a"), get(&keys, "b")), (Some(Outcome::AnswerGone), Some(answer(10))), "21 do not");
    keys.assert_consistent(&limits);
    keys.settle(Timestamp::ZERO, key("d"), answer(21), &limits);
    assert_eq!(get(&keys, "d"), Some(Outcome::AnswerGone), "one that never fits takes nobody's room");
    assert_eq!(get(&keys, "b"), Some(answer(10)));
    keys.settle(Timestamp::ZERO, key("e"), answer(20), &limits);
    assert_eq!((get(&keys, "b"), get(&keys, "e")), (Some(Outcome::AnswerGone), Some(answer(20))));
    keys.assert_consistent(&limits);
}

#[test]
fn the_same_text_for_something_else_is_another_key() {
    let limits = Limits::default();
    let mut keys = Keys::default();
    keys.settle(Timestamp::ZERO, key("a"), RUN, &limits);
    let other = (KeyKind::Message, IdempotencyKey::new("a").unwrap());
    assert_eq!(keys.get(Timestamp::ZERO, &other, &limits), None);
}

#[test]
fn ended_runs_are_remembered_up_to_their_number_and_age() {
    let limits = Limits { runs_per_user: 2, dedup_window: Duration::from_micros(10), ..Limits::default() };
    let mut ended = Ended::default();
    for n in 1..=3 {
        ended.remember(Timestamp::ZERO, RunId::from_bits(n), &limits);
    }
    let known = |at: u64| [1, 2, 3].map(|n| ended.contains(Timestamp::from_micros(at), RunId::from_bits(n), &limits));
    assert_eq!(known(9), [false, true, true]);
    assert_eq!(known(10), [false; 3]);
}
