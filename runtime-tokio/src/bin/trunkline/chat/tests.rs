//! Tests of [`super`]: the conversation over a scripted connection.

use super::*;
use serde_json::json;

const COMPLETED: &str = r#"{"type":"agent_completed","run_id":"r1","final_response":"14"}"#;
const REPLY: &str = r#"{"type":"reply","id":"m1","ok":true,"run_id":"r1"}"#;

fn link(script: &[&str]) -> (Link, mpsc::Receiver<Outgoing>) {
    let (sender, incoming) = mpsc::channel(16);
    let (outgoing, sent) = mpsc::channel(16);
    for frame in script {
        sender.try_send(Incoming::Frame((*frame).to_owned())).unwrap();
    }
    sender.try_send(Incoming::Closed("end of script".to_owned())).unwrap();
    (Link { incoming, outgoing }, sent)
}

async fn send(script: &[&str]) -> (Result<bool, Fault>, String) {
    let (link, mut sent) = link(script);
    let thread = ThreadId::new("main").unwrap();
    let mut out = Vec::new();
    let outcome = one_message(link, Screen::new(true, false), thread.clone(), "hi".to_owned(), &mut out).await;
    let expected = Outgoing { id: "m1".to_owned(), thread, content: "hi".to_owned() };
    assert_eq!(sent.recv().await, Some(expected));
    let outcome = outcome.map(|code| format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS));
    (outcome, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn success_is_the_completion_of_ones_own_run() {
    let others = r#"{"type":"agent_completed","run_id":"r2"}"#;
    for script in [[others, REPLY, COMPLETED], [others, COMPLETED, REPLY], [REPLY, others, COMPLETED]] {
        let (outcome, out) = send(&script).await;
        assert!(outcome.unwrap());
        assert_eq!(out.lines().collect::<Vec<_>>(), script);
    }
}

#[tokio::test]
async fn everything_else_is_failure() {
    let failed = r#"{"type":"agent_failed","run_id":"r1","reason":"error","error":"no"}"#;
    let cancelled = r#"{"type":"agent_cancelled","run_id":"r1"}"#;
    assert!(!send(&[REPLY, failed]).await.0.unwrap());
    assert!(!send(&[cancelled, REPLY]).await.0.unwrap());
    let refused = r#"{"type":"reply","id":"m1","ok":false,"error":{"code":"busy","message":"later"}}"#;
    assert_eq!(send(&[refused]).await.0.unwrap_err().message, "the message was refused: later");
    assert_eq!(send(&[REPLY]).await.0.unwrap_err().message, "end of script");
    let foreign = r#"{"type":"reply","id":"x","ok":true,"run_id":"r1"}"#;
    assert!(send(&[foreign, COMPLETED]).await.0.is_err());
}

#[tokio::test]
async fn a_notice_is_shown_to_people_and_kept_from_programs() {
    for (json, expected) in [(false, "* reconnecting\\u{7}\n"), (true, "")] {
        let (sender, incoming) = mpsc::channel(2);
        let (outgoing, _sent) = mpsc::channel(2);
        sender.try_send(Incoming::Notice("reconnecting\u{7}".to_owned())).unwrap();
        drop(sender);
        let (link, screen, mut out) = (Link { incoming, outgoing }, Screen::new(json, false), Vec::new());
        let thread = ThreadId::new("main").unwrap();
        let fault = one_message(link, screen, thread, "hi".to_owned(), &mut out).await.unwrap_err();
        assert_eq!(fault.message, "the connection closed");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[tokio::test]
async fn each_line_is_a_message_until_the_input_ends() {
    let (sender, incoming) = mpsc::channel(1);
    let (outgoing, mut sent) = mpsc::channel(4);
    let (lines, input) = mpsc::channel(4);
    for line in ["one", "  ", "two"] {
        lines.try_send(line.to_owned()).unwrap();
    }
    drop(lines);
    let thread = ThreadId::new("t").unwrap();
    let screen = Screen::new(false, false);
    converse(Link { incoming, outgoing }, screen, thread, input, Vec::new()).await.unwrap();
    assert_eq!(sent.recv().await.unwrap().content, "one");
    let second = sent.recv().await.unwrap();
    assert_eq!((second.id.as_str(), second.content.as_str()), ("m2", "two"));
    drop(sender);
}

fn args(token: Option<&str>) -> ChatArgs {
    ChatArgs {
        url: "ws://localhost/ws".to_owned(),
        token: token.map(str::to_owned),
        token_file: None,
        thread: "main".to_owned(),
        message: None,
        json: false,
    }
}

#[test]
fn the_flag_overrules_the_variable_and_one_of_them_is_needed() {
    assert_eq!(token(&args(Some("a.b.c")), Some("v".to_owned())).unwrap(), "a.b.c");
    assert_eq!(token(&args(None), Some("v\n".to_owned())).unwrap(), "v");
    assert!(token(&args(None), None).unwrap_err().message.contains("TRUNKLINE_TOKEN"));
    for wrong in ["", " ", "a b", "a\u{7}"] {
        assert!(token(&args(Some(wrong)), None).is_err());
    }
}

#[test]
fn a_reply_without_a_run_leaves_the_message_unanswered() {
    let mut watch = Watch::new("m1");
    assert_eq!(watch.see(&json!({"type": "reply", "id": "m1", "ok": true})), None);
    assert_eq!(watch.see(&json!({"no": "type"})), None);
}
