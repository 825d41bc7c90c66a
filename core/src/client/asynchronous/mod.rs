//! A client that comes back, for programs with a runtime: a task of its own drives it, a handle asks and hears.

mod requests;
mod runner;
mod runtime;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use requests::Shared;
pub use requests::{Payload, Requests};
use runner::Runner;
pub use runtime::{Connector, Opening, Runtime, Stream, Task};

use super::{ConfigError, Endpoint, Reconnecting, ReconnectingConfig, TokenSource, Update, UrlError};
use crate::sync::{Mailbox, Popped};
use crate::time::Clock as _;

type Incoming = Arc<Mailbox<Update, ()>>;

/// What waits to be read by the application, in bytes of frames; beyond it nothing is read from the server.
const MAX_INCOMING_BYTES: usize = 1 << 20;

/// Where to, as whom, and how.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// The server, where to begin, what to watch, and every wait.
    pub config: ReconnectingConfig,
    /// Where tokens or tickets come from.
    pub tokens: Arc<dyn TokenSource>,
    /// Opens the streams; `None` leaves it to the runtime.
    pub connector: Option<Arc<dyn Connector>>,
}

impl ClientOptions {
    /// The defaults for a server at `ws://host[:port]/path`, or `wss://`.
    ///
    /// # Errors
    /// Why the address is none.
    pub fn new(url: &str, tokens: impl TokenSource) -> Result<Self, UrlError> {
        let endpoint: Endpoint = url.parse()?;
        Ok(Self { config: ReconnectingConfig::new(endpoint), tokens: Arc::new(tokens), connector: None })
    }

    /// The same with streams that `connector` opens.
    #[must_use]
    pub fn with_connector(mut self, connector: impl Connector) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A client on the runtime `R`, which comes back until it is closed, dropped, or told to stop.
///
/// It is read by [`AsyncClient::next`], or as a `Stream` of [`futures_core`]. What it has to tell must be read: while it is
/// not, nothing is read from the server, and no new socket is opened. What it can be asked for is in [`Requests`], to which it
/// dereferences, and of which [`AsyncClient::requests`] gives others to keep.
///
/// Dropped, it sends a close frame where there is somebody to take it, and its task ends.
pub struct AsyncClient<R> {
    requests: Requests,
    incoming: Incoming,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> AsyncClient<R> {
    /// Begins to connect, in a task of its own.
    ///
    /// # Errors
    /// When the options cannot work, such as `wss://` where there is no TLS. That a server is not there is no error: the client waits for it, and
    /// says so.
    pub fn connect(options: ClientOptions) -> Result<Self, ConfigError> {
        if options.config.endpoint.is_tls() && !R::TLS && options.connector.is_none() {
            return Err(UrlError::NoTls.into());
        }
        let clock = R::clock();
        let machine = Reconnecting::new(clock.now(), options.config.clone(), R::entropy())?;
        let requests = Requests::new(Arc::new(Shared::new(R::entropy())));
        let incoming = Incoming::new(Mailbox::new(MAX_INCOMING_BYTES));
        let runner = Runner::<R>::new(machine, options, clock, requests.shared(), Incoming::clone(&incoming));
        R::spawn(Box::pin(runner));
        Ok(Self { requests, incoming, runtime: PhantomData })
    }
}

impl<R> AsyncClient<R> {
    /// What there is to tell next; `None` once the client has stopped and all was told: [`State::Stopped`](super::State::Stopped), and what is left undone.
    /// It may be dropped before it is done, and nothing is lost.
    pub async fn next(&mut self) -> Option<Update> {
        poll_fn(|cx| self.poll_update(cx)).await
    }

    /// Another handle for requests, which may outlive this one: then every request is refused.
    pub fn requests(&self) -> Requests {
        self.requests.clone()
    }

    fn poll_update(&mut self, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        loop {
            match self.incoming.pop() {
                Popped::Item(update) => {
                    // Room again: the task may be waiting for it.
                    self.requests.look();
                    return Poll::Ready(Some(update));
                }
                Popped::Closed(()) => return Poll::Ready(None),
                Popped::Empty => {
                    if !self.incoming.take_mark(cx.waker()) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl<R> futures_core::Stream for AsyncClient<R> {
    type Item = Update;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        self.get_mut().poll_update(cx)
    }
}

impl<R> Deref for AsyncClient<R> {
    type Target = Requests;

    fn deref(&self) -> &Requests {
        &self.requests
    }
}

impl<R> Drop for AsyncClient<R> {
    fn drop(&mut self) {
        // Nobody reads any more: what is told from here on reaches nobody.
        drop(self.incoming.close(()));
        self.requests.close();
    }
}

impl<R> fmt::Debug for AsyncClient<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncClient").field("state", &self.requests.state()).finish_non_exhaustive()
    }
}
