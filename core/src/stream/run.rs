//! The run automaton: what may happen in a run, and in which order, decided where an event enters.
//!
//! `agent_started` first and once; each `tool_completed` after its own `tool_executing`; tool calls may overlap; one
//! terminal event, last, with no tool call open. A failure or a cancellation closes the open calls without events.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

use crate::id::{PartId, ToolCallId};
use crate::limits::Limits;
use crate::protocol::{EventBody, FailReason};
use crate::time::Timestamp;

/// What a producer says of its run; offsets and durations are the automaton's to add.
#[derive(Clone)]
pub enum RunEvent {
    /// The agent says what it is about to do.
    Thinking {
        /// The thought.
        thought: String,
        /// Which step.
        step: Option<u32>,
        /// The share that is done, 0 to 1.
        progress: Option<f64>,
    },
    /// A tool call begins.
    ToolExecuting {
        /// The producer's name for the call; `None` lets the automaton choose.
        tool_call_id: Option<ToolCallId>,
        /// Which tool.
        tool_name: String,
        /// What it is given.
        parameters: Option<Box<RawValue>>,
    },
    /// A tool call ends.
    ToolCompleted {
        /// The call that began.
        tool_call_id: ToolCallId,
        /// What it gave.
        results: Box<RawValue>,
        /// Why it failed; `None` is success.
        error: Option<String>,
    },
    /// A piece of streamed answer text, to follow what the part has so far.
    Delta {
        /// Which text of the run.
        part_id: PartId,
        /// The piece.
        text: String,
    },
    /// The run ends well.
    Completed {
        /// The answer as text.
        final_response: Option<String>,
        /// The answer as data.
        result: Option<Box<RawValue>>,
    },
    /// The run ends in failure.
    Failed {
        /// What kind of failure.
        reason: FailReason,
        /// For people.
        error: String,
    },
    /// The run was stopped.
    Cancelled {
        /// Who stopped it.
        by: String,
        /// Why.
        reason: String,
    },
}

/// What agents say stays out of logs: `Debug` shows the kind.
impl fmt::Debug for RunEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Thinking { .. } => "Thinking(..)",
            Self::ToolExecuting { .. } => "ToolExecuting(..)",
            Self::ToolCompleted { .. } => "ToolCompleted(..)",
            Self::Delta { .. } => "Delta(..)",
            Self::Completed { .. } => "Completed(..)",
            Self::Failed { .. } => "Failed(..)",
            Self::Cancelled { .. } => "Cancelled(..)",
        })
    }
}

/// Why an event does not enter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// A terminal event was last.
    #[error("the run has ended: nothing follows its terminal event")]
    Ended,
    /// `tool_completed` without its predecessor.
    #[error("tool call {tool_call_id:?} is not open: `tool_executing` comes before `tool_completed`")]
    ToolNotOpen {
        /// The call.
        tool_call_id: ToolCallId,
    },
    /// The id names an earlier call.
    #[error("tool call {tool_call_id:?} was made already: every call has an id of its own")]
    ToolTwice {
        /// The call.
        tool_call_id: ToolCallId,
    },
    /// `agent_completed` too early.
    #[error("tool call {tool_call_id:?} is open: `tool_completed` comes before `agent_completed`")]
    ToolOpen {
        /// One of those that are open.
        tool_call_id: ToolCallId,
    },
    /// Over [`Limits::tools_per_run`].
    #[error("the run has made {max} tool calls, as many as allowed")]
    TooManyTools {
        /// The limit.
        max: usize,
    },
    /// Over [`Limits::parts_per_run`].
    #[error("the run has streamed {max} parts, as many as allowed")]
    TooManyParts {
        /// The limit.
        max: usize,
    },
    /// Over [`Limits::runs_per_user`].
    #[error("the user has {max} open runs, as many as allowed: let one end first")]
    TooManyRuns {
        /// The limit.
        max: usize,
    },
    /// Over [`Limits::event_bytes`].
    #[error("the event has {bytes} bytes, more than {max}: split it")]
    TooLarge {
        /// Bytes of the encoded event.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// What the run was to answer was withdrawn, refused, or waited too long.
    #[error("the request is not open any more: it was cancelled or its deadline passed")]
    RequestClosed,
    /// The server shuts down.
    #[error("the server shuts down: no run starts any more")]
    Draining,
    /// A value is not JSON.
    #[error("the value cannot be written as JSON: {0}")]
    NotJson(String),
}

/// The state of one run between its start and its terminal event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunMachine {
    started: Timestamp,
    run_seq: u64,
    /// Ended calls stay, so that their ids are not used again.
    tools: BTreeMap<ToolCallId, Tool>,
    /// How many Unicode scalar values each part has.
    parts: BTreeMap<PartId, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tool {
    name: Box<str>,
    started: Timestamp,
    open: bool,
}

impl RunMachine {
    /// A run whose `agent_started` is about to be appended.
    pub const fn new(started: Timestamp) -> Self {
        Self { started, run_seq: 0, tools: BTreeMap::new(), parts: BTreeMap::new() }
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
            RunEvent::ToolCompleted { tool_call_id, results, error } => {
                let Some(tool) = self.tools.get(&tool_call_id).filter(|tool| tool.open) else {
                    return Err(RunError::ToolNotOpen { tool_call_id });
                };
                let tool_name = tool.name.to_string();
                let duration_ms = Some(millis(tool.started, now));
                let success = error.is_none();
                EventBody::ToolCompleted { tool_call_id, tool_name, results, success, duration_ms, error }
            }
            RunEvent::Delta { part_id, text } => {
                let offset = self.part_end(&part_id, limits)?;
                EventBody::AgentDelta { part_id, offset, text }
            }
            RunEvent::Completed { final_response, result } => {
                if let Some((id, _)) = self.tools.iter().find(|(_, tool)| tool.open) {
                    return Err(RunError::ToolOpen { tool_call_id: id.clone() });
                }
                EventBody::AgentCompleted { final_response, result, duration_ms: millis(self.started, now) }
            }
            RunEvent::Failed { reason, error } => EventBody::AgentFailed { reason, error },
            RunEvent::Cancelled { by, reason } => EventBody::AgentCancelled { by, reason },
        })
    }

    /// Takes note of an event that [`RunMachine::prepare`] allowed and that was appended.
    pub fn commit(&mut self, now: Timestamp, body: &EventBody) {
        self.count();
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
            EventBody::UserMessage { .. }
            | EventBody::AgentStarted { .. }
            | EventBody::AgentThinking { .. }
            | EventBody::AgentSuspended { .. }
            | EventBody::AgentResumed { .. }
            | EventBody::AgentCompleted { .. }
            | EventBody::AgentFailed { .. }
            | EventBody::AgentCancelled { .. }
            | EventBody::Custom { .. } => {}
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
        RunEvent::ToolCompleted { tool_call_id: ToolCallId::new(id).unwrap(), results: raw("14"), error: None }
    }

    fn delta(part: &str, text: &str) -> RunEvent {
        RunEvent::Delta { part_id: PartId::new(part).unwrap(), text: text.into() }
    }

    fn completed() -> RunEvent {
        RunEvent::Completed { final_response: None, result: None }
    }

    /// Plays events until one is refused.
    fn play(events: Vec<RunEvent>, limits: &Limits) -> Result<RunMachine, RunError> {
        let mut run = RunMachine::new(Timestamp::ZERO);
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
            (vec![tool("a"), RunEvent::Failed { reason: FailReason::Error, error: "x".into() }], None),
            (vec![tool("a"), RunEvent::Cancelled { by: "ann".into(), reason: "x".into() }], None),
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
    fn a_chosen_call_id_is_free() {
        let run = play(vec![tool("call_2")], &Limits::default()).unwrap();
        let unnamed = RunEvent::ToolExecuting { tool_call_id: None, tool_name: "t".into(), parameters: None };
        let body = run.prepare(NOW, unnamed, &Limits::default()).unwrap();
        let EventBody::ToolExecuting { tool_call_id, .. } = body else { panic!("another kind") };
        assert_eq!(tool_call_id.as_str(), "call_3");
    }
}
