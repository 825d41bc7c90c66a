//! Where keys come from when they are kept elsewhere: when to fetch them, and what is known meanwhile.
//!
//! [`Schedule`] decides, and is told the time and every outcome; [`KeySource`] is the verifier around it, and [`Keeper`] the loop.
//! A runtime brings a [`FetchKeys`] for each kind of place.

mod breaker;
#[cfg(all(feature = "jwks", feature = "_signatures"))]
mod https;
#[cfg(feature = "_signatures")]
mod keeper;
#[cfg(all(test, feature = "_signatures"))]
mod keeper_tests;
mod kids;
mod schedule;
#[cfg(test)]
mod tests;
#[cfg(all(feature = "jwks", feature = "_signatures"))]
mod url;

use std::future::Future;

pub use breaker::{Breaker, BreakerConfig, BreakerState};
#[cfg(all(feature = "jwks", feature = "_signatures"))]
pub use https::{CONNECT_DEADLINE, MAX_ADDRESSES, NEXT_ADDRESS};
#[cfg(feature = "_signatures")]
pub use keeper::{Keeper, KeySource, SourceEvent};
pub use kids::Verdict;
pub use schedule::{Fetch, Health, Schedule, SourceConfig, SourceConfigError};
#[cfg(all(feature = "jwks", feature = "_signatures"))]
pub use url::{KeyUrl, UrlError};

/// A place that a document with keys is fetched from. It is fixed by the configuration: nothing that a token says leads anywhere.
pub trait FetchKeys {
    /// Fetches the document, once; it is called again for the next time. The future is dropped when it takes too long. What is
    /// longer than a key set may be must not be read to its end.
    fn fetch(&mut self) -> impl Future<Output = Result<Vec<u8>, FetchError>> + Send;
}

/// Why nothing was fetched: a text for operators, which quotes nothing that was fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(String);

impl FetchError {
    /// For this reason.
    pub fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }

    /// For this error, with its causes, which a text of its own leaves out.
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source());
        Self(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
    }
}
