//! Native frames to legacy text.

use super::super::encode::{EventHead, write_head};
use super::super::event::{AgentDeltas, DeltaPart, Event, EventBody};
use super::super::position::StreamName;
use super::super::reply::{Reply, ReplyError, ReplyOk, WireCode};
use super::super::server::{Ephemeral, ServerFrame, ServiceLevel, Welcome};
use super::super::wire::{Field, Record, Writer};
use super::super::{CancelState, FrameError};
use super::Context;
use crate::error::ErrorCode;
use crate::id::{FrameId, RunId};
use crate::time::UnixTime;

/// The events that a whole run with a tool shows, in their order.
pub const GOLDEN_PATH_EVENTS: [&str; 5] =
    ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed"];

/// Writes one native frame as a legacy client reads it: one text for one frame, and nothing is left out.
///
/// ```
/// use trunkline_core::protocol::ServerFrame;
/// use trunkline_core::protocol::legacy::{Context, encode};
/// use trunkline_core::time::UnixTime;
/// let pong = encode(&ServerFrame::Pong { id: None }, &Context::new("ann"), UnixTime::from_secs(7));
/// assert_eq!(pong, r#"{"type":"pong","user_id":"ann","timestamp":7}"#);
/// ```
pub fn encode(frame: &ServerFrame, context: &Context, now: UnixTime) -> String {
    match frame {
        ServerFrame::Welcome(welcome) => connection_established(welcome, now),
        ServerFrame::Event(event) => flat_event(event),
        ServerFrame::Ephemeral(event) => ephemeral(event),
        ServerFrame::Deltas(deltas) => event_batch(deltas),
        ServerFrame::Reply(reply) => answer(reply, context, now),
        ServerFrame::ServiceLevel { level, reason, capabilities } => service_level(*level, reason, capabilities, now),
        ServerFrame::GoingAway { deadline, reconnect_after } => system_shutdown(*deadline, *reconnect_after, now),
        ServerFrame::Error { code, message, run_id, n } => {
            let details = Details { run_id: *run_id, n: *n, ..Details::default() };
            error_message(code_text(code).as_str(), message, &details, now)
        }
        ServerFrame::Pong { id } => pong(id.as_ref(), context, now),
        ServerFrame::Snapshot(_)
        | ServerFrame::Request(_)
        | ServerFrame::Lag { .. }
        | ServerFrame::AuthExpiring { .. }
        | ServerFrame::Position { .. } => system_message(frame.type_name(), now, |data| frame.write_body(data)),
    }
}

/// Says that a frame of a log could not be read here and is missing, in place of saying nothing.
pub fn untranslatable(now: UnixTime) -> String {
    let message = "an event cannot be shown in this profile: connect with trunkline.v1 to get it";
    error_message("INTERNAL_ERROR", message, &Details::default(), now)
}

fn connection_established(welcome: &Welcome, now: UnixTime) -> String {
    let Welcome {
        connection_id,
        session_id,
        user_id,
        server_time,
        expires_in,
        heartbeat,
        limits,
        service_level,
        streams,
    } = welcome;
    with_data("connection_established", now, |data| {
        connection_id.put(data, "connection_id");
        session_id.put(data, "session_id");
        user_id.put(data, "user_id");
        server_time.put(data, "server_time");
        true.put(data, "connection_ready");
        expires_in.put(data, "expires_in");
        service_level.put(data, "service_level");
        object(data, "config", |config| {
            heartbeat.interval.put(config, "heartbeat_interval");
            heartbeat.timeout.put(config, "heartbeat_timeout");
            limits.message_bytes.put(config, "max_message_size");
            limits.messages_per_second.put(config, "messages_per_second");
            limits.message_burst.put(config, "message_burst");
            limits.event_bytes.put(config, "max_event_size");
        });
        GOLDEN_PATH_EVENTS.map(str::to_owned).to_vec().put(data, "golden_path_events");
        streams.put(data, "streams");
    })
}

/// The native fields, flat, under the legacy type, and what legacy readers look for beside them.
fn flat_event(event: &Event) -> String {
    let mut writer = Writer::frame(event_type(&event.body), 512);
    event.prev.put(&mut writer, "prev");
    write_head(&mut writer, &event.head());
    write_body(&mut writer, &event.body);
    writer.finish()
}

fn ephemeral(event: &Ephemeral) -> String {
    let mut writer = Writer::frame(event_type(&event.body), 512);
    if event.stream != StreamName::User {
        event.stream.put(&mut writer, "stream");
    }
    event.timestamp.put(&mut writer, "timestamp");
    event.thread_id.put(&mut writer, "thread_id");
    write_body(&mut writer, &event.body);
    writer.finish()
}

fn event_type(body: &EventBody) -> &'static str {
    match body {
        EventBody::AgentFailed { .. } => "agent_error",
        EventBody::AgentDelta { .. } => CHUNK,
        EventBody::UserMessage { .. }
        | EventBody::AgentStarted { .. }
        | EventBody::AgentThinking { .. }
        | EventBody::ToolExecuting { .. }
        | EventBody::ToolCompleted { .. }
        | EventBody::AgentSuspended { .. }
        | EventBody::AgentResumed { .. }
        | EventBody::AgentCompleted { .. }
        | EventBody::AgentCancelled { .. }
        | EventBody::Custom { .. } => body.type_name(),
    }
}

const CHUNK: &str = "stream_chunk";

fn write_body(writer: &mut Writer, body: &EventBody) {
    if let EventBody::AgentDelta { part_id, offset, text } = body {
        part_id.put(writer, "part_id");
        offset.put(writer, "offset");
        return text.put(writer, "content");
    }
    body.write_body(writer);
    match body {
        EventBody::AgentStarted { .. } => writer.text("status", "starting"),
        EventBody::ToolExecuting { .. } => writer.text("status", "executing"),
        EventBody::ToolCompleted { .. } => writer.text("status", "completed"),
        EventBody::AgentCompleted { .. } => {
            writer.text("status", "completed");
            true.put(writer, "success");
        }
        EventBody::AgentFailed { .. } => writer.text("error_code", "AGENT_ERROR"),
        EventBody::UserMessage { .. }
        | EventBody::AgentThinking { .. }
        | EventBody::AgentDelta { .. }
        | EventBody::AgentSuspended { .. }
        | EventBody::AgentResumed { .. }
        | EventBody::AgentCancelled { .. }
        | EventBody::Custom { .. } => {}
    }
}

/// One frame for one window: a client that keeps its `event_id` has all of it.
fn event_batch(deltas: &AgentDeltas) -> String {
    let mut writer = Writer::frame("event_batch", 512);
    deltas.prev.put(&mut writer, "prev");
    let head = EventHead {
        position: deltas.position,
        stream: Some(&deltas.stream),
        timestamp: deltas.timestamp,
        user_id: deltas.user_id.as_deref(),
        thread_id: None,
        run_id: None,
        run_seq: None,
        agent_name: None,
        flaw: None,
    };
    write_head(&mut writer, &head);
    deltas.position.put(&mut writer, "batch_id");
    writer.number("batch_size", deltas.parts.len() as u64);
    object(&mut writer, "events", |events| {
        let out = events.name(CHUNK);
        out.push('[');
        for (index, part) in deltas.parts.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            write_chunk(out, part);
        }
        out.push(']');
    });
    writer.finish()
}

fn write_chunk(out: &mut String, part: &DeltaPart) {
    let mut writer = Writer::with_capacity(128 + part.text.len());
    part.run_id.put(&mut writer, "run_id");
    part.part_id.put(&mut writer, "part_id");
    part.offset.put(&mut writer, "offset");
    part.text.put(&mut writer, "content");
    part.run_seq.put(&mut writer, "run_seq");
    out.push_str(&writer.finish());
}

fn answer(reply: &Reply, context: &Context, now: UnixTime) -> String {
    let about = |received_type, run_id| Acknowledged { received_type, message_id: Some(&reply.id), run_id };
    match &reply.outcome {
        Err(error) => refused(&reply.id, error, now),
        Ok(ReplyOk::Run { run_id }) => acknowledge(&about("user_message", Some(*run_id)), context, now, |_| {}),
        Ok(ReplyOk::Cancel { run_id, state }) => {
            let state: CancelState = *state;
            acknowledge(&about("cancel_run", Some(*run_id)), context, now, |data| state.put(data, "state"))
        }
        Ok(ReplyOk::RunStarted { run_id, last_n }) => {
            acknowledge(&about("run_start", Some(*run_id)), context, now, |data| last_n.put(data, "last_n"))
        }
        Ok(ok) => acknowledge(&about(answered_type(ok), None), context, now, |data| ok.write_fields(data)),
    }
}

/// What was asked, as far as its result tells.
const fn answered_type(ok: &ReplyOk) -> &'static str {
    match ok {
        ReplyOk::Done => "request",
        ReplyOk::Run { .. } => "user_message",
        ReplyOk::Cancel { .. } => "cancel_run",
        ReplyOk::Refreshed { .. } => "refresh",
        ReplyOk::Receipt(_) => "publish",
        ReplyOk::Stream(_) => "subscribe",
        ReplyOk::Result(_) => "command",
        ReplyOk::RunStarted { .. } => "run_start",
        ReplyOk::Closed { .. } => "revoke",
        ReplyOk::Server(_) | ReplyOk::User(_) => "inspect",
    }
}

/// What an `ack` is about.
pub(super) struct Acknowledged<'a> {
    pub(super) received_type: &'a str,
    pub(super) message_id: Option<&'a FrameId>,
    pub(super) run_id: Option<RunId>,
}

/// An `ack`; where `data` stays empty, it is left out.
pub(super) fn acknowledge(
    about: &Acknowledged<'_>,
    context: &Context,
    now: UnixTime,
    data: impl FnOnce(&mut Writer),
) -> String {
    let mut writer = Writer::frame("ack", 256);
    writer.text("received_type", cut(about.received_type));
    writer.text("status", "acknowledged");
    if let Some(id) = about.message_id {
        id.put(&mut writer, "message_id");
    }
    about.run_id.put(&mut writer, "run_id");
    writer.text("user_id", &context.user_id);
    let mut inner = Writer::with_capacity(64);
    data(&mut inner);
    let inner = inner.finish();
    if inner != "{}" {
        writer.name("data").push_str(&inner);
    }
    now.put(&mut writer, "timestamp");
    writer.finish()
}

/// A type that the client made up comes back at most so long.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(crate::id::MAX_ID_BYTES)).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

fn pong(id: Option<&FrameId>, context: &Context, now: UnixTime) -> String {
    let mut writer = Writer::frame("pong", 128);
    if let Some(id) = id {
        id.put(&mut writer, "message_id");
    }
    writer.text("user_id", &context.user_id);
    now.put(&mut writer, "timestamp");
    writer.finish()
}

pub(super) fn heartbeat_ack(now: UnixTime) -> String {
    let mut writer = Writer::frame("heartbeat_ack", 96);
    writer.text("status", "healthy");
    now.put(&mut writer, "timestamp");
    writer.finish()
}

/// The answer to `connect` and `disconnect`.
pub(super) fn system_status(status: &str, context: &Context, now: UnixTime) -> String {
    with_data("system_message", now, |data| {
        data.text("status", status);
        data.text("user_id", &context.user_id);
    })
}

fn service_level(level: ServiceLevel, reason: &str, capabilities: &[String], now: UnixTime) -> String {
    let event = match level {
        ServiceLevel::Normal => "service_recovery",
        ServiceLevel::Degraded | ServiceLevel::Emergency => "service_degradation",
    };
    system_message(event, now, |data| {
        level.put(data, "level");
        data.text("user_message", reason);
        capabilities.to_vec().put(data, "capabilities");
    })
}

fn system_shutdown(deadline: f64, reconnect_after: f64, now: UnixTime) -> String {
    let mut writer = Writer::frame("system_shutdown", 160);
    writer.text("message", "the server restarts: connect again after the delay");
    // To whole milliseconds, and nobody comes earlier than told: what is below a microsecond is no time. The cast saturates.
    let micros = (reconnect_after * 1e6).round();
    writer.number("reconnect_delay", (micros / 1e3).ceil() as u64);
    deadline.put(&mut writer, "deadline");
    now.put(&mut writer, "timestamp");
    writer.finish()
}

/// What `error_message` says beside its text.
#[derive(Default)]
struct Details<'a> {
    message_id: Option<&'a FrameId>,
    temporary: Option<bool>,
    retry_after: Option<f64>,
    run_id: Option<RunId>,
    n: Option<u64>,
}

fn error_message(code: &str, message: &str, details: &Details<'_>, now: UnixTime) -> String {
    let mut writer = Writer::frame("error_message", 256);
    writer.text("error_code", code);
    writer.text("error_message", message);
    object(&mut writer, "details", |out| {
        if let Some(id) = details.message_id {
            id.put(out, "message_id");
        }
        details.temporary.put(out, "temporary");
        details.retry_after.put(out, "retry_after");
        details.run_id.put(out, "run_id");
        details.n.put(out, "n");
    });
    now.put(&mut writer, "timestamp");
    writer.finish()
}

fn refused(id: &FrameId, error: &ReplyError, now: UnixTime) -> String {
    let details = Details {
        message_id: Some(id),
        temporary: Some(error.temporary),
        retry_after: error.retry_after,
        ..Details::default()
    };
    error_message(code_text(&error.code).as_str(), &error.message, &details, now)
}

/// A text that is no frame of the profile.
pub(super) fn refusal(error: &FrameError, now: UnixTime) -> String {
    let temporary = error.id.as_ref().map(|_| error.code.is_temporary());
    let details = Details { message_id: error.id.as_ref(), temporary, ..Details::default() };
    error_message(&code_text(&error.code.into()), &error.message, &details, now)
}

/// A text that is no JSON.
pub(super) fn syntax_error(now: UnixTime) -> String {
    error_message("JSON_PARSE_ERROR", "the frame must be valid JSON", &Details::default(), now)
}

/// The native code in capitals; both kinds of a wrong form are one. An application's own stays as it is.
fn code_text(code: &WireCode) -> String {
    match code {
        WireCode::Known(ErrorCode::Malformed | ErrorCode::Invalid) => "FORMAT_ERROR".to_owned(),
        WireCode::Known(code) => code.as_str().to_ascii_uppercase(),
        WireCode::Other(text) => text.to_string(),
    }
}

/// What has no legacy frame of its own: `data.event` names it, the native fields stand beside it.
fn system_message(event: &str, now: UnixTime, fields: impl FnOnce(&mut Writer)) -> String {
    with_data("system_message", now, |data| {
        data.text("event", event);
        fields(data);
    })
}

/// `{type, data, timestamp}`.
fn with_data(kind: &str, now: UnixTime, data: impl FnOnce(&mut Writer)) -> String {
    let mut writer = Writer::frame(kind, 512);
    object(&mut writer, "data", data);
    now.put(&mut writer, "timestamp");
    writer.finish()
}

fn object(writer: &mut Writer, name: &str, fields: impl FnOnce(&mut Writer)) {
    let mut inner = Writer::with_capacity(256);
    fields(&mut inner);
    let inner = inner.finish();
    writer.name(name).push_str(&inner);
}
