//! A place for the hub's sockets in an application on axum. Feature `axum`.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use std::net::SocketAddr;
//! # use trunkline_core::hub::{Housekeeper, Hub};
//! use axum::{Router, routing::get};
//! use trunkline_tokio::TokioTimer;
//!
//! # async fn run(hub: Hub, housekeeper: Housekeeper) -> Result<(), Box<dyn std::error::Error>> {
//! let app = Router::new()
//!     .route("/", get(|| async { "The application's own." }))
//!     .route("/ws", trunkline_tokio::axum::route(hub.clone()))
//!     .merge(trunkline_tokio::axum::operations(hub.clone()));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8787").await?;
//! // With the peers' addresses, for the limits per address and the word of trusted proxies.
//! let server = axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>());
//! let stop = async { drop(tokio::signal::ctrl_c().await) };
//! tokio::select! {
//!     served = server => served?,
//!     // Keeps house; at the stop it drains the sockets, while the server tells newcomers that there is no room.
//!     () = housekeeper.run_until(TokioTimer::new(hub.clone()), stop) => {}
//! }
//! # Ok(()) }
//! ```
//!
//! Where a handler wants a word first, such as to look at the application's own state, [`Upgrade`] is an extractor that
//! becomes the answer:
//!
//! ```
//! # use axum::{Router, extract::FromRef, http::StatusCode, response::{IntoResponse, Response}, routing::any};
//! # use trunkline_core::hub::Hub;
//! use trunkline_tokio::hyper::Upgrade;
//!
//! #[derive(Clone)]
//! struct App {
//!     hub: Hub,
//!     open: bool,
//! }
//!
//! impl FromRef<App> for Hub {
//!     fn from_ref(app: &App) -> Self {
//!         app.hub.clone()
//!     }
//! }
//!
//! async fn live(axum::extract::State(app): axum::extract::State<App>, upgrade: Upgrade) -> Response {
//!     // Dropped, the upgrade gives its place back.
//!     if app.open { upgrade.into_response() } else { StatusCode::NOT_FOUND.into_response() }
//! }
//!
//! # fn router(app: App) -> Router {
//! Router::new().route("/live", any(live)).with_state(app)
//! # }
//! ```

mod operations;

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRef, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use trunkline_core::hub::Hub;

pub use crate::hyper::{Refused, Upgrade};
pub use operations::{operation, operations};

/// The hub's endpoint, for any path of a router. Behind `into_make_service_with_connect_info::<SocketAddr>()` it knows the peers'
/// addresses.
pub fn route<S: Clone + Send + Sync + 'static>(hub: Hub) -> MethodRouter<S> {
    any(move |request: Request| async move {
        let (mut parts, _body) = request.into_parts();
        granted(&hub, &mut parts).into_response()
    })
}

/// Refuses what is no upgrade, or none that the hub lets in; the state of the router has the hub.
impl<S: Send + Sync> FromRequestParts<S> for Upgrade
where
    Hub: FromRef<S>,
{
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        granted(&Hub::from_ref(state), parts)
    }
}

/// The socket is served once this is the answer.
impl IntoResponse for Upgrade {
    fn into_response(self) -> Response {
        self.serve().into_response()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.response().into_response()
    }
}

fn granted(hub: &Hub, parts: &mut Parts) -> Result<Upgrade, Refused> {
    let peer = peer(parts);
    Upgrade::of_parts(hub, parts, peer)
}

fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip())
}
