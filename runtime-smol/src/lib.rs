//! Trunkline on smol: transport, timer, accept loop and client. Every decision is the core's.
//!
//! Connections are tasks of smol's global executor: the variable `SMOL_THREADS` says how many threads run them.
//!
//! ```no_run
//! use std::sync::Arc;
//! use trunkline_core::auth::{ClaimRules, Hs256};
//! use trunkline_core::hub::{Hub, HubConfig};
//! use trunkline_smol::{NoWeb, SystemClock, SystemEntropy, serve};
//!
//! # fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let verifier = Hs256::new(b"a secret of at least thirty-two bytes", ClaimRules::default())?;
//! let clock = Arc::new(SystemClock::new());
//! let (hub, housekeeper) = Hub::new(HubConfig::default(), Arc::new(verifier), clock, Arc::new(SystemEntropy))?;
//! smol::block_on(async {
//!     let listener = smol::net::TcpListener::bind("127.0.0.1:8787").await?;
//!     // A future that is ready when the server is to stop; this one never is.
//!     let stop = smol::future::pending();
//!     serve(listener, hub, housekeeper, NoWeb, stop).await
//! })?;
//! # Ok(()) }
//! ```

mod client;
#[cfg(feature = "jwks")]
pub mod keys;
mod listener;
mod serve;
mod system;
mod tasks;
mod timer;
#[cfg(feature = "tls")]
pub mod tls;
mod transport;

pub use client::{Client, Smol, connect, stream_of};
pub use listener::{Accepted, Listener, tune};
pub use serve::{NoWeb, Outcome, Web, serve, serve_connection, serve_connection_from};
pub use system::{SystemClock, SystemEntropy};
pub use timer::SmolTimer;
pub use transport::{Rewound, SmolTransport};
pub use trunkline_core as core;
