//! Tests of [`super`]: what each update comes to.

use trunkline_core::client::FixedToken;
use trunkline_core::error::CloseReason;
use trunkline_core::time::Timestamp;

use super::*;

fn teller(purpose: Purpose, welcomed: bool) -> (Teller, mpsc::Receiver<Incoming>) {
    let (sender, incoming) = mpsc::channel(64);
    (Teller { purpose, incoming: sender, welcomed }, incoming)
}

fn waiting(failures: u32, why: Trouble) -> Update {
    let (until, wait) = (Timestamp::ZERO, Duration::from_millis(1_250));
    Update::State(State::Waiting { until, wait, failures, why })
}

fn closed(code: u16) -> Trouble {
    Trouble::Closed { code, text: String::new() }
}

fn gone() -> Trouble {
    Trouble::NoSocket("cannot connect to 192.0.2.1:9: gone".to_owned())
}

#[tokio::test]
async fn one_message_gives_up_after_a_few_tries_and_a_conversation_does_not() {
    for (purpose, given_up) in [(Purpose::OneMessage, true), (Purpose::Conversation, false)] {
        let (mut teller, mut incoming) = teller(purpose, true);
        for failures in 1..=MAX_TRIES {
            assert_eq!(teller.take(waiting(failures, gone())).await, None);
            let notice = "cannot connect to 192.0.2.1:9: gone; connecting again in 1.2 s";
            assert!(matches!(incoming.try_recv(), Ok(Incoming::Notice(said)) if said == notice));
        }
        let end = teller.take(waiting(MAX_TRIES + 1, gone())).await;
        let over = matches!(&end, Some(End::Over(why)) if why.contains("192.0.2.1:9") && why.contains("gave up"));
        assert_eq!(over, given_up, "{end:?}");
    }
}

#[tokio::test]
async fn a_server_that_was_never_there_is_said_at_once() {
    for purpose in [Purpose::OneMessage, Purpose::Conversation] {
        let (mut teller, _incoming) = teller(purpose, false);
        assert!(matches!(teller.take(waiting(1, gone())).await, Some(End::Over(why)) if why.contains("192.0.2.1:9")));
        assert_eq!(teller.take(waiting(1, closed(1013))).await, None, "that one is there");
    }
}

#[tokio::test]
async fn what_may_be_gone_ends_one_message_and_a_conversation_hears_of_it() {
    let gap = || Update::Gap { stream: StreamName::User, lost: None };
    let undone = || Update::Undone { id: FrameId::new("m1").unwrap(), key: None, why: Undone::Unknown };
    for update in [gap as fn() -> Update, undone, || waiting(1, closed(4300))] {
        let (mut one, _incoming) = teller(Purpose::OneMessage, true);
        assert!(matches!(one.take(update()).await, Some(End::Over(why)) if why.contains("unknown")));
        let (mut talk, mut incoming) = teller(Purpose::Conversation, true);
        assert_eq!(talk.take(update()).await, None);
        assert!(matches!(incoming.try_recv(), Ok(Incoming::Gap(_) | Incoming::Notice(_))));
    }
}

#[tokio::test]
async fn the_last_word_names_the_code_and_what_to_do() {
    for reason in CloseReason::ALL {
        let (mut teller, _incoming) = teller(Purpose::Conversation, true);
        let stopped = Update::State(State::Stopped(Stopped::Trouble(closed(reason.code()))));
        let expected = describe(reason.code(), "");
        assert_eq!(teller.take(stopped).await, Some(End::Over(expected)));
    }
    let (mut teller, mut incoming) = teller(Purpose::Conversation, false);
    assert_eq!(teller.take(waiting(1, closed(4200))).await, None);
    let Ok(Incoming::Notice(said)) = incoming.try_recv() else { panic!("nothing") };
    assert!(said.contains("4200 token_expired; getting a new token; connecting again in 1."), "{said}");
}

#[tokio::test]
async fn where_nobody_listens_it_ends() {
    let (mut teller, incoming) = teller(Purpose::Conversation, true);
    drop(incoming);
    assert_eq!(teller.take(Update::NoToken("no".to_owned())).await, Some(End::Left));
    let nowhere = ClientOptions::new("ws://192.0.2.1:9/ws", FixedToken::new("t")).unwrap();
    let (_sender, outgoing) = mpsc::channel(1);
    let running = run(Client::connect(nowhere).unwrap(), teller, outgoing);
    tokio::time::timeout(Duration::from_secs(10), running).await.expect("it ends");
}

#[tokio::test]
async fn a_token_file_is_read_again_whenever_a_token_is_asked_for() {
    let path = std::env::temp_dir().join(format!("trunkline-chat-token-{}", std::process::id()));
    let server = Server::new("ws://192.0.2.1:9/ws", None).unwrap();
    let source = Source { server: server.clone(), credentials: Credentials::File(path.clone()) };
    for text in ["one", "two\n"] {
        std::fs::write(&path, text).unwrap();
        for wanted in [Wanted::Socket, Wanted::Another, Wanted::Renewal] {
            let token = trunkline_core::client::Credentials::token(text.trim());
            assert_eq!(source.credentials(wanted).await, Ok(token));
        }
    }
    std::fs::write(&path, "").unwrap();
    assert!(matches!(source.credentials(Wanted::Renewal).await, Err(TokenError::Unavailable(_))));
    std::fs::remove_file(&path).unwrap();
    let fixed = Source { server, credentials: Credentials::Token("t".to_owned()) };
    assert!(fixed.credentials(Wanted::Socket).await.is_ok());
    for wanted in [Wanted::Another, Wanted::Renewal] {
        assert!(matches!(fixed.credentials(wanted).await, Err(TokenError::Refused(_))));
    }
}
