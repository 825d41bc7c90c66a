//! What a producer says of its run. Positions, offsets, durations and names of calls are the server's to add.

use serde_json::value::RawValue;

use super::client::ClientFrame;
use super::event::FailReason;
use super::macros::frames;
use super::wire::{Fault, Field, Object, Raw, Writer};
use crate::id::{ApprovalId, PartId, RunId, ToolCallId};

frames! {
    /// An event of a run as its producer says it: the Rust API's, and `run_event.event` on the wire. `Debug` shows the
    /// type alone: what agents say stays out of logs.
    pub enum RunEvent {
        boxed {}
        inline {
            /// The agent says what it is about to do.
            Thinking = "agent_thinking" {
                /// The thought.
                thought: String,
                /// Which step.
                step: Option<u32>,
                /// The share that is done, 0 to 1.
                progress: Option<f64>,
            }
            /// A tool call begins.
            ToolExecuting = "tool_executing" {
                /// The producer's name for the call; `None` lets the run choose.
                tool_call_id: Option<ToolCallId>,
                /// Which tool.
                tool_name: String,
                /// What it is given.
                parameters: Option<Box<RawValue>>,
            }
            /// A tool call ends.
            ToolCompleted = "tool_completed" {
                /// The call that began.
                tool_call_id: ToolCallId,
                /// What it gave; `None` is `null`.
                results: Option<Box<RawValue>>,
                /// Whether it did what it was asked; `None` is: as far as there is no `error`.
                success: Option<bool>,
                /// Why it failed.
                error: Option<String>,
            }
            /// A piece of streamed answer text, to follow what the part has so far.
            Delta = "agent_delta" {
                /// Which text of the run.
                part_id: PartId,
                /// Where the piece begins, in Unicode scalar values. `None` is the part's end, and nothing else may
                /// stand here: it lets a producer check that both count alike.
                offset: Option<u64>,
                /// The piece.
                text: String,
            }
            /// The run waits for a person.
            Suspended = "agent_suspended" {
                /// The producer's name for what is decided; `None` lets the run choose.
                approval_id: Option<ApprovalId>,
                /// What is asked.
                question: Option<String>,
            }
            /// The run goes on.
            Resumed = "agent_resumed" {
                /// What it waited for.
                approval_id: ApprovalId,
                /// The application's word for the decision; `None` where nobody decided.
                decision: Option<String>,
            }
            /// The run ends well.
            Completed = "agent_completed" {
                /// The answer as text.
                final_response: Option<String>,
                /// The answer as data.
                result: Option<Box<RawValue>>,
            }
            /// The run ends in failure.
            Failed = "agent_failed" {
                /// What kind of failure; `None` is [`FailReason::Error`].
                reason: Option<FailReason>,
                /// For people.
                error: String,
            }
            /// The run was stopped.
            Cancelled = "agent_cancelled" {
                /// Who stopped it.
                by: String,
                /// Why.
                reason: String,
            }
        }
    }
}

impl RunEvent {
    /// Whether nothing may follow it.
    pub const fn is_terminal(&self) -> bool {
        match self {
            Self::Completed { .. } | Self::Failed { .. } | Self::Cancelled { .. } => true,
            Self::Thinking { .. }
            | Self::ToolExecuting { .. }
            | Self::ToolCompleted { .. }
            | Self::Delta { .. }
            | Self::Suspended { .. }
            | Self::Resumed { .. } => false,
        }
    }
}

/// Stands in `run_event.event`: an object with its own `type`.
impl Field for RunEvent {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        let object = Object::read(raw.get())?;
        let kind: String = Field::take(&object, "type")?;
        let event = Self::read_kind(&kind, &object)?;
        event.ok_or_else(|| Fault::invalid("type", "must be the type of an event that a producer sends in its run"))
    }
    fn write(&self, out: &mut String) {
        let mut writer = Writer::frame(self.type_name(), 256);
        self.write_body(&mut writer);
        out.push_str(&writer.finish());
    }
}

impl ClientFrame {
    /// The run and the number, where it is an event of a run.
    pub fn numbered(&self) -> Option<(RunId, u64)> {
        if let Self::RunEvent { run_id, n, .. } = self { Some((*run_id, *n)) } else { None }
    }
}

/// Which event of which run a frame says it is, where it is a `run_event`.
pub(super) fn numbered(kind: &str, object: &Object<'_>) -> Option<(RunId, u64)> {
    let raw = |name| object.get(name).filter(|_| kind == "run_event");
    Some((RunId::read(raw("run_id")?).ok()?, u64::read(raw("n")?).ok()?))
}
