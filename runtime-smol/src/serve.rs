//! The accept loop, one task per socket, and the shutdown.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use smol::Timer;
use smol::future::or;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};
use trunkline_core::drive::Driver;
use trunkline_core::error::CloseReason;
use trunkline_core::hub::{Housekeeper, Hub, Rejected, Session};
use trunkline_core::sync::{Budget, Gate};

use crate::tasks::Tasks;
use crate::{Rewound, SmolTimer, SmolTransport};

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
        let _ = stream.close().await;
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

/// Serves sockets until `shutdown` is ready, then drains the hub and returns once every connection is closed and every
/// exchange of the web stack that was under way has ended, at the latest after the limit `drain_deadline`; tasks that
/// still run then are cancelled.
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
    let keeper = pin!(housekeeper.run(SmolTimer::new(hub.clone())));
    let (exchanges, refusals) = (Gate::new(), Budget::new(MAX_REFUSALS));
    let mut server = Server { listener, hub, keeper, web, exchanges, refusals, tasks: Tasks::new() };
    server.run_until(pin!(shutdown)).await;
    server.hub.begin_shutdown();
    let (hub, exchanges) = (server.hub.clone(), server.exchanges.clone());
    let empty = async {
        poll_fn(|cx| hub.poll_shutdown(cx)).await;
        exchanges.shut();
        poll_fn(|cx| exchanges.poll_empty(cx)).await;
    };
    let deadline = async {
        Timer::after(hub.limits().drain_deadline).await;
    };
    // The listener stays: whoever asks whether the server is ready is told that it is not.
    server.run_until(pin!(or(empty, deadline))).await;
    Ok(())
}

/// Serves one socket of any kind to its end, unless it is a request for somebody else. The limits per address do not concern it.
pub async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(hub: &Hub, stream: S) -> Outcome<S> {
    serve_session(hub, hub.session(), stream, &Budget::new(1)).await.0
}

/// The same for a socket of the peer with this address, which must have room for one more.
pub async fn serve_connection_from<S: AsyncRead + AsyncWrite + Unpin>(
    hub: &Hub,
    stream: S,
    peer: IpAddr,
) -> Outcome<S> {
    serve_session(hub, hub.session_from(peer), stream, &Budget::new(1)).await.0
}

/// The same with the session, which holds the socket's place among all sockets until it is dropped.
async fn serve_session<S: AsyncRead + AsyncWrite + Unpin>(
    hub: &Hub,
    session: Result<Session, Rejected>,
    stream: S,
    refusals: &Budget,
) -> (Outcome<S>, Option<Session>) {
    let session = match session {
        Ok(session) => session,
        Err(rejected) => {
            refuse(rejected, stream, refusals).await;
            return (Outcome::Closed(None), None);
        }
    };
    let timer = SmolTimer::new(hub.clone());
    let (mut session, SmolTransport(mut stream)) =
        Driver::new(session, SmolTransport(stream), timer, hub.clone()).await;
    if let Some(head) = session.take_handoff() {
        return (Outcome::Web(Rewound::new(head, stream)), Some(session));
    }
    // A peer that is gone does not make the end any different.
    let _ = stream.close().await;
    (Outcome::Closed(session.close_reason()), None)
}

/// Says that there is no room, and stays until the peer has heard it: bytes that nobody reads turn the end into a reset,
/// which may take the answer with it. No more than `refusals` stay at once.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(rejected: Rejected, mut stream: S, refusals: &Budget) {
    let stays = refusals.lease(1);
    // Whatever fails here: the peer may be gone, and there is nobody to tell.
    let told = async {
        stream.write_all(&rejected.response()).await?;
        stream.close().await?;
        if stays.is_some() {
            smol::io::copy(stream.take(REFUSAL_BYTES), smol::io::sink()).await?;
        }
        io::Result::Ok(())
    };
    let late = async {
        Timer::after(REFUSAL_DEADLINE).await;
        Ok(())
    };
    let _ = or(told, late).await;
}

struct Server<K, W> {
    listener: TcpListener,
    hub: Hub,
    keeper: K,
    web: W,
    /// Whoever answers a request of the web stack is inside.
    exchanges: Gate,
    refusals: Budget,
    tasks: Tasks,
}

enum Step {
    Stop,
    Reaped,
    Accepted(io::Result<(TcpStream, SocketAddr)>),
}

impl<K: Future<Output = ()> + Unpin, W: Web> Server<K, W> {
    /// Accepts, reaps and keeps house until `stop` is ready.
    async fn run_until(&mut self, mut stop: impl Future<Output = ()> + Unpin) {
        loop {
            match self.step(&mut stop).await {
                Step::Stop => return,
                Step::Reaped => {}
                Step::Accepted(accepted) => self.accepted(accepted).await,
            }
        }
    }

    /// The first that is ready, in this order: ends come before new sockets, of which there are never fewer.
    async fn step(&mut self, stop: &mut (impl Future<Output = ()> + Unpin)) -> Step {
        let stopped = async {
            stop.await;
            Step::Stop
        };
        let kept = async {
            (&mut self.keeper).await;
            // It runs for ever; were it to end, the loop would still go on to its own end.
            smol::future::pending().await
        };
        let reaped = async {
            self.tasks.reap().await;
            Step::Reaped
        };
        let accepted = async { Step::Accepted(self.listener.accept().await) };
        or(or(stopped, kept), or(reaped, accepted)).await
    }

    async fn accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, peer)) => {
                tune(&stream);
                // Here, not in the task: the hub goes by the order of the sockets.
                let (session, hub, web) = (self.hub.session_from(peer.ip()), self.hub.clone(), self.web.clone());
                let (exchanges, refusals) = (self.exchanges.clone(), self.refusals.clone());
                self.tasks.spawn(async move {
                    // A request for the web stack counts as a socket, and as one that nobody vouches for, to its end.
                    let (outcome, _place) = serve_session(&hub, session, stream, &refusals).await;
                    if let Outcome::Web(stream) = outcome
                        && let Some(_exchange) = exchanges.enter()
                    {
                        web.serve(stream).await;
                    }
                });
            }
            // Out of file descriptors, most likely: wait for sockets to close rather than spin.
            Err(_) => {
                Timer::after(ACCEPT_PAUSE).await;
            }
        }
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many refused sockets may stay at once, how long, and how many bytes of each are read.
const MAX_REFUSALS: usize = 256;
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);
const REFUSAL_BYTES: u64 = 64 << 10;

/// What the system may hold of a socket's output without having sent it, in bytes.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_UNSENT_BYTES: u32 = 64 << 10;

/// Small frames go out at once, and little lies in the system's own buffer, where a ping would wait behind it and no event could
/// be merged any more. Where the system refuses either, what is sent only comes later.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
}
