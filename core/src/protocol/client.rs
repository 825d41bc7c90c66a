//! Frames from a client or a producer to the server.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

use super::macros::{frames, record, texts};
use super::position::{Position, StreamName};
use super::produced::{RunEvent, numbered};
use super::reply::Reply;
use super::target::{PublishTarget, RevokeTarget, RunRef};
use super::wire::{Fault, Field, Object, Raw, Record, Writer};
use super::writer::push_text;
use super::{FrameError, frame_id};
use crate::id::{
    ApprovalId, ConnectionId, FrameId, IdempotencyKey, MAX_ID_BYTES, RunId, SessionId, ThreadId, TopicName,
};
use crate::time::UnixTime;

/// How many threads, and how many topics, one `hello` may name. 100, the bound of subscriptions.
pub const MAX_HELLO_TOPICS: usize = 100;

frames! {
    /// What a client or a producer sends. `Debug` shows the type alone: frames carry tokens and payloads.
    pub enum ClientFrame {
        boxed {
            /// The first frame of every connection.
            Hello(Hello) = "hello",
            /// A producer starts a run.
            RunStart(RunStart) = "run_start",
            /// A producer answers a `request`.
            Reply(Reply) = "reply",
        }
        inline {
            /// A new token for the same user.
            Refresh = "refresh" {
                /// Names the answer.
                id: FrameId,
                /// The new token.
                token: Token,
            }
            /// What the client has taken in, cumulative and advisory.
            Ack = "ack" {
                /// Which stream; the user's own where the frame names none.
                stream: StreamName,
                /// The position reached.
                event_id: Position,
            }
            /// Follows a topic.
            Subscribe = "subscribe" {
                /// Names the answer.
                id: FrameId,
                /// Which topic.
                topic: TopicName,
                /// Where to continue from.
                resume: Option<Position>,
            }
            /// Leaves a topic.
            Unsubscribe = "unsubscribe" {
                /// Names the answer.
                id: FrameId,
                /// Which topic.
                topic: TopicName,
            }
            /// A message to the agent.
            UserMessage = "user_message" {
                /// Names the answer.
                id: FrameId,
                /// Makes a repeat harmless.
                key: Option<IdempotencyKey>,
                /// Which conversation.
                thread_id: ThreadId,
                /// The text.
                content: String,
                /// For the application.
                metadata: Option<Box<RawValue>>,
            }
            /// Asks for a run to stop.
            CancelRun = "cancel_run" {
                /// Names the answer.
                id: FrameId,
                /// Which run.
                target: RunRef,
            }
            /// Decides what a run waits for.
            Approve = "approve" {
                /// Names the answer.
                id: FrameId,
                /// What is decided.
                approval_id: ApprovalId,
                /// The application's word for the decision.
                decision: String,
                /// For the application.
                data: Option<Box<RawValue>>,
            }
            /// A request of the application's own.
            Command = "command" {
                /// Names the answer.
                id: FrameId,
                /// Which command.
                name: String,
                /// For the application.
                args: Option<Box<RawValue>>,
                /// Makes a repeat harmless.
                key: Option<IdempotencyKey>,
            }
            /// Asks for a `pong`.
            Ping = "ping" {
                /// Comes back in the `pong`.
                id: Option<FrameId>,
            }
            /// An event of a producer's run.
            RunEvent = "run_event" {
                /// Asks for a receipt.
                id: Option<FrameId>,
                /// Which run.
                run_id: RunId,
                /// Rises by one per run; one already seen is ignored.
                n: u64,
                /// The event.
                event: RunEvent,
            }
            /// A custom event to a user or a topic.
            Publish = "publish" {
                /// Asks for a receipt.
                id: Option<FrameId>,
                /// To whom.
                target: PublishTarget,
                /// The conversation, where it goes to a user.
                thread_id: Option<ThreadId>,
                /// The application's name for it.
                name: String,
                /// The payload.
                data: Box<RawValue>,
                /// Makes a repeat harmless.
                key: Option<IdempotencyKey>,
                /// Whether it is for now only: no position, no log, the first to be shed.
                ephemeral: Option<bool>,
            }
            /// Asks for the server as it stands, or for one user (scope `admin`).
            Inspect = "inspect" {
                /// Names the answer.
                id: FrameId,
                /// Who; the server as a whole where nobody is named.
                user_id: Option<String>,
            }
            /// Ends connections, which may come back (scope `admin`).
            Disconnect = "disconnect" {
                /// Names the answer.
                id: FrameId,
                /// Whose.
                user_id: String,
                /// Which; all of the user's where none is named.
                connection_id: Option<ConnectionId>,
            }
            /// Begins the shutdown (scope `admin`).
            Drain = "drain" {
                /// Names the answer.
                id: FrameId,
            }
            /// Ends a session, a token, or all that a user has (scope `admin`).
            Revoke = "revoke" {
                /// Names the answer.
                id: FrameId,
                /// Whose.
                user_id: String,
                /// What.
                target: RevokeTarget,
                /// When all of it has expired, where that is known.
                expires: Option<UnixTime>,
            }
        }
    }
}

/// A frame, and who it claims to be from.
#[derive(Debug)]
pub struct Parsed {
    /// The frame.
    pub frame: ClientFrame,
    /// A `user_id` where it is no field of the frame: the server refuses one that is not the verified user's.
    pub user_id: Option<String>,
}

impl ClientFrame {
    /// Reads one text frame.
    ///
    /// # Errors
    /// `malformed` for what is no object with a `type`, `unknown_type`, or `invalid` with the field's name.
    pub fn parse(text: &str) -> Result<Parsed, FrameError> {
        let object = Object::read_frame(text).map_err(|fault| FrameError::of(&fault, None))?;
        let kind = object.kind().map_err(|fault| FrameError::of(&fault, frame_id(&object)))?;
        let (id, event) = (|| frame_id(&object), || numbered(&kind, &object));
        let fail = |fault: Fault| FrameError { event: event(), ..FrameError::of(&fault, id()) };
        let frame = Self::read_kind(&kind, &object).map_err(fail)?.ok_or_else(|| FrameError::unknown_type(id()))?;
        let user_id = if frame.owns_user_id() { None } else { Field::take(&object, "user_id").map_err(fail)? };
        Ok(Parsed { frame, user_id })
    }

    /// The frame as it goes on the wire.
    pub fn encode(&self) -> String {
        let mut writer = Writer::frame(self.type_name(), 256);
        self.write_body(&mut writer);
        writer.finish()
    }

    /// The frame's `id`, which its answer carries.
    pub fn id(&self) -> Option<&FrameId> {
        match self {
            Self::Hello(_) | Self::Ack { .. } | Self::Reply(_) => None,
            Self::RunStart(start) => Some(&start.id),
            Self::Refresh { id, .. }
            | Self::Subscribe { id, .. }
            | Self::Unsubscribe { id, .. }
            | Self::UserMessage { id, .. }
            | Self::CancelRun { id, .. }
            | Self::Approve { id, .. }
            | Self::Command { id, .. }
            | Self::Inspect { id, .. }
            | Self::Disconnect { id, .. }
            | Self::Drain { id }
            | Self::Revoke { id, .. } => Some(id),
            Self::Ping { id } | Self::RunEvent { id, .. } | Self::Publish { id, .. } => id.as_ref(),
        }
    }

    /// Whether `user_id` names somebody else by right.
    fn owns_user_id(&self) -> bool {
        match self {
            Self::RunStart(_)
            | Self::Publish { .. }
            | Self::Revoke { .. }
            | Self::Inspect { .. }
            | Self::Disconnect { .. } => true,
            Self::Hello(_)
            | Self::Reply(_)
            | Self::Refresh { .. }
            | Self::Ack { .. }
            | Self::Subscribe { .. }
            | Self::Unsubscribe { .. }
            | Self::UserMessage { .. }
            | Self::CancelRun { .. }
            | Self::Approve { .. }
            | Self::Command { .. }
            | Self::Drain { .. }
            | Self::Ping { .. }
            | Self::RunEvent { .. } => false,
        }
    }
}

/// A token as it came: a secret that no output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// Any text; only verification says whether it is worth something.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The secret, for the verifier and the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Field for Token {
    fn read(raw: Raw<'_>) -> Result<Self, Fault> {
        String::read(raw).map(|text| Self(text.into_boxed_str()))
    }
    fn write(&self, out: &mut String) {
        push_text(out, &self.0);
    }
}

/// The fields of `hello`.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// Credentials, where the upgrade carried none.
    pub token: Option<Token>,
    /// The session to continue. One that is no id of this server is treated as absent.
    pub session_id: Option<SessionId>,
    /// Where to continue each stream; at most [`MAX_HELLO_TOPICS`] and the user's own.
    pub resume: BTreeMap<StreamName, Position>,
    /// What the client is.
    pub client: Option<ClientInfo>,
    /// Threads to watch; none is all. At most [`MAX_HELLO_TOPICS`].
    pub threads: Vec<ThreadId>,
    /// Topics to follow from the start. At most [`MAX_HELLO_TOPICS`].
    pub topics: Vec<TopicName>,
    /// Makes this a producer's connection.
    pub producer: Option<ProducerHello>,
}

impl Record for Hello {
    fn read_fields(object: &Object<'_>) -> Result<Self, Fault> {
        Ok(Self {
            token: Field::take(object, "token")?,
            session_id: object.get("session_id").and_then(|raw| SessionId::read(raw).ok()),
            resume: read_resume(object).map_err(|fault| fault.within("resume"))?,
            client: Field::take(object, "client")?,
            threads: read_list(object, "threads")?,
            topics: read_list(object, "topics")?,
            producer: Field::take(object, "producer")?,
        })
    }

    fn write_fields(&self, writer: &mut Writer) {
        self.token.put(writer, "token");
        self.session_id.put(writer, "session_id");
        if !self.resume.is_empty() {
            write_resume(&self.resume, writer.name("resume"));
        }
        self.client.put(writer, "client");
        write_list(&self.threads, writer, "threads");
        write_list(&self.topics, writer, "topics");
        self.producer.put(writer, "producer");
    }
}

fn read_resume(object: &Object<'_>) -> Result<BTreeMap<StreamName, Position>, Fault> {
    let Some(raw) = object.get("resume").filter(|_| object.has("resume")) else { return Ok(BTreeMap::new()) };
    let entries = Object::read(raw.get())?;
    if entries.len() > MAX_HELLO_TOPICS + 1 {
        return Err(Fault::invalid("", "must name at most 101 streams"));
    }
    entries.iter().map(read_resume_entry).collect()
}

/// The key is the peer's own text: the fault names the field, not the key.
fn read_resume_entry((name, raw): (&str, Raw<'_>)) -> Result<(StreamName, Position), Fault> {
    let stream = name.parse().map_err(|_| Fault::invalid("", "must have `user` or `topic:<name>` as keys"))?;
    Ok((stream, Position::read(raw)?))
}

fn write_resume(resume: &BTreeMap<StreamName, Position>, out: &mut String) {
    let mut before = '{';
    for (stream, position) in resume {
        out.push(before);
        stream.write(out);
        out.push(':');
        position.write(out);
        before = ',';
    }
    out.push('}');
}

fn optional<T: Field>(object: &Object<'_>, name: &'static str) -> Result<Option<T>, Fault> {
    Field::take(object, name)
}

fn read_list<T: Field>(object: &Object<'_>, name: &'static str) -> Result<Vec<T>, Fault> {
    let list: Vec<T> = optional(object, name)?.unwrap_or_default();
    if list.len() > MAX_HELLO_TOPICS {
        return Err(Fault::invalid(name, "must have at most 100 items"));
    }
    Ok(list)
}

fn write_list<T: Field>(list: &Vec<T>, writer: &mut Writer, name: &'static str) {
    if !list.is_empty() {
        list.put(writer, name);
    }
}

/// A short text that a peer chooses freely: at most [`MAX_ID_BYTES`].
fn read_short(object: &Object<'_>, name: &'static str) -> Result<Option<String>, Fault> {
    let text: Option<String> = Field::take(object, name)?;
    if text.as_ref().is_some_and(|text| text.len() > MAX_ID_BYTES) {
        return Err(Fault::invalid(name, "must be at most 128 bytes"));
    }
    Ok(text)
}

/// What the client is, for people who read logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// The program. At most [`MAX_ID_BYTES`].
    pub name: Option<String>,
    /// Its version. At most [`MAX_ID_BYTES`].
    pub version: Option<String>,
}

impl Record for ClientInfo {
    fn read_fields(object: &Object<'_>) -> Result<Self, Fault> {
        Ok(Self { name: read_short(object, "name")?, version: read_short(object, "version")? })
    }
    fn write_fields(&self, writer: &mut Writer) {
        self.name.put(writer, "name");
        self.version.put(writer, "version");
    }
}

record! {
    /// Which requests a producer wants.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ProducerHello {
        /// The producer's own name, the same after a reconnect.
        id: FrameId,
        /// Whose requests; none is every user of its tenant.
        users: Option<Vec<String>>,
    }
}

record! {
    /// The fields of `run_start`.
    #[derive(Clone)]
    pub struct RunStart {
        /// Names the answer.
        id: FrameId,
        /// For whom.
        user_id: String,
        /// In which conversation.
        thread_id: ThreadId,
        /// One that a request reserved.
        run_id: Option<RunId>,
        /// The run that started this one, of the same user.
        parent_run_id: Option<RunId>,
        /// Who works.
        agent_name: String,
        /// What the agent was asked, where it answers no request.
        message: Option<String>,
        /// The same key returns the same run.
        key: Option<IdempotencyKey>,
        /// How long the run outlives its producer's connection or silence, in seconds.
        lease: Option<f64>,
        /// What becomes of events that break the run's order; they are refused where nothing is said.
        order: Option<OrderPolicy>,
        /// What it does when the user's last device leaves; it goes on where nothing is said.
        on_disconnect: Option<WhenLeft>,
        /// How long after that its end is asked for, in seconds.
        grace: Option<f64>,
    }
}

texts! {
    /// What becomes of an event that breaks the order of its run.
    pub enum OrderPolicy {
        /// It is refused.
        Reject = "reject",
        /// What is missing before it is made up for, where that puts no word into the agent's mouth; what is there already is
        /// taken and changes nothing. Everything else is refused.
        Repair = "repair",
        /// It enters as it is, marked by `flaw`, where every reader can make sense of it. Everything else is refused.
        Flag = "flag",
    } else None
}

texts! {
    /// What a run does when its user's last device leaves.
    pub enum WhenLeft {
        /// It goes on.
        Continue = "continue",
        /// Its end is asked for when nobody comes back within `grace`.
        Cancel = "cancel",
        /// It pauses.
        Pause = "pause",
    } else None
}

impl fmt::Debug for RunStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunStart").field("id", &self.id).finish_non_exhaustive()
    }
}
