//! What the events of runs add up to: the same reducer keeps a log's base and draws a device's view.

use std::collections::BTreeMap;

use super::view::RunView;
use crate::id::{PartId, RunId};
use crate::protocol::{Event, EventBody, SnapshotRun};

/// The runs that a stream of events tells of. Events come verified for order; the reducer is idempotent for text, by
/// `(part_id, offset)`, and keeps ended runs until [`Reducer::forget`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reducer {
    runs: BTreeMap<RunId, RunView>,
    /// Of all runs.
    bytes: usize,
}

impl Reducer {
    /// One that knows of no run.
    pub const fn new() -> Self {
        Self { runs: BTreeMap::new(), bytes: 0 }
    }

    /// The runs so far.
    pub const fn runs(&self) -> &BTreeMap<RunId, RunView> {
        &self.runs
    }

    /// Drops one run.
    pub fn forget(&mut self, run: RunId) {
        if let Some(gone) = self.runs.remove(&run) {
            self.bytes -= gone.bytes();
        }
    }

    /// Keeps only the runs that `keep` wants.
    pub fn retain(&mut self, keep: impl Fn(&RunView) -> bool) {
        self.runs.retain(|_, run| keep(run));
        self.bytes = self.runs.values().map(RunView::bytes).sum();
    }

    /// Drops everything, as a snapshot or a reset wants it.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.bytes = 0;
    }

    /// Takes one event in. An event of a run whose start was not seen is the middle of it: the view begins there.
    pub fn apply(&mut self, event: &Event) {
        let Some(run_id) = event.run_id else { return };
        if matches!(event.body, EventBody::UserMessage { .. } | EventBody::Custom { .. }) {
            return;
        }
        self.change(run_id, |run| {
            run.thread_id.clone_from(&event.thread_id);
            run.agent_name.clone_from(&event.agent_name);
            run.run_seq = event.run_seq.unwrap_or(run.run_seq);
            run.apply(&event.body);
        });
    }

    /// Takes one piece of a merged window in.
    pub fn extend(&mut self, run: RunId, part: &PartId, offset: u64, text: &str, run_seq: u64) {
        self.change(run, |run| {
            run.run_seq = run.run_seq.max(run_seq);
            run.extend(part, offset, text);
        });
    }

    /// Takes one run of a snapshot in; a run may come in several pieces.
    pub fn restore(&mut self, piece: &SnapshotRun) {
        self.change(piece.run_id, |run| run.restore(piece));
    }

    /// The runs as a snapshot carries them, in pieces with at most `max` encoded bytes of thoughts and texts, unless a
    /// single value has more.
    pub fn pieces(&self, max: usize) -> Vec<SnapshotRun> {
        self.runs.iter().flat_map(|(id, run)| run.pieces(*id, max)).collect()
    }

    /// Bytes of the thoughts, calls, texts and questions held, and of what holds each: many short ones are not free. The
    /// runs' own heads are not among them: they stand for runs, whose number is bounded.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the least of it down to `max` bytes: thoughts first, then what ended calls gave, then the beginnings of
    /// texts, then what open calls were given, then questions, then whole texts, then open calls. A run that loses
    /// something says so.
    pub fn shorten(&mut self, max: usize) {
        for step in RunView::SHORTER {
            for run in self.runs.values_mut() {
                if self.bytes <= max {
                    return;
                }
                self.bytes -= run.shorten(*step);
            }
        }
    }

    /// Changes one run, and the count with it.
    fn change(&mut self, run: RunId, change: impl FnOnce(&mut RunView)) {
        let run = self.runs.entry(run).or_insert_with(RunView::begin);
        self.bytes -= run.bytes();
        change(run);
        self.bytes += run.bytes();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::id::ToolCallId;
    use crate::protocol::{FailReason, Position, RunStatus, StreamName};
    use crate::time::UnixTime;

    fn event(body: EventBody) -> Event {
        Event {
            position: Position::NONE,
            prev: None,
            stream: StreamName::User,
            timestamp: UnixTime::default(),
            user_id: None,
            thread_id: None,
            run_id: Some(RunId::from_bits(1)),
            run_seq: None,
            flaw: None,
            agent_name: Some("assistant".into()),
            body,
        }
    }

    fn delta(offset: u64, text: &str) -> Event {
        event(EventBody::AgentDelta { part_id: PartId::new("p").unwrap(), offset, text: text.into() })
    }

    #[test]
    fn text_is_idempotent_under_repeats_and_overlaps() {
        let mut reducer = Reducer::default();
        for piece in [delta(0, "né"), delta(0, "né"), delta(1, "é🙂"), delta(3, "!")] {
            reducer.apply(&piece);
        }
        let run = &reducer.runs()[&RunId::from_bits(1)];
        assert_eq!(run.parts[&PartId::new("p").unwrap()].text, "né🙂!");
    }

    #[test]
    fn a_failure_ends_the_run_and_leaves_the_open_call_without_a_result() {
        let mut reducer = Reducer::default();
        let call = ToolCallId::new("a").unwrap();
        reducer.apply(&event(EventBody::ToolExecuting {
            tool_call_id: call.clone(),
            tool_name: "t".into(),
            parameters: None,
        }));
        reducer.apply(&event(EventBody::AgentFailed { reason: FailReason::ProducerLost, error: "gone".into() }));
        let run = &reducer.runs()[&RunId::from_bits(1)];
        assert_eq!((run.status, run.outcome.as_deref()), (RunStatus::Failed, Some("gone")));
        assert_eq!(run.tools[&call].success, None);
        assert!(run.status.is_terminal());
    }

    #[test]
    fn the_pieces_of_a_snapshot_restore_what_they_were_made_of() {
        let mut reducer = Reducer::default();
        let call = ToolCallId::new("a").unwrap();
        reducer.apply(&event(EventBody::AgentThinking { thought: "hm".into(), step: None, progress: None }));
        reducer.apply(&event(EventBody::ToolExecuting {
            tool_call_id: call,
            tool_name: "t".into(),
            parameters: Some(RawValue::from_string("[1]".into()).unwrap()),
        }));
        reducer.apply(&delta(0, &"né🙂".repeat(50)));
        let pieces = reducer.pieces(16);
        assert!(pieces.len() > 10);
        let mut restored = Reducer::default();
        pieces.iter().for_each(|piece| restored.restore(piece));
        assert_eq!(restored, reducer);
    }

    #[test]
    fn many_thoughts_come_in_several_pieces_and_in_order() {
        let mut reducer = Reducer::default();
        for n in 0..100 {
            reducer.apply(&event(EventBody::AgentThinking { thought: format!("{n}"), step: None, progress: None }));
        }
        // Each thought is two digits at most, two quotes and a comma.
        let pieces = reducer.pieces(10 * 5);
        assert_eq!(pieces.len(), 10);
        let mut restored = Reducer::default();
        pieces.iter().for_each(|piece| restored.restore(piece));
        assert_eq!(restored, reducer);
    }

    #[test]
    fn thoughts_without_a_letter_are_bounded_too() {
        let mut reducer = Reducer::default();
        for _ in 0..100 {
            reducer.apply(&event(EventBody::AgentThinking { thought: String::new(), step: None, progress: None }));
        }
        reducer.shorten(100);
        assert!(reducer.bytes() <= 100);
    }

    fn opened(call: &str, parameters: usize) -> Event {
        event(EventBody::ToolExecuting {
            tool_call_id: ToolCallId::new(call).unwrap(),
            tool_name: "t".into(),
            parameters: Some(RawValue::from_string(format!("\"{}\"", "x".repeat(parameters))).unwrap()),
        })
    }

    fn done(call: &str) -> Event {
        event(EventBody::ToolCompleted {
            tool_call_id: ToolCallId::new(call).unwrap(),
            tool_name: "t".into(),
            results: RawValue::from_string("\"y\"".into()).unwrap(),
            success: true,
            duration_ms: None,
            error: Some("z".into()),
        })
    }

    fn thought(text: &str) -> Event {
        event(EventBody::AgentThinking { thought: text.into(), step: None, progress: None })
    }

    fn asked(id: &str, question: &str) -> Event {
        event(EventBody::AgentSuspended {
            approval_id: crate::id::ApprovalId::new(id).unwrap(),
            question: Some(question.into()),
        })
    }

    /// The count that is kept is the count of what is there.
    fn assert_counted(reducer: &Reducer) {
        let mut again = Reducer::default();
        reducer.pieces(1 << 20).iter().for_each(|piece| again.restore(piece));
        assert_eq!(&again, reducer);
        assert_eq!(reducer.bytes(), reducer.runs().values().map(RunView::bytes).sum::<usize>());
    }

    #[test]
    fn the_count_follows_every_event_and_every_shortening() {
        let events =
            [thought("hm"), opened("a", 10), opened("b", 20), done("a"), delta(0, "né"), delta(1, "é!"), delta(9, "x")];
        let mut reducer = Reducer::default();
        let mut before = 0;
        for event in events.iter().chain([&asked("q", "why?")]) {
            reducer.apply(event);
            assert_counted(&reducer);
        }
        for max in (0..reducer.bytes()).rev().step_by(7) {
            reducer.shorten(max);
            assert_counted(&reducer);
            assert!(reducer.bytes() <= max);
            before += 1;
        }
        assert!(before > 10);
        assert_eq!(reducer.runs()[&RunId::from_bits(1)].status, RunStatus::Suspended, "the run itself stays");
        reducer.forget(RunId::from_bits(1));
        assert_eq!(reducer, Reducer::default());
    }

    #[test]
    fn what_open_calls_were_given_is_counted_and_dropped_last_of_the_calls() {
        let mut reducer = Reducer::default();
        for event in [opened("a", 1_000), opened("b", 1_000), done("b"), delta(0, &"x".repeat(100))] {
            reducer.apply(&event);
        }
        assert!(reducer.bytes() > 2_100);
        reducer.shorten(1_900);
        let run = reducer.runs()[&RunId::from_bits(1)].clone();
        let calls: Vec<_> = run.tools.keys().map(ToolCallId::as_str).collect();
        assert_eq!((calls, run.shortened), (vec!["a"], true), "the ended one has gone");
        reducer.shorten(1_000);
        let run = &reducer.runs()[&RunId::from_bits(1)];
        let call = run.tools.values().next().unwrap();
        assert_eq!((call.parameters.as_deref(), call.name.as_str()), (None, "t"));
        assert!(reducer.pieces(100).iter().all(|piece| piece.shortened == Some(true)), "a snapshot says so");
    }

    #[test]
    fn a_call_that_is_too_large_for_one_piece_comes_in_two() {
        let mut reducer = Reducer::default();
        reducer.apply(&opened("a", 900));
        let calls = |reducer: &Reducer| reducer.pieces(900).iter().filter(|piece| !piece.tools.is_empty()).count();
        assert_eq!(calls(&reducer), 1, "an open one has nothing for a second");
        reducer.apply(&done("a"));
        assert_eq!(reducer.pieces(2_000).iter().filter(|piece| !piece.tools.is_empty()).count(), 1);
        assert_eq!(calls(&reducer), 2);
        let mut restored = Reducer::default();
        reducer.pieces(900).iter().for_each(|piece| restored.restore(piece));
        assert_eq!(restored, reducer);
    }

    #[test]
    fn what_is_shortened_says_where_it_begins_and_goes_on() {
        let mut reducer = Reducer::default();
        reducer.apply(&delta(0, &"é".repeat(100)));
        reducer.shorten(reducer.bytes() - 50);
        let part = PartId::new("p").unwrap();
        let view = reducer.runs()[&RunId::from_bits(1)].parts[&part].clone();
        assert_eq!((view.start, view.end, view.text.chars().count()), (50, 100, 50));
        reducer.apply(&delta(100, "!"));
        assert!(reducer.runs()[&RunId::from_bits(1)].parts[&part].text.ends_with("é!"));
        reducer.shorten(1_000);
        assert_eq!(reducer.runs()[&RunId::from_bits(1)].parts[&part].start, 50, "nothing to do");
    }

    #[test]
    fn what_is_known_before_a_hole_stays_and_counts() {
        let mut reducer = Reducer::default();
        for (offset, text) in [(2, "né"), (9, "🙂 and"), (10, " and on"), (30, "!")] {
            reducer.apply(&delta(offset, text));
        }
        let run = &reducer.runs()[&RunId::from_bits(1)];
        let part = &run.parts[&PartId::new("p").unwrap()];
        let earlier: Vec<_> = part.earlier.iter().map(|stretch| (stretch.start, stretch.text.as_str())).collect();
        assert_eq!(earlier, [(2, "né"), (9, "🙂 and on")]);
        assert_eq!((part.start, part.end, part.text.as_str()), (30, 31, "!"));
        let mut restored = Reducer::default();
        reducer.pieces(4).iter().for_each(|piece| restored.restore(piece));
        assert_eq!(restored.runs()[&RunId::from_bits(1)].parts, run.parts);
        // The first to go is what is before the holes.
        let mut shorter = reducer.clone();
        shorter.shorten(reducer.bytes() - 1);
        let part = &shorter.runs()[&RunId::from_bits(1)].parts[&PartId::new("p").unwrap()];
        assert_eq!((part.earlier.len(), part.text.as_str()), (0, "!"));
        shorter.shorten(0);
        assert_eq!(shorter.bytes(), 0);
    }
}
