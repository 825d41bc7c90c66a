//! Where keys come from on tokio: a file, and an HTTPS address. With the feature `jwks`.
//!
//! ```no_run
//! use trunkline_core::auth::ClaimRules;
//! use trunkline_core::auth::source::{KeySource, SourceConfig};
//! use trunkline_tokio::keys::{HttpsKeys, Roots};
//! use trunkline_tokio::{SystemClock, SystemEntropy, TokioTimer};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let (keys, keeper) = KeySource::new(SourceConfig::default(), ClaimRules::default())?;
//! let fetch = HttpsKeys::new("https://login.example/.well-known/jwks.json", &Roots::Public)?;
//! let clock = SystemClock::new();
//! tokio::spawn(keeper.run(fetch, clock, SystemEntropy, TokioTimer::new(clock), |event| println!("{event:?}")));
//! // `keys` is the hub's verifier.
//! # drop(keys);
//! # Ok(()) }
//! ```

mod file;
mod https;

pub use crate::tls::Roots;
pub use file::FileKeys;
pub use https::HttpsKeys;
pub use trunkline_core::auth::source::UrlError;
