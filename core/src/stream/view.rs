//! One run as it is shown, and what it counts.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde_json::value::RawValue;

use crate::id::{ApprovalId, PartId, RunId, ThreadId, ToolCallId};
use crate::protocol::{EventBody, RunStatus, SnapshotRun, SnapshotTool};

/// One tool call.
#[derive(Clone, PartialEq, Eq)]
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

/// A streamed text, or what is kept of it. Where a piece of it was lost on its way to a device, what is known before the hole stays.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PartView {
    /// What comes before the holes, in order; a log's own view has none.
    pub earlier: Vec<Stretch>,
    /// Where `text` begins, in Unicode scalar values: above 0 when what is before it was not kept, or lost.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// The text between.
    pub text: String,
}

/// What is known of a text in front of a hole in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins, in Unicode scalar values.
    pub start: u64,
    /// The text from there to the hole.
    pub text: String,
}

/// What a suspended run waits for.
#[derive(Clone, PartialEq, Eq)]
pub struct ApprovalView {
    /// What `approve` must name.
    pub approval_id: ApprovalId,
    /// What is asked.
    pub question: Option<String>,
}

/// One run as a person sees it. `Debug` shows no payload, of its parts neither.
#[derive(Clone, PartialEq, Eq)]
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
    /// It was too large to be kept whole: thoughts, calls or the beginnings of texts are missing.
    pub shortened: bool,
    /// Of thoughts, calls, texts and the question.
    bytes: usize,
}

impl RunView {
    pub(super) const fn begin() -> Self {
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
            shortened: false,
            bytes: 0,
        }
    }

    /// Bytes of its thoughts, calls, texts and question, and of what holds each.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn apply(&mut self, body: &EventBody) {
        match body {
            EventBody::AgentStarted { parent_run_id, .. } => self.parent_run_id = *parent_run_id,
            EventBody::AgentThinking { thought, .. } => self.think(thought.clone()),
            EventBody::ToolExecuting { tool_call_id, tool_name, parameters } => {
                let parameters = parameters.as_ref().map(|json| json.get().to_owned());
                let tool = ToolView { name: tool_name.clone(), parameters, results: None, success: None, error: None };
                self.forget_tool(tool_call_id);
                self.put_tool(tool_call_id.clone(), tool);
            }
            EventBody::ToolCompleted { tool_call_id, results, success, error, .. } => {
                if let Some(mut tool) = self.forget_tool(tool_call_id) {
                    tool.results = Some(results.get().to_owned());
                    tool.success = Some(*success);
                    tool.error.clone_from(error);
                    self.put_tool(tool_call_id.clone(), tool);
                }
            }
            EventBody::AgentDelta { part_id, offset, text } => self.extend(part_id, *offset, text),
            EventBody::AgentSuspended { approval_id, question } => {
                self.status = RunStatus::Suspended;
                self.wait_for(Some(ApprovalView { approval_id: approval_id.clone(), question: question.clone() }));
            }
            EventBody::AgentResumed { .. } => {
                self.status = RunStatus::Running;
                self.wait_for(None);
            }
            EventBody::AgentCompleted { final_response, .. } => self.end(RunStatus::Completed, final_response.clone()),
            EventBody::AgentFailed { error, .. } => self.end(RunStatus::Failed, Some(error.clone())),
            EventBody::AgentCancelled { reason, .. } => self.end(RunStatus::Cancelled, Some(reason.clone())),
            EventBody::UserMessage { .. } | EventBody::Custom { .. } => {}
        }
    }

    /// Appends what is new of `text`; what the part has already is the same text.
    pub(super) fn extend(&mut self, part: &PartId, offset: u64, text: &str) {
        let fresh = PartView { start: offset, end: offset, ..PartView::default() };
        let known = match self.parts.entry(part.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                self.bytes += PART_OVERHEAD + part.as_str().len();
                place.insert(fresh)
            }
        };
        self.bytes -= known.bytes();
        if offset > known.end {
            known.leave_hole(offset);
        }
        let overlap = usize::try_from(known.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        for letter in text.chars().skip(overlap) {
            known.text.push(letter);
            known.end += 1;
        }
        self.bytes += known.bytes();
    }

    /// Takes one of its pieces in.
    pub(super) fn restore(&mut self, piece: &SnapshotRun) {
        self.thread_id.clone_from(&piece.thread_id);
        self.agent_name.clone_from(&piece.agent_name);
        self.parent_run_id = piece.parent_run_id;
        self.status = piece.status;
        self.run_seq = piece.run_seq;
        self.shortened |= piece.shortened == Some(true);
        if let Some(approval_id) = piece.approval_id.clone() {
            self.wait_for(Some(ApprovalView { approval_id, question: piece.question.clone() }));
        }
        piece.thoughts.iter().for_each(|thought| self.think(thought.clone()));
        for tool in &piece.tools {
            let known = self.forget_tool(&tool.tool_call_id);
            self.put_tool(tool.tool_call_id.clone(), ToolView::restored(known, tool));
        }
        for part in &piece.parts {
            self.extend(&part.part_id, part.offset, &part.text);
        }
    }

    fn think(&mut self, thought: String) {
        self.bytes += THOUGHT_OVERHEAD + thought.len();
        self.thoughts.push(thought);
    }

    fn put_tool(&mut self, id: ToolCallId, tool: ToolView) {
        self.bytes += tool.bytes(&id);
        self.tools.insert(id, tool);
    }

    fn forget_tool(&mut self, id: &ToolCallId) -> Option<ToolView> {
        let tool = self.tools.remove(id)?;
        self.bytes -= tool.bytes(id);
        Some(tool)
    }

    fn wait_for(&mut self, approval: Option<ApprovalView>) {
        let question =
            |approval: &Option<ApprovalView>| approval.as_ref().map_or(0, |approval| len(&approval.question));
        self.bytes -= question(&self.approval);
        self.bytes += question(&approval);
        self.approval = approval;
    }

    fn end(&mut self, status: RunStatus, outcome: Option<String>) {
        self.status = status;
        self.wait_for(None);
        self.outcome = outcome;
    }
}

/// One way to make a run take less.
pub(super) type Shorter = fn(&mut RunView);

impl RunView {
    /// What a run can do without, the least first. After all of them it counts nothing.
    pub(super) const SHORTER: &'static [Shorter] = &[
        Self::drop_thoughts,
        |run| run.drop_calls(|tool| tool.success.is_some()),
        Self::halve,
        Self::drop_parameters,
        Self::drop_question,
        Self::drop_texts,
        |run| run.drop_calls(|_| true),
    ];

    /// Takes one step of [`RunView::SHORTER`]; answers how many bytes that freed.
    pub(super) fn shorten(&mut self, step: Shorter) -> usize {
        let before = self.bytes;
        step(self);
        let freed = before - self.bytes;
        self.shortened |= freed > 0;
        freed
    }

    fn drop_thoughts(&mut self) {
        self.bytes -= self.thoughts.iter().map(|thought| THOUGHT_OVERHEAD + thought.len()).sum::<usize>();
        self.thoughts = Vec::new();
    }

    fn drop_calls(&mut self, which: impl Fn(&ToolView) -> bool) {
        let bytes = &mut self.bytes;
        self.tools.retain(|id, tool| {
            let goes = which(tool);
            *bytes -= if goes { tool.bytes(id) } else { 0 };
            !goes
        });
    }

    fn drop_parameters(&mut self) {
        for tool in self.tools.values_mut() {
            self.bytes -= tool.parameters.take().map_or(0, |json| json.len());
        }
    }

    fn drop_question(&mut self) {
        if let Some(approval) = &mut self.approval {
            self.bytes -= approval.question.take().map_or(0, |question| question.len());
        }
    }

    /// Drops what is before the holes, and the first half of every text.
    fn halve(&mut self) {
        for part in self.parts.values_mut() {
            self.bytes -= std::mem::take(&mut part.earlier).iter().map(Stretch::bytes).sum::<usize>();
            let drop = (part.end - part.start) / 2;
            let at = part.text.char_indices().nth(usize::try_from(drop).unwrap_or(usize::MAX)).map_or(0, |(at, _)| at);
            part.text = part.text.split_off(at);
            part.start += if at == 0 { 0 } else { drop };
            self.bytes -= at;
        }
    }

    /// A text that goes on afterwards begins where it goes on.
    fn drop_texts(&mut self) {
        let bytes = |(id, part): (&PartId, &PartView)| PART_OVERHEAD + id.as_str().len() + part.bytes();
        self.bytes -= self.parts.iter().map(bytes).sum::<usize>();
        self.parts.clear();
    }
}

impl PartView {
    /// Goes on at `offset`; what is between was lost.
    fn leave_hole(&mut self, offset: u64) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() {
            self.earlier.push(Stretch { start: self.start, text });
        }
        (self.start, self.end) = (offset, offset);
    }

    /// Of its texts.
    fn bytes(&self) -> usize {
        self.earlier.iter().map(Stretch::bytes).sum::<usize>() + self.text.len()
    }
}

impl Stretch {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

impl ToolView {
    /// After one of its pieces in a snapshot: what a piece leaves out stays.
    fn restored(known: Option<Self>, piece: &SnapshotTool) -> Self {
        let text = |raw: &Option<Box<RawValue>>| raw.as_ref().map(|raw| raw.get().to_owned());
        let known = known.unwrap_or_else(|| Self {
            name: String::new(),
            parameters: None,
            results: None,
            success: None,
            error: None,
        });
        Self {
            name: piece.tool_name.clone(),
            parameters: text(&piece.parameters).or(known.parameters),
            results: text(&piece.results).or(known.results),
            success: piece.success.or(known.success),
            error: piece.error.clone().or(known.error),
        }
    }

    fn bytes(&self, id: &ToolCallId) -> usize {
        let texts = self.name.len() + len(&self.parameters) + len(&self.results) + len(&self.error);
        TOOL_OVERHEAD + id.as_str().len() + texts
    }
}

fn len(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, String::len)
}

/// The handle of a thought.
const THOUGHT_OVERHEAD: usize = size_of::<String>();
/// The handles of a call, and the allocation of its id.
const TOOL_OVERHEAD: usize = size_of::<(ToolCallId, ToolView)>() + 24;
/// The handles of a text, and the allocation of its id.
const PART_OVERHEAD: usize = size_of::<(PartId, PartView)>() + 24;

macro_rules! debug_without_payload {
    ($($name:ident: $($field:ident),*;)*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))$(.field(stringify!($field), &self.$field))*.finish_non_exhaustive()
            }
        })*
    };
}

debug_without_payload! {
    ToolView: success;
    PartView: start, end;
    Stretch: start;
    ApprovalView: approval_id;
    RunView: thread_id, agent_name, status, run_seq;
}
