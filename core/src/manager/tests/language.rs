//! The run automaton against a regular language: what a strict run takes is exactly the words of an expression, and they stand in
//! the log as they were sent.

use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::id::{ApprovalId, RunId, ToolCallId};
use crate::protocol::{EventKind, RunEvent, ServerFrame};

/// What a producer may send, by what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Letter {
    Think,
    Say,
    Call(char),
    Done(char),
    Suspend(char),
    Resume(char),
    Complete,
    Fail,
    Cancel,
}

const NAMES: [char; 2] = ['x', 'y'];

impl Letter {
    fn all() -> Vec<Self> {
        let named = NAMES.iter().flat_map(|n| [Self::Call(*n), Self::Done(*n), Self::Suspend(*n), Self::Resume(*n)]);
        [Self::Think, Self::Say, Self::Complete, Self::Fail, Self::Cancel].into_iter().chain(named).collect()
    }

    fn event(self) -> RunEvent {
        let (call, approval) =
            (|n: char| ToolCallId::new(&n.to_string()).unwrap(), |n: char| ApprovalId::new(&n.to_string()).unwrap());
        match self {
            Self::Think => RunEvent::Thinking { thought: "hm".into(), step: None, progress: None },
            Self::Say => RunEvent::Delta { part_id: "p".parse().unwrap(), offset: None, text: "word".into() },
            Self::Call(n) => {
                RunEvent::ToolExecuting { tool_call_id: Some(call(n)), tool_name: "t".into(), parameters: None }
            }
            Self::Done(n) => {
                RunEvent::ToolCompleted { tool_call_id: call(n), results: None, success: None, error: None }
            }
            Self::Suspend(n) => RunEvent::Suspended { approval_id: Some(approval(n)), question: None },
            Self::Resume(n) => RunEvent::Resumed { approval_id: approval(n), decision: None },
            Self::Complete => RunEvent::Completed { final_response: None, result: None },
            Self::Fail => RunEvent::Failed { reason: None, error: "no".into() },
            Self::Cancel => RunEvent::Cancelled { by: "a".into(), reason: "r".into() },
        }
    }

    const fn kind(self) -> EventKind {
        match self {
            Self::Think => EventKind::AgentThinking,
            Self::Say => EventKind::AgentDelta,
            Self::Call(_) => EventKind::ToolExecuting,
            Self::Done(_) => EventKind::ToolCompleted,
            Self::Suspend(_) => EventKind::AgentSuspended,
            Self::Resume(_) => EventKind::AgentResumed,
            Self::Complete => EventKind::AgentCompleted,
            Self::Fail => EventKind::AgentFailed,
            Self::Cancel => EventKind::AgentCancelled,
        }
    }
}

/// A regular expression, matched letter by letter by its derivatives.
#[derive(Clone)]
enum Regex {
    Nothing,
    Empty,
    One(Rc<dyn Fn(Letter) -> bool>),
    Then(Rc<Regex>, Rc<Regex>),
    Or(Rc<Regex>, Rc<Regex>),
    And(Rc<Regex>, Rc<Regex>),
    Many(Rc<Regex>),
}

use Regex::{And, Empty, Many, Nothing, One, Or, Then};

fn one(of: impl Fn(Letter) -> bool + 'static) -> Regex {
    One(Rc::new(of))
}

fn then(first: Regex, second: Regex) -> Regex {
    match (first, second) {
        (Nothing, _) | (_, Nothing) => Nothing,
        (Empty, other) | (other, Empty) => other,
        (first, second) => Then(Rc::new(first), Rc::new(second)),
    }
}

fn or(first: Regex, second: Regex) -> Regex {
    match (first, second) {
        (Nothing, other) | (other, Nothing) => other,
        (first, second) => Or(Rc::new(first), Rc::new(second)),
    }
}

fn many(of: Regex) -> Regex {
    Many(Rc::new(of))
}

fn maybe(of: Regex) -> Regex {
    or(Empty, of)
}

impl Regex {
    fn takes_empty(&self) -> bool {
        match self {
            Nothing | One(_) => false,
            Empty | Many(_) => true,
            Then(a, b) | And(a, b) => a.takes_empty() && b.takes_empty(),
            Or(a, b) => a.takes_empty() || b.takes_empty(),
        }
    }

    /// What may follow once `letter` has come.
    fn after(&self, letter: Letter) -> Self {
        match self {
            Nothing | Empty => Nothing,
            One(of) => {
                if of(letter) {
                    Empty
                } else {
                    Nothing
                }
            }
            Then(a, b) => {
                let goes_on = then(a.after(letter), (**b).clone());
                if a.takes_empty() { or(goes_on, b.after(letter)) } else { goes_on }
            }
            Or(a, b) => or(a.after(letter), b.after(letter)),
            And(a, b) => And(Rc::new(a.after(letter)), Rc::new(b.after(letter))),
            Many(of) => then(of.after(letter), self.clone()),
        }
    }
}

const fn is_end(letter: Letter) -> bool {
    matches!(letter, Letter::Complete | Letter::Fail | Letter::Cancel)
}

/// All that a run may say after its start, and every beginning of it.
fn language() -> Regex {
    // The end comes last, and once.
    let mut all = then(many(one(|l| !is_end(l))), maybe(one(is_end)));
    for n in NAMES {
        // A call begins once and ends once, in this order, and nothing completes in between.
        let other = move |l| l != Letter::Call(n) && l != Letter::Done(n);
        let open = many(one(move |l| other(l) && l != Letter::Complete));
        let closed = then(one(move |l| l == Letter::Done(n)), many(one(other)));
        let call = then(one(move |l| l == Letter::Call(n)), then(open, maybe(closed)));
        all = And(Rc::new(all), Rc::new(then(many(one(other)), maybe(call))));
        // A question is asked once.
        let quiet = many(one(move |l| l != Letter::Suspend(n)));
        let asked = then(quiet.clone(), maybe(then(one(move |l| l == Letter::Suspend(n)), quiet)));
        all = And(Rc::new(all), Rc::new(asked));
    }
    // While one waits, nothing comes but its answer, or the end of a run that is not completed.
    let going = one(|l| !matches!(l, Letter::Suspend(_) | Letter::Resume(_)));
    let (mut turns, mut waits) = (going, Empty);
    for n in NAMES {
        let asks = one(move |l| l == Letter::Suspend(n));
        turns = or(turns, then(asks.clone(), one(move |l| l == Letter::Resume(n))));
        waits = or(waits, then(asks, maybe(one(|l| matches!(l, Letter::Fail | Letter::Cancel)))));
    }
    And(Rc::new(all), Rc::new(then(many(turns), waits)))
}

/// A run beside what may follow in it.
struct Both {
    shard: Shard,
    run: RunId,
    may_follow: Regex,
    taken: Vec<Letter>,
}

impl Both {
    fn new() -> Self {
        let mut shard = shard(Limits::default());
        let run = shard.start_run(at(0), run_start("ann", 7 << 64)).unwrap().run;
        drain(&mut shard);
        Self { shard, run, may_follow: language(), taken: Vec::new() }
    }

    fn send(&mut self, letter: Letter) {
        let taken = self.shard.run_event(at(0), &user("ann"), self.run, letter.event()).is_ok();
        drain(&mut self.shard);
        let after = self.may_follow.after(letter);
        assert_eq!(taken, after.takes_empty(), "{letter:?} after {:?}", self.taken);
        if taken {
            self.may_follow = after;
            self.taken.push(letter);
        }
    }

    /// What stands in the log is what was taken, and nothing else.
    fn check(&self) {
        let log = &self.shard.users[&user("ann")].channel.log;
        let kinds: Vec<EventKind> = log.after(log.start()).unwrap().map(|entry| kind(entry.frame())).collect();
        let sent = self.taken.iter().map(|letter| letter.kind());
        assert!(kinds.iter().copied().eq(std::iter::once(EventKind::AgentStarted).chain(sent)), "{kinds:?}");
        assert_eq!(self.shard.counts().runs, usize::from(!self.taken.iter().any(|letter| is_end(*letter))));
    }
}

fn kind(frame: &[u8]) -> EventKind {
    let ServerFrame::Event(event) = ServerFrame::parse(std::str::from_utf8(frame).unwrap()).unwrap() else { panic!() };
    event.body.kind()
}

fn letter() -> impl Strategy<Value = Letter> {
    let seldom = prop::sample::select(vec![Letter::Complete, Letter::Fail, Letter::Cancel]);
    let others: Vec<Letter> = Letter::all().into_iter().filter(|letter| !is_end(*letter)).collect();
    prop_oneof![12 => prop::sample::select(others), 1 => seldom]
}

properties! {
    #[test]
    fn a_run_takes_exactly_the_words_of_a_regular_language(word in prop::collection::vec(letter(), 0..40)) {
        let mut both = Both::new();
        word.iter().for_each(|letter| both.send(*letter));
        both.check();
    }
}

#[test]
fn every_word_of_four_letters_is_taken_as_far_as_the_language_goes() {
    let letters = Letter::all();
    let mut words = vec![Vec::new()];
    for _ in 0..4 {
        words = words.iter().flat_map(|word| letters.iter().map(|l| [&word[..], &[*l]].concat())).collect();
    }
    for word in &words {
        let mut both = Both::new();
        word.iter().for_each(|letter| both.send(*letter));
    }
    assert_eq!(words.len(), 28_561);
}

#[test]
fn the_expression_itself_knows_good_words_from_bad() {
    let takes = |word: &[Letter]| word.iter().fold(language(), |left, letter| left.after(*letter)).takes_empty();
    use Letter::{Call, Complete, Done, Fail, Resume, Say, Suspend};
    assert!(takes(&[Call('x'), Call('y'), Done('x'), Say, Done('y'), Complete]));
    assert!(takes(&[Call('x'), Suspend('x'), Fail]) && takes(&[Suspend('x'), Resume('x'), Suspend('y')]));
    assert!(!takes(&[Done('x')]) && !takes(&[Call('x'), Complete]) && !takes(&[Call('x'), Done('x'), Call('x')]));
    assert!(!takes(&[Complete, Say]) && !takes(&[Suspend('x'), Say]) && !takes(&[Suspend('x'), Resume('y')]));
    assert!(!takes(&[Suspend('x'), Complete]) && !takes(&[Suspend('x'), Resume('x'), Suspend('x')]));
}
