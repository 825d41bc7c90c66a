//! The specification in words and the types must say the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::api::OPENAPI;
use crate::error::{CloseReason, NextAction};
use crate::id::{ConnectionId, PartId, RunId, SessionId};
use crate::time::UnixTime;

pub(in crate::protocol) mod properties;

const SPECIFICATION: &str = include_str!("../../PROTOCOL.md");

fn code_of(text: &str) -> ErrorCode {
    ClientFrame::parse(text).unwrap_err().code
}

fn fault_of(text: &str) -> String {
    let error = ClientFrame::parse(text).unwrap_err();
    assert_eq!(error.code, ErrorCode::Invalid, "{error}");
    error.message
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

mod specification {
    use super::*;

    /// What stands after "```json" says whose the frame is, where both sides have its type.
    fn examples() -> Vec<(&'static str, &'static str)> {
        let blocks = SPECIFICATION.split("```json").skip(1);
        blocks.map(|block| block.split("```").next().unwrap().split_once('\n').unwrap()).collect()
    }

    fn by_client(hint: &str, kind: &str) -> bool {
        match hint.trim() {
            "client" => true,
            "server" => false,
            // A bare `reply` is the server's, a bare `user_message` the client's.
            "" => kind != "reply" && ClientFrame::TYPES.contains(&kind),
            other => panic!("unknown hint {other}"),
        }
    }

    #[test]
    fn every_example_reads_and_writes_back_and_every_type_has_one() {
        let (mut client, mut server) = (BTreeSet::new(), BTreeSet::new());
        for (hint, example) in examples() {
            let value: Value = serde_json::from_str(example).unwrap_or_else(|e| panic!("{e} in {example}"));
            let kind = value["type"].as_str().unwrap().to_owned();
            let encoded = if by_client(hint, &kind) {
                let parsed = ClientFrame::parse(example).unwrap_or_else(|e| panic!("{e} in {example}"));
                client.insert(kind);
                parsed.frame.encode()
            } else {
                let frame = ServerFrame::parse(example).unwrap_or_else(|e| panic!("{e} in {example}"));
                server.insert(kind);
                frame.encode()
            };
            assert_eq!(serde_json::from_str::<Value>(&encoded).unwrap(), value);
        }
        for kind in ClientFrame::TYPES {
            assert!(client.contains(*kind), "no example of the client's {kind}");
        }
        let events = EventKind::ALL.iter().map(|kind| kind.as_str());
        let frames = ServerFrame::TYPES.iter().copied().filter(|kind| !matches!(*kind, "event" | "ephemeral"));
        for kind in events.chain(frames) {
            assert!(server.contains(kind), "no example of the server's {kind}");
        }
    }

    /// The first cells of a section's only table, trimmed of backquotes.
    fn table(section: &str) -> Vec<Vec<&'static str>> {
        let body = SPECIFICATION.split_once(section).unwrap().1.split("\n## ").next().unwrap();
        let rows = body.lines().filter(|line| line.starts_with("| ")).skip(1);
        rows.map(|row| row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`')).collect()).collect()
    }

    #[test]
    fn the_table_of_error_codes_is_the_programs() {
        let rows: Vec<_> = table("\n## Error codes\n").iter().map(|row| (row[0], row[1])).collect();
        let yes = |temporary| if temporary { "yes" } else { "no" };
        let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| (code.as_str(), yes(code.is_temporary()))).collect();
        assert_eq!(rows, codes);
    }

    /// The rows of the table with this head, cells trimmed.
    fn table_of(head: &str) -> Vec<Vec<&'static str>> {
        let body = SPECIFICATION.split_once(head).unwrap().1;
        let rows = body.lines().skip(2).take_while(|line| line.starts_with('|'));
        rows.map(|row| row.split('|').skip(1).map(str::trim).collect()).collect()
    }

    #[test]
    fn the_tables_over_http_are_the_programs_and_the_documents() {
        let document: Value = serde_json::from_str(OPENAPI).unwrap();
        let paths = document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
            methods.map(move |method| format!("`{} {path}`", method.to_uppercase()))
        });
        let rows = table_of("| request | scope | body | answer |");
        let requests: BTreeSet<_> = rows.iter().map(|row| row[0].to_owned()).collect();
        assert_eq!(requests, paths.collect());

        let (mut codes, mut statuses) = (BTreeSet::new(), BTreeSet::from(["200".to_owned()]));
        for row in table_of("| status | `code` | also |") {
            statuses.insert(row[0].to_owned());
            for code in row[1].split(", ").map(|code| code.trim_matches('`')) {
                codes.insert(code.to_owned());
                // What the type of a body says is no fault of a field: 415 is beside the table of codes.
                if let Some(known) = ErrorCode::from_text(code).filter(|_| row[0] != "415") {
                    assert_eq!(row[0], crate::api::status(known).to_string(), "{code}");
                } else {
                    let close = CloseReason::ALL.iter().any(|reason| reason.name() == code);
                    assert!(close && row[0] == "401" || row[0] == "415", "{code}");
                }
            }
        }
        let enumerated = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
        assert_eq!(codes, enumerated.iter().map(|code| code.as_str().unwrap().to_owned()).collect());
        let of_operation = |item: &Value| -> Vec<String> {
            let operations = item.as_object().unwrap().values().filter_map(|operation| operation.get("responses"));
            operations.flat_map(|responses| responses.as_object().unwrap().keys().cloned()).collect()
        };
        let mut documented: BTreeSet<_> =
            document["paths"].as_object().unwrap().values().flat_map(of_operation).collect();
        // A path's other methods are no operation of the document.
        documented.insert("405".to_owned());
        assert_eq!(statuses, documented);
    }

    #[test]
    fn the_table_of_close_codes_is_the_programs() {
        let action = |reason: &CloseReason| match reason.next_action() {
            NextAction::Nothing => "is done",
            NextAction::Retry => "retries with back-off and resumes",
            NextAction::RetryLater => "retries later",
            NextAction::NewToken => "gets a new token, then retries",
            NextAction::RetryAfresh => "retries without its position",
            NextAction::Stop => "stops",
        };
        let rows = table("\n## Close codes\n");
        let rows: Vec<_> = rows.iter().map(|row| (row[0].parse().unwrap(), row[1], row[2])).collect();
        let reasons: Vec<_> = CloseReason::ALL.iter().map(|r| (r.code(), r.name(), action(r))).collect();
        assert_eq!(rows, reasons);
    }

    #[test]
    fn events_and_their_kinds_name_the_same_types() {
        let kinds: Vec<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(kinds, EventBody::TYPES);
    }
}

mod refusals {
    use super::*;

    #[test]
    fn what_is_no_object_with_a_type_is_malformed() {
        for text in [
            "",
            "nul",
            "null",
            "[]",
            "1",
            r#""hello""#,
            "{",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":null}"#,
            r#"{"type":"ping"}x"#,
            r#"{"type":"ping","type":"ping"}"#,
            r#"{"type":"ping","\u0074ype":"ping"}"#,
            r#"{"type":"ping","x":1,"x":2}"#,
            r#"{"type":"hello","resume":{"user":"1-1","user":"1-2"}}"#,
            "\u{feff}{\"type\":\"ping\"}",
        ] {
            assert_eq!(code_of(text), ErrorCode::Malformed, "{text}");
        }
    }

    #[test]
    fn nesting_ends_at_64() {
        let nested =
            |levels: usize| format!(r#"{{"type":"ping","x":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(ClientFrame::parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(code_of(&nested(MAX_DEPTH + 1)), ErrorCode::Malformed);
        let in_string = format!(r#"{{"type":"ping","x":"\"{}"}}"#, "[".repeat(99));
        assert!(ClientFrame::parse(&in_string).is_ok(), "brackets in strings are text");
    }

    #[test]
    fn an_unknown_type_keeps_its_id_and_is_not_echoed() {
        let error = ClientFrame::parse(r#"{"type":"s3cret","id":"7"}"#).unwrap_err();
        assert_eq!((error.code, error.id), (ErrorCode::UnknownType, Some(FrameId::new("7").unwrap())));
        assert!(!error.message.contains("s3cret"));
        assert_eq!(ClientFrame::parse(r#"{"type":"welcome","id":7}"#).unwrap_err().id, None);
    }

    #[test]
    fn a_fault_names_the_field() {
        let cases = [
            (r#"{"type":"user_message","id":"1","content":"x"}"#, "`thread_id` is missing: the frame needs it"),
            (r#"{"type":"user_message","id":"1","thread_id":"t","content":5}"#, "`content` must be a string"),
            (r#"{"type":"ack","event_id":"1-01"}"#, "`event_id` must be `<epoch>-<seq>`"),
            (r#"{"type":"ack","stream":"mine","event_id":"1-1"}"#, "`stream` must be `user` or `topic:<name>`"),
            (r#"{"type":"hello","resume":{"user":"x"}}"#, "`resume` must be `<epoch>-<seq>`"),
            (r#"{"type":"hello","resume":{"s3cret":"1-1"}}"#, "`resume` must have `user` or `topic:<name>` as keys"),
            (r#"{"type":"hello","client":{"name":1}}"#, "`client.name` must be a string"),
            (r#"{"type":"hello","user_id":1}"#, "`user_id` must be a string"),
            (r#"{"type":"cancel_run","id":"1"}"#, "`run_id` is missing: the frame needs it or `key`"),
            (
                r#"{"type":"run_event","run_id":"run_00000000000000000000000000000abc","n":9007199254740992,"event":{}}"#,
                "`n` must be a whole number from 0 to below 2^53",
            ),
            (
                r#"{"type":"run_event","run_id":"run_00000000000000000000000000000abc","n":1,"event":{"type":"agent_thinking"}}"#,
                "`event.thought` is missing",
            ),
        ];
        for (text, says) in cases {
            let message = fault_of(text);
            assert!(message.starts_with(says), "{message}");
            assert!(!message.contains("s3cret"));
        }
        let both = r#"{"type":"cancel_run","id":"1","key":"k","run_id":"run_00000000000000000000000000000abc"}"#;
        assert!(fault_of(both).contains("one of the two"));
    }

    #[test]
    fn lists_of_a_hello_end_at_their_limit() {
        let list = |n: usize| format!(r#"{{"type":"hello","topics":[{}]}}"#, vec![r#""t""#; n].join(","));
        assert!(ClientFrame::parse(&list(MAX_HELLO_TOPICS)).is_ok());
        assert!(fault_of(&list(MAX_HELLO_TOPICS + 1)).starts_with("`topics`"));
        let resume = |n: usize| {
            let entries: Vec<_> = (0..n).map(|i| format!(r#""topic:{i}":"1-1""#)).collect();
            format!(r#"{{"type":"hello","resume":{{{}}}}}"#, entries.join(","))
        };
        assert!(ClientFrame::parse(&resume(MAX_HELLO_TOPICS + 1)).is_ok());
        assert!(fault_of(&resume(MAX_HELLO_TOPICS + 2)).starts_with("`resume`"));
    }
}

mod leniency {
    use super::*;

    #[test]
    fn a_session_that_is_no_id_is_absent_and_unknown_fields_are_ignored() {
        for session in [r#""gone""#, "5", "null", "{}"] {
            let text = format!(r#"{{"type":"hello","session_id":{session},"resume":null,"new":[1]}}"#);
            let ClientFrame::Hello(hello) = ClientFrame::parse(&text).unwrap().frame else { panic!("{text}") };
            assert_eq!(hello.session_id, None);
            assert!(hello.resume.is_empty());
        }
    }

    #[test]
    fn a_claimed_user_is_surfaced_only_where_it_is_not_the_frames_own() {
        let claimed = |text: &str| ClientFrame::parse(text).unwrap().user_id;
        assert_eq!(claimed(r#"{"type":"ping","user_id":"bob"}"#).as_deref(), Some("bob"));
        assert_eq!(claimed(r#"{"type":"ping","user_id":null}"#), None);
        assert_eq!(claimed(r#"{"type":"revoke","id":"1","user_id":"bob","token_id":"j"}"#), None);
    }

    #[test]
    fn a_newer_servers_event_still_moves_the_client() {
        let frame = ServerFrame::parse(r#"{"type":"agent_dreams","event_id":"3-8","seq":8,"dream":1}"#).unwrap();
        let event_id = Position { epoch: 3, seq: 8 };
        assert_eq!(frame, ServerFrame::Position { stream: StreamName::User, prev: 7, event_id });
        for kind in ["event", "ephemeral", "agent_dreams"] {
            let error = ServerFrame::parse(&format!(r#"{{"type":"{kind}"}}"#)).unwrap_err();
            assert_eq!(error.code, ErrorCode::UnknownType, "{kind}");
        }
    }

    #[test]
    fn an_event_whose_numbers_disagree_is_refused() {
        for (seq, prev) in [(4, 2), (5, 5), (5, 6)] {
            let text = format!(
                r#"{{"type":"custom","event_id":"1-5","seq":{seq},"prev":{prev},"timestamp":1,"name":"x","data":1}}"#
            );
            assert_eq!(ServerFrame::parse(&text).unwrap_err().code, ErrorCode::Invalid, "{text}");
        }
    }
}

#[test]
fn debug_shows_no_secret_and_no_payload() {
    for (frame, text) in [
        (r#"{"type":"hello","token":"s3cret"}"#, "hello(..)"),
        (r#"{"type":"user_message","id":"1","thread_id":"t","content":"s3cret"}"#, "user_message(..)"),
    ] {
        assert_eq!(format!("{:?}", ClientFrame::parse(frame).unwrap().frame), text);
    }
    let hello = Hello { token: Some(Token::new("s3cret")), ..Hello::default() };
    assert!(!format!("{hello:?}").contains("s3cret"));
    let body = EventBody::Custom { name: "s3cret".into(), data: raw("1") };
    assert_eq!(format!("{body:?}"), "custom(..)");
}

fn head(position: Position, run: Option<u128>) -> EventHead<'static> {
    EventHead {
        position,
        stream: None,
        timestamp: UnixTime::from_micros(1_500_000),
        user_id: Some("ann"),
        thread_id: None,
        run_id: run.map(RunId::from_bits),
        run_seq: Some(1),
        agent_name: None,
        flaw: None,
    }
}

#[test]
fn an_events_frame_has_one_layout() {
    let body = EventBody::AgentDelta { part_id: PartId::new("p").unwrap(), offset: 0, text: "é\"\n\u{1}".into() };
    let encoded = encode_event(&head(Position { epoch: 7, seq: 3 }, None), &body);
    let expected = r#"{"type":"agent_delta","event_id":"7-3","seq":3,"timestamp":1.5,"user_id":"ann","run_seq":1,"part_id":"p","offset":0,"text":"é\"\n\u0001"}"#;
    assert_eq!(String::from_utf8(encoded.clone()).unwrap(), expected);
    for prev in [0, 1, 9, 10, u64::MAX] {
        let frame = [prev_prefix(prev).as_ref(), &encoded[1..]].concat();
        let value: Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!(value["prev"], prev);
    }
}

#[test]
fn a_number_that_json_lacks_is_left_out() {
    let body = EventBody::AgentThinking { thought: "x".into(), step: None, progress: Some(f64::NAN) };
    let frame = String::from_utf8(encode_event(&head(Position { epoch: 1, seq: 1 }, None), &body)).unwrap();
    assert!(!frame.contains("progress"));
    ServerFrame::parse(&frame).unwrap();
}

fn server_report() -> ServerReport {
    let dependency = DependencyReport { name: "db".into(), level: ServiceLevel::Emergency, reason: "gone".into() };
    let labels = BTreeMap::from([("code".into(), "\"1000\"".into()), ("reason".into(), "normal".into())]);
    let samples =
        [Some(Labels(labels)), Some(Labels::default()), None].map(|labels| SampleReport { labels, value: 0.5 });
    ServerReport {
        version: "1".into(),
        started: 1.5,
        time: 2.5,
        draining: true,
        level: ServiceLevel::Degraded,
        reason: String::new(),
        ordered: Some(ServiceLevel::Normal),
        dependencies: vec![dependency],
        metrics: vec![MetricReport { name: "m".into(), samples: samples.into() }],
    }
}

#[test]
fn every_result_of_a_reply_survives_the_wire() {
    let run_id = RunId::from_bits(7);
    let entry = StreamEntry {
        stream: StreamName::User,
        event_id: Position { epoch: 1, seq: 2 },
        head: Position { epoch: 1, seq: 3 },
        mode: Mode::Replay,
        lost: None,
    };
    let results = [
        ReplyOk::Done,
        ReplyOk::Run { run_id },
        ReplyOk::Cancel { run_id, state: CancelState::Requested },
        ReplyOk::Refreshed { expires_in: 1.5 },
        ReplyOk::Receipt(Receipt::DeliveredTo(0)),
        ReplyOk::Receipt(Receipt::Stored),
        ReplyOk::Stream(entry),
        ReplyOk::Result(raw("null")),
        ReplyOk::RunStarted { run_id, last_n: 0 },
        ReplyOk::Closed { closed: 2 },
        ReplyOk::Server(Box::new(server_report())),
        ReplyOk::User(Box::new(UserReport {
            user_id: "ann".into(),
            head: None,
            connections: Vec::new(),
            runs: Vec::new(),
        })),
    ];
    for result in results {
        let reply = ServerFrame::Reply(Box::new(Reply::ok(FrameId::new("1").unwrap(), result)));
        let text = reply.encode();
        let parsed = ServerFrame::parse(&text).unwrap();
        assert_eq!(parsed, reply, "{text}");
    }
}

#[test]
fn a_welcome_carries_every_mode_of_a_stream() {
    let position = Position { epoch: 1, seq: 2 };
    let entry = |mode: &Mode| StreamEntry {
        stream: StreamName::User,
        event_id: position,
        head: position,
        mode: *mode,
        lost: Some(Lost { from: Position::NONE, to: position }),
    };
    let welcome = Welcome {
        connection_id: ConnectionId::from_bits(1),
        session_id: SessionId::from_bits(2),
        user_id: "ann".into(),
        server_time: 1.5,
        expires_in: 0.0,
        heartbeat: Heartbeat { interval: 25.0, timeout: 10.0 },
        limits: WelcomeLimits { message_bytes: 1, messages_per_second: 2, message_burst: 3, event_bytes: 4 },
        service_level: ServiceLevel::Normal,
        streams: Mode::ALL.iter().map(entry).collect(),
    };
    let frame = ServerFrame::Welcome(Box::new(welcome));
    assert_eq!(ServerFrame::parse(&frame.encode()), Ok(frame));
}

#[test]
fn a_hellos_resume_is_a_map() {
    let resume = BTreeMap::from([(StreamName::User, Position::NONE)]);
    let hello = ClientFrame::Hello(Box::new(Hello { resume: resume.clone(), ..Hello::default() }));
    assert_eq!(hello.encode(), r#"{"type":"hello","resume":{"user":"0-0"}}"#);
    let ClientFrame::Hello(parsed) = ClientFrame::parse(&hello.encode()).unwrap().frame else { panic!("{hello:?}") };
    assert_eq!(parsed.resume, resume);
}

#[test]
fn numbers_are_read_as_they_were_written() {
    let progress = r#""progress":0.47684630280078283"#;
    let text = format!(
        r#"{{"type":"agent_thinking","event_id":"1-1","seq":1,"timestamp":2251799813.685249,"thought":"x",{progress}}}"#
    );
    assert_eq!(ServerFrame::parse(&text).unwrap().encode(), text);
    let read = |timestamp: &str| {
        let text =
            format!(r#"{{"type":"custom","event_id":"1-1","seq":1,"timestamp":{timestamp},"name":"x","data":1}}"#);
        ServerFrame::parse(&text).map(|frame| {
            let ServerFrame::Event(event) = frame else { panic!("{frame:?}") };
            event.timestamp.as_micros()
        })
    };
    for (written, micros) in [("0", 0), ("1.5e0", 1_500_000), ("1.0000004", 1_000_000), ("-1", 0), ("1e300", u64::MAX)]
    {
        assert_eq!(read(written), Ok(micros), "{written}");
    }
    for wrong in ["1e999", "\"1\"", "true", "null", "[1]"] {
        assert_eq!(read(wrong).unwrap_err().code, ErrorCode::Invalid, "{wrong}");
    }
}
