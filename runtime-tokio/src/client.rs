//! A client that comes back, and one on any tokio stream.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use trunkline_core::client::{AsyncClient, ClientConfig, Endpoint, Handle, Opening, Runtime, Stream, Task};
use trunkline_core::codec::upgrade::UpgradeError;
use trunkline_core::drive::Driver;
use trunkline_core::id::Entropy;
use trunkline_core::time::Clock as _;

use crate::{SystemClock, SystemEntropy, TokioTimer, TokioTransport};

/// A client that keeps its connection, on tokio: [`Client::connect`] wants to be called within a runtime that has I/O and timers.
///
/// ```no_run
/// use trunkline_core::client::{ClientOptions, Credentials, State, TokenError, Update, Wanted};
/// use trunkline_core::id::ThreadId;
/// use trunkline_tokio::Client;
///
/// # async fn ask_my_backend() -> std::io::Result<String> { Ok("aa.bb.cc".into()) }
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// // Asked for the first socket, ahead of each expiry, and when the server wants another. `FixedToken` is a source of one.
/// let tokens = |_wanted: Wanted| async {
///     let token = ask_my_backend().await.map_err(|error| TokenError::Unavailable(error.to_string()))?;
///     Ok(Credentials::token(&token))
/// };
/// let mut client = Client::connect(ClientOptions::new("ws://127.0.0.1:8787/ws", tokens)?)?;
/// client.send(&ThreadId::new("main")?, "what is 2*(3+4)?")?;
/// while let Some(update) = client.next().await {
///     match update {
///         Update::Event(event) => {
///             println!("{} {}", event.position, event.body.kind());
///             if event.body.is_terminal() {
///                 client.close();
///             }
///         }
///         Update::Gap { stream, .. } => println!("{stream} begins anew: drop what was built of it"),
///         Update::Undone { id, why, .. } => println!("nobody knows what became of {id}: {why:?}"),
///         Update::State(State::Waiting { wait, why, .. }) => println!("{why}; connecting again in {wait:?}"),
///         Update::State(State::Stopped(why)) => println!("over: {why}"),
///         _ => {}
///     }
/// }
/// # Ok(()) }
/// ```
pub type Client = AsyncClient<Tokio>;

/// The runtime of a [`Client`]: streams, timers and tasks of tokio.
#[derive(Clone, Copy, Debug)]
pub enum Tokio {}

impl Runtime for Tokio {
    type Timer = TokioTimer<SystemClock>;
    type Clock = SystemClock;
    const TLS: bool = cfg!(feature = "tls");

    fn clock() -> SystemClock {
        SystemClock::new()
    }

    fn timer(clock: &SystemClock) -> Self::Timer {
        TokioTimer::new(*clock)
    }

    fn entropy() -> Arc<dyn Entropy> {
        Arc::new(SystemEntropy)
    }

    fn open(endpoint: &Endpoint) -> Opening {
        #[cfg(feature = "tls")]
        if endpoint.is_tls() {
            return crate::tls::open(endpoint);
        }
        let tcp = dial(endpoint);
        Box::pin(async move { Ok(stream_of(tcp.await?)) })
    }

    fn spawn(task: Task) {
        tokio::spawn(task);
    }
}

/// A TCP connection to the endpoint's host and port.
pub(crate) fn dial(endpoint: &Endpoint) -> impl Future<Output = io::Result<TcpStream>> + Send + use<> {
    let (host, port) = (endpoint.host().to_owned(), endpoint.port());
    async move {
        let stream = TcpStream::connect((host, port)).await?;
        // Small frames go out at once; where the system refuses, they only come later.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// Any stream of tokio's as a connector gives it to a [`Client`].
///
/// ```no_run
/// use trunkline_core::client::{ClientOptions, Endpoint, FixedToken, Opening};
/// use trunkline_tokio::{Client, stream_of};
///
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let unix = |_: &Endpoint| -> Opening {
///     Box::pin(async { Ok(stream_of(tokio::net::UnixStream::connect("/run/trunkline.sock").await?)) })
/// };
/// let options = ClientOptions::new("ws://localhost/ws", FixedToken::new("aa.bb.cc"))?.with_connector(unix);
/// let client = Client::connect(options)?;
/// # Ok(()) }
/// ```
pub fn stream_of<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Stream {
    Box::pin(TokioTransport(stream))
}

/// Speaks the protocol on one connected stream, which a task of its own drives to the end and shuts down; a [`Client`] does it over
/// as many as it takes. Reconnecting is the caller's here: the welcome names the session, every event its position, and the next [`ClientConfig`] takes both.
///
/// ```no_run
/// use tokio::net::TcpStream;
/// use trunkline_core::client::{ClientConfig, ClientEvent};
/// use trunkline_core::id::{FrameId, ThreadId};
/// use trunkline_core::protocol::{ClientFrame, ServerFrame};
///
/// # async fn run(token: String, new_token: impl Fn() -> Option<String>) -> Result<(), Box<dyn std::error::Error>> {
/// let stream = TcpStream::connect("127.0.0.1:8787").await?;
/// let mut handle = trunkline_tokio::connect(stream, ClientConfig {
///     host: "127.0.0.1:8787".to_owned(),
///     target: "/ws".to_owned(),
///     token,
///     session: None,
///     resume: None,
///     threads: Vec::new(),
///     producer: None,
///     name: "example".to_owned(),
/// })?;
/// let message = ClientFrame::UserMessage {
///     id: FrameId::new("m1")?,
///     key: None,
///     thread_id: ThreadId::new("main")?,
///     content: "what is 2*(3+4)?".to_owned(),
///     metadata: None,
/// };
/// // A connection that has ended takes nothing; why it ended comes from `next`.
/// let _ = handle.send(message);
/// let end = loop {
///     match handle.next().await {
///         Ok(ClientEvent::Event(event)) => println!("{} {}", event.position, event.body.kind()),
///         // It is asked for in time, and again while there is none.
///         Ok(ClientEvent::Frame(frame)) if matches!(*frame, ServerFrame::AuthExpiring { .. }) => {
///             if let Some(token) = new_token() {
///                 let _ = handle.refresh(&token);
///             }
///         }
///         Ok(ClientEvent::Welcome(_) | ClientEvent::Frame(_)) => {}
///         Err(end) => break end,
///     }
/// };
/// println!("closed: {end:?}");
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the configuration's host or target cannot stand in a request.
///
/// # Panics
/// Outside of a tokio runtime, and in one without timers.
pub fn connect<S>(stream: S, config: ClientConfig) -> Result<Handle, UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let clock = SystemClock::new();
    let (link, handle) = trunkline_core::client::connect(clock.now(), config, Arc::new(SystemEntropy))?;
    let driver = Driver::new(link, TokioTransport(stream), TokioTimer::new(clock), clock);
    tokio::spawn(async move {
        let (link, TokioTransport(mut stream)) = driver.await;
        drop(link);
        // A peer that is gone does not make the end any different.
        let _ = stream.shutdown().await;
    });
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use trunkline_core::auth::{ClaimRules, Hs256, NewToken};
    use trunkline_core::client::{ClientEvent, ClientOptions, Fault, FixedToken, RequestError, State, Stopped, Update};
    use trunkline_core::hub::{Hub, HubConfig};
    use trunkline_core::id::{ThreadId, UserId};
    use trunkline_core::limits::Limits;
    use trunkline_core::protocol::ServerFrame;

    use super::*;
    use crate::serve_connection;

    fn config(token: &str) -> ClientConfig {
        ClientConfig {
            host: "localhost".to_owned(),
            target: "/ws".to_owned(),
            token: token.to_owned(),
            session: None,
            resume: None,
            threads: Vec::new(),
            producer: None,
            name: "test".to_owned(),
        }
    }

    /// A hub's end of a connection, and a token that it takes.
    fn served() -> (DuplexStream, String) {
        let (_, stream, token) = served_with(Limits::default());
        (stream, token)
    }

    /// The same with the hub, within these limits.
    fn served_with(limits: Limits) -> (Hub, DuplexStream, String) {
        let keys = Hs256::new(&[b'k'; 32], ClaimRules::default()).unwrap();
        let (user, ttl) = (UserId::new(None, "ann").unwrap(), Duration::from_secs(60));
        let issued_at = SystemClock::new().now().unix;
        let token = keys.issue(&NewToken { user: &user, issued_at, ttl, scope: "", token_id: None }).unwrap();
        let clock = Arc::new(SystemClock::new());
        let config = HubConfig { limits, ..HubConfig::default() };
        let (hub, housekeeper) = Hub::new(config, Arc::new(keys), clock, Arc::new(SystemEntropy)).unwrap();
        let (near, far) = duplex(4096);
        let server = hub.clone();
        tokio::spawn(async move {
            let _housekeeper = housekeeper;
            serve_connection(&server, far).await;
        });
        (hub, near, token)
    }

    /// A client whose only socket is this one, and any later one never opens.
    fn on(stream: DuplexStream, token: &str) -> Client {
        let streams = std::sync::Mutex::new(Some(stream));
        let connector = move |_: &Endpoint| -> Opening {
            let stream = streams.lock().unwrap().take();
            Box::pin(async move {
                match stream {
                    Some(stream) => Ok(stream_of(stream)),
                    None => std::future::pending().await,
                }
            })
        };
        let options = ClientOptions::new("ws://localhost/ws", FixedToken::new(token)).unwrap();
        Client::connect(options.with_connector(connector)).unwrap()
    }

    async fn until(client: &mut Client, wanted: &State) {
        let reached = async {
            while let Some(update) = client.next().await {
                if update == Update::State(wanted.clone()) {
                    return;
                }
            }
            panic!("it ended before it was {wanted:?}");
        };
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("nothing comes");
    }

    #[tokio::test]
    async fn a_client_comes_in_hears_and_closes() {
        let (hub, stream, token) = served_with(Limits::default());
        let mut client = on(stream, &token);
        until(&mut client, &State::Live).await;
        assert_eq!(client.state(), State::Live);
        hub.publish(&UserId::new(None, "ann").unwrap(), None, "note", &1).unwrap();
        assert!(matches!(client.next().await, Some(Update::Event(event)) if event.position.seq == 1));
        let requests = client.requests();
        let id = requests.send(&ThreadId::new("t").unwrap(), "hi").unwrap();
        let Some(Update::Frame(frame)) = client.next().await else { panic!("no reply") };
        assert!(matches!(*frame, ServerFrame::Reply(reply) if reply.id == id));
        client.close();
        until(&mut client, &State::Stopped(Stopped::Closed)).await;
        assert_eq!(client.next().await, None);
        assert_eq!(requests.send(&ThreadId::new("t").unwrap(), "hi"), Err(RequestError::Stopped));
    }

    #[tokio::test]
    async fn a_client_that_is_dropped_leaves_at_once_at_every_stage() {
        let (hub, stream, token) = served_with(Limits::default());
        let mut client = on(stream, &token);
        until(&mut client, &State::Live).await;
        drop(client);
        let gone = async {
            while hub.sockets() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone).await.expect("a close frame");
        // Before the welcome: far sooner than the 15 s that it is waited for.
        for kept in [true, false] {
            let (near, mut far) = duplex(4096);
            let (client, handle) =
                if kept { (Some(on(near, "t")), None) } else { (None, Some(connect(near, config("t")).unwrap())) };
            far.read_exact(&mut [0; 16]).await.unwrap();
            drop((client, handle));
            let end = async { while far.read(&mut [0; 512]).await.unwrap() > 0 {} };
            tokio::time::timeout(Duration::from_secs(5), end).await.expect("the socket ends");
        }
    }

    #[tokio::test]
    async fn an_address_that_needs_tls_is_refused_where_there_is_none() {
        let options = ClientOptions::new("wss://localhost/ws", FixedToken::new("t")).unwrap();
        let refused = Client::connect(options.clone());
        assert_eq!(refused.is_err(), !Tokio::TLS);
        let connector = |_: &Endpoint| -> Opening { Box::pin(std::future::pending()) };
        assert!(Client::connect(options.with_connector(connector)).is_ok(), "that is the connector's business");
    }

    #[tokio::test]
    async fn a_client_gets_its_welcome_and_closes_in_good_order() {
        let (stream, token) = served();
        let mut handle = connect(stream, config(&token)).unwrap();
        let Ok(ClientEvent::Welcome(welcome)) = handle.next().await else { panic!("no welcome") };
        assert_eq!(welcome.user_id, "ann");
        handle.close();
        assert_eq!(handle.next().await.unwrap_err().unwrap().0, 1000);
    }

    #[tokio::test]
    async fn what_is_hidden_moves_the_client_on_though_nothing_else_wakes_the_connection() {
        let interval = Duration::from_millis(20);
        let (hub, stream, token) = served_with(Limits { position_interval: interval, ..Limits::default() });
        let [watched, other] = ["watched", "other"].map(|name| ThreadId::new(name).unwrap());
        let mut handle = connect(stream, ClientConfig { threads: vec![watched], ..config(&token) }).unwrap();
        assert!(matches!(handle.next().await, Ok(ClientEvent::Welcome(_))));
        let ann = UserId::new(None, "ann").unwrap();
        // The first is told at once, the second only by a timer.
        for seq in 1..=2 {
            hub.publish(&ann, Some(other.clone()), "note", &seq).unwrap();
            let moved = tokio::time::timeout(Duration::from_secs(20), handle.next()).await.expect("nothing comes");
            let Ok(ClientEvent::Frame(frame)) = moved else { panic!("{moved:?}") };
            let ServerFrame::Position { prev, event_id, .. } = *frame else { panic!("{frame:?}") };
            assert_eq!((prev, event_id.seq), (seq - 1, seq));
        }
    }

    #[tokio::test]
    async fn a_token_that_does_not_hold_is_told_so() {
        let (stream, _) = served();
        let mut handle = connect(stream, config("no.good.token")).unwrap();
        assert_eq!(handle.next().await.unwrap_err().unwrap().0, 4400);
    }

    #[tokio::test]
    async fn a_lost_stream_ends_the_handle_and_a_dropped_handle_the_stream() {
        let (near, far) = duplex(4096);
        let mut handle = connect(near, config("t")).unwrap();
        drop(far);
        assert_eq!(handle.next().await, Err(Err(Fault::Lost)));

        let (stream, token) = served();
        let (near, mut far) = duplex(4096);
        let mut handle = connect(near, config(&token)).unwrap();
        let relay = tokio::spawn(async move {
            let mut stream = stream;
            let _ = tokio::io::copy_bidirectional(&mut far, &mut stream).await;
            far.read(&mut [0; 1]).await
        });
        assert!(matches!(handle.next().await, Ok(ClientEvent::Welcome(_))));
        drop(handle);
        assert_eq!(relay.await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn what_cannot_stand_in_a_request_is_refused() {
        let bad = ClientConfig { target: "no slash".to_owned(), ..config("t") };
        assert!(connect(duplex(64).0, bad).is_err());
    }
}
