//! What holds for every frame of either form.

use proptest::prelude::*;

use super::inverse::{heard, spoken};
use super::*;
use crate::id::{ApprovalId, ConnectionId, FrameId, IdempotencyKey, RunId, SessionId, ThreadId, ToolCallId};
use crate::protocol::tests::properties::{client_frame, device_request, event, payload, position, stream, text_id};
use crate::protocol::{
    AgentDeltas, CancelState, DeltaPart, Ephemeral, Event, EventBody, Heartbeat, Lost, Mode, NUMBER_END, Receipt,
    Reply, ReplyError, ReplyOk, RunStatus, ServiceLevel, Snapshot, SnapshotPart, SnapshotRun, SnapshotTool,
    StreamEntry, Welcome, WelcomeLimits, WireCode,
};

/// A device's frame whose id and key are one, as the profile has them.
fn device_frame() -> impl Strategy<Value = ClientFrame> {
    prop_oneof![client_frame(), device_request()].prop_map(|mut frame| {
        if let ClientFrame::UserMessage { id, key, .. } = &mut frame {
            *key = IdempotencyKey::new(id.as_str()).ok();
        }
        frame
    })
}

/// Such as every reader of JSON reads exactly.
fn seconds() -> impl Strategy<Value = f64> {
    any::<u32>().prop_map(|eighths| f64::from(eighths) / 8.0)
}

fn exact_event() -> impl Strategy<Value = Event> {
    event().prop_map(|mut event| {
        event.timestamp = NOW;
        if let EventBody::AgentThinking { progress: Some(progress), .. } = &mut event.body {
            *progress = (*progress * 8.0).round() / 8.0;
        }
        event
    })
}

fn deltas() -> impl Strategy<Value = AgentDeltas> {
    let part =
        (any::<u128>(), text_id(), 0..1_000_u64, ".*", 1..1_000_u64).prop_map(|(run, part, offset, text, run_seq)| {
            DeltaPart { run_id: RunId::from_bits(run), part_id: part.parse().unwrap(), offset, text, run_seq }
        });
    (position(), stream(), proptest::option::of(".*"), proptest::collection::vec(part, 0..4)).prop_map(
        |(position, stream, user_id, parts)| AgentDeltas {
            position,
            prev: position.seq / 2,
            stream,
            timestamp: NOW,
            user_id,
            parts,
        },
    )
}

fn reply() -> impl Strategy<Value = Reply> {
    let ok = prop_oneof![
        any::<u128>().prop_map(|run| ReplyOk::Run { run_id: RunId::from_bits(run) }),
        (any::<u128>(), 0..CancelState::ALL.len())
            .prop_map(|(run, at)| ReplyOk::Cancel { run_id: RunId::from_bits(run), state: CancelState::ALL[at] }),
        seconds().prop_map(|expires_in| ReplyOk::Refreshed { expires_in }),
        payload().prop_map(ReplyOk::Result),
        entry().prop_map(ReplyOk::Stream),
        (any::<u128>(), 0..NUMBER_END)
            .prop_map(|(run, last_n)| ReplyOk::RunStarted { run_id: RunId::from_bits(run), last_n }),
        any::<Option<u32>>()
            .prop_map(|readers| ReplyOk::Receipt(readers.map_or(Receipt::Stored, Receipt::DeliveredTo))),
        Just(ReplyOk::Done),
    ];
    let refused = (code(), ".*", any::<bool>(), proptest::option::of(seconds()))
        .prop_map(|(code, message, temporary, retry_after)| ReplyError { code, message, temporary, retry_after });
    let outcome = prop_oneof![ok.prop_map(Ok), refused.prop_map(Err)];
    (text_id(), outcome).prop_map(|(id, outcome)| Reply { id: FrameId::new(&id).unwrap(), outcome })
}

/// Those of the table but `invalid`, which is one with `malformed`; and an application's own.
fn code() -> impl Strategy<Value = WireCode> {
    let codes: Vec<_> = crate::error::ErrorCode::ALL.iter().filter(|code| code.as_str() != "invalid").collect();
    prop_oneof![
        (0..codes.len()).prop_map(move |at| WireCode::Known(*codes[at])),
        "[a-z]{1,8}\\.[A-Za-z]{1,8}".prop_map(|text| WireCode::Other(text.into())),
    ]
}

fn entry() -> impl Strategy<Value = StreamEntry> {
    let lost = proptest::option::of((position(), position()).prop_map(|(from, to)| Lost { from, to }));
    (stream(), position(), position(), 0..Mode::ALL.len(), lost).prop_map(|(stream, event_id, head, mode, lost)| {
        StreamEntry { stream, event_id, head, mode: Mode::ALL[mode], lost }
    })
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let ids = (any::<u128>(), any::<u128>(), ".*");
    let times = [seconds(), seconds(), seconds(), seconds()];
    let limits = (0..NUMBER_END, any::<u32>(), any::<u32>(), 0..NUMBER_END);
    let streams = proptest::collection::vec(entry(), 0..4);
    (ids, times, limits, 0..ServiceLevel::ALL.len(), streams).prop_map(|(ids, times, limits, level, streams)| {
        let [server_time, expires_in, interval, timeout] = times;
        let (message_bytes, messages_per_second, message_burst, event_bytes) = limits;
        Welcome {
            connection_id: ConnectionId::from_bits(ids.0),
            session_id: SessionId::from_bits(ids.1),
            user_id: ids.2,
            server_time,
            expires_in,
            heartbeat: Heartbeat { interval, timeout },
            limits: WelcomeLimits { message_bytes, messages_per_second, message_burst, event_bytes },
            service_level: ServiceLevel::ALL[level],
            streams,
        }
    })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let lost = proptest::option::of((position(), position()).prop_map(|(from, to)| Lost { from, to }));
    let runs = proptest::collection::vec(snapshot_run(), 0..3);
    (stream(), position(), any::<u32>(), any::<u32>(), lost, runs)
        .prop_map(|(stream, event_id, part, of, lost, runs)| Snapshot { stream, event_id, part, of, lost, runs })
}

fn snapshot_run() -> impl Strategy<Value = SnapshotRun> {
    let text = || proptest::option::of(".*");
    let head = (any::<u128>(), any::<Option<u128>>(), 0..RunStatus::ALL.len(), 0..NUMBER_END, any::<bool>());
    let asked = proptest::option::of(text_id().prop_map(|id| ApprovalId::new(&id).unwrap()));
    let thread = proptest::option::of(text_id().prop_map(|id| ThreadId::new(&id).unwrap()));
    let lists = (
        proptest::collection::vec(".*", 0..3),
        proptest::collection::vec(snapshot_tool(), 0..3),
        proptest::collection::vec(snapshot_part(), 0..3),
    );
    (head, thread, text(), asked, text(), lists).prop_map(
        |(head, thread_id, agent_name, approval_id, question, lists)| SnapshotRun {
            run_id: RunId::from_bits(head.0),
            thread_id,
            agent_name,
            parent_run_id: head.1.map(RunId::from_bits),
            status: RunStatus::ALL[head.2],
            run_seq: head.3,
            approval_id,
            question,
            shortened: head.4.then_some(true),
            thoughts: lists.0,
            tools: lists.1,
            parts: lists.2,
        },
    )
}

fn snapshot_tool() -> impl Strategy<Value = SnapshotTool> {
    let given = || proptest::option::of(payload());
    (text_id(), ".*", given(), given(), any::<Option<bool>>(), proptest::option::of(".*")).prop_map(
        |(id, tool_name, parameters, results, success, error)| SnapshotTool {
            tool_call_id: ToolCallId::new(&id).unwrap(),
            tool_name,
            parameters,
            results,
            success,
            error,
        },
    )
}

fn snapshot_part() -> impl Strategy<Value = SnapshotPart> {
    (text_id(), 0..NUMBER_END, ".*").prop_map(|(part, offset, text)| SnapshotPart {
        part_id: part.parse().unwrap(),
        offset,
        text,
    })
}

fn ephemeral() -> impl Strategy<Value = Ephemeral> {
    let thread = proptest::option::of(text_id().prop_map(|id| ThreadId::new(&id).unwrap()));
    (exact_event(), any::<bool>(), thread).prop_map(|(event, timed, thread_id)| Ephemeral {
        stream: event.stream,
        timestamp: timed.then_some(NOW),
        thread_id,
        body: event.body,
    })
}

fn server_frame() -> impl Strategy<Value = ServerFrame> {
    let of_error = (proptest::option::of(any::<u128>()), proptest::option::of(0..NUMBER_END));
    prop_oneof![
        welcome().prop_map(|welcome| ServerFrame::Welcome(Box::new(welcome))),
        snapshot().prop_map(|snapshot| ServerFrame::Snapshot(Box::new(snapshot))),
        ephemeral().prop_map(|event| ServerFrame::Ephemeral(Box::new(event))),
        (code(), ".*", of_error).prop_map(|(code, message, (run, n))| ServerFrame::Error {
            code,
            message,
            run_id: run.map(RunId::from_bits),
            n,
        }),
        exact_event().prop_map(|event| ServerFrame::Event(Box::new(event))),
        deltas().prop_map(|deltas| ServerFrame::Deltas(Box::new(deltas))),
        reply().prop_map(|reply| ServerFrame::Reply(Box::new(reply))),
        (stream(), 0..1_000_u64, any::<bool>()).prop_map(|(stream, behind, merging)| ServerFrame::Lag {
            stream,
            behind,
            merging
        }),
        (0..ServiceLevel::ALL.len(), ".*").prop_map(|(at, reason)| ServerFrame::ServiceLevel {
            level: ServiceLevel::ALL[at],
            reason,
            capabilities: vec!["resume".to_owned()],
        }),
        // Whole milliseconds: so exact is the legacy delay.
        (seconds(), 0..1_000_000_u32).prop_map(|(deadline, millis)| ServerFrame::GoingAway {
            deadline,
            reconnect_after: f64::from(millis) / 1e3,
        }),
        proptest::option::of(text_id().prop_map(|id| FrameId::new(&id).unwrap()))
            .prop_map(|id| ServerFrame::Pong { id }),
        seconds().prop_map(|expires_in| ServerFrame::AuthExpiring { expires_in }),
        (stream(), position()).prop_map(|(stream, event_id)| ServerFrame::Position { stream, prev: 0, event_id }),
    ]
}

/// A field beside the text, as any legacy client may have one.
fn beside() -> impl Strategy<Value = (String, Value)> {
    let names = "user_request|request|message|content|text|query|metadata|agent_name|turn_id|request_type|type";
    let text = || "[a-z]{0,3}".prop_map(Value::from);
    let inner = proptest::collection::btree_map("query|text|depth", text(), 0..3).prop_map(Value::from_iter);
    let value = prop_oneof![
        text(),
        any::<i32>().prop_map(Value::from),
        Just(Value::Null),
        Just(serde_json::json!([1, null])),
        inner
    ];
    (names, value)
}

/// A legacy client's message to the agent.
fn legacy_message() -> impl Strategy<Value = Value> {
    let kinds = "chat|user_message|user|user_input|chat_message|message|start_agent|execute_agent|EXECUTE_AGENT|agent_request|agent";
    let said = ("content|text|message", ".*");
    let outer = (proptest::option::of(text_id()), proptest::option::of(text_id()), any::<bool>(), any::<bool>());
    (kinds, said, proptest::collection::vec(beside(), 0..5), outer).prop_map(|(kind, (name, text), rest, outer)| {
        let (id, thread, own, thread_within) = outer;
        // What stands ahead of a chat's text must be a text as well.
        let ahead: &[&str] = match name.as_str() {
            "text" => &["content"],
            "message" => &["content", "text"],
            _ => &[],
        };
        let rest = rest.into_iter().filter(|(name, value)| value.is_string() || !ahead.contains(&name.as_str()));
        let mut payload: serde_json::Map<_, _> = rest.collect();
        payload.insert(name, text.into());
        if let Some(thread) = thread.as_ref().filter(|_| thread_within) {
            payload.insert("thread_id".to_owned(), thread.as_str().into());
        }
        let mut message = if own { Value::Object(payload) } else { serde_json::json!({ "payload": payload }) };
        message["type"] = kind.into();
        if let Some(id) = id {
            message["message_id"] = id.into();
        }
        if let Some(thread) = thread.filter(|_| !thread_within) {
            message["thread_id"] = thread.into();
        }
        message
    })
}

/// A native frame's fields in a legacy client's envelope, or beside it.
fn legacy_request() -> impl Strategy<Value = Value> {
    (device_request(), any::<bool>(), any::<bool>()).prop_map(|(frame, own, named)| {
        let mut fields = value(&frame.encode());
        let fields = fields.as_object_mut().unwrap();
        let (kind, id) = (fields.remove("type"), fields.remove("id"));
        let mut message = if own { Value::Object(fields.clone()) } else { serde_json::json!({ "payload": fields }) };
        message["type"] = kind.into();
        if let Some(id) = id.filter(|_| named) {
            message["message_id"] = id;
        }
        message
    })
}

/// The one type that stands for all that mean the same.
fn meant_by(kind: &str) -> &str {
    match kind {
        "execute_agent" | "EXECUTE_AGENT" => "start_agent",
        "agent" => "agent_request",
        "user_message" | "user" | "user_input" | "chat_message" | "message" => "chat",
        other => other,
    }
}

/// A legacy client's text, sound or not.
fn legacy_text() -> impl Strategy<Value = String> {
    let kinds = "chat|user_message|start_agent|agent_request|ping|heartbeat|connect|cancel_run|approve|command|nope|broadcast|ack";
    let value = "null|1|1e999|\"x\"|\"bob\"|\"ann\"|\"\"|\\[\\]|\\{\\}|\\{\"content\":\"x\"\\}|\\{\"request\":\\{\"query\":\"q\"\\}\\}|\"\\\\ud800\"|NaN";
    let names = "payload|message_id|user_id|thread_id|content|timestamp|request|run_id";
    (kinds, names, value, names, value)
        .prop_map(|(kind, one, a, two, b)| format!(r#"{{"type":"{kind}","{one}":{a},"{two}":{b}}}"#))
}

properties! {
    #[test]
    fn a_clients_frame_survives_the_profile_and_back(frame in device_frame()) {
        let Some(text) = spoken(&frame) else { return Ok(()) };
        let Decoded::Frame(back) = decode(&text, &mut ann(), NOW) else { panic!("{text}") };
        prop_assert_eq!(value(&back.encode()), value(&frame.encode()));
        // And so does the legacy text that came of it.
        prop_assert_eq!(spoken(&back).map(|text| value(&text)), Some(value(&text)));
    }

    #[test]
    fn what_a_legacy_client_says_can_be_said_again(message in prop_oneof![legacy_message(), legacy_request()]) {
        let Decoded::Frame(frame) = decode(&message.to_string(), &mut ann(), NOW) else { panic!("{message}") };
        let again = spoken(&frame);
        prop_assert!(again.is_some(), "nobody can say what {} came to", message);
        let again = again.unwrap();
        let Decoded::Frame(back) = decode(&again, &mut ann(), NOW) else { panic!("{message} said again is {again}") };
        prop_assert_eq!(value(&back.encode()), value(&frame.encode()), "{} said again is {}", message, again);
        let (before, after) = (message["type"].as_str().unwrap(), value(&again));
        let after = after["type"].as_str().unwrap();
        prop_assert_eq!(meant_by(after), meant_by(before), "{} said again is {}", message, again);
    }

    #[test]
    fn a_servers_frame_survives_the_profile_and_back(frame in server_frame()) {
        let text = encode(&frame, &ann(), NOW);
        let back = heard(&text);
        prop_assert_eq!(value(&back.encode()), value(&frame.encode()));
        prop_assert_eq!(encode(&back, &ann(), NOW), text);
    }

    #[test]
    fn no_text_makes_the_profile_panic_and_every_answer_is_a_frame_with_a_type(text in prop_oneof![legacy_text(), ".*"]) {
        match decode(&text, &mut ann(), NOW) {
            Decoded::Frame(frame) => prop_assert!(!frame.type_name().is_empty()),
            Decoded::Answer(answer) | Decoded::Leave(answer) => {
                prop_assert!(value(&answer)["type"].is_string());
                prop_assert!(answer.len() <= 1_024, "{}", answer.len());
            }
            Decoded::Nothing => {}
        }
    }

    #[test]
    fn what_a_message_says_beside_its_text_reaches_the_application(rest in payload(), text in ".*") {
        let message = format!(r#"{{"type":"agent_request","payload":{{"message":{},"turn_id":{rest}}}}}"#, serde_json::json!(text));
        let Decoded::Frame(frame) = decode(&message, &mut ann(), NOW) else { panic!("{message}") };
        let ClientFrame::UserMessage { content, metadata, .. } = *frame else { panic!("a message") };
        prop_assert_eq!(content, text);
        let metadata = value(metadata.unwrap().get());
        prop_assert_eq!(&metadata["turn_id"], &value(rest.get()));
        prop_assert_eq!(&metadata["request_type"], "agent_request");
    }
}
