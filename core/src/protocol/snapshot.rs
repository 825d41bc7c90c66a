//! The state of a stream at a position, as `snapshot` carries it.

use std::fmt;

use serde_json::value::RawValue;

use super::macros::{record, texts};
use super::position::{Position, StreamName};
use super::server::Lost;
use super::wire::Field;
use crate::id::{ApprovalId, PartId, RunId, ThreadId, ToolCallId};

record! {
    /// The fields of `snapshot`: a stream's state at a position, in one frame or several.
    #[derive(Clone)]
    pub struct Snapshot {
        /// Which stream.
        stream: StreamName,
        /// The position of the state.
        event_id: Position,
        /// Which part, from 1.
        part: u32,
        /// How many parts.
        of: u32,
        /// In the first part, where no welcome has said it: what the reader has missed.
        lost: Option<Lost>,
        /// The runs of this part; one run may come in several pieces.
        runs: Vec<SnapshotRun>,
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} {}, {} of {})", self.stream, self.event_id, self.part, self.of)
    }
}

record! {
    /// A run, or a piece of one: lists of several pieces are joined in their order.
    #[derive(Clone)]
    pub struct SnapshotRun {
        /// Which run.
        run_id: RunId,
        /// The conversation.
        thread_id: Option<ThreadId>,
        /// Who works.
        agent_name: Option<String>,
        /// The run that started this one.
        parent_run_id: Option<RunId>,
        /// Where it stands.
        status: RunStatus,
        /// The number of its last event.
        run_seq: u64,
        /// What it waits for, while it is suspended.
        approval_id: Option<ApprovalId>,
        /// What is asked then.
        question: Option<String>,
        /// `true` where the state was too large to be kept whole; absent otherwise.
        shortened: Option<bool>,
        /// What the agent thought.
        thoughts: Vec<String>,
        /// Its tool calls; one may come in two pieces, what it was given and what it gave.
        tools: Vec<SnapshotTool>,
        /// Its texts, piece by piece.
        parts: Vec<SnapshotPart>,
    }
}

record! {
    /// A tool call as it stands.
    #[derive(Clone)]
    pub struct SnapshotTool {
        /// Unique within the run.
        tool_call_id: ToolCallId,
        /// Which tool.
        tool_name: String,
        /// What it was given.
        parameters: Option<Box<RawValue>>,
        /// What it gave, once it has ended.
        results: Option<Box<RawValue>>,
        /// Whether it did what it was asked, once it has ended.
        success: Option<bool>,
        /// Why it failed.
        error: Option<String>,
    }
}

record! {
    /// A piece of a streamed text.
    #[derive(Clone)]
    pub struct SnapshotPart {
        /// Which text of the run.
        part_id: PartId,
        /// Where the piece begins, in Unicode scalar values.
        offset: u64,
        /// The piece.
        text: String,
    }
}

impl SnapshotRun {
    /// Bytes of the piece in a frame, escapes included.
    pub fn encoded_len(&self) -> usize {
        let mut out = String::new();
        self.write(&mut out);
        out.len()
    }
}

texts! {
    /// Where a run stands.
    pub enum RunStatus {
        /// Started, and no terminal event yet.
        Running = "running",
        /// Waits for a person.
        Suspended = "suspended",
        /// Ended well.
        Completed = "completed",
        /// Ended in failure.
        Failed = "failed",
        /// Was stopped.
        Cancelled = "cancelled",
    } else None
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

/// They carry payloads: `Debug` shows the ids.
macro_rules! debug_by_id {
    ($($name:ident: $id:ident,)*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.$id)
            }
        })*
    };
}

debug_by_id! {
    SnapshotRun: run_id,
    SnapshotTool: tool_call_id,
    SnapshotPart: part_id,
}
