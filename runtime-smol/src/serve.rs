//! The accept loop, one task per socket, and the shutdown.

use std::future::Future;
use std::io;
use std::net::IpAddr;

use smol::Timer;
use smol::future::or;
use smol::io::{AsyncRead, AsyncWrite};
use trunkline_core::codec::upgrade::Refusal;
use trunkline_core::crew::{Crew, Crews};
use trunkline_core::hub::{Housekeeper, Hub};
use trunkline_core::serve::{self as served, ACCEPT_PAUSE, Admission, Handover, Place, Sockets};
use trunkline_core::time::Clock;

use crate::listener::Listener;
use crate::tasks::Tasks;
use crate::{Rewound, SmolTimer, SmolTransport, SystemClock};

/// What answers requests that are not for the WebSocket endpoint.
pub trait Web: Clone + Send + Sync + 'static {
    /// Serves one connection whose first bytes were read already. A connection that comes here never becomes a
    /// WebSocket of the hub, so serve one request and close.
    fn serve<S>(&self, stream: Rewound<S>) -> impl Future<Output = ()> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static;
}

/// Nothing but the WebSocket endpoint: everything else is 404.
#[derive(Clone, Copy, Debug)]
pub struct NoWeb;

impl Web for NoWeb {
    async fn serve<S>(&self, stream: Rewound<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let clock = SystemClock::new();
        let timer = SmolTimer::new(clock);
        served::answer(&Refusal::NotFound.response(), SmolTransport(stream), timer, &clock).await;
    }
}

/// How a socket ended: as a WebSocket, or as a request for somebody else, whose bytes so far come first.
pub type Outcome<S> = served::Outcome<Rewound<S>>;

/// Serves the sockets of a TCP, Unix or other listener until `shutdown` is ready or an operator begins the shutdown, then drains the hub and returns once every
/// connection is closed and every exchange of the web stack that was under way has ended, at the latest after the limit
/// `drain_deadline`; tasks that still run then are cut.
///
/// # Errors
/// None today; a socket that cannot be accepted is the next one's concern, not the listener's.
pub async fn serve(
    listener: impl Listener,
    hub: Hub,
    housekeeper: Housekeeper,
    web: impl Web,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let keeping = housekeeper.run(SmolTimer::new(hub.clone()));
    let sockets = Sockets::new(hub);
    let stopping = sockets.drain_after(shutdown, SmolTimer::new(sockets.hub().clone()));
    // The last two do not end.
    or(stopping, or(keeping, accept(&listener, &sockets, &web))).await;
    Ok(())
}

async fn accept<L: Listener>(listener: &L, sockets: &Sockets, web: &impl Web) {
    let mut tasks = Tasks::new();
    let mut crews = Crews::default();
    for _ in 0..threads() {
        let hub = sockets.hub().clone();
        let crew = crews.add(SmolTimer::new(hub.clone()), hub);
        tasks.spawn(work(crew, web.clone()));
    }
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let session = sockets.admit(peer);
                crews.seat(|berth| sockets.serve_in(berth, session, socket.map(SmolTransport)));
            }
            Err(_) => drop(Timer::after(ACCEPT_PAUSE).await),
        }
    }
}

/// How many threads smol's executor has, by the variable that it goes by.
fn threads() -> usize {
    std::env::var("SMOL_THREADS").ok().and_then(|threads| threads.parse().ok()).unwrap_or(1).clamp(1, MAX_THREADS)
}

/// As many as smol starts.
const MAX_THREADS: usize = 10_000;

/// Drives a crew, and the requests of the web stack that come of it, each in a task of its own.
async fn work<S, F, C>(mut crew: Crew<F, SmolTimer<C>, C>, web: impl Web)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = served::Outcome<Handover<SmolTransport<S>>>>,
    C: Clock + Unpin,
{
    let mut tasks = Tasks::new();
    loop {
        let ended = async {
            // A task that has ended gives its memory back.
            tasks.reap().await;
            None
        };
        if let Some(served::Outcome::Web(handover)) = or(ended, async { Some(crew.next().await) }).await {
            let web = web.clone();
            tasks.spawn(async move {
                let (stream, _place) = rewound(handover);
                web.serve(stream).await;
            });
        }
    }
}

fn rewound<S>(
    Handover { head, transport: SmolTransport(stream), place }: Handover<SmolTransport<S>>,
) -> (Rewound<S>, Place) {
    (Rewound { head, stream }, place)
}

/// Serves one socket of any kind to its end, unless it is a request for somebody else. The limits per address do not concern it.
pub async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(hub: &Hub, stream: S) -> Outcome<S> {
    serve_session(hub, served::admit(hub, None), stream).await
}

/// The same for a socket of the peer with this address, which must have room for one more.
pub async fn serve_connection_from<S: AsyncRead + AsyncWrite + Unpin>(
    hub: &Hub,
    stream: S,
    peer: IpAddr,
) -> Outcome<S> {
    serve_session(hub, served::admit(hub, Some(peer)), stream).await
}

async fn serve_session<S>(hub: &Hub, session: Admission, stream: S) -> Outcome<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let timer = SmolTimer::new(hub.clone());
    let outcome = served::serve_socket(hub, session, SmolTransport(stream), timer).await;
    outcome.map(|handover| rewound(handover).0)
}
