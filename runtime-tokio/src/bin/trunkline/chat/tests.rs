//! Tests of [`super`]: the conversation over a scripted connection.

use super::*;

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

/// A conversation of these lines, over a connection that brings these frames, then `end`.
async fn talk(input: &[&str], script: &[&str], end: Option<Incoming>) -> (Result<bool, Fault>, Vec<Outgoing>) {
    let (sender, incoming) = mpsc::channel(16);
    let (outgoing, mut sent) = mpsc::channel(16);
    let (lines, input_lines) = mpsc::channel(16);
    input.iter().for_each(|line| lines.try_send((*line).to_owned()).unwrap());
    drop(lines);
    let link = Link { incoming, outgoing };
    let conversation = converse(link, Screen::new(false, false), ThreadId::new("t").unwrap(), input_lines, Vec::new());
    let peer = async {
        let mut seen = Vec::new();
        for _ in input.iter().filter(|line| !line.trim().is_empty()) {
            seen.push(sent.recv().await.unwrap());
        }
        for frame in script {
            sender.try_send(Incoming::Frame((*frame).to_owned())).unwrap();
        }
        if let Some(end) = end {
            sender.try_send(end).unwrap();
        }
        (seen, sender)
    };
    let (outcome, (seen, _sender)) = tokio::join!(conversation, peer);
    (outcome.map(|code| format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS)), seen)
}

#[tokio::test]
async fn each_line_is_a_message_whose_run_is_waited_for_after_the_input_ended() {
    let second = r#"{"type":"reply","id":"m2","ok":true,"run_id":"r2"}"#;
    let second_done = r#"{"type":"agent_completed","run_id":"r2"}"#;
    let script = [second_done, REPLY, second, COMPLETED];
    let (outcome, sent) = talk(&["one", "  ", "two"], &script, None).await;
    assert!(outcome.unwrap());
    let sent: Vec<_> = sent.iter().map(|it| (it.id.as_str(), it.content.as_str())).collect();
    assert_eq!(sent, [("m1", "one"), ("m2", "two")]);
    let closed = Incoming::Closed("end of script".to_owned());
    let (outcome, _) = talk(&["one", "two"], &[second_done, second, REPLY], Some(closed)).await;
    assert_eq!(outcome.unwrap_err().message, "end of script");
    assert!(talk(&[" "], &[], None).await.0.unwrap());
}

#[tokio::test]
async fn a_conversation_succeeds_when_all_of_it_completed() {
    let failed = r#"{"type":"agent_failed","run_id":"r1","reason":"error","error":"no"}"#;
    let refused = r#"{"type":"reply","id":"m1","ok":false,"error":{"code":"busy","message":"later"}}"#;
    for script in [&[REPLY, failed][..], &[refused]] {
        assert!(!talk(&["one"], script, None).await.0.unwrap());
    }
    let gap = Incoming::Gap("events are gone".to_owned());
    assert!(!talk(&["one"], &[REPLY], Some(gap)).await.0.unwrap());
}

fn args(token: Option<&str>) -> ChatArgs {
    ChatArgs {
        url: "ws://localhost/ws".to_owned(),
        ca_file: None,
        user: None,
        token: token.map(str::to_owned),
        token_file: None,
        thread: "main".to_owned(),
        message: None,
        json: false,
    }
}

fn way_in(args: &ChatArgs, variables: &[(&str, &str)]) -> Result<Credentials, Fault> {
    let variable = |name: &str| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned());
    credentials(args, &Server::new(&args.url, None)?, variable)
}

#[test]
fn the_flag_overrules_the_variable_and_a_token_must_look_like_one() {
    let token = |token: &str| Credentials::Token(token.to_owned());
    assert_eq!(way_in(&args(Some("a.b.c")), &[("TRUNKLINE_TOKEN", "v")]).unwrap(), token("a.b.c"));
    assert_eq!(way_in(&args(None), &[("TRUNKLINE_TOKEN", "v\n")]).unwrap(), token("v"));
    for wrong in ["", " ", "a b", "a\u{7}"] {
        assert!(way_in(&args(Some(wrong)), &[]).is_err());
        assert!(way_in(&args(None), &[("TRUNKLINE_TOKEN", wrong)]).is_err());
    }
    assert!(!format!("{:?}", token("a.b.c")).contains("a.b.c"));
}

#[test]
fn without_a_token_a_name_is_for_this_machine_alone() {
    let name = |name: &str| Credentials::Name(name.to_owned());
    assert_eq!(way_in(&args(None), &[]).unwrap(), name("me"));
    assert_eq!(way_in(&args(None), &[("USER", ""), ("LOGNAME", "bob")]).unwrap(), name("bob"));
    assert_eq!(way_in(&args(None), &[("USER", "ann"), ("LOGNAME", "bob")]).unwrap(), name("ann"));
    let mut eve = ChatArgs { user: Some("eve".to_owned()), ..args(None) };
    assert_eq!(way_in(&eve, &[("USER", "ann"), ("TRUNKLINE_TOKEN", "v")]).unwrap(), name("eve"));
    eve.url = "ws://192.0.2.1/ws".to_owned();
    let fault = way_in(&eve, &[]).unwrap_err();
    assert!(fault.status == 2 && fault.message.contains("TRUNKLINE_TOKEN"), "{}", fault.message);
}
