//! The other end: what a legacy client writes for a native frame, and what it reads in a legacy one. Tests alone need it.

use serde_json::{Map, Value, json};

use crate::protocol::{ClientFrame, EventKind, ServerFrame};

/// A client's native frame as a legacy client would send it; `None` where the profile has no such frame.
pub(super) fn spoken(frame: &ClientFrame) -> Option<String> {
    let mut fields = object(&frame.encode());
    let kind = fields.remove("type")?;
    let id = fields.remove("id");
    let thread = if matches!(frame, ClientFrame::UserMessage { .. }) { fields.remove("thread_id") } else { None };
    match frame {
        // The id is the key.
        ClientFrame::UserMessage { id, key, .. } => {
            let same = key.as_ref().is_some_and(|key| key.as_str() == id.as_str());
            fields.remove("key").filter(|_| same)?;
        }
        ClientFrame::Ping { .. }
        | ClientFrame::Refresh { .. }
        | ClientFrame::Ack { .. }
        | ClientFrame::Subscribe { .. }
        | ClientFrame::Unsubscribe { .. }
        | ClientFrame::CancelRun { .. }
        | ClientFrame::Approve { .. }
        | ClientFrame::Command { .. } => {}
        _ => return None,
    }
    let mut message = json!({"type": kind, "payload": fields});
    for (name, value) in [("message_id", id), ("thread_id", thread)] {
        if let Some(value) = value {
            message[name] = value;
        }
    }
    Some(message.to_string())
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
    let code = fields["error_code"].as_str().unwrap();
    let code = match code {
        "FORMAT_ERROR" => "malformed".to_owned(),
        code => code.to_ascii_lowercase(),
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
