//! Legacy text to native frames.

use std::fmt;

use serde_json::value::RawValue;

use super::super::FrameError;
use super::super::client::ClientFrame;
use super::super::object::{MAX_DEPTH, Object, depth_exceeds};
use super::super::wire::{Fault, Field, Raw};
use super::super::writer::push_text;
use super::Context;
use super::encode::{Acknowledged, acknowledge, heartbeat_ack, refusal, syntax_error, system_status};
use crate::error::ErrorCode;
use crate::id::{FrameId, IdempotencyKey, ThreadId};
use crate::time::UnixTime;

/// The conversation of a message that names none. It is nobody's user id.
pub const DEFAULT_THREAD: &str = "default";

/// What one legacy text comes to.
pub enum Decoded {
    /// A frame for the manager: what it says is the answer.
    Frame(Box<ClientFrame>),
    /// This is the whole answer.
    Answer(String),
    /// This is the answer, and the connection closes after it with 1000.
    Leave(String),
    /// A sign of life that needs no answer.
    Nothing,
}

/// Shows which it is: frames carry payloads.
impl fmt::Debug for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(frame) => frame.fmt(f),
            Self::Answer(_) => f.write_str("Answer(..)"),
            Self::Leave(_) => f.write_str("Leave(..)"),
            Self::Nothing => f.write_str("Nothing"),
        }
    }
}

/// Reads one text of a legacy client: `{type, payload, timestamp?, message_id?, user_id?, thread_id?}`, where an object
/// without `payload` is its own payload. A fault is an answer, `error_message`, and the connection goes on.
pub fn decode(text: &str, context: &mut Context, now: UnixTime) -> Decoded {
    read(text, context, now).unwrap_or_else(|error| Decoded::Answer(refusal(&error, now)))
}

fn read(text: &str, context: &mut Context, now: UnixTime) -> Result<Decoded, FrameError> {
    let outer = match Object::read_frame(text) {
        Ok(outer) => outer,
        Err(_) if serde_json::from_str::<&RawValue>(text).is_err() => return Ok(Decoded::Answer(syntax_error(now))),
        Err(fault) => return Err(FrameError::of(&fault, None)),
    };
    let message_id = message_id(&outer).map_err(|fault| FrameError::of(&fault, None))?;
    let outcome = Message::read(&outer, context).and_then(|message| message.decode(message_id.clone(), context, now));
    outcome.map_err(|fault| FrameError::of(&fault, message_id))
}

/// What a type stands for.
#[derive(Clone, Copy)]
enum Kind {
    Ping,
    /// The answer to a ping or a heartbeat of ours.
    Alive,
    Heartbeat,
    Connect,
    Disconnect,
    /// A message to the agent.
    Chat,
    /// One that names the agent's work, with a payload of any shape.
    Work(&'static str),
    /// A native frame in the legacy envelope.
    Native,
    /// A legacy operation that the server does not do: saying otherwise would lose it silently.
    Dropped,
    Unknown,
}

impl Kind {
    fn of(text: &str) -> Self {
        match text {
            "ping" => Self::Ping,
            "pong" | "heartbeat_ack" => Self::Alive,
            "heartbeat" => Self::Heartbeat,
            "connect" => Self::Connect,
            "disconnect" => Self::Disconnect,
            "chat" | "user_message" | "user" | "user_input" | "chat_message" | "message" => Self::Chat,
            "start_agent" | "execute_agent" | "EXECUTE_AGENT" => Self::Work("start_agent"),
            "agent_request" | "agent" => Self::Work("agent_request"),
            "ack" | "approve" | "cancel_run" | "command" | "refresh" | "subscribe" | "unsubscribe" => Self::Native,
            "broadcast"
            | "direct_message"
            | "room_message"
            | "thread_message"
            | "agent_task"
            | "agent_status_request" => Self::Dropped,
            _ => Self::Unknown,
        }
    }
}

/// An object with its payload found.
struct Message<'a> {
    kind: String,
    outer: &'a Object<'a>,
    payload: Object<'a>,
}

impl<'a> Message<'a> {
    fn read(outer: &'a Object<'a>, context: &Context) -> Result<Self, Fault> {
        let kind = outer.kind()?;
        let payload = match outer.get("payload").filter(|_| outer.has("payload")) {
            Some(raw) => Object::read(raw.get()).map_err(|fault| fault.within("payload"))?,
            None => outer.clone(),
        };
        for object in [outer, &payload] {
            let claimed: Option<String> = Field::take(object, "user_id")?;
            if claimed.is_some_and(|claimed| *claimed != *context.user_id) {
                return Err(Fault::refused(
                    ErrorCode::IdentityMismatch,
                    "user_id",
                    "is not the verified user's: leave it out",
                ));
            }
        }
        Ok(Self { kind: kind.into_owned(), outer, payload })
    }

    fn decode(&self, id: Option<FrameId>, context: &mut Context, now: UnixTime) -> Result<Decoded, Fault> {
        Ok(match Kind::of(&self.kind) {
            Kind::Ping => frame(ClientFrame::Ping { id }),
            Kind::Alive => Decoded::Nothing,
            Kind::Heartbeat => Decoded::Answer(heartbeat_ack(now)),
            Kind::Connect => Decoded::Answer(system_status("connected", context, now)),
            Kind::Disconnect => Decoded::Leave(system_status("disconnect_acknowledged", context, now)),
            Kind::Chat => {
                let content = self.chat_content()?;
                frame(self.message(id, content, self.metadata(None)?, context)?)
            }
            Kind::Work(kind) => {
                if self.rest().next().is_none() {
                    return Err(Fault::invalid("payload", "must not be empty"));
                }
                let content = self.work_content()?;
                frame(self.message(id, content, self.metadata(Some(kind))?, context)?)
            }
            Kind::Native => frame(self.native(id.unwrap_or_else(|| context.name()))?),
            Kind::Dropped => {
                return Err(Fault::refused(ErrorCode::Unsupported, "type", "names what this server does not do"));
            }
            Kind::Unknown => {
                let about = Acknowledged { received_type: &self.kind, message_id: id.as_ref(), run_id: None };
                Decoded::Answer(acknowledge(&about, context, now, |_| {}))
            }
        })
    }

    fn message(
        &self,
        id: Option<FrameId>,
        content: String,
        metadata: Option<Box<RawValue>>,
        context: &mut Context,
    ) -> Result<ClientFrame, Fault> {
        // The bounds of both are the same.
        let key = id.as_ref().and_then(|id| IdempotencyKey::new(id.as_str()).ok());
        let id = id.unwrap_or_else(|| context.name());
        Ok(ClientFrame::UserMessage { id, key, thread_id: self.thread()?, content, metadata })
    }

    fn thread(&self) -> Result<ThreadId, Fault> {
        let outer: Option<ThreadId> = Field::take(self.outer, "thread_id")?;
        let thread = match outer {
            Some(thread) => Some(thread),
            None => Field::take(&self.payload, "thread_id")?,
        };
        thread.or_else(|| ThreadId::new(DEFAULT_THREAD).ok()).ok_or_else(|| Fault::invalid("thread_id", "is missing"))
    }

    fn chat_content(&self) -> Result<String, Fault> {
        let name = TEXTS.into_iter().find(|name| self.payload.has(name));
        Field::take(&self.payload, name.unwrap_or("content")).map_err(|fault| fault.within("payload"))
    }

    /// What the agent is asked, where it is a text: a `request` that is an object says it within, and may say it in other words.
    fn work_content(&self) -> Result<String, Fault> {
        let inner = self.payload.get("request").and_then(|raw| Object::read(raw.get()).ok());
        for object in [Some(&self.payload), inner.as_ref()].into_iter().flatten() {
            let texts = WORK_TEXTS.into_iter().filter_map(|name| object.get(name));
            if let Some(text) = texts.filter_map(|raw| String::read(raw).ok()).next() {
                return Ok(text);
            }
        }
        Ok(String::new())
    }

    /// What the payload says beside the text and the envelope.
    fn rest(&self) -> impl Iterator<Item = (&str, Raw<'a>)> {
        let known = if self.outer.has("payload") { &ADDRESS[..] } else { &ENVELOPE[..] };
        self.payload.iter().filter(|(name, raw)| !known.contains(name) && raw.get() != "null")
    }

    /// What the application gets beside the text: the payload's `metadata` where nothing else is left, otherwise all that is.
    fn metadata(&self, kind: Option<&'static str>) -> Result<Option<Box<RawValue>>, Fault> {
        let text = match kind {
            None => TEXTS.into_iter().find(|name| self.payload.has(name)),
            // The first that is a text is the content; the rest stays what it is.
            Some(_) => {
                WORK_TEXTS.into_iter().find(|name| self.payload.get(name).is_some_and(|raw| String::read(raw).is_ok()))
            }
        };
        let left: Vec<_> = self.rest().filter(|(name, _)| Some(*name) != text).collect();
        let metadata = match (&left[..], kind) {
            ([], None) => return Ok(None),
            ([("metadata", raw)], None) => raw.payload()?,
            (fields, kind) => object_of(fields, kind)?,
        };
        // It stands one level down in the event, and so may each field in it.
        if depth_exceeds(metadata.get(), MAX_DEPTH - 1) {
            return Err(Fault::invalid("payload", "must not nest so deep"));
        }
        Ok(Some(metadata))
    }

    /// The payload holds the fields of a native frame, and `message_id` is its `id`.
    fn native(&self, id: FrameId) -> Result<ClientFrame, Fault> {
        let mut text = String::new();
        id.write(&mut text);
        // What was just written is JSON.
        let id = RawValue::from_string(text).map_err(|_| Fault::invalid("message_id", "must be a string"))?;
        let mut fields: Object<'_> = self.payload.clone();
        fields.set("id", (&*id).into());
        let frame = ClientFrame::read_kind(&self.kind, &fields)?;
        frame.ok_or_else(|| Fault::invalid("type", "must be one of the specification's"))
    }
}

/// Under which name a text may stand, the first that is there counts.
const TEXTS: [&str; 3] = ["content", "text", "message"];
const WORK_TEXTS: [&str; 6] = ["user_request", "request", "message", "content", "text", "query"];
/// What is read of a payload beside its text.
const ADDRESS: [&str; 2] = ["user_id", "thread_id"];
/// What an object that is its own payload has beside it.
const ENVELOPE: [&str; 6] = ["type", "payload", "timestamp", "message_id", "user_id", "thread_id"];

fn frame(frame: ClientFrame) -> Decoded {
    Decoded::Frame(Box::new(frame))
}

/// Names the request, and makes a repeat of it harmless.
fn message_id(outer: &Object<'_>) -> Result<Option<FrameId>, Fault> {
    Field::take(outer, "message_id")
}

fn object_of(fields: &[(&str, Raw<'_>)], kind: Option<&'static str>) -> Result<Box<RawValue>, Fault> {
    let mut out = String::from("{");
    let mut push = |name: &str, value: &str| {
        if out.len() > 1 {
            out.push(',');
        }
        push_text(&mut out, name);
        out.push(':');
        out.push_str(value);
    };
    if let Some(kind) = kind {
        push("request_type", &format!("\"{kind}\""));
    }
    // A client's own word for it is not the server's.
    fields
        .iter()
        .filter(|(name, _)| kind.is_none() || *name != "request_type")
        .for_each(|(name, raw)| push(name, raw.get()));
    out.push('}');
    RawValue::from_string(out).map_err(|_| Fault::invalid("payload", "must be an object"))
}
