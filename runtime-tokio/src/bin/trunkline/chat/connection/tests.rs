//! Tests of [`super`]: what each end leads to, and where the next socket goes on.

use std::sync::Arc;

use trunkline_core::time::Now;

use super::*;

/// A connector that was in once, for a server that is gone.
fn connector(purpose: Purpose) -> (Connector, Link) {
    let (sender, incoming) = mpsc::channel(16);
    let (outgoing, receiver) = mpsc::channel(16);
    let connector = Connector {
        // Port 9 of the address block for documentation: RFC 5737.
        endpoint: Endpoint::parse("ws://192.0.2.1:9/ws").unwrap(),
        credentials: Credentials::Token("t".to_owned()),
        token: None,
        spent: None,
        purpose,
        incoming: sender,
        outgoing: receiver,
        cursor: None,
        welcomed: true,
        unanswered: Vec::new(),
        backoff: Backoff::new(BackoffConfig::default()),
        since: Instant::now(),
    };
    (connector, Link { incoming, outgoing })
}

#[tokio::test(start_paused = true)]
async fn one_message_gives_up_after_a_few_tries() {
    let (connector, mut link) = connector(Purpose::OneMessage);
    let (_, closed) = tokio::join!(connector.run(), async {
        let mut notices = 0;
        loop {
            match link.incoming.recv().await.unwrap() {
                Incoming::Notice(_) => notices += 1,
                Incoming::Closed(why) => break (notices, why),
                Incoming::Frame(it) | Incoming::Gap(it) => panic!("{it}"),
            }
        }
    });
    assert_eq!(closed.0, MAX_TRIES);
    assert!(closed.1.contains("cannot connect to 192.0.2.1:9") && closed.1.contains("gave up"), "{}", closed.1);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_tries_until_nobody_listens() {
    let (connector, mut link) = connector(Purpose::Conversation);
    tokio::join!(connector.run(), async {
        for _ in 0..3 * MAX_TRIES {
            assert!(matches!(link.incoming.recv().await, Some(Incoming::Notice(_))));
        }
        drop(link);
    });
}

#[tokio::test(start_paused = true)]
async fn neither_a_welcome_nor_an_event_makes_the_waits_short_again() {
    let (mut connector, _link) = connector(Purpose::Conversation);
    for failures in [1, 2, 3, 1] {
        if failures == 1 {
            tokio::time::advance(BackoffConfig::default().stable).await;
        }
        connector.backoff.lost(connector.now(), NextAction::Retry, 0);
        assert_eq!(connector.backoff.failures(), failures);
        for event in [welcome(), event()] {
            assert_eq!(connector.take(event).await, None);
        }
    }
}

fn frame(text: &str) -> ClientEvent {
    ClientEvent::Frame(Box::new(ServerFrame::parse(text).unwrap()))
}

#[tokio::test]
async fn whatever_moves_the_position_is_where_the_next_socket_goes_on_from() {
    let (mut talk, _link) = connector(Purpose::Conversation);
    assert_eq!(talk.take(welcome()).await, None);
    let run = "run_0123456789abcdef0123456789abcdef";
    let window = format!(
        r#"{{"type": "agent_deltas", "prev": 1, "event_id": "7-9", "seq": 9, "timestamp": 1784131200, "user_id": "ann",
        "parts": [{{"run_id": "{run}", "part_id": "answer", "offset": 0, "text": "x", "run_seq": 8}}]}}"#
    );
    let first = r#"{"type": "snapshot", "stream": "user", "event_id": "7-20", "part": 1, "of": 2, "runs": []}"#;
    let last = r#"{"type": "snapshot", "stream": "user", "event_id": "7-20", "part": 2, "of": 2, "runs": []}"#;
    let moved = r#"{"type": "position", "stream": "user", "prev": 20, "event_id": "7-22"}"#;
    let other = r#"{"type": "position", "stream": "topic:news", "prev": 1, "event_id": "8-90"}"#;
    for (text, seq) in [(window.as_str(), 9), (first, 9), (last, 20), (moved, 22), (other, 22)] {
        assert_eq!(talk.take(frame(text)).await, None);
        assert_eq!(talk.cursor.map(|(_, position)| position.seq), Some(seq), "{text}");
    }
}

#[tokio::test]
async fn one_message_does_not_wait_for_what_a_live_snapshot_says_is_gone() {
    let lost = r#"{"type": "snapshot", "stream": "user", "event_id": "7-20", "part": 1, "of": 1,
        "lost": {"from": "7-1", "to": "7-20"}, "runs": []}"#;
    let (mut one, _link) = connector(Purpose::OneMessage);
    one.welcomed = false;
    assert_eq!(one.take(welcome()).await, None);
    assert!(matches!(one.take(frame(lost)).await, Some(End::Over(why)) if why.contains("unknown")));
    let (mut talk, mut link) = connector(Purpose::Conversation);
    talk.welcomed = false;
    assert_eq!(talk.take(welcome()).await, None);
    assert_eq!(talk.take(frame(lost)).await, None);
    drop(talk);
    let mut told = Vec::new();
    while let Some(incoming) = link.incoming.recv().await {
        told.push(incoming);
    }
    assert!(matches!(told.last(), Some(Incoming::Gap(_))), "{told:?}");
}

fn welcome() -> ClientEvent {
    let text = r#"{"type": "welcome", "connection_id": "conn_0123456789abcdef0123456789abcdef",
        "session_id": "sess_0123456789abcdef0123456789abcdef", "user_id": "ann", "server_time": 1784131200, "expires_in": 60,
        "heartbeat": {"interval": 25, "timeout": 10}, "service_level": "normal",
        "limits": {"message_bytes": 1, "messages_per_second": 1, "message_burst": 1, "event_bytes": 1},
        "streams": [{"stream": "user", "event_id": "7-1", "head": "7-1", "mode": "live"}]}"#;
    let ServerFrame::Welcome(welcome) = ServerFrame::parse(text).unwrap() else { panic!("another frame") };
    ClientEvent::Welcome(welcome)
}

fn event() -> ClientEvent {
    let text = r#"{"type": "custom", "event_id": "7-2", "seq": 2, "timestamp": 1784131200, "user_id": "ann", "name": "n",
        "data": 1}"#;
    let ServerFrame::Event(event) = ServerFrame::parse(text).unwrap() else { panic!("another frame") };
    ClientEvent::Event(event)
}

#[test]
fn a_close_code_decides_what_follows() {
    let (mut one, _link) = connector(Purpose::OneMessage);
    for reason in CloseReason::ALL {
        let end = one.close_frame(reason.code(), "");
        match reason.next_action() {
            next @ (NextAction::Retry | NextAction::RetryLater) => {
                assert!(matches!(end, End::Lost { action, .. } if action == next), "{reason}");
            }
            NextAction::Nothing | NextAction::Stop | NextAction::NewToken | NextAction::RetryAfresh => {
                assert!(matches!(end, End::Over(why) if why.contains(&reason.to_string())), "{reason}");
            }
        }
    }
    let (mut talk, _link) = connector(Purpose::Conversation);
    talk.cursor = Some((Some(SessionId::from_bits(1)), Position::NONE));
    assert!(matches!(talk.close_frame(4300, ""), End::Lost { action: NextAction::RetryAfresh, .. }));
    assert_eq!(talk.cursor, None);
}

#[test]
fn who_came_by_name_gets_a_new_token_by_itself() {
    let (mut talk, _link) = connector(Purpose::Conversation);
    talk.credentials = Credentials::Name("ann".to_owned());
    talk.token = Some("old".to_owned());
    let end = talk.close_frame(4200, "");
    let why = "the server closed the connection: 4200 token_expired; getting a new token".to_owned();
    assert_eq!(end, End::Lost { why, action: NextAction::NewToken });
    assert_eq!((talk.token.as_deref(), talk.spent.as_deref()), (None, Some("old")));
    assert!(matches!(talk.close_frame(4400, ""), End::Over(_)));
}

#[tokio::test]
async fn a_token_file_is_read_again_whenever_a_token_is_asked_for() {
    let path = std::env::temp_dir().join(format!("trunkline-chat-token-{}", std::process::id()));
    let (mut talk, mut link) = connector(Purpose::Conversation);
    talk.credentials = Credentials::File(path.clone());
    let (_socket, handle) =
        trunkline_core::client::connect(Now::default(), talk.config("t".to_owned()), Arc::new(SystemEntropy)).unwrap();
    let asked = frame(r#"{"type": "auth_expiring", "expires_in": 30}"#);
    assert!(is_about_the_token(&asked));
    for (text, expected) in [("one", "one"), ("two\n", "two"), ("", "two")] {
        std::fs::write(&path, text).unwrap();
        let mut renewal = talk.renewal(&asked);
        let token = until_there(&mut renewal).await;
        assert!(renewal.is_none());
        assert_eq!(talk.renewed(&handle, token).await, None);
        assert_eq!(talk.token.as_deref(), Some(expected));
    }
    assert!(matches!(link.incoming.recv().await, Some(Incoming::Notice(why)) if why.contains("no new token yet")));
    // What is over is not shown to the server again; what is written then is.
    std::fs::write(&path, "two").unwrap();
    assert!(matches!(talk.close_frame(4200, ""), End::Lost { action: NextAction::NewToken, .. }));
    assert!(matches!(talk.token().await, Err(LoginError::Failed(_))));
    std::fs::write(&path, "three").unwrap();
    assert_eq!(talk.token().await, Ok("three".to_owned()));
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_token_that_was_refused_is_not_the_next_sockets_and_one_that_cannot_change_is_not_asked_for() {
    let (mut talk, _link) = connector(Purpose::Conversation);
    assert!(talk.renewal(&frame(r#"{"type": "auth_expiring", "expires_in": 30}"#)).is_none(), "there is only one");
    let reply = |rest: &str| frame(&format!(r#"{{"type": "reply", "id": "refresh-1", {rest}}}"#));
    talk.token = Some("new".to_owned());
    let taken = reply(r#""ok": true, "expires_in": 60"#);
    assert!(is_about_the_token(&taken) && talk.renewal(&taken).is_none());
    assert_eq!(talk.token.as_deref(), Some("new"));
    let error = r#""error": {"code": "refresh_refused", "message": "no", "temporary": false}"#;
    let refused = reply(&format!(r#""ok": false, {error}"#));
    assert!(is_about_the_token(&refused) && talk.renewal(&refused).is_none());
    assert_eq!(talk.token, None);
    assert!(!is_about_the_token(&event()));
    assert!(!is_about_the_token(&frame(r#"{"type": "reply", "id": "m1", "ok": true}"#)));
}

#[tokio::test]
async fn a_revoked_session_is_not_named_again_and_the_position_is() {
    for (code, named) in [(4200, true), (4201, false)] {
        let (mut talk, _link) = connector(Purpose::Conversation);
        talk.credentials = Credentials::Name("ann".to_owned());
        assert_eq!(talk.take(welcome()).await, None);
        assert!(matches!(talk.closed(Ok((code, String::new()))), End::Lost { .. }));
        let config = talk.config("t".to_owned());
        assert_eq!((config.session.is_some(), config.resume.is_some()), (named, true), "{code}");
    }
}
