//! What a runtime brings for a client.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use crate::client::Endpoint;
use crate::drive::{Timer, Transport};
use crate::id::Entropy;
use crate::time::Clock;

/// A connected byte stream.
pub type Stream = Pin<Box<dyn Transport + Send>>;
/// A stream that is on its way.
pub type Opening = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;
/// A client's own task.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an [`AsyncClient`](super::AsyncClient) needs of a runtime.
pub trait Runtime: 'static {
    /// A timer on that clock.
    type Timer: Timer + Unpin + Send + 'static;
    /// A clock that never goes backward.
    type Clock: Clock + Unpin + 'static;
    /// Whether [`Runtime::open`] opens encrypted streams too.
    const TLS: bool;

    /// A clock.
    fn clock() -> Self::Clock;
    /// A timer on a clock that [`Runtime::clock`] made.
    fn timer(clock: &Self::Clock) -> Self::Timer;
    /// The system's random bits.
    fn entropy() -> Arc<dyn Entropy>;
    /// Opens a stream to the endpoint's host and port, encrypted where the endpoint says so.
    fn open(endpoint: &Endpoint) -> Opening;
    /// Runs a client's task to its end.
    fn spawn(task: Task);
}

/// Opens a client's streams in the place of the runtime: to a Unix socket, through a proxy, in a test.
///
/// One opening is under way at a time, and dropped when it takes longer than
/// [`ReconnectingConfig::open_deadline`](crate::client::ReconnectingConfig::open_deadline). Closures are connectors, too.
pub trait Connector: Send + Sync + 'static {
    /// Begins to open a stream. Where the endpoint says `wss`, what it gives is encrypted already.
    fn open(&self, endpoint: &Endpoint) -> Opening;
}

impl<F: Fn(&Endpoint) -> Opening + Send + Sync + 'static> Connector for F {
    fn open(&self, endpoint: &Endpoint) -> Opening {
        self(endpoint)
    }
}
