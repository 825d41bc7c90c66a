//! The other end: what a legacy client writes for a native frame, and what it reads in a legacy one. Tests alone need it.

use serde_json::{Map, Value, json};

use crate::error::ErrorCode;
use crate::id::IdempotencyKey;
use crate::protocol::{ClientFrame, EventKind, ServerFrame};

/// A client's native frame as a legacy client would send it; `None` where the profile has no such frame.
pub(super) fn spoken(frame: &ClientFrame) -> Option<String> {
    let mut fields = object(&frame.encode());
    let kind = fields.remove("type")?;
    let kind = kind.as_str()?;
    let id = fields.remove("id");
    match frame {
        ClientFrame::UserMessage { id, key, .. } => said(fields, id.as_str(), key.as_ref().map(IdempotencyKey::as_str)),
        ClientFrame::Ping { .. }
        | ClientFrame::Refresh { .. }
        | ClientFrame::Ack { .. }
        | ClientFrame::Subscribe { .. }
        | ClientFrame::Unsubscribe { .. }
        | ClientFrame::CancelRun { .. }
        | ClientFrame::Approve { .. }
        | ClientFrame::Command { .. } => Some(envelope(kind, fields, [("message_id", id)])),
        _ => None,
    }
}

fn envelope<const N: usize>(kind: &str, payload: Map<String, Value>, beside: [(&str, Option<Value>); N]) -> String {
    let mut message = json!({"type": kind, "payload": payload});
    for (name, value) in beside {
        if let Some(value) = value {
            message[name] = value;
        }
    }
    message.to_string()
}

/// A message to the agent, of the kind that its metadata looks like.
fn said(mut fields: Map<String, Value>, id: &str, key: Option<&str>) -> Option<String> {
    // The id is the key; a name that the server has made up is neither.
    let message_id = match key {
        Some(key) if key == id => Some(json!(id)),
        None if id.starts_with("legacy-") => None,
        _ => return None,
    };
    fields.remove("key");
    let thread = fields.remove("thread_id");
    let (kind, payload) = worked(&fields).or_else(|| chatted(&fields)).unwrap_or(("user_message", fields));
    Some(envelope(kind, payload, [("message_id", message_id), ("thread_id", thread)]))
}

/// As the agent's work, where the metadata says so and the text finds a place.
fn worked(fields: &Map<String, Value>) -> Option<(&'static str, Map<String, Value>)> {
    let mut payload = fields.get("metadata")?.as_object()?.clone();
    let kind = match payload.remove("request_type")?.as_str()? {
        "start_agent" => "start_agent",
        "agent_request" => "agent_request",
        _ => return None,
    };
    let within = text_within(&payload).unwrap_or("");
    let says_it = !payload.is_empty() && first_text(&payload).is_none() && within == fields["content"];
    if !says_it {
        payload.insert(free_name(&payload)?.to_owned(), fields["content"].clone());
    }
    is_kept(&payload).then_some((kind, payload))
}

/// As a chat with all fields beside the text, where they stay what they are there.
fn chatted(fields: &Map<String, Value>) -> Option<(&'static str, Map<String, Value>)> {
    let mut payload = fields.get("metadata").map_or(Some(Map::new()), |metadata| metadata.as_object().cloned())?;
    let said = payload.insert("content".to_owned(), fields["content"].clone());
    let means_itself = payload.len() != 2 || !payload.contains_key("metadata");
    let any = payload.len() > 1 || !fields.contains_key("metadata");
    (said.is_none() && means_itself && any && is_kept(&payload)).then_some(("chat", payload))
}

/// Whether every field is one that a payload keeps for the application.
fn is_kept(fields: &Map<String, Value>) -> bool {
    fields.iter().all(|(name, value)| !["user_id", "thread_id"].contains(&name.as_str()) && !value.is_null())
}

/// The names of the text of an agent's work: the first that is a text counts.
const WORK_TEXTS: [&str; 6] = ["user_request", "request", "message", "content", "text", "query"];

fn first_text(fields: &Map<String, Value>) -> Option<&str> {
    WORK_TEXTS.into_iter().filter_map(|name| fields.get(name)).find_map(Value::as_str)
}

/// What a request that is an object says.
fn text_within(fields: &Map<String, Value>) -> Option<&str> {
    first_text(fields.get("request")?.as_object()?)
}

/// Where a text can be put so that it counts.
fn free_name(fields: &Map<String, Value>) -> Option<&'static str> {
    let mut ahead = WORK_TEXTS.into_iter().take_while(|name| !fields.get(*name).is_some_and(Value::is_string));
    ahead.find(|name| !fields.contains_key(*name))
}

/// A server's legacy frame as the native one it stands for.
pub(super) fn heard(text: &str) -> ServerFrame {
    let mut fields = object(text);
    let kind = fields.remove("type").unwrap().as_str().unwrap().to_owned();
    let native = match kind.as_str() {
        "connection_established" => welcome(fields),
        "event_batch" => deltas(fields),
        "ack" => answer(fields),
        "error_message" => error(fields),
        "system_message" => system(fields),
        "system_shutdown" => {
            let after = fields["reconnect_delay"].as_f64().unwrap() / 1e3;
            json!({"type": "going_away", "deadline": fields["deadline"], "reconnect_after": after})
        }
        "pong" => fields.get("message_id").map_or(json!({"type": "pong"}), |id| json!({"type": "pong", "id": id})),
        _ => event(&kind, fields),
    };
    ServerFrame::parse(&native.to_string()).unwrap_or_else(|e| panic!("{e} in {native}"))
}

fn object(text: &str) -> Map<String, Value> {
    match serde_json::from_str(text).unwrap() {
        Value::Object(fields) => fields,
        other => panic!("{other} is no object"),
    }
}

fn welcome(mut fields: Map<String, Value>) -> Value {
    let mut data = fields.remove("data").unwrap();
    let config = data["config"].take();
    data["type"] = json!("welcome");
    data["heartbeat"] = json!({"interval": config["heartbeat_interval"], "timeout": config["heartbeat_timeout"]});
    data["limits"] = json!({
        "message_bytes": config["max_message_size"], "messages_per_second": config["messages_per_second"],
        "message_burst": config["message_burst"], "event_bytes": config["max_event_size"],
    });
    data
}

fn deltas(mut fields: Map<String, Value>) -> Value {
    let mut chunks = fields["events"]["stream_chunk"].take();
    for chunk in chunks.as_array_mut().unwrap() {
        chunk["text"] = chunk["content"].take();
    }
    assert_eq!(fields["batch_size"], chunks.as_array().unwrap().len());
    fields.insert("parts".to_owned(), chunks);
    fields.insert("type".to_owned(), json!("agent_deltas"));
    Value::Object(fields)
}

fn event(kind: &str, mut fields: Map<String, Value>) -> Value {
    let native = match kind {
        "agent_error" => "agent_failed",
        "stream_chunk" => "agent_delta",
        other => other,
    };
    assert!(EventKind::from_text(native).is_some(), "{kind} is no event");
    if kind == "stream_chunk" {
        let text = fields.remove("content").unwrap();
        fields.insert("text".to_owned(), text);
    }
    fields.insert("type".to_owned(), json!(native));
    Value::Object(fields)
}

fn answer(fields: Map<String, Value>) -> Value {
    let mut reply = fields.get("data").cloned().unwrap_or_else(|| json!({}));
    reply["type"] = json!("reply");
    reply["id"] = fields["message_id"].clone();
    reply["ok"] = json!(true);
    if let Some(run) = fields.get("run_id") {
        reply["run_id"] = run.clone();
    }
    reply
}

fn error(fields: Map<String, Value>) -> Value {
    let details = &fields["details"];
    let code = match fields["error_code"].as_str().unwrap() {
        "FORMAT_ERROR" => "malformed",
        // An application's own is none of the table's in capitals.
        code => ErrorCode::ALL
            .iter()
            .map(|known| known.as_str())
            .find(|known| known.to_ascii_uppercase() == code)
            .unwrap_or(code),
    };
    let message = &fields["error_message"];
    let mut native = match details.get("message_id") {
        Some(id) => json!({
            "type": "reply", "id": id, "ok": false,
            "error": {"code": code, "message": message, "temporary": details["temporary"]},
        }),
        None => json!({"type": "error", "code": code, "message": message}),
    };
    if let Some(after) = details.get("retry_after") {
        native["error"]["retry_after"] = after.clone();
    }
    for name in ["run_id", "n"] {
        if let Some(value) = details.get(name) {
            native[name] = value.clone();
        }
    }
    native
}

fn system(mut fields: Map<String, Value>) -> Value {
    let mut data = fields.remove("data").unwrap();
    let event = data["event"].take();
    let kind = match event.as_str().unwrap() {
        "service_degradation" | "service_recovery" => {
            data["reason"] = data["user_message"].take();
            "service_level"
        }
        other => other,
    };
    data["type"] = json!(kind);
    data
}
