//! Frames from the server to a client or a producer.

use serde_json::value::RawValue;

use super::event::{AgentDeltas, Event, EventBody, EventKind};
use super::macros::{frames, record, texts};
use super::position::{Position, StreamName};
use super::reply::{Reply, WireCode};
use super::snapshot::Snapshot;
use super::wire::{Fault, Field, Object, Record, Writer};
use super::{FrameError, frame_id};
use crate::id::{ApprovalId, ConnectionId, FrameId, RunId, SessionId, ThreadId};
use crate::time::UnixTime;

frames! {
    /// What the server sends. `Debug` shows the type alone: frames carry payloads.
    pub enum ServerFrame {
        boxed {
            /// The first frame of every connection.
            Welcome(Welcome) = "welcome",
            /// A part of a stream's state at a position.
            Snapshot(Snapshot) = "snapshot",
            /// One event of a log; its `type` is the event's.
            Event(Event) = "event",
            /// An event outside every log: no `event_id`, no `seq`; its `type` is the event's.
            Ephemeral(Ephemeral) = "ephemeral",
            /// Merged text for a reader that lags.
            Deltas(AgentDeltas) = "agent_deltas",
            /// The answer to a request.
            Reply(Reply) = "reply",
            /// A user's request, for a producer to answer.
            Request(Request) = "request",
        }
        inline {
            /// Merging for this connection starts or ends.
            Lag = "lag" {
                /// Which stream.
                stream: StreamName,
                /// How many events behind.
                behind: u64,
                /// Whether text is being merged.
                merging: bool,
            }
            /// The token expires soon.
            AuthExpiring = "auth_expiring" {
                /// In seconds.
                expires_in: f64,
            }
            /// The level changed.
            ServiceLevel = "service_level" {
                /// The new one.
                level: ServiceLevel,
                /// Why, for people.
                reason: String,
                /// What still works.
                capabilities: Vec<String>,
            }
            /// The server shuts down.
            GoingAway = "going_away" {
                /// When this connection closes at the latest, in seconds from now.
                deadline: f64,
                /// How long to wait before connecting again, in seconds; another one per connection.
                reconnect_after: f64,
            }
            /// A fault in a frame that carried no `id`.
            Error = "error" {
                /// What kind.
                code: WireCode,
                /// For people.
                message: String,
                /// The run of a refused `run_event`.
                run_id: Option<RunId>,
                /// The `n` of a refused `run_event`.
                n: Option<u64>,
            }
            /// The answer to `ping`.
            Pong = "pong" {
                /// The ping's.
                id: Option<FrameId>,
            }
            /// Moves the client on where a filter hides the tail of a stream.
            Position = "position" {
                /// Which stream.
                stream: StreamName,
                /// The seq it follows.
                prev: u64,
                /// The new position.
                event_id: Position,
            }
        }
    }
}

impl ServerFrame {
    /// Reads one text frame. A type that this build does not know but that has an `event_id` reads as
    /// [`ServerFrame::Position`]: a newer server's event still moves the client on.
    ///
    /// # Errors
    /// `malformed` for what is no object with a `type`, `unknown_type`, or `invalid` with the field's name.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        let object = Object::read_frame(text).map_err(|fault| FrameError::of(&fault, None))?;
        let fail = |fault: Fault| FrameError::of(&fault, frame_id(&object));
        let kind = object.kind().map_err(fail)?;
        let frame = Self::read_any(&kind, &object).map_err(fail)?;
        frame.ok_or_else(|| FrameError::unknown_type(frame_id(&object)))
    }

    /// The frame as it goes on the wire.
    pub fn encode(&self) -> String {
        let mut writer = Writer::frame(self.type_name(), 256);
        self.write_body(&mut writer);
        writer.finish()
    }

    fn read_any(kind: &str, object: &Object<'_>) -> Result<Option<Self>, Fault> {
        let in_log = object.has("event_id");
        if EventKind::from_text(kind).is_some() {
            return Self::read_kind(if in_log { "event" } else { "ephemeral" }, object);
        }
        let own = kind != "event" && kind != "ephemeral";
        let frame = if own { Self::read_kind(kind, object)? } else { None };
        match frame {
            None if in_log => read_move(object).map(Some),
            frame => Ok(frame),
        }
    }
}

/// What any frame of a log says about positions.
fn read_move(object: &Object<'_>) -> Result<ServerFrame, Fault> {
    let event_id: Position = Field::take(object, "event_id")?;
    let prev: Option<u64> = Field::take(object, "prev")?;
    let prev = prev.unwrap_or(event_id.seq.saturating_sub(1));
    Ok(ServerFrame::Position { stream: Field::take(object, "stream")?, prev, event_id })
}

texts! {
    /// How well the service works.
    pub enum ServiceLevel {
        /// All of it.
        Normal = "normal",
        /// Something is missing.
        Degraded = "degraded",
        /// Only the least.
        Emergency = "emergency",
    } else None
}

texts! {
    /// What the level of the service goes by.
    pub enum LevelOrder {
        /// Memory and dependencies.
        Automatic = "automatic",
        /// This order.
        Normal = "normal",
        /// This order.
        Degraded = "degraded",
        /// This order.
        Emergency = "emergency",
    } else None
}

texts! {
    /// How a stream goes on for a client.
    pub enum Mode {
        /// At the end.
        Live = "live",
        /// What was missed follows.
        Replay = "replay",
        /// Snapshot frames follow, then the tail.
        Snapshot = "snapshot",
        /// From the start of what is kept.
        Reset = "reset",
    } else None
}

record! {
    /// The fields of `welcome`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Welcome {
        /// This socket.
        connection_id: ConnectionId,
        /// This device, for the next `hello`.
        session_id: SessionId,
        /// The subject of the verified token.
        user_id: String,
        /// The server's clock, in seconds since 1970.
        server_time: f64,
        /// Until the token's expiry, in seconds.
        expires_in: f64,
        /// When silence means loss.
        heartbeat: Heartbeat,
        /// What the server takes.
        limits: WelcomeLimits,
        /// How well the service works.
        service_level: ServiceLevel,
        /// Every stream of this connection, the user's own first.
        streams: Vec<StreamEntry>,
    }
}

record! {
    /// The WebSocket pings of the server.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Heartbeat {
        /// A ping goes out after this much silence, in seconds.
        interval: f64,
        /// The connection is lost after this much more, in seconds.
        timeout: f64,
    }
}

record! {
    /// What the server takes from this connection.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct WelcomeLimits {
        /// One message, in bytes.
        message_bytes: u64,
        /// Messages per second, sustained.
        messages_per_second: u32,
        /// Messages that may come at once on top.
        message_burst: u32,
        /// One event, in bytes.
        event_bytes: u64,
    }
}

record! {
    /// Where a stream stands for this connection.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct StreamEntry {
        /// Which stream.
        stream: StreamName,
        /// Where the next frame continues from.
        event_id: Position,
        /// The stream's end at this moment.
        head: Position,
        /// How it goes on.
        mode: Mode,
        /// What is gone.
        lost: Option<Lost>,
    }
}

record! {
    /// Events that are gone: after `from`, up to and including `to`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Lost {
        /// Where the client stood.
        from: Position,
        /// Where the stream continues: the entry's `event_id`.
        to: Position,
    }
}

/// An event that is for now only.
#[derive(Clone, Debug, PartialEq)]
pub struct Ephemeral {
    /// The topic, or the user's own stream.
    pub stream: StreamName,
    /// When it was published.
    pub timestamp: Option<UnixTime>,
    /// The conversation.
    pub thread_id: Option<ThreadId>,
    /// What happened.
    pub body: EventBody,
}

impl Record for Ephemeral {
    fn kind_or(&self, _: &'static str) -> &'static str {
        self.body.type_name()
    }
    fn read_fields(object: &Object<'_>) -> Result<Self, Fault> {
        Ok(Self {
            stream: Field::take(object, "stream")?,
            timestamp: Field::take(object, "timestamp")?,
            thread_id: Field::take(object, "thread_id")?,
            body: EventBody::read_as(Field::take(object, "type")?, object)?,
        })
    }
    fn write_fields(&self, writer: &mut Writer) {
        if self.stream != StreamName::User {
            self.stream.put(writer, "stream");
        }
        self.timestamp.put(writer, "timestamp");
        self.thread_id.put(writer, "thread_id");
        self.body.write_body(writer);
    }
}

/// The fields of `request`: what a user asks, for a producer to answer by `reply` with the same `id`.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The server's name for it.
    pub id: FrameId,
    /// Who asks: the subject, in the producer's tenant.
    pub user_id: String,
    /// What is asked.
    pub body: RequestBody,
}

frames! {
    /// What is asked; `request` names which. `Debug` shows that name alone.
    pub enum RequestBody {
        boxed {}
        inline {
            /// A message to the agent, already bound to a run.
            UserMessage = "user_message" {
                /// Reserved: for `run_start`.
                run_id: RunId,
                /// The conversation.
                thread_id: ThreadId,
                /// The text.
                content: String,
                /// As the client sent it.
                metadata: Option<Box<RawValue>>,
            }
            /// Stop a run.
            CancelRun = "cancel_run" {
                /// Which.
                run_id: RunId,
                /// Who asks: the user's subject, or `disconnect` where its last device has left.
                by: String,
            }
            /// No device is there to work for.
            Pause = "pause" {
                /// Which.
                run_id: RunId,
            }
            /// A device is there again.
            Resume = "resume" {
                /// Which.
                run_id: RunId,
            }
            /// A person has decided.
            Approve = "approve" {
                /// Whose run.
                run_id: RunId,
                /// What.
                approval_id: ApprovalId,
                /// The application's word for the decision.
                decision: String,
                /// As the client sent it.
                data: Option<Box<RawValue>>,
            }
            /// A request of the application's own.
            Command = "command" {
                /// Which.
                name: String,
                /// As the client sent them.
                args: Option<Box<RawValue>>,
            }
        }
    }
}

impl RequestBody {
    /// Bytes of the payload within.
    pub(crate) fn payload_bytes(&self) -> usize {
        let raw = |value: &Option<Box<RawValue>>| value.as_ref().map_or(0, |raw| raw.get().len());
        match self {
            Self::UserMessage { content, metadata, .. } => content.len() + raw(metadata),
            Self::Approve { decision, data, .. } => decision.len() + raw(data),
            Self::Command { name, args, .. } => name.len() + raw(args),
            Self::CancelRun { by, .. } => by.len(),
            Self::Pause { .. } | Self::Resume { .. } => 0,
        }
    }
}

impl Record for Request {
    fn read_fields(object: &Object<'_>) -> Result<Self, Fault> {
        let kind: String = Field::take(object, "request")?;
        let body = RequestBody::read_kind(&kind, object)?;
        Ok(Self {
            id: Field::take(object, "id")?,
            user_id: Field::take(object, "user_id")?,
            body: body.ok_or_else(|| Fault::invalid("request", "must be the type of a request"))?,
        })
    }
    fn write_fields(&self, writer: &mut Writer) {
        self.id.put(writer, "id");
        self.user_id.put(writer, "user_id");
        writer.text("request", self.body.type_name());
        self.body.write_body(writer);
    }
}
