//! What a resume promises, against what the log can really give.

use proptest::prelude::*;

use super::tests::Writer;
use super::{Entry, Log};
use crate::limits::Limits;
use crate::protocol::{EventBody, Lost, Mode, Position};

#[derive(Clone, Copy, Debug)]
enum Append {
    /// Pieces of a text, which may be joined.
    Texts(usize),
    /// Something that keeps its place.
    Thought,
    /// Room is made for others.
    Shed,
}

fn append() -> impl Strategy<Value = Append> {
    prop_oneof![3 => (1_usize..12).prop_map(Append::Texts), 3 => Just(Append::Thought), 1 => Just(Append::Shed)]
}

fn log_of(appends: &[Append], limits: Limits) -> Log {
    let mut run = Writer::new(limits);
    for append in appends {
        match append {
            Append::Texts(pieces) => (0..*pieces).for_each(|_| run.say("word ")),
            Append::Thought => {
                run.event(&EventBody::AgentThinking { thought: "hm".into(), step: None, progress: None })
            }
            Append::Shed => drop(run.log.shed(&run.limits)),
        }
    }
    run.log
}

/// Whether the log's entries lead from a place to its end without a hole. The first may begin before it.
fn leads_to_the_end(log: &Log, from: u64) -> bool {
    let mut reached = from;
    for entry in log.entries.iter().filter(|entry| entry.seq() > from) {
        if entry.prev() > reached {
            return false;
        }
        reached = Entry::seq(entry);
    }
    reached == log.head
}

properties! {
    /// At every place within the log, at its edges and outside of it: what the answer leaves out is named as lost, and nothing else
    /// is.
    #[test]
    fn a_resume_promises_just_what_can_be_given(
        appends in prop::collection::vec(append(), 0..60), log_entries in 1_usize..40,
    ) {
        let log = log_of(&appends, Limits { log_entries, ..Limits::default() });
        let head = log.head();
        for seq in 0..=head.seq + 2 {
            let known = Position { seq, ..head };
            let answer = log.resume(Some(known), true);
            prop_assert!(leads_to_the_end(&log, answer.position.seq), "from {} on: {:?}", seq, log);
            let whole = seq <= head.seq && leads_to_the_end(&log, seq);
            let (mode, position) = match (whole, seq == head.seq) {
                (true, true) => (Some(Mode::Live), known),
                (true, false) => (Some(Mode::Replay), known),
                (false, _) => (None, log.start()),
            };
            prop_assert_eq!((answer.position, answer.head), (position, head), "{} of {:?}", seq, log);
            prop_assert_eq!(answer.lost, (!whole).then_some(Lost { from: known, to: log.start() }));
            let promised = matches!(answer.mode, Mode::Live | Mode::Replay).then_some(answer.mode);
            prop_assert_eq!(promised, mode, "{} of {:?}", seq, log);
        }
        let elsewhere = Position { epoch: head.epoch + 1, seq: head.seq };
        prop_assert!(log.resume(Some(elsewhere), true).lost.is_some(), "another log's place");
    }
}
