//! Agent events: what a log holds and every device of a user sees in the same order.

use std::fmt;

use serde_json::value::RawValue;

use super::encode::{EventHead, write_head};
use super::macros::{frames, record, texts};
use super::position::{Position, StreamName};
use super::wire::{Fault, Field, Object, Record, Writer};
use crate::id::{ApprovalId, PartId, RunId, ThreadId, ToolCallId};
use crate::time::UnixTime;

frames! {
    /// What happened. `Debug` shows the type alone: events carry payloads.
    pub enum EventBody {
        boxed {}
        inline {
            /// The user's own message, so that every device shows it.
            UserMessage = "user_message" {
                /// The text.
                content: String,
                /// As the client sent it.
                metadata: Option<Box<RawValue>>,
            }
            /// A run begins.
            AgentStarted = "agent_started" {
                /// The run that started this one, of the same user.
                parent_run_id: Option<RunId>,
                /// What the agent was asked.
                message: Option<String>,
            }
            /// The agent says what it is about to do.
            AgentThinking = "agent_thinking" {
                /// The thought.
                thought: String,
                /// Which step.
                step: Option<u32>,
                /// The share that is done, 0 to 1.
                progress: Option<f64>,
            }
            /// A tool call begins.
            ToolExecuting = "tool_executing" {
                /// Unique within the run.
                tool_call_id: ToolCallId,
                /// Which tool.
                tool_name: String,
                /// What it is given.
                parameters: Option<Box<RawValue>>,
            }
            /// A tool call ends.
            ToolCompleted = "tool_completed" {
                /// The call that began.
                tool_call_id: ToolCallId,
                /// Which tool.
                tool_name: String,
                /// What it gave; `null` is a result too.
                results: Box<RawValue>,
                /// Whether it did what it was asked.
                success: bool,
                /// How long it took, in milliseconds.
                duration_ms: Option<u64>,
                /// Why it failed.
                error: Option<String>,
            }
            /// Streamed answer text.
            AgentDelta = "agent_delta" {
                /// Which text of the run.
                part_id: PartId,
                /// Where this piece begins, in Unicode scalar values.
                offset: u64,
                /// The piece.
                text: String,
            }
            /// The run waits for a person.
            AgentSuspended = "agent_suspended" {
                /// What `approve` must name.
                approval_id: ApprovalId,
                /// What is asked.
                question: Option<String>,
            }
            /// The person has decided.
            AgentResumed = "agent_resumed" {
                /// What was decided.
                approval_id: ApprovalId,
                /// The application's word for the decision.
                decision: Option<String>,
            }
            /// The run ends well.
            AgentCompleted = "agent_completed" {
                /// The answer as text.
                final_response: Option<String>,
                /// The answer as data.
                result: Option<Box<RawValue>>,
                /// How long the run took, in milliseconds.
                duration_ms: u64,
            }
            /// The run ends in failure.
            AgentFailed = "agent_failed" {
                /// What kind of failure.
                reason: FailReason,
                /// For people.
                error: String,
            }
            /// The run was stopped.
            AgentCancelled = "agent_cancelled" {
                /// Who stopped it.
                by: String,
                /// Why.
                reason: String,
            }
            /// An event of the application's own.
            Custom = "custom" {
                /// The application's name for it.
                name: String,
                /// The payload.
                data: Box<RawValue>,
            }
        }
    }
}

texts! {
    /// The type of an event.
    pub enum EventKind {
        /// [`EventBody::UserMessage`].
        UserMessage = "user_message",
        /// [`EventBody::AgentStarted`].
        AgentStarted = "agent_started",
        /// [`EventBody::AgentThinking`].
        AgentThinking = "agent_thinking",
        /// [`EventBody::ToolExecuting`].
        ToolExecuting = "tool_executing",
        /// [`EventBody::ToolCompleted`].
        ToolCompleted = "tool_completed",
        /// [`EventBody::AgentDelta`].
        AgentDelta = "agent_delta",
        /// [`EventBody::AgentSuspended`].
        AgentSuspended = "agent_suspended",
        /// [`EventBody::AgentResumed`].
        AgentResumed = "agent_resumed",
        /// [`EventBody::AgentCompleted`].
        AgentCompleted = "agent_completed",
        /// [`EventBody::AgentFailed`].
        AgentFailed = "agent_failed",
        /// [`EventBody::AgentCancelled`].
        AgentCancelled = "agent_cancelled",
        /// [`EventBody::Custom`].
        Custom = "custom",
    } else None
}

impl EventKind {
    /// Whether it ends its run.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::AgentCompleted | Self::AgentFailed | Self::AgentCancelled)
    }

    /// Whether merging must leave it alone: everything but streamed text.
    pub const fn is_lifecycle(self) -> bool {
        !matches!(self, Self::AgentDelta)
    }
}

texts! {
    /// Why a run failed. A reason that a newer server knows reads as [`FailReason::Other`].
    pub enum FailReason {
        /// The agent says so.
        Error = "error",
        /// Its producer is gone.
        ProducerLost = "producer_lost",
        /// It took too long.
        Timeout = "timeout",
        /// Any other.
        Other = "other",
    } else Some(Self::Other)
}

impl EventBody {
    /// The type.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::UserMessage { .. } => EventKind::UserMessage,
            Self::AgentStarted { .. } => EventKind::AgentStarted,
            Self::AgentThinking { .. } => EventKind::AgentThinking,
            Self::ToolExecuting { .. } => EventKind::ToolExecuting,
            Self::ToolCompleted { .. } => EventKind::ToolCompleted,
            Self::AgentDelta { .. } => EventKind::AgentDelta,
            Self::AgentSuspended { .. } => EventKind::AgentSuspended,
            Self::AgentResumed { .. } => EventKind::AgentResumed,
            Self::AgentCompleted { .. } => EventKind::AgentCompleted,
            Self::AgentFailed { .. } => EventKind::AgentFailed,
            Self::AgentCancelled { .. } => EventKind::AgentCancelled,
            Self::Custom { .. } => EventKind::Custom,
        }
    }

    /// Whether merging must leave it alone: everything but streamed text.
    pub const fn is_lifecycle(&self) -> bool {
        self.kind().is_lifecycle()
    }

    /// Whether it ends its run.
    pub const fn is_terminal(&self) -> bool {
        self.kind().is_terminal()
    }
}

impl EventBody {
    pub(super) fn read_as(kind: EventKind, object: &Object<'_>) -> Result<Self, Fault> {
        let body = Self::read_kind(kind.as_str(), object)?;
        // Both enums name the same types, which a test holds them to; a fault says so without a panic.
        body.ok_or_else(|| Fault::invalid("type", "must be the type of an event"))
    }
}

/// An event as a client sees it.
#[derive(Clone, PartialEq)]
pub struct Event {
    /// Where it stands in its stream.
    pub position: Position,
    /// The seq it follows, where that is not the one before.
    pub prev: Option<u64>,
    /// The stream.
    pub stream: StreamName,
    /// When it was appended.
    pub timestamp: UnixTime,
    /// The subject; not on topics.
    pub user_id: Option<String>,
    /// The conversation.
    pub thread_id: Option<ThreadId>,
    /// The run.
    pub run_id: Option<RunId>,
    /// The event's number within its run, from 1.
    pub run_seq: Option<u64>,
    /// Who works.
    pub agent_name: Option<String>,
    /// Why it should not have come now, where its run lets such events in; for people.
    pub flaw: Option<String>,
    /// What happened.
    pub body: EventBody,
}

impl Event {
    /// The seq it follows: a client whose position is another one has met a fault.
    pub fn follows(&self) -> u64 {
        self.prev.unwrap_or(self.position.seq.saturating_sub(1))
    }

    pub(super) fn head(&self) -> EventHead<'_> {
        EventHead {
            position: self.position,
            stream: Some(&self.stream),
            timestamp: self.timestamp,
            user_id: self.user_id.as_deref(),
            thread_id: self.thread_id.as_ref(),
            run_id: self.run_id,
            run_seq: self.run_seq,
            agent_name: self.agent_name.as_deref(),
            flaw: self.flaw.as_deref(),
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}, {})", self.body.kind(), self.stream, self.position)
    }
}

impl Record for Event {
    fn kind_or(&self, _: &'static str) -> &'static str {
        self.body.type_name()
    }
    fn read_fields(object: &Object<'_>) -> Result<Self, Fault> {
        let position: Position = Field::take(object, "event_id")?;
        Ok(Self {
            position: same_seq(object, position)?,
            prev: read_prev(object, position)?,
            stream: Field::take(object, "stream")?,
            timestamp: Field::take(object, "timestamp")?,
            user_id: Field::take(object, "user_id")?,
            thread_id: Field::take(object, "thread_id")?,
            run_id: Field::take(object, "run_id")?,
            run_seq: Field::take(object, "run_seq")?,
            agent_name: Field::take(object, "agent_name")?,
            flaw: Field::take(object, "flaw")?,
            body: EventBody::read_as(Field::take(object, "type")?, object)?,
        })
    }
    fn write_fields(&self, writer: &mut Writer) {
        self.prev.put(writer, "prev");
        write_head(writer, &self.head());
        self.body.write_body(writer);
    }
}

/// `seq` repeats the position's for readers that do not split texts; the two must agree.
fn same_seq(object: &Object<'_>, position: Position) -> Result<Position, Fault> {
    let seq: u64 = Field::take(object, "seq")?;
    if seq == position.seq { Ok(position) } else { Err(Fault::invalid("seq", "must be the seq of `event_id`")) }
}

fn read_prev(object: &Object<'_>, position: Position) -> Result<Option<u64>, Fault> {
    let prev: Option<u64> = Field::take(object, "prev")?;
    if prev.is_some_and(|prev| prev >= position.seq) {
        return Err(Fault::invalid("prev", "must be below the seq of `event_id`"));
    }
    Ok(prev)
}

record! {
    /// One piece of streamed text in a merged window.
    #[derive(Clone, PartialEq, Eq)]
    pub struct DeltaPart {
        /// Which run.
        run_id: RunId,
        /// Which text of the run.
        part_id: PartId,
        /// Where this piece begins, in Unicode scalar values.
        offset: u64,
        /// The piece.
        text: String,
        /// The last number within the run that the piece covers.
        run_seq: u64,
    }
}

impl fmt::Debug for DeltaPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeltaPart({}, offset {})", self.run_id, self.offset)
    }
}

/// A window `(prev, seq]` of a log without a lifecycle event, merged for a reader that lags.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentDeltas {
    /// Where the window ends.
    pub position: Position,
    /// The seq before the window.
    pub prev: u64,
    /// The stream.
    pub stream: StreamName,
    /// When its last event was appended.
    pub timestamp: UnixTime,
    /// The subject; not on topics.
    pub user_id: Option<String>,
    /// The texts, in the order in which they began.
    pub parts: Vec<DeltaPart>,
}

impl Record for AgentDeltas {
    fn read_fields(object: &Object<'_>) -> Result<Self, Fault> {
        let position: Position = Field::take(object, "event_id")?;
        let needed = || Fault::invalid("prev", "is missing: the frame needs it");
        Ok(Self {
            position: same_seq(object, position)?,
            prev: read_prev(object, position)?.ok_or_else(needed)?,
            stream: Field::take(object, "stream")?,
            timestamp: Field::take(object, "timestamp")?,
            user_id: Field::take(object, "user_id")?,
            parts: Field::take(object, "parts")?,
        })
    }
    fn write_fields(&self, writer: &mut Writer) {
        self.prev.put(writer, "prev");
        let head = EventHead {
            position: self.position,
            stream: Some(&self.stream),
            timestamp: self.timestamp,
            user_id: self.user_id.as_deref(),
            thread_id: None,
            run_id: None,
            run_seq: None,
            agent_name: None,
            flaw: None,
        };
        write_head(writer, &head);
        self.parts.put(writer, "parts");
    }
}
