//! What holds for every frame.

use proptest::prelude::*;

use super::*;
use crate::id::{ApprovalId, IdempotencyKey, ThreadId, ToolCallId, TopicName};

pub(in crate::protocol) fn text_id() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{1,20}"
}

pub(in crate::protocol) fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), 1..NUMBER_END).prop_map(|(epoch, seq)| Position { epoch, seq })
}

pub(in crate::protocol) fn stream() -> impl Strategy<Value = StreamName> {
    prop_oneof![Just(StreamName::User), text_id().prop_map(|t| StreamName::Topic(TopicName::new(&t).unwrap()))]
}

pub(in crate::protocol) fn payload() -> impl Strategy<Value = Box<RawValue>> {
    let leaf = prop_oneof![any::<i64>().prop_map(Value::from), ".*".prop_map(Value::from), Just(Value::Null)];
    leaf.prop_map(|value| raw(&serde_json::json!([value]).to_string()))
}

fn body() -> impl Strategy<Value = EventBody> {
    prop_oneof![
        (".*", proptest::option::of(payload()))
            .prop_map(|(content, metadata)| EventBody::UserMessage { content, metadata }),
        (".*", any::<Option<u32>>(), proptest::option::of(0.0..1.0))
            .prop_map(|(thought, step, progress)| { EventBody::AgentThinking { thought, step, progress } }),
        (text_id(), ".*", payload(), any::<bool>(), proptest::option::of(".*")).prop_map(
            |(id, tool_name, results, success, error)| EventBody::ToolCompleted {
                tool_call_id: ToolCallId::new(&id).unwrap(),
                tool_name,
                results,
                success,
                duration_ms: None,
                error,
            }
        ),
        (text_id(), 0..NUMBER_END, ".*").prop_map(|(part, offset, text)| EventBody::AgentDelta {
            part_id: PartId::new(&part).unwrap(),
            offset,
            text,
        }),
        (0..FailReason::ALL.len(), ".*")
            .prop_map(|(at, error)| EventBody::AgentFailed { reason: FailReason::ALL[at], error }),
        lifecycle(),
    ]
}

fn lifecycle() -> impl Strategy<Value = EventBody> {
    let text = || proptest::option::of(".*");
    let approval = || text_id().prop_map(|id| ApprovalId::new(&id).unwrap());
    prop_oneof![
        (any::<Option<u128>>(), text()).prop_map(|(parent, message)| EventBody::AgentStarted {
            parent_run_id: parent.map(RunId::from_bits),
            message
        }),
        (text_id(), ".*", proptest::option::of(payload())).prop_map(|(id, tool_name, parameters)| {
            EventBody::ToolExecuting { tool_call_id: ToolCallId::new(&id).unwrap(), tool_name, parameters }
        }),
        (approval(), text()).prop_map(|(approval_id, question)| EventBody::AgentSuspended { approval_id, question }),
        (approval(), text()).prop_map(|(approval_id, decision)| EventBody::AgentResumed { approval_id, decision }),
        (text(), proptest::option::of(payload()), 0..NUMBER_END).prop_map(|(final_response, result, duration_ms)| {
            EventBody::AgentCompleted { final_response, result, duration_ms }
        }),
        (".*", ".*").prop_map(|(by, reason)| EventBody::AgentCancelled { by, reason }),
        (text_id(), payload()).prop_map(|(name, data)| EventBody::Custom { name, data }),
    ]
}

fn produced() -> impl Strategy<Value = RunEvent> {
    let part = || text_id().prop_map(|part| PartId::new(&part).unwrap());
    let approval = || text_id().prop_map(|id| ApprovalId::new(&id).unwrap());
    prop_oneof![
        (".*", any::<Option<u32>>()).prop_map(|(thought, step)| RunEvent::Thinking { thought, step, progress: None }),
        (part(), proptest::option::of(0..NUMBER_END), ".*").prop_map(|(part_id, offset, text)| RunEvent::Delta {
            part_id,
            offset,
            text
        }),
        (text_id(), proptest::option::of(payload()), any::<Option<bool>>()).prop_map(|(id, results, success)| {
            let tool_call_id = ToolCallId::new(&id).unwrap();
            RunEvent::ToolCompleted { tool_call_id, results, success, error: None }
        }),
        (approval(), proptest::option::of(".*"))
            .prop_map(|(approval_id, decision)| RunEvent::Resumed { approval_id, decision }),
        (proptest::option::of(".*"), proptest::option::of(payload()))
            .prop_map(|(final_response, result)| RunEvent::Completed { final_response, result }),
        (0..FailReason::ALL.len(), ".*")
            .prop_map(|(at, error)| RunEvent::Failed { reason: Some(FailReason::ALL[at]), error }),
    ]
}

pub(in crate::protocol) fn client_frame() -> impl Strategy<Value = ClientFrame> {
    let id = || text_id().prop_map(|text| FrameId::new(&text).unwrap());
    let key = || proptest::option::of(text_id().prop_map(|text| IdempotencyKey::new(&text).unwrap()));
    let thread = || text_id().prop_map(|text| ThreadId::new(&text).unwrap());
    prop_oneof![
        (
            proptest::option::of(".*"),
            any::<Option<u128>>(),
            proptest::collection::btree_map(stream(), position(), 0..4),
            proptest::collection::vec(thread(), 0..3),
        )
            .prop_map(|(token, session, resume, threads)| {
                ClientFrame::Hello(Box::new(Hello {
                    token: token.map(|text| Token::new(&text)),
                    session_id: session.map(SessionId::from_bits),
                    resume,
                    threads,
                    ..Hello::default()
                }))
            }),
        (id(), key(), thread(), ".*", proptest::option::of(payload())).prop_map(
            |(id, key, thread_id, content, metadata)| ClientFrame::UserMessage {
                id,
                key,
                thread_id,
                content,
                metadata
            }
        ),
        device_request(),
        (proptest::option::of(id()), any::<u128>(), 0..NUMBER_END, produced())
            .prop_map(|(id, run, n, event)| { ClientFrame::RunEvent { id, run_id: RunId::from_bits(run), n, event } }),
    ]
}

/// What a device sends beside its messages.
pub(in crate::protocol) fn device_request() -> impl Strategy<Value = ClientFrame> {
    let id = || text_id().prop_map(|text| FrameId::new(&text).unwrap());
    let key = || text_id().prop_map(|text| IdempotencyKey::new(&text).unwrap());
    let topic = || text_id().prop_map(|text| TopicName::new(&text).unwrap());
    let run = any::<u128>().prop_map(|run| RunRef::Id(RunId::from_bits(run)));
    let approval = text_id().prop_map(|id| ApprovalId::new(&id).unwrap());
    prop_oneof![
        (stream(), position()).prop_map(|(stream, event_id)| ClientFrame::Ack { stream, event_id }),
        (id(), ".+").prop_map(|(id, token)| ClientFrame::Refresh { id, token: Token::new(&token) }),
        (id(), topic(), proptest::option::of(position())).prop_map(|(id, topic, resume)| ClientFrame::Subscribe {
            id,
            topic,
            resume
        }),
        (id(), topic()).prop_map(|(id, topic)| ClientFrame::Unsubscribe { id, topic }),
        (id(), prop_oneof![run, key().prop_map(RunRef::Key)])
            .prop_map(|(id, target)| ClientFrame::CancelRun { id, target }),
        (id(), approval, ".*", proptest::option::of(payload()))
            .prop_map(|(id, approval_id, decision, data)| { ClientFrame::Approve { id, approval_id, decision, data } }),
        (id(), text_id(), proptest::option::of(payload()), proptest::option::of(key()))
            .prop_map(|(id, name, args, key)| ClientFrame::Command { id, name, args, key }),
        proptest::option::of(id()).prop_map(|id| ClientFrame::Ping { id }),
    ]
}

pub(in crate::protocol) fn event() -> impl Strategy<Value = Event> {
    let head = (stream(), 0..NUMBER_END, proptest::option::of(".*"), any::<Option<u128>>());
    (position(), any::<bool>(), head, body()).prop_map(|(position, gap, (stream, micros, user_id, run), body)| Event {
        position,
        prev: gap.then_some(position.seq / 2).filter(|prev| *prev < position.seq),
        stream,
        timestamp: UnixTime::from_micros(micros),
        user_id,
        thread_id: None,
        run_id: run.map(RunId::from_bits),
        run_seq: Some(micros),
        agent_name: None,
        flaw: None,
        body,
    })
}

properties! {
    #[test]
    fn a_clients_frame_survives_the_wire(frame in client_frame()) {
        let text = frame.encode();
        let parsed = ClientFrame::parse(&text);
        prop_assert_eq!(parsed.map(|parsed| parsed.frame.encode()), Ok(text));
    }

    #[test]
    fn an_event_survives_the_wire(event in event()) {
        let frame = ServerFrame::Event(Box::new(event));
        prop_assert_eq!(ServerFrame::parse(&frame.encode()), Ok(frame));
    }

    #[test]
    fn a_logs_frame_is_what_clients_read(position in position(), body in body(), prev in 0_u64..9) {
        let encoded = encode_event(&head(position, Some(5)), &body);
        prop_assume!(prev < position.seq);
        let frame = [prev_prefix(prev).as_ref(), &encoded[1..]].concat();
        let parsed = ServerFrame::parse(std::str::from_utf8(&frame).unwrap()).unwrap();
        let ServerFrame::Event(event) = parsed else { panic!("{parsed:?}") };
        prop_assert_eq!((event.position, event.follows(), &event.body), (position, prev, &body));
    }

    #[test]
    fn strings_are_escaped_as_serde_json_reads_them(text in any::<String>()) {
        let mut out = String::new();
        writer::push_text(&mut out, &text);
        prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in ".*") {
        let _ = (ClientFrame::parse(&text), ServerFrame::parse(&text));
    }

    #[test]
    fn no_field_makes_a_parser_panic(
        kind in 0..ClientFrame::TYPES.len(),
        name in "id|token|resume|event_id|thread_id|content|topic|n|event|run_id|ok|error",
        value in "null|1|1e999|-1|\"x\"|\\[\\]|\\{\\}|\\{\"type\":\"custom\"\\}|\"1-1\"|\"\\\\ud800\"",
    ) {
        let kind = ClientFrame::TYPES[kind];
        let text = format!(r#"{{"type":"{kind}","id":"1","{name}x":1,"{name}":{value}}}"#);
        let _ = (ClientFrame::parse(&text), ServerFrame::parse(&text));
    }
}
