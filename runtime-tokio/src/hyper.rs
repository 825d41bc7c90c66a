//! A place for the hub's sockets in an application on hyper. Feature `hyper`.
//!
//! The application routes a request here, by whatever path it likes, and sends the answer; the hub checks all the rest as on a
//! listener of its own. On tower, [`Endpoint`] is a service. With plain hyper, [`upgrade`] is all:
//!
//! ```no_run
//! # use std::convert::Infallible;
//! # use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
//! # use hyper_util::rt::TokioIo;
//! # use trunkline_core::hub::Hub;
//! use trunkline_tokio::hyper::upgrade;
//!
//! # async fn run(hub: Hub, stream: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
//! let peer = stream.peer_addr()?.ip();
//! let service = service_fn(|mut request: Request<Incoming>| {
//!     let response = match request.uri().path() {
//!         "/live" => upgrade(&hub, &mut request, Some(peer)),
//!         _ => Response::new("The application's own.\n".to_owned()),
//!     };
//!     async { Ok::<_, Infallible>(response) }
//! });
//! http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await?;
//! # Ok(()) }
//! ```
//!
//! Beside the server runs [`Housekeeper::run_until`](trunkline_core::hub::Housekeeper::run_until), which also drains these
//! sockets; a server's own graceful shutdown does not know of them.
//!
//! WebSockets over HTTP/2 (RFC 8441) are refused with 400: clients that are not offered them use HTTP/1.1 of themselves, so leave
//! `enable_connect_protocol` off, as it is.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::task::{Context, Poll};

use hyper::header::{HeaderName, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use trunkline_core::codec::upgrade::{Answer, GivenHead};
use trunkline_core::hub::{Hub, Session};
use trunkline_core::serve::serve_socket;
use trunkline_core::time::Clock;

use crate::{TokioTimer, TokioTransport};

/// Answers a request that the application has routed to the hub, and serves the socket once the answer is sent: [`Upgrade::of`]
/// and [`Upgrade::serve`].
///
/// # Panics
/// Outside of a tokio runtime.
pub fn upgrade<B>(hub: &Hub, request: &mut Request<B>, peer: Option<IpAddr>) -> Response<String> {
    Upgrade::of(hub, request, peer).map_or_else(Refused::response, Upgrade::serve)
}

/// An upgrade that is granted, before its answer is sent. Dropped, it gives its place in the hub back.
#[derive(Debug)]
#[must_use = "the socket is served once `serve` is called and its response is sent"]
pub struct Upgrade {
    answer: Answer,
    session: Session,
    upgraded: OnUpgrade,
}

impl Upgrade {
    /// Asks the hub about a request. `peer` is the address that the connection comes from; where it is not known, such as on a
    /// Unix socket, the limits per address do not apply and no proxy is believed.
    ///
    /// # Errors
    /// What to answer instead: a refusal of the protocol, 503 where there is no room, or 500 where the server that this runs
    /// in does not allow upgrades.
    pub fn of<B>(hub: &Hub, request: &mut Request<B>, peer: Option<IpAddr>) -> Result<Self, Refused> {
        let upgraded = request.extensions_mut().remove();
        let head = (request.method(), request.uri(), request.version(), request.headers());
        Self::granted(hub, head, upgraded, peer)
    }

    /// The same for a request that is in parts.
    ///
    /// # Errors
    /// As [`Upgrade::of`].
    #[cfg(feature = "axum")]
    pub(crate) fn of_parts(
        hub: &Hub,
        parts: &mut hyper::http::request::Parts,
        peer: Option<IpAddr>,
    ) -> Result<Self, Refused> {
        let upgraded = parts.extensions.remove();
        Self::granted(hub, (&parts.method, &parts.uri, parts.version, &parts.headers), upgraded, peer)
    }

    fn granted(
        hub: &Hub,
        (method, uri, version, headers): (&Method, &Uri, Version, &HeaderMap),
        upgraded: Option<OnUpgrade>,
        peer: Option<IpAddr>,
    ) -> Result<Self, Refused> {
        let session = peer.map_or_else(|| hub.session(), |peer| hub.session_from(peer));
        let mut session = session.map_err(|rejected| Refused(Reason::Protocol(rejected.answer())))?;
        let version = format!("{version:?}");
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let head = GivenHead { method: method.as_str(), target, version: &version, headers: &headers };
        let answer = session.handle_request(hub.now(), &head);
        match upgraded {
            Some(upgraded) if answer.is_upgrade() => Ok(Self { answer, session, upgraded }),
            None if answer.is_upgrade() => Err(Refused(Reason::NoUpgrades)),
            Some(_) | None => Err(Refused(Reason::Protocol(answer))),
        }
    }

    /// The answer to send, which a task of the runtime waits for to serve the socket to its end.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn serve(self) -> Response<String> {
        let Self { answer, session, upgraded } = self;
        tokio::spawn(attend(session, upgraded));
        respond(answer)
    }
}

async fn attend(session: Session, upgraded: OnUpgrade) {
    let hub = session.hub().clone();
    // Whoever goes before the answer is sent, or has it held back, gives its place up.
    let Ok(Ok(stream)) = tokio::time::timeout(hub.limits().handshake_deadline, upgraded).await else { return };
    let (timer, transport) = (TokioTimer::new(hub.clone()), TokioTransport(TokioIo::new(stream)));
    // A session that has been upgraded is never handed over.
    let _ = serve_socket(&hub, Ok(Box::new(session)), transport, timer).await;
}

fn respond(answer: Answer) -> Response<String> {
    let mut response = Response::new(answer.body);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Why there is no upgrade, as an answer to send.
#[derive(Debug)]
pub struct Refused(Reason);

#[derive(Debug)]
enum Reason {
    Protocol(Answer),
    /// The server's fault, and said so: no client can do anything about it.
    NoUpgrades,
}

impl Refused {
    /// The whole answer.
    pub fn response(self) -> Response<String> {
        match self.0 {
            Reason::Protocol(answer) => respond(answer),
            Reason::NoUpgrades => {
                let mut response = Response::new("connections cannot be upgraded here: tell the operator\n".to_owned());
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
        }
    }
}

/// The hub as a service of tower or hyper: every request that is routed to it is an upgrade or refused.
#[derive(Clone, Debug)]
pub struct Endpoint {
    hub: Hub,
    peer: Option<IpAddr>,
}

impl Endpoint {
    /// An endpoint for connections from anywhere: see [`Upgrade::of`].
    pub const fn new(hub: Hub) -> Self {
        Self { hub, peer: None }
    }

    /// The same for a connection from this address.
    #[must_use]
    pub const fn of_peer(mut self, peer: IpAddr) -> Self {
        self.peer = Some(peer);
        self
    }

    fn answer<B>(&self, mut request: Request<B>) -> Ready<Result<Response<String>, Infallible>> {
        ready(Ok(upgrade(&self.hub, &mut request, self.peer)))
    }
}

impl<B> tower_service::Service<Request<B>> for Endpoint {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.answer(request)
    }
}

impl<B> hyper::service::Service<Request<B>> for Endpoint {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        self.answer(request)
    }
}
