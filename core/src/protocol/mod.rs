//! Every frame of the wire protocol as a type; `core/PROTOCOL.md` is the specification in words.
//!
//! One JSON object per text frame. [`ClientFrame`] is what clients and producers send, [`ServerFrame`] what they get,
//! [`EventBody`] what a log holds. Parsing names the faulty field and never echoes what stood in it.

mod client;
mod encode;
mod event;
pub mod legacy;
mod macros;
mod object;
mod operators;
pub(crate) mod over_http;
mod position;
mod produced;
mod reply;
mod scan;
mod server;
mod snapshot;
mod target;
#[cfg(test)]
mod tests;
mod wire;
mod writer;

use std::fmt;

pub use client::{
    ClientFrame, ClientInfo, Hello, MAX_HELLO_TOPICS, OrderPolicy, Parsed, ProducerHello, RunStart, Token, WhenLeft,
};
pub use encode::{
    DeltaLayout, EventHead, PrevPrefix, encode_event, encode_event_in, prev_prefix, tells_of_a_run, thread_at,
    thread_text,
};
pub use event::{AgentDeltas, DeltaPart, Event, EventBody, EventKind, FailReason};
pub use object::MAX_DEPTH;
pub use operators::{
    ConnectionReport, DependencyReport, Labels, MetricReport, RunReport, SampleReport, ServerReport, UserReport,
};
pub use over_http::MAX_EVENTS;
pub use position::{Position, PositionError, StreamName};
pub use produced::RunEvent;
pub use reply::{CancelState, Receipt, Reply, ReplyError, ReplyOk, WireCode};
pub use server::{
    Ephemeral, Heartbeat, LevelOrder, Lost, Mode, Request, RequestBody, ServerFrame, ServiceLevel, StreamEntry,
    Welcome, WelcomeLimits,
};
pub use snapshot::{RunStatus, Snapshot, SnapshotPart, SnapshotRun, SnapshotTool};
pub use target::{PublishTarget, RevokeTarget, RunRef};
pub use wire::NUMBER_END;
pub use writer::encoded_text_len;

use crate::error::ErrorCode;
use crate::id::{FrameId, RunId};
use wire::{Fault, Field, Object};

/// Why a text is not a frame. The message is for the peer: it names the field and what to do, and holds no payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// What kind of fault.
    pub code: ErrorCode,
    /// Names the field, never its value.
    pub message: String,
    /// The frame's own `id` where it could be read: the answer is then a `reply`.
    pub id: Option<FrameId>,
    /// The run and the number of a `run_event`, where they could be read: it has used its number all the same.
    pub event: Option<(RunId, u64)>,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for FrameError {}

impl FrameError {
    fn of(fault: &Fault, id: Option<FrameId>) -> Self {
        Self { code: fault.code, message: fault.message(), id, event: None }
    }

    fn unknown_type(id: Option<FrameId>) -> Self {
        let message = "`type` is none of the specification's for this direction".to_owned();
        Self { code: ErrorCode::UnknownType, message, id, event: None }
    }
}

/// The frame's `id`, where it is one.
fn frame_id(object: &Object<'_>) -> Option<FrameId> {
    object.get("id").and_then(|raw| FrameId::read(raw).ok())
}
