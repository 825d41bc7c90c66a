//! Keys at an address, over TLS.

use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};
use trunkline_core::auth::source::{CONNECT_DEADLINE, FetchError, FetchKeys, KeyUrl, UrlError};

use crate::TokioTransport;
use crate::tls::{Connector, Roots};

/// Keys at an HTTPS address, or at a plain one on this machine. Each fetch is one connection and one request: no redirect is
/// followed, and an answer is read only as far as a key set may be long.
#[derive(Clone)]
pub struct HttpsKeys {
    url: KeyUrl,
    connector: Connector,
}

impl HttpsKeys {
    /// The document at `url`.
    ///
    /// # Errors
    /// When the address is none that keys may come from, or the roots are no certificates.
    pub fn new(url: &str, roots: &Roots) -> Result<Self, UrlError> {
        let url = KeyUrl::parse(url)?;
        let connector = Connector::new(roots).map_err(|error| UrlError::Roots(error.to_string()))?;
        Ok(Self { url, connector })
    }

    /// Scheme, host and port. The rest of the address may hold a key to the keys.
    pub fn origin(&self) -> String {
        self.url.to_string()
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = self.dial().await?;
        match self.url.is_tls() {
            true => Ok(Box::new(self.connector.connect(self.url.host(), stream).await?)),
            false => Ok(Box::new(stream)),
        }
    }

    /// The first of the name's addresses that answers.
    async fn dial(&self) -> io::Result<TcpStream> {
        let addresses = lookup_host((self.url.host(), self.url.port())).await?;
        let connect = |wait, address| async move {
            sleep(wait).await;
            TcpStream::connect(address).await
        };
        self.url.dial(addresses, connect).await
    }
}

impl FetchKeys for HttpsKeys {
    async fn fetch(&mut self) -> Result<Vec<u8>, FetchError> {
        let connected = timeout(CONNECT_DEADLINE, self.connect()).await;
        let stream = connected.map_err(|_| FetchError::new("cannot be reached in time"))?;
        self.url.get(TokioTransport(stream.map_err(|error| FetchError::of(&error))?)).await
    }
}

impl fmt::Debug for HttpsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsKeys").field("url", &self.url).finish_non_exhaustive()
    }
}

/// TCP, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
