//! The accept loop, one task per socket, and the shutdown.

use std::future::Future;
use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::task::{JoinSet, unconstrained};
use trunkline_core::codec::upgrade::Refusal;
use trunkline_core::crew::{Crew, Crews};
use trunkline_core::hub::{Housekeeper, Hub};
use trunkline_core::serve::{self as served, ACCEPT_PAUSE, Admission, Handover, Place, Sockets};
use trunkline_core::time::Clock;

use crate::listener::Listener;
use crate::{Rewound, SystemClock, TokioTimer, TokioTransport};

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
        let timer = TokioTimer::new(clock);
        served::answer(&Refusal::NotFound.response(), TokioTransport(stream), timer, &clock).await;
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
    let keeping = housekeeper.run(TokioTimer::new(hub.clone()));
    let sockets = Sockets::new(hub);
    let stopping = sockets.drain_after(shutdown, TokioTimer::new(sockets.hub().clone()));
    tokio::select! {
        () = stopping => {}
        // Neither ends.
        () = keeping => {}
        () = accept(&listener, &sockets, &web) => {}
    }
    Ok(())
}

async fn accept<L: Listener>(listener: &L, sockets: &Sockets, web: &impl Web) {
    let mut tasks = JoinSet::new();
    let mut crews = Crews::default();
    for _ in 0..Handle::current().metrics().num_workers() {
        let hub = sockets.hub().clone();
        let crew = crews.add(TokioTimer::new(hub.clone()), hub);
        // It lets others have their turn by itself: the runtime's own bound would cut a pass in two.
        tasks.spawn(unconstrained(work(crew, web.clone())));
    }
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let session = sockets.admit(peer);
                crews.seat(|berth| sockets.serve_in(berth, session, socket.map(TokioTransport)));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Drives a crew, and the requests of the web stack that come of it, each in a task of its own.
async fn work<S, F, C>(mut crew: Crew<F, TokioTimer<C>, C>, web: impl Web)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = served::Outcome<Handover<TokioTransport<S>>>>,
    C: Clock + Unpin,
{
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            ended = crew.next() => if let served::Outcome::Web(handover) = ended {
                let web = web.clone();
                tasks.spawn(async move {
                    let (stream, _place) = rewound(handover);
                    web.serve(stream).await;
                });
            },
            // A task that has ended gives its memory back.
            Some(_) = tasks.join_next() => {}
        }
    }
}

fn rewound<S>(
    Handover { head, transport: TokioTransport(stream), place }: Handover<TokioTransport<S>>,
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
    let timer = TokioTimer::new(hub.clone());
    let outcome = served::serve_socket(hub, session, TokioTransport(stream), timer).await;
    outcome.map(|handover| rewound(handover).0)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;
    use trunkline_core::admission::TrustedProxies;
    use trunkline_core::auth::{ClaimRules, Hs256};
    use trunkline_core::hub::HubConfig;
    use trunkline_core::limits::Limits;
    use trunkline_core::sync::Gate;

    use super::*;
    use crate::{SystemClock, SystemEntropy};

    /// Takes a request, and answers it once the second gate is shut.
    #[derive(Clone)]
    struct Slow(Gate, Gate);

    impl Web for Slow {
        async fn serve<S>(&self, mut stream: Rewound<S>)
        where
            S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        {
            let _asked = self.0.enter();
            poll_fn(|cx| self.1.poll_empty(cx)).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nwhole").await.unwrap();
        }
    }

    /// A server, and what stops it once it is shut.
    async fn started(limits: Limits, web: impl Web) -> (SocketAddr, Gate, JoinHandle<io::Result<()>>) {
        started_with(HubConfig { limits, ..HubConfig::default() }, web).await
    }

    async fn started_with(config: HubConfig, web: impl Web) -> (SocketAddr, Gate, JoinHandle<io::Result<()>>) {
        let verifier = Arc::new(Hs256::new(&[b'k'; 32], ClaimRules::default()).unwrap());
        let (hub, keeper) = Hub::new(config, verifier, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Gate::new();
        let stopped = stop.clone();
        let shutdown = async move { poll_fn(|cx| stopped.poll_empty(cx)).await };
        (address, stop, tokio::spawn(serve(listener, hub, keeper, web, shutdown)))
    }

    async fn asking(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        stream
    }

    async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(10), future).await.unwrap_or_else(|_| panic!("{what}"))
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let look = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within(what, look).await;
    }

    #[tokio::test]
    async fn an_exchange_under_way_outlives_the_last_connection() {
        let web = Slow(Gate::new(), Gate::new());
        let (address, stop, serving) = started(Limits::default(), web.clone()).await;
        let mut stream = asking(address).await;
        until("the request is taken", || web.0.inside() == 1).await;
        stop.shut();
        // Nobody is connected, so that nothing but the exchange keeps the server.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!serving.is_finished());
        web.1.shut();
        let mut answer = String::new();
        within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer, "HTTP/1.1 200 OK\r\n\r\nwhole");
        within("the end", serving).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_exchange_that_never_ends_is_cut_at_the_drain_deadline() {
        let web = Slow(Gate::new(), Gate::new());
        let limits = Limits { drain_deadline: Duration::from_millis(100), ..Limits::default() };
        let (address, stop, serving) = started(limits, web.clone()).await;
        let mut stream = asking(address).await;
        until("the request is taken", || web.0.inside() == 1).await;
        stop.shut();
        within("the end", serving).await.unwrap().unwrap();
        let mut answer = Vec::new();
        // The end may be a reset: what counts is that it comes.
        let _ = within("the end of the socket", stream.read_to_end(&mut answer)).await;
        assert_eq!(answer, b"");
    }

    #[tokio::test]
    async fn a_socket_without_room_hears_why_although_it_speaks_late() {
        let limits = Limits { unauthenticated: 1, ..Limits::default() };
        let web = Slow(Gate::new(), Gate::new());
        let (address, _stop, _serving) = started(limits, web.clone()).await;
        let _first = asking(address).await;
        until("the request is taken", || web.0.inside() == 1).await;
        let mut second = TcpStream::connect(address).await.unwrap();
        let mut answer = [0; 9];
        within("an answer at once", second.read_exact(&mut answer)).await.unwrap();
        for _ in 0..10 {
            second.write_all(&[b'x'; 1_000]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut rest = String::new();
        within("the end", second.read_to_string(&mut rest)).await.expect("no reset");
        assert_eq!(&answer, b"HTTP/1.1 ");
        assert!(rest.starts_with("503 "), "{rest}");
    }

    #[tokio::test]
    async fn a_peer_that_has_all_its_sockets_hears_so_and_another_is_served() {
        let verifier = Arc::new(Hs256::new(&[b'k'; 32], ClaimRules::default()).unwrap());
        let limits = Limits { connections_per_address: 1, ..Limits::default() };
        let config = HubConfig { limits, ..HubConfig::default() };
        let (hub, _keeper) = Hub::new(config, verifier, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap();
        let _held = hub.session_from([192, 0, 2, 1].into()).unwrap();
        for (peer, answer) in [([192, 0, 2, 1], "HTTP/1.1 503 "), ([192, 0, 2, 2], "HTTP/1.1 426 ")] {
            let (mut client, stream) = tokio::io::duplex(1 << 10);
            client.write_all(b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            within("the end", serve_connection_from(&hub, stream, peer.into())).await;
            let mut said = String::new();
            client.read_to_string(&mut said).await.unwrap();
            assert!(said.starts_with(answer), "{said}");
        }
    }

    #[tokio::test]
    async fn behind_a_trusted_proxy_each_client_has_sockets_of_its_own() {
        let limits = Limits { connections_per_address: 1, ..Limits::default() };
        let trusted_proxies = TrustedProxies::new(["127.0.0.0/8"]).unwrap();
        let config = HubConfig { limits, trusted_proxies, ..HubConfig::default() };
        let (address, _stop, _serving) = started_with(config, NoWeb).await;
        let mut held = Vec::new();
        for (client, answer) in [("198.51.100.1", "101"), ("198.51.100.1", "503"), ("198.51.100.2", "101")] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!(
                "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 X-Forwarded-For: 1.1.1.1, {client}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Version: 13\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut said = [0; 12];
            within("an answer", stream.read_exact(&mut said)).await.unwrap();
            assert_eq!(std::str::from_utf8(&said[9..]), Ok(answer), "{client}");
            held.push(stream);
        }
    }

    #[tokio::test]
    async fn sockets_of_the_web_stack_count_among_all_sockets() {
        let web = Slow(Gate::new(), Gate::new());
        let limits = Limits { unauthenticated: 1, ..Limits::default() };
        let (address, _stop, _serving) = started(limits, web.clone()).await;
        let _first = asking(address).await;
        until("the request is taken", || web.0.inside() == 1).await;
        let mut answer = String::new();
        let mut second = TcpStream::connect(address).await.unwrap();
        let refused = tokio::time::timeout(Duration::from_secs(5), second.read_to_string(&mut answer)).await;
        refused.expect("an answer at once").unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}
