//! A client that comes back, and one on any futures-io stream.

use std::io;
use std::sync::Arc;

use smol::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use smol::net::TcpStream;
use trunkline_core::client::{AsyncClient, ClientConfig, Endpoint, Handle, Opening, Runtime, Stream, Task};
use trunkline_core::codec::upgrade::UpgradeError;
use trunkline_core::drive::Driver;
use trunkline_core::id::Entropy;
use trunkline_core::time::Clock as _;

use crate::{SmolTimer, SmolTransport, SystemClock, SystemEntropy};

/// A client that keeps its connection, on smol: its task is one of the global executor.
///
/// ```no_run
/// use trunkline_core::client::{ClientOptions, Credentials, State, TokenError, Update, Wanted};
/// use trunkline_core::id::ThreadId;
/// use trunkline_smol::Client;
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
pub type Client = AsyncClient<Smol>;

/// The runtime of a [`Client`]: streams, timers and tasks of smol.
#[derive(Clone, Copy, Debug)]
pub enum Smol {}

impl Runtime for Smol {
    type Timer = SmolTimer<SystemClock>;
    type Clock = SystemClock;
    const TLS: bool = cfg!(feature = "tls");

    fn clock() -> SystemClock {
        SystemClock::new()
    }

    fn timer(clock: &SystemClock) -> Self::Timer {
        SmolTimer::new(*clock)
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
        smol::spawn(task).detach();
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

/// Any futures-io stream as a connector gives it to a [`Client`].
///
/// ```no_run
/// use trunkline_core::client::{ClientOptions, Endpoint, FixedToken, Opening};
/// use trunkline_smol::{Client, stream_of};
///
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let unix = |_: &Endpoint| -> Opening {
///     Box::pin(async { Ok(stream_of(smol::net::unix::UnixStream::connect("/run/trunkline.sock").await?)) })
/// };
/// let options = ClientOptions::new("ws://localhost/ws", FixedToken::new("aa.bb.cc"))?.with_connector(unix);
/// let client = Client::connect(options)?;
/// # Ok(()) }
/// ```
pub fn stream_of<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Stream {
    Box::pin(SmolTransport(stream))
}

/// Speaks the protocol on one connected stream, which a task of its own drives to the end and shuts down; a [`Client`] does it over
/// as many as it takes. Reconnecting is the caller's here: the welcome names the session, every event its position, and the next [`ClientConfig`] takes both.
///
/// ```no_run
/// use smol::net::TcpStream;
/// use trunkline_core::client::{ClientConfig, ClientEvent};
/// use trunkline_core::id::{FrameId, ThreadId};
/// use trunkline_core::protocol::{ClientFrame, ServerFrame};
///
/// # async fn run(token: String, new_token: impl Fn() -> Option<String>) -> Result<(), Box<dyn std::error::Error>> {
/// let stream = TcpStream::connect("127.0.0.1:8787").await?;
/// let mut handle = trunkline_smol::connect(stream, ClientConfig {
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
pub fn connect<S>(stream: S, config: ClientConfig) -> Result<Handle, UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let clock = SystemClock::new();
    let (link, handle) = trunkline_core::client::connect(clock.now(), config, Arc::new(SystemEntropy))?;
    let driver = Driver::new(link, SmolTransport(stream), SmolTimer::new(clock), clock);
    let task = smol::spawn(async move {
        let (link, SmolTransport(mut stream)) = driver.await;
        drop(link);
        // A peer that is gone does not make the end any different.
        let _ = stream.close().await;
    });
    task.detach();
    Ok(handle)
}
