//! Why an event does not enter a run.

use crate::error::ErrorCode;
use crate::id::{ApprovalId, PartId, RunId, ToolCallId};
#[cfg(doc)]
use crate::limits::Limits;

impl RunError {
    /// What a peer is told.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Ended => ErrorCode::RunEnded,
            Self::ToolNotOpen { .. }
            | Self::ToolTwice { .. }
            | Self::ToolOpen { .. }
            | Self::Offset { .. }
            | Self::Suspended { .. }
            | Self::NotSuspended { .. }
            | Self::ApprovalTwice { .. }
            | Self::Gap { .. } => ErrorCode::RunOrder,
            Self::TooManyTools { .. } | Self::TooManyParts { .. } | Self::AgentName { .. } | Self::NotJson(_) => {
                ErrorCode::Invalid
            }
            Self::NoParent { .. } | Self::NoRun { .. } | Self::RequestClosed => ErrorCode::NotFound,
            Self::RunTaken { .. } => ErrorCode::RunTaken,
            Self::TooManyRuns { .. } => ErrorCode::TooManyRuns,
            Self::Full { .. } => ErrorCode::Busy,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Draining => ErrorCode::Draining,
        }
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
    /// A piece of text that does not follow the last one.
    #[error("part {part_id:?} ends at {end}: the piece must begin there, counted in Unicode scalar values")]
    Offset {
        /// The text.
        part_id: PartId,
        /// Where it ends.
        end: u64,
    },
    /// Something else than what ends a suspension.
    #[error("the run waits for approval {approval_id:?}: `agent_resumed` comes before anything but its failure or end")]
    Suspended {
        /// What is to be decided.
        approval_id: ApprovalId,
    },
    /// `agent_resumed` without its predecessor.
    #[error("the run does not wait for approval {approval_id:?}: `agent_suspended` comes before `agent_resumed`")]
    NotSuspended {
        /// What was to be decided.
        approval_id: ApprovalId,
    },
    /// The id names an earlier approval.
    #[error("approval {approval_id:?} was asked for already: every approval has an id of its own")]
    ApprovalTwice {
        /// The approval.
        approval_id: ApprovalId,
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
    /// The run that is to start this one is not open, or another user's: the two are alike.
    #[error("the parent {parent} is no open run of this user: start it first")]
    NoParent {
        /// The run that is not there.
        parent: RunId,
    },
    /// No run of this id is there for this producer.
    #[error("no run {run} is open for this producer: start it first")]
    NoRun {
        /// The run that is not there.
        run: RunId,
    },
    /// Another producer works on it, or nobody has taken it over.
    #[error("the run {run} is not this connection's: take it over with `run_start` once its producer is gone")]
    RunTaken {
        /// The run.
        run: RunId,
    },
    /// Events of a producer are missing before this one.
    #[error("`n` must be {expected}: the events of a run are numbered without a gap")]
    Gap {
        /// The number that is next.
        expected: u64,
    },
    /// Over [`Limits::runs_per_user`].
    #[error("the user has {max} open runs, as many as allowed: let one end first")]
    TooManyRuns {
        /// The limit.
        max: usize,
    },
    /// Over [`Limits::runs`].
    #[error("{max} runs are open, as many as allowed in all: let one end first")]
    Full {
        /// What this part of the users may have.
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
    /// A name that would stand in every event of the run.
    #[error("the agent's name has {bytes} bytes, more than {max}: shorten it")]
    AgentName {
        /// Bytes of the name.
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
