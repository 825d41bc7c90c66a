//! Rules of the profile, one each.

use super::*;
use crate::id::MAX_ID_BYTES;
use crate::protocol::MAX_DEPTH;

fn answer(text: &str) -> Value {
    match decode(text, &mut ann(), NOW) {
        Decoded::Answer(answer) => value(&answer),
        other => panic!("{text} comes to {other:?}"),
    }
}

fn message(text: &str) -> (String, Option<String>, String, Option<Value>) {
    let Decoded::Frame(frame) = decode(text, &mut ann(), NOW) else { panic!("{text}") };
    let ClientFrame::UserMessage { key, thread_id, content, metadata, .. } = *frame else { panic!("{frame:?}") };
    let key = key.map(|key| key.as_str().to_owned());
    (thread_id.as_str().to_owned(), key, content, metadata.map(|raw| value(raw.get())))
}

#[test]
fn what_is_no_json_and_what_is_no_frame_are_told_apart() {
    for text in ["", "{", "NaN", r#"{"type":"chat","payload":{"content":NaN}}"#, "\u{1}"] {
        assert_eq!(answer(text)["error_code"], "JSON_PARSE_ERROR", "{text}");
    }
    for text in [
        "1",
        "[]",
        "{}",
        r#"{"type":1}"#,
        r#"{"type":"chat","type":"chat"}"#,
        r#"{"type":"chat","payload":"x"}"#,
        r#"{"type":"chat","payload":{"content":1}}"#,
        r#"{"type":"chat","payload":{"content":"x","content":"y"}}"#,
        r#"{"type":"chat","message_id":"","payload":{"content":"x"}}"#,
        r#"{"type":"chat","thread_id":"a\nb","payload":{"content":"x"}}"#,
        r#"{"type":"start_agent","payload":{}}"#,
        r#"{"type":"start_agent"}"#,
    ] {
        assert_eq!(answer(text)["error_code"], "FORMAT_ERROR", "{text}");
    }
}

#[test]
fn another_users_id_is_refused_wherever_it_stands_and_whatever_is_asked() {
    for kind in ["chat", "start_agent", "ping", "heartbeat", "disconnect", "nope", "cancel_run", "pong"] {
        for text in [
            format!(r#"{{"type":"{kind}","user_id":"bob","payload":{{"content":"x"}}}}"#),
            format!(r#"{{"type":"{kind}","user_id":"ann","payload":{{"content":"x","user_id":"bob"}}}}"#),
            format!(r#"{{"type":"{kind}","user_id":"bob","content":"x"}}"#),
        ] {
            assert_eq!(answer(&text)["error_code"], "IDENTITY_MISMATCH", "{text}");
        }
    }
}

#[test]
fn a_thread_is_the_messages_or_the_payloads_or_the_default_and_never_the_users() {
    let of = |fields: &str, payload: &str| {
        message(&format!(r#"{{"type":"chat","user_id":"ann",{fields}"payload":{{{payload}"content":"x"}}}}"#)).0
    };
    assert_eq!(of(r#""thread_id":"a","#, r#""thread_id":"b","#), "a");
    assert_eq!(of("", r#""thread_id":"b","#), "b");
    assert_eq!(of(r#""thread_id":null,"#, ""), DEFAULT_THREAD);
}

#[test]
fn a_key_is_the_message_id_and_nothing_else() {
    let longest = "k".repeat(MAX_ID_BYTES);
    let with = |id: &str| message(&format!(r#"{{"type":"chat","message_id":"{id}","content":"x"}}"#)).1;
    assert_eq!(with(&longest), Some(longest.clone()));
    assert_eq!(message(r#"{"type":"chat","content":"x"}"#).1, None, "a name of the server's own is no key");
    let over = format!(r#"{{"type":"chat","message_id":"{longest}k","content":"x"}}"#);
    assert_eq!(answer(&over)["error_code"], "FORMAT_ERROR");
}

#[test]
fn requests_without_a_name_get_names_of_their_own() {
    let mut context = ann();
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let Decoded::Frame(frame) = decode(r#"{"type":"chat","content":"x"}"#, &mut context, NOW) else { panic!() };
        names.insert(frame.id().unwrap().as_str().to_owned());
    }
    assert_eq!(names.len(), 3);
}

#[test]
fn a_text_under_any_of_its_names_is_the_content_and_the_rest_is_metadata() {
    assert_eq!(message(r#"{"type":"user","text":"a"}"#).2, "a");
    let (_, _, content, metadata) = message(r#"{"type":"message","payload":{"message":"a","text":"b"}}"#);
    assert_eq!((content.as_str(), metadata), ("b", Some(serde_json::json!({"message": "a"}))));
    let (_, _, content, metadata) =
        message(r#"{"type":"start_agent","payload":{"agent_name":"x","request_type":"forged"}}"#);
    assert_eq!(
        (content.as_str(), metadata),
        ("", Some(serde_json::json!({"request_type": "start_agent", "agent_name": "x"})))
    );
}

#[test]
fn what_is_no_text_although_it_looks_like_one_stays_beside_the_text() {
    let text = r#"{"type":"agent","payload":{"message":"\ud800","content":"a"}}"#;
    let Decoded::Frame(frame) = decode(text, &mut ann(), NOW) else { panic!("{text}") };
    let ClientFrame::UserMessage { content, metadata, .. } = *frame else { panic!("{frame:?}") };
    // No library reads it, and the application gets it as it came.
    let beside = r#"{"request_type":"agent_request","message":"\ud800"}"#;
    assert_eq!((content.as_str(), metadata.as_deref().map(serde_json::value::RawValue::get)), ("a", Some(beside)));
}

#[test]
fn a_payload_of_its_own_may_use_the_names_of_the_envelope() {
    let own = r#"{"type":"note","timestamp":1,"message_id":"x","payload":[2]}"#;
    let fields = &own[1..own.len() - 1];
    let (thread, key, content, metadata) = message(&format!(
        r#"{{"type":"chat","message_id":"m","payload":{{"content":"a","thread_id":"t","user_id":"ann",{fields}}}}}"#
    ));
    assert_eq!((thread.as_str(), key.as_deref(), content.as_str()), ("t", Some("m"), "a"));
    assert_eq!(metadata, Some(value(own)));
    let (.., metadata) = message(&format!(r#"{{"type":"agent","payload":{{{fields}}}}}"#));
    assert_eq!(metadata.map(|metadata| metadata["type"].clone()), Some("note".into()));
}

#[test]
fn metadata_is_at_most_so_deep_that_its_event_can_be_read() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"type":"chat","content":"x","deep":{open}{close}}}"#)
    };
    // The event, its metadata, and as many levels below as may be.
    let (_, _, _, metadata) = message(&nested(MAX_DEPTH - 2));
    let event =
        format!(r#"{{"type":"user_message","id":"1","thread_id":"t","content":"x","metadata":{}}}"#, metadata.unwrap());
    assert!(ClientFrame::parse(&event).is_ok());
    assert_eq!(answer(&nested(MAX_DEPTH - 1))["error_code"], "FORMAT_ERROR");
}

#[test]
fn a_made_up_type_comes_back_cut() {
    let kind = "é".repeat(10_000);
    let back = answer(&format!(r#"{{"type":"{kind}"}}"#));
    assert_eq!((back["type"].as_str(), back["received_type"].as_str()), (Some("ack"), Some(&kind[..MAX_ID_BYTES])));
}

#[test]
fn no_answer_and_no_debug_shows_what_a_payload_said() {
    for text in [
        r#"{"type":"chat","payload":{"content":"SECRET","thread_id":7}}"#,
        r#"{"type":"refresh","payload":{"token":7,"x":"SECRET"}}"#,
        r#"{"type":"chat","user_id":"SECRET","content":"x"}"#,
        r#"{"type":"broadcast","payload":{"x":"SECRET"}}"#,
        r#"{"type":"chat","payload":{"SECRET":"#,
    ] {
        assert!(!answer(text).to_string().contains("SECRET"), "{text}");
    }
    let shown = format!("{:?}", decode(r#"{"type":"chat","content":"SECRET"}"#, &mut ann(), NOW));
    assert_eq!(shown, "user_message(..)");
}

#[test]
fn every_result_of_a_tool_is_there_also_when_it_is_null() {
    let native = r#"{"type":"tool_completed","event_id":"1-1","seq":1,"timestamp":1,"tool_call_id":"c","tool_name":"t","results":null,"success":true}"#;
    let text = encode(&ServerFrame::parse(native).unwrap(), &ann(), NOW);
    assert!(value(&text).as_object().unwrap().contains_key("results"), "{text}");
}
