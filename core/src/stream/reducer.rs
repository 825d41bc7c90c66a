//! What the events of runs add up to: the same reducer that a device uses to draw them.

use std::collections::BTreeMap;

use crate::id::{PartId, RunId, ThreadId, ToolCallId};
use crate::protocol::{Event, EventBody};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// Started, and no terminal event yet.
    Running,
    /// Waits for a person.
    Suspended,
    /// Ended well.
    Completed,
    /// Ended in failure.
    Failed,
    /// Was stopped.
    Cancelled,
}

impl RunStatus {
    /// Whether nothing follows.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => true,
            Self::Running | Self::Suspended => false,
        }
    }
}

/// One tool call.
#[derive(Clone, Debug, PartialEq)]
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

/// One run as a person sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunView {
    /// The conversation.
    pub thread_id: Option<ThreadId>,
    /// Who works.
    pub agent_name: Option<String>,
    /// The run that started this one.
    pub parent_run_id: Option<RunId>,
    /// Where it stands.
    pub status: RunStatus,
    /// What the agent thought, in order.
    pub thoughts: Vec<String>,
    /// Its tool calls.
    pub tools: BTreeMap<ToolCallId, ToolView>,
    /// The streamed texts.
    pub parts: BTreeMap<PartId, String>,
    /// The answer, or why there is none.
    pub outcome: Option<String>,
}

/// The runs that a stream of events tells of. Events come verified for order; the reducer is idempotent for text, by
/// `(part_id, offset)`, and keeps ended runs until [`Reducer::forget`].
#[derive(Clone, Debug, Default, PartialEq)]
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

    /// Takes one event in. An event of a run whose start was not seen is the middle of it: the view begins there.
    pub fn apply(&mut self, event: &Event) {
        let Some(run_id) = event.run_id else { return };
        if matches!(event.body, EventBody::UserMessage { .. } | EventBody::Custom { .. }) {
            return;
        }
        let run = self.runs.entry(run_id).or_insert_with(|| RunView::begin(event));
        run.apply(&event.body);
    }
}

impl RunView {
    fn begin(event: &Event) -> Self {
        Self {
            thread_id: event.thread_id.clone(),
            agent_name: event.agent_name.clone(),
            parent_run_id: None,
            status: RunStatus::Running,
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
            EventBody::AgentSuspended { .. } => self.status = RunStatus::Suspended,
            EventBody::AgentResumed { .. } => self.status = RunStatus::Running,
            EventBody::AgentCompleted { final_response, .. } => self.end(RunStatus::Completed, final_response.clone()),
            EventBody::AgentFailed { error, .. } => self.end(RunStatus::Failed, Some(error.clone())),
            EventBody::AgentCancelled { reason, .. } => self.end(RunStatus::Cancelled, Some(reason.clone())),
            EventBody::UserMessage { .. } | EventBody::Custom { .. } => {}
        }
    }

    fn end(&mut self, status: RunStatus, outcome: Option<String>) {
        self.status = status;
        self.outcome = outcome;
    }

    /// Appends what is new of `text`; what the part has already is the same text.
    fn extend(&mut self, part: &PartId, offset: u64, text: &str) {
        let known = self.parts.entry(part.clone()).or_default();
        let have = known.chars().count() as u64;
        let overlap = usize::try_from(have.saturating_sub(offset)).unwrap_or(usize::MAX);
        known.extend(text.chars().skip(overlap));
    }
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
        assert_eq!(run.parts[&PartId::new("p").unwrap()], "né🙂!");
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
}
