//! The accept loop, one task per socket, and the shutdown.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use trunkline_core::drive::Driver;
use trunkline_core::error::CloseReason;
use trunkline_core::hub::{Housekeeper, Hub, Rejected, Session};

use crate::{Rewound, TokioTimer, TokioTransport};

/// What answers requests that are not for the WebSocket endpoint.
pub trait Web: Clone + Send + Sync + 'static {
    /// Serves one connection whose first bytes were read already. A connection that comes here never becomes a
    /// WebSocket of the hub, so serve one request and close.
    fn serve(&self, stream: Rewound<TcpStream>) -> impl Future<Output = ()> + Send;
}

/// Nothing but the WebSocket endpoint: everything else is 404.
#[derive(Clone, Copy, Debug)]
pub struct NoWeb;

impl Web for NoWeb {
    async fn serve(&self, mut stream: Rewound<TcpStream>) {
        let answer = trunkline_core::codec::upgrade::Refusal::NotFound.response();
        // The peer may be gone: there is nobody to tell.
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
    }
}

/// How a socket ended.
#[derive(Debug)]
pub enum Outcome<S> {
    /// As a WebSocket, or as a request that was refused; the reason is `None` when the socket just broke.
    Closed(Option<CloseReason>),
    /// As a request for somebody else: its bytes so far come first.
    Web(Rewound<S>),
}

/// Serves sockets until `shutdown` is ready, then drains the hub and returns once every connection is closed, at the
/// latest after the limit `drain_deadline`.
///
/// # Errors
/// None today; a socket that cannot be accepted is the next one's concern, not the listener's.
pub async fn serve(
    listener: TcpListener,
    hub: Hub,
    housekeeper: Housekeeper,
    web: impl Web,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let mut keeper = pin!(housekeeper.run(TokioTimer::new(hub.clone())));
    let mut shutdown = pin!(shutdown);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => accept(accepted, &hub, &web, &mut tasks).await,
            // A task that has ended gives its memory back.
            Some(_) = tasks.join_next() => {}
            () = &mut keeper => {}
            () = &mut shutdown => break,
        }
    }
    hub.begin_shutdown();
    let deadline = hub.limits().drain_deadline;
    let empty = poll_fn(|cx| hub.poll_shutdown(cx));
    let drained = async {
        tokio::select! {
            () = empty => {}
            () = tokio::time::sleep(deadline) => {}
        }
    };
    let mut drained = pin!(drained);
    // The listener stays: whoever asks whether the server is ready is told that it is not.
    loop {
        tokio::select! {
            () = &mut drained => return Ok(()),
            accepted = listener.accept() => accept(accepted, &hub, &web, &mut tasks).await,
            Some(_) = tasks.join_next() => {}
            () = &mut keeper => {}
        }
    }
}

/// Serves one socket of any kind to its end, unless it is a request for somebody else.
pub async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(hub: &Hub, stream: S) -> Outcome<S> {
    serve_session(hub, hub.session(), stream).await.0
}

/// The same with the session, which holds the socket's place among all sockets until it is dropped.
async fn serve_session<S: AsyncRead + AsyncWrite + Unpin>(
    hub: &Hub,
    session: Result<Session, Rejected>,
    mut stream: S,
) -> (Outcome<S>, Option<Session>) {
    let session = match session {
        Ok(session) => session,
        Err(rejected) => {
            // The peer may be gone: there is nobody to tell.
            let _ = stream.write_all(&rejected.response()).await;
            let _ = stream.shutdown().await;
            return (Outcome::Closed(None), None);
        }
    };
    let timer = TokioTimer::new(hub.clone());
    let (mut session, TokioTransport(mut stream)) =
        Driver::new(session, TokioTransport(stream), timer, hub.clone()).await;
    if let Some(head) = session.take_handoff() {
        return (Outcome::Web(Rewound::new(head, stream)), Some(session));
    }
    // A peer that is gone does not make the end any different.
    let _ = stream.shutdown().await;
    (Outcome::Closed(session.close_reason()), None)
}

async fn accept(
    accepted: io::Result<(TcpStream, std::net::SocketAddr)>,
    hub: &Hub,
    web: &impl Web,
    tasks: &mut JoinSet<()>,
) {
    match accepted {
        Ok((stream, _)) => {
            // Small frames go out at once; where the system refuses, they only come later.
            let _ = stream.set_nodelay(true);
            // Here, not in the task: the hub goes by the order of the sockets.
            let (session, hub, web) = (hub.session(), hub.clone(), web.clone());
            tasks.spawn(async move {
                // A request for the web stack counts as a socket, and as one that nobody vouches for, to its end.
                let (outcome, _place) = serve_session(&hub, session, stream).await;
                if let Outcome::Web(stream) = outcome {
                    web.serve(stream).await;
                }
            });
        }
        // Out of file descriptors, most likely: wait for sockets to close rather than spin.
        Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncReadExt;
    use trunkline_core::auth::{ClaimRules, Hs256};
    use trunkline_core::hub::HubConfig;
    use trunkline_core::limits::Limits;

    use super::*;
    use crate::{SystemClock, SystemEntropy};

    /// Takes a request and never answers it.
    #[derive(Clone)]
    struct Silent;

    impl Web for Silent {
        async fn serve(&self, stream: Rewound<TcpStream>) {
            std::future::pending::<()>().await;
            drop(stream);
        }
    }

    #[tokio::test]
    async fn sockets_of_the_web_stack_count_among_all_sockets() {
        let verifier = Arc::new(Hs256::new(&[b'k'; 32], ClaimRules::default()).unwrap());
        let config = HubConfig { limits: Limits { unauthenticated: 1, ..Limits::default() }, ..HubConfig::default() };
        let (hub, keeper) = Hub::new(config, verifier, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, hub, keeper, Silent, std::future::pending()));
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut answer = String::new();
        let mut second = TcpStream::connect(address).await.unwrap();
        let refused = tokio::time::timeout(Duration::from_secs(5), second.read_to_string(&mut answer)).await;
        refused.expect("an answer at once").unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}
