//! Trunkline on tokio: transport, timer, accept loop and client. Every decision is the core's.
//!
//! ```no_run
//! use std::sync::Arc;
//! use trunkline_core::auth::{ClaimRules, Hs256};
//! use trunkline_core::hub::{Hub, HubConfig};
//! use trunkline_tokio::{NoWeb, SystemClock, SystemEntropy, serve};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let verifier = Hs256::new(b"a secret of at least thirty-two bytes", ClaimRules::default())?;
//! let clock = Arc::new(SystemClock::new());
//! let (hub, housekeeper) = Hub::new(HubConfig::default(), Arc::new(verifier), clock, Arc::new(SystemEntropy))?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8787").await?;
//! let stop = async { drop(tokio::signal::ctrl_c().await) };
//! serve(listener, hub, housekeeper, NoWeb, stop).await?;
//! # Ok(()) }
//! ```

#[cfg(feature = "axum")]
pub mod axum;
mod client;
#[cfg(feature = "hyper")]
pub mod hyper;
#[cfg(feature = "jwks")]
pub mod keys;
mod listener;
mod serve;
mod system;
mod timer;
#[cfg(feature = "tls")]
pub mod tls;
mod transport;

pub use client::{Client, Tokio, connect, stream_of};
pub use listener::{Accepted, Listener, tune};
pub use serve::{NoWeb, Outcome, Web, serve, serve_connection, serve_connection_from};
pub use system::{SystemClock, SystemEntropy};
pub use timer::TokioTimer;
pub use transport::{Rewound, TokioTransport};
pub use trunkline_core as core;
