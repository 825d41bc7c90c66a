//! What the events of runs add up to: the same reducer keeps a log's base and draws a device's view.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::id::{ApprovalId, PartId, RunId, ThreadId, ToolCallId};
use crate::protocol::{Event, EventBody, RunStatus, SnapshotPart, SnapshotRun, SnapshotTool};

/// One tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolView {
    /// Which tool.
    pub name: String,
    /// JSON of what it was given.
    pub parameters: Option<String>,
    /// JSON of what it gave; `None` while it is open, or when its run ended first.
    pub results: Option<String>,
    /// Whether it did what it was asked; `None` while it is open, or when its run ended first.
    pub success: Option<bool>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A streamed text, or what is kept of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartView {
    /// Where the text begins, in Unicode scalar values: above 0 when its beginning was not kept.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// The text between.
    pub text: String,
}

/// What a suspended run waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalView {
    /// What `approve` must name.
    pub approval_id: ApprovalId,
    /// What is asked.
    pub question: Option<String>,
}

/// One run as a person sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunView {
    /// The conversation.
    pub thread_id: Option<ThreadId>,
    /// Who works.
    pub agent_name: Option<String>,
    /// The run that started this one.
    pub parent_run_id: Option<RunId>,
    /// Where it stands.
    pub status: RunStatus,
    /// The number of its last event.
    pub run_seq: u64,
    /// What it waits for, while it is suspended.
    pub approval: Option<ApprovalView>,
    /// What the agent thought, in order.
    pub thoughts: Vec<String>,
    /// Its tool calls.
    pub tools: BTreeMap<ToolCallId, ToolView>,
    /// The streamed texts.
    pub parts: BTreeMap<PartId, PartView>,
    /// The answer, or why there is none.
    pub outcome: Option<String>,
}

/// The runs that a stream of events tells of. Events come verified for order; the reducer is idempotent for text, by
/// `(part_id, offset)`, and keeps ended runs until [`Reducer::forget`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reducer {
    runs: BTreeMap<RunId, RunView>,
}

impl Reducer {
    /// The runs so far.
    pub const fn runs(&self) -> &BTreeMap<RunId, RunView> {
        &self.runs
    }

    /// Drops one run.
    pub fn forget(&mut self, run: RunId) {
        self.runs.remove(&run);
    }

    /// Keeps only the runs that `keep` wants.
    pub fn retain(&mut self, keep: impl Fn(&RunView) -> bool) {
        self.runs.retain(|_, run| keep(run));
    }

    /// Drops everything, as a snapshot or a reset wants it.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// Takes one event in. An event of a run whose start was not seen is the middle of it: the view begins there.
    pub fn apply(&mut self, event: &Event) {
        let Some(run_id) = event.run_id else { return };
        if matches!(event.body, EventBody::UserMessage { .. } | EventBody::Custom { .. }) {
            return;
        }
        let run = self.runs.entry(run_id).or_insert_with(RunView::begin);
        run.thread_id.clone_from(&event.thread_id);
        run.agent_name.clone_from(&event.agent_name);
        run.run_seq = event.run_seq.unwrap_or(run.run_seq);
        run.apply(&event.body);
    }

    /// Takes one piece of a merged window in.
    pub fn extend(&mut self, run: RunId, part: &PartId, offset: u64, text: &str, run_seq: u64) {
        let run = self.runs.entry(run).or_insert_with(RunView::begin);
        run.run_seq = run.run_seq.max(run_seq);
        run.extend(part, offset, text);
    }

    /// Takes one run of a snapshot in; a run may come in several pieces.
    pub fn restore(&mut self, piece: &SnapshotRun) {
        let run = self.runs.entry(piece.run_id).or_insert_with(RunView::begin);
        run.thread_id.clone_from(&piece.thread_id);
        run.agent_name.clone_from(&piece.agent_name);
        run.parent_run_id = piece.parent_run_id;
        run.status = piece.status;
        run.run_seq = piece.run_seq;
        if let Some(approval_id) = piece.approval_id.clone() {
            run.approval = Some(ApprovalView { approval_id, question: piece.question.clone() });
        }
        run.thoughts.extend(piece.thoughts.iter().cloned());
        for tool in &piece.tools {
            run.tools.insert(tool.tool_call_id.clone(), ToolView::restored(tool));
        }
        for part in &piece.parts {
            run.extend(&part.part_id, part.offset, &part.text);
        }
    }

    /// The runs as a snapshot carries them, in pieces of at most about `max` bytes.
    pub fn pieces(&self, max: usize) -> Vec<SnapshotRun> {
        self.runs.iter().flat_map(|(id, run)| run.pieces(*id, max)).collect()
    }

    /// Bytes of all texts held.
    pub fn bytes(&self) -> usize {
        self.runs.values().map(RunView::bytes).sum()
    }

    /// Drops the least of it down to `max` bytes: thoughts first, then what ended calls gave, then the beginnings of
    /// texts, whose start then says so, then questions.
    pub fn shorten(&mut self, max: usize) {
        let mut bytes = self.bytes();
        let steps: [fn(&mut RunView); 4] = [
            |run| run.thoughts.clear(),
            |run| run.tools.retain(|_, tool| tool.success.is_none()),
            RunView::halve,
            |run| run.approval.iter_mut().for_each(|approval| approval.question = None),
        ];
        for step in steps {
            for run in self.runs.values_mut() {
                if bytes <= max {
                    return;
                }
                bytes -= run.bytes();
                step(run);
                bytes += run.bytes();
            }
        }
    }
}

impl RunView {
    const fn begin() -> Self {
        Self {
            thread_id: None,
            agent_name: None,
            parent_run_id: None,
            status: RunStatus::Running,
            run_seq: 0,
            approval: None,
            thoughts: Vec::new(),
            tools: BTreeMap::new(),
            parts: BTreeMap::new(),
            outcome: None,
        }
    }

    fn apply(&mut self, body: &EventBody) {
        match body {
            EventBody::AgentStarted { parent_run_id, .. } => self.parent_run_id = *parent_run_id,
            EventBody::AgentThinking { thought, .. } => self.thoughts.push(thought.clone()),
            EventBody::ToolExecuting { tool_call_id, tool_name, parameters } => {
                let parameters = parameters.as_ref().map(|json| json.get().to_owned());
                let tool = ToolView { name: tool_name.clone(), parameters, results: None, success: None, error: None };
                self.tools.insert(tool_call_id.clone(), tool);
            }
            EventBody::ToolCompleted { tool_call_id, results, success, error, .. } => {
                if let Some(tool) = self.tools.get_mut(tool_call_id) {
                    tool.results = Some(results.get().to_owned());
                    tool.success = Some(*success);
                    tool.error.clone_from(error);
                }
            }
            EventBody::AgentDelta { part_id, offset, text } => self.extend(part_id, *offset, text),
            EventBody::AgentSuspended { approval_id, question } => {
                self.status = RunStatus::Suspended;
                self.approval = Some(ApprovalView { approval_id: approval_id.clone(), question: question.clone() });
            }
            EventBody::AgentResumed { .. } => {
                self.status = RunStatus::Running;
                self.approval = None;
            }
            EventBody::AgentCompleted { final_response, .. } => self.end(RunStatus::Completed, final_response.clone()),
            EventBody::AgentFailed { error, .. } => self.end(RunStatus::Failed, Some(error.clone())),
            EventBody::AgentCancelled { reason, .. } => self.end(RunStatus::Cancelled, Some(reason.clone())),
            EventBody::UserMessage { .. } | EventBody::Custom { .. } => {}
        }
    }

    fn end(&mut self, status: RunStatus, outcome: Option<String>) {
        self.status = status;
        self.approval = None;
        self.outcome = outcome;
    }

    /// Appends what is new of `text`; what the part has already is the same text.
    fn extend(&mut self, part: &PartId, offset: u64, text: &str) {
        let fresh = PartView { start: offset, end: offset, text: String::new() };
        let known = self.parts.entry(part.clone()).or_insert_with(|| fresh.clone());
        if offset > known.end {
            // What is between was lost, and a text with a hole is none.
            *known = fresh;
        }
        let overlap = usize::try_from(known.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        for letter in text.chars().skip(overlap) {
            known.text.push(letter);
            known.end += 1;
        }
    }

    /// A rough count of the texts, and of what holds each: many short ones are not free.
    fn bytes(&self) -> usize {
        let thoughts: usize = self.thoughts.iter().map(|thought| ITEM_OVERHEAD + thought.len()).sum();
        let parts: usize = self.parts.values().map(|part| part.text.len()).sum();
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let tools: usize = self
            .tools
            .values()
            .map(|tool| tool.name.len() + text(&tool.parameters) + text(&tool.results) + text(&tool.error))
            .sum();
        let question = self.approval.as_ref().map_or(0, |approval| text(&approval.question));
        thoughts + parts + tools + question
    }

    /// Drops the first half of every text.
    fn halve(&mut self) {
        for part in self.parts.values_mut() {
            let drop = (part.end - part.start) / 2;
            let at = part.text.char_indices().nth(usize::try_from(drop).unwrap_or(usize::MAX)).map_or(0, |(at, _)| at);
            part.text = part.text.split_off(at);
            part.start += if at == 0 { 0 } else { drop };
        }
    }

    /// Thoughts, tool calls and texts, in pieces of at most `max` bytes unless a single one has more; at least one piece.
    fn pieces(&self, id: RunId, max: usize) -> Vec<SnapshotRun> {
        let piece = |thoughts, tools, parts| SnapshotRun {
            run_id: id,
            thread_id: self.thread_id.clone(),
            agent_name: self.agent_name.clone(),
            parent_run_id: self.parent_run_id,
            status: self.status,
            run_seq: self.run_seq,
            approval_id: None,
            question: None,
            thoughts,
            tools,
            parts,
        };
        let mut pieces = Vec::new();
        let (mut thoughts, mut bytes) = (Vec::new(), 0);
        for thought in &self.thoughts {
            if bytes + thought.len() + ITEM_OVERHEAD > max && !thoughts.is_empty() {
                pieces.push(piece(std::mem::take(&mut thoughts), Vec::new(), Vec::new()));
                bytes = 0;
            }
            bytes += thought.len() + ITEM_OVERHEAD;
            thoughts.push(thought.clone());
        }
        pieces.push(piece(thoughts, Vec::new(), Vec::new()));
        if let Some(approval) = &self.approval {
            let (approval_id, question) = (Some(approval.approval_id.clone()), approval.question.clone());
            pieces.push(SnapshotRun { approval_id, question, ..piece(Vec::new(), Vec::new(), Vec::new()) });
        }
        for (tool_call_id, tool) in &self.tools {
            pieces.push(piece(Vec::new(), vec![tool.snapshot(tool_call_id)], Vec::new()));
        }
        for (part_id, part) in &self.parts {
            let mut offset = part.start;
            for text in chunks(&part.text, max) {
                let length = text.chars().count() as u64;
                let part = SnapshotPart { part_id: part_id.clone(), offset, text: text.to_owned() };
                pieces.push(piece(Vec::new(), Vec::new(), vec![part]));
                offset += length;
            }
        }
        pieces
    }
}

impl ToolView {
    fn restored(tool: &SnapshotTool) -> Self {
        let text = |raw: &Option<Box<RawValue>>| raw.as_ref().map(|raw| raw.get().to_owned());
        Self {
            name: tool.tool_name.clone(),
            parameters: text(&tool.parameters),
            results: text(&tool.results),
            success: tool.success,
            error: tool.error.clone(),
        }
    }

    fn snapshot(&self, id: &ToolCallId) -> SnapshotTool {
        // The texts were JSON when they came in.
        let raw = |text: &Option<String>| text.clone().and_then(|text| RawValue::from_string(text).ok());
        SnapshotTool {
            tool_call_id: id.clone(),
            tool_name: self.name.clone(),
            parameters: raw(&self.parameters),
            results: raw(&self.results),
            success: self.success,
            error: self.error.clone(),
        }
    }
}

/// What a thought takes beside its letters: its handle, and its place in a frame.
const ITEM_OVERHEAD: usize = size_of::<String>();

/// Pieces of at most `max` bytes, cut between letters.
fn chunks(text: &str, max: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut at = rest.len().min(max.max(4));
        while !rest.is_char_boundary(at) {
            at -= 1;
        }
        let (piece, after) = rest.split_at(at);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{FailReason, Position, StreamName};
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
        let pieces = reducer.pieces(10 * (2 + ITEM_OVERHEAD));
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

    #[test]
    fn what_is_shortened_says_where_it_begins_and_goes_on() {
        let mut reducer = Reducer::default();
        reducer.apply(&delta(0, &"é".repeat(100)));
        reducer.shorten(150);
        let part = PartId::new("p").unwrap();
        let view = reducer.runs()[&RunId::from_bits(1)].parts[&part].clone();
        assert_eq!((view.start, view.end, view.text.chars().count()), (50, 100, 50));
        reducer.apply(&delta(100, "!"));
        assert!(reducer.runs()[&RunId::from_bits(1)].parts[&part].text.ends_with("é!"));
        reducer.shorten(1_000);
        assert_eq!(reducer.runs()[&RunId::from_bits(1)].parts[&part].start, 50, "nothing to do");
    }
}
