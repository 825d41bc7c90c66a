//! A client on any tokio stream.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use trunkline_core::client::{ClientConfig, Handle};
use trunkline_core::codec::upgrade::UpgradeError;
use trunkline_core::drive::Driver;
use trunkline_core::time::Clock as _;

use crate::{SystemClock, SystemEntropy, TokioTimer, TokioTransport};

/// Speaks the protocol on a connected stream, which a task of its own drives to the end and shuts down. Reconnecting is
/// the caller's: the welcome names the session, every event its position, and the next [`ClientConfig`] takes both.
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
    use trunkline_core::client::{ClientEvent, Fault};
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
