//! What holds for every frame of either form.

use proptest::prelude::*;

use super::inverse::{heard, spoken};
use super::*;
use crate::id::{FrameId, IdempotencyKey, RunId};
use crate::protocol::tests::properties::{client_frame, event, payload, position, stream, text_id};
use crate::protocol::{
    AgentDeltas, CancelState, DeltaPart, Event, EventBody, Reply, ReplyError, ReplyOk, ServiceLevel, WireCode,
};

/// A device's frame whose id and key are one, as the profile has them.
fn device_frame() -> impl Strategy<Value = ClientFrame> {
    client_frame().prop_map(|mut frame| {
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
        Just(ReplyOk::Done),
    ];
    let codes: Vec<_> = crate::error::ErrorCode::ALL.iter().filter(|code| code.as_str() != "invalid").collect();
    let refused = (0..codes.len(), ".*", any::<bool>(), proptest::option::of(seconds())).prop_map(
        move |(at, message, temporary, retry_after)| ReplyError {
            code: WireCode::Known(*codes[at]),
            message,
            temporary,
            retry_after,
        },
    );
    let outcome = prop_oneof![ok.prop_map(Ok), refused.prop_map(Err)];
    (text_id(), outcome).prop_map(|(id, outcome)| Reply { id: FrameId::new(&id).unwrap(), outcome })
}

fn server_frame() -> impl Strategy<Value = ServerFrame> {
    prop_oneof![
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
