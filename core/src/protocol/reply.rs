//! Answers: what became of a request.

use std::fmt;

use serde_json::value::RawValue;

use super::macros::{record, texts};
use super::operators::{ServerReport, UserReport};
use super::server::StreamEntry;
use super::wire::{Fault, Field, Object, Raw, Record, Writer};
use super::writer::push_text;
use crate::error::ErrorCode;
use crate::id::{FrameId, RunId};

/// The answer to the frame with the same `id`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The request's.
    pub id: FrameId,
    /// What became of it.
    pub outcome: Result<ReplyOk, ReplyError>,
}

impl Reply {
    /// A refusal with one of the protocol's own codes, whose table says whether it is temporary.
    pub fn refused(id: FrameId, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { id, outcome: Err(ReplyError::new(code, message)) }
    }

    /// Success.
    pub const fn ok(id: FrameId, ok: ReplyOk) -> Self {
        Self { id, outcome: Ok(ok) }
    }
}

impl Record for Reply {
    fn read_fields(object: &Object<'_>) -> Result<Self, Fault> {
        let id = Field::take(object, "id")?;
        let ok: bool = Field::take(object, "ok")?;
        let outcome = if ok { Ok(ReplyOk::read_fields(object)?) } else { Err(Field::take(object, "error")?) };
        Ok(Self { id, outcome })
    }
    fn write_fields(&self, writer: &mut Writer) {
        self.id.put(writer, "id");
        self.outcome.is_ok().put(writer, "ok");
        match &self.outcome {
            Ok(ok) => ok.write_fields(writer),
            Err(error) => error.put(writer, "error"),
        }
    }
}

/// A result; its fields stand flat in the reply. Which fields there are says which result it is.
#[derive(Clone)]
pub enum ReplyOk {
    /// Done, with nothing to say: `unsubscribe`, `approve`, an answer to a `request`.
    Done,
    /// To `user_message`: it is in the log and this run is starting.
    Run {
        /// Reserved by the manager.
        run_id: RunId,
    },
    /// To `cancel_run`.
    Cancel {
        /// The run.
        run_id: RunId,
        /// What has become of it.
        state: CancelState,
    },
    /// To `refresh`.
    Refreshed {
        /// Until the session's expiry, in seconds.
        expires_in: f64,
    },
    /// To `run_event` and `publish`.
    Receipt(Receipt),
    /// To `subscribe`: the topic's entry as in the welcome.
    Stream(StreamEntry),
    /// To `command`: the application's own result.
    Result(Box<RawValue>),
    /// To `run_start`.
    RunStarted {
        /// The run, new or taken over.
        run_id: RunId,
        /// The last `n` the manager has seen; 0 for none.
        last_n: u64,
    },
    /// To `revoke` and `disconnect`.
    Closed {
        /// How many live connections were closed.
        closed: u32,
    },
    /// To `inspect`: the server.
    Server(Box<ServerReport>),
    /// To `inspect`: a user.
    User(Box<UserReport>),
}

/// Shows the kind alone: a result can be a payload.
impl fmt::Debug for ReplyOk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "Done",
            Self::Run { .. } => "Run(..)",
            Self::Cancel { .. } => "Cancel(..)",
            Self::Refreshed { .. } => "Refreshed(..)",
            Self::Receipt(_) => "Receipt(..)",
            Self::Stream(_) => "Stream(..)",
            Self::Result(_) => "Result(..)",
            Self::RunStarted { .. } => "RunStarted(..)",
            Self::Closed { .. } => "Closed(..)",
            Self::Server(_) => "Server(..)",
            Self::User(_) => "User(..)",
        })
    }
}

/// Equal where the wire shows no difference.
impl PartialEq for ReplyOk {
    fn eq(&self, other: &Self) -> bool {
        let encoded = |ok: &Self| {
            let mut out = String::new();
            ok.write(&mut out);
            out
        };
        encoded(self) == encoded(other)
    }
}

impl Record for ReplyOk {
    fn read_fields(object: &Object<'_>) -> Result<Self, Fault> {
        let has = |name| object.has(name);
        if has("stream") {
            return StreamEntry::read_fields(object).map(Self::Stream);
        }
        if has("run_id") {
            return Self::read_run(object);
        }
        if has("expires_in") {
            return Ok(Self::Refreshed { expires_in: Field::take(object, "expires_in")? });
        }
        if has("delivered_to") || has("stored") {
            return Receipt::read_fields(object).map(Self::Receipt);
        }
        if has("closed") {
            return Ok(Self::Closed { closed: Field::take(object, "closed")? });
        }
        if has("server") {
            return Ok(Self::Server(Box::new(Field::take(object, "server")?)));
        }
        if has("user") {
            return Ok(Self::User(Box::new(Field::take(object, "user")?)));
        }
        // A result of `null` is a result: what counts is that the field is there.
        object.get("result").map_or(Ok(Self::Done), |raw| raw.payload().map(Self::Result))
    }

    fn write_fields(&self, writer: &mut Writer) {
        match self {
            Self::Done => {}
            Self::Run { run_id } => run_id.put(writer, "run_id"),
            Self::Cancel { run_id, state } => {
                run_id.put(writer, "run_id");
                state.put(writer, "state");
            }
            Self::Refreshed { expires_in } => expires_in.put(writer, "expires_in"),
            Self::Receipt(receipt) => receipt.write_fields(writer),
            Self::Stream(entry) => entry.write_fields(writer),
            Self::Result(result) => result.put(writer, "result"),
            Self::RunStarted { run_id, last_n } => {
                run_id.put(writer, "run_id");
                last_n.put(writer, "last_n");
            }
            Self::Closed { closed } => closed.put(writer, "closed"),
            Self::Server(report) => report.put(writer, "server"),
            Self::User(report) => report.put(writer, "user"),
        }
    }
}

impl ReplyOk {
    fn read_run(object: &Object<'_>) -> Result<Self, Fault> {
        let run_id = Field::take(object, "run_id")?;
        if object.has("last_n") {
            return Ok(Self::RunStarted { run_id, last_n: Field::take(object, "last_n")? });
        }
        if object.has("state") {
            return Ok(Self::Cancel { run_id, state: Field::take(object, "state")? });
        }
        Ok(Self::Run { run_id })
    }
}

texts! {
    /// What has become of a run that was to be cancelled.
    pub enum CancelState {
        /// The application has been told; the run's last event follows.
        Requested = "requested",
        /// The run has ended as cancelled.
        Cancelled = "cancelled",
        /// The run had ended before.
        Ended = "ended",
    } else None
}

/// What happened to an event: the truth about delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Appended, with this many live connections to read it.
    DeliveredTo(u32),
    /// Nobody is connected; the log in memory holds it.
    Stored,
}

impl Record for Receipt {
    fn read_fields(object: &Object<'_>) -> Result<Self, Fault> {
        let delivered: Option<u32> = Field::take(object, "delivered_to")?;
        let stored: Option<bool> = Field::take(object, "stored")?;
        match (delivered, stored) {
            (Some(connections), _) => Ok(Self::DeliveredTo(connections)),
            (None, Some(true)) => Ok(Self::Stored),
            (None, Some(false) | None) => Err(Fault::invalid("stored", "must be true, or `delivered_to` a number")),
        }
    }
    fn write_fields(&self, writer: &mut Writer) {
        match self {
            Self::DeliveredTo(connections) => connections.put(writer, "delivered_to"),
            Self::Stored => true.put(writer, "stored"),
        }
    }
}

/// A code on the wire: the protocol's own, or one that this build does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireCode {
    /// One of the table.
    Known(ErrorCode),
    /// A newer one, or an application's.
    Other(Box<str>),
}

impl WireCode {
    /// As it stands in frames.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(code) => code.as_str(),
            Self::Other(text) => text,
        }
    }
}

impl From<ErrorCode> for WireCode {
    fn from(code: ErrorCode) -> Self {
        Self::Known(code)
    }
}

impl Field for WireCode {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        let text = String::read(raw)?;
        Ok(ErrorCode::from_text(&text).map_or_else(|| Self::Other(text.into_boxed_str()), Self::Known))
    }
    fn write(&self, out: &mut String) {
        push_text(out, self.as_str());
    }
}

record! {
    /// A refusal. `Debug` shows no message: an application may say in it what was asked.
    #[derive(Clone, PartialEq)]
    pub struct ReplyError {
        /// What kind.
        code: WireCode,
        /// For people.
        message: String,
        /// Whether the same request may succeed later.
        temporary: bool,
        /// When to try again, in seconds.
        retry_after: Option<f64>,
    }
}

impl fmt::Debug for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyError")
            .field("code", &self.code)
            .field("temporary", &self.temporary)
            .finish_non_exhaustive()
    }
}

impl ReplyError {
    /// One of the protocol's own codes, whose table says whether it is temporary.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), temporary: code.is_temporary(), retry_after: None }
    }
}
