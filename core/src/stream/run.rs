//! The run automaton: what may happen in a run, and in which order, decided where an event enters.
//!
//! `agent_started` first and once; each `tool_completed` after its own `tool_executing`; tool calls may overlap; one
//! terminal event, last, with no tool call open. A failure or a cancellation closes the open calls without events.
//! While a run is suspended, only its resumption, a failure or a cancellation may come; open calls stay open.

use std::collections::{BTreeMap, VecDeque};

use serde_json::value::RawValue;

use super::RunError;
use super::order::Disorder;
use crate::id::{ApprovalId, PartId, RunId, ToolCallId};
use crate::limits::Limits;
use crate::protocol::{EventBody, FailReason, RunEvent};
use crate::time::Timestamp;

/// The state of one run between its start and its terminal event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunMachine {
    run: RunId,
    started: Timestamp,
    run_seq: u64,
    /// Ended calls stay, so that their ids are not used again.
    tools: BTreeMap<ToolCallId, Tool>,
    /// Its last event is a piece of text.
    in_text: bool,
    /// How many Unicode scalar values each part has.
    parts: BTreeMap<PartId, u64>,
    /// What the run waits for.
    suspended: Option<ApprovalId>,
    /// The latest that were decided, oldest first.
    decided: VecDeque<ApprovalId>,
    /// How many there were.
    approvals: u64,
}

/// How many decided approvals a run, and a user beyond its runs, remembers.
pub const DECIDED_KEPT: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tool {
    name: Box<str>,
    started: Timestamp,
    open: bool,
}

impl RunMachine {
    /// A run whose `agent_started` is about to be appended.
    pub const fn new(run: RunId, started: Timestamp) -> Self {
        Self {
            run,
            started,
            run_seq: 0,
            tools: BTreeMap::new(),
            in_text: false,
            parts: BTreeMap::new(),
            suspended: None,
            decided: VecDeque::new(),
            approvals: 0,
        }
    }

    /// Whether its last event is a piece of text, after which there is most likely more.
    pub const fn is_in_text(&self) -> bool {
        self.in_text
    }

    /// What the run waits for, while it is suspended.
    pub const fn waits_for(&self) -> Option<&ApprovalId> {
        self.suspended.as_ref()
    }

    /// The latest approvals that were decided, at most [`DECIDED_KEPT`], oldest first.
    pub const fn decided(&self) -> &VecDeque<ApprovalId> {
        &self.decided
    }

    /// Whether the run waits for this approval, or remembers its decision.
    pub fn knows(&self, approval: &ApprovalId) -> bool {
        self.suspended.as_ref() == Some(approval) || self.decided.contains(approval)
    }

    /// The number that the run's next event gets; 1 is the first.
    pub const fn next_run_seq(&self) -> u64 {
        self.run_seq + 1
    }

    /// Counts the run's start, which no producer prepares.
    pub const fn count(&mut self) {
        self.run_seq += 1;
    }

    /// What `event` is once offset and duration are known.
    ///
    /// # Errors
    /// When the event may not come now; the run is as before.
    pub fn prepare(&self, now: Timestamp, event: RunEvent, limits: &Limits) -> Result<EventBody, RunError> {
        self.check_order(&event)?;
        self.build(now, event, limits)
    }

    /// Whether the event may come now.
    pub(super) fn check_order(&self, event: &RunEvent) -> Result<(), Disorder> {
        self.check_suspension(event)?;
        match event {
            RunEvent::ToolCompleted { tool_call_id, .. } if !self.is_open(tool_call_id) => {
                Err(Disorder::ToolNotOpen { tool_call_id: tool_call_id.clone() })
            }
            RunEvent::Completed { .. } => {
                self.open_calls().next().map_or(Ok(()), |id| Err(Disorder::ToolOpen { tool_call_id: id.clone() }))
            }
            RunEvent::Delta { part_id, offset: Some(offset), .. } if *offset != self.end_of(part_id) => {
                Err(Disorder::Offset { part_id: part_id.clone(), end: self.end_of(part_id) })
            }
            RunEvent::ToolCompleted { .. }
            | RunEvent::Delta { .. }
            | RunEvent::Thinking { .. }
            | RunEvent::ToolExecuting { .. }
            | RunEvent::Suspended { .. }
            | RunEvent::Resumed { .. }
            | RunEvent::Failed { .. }
            | RunEvent::Cancelled { .. } => Ok(()),
        }
    }

    /// What `event` is once names, offset and duration are known, whether or not it may come now.
    pub(super) fn build(&self, now: Timestamp, event: RunEvent, limits: &Limits) -> Result<EventBody, RunError> {
        Ok(match event {
            RunEvent::Thinking { thought, step, progress } => {
                // JSON has no spelling for the others.
                let progress = progress.filter(|share| share.is_finite());
                EventBody::AgentThinking { thought, step, progress }
            }
            RunEvent::ToolExecuting { tool_call_id, tool_name, parameters } => {
                let tool_call_id = self.new_call(tool_call_id, limits)?;
                EventBody::ToolExecuting { tool_call_id, tool_name, parameters }
            }
            RunEvent::ToolCompleted { tool_call_id, results, success, error } => {
                let Some(tool) = self.tools.get(&tool_call_id) else {
                    return Err(RunError::ToolNotOpen { tool_call_id });
                };
                let tool_name = tool.name.to_string();
                let duration_ms = Some(millis(tool.started, now));
                let results = results.unwrap_or_else(null);
                let success = success.unwrap_or(error.is_none());
                EventBody::ToolCompleted { tool_call_id, tool_name, results, success, duration_ms, error }
            }
            RunEvent::Delta { part_id, text, .. } => {
                let offset = self.part_end(&part_id, limits)?;
                EventBody::AgentDelta { part_id, offset, text }
            }
            RunEvent::Suspended { approval_id, question } => {
                EventBody::AgentSuspended { approval_id: self.new_approval(approval_id)?, question }
            }
            RunEvent::Resumed { approval_id, decision } => EventBody::AgentResumed { approval_id, decision },
            RunEvent::Completed { final_response, result } => {
                EventBody::AgentCompleted { final_response, result, duration_ms: millis(self.started, now) }
            }
            RunEvent::Failed { reason, error } => {
                EventBody::AgentFailed { reason: reason.unwrap_or(FailReason::Error), error }
            }
            RunEvent::Cancelled { by, reason } => EventBody::AgentCancelled { by, reason },
        })
    }

    /// Takes note of an event that [`RunMachine::prepare`] allowed and that was appended.
    pub fn commit(&mut self, now: Timestamp, body: &EventBody) {
        self.count();
        self.in_text = matches!(body, EventBody::AgentDelta { .. });
        match body {
            EventBody::ToolExecuting { tool_call_id, tool_name, .. } => {
                let tool = Tool { name: tool_name.as_str().into(), started: now, open: true };
                self.tools.insert(tool_call_id.clone(), tool);
            }
            EventBody::ToolCompleted { tool_call_id, .. } => {
                if let Some(tool) = self.tools.get_mut(tool_call_id) {
                    tool.open = false;
                }
            }
            EventBody::AgentDelta { part_id, offset, text } => {
                let end = offset.saturating_add(text.chars().count() as u64);
                match self.parts.get_mut(part_id) {
                    Some(known) => *known = end,
                    None => drop(self.parts.insert(part_id.clone(), end)),
                }
            }
            EventBody::AgentSuspended { approval_id, .. } => {
                self.approvals += 1;
                self.suspended = Some(approval_id.clone());
            }
            EventBody::AgentResumed { approval_id, .. } => {
                self.suspended = None;
                self.decided.push_back(approval_id.clone());
                while self.decided.len() > DECIDED_KEPT {
                    self.decided.pop_front();
                }
            }
            EventBody::UserMessage { .. }
            | EventBody::AgentStarted { .. }
            | EventBody::AgentThinking { .. }
            | EventBody::AgentCompleted { .. }
            | EventBody::AgentFailed { .. }
            | EventBody::AgentCancelled { .. }
            | EventBody::Custom { .. } => {}
        }
    }

    /// Whether the event may come in a run that is suspended, or in one that is not.
    fn check_suspension(&self, event: &RunEvent) -> Result<(), Disorder> {
        match (event, &self.suspended) {
            (RunEvent::Failed { .. } | RunEvent::Cancelled { .. }, _) => Ok(()),
            (RunEvent::Resumed { approval_id, .. }, Some(waiting)) if approval_id == waiting => Ok(()),
            (RunEvent::Resumed { approval_id, .. }, _) => {
                Err(Disorder::NotSuspended { approval_id: approval_id.clone() })
            }
            (
                RunEvent::Thinking { .. }
                | RunEvent::ToolExecuting { .. }
                | RunEvent::ToolCompleted { .. }
                | RunEvent::Delta { .. }
                | RunEvent::Suspended { .. }
                | RunEvent::Completed { .. },
                Some(waiting),
            ) => Err(Disorder::Suspended { approval_id: waiting.clone() }),
            (
                RunEvent::Thinking { .. }
                | RunEvent::ToolExecuting { .. }
                | RunEvent::ToolCompleted { .. }
                | RunEvent::Delta { .. }
                | RunEvent::Suspended { .. }
                | RunEvent::Completed { .. },
                None,
            ) => Ok(()),
        }
    }

    /// The wanted id, or `<run>-N` where N rises: a person's answer names no run, so the id is unique among all of them.
    fn new_approval(&self, wanted: Option<ApprovalId>) -> Result<ApprovalId, RunError> {
        if let Some(wanted) = wanted {
            if self.knows(&wanted) {
                return Err(RunError::ApprovalTwice { approval_id: wanted });
            }
            return Ok(wanted);
        }
        let mut number = self.approvals;
        loop {
            number += 1;
            // Short and printable: it always is an id.
            if let Ok(id) = ApprovalId::new(&format!("{}-{number}", self.run))
                && !self.knows(&id)
            {
                return Ok(id);
            }
        }
    }

    fn new_call(&self, wanted: Option<ToolCallId>, limits: &Limits) -> Result<ToolCallId, RunError> {
        if self.tools.len() >= limits.tools_per_run {
            return Err(RunError::TooManyTools { max: limits.tools_per_run });
        }
        let Some(wanted) = wanted else {
            return Ok(self.free_call());
        };
        if self.tools.contains_key(&wanted) {
            return Err(RunError::ToolTwice { tool_call_id: wanted });
        }
        Ok(wanted)
    }

    /// `call_N`, where N rises; a producer may have used the name itself, so look on for a free one.
    fn free_call(&self) -> ToolCallId {
        let mut number = self.tools.len();
        loop {
            number += 1;
            // Short and printable: it always is an id. The fallback would only end the search.
            if let Ok(id) = ToolCallId::new(&format!("call_{number}"))
                && !self.tools.contains_key(&id)
            {
                return id;
            }
        }
    }

    /// Whether the call has begun and not ended.
    pub(super) fn is_open(&self, call: &ToolCallId) -> bool {
        self.tools.get(call).is_some_and(|tool| tool.open)
    }

    /// Whether there ever was such a call.
    pub(super) fn has_call(&self, call: &ToolCallId) -> bool {
        self.tools.contains_key(call)
    }

    /// The calls that have begun and not ended.
    pub(super) fn open_calls(&self) -> impl Iterator<Item = &ToolCallId> {
        self.tools.iter().filter(|(_, tool)| tool.open).map(|(id, _)| id)
    }

    /// Where a part ends, in Unicode scalar values; 0 for one that is new.
    pub(super) fn end_of(&self, part: &PartId) -> u64 {
        self.parts.get(part).copied().unwrap_or(0)
    }

    fn part_end(&self, part: &PartId, limits: &Limits) -> Result<u64, RunError> {
        match self.parts.get(part) {
            Some(end) => Ok(*end),
            None if self.parts.len() >= limits.parts_per_run => {
                Err(RunError::TooManyParts { max: limits.parts_per_run })
            }
            None => Ok(0),
        }
    }
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

fn millis(from: Timestamp, to: Timestamp) -> u64 {
    to.as_micros().saturating_sub(from.as_micros()) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(5_000);

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.into()).unwrap()
    }

    fn tool(id: &str) -> RunEvent {
        RunEvent::ToolExecuting {
            tool_call_id: Some(ToolCallId::new(id).unwrap()),
            tool_name: "calculator".into(),
            parameters: None,
        }
    }

    fn tool_done(id: &str) -> RunEvent {
        RunEvent::ToolCompleted {
            tool_call_id: ToolCallId::new(id).unwrap(),
            results: Some(raw("14")),
            success: None,
            error: None,
        }
    }

    fn delta(part: &str, text: &str) -> RunEvent {
        RunEvent::Delta { part_id: PartId::new(part).unwrap(), offset: None, text: text.into() }
    }

    fn completed() -> RunEvent {
        RunEvent::Completed { final_response: None, result: None }
    }

    fn approval(id: &str) -> ApprovalId {
        ApprovalId::new(id).unwrap()
    }

    fn suspend(id: &str) -> RunEvent {
        RunEvent::Suspended { approval_id: Some(approval(id)), question: None }
    }

    fn resume(id: &str) -> RunEvent {
        RunEvent::Resumed { approval_id: approval(id), decision: Some("yes".into()) }
    }

    /// Plays events until one is refused.
    fn play(events: Vec<RunEvent>, limits: &Limits) -> Result<RunMachine, RunError> {
        let mut run = RunMachine::new(RunId::from_bits(1), Timestamp::ZERO);
        for event in events {
            let body = run.prepare(NOW, event, limits)?;
            run.commit(NOW, &body);
        }
        Ok(run)
    }

    #[test]
    fn the_order_of_a_run_is_a_table() {
        let id = |id: &str| ToolCallId::new(id).unwrap();
        let cases: Vec<(Vec<RunEvent>, Option<RunError>)> = vec![
            (vec![completed()], None),
            (vec![tool("a"), tool_done("a"), completed()], None),
            (vec![tool("a"), tool("b"), tool_done("a"), tool_done("b"), completed()], None),
            (vec![tool_done("a")], Some(RunError::ToolNotOpen { tool_call_id: id("a") })),
            (vec![tool("a"), tool_done("a"), tool_done("a")], Some(RunError::ToolNotOpen { tool_call_id: id("a") })),
            (vec![tool("a"), tool("a")], Some(RunError::ToolTwice { tool_call_id: id("a") })),
            (vec![tool("a"), tool_done("a"), tool("a")], Some(RunError::ToolTwice { tool_call_id: id("a") })),
            (vec![tool("a"), completed()], Some(RunError::ToolOpen { tool_call_id: id("a") })),
            (vec![tool("a"), RunEvent::Failed { reason: None, error: "x".into() }], None),
            (vec![tool("a"), RunEvent::Cancelled { by: "ann".into(), reason: "x".into() }], None),
            (vec![suspend("x"), resume("x"), completed()], None),
            (vec![suspend("x"), resume("x"), suspend("y"), resume("y")], None),
            (vec![tool("a"), suspend("x"), resume("x"), tool_done("a"), completed()], None),
            (vec![suspend("x"), RunEvent::Failed { reason: None, error: "x".into() }], None),
            (vec![suspend("x"), RunEvent::Cancelled { by: "ann".into(), reason: "x".into() }], None),
            (vec![suspend("x"), completed()], Some(RunError::Suspended { approval_id: approval("x") })),
            (vec![suspend("x"), delta("p", "x")], Some(RunError::Suspended { approval_id: approval("x") })),
            (vec![suspend("x"), tool("a")], Some(RunError::Suspended { approval_id: approval("x") })),
            (vec![tool("a"), suspend("x"), tool_done("a")], Some(RunError::Suspended { approval_id: approval("x") })),
            (vec![suspend("x"), suspend("y")], Some(RunError::Suspended { approval_id: approval("x") })),
            (vec![resume("x")], Some(RunError::NotSuspended { approval_id: approval("x") })),
            (vec![suspend("x"), resume("y")], Some(RunError::NotSuspended { approval_id: approval("y") })),
            (vec![suspend("x"), resume("x"), resume("x")], Some(RunError::NotSuspended { approval_id: approval("x") })),
            (
                vec![suspend("x"), resume("x"), suspend("x")],
                Some(RunError::ApprovalTwice { approval_id: approval("x") }),
            ),
        ];
        for (events, expected) in cases {
            let text = format!("{events:?}");
            assert_eq!(play(events, &Limits::default()).err(), expected, "{text}");
        }
    }

    #[test]
    fn tools_and_parts_are_bounded_at_n_and_refused_at_n_plus_1() {
        let limits = Limits { tools_per_run: 2, parts_per_run: 2, ..Limits::default() };
        play(vec![tool("a"), tool("b")], &limits).unwrap();
        let third = play(vec![tool("a"), tool("b"), tool("c")], &limits);
        assert_eq!(third.unwrap_err(), RunError::TooManyTools { max: 2 });
        play(vec![delta("a", "x"), delta("b", "x"), delta("a", "x")], &limits).unwrap();
        let third = play(vec![delta("a", "x"), delta("b", "x"), delta("c", "x")], &limits);
        assert_eq!(third.unwrap_err(), RunError::TooManyParts { max: 2 });
    }

    #[test]
    fn offsets_count_unicode_scalar_values_per_part() {
        let run = play(vec![delta("a", "né🙂"), delta("b", "x")], &Limits::default()).unwrap();
        let body = run.prepare(NOW, delta("a", "!"), &Limits::default()).unwrap();
        assert!(matches!(body, EventBody::AgentDelta { offset: 3, .. }));
    }

    #[test]
    fn the_latest_decisions_are_remembered_and_chosen_approval_ids_are_free() {
        let names: Vec<String> = (0..=DECIDED_KEPT).map(|n| format!("a{n}")).collect();
        let events = names.iter().flat_map(|name| [suspend(name), resume(name)]).collect();
        let run = play(events, &Limits::default()).unwrap();
        assert_eq!(run.decided().len(), DECIDED_KEPT);
        assert!(!run.knows(&approval("a0")) && run.knows(&approval("a1")));
        let run = play(
            vec![suspend(&format!("{}-2", RunId::from_bits(1))), resume(&format!("{}-2", RunId::from_bits(1)))],
            &Limits::default(),
        )
        .unwrap();
        let unnamed = RunEvent::Suspended { approval_id: None, question: None };
        let EventBody::AgentSuspended { approval_id, .. } = run.prepare(NOW, unnamed, &Limits::default()).unwrap()
        else {
            panic!("another kind")
        };
        assert_eq!(approval_id.as_str(), format!("{}-3", RunId::from_bits(1)));
    }

    #[test]
    fn a_chosen_call_id_is_free() {
        let run = play(vec![tool("call_2")], &Limits::default()).unwrap();
        let unnamed = RunEvent::ToolExecuting { tool_call_id: None, tool_name: "t".into(), parameters: None };
        let body = run.prepare(NOW, unnamed, &Limits::default()).unwrap();
        let EventBody::ToolExecuting { tool_call_id, .. } = body else { panic!("another kind") };
        assert_eq!(tool_call_id.as_str(), "call_3");
    }
}
