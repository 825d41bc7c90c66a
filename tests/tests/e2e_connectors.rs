//! Each adapter's client as a program without a connector of its own has it: `ws://`, and read as a stream.

use std::task::{Context, Poll, Waker};

use futures_util::{Stream, StreamExt as _};
use trunkline_core::client::{AsyncClient, ClientOptions, FixedToken, Runtime, State, Stopped, Update};
use trunkline_core::id::ThreadId;
use trunkline_core::limits::Limits;
use trunkline_core::protocol::EventKind;
use trunkline_tests::server::{InProcess, token};
use trunkline_tests::wire::{QUESTION, STEP, within};

/// Everything up to its end, by nothing but the trait: the golden path, and then the close.
async fn golden_path(client: &mut (impl Stream<Item = Update> + Unpin), close: impl Fn()) -> Vec<Update> {
    let mut told = Vec::new();
    while let Some(update) = client.next().await {
        if matches!(&update, Update::Event(event) if event.body.is_terminal()) {
            close();
        }
        told.push(update);
    }
    told
}

async fn comes_in_by_its_own_connector<R: Runtime>(host: &str) {
    let mut server = InProcess::start(Limits::default()).await;
    let url = format!("ws://{host}:{}/ws", server.addr.port());
    let options = ClientOptions::new(&url, FixedToken::new(&token("ann"))).expect("an address");
    assert!(options.connector.is_none());
    let mut client = AsyncClient::<R>::connect(options).expect("it can work");
    client.send(&ThreadId::new("main").expect("a name"), QUESTION).expect("there is room");
    let requests = client.requests();
    let told = within("the golden path", STEP, golden_path(&mut client, || requests.close())).await;

    let events: Vec<_> =
        told.iter().filter_map(|update| if let Update::Event(it) = update { Some(it) } else { None }).collect();
    let kinds: Vec<_> =
        events.iter().map(|event| event.body.kind()).filter(|it| *it != EventKind::AgentDelta).collect();
    use EventKind::{AgentCompleted, AgentStarted, AgentThinking, ToolCompleted, ToolExecuting, UserMessage};
    let golden = [UserMessage, AgentStarted, AgentThinking, ToolExecuting, ToolCompleted, AgentCompleted];
    assert_eq!(kinds, golden);
    let seqs: Vec<_> = events.iter().map(|event| event.position.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "each once, in order");
    assert!(told.iter().any(|update| matches!(update, Update::State(State::Live))));
    assert_eq!(told.last(), Some(&Update::State(State::Stopped(Stopped::Closed))));
    // A stream that has ended stays so, without a wake.
    let again = client.poll_next_unpin(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(again, Poll::Ready(None)));
    server.settles_at(0).await;
    server.stop();
    server.returned(STEP).await;
}

#[tokio::test]
async fn a_client_of_the_tokio_adapter_comes_in_by_its_own_connector() {
    comes_in_by_its_own_connector::<trunkline_tokio::Tokio>("127.0.0.1").await;
    // A name is looked up.
    comes_in_by_its_own_connector::<trunkline_tokio::Tokio>("localhost").await;
}

#[tokio::test]
async fn a_client_of_the_smol_adapter_comes_in_by_its_own_connector() {
    comes_in_by_its_own_connector::<trunkline_smol::Smol>("127.0.0.1").await;
    comes_in_by_its_own_connector::<trunkline_smol::Smol>("localhost").await;
}
