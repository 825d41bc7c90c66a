//! Where keys come from on smol: a file, and an HTTPS address. With the feature `jwks`.
//!
//! ```no_run
//! use trunkline_core::auth::ClaimRules;
//! use trunkline_core::auth::source::{KeySource, SourceConfig};
//! use trunkline_smol::keys::{HttpsKeys, Roots};
//! use trunkline_smol::{SmolTimer, SystemClock, SystemEntropy};
//!
//! # fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let (keys, keeper) = KeySource::new(SourceConfig::default(), ClaimRules::default())?;
//! let fetch = HttpsKeys::new("https://login.example/.well-known/jwks.json", &Roots::Public)?;
//! let clock = SystemClock::new();
//! let keeping = keeper.run(fetch, clock, SystemEntropy, SmolTimer::new(clock), |event| println!("{event:?}"));
//! smol::spawn(keeping).detach();
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
